"""The charger's socket and the browser's live socket: bytes in, bytes out. All that is asynchronous lives here and in gateway."""

import asyncio
import logging
import re
from datetime import datetime
from typing import Any

from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from accounts.actor import acting
from csms import credentials, dispatch, doors, live, sessions, stations, threads
from csms.charge_point import ChargePoint
from csms.context import Changed, Context, Effect, MaySend, Reply, StopPlanned
from csms.gateway import gateway
from csms.hub import hub
from csms.stations import Known
from voltaro import clock

log = logging.getLogger(__name__)
SUBPROTOCOLS = ("ocpp1.6",)  # in our order of preference
IDENTITY = re.compile(r"[A-Za-z0-9*\-_=+|@.]{1,48}")
INBOX_FRAMES = 200
HOLD_S = 30.0
DRAIN_S = 4.0
SEND_S = 10.0
TOO_LARGE = 1009


def identity(path: str) -> str:
    """The charger's identity: the last part of its path that is not empty, trimmed ("" when it is none)."""
    parts = [part.strip() for part in path.split("/") if part.strip()]
    found = parts[-1] if parts and parts[-1] != "ocpp" else ""
    return found if IDENTITY.fullmatch(found) else ""


class ChargerConsumer(AsyncWebsocketConsumer):
    """One charger's socket. Frames are queued and worked on one after the other; commands go out between them."""

    channel_layer_alias = "none"  # the process has one channel for all its sockets (csms/gateway.py)
    context: Context
    _spoken: asyncio.Task[None] | None = None
    _open = False

    async def connect(self) -> None:
        self.heard_at: datetime = clock.now()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue(INBOX_FRAMES)
        self._close_reason = ""
        self._sending = asyncio.Lock()
        self._wakes: set[asyncio.Task[Any]] = set()
        address = (self.scope.get("client") or ("", 0))[0]
        name = identity(self.scope["path"])
        headers = dict(self.scope["headers"])
        try:
            await self._enter(name, address, headers.get(b"authorization"))
        except DatabaseError as error:  # the charger comes again, as after any failed handshake
            log.warning("a charger could not be let in: the database is away (%s)", type(error).__name__)
            await self._deny(503)

    async def _enter(self, name: str, address: str, authorization: bytes | None) -> None:
        await gateway.begin()
        offered = self.scope.get("subprotocols") or []
        spoken = next((one for one in SUBPROTOCOLS if one in offered), "")
        asked = (name, authorization, spoken, address, self.scope["path"])
        try:
            opened, why = await threads.run(_admit, *asked)
        except OperationalError:  # it met another's locks (a start of this very charger): once more
            opened, why = await threads.run(_admit, *asked)
        if opened is None and why == "subprotocol":  # OCPP-J §3.2: complete the handshake without the header, then close
            await self.accept()
            await self.close(1002)
            return
        if opened is None:
            await self._deny(401)
            return
        self.context, replaced = opened
        if replaced and replaced != gateway.channel:
            message = {"type": "socket.replaced", "charge_point": self.context.charge_point_pk, "epoch": self.context.epoch}
            live.send(replaced, message)
        await self.accept(subprotocol=spoken)
        self._open = True
        self._charge_point = ChargePoint(self.context, self, sent=self._remember, effects=self._carry_out)
        self._spoken = asyncio.create_task(self._speak(), name=f"charger {self.context.cp_id}")
        gateway.add(self)

    async def _deny(self, status: int) -> None:
        """Refuse before accepting: 401 where the server can say so (uvicorn), 403 where it cannot (daphne)."""
        if "websocket.http.response" in self.scope.get("extensions", {}):
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
        """Queue one frame. Too large or too many: the socket is closed, nobody else is troubled."""
        if self._spoken is None:
            return
        self.heard_at = clock.now()
        raw = bytes_data if bytes_data is not None else (text_data or "").encode("utf-8", "surrogatepass")
        if len(raw) > settings.MAX_FRAME_BYTES:
            await self.close_for("frame too large", TOO_LARGE)
        else:
            try:
                self._inbox.put_nowait(raw)
            except asyncio.QueueFull:
                await self.close_for("too many frames at once", 1013)

    async def disconnect(self, code: int) -> None:
        """Work off what was received (it is true, though nobody can be answered), then let go."""
        if self._spoken is None:
            return
        self._open = False
        gateway.remove(self)
        for timer in self._timers.values():
            timer.cancel()
        try:
            await asyncio.wait_for(self._drain(), DRAIN_S)
        except TimeoutError:
            self._spoken.cancel()
        try:
            reason = self._close_reason or ("frame too large" if code == TOO_LARGE else "")
            if await threads.run(dispatch.closed, self.context, code, reason):
                for place in self.context.places.values():
                    gateway.tell_live(place.code)
        except DatabaseError as error:
            log.warning("a closed socket could not be written (%s); its lease will run out", type(error).__name__)

    async def _drain(self) -> None:
        await self._inbox.put(None)
        if self._spoken is not None:
            await self._spoken

    # -- speaking ------------------------------------------------------------------------------------------------
    async def _speak(self) -> None:
        while (raw := await self._inbox.get()) is not None:
            try:
                await self._hold(raw)
            except (OperationalError, InterfaceError):
                # Unanswered, the charger keeps the message and sends it again; an error would make it forget.
                await self.close_for("the database is away", 1011)
                return
            except Exception:
                log.exception("a frame of a charger was lost to our own mistake")

    async def _hold(self, raw: bytes) -> None:
        """While the database is away, hold the frame and try again for HOLD_S."""
        deadline = asyncio.get_running_loop().time() + HOLD_S
        pause_s = 0.05
        while True:
            try:
                return await self._charge_point.route_message(raw)
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
                await super().send(text_data=text_data, bytes_data=bytes_data, close=close)
        except TimeoutError:
            await self.close_for("does not read", 1013)
        except Exception as error:  # each server has its own for a line that has just ended
            self._open = False
            log.info("an answer found its line closed (%s)", type(error).__name__)

    def _remember(self, reply: Reply) -> None:
        gateway.sent(self.context, reply)

    async def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Changed(connector_code=code):
                    gateway.tell_live(code)
                case StopPlanned(session_id=session_id, at=at):
                    self._plan_stop(session_id, at)
                case MaySend():
                    self.wake()

    def _plan_stop(self, session_id: int, at: datetime | None) -> None:
        if (old := self._timers.pop(session_id, None)) is not None:
            old.cancel()
        if at is not None:
            wait_s = max(0.0, (at - clock.now()).total_seconds()) + 0.02
            if wait_s < 3600:
                self._timers[session_id] = asyncio.get_running_loop().call_later(wait_s, self._stop_now, session_id)

    def _stop_now(self, session_id: int) -> None:
        self._timers.pop(session_id, None)
        self._background(threads.run(_stop_if_due, session_id))

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
            self._close_reason = reason
            await self.close(code)

    async def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close with this code. An application may not send the protocol's own (1001-2999): 1009 goes out as 4009."""
        self._open = False
        if code is not None and 1000 < code < 3000:
            code += 3000
        await super().close(code, reason)


