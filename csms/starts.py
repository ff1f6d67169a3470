"""A transaction begins: StartTransaction becomes a session, exactly once, whatever we think of it."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import connection

from accounts import audit, failures
from accounts.models import AuditEntry
from csms import bounds, commands, doubts, live, outcomes, permits, quirks, reservations, sessions, stations, tags
from csms.events import StartReported
from csms.models import ChargePoint, ChargingSession, Command, CommandState, Connector, IdTag, SessionState
from csms.rules import meter as meters
from csms.tags import TagAnswer
from voltaro.jobs import ring

# A start so long after the time to start has run out may still be the one that was asked.
TOO_LATE_S = 900
# By so much may a clock be off that we believe. A start that says it is older than what was asked for by more came out of a queue.
CLOCK = timedelta(minutes=5)


@dataclass(frozen=True)
class Started:
    """What the charger is told: a transaction id always, and what we think of the tag."""

    transaction_id: int
    status: str
    parent: str
    session: ChargingSession
    new: bool


def start(charge_point_pk: int, said: StartReported, now: datetime) -> Started:
    """Record the start (call inside a transaction). The same start again, under any message id, is the same session.

    A tag that may not charge is recorded all the same, unauthorised, and told to stop: the energy is a fact.
    Locks, in order: connector, permit, session.
    """
    charge_point = ChargePoint.objects.get(pk=charge_point_pk)
    found = stations.connector(charge_point.cp_id, min(said.connector_no, stations.MAX_CONNECTORS))
    connector = permits.lock_connector(found.pk)
    key, repeated = _known(charge_point, connector, said)
    if repeated is not None:
        return _answer(repeated, new=False, status=_told(repeated))
    asked_by = _asked_by(charge_point, said, now)
    asked = outcomes.start_asked(charge_point_pk, connector.connector_id, said.tag, now, asked_by)
    answer, flags = _judge(charge_point, connector, said, asked, asked_by, now)
    meant = reservations.meant(connector, charge_point, said.reservation_id, answer, now)
    if meant.breaks is not None and answer.accepted:
        # Kept for somebody else. Not Invalid: that would stay in the charger's cache, and the card is good elsewhere.
        answer, flags = replace(answer, status="ConcurrentTx"), [*flags, "reserved"]
    _supersede(connector, now)
    session = _create(charge_point, connector, said, key, answer, flags, now)
    if answer.accepted and answer.permit is not None and answer.permit.kind == IdTag.Kind.ONE_TIME:
        answer.permit.state, answer.permit.ask_at = IdTag.State.USED, None
        answer.permit.save(update_fields=["state", "ask_at"])
        mine = Command.objects.filter(permit=answer.permit)
        mine.filter(state=CommandState.QUEUED).update(state=CommandState.EXPIRED, settled_at=now)
        commands.effective(mine, now)
    if asked is not None:
        outcomes.started(asked, session, now)
    if meant.uses is not None and answer.accepted:
        reservations.used(meant.uses, session, now)
    audit.record(
        "session.started",
        session,
        after={"connector": connector.code, "authorized": answer.accepted, "status": answer.status, "meter_start_wh": said.meter_start_wh},
    )
    if answer.accepted:
        bounds.began(session, quirks.of(charge_point), now)
    else:
        _unwelcome(session, connector, answer, now)
    ring("session.started")
    live.changed(connector.code)
    return _answer(session, new=True, status=answer.status)


def _unwelcome(session: ChargingSession, connector: Connector, answer: TagAnswer, now: datetime) -> None:
    """Nobody may charge there: it is told to stop until it does. A start whose money went back, or that nobody knows, is put on record."""
    sessions.ask_stop(session, trigger="not_authorized")
    tag = answer.permit
    if tag is None and (meant := _asked_too_late(connector, now)) is not None:
        tag = meant
    if tag is None:
        failures.note("phantom_start", session, connector=connector.code, status=answer.status)
    elif (
        tag.kind == IdTag.Kind.ONE_TIME
        and tag.state != IdTag.State.USED
        and (tag.state == IdTag.State.REVOKED or answer.status == "Expired")
    ):
        failures.note("start_after_refund", session, connector=connector.code, permit=tag.pk)


def _asked_too_late(connector: Connector, now: datetime) -> IdTag | None:
    """Whose payment a start under a tag of the charger's own was for, had it come in time."""
    lately = IdTag.objects.filter(connector=connector, kind=IdTag.Kind.ONE_TIME, state=IdTag.State.REVOKED, asked_count__gt=0)
    return lately.filter(start_until__gt=now - timedelta(seconds=TOO_LATE_S)).order_by("-pk").first()


def start_key(said: StartReported, after: int | None = None) -> str:
    """What makes a start itself; with the session it came after at its connector, where nothing else tells it from an earlier one."""
    parts = [str(said.connector_no), tags.normal(said.tag), said.reported_at, str(said.meter_start_wh)]
    if after is not None:
        parts.append(f"after {after}")
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:40]


def _known(charge_point: ChargePoint, connector: Connector, said: StartReported) -> tuple[str, ChargingSession | None]:
    """The key of this start, and the session it began, when it was said before (the connector is locked).

    Where no clock tells, starts look alike. What is said again comes before anything else the charger has to say of that connector: so
    only its newest session can be meant, or this is another start, named by what it came after.
    """
    key = start_key(said)
    first = ChargingSession.objects.filter(charge_point=charge_point, start_key=key).select_related("permit", "card").first()
    if first is None or said.at is not None:
        return key, first
    there = list(ChargingSession.objects.filter(connector=connector).select_related("permit", "card").order_by("-pk")[:2]) or [first]
    newest = there[0]
    alike = newest.start_key in (key, start_key(said, there[-1].pk))
    if not _may_begin_again(newest if alike else first, newest, said):
        return key, newest if alike else first
    return start_key(said, newest.pk), None


