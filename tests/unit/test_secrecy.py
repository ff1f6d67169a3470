"""A secret is masked wherever a charger, or a person, may put it."""

import json
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.rules import configuration
from csms.rules.secrecy import MASK, hushed_frame, is_own_key, is_secret, masked, masked_frame, without

KEY = "c0ffee11" * 5


@pytest.mark.parametrize(
    "name",
    ["AuthorizationKey", "authorizationkey", "AUTHORIZATION_KEY", "Authorization-Key", "BasicAuthPassword", "WiFi.Password", "APN_passwd",
     "FtpPassphrase", "ClientSecret", "SIM_PIN", "OcppAuthKey", "PreSharedKey", "WifiKey", "wifikey", "WIFI_KEY", "WpaPsk", "wpa-psk",
     "AccessToken", "accesstoken2", "UserPin", "PIN", "SimPin1Code", "PinCode", "FtpPass", "ApnPwd", "SimPuk", "EncryptionKey1",
     "Credentials"],
)  # fmt: skip
def test_these_names_hold_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["AuthorizeRemoteTxRequests", "AuthorizationCacheEnabled", "MeterValueSampleInterval", "WebSocketPingInterval", "", None, 5,
     "key", "Key",
     "configurationKey", "unknownKey", "idToken", "groupIdToken", "MeterPublicKey", "GetConfigurationMaxKeys", "MeterBypass", "Spinning",
     "issuerKeyHash", "Pinging", "CertificatePinning"],
)  # fmt: skip
def test_these_do_not(name):
    assert not is_secret(name)


def test_no_word_of_the_standard_is_a_secret_but_its_keys():
    """Neither its configuration keys nor the fields of its messages: else our own log would be full of asterisks."""
    assert [key for key in configuration.STANDARD_KEYS if is_secret(key)] == [key for key in configuration.STANDARD_KEYS if is_own_key(key)]
    fields: set[str] = set()
    for path in (files("ocpp.v16") / "schemas").iterdir():
        fields |= set(re.findall(r'"(\w+)":\s*\{', path.read_text(encoding="utf-8-sig")))
    assert {"configurationKey", "idTag", "issuerKeyHash"} < fields
    assert {name for name in fields if is_secret(name)} == set()


@pytest.mark.parametrize(
    ("also", "name", "is_one"),
    [(("VendorCode",), "vendor_code", True), (("Vendor*",), "VendorThing", True), (("*Code",), "VendorCode", True),
     (("*Code",), "Coded", False),
     ((), "VendorCode", False), (("A.B",), "ab", True)],
)  # fmt: skip
def test_what_people_list_is_a_secret_too(also, name, is_one):
    assert is_secret(name, also) is is_one
    frame = json.dumps([3, "a", {"configurationKey": [{"key": name, "value": KEY}, {"key": "Other", "value": "40"}]}]).encode()
    for raw in (frame, frame[:-2]):
        seen = masked_frame(raw, also)
        assert (KEY.encode() not in seen) is is_one
    told = json.dumps([2, "a", "DataTransfer", {"vendorId": "V", "data": json.dumps({name: KEY})}]).encode()
    assert (KEY.encode() not in masked_frame(told, also)) is is_one


def test_an_answer_that_repeats_a_secret_is_told_without_it():
    raw = json.dumps([3, "hunter22", {"status": "Accepted", "vendor": ["set to HUNTER22!"], "n": 1}]).encode()
    assert json.loads(hushed_frame(raw, "hunter22")) == [3, "hunter22", {"status": "Accepted", "vendor": ["set to ***!"], "n": 1}]
    for odd in ('": "', '","', "12.5", 'a"b\\c', "null"):
        raw = json.dumps([3, "x", {"said": odd, "n": 12.5, "m": None}]).encode()
        assert json.loads(hushed_frame(raw, odd))[2]["said"] == "***"
        assert b"***" in hushed_frame(raw[:-1], odd)
    assert hushed_frame(b'[3, "x", {"a": 1}]', "hunter22") == b'[3, "x", {"a": 1}]'


