"""The portal: a franchisee sees their own, all of it, and nothing of anybody else's; riders stay unnamed."""

import csv
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.admin.sites import site
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.roles import Role
from csms.models import MeterReading
from franchise import franchisees, payouts, settlements, statements
from franchise.models import CommissionLedgerEntry, Contract, Franchisee, LinkedAccount
from franchise.urls import urlpatterns
from tests.factories import make_user
from tests.shares import Route, bill
from voltaro import clock

# How the argument of each kind of page is found for somebody's session.
OBJECTS = {
    "charger": lambda session: session.charge_point.public_code,
    "charger-live": lambda session: session.charge_point.public_code,
    "session": lambda session: session.pk,
    "payout": lambda session: CommissionLedgerEntry.objects.get(session=session).payout_id,
}
LISTS = [pattern.name for pattern in urlpatterns if not pattern.pattern.converters]
PAGES = [pattern.name for pattern in urlpatterns if pattern.pattern.converters]

pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse")


def address(name: str, session=None) -> str:
    return reverse(f"franchise:{name}", args=[OBJECTS[name](session)] if name in OBJECTS else [])


def text(response) -> str:
    return (b"".join(response) if response.streaming else response.content).decode()


@pytest.fixture
def paid(network, monkeypatch):
    """A paid-out session of Kaveri's and one of Ganga's."""
    Route(monkeypatch)
    network.kaveri_session, network.ganga_session = bill(network.kaveri_connector), bill(network.ganga_connector)
    settlements.work_due(clock.now(), 100)
    payouts.work_due(clock.now(), 100)
    return network


@pytest.fixture
def as_kaveri(client, network):
    client.force_login(network.kaveri_user)
    return client


def test_every_kind_of_page_is_in_the_table():
    assert set(PAGES) == set(OBJECTS) and len(LISTS) >= 6


# -- the door -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", LISTS + PAGES)
def test_nobody_enters_without_signing_in(paid, client, name):
    response = client.get(address(name, paid.kaveri_session))
    assert response.status_code == 302 and response.url.startswith("/sign-in/")


@pytest.mark.parametrize("name", LISTS + PAGES)
def test_drivers_and_operators_have_other_places(paid, client, name):
    for user in (paid.asha, paid.om):
        client.force_login(user)
        assert client.get(address(name, paid.kaveri_session)).status_code == 403


@pytest.mark.parametrize("name", LISTS + PAGES)
def test_kaveri_and_the_admin_see_kaveris(paid, client, name):
    for user in (paid.kaveri_user, paid.admin):
        client.force_login(user)
        assert client.get(address(name, paid.kaveri_session)).status_code == 200


@pytest.mark.parametrize("name", LISTS + PAGES)
def test_nothing_is_changed_here(paid, as_kaveri, name):
    assert as_kaveri.post(address(name, paid.kaveri_session)).status_code == 405


# -- somebody else's ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PAGES)
def test_gangas_pages_do_not_exist_for_kaveri(paid, as_kaveri, name):
    assert as_kaveri.get(address(name, paid.ganga_session)).status_code == 404


@pytest.mark.parametrize("name", LISTS)
def test_no_list_shows_anything_of_gangas(paid, as_kaveri, name):
    shown = text(as_kaveri.get(address(name)))
    payout = CommissionLedgerEntry.objects.get(session=paid.ganga_session).payout
    for canary in ("VLT-0002", "Ganga", paid.ganga_charger.public_code, payout.razorpay_id, f"/sessions/{paid.ganga_session.pk}/"):
        assert canary not in shown
    asked = as_kaveri.get(address(name), {"charger": paid.ganga_charger.public_code, "before": paid.ganga_session.pk})
    assert "VLT-0002" not in text(asked)


@pytest.mark.parametrize("name", LISTS + PAGES)
def test_riders_are_nobodys_business_here(paid, as_kaveri, name):
    shown = text(as_kaveri.get(address(name, paid.kaveri_session)))
    rider = paid.kaveri_session.user
    payment = paid.kaveri_session.payment
    for canary in ("canary", "CANARY", rider.phone, rider.vpa, rider.username, payment.rrn, payment.razorpay_payment_id):
        assert canary not in shown


def test_a_ride_at_gangas_is_not_kaveris_business(paid, as_kaveri):
    """Kaveri herself charged at Ganga's: a rider may see that under her charges, not in the portal."""
    paid.ganga_session.user = paid.kaveri_user
    paid.ganga_session.save()
    assert as_kaveri.get(address("session", paid.ganga_session)).status_code == 404
    assert f"/sessions/{paid.ganga_session.pk}/" not in text(as_kaveri.get(address("sessions")))


