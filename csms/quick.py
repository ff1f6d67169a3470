"""The quick ways: what nine of ten frames are, each in one statement.

A reading: a socket remembers the session it moved last. When the next MeterValues is plainly more of the same (one reading, a live
session, progress and nothing else), the rule is asked with what is remembered, and one statement stores the frame, the
reading and the session together, if nobody has touched the session since (`updated_at` is its version). If somebody has,
nothing is stored and the ordinary way (csms/metering.py) goes on with the row locked. Either all of it is committed before
the charger is answered, or none.

A boot or a status that changes nothing but itself (few other boots of late, no new firmware and none on its way, nothing charging,
no fault before or now, nobody waiting to be let charge): the row and the frame together, or nothing, and the ordinary way. After
an outage a whole fleet says both.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from csms import faults, metering, sessions, stations
from csms.events import Booted, Metered, StatusReported
from csms.metering import Moved, Place
from csms.models import ChargingSession
from csms.rules import session as rule
from csms.rules.session import Verdict

# Boots that follow each other sooner are counted, and more than so many are a matter for csms/boots.py.
BOOTS_APART, BOOTS_COUNTED = timedelta(minutes=10), 4
_LOG = """
INSERT INTO csms_ocppmessage (charge_point_id, direction, correlation_id, message_type, action, raw, note, epoch, at, created_at)
SELECT %s, 'IN', %s, 2, %s, %s, %s, %s, %s, %s FROM moved"""
_METERED = f"""
WITH moved AS (
  UPDATE csms_chargingsession SET updated_at = %s, {", ".join(f"{name} = %s" for name in sessions.PROGRESS)}
  WHERE id = %s AND updated_at = %s RETURNING id
), kept AS (
  INSERT INTO csms_meterreading (charge_point_id, session_id, connector_no, at, received_at, context, energy_wh, power_w, current_ma,
    voltage_mv, soc_pct, samples, digest, late, created_at)
  SELECT %s, id, %s, %s, %s, %s, %s::bigint, %s::int, %s::int, %s::int, %s::smallint, %s::jsonb, %s, false, %s FROM moved
  ON CONFLICT DO NOTHING
)
{_LOG}"""  # noqa: S608 - our own names
_BOOTED = f"""
WITH moved AS (
  UPDATE csms_chargepoint AS c SET boot_count = c.boot_count + 1, last_boot = %s, last_seen = %s, updated_at = %s,
    learned = CASE WHEN last_boot < %s THEN learned - 'boots'
      ELSE jsonb_set(learned, '{{boots}}', coalesce(learned->'boots', '[]') || to_jsonb(last_boot)) END
  WHERE id = %s AND epoch = %s AND registration = 'Accepted' AND vendor = %s AND model = %s AND firmware_version = %s
    AND reported_serial = %s AND (serial_number = reported_serial OR reported_serial = '')
    AND (last_boot < %s OR last_boot <= %s AND coalesce(jsonb_array_length(learned->'boots'), 0) < {BOOTS_COUNTED})
    AND jsonb_exists(learned, 'configuration')
    AND NOT EXISTS (SELECT 1 FROM csms_chargingsession s WHERE s.charge_point_id = c.id AND s.state <> 'STOPPED')
    AND NOT EXISTS (SELECT 1 FROM csms_firmwareupdate u WHERE u.charge_point_id = c.id AND u.finished_at IS NULL)
  RETURNING id
)
{_LOG}"""  # noqa: S608
_STATUS = f"""
WITH moved AS (
  UPDATE csms_connector SET status = %s, error_code = 'NoError', info = %s, vendor_error_code = %s, last_updated = %s, updated_at = %s
  WHERE id = %s AND error_code IN ('', 'NoError') AND status <> 'Faulted' AND (last_updated IS NULL OR last_updated <= %s)
    AND EXISTS (SELECT 1 FROM csms_chargepoint WHERE id = %s AND epoch = %s)
    AND NOT EXISTS (SELECT 1 FROM csms_chargingsession s WHERE s.connector_id = csms_connector.id AND s.state <> 'STOPPED')
  RETURNING id
)
{_LOG}"""  # noqa: S608


@dataclass(frozen=True)
class Arrived:
    """The frame that carried it, as the message log keeps it."""

    charge_point_pk: int
    epoch: int
    correlation_id: str
    action: str
    raw: bytes
    note: str

    def log(self, now: datetime) -> list[Any]:
        return [self.charge_point_pk, self.correlation_id, self.action, self.raw, self.note[:500], self.epoch, now, now]


def booted(arrived: Arrived, said: Booted, now: datetime) -> bool:
    """A boot that tells nothing new but itself; False: nothing was stored, go the ordinary way."""
    who = [arrived.charge_point_pk, arrived.epoch, said.vendor, said.model, said.firmware_version, said.serial_number]
    apart = now - BOOTS_APART
    return _stored(_BOOTED, [now, now, now, apart, *who, apart, now, *arrived.log(now)])


def status(arrived: Arrived, connector_id: UUID, said: StatusReported, now: datetime) -> bool:
    """A status without a fault on a connector without one; False: nothing was stored, go the ordinary way."""
    if faults.told(said) or said.status == "Preparing":  # a plug may be what somebody's permit waits for
        return False
    at = stations.status_time(said, now)
    told = [said.status, said.info[:200], said.vendor_error_code, at, now, connector_id, at, arrived.charge_point_pk, arrived.epoch]
    return _stored(_STATUS, [*told, *arrived.log(now)])


def _stored(sql: str, told: list[Any]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(sql, told)
        return cursor.rowcount == 1


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
    if not _stored(_METERED, [*told, *arrived.log(now)]):
        return None
    sessions.put(remembered, values, now)
    return Moved(remembered.pk, place, live=True, stop_due_at=remembered.stop_due_at, row=remembered)


def _same(remembered: ChargingSession, place: Place, said: Metered) -> bool:
    if said.transaction_ref in metering.NO_TRANSACTION:
        return place.connector_no == said.connector_no
    return said.transaction_ref == remembered.transaction_id
