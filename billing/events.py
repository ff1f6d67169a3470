"""What each webhook event of billing's means: one table from its name to a deed."""

from collections.abc import Callable
from typing import Any

from billing import differences, payments, qr, razorpay, refunds
from billing.models import QRPayment, WebhookEvent

State = WebhookEvent.State
Outcome = tuple[WebhookEvent.State, str]
# Not our mistakes: Razorpay could not be asked just now.
LATER = (razorpay.TryAgain, razorpay.Unknown)


def act(event: WebhookEvent) -> Outcome:
    """Do what the event calls for; returns the state and the note for its row. Raises what should be tried again."""
    for prefix, deed in DEEDS:
        if event.event.startswith(prefix):
            return deed(event)
    return State.IGNORED, "nothing to do"


def genuine(raw: bytes, signature: str | None) -> bool:
    """Whether Razorpay signed these very bytes."""
    return razorpay.verify_webhook(raw, signature)


def entity(payload: Any, name: str) -> dict[str, Any]:
    """`payload.<name>.entity` of an event, {} when any step of it is missing or odd."""
    for step in ("payload", name, "entity"):
        payload = payload.get(step) if isinstance(payload, dict) else None
    return payload if isinstance(payload, dict) else {}


def _credited(event: WebhookEvent) -> Outcome:
    if not event.payment_id or not event.qr_id:
        return State.IGNORED, "names no payment or no QR"
    return payments.hear(event.qr_id, event.payment_id, event.received_at)


def _captured(event: WebhookEvent) -> Outcome:
    """The same payment without its QR: only the credit says where the money belongs."""
    if QRPayment.objects.filter(razorpay_payment_id=event.payment_id).exists():
        return State.DONE, "payment known"
    return State.IGNORED, "names no QR; the credit of a QR of ours comes with its own event"


def _dispute(event: WebhookEvent) -> Outcome:
    """A chargeback takes money from our balance: a person must answer it."""
    if not QRPayment.objects.filter(razorpay_payment_id=event.payment_id).exists():
        return State.IGNORED, "a dispute about a payment this installation does not know"
    told = entity(event.payload, "dispute")
    amount = told.get("amount_deducted") or told.get("amount")
    differences.show("dispute", str(told.get("id") or event.payment_id), None, amount if type(amount) is int else None, event.event)
    return State.DONE, "shown as a difference"


def _refund(event: WebhookEvent) -> Outcome:
    ours, note = refunds.hear_event(entity(event.payload, "refund"))
    return (State.DONE if ours else State.IGNORED), note[:300]


def _closed(event: WebhookEvent) -> Outcome:
    return qr.hear_closed(event.qr_id)


DEEDS: list[tuple[str, Callable[[WebhookEvent], Outcome]]] = [
    ("qr_code.credited", _credited),
    ("qr_code.closed", _closed),
    ("payment.captured", _captured),
    ("payment.dispute.", _dispute),
    ("refund.", _refund),
]
