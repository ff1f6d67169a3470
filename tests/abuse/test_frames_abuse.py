"""Frames that no charger should send, on real sockets: each is answered or ignored, kept, and followed by an ordinary one (B03 to B15)."""

import json
from importlib.resources import files
from typing import Any

import pytest

from csms import commands
from csms.dispatch import ROUTES
from csms.models import ChargePoint, ChargingSession, Command, Connection, Connector, MeterReading, OcppMessage
from csms.rules.session import State
from tests.abuse.raw import TEXT, RawLine
from tests.abuse.test_lines import _put_right  # noqa: F401 before and after every story
from tests.abuse.test_sockets import KEY, alive, chargers, client, eventually  # noqa: F401 the same cast
from tests.server import basic, serving
from tests.simulate_client import CallError, ChargerClient
from tests.stories import signed_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
ANSWERED = "answered"
REQUESTS = {"Heartbeat": {}, "BootNotification": {"chargePointVendor": "V", "chargePointModel": "M"}}


@pytest.fixture
def kaveri(client):  # noqa: F811
    charger = client("VLT-0001")
    charger.boot()
    return charger


def said(charger: ChargerClient, frame: str | bytes) -> list[Any]:
    """What the charger heard for this frame and nothing else; then an ordinary message is still answered."""
    before = len(charger.frames)
    charger.send(frame)
    assert alive(charger)
    heard = [json.loads(text) for way, text in charger.frames[before:] if way == "IN"]
    return [one for one in heard if one[0] != 2][:-1]


def code(charger: ChargerClient, frame: str | bytes) -> str | None:
    """`answered`, the code of its CALLERROR, or None for silence."""
    heard = said(charger, frame)
    assert len(heard) <= 1 and len(json.dumps(heard)) < 2_048
    return None if not heard else ANSWERED if heard[0][0] == 3 else heard[0][2]


def all_answered(charger: ChargerClient, calls: list[tuple[str, Any]]) -> bool:
    """Each of these calls (action, payload; "@5000" is a number of 5,000 digits) gets its CALLRESULT. Sent without waiting."""
    uids = []
    for action, payload in calls:
        uids.append(f"u{len(charger.frames)}")
        charger.send(json.dumps([2, uids[-1], action, payload]).replace('"@5000"', "9" * 5_000))
    for uid, call in zip(uids, calls, strict=True):
        try:
            charger.answer(uid, timeout_s=30)
        except CallError as error:
            raise AssertionError(f"{error} for {str(call)[:500]}") from None
    return alive(charger)


def no_stumble() -> bool:
    """No frame was too much for our own code."""
    stumbled = OcppMessage.objects.filter(note__startswith="kept for a person")
    assert not stumbled.exists(), [(one.text[:300], one.note) for one in stumbled[:3]]
    return True


# -- the line -----------------------------------------------------------------------------------------------------------
def test_B03_a_message_that_is_never_finished_ends_its_line_after_two_minutes(server, chargers, tmp_path):  # noqa: F811
    """The line is closed two minutes after the message began, however alive it is otherwise; nobody else notices."""
    clock_file = tmp_path / "clock"
    clock_file.write_text("0")
    with serving(tmp_path, alone=False, VOLTARO_CLOCK_FILE=str(clock_file)) as other:
        with RawLine(other.port, "VLT-0001", KEY) as line:
            line.call("BootNotification", REQUESTS["BootNotification"], "boot")
            assert json.loads(line.frame()[1])[1] == "boot"
            line.send('[2,"x","Heart', TEXT, fin=False)
            line.send("", 9)
            assert line.frame()[0] == 10  # its pings are answered meanwhile
            clock_file.write_text("100")
            with pytest.raises(TimeoutError):
                line.close_code(2.5)
            clock_file.write_text("125")
            assert line.close_code() == 1008
        assert other.mistakes == []
    eventually(lambda: not Connection.objects.filter(closed_at=None).exists())


def test_B04_compression_is_not_agreed_to_and_a_compressed_bomb_ends_its_line(server, chargers):  # noqa: F811
    """Compression is offered and not taken; a compressed message is a protocol error: nothing is ever unpacked."""
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits, permessage-deflate"}
    head = server.shake("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), **offer}, until=b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101") and b"extensions" not in head.lower()
    with RawLine(server.port, "VLT-0001", KEY) as line:
        line.send(b"\xff" * 1_000, 0x40 | TEXT)
        assert line.close_code() == 1002


