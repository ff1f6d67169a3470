"""A payment comes in: it starts a charge, goes back, or waits for a person; and never twice."""

import threading
from datetime import timedelta

import httpx
import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEntry, Provider, User
from billing import budgets, ledger, payments
from billing.models import JournalEntry, QRPayment, Refund, Tariff, WebhookEvent
from csms import commands, permits
from csms.models import ChargePoint, Connector, IdTag
from tests import factories, money
from voltaro import clock

pytestmark = pytest.mark.django_db


def test_a_payment_becomes_a_permit_for_what_it_buys(sandbox, network, kaveri_qr, bells, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        payment = money.pay(sandbox, kaveri_qr, 50_000, vpa="asha@okaxis")
    permit = payment.permit
    assert (payment.state, payment.amount_paid, payment.connector) == ("starting", 50_000, network.kaveri_connector)
    assert permit.state == IdTag.State.READY
    assert len(permit.tag) == 16 and int(permit.tag, 16) and permit.tag == permit.tag.upper()
    assert permit.limit_wh == 27_785  # Rs 500 at Rs 15.25 + 18 %: one Wh more would cost a paisa too much
    assert permit.start_until == payment.start_deadline == payment.heard_at + timedelta(seconds=300)
    assert "permit.ask" in bells
    assert ledger.balance("prepaid", f"payment:{payment}") == -50_000
    assert money.books_are_right()


def test_the_platform_fee_is_frozen_and_taken_off_the_budget(sandbox, network, kaveri_qr):
    Tariff.objects.create(name="Kaveri", charge_point=network.kaveri_charger, rate_paise_per_kwh=2000, gst_bp=1800, platform_fee_bp=200)
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    assert payment.platform_fee == 1_000
    assert payment.permit.limit_wh == 20_763
    Tariff.objects.update(rate_paise_per_kwh=9_999)
    payment.refresh_from_db()
    assert payment.tariff_snapshot["rate_paise_per_kwh"] == 2000


def test_the_same_payment_heard_of_many_ways_is_one_payment(sandbox, network, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    money.deliver(sandbox)
    raw = bytes(money.event_of(payment.razorpay_payment_id).raw)
    money.post(raw, event_id="another-id-for-the-same-credit")
    money.work_webhooks()
    assert QRPayment.objects.count() == JournalEntry.objects.filter(key__startswith="payment:").count() == 1
    assert IdTag.objects.count() == 1
    assert set(WebhookEvent.objects.values_list("state", flat=True)) <= {"done", "ignored"}


def test_a_second_rider_on_a_busy_connector_gets_everything_back(sandbox, kaveri_qr):
    first = money.pay(sandbox, kaveri_qr, 50_000)
    second = money.pay(sandbox, kaveri_qr, 20_000, vpa="ravi@ybl")
    assert (first.state, second.state, second.refund_reason, second.permit) == ("starting", "refunding", "busy", None)
    assert second.refunds.get().amount_paise == 20_000


def test_a_payment_heard_of_too_late_goes_back(sandbox, kaveri_qr):
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    clock.shift(301)
    money.deliver(sandbox, "qr_code.credited")
    money.work_webhooks()
    payment = QRPayment.objects.get(razorpay_payment_id=payment_id)
    assert (payment.refund_reason, payment.permit) == ("stale", None)


def test_our_own_slowness_is_not_the_riders_staleness(sandbox, kaveri_qr):
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    money.deliver(sandbox, "qr_code.credited")
    clock.shift(200)
    money.work_webhooks()
    payment = QRPayment.objects.get(razorpay_payment_id=payment_id)
    assert payment.state == "starting"
    assert payment.start_deadline - clock.now() < timedelta(seconds=101)


def test_a_charger_that_is_gone_refunds_at_once_one_that_just_blinked_does_not(sandbox, network, kaveri_qr):
    charger = network.kaveri_charger
    charger.online, charger.last_seen = False, clock.now() - timedelta(seconds=20)
    charger.save()
    assert money.pay(sandbox, kaveri_qr, 10_000).state == "starting"
    IdTag.objects.update(state="revoked")
    charger.last_seen = clock.now() - timedelta(hours=2)
    charger.save()
    assert money.pay(sandbox, kaveri_qr, 20_000).refund_reason == "unreachable"


def test_money_paid_to_a_closed_qr_of_ours_goes_back(sandbox, kaveri_qr):
    sandbox.moods.late_payments = True
    kaveri_qr.status = "closed"
    kaveri_qr.save()
    assert money.pay(sandbox, kaveri_qr, 10_000).refund_reason == "qr_closed"


def test_without_a_price_nobody_charges(sandbox, kaveri_qr):
    Tariff.objects.all().delete()
    payment = money.pay(sandbox, kaveri_qr, 10_000)
    assert (payment.refund_reason, payment.platform_fee, payment.tariff_snapshot) == ("no_tariff", 0, {})


def test_a_qr_of_another_installation_is_shown_and_never_touched(sandbox, kaveri_qr):
    kaveri_qr.delete()
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    responses = money.deliver(sandbox)
    money.work_webhooks()
    assert {response.status_code for response in responses} == {200}
    event = money.event_of(payment_id)
    assert (event.state, event.note) == ("ignored", "a QR this installation does not know")
    assert QRPayment.objects.count() == Refund.objects.count() == JournalEntry.objects.count() == 0


def test_a_payment_already_refunded_by_other_hands_waits_for_a_person(sandbox, kaveri_qr):
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    auth = (sandbox.options.key_id, sandbox.options.key_secret)
    httpx.post(f"{sandbox.url}/v1/payments/{payment_id}/refund", json={"amount": 1_000}, auth=auth).raise_for_status()
    money.deliver(sandbox, "qr_code.credited")
    money.work_webhooks()
    payment = QRPayment.objects.get(razorpay_payment_id=payment_id)
    assert (payment.state, payment.review, payment.permit) == ("received", "refunded_elsewhere", None)


def test_razorpay_is_unwell_when_we_ask_and_the_event_comes_back(sandbox, kaveri_qr):
    sandbox.moods.next_call = ["500", "html502", "429"]
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    money.deliver(sandbox, "qr_code.credited")
    for _ in range(3):
        money.work_webhooks()
        event = money.event_of(payment_id)
        assert event.state == "failed" and event.retry_at > clock.now() and "TryAgain" in event.note
        clock.shift(40)
    money.work_webhooks()
    assert money.event_of(payment_id).state == "done"
    assert QRPayment.objects.get().state == "starting"


# -- whose is it? -------------------------------------------------------------------------------------------------
def test_a_verified_phone_comes_before_the_upi_id(sandbox, network, kaveri_qr):
    network.asha.phone, network.asha.phone_verified_at = "+919845012345", clock.now()
    network.asha.save()
    assert money.pay(sandbox, kaveri_qr, 10_000, contact="+91 98450 12345", vpa="stranger@ybl").user == network.asha


def test_a_phone_nobody_verified_is_nobodys(sandbox, network, kaveri_qr):
    network.asha.phone = "+919845012345"
    network.asha.save()
    user = money.pay(sandbox, kaveri_qr, 10_000, contact="+919845012345", vpa="asha@ybl").user
    assert user != network.asha and user.provider == Provider.UPI_GUEST


@pytest.mark.parametrize("placeholder", ["+919999999999", "+910000000000", None])
def test_a_placeholder_matches_nobody(sandbox, network, kaveri_qr, placeholder):
    network.asha.phone, network.asha.phone_verified_at = placeholder or "", clock.now()
    network.asha.save()
    assert money.pay(sandbox, kaveri_qr, 10_000, contact=placeholder, vpa="ravi@ybl").user != network.asha


def test_the_same_upi_id_is_the_same_guest_who_cannot_sign_in(sandbox, kaveri_qr):
    first = money.pay(sandbox, kaveri_qr, 10_000, vpa="Ravi@YBL")
    second = money.pay(sandbox, kaveri_qr, 20_000, vpa="ravi@ybl")
    assert first.user == second.user
    assert (first.user.provider, first.user.has_usable_password()) == (Provider.UPI_GUEST, False)


def test_a_payer_without_a_name_is_a_guest_of_one_payment(sandbox, kaveri_qr):
    sandbox.moods.payment_bare = True
    first, second = money.pay(sandbox, kaveri_qr, 10_000), money.pay(sandbox, kaveri_qr, 20_000)
    assert (first.vpa, first.rrn, first.user.vpa) == ("", "", "")
    assert first.user != second.user


def test_the_audit_entries_name_no_person(sandbox, kaveri_qr):
    money.pay(sandbox, kaveri_qr, 10_000, vpa="asha.rao@okaxis", contact="+919845012345")
    for entry in AuditEntry.objects.all():
        assert "asha.rao" not in f"{entry.before}{entry.after}" and "98450" not in f"{entry.before}{entry.after}"


# -- what follows ---------------------------------------------------------------------------------------------------
def test_the_session_is_tied_to_the_payment_and_its_budget_is_at_hand(sandbox, kaveri_qr, django_capture_on_commit_callbacks):
    payment = money.pay(sandbox, kaveri_qr, 50_000, vpa="asha@okaxis")
    with django_capture_on_commit_callbacks(execute=True):
        session = money.plug_in(payment)
    session.refresh_from_db()
    assert (payment.state, payment.session, session.user) == ("charging", session, payment.user)
    budget = budgets.get(session.pk)
    assert (budget.amount_paid, budget.limit_wh, budget.so_far(10_000).total) == (50_000, 27_785, 17_996)
    assert (budget.left(0), budget.left(10_000)) == (50_000, 50_000 - 17_996)


def test_the_budget_is_read_from_the_row_when_redis_is_gone(sandbox, kaveri_qr, monkeypatch):
    session = money.plug_in(money.pay(sandbox, kaveri_qr, 50_000))
    monkeypatch.setattr(budgets.cache, "get", lambda *_: (_ for _ in ()).throw(ConnectionError("gone")))
    monkeypatch.setattr(budgets.cache, "set", lambda *_: (_ for _ in ()).throw(ConnectionError("gone")))
    assert budgets.get(session.pk).limit_wh == 27_785


def test_not_started_in_time_goes_back(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    assert payments.expire_due(clock.now(), 10) == 0
    clock.shift(301)
    assert payments.expire_due(clock.now(), 10) == 1
    payment.refresh_from_db()
    assert (payment.state, payment.refund_reason) == ("refunding", "not_started")
    assert payment.permit.state == IdTag.State.REVOKED
    assert payment.refunds.get().amount_paise == 50_000
    assert payments.expire_due(clock.now(), 10) == 0


def test_started_in_the_last_second_is_charged_not_refunded(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    session = money.start_session(payment.connector, permit=payment.permit)
    IdTag.objects.filter(pk=payment.permit_id).update(state="used")
    clock.shift(301)
    payments.expire_due(clock.now(), 10)
    payment.refresh_from_db()
    assert (payment.state, payment.session, payment.refunds.count()) == ("charging", session, 0)


def test_a_permit_taken_back_early_gives_the_money_back_early(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    permits.revoke(payment.permit_id, "operator")
    assert payments.expire_due(clock.now(), 10) == 1
    payment.refresh_from_db()
    assert payment.state == "refunding"


def test_an_unknown_fee_is_asked_again_and_zero_is_a_value(sandbox, kaveri_qr):
    sandbox.moods.payment_fee = "null_then_known"
    payment = money.pay(sandbox, kaveri_qr, 50_000, account="credit_card")
    assert payment.fee is None
    assert payments.fees_due(clock.now(), 10) == 0
    clock.shift(901)
    payments.fees_due(clock.now(), 10)
    payment.refresh_from_db()
    assert payment.fee > 0 and payment.fee_source == "api" and payment.fee_ask_at is None
    assert ledger.balance("razorpay_fees", f"payment:{payment}") == payment.fee
    sandbox.moods.payment_fee = 0
    free = money.pay(sandbox, kaveri_qr, 20_000)
    assert (free.fee, free.fee_ask_at) == (0, None)
    assert money.books_are_right()


def test_a_fee_that_stays_unknown_is_asked_ever_less_often(sandbox, kaveri_qr):
    sandbox.moods.payment_fee = "null"
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    waits = []
    for _ in range(payments.FEE_ATTEMPTS):
        payment.refresh_from_db()
        waits.append(round((payment.fee_ask_at - clock.now()).total_seconds()))
        clock.shift(waits[-1] + 1)
        payments.fees_due(clock.now(), 10)
    payment.refresh_from_db()
    assert waits == sorted(waits) and (waits[0], waits[-1]) == (900, 86_400)
    assert (payment.fee, payment.fee_ask_at) == (None, None)
    assert payments.fees_due(clock.now() + timedelta(days=30), 10) == 0


@pytest.mark.django_db(transaction=True)
def test_two_riders_pay_one_connector_in_the_same_instant(sandbox, network, bells):
    """Both webhooks are worked on at once: one rider charges, the other gets everything back."""
    code = money.real_qr(network.kaveri_connector)
    entities = [
        {"id": f"pay_{name:0<14}", "amount": 50_000, "currency": "INR", "status": "captured", "vpa": f"{name}@ybl"}
        for name in ("asha", "ravi")
    ]
    gate = threading.Barrier(2)

    def take(entity):
        gate.wait()
        try:
            payments.take(code.pk, entity, clock.now())
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(entity,)) for entity in entities]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(QRPayment.objects.values_list("state", "refund_reason")) == [("refunding", "busy"), ("starting", "")]
    assert money.books_are_right()


@pytest.mark.django_db(transaction=True)
def test_webhook_and_poll_bring_the_same_payment_in_the_same_instant(sandbox, network, bells):
    code = money.real_qr(network.kaveri_connector)
    entity = {"id": "pay_Asha0000000001", "amount": 50_000, "currency": "INR", "status": "captured", "vpa": "asha@ybl"}
    gate, taken = threading.Barrier(3), []

    def take():
        gate.wait()
        try:
            taken.append(payments.take(code.pk, entity, clock.now()).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=take) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert taken == [QRPayment.objects.get().pk] * 3
    assert IdTag.objects.count() == 1
    assert money.books_are_right()


def test_an_under_a_rupee_payment_ends_as_a_remainder(network, kaveri_qr):
    entity = {"id": "pay_Half0000000000", "amount": 50, "currency": "INR", "status": "captured", "fee": 0, "tax": 0}
    payment = payments.take(kaveri_qr.pk, entity, clock.now())
    assert (payment.state, payment.refund_reason) == ("settled", "under_a_rupee")
    assert ledger.balance("remainders", f"payment:{payment}") == -50
    assert money.books_are_right()


def test_the_payers_rows_are_seen_by_the_owner_and_nobody_else(sandbox, network, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000, vpa="asha@okaxis")
    sees = QRPayment.objects.visible_to
    assert sees(network.kaveri_user).get() == sees(network.om).get() == sees(payment.user).get() == payment
    assert not sees(network.ganga_user).exists() and not sees(network.asha).exists()
    assert timezone.is_aware(payment.paid_at)
    assert User.objects.filter(provider=Provider.UPI_GUEST).count() == 1
    assert factories.PASSWORD not in payment.user.password


@pytest.mark.parametrize("whole", [False, True])
def test_what_people_took_out_of_service_is_not_paid_for(sandbox, network, kaveri_qr, client, whole):
    """It still reports Available: the page says that it is out of service, and a payment that comes all the same goes back at once."""
    connector, charge_point = network.kaveri_connector, network.kaveri_charger
    ChargePoint.objects.filter(pk=charge_point.pk).update(online=True, last_seen=clock.now())
    Connector.objects.filter(pk=connector.pk).update(status="Available")
    page = f"/c/{connector.code}/"
    assert "Ready for you" in client.get(page).content.decode()
    commands.ask(charge_point, "ChangeAvailability", {"connectorId": 0 if whole else 1, "type": "Inoperative"}, by="om", trigger="console")
    if whole:  # a connector that was heard of since
        Connector.objects.filter(pk=connector.pk).update(availability_wanted="Operative")
    said = client.get(page).content.decode()
    assert "Out of service" in said and "Please do not pay here" in said and "Ready for you" not in said
    payment = money.pay(sandbox, kaveri_qr, 20_000)
    assert (payment.state, payment.refund_reason, payment.permit) == ("refunding", "out_of_service", None)
    assert payment.refunds.get().amount_paise == 20_000
    assert "out of service just now" in client.get(page).content.decode()
    commands.ask(charge_point, "ChangeAvailability", {"connectorId": 0 if whole else 1, "type": "Operative"}, by="om", trigger="console")
    assert money.pay(sandbox, kaveri_qr, 30_000).state == "starting"
