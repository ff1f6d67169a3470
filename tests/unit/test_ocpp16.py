"""OCPP 1.6 payloads and our events: what is read from each, and that what we write is the standard's."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from ocpp.messages import MessageType, get_validator

from csms import ocpp16
from csms.repair import repair

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT, TEXT = datetime(2026, 3, 1, 11, 59, tzinfo=UTC), "2026-03-01T11:59:00Z"
INT32 = 2**31 - 1


def reading(*samples: dict[str, Any], timestamp: str = TEXT):
    """What one meterValue of these samples is read as, after repair."""
    payload = {"connectorId": 1, "meterValue": [{"timestamp": timestamp, "sampledValue": list(samples)}]}
    readings = ocpp16.read_meter_values(repair("1.6", "MeterValues", payload).payload, NOW).readings
    return readings[0] if readings else None


def energy(value: Any, **fields: Any) -> int | None:
    return reading({"value": value, **fields}).energy_wh


# -- what is written -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("action", "payload"),
    [
        *(("BootNotification", ocpp16.write_boot_notification(status, NOW, 40)) for status in ("Accepted", "Pending", "Rejected")),
        ("Heartbeat", ocpp16.write_heartbeat(NOW)),
        ("StatusNotification", ocpp16.write_empty()),
        ("MeterValues", ocpp16.write_empty()),
        *(("Authorize", ocpp16.write_authorize(status)) for status in ("Accepted", "Blocked", "Expired", "Invalid", "ConcurrentTx")),
        ("Authorize", ocpp16.write_authorize("Accepted", "PARENT")),
        ("StartTransaction", ocpp16.write_start_transaction(1, "Accepted")),
        ("StartTransaction", ocpp16.write_start_transaction(INT32, "Invalid", "PARENT")),
        ("StopTransaction", ocpp16.write_stop_transaction()),
        ("StopTransaction", ocpp16.write_stop_transaction("Invalid")),
        ("DataTransfer", ocpp16.write_data_transfer("UnknownVendorId")),
        ("DataTransfer", ocpp16.write_data_transfer("Accepted", {"a": 1})),
    ],
)
def test_what_we_answer_is_valid_by_the_librarys_schema(action, payload):
    get_validator(MessageType.CallResult, action, "1.6").validate(payload)


def test_a_start_is_answered_with_exactly_these_fields():
    assert ocpp16.write_start_transaction(7, "Accepted") == {"transactionId": 7, "idTagInfo": {"status": "Accepted"}}


# -- what is read ------------------------------------------------------------------------------------------------------
def test_a_boot_takes_either_serial_and_lives_without_names():
    said = ocpp16.read_boot_notification({"chargeBoxSerialNumber": " S-1 "}, NOW)
    assert (said.vendor, said.model, said.serial_number, said.firmware_version) == ("unknown", "unknown", "S-1", "")


def test_a_status_without_anything_is_the_chargers_own_and_unknown():
    said = ocpp16.read_status_notification({}, NOW)
    assert (said.connector_no, said.status, said.error_code, said.at) == (0, "Unknown", "NoError", None)
    assert ocpp16.read_status_notification({"connectorId": -1, "timestamp": TEXT}, NOW).at == AT


def test_a_start_with_a_clock_that_is_not_set_keeps_the_text_for_recognising_a_repeat():
    said = ocpp16.read_start_transaction({"connectorId": 0, "idTag": "T", "meterStart": -4, "timestamp": "1970-01-01T00:00:09Z"}, NOW)
    assert (said.connector_no, said.tag, said.meter_start_wh, said.at, said.reported_at) == (1, "T", None, None, "1970-01-01T00:00:09Z")


@pytest.mark.parametrize(("given", "read"), [(7, "7"), (0, "0"), (-1, "-1"), (None, None)])
def test_a_transaction_is_named_by_text(given, read):
    assert ocpp16.read_stop_transaction({"transactionId": given}, NOW).transaction_ref == read


@pytest.mark.parametrize(("given", "read"), [(0, 0), (5, 5), (-1, None), (2**53 - 1, 2**53 - 1), (2**53, None), (None, None)])
def test_a_register_shows_nothing_negative_and_nothing_that_no_register_shows(given, read):
    assert ocpp16.read_stop_transaction({"meterStop": given}, NOW).meter_stop_wh == read


def test_a_stop_keeps_the_reason_the_standard_does_not_have():
    said = ocpp16.read_stop_transaction({"reason": "Other"}, NOW, raw_reason="AppStop")
    assert (said.reason, said.reason_raw) == ("Other", "AppStop")
    assert ocpp16.read_stop_transaction({"reason": "Local"}, NOW, raw_reason="Local").reason_raw == ""
    assert len(ocpp16.read_stop_transaction({"reason": "Other"}, NOW, raw_reason="x" * 5_000).reason_raw) <= 100


@pytest.mark.parametrize("action", ["read_status_notification", "read_start_transaction", "read_meter_values"])
def test_a_connector_beyond_all_counting_fits_a_database(action):
    assert 0 <= getattr(ocpp16, action)({"connectorId": 2**62}, NOW).connector_no <= INT32


# -- readings ----------------------------------------------------------------------------------------------------------
def test_a_sample_that_says_nothing_of_itself_is_the_register_in_watt_hours():
    assert reading({"value": "1200"}).energy_wh == 1_200
    assert reading({"value": "1200"}).at == AT


@pytest.mark.parametrize(
    ("value", "fields", "wh"),
    [
        ("1.2345", {"unit": "kWh"}, 1_234),
        (" 3,5 ", {"unit": "kWh"}, 3_500),
        (12, {}, 12),
        ("1e3", {}, 1_000),
        ("-5", {}, None),
        ("NaN", {}, None),
        ("Infinity", {}, None),
        ("9" * 40, {}, None),
        ("n/a", {}, None),
        ("9007199254740992", {}, None),
        ("77", {"format": "SignedData"}, None),
        ("77", {"measurand": "Energy.Active.Export.Register"}, None),
        ("77", {"measurand": "Energy.Reactive.Import.Register"}, None),
        ("77", {"measurand": "Energy.Active.Import.Interval"}, None),
    ],
)
def test_the_register_is_read_as_whole_watt_hours(value, fields, wh):
    assert energy(value, **fields) == wh


def test_Q189_a_begin_of_zero_beside_a_reading_is_a_placeholder():
    begin, periodic = {"value": "0", "context": "Transaction.Begin"}, {"value": "910000"}
    assert reading(begin, periodic).energy_wh == reading(periodic, begin).energy_wh == 910_000
    assert reading({"value": "500", "context": "Transaction.Begin"}).energy_wh == 500


def test_three_phases_are_summed_the_current_is_the_largest_and_the_voltage_the_mean():
    phases = [
        {"measurand": name, "phase": phase, "value": value, "unit": unit}
        for name, unit, values in (
            ("Power.Active.Import", "kW", ("3.5", "3.6", "3.7")),
            ("Current.Import", "A", ("15", "16", "15.5")),
            ("Voltage", "V", ("229", "230", "231")),
        )
        for phase, value in zip(("L1", "L2", "L3"), values, strict=True)
    ]
    found = reading(*phases)
    assert (found.power_w, found.current_ma, found.voltage_mv) == (10_800, 16_000, 230_000)


def test_a_total_beside_its_phases_wins():
    total = {"measurand": "Power.Active.Import", "value": "11000", "unit": "W"}
    assert reading({**total, "phase": "L1", "value": "3700"}, total).power_w == 11_000


def test_what_cannot_be_is_left_out_and_the_samples_are_kept_as_they_came():
    soc, power = {"measurand": "SoC", "value": "101"}, {"measurand": "Power.Active.Import", "value": "-4"}
    found = reading({"value": "5"}, soc, power, {"measurand": "Voltage", "value": "9" * 14})
    assert (found.energy_wh, found.soc_pct, found.power_w, found.voltage_mv, len(found.samples)) == (5, None, None, None, 4)


def test_a_moment_without_one_value_is_no_reading():
    assert reading({"value": ""}) is None
    assert ocpp16.read_meter_values({"meterValue": [{"timestamp": TEXT}]}, NOW).readings == ()


def test_a_batch_out_of_order_is_read_in_the_chargers_order():
    def moment(seconds: int, wh: int) -> dict[str, Any]:
        at = (AT + timedelta(seconds=seconds)).isoformat()
        return {"timestamp": at, "sampledValue": [{"value": str(wh)}]}

    said = ocpp16.read_meter_values({"connectorId": 1, "meterValue": [moment(20, 30), moment(0, 10), moment(10, 20)]}, NOW)
    assert [one.energy_wh for one in said.readings] == [10, 20, 30]


def test_a_reading_from_tomorrow_or_1970_has_no_time():
    for odd in ("1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "x"):
        assert reading({"value": "1"}, timestamp=odd).at is None


def test_data_transfer_is_read_as_it_came():
    assert ocpp16.read_data_transfer({"vendorId": "v"}, NOW) == ocpp16.DataSent("v", "", "")
    assert SimpleNamespace(**vars(ocpp16.read_authorize({}, NOW))).tag == ""
