"""What a charger's configuration is, and what it should be: read after the first boot of a firmware, set where somebody wants it
otherwise, read back, tried again ever more seldom. What is wanted and what is reported stand apart (csms/models/configuration.py).

Wishes come from quirk profiles (`take_up`) and from operators (`wish`, which a profile never overrules).
"""

import json
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Upper

from accounts import audit
from csms import alerts, calls, commands, quirks
from csms.frames import clean
from csms.models import ChargePoint, Command, CommandState, ConfigurationKey, Registration
from csms.rules import configuration as rule
from csms.rules.habits import Habits
from csms.rules.secrecy import is_secret
from voltaro.jobs import each

if TYPE_CHECKING:
    from csms.context import Context
    from csms.stations import Boot

State = ConfigurationKey.State
# Why a command of ours was asked.
FIRST, REST, ALL, READ_BACK, SET = (
    "configuration: first keys", "configuration: other keys", "configuration: everything", "configuration: read back", "configuration: set",
)  # fmt: skip
PROFILE = "profile: "
KEYS_A_CHARGER = 500
# While a charger is away, or is being asked other keys already.
AWAY, BUSY, LOST = timedelta(minutes=10), timedelta(seconds=30), timedelta(hours=1)
ASKED_AT_ONCE = 5
# A first reading that nobody waits for leaves the first minute to those who want to charge.
READ_AFTER_S = 60
# From so many failed attempts on a person is told.
TELL_AFTER = 4
_DUE = (State.DUE, State.SENT, State.REJECTED, State.DIFFERS, State.REBOOT_REQUIRED)


# -- when a charger has booted -----------------------------------------------------------------------------------------
def booted(context: "Context", boot: "Boot", now: datetime) -> None:
    """After a boot that told something new: a new firmware is to be read, and everything wanted is tried again with it."""
    pk, known = context.charge_point_pk, boot.learned.get("configuration") or {}
    if known.get("asked_of") == boot.firmware:
        return
    charge_point = ChargePoint.objects.get(pk=pk)
    wishes = quirks.wishes(charge_point)
    start = now + timedelta(seconds=10 + 2 * context.habits.settle_s)
    take_up([pk], wishes, start, again=True)
    tried = ConfigurationKey.objects.filter(charge_point_id=pk, wanted__isnull=False)
    tried.update(state=State.DUE, attempts=0, next_try_at=start, error="", reported_at=None, updated_at=now)
    quirks.learn(pk, configuration={**known, "asked_of": boot.firmware})
    hurry = bool(wishes) or context.habits.pending_first
    to_be_read(pk, now if hurry else now + timedelta(seconds=READ_AFTER_S * (1 + random.random())), now)  # noqa: S311 - a spread


def to_be_read(charge_point_pk: int, at: datetime, now: datetime) -> None:
    """The worker reads it then: a row that is due and of which nothing is wanted says so."""
    ConfigurationKey.objects.update_or_create(
        charge_point_id=charge_point_pk,
        key=rule.FIRST_KEYS[0],
        defaults={"state": State.DUE, "attempts": 0, "next_try_at": at, "wanted": None, "wanted_by": "", "error": ""},
    )


def outstanding(charge_point_pk: int) -> bool:
    """Whether something of its configuration is still being asked, or waits for its first attempt."""
    asked = Command.objects.filter(charge_point_id=charge_point_pk, state__in=commands.OPEN, action__in=calls_of_ours())
    waits = ConfigurationKey.objects.filter(charge_point_id=charge_point_pk, state__in=(State.DUE, State.SENT), attempts=0)
    return asked.exists() or waits.exists()


def calls_of_ours() -> tuple[str, str]:
    return "GetConfiguration", "ChangeConfiguration"


# -- reading -----------------------------------------------------------------------------------------------------------
def read(
    charge_point: ChargePoint,
    habits: Habits,
    *,
    everything: bool = False,
    by: str = "",
) -> Command:
    """Read what it has: first the few keys that say how many it takes at once, then (`read_answered`) the others in portions.

    `everything` asks without naming keys, which shows a vendor's own; some chargers answer that with silence (Q136).
    """
    size = habits.configuration_chunk
    payload = {} if everything or size == 0 else {"key": list(rule.FIRST_KEYS[:size])}
    return commands.request(
        charge_point,
        "GetConfiguration",
        payload,
        trigger=FIRST if payload else ALL,
        expires_in_s=900,
        requested_by=by,
        background=not by,
    )