def _stop_if_due(session_id: int) -> None:
    with acting("worker", "limit timer"):
        sessions.stop_if_due(session_id, clock.now())


def _admit(name: str, authorization: bytes | None, spoken: str, address: str, path: str) -> tuple[tuple[Context, str] | None, str]:
    """The socket's context when it may speak for that charger, else why not: recorded, and from outside all the same."""
    known, why = _known(name, authorization)
    if known is not None and not spoken:
        known, why = None, "subprotocol"
    if known is None:
        doors.refused(name or path, address, why)
        return None, why
    opened = dispatch.opened(known, process=gateway.process, channel=gateway.channel, remote_address=address, subprotocol=spoken)
    return opened, ""


def _known(name: str, authorization: bytes | None) -> tuple[Known | None, str]:
    if not name:
        return None, "no_identity"
    row = stations.find(name)
    if row is None:
        credentials.matches(name, "0" * 64, b"the same work as for a known one")
        return None, "unknown"
    if not stations.may_connect(row, credentials.read_basic(authorization)):
        return None, "blocked" if row.blocked else "wrong_key"
    return row, ""


class LiveConsumer(AsyncWebsocketConsumer):
    """A page that shows a connector: told that something changed, at most once a second. Carries no data."""

    channel_layer_alias = "none"  # the process listens once for all its pages (csms/hub.py)

    async def connect(self) -> None:
        self._code = self.scope["url_route"]["kwargs"]["code"]
        self._last = 0.0
        self._planned: asyncio.TimerHandle | None = None
        await hub.watch(self._code, self)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        hub.leave(self._code, self)
        if self._planned is not None:
            self._planned.cancel()

    def changed(self) -> None:
        if self._planned is None:
            loop = asyncio.get_running_loop()
            self._planned = loop.call_later(max(0.0, self._last + 1.0 - loop.time()), self._tell)

    def _tell(self) -> None:
        self._planned, self._last = None, asyncio.get_running_loop().time()
        self._telling = asyncio.ensure_future(self.send(text_data='{"changed": true}'))


class NowhereConsumer(AsyncWebsocketConsumer):
    """Any other path: refused, rather than an exception."""

    async def connect(self) -> None:
        await self.close()
