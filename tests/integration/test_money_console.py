"""The console's money pages: everything to see for those who may, nothing to edit, no name of a rider."""

import json
import re

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.roles import Role
from billing import bills, razorpay, refunds
from billing.models import Difference, QRPayment, Refund, Tariff, Wallet, WebhookEvent
from tests import factories, money
from voltaro import clock

pytestmark = pytest.mark.django_db

MODELS = [model for model in admin.site._registry if model._meta.app_label == "billing"]


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def story(sandbox, network, kaveri_qr) -> QRPayment:
    payment = money.pay(sandbox, kaveri_qr, 123_450, vpa="asha.rao@okaxis", contact="+919845012345")
    money.stop(money.plug_in(payment), 10_000)
    bills.work_due(clock.now(), 10)
    refunds.work_due(clock.now(), 10)
    Wallet.objects.create(user=network.asha, balance_paise=5)
    Difference.objects.create(day=clock.now().date(), kind="payment_fee", subject=str(payment), ours_paise=1, theirs_paise=2)
    return payment


def page(model, what: str, *args) -> str:
    return reverse(f"admin:billing_{model._meta.model_name}_{what}", args=args)


def test_every_model_has_its_pages_and_om_may_read_them(story, network):
    om = signed_in(network.om)
    assert {"bill", "difference", "journalentry", "posting", "qrcode", "qrpayment", "refund", "tariff", "wallet", "webhookevent"} <= {
        model._meta.model_name for model in MODELS
    }
    for model in MODELS:
        lists = om.get(page(model, "changelist"), {"q": "x"}), om.get(page(model, "changelist"))
        assert [response.status_code for response in lists] == [200, 200], model
        row = model.objects.first()
        if row is not None and model is not Wallet:
            assert om.get(page(model, "change", row.pk)).status_code == 200, model


def test_nothing_is_added_changed_or_deleted_by_hand(story, network):
    for model in MODELS:
        row, client = model.objects.first(), signed_in(network.admin)
        if model is not Tariff:
            assert client.get(page(model, "add")).status_code == 403, model
        if row is not None:
            assert client.post(page(model, "change", row.pk), {}).status_code == 403, model
            assert client.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403, model


def test_rupees_with_paise_and_no_rider_by_name(story, network):
    om = signed_in(network.om)
    event = WebhookEvent.objects.get(event="qr_code.credited")
    pages = [
        om.get(page(QRPayment, "changelist")),
        om.get(page(QRPayment, "change", story.pk)),
        om.get(page(WebhookEvent, "change", event.pk)),
        om.get(page(Refund, "change", Refund.objects.get().pk)),
    ]
    texts = [response.content.decode() for response in pages]
    assert "₹1,234.50" in texts[0] and "as…@okaxis" in texts[1]
    for text in texts:
        assert "asha.rao" not in text and "98450" not in text


def test_kaveris_people_see_kaveris_money_only(story, network):
    finance = factories.make_user("gita", Role.FINANCE, network.ganga.company)
    kaveris = factories.make_user("kiran", Role.FINANCE, network.kaveri.company)
    assert str(story) in signed_in(kaveris).get(page(QRPayment, "changelist")).content.decode()
    assert str(story) not in signed_in(finance).get(page(QRPayment, "changelist")).content.decode()
    assert signed_in(finance).get(page(QRPayment, "change", story.pk)).status_code == 302
    # The books are the network's, not a franchisee's.
    for model in (WebhookEvent, Difference):
        assert signed_in(kaveris).get(page(model, "changelist")).status_code == 403
    assert signed_in(network.kaveri_user).get(page(QRPayment, "changelist")).status_code in (302, 403)


def test_om_asks_for_a_failed_refund_once_more(story, network, sandbox, monkeypatch):
    refund = Refund.objects.get()
    entity = razorpay.fetch_refund(refund.razorpay_id)
    refunds.hear(refund.pk, {**entity, "status": "failed"})
    om = signed_in(network.om)
    data = {"action": "ask_again", "_selected_action": [refund.pk]}
    response = om.post(page(Refund, "changelist"), data, follow=True)
    assert "Asked again: 1 of 1" in response.content.decode()
    assert Refund.objects.filter(state="due").get().key.endswith("-surplus-2")
    support = factories.make_user("sam", Role.SUPPORT, network.voltaro)
    signed_in(support).post(page(Refund, "changelist"), data)
    assert Refund.objects.count() == 2


def test_a_stranger_event_can_be_worked_on_again(story, network, sandbox):
    raw = json.dumps({"event": "qr_code.credited", "payload": {}}).encode()
    money.post(raw, event_id="evt_odd")
    money.work_webhooks()
    event = WebhookEvent.objects.get(event_id="evt_odd")
    assert event.state == "ignored"
    signed_in(network.om).post(page(WebhookEvent, "changelist"), {"action": "work_again", "_selected_action": [event.pk]})
    event.refresh_from_db()
    assert event.state == "new"


def test_a_new_price_is_a_new_version_and_only_the_network_prices_everywhere(network):
    form = {
        "name": "Standard",
        "rate_paise_per_kwh": 1600,
        "gst_bp": 1800,
        "platform_fee_bp": 0,
        "valid_from_0": "2026-01-01",
        "valid_from_1": "10:00:00",
    }
    response = signed_in(network.om).post(page(Tariff, "add"), form)
    assert response.status_code == 302, re.findall(r"errorlist.*?</ul>", response.content.decode(), re.S)
    assert Tariff.objects.get(rate_paise_per_kwh=1600).version == 2
    kaveris = factories.make_user("kiran", Role.OPERATOR, network.kaveri.company)
    assert signed_in(kaveris).post(page(Tariff, "add"), form).status_code == 200
    assert signed_in(kaveris).post(page(Tariff, "add"), {**form, "company": network.ganga.company.pk}).status_code == 200
    assert signed_in(kaveris).post(page(Tariff, "add"), {**form, "company": network.kaveri.company.pk}).status_code == 302
    assert Tariff.objects.count() == 3


def test_the_lists_ask_a_fixed_number_of_questions(sandbox, network, kaveri_qr, django_assert_max_num_queries):
    for number in range(12):
        money.pay(sandbox, kaveri_qr, 10_000 + number)
    om = signed_in(network.om)
    for model in (QRPayment, Refund, WebhookEvent):
        om.get(page(model, "changelist"))
        with django_assert_max_num_queries(22):
            om.get(page(model, "changelist"))
