"""Which habits a charger has: its quirk profiles (data, edited in the console) and its own settings, resolved."""

import time
from typing import Any

from csms.models import ChargePoint, QuirkProfile
from csms.rules import habits
from csms.rules.habits import Habits, Known

# A profile edited in the console reaches every process within this.
REMEMBERED_S = 15.0
_remembered: tuple[float, dict[int, Known]] = (0.0, {})


def profiles() -> dict[int, Known]:
    """Every active profile, by its key; read again every REMEMBERED_S, because every connecting charger asks."""
    global _remembered
    at, known = _remembered
    if not at or time.monotonic() - at > REMEMBERED_S:
        rows = QuirkProfile.objects.filter(active=True).values_list("pk", "name", "vendor", "model", "firmware", "settings")
        known = {pk: Known(*row) for pk, *row in rows}
        _remembered = (time.monotonic(), known)
    return known


def forget() -> None:
    """A profile has changed: read them again at the next question."""
    global _remembered
    _remembered = (0.0, {})


def habits_of(vendor: str, model: str, firmware: str, *, profile_pk: int | None, own: dict[str, Any]) -> Habits:
    """The habits of a charger that says this of itself. A profile chosen by hand stands instead of those that match."""
    known = profiles()
    chosen = known.get(profile_pk) if profile_pk is not None else None
    found = [chosen] if chosen else habits.matching(list(known.values()), vendor, model, firmware)
    return habits.resolve(found, own) if found or own else habits.STANDARD


def of(charge_point: ChargePoint) -> Habits:
    """The habits of this charger's row."""
    row = charge_point
    return habits_of(row.vendor, row.model, row.firmware_version, profile_pk=row.quirk_profile_id, own=row.quirk_settings)
