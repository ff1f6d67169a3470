"""Route: money sent on to linked accounts. Amounts in paise; the fee comes on top, from the merchant's balance."""

import re

from billing.sandbox import accounts, fields, idempotency, payments, settlements, webhooks
from billing.sandbox.errors import ApiError, bad_input, unknown_id, url_not_found
from billing.sandbox.paging import window
from billing.sandbox.world import Request, World, collection

LOW_BALANCE = "Transfer cannot be made due to insufficient balance"
ASKED = "amount currency notes linked_account_notes on_hold on_hold_until"
NO_ERROR = {"code": None, "description": None, "reason": None, "field": None, "step": None, "source": None, "metadata": None}
FAILED_LOW_BALANCE = {
    **NO_ERROR,
    "code": "BAD_REQUEST_TRANSFER_INSUFFICIENT_BALANCE",
    "description": "Transfer failed due to insufficient balance",
    "reason": "insufficient_balance",
    "step": "balance_check",
    "source": "transfer",
}


def create_direct(world: World, request: Request) -> dict:
    if "direct_transfer" in world.moods.features_off:
        raise url_not_found()
    key = request.headers.get("x-transfer-idempotency")
    if key is not None and not re.fullmatch(r"[A-Za-z0-9_\- ]{4,36}", key):
        raise bad_input("The idempotency key must be 4 to 36 characters: letters, digits, underscore, hyphen and space only.")
    return idempotency.once(world, "transfer", key, request, lambda: _direct(world, request), different=400)


def _direct(world: World, request: Request) -> dict:
    fields.only(request.body, ASKED, required="account amount currency")
    doc = _new(world, request.body, source=world.merchant, account=request.body["account"])
    low = world.store.balance() < doc["amount"] + doc["fees"]
    if request.mood == "insufficient_balance" or low:
        raise ApiError(LOW_BALANCE, source="business", step="payment_initiation", reason="insufficient_balance")
    doc["_end"] = "failed" if request.mood == "pending_then_failed" else "processed"
    world.store.add("transfer", doc)
    if request.mood in ("pending_then_failed", "pending_then_processed", "stays_pending"):
        if request.mood != "stays_pending":
            world.later(world.options.transfer_delay_s, "transfer", doc["id"])
        return view(world, doc)
    return view(world, finish(world, doc["id"]))


def create_from_payment(world: World, request: Request, payment_id: str) -> dict:
    """No idempotency here: the same call twice is two transfers, until the payment is used up."""
    fields.only(request.body, "", required="transfers")
    wanted = request.body["transfers"]
    if not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
        raise bad_input("The transfers must be an array.", "transfers")
    with world.store.transaction():
        payment = payments.known(world, payment_id)
        if not payment["captured"]:
            raise bad_input("The payment status should be captured for action to be taken")
        if payment["amount_refunded"]:
            raise bad_input("You cannot request a transfer on payment once a refund has been initiated")
        made = []
        for place, item in enumerate(wanted):
            fields.only(item, ASKED, required="account amount currency")
            made.append(_new(world, item, source=payment_id, account=item["account"], place=f"transfers.{place}."))
        payment["amount_transferred"] += sum(doc["amount"] for doc in made)
        if payment["amount_transferred"] > payment["amount"]:
            raise bad_input("The sum of amount requested for transfer is greater than the captured amount", "amount")
        world.store.save(payment)
        for doc in made:
            doc["_end"] = "failed" if request.mood in ("pending_then_failed", "insufficient_balance") else "processed"
            world.store.add("transfer", doc)
            if request.mood != "stays_pending":
                world.later(world.options.transfer_delay_s, "transfer", doc["id"])
        return collection([view(world, doc) for doc in made])


def finish(world: World, id: str) -> dict:
    """pending -> processed (taken from the merchant, owed to the linked account) or failed, for good."""
    with world.store.transaction():
        doc = world.store.get("transfer", id)
        if doc["status"] != "pending":
            return doc
        cost, failed = doc["amount"] + doc["fees"], doc["_end"] == "failed"
        failed = failed or world.store.balance() < cost
        doc["processed_at"] = world.now()
        if failed:
            doc.update(status="failed", error=FAILED_LOW_BALANCE)
            if doc["source"].startswith("pay_"):
                payment = payments.known(world, doc["source"])
                world.store.save({**payment, "amount_transferred": payment["amount_transferred"] - doc["amount"]})
        else:
            doc.update(status="processed", settlement_status="on_hold" if doc["on_hold"] else "pending")
            payment_id = doc["source"] if doc["source"].startswith("pay_") else None
            amounts = {"debit": cost, "fee": doc["fees"], "tax": doc["tax"]}
            world.store.move(world.now(), "transfer", id, doc["amount"], payment_id=payment_id, **amounts)
        world.store.save(doc)
        webhooks.send(world, "transfer.failed" if failed else "transfer.processed", {"transfer": view(world, doc)})
    return doc


def fetch(world: World, request: Request, id: str) -> dict:
    return view(world, _known(world, id), expand=_expand(request))


def list_all(world: World, request: Request) -> dict | None:
    where, settlement = {}, request.query.get("recipient_settlement_id")
    if settlement:
        if world.store.get("settlement", settlement) is None:
            return None  # documented: an unknown settlement id is answered with null
        where["recipient_settlement_id"] = settlement
    found = world.store.find("transfer", where, **window(request))
    return collection([view(world, doc, expand=_expand(request)) for doc in found])


def list_of_payment(world: World, request: Request, payment_id: str) -> dict:
    payments.known(world, payment_id)
    return collection([view(world, doc) for doc in world.store.find("transfer", {"source": payment_id}, **window(request))])