def read_answered(command: Command, now: datetime) -> None:
    """GetConfiguration was answered: keep it, and ask for the rest after the first keys."""
    if command.state == CommandState.ERROR or command.response is None:
        return read_failed(command, now) if command.trigger in (FIRST, ALL) else read_ended(command, now)
    asked = command.payload.get("key") or []
    store(command.charge_point_id, command.response, asked, now, read_back=command.trigger == READ_BACK)
    if command.trigger in (FIRST, ALL):
        waits = ConfigurationKey.objects.filter(charge_point_id=command.charge_point_id, key=rule.FIRST_KEYS[0], wanted__isnull=True)
        waits.exclude(state=State.REPORTED).update(state=State.REPORTED, attempts=0, next_try_at=None)
        charge_point = ChargePoint.objects.get(pk=command.charge_point_id)
        _learn_read(charge_point, now)
        if command.trigger == FIRST:
            _read_rest(charge_point, command, asked)


def _learn_read(charge_point: ChargePoint, now: datetime) -> None:
    known = charge_point.learned.get("configuration") or {}
    quirks.learn(charge_point.pk, configuration={**known, "firmware": charge_point.firmware_version, "at": now.isoformat()})


def _read_rest(charge_point: ChargePoint, first: Command, asked: list[str]) -> None:
    rows = dict(ConfigurationKey.objects.filter(charge_point=charge_point).values_list("key", "value"))
    done = {key.lower() for key in asked}
    keys = [key for key in dict.fromkeys([*rule.STANDARD_KEYS, *rows]) if key.lower() not in done and not is_secret(key)]
    size = quirks.of(charge_point).configuration_chunk
    for number, portion in enumerate(rule.chunks(keys, size or len(keys), rows.get("GetConfigurationMaxKeys"))):
        commands.request(
            charge_point,
            "GetConfiguration",
            {"key": portion},
            trigger=REST,
            dedupe_key=f"command:{first.pk}:rest:{number}",
            expires_in_s=1800,
            requested_by=first.requested_by,
            background=True,
        )


_STORE = """
INSERT INTO csms_configurationkey AS mine (charge_point_id, key, value, readonly, known, reported_at, wanted_by, state, attempts, error,
  created_at, updated_at)
SELECT %(pk)s, key, value, readonly, known, %(now)s, '', 'reported', 0, '', %(now)s, %(now)s
FROM unnest(%(keys)s::text[], %(values)s::text[], %(readonly)s::boolean[], %(known)s::boolean[]) AS said (key, value, readonly, known)
ON CONFLICT (charge_point_id, upper(key)) DO UPDATE SET value = excluded.value, known = excluded.known, reported_at = excluded.reported_at,
  readonly = coalesce(excluded.readonly, mine.readonly), updated_at = excluded.updated_at"""


