"""The chargers' door: who may come in, who has knocked too often, and what is kept of those who were refused.

Nobody is asked for a key again and again: after TRIES wrong ones from one address, an identity is refused there at once for
SHUT_S; so is all that an address asks for which tried too many names. But a charger that has come in from that very address
within REMEMBERED_DAYS is always let try, and other addresses are never meant: whoever guesses cannot lock the real one out.
From outside every refusal looks alike, and costs the same: an unknown identity, a wrong key, a blocked charger.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.actor import Actor
from accounts.models import AuditEntry
from csms import dispatch, entrance, lines, onboarding, stations, threads
from csms.context import Context
from csms.entrance import Entry
from csms.frames import clean
from csms.rules import door as rule
from csms.rules.budget import Budget, Counts
from csms.rules.security import Verdict
from csms.stations import Known
from voltaro import clock

log = logging.getLogger(__name__)
# So many wrong keys (or unknown names) of one identity at one address within WINDOW_S; then it is refused at once for SHUT_S.
TRIES = 10
WINDOW_S = 300
SHUT_S = 60
REMEMBERED_DAYS = 30
# A charger may come in so often at once, and once in so many seconds after that; a socket costs a claim and its boot.
COMES = 120
COMES_EVERY_S = 0.5
# At most one record a minute per identity and address, and this many a minute in all.
RECORDS_A_MINUTE = 60
# How many of those who are looked at twice may be looked at at once, and may wait for it.
LANE = 2
LANE_WAITS = 200
_MEMORY = 50_000


@dataclass(frozen=True)
class Knock:
    """Somebody who wants in: what it calls itself, what it shows, where it comes from."""

    identity: str
    address: str
    path: str
    authorization: bytes | None = None
    offered: tuple[str, ...] = ()
    # The ASGI tls extension of a proxy we trust (voltaro/proxies.py); None: the line is not encrypted, as far as we know.
    tls: dict[str, Any] | None = None

    @property
    def who(self) -> str:
        return f"{self.address} {self.identity.casefold()}"


@dataclass(frozen=True)
class Opened:
    """It may speak: as whom, under which sub-protocol (`answered`: what the handshake says of it), and whom it replaces."""

    context: Context
    replaced: str
    answered: str | None


@dataclass(frozen=True)
class Refused:
    """It may not. `failures`: how often this identity, and how often anybody at this address, was refused of late."""

    why: str
    failures: tuple[int, int] = (0, 0)


@dataclass
class Door:
    """What this process remembers of those who knocked. Used by the server's loop only; `admit` runs in a thread."""

    shut: "OrderedDict[str, float]" = field(default_factory=OrderedDict)
    # Of those, who was refused because nobody knows them; and addresses.
    unknown: "OrderedDict[str, bool]" = field(default_factory=OrderedDict)
    came_in: "OrderedDict[str, Budget]" = field(default_factory=OrderedDict)
    hurried: "OrderedDict[str, float]" = field(default_factory=OrderedDict)
    strangers: "OrderedDict[str, float]" = field(default_factory=OrderedDict)
    _lane: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LANE))
    _waiting: int = 0

    async def refuses(self, knock: Knock, *, sockets: int, at_address: int) -> int:
        """The HTTP status this one is refused with at once, or 0: it may show its key."""
        now_s = clock.elapsed()
        if self.hurried.get(knock.who, 0) > now_s:
            return 503
        if self.shut.get(knock.who, 0) > now_s or self.shut.get(knock.address, 0) > now_s:
            return 0 if await self._is_known_there(knock) else 401
        if sockets >= settings.MAX_SOCKETS or at_address >= settings.MAX_SOCKETS_PER_ADDRESS:
            return 0 if await self._is_known_there(knock) else 503
        return 0

    async def _is_known_there(self, knock: Knock) -> bool:
        """Whether this charger has come in from this address of late: then it is never turned away unheard."""
        if knock.who in self.came_in:
            return True
        if not knock.identity or self.strangers.get(knock.who, 0) > clock.elapsed() or self._waiting >= LANE_WAITS:
            return False
        self._waiting += 1
        try:
            async with self._lane:
                since = clock.now() - timedelta(days=REMEMBERED_DAYS)
                if await threads.run(lines.came_from, knock.identity, knock.address, since):
                    return True
        finally:
            self._waiting -= 1
        _remember(self.strangers, knock.who, clock.elapsed() + SHUT_S)
        return False

    def opened(self, knock: Knock) -> None:
        """It came in: whatever it tried before is forgotten. One that comes again every moment has to wait for the next."""
        self.shut.pop(knock.who, None)
        budget = self.came_in.get(knock.who) or Budget(COMES, 1 / COMES_EVERY_S)
        _remember(self.came_in, knock.who, budget)
        if not budget.take(clock.elapsed()):
            _remember(self.hurried, knock.who, clock.elapsed() + COMES_EVERY_S)

    def failed(self, knock: Knock, refused: Refused) -> None:
        """It was refused: too often, and it is refused at once for a while."""
        of_identity, of_address = refused.failures
        if of_identity >= TRIES:
            _remember(self.shut, knock.who, clock.elapsed() + SHUT_S)
            if refused.why == "unknown":
                _remember(self.unknown, knock.who, True)
        if of_address >= settings.MAX_REFUSALS_PER_ADDRESS:
            _remember(self.shut, knock.address, clock.elapsed() + SHUT_S)
            _remember(self.unknown, knock.address, True)

    def window_opened(self) -> None:
        """New chargers are let in now: whoever was sent away because nobody knew them may knock at once, and is seen.

        Wrong keys of our own chargers stay shut out; an address that goes on guessing is shut again by its next refusal.
        """
        while self.unknown:
            self.shut.pop(self.unknown.popitem()[0], None)


