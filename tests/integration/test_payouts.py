"""A share becomes a transfer: once, under one key, whatever Razorpay and the wire do meanwhile."""

import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.urls import reverse

from accounts.models import AuditEntry
from billing import ledger, razorpay
from billing.models import Difference, JournalEntry, WebhookEvent
from franchise import franchisees, payouts, settlements
from franchise.books import check
from franchise.models import CommissionLedgerEntry, LinkedAccount, Payout, RazorpaySettlement
from tests.shares import Route, bill, hear
from voltaro import clock

Status = CommissionLedgerEntry.Status
State = Payout.State


@pytest.fixture
def route(monkeypatch):
    return Route(monkeypatch)


def share(connector, **fields) -> CommissionLedgerEntry:
    session = bill(connector, **fields)
    settlements.work_due(clock.now(), 100)
    return CommissionLedgerEntry.objects.get(session=session)


def work() -> int:
    return payouts.work_due(clock.now(), 100)


def books(franchisee) -> dict[str, int]:
    """What is owed, on its way, gone; in paise. The rows must say the same."""
    assert check() == []
    return {
        "owed": -ledger.balance("franchisee_payable", f"franchisee:{franchisee.pk}"),
        "on_its_way": -ledger.balance("transfers_in_flight"),
        "gone": -ledger.balance("clearing"),
    }


def test_kaveri_is_paid_for_two_sessions_with_one_transfer(network, route):
    first, second = share(network.kaveri_connector), share(network.kaveri_connector)
    assert payouts.due(clock.now()).count() == 1  # one franchisee to pay
    work()
    payout = Payout.objects.get()
    assert len(route.asked) == 1
    key, body = route.asked[0]
    assert 4 <= len(key) <= 36 and key == payout.key and body == payout.body
    assert (body["account"], body["amount"], body["currency"]) == ("acc_Kaveri00000000", 2 * 205_03, "INR")
    assert (payout.state, payout.razorpay_id, payout.fees, payout.attempt) == (State.PROCESSED, "trf_00000000000001", 30, 1)
    for entry in (first, second):
        entry.refresh_from_db()
        assert (entry.status, entry.payout) == (Status.TRANSFERRED, payout)
    assert books(network.kaveri) == {"owed": 0, "on_its_way": 0, "gone": 2 * 205_03 + 30}
    assert ledger.balance("razorpay_fees", f"payout:{payout.pk}") == 30
    work()
    assert len(route.asked) == 1
    actions = AuditEntry.objects.filter(target_type="franchise.payout").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["payout.made", "payout.asked", "payout.processed"]


def test_each_franchisee_has_her_own_payout(network, route):
    share(network.kaveri_connector), share(network.ganga_connector)
    work()
    assert {p.account for p in Payout.objects.all()} == {"acc_Kaveri00000000", "acc_Ganga000000000"}


def test_less_than_a_rupee_waits_for_more(network, route):
    share(network.kaveri_connector, wh=80, fee=0)  # 122 paise of energy, 85 to pay
    work()
    assert not route.asked
    share(network.kaveri_connector, wh=80, fee=0)
    work()
    assert route.asked[0][1]["amount"] == 170


def test_a_delay_keeps_the_share_until_its_day(network, route, settings):
    settings.PAYOUT_DELAY_S = 86_400
    share(network.kaveri_connector)
    work()
    assert not route.asked
    clock.shift(86_401)
    work()
    assert len(route.asked) == 1


def test_an_answer_not_heard_is_asked_for_before_anything_is_sent_again(network, route):
    route.mood = ["lost"]
    entry = share(network.kaveri_connector)
    work()
    payout = Payout.objects.get()
    assert (payout.state, payout.razorpay_id) == (State.ASKING, None)
    assert books(network.kaveri) == {"owed": 0, "on_its_way": 205_03, "gone": 0}
    work()
    assert len(route.asked) == 1  # too early
    clock.shift(61)
    work()
    entry.refresh_from_db()
    assert len(route.asked) == 1 and entry.status == Status.TRANSFERRED
    assert books(network.kaveri)["owed"] == 0


def test_nothing_heard_and_nothing_there_is_sent_again_under_the_same_key(network, route):
    route.mood = ["silent", "silent"]
    share(network.kaveri_connector)
    for _ in range(3):
        work()
        clock.shift(1801)
    assert len({key for key, _ in route.asked}) == 1 and len(route.asked) == 3
    payout = Payout.objects.get()
    assert (payout.state, payout.failures) == (State.PROCESSED, 0)


