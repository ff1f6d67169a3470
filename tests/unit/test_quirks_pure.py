"""What real chargers do, by the numbers of docs/quirks.md: the part without a database."""

import json
import re
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from csms import frames, ocpp16, timestamps
from csms.repair import repair
from csms.rules import clock as clocks
from csms.rules import configuration as keys
from csms.rules import habits
from csms.rules import session as rule
from csms.rules.habits import STANDARD, Habits, Known
from csms.rules.meter import begin

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = "2026-03-01T11:59:00Z"
BOOT = {"chargePointVendor": "Acme", "chargePointModel": "Fast"}
STATUS = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}


def fixed(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    done = repair("1.6", action, payload)
    assert done.notes or done.payload == payload, "what was changed is said"
    return done.payload


def reading(*samples: dict[str, Any], of: Habits = STANDARD, timestamp: str = AT):
    payload = {"connectorId": 1, "meterValue": [{"timestamp": timestamp, "sampledValue": list(samples)}]}
    found = ocpp16.read_meter_values(fixed("MeterValues", payload), NOW, of).readings
    return found[0] if found else None


def phased(measurand: str, unit: str = "W", **values: str) -> list[dict[str, Any]]:
    return [{"measurand": measurand, "unit": unit, "phase": name.replace("_", "-"), "value": value} for name, value in values.items()]


# -- frames ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "raw",
    [
        '[2,"1","MeterValues",{"connectorId":1,"transactionId":,"meterValue":[]}]',
        '[2,"1","MeterValues",{"connectorId":1,"transactionId":null,"meterValue":[],}]',
        '[2,"1","MeterValues",{"connectorId":1,"transactionId":null,"meterValue":[]',
        '[2,"1","MeterValues",{"connectorId":1,"transactionId":null,"meterValue":[]}]]',
        '[2,"1","MeterValues",{"connectorId":1,"transactionId":null,"meterValue":[]}]\x00',
    ],
)
def test_Q22_broken_json_that_can_be_understood_is(raw):
    found = frames.read(raw.encode())
    assert isinstance(found, frames.Frame) and found.notes
    assert found.payload == {"connectorId": 1, "transactionId": None, "meterValue": []}


def test_Q22_an_answer_cut_off_is_read():
    assert frames.read(b'[3,"7",{"configurationKey":[]').payload == {"configurationKey": []}


@pytest.mark.parametrize("tag", ["04A2B3C4D5E6F708091\\u0000", "04A2B3C4D5E6F708091\x00", "04A2B3C4D5E6F708091\x10\x0e"])
def test_Q23_control_characters_are_taken_out_of_every_text(tag):
    found = frames.read(f'[2,"1","Authorize",{{"idTag":"{tag}"}}]'.encode())
    assert fixed("Authorize", found.payload) == {"idTag": "04A2B3C4D5E6F708091"}


def test_Q24_garbage_behind_a_full_tag_is_cut_off():
    assert fixed("Authorize", {"idTag": "0123456789ABCDEF0123\x10\x0e??"}) == {"idTag": "0123456789ABCDEF0123"}


@pytest.mark.parametrize("raw", ['[2,"1","Heartbeat"]', '[2,"1","Heartbeat",null]'])
def test_Q25_no_payload_is_an_empty_one(raw):
    assert frames.read(raw.encode()).payload == {}


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_Q26_an_empty_optional_field_is_none(empty):
    assert fixed("StatusNotification", {**STATUS, "info": empty, "timestamp": empty}) == STATUS


def test_Q27_numbers_and_texts_change_places():
    stop = {"transactionId": "12", "meterStop": "123", "timestamp": AT}
    assert fixed("StopTransaction", stop) == {"transactionId": 12, "meterStop": 123, "timestamp": AT}
    assert fixed("StopTransaction", {**stop, "meterStop": 1.5})["meterStop"] == 1
    assert fixed("StatusNotification", {**STATUS, "connectorId": True}) == STATUS
    assert reading({"value": 41.5}).energy_wh == 41


def test_Q28_blanks_and_a_decimal_comma():
    assert reading({"value": "   3.2", "unit": "kWh"}).energy_wh == 3200
    assert reading({"value": "3,2", "unit": "kWh"}).energy_wh == 3200


def test_Q29_an_object_where_a_list_is_due():
    one = {"timestamp": AT, "sampledValue": {"value": "5"}}
    assert ocpp16.read_meter_values(fixed("MeterValues", {"connectorId": 1, "meterValue": one}), NOW).readings[0].energy_wh == 5


