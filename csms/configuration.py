"""What a charger's configuration is: read after the first boot of a firmware, and whenever somebody asks. And the worker that asks
for what is due: keys to be set, or set again, or read again.

What is wanted of it is in csms/wishes.py; what is wanted and what is reported stand apart (csms/models/configuration.py).
"""

import json
import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Upper

from csms import commands, quirks, wishes
from csms.events import Booted
from csms.frames import clean
from csms.models import ChargePoint, Command, CommandState, ConfigurationKey, Registration
from csms.rules import configuration as rule
from csms.rules.habits import Habits
from csms.rules.secrecy import MASK, is_secret
from voltaro.jobs import each

if TYPE_CHECKING:
    from csms.context import Context
    from csms.stations import Boot

State = ConfigurationKey.State
# Why a command of ours was asked.
FIRST, REST, ALL = "configuration: first keys", "configuration: other keys", "configuration: everything"
CALLS = ("GetConfiguration", "ChangeConfiguration")
ASKED_AT_ONCE = 5
# Of so many keys a person may ask at once: each portion of them is a call.
NAMED_AT_MOST = 100
# A first reading that nobody waits for leaves the first minute to those who want to charge.
READ_AFTER_S = 60
_DUE = (State.DUE, State.SENT, State.REJECTED, State.DIFFERS, State.REBOOT_REQUIRED)


# -- when a charger has booted -----------------------------------------------------------------------------------------
def booted(context: "Context", boot: "Boot", said: Booted, now: datetime) -> None:
    """After a boot that told something new: a new firmware is to be read, and everything wanted is tried again with it."""
    pk, known = context.charge_point_pk, boot.learned.get("configuration") or {}
    if known.get("asked_of") == boot.firmware:
        return
    wanted = quirks.wishes(
        ChargePoint(
            vendor=said.vendor,
            model=said.model,
            firmware_version=boot.firmware,
            quirk_profile_id=context.quirk_profile_pk,
            quirk_settings=context.quirk_settings,
        )
    )
    start = now + timedelta(seconds=10 + 2 * context.habits.settle_s)
    if wanted or known:
        wishes.take_up([pk], wanted, start, again=True)
    hurry = bool(wanted) or context.habits.pending_first
    told = {
        "pk": pk,
        "now": now,
        "start": start,
        "learned": json.dumps({"configuration": {**known, "asked_of": boot.firmware}}),
        "first": rule.FIRST_KEYS[0],
        "at": now if hurry else now + timedelta(seconds=READ_AFTER_S * (1 + random.random())),  # noqa: S311 - a spread
    }
    with connection.cursor() as cursor:
        cursor.execute(_TO_BE_READ, told)


# The worker reads it then: a row that is due and of which nothing is wanted says so. What is wanted is tried again with it.
_TO_BE_READ = """
WITH learnt AS (
  UPDATE csms_chargepoint SET learned = learned || %(learned)s::jsonb WHERE id = %(pk)s
), tried AS (
  UPDATE csms_configurationkey
  SET state = 'due', attempts = 0, next_try_at = %(start)s, error = '', reported_at = NULL, updated_at = %(now)s
  WHERE charge_point_id = %(pk)s AND wanted IS NOT NULL AND upper(key) <> upper(%(first)s)
)
INSERT INTO csms_configurationkey AS mine
  (charge_point_id, key, known, wanted_by, state, attempts, next_try_at, error, created_at, updated_at)
VALUES (%(pk)s, %(first)s, true, '', 'due', 0, %(at)s, '', %(now)s, %(now)s)
ON CONFLICT (charge_point_id, upper(key)) DO UPDATE SET wanted = NULL, wanted_by = '', state = 'due', attempts = 0,
  next_try_at = excluded.next_try_at, error = '', updated_at = excluded.updated_at"""


def outstanding(charge_point_pk: int) -> bool:
    """Whether something of its configuration is still being asked, or waits for its first attempt."""
    asked = Command.objects.filter(charge_point_id=charge_point_pk, state__in=commands.OPEN, action__in=CALLS)
    waits = ConfigurationKey.objects.filter(charge_point_id=charge_point_pk, state__in=(State.DUE, State.SENT), attempts=0)
    return asked.exists() or waits.exists()


# -- reading -----------------------------------------------------------------------------------------------------------
def read(charge_point: ChargePoint, habits: Habits, *, everything: bool = False, by: str = "") -> Command:
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


