"""Faults of chargers: opened by a StatusNotification that names one, over with the NoError of that connector.

How bad it is lies in the status, not in the code: a code without Faulted is a warning, and Faulted without a code is a fault.
"""

from datetime import datetime

from csms.events import StatusReported
from csms.models import ChargerError


def told(said: StatusReported) -> bool:
    """Whether this status names a fault or a warning."""
    return said.error_code not in ("", "NoError") or said.status == "Faulted"


def remember(charge_point_pk: int, said: StatusReported, now: datetime) -> None:
    """Open the fault this status names, once while it lasts; a status without one ends those of its connector."""
    still_open = ChargerError.objects.filter(charge_point_id=charge_point_pk, connector_no=said.connector_no, resolved_at__isnull=True)
    if not told(said):
        still_open.update(resolved_at=now)
        return
    same = {"error_code": said.error_code, "vendor_error_code": said.vendor_error_code[:50]}
    # Another code on the same connector: the charger names one at a time, so the one before is over.
    still_open.exclude(**same).update(resolved_at=now)
    if not still_open.filter(**same).exists():
        ChargerError.objects.create(
            charge_point_id=charge_point_pk,
            connector_no=said.connector_no,
            status=said.status,
            info=said.info[:200],
            vendor_id=said.vendor_id[:255],
            reported_at=now,
            **same,
        )