def test_Q30_a_sample_without_a_value_is_none_and_never_0():
    assert reading() is None and reading({"value": ""}) is None
    assert reading({"value": ""}, {"value": "7"}).energy_wh == 7


def test_Q31_fields_of_the_vendor_are_left_out():
    assert fixed("BootNotification", {**BOOT, "rssi": -67, "chargePointMac": "x"}) == BOOT


def test_Q32_what_is_too_long_is_cut():
    long = fixed("BootNotification", {**BOOT, "chargePointSerialNumber": "S" * 34, "chargePointModel": "M" * 30})
    assert (len(long["chargePointSerialNumber"]), len(long["chargePointModel"])) == (25, 20)
    assert len(fixed("StatusNotification", {**STATUS, "info": "User didn't disconnect" * 9})["info"]) == 50


def test_Q33_an_empty_vendor_is_unknown():
    assert (
        ocpp16.read_boot_notification(fixed("BootNotification", {"chargePointVendor": "", "chargePointModel": "X"}), NOW).vendor
        == "unknown"
    )


@pytest.mark.parametrize(
    ("given", "field", "read"),
    [
        ({**STATUS, "errorCode": "Error"}, "errorCode", "OtherError"),
        ({**STATUS, "errorCode": '"groundfailure"'}, "errorCode", "GroundFailure"),
        ({**STATUS, "status": "AVAILABLE "}, "status", "Available"),
    ],
)
def test_Q34_unknown_words_become_the_nearest_known(given, field, read):
    assert fixed("StatusNotification", given)[field] == read


def test_Q34_a_misspelt_unit_is_taken_as_it_is_meant():
    assert reading({"value": "21", "measurand": "Temperature", "unit": "celcius"}, {"value": "9"}).energy_wh == 9


@pytest.mark.parametrize(("raw", "kind"), [('["2","1","Heartbeat",{}]', 2), ('[1,"1","Heartbeat",{}]', 0), ('[7,"1",{}]', 0)])
def test_Q35_the_message_type_as_text_is_read_and_an_unknown_one_is_not_answered(raw, kind):
    found = frames.read(raw.encode())
    assert found.type == kind
    assert isinstance(found, frames.Frame) or found.code is None


@pytest.mark.parametrize("ident", [None, 7, "", "x" * 40, True])
def test_Q36_any_message_id_comes_back_as_it_was(ident):
    found = frames.read(json.dumps([2, ident, "Heartbeat", {}]).encode())
    assert json.loads(frames.result(found.id, {}))[1] == ident


def test_Q38_a_key_given_twice_and_a_frame_too_deep():
    assert frames.read(b'[2,"1","Heartbeat",{"a":1,"a":2}]').payload == {"a": 2}
    assert frames.read(b'[2,"1","Heartbeat",{"a":' + b"[" * 6000 + b"]" * 6000 + b"}]").code == "FormationViolation"


def test_Q39_a_modems_chatter_gets_no_answer():
    for noise in (b"AT+CSQ\r\n", b"+CME ERROR: 10", b"", b"RDY"):
        assert frames.read(noise).code is None


@pytest.mark.parametrize("between", ["", "\n", " ", "\x00", ", "])
def test_Q40_several_frames_in_one_message_are_taken_apart(between):
    one, two = '[2,"1","Heartbeat",{}]', '[2,"2","Authorize",{"idTag":"a][2"}]'
    assert frames.split(f"{one}{between}{two}{between}{one}".encode()) == [one.encode(), two.encode(), one.encode()]


def test_Q40_a_list_of_frames_is_taken_apart():
    assert [frames.read(one).id for one in frames.split(b'[[2,"1","Heartbeat",{}],[2,"2","Heartbeat",{}]]')] == ["1", "2"]


@pytest.mark.parametrize(
    "raw",
    [
        b'[2,"1","Heartbeat",{}]',
        b'[2,"1","DataTransfer",{"vendorId":"v","data":"] [2"}]',
        b'[2,"1","DataTransfer",{"vendorId":"v","data":"[[1],[2]]"}]',
        b"AT] [2",
        b'[2,"1","Heartbeat",{}] [2,"2"',
        b"",
        b"[[[[" * 9000,
        b"[" * 9000 + b"] [2",
    ],
)
def test_Q40_one_frame_stays_as_it_is(raw):
    found = frames.split(raw)
    assert b"".join(found) == raw.replace(b"] [2,", b"][2,") and all(frames.read(one) for one in found)


