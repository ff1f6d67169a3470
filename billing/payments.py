"""A payment's way: heard of, taken into the books, then a start or its refund; linked to its session; its fee found out.

received -> starting -> charging -> ended -> refunding -> settled. What may follow is decided by rules/payment; the permit's
row is the arbiter of "start or refund". Locks, in this order: connector, permit, session, payment.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from accounts import audit, failures
from billing import budgets, ledger, payers, razorpay, refunds, tariffs
from billing.models import QRCode, QRPayment, WebhookEvent
from billing.rules import tariff as tariff_rule
from billing.rules.payment import Deed, Facts, Verdict, decide
from csms import availability, permits, reservations, stations
from csms.models import ChargingSession, IdTag, SessionState
from voltaro import clock

log = logging.getLogger(__name__)

State = QRPayment.State
Heard = tuple[WebhookEvent.State, str]
MOST_PAISE = 10_000_000_00
FEE_FIRST_ASKED_S = 900
FEE_ATTEMPTS = 12


class NotCaptured(razorpay.TryAgain):
    """Razorpay is well, this payment is not: its money has not come yet."""


def hear(qr_id: str, payment_id: str, heard_at: datetime) -> Heard:
    """We heard (webhook or poll) that `payment_id` came in through `qr_id`: ask Razorpay what is true, then act.

    Returns what became of it: the state for the webhook event, and a note for people. A QR or payment that is not ours is
    never acted upon: installations may share an account. Raises razorpay.TryAgain when Razorpay could not be asked.
    """
    qr = QRCode.objects.filter(razorpay_id=qr_id).first()
    if qr is None:
        return WebhookEvent.State.IGNORED, "a QR this installation does not know"
    known = QRPayment.objects.filter(razorpay_payment_id=payment_id).first()
    if known is not None:
        _adopt(known)
        return WebhookEvent.State.DONE, "payment known before"
    try:
        entity = razorpay.fetch_payment(payment_id)
    except razorpay.Declined as no:
        return WebhookEvent.State.IGNORED, f"Razorpay does not know this payment: {no.description}"[:300]
    if entity.get("id") != payment_id:
        return WebhookEvent.State.IGNORED, "Razorpay answered with another payment"
    status, amount = entity.get("status"), entity.get("amount")
    if status in ("created", "authorized"):
        raise NotCaptured(f"the payment is {status}, not yet captured")
    if status not in ("captured", "refunded"):
        return WebhookEvent.State.IGNORED, f"the payment is {status}: no money came"
    if entity.get("currency") != "INR" or type(amount) is not int or not 0 < amount <= MOST_PAISE:
        return WebhookEvent.State.IGNORED, "currency or amount cannot be: a person must look"
    payment = take(qr.pk, entity, heard_at)
    _adopt(payment)
    return WebhookEvent.State.DONE, f"payment {payment.get_state_display().lower()} {payment.refund_reason or payment.review}".strip()


def _adopt(payment: QRPayment) -> None:
    """What other hands refunded before we heard of the payment. Asked for again when Razorpay could not say."""
    if payment.review == "refunded_elsewhere" and payment.state == State.RECEIVED:
        refunds.adopt_all(payment.pk)
        payment.refresh_from_db()


@transaction.atomic
def take(qr_pk: int, entity: dict[str, Any], heard_at: datetime) -> QRPayment:
    """Put a captured payment into the books and decide about it, once. `entity` is Razorpay's own answer."""
    connector = permits.lock_connector(QRCode.objects.values_list("connector_id", flat=True).get(pk=qr_pk))
    if known := QRPayment.objects.filter(razorpay_payment_id=entity["id"]).first():
        return known
    now = clock.now()
    qr, charge_point, tariff = QRCode.objects.get(pk=qr_pk), connector.charge_point, tariffs.for_connector(connector, now)
    snapshot = tariff.snapshot() if tariff else {}
    amount = entity["amount"]
    platform_fee = tariff_rule.platform_fee(amount, snapshot) if tariff else 0
    paid_at = _unix(entity.get("created_at")) or heard_at
    user, vpa = payers.of(entity)
    acquirer = entity.get("acquirer_data")
    payment = QRPayment.objects.create(
        razorpay_payment_id=entity["id"],
        qr=qr,
        connector=connector,
        company_id=charge_point.company_id,
        user=user,
        vpa=vpa,
        rrn=str((acquirer.get("rrn") if isinstance(acquirer, dict) else "") or "")[:40],
        amount_paid=amount,
        platform_fee=platform_fee,
        tariff=tariff,
        tariff_snapshot=snapshot,
        paid_at=paid_at,
        heard_at=heard_at,
        start_deadline=heard_at + timedelta(seconds=settings.START_TIMEOUT_S),
        fee_ask_at=now + timedelta(seconds=FEE_FIRST_ASKED_S),
    )
    subject = ledger.of_payment(payment)
    ledger.post(subject, [("clearing", amount, subject), ("prepaid", -amount, subject)])
    _learn_fee(payment, entity, "api")
    facts = Facts(
        amount_paise=amount,
        amount_refunded=entity.get("amount_refunded") or (amount if entity.get("status") == "refunded" else 0),
        qr_active=qr.status == QRCode.Status.ACTIVE,
        age_s=(heard_at - paid_at).total_seconds(),
        waited_s=(now - heard_at).total_seconds(),
        busy=permits.busy(connector),
        reachable=not charge_point.blocked and stations.reachable(charge_point, now),
        limit_wh=tariff_rule.affordable_wh(amount - platform_fee, snapshot) if tariff else None,
        reserved=reservations.kept_until(connector, now) is not None,
        in_service=availability.in_service(connector),
    )
    verdict = decide(facts, stale_s=settings.WEBHOOK_STALE_S, start_timeout_s=settings.START_TIMEOUT_S)
    audit.record(
        "payment.taken",
        payment,
        after={"amount_paise": amount, "verdict": verdict.deed, "reason": verdict.reason, "limit_wh": facts.limit_wh},
        trigger="webhook",
    )
    _act(payment, verdict, facts)
    return payment


