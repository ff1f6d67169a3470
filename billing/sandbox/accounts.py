"""Linked accounts: who may be paid. An account, one stakeholder, the route product with a bank account, activation."""

import re

from billing.sandbox import fields, webhooks
from billing.sandbox.errors import ApiError, bad_input
from billing.sandbox.world import Request, World

ACCOUNT_ID = re.compile(r"acc_[0-9A-Za-z]{14}")
BUSINESS_TYPES = (
    *("llp", "ngo", "other", "individual", "partnership", "proprietorship", "public_limited", "private_limited"),
    *("trust", "society", "not_yet_registered", "educational_institutes"),
)
PAN = re.compile(r"[A-Z]{5}[0-9]{4}[A-Z]")
IFSC = re.compile(r"[A-Z]{4}0[A-Z0-9]{6}")
BANK = ("account_number", "ifsc_code", "beneficiary_name")


def create(world: World, request: Request) -> dict:
    body = request.body
    optional = "contact_name customer_facing_business_name reference_id legal_info notes"
    fields.only(body, optional, required="email phone type legal_business_name business_type profile")
    fields.choice(body, "type", ("route",))
    if body["business_type"] not in BUSINESS_TYPES:
        raise bad_input(f"Invalid business type: {body['business_type']}", "business_type")
    if not 4 <= len(fields.text(body, "legal_business_name", 200)) <= 200:
        raise bad_input("The legal_business_name must be between 4 and 200 characters.", "legal_business_name")
    if not re.fullmatch(r"\+?[0-9]{8,15}", str(body["phone"])):
        raise bad_input("The phone must be between 8 and 15 digits.", "phone")
    _profile(body["profile"])
    fields.text(body, "email")
    pan = fields.text(fields.group(body, "legal_info"), "pan")
    if pan and not (PAN.fullmatch(pan) and pan[3] in "CHFATBJGL"):
        raise bad_input("Invalid business PAN", "pan")
    with world.store.transaction():
        if same := world.store.find("account", {"email": body["email"]}):
            raise bad_input(f"Merchant email already exists for account - {same[0]['id']}", "email")
        doc = {"id": world.new_id("acc"), "created_at": world.now(), **body, "status": "created", "notes": fields.notes(body)}
        world.store.add("account", doc)
    return view(doc)


def fetch(world: World, request: Request, id: str) -> dict:
    return view(_known(world, id))


def edit(world: World, request: Request, id: str) -> dict:
    allowed = "phone legal_business_name contact_name customer_facing_business_name profile legal_info notes"
    fields.only(request.body, allowed)
    with world.store.transaction():
        doc = {**_known(world, id), **request.body}
        return view(world.store.save({**doc, "notes": fields.notes(doc)}))


def add_stakeholder(world: World, request: Request, id: str) -> dict:
    body = request.body
    fields.only(body, "addresses kyc percentage_ownership relationship phone notes", required="name email")
    pan = fields.text(fields.group(body, "kyc"), "pan")
    if pan and not (PAN.fullmatch(pan) and pan[3] == "P"):
        raise bad_input("Invalid stakeholder PAN", "pan")
    with world.store.transaction():
        _known(world, id)
        if world.store.find("stakeholder", {"_account_id": id}):
            raise bad_input("Stakeholders cannot be more than one for Route product.")
        notes = fields.notes(body, longest=512)
        doc = {"id": world.new_id("sth"), "created_at": world.now(), **body, "notes": notes, "_account_id": id}
        world.store.add("stakeholder", doc)
    shown = {k: v for k, v in doc.items() if not k.startswith("_") and k != "created_at"}
    return {"entity": "stakeholder", **shown, "notes": fields.as_notes(notes)}


def request_product(world: World, request: Request, id: str) -> dict:
    fields.only(request.body, "tnc_accepted", required="product_name")
    fields.choice(request.body, "product_name", ("route",))
    with world.store.transaction():
        _known(world, id)
        if earlier := world.store.find("product", {"account_id": id}):
            return _product_view(earlier[0])
        doc = {
            "id": world.new_id("acc_prd"),
            "created_at": world.now(),
            "account_id": id,
            "activation_status": "needs_clarification",
            "settlements": dict.fromkeys(BANK),
            "reason": "field_missing",
            "tnc": {"id": world.new_id("tnc"), "accepted": fields.flag(request.body, "tnc_accepted"), "accepted_at": world.now()},
        }
        return _product_view(world.store.add("product", doc))


def fetch_product(world: World, request: Request, id: str, product_id: str) -> dict:
    return _product_view(_product(world, id, product_id))


