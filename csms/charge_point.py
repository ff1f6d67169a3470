"""The ocpp library's ChargePoint, one per socket, wired to dispatch.

The library brings the standard's words (schemas, enums, payload classes) and the shape of a charge point; its
`route_message` is replaced: the library's own drops unreadable frames without an answer, refuses what real chargers
send, and cannot store before it answers (docs/one-message.md).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from django.db import InterfaceError, OperationalError
from ocpp.v16 import ChargePoint as LibraryChargePoint

from csms import dispatch, threads
from csms.context import Context, Effect, Reply


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
        while threads.in_trouble() and dispatch.may_not_wait(raw, self.context):
            if (reply := dispatch.answer_away(raw, self.context)) is not None:
                return reply
            await asyncio.sleep(0.2)
        try:
            return await threads.run(dispatch.answer, raw, self.context)
        except (OperationalError, InterfaceError):
            if (reply := dispatch.answer_away(raw, self.context)) is not None:
                return reply
            raise

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