def store(charge_point_pk: int, response: dict[str, Any], asked: list[str], now: datetime, *, read_back: bool = False) -> int:
    """Keep an answer's keys; how many. Whatever it lacks is lived without; a secret's value is nobody's."""
    said = _said(response, asked)
    mine = ConfigurationKey.objects.filter(charge_point_id=charge_point_pk)
    have = {key.lower() for key in mine.values_list("key", flat=True)}
    room = KEYS_A_CHARGER - len(have)
    rows = {}
    for key, one in said.items():
        if key.lower() in have or (room := room - 1) >= 0:
            rows[key] = one
    if not rows:
        return 0
    told = {
        "pk": charge_point_pk,
        "now": now,
        "keys": list(rows),
        "values": [value for value, _, _ in rows.values()],
        "readonly": [readonly for _, readonly, _ in rows.values()],
        "known": [known for _, _, known in rows.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(_STORE, told)
    wished = mine.filter(wanted__isnull=False).annotate(upper=Upper("key")).filter(upper__in=[key.upper() for key in rows])
    for row in wished.select_for_update(no_key=True):
        _compare(row, now, read_back=read_back)
    plain = mine.filter(wanted__isnull=True).exclude(state=State.REPORTED).annotate(upper=Upper("key"))
    plain.filter(upper__in=[key.upper() for key in rows]).update(state=State.REPORTED, attempts=0, next_try_at=None, error="")
    return len(rows)


def _said(response: dict[str, Any], asked: list[str]) -> dict[str, tuple[str | None, bool | None, bool]]:
    """key -> (value, read-only, known) of an answer, however it is written (Q42, Q135)."""
    listed, unknown = response.get("configurationKey"), response.get("unknownKey")
    found: dict[str, tuple[str | None, bool | None, bool]] = {}
    named = {key.lower(): key for key in asked}
    for key in [unknown] if isinstance(unknown, str) else unknown if isinstance(unknown, list) else []:
        if isinstance(key, str) and key.strip().lower() in named:  # one that nobody asked for is nobody's
            found[named[key.strip().lower()]] = (None, None, False)
    for one in [listed] if isinstance(listed, dict) else listed if isinstance(listed, list) else []:
        key = one.get("key") if isinstance(one, dict) else None
        if not isinstance(key, str) or not (key := clean(key).strip()[: rule.MAX_KEY]):
            continue
        value, readonly = one.get("value"), one.get("readonly")
        text = value if isinstance(value, str) or value is None else json.dumps(value)
        text = None if text is None or is_secret(key) else clean(text)[: rule.MAX_VALUE]
        key = named.get(key.lower()) or rule.canonical(key)
        found = {name: row for name, row in found.items() if name.lower() != key.lower()}
        found[key] = (text, str(readonly).strip().lower() in ("true", "1") if readonly is not None else None, True)
    return found


def _compare(row: ConfigurationKey, now: datetime, *, read_back: bool = False) -> None:
    """What was reported against what is wanted."""
    assert row.wanted is not None
    if not row.known:
        _settle(row, State.NOT_SUPPORTED, now, "It does not know this key.")
    elif rule.same(row.wanted, row.value):
        _settle(row, State.IN_STEP, now, row.error if row.error.startswith(_SHORTENED) else "")
    elif row.readonly:
        _settle(row, State.NOT_SUPPORTED, now, "It can only be read.")
    elif read_back and row.state == State.SENT:
        _again(row, State.DIFFERS, now, "It accepted the value, and reads otherwise.")
    elif row.state == State.IN_STEP:  # it went back by itself, as at a reboot (Q137)
        _settle(row, State.DUE, now, "It went back to another value.", next_try_at=now)


def _settle(row: ConfigurationKey, state: str, now: datetime, error: str = "", *, next_try_at: datetime | None = None) -> None:
    row.state, row.error, row.next_try_at = state, error[:200], next_try_at
    if state in (State.IN_STEP, State.NOT_SUPPORTED):
        row.attempts = 0
    row.save(update_fields=["state", "error", "next_try_at", "attempts", "wanted"])
    bad = ConfigurationKey.objects.filter(charge_point_id=row.charge_point_id, attempts__gte=TELL_AFTER)
    if state == State.IN_STEP and not bad.exists():
        alerts.clear(row.charge_point_id, "configuration", now, by="it is as wanted")


def _again(row: ConfigurationKey, state: str, now: datetime, error: str) -> None:
    """It did not work: later, ever more seldom."""
    row.attempts += 1
    row.state, row.error, row.next_try_at = state, error[:200], rule.next_try(row.attempts, now)
    row.save(update_fields=["state", "error", "next_try_at", "attempts"])
    if row.attempts >= TELL_AFTER and state != State.DUE:
        alerts.raise_alert(row.charge_point_id, "configuration", f"{row.key} cannot be set to {row.wanted}: {error}", now)


# -- wishes ------------------------------------------------------------------------------------------------------------
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


@transaction.atomic
def wish(charge_point: ChargePoint, key: str, value: str, *, by: str, now: datetime) -> ConfigurationKey:
    """An operator wants this key of this charger to be so. Raises ValidationError with a sentence."""
    key = rule.canonical(clean(key).strip())
    if not key or len(key) > rule.MAX_KEY:
        raise ValidationError(f"A key has 1 to {rule.MAX_KEY} characters.")
    if is_secret(key) or key.lower() == "securityprofile":
        raise ValidationError(f"{key} is changed on the charger's security page, so that it cannot lock itself out.")
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
    row = ConfigurationKey.objects.select_for_update(no_key=True).filter(charge_point=charge_point, key__iexact=key).first()
    if row is None or row.wanted is None:
        return
    audit.record("configuration.withdrawn", charge_point, before={"key": row.key, "wanted": row.wanted, "by": row.wanted_by})
    row.wanted, row.wanted_by, row.state, row.attempts, row.next_try_at, row.error = None, "", State.REPORTED, 0, None, ""
    row.save()
    take_up([charge_point.pk], quirks.wishes(charge_point), now)


# -- setting ----------------------------------------------------------------------------------------------------------
def due(now: datetime) -> QuerySet[ConfigurationKey]:
    """Keys to be set, or set again, or read again after a reboot."""
    return ConfigurationKey.objects.filter(state__in=_DUE, next_try_at__lte=now).order_by("next_try_at")


def apply_due(now: datetime, limit: int) -> int:
    """Ask for what is due; a charger that is away is looked at again in a while."""

    @transaction.atomic
    def apply(pk: int) -> bool:
        row = due(now).select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("charge_point").filter(pk=pk).first()
        if row is not None:
            _apply(row, now)
        return row is not None

    return each(list(due(now).values_list("pk", flat=True)[:limit]), apply, "configuration key")


def _apply(row: ConfigurationKey, now: datetime) -> None:
    charge_point = row.charge_point
    habits = quirks.of(charge_point)
    if not charge_point.online or charge_point.blocked or charge_point.unclaimed or charge_point.registration == Registration.REJECTED:
        return _wait(row, now + AWAY)
    asked = Command.objects.filter(charge_point=charge_point, state__in=commands.OPEN, action__in=calls_of_ours()).count()
    if asked >= ASKED_AT_ONCE:
        return _wait(row, now + BUSY)
    if row.state == State.REBOOT_REQUIRED:
        if charge_point.last_boot is None or charge_point.last_boot <= row.updated_at:
            return _wait(row, now + AWAY)
        row.state = State.SENT
        _read_back(row, background=True)
        return _settle(row, State.SENT, now, next_try_at=now + LOST)
    if row.state == State.SENT:
        return _again(row, State.DUE, now, "Its answer was lost.")
    if row.wanted is None:
        if row.attempts >= TELL_AFTER or "GetConfiguration" in habits.commands_unsupported:
            return _settle(row, State.REPORTED, now, "It does not say what its configuration is." if row.attempts else "")
        read(charge_point, habits)
        return _settle(row, State.SENT, now, next_try_at=now + LOST)
    if row.reported_at is not None and row.state == State.DUE and rule.same(row.wanted, row.value):
        return _settle(row, State.IN_STEP, now)
    if "ChangeConfiguration" in habits.commands_unsupported:
        return _settle(row, State.NOT_SUPPORTED, now, "Its quirk profile says that it takes no ChangeConfiguration.")
    commands.request(
        charge_point,
        "ChangeConfiguration",
        {"key": row.key, "value": row.wanted},
        trigger=SET,
        expires_in_s=600,
        requested_by=row.wanted_by,
        background=True,
    )
    _settle(row, State.SENT, now, row.error if row.error.startswith(_SHORTENED) else "", next_try_at=now + LOST)


def _wait(row: ConfigurationKey, until: datetime) -> None:
    # Not `save`: `updated_at` says when it was answered.
    ConfigurationKey.objects.filter(pk=row.pk).update(next_try_at=until)


def _read_back(row: ConfigurationKey, *, background: bool) -> None:
    commands.request(row.charge_point, "GetConfiguration", {"key": [row.key]}, trigger=READ_BACK, expires_in_s=600, background=background)


def change_answered(command: Command, now: datetime) -> None:
    """ChangeConfiguration was answered, whoever asked for it."""
    key, value = str(command.payload.get("key", "")), str(command.payload.get("value", ""))
    if is_secret(key):
        return
    mine = ConfigurationKey.objects.select_for_update(no_key=True, of=("self",)).select_related("charge_point")
    row = mine.filter(charge_point_id=command.charge_point_id, key__iexact=key).first()
    status = calls.status_of(command.action, command.response)
    if row is None:
        if command.state in (CommandState.REJECTED, CommandState.ERROR) or not key:
            return
        row = ConfigurationKey.objects.create(charge_point_id=command.charge_point_id, key=rule.canonical(key)[: rule.MAX_KEY])
    wished = row.wanted is not None and command.trigger == SET and row.wanted == value
    if status == "RebootRequired":
        _settle(row, State.REBOOT_REQUIRED, now, "It takes effect when the charger has restarted.", next_try_at=now + BUSY)
    elif status == "Accepted" or command.state == CommandState.UNKNOWN:
        _taken(row, value, command, now)
    elif not wished:
        return
    elif status == "NotSupported" or command.error.partition(":")[0] in ("NotSupported", "NotImplemented"):
        _settle(row, State.NOT_SUPPORTED, now, "It does not support this key.")
    elif status == "Rejected" and (less := rule.shorter(row.key, value)) is not None:
        dropped = rule.parts(value)[-1]
        already = row.error.removeprefix(_SHORTENED).rstrip(".") if row.error.startswith(_SHORTENED) else ""
        row.wanted = less
        _settle(row, State.DUE, now, f"{_SHORTENED}{', '.join(part for part in (already, dropped) if part)}."[:200], next_try_at=now)
        audit.record("configuration.shortened", row.charge_point, before={"key": row.key, "wanted": value}, after={"wanted": less})
    else:
        _again(row, State.REJECTED if status else State.DUE, now, command.error or "It rejected the value.")


_SHORTENED = "It rejected the list with "


def _taken(row: ConfigurationKey, value: str, command: Command, now: datetime) -> None:
    """Accepted is the charger's word; what it reads afterwards is the deed (Q137)."""
    if quirks.of(row.charge_point).read_back:
        if row.wanted is not None:
            _settle(row, State.SENT, now, row.error if row.error.startswith(_SHORTENED) else "", next_try_at=now + LOST)
        _read_back(row, background=command.background)
        return
    row.value, row.known, row.reported_at = value[: rule.MAX_VALUE], True, now
    row.save(update_fields=["value", "known", "reported_at"])
    if row.wanted is not None:
        _compare(row, now)


def change_ended(command: Command, now: datetime) -> None:
    """Not answered, or never sent: what we wished is tried again."""
    if command.trigger != SET:
        return
    mine = ConfigurationKey.objects.select_for_update(no_key=True).filter(charge_point_id=command.charge_point_id)
    row = mine.filter(key__iexact=command.payload["key"], state=State.SENT, wanted=command.payload["value"]).first()
    if row is None or command.answered_at is not None:
        return
    if command.sent_at is None:
        _settle(row, State.DUE, now, "It was not there to be asked.", next_try_at=now + AWAY)
    elif command.state == CommandState.TIMEOUT:
        _again(row, State.DUE, now, "It did not answer.")


def read_ended(command: Command, now: datetime) -> None:
    """Not answered. What was accepted is set again; a reading is tried again."""
    if command.trigger not in (READ_BACK, FIRST, ALL) or (command.answered_at is not None and not command.error):
        return
    keys = [str(key).upper() for key in command.payload.get("key") or rule.FIRST_KEYS]
    rows = ConfigurationKey.objects.annotate(upper=Upper("key")).filter(charge_point_id=command.charge_point_id, upper__in=keys)
    for row in rows.filter(state=State.SENT).select_for_update(no_key=True):
        _again(row, State.DUE, now, "It was accepted, and could not be read back." if row.wanted else "It did not answer.")


def read_failed(command: Command, now: datetime) -> None:
    """Answered with an error: it does not know the call, or not these keys."""
    rows = ConfigurationKey.objects.filter(charge_point_id=command.charge_point_id, wanted__isnull=True, state=State.SENT)
    for row in rows.select_for_update(no_key=True):
        if command.error.partition(":")[0] in ("NotSupported", "NotImplemented"):
            _settle(row, State.REPORTED, now, "It takes no GetConfiguration.")
        else:
            _again(row, State.DUE, now, command.error)
