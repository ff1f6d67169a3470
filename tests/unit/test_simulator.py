"""The simulated charger lives: sessions, bad lines and bad days, cars, and what people write down (see tests/simulated.py)."""

import itertools
import json

import pytest

from csms.simulator import faults, fleet, profiles, script
from csms.simulator.car import Car
from csms.simulator.charger import Habits
from tests.simulated import CALM, register_wh, remote_start, world


# -- a session as it should be -----------------------------------------------------------------------------------
def test_it_boots_first_and_then_tells_its_statuses():
    place = world()
    assert [name for name, _ in place.said] == ["BootNotification", "StatusNotification", "StatusNotification"]
    assert place.calls("BootNotification")[0]["chargePointVendor"] == "Voltaro"
    assert [payload["connectorId"] for payload in place.calls("StatusNotification")] == [0, 1]


def test_a_remote_start_brings_a_car_a_transaction_and_readings_until_the_remote_stop():
    place = world()
    place.wait(1)
    assert remote_start(place).payload == {"status": "Accepted"}
    place.wait(30)
    started = place.calls("StartTransaction")[0]
    assert (started["connectorId"], started["idTag"]) == (1, "A1B2C3D4E5F60718")
    assert place.statuses() == ["Available", "Preparing", "Charging"]
    order = [name for name, _ in place.said]
    assert order.index("StartTransaction") < order.index("MeterValues")

    readings = place.calls("MeterValues")
    assert 10 <= len(readings) <= 16  # every two seconds since the car came
    assert {reading["transactionId"] for reading in readings} == {7}
    assert {s["measurand"] for s in readings[-1]["meterValue"][0]["sampledValue"]} == {
        "Energy.Active.Import.Register", "Power.Active.Import", "Current.Import", "Voltage", "SoC", "Temperature",
    }  # fmt: skip
    registers = [register_wh(reading) for reading in readings]
    assert registers == sorted(registers) and registers[-1] - started["meterStart"] > 100

    assert place.ask("RemoteStopTransaction", {"transactionId": 7}).payload == {"status": "Accepted"}
    place.wait(2)
    stopped = place.calls("StopTransaction")[0]
    assert (stopped["transactionId"], stopped["reason"]) == (7, "Remote")
    assert stopped["meterStop"] >= registers[-1]
    place.wait(15)
    assert place.statuses() == ["Available", "Preparing", "Charging", "Finishing", "Available"]


def test_a_fast_charger_delivers_what_its_power_allows_and_no_more():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now, Car(60_000, 0.2, 120_000))
    remote_start(place)
    place.wait(60)
    taken_wh = register_wh(place.calls("MeterValues")[-1]) - place.calls("StartTransaction")[0]["meterStart"]
    assert 800 < taken_wh <= 1_000  # 60 kW for a minute is 1 kWh; the ramp costs some


def test_a_socket_never_says_preparing_and_has_no_state_of_charge():
    place = world("socket", 3)
    remote_start(place)
    place.wait(30)
    assert place.statuses() == ["Available", "Charging"]
    assert not any(s["measurand"] == "SoC" for s in place.calls("MeterValues")[-1]["meterValue"][0]["sampledValue"])
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(5)
    assert place.statuses() == ["Available", "Charging", "Available"]


def test_when_the_car_is_full_it_pauses_and_drives_away():
    place = world()
    remote_start(place)
    place.charger.plug_in(1, place.now, Car(30_000, 0.998, 50_000))
    place.wait(120)
    assert place.statuses()[:4] == ["Available", "Preparing", "Charging", "SuspendedEV"]
    assert place.calls("StopTransaction")[0]["reason"] == "EVDisconnected"
    assert place.statuses()[-1] == "Available"


def test_nobody_comes_and_the_start_is_forgotten():
    place = world(habits=CALM)
    remote_start(place)
    place.wait(30)
    assert place.statuses()[-1] == "Preparing"
    place.wait(40)
    assert place.statuses()[-1] == "Available" and not place.calls("StartTransaction")


def test_a_card_starts_and_the_same_card_stops():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now)
    place.charger.swipe(1, "04A1B2C3", place.now)
    place.wait(5)
    place.charger.swipe(1, "SOMEONE ELSE", place.now)
    place.wait(1)
    assert not place.calls("StopTransaction")
    place.charger.swipe(1, "04A1B2C3", place.now)
    place.wait(1)
    assert [place.calls(name)[0]["idTag"] for name in ("Authorize", "StartTransaction", "StopTransaction")] == ["04A1B2C3"] * 3


