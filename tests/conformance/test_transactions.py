"""Transactions of OCPP 1.6 (T): every start and stop is a fact, answered at once and recorded once."""

import json
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection

from accounts.models import AuditEntry
from csms import starts
from csms.models import ChargingSession, Connector, Reservation
from tests.simulate_client import stamp
from voltaro import clock

pytestmark = pytest.mark.e2e


@pytest.fixture
def card(world):
    return world.card("CARD1")


def ended(world, **wanted):
    session = world.session(**wanted)
    assert session.state == "STOPPED"
    return session


def transaction(charger, tag="CARD1", meter_wh=1000, **fields):
    return charger.start(1, tag, meter_wh=meter_wh, **fields)["transactionId"]


# -- regular sessions --------------------------------------------------------------------------------------------------
def test_TC_003_T01_plugged_in_first(world, charger, card):
    """Plug first, then the card: one transaction, all answered, its energy is stop minus start."""
    charger.status(1, "Preparing")
    assert charger.call("Authorize", {"idTag": "CARD1"})["idTagInfo"]["status"] == "Accepted"
    started = charger.start(1, "CARD1", meter_wh=1000)
    assert started["idTagInfo"]["status"] == "Accepted"
    charger.status(1, "Charging")
    charger.meter(1, started["transactionId"], register_wh=1200, power_w=30_000)
    charger.stop(started["transactionId"], meter_wh=1400, reason="Local", idTag="CARD1")
    charger.status(1, "Finishing")
    charger.status(1, "Available")
    session = ended(world)
    assert (session.energy_wh, session.stop_reason, session.authorized, session.flags) == (400, "Local", True, [])


def test_TC_004_1_T02_the_card_first(world, charger, card):
    """The card first, then the plug: one transaction."""
    assert charger.call("Authorize", {"idTag": "CARD1"})["idTagInfo"]["status"] == "Accepted"
    charger.status(1, "Preparing")
    number = transaction(charger)
    charger.status(1, "Charging")
    charger.stop(number, meter_wh=1300)
    assert ended(world).energy_wh == 300


def test_TC_004_2_T03_authorized_but_never_plugged_in(world, charger, card):
    """Authorized, no plug in time, Available again: no transaction, and the connector is free."""
    charger.call("Authorize", {"idTag": "CARD1"})
    charger.status(1, "Preparing")
    world.pass_time(90)
    charger.status(1, "Available")
    assert not ChargingSession.objects.exists()
    assert charger.start(1, "CARD1", meter_wh=5)["idTagInfo"]["status"] == "Accepted"


def test_TC_005_1_T04_unplugged_at_the_car(world, charger, card):
    """Unplugged at the car: Finishing, Stop EVDisconnected, ended."""
    number = transaction(charger)
    charger.status(1, "Finishing")
    charger.stop(number, meter_wh=1500, reason="EVDisconnected")
    assert ended(world).stop_reason == "EVDisconnected"


def test_TC_007_T05_a_start_without_authorize_is_judged_again(world, charger, card):
    """A cached tag starts without Authorize: it is judged at the start."""
    assert charger.start(1, "CARD1")["idTagInfo"]["status"] == "Accepted"
    charger.stop(int(world.session().transaction_id), meter_wh=10)
    card.state = "blocked"
    card.save()
    world.pass_time(10)
    assert charger.start(1, "CARD1", meter_wh=10)["idTagInfo"]["status"] == "Blocked"


# -- offline -------------------------------------------------------------------------------------------------------------
def test_TC_037_1_T06_a_start_kept_offline_keeps_its_time_and_gets_no_profile(world, charger, card):
    """A start made offline is accepted with its own time; no charging profile is sent for it."""
    at = clock.now() - timedelta(hours=2)
    started = charger.start(1, "CARD1", meter_wh=1000, at=at)
    assert started["idTagInfo"]["status"] == "Accepted"
    assert abs((world.session().start_time - at).total_seconds()) < 1
    world.work("profiles.send")
    charger.nothing("SetChargingProfile", for_s=0.5)


