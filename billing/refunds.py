"""Money on its way back: asked once, asked about until it is certain, never sent twice.

A refund is a row with its idempotency key and its exact body before the first call. claim -> call -> persist: no call under
a row lock. One forward-only machine is fed by our own calls, by webhooks and by polling alike:

    due -> asking -> pending -> processed | failed

After an answer we did not hear (Unknown) Razorpay is asked for the payment's refunds before anything is sent again.
"""

import logging
import re
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet, Sum

from accounts import audit
from billing import differences, ledger, razorpay
from billing.models import Bill, QRPayment, Refund
from billing.rules.payment import SMALLEST_REFUND_PAISE
from csms import permits, sessions
from csms.models import ChargingSession, SessionState
from voltaro import clock
from voltaro.jobs import ring

log = logging.getLogger(__name__)

State = Refund.State
LEASE_S = 120
UNKNOWN_S = 20
LOW_BALANCE_S = 1800
POLL_S = 900
MAX_WAIT_S = 6 * 3600
# A receipt is as long at most; its end, which holds the number, is what tells the refunds of a payment apart.
RECEIPT = 40
# Razorpay refuses a key with anything else (X-Refund-Idempotency).
_NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_-]")


def make(payment: QRPayment, amount_paise: int, reason: str) -> Refund:
    """Owe the rider `amount_paise` back; asked of Razorpay after this transaction. The payment's row is locked by the caller.

    The key derives from Razorpay's payment id, so that installations sharing an account cannot collide, and from the reason;
    a follow-up of a failed refund is numbered.
    """
    assert SMALLEST_REFUND_PAISE <= amount_paise <= payment.amount_paid, (amount_paise, payment.amount_paid)
    earlier = Refund.objects.filter(payment=payment, reason=reason).count()
    key = _NOT_IN_KEYS.sub("-", f"{payment.razorpay_payment_id}-{reason}" + (f"-{earlier + 1}" if earlier else ""))
    speed = _speed(payment)
    refund = Refund.objects.create(
        payment=payment,
        amount_paise=amount_paise,
        reason=reason,
        key=key,
        body={"amount": amount_paise, "speed": speed, "receipt": key[-RECEIPT:], "notes": {"key": key, "reason": reason}},
        speed_requested=speed,
    )
    payment.state = QRPayment.State.REFUNDING
    payment.refund_reason = reason
    payment.save(update_fields=["state", "refund_reason"])
    audit.record("refund.due", refund, after={"amount_paise": amount_paise, "reason": reason, "payment": payment.razorpay_payment_id})
    ring("refund.due")
    return refund


def _speed(payment: QRPayment) -> str:
    """As the settings say, unless Razorpay has said of this payment that it cannot go back at once."""
    refused = payment.refunds.filter(state=State.FAILED, last_error__icontains=razorpay.NO_INSTANT).exists()
    return "normal" if refused else settings.REFUND_SPEED


def again(refund_pk: int) -> Refund | None:
    """A person asks for a failed refund once more: a new row with a new key, for what other hands have not given back meanwhile.

    None when that was already done, or nothing is left.
    """
    payment_pk = Refund.objects.values_list("payment_id", flat=True).get(pk=refund_pk)
    adopt_all(payment_pk)
    with transaction.atomic():
        payment = _lock_payment(payment_pk)
        refund = Refund.objects.get(pk=refund_pk)
        alive = Refund.objects.filter(payment=payment, reason=refund.reason).exclude(state=State.FAILED).exists()
        if refund.state != State.FAILED or alive:
            return None
        return _instead(payment, refund)


def _instead(payment: QRPayment, failed: Refund) -> Refund | None:
    """What is still held of a failed refund is owed anew (the payment's row is locked); None when other hands gave it back.

    None too while the payment has its end before it: that gives back all that is held.
    """
    if _goes_on(payment):
        return None
    rest = min(failed.amount_paise, held(payment))
    payment.review = "refunded_too_much" if rest < 0 else ""
    payment.save(update_fields=["review"])
    if rest >= SMALLEST_REFUND_PAISE:
        return make(payment, rest, failed.reason)
    settle(payment)
    return None


