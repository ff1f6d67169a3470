"""Charging profiles: kept by purpose, stack level and connector, and what they allow at a moment (OCPP 1.6 section 3.13)."""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from csms.simulator.times import read

MAX, DEFAULT, TX = "ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"
REPEATS_S = {"Daily": 86_400, "Weekly": 7 * 86_400}


@dataclass(frozen=True)
class Limit:
    """So much from `start_s` on (seconds into the schedule): watts in all, or amperes for each of the phases."""

    start_s: int
    value: float
    phases: int
    unit: str

    def watts(self, volts: float, phases: int) -> float:
        """At an outlet of that voltage with that many phases."""
        return self.value if self.unit == "W" else self.value * volts * min(phases, self.phases)


@dataclass(frozen=True)
class Profile:
    """One csChargingProfiles as it was installed; `written` is its own JSON, for the charger's memory."""

    connector: int
    written: dict[str, Any]
    installed_at: datetime
    id: int
    stack: int
    purpose: str
    kind: str
    limits: tuple[Limit, ...]
    start: datetime | None
    duration_s: int | None
    repeats_s: int | None
    valid_from: datetime | None
    valid_to: datetime | None
    transaction_id: int | None

    def at(self, moment: datetime, begun: datetime) -> Limit | None:
        """What it says at that moment, or None. A relative one counts from `begun` (the transaction's start)."""
        if (self.valid_from and moment < self.valid_from) or (self.valid_to and moment >= self.valid_to):
            return None
        origin = self._origin(begun)
        elapsed_s = (moment - origin).total_seconds()
        if elapsed_s < 0:
            return None
        if self.repeats_s:
            elapsed_s %= self.repeats_s
        if self.duration_s is not None and elapsed_s >= self.duration_s:
            return None
        return next((limit for limit in reversed(self.limits) if limit.start_s <= elapsed_s), None)

    def turns(self, since: datetime, until: datetime, begun: datetime) -> set[datetime]:
        """The moments after `since` and before `until` at which it may say something else."""
        moments = {moment for moment in (self.valid_from, self.valid_to) if moment}
        origin = self._origin(begun)
        steps = [limit.start_s for limit in self.limits] + ([self.duration_s] if self.duration_s is not None else [])
        if self.repeats_s is None:
            rounds = [origin]
        else:
            first = max(0, math.floor((since - origin).total_seconds() / self.repeats_s))
            last = max(0, math.floor((until - origin).total_seconds() / self.repeats_s))
            rounds = [origin + timedelta(seconds=number * self.repeats_s) for number in range(first, last + 1)]
        moments |= {start + timedelta(seconds=step) for start in rounds for step in steps}
        return {moment for moment in moments if since < moment < until}

    def _origin(self, begun: datetime) -> datetime:
        """Second 0 of its schedule. No transaction begins the charger's own."""
        if self.kind == "Relative" and self.purpose != MAX:
            return begun
        return self.start or self.installed_at


def parse(connector: int, said: dict[str, Any], now: datetime) -> Profile:
    """The profile of a SetChargingProfile. Raises KeyError, TypeError or ValueError for one that cannot be."""
    schedule, kind, purpose = said["chargingSchedule"], said["chargingProfileKind"], said["chargingProfilePurpose"]
    unit = schedule["chargingRateUnit"]
    limits = tuple(
        Limit(int(one["startPeriod"]), float(one["limit"]), int(one.get("numberPhases") or 3), unit)
        for one in schedule["chargingSchedulePeriod"]
    )
    starts = [limit.start_s for limit in limits]
    if not limits or starts[0] != 0 or starts != sorted(set(starts)) or any(limit.value < 0 for limit in limits):
        raise ValueError("the periods of a schedule begin at 0 and follow one another")
    if unit not in ("A", "W") or purpose not in (MAX, DEFAULT, TX) or kind not in ("Absolute", "Recurring", "Relative"):
        raise ValueError("no such unit, purpose or kind")
    return Profile(
        connector=connector,
        written=said,
        installed_at=now,
        id=int(said["chargingProfileId"]),
        stack=int(said["stackLevel"]),
        purpose=purpose,
        kind=kind,
        limits=limits,
        start=read(schedule["startSchedule"]) if kind == "Recurring" or "startSchedule" in schedule else None,
        duration_s=schedule.get("duration"),
        repeats_s=REPEATS_S[said["recurrencyKind"]] if kind == "Recurring" else None,
        valid_from=read(said["validFrom"]) if "validFrom" in said else None,
        valid_to=read(said["validTo"]) if "validTo" in said else None,
        transaction_id=said.get("transactionId"),
    )


@dataclass
class Profiles:
    kept: list[Profile] = field(default_factory=list)

    def add(self, profile: Profile, *, most: int) -> bool:
        """Install it in the place of the one it replaces; False when there is no room."""
        others = [one for one in self.kept if one.id != profile.id and _place(one) != _place(profile)]
        if len(others) >= most:
            return False
        self.kept = [*others, profile]
        return True

    def clear(self, *, id: int | None = None, connector: int | None = None, purpose: str | None = None, stack: int | None = None) -> int:
        """Take away those to which all that is said applies (errata 3.25); how many there were."""
        wanted = (id, connector, purpose, stack)
        gone = [
            one
            for one in self.kept
            if all(asked in (None, has) for asked, has in zip(wanted, (one.id, one.connector, one.purpose, one.stack), strict=True))
        ]
        self.kept = [one for one in self.kept if one not in gone]
        return len(gone)

    def end_transaction(self, connector: int) -> None:
        """A TxProfile lives as long as its transaction."""
        self.kept = [one for one in self.kept if one.purpose != TX or one.connector != connector]

    def whole(self, moment: datetime, begun: datetime) -> Limit | None:
        """The limit of the charger as a whole."""
        return self._leading(MAX, 0, moment, begun)

    def outlet(self, connector: int, moment: datetime, begun: datetime) -> Limit | None:
        """The limit of one outlet: its TxProfile overrules its default, which overrules the charger's default."""
        for purpose, place in ((TX, connector), (DEFAULT, connector), (DEFAULT, 0)):
            if limit := self._leading(purpose, place, moment, begun):
                return limit
        return None

    def turns(self, since: datetime, until: datetime, begun: datetime) -> list[datetime]:
        return sorted({moment for one in self.kept for moment in one.turns(since, until, begun)})

    def _leading(self, purpose: str, place: int, moment: datetime, begun: datetime) -> Limit | None:
        """Of those that say something at that moment the one with the highest stack level leads."""
        chosen = [one for one in self.kept if one.purpose == purpose and one.connector == place]
        said = [(one.stack, limit) for one in chosen if (limit := one.at(moment, begun)) is not None]
        return max(said, key=lambda pair: pair[0])[1] if said else None


def _place(profile: Profile) -> tuple[int, str, int]:
    return profile.connector, profile.purpose, profile.stack


def share(available_w: float, wanted_w: list[float]) -> list[float]:
    """Divide what there is: everybody an equal part, and what one does not want to the others."""
    given = [0.0] * len(wanted_w)
    open_to = sorted(range(len(wanted_w)), key=lambda index: wanted_w[index])
    while open_to:
        index = open_to.pop(0)
        given[index] = min(wanted_w[index], available_w / (len(open_to) + 1))
        available_w -= given[index]
    return given


def tenths(value: float) -> float:
    """Limits have one decimal; never rounded up."""
    return math.floor(value * 10 + 1e-6) / 10