def test_TC_037_3_T07_a_start_made_offline_with_a_bad_tag(world, charger):
    """Offline start of an invalid tag: not accepted, but numbered and recorded; its stop closes it."""
    started = charger.start(1, "NOBODY", meter_wh=1000, at=clock.now() - timedelta(minutes=30))
    assert started["idTagInfo"]["status"] == "Invalid"
    assert started["transactionId"] > 0
    charger.stop(started["transactionId"], meter_wh=1200, reason="DeAuthorized")
    session = ended(world)
    assert (session.authorized, session.energy_wh) == (False, 200)


def test_TC_039_T08_a_whole_transaction_out_of_a_queue(world, charger, card):
    """Start, readings and stop replayed after hours offline: one whole transaction, told once."""
    began = clock.now() - timedelta(hours=3)
    number = transaction(charger, at=began)
    for minutes in (10, 20, 30):
        charger.meter(1, number, register_wh=1000 + minutes * 500, power_w=30_000, at=began + timedelta(minutes=minutes))
    charger.stop(number, meter_wh=17_000, at=began + timedelta(minutes=32))
    session = ended(world)
    assert session.energy_wh == 16_000
    assert abs((session.end_time - began).total_seconds() - 32 * 60) < 2
    assert AuditEntry.objects.filter(action="session.ended", target_id=str(session.pk)).count() == 1


def test_TC_032_1_T09_after_a_power_failure(world, charger, card):
    """Power failure: boot, then Stop PowerLoss: ended by that stop."""
    number = transaction(charger)
    charger.meter(1, number, register_wh=1400, power_w=30_000)
    charger.drop()
    back = world.connect(status=False)
    back.stop(number, meter_wh=1500, reason="PowerLoss")
    session = ended(world)
    assert (session.energy_wh, session.stop_reason) == (500, "PowerLoss")


# -- starts ----------------------------------------------------------------------------------------------------------------
def test_T10_a_start_with_an_unknown_tag_is_recorded(world, charger):
    """An unknown tag starts: Invalid, a number, a row, and it is asked to stop."""
    started = charger.start(1, "STRANGER", meter_wh=7)
    assert started["idTagInfo"]["status"] == "Invalid"
    assert world.session().transaction_id == str(started["transactionId"])
    assert charger.expect("RemoteStopTransaction")["transactionId"] == started["transactionId"]


def test_T11_the_same_start_with_the_same_id(world, charger, card):
    """The same start again under its id: the same number, one transaction."""
    payload = {"connectorId": 1, "idTag": "CARD1", "meterStart": 5, "timestamp": stamp()}
    first = charger.call("StartTransaction", payload, uid="s1")
    assert charger.call("StartTransaction", payload, uid="s1") == first
    assert ChargingSession.objects.count() == 1


def test_T12_the_same_start_with_another_id(world, charger, card):
    """The same start under a new id, also on a new line: the same number, one transaction."""
    payload = {"connectorId": 1, "idTag": "CARD1", "meterStart": 5, "timestamp": stamp()}
    first = charger.call("StartTransaction", payload, uid="s1")
    assert charger.call("StartTransaction", payload, uid="s2") == first
    charger.drop()
    assert world.connect(status=False).call("StartTransaction", payload, uid="s3") == first
    assert ChargingSession.objects.count() == 1


def test_T13_a_start_on_a_connector_that_is_in_use(world, charger, card):
    """Another start while one is open: the old one ends as superseded with its last meter, the new one is made."""
    old = transaction(charger)
    charger.meter(1, old, register_wh=1300, power_w=30_000)
    new = transaction(charger, meter_wh=1310, at=clock.now() + timedelta(seconds=1))
    assert new != old
    before = ended(world, transaction_id=str(old))
    assert (before.stop_reason, before.energy_wh, "inferred" in before.flags) == ("SUPERSEDED", 300, True)
    assert world.session(transaction_id=str(new)).live


