"""The quick way of a reading: what nine of ten frames are, in one statement.

A socket remembers the session it moved last. When the next MeterValues is plainly more of the same (one reading, a live
session, progress and nothing else), the rule is asked with what is remembered, and one statement stores the frame, the
reading and the session together, if nobody has touched the session since (`updated_at` is its version). If somebody has,
nothing is stored and the ordinary way (csms/metering.py) goes on with the row locked. Either all of it is committed before
the charger is answered, or none.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from csms import metering, sessions
from csms.events import Metered
from csms.metering import Moved, Place
from csms.models import ChargingSession
from csms.rules import session as rule
from csms.rules.session import Verdict

_QUICK = f"""
WITH moved AS (
  UPDATE csms_chargingsession SET updated_at = %s, {", ".join(f"{name} = %s" for name in sessions.PROGRESS)}
  WHERE id = %s AND updated_at = %s RETURNING id
), kept AS (
  INSERT INTO csms_meterreading (charge_point_id, session_id, connector_no, at, received_at, context, energy_wh, power_w, current_ma,
    voltage_mv, soc_pct, samples, digest, late, created_at)
  SELECT %s, id, %s, %s, %s, %s, %s::bigint, %s::int, %s::int, %s::int, %s::smallint, %s::jsonb, %s, false, %s FROM moved
  ON CONFLICT DO NOTHING
)
INSERT INTO csms_ocppmessage (charge_point_id, direction, correlation_id, message_type, action, raw, note, epoch, at, created_at)
SELECT %s, 'IN', %s, 2, 'MeterValues', %s, %s, %s, %s, %s FROM moved"""  # noqa: S608 - our own names


@dataclass(frozen=True)
class Arrived:
    """The frame that carried the reading, as the message log keeps it."""

    charge_point_pk: int
    epoch: int
    correlation_id: str
    raw: bytes
    note: str


def metered(arrived: Arrived, remembered: ChargingSession, place: Place, said: Metered, now: datetime) -> Moved | None:
    """Store one more reading of the remembered session; None when this is not plainly that: go the ordinary way."""
    if len(said.readings) != 1 or not _same(remembered, place, said):
        return None
    reading, named = said.readings[0], said.transaction_ref not in metering.NO_TRANSACTION
    before = sessions.snapshot(remembered, place.max_power_w)
    after, verdict = rule.step(before, metering.event(reading, named=named), now, sessions.limits())
    # A meter that waits for a second sample, a state that changes: the ordinary way says and audits it.
    if verdict is not Verdict.PROGRESS or after.flags != before.flags or after.meter.pending_wh != before.meter.pending_wh:
        return None
    values = sessions.values(remembered, after)
    told = [now, *(values[name] for name in sessions.PROGRESS), remembered.pk, remembered.updated_at]
    told += [arrived.charge_point_pk, *metering.reading_values(said.connector_no, reading, now), now]
    told += [arrived.charge_point_pk, arrived.correlation_id, arrived.raw, arrived.note[:500], arrived.epoch, now, now]
    with connection.cursor() as cursor:
        cursor.execute(_QUICK, told)
        if cursor.rowcount != 1:
            return None
    sessions.put(remembered, values, now)
    return Moved(remembered.pk, place, live=True, stop_due_at=remembered.stop_due_at, row=remembered)


def _same(remembered: ChargingSession, place: Place, said: Metered) -> bool:
    if said.transaction_ref in metering.NO_TRANSACTION:
        return place.connector_no == said.connector_no
    return said.transaction_ref == remembered.transaction_id
