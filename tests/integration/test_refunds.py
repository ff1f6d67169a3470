"""Money goes back once, whatever Razorpay's day is like."""

import json
import threading
from unittest.mock import Mock

import pytest
from django.db import connection

from accounts.models import AuditEntry
from billing import bills, ledger, payments, razorpay, refunds, rider
from billing.models import Difference, QRPayment, Refund
from tests import money
from voltaro import clock

pytestmark = pytest.mark.django_db


def owed(sandbox, code, wh: int = 10_000) -> Refund:
    """A session has ended and money is to go back."""
    payment = money.pay(sandbox, code, 50_000)
    money.stop(money.plug_in(payment), wh)
    bills.work_due(clock.now(), 10)
    return payment.refunds.get()


def work(times: int = 1, wait_s: int = 0) -> None:
    for _ in range(times):
        refunds.work_due(clock.now(), 10)
        clock.shift(wait_s) if wait_s else None


def at_razorpay(refund: Refund) -> list[dict]:
    return razorpay.payment_refunds(str(refund.payment))


def test_the_rest_goes_back_and_the_payment_is_settled(sandbox, kaveri_qr):
    refund = owed(sandbox, kaveri_qr)
    work()
    refund.refresh_from_db()
    assert (refund.state, refund.speed_requested, refund.speed_processed) == ("processed", "optimum", "instant")
    assert refund.razorpay_id.startswith("rfnd_") and refund.bank_reference
    (theirs,) = at_razorpay(refund)
    assert (theirs["amount"], theirs["receipt"], theirs["speed_requested"]) == (32_004, refund.key, "optimum")
    payment = QRPayment.objects.get()
    assert payment.state == "settled" and payment.settled_at
    subject = f"payment:{payment}"
    assert ledger.balance("refunds_in_flight", subject) == ledger.balance("prepaid", subject) == 0
    assert AuditEntry.objects.filter(action="refund.processed").exists()
    assert refunds.work_due(clock.now() + refunds.timedelta(days=9), 10) == 0
    assert money.books_are_right()


def test_until_it_arrives_the_money_is_in_flight(settings, network, bells):
    with money.start_sandbox(refund_delay_s=60) as sandbox:
        settings.RAZORPAY_BASE_URL = sandbox.url
        refund = owed(sandbox, money.real_qr(network.kaveri_connector))
        work()
        refund.refresh_from_db()
        assert (refund.state, QRPayment.objects.get().state) == ("pending", "refunding")
        assert ledger.balance("refunds_in_flight") == -32_004
        assert money.books_are_right()
        clock.shift(61)
        sandbox.work()
        money.deliver(sandbox, "refund.processed")
        money.work_webhooks()
        refund.refresh_from_db()
        assert (refund.state, QRPayment.objects.get().state) == ("processed", "settled")
        assert money.books_are_right()


def test_without_its_webhook_a_pending_refund_is_asked_about(settings, network, bells):
    with money.start_sandbox(refund_delay_s=60) as sandbox:
        settings.RAZORPAY_BASE_URL = sandbox.url
        refund = owed(sandbox, money.real_qr(network.kaveri_connector))
        work()
        sandbox.world.options.now = lambda: clock.now().timestamp()
        clock.shift(refunds.POLL_S * 2 + 1)
        sandbox.work()
        work()
        refund.refresh_from_db()
        assert refund.state == "processed"


@pytest.mark.parametrize("mood", ["timeout_after_commit", "500_after_commit", "html502_after_commit"])
def test_an_answer_lost_is_asked_for_before_anything_is_sent_again(sandbox, kaveri_qr, mood, monkeypatch):
    refund = owed(sandbox, kaveri_qr)
    sandbox.moods.next_refund = mood
    work()
    refund.refresh_from_db()
    assert refund.state == "asking" and refund.razorpay_id is None
    assert len(at_razorpay(refund)) == 1
    assert ledger.balance("refunds_in_flight") == -32_004
    monkeypatch.setattr(razorpay, "create_refund", lambda *_: pytest.fail("sent again"))
    clock.shift(refunds.UNKNOWN_S + 1)
    work()
    refund.refresh_from_db()
    assert refund.state == "processed"
    assert len(at_razorpay(refund)) == 1
    assert money.books_are_right()