def test_a_charger_that_changed_hands_keeps_its_secrets(paid, client):
    franchisees.assign(paid.kaveri_charger, paid.ganga)
    client.force_login(paid.ganga_user)
    shown = text(client.get(address("charger", paid.kaveri_session)))
    assert "VLT-0001" in shown and f"/sessions/{paid.kaveri_session.pk}/" not in shown
    assert client.get(address("session", paid.kaveri_session)).status_code == 404
    client.force_login(paid.kaveri_user)
    assert client.get(address("session", paid.kaveri_session)).status_code == 200
    assert client.get(address("charger", paid.kaveri_session)).status_code == 404


# -- what is shown --------------------------------------------------------------------------------------------
def test_the_overview_tells_the_day(paid, as_kaveri):
    shown = text(as_kaveri.get(address("overview")))
    assert "₹205.03" in shown and "20.000" in shown and "Earned today" in shown
    assert shown.count("<rect") == 60 and "Kaveri Hub" in shown


def test_the_session_page_shows_the_share_line_by_line(paid, as_kaveri):
    at = paid.kaveri_session.start_time
    for n, power in enumerate((58_000, 60_000, 31_000)):
        MeterReading.objects.create(
            charge_point=paid.kaveri_charger,
            session=paid.kaveri_session,
            at=at + timedelta(minutes=n),
            power_w=power,
            energy_wh=n * 900,
            soc_pct=40 + n,
            digest=str(n),
        )
    shown = text(as_kaveri.get(address("session", paid.kaveri_session)))
    for amount in ("₹500.00", "₹140.10", "₹54.90", "₹11.80", "₹293.20", "₹87.96", "₹0.21", "₹205.03"):
        assert amount in shown
    assert "your share is 70 %" in shown and "<polyline" in shown and "60 kW" in shown


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda k: franchisees.hold(k, "x"), "The operator has put your payouts on hold"),
        (lambda k: LinkedAccount.objects.filter(franchisee=k).delete(), "No bank account is linked yet"),
        (lambda k: LinkedAccount.objects.filter(franchisee=k).update(status="under_review"), "has not yet activated"),
    ],
)
def test_what_holds_the_money_is_said_in_plain_words(network, as_kaveri, make, words):
    make(network.kaveri)
    bill(network.kaveri_connector)
    settlements.work_due(clock.now(), 100)
    assert words in text(as_kaveri.get(address("earnings"))) and words in text(as_kaveri.get(address("overview")))


def test_an_unknown_fee_is_said_and_no_share_is_promised(network, as_kaveri):
    session = bill(network.kaveri_connector, fee=None)
    settlements.work_due(clock.now(), 100)
    shown = text(as_kaveri.get(address("session", session)))
    assert "Razorpay has not yet said what it charged" in shown and "not known yet" in shown and "₹213.29" not in shown


@pytest.mark.parametrize("name", LISTS)
def test_a_new_franchisee_finds_words_instead_of_empty_tables(network, client, name):
    narmada = franchisees.add(franchisees.Wish(name="Narmada", username="narmada")).user
    client.force_login(narmada)
    shown = text(client.get(address(name)))
    assert "<td" not in shown


def test_a_member_of_a_company_that_is_no_franchisee_is_told(network, client):
    client.force_login(make_user("nobody", Role.FRANCHISEE, network.voltaro.children.create(name="Not yet")))
    assert "not set up as a franchisee" in text(client.get(address("overview")))


# -- filters, pages, files --------------------------------------------------------------------------------------
def test_sessions_by_day_and_charger(network, as_kaveri):
    now = clock.now()
    Contract.objects.update(valid_from=now - timedelta(days=99))
    new, old = bill(network.kaveri_connector), bill(network.kaveri_connector, start_time=now - timedelta(days=40))
    shown = text(as_kaveri.get(address("sessions")))
    assert f"/sessions/{new.pk}/" in shown and f"/sessions/{old.pk}/" not in shown
    day = (now - timedelta(days=40)).date()
    shown = text(as_kaveri.get(address("sessions"), {"from": day - timedelta(days=1), "to": day + timedelta(days=1)}))
    assert f"/sessions/{old.pk}/" in shown and f"/sessions/{new.pk}/" not in shown


@pytest.mark.parametrize(
    "query", ["from=x&to=y", "from=9999-12-31", "to=0001-01-01", "before=99999999999999999999", "charger=%00", "page=x"]
)
@pytest.mark.parametrize("name", LISTS)
def test_nonsense_in_the_address_is_no_error(network, as_kaveri, name, query):
    assert as_kaveri.get(f"{address(name)}?{query}").status_code == 200