def give_back(payment_pk: int) -> Refund | None:
    """A person decides that a payment under review goes back: what other hands refunded is taken in first, the rest is made.

    None when nothing is left, or when it is not under review.
    """
    adopt_all(payment_pk)
    with transaction.atomic():
        payment = _lock_payment(payment_pk)
        rest = held(payment)
        if payment.state != QRPayment.State.RECEIVED or not payment.review or rest < SMALLEST_REFUND_PAISE:
            return None
        payment.review = ""
        payment.save(update_fields=["review"])
        return make(payment, rest, "by_hand")


def give_rest(payment: QRPayment, reason: str) -> Refund | None:
    """All that is still held of a payment goes back; its row is locked by the caller. None when other hands already gave it back."""
    rest = held(payment)
    if rest >= SMALLEST_REFUND_PAISE:
        return make(payment, rest, reason)
    payment.state, payment.refund_reason = QRPayment.State.REFUNDING, reason
    payment.review = payment.review or ("refunded_too_much" if rest < 0 else "")
    payment.save(update_fields=["state", "refund_reason", "review"])
    settle(payment)
    return None


def _goes_on(payment: QRPayment) -> bool:
    """Whether its own end is still to come: a person's word (give_back), its start or payments.expire, the bill."""
    if payment.state in (QRPayment.State.RECEIVED, QRPayment.State.STARTING, QRPayment.State.CHARGING):
        return True
    return payment.session_id is not None and not Bill.objects.filter(payment=payment).exists()


def held(payment: QRPayment) -> int:
    """Paise of this payment that are neither billed, nor a remainder, nor refunded or being refunded."""
    bill = Bill.objects.filter(payment=payment).first()
    back = payment.refunds.exclude(state=State.FAILED).aggregate(total=Sum("amount_paise"))["total"] or 0
    return payment.amount_paid - payment.remainder - (bill.total + bill.remainder if bill else 0) - back


# -- the worker -----------------------------------------------------------------------------------------------------
def due(now: datetime) -> QuerySet[Refund]:
    """Refunds to ask for, to ask about, or to look at again."""
    open_ = Q(state__in=[State.DUE, State.ASKING, State.PENDING])
    ready = Q(retry_at=None) | Q(retry_at__lte=now)
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    return Refund.objects.filter(open_ & ready & free).order_by("pk")


def work_due(now: datetime, limit: int) -> int:
    """Work on each due refund by itself: one that our code stumbles over holds up nobody behind it."""
    done = 0
    for pk in list(due(now).values_list("pk", flat=True)[:limit]):
        try:
            claimed = _claim(pk, now)
            if claimed is not None:
                _work(*claimed)
                done += 1
        except Exception:
            log.exception("refund %s: could not be worked on", pk)
    return done


def _claim(refund_pk: int, now: datetime) -> tuple[Refund, State] | None:
    """Take a due refund, unless another worker has: (its row, the state it was found in). From here on its money counts as in flight."""
    with transaction.atomic():
        mine = due(now).filter(pk=refund_pk)
        refund = mine.select_for_update(skip_locked=True, of=("self",), no_key=True).select_related("payment").first()
        if refund is None:
            return None
        found = State(refund.state)
        refund.claimed_until = clock.now() + timedelta(seconds=LEASE_S)
        refund.attempts += 1
        if found == State.DUE:
            refund.state = State.ASKING
            refund.asked_at = refund.asked_at or clock.now()
            subject = ledger.of_payment(refund.payment)
            ledger.post(
                f"refund:{refund.pk}:asked",
                [("prepaid", refund.amount_paise, subject), ("refunds_in_flight", -refund.amount_paise, subject)],
            )
        refund.save(update_fields=["claimed_until", "attempts", "state", "asked_at"])
    return refund, found


def _work(refund: Refund, found: State) -> None:
    """Call Razorpay for a claimed refund and write down what it said."""
    try:
        hear(refund.pk, _call(refund, found))
    except razorpay.LowBalance as low:
        _later(refund, State.DUE if found == State.DUE else None, f"balance too low: {low}", LOW_BALANCE_S)
    except razorpay.TryAgain as busy:
        # Not done: safe to send again without asking, unless an earlier attempt was already in doubt.
        _later(refund, State.DUE if found == State.DUE else None, str(busy))
    except razorpay.Unknown as silence:
        _later(refund, None, str(silence), UNKNOWN_S)
    except razorpay.Declined as no:
        _declined(refund, no)
    except Exception as error:
        log.exception("refund %s: not persisted", refund.pk)
        _later(refund, None, type(error).__name__)