def test_an_unwelcome_tag_ends_at_once():
    place = world(habits=CALM)
    place._reply = lambda frame: {"transactionId": 9, "idTagInfo": {"status": "Invalid"}}  # type: ignore[method-assign]
    place.charger.plug_in(1, place.now)
    remote_start(place)
    place.wait(2)
    assert place.calls("StopTransaction")[0] | {"timestamp": ""} == {
        "transactionId": 9, "meterStop": place.calls("StartTransaction")[0]["meterStart"], "timestamp": "", "reason": "DeAuthorized",
    }  # fmt: skip


def test_a_stop_can_carry_its_transaction_data():
    place = world(habits=Habits(transaction_data=True))
    remote_start(place)
    place.wait(20)
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(2)
    data = place.calls("StopTransaction")[0]["transactionData"]
    assert [entry["sampledValue"][0]["context"] for entry in data] == ["Transaction.Begin", "Transaction.End"]


def test_the_same_seed_lives_the_same_life():
    lives = []
    for _ in range(2):
        place = world(faults=frozenset({"duplicate", "wrong_meter"}))
        remote_start(place)
        place.wait(40)
        lives.append(place.said)
    assert lives[0] == lives[1]


# -- bad lines and bad days ----------------------------------------------------------------------------------------
def test_readings_taken_without_a_line_are_said_later_in_their_order_and_without_a_boot():
    place = world()
    remote_start(place)
    place.wait(20)
    place.disconnect()
    heard = len(place.calls("MeterValues"))
    place.wait(20)
    assert len(place.calls("MeterValues")) == heard
    place.connect()
    place.wait(1)
    times = [reading["meterValue"][0]["timestamp"] for reading in place.calls("MeterValues")]
    assert len(times) >= heard + 9 and times == sorted(times)
    assert len(place.calls("BootNotification")) == 1


def test_a_start_that_nobody_answered_is_said_again_word_for_word_on_the_next_line():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now)
    place.silent = {"StartTransaction"}
    remote_start(place)
    place.wait(8)
    place.disconnect()
    place.silent = set()
    place.connect()
    place.wait(3)
    first, second = place.calls("StartTransaction")
    assert first == second
    assert {reading["transactionId"] for reading in place.calls("MeterValues")} == {7}


def test_a_refused_stop_is_tried_three_times_and_then_the_rest_goes_on():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now)
    remote_start(place)
    place.wait(10)
    place.refused = {"StopTransaction"}
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(60)
    assert len(place.calls("StopTransaction")) == 3
    assert any("gave up" in note for note in place.charger.notes)
    place.refused = set()
    place.charger.unplug(1, place.now)
    place.charger.plug_in(1, place.now)
    remote_start(place)
    place.wait(5)
    assert len(place.calls("StartTransaction")) == 2


def test_the_line_drops_when_asked_for_and_the_charger_comes_back():
    place = world(faults=frozenset({"drop"}), faults_every_s=5)
    remote_start(place)
    while place.charger.away_until is None:
        place.wait(0.5)
    assert place.charger.away_until > place.now
    place.disconnect()
    place.connect()
    assert place.charger.away_until is None


def test_a_charger_that_restarts_boots_and_then_tells_what_it_had_to_end():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now)
    remote_start(place)
    place.wait(10)
    place.charger.restart(place.now, keeps_transactions=False, why="restarts")
    place.disconnect()
    place.wait(5)
    place.said.clear()
    place.connect()
    place.wait(2)
    assert place.said[0][0] == "BootNotification"
    assert place.calls("StopTransaction")[0]["reason"] == "PowerLoss"


def test_duplicates_are_said_twice_and_change_nothing_for_the_charger():
    place = world(faults=frozenset({"duplicate"}))
    remote_start(place)
    place.wait(30)
    said = [json.dumps(reading) for reading in place.calls("MeterValues")]
    assert len(said) > len(set(said))
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(3)
    assert {stop["transactionId"] for stop in place.calls("StopTransaction")} == {7}


@pytest.mark.parametrize(
    ("fault", "stops_after_10_s", "stops_after_60_s"), [("late_stop", False, True), ("ignore_remote_stop", False, False)]
)
def test_a_remote_stop_may_be_accepted_and_not_obeyed(fault, stops_after_10_s, stops_after_60_s):
    place = world(faults=frozenset({fault}), habits=CALM)
    place.charger.plug_in(1, place.now, Car(72_000, 0.1, 60_000))
    remote_start(place)
    place.wait(10)
    assert place.ask("RemoteStopTransaction", {"transactionId": 7}).payload == {"status": "Accepted"}
    place.wait(10)
    assert bool(place.calls("StopTransaction")) is stops_after_10_s
    place.wait(50)
    assert bool(place.calls("StopTransaction")) is stops_after_60_s