def test_pages_follow_one_another_without_gap_or_repeat(network, as_kaveri, monkeypatch):
    monkeypatch.setattr("franchise.views.ROWS", 3)
    made = [bill(network.kaveri_connector).pk for _ in range(8)]
    seen, query = [], {}
    while True:
        response = as_kaveri.get(address("sessions"), query)
        seen += [session.pk for session in response.context["sessions"]]
        if not response.context["more"]:
            break
        query = {"before": response.context["more"]}
    assert seen == made[::-1]


@pytest.mark.parametrize("name", ["overview", "sessions", "earnings", "payouts", "chargers", "charger"])
def test_pages_do_not_cost_more_as_history_grows(paid, as_kaveri, name, django_assert_max_num_queries):
    def queries() -> int:
        with django_assert_max_num_queries(30) as counted:
            as_kaveri.get(address(name, paid.kaveri_session))
        return len(counted)

    queries()
    few = queries()
    for _ in range(10):
        bill(paid.kaveri_connector)
    settlements.work_due(clock.now(), 100)
    payouts.work_due(clock.now(), 100)
    assert queries() == few


def test_the_file_holds_every_share_and_no_formula(paid, as_kaveri, monkeypatch):
    monkeypatch.setattr("franchise.statements.ROWS", 2)
    paid.kaveri_charger.station.name = "=HYPERLINK(1)"
    paid.kaveri_charger.station.save()
    for _ in range(4):
        bill(paid.kaveri_connector)
    settlements.work_due(clock.now(), 100)
    response = as_kaveri.get(address("earnings-csv"))
    assert response["Content-Type"].startswith("text/csv") and "attachment" in response["Content-Disposition"]
    rows = list(csv.DictReader(StringIO(text(response))))
    assert len(rows) == 5 and [row["to you"] for row in rows] == ["205.03"] * 5
    assert {row["site"] for row in rows} == {"'=HYPERLINK(1)"}
    assert rows[0]["status"] == "Transferred" and rows[0]["transfer"].startswith("trf_")


@pytest.mark.parametrize("text_", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "  =1"])
def test_text_that_a_spreadsheet_would_run_is_quoted(text_):
    assert statements.safe(text_).startswith("'") and statements.safe("Hub 1") == "Hub 1" and statements.safe("") == ""


# -- the console ------------------------------------------------------------------------------------------------
def test_an_operator_holds_and_releases_in_the_console(network, client):
    client.force_login(network.om)
    url = reverse("admin:franchise_franchisee_changelist")
    chosen = {"_selected_action": [network.kaveri.pk]}
    client.post(url, {"action": "hold_payouts", **chosen})
    assert Franchisee.objects.get(pk=network.kaveri.pk).payouts_on_hold
    client.post(url, {"action": "release_payouts", **chosen})
    assert not Franchisee.objects.get(pk=network.kaveri.pk).payouts_on_hold
    actions = AuditEntry.objects.filter(actor="om").order_by("id").values_list("action", flat=True)
    assert list(actions) == ["franchisee.held", "franchisee.released"]


def test_support_looks_and_holds_nothing(network, client):
    client.force_login(make_user("sam", Role.SUPPORT, network.voltaro))
    url = reverse("admin:franchise_franchisee_changelist")
    assert client.get(url).status_code == 200
    client.post(url, {"action": "hold_payouts", "_selected_action": [network.kaveri.pk]})
    assert not Franchisee.objects.get(pk=network.kaveri.pk).payouts_on_hold


@pytest.mark.parametrize("model", [model for model in site._registry if model._meta.app_label == "franchise"], ids=lambda m: m.__name__)
def test_every_list_and_form_of_the_console_opens(paid, client, model):
    client.force_login(paid.admin)
    name = f"admin:franchise_{model._meta.model_name}"
    assert client.get(reverse(f"{name}_changelist")).status_code == 200
    if row := model.objects.first():
        assert client.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200
    assert client.get(reverse(f"{name}_add")).status_code in (200, 403)


def test_money_tables_are_read_only_in_the_console(paid, client):
    client.force_login(paid.admin)
    entry = CommissionLedgerEntry.objects.first()
    response = client.post(reverse("admin:franchise_commissionledgerentry_change", args=[entry.pk]), {"payable": 1})
    assert response.status_code == 403
    entry.refresh_from_db()
    assert entry.payable == 205_03


def test_another_account_typed_in_the_console_rests_a_day(network, client):
    client.force_login(network.admin)
    account = network.kaveri.linked_account
    url = reverse("admin:franchise_linkedaccount_change", args=[account.pk])
    client.post(url, {"razorpay_id": "acc_Other000000001", "product_id": ""})
    account.refresh_from_db()
    assert account.razorpay_id == "acc_Other000000001" and account.status == "requested" and account.usable_from > clock.now()