@pytest.mark.parametrize("mood", ["try_again", "low_balance", "off"])
def test_what_did_not_happen_is_no_failure(network, route, mood):
    route.mood = [mood] * 5
    share(network.kaveri_connector)
    for _ in range(6):
        work()
        payouts.retry_due(clock.now(), 100)
        clock.shift(1801)
    payout = Payout.objects.get()
    assert (payout.state, payout.attempt, payout.failures) == (State.PROCESSED, 1, 0)
    assert len({key for key, _ in route.asked}) == 1


def test_a_disputed_key_is_never_replaced_by_a_new_one(network, route):
    route.mood = ["disputed"]
    share(network.kaveri_connector)
    work()
    payout = Payout.objects.get()
    assert payout.state == State.ASKING and "Not known" in payout.last_error


def test_a_confirmed_failure_is_dead_and_a_numbered_attempt_follows(network, route):
    route.mood = ["declined"]
    entry = share(network.kaveri_connector)
    work()
    dead = Payout.objects.get()
    assert (dead.state, dead.failures) == (State.FAILED, 1)
    assert books(network.kaveri) == {"owed": 205_03, "on_its_way": 0, "gone": 0}
    assert payouts.retry_due(clock.now(), 100) == 0  # not at once
    work()
    assert len(route.asked) == 1
    clock.shift(1801)
    assert payouts.retry_due(clock.now(), 100) == 1
    work()
    new = Payout.objects.get(follows=dead)
    entry.refresh_from_db()
    assert (new.attempt, new.state, entry.payout, entry.status) == (2, State.PROCESSED, new, Status.TRANSFERRED)
    assert new.key != dead.key and new.amount_paise == dead.amount_paise
    assert books(network.kaveri)["owed"] == 0
    assert payouts.retry_due(clock.now(), 100) == 0


def test_after_three_retries_the_entry_is_failed_and_a_person_may_pay_it_again(network, route, settings):
    assert settings.MAX_TRANSFER_RETRIES == 3
    route.mood = ["declined"] * 4
    entry = share(network.kaveri_connector)
    for _ in range(6):
        work()
        clock.shift(1801)
        payouts.retry_due(clock.now(), 100)
    entry.refresh_from_db()
    assert Payout.objects.count() == 4 and entry.status == Status.FAILED
    assert books(network.kaveri) == {"owed": 205_03, "on_its_way": 0, "gone": 0}
    assert payouts.to_retry(clock.now() + timedelta(days=9)).count() == 0
    assert payouts.pay_again(entry.pk, clock.now()) and not payouts.pay_again(entry.pk, clock.now())
    work()
    entry.refresh_from_db()
    assert entry.status == Status.TRANSFERRED and books(network.kaveri)["owed"] == 0


def test_a_failed_transfer_for_want_of_balance_does_not_count(network, route):
    route.mood = ["pending"]
    share(network.kaveri_connector)
    work()
    payout = Payout.objects.get()
    assert payout.state == State.PENDING
    route.made[payout.razorpay_id] |= {
        "status": "failed",
        "error": {"code": "BAD_REQUEST_TRANSFER_INSUFFICIENT_BALANCE", "reason": "insufficient_balance", "description": "no money"},
    }
    clock.shift(61)
    work()
    payout.refresh_from_db()
    assert (payout.state, payout.failures) == (State.FAILED, 0)
    clock.shift(1801)
    payouts.retry_due(clock.now(), 100)
    assert Payout.objects.get(follows=payout).failures == 0


def test_a_closed_gate_stops_a_payout_before_it_is_asked_and_does_not_count(network, route):
    share(network.kaveri_connector)
    payouts.collect_due(clock.now(), 100)
    franchisees.hold(network.kaveri, "complaint")
    payouts.ask_due(clock.now(), 100)
    payout = Payout.objects.get()
    assert (payout.state, route.asked) == (State.DUE, []) and "on hold" in payout.last_error
    franchisees.release(network.kaveri)
    clock.shift(601)
    work()
    payout.refresh_from_db()
    assert (payout.state, payout.failures, len(route.asked)) == (State.PROCESSED, 0, 1)


