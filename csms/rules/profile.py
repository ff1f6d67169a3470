"""Charging profiles (OCPP 1.6 §3.13, §5.16, §7.8): from what is wanted and how the charger is, to what is sent. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from csms import timestamps
from csms.rules.habits import Habits

VOLTS = 230
# An Absolute profile begins a moment ago: one that begins later leaves a gap in which nothing limits (§5.16.4).
BEGAN_S = 60


@dataclass(frozen=True)
class Step:
    """From `start_s` on (seconds into the schedule), so much: `limit_w` watts in all, or `limit_a` amperes for each phase."""

    start_s: int
    limit: Decimal


@dataclass(frozen=True)
class Wish:
    """A limit somebody wants. `unit` W or A; `phases` 0 when nobody said."""

    purpose: str
    steps: tuple[Step, ...]
    unit: str
    phases: int = 0
    daily: bool = False
    duration_s: int | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


@dataclass(frozen=True)
class Way:
    """One of the forms in which a charger may take it."""

    kind: str
    unit: str
    stack_level: int


def ways(wish: Wish, habits: Habits, units: frozenset[str], max_stack: int | None) -> Iterator[Way]:
    """The forms to try, the likeliest first: as its habits and its configuration say, then otherwise.

    `units` are those its configuration names (empty: it does not say). ChargePointMaxProfile cannot be Relative, and what
    repeats is Recurring.
    """
    unit = habits.rate_unit or (wish.unit if not units or wish.unit in units else next(iter(sorted(units))))
    stack = habits.stack_level if max_stack is None else min(habits.stack_level, max_stack)
    if wish.daily:
        kinds = ["Recurring"]
    elif wish.purpose == "ChargePointMaxProfile":
        kinds = ["Absolute"]
    else:
        kinds = [habits.profile_kind, "Relative" if habits.profile_kind == "Absolute" else "Absolute"]
    seen = []
    for way in (
        *(Way(kind, unit, stack) for kind in kinds),
        *(Way(kind, unit, 0) for kind in kinds),
        *(Way(kind, "A" if unit == "W" else "W", stack) for kind in kinds if not habits.rate_unit),
    ):
        if way not in seen:
            seen.append(way)
            yield way


def payload(
    wish: Wish, way: Way, *, profile_id: int, connector_no: int, transaction_id: int | None, phases: int, began: datetime
) -> dict[str, Any]:
    """SetChargingProfile.req. `phases` of the outlet (0: DC) turn watts into amperes; limits are cut to one decimal, never up."""
    steps = [replace(one, limit=converted(one.limit, wish.unit, way.unit, wish.phases or phases)) for one in wish.steps]
    periods = []
    for one in sorted(steps, key=lambda step: step.start_s):
        period: dict[str, Any] = {"startPeriod": one.start_s, "limit": _number(one.limit)}
        if wish.phases:
            period["numberPhases"] = wish.phases
        periods.append(period)
    schedule: dict[str, Any] = {"chargingRateUnit": way.unit, "chargingSchedulePeriod": periods}
    if wish.duration_s is not None:
        schedule["duration"] = wish.duration_s
    if way.kind != "Relative":
        schedule["startSchedule"] = timestamps.write(began)
    profile: dict[str, Any] = {
        "chargingProfileId": profile_id,
        "stackLevel": way.stack_level,
        "chargingProfilePurpose": wish.purpose,
        "chargingProfileKind": way.kind,
        "chargingSchedule": schedule,
    }
    if way.kind == "Recurring":
        profile["recurrencyKind"] = "Daily"
    if wish.purpose == "TxProfile" and transaction_id is not None:
        profile["transactionId"] = transaction_id
    for name, at in (("validFrom", wish.valid_from), ("validTo", wish.valid_to)):
        if at is not None:
            profile[name] = timestamps.write(at)
    return {"connectorId": connector_no, "csChargingProfiles": profile}


def begins(wish: Wish, now: datetime, midnight: datetime) -> datetime:
    """When its schedule begins: at the day's beginning when it repeats daily, when it becomes valid, else a moment ago."""
    if wish.daily:
        return midnight
    if wish.valid_from is not None and wish.valid_from > now:
        return wish.valid_from
    return now - timedelta(seconds=BEGAN_S)


def converted(limit: Decimal, unit: str, into: str, phases: int) -> Decimal:
    """Watts are for all phases together, amperes for each (§7.12, errata 3.69). Without a phase (DC) one is taken."""
    if unit == into:
        return limit
    volts = VOLTS * max(1, phases)
    return limit / volts if into == "A" else limit * volts


def units_of(said: str) -> frozenset[str]:
    """ChargingScheduleAllowedChargingRateUnit, as chargers write it: Current, Power, A, W, Watt, "Current, Power"."""
    found = set()
    for word in said.replace(";", ",").split(","):
        word = word.strip().strip('"').casefold()
        if word in ("current", "a", "amp", "ampere", "amperes"):
            found.add("A")
        elif word in ("power", "w", "watt", "watts"):
            found.add("W")
    return frozenset(found)


def steps_of(text: str, *, daily: bool) -> tuple[Step, ...]:
    """Steps as people write them: one number; or a line each, `HH:MM limit` (daily) or `minutes limit`. The first begins at 0.

    Raises ValueError with a sentence.
    """
    lines = [line.split() for line in text.strip().splitlines() if line.strip()]
    if not lines:
        raise ValueError("A limit is a number, or several lines of a time and a number.")
    if len(lines) == 1 and len(lines[0]) == 1:
        return (Step(0, _limit(lines[0][0])),)
    steps = []
    for words in lines:
        if len(words) != 2:
            raise ValueError(f"{' '.join(words)[:40]!r} is not a time and a number.")
        steps.append(Step(_seconds(words[0], daily), _limit(words[1])))
    steps.sort(key=lambda one: one.start_s)
    if steps[0].start_s != 0:
        raise ValueError("The first step begins at 00:00." if daily else "The first step begins at minute 0.")
    if len({one.start_s for one in steps}) != len(steps):
        raise ValueError("Two steps begin at the same time.")
    return tuple(steps)


def _seconds(word: str, daily: bool) -> int:
    hours, colon, minutes = word.partition(":")
    if daily:
        if not colon or not (hours.isdigit() and minutes.isdigit()) or int(hours) > 23 or int(minutes) > 59:
            raise ValueError(f"{word[:20]!r} is not a time of day like 22:00.")
        return int(hours) * 3600 + int(minutes) * 60
    if not word.isascii() or not word.isdigit() or int(word) > 100_000:
        raise ValueError(f"{word[:20]!r} is not a number of minutes.")
    return int(word) * 60


def _limit(word: str) -> Decimal:
    if not word.isascii() or len(word) > 12 or not word.replace(".", "", 1).isdigit():
        raise ValueError(f"{word[:20]!r} is not a limit.")
    return Decimal(word)


def _number(limit: Decimal) -> int | float:
    """One decimal, cut: 6.25 is sent as 6.2, which a float writes just so."""
    cut = limit.quantize(Decimal("0.1"), ROUND_DOWN)
    return int(cut) if cut == cut.to_integral_value() else float(cut)