@pytest.mark.parametrize("meter", [-5, 10**10, 0])
def test_T14_odd_registers_at_the_start(world, charger, card, meter):
    """A negative, a huge and a zero meterStart are answered and recorded."""
    started = charger.start(1, "CARD1", meter_wh=meter)
    assert started["idTagInfo"]["status"] == "Accepted"
    assert world.session().meter_start_wh == (None if meter < 0 else meter)


def test_T15_reservations_are_matched_by_tag_and_used(world, charger, card):
    """A start with reservationId -1 or the true one uses the reservation of its tag."""
    connector = world.network.kaveri_connector
    for number in (-1, None):
        kept = Reservation.objects.create(
            charge_point=connector.charge_point,
            connector=connector,
            reservation_id=100 + (number or 0),
            id_tag=card,
            expires_at=clock.now() + timedelta(minutes=10),
            state="active",
        )
        said = kept.reservation_id if number is None else number
        payload = {"connectorId": 1, "idTag": "CARD1", "meterStart": 5, "timestamp": stamp(clock.now()), "reservationId": said}
        started = charger.call("StartTransaction", payload)
        assert started["idTagInfo"]["status"] == "Accepted"
        charger.stop(started["transactionId"], meter_wh=10)
        kept.refresh_from_db()
        assert kept.state == "used"
        world.pass_time(5)


