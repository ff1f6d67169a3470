"""What one server process does for all its chargers at once: hear what other processes tell them, poll their commands, keep
their leases, write what was sent, close the silent, tell live pages at most once a second.

Others reach a charger's socket by the channel of its process (`Connection.channel`): one subscription a process, where
one a socket would cost every connecting charger a trip to Redis.
"""

import asyncio
import logging
import os
import socket
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from channels.layers import get_channel_layer
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from csms import commands, heed, lines, live, message_writer, shutdown, stations, threads
from csms.context import Context, Reply
from csms.doors import door
from voltaro import clock

if TYPE_CHECKING:
    from csms.consumers import ChargerConsumer

log = logging.getLogger(__name__)
POLL_S = 2.0
FLUSH_S = 0.25
FLUSH_ROWS = 200
KEPT_ROWS = 20_000
LIVE_EVERY_S = 1.0
LIVE_TOGETHER_S = 0.1
# How long the chargers of a process that ends may take; then their rows are closed all at once.
LEAVE_S = 6.0
# A line that answers no calls is closed in the hope of a better one, once in so long.
DEAF_EVERY_S = 3600


class Gateway:
    """The chargers of this process. One per process; its tasks begin with the first charger."""

    def __init__(self) -> None:
        self.process = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.channel = ""  # until begun, and while Redis is away: the poll finds what is not told
        self.sockets: dict[int, ChargerConsumer] = {}
        self._open: set[ChargerConsumer] = set()  # with those that are replaced or closed, and not put away yet
        self.addresses: Counter[str] = Counter()
        self.leaving = False
        self._heed = heed.Heed()
        self._deaf: dict[int, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._sent: list[tuple[Context, Reply, datetime]] = []
        self._flush, self._writing = asyncio.Event(), asyncio.Lock()
        self._told: dict[str, float] = {}
        self._changed: set[str] = set()

    def add(self, consumer: "ChargerConsumer") -> None:
        """One more charger. Of two sockets of one charger the older goes, whichever of them arrives here first."""
        pk = consumer.context.charge_point_pk
        other = self.sockets.get(pk, consumer)
        self.sockets[pk] = max(consumer, other, key=lambda one: one.context.epoch)
        self._open.add(consumer)
        self.addresses[consumer.address] += 1
        if other is not consumer:
            min(consumer, other, key=lambda one: one.context.epoch).replaced()

    async def begin(self) -> None:
        """With the first charger that knocks: take a channel, start the jobs."""
        if self._tasks:
            return
        live.use_loop(asyncio.get_running_loop())
        shutdown.arm(self.leave)
        for job in (self._listen, self._poll_commands, self._keep_leases, self._hear_changes, self._write_sent):
            self._tasks.append(asyncio.create_task(self._forever(job), name=f"gateway {job.__name__}"))
        for _ in range(20):  # a moment for the channel, so that the first chargers' rows name it
            if self.channel:
                return
            await asyncio.sleep(0.05)

    async def leave(self) -> None:
        """This process ends: nobody new is let in, every charger is told and put away, and what was sent is written."""
        self.leaving = True
        here = list(self._open)
        if here:
            here[0].stop_listening()
            log.info("leaving: %d chargers are told", len(here))
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(one.leave() for one in here), return_exceptions=True)
                while self._open:
                    await asyncio.sleep(0.02)
        if self._open:
            log.warning("%d of %d lines could not be put away one by one", len(self._open), len(here))
            await threads.run(lines.left, self.process, clock.now())
        while self._sent:
            await self._write_batch()

    def remove(self, consumer: "ChargerConsumer") -> None:
        """Only itself: a newer socket of the same charger stays."""
        pk = consumer.context.charge_point_pk
        if self.sockets.get(pk) is consumer:
            del self.sockets[pk]

    def ended(self, consumer: "ChargerConsumer") -> None:
        """It is put away, as far as it can be."""
        if consumer in self._open:
            self._open.remove(consumer)
            self.addresses -= Counter([consumer.address])

    def sent(self, context: Context, reply: Reply) -> None:
        """Remember a frame that went out; it is written with the others a moment later."""
        if len(self._sent) < KEPT_ROWS:
            self._sent.append((context, reply, clock.now()))
        if len(self._sent) >= FLUSH_ROWS:
            self._flush.set()

    def tell_live(self, code: str) -> None:
        """Tell the pages of a connector, now or at the end of the second that is running."""
        loop = asyncio.get_running_loop()
        wait_s = self._told.get(code, 0.0) - loop.time()
        if wait_s > LIVE_EVERY_S:
            return  # already planned
        if wait_s > 0:
            self._told[code] = loop.time() + wait_s + LIVE_EVERY_S
            loop.call_later(wait_s, self._tell_now, code)
        else:
            self._told[code] = loop.time() + LIVE_EVERY_S
            self._tell_now(code)
        if len(self._told) > 10_000:
            self._told = {key: at for key, at in self._told.items() if at > loop.time()}

    def _tell_now(self, code: str) -> None:
        """With all that changes within the same moment: one message to Redis, however many chargers speak."""
        if not self._changed:
            asyncio.get_running_loop().call_later(LIVE_TOGETHER_S, self._tell_all)
        self._changed.add(code)

    def _tell_all(self) -> None:
        codes, self._changed = sorted(self._changed), set()
        task = asyncio.get_running_loop().create_task(get_channel_layer().group_send(live.GROUP, live.message(codes)))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    # -- jobs --------------------------------------------------------------------------------------------------
    async def _forever(self, job: Callable[[], Awaitable[None]]) -> None:
        name = getattr(job, "__name__", "job")
        while True:
            try:
                await job()
            except DatabaseError as error:
                log.warning("%s: the database is away (%s); trying again", name, type(error).__name__)
                await asyncio.sleep(1)
            except Exception:
                log.exception("%s failed; trying again", name)
                await asyncio.sleep(1)

    async def _listen(self) -> None:
        layer = get_channel_layer()
        self.channel = self.channel or await layer.new_channel("gateway")
        message = await layer.receive(self.channel)
        consumer = self.sockets.get(message.get("charge_point", 0))
        if consumer is None:
            return
        if message["type"] == "command.waiting":
            consumer.wake()
        elif message["type"] == "socket.replaced" and message["epoch"] > consumer.context.epoch:
            consumer.replaced()

    async def _poll_commands(self) -> None:
        await asyncio.sleep(POLL_S)
        if self.sockets:
            for pk in await threads.run(commands.waiting, list(self.sockets), clock.now()):
                if pk in self.sockets:
                    self.sockets[pk].wake()

    async def _keep_leases(self) -> None:
        await asyncio.sleep(min(15.0, stations.lease_s() / 4))
        now_s, speaking = clock.elapsed(), []
        for pk, consumer in list(self.sockets.items()):
            if why := consumer.gone(now_s) or self._is_deaf(pk, consumer, now_s):
                await self._give_up(consumer, why)
            else:
                speaking.append(pk)
        await threads.run(stations.renew_leases, self.process, clock.now(), speaking)
        for pk, epoch in await threads.run(stations.fenced, self.process):
            if pk in self.sockets and self.sockets[pk].context.epoch == epoch:
                self.sockets[pk].replaced()
        for pk, epoch in await threads.run(stations.lapsed, self.process, speaking):
            if pk in self.sockets and self.sockets[pk].context.epoch == epoch:
                await self._give_up(self.sockets[pk], "lease ran out")  # it connects again, and is claimed anew

    def _is_deaf(self, pk: int, consumer: "ChargerConsumer", now_s: float) -> str:
        """It talks and answers nothing: a new line often helps; when it does not, another will not either."""
        if not consumer.deaf or now_s - self._deaf.get(pk, -DEAF_EVERY_S) < DEAF_EVERY_S:
            return ""
        self._deaf = {one: at_s for one, at_s in self._deaf.items() if now_s - at_s < DEAF_EVERY_S} | {pk: now_s}
        return "does not answer"

    @staticmethod
    async def _give_up(consumer: "ChargerConsumer", why: str) -> None:
        try:
            await consumer.close_for(why, 1001)
        except Exception as error:  # a server may refuse to close what it has closed: its lease runs out all the same
            log.warning("a socket could not be closed (%s): %s", why, type(error).__name__)

    async def _hear_changes(self) -> None:
        """What people changed in the console."""
        await asyncio.sleep(heed.EVERY_S)
        news = await threads.run(self._heed.look, list(self.sockets), clock.now())
        for pk, own in news.habits.items():
            if pk in self.sockets:
                self.sockets[pk].think_again(own)
        if news.opened:
            door.window_opened()

    async def _write_sent(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._flush.wait(), FLUSH_S)
        self._flush.clear()
        await self._write_batch()

    async def _write_batch(self) -> None:
        async with self._writing:
            if batch := self._sent[:1000]:
                try:
                    await threads.run(message_writer.sent, batch)
                except (OperationalError, InterfaceError):
                    raise
                except DatabaseError:
                    await self._write_each(batch)
                del self._sent[: len(batch)]
                if len(self._sent) >= FLUSH_ROWS:
                    self._flush.set()

    async def _write_each(self, batch: list[tuple[Context, Reply, datetime]]) -> None:
        """One of them cannot be written (its charger was deleted a moment ago): it is lost, the others are not."""
        for one in batch:
            try:
                await threads.run(message_writer.sent, [one])
            except (OperationalError, InterfaceError):
                raise
            except DatabaseError as error:
                log.error("a frame that went out was not kept: %s", type(error).__name__)


gateway = Gateway()
