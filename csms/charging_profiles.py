"""Charging profiles: limits the operator (or we) want a charger to keep to, sent so that it takes them.

A row is what is wanted and what became of it. `due` sends what is wanted, one profile a charger at a time and not too
often; a newer wish for the same place takes the older one's. A charger that refuses a form is offered the next
(csms/rules/profile.py: ways), and what it took is remembered for its firmware.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from accounts import audit
from csms import calls, commands, quirks
from csms.models import ChargePoint, ChargingProfile, ChargingSession, Command, CommandState, ConfigurationKey, Registration, SessionState
from csms.models.station import ConnectorType
from csms.numbers import next_request_id
from csms.rules import profile as rule
from csms.rules.profile import Step, Way, Wish
from voltaro import clock
from voltaro.jobs import each, ring

State = ChargingProfile.State
# What stands, or is about to.
STANDING = (State.WANTED, State.SENT, State.ACTIVE)
# A transaction whose start is older than this came out of a queue: it may be over, and gets no profile (§5.16.1).
START_AT_MOST_S = 300
UNANSWERED_AT_MOST = 3
# Who asks for the profiles that bound a session in time (csms/time_bounds.py): counted from now, which a Relative one is not.
BOUNDS = "session bounds"


@transaction.atomic
def want(
    charge_point: ChargePoint,
    *,
    purpose: str,
    connector_no: int,
    steps: tuple[Step, ...],
    unit: str,
    phases: int = 0,
    daily: bool = False,
    duration_s: int | None = None,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    session: ChargingSession | None = None,
    by: str = "",
) -> ChargingProfile:
    """Want a limit. It is sent when the charger can take it. Raises ValidationError with a sentence: nothing is wanted then."""
    _check(charge_point, purpose, connector_no, steps, unit, phases, valid_from, valid_to, session)
    row = ChargingProfile.objects.create(
        charge_point=charge_point,
        connector_no=connector_no,
        profile_id=next_request_id(),
        purpose=purpose,
        kind="Recurring" if daily else "Absolute",
        recurrency="Daily" if daily else "",
        valid_from=valid_from,
        valid_to=valid_to,
        schedule={
            "unit": unit,
            "phases": phases,
            "duration_s": duration_s,
            "steps": [[one.start_s, str(one.limit)] for one in steps],
        },
        session=session,
        requested_by=by,
    )
    # Of two wishes for one place that were not sent yet, the newer is meant.
    older = _same_place(row).filter(state=State.WANTED)
    older.update(state=State.REPLACED, updated_at=clock.now())
    audit.record("charging_profile.wanted", row, after={"purpose": purpose, "connector": connector_no, **row.schedule})
    ring("profile.wanted")
    return row


def _check(
    charge_point: ChargePoint,
    purpose: str,
    connector_no: int,
    steps: tuple[Step, ...],
    unit: str,
    phases: int,
    valid_from: datetime | None,
    valid_to: datetime | None,
    session: ChargingSession | None,
) -> None:
    if purpose not in ChargingProfile.Purpose.values or unit not in ("W", "A") or phases not in (0, 1, 2, 3):
        raise ValidationError("A profile has a purpose, a unit (W or A) and 1 to 3 phases.")
    if not steps or len(steps) > 24 or any(not 0 <= one.limit <= Decimal(10_000_000) for one in steps):
        raise ValidationError("A schedule has 1 to 24 steps, each from 0 up.")
    if valid_from and valid_to and valid_to <= valid_from:
        raise ValidationError("It would end before it begins.")
    if purpose == "ChargePointMaxProfile" and connector_no != 0:
        raise ValidationError("A limit of the whole charger is for connector 0.")
    if purpose == "TxProfile" and (session is None or not session.live or session.charge_point_id != charge_point.pk):
        raise ValidationError("A limit of one session needs a session that is running on this charger.")
    if connector_no and not charge_point.connectors.filter(connector_id=connector_no).exists():
        raise ValidationError(f"The charger has no connector {connector_no}.")
    least_a = quirks.of(charge_point).least_current_a
    if any(0 < rule.converted(one.limit, unit, "A", phases or 1) < least_a for one in steps):
        raise ValidationError(f"This model ends its session below {least_a} A. Ask for {least_a} A or more, or for 0.")


def _same_place(row: ChargingProfile) -> QuerySet[ChargingProfile]:
    same = ChargingProfile.objects.filter(charge_point_id=row.charge_point_id, connector_no=row.connector_no, purpose=row.purpose)
    return same.exclude(pk=row.pk).filter(session_id=row.session_id)


# -- sending -------------------------------------------------------------------------------------------------------
def to_send(now: datetime) -> QuerySet[ChargingProfile]:
    """Wanted, of a charger that is there, accepted, and has answered the profile before."""
    open_ = Command.objects.filter(
        charge_point_id=OuterRef("charge_point_id"), action="SetChargingProfile", state__in=(CommandState.QUEUED, CommandState.SENT)
    )
    return (
        ChargingProfile.objects.filter(state=State.WANTED, updated_at__lte=now)
        .filter(charge_point__online=True, charge_point__registration=Registration.ACCEPTED)
        .filter(~Exists(open_))
        .order_by("updated_at")
    )


def send_due(now: datetime, limit: int) -> int:
    """Send what is wanted; one profile a charger, and not sooner than its habits allow after the last."""

    @transaction.atomic
    def send(pk: int) -> bool:
        rows = ChargingProfile.objects.select_for_update(of=("self",), skip_locked=True, no_key=True)
        row = rows.select_related("charge_point", "session").filter(pk=pk, state=State.WANTED).first()
        return row is not None and _send(row, now)

    first = {}
    for pk, charge_point_pk in to_send(now).values_list("pk", "charge_point_id")[:limit]:
        first.setdefault(charge_point_pk, pk)
    return each(list(first.values()), send, "charging profile")


def _send(row: ChargingProfile, now: datetime) -> bool:
    charge_point, habits = row.charge_point, quirks.of(row.charge_point)
    newest = Command.objects.filter(charge_point=charge_point, action="SetChargingProfile").order_by("-id").first()
    if newest is not None and newest.created_at > now - timedelta(seconds=habits.profile_interval_s):
        return False
    session = row.session
    if row.purpose == "TxProfile" and (session is None or not session.live):
        return _end(row, State.ENDED, "the session is over")
    if session is not None and session.started_at - session.start_time > timedelta(seconds=START_AT_MOST_S):
        return _end(row, State.ENDED, "the session began long before we heard of it: it gets no profile")
    way = _way(row)
    if way is None:
        return _end(row, State.UNSUPPORTED, "the charger takes it in no form")
    wish = _wish(row)
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    payload = rule.payload(
        wish,
        way,
        profile_id=row.profile_id,
        connector_no=row.connector_no,
        transaction_id=int(session.transaction_id) if session is not None else None,
        phases=_phases(row),
        began=rule.begins(wish, now, midnight),
    )
    calls.check("SetChargingProfile", payload)
    command = commands.request(
        charge_point, "SetChargingProfile", payload, trigger="charging profile", session=session, requested_by=row.requested_by
    )
    row.command, row.payload, row.state, row.kind, row.stack_level = command, payload, State.SENT, way.kind, way.stack_level
    row.save(update_fields=["command", "payload", "state", "kind", "stack_level"])
    return True


def _end(row: ChargingProfile, state: str, why: str) -> bool:
    row.state, row.error = state, why
    row.save(update_fields=["state", "error"])
    audit.record(f"charging_profile.{state}", row, trigger=why)
    return True


def _wish(row: ChargingProfile) -> Wish:
    said = row.schedule
    return Wish(
        purpose=row.purpose,
        steps=tuple(Step(start_s, Decimal(limit)) for start_s, limit in said["steps"]),
        unit=said["unit"],
        phases=said.get("phases") or quirks.of(row.charge_point).number_phases,
        daily=bool(row.recurrency),
        duration_s=said.get("duration_s"),
        valid_from=row.valid_from,
        valid_to=row.valid_to,
    )


def _way(row: ChargingProfile) -> Way | None:
    """The form to try now: what this firmware took before, else one after the other."""
    charge_point = row.charge_point
    known = dict(
        ConfigurationKey.objects.filter(
            charge_point=charge_point, key__in=("ChargingScheduleAllowedChargingRateUnit", "ChargeProfileMaxStackLevel")
        ).values_list("key", "value")
    )
    units = rule.units_of(known.get("ChargingScheduleAllowedChargingRateUnit") or "")
    most = known.get("ChargeProfileMaxStackLevel") or ""
    forms = list(rule.ways(_wish(row), quirks.of(charge_point), units, int(most) if most.isascii() and most.isdigit() else None))
    if row.requested_by == BOUNDS:
        forms = [way for way in forms if way.kind != "Relative"]
    took = charge_point.learned.get("profile", {})
    if took.get("firmware") == charge_point.firmware_version:
        forms.sort(key=lambda way: [way.kind, way.unit, way.stack_level] != took.get(row.purpose))
    return forms[row.attempts] if row.attempts < len(forms) else None


def _phases(row: ChargingProfile) -> int:
    """How many phases the outlet has: direct current has none."""
    kind = row.charge_point.connectors.order_by("connector_id").values_list("type", "max_power_w").first()
    if row.connector_no:
        kind = row.charge_point.connectors.filter(connector_id=row.connector_no).values_list("type", "max_power_w").first() or kind
    if kind is None or kind[0] in (ConnectorType.CCS2, ConnectorType.CHADEMO, ConnectorType.BHARAT_DC):
        return 0
    return 3 if kind[0] == ConnectorType.TYPE2 and kind[1] > 7_400 else 1


# -- what the charger says --------------------------------------------------------------------------------------------
def answered(command: Command, now: datetime) -> None:
    """SetChargingProfile.conf: taken, or refused in this form; then the next form is tried."""
    row = _of(command)
    if row is None:
        return
    status = (command.response or {}).get("status")
    if command.state == CommandState.EFFECTIVE:
        row.state, row.error = State.ACTIVE, ""
        row.save(update_fields=["state", "error"])
        _same_place(row).filter(state=State.ACTIVE).update(state=State.REPLACED, updated_at=now)
        _learn(row)
        audit.record("charging_profile.active", row)
        return
    if status == "NotSupported" or "NotSupported" in command.error or "NotImplemented" in command.error:
        _end(row, State.UNSUPPORTED, "the charger knows no charging profiles")
        return
    row.attempts += 1
    row.state, row.error = State.WANTED, f"refused in one form: {status or command.error}"[:200]
    if _way(row) is None:
        row.state = State.REJECTED
        audit.record("charging_profile.rejected", row, after={"said": str(status or command.error)[:200]})
    row.save(update_fields=["attempts", "state", "error"])
    ring("profile.wanted")


def unanswered(command: Command, now: datetime) -> None:
    """Nobody knows whether it was taken: the same profile again is harmless, a few times."""
    row = _of(command)
    if row is None:
        return
    asked = Command.objects.filter(charge_point_id=command.charge_point_id, action="SetChargingProfile", created_at__gte=row.created_at)
    tries = asked.filter(payload__csChargingProfiles__chargingProfileId=row.profile_id).count()
    row.state = State.WANTED if tries < UNANSWERED_AT_MOST else State.REJECTED
    row.error = "the charger did not answer"
    row.save(update_fields=["state", "error"])


def _of(command: Command) -> ChargingProfile | None:
    rows = ChargingProfile.objects.select_for_update(of=("self",), no_key=True).select_related("charge_point", "session")
    return rows.filter(command=command, state=State.SENT).first()


def _learn(row: ChargingProfile) -> None:
    charge_point = ChargePoint.objects.select_for_update(no_key=True).get(pk=row.charge_point_id)
    known = charge_point.learned.get("profile", {})
    if known.get("firmware") != charge_point.firmware_version:
        known = {"firmware": charge_point.firmware_version}
    unit = row.payload["csChargingProfiles"]["chargingSchedule"]["chargingRateUnit"]
    charge_point.learned = {**charge_point.learned, "profile": {**known, row.purpose: [row.kind, unit, row.stack_level]}}
    charge_point.save(update_fields=["learned"])


def cleared(command: Command, now: datetime) -> None:
    """ClearChargingProfile.conf: those that fit all that was named are gone. Unknown: there were none, which is the same."""
    if command.state != CommandState.EFFECTIVE:
        return
    said = command.payload
    rows = ChargingProfile.objects.filter(charge_point_id=command.charge_point_id, state__in=STANDING, created_at__lte=command.created_at)
    for name, column in (("id", "profile_id"), ("chargingProfilePurpose", "purpose"), ("stackLevel", "stack_level")):
        if name in said:
            rows = rows.filter(**{column: said[name]})
    if "connectorId" in said:
        rows = rows.filter(connector_no=said["connectorId"])
    for row in rows:
        _end(row, State.CLEARED, f"cleared by {command.requested_by}" if command.requested_by else "cleared")


# -- what happens at the charger ----------------------------------------------------------------------------------------
def rebooted(charge_point_pk: int) -> int:
    """A boot forgets the limits of running sessions (Q171: and those of careless firmware): they are wanted again."""
    lost = ChargingProfile.objects.filter(charge_point_id=charge_point_pk, purpose="TxProfile", state=State.ACTIVE)
    count = lost.filter(~Q(session__state=SessionState.STOPPED)).update(state=State.WANTED, attempts=0, updated_at=clock.now())
    if count:
        ring("profile.wanted")
    return count


def to_end(now: datetime) -> QuerySet[ChargingProfile]:
    """Limits of sessions that are over, and those whose time has passed."""
    return ChargingProfile.objects.filter(state__in=STANDING).filter(
        Q(purpose="TxProfile", session__state=SessionState.STOPPED) | Q(valid_to__lte=now)
    )


def end_due(now: datetime, limit: int) -> int:
    """End what is over by itself."""

    @transaction.atomic
    def end(pk: int) -> bool:
        row = to_end(now).select_for_update(of=("self",), skip_locked=True, no_key=True).filter(pk=pk).first()
        return row is not None and _end(row, State.ENDED, "its time is over" if row.purpose != "TxProfile" else "its session is over")

    return each(list(to_end(now).order_by("pk").values_list("pk", flat=True)[:limit]), end, "charging profile")


def composite(command: Command) -> dict[str, Any] | None:
    """What GetCompositeSchedule was answered, for people: unit, connector, and steps of (seconds from the start, limit)."""
    said = command.response or {}
    schedule = said.get("chargingSchedule")
    if not isinstance(schedule, dict) or not isinstance(schedule.get("chargingSchedulePeriod"), list):
        return None
    steps = []
    for one in schedule["chargingSchedulePeriod"][:200]:
        start, limit = (one.get("startPeriod"), one.get("limit")) if isinstance(one, dict) else (None, None)
        if isinstance(start, (int, float)) and isinstance(limit, (int, float)):
            steps.append((int(start), float(limit)))
    duration = schedule.get("duration") if isinstance(schedule.get("duration"), int) else command.payload.get("duration", 0)
    return {"unit": str(schedule.get("chargingRateUnit", ""))[:2], "steps": sorted(steps), "duration_s": duration}
