"""Settlements: what leaves Razorpay for bank accounts, the merchant's and the linked ones; and the list to reconcile with.

A day is a day in India.
"""

from datetime import datetime, timedelta, timezone

from billing.sandbox import webhooks
from billing.sandbox.errors import bad_input, unknown_id
from billing.sandbox.paging import window
from billing.sandbox.world import Request, World, collection

IST = timezone(timedelta(hours=5, minutes=30))


def run(world: World, *, older_than_s: float = 0) -> list[str]:
    """Settle what is old enough. Returns the settlements' ids."""
    until = world.now() - older_than_s
    with world.store.transaction():
        return _linked(world, until) + _own(world, until)


def _linked(world: World, until: float) -> list[str]:
    by_recipient: dict[str, list[dict]] = {}
    for doc in world.store.find("transfer", {"settlement_status": "on_hold"}):
        if doc["on_hold_until"] and doc["on_hold_until"] <= world.now():
            world.store.save({**doc, "on_hold": False, "settlement_status": "pending"})
    for doc in world.store.find("transfer", {"settlement_status": "pending"}):
        if doc["processed_at"] <= until and doc["status"] in ("processed", "partially_reversed"):
            by_recipient.setdefault(doc["recipient"], []).append(doc)
    made = []
    for recipient, transfers in by_recipient.items():
        settlement = _new(world, sum(doc["amount"] - doc["amount_reversed"] for doc in transfers), recipient)
        for doc in transfers:
            world.store.save({**doc, "settlement_status": "settled", "recipient_settlement_id": settlement["id"]})
        _tell(world, settlement)
        made.append(settlement["id"])
    return made


def _own(world: World, until: float) -> list[str]:
    """Nothing is paid out while refunds and transfers ate more than came in: it waits for the next one."""
    sql = "FROM money WHERE settlement_id IS NULL AND kind NOT IN ('opening', 'settlement') AND at <= ?"
    net = world.store.rows(f"SELECT COALESCE(SUM(credit - debit), 0) AS paise {sql}", until)[0]["paise"]
    if net <= 0:
        return []
    settlement = _new(world, net, None)
    world.store.run(f"UPDATE money SET settlement_id = ? {sql.removeprefix('FROM money')}", settlement["id"], until)  # noqa: S608
    world.store.move(world.now(), "settlement", settlement["id"], net, debit=net)
    _tell(world, settlement)
    return [settlement["id"]]


def fetch(world: World, request: Request, id: str) -> dict:
    if doc := world.store.get("settlement", id):
        return view(doc)
    raise unknown_id()


def list_all(world: World, request: Request) -> dict:
    found = [doc for doc in world.store.find("settlement", {"_own": True}, **window(request))]
    return collection([view(doc) for doc in found])


def recon(world: World, request: Request) -> dict:
    """Every movement that was settled to the merchant on a day (or in a month)."""
    year, month = _part(request, "year", 2000, 2100), _part(request, "month", 1, 12)
    day = _part(request, "day", 1, 31) if request.query.get("day") else None
    try:
        first = datetime(year, month, day or 1, tzinfo=IST)
    except ValueError:
        raise bad_input("The day is not a valid day.", "day") from None
    last = first + timedelta(days=1) if day else (first + timedelta(days=32)).replace(day=1)
    asked = window(request, most=1000)
    sql = """SELECT m.*, s.doc, s.created_at AS settled_at FROM money m JOIN entities s ON s.id = m.settlement_id
             WHERE s.created_at >= ? AND s.created_at < ? ORDER BY m.seq LIMIT ? OFFSET ?"""
    rows = world.store.rows(sql, int(first.timestamp()), int(last.timestamp()), asked["count"], asked["skip"])
    return collection([_line(world, row) for row in rows])


def view(doc: dict) -> dict:
    shown = {k: v for k, v in doc.items() if not k.startswith("_")}
    return {"id": shown.pop("id"), "entity": "settlement", **shown}


def _new(world: World, amount: int, recipient: str | None) -> dict:
    doc = {
        "id": world.new_id("setl"),
        "created_at": world.now(),
        "amount": amount,
        "status": "processed",
        "fees": 0,
        "tax": 0,
        "utr": "SBOX" + world.digits(12),
        "_own": recipient is None,
        "_recipient": recipient,
    }
    return world.store.add("settlement", doc)


def _tell(world: World, doc: dict) -> None:
    # Which transfers it holds is not told: one has to ask.
    webhooks.send(world, "settlement.processed", {"settlement": view(doc)})


def _line(world: World, row) -> dict:
    payment = world.store.get("payment", row["payment_id"] or row["ref"]) or {}
    settlement = world.store.get("settlement", row["settlement_id"])
    return {
        "entity_id": row["ref"],
        "type": row["kind"],
        "debit": row["debit"],
        "credit": row["credit"],
        "amount": row["amount"],
        "currency": "INR",
        "fee": row["fee"],
        "tax": row["tax"],
        "on_hold": False,
        "settled": True,
        "created_at": row["at"],
        "settled_at": row["settled_at"],
        "settlement_id": row["settlement_id"],
        "posted_at": None,
        "credit_type": "default",
        "description": payment.get("description"),
        "notes": None,
        "payment_id": row["payment_id"],
        "settlement_utr": settlement["utr"],
        "order_id": payment.get("order_id"),
        "order_receipt": None,
        "method": "upi" if payment else None,
        "card_network": None,
        "card_issuer": None,
        "card_type": None,
        "dispute_id": None,
    }


def _part(request: Request, name: str, least: int, most: int) -> int:
    value = request.query.get(name, "")
    if not value.isdecimal() or not least <= int(value[:6]) <= most:
        raise bad_input(f"The {name} is not a valid {name}.", name)
    return int(value)
