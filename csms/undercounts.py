"""Meters that stand still, or count too little, while power flows: a person is told, the bill stays as the meter says.

Looked at once, when a session ends: what its readings' power adds up to, against its energy. A charger whose register is broken,
held back, or set to another unit gives energy away; nobody else would notice.
"""

from datetime import datetime

from django.db import connection

from csms import alerts
from csms.models import ChargingSession
from csms.rules.meter import undercounts

FLAG = "undercounted"
ALERT = "undercounts"
# Between two readings the smaller of both powers counts, and no longer than this: what is in doubt is in the meter's favour.
GAP_S = 900
_POWER = """
SELECT coalesce(sum(least(power_w, after_w)::bigint * least(extract(epoch FROM after - at), %s)), 0)::bigint / 3600 FROM (
  SELECT at, power_w, lead(at) OVER readings AS after, lead(power_w) OVER readings AS after_w
  FROM csms_meterreading WHERE session_id = %s AND power_w IS NOT NULL AND NOT late WINDOW readings AS (ORDER BY at, id)
) reading WHERE after IS NOT NULL"""


def look(row: ChargingSession, now: datetime) -> bool:
    """Flag a session that has just ended, and raise an alert, when its power says much more than its energy. Inside its transaction."""
    heard_s, said_s = now - row.started_at, (row.metered_at or row.start_time) - row.start_time
    lasted_s = max(heard_s, said_s).total_seconds() + GAP_S
    if not undercounts(round(row.peak_power_w * lasted_s / 3600), row.energy_wh):
        return False  # it never could: nearly every session ends here, without a query
    with connection.cursor() as cursor:
        cursor.execute(_POWER, [GAP_S, row.pk])
        (power_wh,) = cursor.fetchone()
    if not undercounts(power_wh, row.energy_wh):
        return False
    row.flags = sorted({*row.flags, FLAG})
    ChargingSession.objects.filter(pk=row.pk).update(flags=row.flags, updated_at=now)
    said = f"Session {row.pk}: its power adds up to {power_wh / 1000:.1f} kWh, its meter counted {row.energy_wh / 1000:.1f}."
    alerts.raise_alert(row.charge_point_id, ALERT, said, now)
    return True
