"""Puts one charger on a real line: dials, carries its frames, comes back when the line or the charger goes away."""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from csms.simulator import link
from csms.simulator.charger import Charger

BACK_OFF_FIRST_S = 1.0
BACK_OFF_LONGEST_S = 30.0

Clock = Callable[[], datetime]
Tell = Callable[[str], None]


class Line:
    """One charger and its socket, until `stop` is set.

    `tell` gets the charger's notes; `on_new_key` the password the server gave it (it uses that from the next dial on).
    """

    def __init__(
        self,
        charger: Charger,
        url: str,
        key: str | None,
        *,
        clock: Clock,
        tell: Tell,
        tick_s: float = 0.25,
        on_new_key: Callable[[str], None] | None = None,
    ) -> None:
        self.charger, self.url, self.key, self.clock, self.tick_s = charger, url, key, clock, tick_s
        self._tell, self._on_new_key = tell, on_new_key
        self._dice = random.Random()  # noqa: S311 - jitter
        self._failures = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._wait_until_back(stop)
            if stop.is_set():
                return
            try:
                socket = await link.dial(self.url, self.charger.cp_id, self.key)
            except (OSError, InvalidHandshake, TimeoutError) as reason:
                await self._back_off(stop, reason)
                continue
            self._failures = 0
            try:
                await self._talk(socket, stop)
            except ConnectionClosed as end:
                said = f"{end.rcvd.code} {end.rcvd.reason}".strip() if end.rcvd else "no goodbye"
                self._tell(f"the line ended ({said})")
                # Not every charger of a restarted server in the same instant.
                self._failures = 1
                self.charger.closed(self.clock())
                await self._pause(self._dice.uniform(0.2, 2.0), stop)
            finally:
                self.charger.closed(self.clock())
                if self.charger.away_until:
                    link.tear(socket)
                else:
                    await socket.close()

    async def _talk(self, socket: ClientConnection, stop: asyncio.Event) -> None:
        charger = self.charger
        charger.opened(self.clock())
        next_tick = asyncio.get_running_loop().time()
        while not stop.is_set():
            await self._flush(socket)
            if charger.away_until:
                return
            now = asyncio.get_running_loop().time()
            if now >= next_tick:
                charger.tick(self.clock())
                next_tick = now + self.tick_s
                self._after_tick()
                continue
            try:
                async with asyncio.timeout(next_tick - now):
                    text = await socket.recv()
            except TimeoutError:
                continue
            charger.heard(text, self.clock())

    async def _flush(self, socket: ClientConnection) -> None:
        for frame in self.charger.take():
            await socket.send(frame)

    def _after_tick(self) -> None:
        charger = self.charger
        notes, charger.notes = charger.notes, []
        for note in notes:
            self._tell(note)
        if password := charger.configuration.new_password:
            charger.configuration.new_password = None
            self.key = password
            if self._on_new_key:
                self._on_new_key(password)
            charger.hang_up(self.clock(), 2, "takes its new key: away")

    async def _wait_until_back(self, stop: asyncio.Event) -> None:
        while self.charger.away_until and self.clock() < self.charger.away_until and not stop.is_set():
            await self._pause(self.tick_s, stop)

    async def _back_off(self, stop: asyncio.Event, reason: Exception) -> None:
        """Wait longer after each failure, with full jitter; the car goes on charging meanwhile."""
        self._failures += 1
        if self._failures in (1, 5) or self._failures % 20 == 0:
            self._tell(f"cannot connect ({_short(reason)}); trying again")
        longest = min(BACK_OFF_LONGEST_S, BACK_OFF_FIRST_S * 2 ** min(self._failures, 6))
        await self._pause(self._dice.uniform(BACK_OFF_FIRST_S / 2, longest), stop)

    async def _pause(self, seconds: float, stop: asyncio.Event) -> None:
        end = asyncio.get_running_loop().time() + seconds
        while not stop.is_set() and (left := end - asyncio.get_running_loop().time()) > 0:
            self.charger.tick(self.clock())
            self._after_tick()
            try:
                await asyncio.wait_for(stop.wait(), min(left, self.tick_s))
            except TimeoutError:
                continue


def _short(reason: Exception) -> str:
    return (str(reason) or type(reason).__name__).splitlines()[0][:120]
