"""Payments: how money comes in through a QR, and how a payment is shown. Amounts in paise."""

from billing.sandbox import fields, qr_codes, webhooks
from billing.sandbox.errors import bad_input, unknown_id
from billing.sandbox.paging import window
from billing.sandbox.world import Request, World, collection

MOST = 1_00_000_00  # UPI's limit for one payment to a merchant: Rs 1,00,000
LEAST = 100
FAILING_VPA = "failure@razorpay"
FEE_KNOWN_AFTER_S = 5
PAYER_ACCOUNTS = ("bank_account", "credit_card", "wallet", "credit_line")


class PayRefused(Exception):
    """What a person is told when the payment cannot be made."""


def pay_qr(world: World, qr_id: str, amount: int, *, vpa: str | None, contact: str | None, account: str = "bank_account") -> dict:
    """A person pays `amount` paise to a QR. Returns the payment, captured (or failed, for the UPI id that always fails)."""
    if account not in PAYER_ACCOUNTS:
        raise PayRefused("There is no such kind of account.")
    if amount < LEAST:
        raise PayRefused("The smallest payment is ₹1.")
    if amount > MOST:
        raise PayRefused("UPI allows at most ₹1,00,000 in one payment.")
    qr_codes.expire(world)
    with world.store.transaction():
        qr = world.store.get("qr_code", qr_id)
        if qr is None:
            raise PayRefused("This QR code does not exist.")
        if qr["status"] != "active" and not world.moods.late_payments:
            raise PayRefused("This QR code is closed. No money was taken.")
        if qr["fixed_amount"] and amount != qr["payment_amount"]:
            raise PayRefused("This QR code takes one amount only.")
        payment = new(world, amount, vpa=vpa, contact=contact, account=account, description="QRv2 Payment", notes=qr["notes"])
        payment.update(_qr_id=qr_id, _customer_id=qr["customer_id"])
        world.store.add("payment", payment)
        if payment["status"] == "failed":
            webhooks.send(world, "payment.failed", {"payment": event_view(world, payment)})
            return payment
        credit(world, payment)
        # The snapshot in qr_code.credited is taken before the counters move.
        events = [
            ("payment.captured", {"payment": event_view(world, payment)}),
            ("qr_code.credited", {"payment": qr_view(world, payment, told=True), "qr_code": qr_codes.event_view(world, qr)}),
        ]
        qr["payments_amount_received"] += amount
        qr["payments_count_received"] += 1
        if qr["usage"] == "single_use" and qr["status"] == "active":
            qr.update(status="closed", closed_at=world.now(), close_reason="paid")
        world.store.save(qr)
        world.dice.shuffle(events)
        for name, entities in events:
            webhooks.send(world, name, entities)
    return payment


def new(world: World, amount: int, *, vpa: str | None, contact: str | None, account: str, description: str | None, notes: dict) -> dict:
    """A payment that is not stored yet: captured at once, as UPI payments are."""
    failed, bare = (vpa or "").lower() == FAILING_VPA, world.moods.payment_bare
    fee, tax = (0, 0) if failed else _fee(world, amount, account)
    wanted = world.moods.payment_fee
    known_at = {"null": None, "null_then_known": world.now() + FEE_KNOWN_AFTER_S}.get(wanted, 0)
    return {
        "id": world.new_id("pay"),
        "created_at": world.now(),
        "amount": amount,
        "status": "failed" if failed else "captured",
        "captured": not failed,
        "order_id": None,
        "amount_refunded": 0,
        "amount_transferred": 0,
        "refund_status": None,
        "description": description,
        "vpa": None if bare else vpa,
        "contact": None if bare else contact,
        "notes": notes,
        "rrn": None if bare or failed else world.digits(12),
        "_account": None if bare else account,
        "_fee": fee,
        "_tax": tax,
        "_fee_known_at": known_at,
    }