# -- JSON ---------------------------------------------------------------------------------------------------------------
def test_B05_nesting_without_end_is_refused_and_the_line_lives(kaveri, subtests):
    """Beyond 16 levels it is a FormationViolation; brackets inside a text are only text."""
    deep = {
        "lists": '[2,"x","Heartbeat",' + "[" * 5_000 + "]" * 5_000 + "]",
        "objects": '[2,"x","Heartbeat",' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "]",
        "both": '[2,"x","MeterValues",{"meterValue":' + '[{"sampledValue":' * 6_000 + "1" + "}]" * 6_000 + "}]",
        "never closed": '[2,"x","Heartbeat",' + "[" * 100_000,
        "nothing else": "[" * 100_000,
        "one too many": '[2,"x","DataTransfer",{"vendorId":"v","data":' + "[" * 16 + "]" * 16 + "}]",
    }
    for what, frame in deep.items():
        with subtests.test(what):
            assert code(kaveri, frame) == "FormationViolation"
    assert code(kaveri, '[2,"x","DataTransfer",{"vendorId":"v","data":"' + "[{" * 5_000 + '"}]') == ANSWERED
    assert code(kaveri, '[2,"x","DataTransfer",{"vendorId":"v","data":' + "[" * 14 + "]" * 14 + "}]") == ANSWERED


def test_B06_numbers_that_are_none_are_missing_and_never_stored(kaveri, subtests):
    """NaN, Infinity and 1e999 are read as missing (a fact is never refused); no reading, no register, no limit ever holds one."""
    for number, odd in enumerate(("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308"), start=1):
        with subtests.test(odd):
            start = f'{{"connectorId":{odd},"idTag":"CARD{number}","meterStart":{odd},"timestamp":"2026-01-01T00:00:00Z"}}'
            assert code(kaveri, f'[2,"s{number}","StartTransaction",{start}]') == ANSWERED
            session = ChargingSession.objects.get(id_tag=f"CARD{number}")
            assert session.meter_start_wh is None
            for form in (odd, f'"{odd}"'):
                samples = f'[{{"value":{form}}},{{"value":{form},"measurand":"Power.Active.Import"}},{{"value":{form},"measurand":"SoC"}}]'
                values = f'[{{"timestamp":"x","sampledValue":{samples}}}]'
                told = f'{{"connectorId":1,"transactionId":{session.transaction_id},"meterValue":{values}}}'
                assert code(kaveri, f'[2,"m{number}","MeterValues",{told}]') == ANSWERED
            stop = f'{{"transactionId":{session.transaction_id},"meterStop":{odd},"timestamp":"2026-01-01T00:00:00Z"}}'
            assert code(kaveri, f'[2,"e{number}","StopTransaction",{stop}]') == ANSWERED
            session.refresh_from_db()
            assert (session.state, session.energy_wh, session.reported_wh) == (State.STOPPED, 0, None)
    assert not MeterReading.objects.exclude(energy_wh=None, power_w=None, soc_pct=None).exists()
    assert no_stumble()


def schema(action: str) -> dict[str, Any]:
    return json.loads((files("ocpp.v16") / "schemas" / f"{action}.json").read_text(encoding="utf-8-sig"))


def example(part: dict[str, Any]) -> Any:
    """The fullest payload the schema allows."""
    kind = part.get("type")
    if kind == "object":
        return {name: example(one) for name, one in part.get("properties", {}).items()}
    if kind == "array":
        return [example(part["items"])]
    if kind in ("integer", "number"):
        return 1
    if kind == "boolean":
        return True
    if part.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    return part["enum"][0] if "enum" in part else "A1"


