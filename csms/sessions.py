"""Charging sessions: every change of one goes through here, under its row's lock, as the rule says.

`apply` is for what chargers say, `suspend_live` and `timeout_due` for what they stopped saying, `finalize` for what we decide.
Whichever it was, its end is `_finalize`: once, whoever comes second. What follows (bill, refund, share) reads the row.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from accounts import audit
from csms import alerts, commands, failures, live, undercounts
from csms.models import ChargingSession, Command, CommandState, ConnectorType, SessionState
from csms.rules import session as rule
from csms.rules.meter import Meter
from csms.rules.session import Event, Session, State, Verdict
from voltaro import clock
from voltaro.jobs import each, ring

# What a reading writes; `_TRANSITION` adds what only a change of state or an end touches.
PROGRESS = (
    "state", "meter_start_wh", "meter_last_wh", "segment_start_wh", "segments_wh", "pending_wh", "pending_at", "energy_wh",
    "last_power_w", "peak_power_w", "soc_pct", "sample_interval_s", "last_activity_at", "metered_at", "register_at", "stop_due_at",
    "flags", "disconnects_without_progress", "idle_since",
)  # fmt: skip
_TRANSITION = (
    *PROGRESS, "suspended_at", "idle_status", "resumed_at", "resume_count", "stop_reason", "stop_reason_raw", "end_time", "ended_at",
    "reported_wh", "overrun_wh",
)  # fmt: skip
# Named alike in the rule's snapshot and in the row.
_ALIKE = (
    "suspended_at", "resumed_at", "resume_count", "stop_reason", "stop_reason_raw", "end_time", "ended_at", "reported_wh",
    "overrun_wh", "soc_pct", "sample_interval_s", "last_activity_at", "metered_at", "register_at", "stop_due_at",
    "disconnects_without_progress", "idle_since", "idle_status", "pending_at",
)  # fmt: skip
_QUIET = {Verdict.PROGRESS, Verdict.LATE, Verdict.NOT_YET, Verdict.ALREADY_ENDED, Verdict.ALREADY_SUSPENDED}
# Stops asked at the limit, when the charger does not obey: again after this long, this often; then now and then.
STOP_AGAIN_S = 20
STOP_ATTEMPTS = 5
STOP_RARELY_S = 300
# What else makes a stop due: it too is asked again that way, whatever becomes of the first command.
STOP_TRIGGERS = ("limit", "not_authorized", "refunded_elsewhere")


def limits() -> rule.Limits:
    return rule.Limits(
        disconnect_timeout_s=settings.DISCONNECT_TIMEOUT_S,
        max_resume_gap_s=settings.MAX_RESUME_GAP_S,
        max_disconnects_without_progress=settings.MAX_DISCONNECTS_WITHOUT_PROGRESS,
        silence_s=settings.SESSION_SILENCE_S,
        socket_grace_s=settings.SOCKET_GRACE_S,
        stop_lead_s=settings.STOP_LEAD_S,
    )


def snapshot(row: ChargingSession, max_power_w: int) -> Session:
    """The row as the rule sees it."""
    return Session(
        state=State(row.state),
        meter=Meter(row.meter_start_wh, row.meter_last_wh, row.segment_start_wh, row.segments_wh, row.pending_wh),
        max_power_w=max_power_w,
        last_activity_at=row.last_activity_at,
        start_time=row.start_time,
        started_at=row.started_at,
        metered_at=row.metered_at,
        register_at=row.register_at,
        pending_at=row.pending_at,
        suspended_at=row.suspended_at,
        idle_status=row.idle_status,
        idle_since=row.idle_since,
        resumed_at=row.resumed_at,
        resume_count=row.resume_count,
        disconnects_without_progress=row.disconnects_without_progress,
        power_w=row.last_power_w,
        soc_pct=row.soc_pct,
        sample_interval_s=row.sample_interval_s,
        limit_wh=row.limit_wh,
        limit_at=row.limit_at,
        stop_due_at=row.stop_due_at,
        stop_reason=row.stop_reason,
        stop_reason_raw=row.stop_reason_raw,
        end_time=row.end_time,
        ended_at=row.ended_at,
        reported_wh=row.reported_wh,
        overrun_wh=row.overrun_wh,
        flags=frozenset(row.flags),
    )


def values(row: ChargingSession, after: Session) -> dict[str, Any]:
    """What the rule said, by the row's own names."""
    meter = after.meter
    return {
        **{name: getattr(after, name) for name in _ALIKE},
        "state": str(after.state),
        "meter_start_wh": meter.start_wh,
        "meter_last_wh": meter.last_wh,
        "segment_start_wh": meter.segment_start_wh,
        "segments_wh": meter.segments_wh,
        "pending_wh": meter.pending_wh,
        "energy_wh": meter.energy_wh,
        "last_power_w": after.power_w,
        "peak_power_w": max(row.peak_power_w, after.power_w or 0),
        "flags": sorted(after.flags),
    }


