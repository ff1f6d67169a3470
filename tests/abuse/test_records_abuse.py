"""What odd frames leave behind: answers, times, log lines, the time they take, and our own stumbling (B16, B19, B20, B22 to B24)."""

import csv
import io
import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from csms import frames, message_text, repair
from csms.dispatch import ROUTES
from csms.models import ChargePoint, ChargingSession, Connector, MeterReading, OcppMessage
from csms.rules.secrecy import masked_frame
from tests.abuse.test_frames_abuse import example, schema
from tests.charger import Charger
from tests.crawl import body, crawl
from tests.server import basic, serving
from tests.simulate_client import ChargerClient
from tests.stories import signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def kaveri(network, bells):
    """Her charger, without a wire."""
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.status("Available")
    return charger


# -- answers ------------------------------------------------------------------------------------------------------------
def test_B16_no_answer_is_long_however_long_the_question(kaveri):
    """Under 2 KiB, errors too: with ids, actions, fields and nonsense of the greatest length that is taken, in the widest characters."""
    widest = ("A", "\x01", "é", "😀", "\ud800", '"', "\\", "<", "\u2028")
    for char in widest:
        for length in (37, 255, 256, 5_000):
            ident = json.dumps(char * length)
            for rest in (
                '"Heartbeat",{}',
                f"{json.dumps(char * length)},{{}}",
                '"FooBar",{}',
                "5,{}",
                f'"Heartbeat",{json.dumps([char * length])}',
            ):
                kaveri.raw(f"[2,{ident},{rest}]".encode("utf-8", "surrogatepass"))
        long = json.dumps(char * 20_000)
        for action in ROUTES["1.6"]:
            kaveri.raw(f'[2,"x","{action}",{{{long}:{long},"idTag":{long},"vendorId":{long},"data":{long},"csr":{long}}}]'.encode())
    kaveri.raw('[2,"x","DataTransfer",' + '{"vendorId":' * 40 + "1" + "}" * 40 + "]")
    kaveri.raw('[2,"torn' + "x" * 200_000)
    longest = max(kaveri.sent, key=lambda reply: len(reply.text.encode()))
    assert len(longest.text.encode()) < 2_048, longest.text[:300]
    assert len(kaveri.sent) > 200 and not OcppMessage.objects.filter(note__startswith="kept for a person").exists()


def test_B19_another_message_under_a_used_id_is_another_message(kaveri):
    """It gets its own answer and has its own effect (some chargers count from 1 after every boot); both stand in the log."""
    start = {"connectorId": 1, "idTag": "ONE", "meterStart": 0, "timestamp": "2026-01-01T00:00:00Z"}
    first = kaveri.call("StartTransaction", start, "same")
    second = kaveri.call("StartTransaction", {**start, "idTag": "TWO"}, "same")
    assert second["transactionId"] != first["transactionId"]
    assert "currentTime" in kaveri.call("Heartbeat", {}, "same")
    assert kaveri.call("StartTransaction", {**start, "idTag": "TWO"}, "same") == second  # and a repeat is a repeat
    assert ChargingSession.objects.count() == 2
    assert OcppMessage.objects.filter(correlation_id="same", direction="IN").count() == 4


