"""Meters and clocks that lie, and what chargers do with the money in between (C11 to C16, C23 to C25)."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import bills
from billing.models import Bill, BillLine
from billing.rules.payment import settle
from csms import permits, sessions
from csms.models import Alert, ChargingSession, Command, IdTag
from csms.rules.meter import begin
from csms.rules.session import Limits, Measured, Session, State, Stopped, step
from franchise import franchisees, settlements
from franchise.models import CommissionLedgerEntry
from tests import money
from tests.abuse.test_business_abuse import PAID, begun, delivered, ganga, given_back, kaveri, payment, settled, work  # noqa: F401
from tests.charger import Charger
from tests.integration.conftest import kaveri_qr, sandbox  # noqa: F401 the same cast
from voltaro import clock

pytestmark = pytest.mark.django_db


# -- the register -------------------------------------------------------------------------------------------------------
def test_C11_a_register_that_goes_back_is_never_negative_energy(kaveri, payment):  # noqa: F811
    """One odd sample waits for a second; energy is the sum of what rose, the charge is flagged suspect, no amount is ever negative."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    for register in (0, 105_500, 50_000, 50_300, 51_000):  # a dropout; then the meter was really set back
        clock.shift(60)
        kaveri.meter(register, 60_000)
    session.refresh_from_db()
    assert session.energy_wh == 5_500 + 1_000 and "suspect" in session.flags
    clock.shift(60)
    kaveri.stop(20_000)
    session.refresh_from_db()
    assert (session.state, session.energy_wh) == ("STOPPED", 6_500)
    assert settled(payment, wh=6_500)
    assert not BillLine.objects.filter(amount_paise__lt=0).exists()


def test_C11_a_queue_of_readings_sent_again_is_not_energy_again(kaveri, payment):  # noqa: F811
    """The same readings under new ids, or once more in the stop, count once: a repeat is no register that was set back."""
    session = begun(kaveri, payment)
    began = clock.now()
    for repeat in range(3):
        for minute in range(1, 6):
            clock.shift(60 if not repeat else 0)
            kaveri.meter(100_000 + 1_000 * minute, 60_000, at=began + timedelta(minutes=minute))
    session.refresh_from_db()
    assert (session.energy_wh, session.readings.count()) == (5_000, 5)
    told = [_value(100_000 + 1_000 * minute, began + timedelta(minutes=minute)) for minute in range(6)]
    kaveri.stop(105_000, transactionData=told)
    assert settled(payment, wh=5_000)


def test_C11_a_stop_below_the_start_gives_everything_back(kaveri, payment):  # noqa: F811
    """Nothing was seen to flow: no energy, no bill to speak of, the whole payment back."""
    begun(kaveri, payment)
    clock.shift(600)
    kaveri.stop(90_000)
    work()
    payment.refresh_from_db()
    assert (payment.bill.total, payment.refunds.get().amount_paise, payment.state) == (0, PAID, "settled")


registers = st.lists(st.tuples(st.integers(1, 900), st.one_of(st.none(), st.integers(0, 2**53 - 1), st.integers(0, 60_000))), max_size=30)