def write(row: ChargingSession, after: Session, fields: tuple[str, ...], now: datetime) -> None:
    """What the rule said, onto the row: one UPDATE of the fields that may have changed."""
    said = values(row, after)
    # Written out: this is the way of every reading, and building the query costs more than asking it.
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE csms_chargingsession SET updated_at = %s, {', '.join(f'{name} = %s' for name in fields)} WHERE id = %s",  # noqa: S608 - our own names
            [now, *(said[name] for name in fields), row.pk],
        )
    put(row, said, now)


def put(row: ChargingSession, said: dict[str, Any], now: datetime) -> None:
    """The same onto the row in memory, once the database has it. `updated_at` is the row's version (csms/quick.py)."""
    for name, value in said.items():
        setattr(row, name, value)
    row.updated_at = now


def apply(row: ChargingSession, events: list[Event], max_power_w: int, now: datetime) -> Verdict:
    """Step the locked `row` through `events` (one database write) and audit a transition; an end goes to `_finalize`."""
    before = after = snapshot(row, max_power_w)
    verdict, telling = Verdict.NOT_YET, Verdict.NOT_YET
    for event in events:
        after, verdict = rule.step(after, event, now, limits())
        if verdict not in _QUIET:
            telling = verdict
    if after is before:
        return verdict
    if before.live and not after.live:
        _finalize(row, before, after, telling, now)
        return telling
    write(row, after, PROGRESS if telling in _QUIET else _TRANSITION, now)
    if telling not in _QUIET:
        _record(row, before, after, telling)
        live.changed(row.connector.code)
    return verdict if telling in _QUIET else telling


def _finalize(row: ChargingSession, before: Session, after: Session, verdict: Verdict, now: datetime) -> None:
    """The one end of every session, whatever brought it about: its row is locked, was live, and the rule has ended it.

    Written and audited; what was asked of the charger is settled; a person is told of what cannot be. The bell wakes billing, which
    finds every ended session without a bill: bill, refund and share follow from the row, each exactly once.
    """
    if after.end_time is not None and after.end_time < row.start_time:
        # Its clock was set meanwhile: ours says when it ended.
        after = replace(after, end_time=max(now, row.start_time), flags=after.flags | {"clock"})
    write(row, after, _TRANSITION, now)
    _record(row, before, after, verdict)
    commands.effective(Command.objects.filter(session=row, action="RemoteStopTransaction"), now)
    Command.objects.filter(session=row, state=CommandState.QUEUED).update(state=CommandState.EXPIRED, settled_at=now)
    alerts.clear(row.charge_point_id, "not_obeying", now)
    undercounts.look(row, now)
    failures.ended(row, before, after, now, max_resume_gap_s=limits().max_resume_gap_s)
    ring("session.ended")
    live.changed(row.connector.code)


def _record(row: ChargingSession, before: Session, after: Session, verdict: Verdict) -> None:
    said: dict[str, Any] = {"state": after.state, "energy_wh": after.meter.energy_wh, "reason_raw": after.stop_reason_raw}
    if rule.HELD in after.flags:
        said["held"] = True
    audit.record(
        f"session.{verdict}",
        row,
        trigger=after.stop_reason,
        before={"state": before.state, "energy_wh": before.meter.energy_wh},
        after=said,
    )