def places(part: dict[str, Any], kinds: set[str], path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of every value of these types in a payload made by `example`."""
    if part.get("type") == "object":
        return [found for name, one in part.get("properties", {}).items() for found in places(one, kinds, (*path, name))]
    if part.get("type") == "array":
        return places(part["items"], kinds, (*path, 0))
    return [path] if part.get("type") in kinds else []


def with_value(payload: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    head, *rest = path
    if isinstance(payload, list):
        return [with_value(payload[0], tuple(rest), value)]
    return {**payload, head: with_value(payload[head], tuple(rest), value)}


def test_B07_numbers_too_large_for_a_database_are_missing_in_every_field(kaveri, subtests):
    """Each number of each action, one too large: answered, nothing stumbles, nothing out of range is kept."""
    huge = (2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, "@5000", str(2**63), 1e300)
    for action in ROUTES["1.6"]:
        whole = schema(action)
        for path in places(whole, {"integer", "number"}):
            with subtests.test(f"{action} {path}"):
                assert all_answered(kaveri, [(action, with_value(example(whole), path, one)) for one in huge])
    samples = ["9" * 5_000, str(2**53), str(2**63), "-" + "9" * 400, "1e400"]
    values = [{"connectorId": 1, "meterValue": [{"timestamp": "x", "sampledValue": [{"value": value}]}]} for value in samples]
    assert all_answered(kaveri, [("MeterValues", one) for one in values])
    assert no_stumble()
    assert Connector.objects.filter(charge_point_id="VLT-0001").count() < 30
    assert all(row.energy_wh < 10**9 for row in ChargingSession.objects.all())


def test_B08_of_a_field_named_twice_the_last_counts_and_the_frame_is_kept_whole(kaveri):
    """Tolerance wins: JSON's own rule decides, and a person can see both in the log."""
    frame = (
        '[2,"twice","StartTransaction",{"connectorId":2,"connectorId":1,"idTag":"FIRST","idTag":"SECOND",'
        '"meterStart":1,"meterStart":500,"timestamp":"2026-01-01T00:00:00Z"}]'
    )
    assert code(kaveri, frame) == ANSWERED
    session = ChargingSession.objects.get()
    assert (session.id_tag, session.meter_start_wh, session.connector.connector_id) == ("SECOND", 500, 1)
    assert OcppMessage.objects.get(correlation_id="twice", direction="IN").raw == frame.encode()


ODD_TEXTS = {
    "NUL": "a\x00b",
    "nothing but NUL": "\x00\x00",
    "half a character": "\ud800x\udfff",
    "right to left": "\u202egnp.exe",
    "control characters": "\x01\x02\x1b[31m\x7f\x08",
    "line breaks": "a\r\nERROR forged\n",
    "no characters at all": "\u200b\ufeff\u2060",
    "very long": "w" * 5_000,
    "markup": "<script>alert(1)</script>",
}


def test_B09_odd_characters_in_every_text_of_every_action(kaveri, chargers, subtests):  # noqa: F811
    """Cleaned before the database sees them, answered, kept in the log byte for byte; the charger's pages open afterwards."""
    for action in ROUTES["1.6"]:
        whole = schema(action)
        for path in places(whole, {"string"}):
            with subtests.test(f"{action} {path}"):
                assert all_answered(kaveri, [(action, with_value(example(whole), path, odd)) for odd in ODD_TEXTS.values()])
    assert no_stumble()
    row = ChargePoint.objects.get(cp_id="VLT-0001")
    for name in ("vendor", "model", "firmware_version", "reported_serial"):
        kept = getattr(row, name)
        assert kept.isprintable() or "\n" in kept, (name, kept)
    om = signed_in(chargers.om)
    for address in ("", "live/", "history/", "security/", "files/"):
        assert om.get(f"/console/chargers/{row.pk}/{address}").status_code == 200
    assert om.get("/console/messages/", {"charger": row.cp_id}).status_code == 200


# -- the shape of a frame ---------------------------------------------------------------------------------------------
SHAPES = {
    "": None,
    "   ": None,
    "{}": None,
    "5": None,
    "null": None,
    '"Heartbeat"': None,
    '{"2":"x"}': None,
    "AT+CSQ": None,
    "[]": "FormationViolation",
    "[2]": "FormationViolation",
    '[2,"x"]': "FormationViolation",
    '[2,"x","Heartbeat"]': ANSWERED,
    '[2,"x","Heartbeat",null]': ANSWERED,
    '[2,"x","Heartbeat",{},{"more":1}]': ANSWERED,
    '[2,"x","Heartbeat",[]]': "FormationViolation",
    '[2,"x","Heartbeat","{}"]': "FormationViolation",
    '[99,"x","Heartbeat",{}]': None,
    '[0,"x","Heartbeat",{}]': None,
    '[-2,"x","Heartbeat",{}]': None,
    '[null,"x","Heartbeat",{}]': None,
    '[true,"x","Heartbeat",{}]': None,
    '["2","x","Heartbeat",{}]': ANSWERED,
    '[2,7,"Heartbeat",{}]': ANSWERED,
    '[2,null,"Heartbeat",{}]': ANSWERED,
    '[2,"","Heartbeat",{}]': ANSWERED,
    '[2,1.5,"Heartbeat",{}]': "FormationViolation",
    '[2,{"a":1},"Heartbeat",{}]': "FormationViolation",
    '[2,["x"],"Heartbeat",{}]': "FormationViolation",
    '[2,"' + "i" * 37 + '","Heartbeat",{}]': ANSWERED,
    '[2,"' + "i" * 5_000 + '","Heartbeat",{}]': "FormationViolation",
    '[2,"' + "😀" * 255 + '","Heartbeat",{}]': "FormationViolation",
    '[3,"x"]': None,
    "[3]": "FormationViolation",
    '[4,"x"]': None,
    '[4,{},[],{},5]': None,
}  # fmt: skip


def test_B11_frames_of_another_shape_are_answered_or_left_alone(server, chargers, subtests):  # noqa: F811
    """What can be answered is, under its own id as it came; noise is not; the line lives."""
    with RawLine(server.port, "VLT-0001", KEY) as line:
        for number, (frame, expected) in enumerate(SHAPES.items()):
            with subtests.test(frame[:40]):
                heard = answers(line, frame, number)
                assert [ANSWERED if one[0] == 3 else one[2] for one in heard] == ([expected] if expected else [])
        echoed = {'"a\\u0000\\n\\"b"': 'a\x00\n"b', "7": 7, "null": None, "true": True, '""': "", '{"no":"id"}': "-1", "1.5": "-1"}
        for number, (ident, echo) in enumerate(echoed.items()):
            assert [one[1] for one in answers(line, f'[2,{ident},"Heartbeat",{{}}]', f"echo{number}")] == [echo]
        assert [one[1] for one in answers(line, '[2,"torn","Heartbe', "last")] == ["torn"]
    assert no_stumble()


def answers(line: RawLine, frame: str, number: Any) -> list[Any]:
    """What a bare line hears for this frame before the answer to the next message."""
    line.send(frame)
    line.call("Heartbeat", {}, f"after {number}")
    heard: list[Any] = []
    while True:
        found = line.frame()
        assert found is not None, "the line ended"
        if found[0] != TEXT or (one := json.loads(found[1]))[0] == 2:
            continue
        if one[1] == f"after {number}":
            return heard
        heard.append(one)


def test_B12_an_action_that_is_none_is_refused_as_the_standard_says(kaveri, subtests):
    """NotImplemented for words nobody knows, NotSupported for those only we may say, FormationViolation for no word."""
    unknown = ["FooBar", "__class__", "route_message", "", " ", "heartbeat2", "Ж" * 60, "A" * 100_000, "Boot\\u0000\\u0001X", "../Reset"]
    expected = {json.dumps(one): "FormationViolation" for one in (5, 1.5, None, True, [], {}, ["Heartbeat"], {"a": "Heartbeat"})}
    expected |= {f'"{one}"': "NotImplemented" for one in unknown}
    expected |= {f'"{one}"': "NotSupported" for one in ("RemoteStartTransaction", "Reset", "ChangeConfiguration", "UpdateFirmware")}
    for action, refusal in expected.items():
        with subtests.test(action[:30]):
            assert code(kaveri, f'[2,"x",{action},{{}}]') == refusal
    assert no_stumble()
    assert not Command.objects.filter(action="Reset").exists()


def test_B13_odd_values_in_every_field_of_every_action_are_read_or_left_out(kaveri, subtests):
    """Unknown fields, wrong types, words in another case, empty things: every action is answered and thanked, nothing stumbles."""
    odd: list[Any] = [True, -1, 1.5, "x", [], {"value": 1}, None, ["A", "B"]]
    for action in ROUTES["1.6"]:
        whole = schema(action)
        full = example(whole)
        calls = [(action, {**full, "unknown": one, "__proto__": one, action: one, "idtag": one}) for one in odd]
        for path in places(whole, {"string", "integer", "number", "boolean"}) + [(name,) for name in whole.get("properties", {})]:
            calls += [(action, with_value(full, path, one)) for one in odd]
        calls += [(action, renamed(full, str.upper)), (action, renamed(full, str.lower))]
        with subtests.test(action):
            assert all_answered(kaveri, calls)
    assert no_stumble()


def renamed(value: Any, change: Any) -> Any:
    if isinstance(value, dict):
        return {change(name): renamed(one, change) for name, one in value.items()}
    return [renamed(one, change) for one in value] if isinstance(value, list) else change(value) if isinstance(value, str) else value


def test_B13_what_only_we_may_ask_is_not_done_for_a_charger(kaveri, chargers):  # noqa: F811
    """A charger that sends our own actions is told NotSupported, and nothing comes of it."""
    for number, action in enumerate(sorted(set(_all_actions()) - set(ROUTES["1.6"]))):
        assert code(kaveri, json.dumps([2, f"n{number}", action, example(schema(action))])) == "NotSupported"
    assert not Command.objects.exclude(trigger__in=["configuration", "never booted"]).exists()


def _all_actions() -> list[str]:
    names = (path.name.removesuffix(".json") for path in (files("ocpp.v16") / "schemas").iterdir())
    return [name for name in names if not name.endswith("Response")]


# -- answers ------------------------------------------------------------------------------------------------------------
def uid_of(charger: ChargerClient, action: str) -> str:
    """Wait for our call of this action and leave it unanswered; its message id."""
    found: list[str] = []

    def there() -> bool:
        found.extend(frame.uid for frame in charger.inbox if frame.action == action)
        return bool(found)

    eventually(there)
    charger.expect(action, None)
    return found[0]


def state_of(command: Command) -> str:
    return Command.objects.get(pk=command.pk).state


def test_B14_an_answer_counts_once_and_only_from_whom_was_asked(client, kaveri, chargers):  # noqa: F811
    """Answers to nothing, for another charger's call and second ones change nothing; one that is merely late counts."""
    ganga = client("VLT-0002")
    ganga.boot()
    asked = commands.request(chargers.ganga_charger, "ClearCache", {}, trigger="test")
    uid = uid_of(ganga, "ClearCache")
    assert code(kaveri, json.dumps([3, uid, {"status": "Accepted"}])) is None
    assert code(kaveri, json.dumps([4, uid, "InternalError", "", {}])) is None
    assert code(kaveri, '[3,"never-asked",{"status":"Accepted"}]') is None
    assert state_of(asked) == "sent"
    notes = OcppMessage.objects.filter(charge_point=chargers.kaveri_charger, message_type__in=[3, 4], direction="IN").values_list(
        "note", flat=True
    )
    assert set(notes) == {"answers nothing we asked"} and len(notes) == 3
    assert said(ganga, json.dumps([3, uid, {"status": "Rejected"}])) == []
    assert state_of(asked) == "rejected"
    assert said(ganga, json.dumps([3, uid, {"status": "Accepted"}])) == []
    assert state_of(asked) == "rejected"

    late = commands.request(chargers.ganga_charger, "ClearCache", {}, trigger="test")
    uid = uid_of(ganga, "ClearCache")
    Command.objects.filter(pk=late.pk).update(state="timeout", error="The charger did not answer.")
    assert said(ganga, json.dumps([3, uid, {"status": "Accepted"}])) == []
    assert state_of(late) in ("accepted", "effective")
    assert no_stumble()


def test_B15_a_huge_error_is_clipped_and_its_markup_is_only_text(client, kaveri, chargers):  # noqa: F811
    """Of 180 KB of description 255 characters are kept, and the console shows them as text."""
    asked = commands.request(chargers.kaveri_charger, "ClearCache", {}, trigger="test")
    uid = uid_of(kaveri, "ClearCache")
    frame = json.dumps([4, uid, "<img src=x onerror=alert(1)>", "<script>alert(1)</script>" * 7_000, {"deep": ["x"] * 100}])
    assert len(frame) > 170_000 and code(kaveri, frame) is None
    row = Command.objects.get(pk=asked.pk)
    assert row.state == "error" and len(row.error) <= 255 and "<script>" in row.error
    page = signed_in(chargers.om).get(f"/console/commands/{row.pk}/").content.decode()
    assert "&lt;script&gt;alert(1)" in page and "<script>alert(1)" not in page and "<img src=x" not in page
    asked = commands.request(chargers.kaveri_charger, "ClearCache", {}, trigger="test")
    for short in ([4, uid_of(kaveri, "ClearCache")], [4, "x", None, None]):
        assert code(kaveri, json.dumps(short)) is None
    assert state_of(asked) == "error"
    with pytest.raises(CallError):
        kaveri.call("FooBar")
