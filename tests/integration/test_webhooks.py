"""The bell at the door: verified over raw bytes, stored once, answered before any work, worked on until it is done."""

import json
import threading

import pytest
from django.db import connection
from django.test import Client

from billing import payments, razorpay, webhooks
from billing.models import Difference, QRPayment, WebhookEvent
from tests import money
from voltaro import clock

pytestmark = pytest.mark.django_db


def credit(payment_id: str = "pay_Asha0000000001", qr_id: str = "qr_Unknown00000001", **more) -> bytes:
    """A credit as Razorpay writes it: slashes escaped, so that a body parsed and written again is another body."""
    event = {
        "entity": "event",
        "account_id": "acc_Voltaro0000001",
        "event": "qr_code.credited",
        "contains": ["payment", "qr_code"],
        "payload": {
            "payment": {"entity": {"id": payment_id, "amount": 50_000, "status": "captured", "notes": []}},
            "qr_code": {"entity": {"id": qr_id, "image_url": "https://rzp.example/i/abc"}},
        },
        "created_at": 1_700_000_000,
        **more,
    }
    return json.dumps(event).replace("/", "\\/").encode()


def test_an_event_is_stored_as_it_came_and_answered_before_any_work(bells, django_capture_on_commit_callbacks, monkeypatch):
    monkeypatch.setattr(payments, "hear", lambda *_: pytest.fail("worked before answering"))
    raw = credit()
    with django_capture_on_commit_callbacks(execute=True):
        response = money.post(raw, event_id="evt_1")
    assert response.status_code == 200
    event = WebhookEvent.objects.get()
    assert (bytes(event.raw), event.event_id, event.event, event.state) == (raw, "evt_1", "qr_code.credited", "new")
    assert (event.payment_id, event.qr_id, event.account_id) == ("pay_Asha0000000001", "qr_Unknown00000001", "acc_Voltaro0000001")
    assert event.event_at.year == 2023
    assert bells == ["webhook.received"]


def test_a_repeat_is_counted_and_answered(bells, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        statuses = [money.post(credit(), event_id="evt_1").status_code for _ in range(5)]
    assert statuses == [200] * 5
    assert WebhookEvent.objects.get().repeats == 4
    assert bells == ["webhook.received"]


def test_without_an_event_id_the_body_itself_is_the_identity():
    money.post(credit())
    money.post(credit())
    money.post(credit("pay_Ravi0000000001"))
    assert WebhookEvent.objects.count() == 2
    assert all(event.event_id.startswith("sha256-") for event in WebhookEvent.objects.all())


def test_a_body_that_is_no_json_is_kept_shown_and_left_alone():
    for raw in (b"{", b"[]", b"\xff\xfe", b"", b'{"event": NaN}', b"[" * 100_000):
        assert money.post(raw).status_code == 200
    assert set(WebhookEvent.objects.values_list("state", flat=True)) == {"ignored"}
    assert all(event.note.startswith("not understood") for event in WebhookEvent.objects.all())
    assert webhooks.work_due(clock.now(), 10) == 0


def test_text_that_postgresql_cannot_hold_is_kept_raw_and_mended():
    raw = credit(account_id="a\x00b\ud800c")
    assert money.post(raw).status_code == 200
    event = WebhookEvent.objects.get()
    assert bytes(event.raw) == raw
    assert "\x00" not in event.payload["account_id"]


@pytest.mark.parametrize(
    "odd", [{"payload": []}, {"payload": {"payment": None, "qr_code": {"entity": []}}}, {"created_at": "soon"}, {"payload": None}]
)
def test_an_odd_shape_is_ignored_not_an_error(odd):
    money.post(credit(**odd))
    assert money.work_webhooks() == 1
    assert WebhookEvent.objects.get().state == "ignored"


def test_events_of_franchise_are_left_for_franchise_and_strange_ones_for_nobody():
    for number, name in enumerate(["transfer.processed", "settlement.processed", "product.route.activated", "order.paid", "invoice.paid"]):
        money.post(json.dumps({"event": name}).encode(), event_id=f"evt_{number}")
    assert money.work_webhooks() == 0
    states = dict(WebhookEvent.objects.values_list("event", "state"))
    assert states["transfer.processed"] == states["settlement.processed"] == states["product.route.activated"] == "new"
    assert states["order.paid"] == states["invoice.paid"] == "ignored"


def test_a_failure_waits_longer_each_time_and_is_visible(monkeypatch):
    monkeypatch.setattr(payments, "hear", lambda *_: (_ for _ in ()).throw(razorpay.TryAgain("HTTP 503")))
    money.post(credit())
    waits = []
    for _ in range(12):
        assert money.work_webhooks() == 1
        event = WebhookEvent.objects.get()
        assert (event.state, event.note) == ("failed", "TryAgain: HTTP 503")
        assert money.work_webhooks() == 0  # not before its time
        waits.append(round((event.retry_at - clock.now()).total_seconds()))
        clock.shift(waits[-1] + 1)
    assert waits[:4] == [10, 20, 40, 80] and waits[-1] == 1800


def test_our_own_mistake_is_kept_for_another_day(monkeypatch, caplog):
    monkeypatch.setattr(payments, "hear", lambda *_: 1 // 0)
    money.post(credit())
    money.work_webhooks()
    event = WebhookEvent.objects.get()
    assert (event.state, event.note[:17]) == ("failed", "ZeroDivisionError")
    assert "pay_Asha" not in caplog.text


def test_a_dead_workers_claim_runs_out(monkeypatch):
    money.post(credit())
    monkeypatch.setattr("billing.events.act", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        money.work_webhooks()
    monkeypatch.undo()
    assert money.work_webhooks() == 0
    clock.shift(webhooks.LEASE_S + 1)
    assert money.work_webhooks() == 1
    assert WebhookEvent.objects.get().state == "ignored"


def test_only_a_post_is_heard():
    assert Client().get(money.URL).status_code == 405


def test_events_in_any_order_end_the_same(sandbox, kaveri_qr):
    sandbox.pay(kaveri_qr.razorpay_id, 10_000)
    for name in ("payment.captured", "qr_code.credited"):
        money.deliver(sandbox, name)
        money.work_webhooks()
    assert QRPayment.objects.get().state == "starting"
    assert WebhookEvent.objects.get(event="payment.captured").state == "ignored"
    money.deliver(sandbox, "payment.captured")
    assert WebhookEvent.objects.get(event="payment.captured").repeats == 1


def test_a_dispute_is_shown_to_a_person(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 10_000)
    dispute = {"id": "disp_Asha0000000001", "amount": 10_000, "amount_deducted": 10_000}
    body = {"event": "payment.dispute.created", "payload": {"payment": {"entity": {"id": str(payment)}}, "dispute": {"entity": dispute}}}
    money.post(json.dumps(body).encode())
    money.work_webhooks()
    assert Difference.objects.get().theirs_paise == 10_000


@pytest.mark.django_db(transaction=True)
def test_the_same_event_twice_at_once_is_one_event(bells):
    gate = threading.Barrier(4)
    statuses = []

    def deliver():
        gate.wait()
        try:
            statuses.append(money.post(credit(), event_id="evt_1").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=deliver) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert statuses == [200] * 4
    assert WebhookEvent.objects.get().repeats == 3