def _declined(refund: Refund, no: razorpay.Declined) -> None:
    """Perhaps because other hands gave back a part of it: Razorpay is asked for those first, as only then the rest is known."""
    try:
        adopt_all(refund.payment_id)
    except (razorpay.TryAgain, razorpay.Unknown, razorpay.Declined) as silence:
        _later(refund, None, f"{no}; {silence}", UNKNOWN_S)
    else:
        _refused(refund, no)


def _call(refund: Refund, found: State) -> dict[str, Any]:
    if refund.razorpay_id:
        return razorpay.fetch_refund(refund.razorpay_id)
    payment_id = refund.payment.razorpay_payment_id
    if found == State.ASKING and (theirs := _find(refund)):
        return theirs
    try:
        return razorpay.create_refund(payment_id, refund.body, refund.key)
    except razorpay.Declined:
        # "Fully refunded", "key used with another body": perhaps by ourselves, in an attempt whose answer was lost.
        if theirs := _find(refund):
            return theirs
        raise


def _find(refund: Refund) -> dict[str, Any] | None:
    """Our refund among those Razorpay has for the payment, by the key we sent with it."""
    return next((theirs for theirs in razorpay.payment_refunds(refund.payment.razorpay_payment_id) if _key_of(theirs) == refund.key), None)


def _key_of(entity: dict[str, Any]) -> str:
    notes = entity.get("notes")
    return str((notes.get("key") if isinstance(notes, dict) else None) or entity.get("receipt") or "")


@transaction.atomic
def _later(refund: Refund, state: State | None, why: str, wait_s: int | None = None) -> None:
    row = Refund.objects.select_for_update(no_key=True).get(pk=refund.pk)
    if state and row.state == State.ASKING:
        row.state = state
    row.claimed_until = None
    row.retry_at = clock.now() + timedelta(seconds=wait_s or min(15 * 2 ** min(row.attempts, 12), MAX_WAIT_S))
    row.last_error = why[:300]
    row.save(update_fields=["state", "claimed_until", "retry_at", "last_error"])


@transaction.atomic
def _refused(refund: Refund, no: razorpay.Declined) -> None:
    """Razorpay says no: the money is ours to hold again. What other hands left of it is owed anew; else a person must look.

    Owed anew too, at the ordinary speed, is what was refused for its speed alone.
    """
    payment = _lock_payment(refund.payment_id)
    row = Refund.objects.select_for_update(no_key=True).get(pk=refund.pk)
    if row.state != State.ASKING or row.razorpay_id:  # asked about, not asked: a look-up that is refused says nothing of the refund
        _later(row, None, str(no), POLL_S)
        return
    row.last_error = str(no)[:300]
    _fail(row)
    payment.refresh_from_db()
    slower = row.speed_requested != "normal" and razorpay.NO_INSTANT in row.last_error.lower()
    if slower or held(payment) < row.amount_paise:
        _instead(payment, row)


# -- what Razorpay says of it, whoever brought it -----------------------------------------------------------------------
def hear(refund_pk: int, entity: dict[str, Any]) -> Refund:
    """Razorpay's own words about a refund move the row forward, never back. Returns the row."""
    with transaction.atomic():
        payment = _lock_payment(Refund.objects.values_list("payment_id", flat=True).get(pk=refund_pk))
        refund = Refund.objects.select_for_update(no_key=True).get(pk=refund_pk)
        if not _same_money(refund, payment, entity):
            return _in_doubt(refund)
        refund.razorpay_id = entity["id"]
        refund.speed_processed = str(entity.get("speed_processed") or refund.speed_processed)[:10]
        refund.bank_reference = _bank_reference(entity) or refund.bank_reference
        refund.claimed_until = None
        refund.last_error = ""
        if refund.state in (State.DUE, State.ASKING):
            _asked(refund, payment)
            refund.state = State.PENDING
        match entity.get("status"):
            case "processed" if refund.state == State.PENDING:
                _arrived(refund, payment)
            case "failed" if refund.state in (State.PENDING, State.PROCESSED):
                refund.last_error = "Razorpay could not deliver it"
                _fail(refund)
            case "processed" if refund.state == State.FAILED:
                differences.show("refund_alive", refund.razorpay_id, 0, refund.amount_paise, "failed in our books, processed at Razorpay")
        if refund.state == State.PENDING:
            refund.retry_at = clock.now() + timedelta(seconds=min(POLL_S * 2 ** min(refund.attempts, 8), MAX_WAIT_S))
        refund.save()
    return refund


