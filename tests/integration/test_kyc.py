"""A linked account's way to activation, and the franchisee's way into the network."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry, Company, Membership, User
from accounts.roles import Role
from billing import razorpay
from billing.models import WebhookEvent
from csms.models import ChargePoint, ChargingSession
from franchise import franchisees, kyc, settlements
from franchise.models import CommissionLedgerEntry, Contract, Franchisee, LinkedAccount, Ownership
from tests.shares import Route, bill, hear
from voltaro import clock

ACCOUNT, PRODUCT = "acc_Kaveri00000000", "acc_prd_Kaveri0000001"
Status = CommissionLedgerEntry.Status


@pytest.fixture
def route(monkeypatch):
    return Route(monkeypatch)


@pytest.fixture
def reviewed(network):
    """Kaveri's account is under review, and its product is known."""
    LinkedAccount.objects.filter(franchisee=network.kaveri).update(status="under_review", product_id=PRODUCT)
    LinkedAccount.objects.exclude(franchisee=network.kaveri).update(ask_at=None)
    return LinkedAccount.objects.get(franchisee=network.kaveri)


def work() -> int:
    return kyc.work_due(clock.now(), 100)


def heard(status: str) -> WebhookEvent:
    return hear(f"product.route.{status}", merchant_product={"id": PRODUCT, "merchant_id": ACCOUNT, "activation_status": status})


def test_activation_lets_the_held_shares_go(network, reviewed, route):
    session = bill(network.kaveri_connector)
    settlements.work_due(clock.now(), 100)
    assert session.commission.hold_reason == "not_activated"
    LinkedAccount.objects.update(product_id="")  # the event is the first to name it
    route.products[PRODUCT] = {"id": PRODUCT, "activation_status": "activated", "requirements": []}
    event = heard("activated")
    assert work() == 1
    event.refresh_from_db()
    reviewed.refresh_from_db()
    assert event.state == WebhookEvent.State.DONE
    assert (reviewed.status, reviewed.product_id) == ("activated", PRODUCT)
    settlements.work_due(clock.now(), 100)
    assert CommissionLedgerEntry.objects.get().status == Status.PENDING
    entry = AuditEntry.objects.get(action="linked_account.status")
    assert (entry.before["status"], entry.after["status"], entry.company) == ("under_review", "activated", network.kaveri.company)


@pytest.mark.django_db(transaction=True)
def test_activation_rings(network, reviewed, route, bells):
    route.products[PRODUCT] = {"activation_status": "activated"}
    work()
    assert bells == ["gate.opened"]


def test_an_old_event_does_not_undo_what_razorpay_says_now(reviewed, route):
    route.products[PRODUCT] = {"activation_status": "activated"}
    heard("activated")
    heard("under_review")
    work()
    reviewed.refresh_from_db()
    assert reviewed.status == "activated"


def test_what_razorpay_still_wants_is_told(reviewed, route):
    wants = [{"field_reference": "settlements.ifsc_code", "description": "Max retry exceeded for bank account details."}] * 2
    route.products[PRODUCT] = {"activation_status": "needs_clarification", "requirements": [*wants, {"field_reference": "pan"}]}
    heard("needs_clarification")
    work()
    reviewed.refresh_from_db()
    assert reviewed.missing == "Max retry exceeded for bank account details.; pan"


def test_no_webhook_ever_comes_and_the_account_is_asked_ever_more_rarely(reviewed, route):
    route.products[PRODUCT] = {"activation_status": "under_review"}
    waits = []
    for _ in range(8):
        assert work() == 1 and work() == 0
        reviewed.refresh_from_db()
        waits.append(reviewed.ask_at - clock.now())
        clock.shift(waits[-1].total_seconds() + 1)
    assert waits[0] <= timedelta(minutes=5) and waits == sorted(waits) and waits[-1] <= timedelta(hours=6)
    route.products[PRODUCT] = {"activation_status": "activated"}
    work()
    reviewed.refresh_from_db()
    assert reviewed.status == "activated"


def test_an_activated_account_that_is_suspended_later_closes_the_gate(reviewed, route):
    route.products[PRODUCT] = {"activation_status": "activated"}
    work()
    route.products[PRODUCT] = {"activation_status": "suspended"}
    clock.shift(24 * 3600 + 1)
    work()
    reviewed.refresh_from_db()
    assert reviewed.status == "suspended"


def test_razorpay_cannot_be_asked_now(reviewed, route):
    route.products[PRODUCT] = razorpay.TryAgain("HTTP 502")
    assert work() == 1 and work() == 0
    reviewed.refresh_from_db()
    assert reviewed.status == "under_review" and reviewed.ask_at > clock.now()


def test_an_account_of_another_installation_is_left_alone(reviewed, route):
    event = hear("product.route.activated", merchant_product={"id": "acc_prd_X", "merchant_id": "acc_SomebodyElses"})
    work()
    event.refresh_from_db()
    assert (event.state, event.note) == (WebhookEvent.State.IGNORED, "not ours")