# -- times ---------------------------------------------------------------------------------------------------------------
TIMES = (
    "", " ", "0", "-1", "now", "null", "NaN", "1764000000", "1764000000000", "222222017-11-21T10:00:00Z", "0000-00-00T00:00:00Z",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "2038-01-19T03:14:08Z", "2026-00-10T00:00:00Z",
    "2026-13-10T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z", "2026-02-29T00:00:00Z", "2024-02-29T00:00:00Z",
    "2026-02-30T00:00:00Z", "2026-06-30T23:59:60Z", "2026-01-01T24:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01T00:60:00Z",
    "2026-01-01T00:00:61Z", "2026-01-01T00:00:00", "2026-01-01 00:00:00", "2026-01-01T00:00", "2026-01-01", "2026-01", "2026", "00:00:00",
    "2026-01-01T00:00:00+23:59", "2026-01-01T00:00:00-23:59", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+99:99",
    "2026-01-01T00:00:00+5:30", "2026-01-01T00:00:00+0530", "2026-01-01T00:00:00+05", "2026-01-01T00:00:00 IST", "2026-01-01T00:00:00ZZ",
    "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00,5Z", "2026-01-01T00:00:00." + "9" * 40 + "Z",
    "2026-1-1T0:0:0Z", "26-01-01T00:00:00Z", "01/02/2026 10:00", "1.2.2026", "Thu Jan 01 2026", "Thu, 01 Jan 2026 00:00:00 GMT",
    "20260101T000000Z", "2026-W01-1T00:00:00Z", "2026-001T00:00:00Z", "P1D", "२०२६-०१-०१T००:००:००Z", "２０２６-０１-０１T００:００:００Z",
    "2026-01-01T00:00:00Z\x00", "\x002026-01-01T00:00:00Z", "2026-01-01T00:00:00Z2026-01-01T00:00:00Z", " 2026-01-01T00:00:00Z ",
    "2026-01-01t00:00:00z", "+2026-01-01T00:00:00Z", "-2026-01-01T00:00:00Z", "2026\u201001\u201001T00:00:00Z", "T", "Z", "-", ":",
    "9" * 300, "2026-01-01T00:00:00Z" + "0" * 5_000, "\ud800", "<b>2026</b>", "2026-01-01T00:00:00Z; DROP TABLE x", "1e999",
)  # fmt: skip


def test_B20_no_time_is_too_strange(kaveri, network):
    """Eighty of them in every message that bears one: answered, the charge timed by our own clock where it cannot be, the text kept as
    it came, and every page that shows times still opens."""
    assert len(TIMES) >= 80
    for number, odd in enumerate(TIMES):
        clock.shift(1)
        kaveri.start("CARD", number, timestamp=odd)
        kaveri.status("Charging", timestamp=odd)
        value = {"timestamp": odd, "sampledValue": [{"value": str(number + 5)}]}
        kaveri.call("MeterValues", {"connectorId": 1, "transactionId": kaveri.transaction_id, "meterValue": [value]})
        kaveri.call("SecurityEventNotification", {"type": "StartupOfTheDevice", "timestamp": odd})
        kaveri.stop(number + 5, timestamp=odd, transactionData=[value])
    now = clock.now()
    starts = ChargingSession.objects.all()
    assert starts.count() == len(TIMES) and not starts.exclude(state="STOPPED").exists()
    for row in starts:
        for at in (row.start_time, row.end_time):
            assert now - timedelta(days=61) < at < now + timedelta(minutes=6), (row.pk, at)
        assert 0 <= row.energy_wh <= 10
    # What is kept beside the number it was read as: a reading's time is believed, or is ours.
    assert not MeterReading.objects.filter(at__gt=now + timedelta(minutes=6)).exists()
    assert not OcppMessage.objects.filter(note__startswith="kept for a person").exists()
    kept = OcppMessage.objects.filter(action="StartTransaction", direction="IN").values_list("raw", flat=True)
    assert any(b"222222017-11-21" in bytes(raw) for raw in kept)
    pages = ["/console/chargers/", f"/console/chargers/{kaveri.row.pk}/", "/console/messages/", "/admin/csms/chargingsession/"]
    pages += ["/admin/csms/meterreading/", "/admin/csms/securityevent/", "/admin/csms/connector/"]
    within = ("/console/chargers/", "/console/sessions/", "/admin/csms/chargingsession/", "/admin/csms/meterreading/")
    seen = crawl(signed_in(network.admin), pages, within=within, of_a_kind=3)
    assert seen.bad() == {} and len(seen.pages) > 30


