"""Chargers that lie about charges: whose they are, under which tag, how often, when (C01 to C10, C17, C19).

The rider has paid at the sandbox; what a lie costs is held in the books. Meters and clocks are in test_business_meters.py.
"""

import secrets
from datetime import timedelta

import pytest

from accounts.models import AuditEntry
from billing import bills, payments, refunds
from billing.models import Bill, JournalEntry, QRPayment, Refund
from csms import permits, sessions
from csms.models import ChargingSession, Command, IdTag, MeterReading, OcppMessage
from tests import money
from tests.charger import Charger
from tests.factories import make_connector
from tests.integration.conftest import kaveri_qr, sandbox  # noqa: F401 the same cast
from tests.stories import signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db
PAID = 50_000  # 27,785 Wh at Rs 15.25 and 18 %


@pytest.fixture
def kaveri(network, kaveri_qr):  # noqa: F811
    """Her charger, where riders pay."""
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.status("Available")
    return charger


@pytest.fixture
def ganga(network):
    """Another franchisee's charger, which means it ill."""
    charger = Charger(network.ganga_charger)
    charger.boot()
    return charger


@pytest.fixture
def payment(sandbox, kaveri, kaveri_qr):  # noqa: F811
    """Asha has paid Rs 500 at Kaveri's connector."""
    return money.pay(sandbox, kaveri_qr, PAID, vpa="asha@okaxis")


def work() -> None:
    """Everything that follows a session, until nothing is due; the books agree."""
    now = clock.now()
    payments.link_due(now, 10), payments.expire_due(now, 10)
    bills.work_due(now, 10)
    refunds.work_due(now, 10)
    assert money.books_are_right()


def begun(charger: Charger, payment: QRPayment, meter: int = 100_000) -> ChargingSession:
    """The charger starts with the payment's tag."""
    assert charger.start(payment.permit.tag, meter)["idTagInfo"]["status"] == "Accepted"
    work()
    return ChargingSession.objects.get(permit=payment.permit)


def delivered(charger: Charger, start_wh: int, end_wh: int, power_w: int = 60_000) -> None:
    """Readings as a real charge brings them; the clock moves with it."""
    charger.charge(start_wh, end_wh, power_w, step_s=60)


def settled(payment: QRPayment, *, wh: int) -> bool:
    """The payment is over: this much energy was billed once, the rest went back once, nothing is left."""
    work()
    payment.refresh_from_db()
    bill = Bill.objects.get(payment=payment)
    assert bill.billed_wh == wh
    back = sum(Refund.objects.filter(payment=payment).values_list("amount_paise", flat=True))
    assert (payment.state, bill.total + back + bill.remainder, refunds.held(payment)) == ("settled", PAID, 0)
    return True


def given_back(payment: QRPayment) -> bool:
    """The whole payment went back, once, and nothing was billed to it."""
    work()
    payment.refresh_from_db()
    refund = Refund.objects.get(payment=payment)
    assert (payment.state, refund.amount_paise, Bill.objects.filter(payment=payment).exists()) == ("settled", PAID, False)
    return True


# -- whose charge it is -------------------------------------------------------------------------------------------------
def test_C01_another_chargers_stop_ends_nothing(kaveri, ganga, payment):
    """The stop is thanked for and put on record as an orphan; the charge runs on and is billed by its own charger's word."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    ganga.transaction_id = kaveri.transaction_id
    assert ganga.stop(900_000) == {}
    session.refresh_from_db()
    assert (session.state, session.energy_wh) == ("RUNNING", 5_000)
    assert AuditEntry.objects.get(action="session.orphan_stop").target_id == str(ganga.row.pk)
    clock.shift(60)
    kaveri.stop(106_000)
    assert settled(payment, wh=6_000)


def test_C02_another_chargers_readings_are_no_energy_of_this_charge(kaveri, ganga, payment):
    """They are kept, and belong to no session; those of a charger with a charge of its own count for that one alone."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    ganga.transaction_id = kaveri.transaction_id
    ganga.meter(125_000, 60_000)
    assert MeterReading.objects.get(charge_point=ganga.row).session is None
    ganga.start("CARD", 0)
    own, ganga.transaction_id = ChargingSession.objects.get(charge_point=ganga.row), kaveri.transaction_id
    ganga.meter(50, 1_000)
    own.refresh_from_db(), session.refresh_from_db()
    assert (own.energy_wh, session.energy_wh) == (50, 5_000)
    clock.shift(60)
    kaveri.stop(105_000)
    assert settled(payment, wh=5_000)