def test_Q40_the_first_part_of_a_frame_is_seen():
    assert frames.torn(b'[2,"1","MeterValues",{"connectorId":1,')
    assert not frames.torn(b'[2,"1","Heartbeat",{}]\x00\r\n') and not frames.torn(b"AT+CSQ")


@pytest.mark.parametrize("raw", ['[4,"1"]', '[4,"1","Odd"]', '[4,"1","Odd","words"]', '[4,"1","Odd",null,null]'])
def test_Q41_an_error_with_parts_missing_is_one(raw):
    found = frames.read(raw.encode())
    assert (found.type, found.id) == (4, "1") and found.code in ("GenericError", "Odd")


@pytest.mark.parametrize("code", ["FormationViolation", "FormatViolation", "OccurenceConstraintViolation", "OccurrenceConstraintViolation"])
def test_Q43_both_spellings_of_an_error_are_taken(code):
    assert frames.read(json.dumps([4, "1", code, "", {}]).encode()).code == code


# -- times -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "zone", "at"),
    [
        ("2026-03-01T17:29:00", "", NOW - timedelta(minutes=1)),  # as UTC it would be tomorrow's
        ("2026-03-01T11:59:00", "", NOW - timedelta(minutes=1)),
        ("2026-03-01T11:59:00", "local", NOW - timedelta(hours=5, minutes=31)),
        ("2026-03-01T17:29:00", "UTC", NOW + timedelta(hours=5, minutes=29)),
        ("2026-03-01T17:29:00Z", "local", NOW + timedelta(hours=5, minutes=29)),  # it says that it is UTC
        ("2026-03-01T17:29:00+05:30", "local", NOW - timedelta(minutes=1)),
        ("2026-03-01 17:29:00.000000", "", NOW - timedelta(minutes=1)),
        ("2026-03-09T17:29:00", "", datetime(2026, 3, 9, 17, 29, tzinfo=UTC)),  # neither fits
        ("0001-01-01T00:00:00", "local", datetime(1, 1, 1, tzinfo=UTC)),
        ("soon", "local", None),
    ],
)
def test_Q53_a_time_without_a_zone_is_the_stations_when_it_cannot_be_utc(text, zone, at):
    assert timestamps.read_at(text, NOW, zone) == at


def test_Q53_only_a_time_said_just_now_shows_the_zone():
    assert timestamps.zone_of("2026-03-01T17:30:10", NOW) == "local"
    assert timestamps.zone_of("2026-03-01T12:00:10", NOW) == "UTC"
    for other in ("2026-03-01T17:30:10Z", "2026-03-01T12:00:10Z", "2026-03-01T15:00:00", None):
        assert timestamps.zone_of(other, NOW) == ""


