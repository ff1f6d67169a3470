"""What somebody wants of a charger's configuration keys: of one charger by an operator (`wish`), of many by their quirk profiles
(`take_up`), which never overrules an operator. And what became of setting them; when that is tried is in csms/configuration.py.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Q

from accounts import audit
from csms import alerts, commands, quirks, schemas
from csms.frames import clean
from csms.models import ChargePoint, Command, CommandState, ConfigurationKey
from csms.rules import configuration as rule
from csms.rules.habits import Known
from csms.rules.secrecy import MASK, is_own_key, is_secret

State = ConfigurationKey.State
# Why a command of ours was asked.
SET, READ_BACK = "configuration: set", "configuration: read back"
# How a wish of a profile's is told from one of an operator's.
PROFILE = "profile: "
KEYS_A_CHARGER = 500
# While a charger is away; while it is being asked other keys already; until an answer counts as lost.
AWAY, BUSY, LOST = timedelta(minutes=10), timedelta(seconds=30), timedelta(hours=1)
# From so many failed attempts on a person is told.
TELL_AFTER = 4
SHORTENED = "It rejected the list with "


# -- what is wanted ---------------------------------------------------------------------------------------------------
_TAKE_UP = """
INSERT INTO csms_configurationkey AS mine (charge_point_id, key, known, wanted, wanted_by, state, attempts, next_try_at, error, created_at,
  updated_at)
SELECT pk, key, true, value, by, 'due', 0, %(start)s, '', %(start)s, %(start)s
FROM unnest(%(pks)s::bigint[]) AS pk, unnest(%(keys)s::text[], %(values)s::text[], %(by)s::text[]) AS said (key, value, by)
ON CONFLICT (charge_point_id, upper(key)) DO UPDATE SET wanted = excluded.wanted, wanted_by = excluded.wanted_by, state = 'due',
  attempts = 0, next_try_at = excluded.next_try_at, error = '', updated_at = excluded.updated_at