def test_a_gate_that_closes_puts_what_waits_on_hold(network, route):
    entry = share(network.kaveri_connector)
    LinkedAccount.objects.filter(franchisee=network.kaveri).update(status="suspended")
    work()
    entry.refresh_from_db()
    assert (entry.status, entry.hold_reason) == (Status.ON_HOLD, "not_activated")
    assert not Payout.objects.exists()


def test_a_changed_bank_account_rests_a_day_and_takes_back_what_was_not_asked(network, route):
    entry = share(network.kaveri_connector)
    payouts.collect_due(clock.now(), 100)
    franchisees.link_account(network.kaveri, "acc_Mallory0000001", activated=True)
    entry.refresh_from_db()
    assert entry.payout is None and not Payout.objects.exists()
    work()
    entry.refresh_from_db()
    assert (entry.status, entry.hold_reason, route.asked) == (Status.ON_HOLD, "cooling", [])
    franchisees.link_account(network.kaveri, "acc_Kaveri00000000", activated=True)
    clock.shift(24 * 3600 + 1)
    settlements.work_due(clock.now(), 100)
    work()
    assert [body["account"] for _, body in route.asked] == ["acc_Kaveri00000000"]
    assert AuditEntry.objects.filter(action="linked_account.set").count() == 2


@pytest.mark.parametrize("mood", ["try_again", "low_balance", "off", "silent"])
def test_what_did_not_happen_before_the_account_was_changed_goes_to_the_new_one(network, route, mood):
    route.mood = [mood]
    entry = share(network.kaveri_connector)
    work()
    franchisees.link_account(network.kaveri, "acc_KaveriNew00001", activated=True)
    clock.shift(3600)
    work()
    assert Payout.objects.get().state == State.ASKING and len(route.asked) == 1  # it rests a day, and that day may yet tell
    clock.shift(24 * 3600)
    work()
    old = Payout.objects.get()
    assert (old.state, old.failures, old.account) == (State.FAILED, 0, "acc_Kaveri00000000")
    assert books(network.kaveri) == {"owed": 205_03, "on_its_way": 0, "gone": 0}
    clock.shift(1801)
    payouts.retry_due(clock.now(), 10)
    work()
    entry.refresh_from_db()
    assert [body["account"] for _, body in route.asked] == ["acc_Kaveri00000000", "acc_KaveriNew00001"]
    assert entry.status == Status.TRANSFERRED and books(network.kaveri)["owed"] == 0


def test_what_did_happen_before_the_account_was_changed_is_not_paid_again(network, route):
    route.mood = ["lost"]
    entry = share(network.kaveri_connector)
    work()
    franchisees.link_account(network.kaveri, "acc_KaveriNew00001", activated=True)
    clock.shift(24 * 3600 + 1)
    work()
    entry.refresh_from_db()
    assert entry.status == Status.TRANSFERRED and len(route.asked) == 1
    assert Payout.objects.get().account == "acc_Kaveri00000000"


def test_a_disputed_key_is_not_replaced_when_the_account_was_changed(network, route):
    route.mood = ["disputed"]
    share(network.kaveri_connector)
    work()
    franchisees.link_account(network.kaveri, "acc_KaveriNew00001", activated=True)
    for _ in range(3):  # held for a day: the dispute is not forgotten over it
        clock.shift(12 * 3600 + 1)
        work()
    payout = Payout.objects.get()
    assert (payout.state, len(route.asked)) == (State.ASKING, 1)
    assert "account was changed" in payout.last_error and payouts.DISPUTED in payout.last_error


def test_among_too_many_transfers_nothing_is_concluded(network, route, monkeypatch):
    route.mood = ["silent"]
    share(network.kaveri_connector)
    work()
    franchisees.link_account(network.kaveri, "acc_KaveriNew00001", activated=True)
    clock.shift(24 * 3600 + 1)
    monkeypatch.setattr(razorpay, "transfers", lambda **_: [{"id": "trf_Other", "notes": []}] * razorpay.PAGE)
    work()
    payout = Payout.objects.get()
    assert (payout.state, len(route.asked)) == (State.ASKING, 1) and "A person must look" in payout.last_error