@settings(max_examples=300, deadline=None)
@given(registers, st.integers(0, 2**53 - 1), st.integers(1, 400_000), st.integers(100, 10_000_00))
def test_C12_no_meter_can_charge_more_than_the_connector_delivers_or_the_rider_paid(said, stop, max_power_w, paid):
    """Whatever a register says, energy stays below power and time (and 10 %), and the bill below the payment."""
    noon = clock.now()
    session = Session(State.STARTED, begin(1_000), max_power_w, noon, metered_at=noon, register_at=noon)
    passed_s = 0
    for seconds, register in said:
        passed_s += seconds
        at = noon + timedelta(seconds=passed_s)
        session, _ = step(session, Measured(at=at, register_wh=register), at, Limits())
    at = noon + timedelta(seconds=passed_s)
    session, _ = step(session, Stopped(at=at, register_wh=stop), at)
    slack_wh = (len(said) + 1) * (max_power_w * 11 * 30 // 36_000 + 101)
    assert 0 <= session.meter.energy_wh <= max_power_w * 1.1 * passed_s / 3600 + slack_wh
    tariff = {"rate_paise_per_kwh": 1_525, "gst_bp": 1_800, "igst": False, "platform_fee_bp": 0}
    end = settle(paid, 0, session.meter.energy_wh, tariff)
    assert 0 <= end.total <= paid and end.total + end.refund_due + end.remainder == paid


def test_C12_a_meter_that_runs_too_fast_is_not_believed_and_the_payment_is_the_limit(kaveri, payment):  # noqa: F811
    """500 kWh in ten minutes at 60 kW count nothing; a lie within what is possible ends at what was paid, with a stop ahead of it."""
    session = begun(kaveri, payment)
    clock.shift(600)
    kaveri.meter(600_000, 60_000)
    session.refresh_from_db()
    assert (session.energy_wh, "suspect" in session.flags) == (0, True)
    delivered(kaveri, 100_000, 129_000, 66_000)
    session.refresh_from_db()
    assert session.energy_wh == 29_000 > session.limit_wh == 27_785
    sessions.stop_due(clock.now(), 10)
    assert Command.objects.filter(action="RemoteStopTransaction", session=session, trigger="limit").exists()
    kaveri.stop(130_000)
    work()
    payment.refresh_from_db()
    bill = Bill.objects.get(payment=payment)
    assert (bill.billed_wh, bill.overrun_wh) == (27_785, session.limit_wh and bill.delivered_wh - 27_785)
    assert bill.total + bill.remainder + sum(payment.refunds.values_list("amount_paise", flat=True)) == PAID


@pytest.mark.parametrize("counted", [0.0, 0.3])
def test_C13_a_meter_that_counts_too_little_is_seen_when_the_charge_ends(kaveri, payment, counted):  # noqa: F811
    """The power of its readings says more than twice its energy: a flag and an alert for a person; billed is what the meter says."""
    session = begun(kaveri, payment)
    for minute in range(1, 11):
        clock.shift(60)
        kaveri.meter(100_000 + int(1_000 * minute * counted), 60_000)
    kaveri.stop(100_000 + int(10_000 * counted))
    session.refresh_from_db()
    assert "undercounted" in session.flags
    alert = Alert.objects.get(kind="undercounts")
    assert f"Session {session.pk}" in alert.detail and "9.0 kWh" in alert.detail
    work()
    payment.refresh_from_db()
    assert (payment.state, payment.bill.billed_wh) == ("settled", int(10_000 * counted))


def test_C13_an_honest_charge_is_not_suspected(kaveri, payment):  # noqa: F811
    """A charge that tapers off, with samples that miss half of it, has no flag."""
    session = begun(kaveri, payment)
    register = 100_000
    for power in (60_000, 55_000, 40_000, 20_000, 8_000, 3_000, 1_000):
        clock.shift(300)
        register += power * 300 // 3600
        kaveri.meter(register, power)
    kaveri.stop(register)
    session.refresh_from_db()
    assert session.flags == [] and not Alert.objects.filter(kind="undercounts").exists()
    assert settled(payment, wh=register - 100_000)


@pytest.mark.parametrize("units", ["Wh to kWh", "kWh to Wh", "kWh, and says so"])
def test_C14_a_unit_that_changes_in_the_middle_multiplies_nothing(kaveri, payment, units):  # noqa: F811
    """A thousandth, or a thousandfold, from one sample to the next is a jump: it is flagged and is no energy by itself."""
    session = begun(kaveri, payment, 0 if units == "kWh to Wh" else 100_000)
    if units == "kWh, and says so":
        for register in (101, 102, 103):
            clock.shift(60)
            kaveri.call("MeterValues", _reading(kaveri, str(register), "kWh"))
        session.refresh_from_db()
        assert (session.energy_wh, session.flags) == (3_000, [])
        kaveri.stop(103_000)
        assert settled(payment, wh=3_000)
        return
    first, second = ([101_000, 102_000], [103, 104]) if units == "Wh to kWh" else ([1, 2], [3_000_000, 3_001_000])
    for register in (*first, *second):
        clock.shift(60)
        kaveri.meter(register, 60_000)
    session.refresh_from_db()
    assert session.energy_wh <= 3_100 and "suspect" in session.flags
    clock.shift(60)
    kaveri.stop(second[-1])
    session.refresh_from_db()
    if units == "kWh to Wh":  # 3,001 kWh reported, one counted: nobody is billed before a person looked, or a day has passed
        assert "held" in session.flags and bills.work_due(clock.now(), 10) == 0
        clock.shift(86_401)
    assert settled(payment, wh=session.energy_wh)


def _reading(charger: Charger, value: str, unit: str) -> dict:
    return {"connectorId": 1, "transactionId": charger.transaction_id, "meterValue": [_value(value, clock.now(), unit)]}


def _value(value: object, at: datetime, unit: str = "Wh") -> dict:
    samples = [{"value": str(value), "unit": unit, "measurand": "Energy.Active.Import.Register"}]
    return {"timestamp": at.isoformat(), "sampledValue": samples}


# -- the clock ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("years", [-56, -10, 10, 73])
def test_C15_a_clock_that_is_years_off_changes_neither_energy_nor_money(kaveri, payment, years):  # noqa: F811
    """The charge is timed by ours, flagged, and billed by its meter; the tariff is today's."""
    wrong = timedelta(days=365 * years)
    began = clock.now()
    assert kaveri.start(payment.permit.tag, 100_000, at=began + wrong)["idTagInfo"]["status"] == "Accepted"
    for minute in range(1, 6):
        clock.shift(60)
        kaveri.meter(100_000 + 1_000 * minute, 60_000, at=clock.now() + wrong)
    kaveri.stop(105_000, at=clock.now() + wrong)
    session = ChargingSession.objects.get()
    assert abs((session.start_time - began).total_seconds()) < 60 and session.start_time <= session.end_time <= clock.now()
    assert "clock" in session.flags and not session.readings.filter(at__year__lt=2020).exists()
    assert settled(payment, wh=5_000)


def test_C16_a_queue_of_eight_hours_after_its_money_went_back_costs_nobody_twice(kaveri, payment):  # noqa: F811
    """The start was never heard in time: refunded. Hours later all of it comes at once: kept, by the charger's times, and not billed."""
    began = clock.now()
    kaveri.drop()
    clock.shift(301)
    assert given_back(payment)
    clock.shift(8 * 3600)
    kaveri.connect()
    assert kaveri.start(payment.permit.tag, 100_000, at=began + timedelta(minutes=1))["idTagInfo"]["status"] == "Invalid"
    for minute in range(2, 60):
        kaveri.meter(100_000 + 300 * minute, 18_000, at=began + timedelta(minutes=minute))
    kaveri.stop(118_000, at=began + timedelta(minutes=60))
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.authorized, session.readings.count()) == (18_000, False, 58)
    assert (session.end_time - session.start_time).total_seconds() == pytest.approx(59 * 60, abs=1)
    assert given_back(payment)
    assert not Bill.objects.exclude(payment=None).exists()