WHERE (mine.wanted IS NULL OR mine.wanted_by LIKE %(profile)s) AND (%(again)s OR mine.wanted IS DISTINCT FROM excluded.wanted)"""
_LET_GO = """
UPDATE csms_configurationkey SET wanted = NULL, wanted_by = '', state = 'reported', attempts = 0, next_try_at = NULL, error = ''
WHERE charge_point_id = ANY(%(pks)s::bigint[]) AND wanted_by LIKE %(profile)s AND NOT upper(key) = ANY(%(upper)s::text[])"""


def take_up(charge_point_pks: list[int], wishes: Iterable[tuple[str, str, str]], start: datetime, *, again: bool = False) -> None:
    """These chargers are to have what their profiles want (key, value, profile): two statements for all of them.

    What an operator wished stays. A list that was shortened because a charger rejected it is tried whole `again`.
    """
    wishes = list({key.upper(): (key, value, name) for key, value, name in wishes if not is_secret(key)}.values())
    told = {
        "pks": charge_point_pks,
        "keys": [rule.canonical(key)[: rule.MAX_KEY] for key, _, _ in wishes],
        "values": [value[: rule.MAX_VALUE] for _, value, _ in wishes],
        "by": [(PROFILE + name)[:80] for _, _, name in wishes],
        "upper": [key.upper() for key, _, _ in wishes],
        "start": start,
        "again": again,
        "profile": PROFILE + "%",
    }
    with connection.cursor() as cursor:
        if wishes:
            cursor.execute(_TAKE_UP, told)
        cursor.execute(_LET_GO, told)


def spread(speaks_of: Iterable[Known], profile_pk: int, now: datetime) -> int:
    """A profile has changed: the chargers it speaks of, or spoke of, are to have what is wanted now; how many there are.

    Two statements for each kind of charger (and each set of its own settings), whatever their number.
    """
    kinds = {one[:3] for profile in speaks_of for one in quirks.matches(profile)}
    chosen = Q(quirk_profile=profile_pk)
    for vendor, model, firmware in kinds:
        chosen |= Q(vendor=vendor, model=model, firmware_version=firmware)
    alike: dict[tuple[str, str, str, int | None, str], list[int]] = {}
    rows = ChargePoint.objects.filter(chosen, unclaimed=False)
    for pk, vendor, model, firmware, chosen_pk, own in rows.values_list(
        "pk", "vendor", "model", "firmware_version", "quirk_profile_id", "quirk_settings"
    ):
        alike.setdefault((vendor, model, firmware, chosen_pk, json.dumps(own, sort_keys=True)), []).append(pk)
    for (vendor, model, firmware, chosen_pk, own), pks in alike.items():
        like = ChargePoint(
            vendor=vendor, model=model, firmware_version=firmware, quirk_profile_id=chosen_pk, quirk_settings=json.loads(own)
        )
        quirks.conceal(pks, quirks.of(like).secret_keys)
        take_up(pks, quirks.wishes(like), now)
    return sum(map(len, alike.values()))


@transaction.atomic
def wish(charge_point: ChargePoint, key: str, value: str, *, by: str, now: datetime) -> ConfigurationKey:
    """An operator wants this key of this charger to be so. Raises ValidationError with a sentence."""
    key = rule.canonical(clean(key).strip())
    if not key or len(key) > rule.MAX_KEY:
        raise ValidationError(f"A key has 1 to {rule.MAX_KEY} characters.")
    if is_own_key(key) or key.lower() == "securityprofile":
        raise ValidationError(f"{key} is changed on the charger's security page, so that it cannot lock itself out.")
    if is_secret(key, quirks.of(charge_point).secret_keys):
        raise ValidationError(f"{key} is a secret, and wishes can be read. Send it once: “Set a configuration key” on the charger's page.")
    if len(value) > rule.MAX_VALUE or clean(value) != value:
        raise ValidationError(f"A value has {rule.MAX_VALUE} characters at most, and no control characters.")
    mine = ConfigurationKey.objects.select_for_update(no_key=True).filter(charge_point=charge_point)
    row = mine.filter(key__iexact=key).first() or ConfigurationKey(charge_point=charge_point, key=key)
    if row.readonly:
        raise ValidationError(f"{row.key} can only be read.")
    if row.pk is None and mine.count() >= KEYS_A_CHARGER:
        raise ValidationError(f"{charge_point} has {KEYS_A_CHARGER} keys already.")
    before = {"wanted": row.wanted, "by": row.wanted_by}
    row.wanted, row.wanted_by, row.attempts, row.error = value, by[:80], 0, ""
    there = row.reported_at is not None and rule.same(value, row.value)
    row.state, row.next_try_at = (State.IN_STEP, None) if there else (State.DUE, now)
    row.save()
    audit.record("configuration.wished", charge_point, before={"key": row.key, **before}, after={"key": row.key, "wanted": value})
    return row


@transaction.atomic
def withdraw(charge_point: ChargePoint, key: str, *, now: datetime) -> None:
    """Nothing is wanted of this key any more by an operator; what the charger's profiles want of it counts again."""
    mine = ConfigurationKey.objects.select_for_update(no_key=True).filter(charge_point=charge_point)
    row = mine.filter(key__iexact=clean(key)).first()
    if row is None or row.wanted is None:
        return
    audit.record("configuration.withdrawn", charge_point, before={"key": row.key, "wanted": row.wanted, "by": row.wanted_by})
    row.wanted, row.wanted_by, row.state, row.attempts, row.next_try_at, row.error = None, "", State.REPORTED, 0, None, ""
    row.save()
    take_up([charge_point.pk], quirks.wishes(charge_point), now)


# -- what became of it -------------------------------------------------------------------------------------------------
def compare(row: ConfigurationKey, now: datetime, *, read_back: bool = False) -> None:
    """What was reported against what is wanted."""
    assert row.wanted is not None
    if not row.known:
        settle(row, State.NOT_SUPPORTED, now, "It does not know this key.")
    elif rule.same(row.wanted, row.value):
        settle(row, State.IN_STEP, now, row.error if row.error.startswith(SHORTENED) else "")
    elif row.readonly:
        settle(row, State.NOT_SUPPORTED, now, "It can only be read.")
    elif read_back and row.state == State.SENT:
        again(row, State.DIFFERS, now, "It accepted the value, and reads otherwise.")
    elif row.state == State.IN_STEP:  # it went back by itself, as at a reboot (Q137)
        settle(row, State.DUE, now, "It went back to another value.", next_try_at=now)


def settle(row: ConfigurationKey, state: str, now: datetime, error: str = "", *, next_try_at: datetime | None = None) -> None:
    row.state, row.error, row.next_try_at = state, error[:200], next_try_at
    if state in (State.IN_STEP, State.NOT_SUPPORTED):
        row.attempts = 0
    row.save(update_fields=["state", "error", "next_try_at", "attempts", "wanted"])
    bad = ConfigurationKey.objects.filter(charge_point_id=row.charge_point_id, attempts__gte=TELL_AFTER)
    if state == State.IN_STEP and not bad.exists():
        alerts.clear(row.charge_point_id, "configuration", now, by="it is as wanted")


