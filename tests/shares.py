"""Billed sessions and a scripted Razorpay Route, for the stories about franchisees' money."""

import json
from collections.abc import Callable
from datetime import datetime
from itertools import count
from typing import Any

from accounts.models import User
from billing import razorpay, webhooks
from billing.models import Bill, QRPayment, WebhookEvent
from billing.rules.payment import settle
from csms.models import ChargingSession, Connector, SessionState
from voltaro import clock

_numbers = count(1)


def bill(connector: Connector, *, amount_paid: int = 500_00, wh: int = 20_000, fee: int | None = 11_80, **fields: Any) -> ChargingSession:
    """A session at this connector, paid through its QR, ended and billed. Amounts in paise."""
    number = next(_numbers)
    now = clock.now()
    at: datetime = fields.pop("start_time", now)
    rider: User = User.objects.create(username=f"rider-canary-{number}", phone=f"+9190000{number:05d}", vpa=f"canary{number}@okaxis")
    session = ChargingSession.objects.create(
        charge_point=connector.charge_point,
        connector=connector,
        company=connector.charge_point.company,
        user=rider,
        id_tag=f"CANARYTAG{number:06d}",
        transaction_id=str(1000 + number),
        start_key=f"key-{number}",
        state=SessionState.STOPPED,
        start_time=at,
        end_time=now,
        started_at=at,
        ended_at=now,
        energy_wh=wh,
        **fields,
    )
    snapshot = {"rate_paise_per_kwh": 1525, "gst_bp": 1800, "igst": False, "platform_fee_bp": 0}
    payment = QRPayment.objects.create(
        razorpay_payment_id=f"pay_{number:014d}",
        qr=connector.qr_codes.get(),
        connector=connector,
        company=connector.charge_point.company,
        user=rider,
        vpa=rider.vpa,
        rrn=f"CANARYRRN{number}",
        amount_paid=amount_paid,
        fee=fee,
        state="ended",
        session=session,
        paid_at=at,
        heard_at=at,
    )
    parts = settle(amount_paid, 0, wh, snapshot)
    names = ("billed_wh", "energy_charge", "cgst", "sgst", "igst", "platform_fee", "refund_due", "remainder", "overrun_wh", "overrun_paise")
    Bill.objects.create(
        session=session,
        payment=payment,
        tariff_snapshot=snapshot,
        delivered_wh=wh,
        total=parts.total,
        **{name: getattr(parts, name) for name in names},
    )
    session.energy_charge, session.gst_amount, session.total_billed = parts.energy_charge, parts.gst, parts.total
    session.billed_at = now
    session.save()
    return session


class Route:
    """Razorpay's Direct Transfers as a script. `mood` says what happens to the next askings, in order.

    processed (also when the script is over), pending, failed, low_balance, try_again, declined, off, disputed;
    lost: it happens but the answer is not heard; silent: it does not happen and no answer is heard.
    """

    def __init__(self, monkeypatch: Any) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self.by_key: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.mood: list[str] = []
        self.settlements: dict[str, dict[str, Any]] = {}
        self.products: dict[str, dict[str, Any] | Exception] = {}
        self.before_answer: Callable[[], None] = lambda: None
        for name in ("create_transfer", "fetch_transfer", "transfers", "transfers_of_settlement", "fetch_settlement", "fetch_product"):
            monkeypatch.setattr(razorpay, name, getattr(self, name))

    def create_transfer(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        self.asked.append((key, body))
        if key in self.by_key:
            return dict(self.made[self.by_key[key]])
        mood = self.mood.pop(0) if self.mood else "processed"
        match mood:
            case "try_again":
                raise razorpay.TryAgain("HTTP 429: too many requests")
            case "low_balance":
                raise razorpay.LowBalance("HTTP 400 Transfer cannot be made due to insufficient balance")
            case "declined":
                raise razorpay.Declined(400, "BAD_REQUEST_ERROR", "Linked account does not exist")
            case "off":
                raise razorpay.Declined(400, "BAD_REQUEST_ERROR", "The requested URL was not found on the server.")
            case "disputed":
                raise razorpay.Declined(400, "BAD_REQUEST_ERROR", "The idempotency key was used with a different request.")
            case "silent":
                raise razorpay.Unknown("no answer: ReadTimeout")
        status = "processed" if mood == "lost" else mood
        transfer = {
            "id": f"trf_{len(self.made) + 1:014d}",
            "status": status,
            "recipient": body["account"],
            "amount": body["amount"],
            "notes": dict(body["notes"]),
            "amount_reversed": 0,
            "settlement_status": "pending",
            "recipient_settlement_id": None,
            "error": {"code": None, "description": None, "reason": None},
        }
        if status == "processed":
            transfer |= {"fees": 30, "tax": 4}
        if status == "failed":
            transfer["error"] = {"code": "BAD_REQUEST_TRANSFER_INSUFFICIENT_BALANCE", "description": "", "reason": "insufficient_balance"}
        self.made[transfer["id"]] = transfer
        self.by_key[key] = transfer["id"]
        self.before_answer()
        if mood == "lost":
            raise razorpay.Unknown("no answer: ReadTimeout")
        return dict(transfer)

    def fetch_transfer(self, transfer_id: str) -> dict[str, Any]:
        if transfer_id not in self.made:
            raise razorpay.Declined(400, "BAD_REQUEST_ERROR", "The id provided does not exist")
        return dict(self.made[transfer_id])

    def transfers(self, *, since: int | None = None, until: int | None = None, skip: int = 0) -> list[dict[str, Any]]:
        return list(self.made.values())[skip : skip + razorpay.PAGE]

    def transfers_of_settlement(self, settlement_id: str) -> list[dict[str, Any]]:
        return [t for t in self.made.values() if t["recipient_settlement_id"] == settlement_id]

    def fetch_settlement(self, settlement_id: str) -> dict[str, Any]:
        if settlement_id not in self.settlements:
            raise razorpay.Declined(400, "BAD_REQUEST_ERROR", "The id provided does not exist")
        return self.settlements[settlement_id]

    def fetch_product(self, account_id: str, product_id: str) -> dict[str, Any]:
        said = self.products[product_id]
        if isinstance(said, Exception):
            raise said
        return said

    def settle(self, settlement_id: str, *transfer_ids: str) -> None:
        """Razorpay paid these transfers out to the bank."""
        for transfer_id in transfer_ids:
            self.made[transfer_id] |= {"settlement_status": "settled", "recipient_settlement_id": settlement_id}


def hear(name: str, **entities: dict[str, Any]) -> WebhookEvent:
    """An event of Razorpay's comes in and is stored, as billing stores it."""
    payload = {what: {"entity": entity} for what, entity in entities.items()}
    body = {"entity": "event", "event": name, "contains": list(payload), "payload": payload, "created_at": int(clock.now().timestamp())}
    event, _ = webhooks.store(json.dumps(body).encode(), f"evt_{next(_numbers)}")
    return event