# -- log lines -----------------------------------------------------------------------------------------------------------
FORGED = "2026-01-01 00:00:00,000 ERROR csms.dispatch FORGED"
INJECTIONS = tuple(before + FORGED for before in ("\r\n", "\n", "\x1b[2J\x1b[31m", '","level":"ERROR","msg":"', "\u2028", "\x85", "%s%n"))
_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+ ")


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_B22_no_text_of_a_charger_writes_a_line_of_our_log(network, tmp_path):
    """Line breaks, colours and quotes in every field, in handshakes and in what makes our code stumble: the server's log has only its
    own lines, a CSV of the frames has one row for each, and an audit entry is one entry."""
    from csms.stations import add_charge_point

    key = "a1" * 20
    add_charge_point("VLT-0001", company=network.kaveri.company, key=key)
    with serving(tmp_path, alone=False, MAX_REFUSALS_PER_ADDRESS="5", LOG_LEVEL="DEBUG") as server:
        with ChargerClient(server.url, "VLT-0001", key) as charger:
            for number, text in enumerate(INJECTIONS):
                for action in ROUTES["1.6"]:
                    whole = example(schema(action))
                    payload = {name: text if isinstance(value, str) else value for name, value in whole.items()}
                    charger.send(json.dumps([2, f"{number} {action}"[:36], action, payload]))
                charger.send(json.dumps([2, text, f"Foo{text}", {text: text}]))
                charger.send(json.dumps([4, "x", text, text, {}]))
                charger.send(text)
            charger.heartbeat()
        for text in INJECTIONS:
            raw = text.encode("utf-8")
            server.shake(b"/ocpp/VLT" + raw.replace(b"\r", b"").replace(b"\n", b""), {"Sec-WebSocket-Key": "none"}, patience_s=1)
            server.status("/ocpp/" + "".join(f"%{byte:02x}" for byte in raw), basic("x", "y"))
            server.status("/ocpp/VLT-0001", basic(text, "wrong"))
            server.status(
                "/ocpp/VLT-0001",
                {**basic("VLT-0001", "f" * 40), "User-Agent": text.encode().decode("latin-1").replace("\r\n", "").replace("\n", "")},
            )
        time.sleep(0.5)
        log = server.log.read_bytes()
    assert log and b"\x1b" not in log
    lines = log.decode("utf-8", "replace").split("\n")
    assert not [line for line in lines if line.startswith(FORGED)]
    assert not [line for line in lines if "FORGED" in line and not _LINE.match(line)]
    om = signed_in(network.om)
    answer = om.get("/console/messages.csv", {"charger": "VLT-0001"})
    rows = list(csv.reader(io.StringIO(body(answer).decode())))
    assert len(rows) == 1 + OcppMessage.objects.count() and {len(row) for row in rows} == {len(rows[0])}
    assert (
        not AuditEntry.objects.filter(actor__contains="\x1b").exists() and not AuditEntry.objects.filter(target_id__contains="\n").exists()
    )


# -- text made to be slow ------------------------------------------------------------------------------------------------
FULL = 262_144
METERED = '[2,"x","MeterValues",{"connectorId":1,"meterValue":['
SLOW = {
    "escaped quotes, torn": '[2,"x","DataTransfer",{"password":"' + '\\"' * 120_000 + "\\",
    "escaped quotes": '[2,"x","DataTransfer",{"password":"' + '\\"' * 120_000 + '"}]',
    "backslashes": '[2,"x","DataTransfer",{"key":"AuthorizationKey","value":"' + "\\" * 250_000,
    "quotes": '"' * FULL,
    "colons": '[2,"x","Heartbeat",{"a"' + ":" * 250_000,
    "colons and blanks": '[2,"x","Heartbeat",{"a":' + (": " * 120_000),
    "commas and blanks": '[2,"x","Heartbeat",{' + (",  " * 80_000),
    "blanks": '[2,"x",' + " " * 250_000 + "]",
    "blanks before a bracket": "]" + " " * 250_000 + "[",
    "brackets and blanks": "] [ " * 60_000,
    "frames in one": '[2,"x","Heartbeat",{}]' * 11_000,
    "a list of frames": "[" + '[2,"x","Heartbeat",{}],' * 10_000 + "[]]",
    "open brackets": '[2,"x","Heartbeat",' + "[" * 19_000,
    "open brackets in a text": '[2,"x","Heartbeat",{"a":"' + "[{" * 9_000,
    "digits": '[2,"x","Heartbeat",{"connectorId":' + "9" * 250_000 + "}]",
    "a decimal": '[2,"x","Heartbeat",{"connectorId":1.' + "9" * 250_000 + "e-99999}]",
    "a tag of blanks": '[2,"x","Authorize",{"idTag":"' + " " * 250_000 + '"}]',
    "a tag of separators": '[2,"x","Authorize",{"idTag":"' + ":-;" * 80_000 + '"}]',
    "tags without a value": "idTag: " * 35_000,
    "tags and blanks": ("idtag" + " " * 500) * 500,
    "a measurand of phases": METERED + '{"timestamp":"x","sampledValue":[{"value":"1","measurand":"' + ".L1-L2" * 40_000 + '"}]}]}]',
    "a time": '[2,"x","StatusNotification",{"connectorId":1,"status":"A","errorCode":"B","timestamp":"' + "2026-01-01T" * 20_000 + '"}]',
    "fields": '[2,"x","BootNotification",{' + ",".join(f'"f{n}":1' for n in range(20_000)) + "}]",
    "fields in other cases": '[2,"x","BootNotification",{' + ",".join(f'"CHARGEPOINTVENDOR{n % 7}":1' for n in range(9_000)) + "}]",
    "samples": METERED + ",".join(['{"timestamp":"x","sampledValue":[{"value":"1"}]}'] * 5_000) + "]}]",
    "certificates": '[2,"x","SignCertificate",{"csr":"' + "-----BEGIN A-----" * 15_000 + '"}]',
    "escapes": '[2,"x","DataTransfer",{"vendorId":"' + "\\u005c" * 40_000 + '"}]',
    "half characters": '[2,"x","DataTransfer",{"vendorId":"' + "\\ud800" * 40_000 + '"}]',
    "no text at all": "\x00" * FULL,
}  # fmt: skip


