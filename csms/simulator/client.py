"""Puts one charger on a real line: dials, carries its frames and its files, comes back when the line or the charger goes away."""

import asyncio
import random
import ssl
from collections.abc import Callable
from datetime import datetime

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from csms.simulator import link, transfer
from csms.simulator.charger import Charger
from csms.simulator.configuration import SECURITY_PROFILE
from csms.simulator.keys import CENTRAL
from csms.simulator.orders import Order

BACK_OFF_FIRST_S = 1.0
BACK_OFF_LONGEST_S = 30.0
# A higher security profile that fails so often is given up, and the one before is used again (security white paper, A05).
TRIES_OF_A_PROFILE = 3

Clock = Callable[[], datetime]
Tell = Callable[[str], None]


class Line:
    """One charger and its socket, until `stop` is set.

    `tell` gets the charger's notes; `on_new_key` the password the server gave it (it uses that from the next dial on).
    `secure_url` is dialled from security profile 2 on (default: `url` with wss); `tls` is used there until the server
    has installed a root of its own.
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
        secure_url: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.charger, self.url, self.key, self.clock, self.tick_s = charger, url, key, clock, tick_s
        self.secure_url, self.tls = secure_url or link.secure(url), tls
        self._tell, self._on_new_key = tell, on_new_key
        self._dice = random.Random()  # noqa: S311 - jitter
        self._failures = 0
        self._profile_before: int | None = None
        self._errands: set[asyncio.Task[None]] = set()
        charger.knows_a_root = tls is not None
        profile = 2 if url.startswith("wss:") else 0 if key is None else 1
        if SECURITY_PROFILE not in charger.configuration.changed:
            charger.configuration.put(SECURITY_PROFILE, str(profile))

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                await self._wait_until_back(stop)
                if not stop.is_set():
                    await self._connect(stop)
        finally:
            for errand in self._errands:
                errand.cancel()

    async def _connect(self, stop: asyncio.Event) -> None:
        """One line, from the dial to its end."""
        try:
            socket = await self._dial()
        except (OSError, InvalidHandshake, TimeoutError) as reason:
            self._refused(reason)
            await self._back_off(stop, reason)
            return
        self._failures, self._profile_before = 0, None
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

    async def _dial(self) -> ClientConnection:
        settings, keys, strange = self.charger.configuration, self.charger.keys, self.charger.habits.strange
        profile = settings.number(SECURITY_PROFILE)
        password: str | bytes | None = None if profile == 3 else self.key
        if password and "key_as_bytes" in strange:
            password = _spelled(password)
        tls = self.tls
        if profile >= 2 and (keys.roots[CENTRAL] or keys.chain):
            tls = link.context(keys.roots[CENTRAL], keys.chain, keys.key)
        return await link.dial(
            self.secure_url if profile >= 2 else self.url,
            self.charger.cp_id,
            password,
            subprotocols=[] if "no_subprotocol" in strange else None,
            ping_interval_s=settings.number("WebSocketPingInterval") or None,
            tls=tls,
        )

    def _refused(self, reason: Exception) -> None:
        """What a refusal means to the charger: an event to tell later, or a security profile that does not work."""
        charger, now = self.charger, self.clock()
        if self._failures == 0:
            if isinstance(reason, InvalidStatus) and reason.response.status_code in (401, 403):
                charger.event("FailedToAuthenticateAtCentralSystem", f"HTTP {reason.response.status_code}", now)
            elif isinstance(reason, ssl.SSLCertVerificationError):
                charger.event("InvalidCentralSystemCertificate", reason.verify_message, now)
        if self._profile_before is not None and self._failures + 1 >= TRIES_OF_A_PROFILE:
            self._tell(f"security profile {charger.configuration[SECURITY_PROFILE]} does not work; back to {self._profile_before}")
            charger.configuration.put(SECURITY_PROFILE, str(self._profile_before))
            self._profile_before = None

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
        for order in charger.take_orders():
            errand = asyncio.create_task(self._carry(order))
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)
        self._renew()

    async def _carry(self, order: Order) -> None:
        outcome = await transfer.carry(order, self.tls)
        self.charger.carried_out(order, outcome, self.clock())

    def _renew(self) -> None:
        """A new password, security profile or certificate is used from a new line on."""
        charger, settings = self.charger, self.charger.configuration
        why = ""
        if password := settings.new_password:
            settings.new_password = None
            self.key, why = password, "takes its new key: away"
            if self._on_new_key:
                self._on_new_key(password)
        if settings.new_profile is not None:
            self._profile_before, settings.new_profile, self._failures = settings.profile_before, None, 0
            why = f"takes security profile {settings[SECURITY_PROFILE]}: away"
        if charger.renew_line:
            charger.renew_line, why = False, "takes its new certificate: away"
        if why and not charger.away_until:
            charger.hang_up(self.clock(), 2, why)

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


def _spelled(key: str) -> str | bytes:
    """The bytes that a hexadecimal key spells; any other key as it is."""
    try:
        return bytes.fromhex(key)
    except ValueError:
        return key


def _short(reason: Exception) -> str:
    return (str(reason) or type(reason).__name__).splitlines()[0][:120]