def edit(world: World, request: Request, id: str) -> dict:
    """Hold or release the settlement of a transfer."""
    fields.only(request.body, "on_hold_until", required="on_hold")
    with world.store.transaction():
        doc = _known(world, id)
        if doc["settlement_status"] == "settled":
            raise bad_input("The transfer has been settled already.")
        doc.update(on_hold=fields.flag(request.body, "on_hold"), on_hold_until=fields.timestamp(request.body, "on_hold_until"))
        if doc["status"] == "processed":
            doc["settlement_status"] = "on_hold" if doc["on_hold"] else "pending"
        return view(world, world.store.save(doc))


def reverse(world: World, request: Request, id: str) -> dict:
    """Money back from the linked account. No idempotency."""
    fields.only(request.body or {}, "amount notes linked_account_notes")
    with world.store.transaction():
        doc = _known(world, id)
        left = doc["amount"] - doc["amount_reversed"]
        amount = left if (request.body or {}).get("amount") is None else fields.paise(request.body)
        return _reversal_view(_reverse(world, doc, amount, fields.notes(request.body or {})))


def reversals(world: World, request: Request, id: str) -> dict:
    _known(world, id)
    return collection([_reversal_view(doc) for doc in world.store.find("reversal", {"transfer_id": id}, **window(request))])


def reverse_all(world: World, payment: dict, *, full: bool) -> None:
    made = [doc for doc in world.store.find("transfer", {"source": payment["id"]}) if doc["status"] in ("processed", "partially_reversed")]
    if not full:
        raise bad_input("reverse_all is allowed with a full refund only.", "reverse_all")
    for doc in made:
        _reverse(world, doc, doc["amount"] - doc["amount_reversed"], {})


def view(world: World, doc: dict, *, expand: bool = False) -> dict:
    shown = {k: v for k, v in doc.items() if not k.startswith("_")}
    shown = {"id": shown.pop("id"), "entity": "transfer", **shown, "currency": "INR"}
    shown["notes"] = fields.as_notes(doc["notes"])
    shown["error"] = {**doc["error"], "id": doc["id"]}
    if doc["status"] == "pending":
        del shown["fees"], shown["tax"]  # not known before it is processed
    if expand and doc["recipient_settlement_id"]:
        shown["recipient_settlement"] = settlements.view(world.store.get("settlement", doc["recipient_settlement_id"]))
    return shown


def _new(world: World, body: dict, *, source: str, account: str, place: str = "") -> dict:
    fields.rupees_only(body)
    amount = fields.paise(body, too_small=f"The {place}amount must be at least 100.")
    accounts.ready_for_transfers(world, account)
    notes = fields.notes(body)
    shown = body.get("linked_account_notes") or []
    if not isinstance(shown, list) or any(name not in notes for name in shown):
        raise bad_input("The linked account notes must be keys of the notes.", "linked_account_notes")
    fees, tax = fee(amount)
    return {
        "id": world.new_id("trf"),
        "created_at": world.now(),
        "status": "pending",
        "source": source,
        "recipient": account,
        "amount": amount,
        "amount_reversed": 0,
        "fees": fees,
        "tax": tax,
        "notes": notes,
        "linked_account_notes": shown,
        "on_hold": fields.flag(body, "on_hold"),
        "on_hold_until": fields.timestamp(body, "on_hold_until"),
        "settlement_status": None,
        "recipient_settlement_id": None,
        "processed_at": None,
        "error": NO_ERROR,
        "_end": "processed",
    }


def fee(amount: int) -> tuple[int, int]:
    """(fee with GST, the GST in it): 0.25 %, rounded up, and 18 % of that, rounded down."""
    bare = -(-amount // 400)
    return bare + bare * 18 // 100, bare * 18 // 100


def _reverse(world: World, doc: dict, amount: int, notes: dict) -> dict:
    if doc["status"] not in ("processed", "partially_reversed") or amount > doc["amount"] - doc["amount_reversed"]:
        raise bad_input("The amount is greater than the amount that can be reversed.", "amount")
    if doc["settlement_status"] == "settled" and accounts.balance(world, doc["recipient"]) < amount:
        raise bad_input("The linked account does not have sufficient balance to process reversal.")
    doc["amount_reversed"] += amount
    doc["status"] = "reversed" if doc["amount_reversed"] == doc["amount"] else "partially_reversed"
    world.store.save(doc)
    reversal = {"id": world.new_id("rvrsl"), "created_at": world.now(), "transfer_id": doc["id"], "amount": amount, "notes": notes}
    world.store.add("reversal", reversal)
    world.store.move(world.now(), "adjustment", reversal["id"], amount, credit=amount)
    return reversal


def _reversal_view(doc: dict) -> dict:
    return {
        "id": doc["id"],
        "entity": "reversal",
        "transfer_id": doc["transfer_id"],
        "amount": doc["amount"],
        "fee": 0,
        "tax": 0,
        "currency": "INR",
        "notes": fields.as_notes(doc["notes"]),
        "initiator_id": None,
        "customer_refund_id": None,
        "utr": None,
        "created_at": doc["created_at"],
    }


def _expand(request: Request) -> bool:
    return request.query.get("expand[]") == "recipient_settlement"


def _known(world: World, id: str) -> dict:
    if doc := world.store.get("transfer", id):
        return doc
    if not id.startswith("trf_") or len(id) != 18:
        raise bad_input(f"{id} is not a valid id.", "id")
    raise unknown_id()