def asked(charge_point: ChargePoint, payload: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    """A person names keys: no more in one call than GetConfigurationMaxKeys says (§9.1), or else its habits."""
    keys = payload.get("key") or []
    if len(keys) > NAMED_AT_MOST:
        raise ValidationError(f"key: {len(keys)} keys are too many at once: {NAMED_AT_MOST} at most. Without any, all are read.")
    most = ConfigurationKey.objects.filter(charge_point=charge_point, key="GetConfigurationMaxKeys").values_list("value", flat=True).first()
    size = len(keys) if rule.number(most) else quirks.of(charge_point).configuration_chunk or len(keys)
    return [{"key": portion} for portion in rule.chunks(keys, size, most)] or [payload]


def read_answered(command: Command, now: datetime) -> None:
    """GetConfiguration was answered: keep it, and ask for the rest after the first keys."""
    if command.state == CommandState.ERROR or command.response is None:
        return read_failed(command, now) if command.trigger in (FIRST, ALL) else read_ended(command, now)
    asked = command.payload.get("key") or []
    store(command.charge_point_id, command.response, asked, now, read_back=command.trigger == wishes.READ_BACK)
    if command.trigger in (FIRST, ALL):
        waits = ConfigurationKey.objects.filter(charge_point_id=command.charge_point_id, key=rule.FIRST_KEYS[0], wanted__isnull=True)
        waits.exclude(state=State.REPORTED).update(state=State.REPORTED, attempts=0, next_try_at=None)
        charge_point = ChargePoint.objects.get(pk=command.charge_point_id)
        _learn_read(charge_point, now)
        if command.trigger == FIRST:
            _read_rest(charge_point, command, asked)


def read_ended(command: Command, now: datetime) -> None:
    """Not answered. What was accepted is set again; a reading is tried again."""
    if command.trigger not in (wishes.READ_BACK, FIRST, ALL) or (command.answered_at is not None and not command.error):
        return
    keys = [str(key).upper() for key in command.payload.get("key") or rule.FIRST_KEYS]
    rows = ConfigurationKey.objects.annotate(upper=Upper("key")).filter(charge_point_id=command.charge_point_id, upper__in=keys)
    for row in rows.filter(state=State.SENT).select_for_update(no_key=True):
        wishes.again(row, State.DUE, now, "It was accepted, and could not be read back." if row.wanted else "It did not answer.")


def read_failed(command: Command, now: datetime) -> None:
    """Answered with an error: it does not know the call, or not these keys."""
    rows = ConfigurationKey.objects.filter(charge_point_id=command.charge_point_id, wanted__isnull=True, state=State.SENT)
    for row in rows.select_for_update(no_key=True):
        if command.error.partition(":")[0] in ("NotSupported", "NotImplemented"):
            wishes.settle(row, State.REPORTED, now, "It takes no GetConfiguration.")
        else:
            wishes.again(row, State.DUE, now, command.error)


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
    room = wishes.KEYS_A_CHARGER - len(have)
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
        wishes.compare(row, now, read_back=read_back)
    plain = mine.filter(wanted__isnull=True).exclude(state=State.REPORTED).annotate(upper=Upper("key"))
    plain.filter(upper__in=[key.upper() for key in rows]).update(state=State.REPORTED, attempts=0, next_try_at=None, error="")
    return len(rows)


def _said(response: dict[str, Any], asked: list[str]) -> dict[str, tuple[str | None, bool | None, bool]]:
    """key -> (value, read-only, known) of an answer, however it is written (Q42, Q135)."""
    listed, unknown = response.get("configurationKey"), response.get("unknownKey")
    found: dict[str, tuple[str, tuple[str | None, bool | None, bool]]] = {}
    named = {key.lower(): key for key in asked}
    for key in [unknown] if isinstance(unknown, str) else unknown if isinstance(unknown, list) else []:
        if isinstance(key, str) and (lower := key.strip().lower()) in named:  # one that nobody asked for is nobody's
            found[lower] = named[lower], (None, None, False)
    for one in [listed] if isinstance(listed, dict) else listed if isinstance(listed, list) else []:
        key = one.get("key") if isinstance(one, dict) else None
        if not isinstance(key, str) or not (key := clean(key).strip()[: rule.MAX_KEY]):
            continue
        value, readonly = one.get("value"), one.get("readonly")
        text = value if isinstance(value, str) or value is None else json.dumps(value)
        text = None if text in (None, MASK) or is_secret(key) else clean(text)[: rule.MAX_VALUE]
        flag = None if readonly is None else str(readonly).strip().lower() in ("true", "1")
        found[key.lower()] = named.get(key.lower()) or rule.canonical(key), (text, flag, True)
    return dict(found.values())


# -- asking ----------------------------------------------------------------------------------------------------------
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
        return wishes.wait(row, now + wishes.AWAY)
    asked = Command.objects.filter(charge_point=charge_point, state__in=commands.OPEN, action__in=CALLS).count()
    if asked >= ASKED_AT_ONCE:
        return wishes.wait(row, now + wishes.BUSY)
    if row.state == State.REBOOT_REQUIRED:
        if charge_point.last_boot is None or charge_point.last_boot <= row.updated_at:
            return wishes.wait(row, now + wishes.AWAY)
        row.state = State.SENT
        wishes.read_back(row, background=True)
        return wishes.settle(row, State.SENT, now, next_try_at=now + wishes.LOST)
    if row.state == State.SENT:
        return wishes.again(row, State.DUE, now, "Its answer was lost.")
    if row.wanted is None:
        if row.attempts >= wishes.TELL_AFTER or "GetConfiguration" in habits.commands_unsupported:
            return wishes.settle(row, State.REPORTED, now, "It does not say what its configuration is." if row.attempts else "")
        read(charge_point, habits)
        return wishes.settle(row, State.SENT, now, next_try_at=now + wishes.LOST)
    if _still_reading(charge_point):
        return wishes.wait(row, now + wishes.BUSY)
    if row.reported_at is not None and row.state == State.DUE and rule.same(row.wanted, row.value):
        return wishes.settle(row, State.IN_STEP, now)
    if "ChangeConfiguration" in habits.commands_unsupported:
        return wishes.settle(row, State.NOT_SUPPORTED, now, "Its quirk profile says that it takes no ChangeConfiguration.")
    commands.request(
        charge_point,
        "ChangeConfiguration",
        {"key": row.key, "value": row.wanted},
        trigger=wishes.SET,
        expires_in_s=600,
        requested_by=row.wanted_by,
        background=True,
    )
    wishes.settle(row, State.SENT, now, row.error if row.error.startswith(wishes.SHORTENED) else "", next_try_at=now + wishes.LOST)


def _still_reading(charge_point: ChargePoint) -> bool:
    """What it has may already be what is wanted: look first."""
    first = ConfigurationKey.objects.filter(charge_point=charge_point, key=rule.FIRST_KEYS[0], wanted__isnull=True, attempts=0)
    others = Command.objects.filter(charge_point=charge_point, state__in=commands.OPEN, trigger=REST)
    return first.filter(state__in=(State.DUE, State.SENT)).exists() or others.exists()
