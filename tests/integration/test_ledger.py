"""The books: one key one deed, and a check that sees every kind of wrong."""

import threading

import pytest
from django.db import connection

from billing import bills, ledger, refunds
from billing.ledger import KeyReused
from billing.models import Bill, JournalEntry, Posting, QRPayment, Refund
from tests import money
from voltaro import clock

pytestmark = pytest.mark.django_db

ONE = [("clearing", 500, "payment:pay_A"), ("prepaid", -500, "payment:pay_A")]


def test_a_repeat_is_the_same_entry_in_any_order():
    entry = ledger.post("payment:pay_A", ONE, memo="first")
    assert ledger.post("payment:pay_A", ONE[::-1], memo="again") == entry
    assert (JournalEntry.objects.count(), Posting.objects.count()) == (1, 2)
    assert ledger.posted("payment:pay_A") and not ledger.posted("payment:pay_B")


@pytest.mark.parametrize(
    "other",
    [
        [("clearing", 501, "payment:pay_A"), ("prepaid", -501, "payment:pay_A")],
        [("clearing", 500, "payment:pay_B"), ("prepaid", -500, "payment:pay_B")],
        [("clearing", 500, "payment:pay_A"), ("remainders", -500, "payment:pay_A")],
    ],
)
def test_the_same_key_with_other_postings_is_loud(other):
    ledger.post("payment:pay_A", ONE)
    with pytest.raises(KeyReused):
        ledger.post("payment:pay_A", other)
    assert ledger.balance("clearing") == 500


@pytest.mark.parametrize(
    "wrong", [[], [("clearing", 5, "")], [("clearing", 5, ""), ("prepaid", -4, "")], [("clearing", 0, ""), ("prepaid", 0, "")]]
)
def test_what_does_not_balance_is_our_own_mistake(wrong):
    with pytest.raises(AssertionError):
        ledger.post("wrong", wrong)


def test_an_account_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="petty_cash"):
        ledger.post("odd", [("petty_cash", 5, ""), ("prepaid", -5, "")])


def test_lines_of_nothing_are_left_out_and_balances_are_by_subject():
    ledger.post(
        "bill",
        [("prepaid", 118, "payment:a"), ("energy_revenue", -100, "payment:a"), ("cgst_payable", -18, "payment:a"), ("igst_payable", 0, "")],
    )
    ledger.post("other", [("prepaid", 7, "payment:b"), ("remainders", -7, "payment:b")])
    assert (ledger.balance("prepaid"), ledger.balance("prepaid", "payment:a"), ledger.balance("igst_payable")) == (125, 118, 0)
    assert Posting.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_the_same_deed_from_four_threads_is_one_entry():
    gate, entries = threading.Barrier(4), []

    def run():
        gate.wait()
        try:
            entries.append(ledger.post("payment:pay_A", ONE).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(entries) == 4 and len(set(entries)) == 1
    assert Posting.objects.count() == 2


# -- the check --------------------------------------------------------------------------------------------------------
@pytest.fixture
def settled(sandbox, kaveri_qr) -> QRPayment:
    payment = money.pay(sandbox, kaveri_qr, 50_000, account="credit_card")
    money.stop(money.plug_in(payment), 10_000)
    bills.work_due(clock.now(), 10)
    refunds.work_due(clock.now(), 10)
    payment.refresh_from_db()
    assert payment.state == "settled" and ledger.check() == []
    return payment


@pytest.mark.parametrize(
    ("spoil", "account"),
    [
        (lambda: QRPayment.objects.update(amount_paid=50_100), "clearing"),
        (lambda: QRPayment.objects.update(fee=0), "razorpay_fees"),
        (lambda: Bill.objects.update(energy_charge=15_251, total=17_997), "energy_revenue"),
        (lambda: Bill.objects.update(remainder=5), "remainders"),
        (lambda: Bill.objects.update(overrun_paise=9), "overrun_given"),
        (lambda: Refund.objects.update(state="pending"), "refunds_in_flight"),
        (lambda: Refund.objects.update(state="failed"), "prepaid"),
    ],
)
def test_every_row_that_says_otherwise_than_the_books_is_named(settled, spoil, account):
    spoil()
    problems = ledger.check()
    assert any(account in problem and str(settled) in problem for problem in problems), problems


def test_money_that_nobody_paid_in_is_named(settled):
    ledger.post("payment:pay_Ghost", [("clearing", 5, "payment:pay_Ghost"), ("prepaid", -5, "payment:pay_Ghost")])
    assert ledger.check() == ["payment:pay_Ghost: has postings but there is no such payment"]


def test_more_out_than_in_is_named(settled):
    Refund.objects.create(
        payment=settled, amount_paise=10_000, reason="twice", key="twice-twice", body={}, state="asking", asked_at=clock.now()
    )
    assert any("50000 paise paid, but 60000" in problem for problem in ledger.check())
    assert any("settled, but" in problem for problem in ledger.check())


def test_an_entry_that_does_not_balance_would_be_named():
    """The database refuses such an entry at commit; inside a transaction the check sees it first."""
    entry = JournalEntry.objects.create(key="lame", digest="-")
    Posting.objects.create(entry=entry, account="clearing", amount_paise=100)
    assert ledger.check() == ["entry lame: 1 postings that sum to 100 paise"]
    Posting.objects.create(entry=entry, account="prepaid", amount_paise=-100)
    assert ledger.check() == []


def test_the_check_asks_a_fixed_number_of_questions(settled, django_assert_max_num_queries):
    with django_assert_max_num_queries(7):
        ledger.check()