# -- who may charge -----------------------------------------------------------------------------------------------------
def test_C03_a_start_nobody_paid_for_is_recorded_and_told_to_stop(kaveri, network):
    """Invalid, unpaid, with a limit of nothing and a stop asked; it gets a bill that moves no money."""
    assert kaveri.start("NOBODYS")["idTagInfo"]["status"] == "Invalid"
    session = ChargingSession.objects.get()
    assert (session.authorized, session.limit_wh, session.permit) == (False, 0, None)
    stop = Command.objects.get(action="RemoteStopTransaction")
    assert (stop.session, stop.trigger) == (session, "not_authorized")
    delivered(kaveri, 0, 3_000)
    kaveri.stop(3_000)
    work()
    bill = Bill.objects.get()
    assert (bill.payment, bill.billed_wh, bill.refund_due) == (None, 3_000, 0) and not Refund.objects.exists()
    assert not JournalEntry.objects.filter(key__startswith="bill:").exists()


def test_C04_a_tag_that_was_paid_once_starts_once(kaveri, payment):
    """Shown again, during the charge or after it, it is Invalid; the one payment pays the one charge."""
    begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    kaveri.stop(105_000)
    assert settled(payment, wh=5_000)
    for meter in (105_000, 105_001):
        clock.shift(30)
        assert kaveri.start(payment.permit.tag, meter)["idTagInfo"]["status"] == "Invalid"
        kaveri.stop(meter + 2_000)
    assert kaveri.call("Authorize", {"idTag": payment.permit.tag})["idTagInfo"]["status"] == "Invalid"
    assert ChargingSession.objects.filter(authorized=False, permit=None).count() == 2
    assert settled(payment, wh=5_000)


def test_C05_a_tag_of_64_random_bits_is_not_guessed(kaveri, payment, network, monkeypatch):
    """Tags come from the machine's own source of randomness, 16 hex digits, no two alike; guesses are Invalid and start nothing."""
    asked: list[int] = []
    real = secrets.token_hex
    monkeypatch.setattr("csms.permits.secrets.token_hex", lambda size: asked.append(size) or real(size))
    connectors = [make_connector(network.kaveri_charger, number) for number in range(2, 12)]
    tags = [
        permits.grant(connector=connector, user=None, company=network.voltaro, limit_wh=1, start_until=clock.now()).tag
        for connector in connectors
        for _ in range(20)
    ]
    assert set(asked) == {8} and len(set(tags)) == 200
    ones = [sum(int(tag, 16) >> bit & 1 for tag in tags) for bit in range(64)]
    assert all(40 < count < 160 for count in ones)  # a bit that is always the same is none
    near = [f"{int(payment.permit.tag, 16) ^ (1 << bit):016X}" for bit in range(64)]
    for guess in near:
        assert kaveri.call("Authorize", {"idTag": guess})["idTagInfo"] == {"status": "Invalid"}
    kaveri.start(near[0])
    assert not ChargingSession.objects.filter(authorized=True).exists()
    payment.refresh_from_db()
    assert (payment.state, payment.permit.state) == ("starting", "ready")


def test_C06_a_tag_starts_at_the_connector_it_was_paid_for_and_nowhere_else(kaveri, ganga, payment, network):
    """At another connector, or another charger, it is refused and stays good for its own; one charge is billed."""
    make_connector(network.kaveri_charger, 2, qr=False)
    assert kaveri.start(payment.permit.tag, connector=2)["idTagInfo"]["status"] == "Invalid"
    kaveri.stop(2_000)
    assert ganga.start(payment.permit.tag)["idTagInfo"]["status"] == "Invalid"
    ganga.stop(2_000)
    assert IdTag.objects.get(pk=payment.permit_id).state == "ready"
    begun(kaveri, payment)
    delivered(kaveri, 100_000, 104_000)
    kaveri.stop(104_000)
    assert settled(payment, wh=4_000)


# -- how often ------------------------------------------------------------------------------------------------------------
def test_C07_the_same_start_under_a_new_id_is_the_same_charge(kaveri, payment):
    """Same transaction, one session, one use of the permit; also when it comes again over a new line after the end."""
    at = clock.now()
    first = kaveri.start(payment.permit.tag, 100_000, at=at)
    assert kaveri.start(payment.permit.tag, 100_000, at=at) == first
    kaveri.drop()
    kaveri.connect()
    assert kaveri.start(payment.permit.tag, 100_000, at=at) == first
    delivered(kaveri, 100_000, 103_000)
    kaveri.stop(103_000)
    assert kaveri.start(payment.permit.tag, 100_000, at=at) == first
    assert ChargingSession.objects.get().state == "STOPPED"
    assert settled(payment, wh=3_000)


