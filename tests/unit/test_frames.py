"""OCPP-J frames: whatever arrives is read or said to be unreadable, and what is answered is JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms import frames
from csms.frames import CALL, CALLERROR, CALLRESULT, Frame, Unreadable, read

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PIECES = [
    "[2,",
    "[3,",
    "[4,",
    '"1",',
    "7,",
    "null,",
    '"Heartbeat",',
    '"Boot\\u0000",',
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "\\",
    "\x00",
    "NaN",
    "1e999",
    "é",
    "\ud83d",
]


def holds_together(raw: bytes) -> None:
    """What must be true of anything read: it can be stored, logged and answered."""
    found = read(raw)
    assert isinstance(found, (Frame, Unreadable))
    correlation_id = found.correlation_id
    assert len(correlation_id) <= 64 and "\x00" not in correlation_id
    correlation_id.encode()
    found.action.encode()
    assert len(found.action) <= 50 and "\x00" not in found.action
    if isinstance(found, Frame):
        assert isinstance(found.payload, dict)
        assert json.loads(frames.result(found.id, {}))[1] == found.id
        (found.code + found.description).encode()
    elif found.code:
        answer = json.loads(frames.error(found.id, found.code, found.reason))
        assert answer[0] == CALLERROR and len(answer[3]) <= 255


@given(st.binary(max_size=200))
def test_any_bytes_are_read(raw):
    holds_together(raw)


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_anything_that_looks_like_a_frame_is_read(text):
    holds_together(text.encode("utf-8", "surrogatepass"))


@given(st.lists(json_values, max_size=6))
def test_any_json_is_read(value):
    holds_together(json.dumps(value).encode())


@given(st.sampled_from([2, 3, 4, "2", 2.0, 5, None, True]), json_values, json_values, json_values)
def test_any_frame_is_read(kind, ident, action, payload):
    holds_together(json.dumps([kind, ident, action, payload]).encode())


@given(st.integers(0, 60))
def test_a_frame_torn_anywhere_is_read_or_refused_under_its_id(where):
    text = '[2,"id-1","MeterValues",{"connectorId":1,"meterValue":[{"sampledValue":[{"value":"3"}]}]}]'
    found = read(text[:where].encode())
    holds_together(text[:where].encode())
    if where >= 9:
        assert found.id == "id-1"


@pytest.mark.parametrize(
    ("raw", "ident", "payload"),
    [
        ('[2,"1","Heartbeat",{}]', "1", {}),
        ('[2,"1","Heartbeat",null]', "1", {}),
        ('[2,"1","Heartbeat"]', "1", {}),
        ('["2","1","Heartbeat",{}]', "1", {}),
        ('[2,7,"Heartbeat",{}]', 7, {}),
        ('[2,-1,"Heartbeat",{}]', -1, {}),
        ('[2,"","Heartbeat",{}]', "", {}),
        ('[2,"1"," Heartbeat\\u0000 ",{}]', "1", {}),
        ('[2,"1","Heartbeat",{},"more"]', "1", {}),
        (' \r\n[2,"1","Heartbeat",{}]\n', "1", {}),
        ('\ufeff[2,"1","Heartbeat",{}]', "1", {}),
        ('[2,"1","Heartbeat",{"a":NaN,"b":Infinity,"c":-Infinity,"d":1e999}]', "1", {"a": None, "b": None, "c": None, "d": None}),
        ('[2,"1","Heartbeat",{"a":' + "9" * 5_000 + "}]", "1", {"a": None}),
        ('[2,"1","Heartbeat",{"a":1,"a":2}]', "1", {"a": 2}),
        ('[2,"1","Heartbeat",{"a":,"b":1}]', "1", {"a": None, "b": 1}),
        ('[2,"1","Heartbeat",{"a":[{"b":1', "1", {"a": [{"b": 1}]}),
        ('[2,"1","Heartbeat",{"a":1,', "1", {"a": 1}),
        ('[2,"1","Heartbeat",{"a":"' + "[{" * 6 + '"}]', "1", {"a": "[{" * 6}),
    ],
)
def test_what_can_be_understood_is(raw, ident, payload):
    found = read(raw.encode())
    assert isinstance(found, Frame), found
    assert (found.type, found.id, found.action, found.payload) == (CALL, ident, "Heartbeat", payload)


@pytest.mark.parametrize(
    ("raw", "code", "ident"),
    [
        (b"", None, "-1"),
        (b"AT+CSQ\r\nOK", None, "-1"),
        (b"\xff\xfe\x00", None, "-1"),
        (b"{}", None, "-1"),
        (b"null", None, "-1"),
        (b"[]", "FormationViolation", "-1"),
        (b"[2]", "FormationViolation", "-1"),
        (b'[2,"a"]', "FormationViolation", "a"),
        (b'[9,"a","x",{}]', None, "-1"),
        (b'[true,"a","x",{}]', None, "-1"),
        (b'[2,"a",{},{}]', "FormationViolation", "a"),
        (b'[2,"a",5,{}]', "FormationViolation", "a"),
        (b'[2,"a","X",[]]', "FormationViolation", "a"),
        (b'[2,"a","X","text"]', "FormationViolation", "a"),
        (b'[2,{},"X",{}]', "FormationViolation", "-1"),
        (b'[2,["a"],"X",{}]', "FormationViolation", "-1"),
        (b'[2,1.5,"X",{}]', "FormationViolation", "-1"),
        (b'[2,"' + b"a" * 256 + b'","X",{}]', "FormationViolation", "-1"),
        (b"[3,{},{}]", None, "-1"),
        (b'[2,"a","X",{"b":"c', "FormationViolation", "a"),
        (b'[2,17,"X",{"b":"c', "FormationViolation", 17),
        (b'[2,"a","X",' + b"[" * 17 + b"]" * 17 + b"]", "FormationViolation", "a"),
        (b"[" * 9_000, "FormationViolation", "-1"),
        (b'[2,"a","X",{"b":[' + b"[]," * 30_000 + b"[]]}]", "FormationViolation", "a"),
    ],
)
def test_what_cannot_be_understood_gets_its_error_or_silence(raw, code, ident):
    found = read(raw)
    assert isinstance(found, Unreadable), found
    assert (found.code, found.id) == (code, ident)


def test_bytes_that_are_no_utf8_are_read_and_noted():
    found = read('[2,"1","BootNotification",{"chargePointVendor":"Müller"}]'.encode("latin-1"))
    assert isinstance(found, Frame)
    assert found.payload == {"chargePointVendor": "M\ufffdller"} and found.notes == ("not UTF-8",)


def test_a_result_without_a_payload_and_an_error_without_words():
    assert read(b'[3,"x"]').payload == {}
    assert read(b'[3,"x",null]').payload == {}
    assert read(b'[3,"x",{"status":"Accepted"}]').payload == {"status": "Accepted"}
    assert (read(b'[4,"x"]').code, read(b'[4,"x"]').type) == ("GenericError", CALLERROR)


def test_B15_an_error_with_a_novel_is_cut_and_cleaned():
    found = read(json.dumps([4, "x", "Internal\x00Error", "<b>" * 400_000, {}]).encode())
    assert (found.code, len(found.description)) == ("InternalError", 255)


def test_what_is_written_is_one_line_of_ascii_without_blanks():
    assert frames.call("id", "Reset", {"type": "Soft"}) == '[2,"id","Reset",{"type":"Soft"}]'
    assert frames.result("é", {}) == '[3,"\\u00e9",{}]'
    assert frames.error(5, "NotImplemented") == '[4,5,"NotImplemented","",{}]'
    assert frames.CALLRESULT == CALLRESULT == 3


def test_clean_takes_out_what_a_database_cannot_hold():
    assert frames.clean("a\x00b\x1fc\x7fd\ud800e\tf\n") == "abcd\ufffde\tf\n"