# -- ends and pauses that nobody reported ---------------------------------------------------------------------------
def finalize(
    session_id: int, reason: str, *, why: str = "", now: datetime | None = None, register_wh: int | None = None, inferred: bool = True
) -> bool:
    """End the session because we say so (`why`: in a person's words); True when this call ended it, False when it had ended already."""
    now = now or clock.now()
    with transaction.atomic():
        row = _locked(ChargingSession.objects.filter(pk=session_id))
        if row is None:
            return False
        event = rule.Stopped(at=row.last_activity_at, register_wh=register_wh, reason=reason, reason_raw=why[:100], inferred=inferred)
        return apply(row, [event], row.connector.max_power_w, now) is Verdict.ENDED


def suspend_live(charge_point_pk: int, why: str, now: datetime) -> int:
    """The charger's socket is gone or it has just booted: its live sessions wait for it (or end, when it keeps flapping)."""
    done = 0
    with transaction.atomic():
        rows = (
            ChargingSession.objects.select_for_update(of=("self",), no_key=True)
            .select_related("connector")
            .filter(charge_point_id=charge_point_pk)
            .exclude(state=SessionState.STOPPED)
            .order_by("pk")
        )
        for row in rows:
            if apply(row, [rule.Lost(why)], row.connector.max_power_w, now) is Verdict.SUSPENDED:
                failures.suspended(row, why)
                done += 1
    return done


def connector_said(connector_id: UUID, status: str, now: datetime) -> Verdict | None:
    """A status of a connector on which a session may be open (call inside a transaction); None when none is."""
    row = _locked(ChargingSession.objects.filter(connector_id=connector_id).exclude(state=SessionState.STOPPED))
    if row is None:
        return None
    event = rule.ConnectorSaid(status, socket=row.connector.type == ConnectorType.SOCKET)
    return apply(row, [event], row.connector.max_power_w, now)


def _is_back(now: datetime) -> Q:
    """A lost line's session whose charger is, or was within DISCONNECT_TIMEOUT_S, on the line again, without a boot or a status that
    says otherwise: it most likely charges on."""
    lately = now - timedelta(seconds=limits().disconnect_timeout_s)
    return (
        Q(idle_status="", idle_since__isnull=True)
        & (Q(charge_point__online=True) | Q(charge_point__last_seen__gt=lately) & Q(charge_point__last_seen__gt=F("suspended_at")))
        & (Q(charge_point__last_boot__isnull=True) | Q(charge_point__last_boot__lt=F("suspended_at")))
        & (~Q(connector__status__in=rule.IDLE) | Q(connector__status="Available", connector__type=ConnectorType.SOCKET))
    )


def to_time_out(now: datetime) -> QuerySet[ChargingSession]:
    """Suspended longer than DISCONNECT_TIMEOUT_S (than MAX_RESUME_GAP_S, when its charger is back), idle at a socket for
    SOCKET_GRACE_S, or live and silent for SESSION_SILENCE_S."""
    said = limits()
    return (
        ChargingSession.objects.exclude(state=SessionState.STOPPED)
        .filter(
            Q(state=SessionState.SUSPENDED, suspended_at__lte=now - timedelta(seconds=said.disconnect_timeout_s)) & ~_is_back(now)
            | Q(state=SessionState.SUSPENDED, suspended_at__lte=now - timedelta(seconds=said.max_resume_gap_s))
            | Q(idle_since__lte=now - timedelta(seconds=said.socket_grace_s))
            | Q(last_activity_at__lte=now - timedelta(seconds=said.silence_s))
        )
        .order_by("last_activity_at")
    )


def timeout_due(now: datetime, limit: int) -> int:
    """End what waited too long for its charger."""

    @transaction.atomic
    def time_out(pk: int) -> bool:
        row = _locked(ChargingSession.objects.filter(pk=pk), skip_locked=True)
        if row is None:
            return False
        back = ChargingSession.objects.filter(_is_back(now), pk=pk).exists()
        return apply(row, [rule.TimePassed(back)], row.connector.max_power_w, now) is Verdict.ENDED

    return each(list(to_time_out(now).values_list("pk", flat=True)[:limit]), time_out, "session")