def test_T31_numbers_are_unique_whoever_starts_at_once(world):
    """Numbers taken by many at once are unique, positive and fit in 31 bits."""
    found: list[int] = []

    def take():
        found.extend(starts.next_transaction_id() for _ in range(500))
        connection.close()

    threads = [threading.Thread(target=take) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 10_000
    assert all(0 < number < 2**31 for number in found)


def test_T32_a_start_that_cannot_be_stored_is_not_answered(world, charger, card):
    """While the database refuses, a start is held, not answered with an error; then it is stored once."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE csms_chargingsession IN ACCESS EXCLUSIVE MODE")
        payload = {"connectorId": 1, "idTag": "CARD1", "meterStart": 5, "timestamp": stamp()}
        charger.send(f'[2,"s1","StartTransaction",{json.dumps(payload)}]')
        time.sleep(4)  # longer than the lock timeout of charger work
        assert not any('"s1"' in text for way, text in charger.frames if way == "IN")
        cursor.execute("COMMIT")
    assert charger.answer("s1", timeout_s=20)["transactionId"] > 0
    assert ChargingSession.objects.count() == 1
    world.server.forgive()


def test_T36_the_answer_to_a_start_has_exactly_what_it_must(world, charger, card):
    """The answer to a start is a number and a status, nothing else."""
    started = charger.start(1, "CARD1")
    assert set(started) == {"transactionId", "idTagInfo"}
    assert started["idTagInfo"] == {"status": "Accepted"}


# -- stops -----------------------------------------------------------------------------------------------------------------
def test_T16_the_same_stop_twice(world, charger, card):
    """A stop again, also with other figures: thanked for, nothing changes, nothing is settled twice."""
    number = transaction(charger)
    charger.stop(number, meter_wh=1400)
    before = ended(world)
    charger.stop(number, meter_wh=1400)
    charger.stop(number, meter_wh=9999)
    after = world.session()
    assert (after.energy_wh, after.ended_at, after.stop_reason) == (before.energy_wh, before.ended_at, before.stop_reason)
    assert AuditEntry.objects.filter(action="session.ended").count() == 1


def test_T17_a_stop_of_an_unknown_transaction(world, charger):
    """A stop nobody knows: answered {}, kept for a person."""
    assert charger.stop(987_654, meter_wh=1400) == {}
    assert AuditEntry.objects.filter(action="session.orphan_stop").count() == 1


def test_T18_a_stop_with_minus_one_after_a_lost_answer(world, charger, card):
    """The start's answer was lost: Stop -1 ends the connector's open transaction."""
    transaction(charger)
    assert charger.stop(-1, meter_wh=1600, idTag="CARD1")["idTagInfo"]["status"] in ("Accepted", "ConcurrentTx")
    assert ended(world).energy_wh == 600


@pytest.mark.parametrize("ref", ["0", "null", '"12x"', "9223372036854775807", '""', "1.5"])
def test_T19_stops_with_strange_numbers(world, charger, card, ref):
    """Stop with 0, null, a text or a huge number: answered; matched or kept for a person."""
    transaction(charger)
    charger.send(f'[2,"x","StopTransaction",{{"transactionId":{ref},"meterStop":1500,"timestamp":"{stamp()}"}}]')
    assert charger.answer("x") == {}
    session = world.session()
    assert session.state == "STOPPED" or AuditEntry.objects.filter(action="session.orphan_stop").exists()


def test_T20_a_stop_of_somebody_elses_transaction(world, charger, card):
    """A stop with another charger's number is answered and touches nothing of that charger."""
    number = transaction(charger)
    other = world.connect("VLT-0002")
    assert other.stop(number, meter_wh=99_999) == {}
    assert world.session(transaction_id=str(number)).live


@pytest.mark.parametrize(
    ("fields", "reason", "raw"),
    [({}, "Local", ""), ({"reason": "AppStop"}, "Other", "AppStop"), ({"reason": "evdisconnected"}, "EVDisconnected", "evdisconnected")],
)
def test_T21_reasons(world, charger, card, fields, reason, raw):
    """No reason means Local; one the standard does not know is Other, the original kept."""
    number = transaction(charger)
    charger.call("StopTransaction", {"transactionId": number, "meterStop": 1100, "timestamp": stamp(), **fields})
    session = ended(world)
    assert (session.stop_reason, session.stop_reason_raw) == (reason, raw)
    told = AuditEntry.objects.get(action="session.ended")
    assert told.after["reason_raw"] == raw


def test_T22_whose_tag_a_stop_bears(world, charger, card):
    """A stop by another tag of the group, or an unknown one, closes; a tag's status is told only where a tag was given."""
    world.card("CARD2", parent="HOUSE")
    card.parent = "HOUSE"
    card.save()
    number = transaction(charger)
    assert charger.stop(number, meter_wh=1100, idTag="CARD2")["idTagInfo"]["status"] == "Accepted"
    assert ended(world).energy_wh == 100
    world.pass_time(5)
    second = transaction(charger, meter_wh=1100, at=clock.now())
    assert charger.stop(second, meter_wh=1200, idTag="NOBODY")["idTagInfo"]["status"] == "Invalid"
    world.pass_time(5)
    third = transaction(charger, meter_wh=1200, at=clock.now())
    assert charger.stop(third, meter_wh=1300) == {}
    assert ChargingSession.objects.filter(state="STOPPED").count() == 3


def test_T23_a_meter_that_went_back(world, charger, card):
    """meterStop below meterStart: answered, no energy, marked as suspect."""
    number = transaction(charger, meter_wh=5000)
    assert charger.stop(number, meter_wh=200) == {}
    session = ended(world)
    assert (session.energy_wh, "suspect" in session.flags) == (0, True)


@pytest.mark.parametrize(("meter", "energy"), [("1500.5", 500), ('"1234"', 234), ("1100.0", 100)])
def test_T24_meters_that_are_no_integers(world, charger, card, meter, energy):
    """meterStop as a float or a text is understood, rounded down."""
    number = transaction(charger)
    charger.send(f'[2,"x","StopTransaction",{{"transactionId":{number},"meterStop":{meter},"timestamp":"{stamp()}"}}]')
    assert charger.answer("x") == {}
    assert ended(world).energy_wh == energy


def test_T25_an_unknown_last_register(world, charger, card):
    """meterStop -1: the last reading counts."""
    number = transaction(charger)
    charger.meter(1, number, register_wh=1450, power_w=30_000)
    charger.stop(number, meter_wh=-1)
    assert ended(world).energy_wh == 450


@pytest.mark.parametrize("at", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "garbage", None])
def test_T26_times_of_a_stop(world, charger, card, at):
    """A stop before its start, in the future, unreadable or without a time is answered and ends."""
    number = transaction(charger)
    payload = {"transactionId": number, "meterStop": 1200, **({"timestamp": at} if at else {})}
    assert charger.call("StopTransaction", payload) == {}
    session = ended(world)
    assert session.energy_wh == 200
    assert session.end_time >= session.start_time