def _act(payment: QRPayment, verdict: Verdict, facts: Facts) -> None:
    match verdict.deed:
        case Deed.START:
            assert facts.limit_wh and payment.start_deadline
            payment.permit = permits.grant(
                connector=payment.connector,
                user=payment.user,
                company=payment.company,
                limit_wh=facts.limit_wh,
                start_until=payment.start_deadline,
            )
            payment.state = State.STARTING
            payment.save(update_fields=["permit", "state"])
        case Deed.REFUND:
            refunds.make(payment, payment.amount_paid, verdict.reason)
        case Deed.REVIEW if verdict.reason == ledger.REMAINDER_REASON:
            # Nothing can go back and nothing can start: it is a remainder as a whole.
            payment.refund_reason = verdict.reason
            payment.save(update_fields=["refund_reason"])
            refunds.settle(payment)
        case Deed.REVIEW:
            payment.review = verdict.reason
            payment.save(update_fields=["review"])


# -- the session that came of it ----------------------------------------------------------------------------------
def to_link(now: datetime) -> QuerySet[QRPayment]:
    """Payments whose permit was used by a session they do not know yet."""
    return QRPayment.objects.filter(state=State.STARTING, permit__state=IdTag.State.USED, permit__sessions__isnull=False).order_by("pk")


def link_due(now: datetime, limit: int) -> int:
    return _each(to_link(now), limit, link)


@transaction.atomic
def link(payment_pk: int) -> bool:
    """Tie the payment to the session that its permit started; False when there is none."""
    permit_id = QRPayment.objects.values_list("permit_id", flat=True).get(pk=payment_pk)
    session = ChargingSession.objects.select_for_update(no_key=True).filter(permit=permit_id).first() if permit_id else None
    if session is None:
        return False
    tie(session, lock(payment_pk))
    return True


def tie(session: ChargingSession, payment: QRPayment) -> None:
    """The same with both rows already locked, session first. A payment that is on its way back stays so."""
    if payment.state != State.STARTING or payment.session_id is not None:
        return
    payment.session = session
    payment.state = State.ENDED if session.state == SessionState.STOPPED else State.CHARGING
    payment.save(update_fields=["session", "state"])
    if session.user_id is None and payment.user_id is not None:
        session.user = payment.user
        session.save(update_fields=["user"])
    audit.record("payment.started", payment, after={"session": session.pk})
    transaction.on_commit(lambda: budgets.put(session.pk, payment))


