"""A late stop that says less: the bill is corrected once, the difference goes back once, the franchisee's share follows."""

import threading

import pytest
from django.db import connection
from django.test import Client

from accounts.models import AuditEntry
from billing import bills, corrections, ledger, payments, refunds
from billing.models import Bill, BillCorrection, JournalEntry, QRPayment, Refund, Tariff
from csms import sessions
from csms.models import ChargingSession
from franchise import books, settlements
from franchise import corrections as share_corrections
from franchise import payouts as franchise_payouts
from franchise.models import CommissionLedgerEntry, Payout, ShareCorrection
from tests import money
from tests.charger import Charger
from tests.factories import PASSWORD
from tests.shares import Route
from voltaro import clock

pytestmark = pytest.mark.django_db
PAID = 50_000


@pytest.fixture
def charger(network, kaveri_qr):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


@pytest.fixture
def payment(sandbox, kaveri_qr, charger):
    return money.pay(sandbox, kaveri_qr, PAID)


def work() -> None:
    """What the workers of money do, until nothing is due; the books agree afterwards."""
    for _ in range(2):
        now = clock.now()
        payments.link_due(now, 10), bills.work_due(now, 10), corrections.work_due(now, 10), refunds.work_due(now, 10)
        settlements.work_due(now, 10)
    assert money.books_are_right() and books.check() == []


def ended_for_it(charger, payment, wh: int = 10_000) -> ChargingSession:
    """It charged, its line was lost, and we ended the session with what we knew."""
    charger.start(payment.permit.tag, meter=100_000)
    charger.charge(100_000, 100_000 + wh, step_s=60)
    charger.drop()
    clock.shift(181)
    assert sessions.timeout_due(clock.now(), 10) == 1
    charger.connect()
    return ChargingSession.objects.get()


def known_fee(payment: QRPayment) -> None:
    payments.learn_fee(payment.pk, {"fee": 0, "tax": 0}, "api")


def test_a_late_stop_that_says_less_takes_it_off_the_bill_and_gives_it_back(charger, payment):
    session = ended_for_it(charger, payment)
    work()
    first = Bill.objects.get()
    assert (first.billed_wh, first.total, first.refund_due) == (10_000, 17_996, 32_004)
    charger.stop(108_000)
    session.refresh_from_db()
    assert (session.energy_wh, session.reported_wh, session.billable_wh) == (10_000, 8_000, 8_000) and session.rebill_at
    work()
    bill, made = Bill.objects.get(), BillCorrection.objects.get()
    assert (bill.delivered_wh, bill.billed_wh, bill.energy_charge, bill.cgst, bill.sgst, bill.total) == (
        8_000,
        8_000,
        12_200,
        1_098,
        1_098,
        14_396,
    )
    assert (made.billed_wh, made.energy_charge, made.cgst, made.sgst, made.total, made.given_back) == (2_000, 3_050, 275, 275, 3_600, 3_600)
    assert bill.total + bill.refund_due + bill.remainder == PAID
    assert [line.amount_paise for line in bill.lines.all()] == [15_250, 1_373, 1_373, -3_050, -275, -275]
    assert sum(line.amount_paise for line in bill.lines.all()) == bill.total
    payment.refresh_from_db(), session.refresh_from_db()
    assert sorted(payment.refunds.values_list("reason", "amount_paise", "state")) == [
        ("late_stop", 3_600, "processed"),
        ("surplus", 32_004, "processed"),
    ]
    assert (payment.state, refunds.held(payment), session.total_billed, session.rebill_at) == ("settled", 0, 14_396, None)
    entry = JournalEntry.objects.get(key=f"correction:session:{session.pk}")
    assert sorted(entry.postings.values_list("account", "amount_paise")) == [
        ("cgst_payable", 275), ("energy_revenue", 3_050), ("prepaid", -3_600), ("sgst_payable", 275),
    ]  # fmt: skip
    told = AuditEntry.objects.get(action="session.bill_corrected")
    assert (told.before, told.after["total"]) == ({"billed_wh": 10_000, "total": 17_996}, 14_396)


def test_a_repeat_changes_nothing(charger, payment):
    ended_for_it(charger, payment)
    work()
    for register in (108_000, 108_000, 104_000, 0, 120_000):
        clock.shift(5)
        charger.stop(register)
        work()
        corrections.correct(ChargingSession.objects.get().pk)
    assert (Bill.objects.get().billed_wh, BillCorrection.objects.count(), Refund.objects.count()) == (8_000, 1, 2)
    assert JournalEntry.objects.filter(key__startswith="correction:").count() == 1


