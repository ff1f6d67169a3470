"""What a person should look at, about a charger: raised once, counted while it goes on, cleared when it is over."""

from datetime import datetime

from django.db import connection

from accounts import audit
from csms.models import Alert, ChargePoint

# What each kind is called in the console; others are called by their name.
WORDS = {
    "boot_loop": "Boots again and again",
    "certificate": "Trouble with its certificate",
    "clock": "Its clock is wrong",
    "command_timeouts": "Does not answer what it is asked",
    "contested": "Two addresses fight for its connection",
    "configuration": "A setting it does not take",
    "downgrade": "Its key was shown without TLS",
    "firmware": "Trouble with its firmware",
    "flapping": "Connections replace each other",
    "garbage": "Sends what is no OCPP",
    "key_unused": "A new key or profile is not used",
    "local_list": "Trouble with its local list",
    "not_obeying": "Does not do what it is told",
    "profile_lowered": "Its security was lowered by hand",
    "security_event": "Reports a security event",
    "serial": "Another serial number",
    "undercounts": "Its meter counts less than its power says",
}
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


def put_away(alert: Alert, by: str, now: datetime) -> bool:
    """A person has looked at it; False when it was over already. It is raised anew when it goes on."""
    done = clear(alert.charge_point_id, alert.kind, now, by)
    if done:
        audit.record("alert.put_away", ChargePoint(pk=alert.charge_point_id), trigger=alert.kind, after={"detail": alert.detail})
    return done


def words(kind: str) -> str:
    """The kind of an alert, for people."""
    return WORDS.get(kind, kind.replace("_", " ").capitalize())
