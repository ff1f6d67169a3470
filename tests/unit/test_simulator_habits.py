"""Strange chargers and vendors' own messages: each does what its name says, and otherwise charges like any other."""

import json

import pytest

from csms.simulator import habits, wire
from csms.simulator.car import Car
from csms.simulator.habits import STRANGE, Habits
from tests.simulated import CALM, World, charging, remote_start, strange, world


def lived(*names: str) -> World:
    """A charger with these habits boots, charges for a while, has a warning, is asked things, and stops."""
    place = world(habits=strange(*names))
    place.wait(2)
    charging_with(place)
    place.charger.trouble(1, "OtherError", place.now, warning=True)
    place.wait(40)
    place.ask("ClearCache")
    place.ask("ObeyAtOnce")
    place.ask("RemoteStopTransaction", {"transactionId": place.charger.outlets[0].transaction.id})
    place.wait(5)
    return place


def charging_with(place: World) -> None:
    place.charger.plug_in(1, place.now, Car(72_000, 0.1, 50_000))
    remote_start(place)
    place.wait(10)
    assert place.charger.outlets[0].transaction


def raw(place: World, action: str) -> list[str]:
    return [text for text in place.raw if f'"{action}"' in text]


def first(place: World, action: str) -> dict:
    return place.calls(action)[0]


def sample(place: World) -> dict:
    reading = first(place, "MeterValues")["meterValue"]
    values = (reading[0] if isinstance(reading, list) else reading)["sampledValue"]
    return values[0] if isinstance(values, list) else values


PROOFS = {
    "chatty_modem": lambda place: any(text.strip() in ("AT+CSQ", "OK", "RING", "+CSQ: 22,99") for text in place.raw),
    "never_boots": lambda place: not place.calls("BootNotification") and place.calls("StopTransaction"),
    "null_payload": lambda place: any(text.endswith(',"Heartbeat",null]') for text in place.raw),
    "broken_json": lambda place: raw(place, "MeterValues") and all('"transactionId":}' in text for text in raw(place, "MeterValues")),
    "string_numbers": lambda place: isinstance(first(place, "StartTransaction")["meterStart"], str),
    "number_values": lambda place: isinstance(sample(place)["value"], float),
    "objects_for_lists": lambda place: isinstance(first(place, "MeterValues")["meterValue"], dict),
    "extra_fields": lambda place: all("vendorSpare" in payload for _, payload in place.said),
    "unknown_words": lambda place: {"Celcius", "Error", "Power.Active.Import.L1"} <= words(place),
    "long_words": lambda place: len(first(place, "BootNotification")["chargePointSerialNumber"]) > 25,
    "no_vendor": lambda place: first(place, "BootNotification")["chargePointVendor"] == "",
    "control_bytes": lambda place: first(place, "StartTransaction")["idTag"].endswith("\x10\x0e"),
    "bare_answers": lambda place: all(answer.payload == {} for answer in place.answers if answer.kind == wire.RESULT),
    "short_errors": lambda place: any(json.loads(text)[0] == 4 and len(json.loads(text)) == 3 for text in place.raw),
    "local_time": lambda place: first(place, "StartTransaction")["timestamp"] == "2026-11-21T14:30:02",
    "unset_clock": lambda place: first(place, "StartTransaction")["timestamp"].startswith("2000-01-01T09:00:02"),
    "transaction_zero": lambda place: {one["transactionId"] for name in habits.ABOUT_RUNNING for one in place.calls(name)} == {0},
    "unknown_stop": lambda place: first(place, "StopTransaction")["transactionId"] == -1,
    "starts_twice": lambda place: twice(raw(place, "StartTransaction")),
    "never_stops": lambda place: not place.calls("StopTransaction") and place.charger.outlets[0].transaction is None,
    "app_stop": lambda place: first(place, "StopTransaction")["reason"] == "AppStop",
    "ignores_remote_stop": lambda place: not place.calls("StopTransaction") and place.answers[-1].payload == {"status": "Accepted"},
    "kwh_in_wh": lambda place: float(sample(place)["value"]) * 999 < place.charger.outlets[0].meter_wh and sample(place)["unit"] == "Wh",
    "session_register": lambda place: first(place, "StartTransaction")["meterStart"] == 0,
}
# Proved by a story of their own: below, in test_simulator_files.py, test_simulator_security.py or test_fleet.py.
ELSEWHERE = {
    "no_subprotocol", "key_as_bytes", "boots_always", "never_answers", "bad_flash", "rolls_back", "key_after_reboot",
    "last_meter_value", "post_boot_state", "session_limit",
}  # fmt: skip


