"""Orders: a wish to be paid an amount, as Checkout uses them. Amounts in paise."""

import hashlib
import hmac

from billing.sandbox import fields, payments, webhooks
from billing.sandbox.errors import bad_input, unknown_id
from billing.sandbox.paging import window
from billing.sandbox.world import Request, World, collection


def create(world: World, request: Request) -> dict:
    body = request.body
    fields.only(body, "receipt notes payment partial_payment", required="amount currency")
    fields.rupees_only(body)
    doc = {
        "id": world.new_id("order"),
        "created_at": world.now(),
        "amount": fields.paise(body),
        "amount_paid": 0,
        "receipt": fields.text(body, "receipt", 40),
        "status": "created",
        "attempts": 0,
        "notes": fields.notes(body),
    }
    return view(world.store.add("order", doc))


def fetch(world: World, request: Request, id: str) -> dict:
    return view(_known(world, id))


def list_all(world: World, request: Request) -> dict:
    where = {"receipt": request.query["receipt"]} if "receipt" in request.query else {}
    return collection([view(doc) for doc in world.store.find("order", where, **window(request))])


def list_payments(world: World, request: Request, id: str) -> dict:
    _known(world, id)
    return collection([payments.view(world, doc) for doc in world.store.find("payment", {"order_id": id}, **window(request))])


def edit(world: World, request: Request, id: str) -> dict:
    fields.only(request.body, "", required="notes")
    with world.store.transaction():
        return view(world.store.save({**_known(world, id), "notes": fields.notes(request.body)}))


def pay(world: World, id: str, *, vpa: str | None, contact: str | None, account: str = "bank_account") -> dict:
    """Somebody pays at Checkout. Returns what Checkout hands to the page: the ids and their signature."""
    with world.store.transaction():
        order = world.store.get("order", id)
        if order is None:
            raise payments.PayRefused("There is no such order.")
        if order["status"] == "paid":
            raise payments.PayRefused("This order has been paid already.")
        payment = payments.new(world, order["amount"], vpa=vpa, contact=contact, account=account, description=None, notes=order["notes"])
        payment["order_id"] = id
        world.store.add("payment", payment)
        order["attempts"] += 1
        if payment["status"] == "failed":
            order["status"] = "attempted"
            world.store.save(order)
            webhooks.send(world, "payment.failed", {"payment": payments.event_view(world, payment)})
            return {"razorpay_payment_id": payment["id"], "razorpay_order_id": id, "failed": True}
        payments.credit(world, payment)
        order.update(status="paid", amount_paid=order["amount"])
        world.store.save(order)
        shown = payments.event_view(world, payment)
        events = [("payment.captured", {"payment": shown}), ("order.paid", {"payment": shown, "order": view(order)})]
        world.dice.shuffle(events)
        for name, entities in events:
            webhooks.send(world, name, entities)
    signed = hmac.new(world.options.key_secret.encode(), f"{id}|{payment['id']}".encode(), hashlib.sha256).hexdigest()
    return {"razorpay_payment_id": payment["id"], "razorpay_order_id": id, "razorpay_signature": signed}


def view(doc: dict) -> dict:
    return {
        "id": doc["id"],
        "entity": "order",
        "amount": doc["amount"],
        "amount_due": doc["amount"] - doc["amount_paid"],
        "amount_paid": doc["amount_paid"],
        "attempts": doc["attempts"],
        "currency": "INR",
        "receipt": doc["receipt"],
        "offer_id": None,
        "status": doc["status"],
        "notes": fields.as_notes(doc["notes"]),
        "created_at": doc["created_at"],
    }


def _known(world: World, id: str) -> dict:
    if doc := world.store.get("order", id):
        return doc
    if not id.startswith("order_"):
        raise bad_input(f"{id} is not a valid id.", "id")
    raise unknown_id()
