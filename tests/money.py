"""Helpers for stories about money: a rider pays at the sandbox, the webhook arrives, a session runs and ends."""

import hashlib
import hmac
import itertools
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.test import Client

import billing.sandbox
from billing import ledger, payments, qr
from billing.models import QRCode, QRPayment, WebhookEvent
from billing.webhooks import work_due
from csms.models import ChargingSession, Connector, IdTag, SessionState
from voltaro import clock

_transaction = itertools.count(1)
URL = "/webhooks/razorpay/"


def start_sandbox(**options: Any) -> billing.sandbox.Sandbox:
    """Razorpay, played over real HTTP, on our clock; nothing moves on its own and refunds are done at once."""
    given = {"port": 0, "refund_delay_s": 0, "settle_after_s": None, "background": False, "now": lambda: clock.now().timestamp()}
    return billing.sandbox.start(**{**given, **options})


def real_qr(connector: Connector) -> QRCode:
    """The connector's QR as the sandbox knows it, on a charger that is online."""
    connector.qr_codes.all().delete()
    connector.charge_point.online = True
    connector.charge_point.save()
    return qr.ensure_qr(connector)


def sign(raw: bytes, secret: str | None = None) -> str:
    return hmac.new((secret or settings.RAZORPAY_WEBHOOK_SECRETS[0]).encode(), raw, hashlib.sha256).hexdigest()


def post(raw: bytes, *, signature: str | None = "", event_id: str | None = None) -> HttpResponse:
    """Deliver these bytes as Razorpay does; `signature=""` signs them well, None sends none."""
    headers = {"x-razorpay-event-id": event_id} if event_id else {}
    if signature is not None:
        headers["x-razorpay-signature"] = signature or sign(raw)
    return Client().post(URL, raw, content_type="application/json", headers=headers)


def deliver(sandbox: billing.sandbox.Sandbox, name: str = "") -> list[HttpResponse]:
    """Post all events of the sandbox so far (of one kind) to the webhook, byte for byte, as often as this is called."""
    rows = sandbox.world.store.rows("SELECT event_id, event, body FROM deliveries ORDER BY seq")
    return [
        post(row["body"] if isinstance(row["body"], bytes) else row["body"].encode(), event_id=row["event_id"])
        for row in rows
        if row["event"].startswith(name)
    ]


def work_webhooks() -> int:
    return work_due(clock.now(), 100)


def pay(sandbox: billing.sandbox.Sandbox, code: QRCode, amount_paise: int, **payer: Any) -> QRPayment:
    """A rider pays and we hear of it: the payment as it stands in our books then."""
    payment_id = sandbox.pay(code.razorpay_id, amount_paise, **payer)
    deliver(sandbox, "qr_code.credited")
    work_webhooks()
    return QRPayment.objects.get(razorpay_payment_id=payment_id)


def plug_in(payment: QRPayment) -> ChargingSession:
    """The charger starts with the payment's permit."""
    assert payment.permit is not None, payment.refund_reason
    session = start_session(payment.connector, permit=payment.permit, limit_wh=payment.permit.limit_wh)
    payment.permit.state, payment.permit.ask_at = IdTag.State.USED, None
    payment.permit.save()
    payments.link_due(clock.now(), 100)
    payment.refresh_from_db()
    return session


def start_session(connector: Connector, **fields: Any) -> ChargingSession:
    number = str(next(_transaction))
    return ChargingSession.objects.create(
        charge_point=connector.charge_point,
        connector=connector,
        company=connector.charge_point.company,
        transaction_id=number,
        start_key=number,
        start_time=clock.now(),
        **fields,
    )


def stop(session: ChargingSession, energy_wh: int, flags: tuple[str, ...] = ()) -> ChargingSession:
    """The session ends with this much energy."""
    session.refresh_from_db()
    session.state, session.ended_at, session.end_time = SessionState.STOPPED, clock.now(), clock.now()
    session.energy_wh, session.flags = energy_wh, list(flags)
    session.save()
    return session


def books_are_right() -> bool:
    problems = ledger.check()
    assert problems == [], problems
    return True


def event_of(payment_id: str, name: str = "qr_code.credited") -> WebhookEvent:
    return WebhookEvent.objects.get(payment_id=payment_id, event=name)
