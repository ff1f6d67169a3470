"""A billed session becomes the franchisee's share of it, once; or it waits, and says why."""

import threading
from datetime import timedelta

import pytest
from django.db import connections

from accounts.models import AuditEntry
from billing import ledger
from billing.models import JournalEntry
from franchise import franchisees, settlements
from franchise.models import CommissionLedgerEntry, Contract, LinkedAccount, ShareMark
from franchise.rules import gate
from tests.shares import bill
from voltaro import clock

Status = CommissionLedgerEntry.Status


def share_all() -> int:
    return settlements.work_due(clock.now(), 100)


def test_kaveri_gets_her_share_of_a_session(network, bells):
    session = bill(network.kaveri_connector)
    assert settlements.due(clock.now()).count() == 1
    assert share_all() == 1
    entry = session.commission
    assert (entry.idempotency_key, entry.franchisee, entry.status) == (f"txn_{session.pk}", network.kaveri, Status.PENDING)
    assert (entry.gross, entry.refund, entry.gst_collected, entry.pg_fee) == (500_00, 140_10, 54_90, 11_80)
    assert (entry.net_excl_gst, entry.platform_commission, entry.tds, entry.payable) == (293_20, 87_96, 21, 205_03)
    whose = f"franchisee:{network.kaveri.pk}"
    assert ledger.balance("franchise_share", whose) == 205_24
    assert ledger.balance("franchisee_payable", whose) == -205_03
    assert ledger.balance("tds_payable", whose) == -21
    assert bells.count("payout.due") == 0  # the test's transaction never commits
    assert share_all() == 0
    assert JournalEntry.objects.filter(key=f"share:{session.pk}").count() == 1
    assert AuditEntry.objects.filter(action="commission.shared", company=network.kaveri.company).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_share_rings_for_its_payout(network, bells):
    bill(network.kaveri_connector)
    share_all()
    assert bells == ["payout.due"]


def test_a_session_is_shared_by_the_contract_at_its_start(network):
    now = clock.now()
    Contract.objects.filter(franchisee=network.kaveri).update(valid_from=now - timedelta(days=30))
    old = bill(network.kaveri_connector, start_time=now - timedelta(hours=3))
    Contract.objects.create(
        franchisee=network.kaveri, share_bp=5000, tds_bp=0, fee_borne_by="platform", valid_from=now - timedelta(hours=2)
    )
    new = bill(network.kaveri_connector, start_time=now - timedelta(hours=1))
    share_all()
    assert old.commission.payable == 205_03
    assert (new.commission.pg_fee, new.commission.payable) == (0, 152_50)


def test_a_charger_whose_clock_lies_is_shared_by_the_contract_of_the_day(network):
    """The charger says when it started; which contract was in force then is for our own clock to say."""
    session = bill(network.kaveri_connector)
    session.start_time = clock.now() - timedelta(days=50)
    session.save()
    share_all()
    assert (session.commission.hold_reason, session.commission.payable) == ("", 205_03)


def test_the_networks_own_chargers_are_nobodys_share(network):
    network.kaveri_charger.company = network.voltaro
    network.kaveri_charger.save()
    network.kaveri_connector.charge_point.refresh_from_db()
    bill(network.kaveri_connector)
    assert share_all() == 0 and not CommissionLedgerEntry.objects.exists()


def test_an_unknown_fee_waits_and_zero_is_a_value(network):
    waiting, free = bill(network.kaveri_connector, fee=None), bill(network.kaveri_connector, fee=0)
    assert share_all() == 2
    assert (waiting.commission.status, waiting.commission.hold_reason) == (Status.ON_HOLD, gate.FEE_UNKNOWN)
    assert waiting.commission.booked_at is None and not ledger.posted(f"share:{waiting.pk}")
    assert (free.commission.status, free.commission.payable) == (Status.PENDING, 213_29)
    assert share_all() == 0

    waiting.payment.fee = 11_80
    waiting.payment.save()
    assert share_all() == 1
    entry = CommissionLedgerEntry.objects.get(session=waiting)
    assert (entry.status, entry.hold_reason, entry.payable) == (Status.PENDING, "", 205_03)
    assert ledger.posted(f"share:{waiting.pk}")


def test_a_person_may_decide_that_the_platform_bears_an_unknown_fee(network):
    session = bill(network.kaveri_connector, fee=None)
    share_all()
    assert settlements.bear_unknown_fee(session.commission.pk, clock.now())
    entry = CommissionLedgerEntry.objects.get()
    assert (entry.status, entry.pg_fee, entry.payable) == (Status.PENDING, 0, 213_29)
    assert not settlements.bear_unknown_fee(entry.pk, clock.now())


def test_the_platforms_fee_need_not_be_known(network):
    Contract.objects.filter(franchisee=network.kaveri).update(fee_borne_by="platform")
    session = bill(network.kaveri_connector, fee=None)
    share_all()
    assert (session.commission.status, session.commission.pg_fee) == (Status.PENDING, 0)