def test_C08_a_second_start_where_a_charge_runs_ends_it_and_its_rider_pays_for_what_flowed(kaveri, payment, sandbox, kaveri_qr):  # noqa: F811
    """The second is judged by itself (nobody paid: Invalid); the first is billed so far and its rest goes back; nobody can pay twice."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 107_000)
    second = money.pay(sandbox, kaveri_qr, PAID, vpa="ravi@okaxis")
    assert (second.state, second.permit) == ("refunding", None)
    clock.shift(30)
    assert kaveri.start("ANOTHER", 107_000)["idTagInfo"]["status"] == "Invalid"
    session.refresh_from_db()
    assert (session.state, session.stop_reason) == ("STOPPED", "SUPERSEDED") and "inferred" in session.flags
    delivered(kaveri, 107_000, 109_000)
    kaveri.stop(109_000)
    assert settled(payment, wh=7_000)
    assert given_back(second)


def test_C09_of_two_stops_the_first_counts(kaveri, payment):
    """The second is thanked for and kept in the log with a word; energy, bill and refund stay as they are."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    kaveri.stop(105_000)
    assert settled(payment, wh=5_000)
    for register in (120_000, 100_000, 0):
        clock.shift(10)
        assert kaveri.stop(register, reason="EmergencyStop") == {}
    session.refresh_from_db()
    assert (session.energy_wh, session.reported_wh, session.stop_reason) == (5_000, 5_000, "Local")
    assert OcppMessage.objects.filter(action="StopTransaction", note="already ended").count() == 3
    assert settled(payment, wh=5_000)


def test_C09_the_real_stop_after_one_we_inferred_is_recorded_and_never_charged(kaveri, payment):
    """It stayed away and was ended for it; what its own stop says afterwards stands beside the bill, marked late."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    kaveri.drop()
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    assert settled(payment, wh=5_000)
    kaveri.connect()
    kaveri.stop(109_000)
    session.refresh_from_db()
    assert (session.energy_wh, session.reported_wh) == (5_000, 9_000) and "late" in session.flags
    kaveri.stop(112_000)
    session.refresh_from_db()
    assert session.reported_wh == 9_000
    assert settled(payment, wh=5_000)


def test_C10_a_stop_of_nothing_is_thanked_for_and_put_on_record(kaveri, payment):
    """An unknown transaction is an orphan for a person to see; 0 and -1 mean the open charge, and nothing where there is none."""
    for number in (2**31 - 1, 0, -1, -(2**31)):
        kaveri.transaction_id = number
        assert kaveri.stop(50_000) == {}
    assert AuditEntry.objects.filter(action="session.orphan_stop").count() == 4
    assert not ChargingSession.objects.exists() and not Bill.objects.exists()
    begun(kaveri, payment)
    delivered(kaveri, 100_000, 102_000)
    kaveri.transaction_id = 999_999_999
    assert kaveri.stop(150_000) == {}
    assert ChargingSession.objects.get().state == "RUNNING"
    kaveri.transaction_id = -1
    assert kaveri.stop(102_000) == {}
    assert settled(payment, wh=2_000)


# -- without an end, and out of order ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["its line is gone", "it is silent", "its connector is free"])
def test_C17_a_charge_whose_stop_is_lost_ends_by_itself(kaveri, payment, how):
    """Three minutes after its line went, or its connector said it is free, or after three silent hours; the rest goes back."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 108_000)
    if how == "its line is gone":
        kaveri.drop()
        clock.shift(181)
    elif how == "it is silent":
        clock.shift(3 * 3600 + 1)
    else:
        kaveri.status("Available")
        clock.shift(181)
    assert sessions.timeout_due(clock.now(), 10) == 1
    session.refresh_from_db()
    assert (session.state, session.energy_wh) == ("STOPPED", 8_000) and "inferred" in session.flags
    assert settled(payment, wh=8_000)


def test_C19_what_cannot_be_and_was_said_is_kept_and_answered(kaveri, payment, network):
    """An end before the start, a start inside another charge, readings of before both: no error, no loss, pages that open."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    kaveri.meter(104_000, 60_000, at=clock.now() - timedelta(days=3))
    kaveri.meter(104_500, 60_000, at=session.start_time - timedelta(hours=2))
    kaveri.stop(105_000, at=session.start_time - timedelta(hours=1))
    session.refresh_from_db()
    assert (session.state, session.energy_wh) == ("STOPPED", 5_000) and session.end_time >= session.start_time and "clock" in session.flags
    kaveri.start("CARD", 50_000, at=session.start_time + timedelta(minutes=1))
    kaveri.stop(50_500, at=session.start_time + timedelta(minutes=2))
    assert settled(payment, wh=5_000)
    assert not OcppMessage.objects.filter(note__startswith="kept for a person").exists()
    om = signed_in(network.om)
    for one in ChargingSession.objects.all():
        for address in (f"/console/sessions/{one.pk}/", f"/console/sessions/{one.pk}/replay/", f"/console/sessions/{one.pk}/curve.json"):
            assert om.get(address).status_code == 200
    assert om.get(f"/console/chargers/{kaveri.row.pk}/").status_code == 200
