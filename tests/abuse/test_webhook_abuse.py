"""Attacks on the webhook: what is forged, replayed, altered or too big changes nothing, and is seen."""

import hashlib
import hmac
import json
from io import BytesIO

import pytest
from django.core.cache import cache
from django.core.handlers.asgi import ASGIRequest
from django.test import Client

from billing import bills, razorpay, refunds, webhooks
from billing.models import JournalEntry, QRPayment, Refund, WebhookEvent
from tests import money
from tests.integration.conftest import kaveri_qr, sandbox  # noqa: F401 the same cast
from tests.integration.test_webhooks import credit
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _counters():
    cache.clear()


def nothing_happened() -> bool:
    return not (WebhookEvent.objects.exists() or QRPayment.objects.exists() or JournalEntry.objects.exists())


@pytest.mark.parametrize(
    "signature", [None, " ", "0" * 64, "é" * 64, "A" * 10_000, money.sign(b"another body"), money.sign(credit(), "wrong-secret")]
)
def test_E1_a_forged_webhook_is_refused_and_counted(signature):
    response = money.post(credit(), signature=signature)
    assert response.status_code == 400
    assert nothing_happened()
    assert webhooks.refused_counts()["bad_signature"] == 1


def test_E1_an_upper_case_or_padded_signature_is_not_one():
    good = money.sign(credit())
    for altered in (good.upper(), f"{good} ", f"sha256={good}", good[:-1]):
        assert not razorpay.verify_webhook(credit(), altered)
    assert razorpay.verify_webhook(credit(), good)


@pytest.mark.parametrize("odd", [None, b"bytes", 7, ["x"], "\udcff", "\x00"])
def test_E1_no_header_makes_the_check_raise(odd):
    assert razorpay.verify_webhook(credit(), odd) is False


def test_E1_an_empty_secret_verifies_nothing(settings):
    settings.RAZORPAY_WEBHOOK_SECRETS = ["", "real"]
    assert not razorpay.verify_webhook(b"{}", hmac.new(b"", b"{}", hashlib.sha256).hexdigest())


def test_E2_the_signature_covers_the_bytes_not_the_meaning():
    raw = credit()
    again = json.dumps(json.loads(raw)).encode()
    assert json.loads(again) == json.loads(raw) and again != raw
    assert money.post(again, signature=money.sign(raw)).status_code == 400
    assert money.post(raw + b"\n", signature=money.sign(raw)).status_code == 400
    assert nothing_happened()


def test_E3_E4_replayed_under_any_id_it_has_one_effect(sandbox, network, kaveri_qr):  # noqa: F811
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    raw = bytes(money.event_of(str(payment)).raw)
    for number in range(5):
        assert money.post(raw, event_id=f"replayed-{number}").status_code == 200
    money.work_webhooks()
    assert QRPayment.objects.count() == 1
    assert JournalEntry.objects.filter(key__startswith="payment:").count() == 1


def test_E5_a_week_old_event_moves_nothing_back(sandbox, network, kaveri_qr):  # noqa: F811
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    money.stop(money.plug_in(payment), 10_000)
    bills.work_due(clock.now(), 10)
    refunds.work_due(clock.now(), 10)
    payment.refresh_from_db()
    assert payment.state == "settled"
    clock.shift(7 * 86_400)
    raws = [bytes(event.raw) for event in WebhookEvent.objects.all()]
    for number, raw in enumerate(raws):
        money.post(raw, event_id=f"a-week-later-{number}")
    money.deliver(sandbox)
    money.work_webhooks()
    payment.refresh_from_db()
    assert payment.state == "settled" and Refund.objects.count() == 1
    assert money.books_are_right()


def test_E6_anothers_account_in_the_envelope_changes_nothing(sandbox, network, kaveri_qr):  # noqa: F811
    """The envelope's account is not proof of anything: the QR must be ours and Razorpay must know the payment by our key."""
    raw = credit("pay_NotOurs00000001", kaveri_qr.razorpay_id, account_id="acc_SomebodyElse01")
    money.post(raw)
    money.work_webhooks()
    assert WebhookEvent.objects.get().state == "ignored"
    assert not QRPayment.objects.exists()


def test_E7_while_a_secret_rotates_both_are_good(settings):
    settings.RAZORPAY_WEBHOOK_SECRETS = ["new", "old"]
    raw = credit()
    assert [razorpay.verify_webhook(raw, money.sign(raw, secret)) for secret in ("new", "old", "older")] == [True, True, False]


@pytest.mark.parametrize("amount", [0, -500, 10**12, "50000", 500.5, None, True])
def test_E8_an_amount_that_cannot_be_starts_nothing(monkeypatch, network, kaveri_qr, amount):  # noqa: F811
    entity = {"id": "pay_Odd00000000001", "amount": amount, "currency": "INR", "status": "captured"}
    monkeypatch.setattr(razorpay, "fetch_payment", lambda _: entity)
    money.post(credit("pay_Odd00000000001", kaveri_qr.razorpay_id))
    money.work_webhooks()
    assert WebhookEvent.objects.get().state == "ignored"
    assert not QRPayment.objects.exists()


def test_E8_the_webhooks_own_amount_is_never_believed(sandbox, network, kaveri_qr):  # noqa: F811
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 1_000)
    raw = credit(payment_id, kaveri_qr.razorpay_id)  # it says Rs 500
    money.post(raw)
    money.work_webhooks()
    assert QRPayment.objects.get().amount_paid == 1_000


def test_an_id_in_a_webhook_cannot_lead_the_client_elsewhere(sandbox, network, kaveri_qr):  # noqa: F811
    money.post(credit("../transfers", kaveri_qr.razorpay_id))
    money.work_webhooks()
    assert WebhookEvent.objects.get().state == "ignored"


def test_E19_a_huge_body_is_refused_by_its_length_or_its_size():
    big = b" " * (webhooks.MAX_BYTES + 1)
    assert money.post(big).status_code == 413
    response = Client().generic("POST", money.URL, big, content_type="application/json", CONTENT_LENGTH="12")
    assert response.status_code in (400, 413)
    assert money.post(b" " * 3_000_000).status_code == 413
    assert nothing_happened()
    assert webhooks.refused_counts()["too_big"] >= 2


def test_E19_a_body_that_names_no_length_is_not_taken_into_memory():
    """Chunked: the server has it on its disk, whatever its size; we read as much as an event may have."""

    class Endless(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and 0 < size <= webhooks.MAX_BYTES + 1, f"asked for {size} bytes of an endless body"
            return b" " * size

    scope = {"type": "http", "method": "POST", "path": money.URL, "headers": [], "query_string": b""}
    assert webhooks.receive(ASGIRequest(scope, Endless())).status_code == 413
    assert nothing_happened()


def test_a_refusal_survives_a_dead_cache(monkeypatch):
    monkeypatch.setattr(webhooks.cache, "add", lambda *_: (_ for _ in ()).throw(ConnectionError))
    assert money.post(credit(), signature=None).status_code == 400


def test_no_csrf_token_and_no_cookie_is_needed_or_given():
    response = Client(enforce_csrf_checks=True).post(
        money.URL, credit(), content_type="application/json", headers={"x-razorpay-signature": money.sign(credit())}
    )
    assert response.status_code == 200
    assert not response.cookies
