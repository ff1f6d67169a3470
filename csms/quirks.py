"""Which habits a charger has: its quirk profiles (data, edited in the console) and its own settings, resolved."""

import json
import time
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Count, Q, QuerySet

from accounts import audit
from csms.models import ChargePoint, ConfigurationKey, QuirkProfile
from csms.rules import habits
from csms.rules.configuration import MAX_KEY
from csms.rules.habits import Habits, Known, Told
from csms.rules.secrecy import is_secret

# A profile edited in the console reaches every process within this.
REMEMBERED_S = 15.0
_remembered: tuple[float, dict[int, Known]] = (0.0, {})
KINDS_S = 5.0
_kinds: tuple[float, list[tuple[str, str, str, int]]] = (0.0, [])


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
    """A profile has changed: read them again at the next question, and who is there."""
    global _kinds
    read_again()
    _kinds = (0.0, [])


def read_again() -> None:
    """Read the profiles at the next question."""
    global _remembered
    _remembered = (0.0, {})


def habits_of(
    vendor: str, model: str, firmware: str, *, profile_pk: int | None, own: dict[str, Any], learned: dict[str, Any] | None = None
) -> Habits:
    """The habits of a charger that says this of itself. A profile chosen by hand stands instead of those that match.

    What was learned of its clock counts where nobody has said anything.
    """
    found = _found(vendor, model, firmware, profile_pk)
    settled = habits.resolve(found, own) if found or own else habits.STANDARD
    if learned and not settled.naive_time and learned.get("naive_time"):
        settled = replace(settled, naive_time=learned["naive_time"])
    return settled


def silence_s(habits: Habits) -> int:
    """How long this charger may be silent before it counts as gone."""
    return habits.heartbeat_timeout_s or settings.HEARTBEAT_TIMEOUT_S


def heartbeat_s(habits: Habits) -> int:
    """One constant rules all timers: two heartbeats may be lost before a charger counts as silent."""
    return max(10, silence_s(habits) // 3)


def _found(vendor: str, model: str, firmware: str, profile_pk: int | None) -> list[Known]:
    known = profiles()
    chosen = known.get(profile_pk) if profile_pk is not None else None
    return [chosen] if chosen else habits.matching(list(known.values()), vendor, model, firmware)


def of(charge_point: ChargePoint) -> Habits:
    """The habits of this charger's row."""
    row = charge_point
    return habits_of(
        row.vendor,
        row.model,
        row.firmware_version,
        profile_pk=row.quirk_profile_id,
        own=row.quirk_settings,
        learned=row.learned,
    )


def secret_keys_of(charge_points: QuerySet[ChargePoint]) -> dict[str, tuple[str, ...]]:
    """By identity the names that these chargers' habits know to be secrets'; one query."""
    rows = charge_points.only("cp_id", "vendor", "model", "firmware_version", "quirk_profile", "quirk_settings", "learned")
    return {row.cp_id: of(row).secret_keys for row in rows}


def found(charge_point: ChargePoint) -> list[Known]:
    """The profiles that speak of this charger, the most general first."""
    row = charge_point
    return _found(row.vendor, row.model, row.firmware_version, row.quirk_profile_id)


def sources(charge_point: ChargePoint) -> tuple[dict[str, Told], dict[str, Told]]:
    """Where each of its habits, and each key to be configured, comes from."""
    return habits.sources(found(charge_point), charge_point.quirk_settings)


def wishes(charge_point: ChargePoint) -> list[tuple[str, str, str]]:
    """The keys its profiles want configured: key, value, who says so."""
    told, wanted = sources(charge_point)
    secret = told["secret_keys"].value if "secret_keys" in told else ()
    return [(key, one.value, one.by) for key, one in sorted(wanted.items()) if not is_secret(key, secret)]


def matches(profile: Known) -> list[tuple[str, str, str, int]]:
    """(vendor, model, firmware, how many) of the chargers a profile speaks of."""
    return [one for one in kinds() if habits.matching([profile], *one[:3])]


def kinds() -> list[tuple[str, str, str, int]]:
    """What there is: vendor, model, firmware, and how many chargers of it. One query, remembered for a moment."""
    global _kinds
    if time.monotonic() - _kinds[0] > KINDS_S or not _kinds[0]:
        rows = ChargePoint.objects.order_by().values_list("vendor", "model", "firmware_version").annotate(number=Count("pk"))
        _kinds = (time.monotonic(), list(rows))
    return _kinds[1]


def keep_secret(charge_point: ChargePoint, key: str) -> None:
    """From now on this charger's values of this key are nobody's to read: one of its own settings says so. In a transaction."""
    row = ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point.pk)
    before = row.quirk_settings
    listed, name = before.get("secret_keys", []), key.replace("*", " ").strip()[:MAX_KEY]
    if not name:
        raise ValidationError("That is no key's name.", "payload")
    row.quirk_settings = {**before, "secret_keys": [*listed, name]}
    row.save(update_fields=["quirk_settings"])
    charge_point.quirk_settings = row.quirk_settings
    audit.record(
        "charge_point.habits", row, trigger="said to be a secret", before={"settings": before}, after={"settings": row.quirk_settings}
    )
    conceal([row.pk], of(row).secret_keys)


def conceal(charge_point_pks: list[int], also: tuple[str, ...]) -> None:
    """What these chargers reported under names that are secrets' now is forgotten, and not wished for any more."""
    mine = ConfigurationKey.objects.filter(Q(value__isnull=False) | Q(wanted__isnull=False), charge_point__in=charge_point_pks)
    secret = [key for key in mine.order_by().values_list("key", flat=True).distinct() if is_secret(key, also)] if also else []
    if secret:
        rows = ConfigurationKey.objects.filter(charge_point__in=charge_point_pks, key__in=secret)
        rows.update(value=None, wanted=None, wanted_by="", state=ConfigurationKey.State.REPORTED, next_try_at=None, attempts=0, error="")


def learn(charge_point_pk: int, **facts: Any) -> None:
    """Add to what is known of a charger (`ChargePoint.learned`), whatever others add to it at the same time."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE csms_chargepoint SET learned = learned || %s::jsonb WHERE id = %s", [json.dumps(facts), charge_point_pk])
