"""The charger's socket: bytes in, bytes out. What is asynchronous about chargers lives here and in gateway."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import Any

from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from accounts.actor import acting
from csms import dispatch, doors, frames, heed, lines, live, sessions, threads
from csms.charge_point import ChargePoint
from csms.context import Changed, Context, Effect, HangUp, Held, MaySend, Reply, StopPlanned
from csms.doors import Knock, Opened, door
from csms.gateway import gateway
from csms.planned import Planned
from csms.rules import connection as rule
from csms.rules.door import identity
from voltaro import clock

log = logging.getLogger(__name__)
# From here on no more is asked for, until half of it is worked off, where the server reads only what it is asked for. daphne
# counts for itself (voltaro/wire.py).
INBOX_FRAMES = 100
HOLD_S = 30.0
DRAIN_S = 4.0
SEND_S = 10.0
HELD_S = 5.0
# So long a frame that seems torn waits for its rest.
REST_S = 1.0
LEAVE_S = 2.5
STOP_EVERY_S = 5.0
# So many calls in a row without an answer, and the line is closed in the hope of a better one (csms/gateway.py).
DEAF_CALLS = 5
TOO_LARGE = 1009


class ChargerConsumer(AsyncWebsocketConsumer):
    """One charger's socket. Frames are queued and worked on one after the other; commands go out between them."""

    channel_layer_alias = "none"  # the process has one channel for all its sockets (csms/gateway.py)
    context: Context
    _spoken: asyncio.Task[None] | None = None
    _open = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._forget()  # also when the server has lost its patience with us

    async def connect(self) -> None:
        # daphne's side of the line (voltaro/wire.py); None under another server, which then bounds reading and writing itself.
        self._line = self.scope.get("line")
        self._planned = Planned()
        self._tried: dict[int, float] = {}  # when a session's stop was last looked at
        self._inbox: deque[bytes | None] = deque()  # None: something of ours is to be done between two frames
        self._own: heed.Own | None = None
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._ending = False
        self._close_reason, self._close_code = "", 0
        self._sending = asyncio.Lock()
        self._wakes: set[asyncio.Task[Any]] = set()
        self.opened_s, self.heard_s, self.deaf_calls = clock.elapsed(), None, 0
        self._last_call: tuple[str, int, float] | None = None
        headers = dict(self.scope["headers"])
        knock = Knock(
            identity(self.scope["path"]),
            str((self.scope.get("client") or ("",))[0]),
            self.scope["path"],
            headers.get(b"authorization"),
            tuple(self.scope.get("subprotocols") or ()),
            (self.scope.get("extensions") or {}).get("tls"),
        )
        self.address = knock.address
        try:
            await self._enter(knock)
        except DatabaseError as error:  # the charger comes again, as after any failed handshake
            log.warning("a charger could not be let in: the database is away (%s)", type(error).__name__)
            await self._deny(503)

    async def _enter(self, knock: Knock) -> None:
        await gateway.begin()
        if gateway.leaving:
            await self._deny(503)
            return
        if status := await door.refuses(knock, sockets=len(gateway.sockets), at_address=gateway.addresses[knock.address]):
            await self._deny(status)
            return
        try:
            found = await threads.run_at_the_door(doors.admit, knock, gateway.process, gateway.channel)
        except OperationalError:  # it met another's locks (a start of this very charger): once more
            found = await threads.run_at_the_door(doors.admit, knock, gateway.process, gateway.channel)
        if isinstance(found, Opened):
            door.opened(knock)
            await self._begin(found)
        elif found.why == "subprotocol":  # OCPP-J §3.2: complete the handshake without the header, then close
            await self.accept()
            await self.close(1002)
        else:
            door.failed(knock, found)
            await self._deny(401)

    async def _begin(self, opened: Opened) -> None:
        self.context, replaced = opened.context, opened.replaced
        if replaced and replaced != gateway.channel:
            message = {"type": "socket.replaced", "charge_point": self.context.charge_point_pk, "epoch": self.context.epoch}
            live.send(replaced, message)
        if self._line is not None:
            self._line.take()  # first: what came right behind the handshake is read while it is accepted
        await self.accept(subprotocol=opened.answered)
        self._open = True
        self._charge_point = ChargePoint(self.context, self, sent=self._remember, effects=self._carry_out)
        self._spoken = asyncio.create_task(self._speak(), name=f"charger {self.context.cp_id}")
        gateway.add(self)
        if replaced:
            self._background(threads.run(lines.replaced, self.context.charge_point_pk, self.address, clock.now()))

    async def _deny(self, status: int) -> None:
        """Refuse before accepting, with a status where the server can say one (daphne by voltaro/wire.py, uvicorn); else it is 403."""
        if "websocket.http.response" in (self.scope.get("extensions") or {}):
            headers = [(b"content-length", b"0"), *([(b"www-authenticate", b'Basic realm="ocpp"')] if status == 401 else [])]
            await self.base_send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await self.base_send({"type": "websocket.http.response.body", "body": b""})
        else:
            await self.close()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Channels' own goes through another thread before every message, to close that thread's database connections.

        Ours are those of csms/threads.py; the hop cost a tenth of the process.
        """
        handler = getattr(self, get_handler_name(message), None)
        if handler is None:
            raise ValueError(f"No handler for message type {message['type']}")
        await handler(message)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Queue one frame. Too large: the socket is closed. Too many: no more are read until these are worked off."""
        raw = bytes_data if bytes_data is not None else (text_data or "").encode("utf-8", "surrogatepass")
        if self._spoken is None or self._ending:
            self._worked_off(raw)
            return
        self.heard_s = clock.elapsed()
        if len(raw) > settings.MAX_FRAME_BYTES:
            await self.close_for("frame too large", TOO_LARGE)
            return
        self._inbox.append(raw)
        self._news.set()
        if self._line is None and len(self._inbox) >= INBOX_FRAMES:
            self._room.clear()
            await self._room.wait()

    async def disconnect(self, code: int) -> None:
        """Work off what was received (it is true, though nobody can be answered), then let go."""
        if self._spoken is None:
            return
        self._open, self._ending = False, True
        gateway.remove(self)
        self._planned.forget()
        self._news.set()
        try:
            await asyncio.wait_for(self._spoken, DRAIN_S)
        except TimeoutError:
            log.warning("a line ended with %d frames that could not be worked off in time; they will come again", len(self._inbox))
        reason = self._close_reason or ("frame too large" if code == TOO_LARGE else "")
        try:
            await self._put_away(self._close_code or code, reason)
        except DatabaseError as error:
            log.warning("a closed socket could not be written (%s); its lease will run out", type(error).__name__)

    def stop_listening(self) -> None:
        """No new connections for this process, where the server lets us say so."""
        if self._line is not None:
            self._line.stop_listening()

    async def leave(self) -> None:
        """This process ends: work off what has arrived, for a moment, and send the charger to another."""
        self._ending = True  # what arrives from now on is not answered, and comes again
        self._news.set()
        if self._spoken is not None:
            await asyncio.wait([self._spoken], timeout=LEAVE_S)
        await self.close_for("restart", 1012)

    async def _put_away(self, code: int, reason: str) -> None:
        if await threads.run(dispatch.closed, self.context, code, reason):
            for place in self.context.places.values():
                gateway.tell_live(place.code)
        if self._last_call is not None and not self._close_reason:
            unique_id, size, at_s = self._last_call
            if size >= lines.LARGE_BYTES and clock.elapsed() - at_s <= lines.LARGE_S:
                await threads.run(lines.broke_after, self.context.charge_point_pk, unique_id, size, clock.now())

    def _forget(self) -> None:
        if self._spoken is not None:
            self._open = False
            self._spoken.cancel()
            self._planned.forget()
            gateway.remove(self)
            gateway.ended(self)

    # -- liveness ------------------------------------------------------------------------------------------------
    def _timers_now(self) -> rule.Timers:
        """By the habits it has by now: they are known once it has booted."""
        return lines.timers_of(self.context.habits)

    def gone(self, now_s: float) -> str:
        """Why this line is to be given up, or ""."""
        timers, sign_s = self._timers_now(), 0.0
        if self._line is not None:
            self._line.ping_s, sign_s = timers.ping_s if self.context.habits.pings else 0, self._line.sign_s
        if self._inbox:
            return ""  # it waits for us, not we for it
        return rule.gone(timers, now_s, opened_s=self.opened_s, heard_s=self.heard_s, sign_s=sign_s, booted=self.context.booted)

    @property
    def deaf(self) -> bool:
        """Whether it has left so many calls in a row unanswered, the last of them for long enough."""
        return (
            self.deaf_calls >= DEAF_CALLS
            and self._last_call is not None
            and clock.elapsed() - self._last_call[2] > settings.COMMAND_TIMEOUT_S
        )

    # -- speaking ------------------------------------------------------------------------------------------------
    async def _speak(self) -> None:
        """Work off the inbox, one frame after the other, until the line is ended and nothing is left: nor a status that was held back."""
        looked = False
        try:
            while True:
                while not self._inbox:
                    if not self._ending:
                        self._news.clear()
                        await self._news.wait()
                    elif looked or not self.context.budgets.held:
                        return
                    else:  # they were answered: the charger does not say them again
                        looked = True
                        self._inbox.append(None)
                message = self._inbox.popleft()
                try:
                    raw = await self._with_its_rest(message) if message is not None and frames.torn(message) else message
                    for one in [None] if raw is None else frames.split(raw):
                        await self._hold(one)
                except (OperationalError, InterfaceError):
                    # Unanswered, the charger keeps the message and sends it again; an error would make it forget.
                    await self.close_for("the database is away", 1011)
                    return
                except Exception:
                    log.exception("a frame of a charger was lost to our own mistake")
                self._worked_off(message)
        finally:
            self._ending = True
            while self._inbox:
                self._worked_off(self._inbox.popleft())

    async def _with_its_rest(self, raw: bytes) -> bytes:
        """Some firmware sends one frame in several messages (Q40). What is torn for good is taken as it is, a moment later."""
        while frames.torn(raw):
            if not self._inbox and not self._ending:
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), REST_S)
            follows = self._inbox[0] if self._inbox else None
            if follows is None or follows.lstrip().startswith(b"[") or len(raw) + len(follows) > settings.MAX_FRAME_BYTES:
                break
            raw += follows
            self._worked_off(self._inbox.popleft())
        return raw

    def _worked_off(self, raw: bytes | None) -> None:
        if self._line is not None and raw is not None:
            self._line.worked_off(len(raw))
        elif len(self._inbox) <= INBOX_FRAMES // 2:
            self._room.set()

    async def _hold(self, raw: bytes | None) -> None:
        """While the database is away, hold the frame and try again for HOLD_S."""
        deadline = asyncio.get_running_loop().time() + HOLD_S
        pause_s = 0.05
        while True:
            try:
                return await (self._charge_point.route_message(raw) if raw is not None else self._between())
            except (OperationalError, InterfaceError) as error:
                if asyncio.get_running_loop().time() > deadline or not self._open:
                    raise
                log.warning("a frame is held: %s", type(error).__name__)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)

    async def send(self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool = False) -> None:
        """Send unless the socket is gone; a peer that does not read is given up after SEND_S."""
        if self._spoken is not None and not self._open:
            return
        try:
            async with asyncio.timeout(SEND_S):
                if self._line is not None:
                    await self._line.may_write()
                await super().send(text_data=text_data, bytes_data=bytes_data, close=close)
        except TimeoutError:
            await self.close_for("does not read", 1013)
            if self._line is not None:
                self._line.tear()
        except Exception as error:  # each server has its own for a line that has just ended
            log.info("an answer could not be sent: %s", type(error).__name__)

    def _remember(self, reply: Reply) -> None:
        gateway.sent(self.context, reply)
        if reply.message_type == frames.CALL:
            self.deaf_calls += 1
            self._last_call = (reply.correlation_id, len(reply.text), clock.elapsed())

    async def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Changed(connector_code=code):
                    gateway.tell_live(code)
                case StopPlanned(session_id=session_id, at=at):
                    self._plan_stop(session_id, at)
                case MaySend():
                    self.deaf_calls, self._last_call = 0, None
                    self.wake()
                case Held() if 0 not in self._planned:  # planned anew by each, it would never come
                    self._planned.plan(0, HELD_S, self._look_at_held)
                case HangUp(reason=reason, code=code):
                    await self.close_for(reason, code)

    def _plan_stop(self, session_id: int, at: datetime | None) -> None:
        if at is None:
            self._tried.pop(session_id, None)
            self._planned.plan(session_id, None, self._stop_now)
            return
        # Past its limit, every reading says that a stop is due; it is asked again by its own clock, not by theirs.
        tried_s = self._tried.get(session_id, -STOP_EVERY_S) + STOP_EVERY_S - clock.elapsed()
        wait_s = max(0.0, (at - clock.now()).total_seconds(), tried_s) + 0.02
        self._planned.plan(session_id, wait_s if wait_s < 3600 else None, self._stop_now)

    def _stop_now(self, session_id: int) -> None:
        self._tried[session_id] = clock.elapsed()
        self._background(threads.run(_stop_if_due, session_id))

    def _look_at_held(self, key: int) -> None:
        """Between two frames, as everything that moves the context."""
        self._inbox.append(None)
        self._news.set()

    def think_again(self, own: heed.Own) -> None:
        """Its habits have changed: they count from its next frame on."""
        self._own = own
        self._inbox.append(None)
        self._news.set()

    async def _between(self) -> None:
        """What waits for a moment between two frames: habits that have changed, statuses that were held back."""
        if self._own is not None:
            await threads.run(heed.think_again, self.context, self._own)
            self._own = None
        await threads.run(dispatch.settle_held, self.context)
        await self._carry_out(list(self.context.effects))

    # -- commands ------------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """Look for a waiting command, in the background."""
        if self._open and self.context.may_send(clock.now()):
            self._background(self._send_commands())

    async def _send_commands(self) -> None:
        if self._sending.locked():
            return
        async with self._sending:
            await self._charge_point.send_next_command()

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._wakes.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._wakes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("a command could not be sent (%s); the poll tries again", type(error).__name__)

    def replaced(self) -> None:
        """A newer socket owns the charger now; this one is fenced already and only has to go. In the background: it may hang."""
        self._background(self.close_for("replaced", 1000))

    async def close_for(self, reason: str, code: int) -> None:
        """Close, once: some servers take a second close for an error, and then nobody is told of the end."""
        if not self._close_reason:
            self._close_reason, self._close_code = reason, code
            self._open = False
            await self.close(code)


def _stop_if_due(session_id: int) -> None:
    with acting("worker", "limit timer"):
        sessions.stop_if_due(session_id, clock.now())
