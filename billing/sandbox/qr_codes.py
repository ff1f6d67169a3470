"""QR codes: a name to print, an address to pay to, and what came in."""

from urllib.parse import quote, urlencode

from billing.sandbox import fields, payments, webhooks
from billing.sandbox.errors import bad_input, unknown_id
from billing.sandbox.paging import window
from billing.sandbox.world import Request, World, collection

SHORTEST_S, LONGEST_S = 120, 7200
INVOICE_FIELDS = "number date customer_name business_gstin gst_amount cess_amount supply_type"


def create(world: World, request: Request) -> dict:
    body = request.body
    fields.only(body, "name fixed_amount payment_amount description customer_id close_by notes tax_invoice", required="type usage")
    fields.choice(body, "type", ("upi_qr",))
    usage = fields.choice(body, "usage", ("single_use", "multiple_use"))
    fixed = fields.flag(body, "fixed_amount")
    if usage == "single_use" and not fixed:
        raise bad_input("The fixed amount should be true for single use QR codes.", "fixed_amount")
    amount = None
    if fixed:
        fields.only(body, " ".join(body), required="payment_amount")
        amount = fields.paise(body, "payment_amount", least=1, too_small="The payment amount must be at least 1.")
    elif body.get("payment_amount") is not None:
        raise bad_input("payment_amount is/are not required and should not be sent", "payment_amount")
    customer = fields.text(body, "customer_id")
    if customer and not customer.startswith("cust_"):
        raise bad_input(f"{customer} is not a valid id.", "customer_id")
    doc = {
        "id": world.new_id("qr"),
        "created_at": world.now(),
        "name": fields.text(body, "name"),
        "usage": usage,
        "payment_amount": amount,
        "status": "active",
        "description": fields.text(body, "description"),
        "fixed_amount": fixed,
        "payments_amount_received": 0,
        "payments_count_received": 0,
        "notes": fields.notes(body),
        "customer_id": customer,
        "close_by": _close_by(world, body, usage),
        "closed_at": None,
        "close_reason": None,
        "tax_invoice": _tax_invoice(body),
        "_slug": world.word(8),
        "_tr": "SB" + world.word(16),
    }
    with world.store.transaction():
        world.store.add("qr_code", doc)
        # In this event, and only here, close_by is a string.
        told = {**event_view(world, doc), "close_by": None if doc["close_by"] is None else str(doc["close_by"])}
        webhooks.send(world, "qr_code.created", {"qr_code": {k: v for k, v in told.items() if k not in ("closed_at", "close_reason")}})
    return {k: v for k, v in view(world, doc).items() if k not in ("closed_at", "close_reason")}


def fetch(world: World, request: Request, id: str) -> dict:
    return view(world, _known(world, id))


def list_all(world: World, request: Request) -> dict:
    expire(world)
    where = {"customer_id": request.query["customer_id"]} if "customer_id" in request.query else {}
    if "payment_id" in request.query:
        payment = world.store.get("payment", request.query["payment_id"])
        where["id"] = (payment or {}).get("_qr_id") or "none"
    return collection([view(world, doc) for doc in world.store.find("qr_code", where, **window(request))])


def list_payments(world: World, request: Request, id: str) -> dict:
    _known(world, id)
    found = world.store.find("payment", {"_qr_id": id, "captured": True}, **window(request))
    return collection([payments.qr_view(world, doc) for doc in found])


def close(world: World, request: Request, id: str) -> dict:
    with world.store.transaction():
        doc = _known(world, id)
        if doc["status"] == "closed":
            raise bad_input("The QR code is already closed.")
        doc.update(status="closed", closed_at=world.now(), close_reason="on_demand")
        world.store.save(doc)
        webhooks.send(world, "qr_code.closed", {"qr_code": event_view(world, doc)})
    return view(world, doc)


def edit(world: World, request: Request, id: str) -> dict:
    fields.only(request.body, "", required="notes")
    with world.store.transaction():
        doc = _known(world, id)
        doc["notes"] = fields.notes(request.body)
        world.store.save(doc)
    return view(world, doc)


def expire(world: World) -> None:
    """Past close_by: closed without a word to anybody."""
    with world.store.transaction():
        for doc in world.store.find("qr_code", {"status": "active", "usage": "single_use"}):
            if doc["close_by"] is not None and doc["close_by"] <= world.now():
                world.store.save({**doc, "status": "closed", "closed_at": doc["close_by"]})


def upi_address(doc: dict) -> str:
    return f"voltaro.{doc['_slug'].lower()}@sandbox"


def upi_link(doc: dict) -> str:
    """What the QR holds. No bank knows this address: a scan in a real app fails, as with Razorpay's test QRs."""
    parts = {"pa": upi_address(doc), "pn": doc["name"] or "Sandbox", "tr": doc["_tr"], "tn": doc["description"] or doc["name"] or "Sandbox"}
    if doc["payment_amount"] is not None:
        parts["am"] = f"{doc['payment_amount'] // 100}.{doc['payment_amount'] % 100:02d}"
    return "upi://pay?" + urlencode({**parts, "cu": "INR", "mc": "5552"}, quote_via=quote, safe="@")


def view(world: World, doc: dict) -> dict:
    shown = {k: v for k, v in doc.items() if not k.startswith("_")}
    shown = {"id": shown.pop("id"), "entity": "qr_code", **shown, "type": "upi_qr", "notes": fields.as_notes(doc["notes"])}
    shown["image_url"] = f"{world.url}/i/{doc['_slug']}"
    if "image_content" not in world.moods.features_off:
        shown["image_content"] = upi_link(doc)
    if shown["tax_invoice"] is None:
        del shown["tax_invoice"]
    return shown


def event_view(world: World, doc: dict) -> dict:
    return {k: v for k, v in view(world, doc).items() if k != "image_content"}


def _known(world: World, id: str) -> dict:
    expire(world)
    if doc := world.store.get("qr_code", id):
        return doc
    raise unknown_id()


def _close_by(world: World, body: dict, usage: str) -> int | None:
    wanted = fields.timestamp(body, "close_by")
    if usage == "multiple_use":
        if wanted is not None:
            raise bad_input("The close by is not allowed for multiple use QR codes.", "close_by")
        return None
    now = world.now()
    if wanted is None:
        return now + LONGEST_S
    if wanted < now + SHORTEST_S:
        raise bad_input("close_by should be at least 2 minutes after current time", "close_by")
    return min(wanted, now + LONGEST_S)


def _tax_invoice(body: dict) -> dict | None:
    """Any missing part silently makes it an ordinary UPI QR."""
    given = body.get("tax_invoice")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise bad_input("The tax_invoice must be an array.", "tax_invoice")
    fields.only(given, INVOICE_FIELDS)
    return given if all(given.get(name) is not None for name in INVOICE_FIELDS.split()) else None
