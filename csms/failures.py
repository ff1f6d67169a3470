"""Which changes of a session, and which odd messages, are failures (accounts/failures.py: the table, and where they are kept)."""

from datetime import datetime
from typing import Any

from accounts import failures
from csms.models import ChargePoint, ChargingSession
from csms.rules.session import HELD, Session

# How a session's end is called among the failures; other ends are none.
ENDS = {
    "DISCONNECT_TIMEOUT": "disconnect_stopped",
    "STALE_RECONNECT": "stale_reconnect",
    "FLAPPING": "flapping_stopped",
    "SILENCE": "silence_stopped",
    "NO_STOP": "no_stop",
    "SUPERSEDED": "superseded",
    "CHARGER_HAS_NONE": "charger_has_none",
}
# What flows where no session is, is put on record so often (per charger), as is the same trouble with one session.
FLOW_EVERY_S, SAME_EVERY_S = 6 * 3600, 3600
# The sweep that ends what waited comes at most so long after its time.
SWEPT_LATE_S = 180


def suspended(row: ChargingSession, why: str) -> None:
    """Its line is gone, or its charger restarted (`why` is "booted")."""
    mode = "boot_suspended" if why == "booted" else "disconnect_suspended"
    failures.note(mode, row, charge_point=row.charge_point_id, energy_wh=row.energy_wh, why=why)


def ended(row: ChargingSession, before: Session, after: Session, now: datetime, *, max_resume_gap_s: int) -> None:
    """It has just ended: what was wrong with that, if anything was."""
    facts: dict[str, Any] = {"charge_point": row.charge_point_id, "energy_wh": after.meter.energy_wh, "reason": after.stop_reason}
    mode = ENDS.get(after.stop_reason)
    waited_s = (now - before.suspended_at).total_seconds() if before.suspended_at else 0.0
    if mode in ("disconnect_stopped", "no_stop") and waited_s > max_resume_gap_s + SWEPT_LATE_S:
        mode, facts["waited_s"] = "stale_suspended_swept", int(waited_s)
    if mode:
        failures.note(mode, row, **facts)
    if after.meter.energy_wh == 0 and row.authorized:
        failures.note("zero_energy_stopped", row, **facts)
    if HELD in after.flags:
        failures.note("held_for_review", row, **facts, reported_wh=after.reported_wh)


def not_obeyed(row: ChargingSession, attempts: int) -> None:
    """It was told to stop, and charges on."""
    failures.note(
        "remote_stop_not_obeyed", row, once_s=SAME_EVERY_S, charge_point=row.charge_point_id, energy_wh=row.energy_wh, attempts=attempts
    )


def charges_on(row: ChargingSession, power_w: int | None, register_wh: int | None) -> None:
    """We have ended it; its charger is back, and charges on."""
    failures.note("charges_on", row, charge_point=row.charge_point_id, power_w=power_w, register_wh=register_wh, energy_wh=row.energy_wh)


def late_stop(row: ChargingSession, facts: dict[str, Any]) -> None:
    """The real stop of a session that we ended for it."""
    failures.note("late_stop", row, charge_point=row.charge_point_id, energy_wh=row.energy_wh, **facts)


def orphan_stop(charge_point_pk: int, facts: dict[str, Any]) -> None:
    """A stop of a transaction that we never gave."""
    failures.note("orphan_stop", _owned(charge_point_pk), **facts)


def phantom_flow(charge_point_pk: int, connector_no: int, power_w: int | None, register_wh: int | None, transaction: str | None) -> None:
    """Readings show that energy flows, and no session is there."""
    facts = {"connector": connector_no, "power_w": power_w, "register_wh": register_wh, "transaction": transaction}
    failures.note("phantom_flow", _owned(charge_point_pk), once_s=FLOW_EVERY_S, **facts)


def quarantined(charge_point_pk: int, action: str, error: str) -> None:
    """Our own code stumbled over a message; the frame is kept."""
    failures.note("message_quarantined", _owned(charge_point_pk), action=action, error=error)


def _owned(charge_point_pk: int) -> ChargePoint:
    """The row with its owner: whoever may see the charger may see what went wrong there."""
    return ChargePoint.objects.only("pk", "company_id").get(pk=charge_point_pk)