def words(place: World) -> set[str]:
    return {
        word
        for word in ("Celcius", "Error", "Power.Active.Import.L1")
        if any(f'"{word}"' in text for text in place.raw)
    }  # fmt: skip


def twice(texts: list[str]) -> bool:
    said = [json.loads(text) for text in texts]
    return len(said) == 2 and said[0][1] != said[1][1] and said[0][2:] == said[1][2:]


def test_every_habit_is_proved():
    assert set(PROOFS) | ELSEWHERE == set(STRANGE) and not set(PROOFS) & ELSEWHERE


@pytest.mark.parametrize("name", PROOFS)
def test_a_strange_charger_does_what_its_name_says_and_a_normal_one_does_not(name):
    assert PROOFS[name](lived(name))
    assert not PROOFS[name](lived())


def test_all_that_bends_frames_can_be_had_together():
    bending = sorted(name for name, one in STRANGE.items() if one.bend and name != "never_answers")
    place = lived(*bending)
    assert len(place.raw) > 30


def test_a_charger_that_never_answers_still_talks():
    place = world(habits=strange("never_answers"))
    place.charger.heard(wire.call("x", "ClearCache", {}), place.now)
    place.wait(70)
    assert not place.answers and place.calls("Heartbeat")


def test_some_boot_whenever_the_line_is_back():
    for names, boots in ((("boots_always",), 2), ((), 1)):
        place = world(habits=strange(*names))
        charging(place)
        place.disconnect()
        place.connect()
        place.wait(2)
        assert len(place.calls("BootNotification")) == boots and place.charger.outlets[0].transaction


def test_a_habit_that_does_not_exist_is_named():
    assert habits.parse(["app_stop, no_vendor", "local_time"]) == {"app_stop", "no_vendor", "local_time"}
    with pytest.raises(ValueError, match="no such habit: singing"):
        habits.parse(["app_stop,singing"])


# -- signal quality ------------------------------------------------------------------------------------------------
def test_signal_quality_comes_every_few_minutes():
    place = world(habits=strange(signal_every_s=120))
    place.wait(600, step_s=5)
    told = place.sent("SignalQuality")
    assert 4 <= len(told) <= 6
    assert all(0 <= one["rssi"] <= 31 or one["rssi"] == 99 for one in told) and {one["ber"] for one in told} == {99}
    assert all(float(one["timestamp"]) > 0 for one in told)
    assert not lived().calls("DataTransfer")


# -- going on after a reboot ---------------------------------------------------------------------------------------
def blink(place: World) -> int:
    """It reboots in the middle of a transaction; the meter then."""
    charging_with(place)
    place.charger.restart(place.now, keeps_transactions=True, why="blinks")
    place.reboots()
    return place.charger.outlets[0].meter_wh


def say(place: World, message: str, **data) -> str:
    return place.status_of("DataTransfer", {"vendorId": "VoltLync", "messageId": message, "data": json.dumps(data)})


def test_after_a_reboot_in_a_transaction_it_asks_and_goes_on():
    place = world(habits=strange("last_meter_value"))
    place.replies["DataTransfer"] = {"status": "Accepted", "data": "{}"}
    meter_wh = blink(place)
    assert place.sent("GetLastMeterValue") == [{"transactionId": 7}]
    place.wait(20)
    assert place.charger.outlets[0].meter_wh > meter_wh and not place.calls("StopTransaction")


def test_what_the_server_knows_nothing_of_is_over():
    place = world(habits=strange("last_meter_value"))
    place.replies["DataTransfer"] = {"status": "Rejected"}
    blink(place)
    place.wait(5)
    stop = place.calls("StopTransaction")[0]
    assert (stop["transactionId"], stop["reason"]) == (7, "PowerLoss")


