"""Refunds: money on its way back to the payer, pending for a moment. Amounts in paise."""

import re

from billing.sandbox import fields, idempotency, payments, transfers, webhooks
from billing.sandbox.errors import ApiError, bad_input, unknown_id
from billing.sandbox.paging import window
from billing.sandbox.world import Request, World, collection

# The documentation describes this refusal but does not print it.
LOW_BALANCE = (
    "Your account does not have enough balance to carry out the refund operation. "
    "You can add funds to your account from your Razorpay dashboard or capture new payments."
)

IN_PROGRESS = "Request failed because another payment operation is in progress"
NO_INSTANT = "Instant refund not supported for the payment"


def create(world: World, request: Request, payment_id: str) -> dict:
    key = request.headers.get("x-refund-idempotency")
    if key is not None and not re.fullmatch(r"[A-Za-z0-9_-]{10,}", key):
        raise bad_input("The idempotency key must be at least 10 characters: letters, digits, underscore and hyphen only.")
    return idempotency.once(world, "refund", key, request, lambda: _create(world, request, payment_id), different=409)


def _create(world: World, request: Request, payment_id: str) -> dict:
    body = request.body
    fields.only(body, "amount speed notes receipt reverse_all")
    payment = payments.known(world, payment_id)
    if not payment["captured"]:
        raise bad_input("The payment status should be captured for action to be taken")
    amount = payment["amount"] if body.get("amount") is None else fields.paise(body)
    speed = fields.choice(body, "speed", ("normal", "optimum"), default="normal")
    if payment["amount_refunded"] >= payment["amount"]:
        raise bad_input("The payment has been fully refunded already.")
    if payment["amount_refunded"] + amount > payment["amount"]:
        raise bad_input("The refund amount provided is greater than amount captured.", "amount")
    if fields.flag(body, "reverse_all"):
        transfers.reverse_all(world, payment, full=amount == payment["amount"])
    if request.mood == "insufficient_balance" or world.store.balance() < amount:
        raise ApiError(LOW_BALANCE, source="business", step="payment_initiation", reason="insufficient_balance")
    if request.mood == "400_in_progress":
        raise bad_input(IN_PROGRESS)
    if request.mood == "no_instant" and speed == "optimum":
        raise bad_input(NO_INSTANT)
    at_once = world.options.refund_delay_s <= 0 and request.mood not in ("pending_then_failed", "stays_pending", "speed_changed")
    doc = {
        "id": world.new_id("rfnd"),
        "created_at": world.now(),
        "amount": amount,
        "payment_id": payment_id,
        "notes": fields.notes(body),
        "receipt": fields.text(body, "receipt"),
        "acquirer_data": {"arn": None},
        "status": "pending",
        "speed_requested": speed,
        "speed_processed": None if speed == "optimum" else "normal",
        "_end": {"pending_then_failed": "failed", "speed_changed": "slower"}.get(request.mood, "processed"),
    }
    world.store.add("refund", doc)
    _count(world, payment, amount)
    world.store.move(world.now(), "refund", doc["id"], amount, debit=amount, payment_id=payment_id)
    webhooks.send(world, "refund.created", _told(world, doc))
    if at_once:
        doc = finish(world, doc["id"])
    elif request.mood != "stays_pending":
        world.later(world.options.refund_delay_s, "refund", doc["id"])
    return view(doc)


def finish(world: World, id: str) -> dict:
    """pending -> processed, or failed; an instant refund may fall back to an ordinary one on the way."""
    with world.store.transaction():
        doc = world.store.get("refund", id)
        if doc["status"] != "pending":
            return doc
        if doc["_end"] == "failed":
            doc.update(status="failed", acquirer_data={})
            world.store.save(doc)
            _count(world, payments.known(world, doc["payment_id"]), -doc["amount"])
            world.store.move(world.now(), "adjustment", id, doc["amount"], credit=doc["amount"], payment_id=doc["payment_id"])
            webhooks.send(world, "refund.failed", _told(world, doc))
            return doc
        instant = doc["speed_requested"] == "optimum" and doc["_end"] != "slower"
        if doc["speed_requested"] == "optimum" and not instant:
            doc["speed_processed"] = "normal"
            webhooks.send(world, "refund.speed_changed", _told(world, doc))
        doc.update(status="processed", speed_processed="instant" if instant else "normal", acquirer_data={"rrn": world.digits(12)})
        world.store.save(doc)
        webhooks.send(world, "refund.processed", _told(world, doc))
    return doc


def fetch(world: World, request: Request, id: str) -> dict:
    return view(_known(world, id))


def fetch_of_payment(world: World, request: Request, payment_id: str, id: str) -> dict:
    doc = _known(world, id)
    if doc["payment_id"] != payment_id:
        raise unknown_id()
    return view(doc)


def list_all(world: World, request: Request) -> dict:
    return collection([view(doc) for doc in world.store.find("refund", **window(request))])


def list_of_payment(world: World, request: Request, payment_id: str) -> dict:
    payments.known(world, payment_id)
    return collection([view(doc) for doc in world.store.find("refund", {"payment_id": payment_id}, **window(request))])


def edit(world: World, request: Request, id: str) -> dict:
    fields.only(request.body, "", required="notes")
    with world.store.transaction():
        return view(world.store.save({**_known(world, id), "notes": fields.notes(request.body)}))


def view(doc: dict) -> dict:
    return {
        "id": doc["id"],
        "entity": "refund",
        "amount": doc["amount"],
        "currency": "INR",
        "payment_id": doc["payment_id"],
        "notes": fields.as_notes(doc["notes"]),
        "receipt": doc["receipt"],
        "acquirer_data": doc["acquirer_data"],
        "created_at": doc["created_at"],
        "batch_id": None,
        "status": doc["status"],
        "speed_processed": doc["speed_processed"],
        "speed_requested": doc["speed_requested"],
    }


def _told(world: World, doc: dict) -> dict:
    return {"refund": view(doc), "payment": payments.event_view(world, payments.known(world, doc["payment_id"]))}


def _count(world: World, payment: dict, amount: int) -> None:
    refunded = payment["amount_refunded"] + amount
    full = refunded == payment["amount"]
    payment.update(amount_refunded=refunded, refund_status="full" if full else "partial" if refunded else None)
    payment["status"] = "refunded" if full else "captured"
    world.store.save(payment)


def _known(world: World, id: str) -> dict:
    if doc := world.store.get("refund", id):
        return doc
    if not id.startswith("rfnd_") or len(id) != 19:
        raise bad_input(f"{id} is not a valid id.", "id")
    raise unknown_id()
