"""Energy that somebody doubts: the rule (`held`), a charger that says otherwise later (`late`), or a person (`disputed`).

What was counted stays as it was; beside it stands `billable_wh`, what is billed instead. Billing reads it (billing/bills.py): before
the bill it decides the bill, after it the bill is corrected.
"""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from csms import sessions
from csms.models import ChargingSession, SessionState
from csms.rules import meter as meters
from csms.rules import session as rule
from csms.rules.session import HELD
from voltaro import clock
from voltaro.jobs import ring

RELEASED, DISPUTED, LATE = "released", "disputed", "late"


# -- what is said of a session that has ended ---------------------------------------------------------------------------
def cap_wh(row: ChargingSession) -> int:
    """The most its connector can have delivered in its time."""
    now = row.ended_at or clock.now()
    cap = rule.cap_wh(sessions.snapshot(row, row.connector.max_power_w), row.end_time, now)
    assert cap is not None, "a row knows when it began"
    return cap


def plausible_wh(row: ChargingSession) -> int:
    """What was counted, as far as the connector can have delivered it."""
    return min(row.energy_wh, cap_wh(row))


def reported_wh(row: ChargingSession) -> int:
    """The most that its charger says: the plain difference of its registers, or what was counted."""
    plain_wh = row.reported_wh
    if plain_wh is None and rule.INTERVALS not in row.flags:
        plain_wh = meters.reported(sessions.snapshot(row, 0).meter, None)
    return max(row.energy_wh, plain_wh or 0)


def billable_wh(row: ChargingSession) -> int:
    """What is billed: as counted, unless a person or a late stop said otherwise; of a session still held no more than is plausible."""
    wh = row.energy_wh if row.billable_wh is None else row.billable_wh
    return min(wh, plausible_wh(row)) if HELD in row.flags else wh


# -- the charger says otherwise -----------------------------------------------------------------------------------------
def late_stop(row: ChargingSession, register_wh: int | None, now: datetime) -> int | None:
    """The stop of a session that we ended for its charger: marked; lower than what is billed, it counts instead, now or as a correction.

    `row` is locked. Returns the plain difference of the registers, as for any stop; None when there is none.
    """
    meter = sessions.snapshot(row, 0).meter
    row.reported_wh = meters.reported(meter, register_wh) if register_wh else None
    row.flags = sorted({*row.flags, LATE})
    said_wh = None if rule.INTERVALS in row.flags else meters.late(meter, register_wh)
    if said_wh is not None and said_wh < billable_wh(row):
        row.billable_wh, row.rebill_at = said_wh, now
        ring("session.rebill")
    row.updated_at = now
    row.save(update_fields=["reported_wh", "flags", "billable_wh", "rebill_at"])
    return row.reported_wh


# -- a person looks -----------------------------------------------------------------------------------------------------
def held(user: object) -> QuerySet[ChargingSession]:
    """Sessions that wait for a person before they are billed, the oldest first."""
    waiting = ChargingSession.objects.visible_to(user).filter(state=SessionState.STOPPED, billed_at__isnull=True, flags__contains=[HELD])
    return waiting.select_related("charge_point__station", "connector", "company").order_by("ended_at")


@transaction.atomic
def release(session_pk: int, wh: int, why: str) -> ChargingSession:
    """A person decides what is billed of a held session: 0 up to what its charger reported. Raises ValidationError with a sentence."""
    row = _locked(session_pk)
    if HELD not in row.flags or row.billed_at is not None or row.live:
        raise ValidationError("This session is not held any more: it has been billed, or somebody has released it.")
    most = reported_wh(row)
    if not 0 <= wh <= most:
        raise ValidationError(f"Between 0 and what the charger reported, {most / 1000:.3f} kWh.")
    before = {"reported_wh": most, "plausible_wh": plausible_wh(row), "energy_wh": row.energy_wh, "billable_wh": row.billable_wh}
    row.billable_wh, row.flags = wh, sorted({*row.flags, RELEASED} - {HELD})
    row.save(update_fields=["billable_wh", "flags"])
    audit.record("session.released", row, trigger="console", before=before, after={"billable_wh": wh, "why": why[:200]})
    ring("session.ended")
    return row


@transaction.atomic
def dispute(session_pk: int, why: str) -> bool:
    """Somebody disputes this session: its frames are kept until that is over. False when it was disputed already."""
    return _mark(session_pk, disputed=True, why=why)


@transaction.atomic
def settle(session_pk: int, why: str) -> bool:
    """The dispute is over; False when there was none."""
    return _mark(session_pk, disputed=False, why=why)


def _mark(session_pk: int, *, disputed: bool, why: str) -> bool:
    row = _locked(session_pk)
    if disputed == (DISPUTED in row.flags):
        return False
    row.flags = sorted({*row.flags, DISPUTED} if disputed else set(row.flags) - {DISPUTED})
    row.save(update_fields=["flags"])  # with updated_at: a socket that remembers the row reads it anew
    audit.record("session.disputed" if disputed else "session.dispute_settled", row, trigger="console", after={"why": why[:200]})
    return True


def _locked(session_pk: int) -> ChargingSession:
    rows = ChargingSession.objects.select_for_update(of=("self",), no_key=True).select_related("connector")
    return rows.get(pk=session_pk)