def test_books_that_differ_from_the_rows_are_told(network, route):
    entry = share(network.kaveri_connector)
    work()
    CommissionLedgerEntry.objects.filter(pk=entry.pk).update(payable=1_00, tds=205_24 - 1_00)
    said = check()
    assert len(said) == 3 and "the books owe 0 paise, the rows say -20403" in said[0]
    assert "TDS" in said[1] and "were sent for entries of 100" in said[2]


# -- webhooks -------------------------------------------------------------------------------------------------
def test_a_webhook_is_a_bell_and_razorpay_is_asked(network, route):
    route.mood = ["pending"]
    entry = share(network.kaveri_connector)
    work()
    transfer = next(iter(route.made.values()))
    event = hear("transfer.processed", transfer={**transfer, "status": "processed"})
    work()
    entry.refresh_from_db()
    event.refresh_from_db()
    assert entry.status == Status.PENDING and event.state == WebhookEvent.State.DONE  # Razorpay itself still says pending
    transfer |= {"status": "processed", "fees": 30}
    hear("transfer.processed", transfer=transfer)
    work()
    entry.refresh_from_db()
    assert entry.status == Status.TRANSFERRED
    hear("transfer.failed", transfer={**transfer, "status": "failed"})
    work()
    assert Payout.objects.get().state == State.PROCESSED
    assert books(network.kaveri) == {"owed": 0, "on_its_way": 0, "gone": 205_03 + 30}


def test_a_webhook_before_our_own_answer_is_no_second_deed(network, route):
    """Razorpay tells the world before it answers us."""
    route.before_answer = lambda: (
        hear("transfer.processed", transfer=next(iter(route.made.values()))),
        payouts.transfers.hear_due(clock.now(), 10),
    )
    share(network.kaveri_connector)
    work()
    assert Payout.objects.get().state == State.PROCESSED
    assert JournalEntry.objects.filter(key__startswith="payout:").count() == 3
    assert books(network.kaveri)["owed"] == 0


def test_an_answer_that_a_webhook_overtook_is_no_contradiction(network, route, monkeypatch):
    """It was pending when Razorpay answered; before we read that, it had failed, and we knew."""
    share(network.kaveri_connector)
    route.mood = ["pending"]

    def fails() -> None:
        transfer = next(iter(route.made.values()))
        transfer |= {"status": "failed", "error": {"code": "BAD_REQUEST_ERROR", "description": "the account is frozen"}}
        hear("transfer.failed", transfer=transfer)
        payouts.transfers.hear_due(clock.now(), 10)

    route.before_answer = fails
    with monkeypatch.context() as patch:
        patch.setattr(
            razorpay, "create_transfer", lambda body, key: {**route.create_transfer(body, key), "status": "pending", "error": None}
        )
        work()
    dead = Payout.objects.get()
    assert (dead.state, dead.retry_at is not None) == (State.FAILED, True)
    assert not AuditEntry.objects.filter(action="payout.contradiction").exists()
    clock.shift(1801)
    route.before_answer = lambda: None
    payouts.retry_due(clock.now(), 10)
    work()
    assert Payout.objects.get(follows=dead).state == State.PROCESSED
    assert books(network.kaveri)["owed"] == 0


def test_transfers_of_other_installations_are_not_ours_to_act_upon(network, route):
    theirs = {"id": "trf_TheirsTheirsTh", "status": "processed", "amount": 205_03, "recipient": "acc_Kaveri00000000", "notes": []}
    event = hear("transfer.processed", transfer=theirs)
    work()
    event.refresh_from_db()
    assert (event.state, event.note) == (WebhookEvent.State.IGNORED, "not ours")


def test_a_transfer_without_an_id_is_not_taken_for_one_of_ours(network, route):
    """A payout not asked yet has no transfer's id either."""
    share(network.kaveri_connector)
    payouts.collect_due(clock.now(), 10)
    event = hear("transfer.processed", transfer={"status": "processed", "amount": 1, "notes": []})
    work()
    event.refresh_from_db()
    assert (event.state, event.note) == ("ignored", "not ours")


def test_a_transfer_with_our_key_but_another_amount_is_not_believed(network, route):
    route.mood = ["lost"]
    share(network.kaveri_connector)
    work()
    next(iter(route.made.values()))["amount"] = 1_00
    clock.shift(61)
    work()
    payout = Payout.objects.get()
    assert payout.state == State.ASKING and "A person must look" in payout.last_error
    assert len(route.asked) == 1


