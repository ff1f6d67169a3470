"""Energy that is doubted waits for a person, a day at most; what somebody disputes keeps its frames."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from accounts.roles import Role
from billing import bills, corrections, payments, refunds
from billing.models import Bill, Refund
from csms import doubts, retention, sessions
from csms.models import ChargePoint, ChargingSession, OcppMessage
from tests import money
from tests.charger import Charger
from tests.factories import PASSWORD, make_user
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


@pytest.fixture
def held(charger, payment):
    """The lifetime register after a placeholder: 912 kWh reported, one of them counted."""
    charger.start(payment.permit.tag, meter=0)
    for register in (911_000, 911_500, 912_000):
        clock.shift(60)
        charger.meter(register, 30_000)
    charger.stop(912_000)
    return ChargingSession.objects.get()


def work() -> None:
    now = clock.now()
    payments.link_due(now, 10), bills.work_due(now, 10), corrections.work_due(now, 10), refunds.work_due(now, 10)
    assert money.books_are_right()


def page(user, path: str, **post):
    client = Client()
    assert client.login(username=user.username, password=PASSWORD)
    return client.post(path, post) if post else client.get(path)


# -- who is held --------------------------------------------------------------------------------------------------------
def test_registers_that_say_much_more_than_was_counted_are_held(held):
    assert (held.energy_wh, held.reported_wh, held.state) == (1_000, 912_000, "STOPPED")
    assert {"held", "suspect"} <= set(held.flags)
    assert (doubts.plausible_wh(held), doubts.reported_wh(held), doubts.billable_wh(held)) == (1_000, 912_000, 1_000)
    assert AuditEntry.objects.get(action="session.ended").after["held"] is True
    work()
    assert not Bill.objects.exists() and not Refund.objects.exists()


def test_small_steps_that_add_up_to_more_than_the_connector_delivers_are_held(charger, payment):
    """Each step is plausible by itself: half a kilowatt hour, and a second later the next."""
    charger.start(payment.permit.tag, meter=0)
    for step in range(1, 41):
        clock.shift(1)
        charger.meter(500 * step, 60_000)
    charger.stop(20_000)
    session = ChargingSession.objects.get()
    assert session.energy_wh == 20_000 and "held" in session.flags
    assert 1_000 <= doubts.cap_wh(session) == doubts.plausible_wh(session) < 2_000


def test_a_jump_that_stays_is_held_though_nobody_stopped_it(charger, payment):
    charger.start(payment.permit.tag, meter=100_000)
    charger.charge(100_000, 102_000, step_s=60)
    for register in (150_000, 150_500):
        clock.shift(60)
        charger.meter(register, 30_000)
    charger.drop()
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.reported_wh, "held" in session.flags) == (2_500, None, True)
    assert doubts.reported_wh(session) == 50_500


@pytest.mark.parametrize("story", ["honest", "reset", "dropout", "stop of nothing", "stop below the start", "offline"])
def test_what_the_rule_understands_is_billed_at_once(charger, payment, story):
    began = clock.now()
    charger.start(payment.permit.tag, meter=100_000, at=began)
    if story == "offline":
        clock.shift(600)
        for minute in range(1, 10):
            charger.meter(100_000 + 900 * minute, 54_000, at=began + timedelta(minutes=minute))
        charger.stop(109_000, at=began + timedelta(minutes=10))
    else:
        charger.charge(100_000, 105_000, step_s=60)
        for register in {"reset": (100, 700, 1_300), "dropout": (0, 106_000)}.get(story, ()):
            clock.shift(60)
            charger.meter(register, 60_000)
        clock.shift(60)
        charger.stop({"reset": 2_000, "dropout": 106_500, "stop of nothing": 0, "stop below the start": 90_000}.get(story, 105_500))
    session = ChargingSession.objects.get()
    assert "held" not in session.flags
    work()
    assert Bill.objects.get().billed_wh == session.energy_wh > 0


# -- a person's word, or a day -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("wh", "billed"), [(1_000, 1_000), (0, 0), (20_000, 20_000), (912_000, 27_785)])
def test_a_person_releases_it_and_that_is_billed_once(held, payment, wh, billed):
    doubts.release(held.pk, wh, "asked the owner")
    work()
    bill = Bill.objects.get()
    assert (bill.delivered_wh, bill.billed_wh) == (wh, billed)
    assert bill.total + bill.refund_due + bill.remainder == PAID
    entry = AuditEntry.objects.get(action="session.released")
    assert entry.before == {"reported_wh": 912_000, "plausible_wh": 1_000, "energy_wh": 1_000, "billable_wh": None}
    assert entry.after == {"billable_wh": wh, "why": "asked the owner"}
    with pytest.raises(ValidationError, match="not held any more"):
        doubts.release(held.pk, 1_000, "twice")
    held.refresh_from_db()
    assert (held.energy_wh, held.reported_wh, held.flags) == (1_000, 912_000, ["released", "suspect"])


@pytest.mark.parametrize("wh", [-1, 912_001])
def test_nobody_releases_more_than_was_reported(held, wh):
    with pytest.raises(ValidationError, match="Between 0 and what the charger reported"):
        doubts.release(held.pk, wh, "too much")
    assert "held" in ChargingSession.objects.get().flags and not AuditEntry.objects.filter(action="session.released").exists()


def test_after_a_day_what_is_plausible_is_billed_and_the_rest_goes_back(held, payment):
    clock.shift(86_399)
    work()
    assert not Bill.objects.exists()
    clock.shift(86_401)
    work()
    payment.refresh_from_db()
    bill = Bill.objects.get()
    assert (bill.billed_wh, payment.state) == (1_000, "settled")
    assert Refund.objects.get().amount_paise == PAID - bill.total
    assert AuditEntry.objects.get(action="session.billed").trigger == "held for a day"


def test_after_a_day_no_more_is_billed_than_the_connector_delivers(charger, payment):
    charger.start(payment.permit.tag, meter=0)
    for step in range(1, 41):
        clock.shift(1)
        charger.meter(500 * step, 60_000)
    charger.stop(20_000)
    cap_wh = doubts.cap_wh(ChargingSession.objects.get())
    clock.shift(86_500)
    work()
    assert Bill.objects.get().billed_wh == cap_wh < 2_000


def test_a_late_stop_that_says_less_counts_for_a_held_session_too(charger, payment):
    charger.start(payment.permit.tag, meter=100_000)
    charger.charge(100_000, 110_000, step_s=60)
    for register in (150_000, 151_000):
        clock.shift(60)
        charger.meter(register, 60_000)
    charger.drop()
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    session = ChargingSession.objects.get()
    assert "held" in session.flags
    charger.connect()
    charger.stop(150_400)
    clock.shift(86_500)
    work()
    assert (session.energy_wh, Bill.objects.get().billed_wh) == (11_000, 10_400)


# -- pages ---------------------------------------------------------------------------------------------------------------
def test_the_page_shows_what_waits_and_who_may_decides(held, payment, network):
    shown = page(network.om, "/console/held/").content.decode()
    assert "912.000 kWh" in shown and "1.000 kWh" in shown
    address = f"/console/held/{held.pk}/"
    shown = page(network.om, address).content.decode()
    assert "data-curve" in shown and "(all that was paid)" in shown and "₹500.00" in shown
    support = make_user("sita", Role.SUPPORT, network.voltaro)
    assert "decided by operators and by finance" in page(support, address).content.decode()
    assert page(support, address, choice="plausible", why="x").status_code == 403
    assert page(network.kaveri_user, address).status_code == 403
    assert "Not billed yet" in page(network.om, f"/console/sessions/{held.pk}/").content.decode()
    assert "Sessions held for review" in page(network.om, "/admin/").content.decode()
    for wrong in (
        {"choice": "other", "why": "x"},
        {"choice": "other", "kwh": "913", "why": "x"},
        {"choice": "reported"},
        {"choice": "x", "why": "x"},
    ):
        assert page(network.om, address, **wrong).status_code == 200
    assert "held" in ChargingSession.objects.get().flags
    assert page(network.om, address, choice="other", kwh="1.5", why="read the meter").status_code == 302
    entry = AuditEntry.objects.get(action="session.released")
    assert (entry.actor, entry.after["billable_wh"]) == ("om", 1_500)
    assert page(network.om, address).status_code == 404
    assert "Nothing waits for you" in page(network.om, "/console/held/").content.decode()
    work()
    assert "Decided by a person" in page(network.om, f"/console/sessions/{held.pk}/").content.decode()


def test_the_list_asks_the_same_however_many_wait(held, network):
    client = Client()
    assert client.login(username="om", password=PASSWORD)

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get("/console/held/").status_code == 200
        return len(seen)

    asked()
    one = asked()
    for number in range(60):
        held.pk, held.permit, held.transaction_id, held.start_key = None, None, f"9{number}", f"9{number}"
        held._state.adding = True
        held.save(force_insert=True)
    assert asked() == one
    assert "These are the oldest 50" in client.get("/console/held/").content.decode()


@pytest.mark.parametrize(("choice", "wh"), [("plausible", 1_000), ("reported", 912_000)])
def test_finance_releases_at_what_is_plausible_or_reported(held, network, choice, wh):
    finance = make_user("fatima", Role.FINANCE, network.voltaro)
    assert page(finance, f"/console/held/{held.pk}/", choice=choice, why="as it says").status_code == 302
    held.refresh_from_db()
    assert held.billable_wh == wh


def test_a_session_of_somebody_elses_network_is_not_there(held, network):
    from accounts.models import Company

    other = make_user("otto", Role.OPERATOR, Company.objects.create(name="Other Networks"))
    assert page(other, f"/console/held/{held.pk}/").status_code == 404
    assert page(other, f"/console/sessions/{held.pk}/dispute/", why="x").status_code == 404
    assert "Nothing waits" in page(other, "/console/held/").content.decode()


def test_the_rider_and_the_franchisee_are_told_that_it_is_looked_at(held, payment, network):
    work()
    shown = Client().get(f"/c/{network.kaveri_connector.code}/").content.decode()
    assert "cannot be right" in shown and "Your money is safe" in shown and "912" not in shown
    assert "cannot be right" in page(network.kaveri_user, f"/portal/sessions/{held.pk}/").content.decode()


# -- disputes ------------------------------------------------------------------------------------------------------------
def test_a_disputed_session_keeps_its_frames_until_it_is_settled(charger, payment, network):
    charger.start(payment.permit.tag, meter=0)
    clock.shift(60)
    charger.stop(500)
    session = ChargingSession.objects.get()
    address = f"/console/sessions/{session.pk}/dispute/"
    assert page(make_user("sita", Role.SUPPORT, network.voltaro), address, why="x").status_code == 403
    page(network.om, address)
    assert ChargingSession.objects.get().flags == []
    for _ in range(2):
        page(network.om, address, why="the rider says that nothing flowed")
    assert AuditEntry.objects.get(action="session.disputed").after["why"].startswith("the rider says")
    assert "Its frames are kept" in page(network.om, f"/console/sessions/{session.pk}/").content.decode()
    clock.shift(200 * 86_400)
    retention.frames_due(clock.now(), 100)
    assert OcppMessage.objects.filter(action="StartTransaction", direction="IN").count() == 1
    page(network.om, f"{address}settle/", why="agreed with the rider")
    assert ChargingSession.objects.get().flags == []
    retention.frames_due(clock.now(), 100)
    assert not OcppMessage.objects.filter(action="StartTransaction").exists()


def test_a_dispute_while_it_runs_is_not_forgotten_by_the_next_reading(charger, payment):
    charger.start(payment.permit.tag, meter=0)
    charger.charge(0, 1_000)
    session = ChargingSession.objects.get()
    assert doubts.dispute(session.pk, "wrong price") and not doubts.dispute(session.pk, "again")
    charger.charge(1_000, 2_000)
    charger.stop(2_000)
    session.refresh_from_db()
    assert session.flags == ["disputed"] and session.energy_wh == 2_000


def test_Q97_a_model_that_always_begins_with_a_placeholder_is_counted_from_its_first_reading(charger, payment, network):
    """Its habit says so: nothing jumps, nobody waits."""
    ChargePoint.objects.filter(pk=network.kaveri_charger.pk).update(quirk_settings={"start_register": False})
    fresh = Charger(network.kaveri_charger)
    fresh.boot()
    fresh.start(payment.permit.tag, meter=0)
    for register in (911_000, 911_500, 912_000):
        clock.shift(60)
        fresh.meter(register, 30_000)
    fresh.stop(912_300)
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.reported_wh, session.flags) == (1_300, 1_300, [])