# -- taking a franchisee in -------------------------------------------------------------------------------------
def add(*args: str) -> dict:
    out = StringIO()
    call_command("add_franchisee", *args, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_a_franchisee_is_taken_in_on_an_empty_installation(db):
    facts = add("Narmada Power", "--network", "Voltaro Networks", "--share", "72.5", "--tds", "1", "--user", "narmada")
    assert facts["created"] and facts["network"] == "Voltaro Networks" and facts["share_percent"] == "72.5"
    narmada = Franchisee.objects.get(pk=facts["franchisee"])
    assert (narmada.contracts.get().share_bp, narmada.contracts.get().tds_bp) == (7250, 100)
    user = User.objects.get(username="narmada")
    assert user.check_password(facts["password"]) and not user.is_staff
    assert Membership.objects.get(user=user).role == Role.FRANCHISEE


def test_asking_twice_changes_nothing_the_second_time(network):
    asked = (
        "Narmada",
        "--pan",
        "ABCDE1234F",
        "--share",
        "70",
        "--linked-account",
        "acc_Narmada0000000",
        "--activated",
        "--user",
        "narmada",
    )
    first = add(*asked)
    rows = [model.objects.count() for model in (Company, Franchisee, Contract, LinkedAccount, User, Membership, AuditEntry)]
    second = add(*asked)
    assert [model.objects.count() for model in (Company, Franchisee, Contract, LinkedAccount, User, Membership, AuditEntry)] == rows
    assert first["password"] and second["password"] is None and not second["created"]
    assert second["franchisee"] == first["franchisee"]


def test_other_terms_are_a_new_contract_from_now_on(network):
    first = Contract.objects.get(franchisee=network.kaveri)
    facts = add("Kaveri", "--share", "65")
    assert facts["share_percent"] == "65" and facts["tds_percent"] == "0.1"
    assert network.kaveri.contracts.count() == 2
    assert settlements.contract_at(network.kaveri, first.valid_from) == first


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("X", "--pan", "abc"), "PAN abc"),
        (("X", "--pan", "ABCDE1234F", "--gstin", "29ZZZZZ1234F1Z5"), "belongs to PAN ZZZZZ1234F"),
        (("X", "--share", "101"), "between 0 and 100"),
        (("X", "--share", "seventy"), "not a percentage"),
        (("X", "--share", "70.005"), "two decimals"),
        (("X", "--share", "NaN"), "two decimals"),
        (("X", "--linked-account", "account-1"), "not an id"),
        (("X", "--linked-account", "acc_Kaveri00000000"), "another franchisee"),
        (("X", "--user", "om"), "already belongs elsewhere"),
        (("X", "--user", "new", "--password", "short"), "too short"),
        (("X", "--email", "not an address"), "not an e-mail"),
        (("Voltaro Networks",), "is a network"),
        (("   ",), "empty"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_kept(network, args, complaint):
    before = (Company.objects.count(), User.objects.count(), AuditEntry.objects.count())
    with pytest.raises(CommandError, match=complaint):
        add(*args)
    assert (Company.objects.count(), User.objects.count(), AuditEntry.objects.count()) == before


def test_several_networks_need_a_name(network):
    Company.objects.create(name="Another Network")
    with pytest.raises(CommandError, match="--network"):
        add("Narmada")
    assert add("Narmada", "--network", "Another Network")["network"] == "Another Network"


# -- chargers change hands ----------------------------------------------------------------------------------------
def test_a_charger_changes_hands_and_its_history_stays(network):
    old = bill(network.kaveri_connector)
    assert franchisees.assign(network.kaveri_charger, network.ganga)
    assert not franchisees.assign(network.kaveri_charger, network.ganga)
    charger = ChargePoint.objects.get(pk=network.kaveri_charger.pk)
    assert charger.company == network.ganga.company
    rows = Ownership.objects.filter(charge_point=charger).order_by("id")
    assert [(row.franchisee, row.owned_to is None) for row in rows] == [(network.kaveri, False), (network.ganga, True)]
    assert ChargingSession.objects.get(pk=old.pk).company == network.kaveri.company
    settlements.work_due(clock.now(), 100)
    assert old.commission.franchisee == network.kaveri


def test_a_charger_goes_back_to_the_network(network):
    assert franchisees.assign(network.kaveri_charger, None)
    assert ChargePoint.objects.get(pk=network.kaveri_charger.pk).company == network.voltaro
    assert not Ownership.objects.filter(charge_point=network.kaveri_charger, owned_to__isnull=True).exists()
    assert not franchisees.assign(network.kaveri_charger, None)


def test_a_first_account_rests_a_day_unless_it_was_seen_activated(network):
    add("Narmada", "--linked-account", "acc_Narmada000001")
    add("Sharavati", "--linked-account", "acc_Sharavati0001", "--activated")
    resting, ready = (LinkedAccount.objects.get(franchisee__company__name=name) for name in ("Narmada", "Sharavati"))
    assert resting.usable_from > clock.now() and ready.usable_from is None
    add("Narmada", "--linked-account", "acc_Narmada000001", "--activated")  # activated the same day: Razorpay refuses until tomorrow
    resting.refresh_from_db()
    assert resting.status == "activated" and resting.usable_from > clock.now()


def test_one_account_belongs_to_one_franchisee(network):
    with pytest.raises(ValidationError, match="another franchisee"):
        franchisees.link_account(network.ganga, ACCOUNT)