def test_an_event_is_tried_again_when_razorpay_cannot_be_asked(network, route, monkeypatch):
    route.mood = ["pending"]
    share(network.kaveri_connector)
    work()
    event = hear("transfer.processed", transfer=next(iter(route.made.values())))
    with monkeypatch.context() as broken:
        broken.setattr(razorpay, "fetch_transfer", lambda _: (_ for _ in ()).throw(razorpay.TryAgain("HTTP 502")))
        work()
    event.refresh_from_db()
    assert event.state == WebhookEvent.State.FAILED and event.retry_at > clock.now()
    clock.shift(120)
    work()
    event.refresh_from_db()
    assert (event.state, event.attempts) == (WebhookEvent.State.DONE, 2)


def test_a_settlement_puts_the_entries_in_the_bank(network, route):
    entry = share(network.kaveri_connector)
    work()
    route.settle("setl_00000000000001", "trf_00000000000001")
    said = {"id": "setl_00000000000001", "amount": 205_03, "status": "processed", "fees": 0, "tax": 0, "utr": "UTR123"}
    hear("settlement.processed", settlement={**said, "created_at": 1_800_000_000})
    work()
    entry.refresh_from_db()
    row = RazorpaySettlement.objects.get()
    assert (entry.status, entry.payout.settlement_id) == (Status.SETTLED, "setl_00000000000001")
    assert (row.franchisee, row.utr, row.amount_paise) == (network.kaveri, "UTR123", 205_03)
    assert entry.payout.retry_at is None


def test_our_own_settlement_is_kept_and_a_strange_one_is_not_ours(network, route):
    route.settlements["setl_Own00000000001"] = {"id": "setl_Own00000000001", "amount": 9_99, "status": "processed"}
    route.made["trf_Theirs"] = {"id": "trf_Theirs", "recipient_settlement_id": "setl_Theirs0000001", "amount": 5}
    own = hear("settlement.processed", settlement={"id": "setl_Own00000000001"})
    theirs = hear("settlement.processed", settlement={"id": "setl_Theirs0000001"})
    work()
    own.refresh_from_db()
    theirs.refresh_from_db()
    assert (own.state, theirs.state) == (WebhookEvent.State.DONE, WebhookEvent.State.IGNORED)
    assert RazorpaySettlement.objects.get().franchisee is None


def test_a_lost_settlement_webhook_is_made_good_by_asking(network, route):
    entry = share(network.kaveri_connector)
    work()
    route.settle("setl_00000000000001", "trf_00000000000001")
    clock.shift(12 * 3600 + 1)
    work()
    entry.refresh_from_db()
    assert entry.status == Status.SETTLED


def refuses(error: Exception):
    def raises(*_args):
        raise error

    return raises


@pytest.mark.parametrize("no", [razorpay.TryAgain("HTTP 502"), razorpay.Declined(400, "BAD_REQUEST_ERROR", "The id does not exist")])
def test_what_has_arrived_is_asked_after_twice_a_day_also_when_nobody_answers(network, route, monkeypatch, no):
    share(network.kaveri_connector)
    work()
    with monkeypatch.context() as broken:
        broken.setattr(razorpay, "fetch_transfer", refuses(no))
        clock.shift(12 * 3600 + 1)
        assert work() == 1
        payout = Payout.objects.get()
        assert (payout.state, payout.claimed_until, payout.last_error) == (State.PROCESSED, None, str(no))
        clock.shift(3600)
        assert work() == 0
        clock.shift(30 * 86_400)
        assert work() == 1
        assert Payout.objects.get().retry_at is None  # after thirty days it is left alone
    assert books(network.kaveri)["owed"] == 0


def test_a_payout_taken_up_late_in_a_slow_batch_is_nobody_elses(network, route):
    share(network.kaveri_connector), share(network.ganga_connector)
    began = clock.now()
    payouts.collect_due(began, 10)
    meanwhile = []

    def slow():
        clock.shift(100)
        meanwhile.append(payouts.to_ask(clock.now()).count())

    route.before_answer = slow
    payouts.ask_due(began, 10)
    assert meanwhile[1] == 0  # a claim lasts two minutes from when it is made, not from when the batch began
    assert len(route.asked) == 2