def test_no_contract_yet_then_one(network):
    session = bill(network.kaveri_connector, start_time=clock.now() - timedelta(hours=1))
    share_all()
    assert (session.commission.hold_reason, session.commission.contract, session.commission.payable) == (gate.NO_CONTRACT, None, 0)
    assert share_all() == 0
    Contract.objects.create(franchisee=network.kaveri, share_bp=7000, tds_bp=10, valid_from=clock.now() - timedelta(days=1))
    assert share_all() == 1
    assert CommissionLedgerEntry.objects.get().payable == 205_03


@pytest.mark.parametrize(
    ("close", "open_", "reason"),
    [
        (lambda k: franchisees.hold(k, "bank letter missing"), lambda k: franchisees.release(k), gate.HELD),
        (
            lambda k: LinkedAccount.objects.filter(franchisee=k).update(status="under_review"),
            lambda k: LinkedAccount.objects.filter(franchisee=k).update(status="activated"),
            gate.NOT_ACTIVATED,
        ),
        (
            lambda k: LinkedAccount.objects.filter(franchisee=k).update(usable_from=clock.now() + timedelta(hours=24)),
            lambda k: clock.shift(24 * 3600 + 1),
            gate.COOLING,
        ),
        (
            lambda k: LinkedAccount.objects.filter(franchisee=k).delete(),
            lambda k: LinkedAccount.objects.create(franchisee=k, razorpay_id="acc_Kaveri00000001", status="activated"),
            gate.NO_ACCOUNT,
        ),
    ],
    ids=["held", "not activated", "cooling", "no account"],
)
def test_a_closed_gate_holds_the_share_until_it_opens(network, close, open_, reason):
    close(network.kaveri)
    kaveris, gangas = bill(network.kaveri_connector), bill(network.ganga_connector)
    share_all()
    assert (kaveris.commission.status, kaveris.commission.hold_reason) == (Status.ON_HOLD, reason)
    assert gangas.commission.status == Status.PENDING
    assert ledger.posted(f"share:{kaveris.pk}")  # owed all the same
    assert share_all() == 0
    open_(network.kaveri)
    assert settlements.due(clock.now()).count() == 1
    assert share_all() == 1
    entry = CommissionLedgerEntry.objects.get(session=kaveris)
    assert (entry.status, entry.hold_reason) == (Status.PENDING, "")


def test_transfers_switched_off_hold_everybodys_share(network, settings):
    settings.DIRECT_TRANSFERS_ENABLED = False
    session = bill(network.kaveri_connector)
    share_all()
    assert session.commission.hold_reason == gate.TRANSFERS_OFF
    settings.DIRECT_TRANSFERS_ENABLED = True
    share_all()
    assert CommissionLedgerEntry.objects.get().status == Status.PENDING


def test_a_hold_reaches_the_shares_that_already_wait(network):
    session = bill(network.kaveri_connector)
    share_all()
    assert franchisees.hold(network.kaveri, "complaint") and not franchisees.hold(network.kaveri, "again")
    entry = CommissionLedgerEntry.objects.get(session=session)
    assert (entry.status, entry.hold_reason) == (Status.ON_HOLD, gate.HELD)


def test_a_fee_larger_than_the_energy_leaves_nothing_to_pay_and_nothing_to_owe(network):
    session = bill(network.kaveri_connector, wh=40)
    share_all()
    entry = session.commission
    assert (entry.payable, entry.tds, entry.net_excl_gst, entry.status) == (0, 0, 61 - 11_80, Status.SETTLED)
    assert entry.platform_commission == entry.net_excl_gst
    assert not ledger.posted(f"share:{session.pk}")


def test_one_bill_that_cannot_be_explained_does_not_stop_the_others(network):
    odd, good = bill(network.kaveri_connector), bill(network.ganga_connector)
    odd.payment.amount_paid += 1
    odd.payment.save()
    assert share_all() == 1
    assert good.commission.status == Status.PENDING
    assert not CommissionLedgerEntry.objects.filter(session=odd).exists()
    assert settlements.to_share(clock.now()).count() == 1


def test_the_look_for_bills_does_not_grow_with_history(network):
    first = bill(network.kaveri_connector)
    share_all()
    assert ShareMark.objects.get().bill_id == 0  # too young: a bill with a lower number may still be on its way
    clock.shift(2 * 3600)
    second = bill(network.kaveri_connector)
    share_all()
    assert ShareMark.objects.get().bill_id == first.bill.pk
    clock.shift(2 * 3600)
    unbilled = bill(network.kaveri_connector)
    unbilled.billed_at = None
    unbilled.save()
    share_all()
    clock.shift(2 * 3600)
    share_all()
    assert ShareMark.objects.get().bill_id == second.bill.pk  # never past one that is still to come
    unbilled.billed_at = clock.now()
    unbilled.save()
    assert share_all() == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_share_a_session_once(network, bells):
    session = bill(network.kaveri_connector)
    both = threading.Barrier(2)

    def work():
        both.wait()
        settlements.share_bill(session.bill.pk, clock.now())
        connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert CommissionLedgerEntry.objects.filter(session=session).count() == 1
    assert ledger.balance("franchisee_payable", f"franchisee:{network.kaveri.pk}") == -205_03
