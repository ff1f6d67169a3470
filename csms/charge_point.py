"""The ocpp library's ChargePoint, one per socket, wired to dispatch.

The library brings the standard's words (schemas, enums, payload classes) and the shape of a charge point; its
`route_message` is replaced: the library's own drops unreadable frames without an answer, refuses what real chargers
send, and cannot store before it answers (docs/one-message.md).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import InterfaceError, OperationalError
from ocpp.v16 import ChargePoint as LibraryChargePoint

from csms import dispatch, threads
from csms.context import Context, Effect, Reply

log = logging.getLogger(__name__)
# Of a message that could not be written down at once so much is held in memory until it can be.
HEARD_BYTES = 8192


def _noticed(asked: asyncio.Future[Reply | None]) -> None:
    """Nobody may be waiting for it any more."""
    if not asked.cancelled() and (error := asked.exception()) is not None:
        log.warning("a message that may not wait was not answered by the database (%s)", type(error).__name__)


class ChargePoint(LibraryChargePoint):
    """One charger on one socket. `connection` has `send(text)`; `heard` is told of every reply sent and of every effect."""

    def __init__(
        self,
        context: Context,
        connection: Any,
        *,
        sent: Callable[[Reply], None],
        effects: Callable[[list[Effect]], Awaitable[None]],
    ) -> None:
        super().__init__(context.cp_id, connection)
        self.context = context
        self._sent = sent
        self._effects = effects

    async def route_message(self, raw_msg: str | bytes) -> None:
        """One frame in, at most one frame out, what it caused after. Raises when the database is away: nothing was answered."""
        raw = raw_msg.encode("utf-8", "surrogatepass") if isinstance(raw_msg, str) else raw_msg
        reply = await self._answer(raw)
        effects = list(self.context.effects)
        if reply is not None:
            await self._connection.send(reply.text)
            if reply.kept:
                self._sent(reply)
        if effects:
            await self._effects(effects)

    async def _answer(self, raw: bytes) -> Reply | None:
        if not dispatch.may_not_wait(raw, self.context):
            return await threads.run(dispatch.answer, raw, self.context)
        return await self._answer_soon(raw)

    async def _answer_soon(self, raw: bytes) -> Reply | None:
        """With an answer of the database when it has one in time, else from memory. What it does later goes unheard."""
        began, asking = time.monotonic(), None
        # What comes too late must not touch what the next frame causes.
        aside = replace(self.context, effects=[])
        if not threads.in_trouble():
            asking = asyncio.ensure_future(threads.run(dispatch.answer, raw, aside))
            asking.add_done_callback(_noticed)
            await asyncio.wait({asking}, timeout=dispatch.patience_s())
        while True:
            if asking is not None and asking.done() and not isinstance(asking.exception(), (OperationalError, InterfaceError)):
                self.context.effects[:], self.context.seen_at = aside.effects, aside.seen_at
                return asking.result()
            slow = asking is not None and not asking.done()
            waited_s = time.monotonic() - began
            if (reply := dispatch.answer_away(raw, self.context, waited_s - dispatch.SLOW_S if slow else waited_s)) is not None:
                self.context.effects.clear()  # of the frame before; it has none of its own
                if asking is None or asking.done():
                    return replace(reply, heard=raw[:HEARD_BYTES])
                # It may write down yet what was asked; if it does not, we do.
                asking.add_done_callback(partial(self._unheard, replace(reply, text="", heard=raw[:HEARD_BYTES])))
                return reply
            await asyncio.sleep(0.1)

    def _unheard(self, request: Reply, asked: "asyncio.Future[Reply | None]") -> None:
        if asked.cancelled() or isinstance(asked.exception(), (OperationalError, InterfaceError)):
            self._sent(request)

    async def send_next_command(self) -> bool:
        """Send the next waiting command, if this charger may be asked now; False when there was nothing to send.

        Never waits for the answer: it arrives as a frame like any other and settles the command's row.
        """
        command = await threads.run(dispatch.next_command, self.context)
        if command is None:
            return False
        self._sent(command)
        await self._connection.send(command.text)
        return True
