"""Going on with a session after a reboot or a lost line, for chargers that ask (vendor conventions over DataTransfer).

GetLastMeterValue: the charger names its transaction and is told where it stood. What was suspended runs again; what is
unknown, ended, or was silent for too long is refused, and the charger begins a new one.
"""

from datetime import datetime
from typing import Any

from django.db import transaction

from csms import sessions
from csms.models import ChargingSession, SessionState
from csms.rules import session as rule


@transaction.atomic
def last_meter_value(charge_point_pk: int, data: Any, now: datetime) -> tuple[dict[str, int] | None, str]:
    """Where this transaction stood, in Wh, or None and why it is refused. Only this charger's own transactions are told of."""
    ref = data.get("transactionId") if isinstance(data, dict) else None
    if isinstance(ref, bool) or not isinstance(ref, (int, str)) or not str(ref).strip():
        return None, "it names no transaction"
    rows = ChargingSession.objects.select_for_update(of=("self",), no_key=True).select_related("connector", "charge_point")
    row = rows.filter(charge_point_id=charge_point_pk, transaction_id=str(ref).strip()[:64]).first()
    if row is None:
        return None, f"no session {str(ref)[:20]} here"
    sessions.apply(row, [rule.Asked()], row.connector.max_power_w, now)
    if row.state == SessionState.STOPPED:
        return None, f"session {row.pk} is over"
    told = {
        "transactionId": int(row.transaction_id),
        "startMeterValueWh": row.meter_start_wh or 0,
        "lastMeterValueWh": row.meter_last_wh or row.meter_start_wh or 0,
        "energyConsumedWh": row.energy_wh,
    }
    return told, ""
