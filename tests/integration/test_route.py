"""Shares paid out over real HTTP to the sandbox, with its moods: what Razorpay's own side shows must agree with ours."""

import pytest
from django.core.management import call_command

from billing import ledger, razorpay
from franchise import books, franchisees, kyc, payouts, settlements
from franchise.models import CommissionLedgerEntry, LinkedAccount, Payout, RazorpaySettlement
from tests import money
from tests.shares import bill
from voltaro import clock

Status = CommissionLedgerEntry.Status
State = Payout.State


@pytest.fixture
def entry(network, sandbox, bells) -> CommissionLedgerEntry:
    """Kaveri is owed Rs 205.03."""
    session = bill(network.kaveri_connector)
    settlements.work_due(clock.now(), 100)
    return CommissionLedgerEntry.objects.get(session=session)


def work() -> None:
    payouts.work_due(clock.now(), 100)
    assert books.check() == []


def until_done(entry: CommissionLedgerEntry, sandbox) -> CommissionLedgerEntry:
    for _ in range(8):
        work()
        sandbox.work()
        clock.shift(1801)
        payouts.retry_due(clock.now(), 100)
    entry.refresh_from_db()
    return entry


@pytest.mark.parametrize(
    "mood",
    [
        *("500", "429", "html502", "timeout_before_commit", "timeout_after_commit", "500_after_commit", "html502_after_commit"),
        *("409_in_progress", "insufficient_balance", "pending_then_processed", "pending_then_failed"),
    ],
)
def test_whatever_the_day_brings_kaveri_is_paid_once(entry, sandbox, mood):
    before = sandbox.balance
    sandbox.moods.next_transfer = mood
    assert until_done(entry, sandbox).status == Status.TRANSFERRED
    there = [t for t in razorpay.transfers() if t["status"] == "processed"]
    payout = Payout.objects.get(state=State.PROCESSED)
    assert [(t["id"], t["amount"], t["recipient"]) for t in there] == [(payout.razorpay_id, 205_03, "acc_Kaveri00000000")]
    assert before - sandbox.balance == 205_03 + payout.fees == -ledger.balance("clearing")
    assert Payout.objects.count() == (2 if mood == "pending_then_failed" else 1)


def test_the_webhooks_of_a_transfer_and_its_settlement_are_heard(entry, sandbox):
    sandbox.moods.next_transfer = "pending_then_processed"
    work()
    assert Payout.objects.get().state == State.PENDING
    clock.shift(5)  # before we would ask by ourselves
    sandbox.work()
    money.deliver(sandbox, "transfer.")
    work()
    assert Payout.objects.get().state == State.PROCESSED
    [settlement] = sandbox.settle()[:1]
    money.deliver(sandbox, "settlement.")
    money.deliver(sandbox, "settlement.")
    work()
    entry.refresh_from_db()
    row = RazorpaySettlement.objects.get(razorpay_id=settlement)
    assert entry.status == Status.SETTLED and (row.amount_paise, row.utr[:4]) == (205_03, "SBOX")


def test_direct_transfers_are_not_switched_on_for_the_account(entry, sandbox):
    sandbox.moods.features_off = ["direct_transfer"]
    work()
    payout = Payout.objects.get()
    assert (payout.state, payout.failures) == (State.ASKING, 0) and "switched off" in payout.last_error
    sandbox.moods.features_off = []
    assert until_done(entry, sandbox).status == Status.TRANSFERRED


def test_an_account_on_its_way_to_activation(network, sandbox, bells):
    """Onboarded at Razorpay, its bank account tested, activated: the held share is paid."""
    address = {"street1": "1", "street2": "2", "city": "Bengaluru", "state": "KARNATAKA", "postal_code": "560038", "country": "IN"}
    account = razorpay.create_account(
        {
            "email": "kaveri@example.in",
            "phone": "9845012301",
            "type": "route",
            "legal_business_name": "Kaveri Charging",
            "business_type": "proprietorship",
            "profile": {"category": "utilities", "subcategory": "electricity", "addresses": {"registered": address}},
        }
    )
    product = razorpay.request_product(account["id"], {"product_name": "route", "tnc_accepted": True})
    LinkedAccount.objects.filter(franchisee=network.kaveri).delete()
    network.kaveri.refresh_from_db()
    session = bill(network.kaveri_connector)
    settlements.work_due(clock.now(), 100)
    franchisees.link_account(network.kaveri, account["id"], product_id=product["id"])
    kyc.work_due(clock.now(), 100)
    linked = LinkedAccount.objects.get(franchisee=network.kaveri)
    assert linked.status == "needs_clarification" and "settlements.ifsc_code" in linked.missing

    bank = {"account_number": "1234567890", "ifsc_code": "HDFC0000001", "beneficiary_name": "Kaveri"}
    razorpay.update_product(account["id"], product["id"], {"settlements": bank, "tnc_accepted": True})
    clock.shift(60)
    sandbox.work()
    money.deliver(sandbox, "product.route.")
    kyc.work_due(clock.now(), 100)
    linked.refresh_from_db()
    assert (linked.status, linked.missing) == ("activated", "")
    sandbox.moods.cooling_s = 86_400  # as at Razorpay: a transfer to an account of today is refused
    settlements.work_due(clock.now(), 100)
    work()
    entry = CommissionLedgerEntry.objects.get(session=session)
    assert (entry.status, Payout.objects.count()) == (Status.ON_HOLD, 0)
    clock.shift(86_400)
    settlements.work_due(clock.now(), 100)
    work()
    entry.refresh_from_db()
    assert entry.status == Status.TRANSFERRED and Payout.objects.get().failures == 0


def test_the_sweeps_by_hand(entry, sandbox, capsys):
    call_command("sweep", "payouts", "--dry-run")
    assert "payouts: 1 due." in capsys.readouterr().out
    for name in ("settlements", "payouts", "payouts.retry", "kyc"):
        call_command("sweep", name)
        call_command("sweep", name, "--dry-run")
    assert "payouts: 0 due." in capsys.readouterr().out
    entry.refresh_from_db()
    assert entry.status == Status.TRANSFERRED
