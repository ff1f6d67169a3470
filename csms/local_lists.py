"""Local authorization lists: the tags a charger may start without asking us, kept in step per charger.

What is wanted and what the charger reports stand apart on the row (csms/models/local_list.py). One step at a time: ask its
version after each connect, compare, send what differs, wait for the answer. Off for every charger until somebody switches it on.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import audit
from csms import alerts, commands, quirks
from csms.models import ChargePoint, Command, CommandState, ConfigurationKey, IdTag, LocalList, Registration
from csms.rules import local_list as rule
from csms.rules import tag as tags
from csms.rules.local_list import Entries
from voltaro import clock
from voltaro.jobs import each, ring

State = LocalList.State
ACTIONS = ("GetLocalListVersion", "SendLocalList")
# So many chargers are sent something in one run of the worker, however many are due.
SENDS = 20
# A list in step is compared anew after so long, one that is not supported is tried again.
COMPARE_S, TRY_AGAIN_S = 6 * 3600, 7 * 86_400
# When an answer, or a charger that is away, is looked for again; its answer and its next connect come first.
LOOK_AGAIN_S, AWAY_S = 180, 3600
ALERT_AFTER = 3
MOST_ENTRIES = 5_000
ENTRY_BYTES, FRAME_BYTES = 110, 200


# -- switches ---------------------------------------------------------------------------------------------------------
@transaction.atomic
def switch_on(charge_points: Iterable[ChargePoint], *, trigger: str = "console") -> int:
    """Keep the lists of these chargers in step from now on; for one that is on already: try again at once."""
    done, now = 0, clock.now()
    for charge_point in charge_points:
        row, _ = LocalList.objects.select_for_update(no_key=True, of=("self",)).get_or_create(
            charge_point=charge_point, defaults={"enabled": False}
        )
        if not row.enabled:
            audit.record("local_list.on", charge_point, trigger=trigger)
            done += 1
        row.enabled, row.state, row.error, row.attempts = True, State.DUE, "", 0
        row.reported_at, row.next_try_at = None, now
        row.save()
    ring("list.due")
    return done


@transaction.atomic
def switch_off(charge_points: Iterable[ChargePoint], *, trigger: str = "console") -> int:
    """Leave the lists of these chargers alone, emptied: a card blocked later must not go on starting there."""
    done = 0
    rows = LocalList.objects.select_for_update(no_key=True, of=("self",)).select_related("charge_point")
    for row in rows.filter(charge_point__in=list(charge_points), enabled=True):
        row.enabled, row.next_try_at = False, None
        row.save()
        if row.sent_entries or (row.sent_version is None and (row.reported_version or 0) > 0):
            version = max(row.sent_version or 0, row.reported_version or 0) + 1
            empty = {"listVersion": version, "updateType": "Full", "localAuthorizationList": []}
            commands.request(row.charge_point, "SendLocalList", empty, trigger="switched_off", background=True, expires_in_s=86_400)
        audit.record("local_list.off", row.charge_point, trigger=trigger)
        done += 1
    return done


def tags_changed(company_ids: Iterable[int | None] | None = None) -> None:
    """Tags were added, changed or blocked: compare the lists again. `company_ids`: whose tags (None among them: everybody's)."""
    rows = LocalList.objects.filter(enabled=True, state__in=[State.IN_STEP, State.DUE, State.SENDING])
    if company_ids is not None and None not in (ids := set(company_ids)):
        related = Q(charge_point__company__in=ids) | Q(charge_point__company__parent__in=ids) | Q(charge_point__company__children__in=ids)
        rows = rows.filter(pk__in=LocalList.objects.filter(related).values("pk"))
    now = clock.now()
    if rows.filter(next_try_at__gt=now).exclude(state=State.SENDING).update(next_try_at=now):
        ring("list.due")


# -- what belongs on a list -------------------------------------------------------------------------------------------
def cards(charge_point: ChargePoint, now: datetime) -> QuerySet[IdTag]:
    """The tags that may start there: of its company, of those above and below it, and of nobody in particular."""
    company = charge_point.company
    family = Q(company__isnull=True) | Q(company__in=[company.pk, *filter(None, [company.parent_id])]) | Q(company__parent=company.pk)
    alive = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    return IdTag.objects.filter(family, alive, kind=IdTag.Kind.RFID, state=IdTag.State.READY, source="own").order_by("-id")


def wanted(charge_point: ChargePoint, now: datetime, most: int = MOST_ENTRIES) -> tuple[Entries, datetime | None, bool]:
    """What its list should hold, as that charger says tags; when the first of them expires; whether some had no room."""
    form = quirks.of(charge_point).id_tag_form
    rows = list(cards(charge_point, now).values_list("tag", "parent", "expires_at")[: most + 1])
    entries = {tags.spoken(tag, form): tags.spoken(parent, form) if parent else "" for tag, parent, _ in rows[:most]}
    expiries = [at for _, _, at in rows[:most] if at is not None]
    return entries, min(expiries, default=None), len(rows) > most


def _limits(charge_point: ChargePoint) -> tuple[int, int]:
    """(entries in one message, entries in all), as its habits and its own configuration say."""
    habits = quirks.of(charge_point)
    named = Q(key__iexact="SendLocalListMaxLength") | Q(key__iexact="LocalAuthListMaxLength")
    rows = ConfigurationKey.objects.filter(named, charge_point=charge_point).values_list("key", "value")
    told = {key.lower(): int(value) for key, value in rows if value and value.strip().isdecimal() and len(value) < 9}
    at_once = min(habits.local_list_chunk or 40, told.get("sendlocallistmaxlength") or 10_000)
    if habits.max_frame_bytes:
        at_once = min(at_once, max(1, (habits.max_frame_bytes - FRAME_BYTES) // ENTRY_BYTES))
    return max(1, at_once), min(told.get("localauthlistmaxlength") or MOST_ENTRIES, MOST_ENTRIES)


# -- the worker ---------------------------------------------------------------------------------------------------------
def due(now: datetime) -> QuerySet[LocalList]:
    """Lists to look at now."""
    return LocalList.objects.filter(enabled=True, next_try_at__lte=now).order_by("next_try_at")


def sync_due(now: datetime, limit: int) -> int:
    """One step for each list that is due; chargers are asked SENDS at a time, the rest at the next beat."""
    asked = 0

    def step(pk: int) -> bool:
        nonlocal asked
        if asked >= SENDS:
            return False
        worked, sent = _step(pk, now)
        asked += sent
        return worked

    return each(list(due(now).values_list("pk", flat=True)[:limit]), step, "local list")


@transaction.atomic
def _step(pk: int, now: datetime) -> tuple[bool, bool]:
    """(worked on, something was asked of the charger)."""
    rows = due(now).select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("charge_point__company")
    row = rows.filter(pk=pk).first()
    if row is None:
        return False, False
    charge_point = row.charge_point
    if not charge_point.online or charge_point.registration != Registration.ACCEPTED:
        return _wait(row, now, AWAY_S), False
    if _open(charge_point):
        return _wait(row, now, LOOK_AGAIN_S), False
    if row.state == State.SENDING:  # what became of it was never said: the line was lost
        row.reported_at = None
    if row.reported_at is None or row.reported_version is None:
        _ask(row, "GetLocalListVersion", {}, now)
        return True, True
    return True, _compare(row, now)


def _compare(row: LocalList, now: datetime) -> bool:
    """Send what the charger lacks; whether something was."""
    at_once, in_all = _limits(row.charge_point)
    entries, expires_at, crowded = wanted(row.charge_point, now, in_all)
    row.wanted_digest = rule.digest(entries)
    update = rule.next_update(
        entries,
        sent=row.sent_entries,
        sent_version=row.sent_version,
        reported=row.reported_version or 0,
        most=rule.fewer(at_once, row.attempts),
    )
    if update is None:
        row.error = f"It holds {in_all} tags at most: the oldest are left out." if crowded else ""
        row.wanted_version = max(1, row.reported_version or 0)
        row.attempts = 0
        _become(row, State.IN_STEP, now, min(now + timedelta(seconds=COMPARE_S), expires_at or now + timedelta(days=1)))
        return False
    row.wanted_version = update.in_step_at
    _ask(row, "SendLocalList", update.payload, now)
    return True


def _ask(row: LocalList, action: str, payload: dict[str, Any], now: datetime) -> None:
    commands.request(row.charge_point, action, payload, trigger="local_list", background=True, expires_in_s=600)
    row.next_try_at = now + timedelta(seconds=LOOK_AGAIN_S)
    if action == "SendLocalList":
        row.state = State.SENDING
    row.save()


def _wait(row: LocalList, now: datetime, seconds: float) -> bool:
    row.next_try_at = now + timedelta(seconds=seconds)
    row.save(update_fields=["next_try_at"])
    return True


def _open(charge_point: ChargePoint) -> bool:
    mine = Command.objects.filter(charge_point=charge_point, action__in=ACTIONS).order_by()
    return mine.filter(state=CommandState.QUEUED).exists() or mine.filter(state=CommandState.SENT, epoch=charge_point.epoch).exists()


# -- what the charger answers -----------------------------------------------------------------------------------------
def version_answered(command: Command, now: datetime) -> None:
    """GetLocalListVersion: -1 says that it has no lists, 0 that its list is empty."""
    row = _locked(command.charge_point_id)
    if row is None:
        return
    version = (command.response or {}).get("listVersion")
    if _unknown_call(command) or (isinstance(version, int) and not isinstance(version, bool) and version < 0):
        _unsupported(row, command.error or "The charger says it has no local lists (version -1).", now)
    elif command.error or not isinstance(version, int) or isinstance(version, bool):
        _failed(row, command.error or "It answered without a version.", now)
    else:
        row.reported_version, row.reported_at = version, now
        _soon(row, now)


def sent_answered(command: Command, now: datetime) -> None:
    """SendLocalList: accepted, or why not. After Failed or VersionMismatch only a full list will do (R28)."""
    row = _locked(command.charge_point_id)
    if row is None:
        return
    status = str((command.response or {}).get("status") or "")
    if _unknown_call(command) or status == "NotSupported":
        _unsupported(row, command.error or "NotSupported", now)
    elif status == "Accepted" and not command.error:
        version = int(command.payload.get("listVersion") or 0)
        row.sent_entries, row.sent_version = rule.after(command.payload, row.sent_entries), version
        row.reported_version, row.reported_at = version, now
        row.attempts, row.error = 0, ""
        if row.state == State.SENDING:
            row.state = State.DUE
        alerts.clear(row.charge_point_id, "local_list", now)
        _soon(row, now)
    else:
        row.sent_version, row.sent_entries = None, {}
        if status == "VersionMismatch":
            row.reported_at = None
        _failed(row, command.error or status or "It answered without a status.", now)


def ended(command: Command, now: datetime) -> None:
    """Either call went unanswered. Unsent: its next connect wakes us. Sent: who knows; its version is asked first."""
    row = _locked(command.charge_point_id)
    if row is None:
        return
    if command.sent_at is None:
        _wait(row, now, AWAY_S)
    elif command.state == CommandState.TIMEOUT:
        row.reported_at = None
        if command.action == "SendLocalList":
            row.sent_version = None
        _failed(row, f"{command.action}: no answer", now)


def conflict(charge_point_pk: int, now: datetime) -> None:
    """The charger reports LocalListConflict: what we told it of a tag is not what its list says. A full list sets it right."""
    alerts.raise_alert(charge_point_pk, "local_list", "The charger reports LocalListConflict.", now)
    row = _locked(charge_point_pk)
    if row is not None and row.enabled and row.state != State.UNSUPPORTED:
        row.sent_version, row.error = None, "LocalListConflict"
        row.next_try_at = now + timedelta(seconds=60)  # some say it over and over
        if row.state == State.IN_STEP:
            row.state = State.DUE
        row.save()


def _locked(charge_point_pk: int) -> LocalList | None:
    return LocalList.objects.select_for_update(no_key=True, of=("self",)).filter(charge_point=charge_point_pk).first()


def _unknown_call(command: Command) -> bool:
    return command.error.partition(":")[0] in ("NotSupported", "NotImplemented")


def _soon(row: LocalList, now: datetime) -> None:
    if row.enabled:
        row.next_try_at = now
        ring("list.due")
    row.save()


def _unsupported(row: LocalList, why: str, now: datetime) -> None:
    row.error, row.attempts = why[:200], 0
    alerts.clear(row.charge_point_id, "local_list", now)
    _become(row, State.UNSUPPORTED, now, now + timedelta(seconds=TRY_AGAIN_S))


def _failed(row: LocalList, why: str, now: datetime) -> None:
    row.attempts += 1
    row.error = why[:200]
    if row.attempts >= ALERT_AFTER:
        alerts.raise_alert(row.charge_point_id, "local_list", f"Not accepted {row.attempts} times: {why}", now)
    wait_s = rule.back_off_s(row.attempts)
    _become(row, State.FAILED if wait_s else State.DUE, now, now + timedelta(seconds=wait_s))
    if not wait_s:
        ring("list.due")


def _become(row: LocalList, state: str, now: datetime, look_at: datetime) -> None:
    before, row.state = row.state, state
    row.next_try_at = look_at if row.enabled else None
    row.save()
    if state != before and {state, before} != {State.IN_STEP, State.SENDING}:
        facts = {"version": row.reported_version, "tags": len(row.sent_entries)}
        audit.record(f"local_list.{state}", row.charge_point, trigger=row.error[:80], after=facts)