def test_a_wrong_meter_is_wrong_in_samples_only():
    place = world(faults=frozenset({"wrong_meter"}), habits=CALM)
    place.charger.plug_in(1, place.now, Car(72_000, 0.1, 60_000))
    remote_start(place)
    place.wait(120)
    registers = [register_wh(reading) for reading in place.calls("MeterValues")]
    assert registers != sorted(registers)
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(2)
    assert 0 < place.calls("StopTransaction")[0]["meterStop"] - place.calls("StartTransaction")[0]["meterStart"] < 2_100


def test_a_slept_machine_does_not_charge_for_the_time_it_slept():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now, Car(72_000, 0.1, 60_000))
    remote_start(place)
    place.wait(10)
    before = place.charger.outlets[0].meter_wh
    place.wait(3600, step_s=3600)
    assert place.charger.outlets[0].meter_wh - before <= 60_000 * 30 / 3600


# -- what it answers ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("action", "payload", "answer"),
    [
        ("RemoteStartTransaction", {"connectorId": 9, "idTag": "X"}, {"status": "Rejected"}),
        ("RemoteStopTransaction", {"transactionId": 99}, {"status": "Rejected"}),
        ("UnlockConnector", {"connectorId": 1}, {"status": "NotSupported"}),
        ("ChangeAvailability", {"connectorId": 0, "type": "Inoperative"}, {"status": "Accepted"}),
        ("ChangeAvailability", {"connectorId": 5, "type": "Inoperative"}, {"status": "Rejected"}),
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "120"}, {"status": "Accepted"}),
        ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "soon"}, {"status": "Rejected"}),
        ("ChangeConfiguration", {"key": "NumberOfConnectors", "value": "2"}, {"status": "Rejected"}),
        ("ChangeConfiguration", {"key": "Colour", "value": "green"}, {"status": "NotSupported"}),
        ("ClearCache", {}, {"status": "Accepted"}),
        ("TriggerMessage", {"requestedMessage": "Heartbeat"}, {"status": "Accepted"}),
        ("TriggerMessage", {"requestedMessage": "Poem"}, {"status": "NotImplemented"}),
        ("DataTransfer", {"vendorId": "x"}, {"status": "UnknownVendorId"}),
        ("GetLocalListVersion", {}, {"listVersion": 0}),
        ("ReserveNow", {"connectorId": 1, "reservationId": 3, "idTag": "T", "expiryDate": "2026-11-21T10:00:00Z"}, {"status": "Accepted"}),
        ("CancelReservation", {"reservationId": 3}, {"status": "Rejected"}),
        ("ClearChargingProfile", {}, {"status": "Unknown"}),
        ("Reset", {"type": "Soft"}, {"status": "Accepted"}),
    ],
)
def test_it_answers_the_servers_calls(action, payload, answer):
    assert world(habits=CALM).ask(action, payload).payload == answer


def test_an_unknown_call_is_not_implemented_and_a_broken_one_says_what_is_missing():
    place = world()
    assert place.ask("ObeyAtOnce").code == "NotImplemented"
    broken = place.ask("RemoteStopTransaction", {})
    assert (broken.code, "transactionId" in broken.description) == ("OccurenceConstraintViolation", True)


def test_configuration_can_be_read_in_part_and_a_changed_interval_is_used():
    place = world(habits=CALM)
    read = place.ask("GetConfiguration", {"key": ["metervaluesampleinterval", "Colour"]}).payload
    assert read == {
        "configurationKey": [{"key": "MeterValueSampleInterval", "readonly": False, "value": "2"}],
        "unknownKey": ["Colour"],
    }
    place.ask("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "20"})
    place.charger.plug_in(1, place.now)
    remote_start(place)
    place.wait(45)
    assert len(place.calls("MeterValues")) == 2


def test_a_second_start_is_rejected_while_the_first_runs():
    place = world()
    remote_start(place)
    assert remote_start(place, "B000").payload == {"status": "Rejected"}
    place.wait(10)
    assert remote_start(place, "B000").payload == {"status": "Rejected"}


def test_a_reset_ends_the_transaction_says_so_and_restarts():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now)
    remote_start(place)
    place.wait(10)
    place.ask("Reset", {"type": "Hard"})
    place.wait(2)
    assert place.calls("StopTransaction")[0]["reason"] == "HardReset"
    assert place.charger.away_until and not place.charger.registered


