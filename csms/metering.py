"""MeterValues and StopTransaction: readings find their session, are kept, and move it.

The way of every reading while cars charge: at most six queries a message, whatever the history
(tests/integration/test_sessions.py holds that).
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection

from accounts import audit
from csms import charging_on, doubts, failures, sessions, tags
from csms.events import Metered, Reading, StopReported
from csms.models import ChargePoint, ChargingSession, Connector
from csms.rules import session as rule
from csms.rules.habits import STANDARD, Habits

# So long, and among so many of a charger's, a session that is over may be meant by a stop that names none.
LATELY = timedelta(hours=6)
MOST_LATELY = 20
# What chargers send that never got, or lost, their transaction id.
NO_TRANSACTION = {None, "", "0", "-1"}


@dataclass(frozen=True)
class Place:
    """What a socket remembers of a connector."""

    code: str
    connector_no: int
    max_power_w: int


@dataclass(frozen=True)
class Moved:
    """What became of a message: the session it moved (None: no open one), where its pages are, when its stop is due.

    `row` is the session as it now stands, for the socket to remember while it is live.
    """

    session_id: int | None
    place: Place | None
    live: bool = False
    stop_due_at: datetime | None = None
    note: str = ""
    row: ChargingSession | None = None


def places(cp_id: str) -> dict[UUID, Place]:
    """Every connector of a charger: remembered by its socket for as long as that lives."""
    return {row.pk: Place(row.code, row.connector_id, row.max_power_w) for row in Connector.objects.filter(charge_point_id=cp_id)}


def metered(charge_point_pk: int, known: dict[UUID, Place], said: Metered, now: datetime, *, as_zero: bool = False) -> Moved:
    """Keep the readings, step their session. Readings nobody charges for are kept too (a main meter, a phantom flow).

    `as_zero`: this charger speaks of its one connector as 0 (Q60); of any other, 0 is the main meter.
    """
    number = next(iter(known.values())).connector_no if as_zero and not said.connector_no and len(known) == 1 else said.connector_no
    row = _session(charge_point_pk, known, said.transaction_ref, number)
    live = row is not None and row.live
    _keep(charge_point_pk, row, said.connector_no, said.readings, now, late=row is not None and not live)
    if row is None:
        note = "" if said.connector_no == 0 or said.transaction_ref is None else f"no session {said.transaction_ref} here"
        if said.connector_no and (flowing := [one for one in said.readings if (one.power_w or 0) >= charging_on.FLOWS_W]):
            here = next((pk for pk, place in known.items() if place.connector_no == said.connector_no), None)
            if here is not None and charging_on.heard_unnamed(here, tuple(flowing), now):
                note = f"{note}; the session we ended here is meant".lstrip("; ")
            else:
                failures.phantom_flow(charge_point_pk, said.connector_no, flowing[-1].power_w, flowing[-1].energy_wh, said.transaction_ref)
        return Moved(None, None, note=note)
    place = known[row.connector_id]
    if not live:
        asked = ", and it was asked to stop" if charging_on.heard(row, said.readings, now) else ""
        return Moved(row.pk, place, note=f"readings for an ended session: kept as late{asked}")
    named = said.transaction_ref not in NO_TRANSACTION
    events: list[rule.Event] = [event(reading, named=named) for reading in said.readings]
    sessions.apply(row, events or [rule.Measured(named=named)], place.max_power_w, now)
    return Moved(row.pk, place, live=row.live, stop_due_at=row.stop_due_at if row.live else None, row=row)


def stopped(
    charge_point_pk: int, known: dict[UUID, Place], said: StopReported, now: datetime, habits: Habits = STANDARD
) -> tuple[Moved, str | None]:
    """The transaction ended. Always thanked for; the second value is the tag's status when the charger gave a tag."""
    row = _session_to_stop(charge_point_pk, said, now)
    status = tags.authorize(said.tag, charge_point_pk, now, habits).status if said.tag else None
    if row is None:
        audit.record("session.orphan_stop", ChargePoint(pk=charge_point_pk), after=_facts(said))
        failures.orphan_stop(charge_point_pk, _facts(said))
        return Moved(None, None, note=f"no session for transaction {said.transaction_ref}: kept for a person to see"), status
    place = known[row.connector_id]
    _keep(charge_point_pk, row, place.connector_no, said.readings, now, late=not row.live)
    if not row.live:
        if row.reported_wh is None or "late" not in row.flags:
            _correct(row, said, now)
        charging_on.stopped(row, now)
        return Moved(row.pk, place, note="already ended"), status
    events: list[rule.Event] = [replace(event(reading), stopping=True) for reading in said.readings]
    events.append(rule.Stopped(at=said.at or now, register_wh=said.meter_stop_wh, reason=said.reason, reason_raw=said.reason_raw))
    sessions.apply(row, events, place.max_power_w, now)
    return Moved(row.pk, place), status


def _correct(row: ChargingSession, said: StopReported, now: datetime) -> None:
    """The real stop of a session that we ended for it: recorded. Less is taken off the bill, more is never charged."""
    if "inferred" not in row.flags:
        return
    before = {"energy_wh": row.energy_wh, "billable_wh": doubts.billable_wh(row)}
    reported_wh = doubts.late_stop(row, said.meter_stop_wh, now)
    told = {**_facts(said), "reported_wh": reported_wh, "billable_wh": doubts.billable_wh(row)}
    audit.record("session.late_stop", row, before=before, after=told)
    failures.late_stop(row, told)


