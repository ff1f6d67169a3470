"""Tags: what a card or a permit may do. Answered from our own database only; never waits for money."""

from dataclasses import dataclass
from datetime import datetime

from csms.models import IdTag


@dataclass(frozen=True)
class TagAnswer:
    """OCPP 1.6 §7.2 AuthorizationStatus, and the permit's row when there is one."""

    status: str
    permit: IdTag | None = None

    @property
    def accepted(self) -> bool:
        return self.status == "Accepted"


def normal(tag: str) -> str:
    """How tags are compared (1.6 errata 3.73-75): upper case, letters and digits; a payment terminal's `;...` cut off."""
    return "".join(char for char in tag.partition(";")[0].upper() if char.isalnum())[:20]


def judge(permit: IdTag | None, charge_point_pk: int, connector_no: int | None, now: datetime) -> TagAnswer:
    """What this tag may do here and now. A one-time tag is bound to its charger and connector, and to one start."""
    if permit is None:
        return TagAnswer("Invalid")
    if permit.state in (IdTag.State.BLOCKED, IdTag.State.REVOKED):
        return TagAnswer("Blocked" if permit.state == IdTag.State.BLOCKED else "Invalid", permit)
    if permit.state == IdTag.State.USED:
        return TagAnswer("Invalid", permit)
    if permit.expires_at is not None and permit.expires_at <= now:
        return TagAnswer("Expired", permit)
    if permit.charge_point_id is not None and permit.charge_point_id != charge_point_pk:
        return TagAnswer("Invalid", permit)
    if permit.connector_id is not None and connector_no is not None and permit.connector.connector_id != connector_no:
        return TagAnswer("Invalid", permit)
    return TagAnswer("Accepted", permit)


def authorize(tag: str, charge_point_pk: int, now: datetime) -> TagAnswer:
    """Authorize.req: the tag alone, before a connector is known. A permit in use may be shown again to stop."""
    permit = IdTag.objects.select_related("connector").filter(tag=normal(tag)).first()
    used_here = permit is not None and permit.state == IdTag.State.USED and permit.charge_point_id == charge_point_pk
    if permit is not None and used_here and permit.sessions.exclude(state="STOPPED").exists():
        return TagAnswer("Accepted", permit)
    return judge(permit, charge_point_pk, None, now)