# -- cars ----------------------------------------------------------------------------------------------------------
def test_power_rises_slowly_tapers_above_eighty_percent_and_ends_at_full():
    car = Car(40_000, 0.78, 50_000, ramp_w_per_s=5_000)
    powers, taken_wh = [], 0.0
    for _ in range(4_000):
        taken_wh += car.take(1, 60_000)
        powers.append((car.charge, car.power_w))
    assert powers[0][1] == 5_000
    assert max(power for _, power in powers) <= 50_000
    tapering = [power for charge, power in powers if charge > 0.82]
    assert all(later <= earlier for earlier, later in itertools.pairwise(tapering))
    assert car.full and car.power_w == 0
    assert taken_wh * car.efficiency == pytest.approx((car.charge - 0.78) * 40_000)


@pytest.mark.parametrize(("type", "kw", "phases", "volts"), [("socket", 16, 1, 230), ("type2", 7, 1, 230), ("type2", 22, 3, 230)])
def test_amps_follow_from_power_and_phases(type, kw, phases, volts):
    plug = profiles.plug(type, kw * 1000)
    car = Car(40_000, 0.5, 99_000, power_w=3_000)
    assert plug.volts_and_amps(car) == (volts, pytest.approx(3_000 / volts / phases))
    assert profiles.plug("socket", 16_000).max_power_w == 3_450


# -- what people write down ----------------------------------------------------------------------------------------
def test_a_script_is_read_in_the_order_of_its_times():
    deeds = script.read("# a day\n20 VLT-1 unplug 1\n5 VLT-1 plug 1  # morning\n\n30 * quit\n")
    assert [(deed.at_s, deed.name, deed.arguments) for deed in deeds] == [(5, "plug", ("1",)), (20, "unplug", ("1",)), (30, "quit", ())]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("5 VLT-1 dance", "no such deed: dance"),
        ("5 VLT-1 plug", "takes 1"),
        ("5 VLT-1 plug 1 2", "takes 1"),
        ("5 VLT-1 fault 1", "takes 2 to 4"),
        ("soon VLT-1 reboot", "line 1"),
        ("5 VLT-1 say Heartbeat {", "line 1"),
    ],
)
def test_a_bad_script_says_which_line(line, complaint):
    with pytest.raises(ValueError, match=complaint):
        script.read(line)


def test_a_script_provokes_what_a_charger_can_say():
    place = world(habits=CALM)
    lines = """
    1 * fault 1 GroundFailure E12 earth is wet  # after the rain
    2 * clear 1
    3 * warn 1 HighTemperature
    4 * event TamperDetectionActivated the door is open
    5 * signal 21 3
    6 * certificate
    7 * answer ClearCache Rejected
    8 * say DataTransfer {"vendorId": "Acme", "data": "#1 of 2"}
    9 * lock 1 broken
    """
    for deed in script.read(lines):
        place.wait(1)
        script.play(deed, place.charger, place.now)
    place.wait(1)
    told = [(one["status"], one["errorCode"], one.get("info", "")) for one in place.calls("StatusNotification")[2:]]
    assert told == [("Faulted", "GroundFailure", "earth is wet"), ("Available", "NoError", ""), ("Available", "HighTemperature", "")]
    assert place.calls("SecurityEventNotification")[0]["techInfo"] == "the door is open"
    assert (place.sent("SignalQuality")[0]["rssi"], place.sent("SignalQuality")[0]["ber"]) == (21, 3)
    assert place.calls("SignCertificate") and place.calls("DataTransfer")[-1] == {"vendorId": "Acme", "data": "#1 of 2"}
    assert place.ask("ClearCache").payload == {"status": "Rejected"}
    assert place.charger.outlets[0].lock_broken


def test_a_fault_that_does_not_exist_is_named():
    assert faults.parse("drop, reboot") == {"drop", "reboot"}
    with pytest.raises(ValueError, match="no such fault: fire"):
        faults.parse("drop,fire")


def test_the_fleet_file_is_read_in_both_forms_and_keeps_a_new_key(tmp_path):
    path = tmp_path / "fleet.json"
    connector = {"type": "type2", "max_power_w": 22_000, "qr_id": "qr_1"}
    fleet.write_file(path, {"A": "key-of-a", "B": {"key": "key-of-b", "connectors": [connector], "reserved": True}})
    assert path.stat().st_mode & 0o777 == 0o600
    fleet.write_key(path, "B", "new-key-of-b")
    members = fleet.read_file(path)
    assert (members["A"].key, members["B"].key, members["B"].reserved) == ("key-of-a", "new-key-of-b", True)
    path.write_text("[1]")
    with pytest.raises(ValueError, match="not a fleet file"):
        fleet.read_file(path)