# -- stops we ask for --------------------------------------------------------------------------------------------
def ask_stop(session: ChargingSession, *, trigger: str, requested_by: str = "", attempt: int = 1) -> Command:
    """Ask the charger to stop this session (RemoteStopTransaction); asking twice for one reason asks once."""
    return commands.request(
        session.charge_point,
        "RemoteStopTransaction",
        {"transactionId": int(session.transaction_id)},
        trigger=trigger,
        dedupe_key=f"session:{session.pk}:stop:{trigger}:{attempt}",
        session=session,
        requested_by=requested_by,
        expires_in_s=120,
    )


@transaction.atomic
def stop_now(session_id: int, *, trigger: str) -> bool:
    """Nobody pays for this session any more (`trigger`, one of STOP_TRIGGERS, says why): what flows from now on is beyond its limit, and
    the stop is asked until it is obeyed, also of a charger that is away just now.

    False when it was over, or at its limit already. Takes the session's lock: call without that of its payment.
    """
    now = clock.now()
    row = _locked(ChargingSession.objects.filter(pk=session_id).exclude(state=SessionState.STOPPED))
    if row is None or (row.limit_wh is not None and row.limit_wh <= row.energy_wh):
        return False
    before, row.limit_wh = row.limit_wh, row.energy_wh
    row.stop_asked_at = row.updated_at = now
    if row.state != SessionState.SUSPENDED:  # else with the sign that it goes on (csms/rules/session.py): until then nobody hears it
        row.stop_due_at = now
    row.save(update_fields=["limit_wh", "stop_due_at", "stop_asked_at", "updated_at"])
    audit.record("session.stop_now", row, trigger=trigger, before={"limit_wh": before}, after={"limit_wh": row.limit_wh})
    ask_stop(row, trigger=trigger)
    return True


def to_stop(now: datetime) -> QuerySet[ChargingSession]:
    """Live sessions whose stop is due, and those told to stop that have not. Who is away is told when it is back."""
    return (
        ChargingSession.objects.exclude(state=SessionState.STOPPED)
        .filter(stop_due_at__lte=now)
        .filter(~Q(state=SessionState.SUSPENDED) | Q(charge_point__online=True))
        .filter(Q(stop_asked_at__isnull=True) | Q(stop_asked_at__lte=now - timedelta(seconds=STOP_AGAIN_S)))
        .order_by("stop_due_at")
    )


def stop_due(now: datetime, limit: int) -> int:
    """Stop what is about to reach its limit: the safety net behind the timers of the sockets' own process."""
    return each(list(to_stop(now).values_list("pk", flat=True)[:limit]), lambda pk: stop_if_due(pk, now), "session")


def stop_if_due(session_id: int, now: datetime) -> bool:
    """Send the stop of this session when its time has come; False when it has not, or was asked a moment ago."""
    with transaction.atomic():
        row = _locked(to_stop(now).filter(pk=session_id).order_by(), skip_locked=True)
        if row is None:
            return False
        attempt = row.commands.filter(action="RemoteStopTransaction", trigger="limit").count() + 1
        if attempt > STOP_ATTEMPTS:
            # It will not listen. A person must look; what it delivers beyond the limit is ours, not the rider's.
            if "not_stopping" not in row.flags:
                row.flags = sorted({*row.flags, "not_stopping"})
                ChargingSession.objects.filter(pk=row.pk).update(flags=row.flags, updated_at=now)
                alerts.raise_alert(row.charge_point_id, "not_obeying", f"Session {row.pk} was told to stop and runs on.", now)
                failures.not_obeyed(row, STOP_ATTEMPTS)
            if row.stop_asked_at and row.stop_asked_at > now - timedelta(seconds=STOP_RARELY_S):
                return False
        ChargingSession.objects.filter(pk=row.pk).update(stop_asked_at=now, updated_at=now)
        ask_stop(row, trigger="limit", attempt=attempt)
        return True


@dataclass(frozen=True)
class Planned:
    """A stop that the owner of the socket must send at `at`, unless a newer reading moves it."""

    session_id: int
    at: datetime


def _locked(rows: QuerySet[ChargingSession], **how: Any) -> ChargingSession | None:
    return rows.select_for_update(of=("self",), no_key=True, **how).select_related("connector", "charge_point").first()
