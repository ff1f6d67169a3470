"""An ended session becomes a bill, exactly once: price, tax, fee, what goes back, and the entries in the books.

The connector, the permit, the session and the payment are locked in this order, so whatever else happens at that moment
(a late link, an expiring start, a second worker) happens before or after, never in between.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import audit, failures
from billing import budgets, ledger, payments, refunds, tariffs
from billing.models import Bill, BillLine, QRPayment
from billing.rules.payment import SMALLEST_REFUND_PAISE, Settlement, settle
from billing.rules.tariff import price
from csms import doubts, permits
from csms.models import ChargingSession, IdTag, SessionState
from voltaro import clock
from voltaro.jobs import ring

log = logging.getLogger(__name__)

HELD = doubts.HELD
# Energy held for review this long is billed as far as it is plausible, and the rest goes back.
HELD_AT_MOST = timedelta(hours=24)
NO_TARIFF: dict[str, Any] = {"name": "none", "rate_paise_per_kwh": 0, "gst_bp": 0, "igst": False, "platform_fee_bp": 0}


def due(now: datetime) -> QuerySet[ChargingSession]:
    """Ended sessions without a bill; those held for a person wait, but not for ever."""
    unbilled = ChargingSession.objects.filter(state=SessionState.STOPPED, billed_at__isnull=True)
    return unbilled.exclude(Q(flags__contains=[HELD]) & Q(ended_at__gt=now - HELD_AT_MOST)).order_by("ended_at")


def work_due(now: datetime, limit: int) -> int:
    done = 0
    for pk in list(due(now).values_list("pk", flat=True)[:limit]):
        try:
            done += bill(pk)
        except Exception:
            log.exception("session %s: not billed", pk)
            _failed(pk)
    return done


def _failed(session_pk: int) -> None:
    """It stays due and is tried again; once an hour it is put on record."""
    try:
        session = ChargingSession.objects.only("pk", "company_id", "energy_wh").get(pk=session_pk)
        failures.note("billing_failed", session, once_s=3600, energy_wh=session.energy_wh)
    except Exception:
        log.exception("session %s: that it was not billed could not be put on record", session_pk)


@transaction.atomic
def bill(session_pk: int) -> bool:
    """Bill one ended session; False when it was billed before or still runs.

    A session that nobody prepaid (an RFID card, an unknown tag, a start after its money had gone back) gets a bill at the
    tariff of its start too, so that its worth is known; no money moved, so nothing is posted and nothing goes back.
    """
    session = lock(session_pk)
    if session.billed_at is not None or session.state != SessionState.STOPPED:
        return False
    wh = doubts.billable_wh(session)
    payment = _payment(session)
    made = _of_payment(session, payment, wh) if payment else _unpaid(session, wh)
    session.energy_charge, session.gst_amount = made.energy_charge, made.gst
    session.total_billed, session.billed_at, session.rebill_at = made.total, clock.now(), None
    session.save(update_fields=["energy_charge", "gst_amount", "total_billed", "billed_at", "rebill_at"])
    transaction.on_commit(lambda: budgets.forget(session.pk))
    audit.record(
        "session.billed",
        session,
        trigger="held for a day" if HELD in session.flags else "",
        after={
            "billed_wh": made.billed_wh,
            "total": made.total,
            "refund_due": made.refund_due,
            "remainder": made.remainder,
            "overrun_wh": made.overrun_wh,
        },
    )
    if payment is not None:
        _give_back(payment, made)
    ring("bill.made")
    return True


def lock(session_pk: int) -> ChargingSession:
    """The session, locked, and before it its connector and its permit."""
    session = ChargingSession.objects.get(pk=session_pk)
    permits.lock_connector(session.connector_id)
    if session.permit_id:
        IdTag.objects.select_for_update(no_key=True).get(pk=session.permit_id)
    return ChargingSession.objects.select_for_update(no_key=True, of=("self",)).get(pk=session_pk)


def _payment(session: ChargingSession) -> QRPayment | None:
    """The payment this session lives on, locked and linked; None when there is none or its money is already going back."""
    pk = QRPayment.objects.filter(permit=session.permit_id).values_list("pk", flat=True).first() if session.permit_id else None
    if pk is None:
        return None
    payment = payments.lock(pk)
    payments.tie(session, payment)
    return payment if payment.session_id == session.pk else None


def _of_payment(session: ChargingSession, payment: QRPayment, wh: int) -> Bill:
    end = settle(payment.amount_paid, payment.platform_fee, wh, payment.tariff_snapshot)
    made = Bill.objects.create(
        session=session,
        payment=payment,
        tariff_snapshot=payment.tariff_snapshot,
        delivered_wh=wh,
        billed_wh=end.billed_wh,
        energy_charge=end.energy_charge,
        cgst=end.cgst,
        sgst=end.sgst,
        igst=end.igst,
        platform_fee=end.platform_fee,
        total=end.total,
        refund_due=end.refund_due,
        remainder=end.remainder,
        overrun_wh=end.overrun_wh,
        overrun_paise=end.overrun_paise,
    )
    _lines(made)
    _books(session, payment, end)
    return made


def _give_back(payment: QRPayment, made: Bill) -> None:
    """What is left of the payment. What other hands refunded meanwhile (on Razorpay's dashboard) does not go back twice."""
    rest = min(made.refund_due, refunds.held(payment))
    if rest >= SMALLEST_REFUND_PAISE:
        refunds.make(payment, rest, "surplus" if made.billed_wh else "zero_energy")
    else:
        payment.state = QRPayment.State.ENDED
        payment.review = "refunded_too_much" if rest < 0 else payment.review
        payment.save(update_fields=["state", "review"])
        refunds.settle(payment)


def _books(session: ChargingSession, payment: QRPayment, end: Settlement) -> None:
    subject = ledger.of_payment(payment)
    if end.total:
        ledger.post(
            f"bill:session:{session.pk}",
            [
                ("prepaid", end.total, subject),
                ("energy_revenue", -end.energy_charge, subject),
                ("cgst_payable", -end.cgst, subject),
                ("sgst_payable", -end.sgst, subject),
                ("igst_payable", -end.igst, subject),
                ("platform_fee", -end.platform_fee, subject),
            ],
        )
    if end.remainder:
        ledger.post(f"remainder:session:{session.pk}", [("prepaid", end.remainder, subject), ("remainders", -end.remainder, subject)])
    if end.overrun_paise:
        ledger.post(
            f"overrun:session:{session.pk}",
            [("overrun_given", end.overrun_paise, subject), ("overrun_delivered", -end.overrun_paise, subject)],
        )


def _unpaid(session: ChargingSession, wh: int) -> Bill:
    tariff = tariffs.for_connector(session.connector, session.start_time)
    snapshot = tariff.snapshot() if tariff else NO_TARIFF
    worth = price(wh, snapshot)
    made = Bill.objects.create(
        session=session,
        tariff_snapshot=snapshot,
        delivered_wh=wh,
        billed_wh=wh,
        energy_charge=worth.energy_charge,
        cgst=worth.cgst,
        sgst=worth.sgst,
        igst=worth.igst,
        total=worth.total,
    )
    _lines(made)
    return made


def _lines(made: Bill) -> None:
    """The bill as people read it: energy, its taxes, the fee. Lines of nothing are left out, energy is always there."""
    snapshot = made.tariff_snapshot
    rate, gst = snapshot["rate_paise_per_kwh"], snapshot["gst_bp"]
    lines = [
        ("energy", "Energy", made.energy_charge),
        ("cgst", f"CGST {gst / 200:g} %", made.cgst),
        ("sgst", f"SGST {gst / 200:g} %", made.sgst),
        ("igst", f"IGST {gst / 100:g} %", made.igst),
        ("platform_fee", "Platform fee", made.platform_fee),
    ]
    BillLine.objects.bulk_create(
        BillLine(
            bill=made,
            position=position,
            kind=kind,
            description=description,
            amount_paise=amount,
            quantity_wh=made.billed_wh if kind == "energy" else None,
            rate_paise_per_kwh=rate if kind == "energy" else None,
        )
        for position, (kind, description, amount) in enumerate(lines, start=1)
        if amount or kind == "energy"
    )