def credit(world: World, payment: dict) -> None:
    amount, fee = payment["amount"], payment["_fee"]
    world.store.move(world.now(), "payment", payment["id"], amount, credit=amount - fee, fee=fee, tax=payment["_tax"])


def fetch(world: World, request: Request, id: str) -> dict:
    return view(world, known(world, id))


def list_all(world: World, request: Request) -> dict:
    return collection([view(world, doc) for doc in world.store.find("payment", **window(request))])


def capture(world: World, request: Request, id: str) -> dict:
    fields.only(request.body, "", required="amount currency")
    fields.paise(request.body)
    known(world, id)
    raise bad_input("This payment has already been captured")


def known(world: World, id: str) -> dict:
    if doc := world.store.get("payment", id):
        return doc
    if not id.startswith("pay_") or len(id) != 18:
        raise bad_input(f"{id} is not a valid id.", "id")
    raise unknown_id()


def view(world: World, doc: dict) -> dict:
    """As the API answers: the QR's notes are not shown here, they come with the webhook only."""
    notes = {} if doc.get("_qr_id") else doc["notes"]
    return _shown(world, doc, notes, fee_now=True)


def event_view(world: World, doc: dict) -> dict:
    """As in payment.* and refund.* events."""
    shown = _shown(world, doc, doc["notes"], fee_now=False)
    shown["base_amount"], shown["amount_transferred"] = doc["amount"], doc["amount_transferred"]
    return shown


def qr_view(world: World, doc: dict, *, told: bool = False) -> dict:
    """As among the payments of a QR, and (told) in qr_code.credited: no upi block, but a customer."""
    shown = _shown(world, doc, doc["notes"] if told else {}, fee_now=not told)
    shown.pop("upi", None)
    shown["customer_id"] = doc.get("_customer_id")
    return shown


def _shown(world: World, doc: dict, notes: dict, *, fee_now: bool) -> dict:
    known_at = doc["_fee_known_at"]
    fee_known = doc["captured"] and known_at is not None and (known_at == 0 or (fee_now and known_at <= world.now()))
    failed = doc["status"] == "failed"
    shown = {
        "id": doc["id"],
        "entity": "payment",
        "amount": doc["amount"],
        "currency": "INR",
        "status": doc["status"],
        "order_id": doc["order_id"],
        "invoice_id": None,
        "international": False,
        "method": "upi",
        "amount_refunded": doc["amount_refunded"],
        "refund_status": doc["refund_status"],
        "captured": doc["captured"],
        "description": doc["description"],
        "card_id": None,
        "bank": None,
        "wallet": None,
        "vpa": doc["vpa"],
        "email": None,
        "contact": doc["contact"],
        "notes": fields.as_notes(notes),
        "fee": doc["_fee"] if fee_known else None,
        "tax": doc["_tax"] if fee_known else None,
        "error_code": "BAD_REQUEST_ERROR" if failed else None,
        "error_description": _FAILED if failed else None,
        "error_source": "gateway" if failed else None,
        "error_step": "payment_response" if failed else None,
        "error_reason": "payment_failed" if failed else None,
        "acquirer_data": {"rrn": doc["rrn"]} if doc["rrn"] else {},
        "created_at": doc["created_at"],
    }
    if doc["_account"]:
        shown["upi"] = {"payer_account_type": doc["_account"], "vpa": doc["vpa"]}
    return shown


_FAILED = "Payment was unsuccessful due to a temporary issue. If amount got deducted, it will be refunded within 5-7 working days."


def _fee(world: World, amount: int, account: str) -> tuple[int, int]:
    """(fee with GST, the GST in it). UPI from a bank account is free; credit on UPI costs 2 % + 18 % GST."""
    wanted = world.moods.payment_fee
    if isinstance(wanted, int):
        return wanted, (wanted * 18 + 59) // 118
    if account == "bank_account":
        return 0, 0
    fee = (amount * 2 + 50) // 100
    tax = (fee * 18 + 50) // 100
    return fee + tax, tax