def again(row: ConfigurationKey, state: str, now: datetime, error: str) -> None:
    """It did not work: later, ever more seldom."""
    row.attempts += 1
    row.state, row.error, row.next_try_at = state, error[:200], rule.next_try(row.attempts, now)
    row.save(update_fields=["state", "error", "next_try_at", "attempts"])
    if row.attempts >= TELL_AFTER and state != State.DUE:
        alerts.raise_alert(row.charge_point_id, "configuration", f"{row.key} cannot be set to {row.wanted}: {error}", now)


def change_answered(command: Command, now: datetime) -> None:
    """ChangeConfiguration was answered, whoever asked for it."""
    key, value = str(command.payload.get("key", "")), str(command.payload.get("value", ""))
    if value == MASK or is_secret(key):
        return
    mine = ConfigurationKey.objects.select_for_update(no_key=True, of=("self",)).select_related("charge_point")
    row = mine.filter(charge_point_id=command.charge_point_id, key__iexact=key).first()
    status = schemas.status_of(command.action, command.response)
    if row is None:
        if command.state in (CommandState.REJECTED, CommandState.ERROR) or not key:
            return
        row = ConfigurationKey.objects.create(charge_point_id=command.charge_point_id, key=rule.canonical(key)[: rule.MAX_KEY])
    wished = row.wanted is not None and command.trigger == SET and row.wanted == value
    if status == "RebootRequired":
        settle(row, State.REBOOT_REQUIRED, now, "It takes effect when the charger has restarted.", next_try_at=now + BUSY)
    elif status == "Accepted" or command.state == CommandState.UNKNOWN:
        _taken(row, value, command, now)
    elif not wished:
        return
    elif status == "NotSupported" or command.error.partition(":")[0] in ("NotSupported", "NotImplemented"):
        settle(row, State.NOT_SUPPORTED, now, "It does not support this key.")
    elif status == "Rejected" and (less := rule.shorter(row.key, value)) is not None:
        dropped = rule.parts(value)[-1]
        already = row.error.removeprefix(SHORTENED).rstrip(".") if row.error.startswith(SHORTENED) else ""
        row.wanted = less
        settle(row, State.DUE, now, f"{SHORTENED}{', '.join(part for part in (already, dropped) if part)}."[:200], next_try_at=now)
        audit.record("configuration.shortened", row.charge_point, before={"key": row.key, "wanted": value}, after={"wanted": less})
    else:
        again(row, State.REJECTED if status else State.DUE, now, command.error or "It rejected the value.")


def _taken(row: ConfigurationKey, value: str, command: Command, now: datetime) -> None:
    """Accepted is the charger's word; what it reads afterwards is the deed (Q137)."""
    if quirks.of(row.charge_point).read_back:
        if row.wanted is not None:
            settle(row, State.SENT, now, row.error if row.error.startswith(SHORTENED) else "", next_try_at=now + LOST)
        read_back(row, background=command.background)
        return
    row.value, row.known, row.reported_at = value[: rule.MAX_VALUE], True, now
    row.save(update_fields=["value", "known", "reported_at"])
    if row.wanted is not None:
        compare(row, now)


def change_ended(command: Command, now: datetime) -> None:
    """Not answered, or never sent: what we wished is tried again."""
    if command.trigger != SET:
        return
    mine = ConfigurationKey.objects.select_for_update(no_key=True).filter(charge_point_id=command.charge_point_id)
    row = mine.filter(key__iexact=command.payload["key"], state=State.SENT, wanted=command.payload["value"]).first()
    if row is None or command.answered_at is not None:
        return
    if command.sent_at is None:
        settle(row, State.DUE, now, "It was not there to be asked.", next_try_at=now + AWAY)
    elif command.state == CommandState.TIMEOUT:
        again(row, State.DUE, now, "It did not answer.")


def read_back(row: ConfigurationKey, *, background: bool) -> None:
    commands.request(row.charge_point, "GetConfiguration", {"key": [row.key]}, trigger=READ_BACK, expires_in_s=600, background=background)


def wait(row: ConfigurationKey, until: datetime) -> None:
    # Not `save`: `updated_at` says when it was answered.
    ConfigurationKey.objects.filter(pk=row.pk).update(next_try_at=until)