@pytest.mark.parametrize("mood", ["timeout_before_commit", "500", "html502"])
def test_unheard_and_never_done_it_is_sent_again_with_the_same_key_and_body(sandbox, kaveri_qr, mood, monkeypatch):
    refund = owed(sandbox, kaveri_qr)
    sent = []
    real = razorpay.create_refund
    monkeypatch.setattr(
        razorpay, "create_refund", lambda *args: (sent.append((args[0], razorpay.frozen(args[1]), args[2])), real(*args))[1]
    )
    sandbox.moods.next_refund = mood
    work(times=2, wait_s=refunds.UNKNOWN_S + 1)
    refund.refresh_from_db()
    assert refund.state == "processed"
    assert len(sent) == 2 and sent[0] == sent[1]
    assert len(at_razorpay(refund)) == 1


@pytest.mark.parametrize("mood", ["429", "409_in_progress", "400_in_progress"])
def test_not_now_means_later(sandbox, kaveri_qr, mood):
    refund = owed(sandbox, kaveri_qr)
    sandbox.moods.next_refund = mood
    work()
    refund.refresh_from_db()
    assert refund.state == "due" and refund.retry_at > clock.now() and refund.last_error
    assert money.books_are_right()
    clock.shift(60)
    work()
    refund.refresh_from_db()
    assert refund.state == "processed"


def test_an_empty_balance_is_waited_for_with_patience(sandbox, kaveri_qr):
    refund = owed(sandbox, kaveri_qr)
    sandbox.moods.next_refund = ["insufficient_balance"] * 3
    for _ in range(3):
        work()
        refund.refresh_from_db()
        assert refund.state == "due" and "balance" in refund.last_error
        assert (refund.retry_at - clock.now()).total_seconds() > 1_700
        clock.shift(1_801)
    work()
    refund.refresh_from_db()
    assert refund.state == "processed"


def test_a_refusal_takes_the_money_back_into_the_books_and_calls_a_person(sandbox, kaveri_qr, monkeypatch):
    refund = owed(sandbox, kaveri_qr)
    old = razorpay.Declined(400, "BAD_REQUEST_ERROR", "Refund is not supported by the bank because the payment is more than 6 months old")
    with monkeypatch.context() as patch:
        patch.setattr(razorpay, "create_refund", lambda *_: (_ for _ in ()).throw(old))
        work()
    refund.refresh_from_db()
    payment = QRPayment.objects.get()
    assert (refund.state, payment.state, payment.review) == ("failed", "refunding", "refund_failed")
    assert "6 months" in refund.last_error
    assert (ledger.balance("prepaid"), ledger.balance("refunds_in_flight")) == (-32_004, 0)
    assert AuditEntry.objects.filter(action="refund.failed").exists()
    assert money.books_are_right()
    follow_up = refunds.again(refund.pk)
    assert follow_up.key == f"{refund.key}-2" and refunds.again(refund.pk) is None
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.review) == ("settled", "")
    assert money.books_are_right()


@pytest.mark.parametrize("by_hand, rest", [(20_000, 12_004), (31_950, 0), (32_004, 0)])
def test_what_other_hands_gave_back_unheard_is_left_out_when_ours_is_refused(sandbox, kaveri_qr, by_hand, rest):
    """Its webhook never came, so we ask for all of it, and Razorpay refuses: the rest is what is owed, and no person is needed."""
    refund = owed(sandbox, kaveri_qr)
    razorpay.create_refund(str(refund.payment), {"amount": by_hand, "speed": "normal"}, "by-hand-on-the-dashboard")
    for _ in range(3):
        work()
        clock.shift(60)
    refund.refresh_from_db()
    payment = QRPayment.objects.get()
    assert refund.state == "failed"
    assert [one.amount_paise for one in payment.refunds.filter(state="processed", reason="surplus")] == ([rest] if rest else [])
    assert (payment.state, payment.review, payment.remainder) == ("settled", "", 32_004 - by_hand - rest)
    assert sum(one["amount"] for one in at_razorpay(refund)) == by_hand + rest
    assert money.books_are_right()