# -- the money in between ---------------------------------------------------------------------------------------------------
def test_C23_a_start_that_is_accepted_and_never_comes_is_refunded(kaveri, payment):  # noqa: F811
    """Five minutes after the payment everything goes back; a start that comes after that is not let charge."""
    permits.ask_due(clock.now(), 10)
    unique_id, _, order = kaveri.asked("RemoteStartTransaction")
    kaveri.accept(unique_id)
    clock.shift(299)
    work()
    payment.refresh_from_db()
    assert payment.state == "starting"
    clock.shift(2)
    assert given_back(payment)
    assert IdTag.objects.get(pk=payment.permit_id).state == "revoked"
    assert kaveri.start(order["idTag"], 100_000)["idTagInfo"]["status"] == "Invalid"
    assert not ChargingSession.objects.get().authorized
    kaveri.stop(101_000)
    assert given_back(payment)


@pytest.mark.parametrize("ends", ["by itself", "by its stop of nothing"])
def test_C24_a_charger_that_says_it_is_faulty_is_billed_by_its_meter(kaveri, payment, ends):  # noqa: F811
    """Faulted suspends; the energy that was seen is billed, whether the stop never comes or claims that nothing flowed."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 109_000)
    kaveri.status("Faulted", error="GroundFailure")
    session.refresh_from_db()
    assert (session.state, session.energy_wh) == ("SUSPENDED", 9_000)
    clock.shift(181)
    if ends == "by itself":
        assert sessions.timeout_due(clock.now(), 10) == 1
    else:
        kaveri.stop(100_000, reason="Other")
    assert settled(payment, wh=9_000)


def test_C25_a_charger_that_changes_hands_in_the_middle_earns_for_its_first_owner(kaveri, payment, network):  # noqa: F811
    """The charge, its bill and its share stay with whom it began; the next charge is the new owner's."""
    session = begun(kaveri, payment)
    delivered(kaveri, 100_000, 105_000)
    assert franchisees.assign(network.kaveri_charger, network.ganga)
    delivered(kaveri, 105_000, 110_000)
    kaveri.stop(110_000)
    session.refresh_from_db()
    assert (session.company, session.charge_point.company) == (network.kaveri.company, network.ganga.company)
    assert settled(payment, wh=10_000)
    settlements.work_due(clock.now(), 10)
    entry = CommissionLedgerEntry.objects.get()
    assert (entry.franchisee, entry.session) == (network.kaveri, session)
    assert money.books_are_right()
    kaveri.start("CARD", 110_000)
    assert ChargingSession.objects.latest("pk").company == network.ganga.company
    assert bills.due(clock.now()).count() == 0