FRAMES = [
    [2, "a", "ChangeConfiguration", {"key": "AuthorizationKey", "value": KEY}],
    [2, "a", "ChangeConfiguration", {"value": KEY, "key": "authorizationKEY"}],
    [2, "a", "ChangeConfiguration", {"Key": "BasicAuthPassword", "Value": KEY}],
    [
        3,
        "a",
        {"configurationKey": [{"key": "HeartbeatInterval", "value": "40"}, {"key": "AuthorizationKey", "readonly": False, "value": KEY}]},
    ],
    [3, "a", {"configurationKey": [{"key": "Nested", "more": {"name": "Password", "value": KEY}}]}],
    [3, "a", {"AuthorizationKey": KEY}],
    [3, "a", {"AuthorizationKey": {"value": KEY, "readonly": True}}],
    [3, "a", {"AuthorizationKey": [KEY]}],
    [3, "a", {"key": "SimPin", "value": 1234}],
    [2, "a", "DataTransfer", {"vendorId": "V", "messageId": "SetPassword", "data": KEY}],
    [2, "a", "DataTransfer", {"vendorId": "V", "data": json.dumps({"password": KEY, "n": 1})}],
    [2, "a", "DataTransfer", {"vendorId": "V", "data": '{"password": "' + KEY}],
]


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
def test_a_secret_is_masked_and_nothing_else(frame):
    raw = json.dumps(frame).encode()
    seen = masked_frame(raw)
    assert KEY.encode() not in seen and b"1234" not in seen and MASK.encode() in seen
    assert json.loads(seen)[:2] == frame[:2]
    assert KEY not in json.dumps(masked(frame))


def test_what_stands_beside_it_stays():
    seen = json.loads(masked_frame(json.dumps(FRAMES[3]).encode()))
    assert seen[2]["configurationKey"] == [
        {"key": "HeartbeatInterval", "value": "40"},
        {"key": "AuthorizationKey", "readonly": False, "value": MASK},
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b'[2,"a","ChangeConfiguration",{"key":"\\u0041uthorizationKey","value":"' + KEY.encode() + b'"}]',
        b'[2,"a","ChangeConfiguration",{"key" : "AuthorizationKey" ,\n "value" :\t"' + KEY.encode() + b'" }]',
        b'[2,"a","ChangeConfiguration",{"key":"AuthorizationKey","value":"' + KEY.encode(),  # torn
        b'[2,"a","ChangeConfiguration",{"value":"' + KEY.encode() + b'","key":"AuthorizationKey"',
        b'[2,"a","ChangeConfiguration",{"key":"AuthorizationKey","value":"' + KEY.encode() + b'","value":"***"}]',
        b'[2,"a","ChangeConfiguration",{"key":"AuthorizationKey","value":"\\"' + KEY.encode() + b'"}]',
        b"{key:AuthorizationKey,value:" + KEY.encode() + b"}",
        b'\xff\xfe[2,"a","ChangeConfiguration",{"key":"AuthorizationKey","value":"' + KEY.encode() + b'"}]',
        b'[3,"a",' + b'{"a":' * 20_000 + b'{"key":"AuthorizationKey","value":"' + KEY.encode() + b'"}' + b"}" * 20_000 + b"]",
    ],
)  # fmt: skip
def test_however_it_is_written(raw):
    assert KEY.encode() not in masked_frame(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'[2,"m1","Heartbeat",{}]',
        b'[2, "m1", "GetConfiguration", {"key": ["AuthorizationKey"]}]',
        b'[3,"m1",{"unknownKey":["AuthorizationKey"]}]',
        b'[3, "m1", {"configurationKey": [{"key": "AuthorizationKey", "readonly": false}]}]',
        b'[2,"m1","StatusNotification",{"info":"keyboard \\u00e9 passed","connectorId":1}]',
        b'[2,"m1","StatusNotif',
        b"\x00\xff",
        b"",
    ],
)
def test_other_frames_stay_byte_for_byte(raw):
    assert masked_frame(raw) == raw


def test_this_very_secret_is_taken_out_wherever_it_stands():
    raw = f'[4,"a","InternalError","cannot store {KEY.upper()}",{{"v":"{KEY}"}}]'.encode()
    assert KEY.encode() not in without(raw, KEY).lower()
    assert without(raw, "") == raw


@given(st.binary(max_size=200))
def test_any_bytes_can_be_masked(raw):
    masked_frame(raw + b'"AuthorizationKey"')
    masked_frame(b'[2,"a","ChangeConfiguration",{"key":"AuthorizationKey","value":"' + raw)


@given(st.text(max_size=60))
def test_no_value_survives(value):
    frame = [2, "a", "ChangeConfiguration", {"key": "AuthorizationKey", "value": "x" + value}]
    for ascii_only in (True, False):
        raw = json.dumps(frame, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert json.loads(masked_frame(raw))[3]["value"] == MASK
