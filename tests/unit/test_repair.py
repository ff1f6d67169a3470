"""Payloads made into the standard's: nothing raises, and what has nothing missing is valid by the library's own schema."""

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocpp.messages import MessageType, get_validator

from csms import frames, ocpp16
from csms.dispatch import ROUTES
from csms.repair import actions, repair

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = "2026-03-01T11:59:00Z"
SAMPLE = {"value": "12.5", "context": "Sample.Periodic", "measurand": "Energy.Active.Import.Register", "phase": "L1", "unit": "Wh"}
VALID: dict[str, dict[str, Any]] = {
    "Authorize": {"idTag": "04A2B3C4"},
    "BootNotification": {"chargePointVendor": "Acme", "chargePointModel": "Fast", "chargePointSerialNumber": "S1", "firmwareVersion": "1"},
    "DataTransfer": {"vendorId": "com.acme", "messageId": "m", "data": "{}"},
    "DiagnosticsStatusNotification": {"status": "Uploaded"},
    "FirmwareStatusNotification": {"status": "Installing"},
    "Heartbeat": {},
    "LogStatusNotification": {"status": "Uploading", "requestId": 4},
    "MeterValues": {"connectorId": 1, "transactionId": 7, "meterValue": [{"timestamp": AT, "sampledValue": [SAMPLE, {"value": "1"}]}]},
    "SecurityEventNotification": {"type": "InvalidMessages", "timestamp": AT, "techInfo": "x"},
    "SignCertificate": {"csr": "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"},
    "SignedFirmwareStatusNotification": {"status": "InstallVerificationFailed", "requestId": 4},
    "StartTransaction": {"connectorId": 1, "idTag": "04A2B3C4", "meterStart": 5, "timestamp": AT, "reservationId": 3},
    "StatusNotification": {"connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": AT, "info": "i", "vendorId": "v"},
    "StopTransaction": {
        "transactionId": 7,
        "idTag": "04A2B3C4",
        "meterStop": 9,
        "timestamp": AT,
        "reason": "Local",
        "transactionData": [{"timestamp": AT, "sampledValue": [SAMPLE]}],
    },
}
STATUS = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
READERS = {action: route.read for action, route in ROUTES["1.6"].items()}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=60)
    | st.sampled_from(["Local", AT, "1", "Wh", "-0", "1e400"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def understood(action: str, payload: dict[str, Any]) -> None:
    """The whole way of a payload from bytes to our event."""
    frame = frames.read(json.dumps([2, "1", action, payload]).encode())
    if not isinstance(frame, frames.Frame):
        return
    before = copy.deepcopy(frame.payload)
    fixed = repair("1.6", action, frame.payload)
    assert frame.payload == before
    "".join(fixed.notes).encode()
    assert "\x00" not in "".join(fixed.notes)
    if not fixed.missing:
        get_validator(MessageType.Call, action, "1.6").validate(fixed.payload)
    READERS[action](fixed.payload, NOW)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where something stands in a payload: every key and every index."""
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += places(child, (*path, key))
    return found


@st.composite
def mutated(draw: Any, action: str) -> dict[str, Any]:
    """A valid payload with up to three things in it replaced, removed, renamed or added."""
    payload = copy.deepcopy(VALID[action])
    for _ in range(draw(st.integers(1, 3))):
        spots = places(payload)
        if not spots or draw(st.integers(0, 4)) == 0:
            payload[draw(st.text(max_size=8))] = draw(json_values)
            continue
        *way, last = draw(st.sampled_from(spots))
        holder: Any = payload
        for key in way:
            holder = holder[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "rename"])):
            case "replace":
                holder[last] = draw(json_values)
            case "rename" if isinstance(holder, dict):
                holder[draw(st.sampled_from([str(last).upper(), str(last) + "\x00", str(last)[1:]]))] = holder.pop(last)
            case _:
                del holder[last]
    return payload


@pytest.mark.parametrize("action", sorted(VALID))
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_mutated_payload_is_understood_or_says_what_is_missing(action, data):
    understood(action, data.draw(mutated(action)))


@pytest.mark.parametrize("action", sorted(VALID))
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_object_at_all_is_taken(action, data):
    keys = st.sampled_from([*VALID[action], "x"])
    understood(action, data.draw(st.dictionaries(keys, json_values, max_size=5)))


@pytest.mark.parametrize("action", sorted(VALID))
def test_what_is_valid_stays_as_it_is(action):
    fixed = repair("1.6", action, VALID[action])
    assert (fixed.payload, fixed.notes, fixed.missing) == (VALID[action], [], [])


def test_every_action_we_answer_has_a_case_here_and_a_schema():
    assert set(READERS) == set(VALID)
    assert set(READERS) <= actions("1.6")
    assert len(actions("1.6")) >= 28 and "RemoteStartTransaction" in actions("1.6")


def test_every_schema_of_the_standard_can_be_built():
    for action in actions("1.6"):
        assert repair("1.6", action, {}).payload == {}


@pytest.mark.parametrize(
    ("action", "given", "repaired"),
    [
        ("Heartbeat", {"vendorField": 1}, {}),
        ("StatusNotification", {**STATUS, "connectorId": "1"}, STATUS),
        ("StatusNotification", {**STATUS, "connectorId": 1.0}, STATUS),
        ("StatusNotification", {**STATUS, "connectorId": True}, STATUS),
        ("StatusNotification", {**STATUS, "timestamp": None, "info": ""}, STATUS),
        (
            "MeterValues",
            {"connectorId": 1, "meterValue": {"timestamp": AT, "sampledValue": {"value": 3.5}}},
            {"connectorId": 1, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": "3.5"}]}]},
        ),
        (
            "MeterValues",
            {"connectorId": 1, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": "1", "measurand": "Power.Active.Import.L2"}]}]},
            {
                "connectorId": 1,
                "meterValue": [{"timestamp": AT, "sampledValue": [{"value": "1", "measurand": "Power.Active.Import", "phase": "L2"}]}],
            },
        ),
        (
            "MeterValues",
            {"connectorId": 1, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": "1", "unit": "wh", "phase": "X9"}]}]},
            {"connectorId": 1, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": "1", "unit": "Wh"}]}]},
        ),
        ("StopTransaction", {**VALID["StopTransaction"], "reason": "AppStop"}, {**VALID["StopTransaction"], "reason": "Other"}),
        ("StopTransaction", {**VALID["StopTransaction"], "reason": "powerloss"}, {**VALID["StopTransaction"], "reason": "PowerLoss"}),
        ("StartTransaction", {**VALID["StartTransaction"], "meterStart": "5,9"}, VALID["StartTransaction"]),
        ("StartTransaction", {**VALID["StartTransaction"], "idTag": 0x04}, {**VALID["StartTransaction"], "idTag": "4"}),
        ("StartTransaction", {**VALID["StartTransaction"], "idTag": "T" * 99}, {**VALID["StartTransaction"], "idTag": "T" * 20}),
        ("StatusNotification", {"connectorid": 1, "ErrorCode": "noerror", "status": "AVAILABLE"}, {
            "connectorId": 1, "errorCode": "NoError", "status": "Available"}),
        ("StatusNotification", {"connectorId": 1, "errorCode": "E42", "status": "Faulted", "info": ""}, {
            "connectorId": 1, "errorCode": "OtherError", "status": "Faulted"}),
        ("BootNotification", {**VALID["BootNotification"], "chargePointVendor": "Ac\x00me\ud800"}, {
            **VALID["BootNotification"], "chargePointVendor": "Acme\ufffd"}),
        ("DataTransfer", {"vendorId": "v", "data": {"a": [1]}}, {"vendorId": "v", "data": '{"a": [1]}'}),
    ],
)  # fmt: skip
def test_what_real_chargers_send_is_understood(action, given, repaired):
    fixed = repair("1.6", action, given)
    assert fixed.payload == repaired
    assert fixed.notes or given == repaired


def test_what_is_missing_is_named():
    assert repair("1.6", "StopTransaction", {"meterStop": "many"}).missing == ["transactionId", "timestamp", "meterStop"]
    assert repair("1.6", "MeterValues", {"connectorId": 1, "meterValue": [{}]}).missing == [
        "meterValue.timestamp",
        "meterValue.sampledValue",
    ]


def test_B09_the_name_of_an_unknown_field_is_no_trouble_to_a_database():
    fixed = repair("1.6", "Heartbeat", {"a\x00b\ud800": 1})
    assert fixed.notes == ["ab\ufffd: unknown field removed"]


def test_a_thousand_odd_fields_make_a_dozen_notes():
    assert len(repair("1.6", "Heartbeat", {f"x{n}": n for n in range(1_000)}).notes) == 12


def test_an_empty_payload_of_every_action_is_read_with_the_standards_defaults():
    for action in VALID:
        assert READERS[action]({}, NOW) is not None
    assert ocpp16.read_stop_transaction({}, NOW).reason == "Local"
