"""What a person should look at, about a charger: raised once, counted while it goes on, cleared when it is over."""

from datetime import datetime

from django.db import connection

from accounts import audit
from csms.models import Alert, ChargePoint

_RAISE = """
INSERT INTO csms_alert (charge_point_id, kind, detail, count, raised_at, last_at, cleared_by, created_at, updated_at)
VALUES (%s, %s, %s, 1, %s, %s, '', %s, %s)
ON CONFLICT (charge_point_id, kind) WHERE cleared_at IS NULL
DO UPDATE SET count = csms_alert.count + 1, detail = excluded.detail, last_at = excluded.last_at, updated_at = excluded.updated_at
RETURNING id, count"""


def raise_alert(charge_point_pk: int, kind: str, detail: str, now: datetime) -> bool:
    """Raise an alert, or count it once more while it is open; True when it is new. `kind` names its runbook (docs/runbooks)."""
    with connection.cursor() as cursor:
        cursor.execute(_RAISE, [charge_point_pk, kind, detail[:200], now, now, now, now])
        _, count = cursor.fetchone()
    if count == 1:
        audit.record("alert.raised", ChargePoint(pk=charge_point_pk), trigger=kind, after={"detail": detail[:200]})
    return bool(count == 1)


def clear(charge_point_pk: int, kind: str, now: datetime, by: str = "") -> bool:
    """It is over; True when it was open."""
    still_open = Alert.objects.filter(charge_point_id=charge_point_pk, kind=kind, cleared_at__isnull=True)
    return bool(still_open.update(cleared_at=now, cleared_by=by[:150], updated_at=now))