def _remember(where: "OrderedDict[str, Any]", key: str, value: Any) -> None:
    where.pop(key, None)
    where[key] = value
    if len(where) > _MEMORY:
        where.popitem(last=False)


# -- in a thread: the key, the claim, the record ---------------------------------------------------------------------
def admit(knock: Knock, process: str, channel: str) -> Opened | Refused:
    """Let it in, or refuse and record it. Raises OperationalError or InterfaceError when the database is away."""
    known, entry = known_as(knock)
    if entry.refusal == "unknown" and onboarding.let_in(
        knock.identity, knock.address, knock.authorization, knock.offered, clock.now(), counters.count
    ):
        known, entry = known_as(knock)
    spoken = _spoken(known, knock) if known is not None else None
    if known is None or spoken is None:
        return refused(knock.identity or knock.path, knock.address, entry.refusal or "subprotocol", had_key=bool(knock.authorization))
    version, answered = spoken
    try:
        context, replaced = dispatch.opened(
            known, process=process, channel=channel, remote_address=knock.address, subprotocol=version, entry=entry
        )
    except entrance.Withdrawn:
        return refused(knock.identity, knock.address, "wrong_key")
    return Opened(context, replaced, answered)


def known_as(knock: Knock) -> tuple[Known | None, Entry]:
    """The charger this is, or why it is none. A stranger costs what a known one costs: the same look-up, the same hashes."""
    if not knock.identity:
        return None, Entry(Verdict("no_identity"))
    row = stations.find(knock.identity)
    entry = entrance.look(row or _nobody(knock.identity), knock.authorization, knock.tls)
    if row is None or (row.unclaimed and not entry.refusal and not onboarding.may_wait(row.pk, clock.now())):
        return None, Entry(Verdict("unknown"))
    return (None if entry.refusal else row), entry


def _nobody(identity: str) -> Known:
    """Whose key nobody has."""
    return Known(
        pk=0,
        cp_id=identity,
        blocked=False,
        registration="Accepted",
        security_profile=1,
        keys=("0" * 64, ""),
        booted=False,
        unclaimed=False,
        pending_security_profile=None,
        certificate_name="",
        serial_number="",
        vendor="",
        model="",
        firmware_version="",
        quirk_profile_pk=None,
        quirk_settings={},
        places={},
    )


def _spoken(known: Known, knock: Knock) -> tuple[str, str | None] | None:
    habits = dispatch.habits_of(known)
    return rule.spoken(knock.offered, habits.subprotocols, without=habits.without_subprotocol)


def refused(identity: str, address: str, why: str, *, had_key: bool = False) -> Refused:
    """Record that a socket was turned away: `why` is unknown, blocked, rejected, no_identity, subprotocol, or what it lacked
    (csms/rules/security.py)."""
    identity, address = clean(identity)[:48], address[:64]
    failures = (0, 0)
    if why == "unknown":
        onboarding.knocked(identity, address, had_key, clock.now(), counters.count)
    if why != "subprotocol":  # it has shown its key
        failures = counters.count(f"who:{address}:{identity.casefold()}", WINDOW_S), counters.count(f"at:{address}", WINDOW_S)
    if failures[1] == settings.MAX_REFUSALS_PER_ADDRESS:
        log.warning("%s was refused %d times within five minutes: from there, only chargers known to come from there", address, failures[1])
        _record("connection.spray", identity, address, why, {"address": address, "refusals": failures[1]})
    elif counters.count(f"kept:{address}:{identity}:{why}", 60) == 1 and counters.count("kept", 60) <= RECORDS_A_MINUTE:
        _record("connection.refused", identity, address, why, {"address": address})
    return Refused(why, failures)


def _record(action: str, identity: str, address: str, why: str, after: dict[str, Any]) -> None:
    AuditEntry.objects.create(
        actor=address[:150] or "unknown",
        actor_type=Actor("charger", "").kind,
        action=action,
        trigger=why,
        target_type="csms.chargepoint",
        target_id=identity or "-",
        after=after,
    )


class Counters:
    """Counts that all processes share, in Redis; while that does not answer within a quarter of a second, this process's own."""

    AWAY_S = 5.0

    def __init__(self) -> None:
        self._redis = redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0), max_connections=16
        )
        self._own: dict[int, Counts] = {}
        self._away_until_s = 0.0

    def count(self, key: str, window_s: int) -> int:
        """Count the key once more; how often that is within `window_s` of its first time."""
        now_s = clock.elapsed()
        if now_s >= self._away_until_s:
            try:
                name = f"voltaro:door:{key}"
                with self._redis.pipeline(transaction=False) as pipe:
                    _, count, left_s = pipe.set(name, 0, ex=window_s, nx=True).incr(name).ttl(name).execute()
                if left_s < 0:  # it ended between the two: what is counted now would never end
                    self._redis.expire(name, window_s)
                return int(count)
            except redis.RedisError as error:
                self._away_until_s = now_s + self.AWAY_S
                log.warning("refusals are counted by this process alone just now (%s)", type(error).__name__)
        return self._own.setdefault(window_s, Counts(window_s)).add(key, now_s)


counters = Counters()
door = Door()