@pytest.mark.parametrize("text", ["1970-01-01T00:00:09Z", "0001-01-01T00:00:00Z", "2000-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_Q54_Q56_an_unset_clock_is_not_believed_and_shown_by_how_much_it_is_off(text):
    said = ocpp16.read_status_notification({**STATUS, "timestamp": text}, NOW)
    assert said.at is None and abs(said.clock_s) > 10**8


def test_Q55_local_time_sent_as_utc_is_seen_not_corrected():
    said = ocpp16.read_status_notification({**STATUS, "timestamp": "2026-03-01T17:30:00Z"}, NOW)
    assert (said.at, said.clock_s, said.naive) == (None, 19_800, "")
    said = ocpp16.read_status_notification({**STATUS, "timestamp": "2026-03-01T17:30:00"}, NOW)
    assert (said.at, said.clock_s, said.naive) == (NOW, 0, "local")


def test_Q57_we_write_times_that_every_charger_can_read():
    assert ocpp16.write_heartbeat(NOW.replace(microsecond=5)) == {"currentTime": "2026-03-01T12:00:00Z"}


# -- stops -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reason", ["AppStop", "Timeout", "EVDisconnect", "", "\x00Odd", 7])
def test_Q93_a_reason_nobody_knows_becomes_other(reason):
    stop = fixed("StopTransaction", {"transactionId": 1, "meterStop": 5, "timestamp": AT, "reason": reason})
    said = ocpp16.read_stop_transaction(stop, NOW, raw_reason=str(reason))
    assert said.reason == ("Other" if reason else "Local")
    assert said.reason_raw == str(reason)


# -- meters ------------------------------------------------------------------------------------------------------------
def test_Q98_energy_in_another_unit_than_it_says():
    kwh = Habits(energy_unit="kWh", power_unit="kW", register_unit="kWh")
    found = reading({"value": "12.5", "unit": "Wh"}, {"measurand": "Power.Active.Import", "value": "7.2", "unit": "W"}, of=kwh)
    assert (found.energy_wh, found.power_w) == (12_500, 7_200)
    assert reading({"value": "12500", "unit": "kWh"}, of=Habits(energy_unit="Wh")).energy_wh == 12_500
    stop = {"transactionId": 1, "meterStop": 5, "timestamp": AT}
    assert ocpp16.read_stop_transaction(stop, NOW, kwh).meter_stop_wh == 5_000
    assert ocpp16.read_start_transaction({"meterStart": 4}, NOW, kwh).meter_start_wh == 4_000


def test_Q97_a_start_that_is_a_placeholder_is_no_register_where_a_profile_says_so():
    assert ocpp16.read_start_transaction({"meterStart": 0}, NOW).meter_start_wh == 0
    assert ocpp16.read_start_transaction({"meterStart": 0}, NOW, Habits(start_register=False)).meter_start_wh is None


def test_Q110_a_bare_value_is_the_register_in_wh():
    assert reading({"value": "1200"}).energy_wh == 1200


@pytest.mark.parametrize(
    "measurand", ["Power.Active.Import.L1", '"Power.Active.Import.l1"', "Power.Active.Import-L1", "Power.Active.Import.L1-N"]
)
def test_Q111_a_phase_in_the_measurands_name_is_a_phase(measurand):
    others = phased("Power.Active.Import", L2="2000", L3="3000") if "-N" not in measurand else []
    found = reading({"value": "1000", "measurand": measurand}, *others)
    assert (found.power_w, found.energy_wh) == (6000 if others else 1000, None)


def test_Q111_a_measurand_nobody_knows_is_not_taken_for_the_register():
    assert reading({"value": "35", "measurand": "Cabinet.Humidity"}) is None
    assert reading({"value": "35", "measurand": "Cabinet.Humidity"}, {"value": "900"}).energy_wh == 900
    assert reading({"value": "0.9", "measurand": "power.factor"}, {"value": "900"}).energy_wh == 900


def test_Q112_phases_are_taken_together_once_and_never_the_neutral():
    assert reading(*phased("Energy.Active.Import.Register", "Wh", L1="10", L2="20", L3="30", N="7")).energy_wh == 60
    assert reading(*phased("Power.Active.Import", L1="10", L2="20", L3="30", L1_N="10", L2_N="20", L3_N="30")).power_w == 60
    assert reading(*phased("Voltage", "V", L1_N="230", L2_N="232", L3_N="234", L1_L2="400")).voltage_mv == 232_000
    assert reading(*phased("Current.Import", "A", L1="15", N="1")).current_ma == 15_000
    assert reading(*phased("Current.Import", "A", N="1"), {"value": "5"}).current_ma is None


def test_Q113_the_total_wins_over_its_phases():
    assert reading({"measurand": "Power.Active.Import", "value": "9000"}, *phased("Power.Active.Import", L1="1000")).power_w == 9000


@pytest.mark.parametrize(
    ("measurand", "value", "unit", "field", "read"),
    [
        ("Power.Active.Import", "7.2", "kW", "power_w", 7200),
        ("Power.Active.Import", "7200", "W", "power_w", 7200),
        ("Power.Active.Import", "0.0072", "MW", "power_w", 7200),
        ("Power.Active.Import", "7200000", "mW", "power_w", 7200),
        ("Current.Import", "16000", "mA", "current_ma", 16_000),
        ("Current.Import", "16", "Amp", "current_ma", 16_000),
        ("Voltage", "230000", "mV", "voltage_mv", 230_000),
        ("Energy.Active.Import.Register", "0.0125", "MWh", "energy_wh", 12_500),
        ("Energy.Active.Import.Register", "1.001", "kWh", "energy_wh", 1001),
        ("SoC", "55", "%", "soc_pct", 55),
    ],
)
def test_Q114_units_of_every_size(measurand, value, unit, field, read):
    assert getattr(reading({"measurand": measurand, "value": value, "unit": unit}), field) == read


@pytest.mark.parametrize("first", [0, 1])
def test_Q115_a_placeholder_or_the_supply_beside_the_value(first):
    for other in ({"context": "Transaction.Begin", "value": "0"}, {"location": "Inlet", "value": "999"}):
        pair = [other, {"value": "4200", "context": "Sample.Periodic", "location": "Outlet"}]
        assert reading(*pair[:: 1 if first else -1]).energy_wh == 4200
    assert reading({"location": "Inlet", "value": "999"}).energy_wh == 999


def test_Q119_a_batch_out_of_order_is_sorted_and_equal_times_stay():
    value = [{"timestamp": f"2026-03-01T11:5{n}:00Z", "sampledValue": [{"value": str(n)}]} for n in (3, 1, 1, 2)]
    found = ocpp16.read_meter_values({"connectorId": 1, "meterValue": value}, NOW).readings
    assert [one.energy_wh for one in found] == [1, 1, 2, 3]


def interval(minute: int, wh: int, **more: Any) -> rule.Measured:
    return rule.Measured(at=NOW + timedelta(minutes=minute), interval_wh=wh, **more)


def a_session(start_wh: int | None = 0) -> rule.Session:
    return rule.Session(rule.State.STARTED, begin(start_wh), 60_000, last_activity_at=NOW, metered_at=NOW, register_at=NOW)


def test_Q120_intervals_add_up_and_each_counts_once():
    session = a_session(1000)
    for event in (interval(5, 300), interval(5, 300), interval(10, 200), interval(3, 50)):
        session, _ = rule.step(session, event, NOW + timedelta(minutes=10))
    assert session.meter.energy_wh == 500 and session.flags == {"intervals"}
    session, _ = rule.step(session, rule.Stopped(at=NOW + timedelta(minutes=11), register_wh=1510), NOW + timedelta(minutes=11))
    assert session.meter.energy_wh == 510


def test_Q120_a_register_that_goes_on_from_the_start_says_it_better_than_intervals():
    """The clock-aligned interval of 12:00 to 12:15 holds what the car before took, too."""
    counted, _ = rule.step(replace(a_session(100_000), started_at=NOW, start_time=NOW), interval(5, 500), NOW + timedelta(minutes=5))
    assert counted.meter.energy_wh == 500
    told = rule.Measured(at=NOW + timedelta(minutes=6), register_wh=100_100)
    session, _ = rule.step(counted, told, NOW + timedelta(minutes=6))
    session, _ = rule.step(session, replace(told, at=NOW + timedelta(minutes=7), register_wh=100_200), NOW + timedelta(minutes=7))
    assert session.meter.energy_wh == 200 and not session.flags
    stop = rule.Stopped(at=NOW + timedelta(minutes=6), register_wh=100_100)
    ended, _ = rule.step(counted, stop, NOW + timedelta(minutes=6))
    assert (ended.meter.energy_wh, ended.reported_wh) == (100, 100) and not ended.flags
    for useless in (0, 99_000, 100_000, 90_000_000):
        ended, _ = rule.step(counted, replace(stop, register_wh=useless), NOW + timedelta(minutes=6))
        assert ended.meter.energy_wh == 500


def test_Q120_beside_registers_an_interval_says_nothing_new():
    session, _ = rule.step(a_session(), rule.Measured(at=NOW + timedelta(minutes=1), register_wh=400), NOW + timedelta(minutes=1))
    session, _ = rule.step(session, interval(5, 400), NOW + timedelta(minutes=5))
    assert session.meter.energy_wh == 400 and not session.flags
    found = reading({"value": "1500"}, {"value": "7", "measurand": "Energy.Active.Import.Interval"})
    assert (found.energy_wh, found.interval_wh) == (1500, None)
    assert reading({"value": "7", "measurand": "Energy.Active.Import.Interval"}).interval_wh == 7


def test_Q118_M16_a_battery_at_0_after_55_is_not_believed():
    session = a_session()
    for soc in (55, 0):
        session, _ = rule.step(session, rule.Measured(soc_pct=soc), NOW)
    assert session.soc_pct == 55


def test_Q123_signed_data_is_kept_as_it_came_and_never_counted():
    blob = {"format": "SignedData", "value": 'OCMF|{"RD":[{"RV":99999}]}|{"SD":"00ff"}', "context": "Transaction.End"}
    found = reading({"value": "12"}, blob)
    assert found.energy_wh == 12 and found.samples[1] == blob


# -- clocks, keys, habits ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("off_s", "words"),
    [
        (None, "not known yet"),
        (0, "right"),
        (-60, "right"),
        (61, "1 min ahead"),
        (-4_620, "1 h 17 min behind"),
        (19_795, "5 h 30 min ahead: it seems to write local time as UTC"),
        (-19_800, "5 h 30 min behind: it seems to write local time as UTC"),
        (2 * 86_400 + 60, "2 d 1 min ahead"),
        (-56 * 365 * 86_400, "not set"),
    ],
)
def test_how_far_a_clock_is_off_in_words(off_s, words):
    assert clocks.words(off_s) == words


@pytest.mark.parametrize(
    ("wanted", "value", "same"),
    [
        ("true", "TRUE", True),
        ("true", "1", True),
        ("false", "0", True),
        ("30", "30.0", True),
        ("30", '"30"', True),
        ("30", "31", False),
        ("A,B", " B ; A ", True),
        ("A,B", "A", False),
        ("", "", True),
        ("", None, False),
        ("Voltage", "voltage", True),
    ],
)
def test_Q135_two_values_are_one_whatever_their_quotes_blanks_and_case(wanted, value, same):
    assert keys.same(wanted, value) is same


def test_Q122_only_a_list_of_measurands_gets_shorter():
    assert keys.shorter("metervaluessampleddata", "A, B;C") == "A,B"
    assert keys.shorter("MeterValuesSampledData", "A") is None
    assert keys.shorter("ConnectorPhaseRotation", "A,B") is None


@pytest.mark.parametrize(
    ("size", "most", "first"), [(10, None, 10), (10, "4", 4), (10, "0", 10), (10, "x", 10), (3, "40", 3), (900, None, 50)]
)
def test_Q136_keys_are_asked_for_in_portions(size, most, first):
    portions = keys.chunks([str(n) for n in range(60)], size, most)
    assert len(portions[0]) == first and [key for one in portions for key in one] == [str(n) for n in range(60)]


def test_every_habit_stands_in_one_group_of_the_form_and_is_explained():
    named = [name for _, names in habits.GROUPS for name in names]
    assert sorted(named) == sorted(habits.HELP) == sorted(one.name for one in fields(Habits))
    assert not habits.check({name: value for name, value in asdict(STANDARD).items() if name != "configuration"})


@pytest.mark.parametrize(
    "given",
    [
        {"nonsense": 1},
        {"settle_s": -1},
        {"settle_s": "5"},
        {"settle_s": True},
        {"boot_trigger": 1},
        {"energy_unit": "J"},
        {"subprotocols": []},
        {"subprotocols": ["ocpp1.5"]},
        {"configuration": ["x"]},
        {"configuration": {"HeartbeatInterval": 60}},
        {"configuration": {"AuthorizationKey": "x"}},
        {"configuration": {"K": "x" * 501}},
        {"configuration": {"": "x"}},
        [],
    ],
)
def test_settings_that_are_wrong_are_said_and_left_out(given):
    assert habits.check(given)
    assert habits.resolve([], given) == STANDARD


def test_the_more_is_said_of_a_charger_the_more_it_counts_and_its_own_most():
    general, vendor, model = (
        Known("all", "", "", "", {"settle_s": 1, "quiet_s": 1, "configuration": {"A": "1", "B": "1"}}),
        Known("vendor", "Ac*", "", "", {"settle_s": 2, "configuration": {"B": "2"}}),
        Known("model", "acme", "fast*", "1.*", {"settle_s": 3}),
    )
    found = habits.matching([model, general, vendor, Known("other", "Zed", "", "", {"settle_s": 9})], "ACME ", "Fast 60", "1.0")
    assert [one.name for one in found] == ["all", "vendor", "model"]
    resolved = habits.resolve(found, {"quiet_s": 7})
    assert (resolved.settle_s, resolved.quiet_s, resolved.configuration) == (3, 7, (("A", "1"), ("B", "2")))
    told, configuration = habits.sources(found, {"quiet_s": 7})
    assert (told["settle_s"].by, told["quiet_s"].by, configuration["B"].by) == ("model", habits.OWN, "vendor")


def test_the_table_of_quirks_has_every_number_once_and_names_settings_that_exist():
    page = (Path(__file__).resolve().parents[2] / "docs/quirks.md").read_text()
    assert [int(number) for number in re.findall(r"^\| Q(\d+) \|", page, re.MULTILINE)] == list(range(1, 177))
    named = {name for line in re.findall(r"settings? [^|]*", page) for name in re.findall(r"`([a-z_]+)`", line)}
    assert named <= set(habits.HELP), named - set(habits.HELP)