def test_a_person_asks_again_for_what_is_left(sandbox, kaveri_qr, monkeypatch):
    refund = owed(sandbox, kaveri_qr)
    with monkeypatch.context() as patch:
        patch.setattr(razorpay, "create_refund", lambda *_: (_ for _ in ()).throw(razorpay.Declined(400, "BAD_REQUEST_ERROR", "no")))
        work()
    razorpay.create_refund(str(refund.payment), {"amount": 12_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    assert refunds.again(refund.pk).amount_paise == 20_004
    work()
    assert QRPayment.objects.get().state == "settled"
    assert money.books_are_right()


def test_a_key_used_with_another_body_is_looked_up_before_it_is_given_up(sandbox, kaveri_qr, caplog):
    """Something changed the body under the same key: our refund is there already, so nothing is lost and nothing doubled."""
    refund = owed(sandbox, kaveri_qr)
    razorpay.create_refund(str(refund.payment), refund.body, refund.key)
    Refund.objects.update(body={**refund.body, "speed": "normal"})
    work()
    refund.refresh_from_db()
    assert refund.state == "processed" and len(at_razorpay(refund)) == 1
    assert "another body" in caplog.text


def test_a_bank_that_cannot_deliver_returns_it_to_us(sandbox, kaveri_qr):
    refund = owed(sandbox, kaveri_qr)
    sandbox.moods.next_refund = "pending_then_failed"
    work()
    clock.shift(3)
    sandbox.work()
    money.deliver(sandbox, "refund.failed")
    money.work_webhooks()
    refund.refresh_from_db()
    assert refund.state == "failed" and QRPayment.objects.get().review == "refund_failed"
    assert money.books_are_right()


def test_processed_and_then_returned_by_the_bank(sandbox, kaveri_qr):
    refund = owed(sandbox, kaveri_qr)
    work()
    (entity,) = at_razorpay(refund)
    refunds.hear(refund.pk, {**entity, "status": "failed"})
    payment = QRPayment.objects.get()
    assert (payment.state, payment.settled_at) == ("refunding", None)
    assert ledger.balance("prepaid") == -32_004
    assert money.books_are_right()
    refunds.hear(refund.pk, entity)  # an older word, too late
    refund.refresh_from_db()
    assert refund.state == "failed"
    assert Difference.objects.get().kind == "refund_alive"


def test_instant_that_became_ordinary_is_stated_so(sandbox, kaveri_qr):
    refund = owed(sandbox, kaveri_qr)
    sandbox.moods.next_refund = "speed_changed"
    work()
    clock.shift(3)
    sandbox.work()
    for name in ("refund.processed", "refund.speed_changed", "refund.created"):  # out of order
        money.deliver(sandbox, name)
        money.work_webhooks()
    refund.refresh_from_db()
    assert (refund.state, refund.speed_requested, refund.speed_processed) == ("processed", "optimum", "normal")


@pytest.mark.parametrize("who", ["worker", "person"])
def test_what_cannot_go_back_at_once_is_asked_for_at_the_ordinary_speed(sandbox, kaveri_qr, monkeypatch, who):
    """By itself; also of a refund that failed so while nobody knew better, when a person asks for it again."""
    refund = owed(sandbox, kaveri_qr)
    sandbox.moods.next_refund = "no_instant"
    with monkeypatch.context() as before:
        before.setattr(refunds, "_instead", lambda *_: None) if who == "person" else None
        work()
    if who == "person":
        assert refunds.again(refund.pk).speed_requested == "normal"
    refund.refresh_from_db()
    assert refund.state == "failed" and refund.body["speed"] == "optimum"
    work()
    (theirs,) = at_razorpay(refund)
    assert (theirs["amount"], theirs["speed_requested"], theirs["receipt"]) == (32_004, "normal", f"{refund.key}-2")
    payment = QRPayment.objects.get()
    assert (payment.state, payment.review) == ("settled", "")
    assert money.books_are_right()


def test_refused_at_the_ordinary_speed_too_it_waits_for_a_person(sandbox, kaveri_qr, monkeypatch):
    refund = owed(sandbox, kaveri_qr)
    no = razorpay.Declined(400, "BAD_REQUEST_ERROR", "Instant refund not supported for the payment")
    monkeypatch.setattr(razorpay, "create_refund", Mock(side_effect=no))
    work(times=4, wait_s=60)
    assert list(refund.payment.refunds.order_by("pk").values_list("speed_requested", "state")) == [
        ("optimum", "failed"),
        ("normal", "failed"),
    ]
    assert QRPayment.objects.get().review == "refund_failed"
    assert money.books_are_right()


def test_the_webhook_may_come_before_the_answer(sandbox, kaveri_qr):
    refund = owed(sandbox, kaveri_qr)
    sandbox.moods.next_refund = "timeout_after_commit"
    work()
    money.deliver(sandbox, "refund.")
    money.work_webhooks()
    refund.refresh_from_db()
    assert refund.state == "processed"
    assert money.books_are_right()


def test_a_refund_made_on_the_dashboard_is_shown(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    made = razorpay.create_refund(str(payment), {"amount": 10_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    for _ in range(2):
        money.deliver(sandbox, "refund.processed")
        money.work_webhooks()
    difference = Difference.objects.get()
    assert (difference.kind, difference.subject, difference.theirs_paise) == ("outside_refund", made["id"], 10_000)
    assert ledger.balance("prepaid") == -40_000
    assert money.books_are_right()
    money.stop(money.plug_in(payment), 10_000)
    bills.work_due(clock.now(), 10)
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.refunds.get(reason="surplus").amount_paise) == ("settled", 22_004)
    assert money.books_are_right()


def test_a_refund_by_hand_in_doubt_is_asked_about_and_never_sent(sandbox, kaveri_qr, monkeypatch):
    """A list that names no payment leaves it in doubt; to send it, with no body of ours, would give back everything."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    made = razorpay.create_refund(str(payment), {"amount": 10_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    with monkeypatch.context() as strange:
        strange.setattr(razorpay, "payment_refunds", lambda _: [{**made, "payment_id": None}])
        assert refunds.adopt_all(payment.pk) == 1
    assert Refund.objects.get().state == "asking"
    with monkeypatch.context() as strange:  # a look-up that is refused (another key of ours) says nothing of the refund itself

        def refused(_):
            raise razorpay.Declined(400, "BAD_REQUEST_ERROR", "The id provided does not exist")

        strange.setattr(razorpay, "fetch_refund", refused)
        clock.shift(refunds.MAX_WAIT_S + 1)
        work()
    assert Refund.objects.get().state == "asking" and money.books_are_right()
    clock.shift(refunds.MAX_WAIT_S + 1)
    work()
    assert [one["amount"] for one in razorpay.payment_refunds(str(payment))] == [10_000]
    assert Refund.objects.get().state == "processed"


def test_a_refund_of_ours_that_is_asked_for_while_we_look_is_no_strangers(sandbox, kaveri_qr, monkeypatch):
    """Its bill is made and its call done between our question and Razorpay's answer; only the answer to it is under way still."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    money.stop(money.plug_in(payment), 10_000)
    listing = razorpay.payment_refunds

    def meanwhile(payment_id: str) -> list[dict]:
        bills.work_due(clock.now(), 10)
        ours = Refund.objects.get()
        razorpay.create_refund(payment_id, ours.body, ours.key)
        return listing(payment_id)

    with monkeypatch.context() as race:
        race.setattr(razorpay, "payment_refunds", meanwhile)
        assert refunds.adopt_all(payment.pk) == 0
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.review) == ("settled", "")
    assert list(payment.refunds.values_list("reason", "state")) == [("surplus", "processed")]
    assert not Difference.objects.exists()
    assert money.books_are_right()


def test_more_given_back_by_hand_than_was_left_is_shown(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    razorpay.create_refund(str(payment), {"amount": 45_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    session = money.plug_in(payment)
    money.deliver(sandbox, "refund.processed")
    money.work_webhooks()
    money.stop(session, 10_000)
    bills.work_due(clock.now(), 10)
    payment.refresh_from_db()
    assert (payment.state, payment.review, payment.refunds.count()) == ("ended", "refunded_too_much", 1)
    assert any("50000 paise paid, but 62996" in problem for problem in ledger.check())


def test_refunded_by_hand_while_the_charger_was_asked(sandbox, kaveri_qr):
    """Nobody starts for free: with the money gone the permit is worth nothing, and the payment is closed."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    razorpay.create_refund(str(payment), {"amount": 50_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    money.deliver(sandbox, "refund.processed")
    money.work_webhooks()
    payment.refresh_from_db()
    assert payment.permit.state == "revoked"
    payments.expire_due(clock.now(), 10)
    payment.refresh_from_db()
    assert (payment.state, payment.refunds.count()) == ("settled", 1)
    assert money.books_are_right()


def test_refunded_by_hand_while_the_car_charges(sandbox, kaveri_qr):
    """With all of the money gone the charger is asked to stop; with some of it left the charge goes on."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    session = money.plug_in(payment)
    for amount, stops in ((10_000, 0), (40_000, 1)):
        razorpay.create_refund(str(payment), {"amount": amount, "speed": "normal"}, f"by-hand-on-the-dashboard-{amount}")
        money.deliver(sandbox, "refund.processed")
        money.work_webhooks()
        assert session.commands.filter(action="RemoteStopTransaction").count() == stops


def test_paise_that_cannot_go_back_after_a_refund_by_hand_are_a_remainder(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    razorpay.create_refund(str(payment), {"amount": 49_950, "speed": "normal"}, "by-hand-on-the-dashboard")
    money.deliver(sandbox, "refund.processed")
    money.work_webhooks()
    payments.expire_due(clock.now(), 10)
    payment.refresh_from_db()
    assert (payment.state, payment.review, payment.remainder) == ("settled", "", 50)
    assert ledger.balance("remainders") == -50
    assert money.books_are_right()


def refunded_by_hand_in_vain(sandbox, payment: QRPayment, paise: int = 10_000) -> Refund:
    """A person refunds a part on Razorpay's dashboard; we take it in; the bank cannot deliver it."""
    sandbox.moods.next_refund = "pending_then_failed"
    made = razorpay.create_refund(str(payment), {"amount": paise, "speed": "normal"}, "by-hand-on-the-dashboard")
    money.deliver(sandbox, "refund.created")
    money.work_webhooks()
    clock.shift(3)
    sandbox.work()
    money.deliver(sandbox, "refund.failed")
    money.work_webhooks()
    refund = Refund.objects.get(razorpay_id=made["id"])
    assert refund.state == "failed"
    payment.refresh_from_db()
    return refund


def test_a_refund_by_hand_that_fails_before_the_start_leaves_the_start_alone(sandbox, kaveri_qr, settings):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    refund = refunded_by_hand_in_vain(sandbox, payment)
    assert (payment.state, payment.review) == ("starting", "refund_failed")
    assert rider.tell([payment])[0].phase == "starting"
    assert refunds.again(refund.pk) is None
    clock.shift(settings.START_TIMEOUT_S + 1)
    payments.expire_due(clock.now(), 10)
    payment.refresh_from_db()
    assert (payment.state, payment.permit.state) == ("refunding", "revoked")
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.review, payment.refunds.get(state="processed").amount_paise) == ("settled", "", 50_000)
    assert money.pay(sandbox, kaveri_qr, 20_000).state == "starting"
    assert money.books_are_right()


def test_a_refund_by_hand_that_fails_before_the_car_starts_is_no_free_charge(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    refund = refunded_by_hand_in_vain(sandbox, payment)
    session = money.plug_in(payment)
    payment.refresh_from_db()
    assert (payment.state, payment.session) == ("charging", session)
    money.stop(session, 10_000)
    payment.refresh_from_db()
    assert refunds.again(refund.pk) is None  # the bill will
    bills.work_due(clock.now(), 10)
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.review, payment.bill.total) == ("settled", "", 17_996)
    assert payment.refunds.get(state="processed").amount_paise == 32_004
    assert money.books_are_right()


def test_a_refund_by_hand_that_fails_before_the_bill_is_left_to_the_bill(sandbox, kaveri_qr):
    """Linked when it had ended already, as one that is held for review is: nothing is owed before it is billed."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    money.stop(money.plug_in(payment), 10_000)
    QRPayment.objects.update(state="ended")
    refund = refunded_by_hand_in_vain(sandbox, payment, 40_000)
    assert payment.review == "refund_failed" and refunds.again(refund.pk) is None
    bills.work_due(clock.now(), 10)
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.review, payment.refunds.get(state="processed").amount_paise) == ("settled", "", 32_004)
    assert money.books_are_right()


def test_a_refund_by_hand_that_fails_leaves_a_payment_under_review_there(sandbox, kaveri_qr):
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    razorpay.create_refund(payment_id, {"amount": 20_000, "speed": "normal"}, "by-hand-on-the-dashboard-1")
    money.deliver(sandbox, "qr_code.credited")
    money.work_webhooks()
    payment = QRPayment.objects.get()
    refund = refunded_by_hand_in_vain(sandbox, payment)
    assert (payment.state, payment.review, refunds.again(refund.pk)) == ("received", "refund_failed", None)
    assert refunds.give_back(payment.pk).amount_paise == 30_000
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.review) == ("settled", "")
    assert money.books_are_right()


def test_refunds_by_hand_that_failed_at_last_are_asked_again_by_us(sandbox, kaveri_qr):
    """Under keys that Razorpay takes, each with a receipt of its own, also when that is cut."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    money.stop(money.plug_in(payment), 10_000)
    sandbox.moods.next_refund = ["pending_then_failed", "pending_then_failed"]
    for place in (1, 2):
        razorpay.create_refund(str(payment), {"amount": 10_000, "speed": "normal"}, f"by-hand-on-the-dashboard-{place}")
    refunds.adopt_all(payment.pk)
    bills.work_due(clock.now(), 10)
    clock.shift(3)
    sandbox.work()
    money.deliver(sandbox, "refund.failed")
    money.work_webhooks()
    failed = list(Refund.objects.filter(state="failed"))
    asked = [refunds.again(one.pk) for one in failed]
    work()
    assert len(failed) == 2 and {one.state for one in Refund.objects.filter(pk__in=[one.pk for one in asked])} == {"processed"}
    receipts = [one["receipt"] for one in at_razorpay(failed[0]) if one["status"] == "processed"]
    assert len(set(receipts)) == len(receipts) == 3 and all(len(one) <= 40 for one in receipts)
    assert sum(one.endswith("-2") for one in receipts) == 2
    payment.refresh_from_db()
    assert (payment.state, payment.review) == ("settled", "")
    assert money.books_are_right()


def test_a_refund_by_hand_is_taken_in_though_razorpay_was_unwell_at_first(sandbox, kaveri_qr, monkeypatch):
    """Between the payment's entry and its refund's there is a call that may fail: the event comes back for it."""
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    razorpay.create_refund(payment_id, {"amount": 50_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    with monkeypatch.context() as unwell:
        unwell.setattr(razorpay, "payment_refunds", Mock(side_effect=razorpay.TryAgain("HTTP 500")))
        money.deliver(sandbox, "qr_code.credited")
        money.work_webhooks()
    payment = QRPayment.objects.get()
    assert (payment.state, payment.refunds.count()) == ("received", 0)
    clock.shift(40)
    money.work_webhooks()
    payment.refresh_from_db()
    assert (payment.state, payment.refunds.count()) == ("settled", 1)
    assert money.books_are_right()


def test_a_person_gives_the_rest_of_a_payment_back(sandbox, kaveri_qr):
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    razorpay.create_refund(payment_id, {"amount": 10_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    money.deliver(sandbox, "qr_code.credited")
    money.work_webhooks()
    payment = QRPayment.objects.get()
    assert (payment.state, payment.review, refunds.held(payment)) == ("received", "refunded_elsewhere", 40_000)
    assert refunds.give_back(payment.pk).amount_paise == 40_000
    assert refunds.give_back(payment.pk) is None
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.review) == ("settled", "")
    assert money.books_are_right()


def test_a_refund_of_another_installation_is_none_of_ours(sandbox, kaveri_qr):
    payment_id = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    razorpay.create_refund(payment_id, {"amount": 10_000, "speed": "normal"}, "staging-refund-1")
    money.deliver(sandbox, "refund.processed")
    money.work_webhooks()
    assert money.event_of(payment_id, "refund.processed").state == "ignored"
    assert not Difference.objects.exists()


def test_an_answer_about_other_money_is_not_adopted(sandbox, kaveri_qr):
    refund = owed(sandbox, kaveri_qr)
    refunds.hear(refund.pk, {"id": "rfnd_Other000000001", "payment_id": "pay_Other000000001", "amount": 32_004, "status": "processed"})
    refund.refresh_from_db()
    assert (refund.state, refund.razorpay_id) == ("due", None) and "does not fit" in refund.last_error


def test_a_worker_that_died_in_the_call_is_followed_by_one_that_asks(sandbox, kaveri_qr, monkeypatch):
    refund = owed(sandbox, kaveri_qr)
    with monkeypatch.context() as patch:
        patch.setattr(razorpay, "create_refund", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            work()
    refund.refresh_from_db()
    assert refund.state == "asking"
    assert refunds.work_due(clock.now(), 10) == 0
    clock.shift(refunds.LEASE_S + 1)
    work()
    refund.refresh_from_db()
    assert refund.state == "processed"


def test_a_refund_our_code_stumbles_over_does_not_hold_up_the_next_riders(sandbox, network, kaveri_qr, monkeypatch):
    stuck, good = owed(sandbox, kaveri_qr), owed(sandbox, money.real_qr(network.ganga_connector))
    post = ledger.post

    def stumbling(key, *args, **more):
        if key == f"refund:{stuck.pk}:asked":
            raise ledger.KeyReused(key)
        return post(key, *args, **more)

    monkeypatch.setattr(ledger, "post", stumbling)
    work()
    stuck.refresh_from_db(), good.refresh_from_db()
    assert (stuck.state, good.state) == ("due", "processed")
    assert money.books_are_right()


def test_the_body_is_frozen_whatever_the_settings_say_later(sandbox, kaveri_qr, settings):
    refund = owed(sandbox, kaveri_qr)
    settings.REFUND_SPEED = "normal"
    work()
    assert at_razorpay(refund)[0]["speed_requested"] == "optimum"
    assert json.loads(razorpay.frozen(refund.body))["amount"] == 32_004


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_it_once(sandbox, network, bells):
    refund = owed(sandbox, money.real_qr(network.kaveri_connector))
    gate, calls = threading.Barrier(3), []
    real = razorpay.create_refund

    def run():
        gate.wait()
        try:
            refunds.work_due(clock.now(), 10)
        finally:
            connection.close()

    razorpay.create_refund = lambda *args: (calls.append(args), real(*args))[1]
    try:
        threads = [threading.Thread(target=run) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    finally:
        razorpay.create_refund = real
    refund.refresh_from_db()
    assert len(calls) == 1 and refund.state == "processed"
    assert money.books_are_right()