def edit_product(world: World, request: Request, id: str, product_id: str) -> dict:
    """The bank account arrives; a rupee is sent to it; a moment later the product is active, or it is not."""
    fields.only(request.body, "tnc_accepted", required="settlements")
    bank = request.body["settlements"]
    if not isinstance(bank, dict):
        raise bad_input("The settlements must be an array.", "settlements")
    fields.only(bank, "", required=" ".join(BANK))
    if not re.fullmatch(r"[0-9A-Za-z]{5,20}", str(bank["account_number"])):
        raise bad_input("The account number must be between 5 and 20 characters.", "account_number")
    if not IFSC.fullmatch(str(bank["ifsc_code"])):
        raise bad_input("Invalid IFSC Code", "ifsc_code")
    with world.store.transaction():
        doc = _product(world, id, product_id)
        if doc["activation_status"] == "activated":
            raise bad_input("Merchant activation form has been locked for editing by admin.")
        doc.update(settlements={name: str(bank[name]) for name in BANK}, activation_status="under_review", reason=None)
        mood = world.moods.take("next_activation")
        doc["_end"] = "needs_clarification" if mood == "needs_clarification" else "activated"
        world.store.save(doc)
        _tell(world, doc)
        if mood != "stays_under_review":
            world.later(world.options.activation_delay_s, "product", product_id)
    return _product_view(doc)


def activate(world: World, product_id: str) -> None:
    with world.store.transaction():
        doc = world.store.get("product", product_id)
        if doc["activation_status"] != "under_review":
            return
        doc["activation_status"] = doc["_end"]
        if doc["_end"] == "needs_clarification":
            doc["reason"] = "needs_clarification"
        world.store.save(doc)
        _tell(world, doc)


def ready_for_transfers(world: World, id: str) -> None:
    """Refuses a transfer to somebody unknown, not active, or too new. An id never seen may be taken on trust (auto_accounts)."""
    doc = world.store.get("account", str(id))
    if doc is None:
        if not (world.options.auto_accounts and isinstance(id, str) and ACCOUNT_ID.fullmatch(id) and id != world.merchant):
            raise bad_input(f"{id} is not a valid id.", "account")
        name = "Taken on trust"
        doc = {"id": id, "created_at": world.now(), "type": "route", "status": "created", "legal_business_name": name, "notes": {}}
        world.store.add("account", {**doc, "_trusted": True})
        return
    if doc.get("_trusted"):
        return
    if not any(p["activation_status"] == "activated" for p in world.store.find("product", {"account_id": id})):
        raise bad_input("The linked account is not activated yet.", "account")
    if world.now() < doc["created_at"] + world.moods.cooling_s:
        raise bad_input("Transfers to a new linked account are possible 24 hours after it was created.", "account")


def balance(world: World, id: str) -> int:
    """What the linked account holds at Razorpay: received, less reversed, less settled to its bank."""
    got = world.store.find("transfer", {"recipient": id})
    held = [doc for doc in got if doc["status"] in ("processed", "partially_reversed") and doc["settlement_status"] != "settled"]
    return sum(doc["amount"] - doc["amount_reversed"] for doc in held)


def view(doc: dict) -> dict:
    shown = {k: v for k, v in doc.items() if not k.startswith("_")}
    return {**shown, "notes": fields.as_notes(doc["notes"])}


def _tell(world: World, doc: dict) -> None:
    entity = {"id": doc["id"], "merchant_id": doc["account_id"], "activation_status": doc["activation_status"]}
    data: dict | list = []
    if doc["activation_status"] == "needs_clarification":
        text = "Max retry exceeded for bank account details."
        data = {"requirements": [{**item, "description": text} for item in _requirements(doc)]}
    event = f"product.route.{doc['activation_status']}"
    # The account in the envelope is the linked account here, not the merchant.
    webhooks.send(world, event, {"merchant_product": entity}, account_id=doc["account_id"], beside={"data": data})


def _requirements(doc: dict) -> list[dict]:
    if not doc["reason"]:
        return []
    link = f"/accounts/{doc['account_id']}/products/{doc['id']}"
    names = ("ifsc_code", "beneficiary_name", "account_number")
    return [
        {"field_reference": f"settlements.{name}", "resolution_url": link, "reason_code": doc["reason"], "status": "required"}
        for name in names
    ]


def _product_view(doc: dict) -> dict:
    return {
        "requested_configuration": [],
        "active_configuration": {"settlements": doc["settlements"]},
        "requirements": _requirements(doc),
        "tnc": doc["tnc"],
        "id": doc["id"],
        "product_name": "route",
        "activation_status": doc["activation_status"],
        "account_id": doc["account_id"],
        "requested_at": doc["created_at"],
    }


def _profile(profile: object) -> None:
    if not isinstance(profile, dict):
        raise bad_input("The profile must be an array.", "profile")
    fields.only(profile, "addresses business_model", required="category subcategory")
    home = fields.group(profile, "addresses").get("registered")
    if not isinstance(home, dict):
        raise bad_input("The registered is required.", "registered")
    fields.only(home, "street2", required="street1 city state postal_code country")
    if not re.fullmatch(r"[0-9]{6}", str(home["postal_code"])):
        raise bad_input("The postal code must be 6 digits.", "postal_code")


def _product(world: World, id: str, product_id: str) -> dict:
    _known(world, id)
    doc = world.store.get("product", product_id)
    if doc is None or doc["account_id"] != id:
        raise bad_input("The id provided does not exist")
    return doc


def _known(world: World, id: str) -> dict:
    if doc := world.store.get("account", id):
        return doc
    raise ApiError("Linked account does not exist", source="", step="", reason="linked_account_id_does_not_exist")