def test_T27_five_hundred_samples_in_a_stop(world, charger, card):
    """A stop with 500 readings in transactionData is answered quickly and counts."""
    began = clock.now() - timedelta(hours=2)
    number = transaction(charger, at=began)
    data = [
        {"timestamp": stamp(began + timedelta(seconds=10 * at)), "sampledValue": [{"value": str(1000 + 20 * at)}]} for at in range(1, 501)
    ]
    asked = time.monotonic()
    charger.stop(number, meter_wh=11_000, at=began + timedelta(seconds=5010), transactionData=data)
    assert time.monotonic() - asked < 10
    session = ended(world)
    assert session.energy_wh == 10_000
    assert session.readings.count() == 500


def test_T28_only_the_stop_was_heard(world, charger):
    """Only a stop, with data, of a transaction whose start was lost: answered, kept for a person with what it said."""
    data = [{"timestamp": stamp(), "sampledValue": [{"value": "4000"}]}]
    assert charger.stop(4711, meter_wh=4000, transactionData=data) == {}
    kept = AuditEntry.objects.get(action="session.orphan_stop")
    assert kept.after["meter_stop_wh"] == 4000
    assert "4711" in world.frames(world.network.kaveri_charger, "StopTransaction", "IN")[0].text


def test_T29_available_without_a_stop(world, charger, card):
    """Available and no stop in time: ended at the last reading; a stop that comes later is a correction, not a second bill."""
    number = transaction(charger)
    charger.meter(1, number, register_wh=1500, power_w=30_000)
    charger.status(1, "Available")
    world.pass_time(60)
    world.work("sessions.timeout")
    assert world.session().live
    world.pass_time(300)
    charger.call("Heartbeat")
    world.work("sessions.timeout")
    session = ended(world)
    assert (session.energy_wh, "inferred" in session.flags) == (500, True)
    charger.stop(number, meter_wh=1700)
    after = world.session()
    assert (after.energy_wh, after.reported_wh, "late" in after.flags) == (500, 700, True)
    assert AuditEntry.objects.filter(action="session.late_stop").count() == 1


def test_T30_silence(world, charger, card):
    """Nothing of a session for hours: ended as inferred; readings that come later are kept as late."""
    number = transaction(charger)
    charger.meter(1, number, register_wh=1500, power_w=30_000)
    world.pass_time(3 * 3600 + 10)
    charger.call("Heartbeat")
    world.work("sessions.timeout")
    session = ended(world)
    assert "inferred" in session.flags
    charger.meter(1, number, register_wh=1600, power_w=30_000, at=clock.now())
    session.refresh_from_db()
    assert (session.energy_wh, session.readings.filter(late=True).count()) == (500, 1)


def test_TC_024_T33_a_lock_that_fails(world, charger):
    """ConnectorLockFailure is shown as a fault; there is no transaction."""
    charger.status(1, "Faulted", "ConnectorLockFailure")
    connector = Connector.objects.get(pk=world.network.kaveri_connector.pk)
    assert (connector.status, connector.error_code) == ("Faulted", "ConnectorLockFailure")
    assert not ChargingSession.objects.exists()


def test_T34_out_of_order(world, charger, card):
    """Readings and a stop before the start they belong to: all answered; the start makes the transaction."""
    charger.meter(1, 55, register_wh=1100)
    assert charger.stop(55, meter_wh=1500) == {}
    number = transaction(charger)
    assert world.session(transaction_id=str(number)).live


def test_T35_an_odometer_for_a_session(world, charger, card):
    """A register that jumps by 910 kWh in five minutes is not energy: it is marked and not charged."""
    number = transaction(charger, meter_wh=0)
    world.pass_time(300)
    charger.meter(1, number, register_wh=910_000, power_w=7000, at=clock.now())
    charger.stop(number, meter_wh=910_100, at=clock.now())
    session = ended(world)
    assert session.energy_wh < 10_000
    assert "suspect" in session.flags
    assert session.reported_wh == 910_100