def test_a_transfer_taken_back_is_shown_to_a_person(network, route, client, caplog):
    entry = share(network.kaveri_connector)
    work()
    transfer = next(iter(route.made.values()))
    for status, back in (("partially_reversed", 5_00), ("partially_reversed", 5_00), ("reversed", 205_03)):
        transfer |= {"status": status, "amount_reversed": back}
        clock.shift(12 * 3600 + 1)
        work()
    partly, wholly = Difference.objects.filter(kind="transfer_reversed").order_by("theirs_paise").reverse()
    assert (partly.subject, partly.ours_paise, partly.theirs_paise) == (transfer["id"], 205_03, 200_03)
    assert (wholly.subject, wholly.ours_paise, wholly.theirs_paise) == (transfer["id"], 205_03, 0)
    assert len([line for line in caplog.messages if "came back; a person must look" in line]) == 2  # told once each
    client.force_login(network.admin)
    page = client.get(reverse("admin:billing_difference_changelist"), {"open": "yes"}).content.decode()
    assert page.count("transfer_reversed") >= 2 and "205.03" in page
    entry.refresh_from_db()
    assert entry.status == Status.TRANSFERRED and len(route.asked) == 1
    assert books(network.kaveri) == {"owed": 0, "on_its_way": 0, "gone": 205_03 + 30}  # until a person has decided


# -- races ----------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_two_workers_pay_an_entry_once(network, route, bells):
    """Both gather at the same moment; then both ask while the first call is still on the wire."""
    entry = share(network.kaveri_connector)
    on_the_wire = threading.Barrier(2, timeout=20)
    start = threading.Barrier(2)
    route.before_answer = lambda: (on_the_wire.wait(), on_the_wire.wait())

    def slow():
        start.wait()
        while not route.asked:  # the gathering may just be going on in the other
            payouts.work_due(clock.now(), 100)
        connections.close_all()

    def quick():
        start.wait()
        payouts.collect_due(clock.now(), 100)
        on_the_wire.wait()  # the other one's call is out and not answered
        payouts.work_due(clock.now(), 100)
        on_the_wire.wait()
        connections.close_all()

    workers = [threading.Thread(target=target) for target in (slow, quick)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    entry.refresh_from_db()
    assert Payout.objects.count() == 1 and len(route.asked) == 1
    assert entry.status == Status.TRANSFERRED
    assert books(network.kaveri) == {"owed": 0, "on_its_way": 0, "gone": 205_03 + 30}


@pytest.mark.django_db(transaction=True)
def test_a_failed_payout_is_followed_once(network, route, bells):
    route.mood = ["declined"]
    share(network.kaveri_connector)
    work()
    clock.shift(1801)
    start = threading.Barrier(2)

    def retry():
        start.wait()
        payouts.retry_due(clock.now(), 100)
        connections.close_all()

    workers = [threading.Thread(target=retry) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert Payout.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_dies_after_asking_leaves_nothing_twice(network, route, bells, monkeypatch):
    """The transfer exists, our row does not know it: the next worker finds it."""
    entry = share(network.kaveri_connector)
    with monkeypatch.context() as dying:
        dying.setattr(payouts.transfers, "persist", lambda *a: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            work()
    assert Payout.objects.get().state == State.ASKING
    clock.shift(121)
    work()
    entry.refresh_from_db()
    assert len(route.asked) == 1 and entry.status == Status.TRANSFERRED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moods", [[], ["declined"]], ids=["gathered", "tried again"])
def test_no_payout_to_the_old_account_is_made_while_another_is_linked(network, route, bells, monkeypatch, moods):
    """A worker reads the old account in the moment between the recall and its commit."""
    route.mood = list(moods)
    share(network.kaveri_connector)
    if moods:
        work()
        clock.shift(1801)
    taken_back = payouts.recall

    def recall(*args) -> int:
        recalled = taken_back(*args)
        worker = threading.Thread(target=lambda: (make(), connections.close_all()))
        worker.start()
        worker.join(20)
        return recalled

    def make() -> None:
        payouts.collect_due(clock.now(), 10)
        payouts.retry_due(clock.now(), 10)

    monkeypatch.setattr(payouts, "recall", recall)
    franchisees.link_account(network.kaveri, "acc_KaveriNew00001", activated=True)
    clock.shift(24 * 3600 + 1)
    make()
    assert Payout.objects.exclude(state=State.FAILED).get().account == "acc_KaveriNew00001"