def test_a_server_without_the_message_has_no_opinion():
    place = world(habits=strange("last_meter_value"))
    place.replies["DataTransfer"] = {"status": "UnknownVendorId"}
    meter_wh = blink(place)
    place.wait(20)
    assert place.charger.outlets[0].meter_wh > meter_wh


@pytest.mark.parametrize("goes_on", [True, False])
def test_after_a_reboot_it_can_be_told(goes_on):
    place = world(habits=strange("post_boot_state"))
    meter_wh = blink(place)
    place.wait(5)
    assert place.charger.outlets[0].meter_wh == meter_wh  # it waits
    said = {"hasPendingTransaction": True, "transactionId": 7} if goes_on else {"hasPendingTransaction": False, "lastMeterValueWh": 5}
    assert say(place, "PostBootState", **said) == "Accepted"
    place.wait(20)
    assert (place.charger.outlets[0].meter_wh > meter_wh) is goes_on
    assert bool(place.calls("StopTransaction")) is not goes_on
    assert not place.sent("GetLastMeterValue")


def test_told_nothing_for_a_while_it_asks():
    place = world(habits=strange("post_boot_state"))
    blink(place)
    place.wait(10)
    assert not place.sent("GetLastMeterValue")
    place.wait(10)
    assert place.sent("GetLastMeterValue") == [{"transactionId": 7}]


def test_without_such_habits_what_ran_simply_goes_on():
    place = world(habits=CALM)
    meter_wh = blink(place)
    place.wait(10)
    assert place.charger.outlets[0].meter_wh > meter_wh and not place.calls("DataTransfer")


# -- a limit -------------------------------------------------------------------------------------------------------
def test_it_keeps_to_a_session_limit_and_says_why_it_stopped():
    place = world(habits=strange("session_limit"))
    charging_with(place)
    assert say(place, "SessionLimit", transactionId=7, maxEnergy=9_000, maxCost=None, maxTime=None) == "Accepted"
    assert say(place, "SessionLimit", transactionId=7, maxEnergy=300, maxCost=None, maxTime=None) == "Accepted"  # said again
    place.wait(60)
    stop = place.calls("StopTransaction")[0]
    assert stop["meterStop"] - place.calls("StartTransaction")[0]["meterStart"] in (299, 300) and stop["reason"] == "Local"
    assert place.sent("StopDetail") == [{"transactionId": 7, "reason": "SessionLimit"}]
    names = [name for name, _ in place.said]
    assert names.index("StopTransaction") < names.index("DataTransfer")


def test_a_limit_can_be_a_time():
    place = world(habits=strange("session_limit"))
    charging_with(place)
    say(place, "SessionLimit", transactionId=7, maxEnergy=None, maxTime=30)
    place.wait(15)
    assert not place.calls("StopTransaction")
    place.wait(10)
    assert place.sent("StopDetail")


@pytest.mark.parametrize(
    ("names", "message", "data", "answer"),
    [
        (("session_limit",), "SessionLimit", '{"transactionId": 99, "maxEnergy": 1}', "Rejected"),
        (("session_limit",), "SessionLimit", '{"transactionId": 7, "maxEnergy": "much"}', "Rejected"),
        (("session_limit",), "SessionLimit", "not json", "Rejected"),
        (("session_limit",), "SessionLimit", "[7]", "Rejected"),
        (("session_limit",), "PostBootState", "{}", "UnknownMessageId"),
        (("post_boot_state",), "SessionLimit", "{}", "UnknownMessageId"),
        (("post_boot_state",), "Poem", "{}", "UnknownMessageId"),
        ((), "SessionLimit", "{}", "UnknownVendorId"),
    ],
)
def test_what_it_does_not_know_it_says_so(names, message, data, answer):
    place = world(habits=strange(*names))
    charging_with(place)
    assert place.status_of("DataTransfer", {"vendorId": "VOLTLYNC", "messageId": message, "data": data}) == answer
    assert place.status_of("DataTransfer", {"vendorId": "Somebody", "messageId": message, "data": data}) == "UnknownVendorId"


def test_with_signal_quality_alone_the_vendor_is_known_and_its_limits_are_not():
    place = world(habits=Habits(signal_every_s=60))
    assert say(place, "SessionLimit", transactionId=7, maxEnergy=1) == "UnknownMessageId"