def _facts(said: StopReported) -> dict[str, object]:
    return {
        "transaction": said.transaction_ref,
        "meter_stop_wh": said.meter_stop_wh,
        "reason": said.reason_raw or said.reason,
        "at": said.at.isoformat() if said.at else None,
    }


def event(reading: Reading, *, named: bool = True) -> rule.Measured:
    return rule.Measured(
        at=reading.at,
        register_wh=reading.energy_wh,
        interval_wh=reading.interval_wh,
        power_w=reading.power_w,
        soc_pct=reading.soc_pct,
        named=named,
    )


def _session(charge_point_pk: int, known: dict[UUID, Place], ref: str | None, connector_no: int) -> ChargingSession | None:
    """The session this reading belongs to, locked: by its transaction id, else the connector's open one."""
    if ref not in NO_TRANSACTION and (found := _locked("transaction_id = %s", [charge_point_pk, ref])):
        return found[0]
    pks = [pk for pk, place in known.items() if place.connector_no == connector_no]
    found = _locked("connector_id = %s AND state <> 'STOPPED'", [charge_point_pk, pks[0]]) if pks else []
    return found[0] if found else None


def _session_to_stop(charge_point_pk: int, said: StopReported, now: datetime) -> ChargingSession | None:
    """By its transaction id. A charger that lost its id says a stop again, or means the open session of that tag, one of that tag that we
    ended for it, or the only one open.
    """
    ref = said.transaction_ref
    if ref not in NO_TRANSACTION and ((found := _locked("transaction_id = %s", [charge_point_pk, ref])) or not _lost_id(ref)):
        return found[0] if found else None
    over = ChargingSession.objects.filter(charge_point_id=charge_point_pk, state="STOPPED", ended_at__gt=now - LATELY)
    lately = list(over.order_by("-id")[:MOST_LATELY])
    if (told := next((row for row in lately if _is_its_stop(row, said)), None)) is not None:
        return _locked("id = %s", [charge_point_pk, told.pk])[0]
    still_open = _locked("state <> 'STOPPED'", [charge_point_pk])
    if said.tag:
        of_tag = [row for row in still_open if _of_tag(row, said)]
        if len(of_tag) == 1:
            return of_tag[0]
        if not of_tag and (ended := next((row for row in lately if _of_tag(row, said) and _awaits_its_stop(row)), None)) is not None:
            return _locked("id = %s", [charge_point_pk, ended.pk])[0]
    return still_open[0] if len(still_open) == 1 else None


def _of_tag(row: ChargingSession, said: StopReported) -> bool:
    return tags.normal(row.id_tag) == tags.normal(said.tag or "")


def _is_its_stop(row: ChargingSession, said: StopReported) -> bool:
    """Whether this very stop was told before: with the same register and tag, and, where it ended the session, of the same moment."""
    if row.reported_wh is None or row.meter_start_wh is None or (said.tag and not _of_tag(row, said)):
        return False
    if said.at is None or said.meter_stop_wh != row.meter_start_wh + row.reported_wh:
        return False
    return doubts.LATE in row.flags if "inferred" in row.flags else said.at == row.end_time


def _awaits_its_stop(row: ChargingSession) -> bool:
    return "inferred" in row.flags and doubts.LATE not in row.flags


def _lost_id(ref: str | None) -> bool:
    """Ids no charger of ours was ever given: not a positive int32."""
    try:
        return not 0 < int(ref or "") < 2**31
    except ValueError:
        return True


_COLUMNS = [field.column for field in ChargingSession._meta.concrete_fields]
_NAMES = [field.attname for field in ChargingSession._meta.concrete_fields]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM csms_chargingsession WHERE charge_point_id = %s AND "  # noqa: S608 - our own names
_INSERT_READINGS = """
INSERT INTO csms_meterreading (charge_point_id, session_id, connector_no, at, received_at, context, energy_wh, power_w, current_ma,
  voltage_mv, soc_pct, samples, digest, late, created_at) VALUES {} ON CONFLICT DO NOTHING"""
_READING = "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s)"


def _locked(where: str, parameters: list[object]) -> list[ChargingSession]:
    """Sessions of a charger, locked, as rows. Written out: building this query costs more than asking it."""
    with connection.cursor() as cursor:
        cursor.execute(f"{_SELECT}{where} ORDER BY id LIMIT 5 FOR NO KEY UPDATE", parameters)
        return [ChargingSession.from_db("default", _NAMES, row) for row in cursor.fetchall()]


def _keep(
    charge_point_pk: int, row: ChargingSession | None, connector_no: int, readings: tuple[Reading, ...], now: datetime, *, late: bool
) -> None:
    """Store the readings; one that is there already stays as it was."""
    session_id = row.pk if row else None
    parameters: list[object] = []
    for one in readings:
        parameters += (charge_point_pk, session_id, *reading_values(connector_no, one, now), late, now)
    if readings:
        with connection.cursor() as cursor:
            cursor.execute(_INSERT_READINGS.format(", ".join([_READING] * len(readings))), parameters)


def reading_values(connector_no: int, one: Reading, now: datetime) -> tuple[object, ...]:
    """A reading's columns from connector_no to digest, in their order."""
    samples = json.dumps(one.samples)
    digest = hashlib.blake2b(f"{connector_no} {samples}".encode(), digest_size=8).hexdigest()
    return (
        connector_no, one.at or now, now, one.context, one.energy_wh, one.power_w, one.current_ma, one.voltage_mv, one.soc_pct,
        samples, digest,
    )  # fmt: skip