def test_B23_no_text_is_slow_to_read(subtests):
    """A frame of the greatest size is read, repaired, masked and shown within a second of work, whatever it is made of."""
    for what, text in SLOW.items():
        with subtests.test(what):
            raw = text.encode()
            assert len(raw) <= FULL + 5
            began = time.process_time()
            for part in frames.split(raw)[: frames.FRAMES_AT_ONCE]:
                frame = frames.read(part)
                if isinstance(frame, frames.Frame) and frame.type == frames.CALL and frame.action in repair.actions("1.6"):
                    fixed = repair.repair("1.6", frame.action, frame.payload)
                    ROUTES["1.6"][frame.action].read(fixed.payload, clock.now())
            frames.torn(raw)
            masked_frame(raw)
            reading_s = time.process_time() - began
            message_text.shown(raw, tags=False)
            message_text.gist(raw, tags=False)
            message_text.understood(raw, tags=False)
            showing_s = time.process_time() - began - reading_s
            assert reading_s < 1.0 and showing_s < 2.0, (reading_s, showing_s)


# -- our own mistakes ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("action", sorted(ROUTES["1.6"]))
def test_B24_our_own_mistake_costs_that_message_and_nothing_else(kaveri, network, monkeypatch, action):
    """Each deed made to fail, in reading and in acting: a fact is thanked for, anything else hears InternalError and no reason; the frame
    is kept for a person, half a deed is not, and the next message and the next charger are served."""
    ganga = Charger(network.ganga_charger)
    payload = example(schema(action))
    for part, failing in (("read", _fail), ("act", _fail_after_writing)):
        monkeypatch.setitem(ROUTES["1.6"], action, replace(ROUTES["1.6"][action], quick=None, before=None, **{part: failing}))
        answer = kaveri.raw(json.dumps([2, part, action, {**payload, "connectorId": 1} if "connectorId" in payload else payload]))
        if ROUTES["1.6"][action].fact:
            assert answer[0] == 3
        else:
            assert answer[0] == 3 or (answer[2], answer[3], answer[4]) == ("InternalError", "", {})
        kept = OcppMessage.objects.get(correlation_id=part, direction="IN")
        assert kept.note == "kept for a person: our code failed with ZeroDivisionError"
        assert AuditEntry.objects.filter(action="message.quarantined", after__action=action).exists()
        monkeypatch.undo()
    assert not Connector.objects.filter(connector_id=19).exists()  # what it had written by then is not
    assert kaveri.boot()["status"] == ganga.boot()["status"] == "Accepted"
    assert ChargePoint.objects.filter(online=True).count() == 2


def _fail(*told: Any, **named: Any) -> Any:
    return 1 / 0


def _fail_after_writing(*told: Any, **named: Any) -> Any:
    Connector.objects.create(charge_point_id="VLT-0001", connector_id=19)
    return 1 / 0