def _may_begin_again(earlier: ChargingSession, newest: ChargingSession, said: StartReported) -> bool:
    """Whether a start that looks like that of `earlier`, of a charger whose clock is not set, may be another one: a card's (a permit is
    for one start only), after its stop was told, at a connector where nothing is open. Its register tells no difference when nothing
    flowed, or where it begins at 0 every time; one that had moved on and stands where it stood is said again out of a queue.
    """
    told = "inferred" not in earlier.flags or doubts.LATE in earlier.flags
    one_time = earlier.permit is not None and earlier.permit.kind == IdTag.Kind.ONE_TIME
    flowed = earlier.energy_wh > 0 or newest.energy_wh > 0
    return told and not one_time and not newest.live and not (flowed and said.meter_start_wh)


def _asked_by(charge_point: ChargePoint, said: StartReported, now: datetime) -> datetime:
    """What was asked of the charger after this, a start under a tag of its own cannot follow: it began before, by the charger's clock
    (put right by what it is known to be off; one that is not set says nothing).
    """
    began = charge_point.by_our_clock(said.at) if said.at is not None else now
    return began + CLOCK


def _judge(
    charge_point: ChargePoint, connector: Connector, said: StartReported, asked: Command | None, asked_by: datetime, now: datetime
) -> tuple[TagAnswer, list[str]]:
    habits = quirks.of(charge_point)
    shown = permit = tags.find(said.tag, habits, rows=IdTag.objects.select_for_update(of=("self",), no_key=True))
    flags = [] if said.at is not None else ["clock"]
    if permit is None or (permit.source == "external" and permit.external_status != "Accepted"):
        # Some chargers start under a tag of their own after our request: the one who has just paid here is meant.
        permit = _asked_for(connector, asked_by, now) or (outcomes.asked_tag(asked) if asked is not None else None)
        if permit is not None:
            flags.append("tag_changed")
    return tags.judge(permit or shown, charge_point.pk, connector.connector_id, now, tag=said.tag, habits=habits), flags


def _asked_for(connector: Connector, asked_by: datetime, now: datetime) -> IdTag | None:
    return (
        IdTag.objects.select_for_update(of=("self",), no_key=True)
        .select_related("connector")
        .filter(connector=connector, kind=IdTag.Kind.ONE_TIME, state=IdTag.State.READY, start_until__gt=now, asked_count__gt=0)
        .filter(created_at__lte=asked_by)
        .first()
    )


def _supersede(connector: Connector, now: datetime) -> None:
    """A new start on a connector ends what was open there: its stop was lost."""
    still_open = ChargingSession.objects.filter(connector=connector).exclude(state=SessionState.STOPPED)
    for pk in still_open.values_list("pk", flat=True):
        sessions.finalize(pk, "SUPERSEDED", now=now)


def _create(
    charge_point: ChargePoint, connector: Connector, said: StartReported, key: str, answer: TagAnswer, flags: list[str], now: datetime
) -> ChargingSession:
    permit = answer.permit if answer.accepted else None
    began = meters.begin(said.meter_start_wh)
    at = said.at
    if at is not None and permit is not None and permit.kind == IdTag.Kind.ONE_TIME and at + CLOCK < permit.created_at:
        # Nothing begins before it was paid for: its clock is behind, and once it is set, hours would seem to have gone by.
        at, flags = None, sorted({*flags, "clock"})
    session = ChargingSession(
        charge_point=charge_point,
        connector=connector,
        company_id=charge_point.company_id,
        user_id=permit.user_id if permit else None,
        permit=permit if permit and permit.kind == IdTag.Kind.ONE_TIME else None,
        card=answer.permit if answer.permit is not None and answer.permit.kind == IdTag.Kind.RFID else None,
        id_tag=said.tag[:64],
        authorized=answer.accepted,
        transaction_id=str(next_transaction_id()),
        start_key=key,
        start_time=at or now,
        started_at=now,
        metered_at=at,
        register_at=now,
        last_activity_at=now,
        meter_start_wh=began.start_wh,
        meter_last_wh=began.last_wh,
        segment_start_wh=began.segment_start_wh,
        # When nobody may charge here, whatever flows is beyond the limit, and the stop is asked until it is obeyed.
        limit_wh=permit.limit_wh if permit else None if answer.accepted else 0,
        limit_at=permit.limit_at if permit else None,
        flags=flags,
    )
    session.stop_due_at = session.limit_at
    if not answer.accepted:  # `start` asks for the first stop
        session.stop_due_at = session.stop_asked_at = now
    session.save(force_insert=True)
    return session


def next_transaction_id() -> int:
    """A new OCPP 1.6 transaction id: one sequence for all chargers, positive int32, never used twice."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('csms_transaction_id')")
        return int(cursor.fetchone()[0])


def _told(session: ChargingSession) -> str:
    """What the charger was told of the tag when it first said this start."""
    if session.authorized:
        return "Accepted"
    first = AuditEntry.objects.filter(target_type=session._meta.label_lower, target_id=str(session.pk), action="session.started").first()
    return str(first.after.get("status", "Invalid")) if first is not None else "Invalid"


def _answer(session: ChargingSession, *, new: bool, status: str = "") -> Started:
    tag = session.permit or session.card
    parent = tag.parent if tag is not None else ""
    return Started(int(session.transaction_id), status or ("Accepted" if session.authorized else "Invalid"), parent, session, new)