def adopt_all(payment_pk: int) -> int:
    """Take the refunds that other hands made of a payment (on Razorpay's dashboard) into our books; returns how many."""
    payment = QRPayment.objects.get(pk=payment_pk)
    listed = razorpay.payment_refunds(payment.razorpay_payment_id)
    # After the list: a refund of ours is a row before it is asked for, so that what is listed and has no row is not ours.
    ours = set(payment.refunds.values_list("key", flat=True))
    adopted = sum(_adopt(payment_pk, entity) for entity in listed if _key_of(entity) not in ours)
    payment.refresh_from_db()
    if payment.permit_id and held(payment) < SMALLEST_REFUND_PAISE:
        _spent(payment)
    return adopted


def _spent(payment: QRPayment) -> None:
    """By other hands all of it went back: nobody starts with it any more, and what runs is told to stop until it does. No lock is held."""
    if payment.state == QRPayment.State.STARTING and permits.revoke(payment.permit_id, "refunded_elsewhere"):
        return  # payments.expire closes it
    session = ChargingSession.objects.filter(permit=payment.permit_id).exclude(state=SessionState.STOPPED).first()
    if session is not None:
        sessions.stop_now(session.pk, trigger="refunded_elsewhere")


def _adopt(payment_pk: int, entity: dict[str, Any]) -> bool:
    refund_id, amount = str(entity.get("id") or ""), entity.get("amount")
    if not refund_id or type(amount) is not int or amount < SMALLEST_REFUND_PAISE or entity.get("status") == "failed":
        return False
    with transaction.atomic():
        payment = _lock_payment(payment_pk)
        if Refund.objects.filter(razorpay_id=refund_id).exists():
            return False
        # It was asked already: by whom, Razorpay does not say. With its id it is only ever asked about, never sent by us.
        refund = Refund.objects.create(
            payment=payment,
            razorpay_id=refund_id,
            amount_paise=amount,
            reason=f"outside {refund_id}"[:40],
            key=f"outside-{refund_id}",
            body={},
            state=State.ASKING,
            speed_requested=str(entity.get("speed_requested") or "normal")[:10],
        )
        note = f"a refund of {payment.razorpay_payment_id} that was not asked by us"
        differences.show("outside_refund", refund_id, None, amount, note)
        hear(refund.pk, entity)
        payment.refresh_from_db()
        if held(payment) < 0:
            payment.review = "refunded_too_much"
            payment.save(update_fields=["review"])
    return True


def hear_event(told: dict[str, Any]) -> tuple[bool, str]:
    """A refund as a webhook told it: (whether it is ours, a note). The telling is a bell: Razorpay is asked what is true."""
    refund_id, payment_id = str(told.get("id") or ""), str(told.get("payment_id") or "")
    refund = Refund.objects.filter(Q(razorpay_id=refund_id) | Q(razorpay_id=None, key=_key_of(told))).first() if refund_id else None
    if refund is None:
        if payment := QRPayment.objects.filter(razorpay_payment_id=payment_id).first():
            adopt_all(payment.pk)
            return True, "a refund that was not asked by us, taken into the books"
        return False, "a refund this installation does not know"
    row = hear(refund.pk, razorpay.fetch_refund(refund_id))
    return True, f"refund {row.get_state_display().lower()}, {row.speed_processed or row.speed_requested} speed"


def _asked(refund: Refund, payment: QRPayment) -> None:
    refund.asked_at = refund.asked_at or clock.now()
    subject = ledger.of_payment(payment)
    ledger.post(
        f"refund:{refund.pk}:asked", [("prepaid", refund.amount_paise, subject), ("refunds_in_flight", -refund.amount_paise, subject)]
    )