def lock(payment_pk: int) -> QRPayment:
    """The payment's row, locked. Connector, permit and session come before it."""
    return QRPayment.objects.select_for_update(no_key=True, of=("self",)).get(pk=payment_pk)


# -- paid, not started --------------------------------------------------------------------------------------------
def to_expire(now: datetime) -> QuerySet[QRPayment]:
    """Payments whose start did not come in time, or whose permit was taken back."""
    late = Q(start_deadline__lte=now) | Q(permit__state=IdTag.State.REVOKED)
    return QRPayment.objects.filter(late, state=State.STARTING).order_by("start_deadline")


def expire_due(now: datetime, limit: int) -> int:
    return _each(to_expire(now), limit, expire)


@transaction.atomic
def expire(payment_pk: int, reason: str = "not_started") -> bool:
    """Give the whole amount back, unless a session did start: then link it. True when it goes back."""
    permit_id = QRPayment.objects.values_list("permit_id", flat=True).get(pk=payment_pk)
    if permits.revoke(permit_id, reason):
        payment = lock(payment_pk)
        if payment.state == State.STARTING:
            refunds.give_rest(payment, reason)
            failures.note("start_timeout_refunded", payment, reason=reason, amount_paise=payment.amount_paid)
        return True
    link(payment_pk)
    return False


# -- what Razorpay takes ------------------------------------------------------------------------------------------
def to_ask_fee(now: datetime) -> QuerySet[QRPayment]:
    return QRPayment.objects.filter(fee__isnull=True, fee_ask_at__lte=now).order_by("fee_ask_at")


def fees_due(now: datetime, limit: int) -> int:
    """Ask for the fees still unknown. Null stays unknown and is asked again later, ever less often; 0 is a value."""
    return _each(to_ask_fee(now), limit, ask_fee)


def ask_fee(payment_pk: int) -> bool:
    """Ask Razorpay for the fee of one payment; True when it is known now."""
    with transaction.atomic():
        payment = lock(payment_pk)
        payment.fee_attempts += 1
        wait_s = min(FEE_FIRST_ASKED_S * 2**payment.fee_attempts, 86_400)
        # At last the settlement report says it (billing/reconcile.py).
        payment.fee_ask_at = clock.now() + timedelta(seconds=wait_s) if payment.fee_attempts < FEE_ATTEMPTS else None
        payment.save(update_fields=["fee_attempts", "fee_ask_at"])
    entity = razorpay.fetch_payment(payment.razorpay_payment_id)
    return learn_fee(payment_pk, entity, "api")


@transaction.atomic
def learn_fee(payment_pk: int, entity: dict[str, Any], source: str) -> bool:
    """Write down what Razorpay took, once; True when it is known. `entity` holds fee and tax in paise."""
    return _learn_fee(lock(payment_pk), entity, source)


def _learn_fee(payment: QRPayment, entity: dict[str, Any], source: str) -> bool:
    fee, tax = entity.get("fee"), entity.get("tax")
    if payment.fee is not None:
        return True
    if type(fee) is not int or not 0 <= fee <= payment.amount_paid:
        return False
    payment.fee, payment.fee_source, payment.fee_ask_at = fee, source, None
    payment.fee_tax = tax if type(tax) is int and 0 <= tax <= fee else None
    payment.save(update_fields=["fee", "fee_tax", "fee_source", "fee_ask_at"])
    if fee:
        subject = ledger.of_payment(payment)
        ledger.post(f"fee:{payment.razorpay_payment_id}", [("razorpay_fees", fee, subject), ("clearing", -fee, subject)])
    audit.record("payment.fee_known", payment, after={"fee": fee, "source": source})
    return True


def _each(rows: QuerySet[QRPayment], limit: int, deed: Callable[[int], Any]) -> int:
    """Do `deed` to each of the rows and count those done; one row's trouble is not the others'."""
    done = 0
    for pk in list(rows.values_list("pk", flat=True)[:limit]):
        try:
            deed(pk)
            done += 1
        except (razorpay.TryAgain, razorpay.Unknown, razorpay.Declined) as error:
            log.info("payment %s: %s waits (%s)", pk, deed.__name__, type(error).__name__)
        except Exception:
            log.exception("payment %s: %s failed", pk, deed.__name__)
    return done


def _unix(value: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(value, UTC) if type(value) is int and value > 0 else None
    except (OverflowError, ValueError, OSError):
        return None
