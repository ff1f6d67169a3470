"""A bill that was too high is corrected, once: lines that take back, their own entry in the books, the difference to the rider.

What was too high is said by the session (`billable_wh`, csms/doubts.py): a stop that came after we had ended and billed it. The bill's
amounts become what is right now, `BillCorrection` keeps what was taken back, GST by part and to the paisa. Never more is billed.
"""

import logging
from dataclasses import fields
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from billing import bills, ledger, payments, refunds
from billing.models import Bill, BillCorrection, BillLine, QRPayment
from billing.rules.payment import SMALLEST_REFUND_PAISE, Credit, Settlement, credit
from billing.rules.tariff import price
from csms import doubts
from csms.models import ChargingSession
from voltaro import clock
from voltaro.jobs import each, ring

log = logging.getLogger(__name__)

REASON = "late_stop"
_PARTS = ("energy_charge", "cgst", "sgst", "igst", "platform_fee")


def due(now: datetime) -> QuerySet[ChargingSession]:
    """Billed sessions of which less is to be billed."""
    return ChargingSession.objects.filter(rebill_at__lte=now, billed_at__isnull=False).order_by("rebill_at")


def work_due(now: datetime, limit: int) -> int:
    return each(list(due(now).values_list("pk", flat=True)[:limit]), correct, "session")


@transaction.atomic
def correct(session_pk: int) -> bool:
    """Correct the bill of one session; False when there is nothing to correct, or it was done before."""
    session = bills.lock(session_pk)
    if session.rebill_at is None or session.billed_at is None:
        return False
    session.rebill_at = None
    session.save(update_fields=["rebill_at"])
    # Locked: the franchisee's share is made of this row (franchise/settlements.py).
    bill = Bill.objects.select_for_update(no_key=True, of=("self",)).get(session=session)
    wh = doubts.billable_wh(session)
    if BillCorrection.objects.filter(bill=bill).exists() or wh >= bill.delivered_wh:
        return False
    payment = payments.lock(bill.payment_id) if bill.payment_id else None
    less = _credit(bill, payment, wh)
    made = BillCorrection.objects.create(
        bill=bill,
        reason=REASON,
        billed_wh=less.billed_wh,
        total=less.total,
        given_back=less.given_back,
        share_at=clock.now() if payment else None,
        **{part: getattr(less, part) for part in _PARTS},
    )
    _lines(bill, less)
    _apply(bill, session, less, wh)
    if payment is not None:
        _books(session, payment, less)
        _give_back(payment, less)
    audit.record(
        "session.bill_corrected",
        session,
        trigger=REASON,
        before={"billed_wh": bill.billed_wh + less.billed_wh, "total": bill.total + less.total},
        after={"billed_wh": bill.billed_wh, "total": bill.total, "given_back": made.given_back, "remainder": bill.remainder},
    )
    ring("bill.made")
    return True


def _credit(bill: Bill, payment: QRPayment | None, wh: int) -> Credit:
    before = Settlement(**{one.name: getattr(bill, one.name) for one in fields(Settlement)})
    if payment is not None:
        return credit(before, payment.amount_paid, payment.platform_fee, wh, payment.tariff_snapshot)
    worth = price(wh, bill.tariff_snapshot)
    parts = {part: getattr(before, part) - getattr(worth, part) for part in ("energy_charge", "cgst", "sgst", "igst")}
    return Credit(billed_wh=bill.billed_wh - wh, platform_fee=0, given_back=0, remainder=0, overrun_wh=0, overrun_paise=0, **parts)


def _lines(bill: Bill, less: Credit) -> None:
    """The bill's lines once more, with what each loses."""
    lines = list(bill.lines.all())
    last = lines[-1].position
    taken = [(line, getattr(less, "energy_charge" if line.kind == "energy" else line.kind)) for line in lines]
    BillLine.objects.bulk_create(
        BillLine(
            bill=bill,
            position=last + place,
            kind=line.kind,
            description=f"{line.description}, corrected",
            amount_paise=-amount,
            quantity_wh=-less.billed_wh if line.kind == "energy" else None,
            rate_paise_per_kwh=line.rate_paise_per_kwh,
        )
        for place, (line, amount) in enumerate(((line, amount) for line, amount in taken if amount), start=1)
    )


def _apply(bill: Bill, session: ChargingSession, less: Credit, wh: int) -> None:
    for part in _PARTS:
        setattr(bill, part, getattr(bill, part) - getattr(less, part))
    bill.delivered_wh = wh
    bill.billed_wh -= less.billed_wh
    bill.total -= less.total
    bill.refund_due += less.given_back
    bill.remainder += less.remainder
    bill.overrun_wh -= less.overrun_wh
    bill.overrun_paise -= less.overrun_paise
    bill.save()
    session.energy_charge, session.gst_amount, session.total_billed = bill.energy_charge, bill.gst, bill.total
    session.save(update_fields=["energy_charge", "gst_amount", "total_billed"])


def _books(session: ChargingSession, payment: QRPayment, less: Credit) -> None:
    subject = ledger.of_payment(payment)
    lines = [
        ("prepaid", less.remainder - less.total, subject),
        ("energy_revenue", less.energy_charge, subject),
        ("cgst_payable", less.cgst, subject),
        ("sgst_payable", less.sgst, subject),
        ("igst_payable", less.igst, subject),
        ("platform_fee", less.platform_fee, subject),
        ("remainders", -less.remainder, subject),
        ("overrun_given", -less.overrun_paise, subject),
        ("overrun_delivered", less.overrun_paise, subject),
    ]
    if any(amount for _, amount, _ in lines):
        ledger.post(f"correction:session:{session.pk}", lines, memo=REASON)


def _give_back(payment: QRPayment, less: Credit) -> None:
    """To the rider, once; what other hands have given back meanwhile does not go twice."""
    rest = min(less.given_back, refunds.held(payment))
    if rest >= SMALLEST_REFUND_PAISE:
        payment.settled_at = None
        payment.save(update_fields=["settled_at"])
        refunds.make(payment, rest, REASON)
    elif less.given_back:
        payment.review = payment.review or ("refunded_too_much" if rest < 0 else "")
        payment.save(update_fields=["review"])
        refunds.settle(payment)