def _arrived(refund: Refund, payment: QRPayment) -> None:
    refund.state, refund.processed_at, refund.retry_at = State.PROCESSED, clock.now(), None
    subject = ledger.of_payment(payment)
    ledger.post(
        f"refund:{refund.pk}:done", [("refunds_in_flight", refund.amount_paise, subject), ("clearing", -refund.amount_paise, subject)]
    )
    audit.record(
        "refund.processed", refund, after={"amount_paise": refund.amount_paise, "speed": refund.speed_processed, "id": refund.razorpay_id}
    )
    refund.save()
    settle(payment)


def settle(payment: QRPayment) -> bool:
    """Close a payment (its row is locked) once nothing of it is held or on its way; paise that cannot go back are a remainder.

    While a permit or a session lives on it, it stays open.
    """
    if payment.state in (QRPayment.State.STARTING, QRPayment.State.CHARGING):
        return False
    rest = held(payment)
    if payment.refunds.filter(state__in=[State.DUE, State.ASKING, State.PENDING]).exists() or not 0 <= rest < SMALLEST_REFUND_PAISE:
        return False
    if rest:
        subject = ledger.of_payment(payment)
        payment.remainder += rest
        ledger.post(f"remainder:{subject}:{payment.remainder}", [("prepaid", rest, subject), ("remainders", -rest, subject)])
    if rest or payment.state != QRPayment.State.SETTLED:
        payment.state, payment.settled_at = QRPayment.State.SETTLED, clock.now()
        payment.review = "" if payment.review == "refund_failed" else payment.review  # what failed has gone back another way
        payment.save(update_fields=["state", "settled_at", "remainder", "review"])
        audit.record("payment.settled", payment, after={"remainder": rest} if rest else None)
    return True


def _fail(refund: Refund) -> None:
    """Not delivered: the books take the money back, a person must look.

    A refund by other hands may fail before the payment has started, or while the car charges: then the payment goes on as it was.
    """
    subject = ledger.of_payment(refund.payment)
    arrived, amount = refund.state == State.PROCESSED, refund.amount_paise
    source = "clearing" if arrived else "refunds_in_flight"
    ledger.post(f"refund:{refund.pk}:{'returned' if arrived else 'failed'}", [(source, amount, subject), ("prepaid", -amount, subject)])
    before = refund.state
    refund.state, refund.retry_at, refund.claimed_until = State.FAILED, None, None
    refund.save()
    payment = refund.payment
    payment.settled_at, payment.review = None, "refund_failed"
    if not _goes_on(payment):
        payment.state = QRPayment.State.REFUNDING
    payment.save(update_fields=["state", "settled_at", "review"])
    audit.record("refund.failed", refund, before={"state": before}, after={"amount_paise": amount, "why": refund.last_error[:200]})
    log.error("refund %s failed: a person must look", refund.pk)


def _in_doubt(refund: Refund) -> Refund:
    """Razorpay's answer is about other money: nothing is adopted; it is shown and asked about again."""
    refund.last_error = "Razorpay's answer does not fit: another id, payment or amount"
    refund.claimed_until, refund.retry_at = None, clock.now() + timedelta(seconds=MAX_WAIT_S)
    refund.save(update_fields=["last_error", "claimed_until", "retry_at"])
    log.error("refund %s: Razorpay's answer does not fit", refund.pk)
    return refund


def _same_money(refund: Refund, payment: QRPayment, entity: dict[str, Any]) -> bool:
    return bool(
        entity.get("id")
        and refund.razorpay_id in (None, entity["id"])
        and entity.get("payment_id") == payment.razorpay_payment_id
        and entity.get("amount") == refund.amount_paise
    )


def _bank_reference(entity: dict[str, Any]) -> str:
    acquirer = entity.get("acquirer_data")
    if not isinstance(acquirer, dict):
        return ""
    return str(next((acquirer[name] for name in ("rrn", "arn", "utr") if acquirer.get(name)), ""))[:60]


def _lock_payment(payment_pk: int) -> QRPayment:
    return QRPayment.objects.select_for_update(no_key=True, of=("self",)).get(pk=payment_pk)