@pytest.mark.parametrize("register", [110_000, 112_345, 0, -1, 5, 99_999, 100_000 // 1_000, 110])
def test_more_or_nothing_that_can_be_compared_changes_no_bill(charger, payment, register):
    """More is never charged; a register of nothing, of before the start, or of kilowatt hours says nothing."""
    session = ended_for_it(charger, payment)
    work()
    charger.stop(register)
    work()
    session.refresh_from_db()
    assert "late" in session.flags and session.billable_wh is None
    assert (Bill.objects.get().billed_wh, BillCorrection.objects.count(), Refund.objects.count()) == (10_000, 0, 1)
    assert AuditEntry.objects.filter(action="session.late_stop").count() == 1


def test_a_late_stop_before_the_bill_decides_the_bill(charger, payment):
    session = ended_for_it(charger, payment)
    charger.stop(108_000)
    work()
    session.refresh_from_db()
    assert (Bill.objects.get().billed_wh, BillCorrection.objects.count(), session.rebill_at) == (8_000, 0, None)
    assert Refund.objects.get().amount_paise == PAID - 14_396


def test_a_late_stop_of_nothing_delivered_gives_everything_back(charger, payment, network):
    """The register at the end is the register at the start: the platform's fee goes back too."""
    Tariff.objects.update(platform_fee_bp=0)
    session = ended_for_it(charger, payment)
    work()
    charger.stop(100_000)
    work()
    bill = Bill.objects.get()
    assert (bill.total, bill.billed_wh, bill.refund_due, session.pk) == (0, 0, PAID, bill.session_id)
    assert sum(Refund.objects.values_list("amount_paise", flat=True)) == PAID


def test_a_platform_fee_goes_back_when_nothing_was_delivered(sandbox, network, kaveri_qr, charger):
    Tariff.objects.create(name="Fee", charge_point=network.kaveri_charger, rate_paise_per_kwh=1525, gst_bp=1800, platform_fee_bp=200)
    payment = money.pay(sandbox, kaveri_qr, PAID)
    known_fee(payment)
    ended_for_it(charger, payment)
    work()
    charger.stop(100_000)
    work()
    made = BillCorrection.objects.get()
    assert (made.platform_fee, made.total, Bill.objects.get().total) == (1_000, 18_996, 0)
    entry = CommissionLedgerEntry.objects.get()
    assert (entry.payable, entry.status) == (0, "SETTLED")


def test_less_than_a_rupee_joins_the_remainder_and_with_it_a_rupee_goes_back(charger, payment):
    """56 paise cannot be refunded and stay a remainder."""
    ended_for_it(charger, payment)
    work()
    charger.stop(109_970)
    work()
    bill, made = Bill.objects.get(), BillCorrection.objects.get()
    assert (made.total, made.given_back, bill.remainder, Refund.objects.count()) == (56, 0, 56, 1)
    assert bill.total + bill.refund_due + bill.remainder == PAID
    payment.refresh_from_db()
    assert payment.state == "settled"


def test_what_was_beyond_the_money_is_taken_off_first(sandbox, kaveri_qr, charger):
    payment = money.pay(sandbox, kaveri_qr, 10_000)
    limit_wh = payment.permit.limit_wh
    ended_for_it(charger, payment, wh=limit_wh + 500)
    work()
    before = Bill.objects.get()
    assert before.overrun_wh == 500
    charger.stop(100_000 + limit_wh + 100)
    work()
    bill = Bill.objects.get()
    assert (bill.total, bill.overrun_wh, BillCorrection.objects.get().total) == (before.total, 100, 0)
    assert ledger.balance("overrun_given") == bill.overrun_paise < before.overrun_paise


def test_a_session_nobody_paid_is_worth_less_and_no_money_moves(network, charger):
    clock.shift(5)
    charger.start("STRANGER", meter=100_000)
    charger.charge(100_000, 110_000, step_s=60)
    charger.drop()
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    work()
    charger.connect()
    charger.stop(108_000)
    work()
    assert (Bill.objects.get().billed_wh, BillCorrection.objects.get().total) == (8_000, 3_600)
    assert not JournalEntry.objects.exists() and not Refund.objects.exists()


def test_what_other_hands_gave_back_does_not_go_twice(charger, payment):
    """Somebody refunded thirty rupees beyond what was due: of the thirty-six of the correction six are left to give."""
    ended_for_it(charger, payment)
    work()
    outside = {"id": "rfnd_outside", "payment_id": payment.razorpay_payment_id, "amount": 3_000, "status": "processed", "notes": []}
    refunds._adopt(payment.pk, outside)
    assert refunds.held(payment) == -3_000
    charger.stop(108_000)
    payments.link_due(clock.now(), 10), corrections.work_due(clock.now(), 10)
    assert Refund.objects.get(reason="late_stop").amount_paise == 600
    assert refunds.held(payment) == 0


# -- the franchisee's share ---------------------------------------------------------------------------------------------
def test_a_share_that_was_not_paid_yet_is_lowered_itself(charger, payment, network):
    known_fee(payment)
    session = ended_for_it(charger, payment)
    work()
    entry = CommissionLedgerEntry.objects.get()
    assert (entry.net_excl_gst, entry.tds, entry.payable) == (15_250, 11, 10_664)
    charger.stop(108_000)
    work()
    entry.refresh_from_db()
    less = ShareCorrection.objects.get()
    assert (entry.net_excl_gst, entry.tds, entry.payable, entry.energy_wh) == (12_200, 9, 8_531, 8_000)
    assert (less.payable, less.tds, less.deducted) == (2_133, 2, False)
    whose = f"franchisee:{network.kaveri.pk}"
    assert ledger.balance("franchisee_payable", whose) == -8_531
    assert JournalEntry.objects.filter(key=f"share:{session.pk}:corrected").count() == 1
    assert not share_corrections.follow(BillCorrection.objects.get().pk, clock.now())


def test_a_share_that_was_paid_is_taken_off_a_later_payout(charger, payment, sandbox, network, kaveri_qr, monkeypatch):
    Route(monkeypatch)
    known_fee(payment)
    ended_for_it(charger, payment)
    work()
    franchise_payouts.work_due(clock.now(), 10)
    first = Payout.objects.get()
    assert (first.state, first.amount_paise) == ("processed", 10_664)
    charger.stop(108_000)
    work()
    entry, less = CommissionLedgerEntry.objects.get(), ShareCorrection.objects.get()
    assert (entry.payable, less.payable, less.deducted, less.payout) == (10_664, 2_133, True, None)
    clock.shift(60)
    assert franchise_payouts.collect_due(clock.now(), 10) == 0
    later = money.pay(sandbox, kaveri_qr, PAID)
    known_fee(later)
    charger.start(later.permit.tag, meter=108_000)
    charger.charge(108_000, 118_000, step_s=60)
    charger.stop(118_000)
    work()
    franchise_payouts.work_due(clock.now(), 10)
    second = Payout.objects.exclude(pk=first.pk).get()
    less.refresh_from_db()
    assert (second.amount_paise, second.state, less.payout) == (10_664 - 2_133, "processed", second)
    assert books.check() == [] and ledger.balance("franchisee_payable", f"franchisee:{network.kaveri.pk}") == 0


def test_everybody_concerned_sees_the_correction(charger, payment, network, monkeypatch):
    """The operator, the rider and the franchisee; and nobody else's page has it."""
    Route(monkeypatch)
    known_fee(payment)
    session = ended_for_it(charger, payment)
    work()
    franchise_payouts.work_due(clock.now(), 10)
    charger.stop(108_000)
    work()
    rider = Client().get(f"/c/{network.kaveri_connector.code}/").content.decode()
    assert "2.000 kWh less" in rider and "₹36.00 were taken off your bill and go back to you" in rider and rider.count("Refund of") == 2
    om, kaveri, ganga = (Client() for _ in range(3))
    for client, name in ((om, "om"), (kaveri, "kaveri"), (ganga, "ganga")):
        assert client.login(username=name, password=PASSWORD)
    trace = om.get(f"/console/sessions/{session.pk}/").content.decode()
    for words in (
        "A late stop says",
        "2.000 kWh less",
        "session.bill_corrected",
        "commission.corrected",
        "to be taken off the next payout",
    ):
        assert words in trace, words
    portal = kaveri.get(f"/portal/sessions/{session.pk}/").content.decode()
    assert "₹21.33 of this share will be taken off your next payout" in portal and "delivered 2.000 kWh less" in portal
    assert "₹21.33 will be taken off your next payout" in kaveri.get("/portal/earnings/").content.decode()
    assert "₹21.33" not in ganga.get("/portal/earnings/").content.decode()
    assert ganga.get(f"/portal/sessions/{session.pk}/").status_code == 404
    for path in ("/admin/billing/billcorrection/", "/admin/franchise/sharecorrection/"):
        assert om.get(path).status_code == 200
        assert om.get(f"{path}{(BillCorrection if 'bill' in path else ShareCorrection).objects.get().pk}/change/").status_code == 200


def test_nothing_is_paid_before_what_was_paid_too_much_is_taken_off(charger, payment, sandbox, kaveri_qr, monkeypatch):
    """A share of a few rupees is not paid while twenty are owed back."""
    Route(monkeypatch)
    known_fee(payment)
    ended_for_it(charger, payment)
    work()
    franchise_payouts.work_due(clock.now(), 10)
    charger.stop(108_000)
    work()
    small = money.pay(sandbox, kaveri_qr, PAID)
    known_fee(small)
    charger.start(small.permit.tag, meter=108_000)
    charger.charge(108_000, 110_000, step_s=60)
    charger.stop(110_000)
    work()
    assert CommissionLedgerEntry.objects.filter(status="PENDING").exclude(payable=0).count() == 1
    franchise_payouts.work_due(clock.now(), 10)
    assert Payout.objects.count() == 1


def test_a_payout_that_is_recalled_or_given_up_lets_go_of_what_it_deducted(charger, payment, sandbox, network, kaveri_qr, monkeypatch):
    Route(monkeypatch)
    known_fee(payment)
    ended_for_it(charger, payment)
    work()
    franchise_payouts.work_due(clock.now(), 10)
    charger.stop(108_000)
    work()
    later = money.pay(sandbox, kaveri_qr, PAID)
    known_fee(later)
    charger.start(later.permit.tag, meter=108_000)
    charger.charge(108_000, 118_000, step_s=60)
    charger.stop(118_000)
    work()
    assert franchise_payouts.collect_due(clock.now(), 10) == 1
    assert franchise_payouts.recall(network.kaveri, "another account") == 1
    assert ShareCorrection.objects.get().payout is None and books.check() == []
    assert franchise_payouts.collect_due(clock.now(), 10) == 1
    assert ShareCorrection.objects.get().payout == Payout.objects.get(state="due")


def test_a_share_that_waits_for_the_fee_is_made_of_the_corrected_bill(charger, payment):
    QRPayment.objects.update(fee=None)
    ended_for_it(charger, payment)
    work()
    charger.stop(108_000)
    work()
    assert not ShareCorrection.objects.exists()
    known_fee(payment)
    settlements.work_due(clock.now(), 10)
    entry = CommissionLedgerEntry.objects.get()
    assert (entry.booked_at is not None, entry.energy_wh, entry.payable) == (True, 8_000, 8_531)
    assert books.check() == []


@pytest.mark.django_db(transaction=True)
def test_corrected_once_however_many_workers_come_at_once(sandbox, network, bells):
    code = money.real_qr(network.kaveri_connector)
    charger = Charger(network.kaveri_charger)
    charger.boot()
    payment = money.pay(sandbox, code, PAID)
    known_fee(payment)
    session = ended_for_it(charger, payment)
    bills.work_due(clock.now(), 10)
    charger.stop(108_000)
    now, gate, raised = clock.now(), threading.Barrier(4), []

    def run(deed):
        gate.wait()
        try:
            for _ in range(3):
                deed()
        except Exception as error:
            raised.append(error)
        finally:
            connection.close()

    deeds = [lambda: corrections.correct(session.pk), lambda: corrections.work_due(now, 10), lambda: settlements.work_due(now, 10),
             lambda: bills.bill(session.pk)]  # fmt: skip
    threads = [threading.Thread(target=run, args=(deed,)) for deed in deeds]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert raised == []
    settlements.work_due(clock.now(), 10)
    assert (Bill.objects.get().billed_wh, BillCorrection.objects.count(), Refund.objects.filter(reason="late_stop").count()) == (
        8_000,
        1,
        1,
    )
    assert (CommissionLedgerEntry.objects.get().payable, "session.rebill" in bells) == (8_531, True)
    assert money.books_are_right() and books.check() == []
