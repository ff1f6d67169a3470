"""Chargers that mean it ill, or are merely broken, on real sockets against a real server.

Named after the abuse cases (A: transport and identity, B: frames) and the conformance cases (C20-C29) they play.
"""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.core.cache import cache
from django.db import transaction
from websockets.exceptions import InvalidStatus

from accounts.models import AuditEntry
from csms.models import ChargePoint, ChargingSession, Connection, OcppMessage
from csms.stations import add_charge_point
from tests.server import basic
from tests.simulate_client import CallError, ChargerClient, NoAnswer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
KEY, OTHER_KEY = "a1" * 20, "b2" * 20


@pytest.fixture(autouse=True)
def _put_right(server):
    """Each story begins with nobody refused yet, and ends with the server alive and no mistake of ours in its log."""
    cache.clear()
    server.forgive()
    yield
    eventually(quiet)
    assert server.alive
    assert server.mistakes == []


@pytest.fixture
def chargers(network):
    """Kaveri's VLT-0001 and Ganga's VLT-0002, each with a key of its own."""
    add_charge_point("VLT-0001", company=network.kaveri.company, key=KEY)
    add_charge_point("VLT-0002", company=network.ganga.company, key=OTHER_KEY)
    return network


@pytest.fixture
def client(server, chargers):
    """Open a charger's socket; all are closed at the end."""
    opened: list[ChargerClient] = []

    def open_client(cp_id: str = "VLT-0001", key: str | None = None, **how) -> ChargerClient:
        one = ChargerClient(server.url, cp_id, key or {"VLT-0001": KEY, "VLT-0002": OTHER_KEY}.get(cp_id), **how)
        opened.append(one)
        return one.connect()

    yield open_client
    for one in opened:
        one.end()


def eventually(holds, within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def quiet() -> bool:
    """Every line is put away and every answer written down: the tables may be emptied."""
    asked = OcppMessage.objects.filter(direction="IN", message_type=2).count()
    told = OcppMessage.objects.filter(direction="OUT", message_type__in=[3, 4]).count()
    return told >= asked and not Connection.objects.filter(closed_at=None).exists()


def refusals() -> list[tuple[str, str]]:
    return list(AuditEntry.objects.filter(action="connection.refused").order_by("pk").values_list("target_id", "trigger"))


def alive(charger: ChargerClient) -> bool:
    return "currentTime" in charger.call("Heartbeat")


def without_date(answer: bytes) -> list[bytes]:
    return sorted(line for line in answer.split(b"\r\n") if not line.lower().startswith(b"date:"))


# -- A: who may come in ------------------------------------------------------------------------------------------------
def test_A02_a_wrong_password_and_A03_a_stranger_hear_the_same(server, chargers):
    known = server.shake("/ocpp/VLT-0001", basic("VLT-0001", "f" * 40))
    stranger = server.shake("/ocpp/VLT-9999", basic("VLT-9999", "f" * 40))
    assert without_date(known) == without_date(stranger)
    assert known.split(b" ")[1] in (b"401", b"403") and b"VLT" not in known
    assert refusals() == [("VLT-0001", "wrong_key"), ("VLT-9999", "unknown")]
    assert not Connection.objects.exists() and not OcppMessage.objects.exists()
    entry = AuditEntry.objects.filter(action="connection.refused").first()
    assert (entry.actor, entry.after) == ("127.0.0.1", {"address": "127.0.0.1"})
    assert not ChargePoint.objects.get(cp_id="VLT-0001").online


def test_A01_no_credentials_or_none_that_can_be_read(server, chargers, subtests):
    unreadable = ["Basic", "Basic !!", "Basic \xfc\xfc", "Bearer x"]
    tried = [{}, *({"Authorization": one} for one in unreadable), basic("VLT-0001", ""), basic("", KEY)]
    for count, headers in enumerate(tried, start=1):
        with subtests.test(str(headers)):
            cache.clear()  # one record a minute otherwise
            assert server.status("/ocpp/VLT-0001", headers) in (401, 403)
            assert refusals() == [("VLT-0001", "wrong_key")] * count


def test_A06_a_user_name_that_is_not_the_identity_is_refused(server, chargers):
    assert server.status("/ocpp/VLT-0001", basic("VLT-0002", KEY)) in (401, 403)


def test_A07_one_chargers_key_on_anothers_address_is_refused(server, chargers):
    for user in ("VLT-0001", "VLT-0002"):
        assert server.status("/ocpp/VLT-0002", basic(user, KEY)) in (401, 403)
    assert {trigger for _, trigger in refusals()} == {"wrong_key"}


def test_a_blocked_charger_with_its_own_key_is_refused(server, chargers):
    ChargePoint.objects.filter(cp_id="VLT-0001").update(blocked=True)
    assert server.status("/ocpp/VLT-0001", basic("VLT-0001", KEY)) in (401, 403)
    assert refusals() == [("VLT-0001", "blocked")]


def test_A05_a_spray_over_many_identities_does_not_fill_the_table(server, chargers):
    with ThreadPoolExecutor(8) as many:
        said = list(many.map(lambda number: server.status(f"/ocpp/SPRAY-{number}", basic(f"SPRAY-{number}", "x")), range(100)))
    assert set(said) <= {401, 403}
    assert len(refusals()) == 60


def test_A21_no_sub_protocol_of_ours_completes_the_handshake_and_closes(server, chargers, subtests):
    tried = [None, "ocpp1.5", "ocpp1.5, ocpp2.9", "OCPP", "x" * 3_000, ", ".join(f"p{n}" for n in range(1_000))]
    for count, offered in enumerate(tried, start=1):
        with subtests.test(str(offered)[:20]):
            cache.clear()
            said = server.shake("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Protocol": offered})
            head, _, body = said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101") and b"sec-websocket-protocol" not in head.lower()
            assert body[:1] == b"\x88" and int.from_bytes(body[2:4]) == 1002
            assert refusals() == [("VLT-0001", "subprotocol")] * count
    assert not ChargePoint.objects.get(cp_id="VLT-0001").online


def test_A21_a_sub_protocol_that_is_not_ascii_is_none(server, client, chargers):
    """What cannot be read is left out: who also names one of ours comes in, who does not is told as anybody else."""
    assert b"101" in server.shake(
        "/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Protocol": "ocpp1.6, \xe9"}, until=b"\r\n\r\n"
    )
    for odd in ("ocpp1.6\xff", "\xfc\xfc", "\x80,\xff"):
        head, _, body = server.shake("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Protocol": odd}).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101") and b"sec-websocket-protocol" not in head.lower()
        assert body[:1] == b"\x88" and int.from_bytes(body[2:4]) == 1002
    assert alive(client("VLT-0001"))
    assert Connection.objects.count() == 2


def test_the_best_sub_protocol_of_those_offered_is_spoken(client):
    charger = client(subprotocols=["ocpp2.9", "ocpp1.5", "ocpp1.6"])
    assert charger.socket.subprotocol == "ocpp1.6"


WAYS_TO_WRITE_IT = [
    "/ocpp/VLT-0001",
    "/ocpp/VLT-0001?token=1",
    "/ocpp/VLT-0001;v=1",
    "/ocpp/VLT%2D0001",
    "/ocpp/VLT-0001/",
    "/ocpp//VLT-0001//",
    "/ocpp/%20VLT-0001%20",
    "/ocpp/vlt-0001",
    "/ocpp/ws/VLT-0001",
]
NO_ADDRESS = [
    "/ocpp",
    "/ocpp/",
    "/ocpp//",
    "/ocpp/%20",
    "/ocpp/" + "V" * 49,
    "/ocpp/" + "V" * 60_000,
    "/ocpp/VLT-0001%00",
    "/ocpp/%00",
    "/ocpp/VLT-0001%0a",
    "/ocpp/VLT-0001%0d%0aX:1",
    "/ocpp/../admin/",
    "/ocpp/%2e%2e",
    "/ocpp/VLT-0001%3Cscript%3E",
    "/ocpp/VLT-0001'--",
    "/ocpp/%ff%fe",
    "/ocpp/%D0%92LT-0001",
    "/ocpp/%",
    "/OCPP/VLT-0001",
    "/ws/VLT-0001",
    "/",
    b"/ocpp/\xff",
]


def test_A22_the_ways_a_charger_writes_its_address(server, chargers, subtests):
    for path in WAYS_TO_WRITE_IT:
        with subtests.test(path):
            assert server.status(path, basic("VLT-0001", KEY)) == 101
    assert refusals() == []
    assert {row.charge_point.cp_id for row in Connection.objects.select_related("charge_point")} == {"VLT-0001"}


def test_A22_an_address_that_is_none(server, chargers, subtests):
    for path in NO_ADDRESS:
        with subtests.test(str(path)[:40]):
            assert server.status(path, basic("VLT-0001", KEY)) in (0, 400, 401, 403, 404, 414)
    assert not Connection.objects.exists()


def test_A23_a_forwarded_address_is_not_believed_from_anybody(server, chargers):
    server.shake("/ocpp/VLT-9999", {**basic("VLT-9999", "x"), "X-Forwarded-For": "8.8.8.8"})
    assert AuditEntry.objects.get(action="connection.refused").actor == "127.0.0.1"


# -- one owner ------------------------------------------------------------------------------------------------------------
def test_A12_a_takeover_closes_the_old_socket_and_its_word_is_not_believed(client, chargers):
    old = client()
    old.boot()
    old.status(1, "Available")
    new = client()
    assert old.wait_closed(5) == 1000
    assert alive(new)
    assert ChargePoint.objects.get(cp_id="VLT-0001").online
    eventually(lambda: Connection.objects.filter(close_reason="replaced").count() == 1)
    chargers.kaveri_connector.refresh_from_db()
    assert chargers.kaveri_connector.status == "Available"


def test_A12_what_the_old_socket_still_says_is_history(client, chargers):
    """A newcomer at another process owns the charger, and word of it has not reached the old socket's process."""
    old = client()
    old.boot()
    ChargePoint.objects.filter(cp_id="VLT-0001").update(epoch=1_000)
    old.status(1, "Faulted", "GroundFailure")
    chargers.kaveri_connector.refresh_from_db()
    assert chargers.kaveri_connector.status == "Available"
    note = OcppMessage.objects.get(action="StatusNotification", direction="IN").note
    assert note == "from a replaced socket: not believed"


def test_A14_many_newcomers_at_once_leave_one_socket(server, client, chargers):
    ready = threading.Barrier(8)

    def come(_: int) -> ChargerClient:
        ready.wait(10)
        return client()

    with ThreadPoolExecutor(8) as many:
        all_of_them = list(many.map(come, range(8)))
    eventually(lambda: sum(one.connected for one in all_of_them) == 1)
    last = next(one for one in all_of_them if one.connected)
    assert alive(last)
    charge_point = ChargePoint.objects.get(cp_id="VLT-0001")
    eventually(lambda: list(Connection.objects.filter(closed_at=None).values_list("epoch", flat=True)) == [charge_point.epoch])
    assert charge_point.online and charge_point.epoch == 8


# -- B: frames ---------------------------------------------------------------------------------------------------------------
DEEP = "[" * 5_000 + "]" * 5_000
ODD_FRAMES = {
    "C24_unparseable_json": ('[2,"x","Heartb', "FormationViolation"),
    "C25_unknown_action": ('[2,"x","FooBar",{}]', "NotImplemented"),
    "C26_known_and_not_handled": ('[2,"x","RemoteStartTransaction",{"idTag":"A"}]', "NotSupported"),
    "C27_message_type_7": ('[7,"x","Heartbeat",{}]', None),
    "C27_message_type_text": ('["2","x","Heartbeat",{}]', "answered"),
    "C23_no_payload": ('[2,"x","Heartbeat"]', "answered"),
    "C23_null_payload": ('[2,"x","Heartbeat",null]', "answered"),
    "C29_action_object": ('[2,"x",{},{}]', "FormationViolation"),
    "C29_action_number": ('[2,"x",5,{}]', "FormationViolation"),
    "C29_action_dunder": ('[2,"x","__class__",{}]', "NotImplemented"),
    "B05_deep": ('[2,"x","Heartbeat",' + DEEP + "]", "FormationViolation"),
    "B05_deep_nothing_else": (DEEP, "FormationViolation"),
    "B06_nan": ('[2,"x","MeterValues",{"connectorId":NaN,"meterValue":Infinity}]', "answered"),
    "B06_1e999": ('[2,"x","StartTransaction",{"connectorId":1e999,"idTag":"A","meterStart":-1e999,"timestamp":"x"}]', "answered"),
    "B07_huge_digits": ('[2,"x","MeterValues",{"connectorId":' + "9" * 5_000 + ',"meterValue":[]}]', "answered"),
    "B07_2_63": (
        '[2,"x","MeterValues",{"connectorId":9223372036854775807,"transactionId":9223372036854775808,'
        '"meterValue":[{"timestamp":"x","sampledValue":[{"value":"9223372036854775808"}]}]}]',
        "answered",
    ),
    "B08_duplicate_keys": ('[2,"x","Authorize",{"idTag":"A","idTag":"B"}]', "answered"),
    "B09_nul": (
        '[2,"x","StatusNotification",{"connectorId":1,"status":"Available","errorCode":"NoError","info":"a\\u0000b","\\u0000":1}]',
        "answered",
    ),
    "B09_surrogate": ('[2,"x","BootNotification",{"chargePointVendor":"\\ud800","chargePointModel":"\\u202e"}]', "answered"),
    "B09_control_bytes": ('[2,"x","Heartbeat",{}]\x00\x01\x1b', "answered"),
    "B09_nul_in_the_id": ('[2,"\\u0000","Heartbeat",{}]', "answered"),
    "B11_object": ("{}", None),
    "B11_number": ("5", None),
    "B11_empty_list": ("[]", "FormationViolation"),
    "B11_empty": ("", None),
    "B11_noise": ("AT+CSQ\r\nOK", None),
    "B11_id_object": ('[2,{},"Heartbeat",{}]', "FormationViolation"),
    "B11_id_of_40": ('[2,"' + "i" * 40 + '","Heartbeat",{}]', "answered"),
    "B11_id_of_300": ('[2,"' + "i" * 300 + '","Heartbeat",{}]', "FormationViolation"),
    "B14_answer_nobody_asked": ('[3,"x",{"status":"Accepted","a":"\\u0000"}]', None),
    "B14_error_nobody_asked": ('[4,"x","InternalError","<script>",{}]', None),
    "B15_error_of_200_kb": ('[4,"x","GenericError","' + "<b>" * 60_000 + '",{}]', None),
    "B20_timestamps": ('[2,"x","StartTransaction",{"connectorId":1,"idTag":"A","meterStart":0,"timestamp":"222222017-00-00"}]', "answered"),
    "B22_log_lines": ('[2,"x","Fo\\r\\nERROR Traceback forged",{}]', "NotImplemented"),
}  # fmt: skip


def test_odd_frames_are_answered_or_ignored_and_the_next_is_heard(client, subtests):
    charger = client()
    for name, (frame, answer) in ODD_FRAMES.items():
        with subtests.test(name):
            before = len(charger.frames)
            charger.send(frame)
            assert alive(charger)
            heard = [json.loads(text) for way, text in charger.frames[before:] if way == "IN" and '"RemoteStop' not in text][:-1]
            if answer is None:
                assert heard == []
            elif answer == "answered":
                assert [one[0] for one in heard] == [3]
            else:
                assert [(one[0], one[2]) for one in heard] == [(4, answer)]
                assert len(json.dumps(heard)) < 2_000
            assert OcppMessage.objects.filter(direction="IN", raw=frame.encode()).count() == 1


def test_B10_a_binary_frame_is_read_as_if_it_were_text(client, subtests):
    charger = client()
    for raw in (b'[2,"x","Heartbeat",{}]', b"\x00\xff\xfe", b"", b'[2,"x","BootNotification",{"chargePointVendor":"M\xfcller"}]'):
        with subtests.test(str(raw)):
            charger.send(raw)
            assert alive(charger)
            assert OcppMessage.objects.filter(direction="IN", raw=raw).count() == 1


def test_B01_a_frame_of_one_megabyte_ends_that_line_alone(client, server):
    kaveri, ganga = client("VLT-0001"), client("VLT-0002")
    kaveri.send('[2,"x","DataTransfer",{"vendorId":"v","data":"' + "x" * 1_000_000 + '"}]')
    assert kaveri.wait_closed(10) == 1009
    assert alive(ganga) and server.alive
    eventually(lambda: Connection.objects.filter(close_reason="frame too large").exists())
    assert alive(client("VLT-0001"))


def test_a_stop_of_500_samples_is_no_frame_too_large(client, chargers):
    charger = client()
    charger.boot()
    transaction_id = charger.start(1, "CARD")["transactionId"]
    sample = {"value": "1", "measurand": "Energy.Active.Import.Register", "context": "Sample.Periodic", "unit": "Wh", "location": "Outlet"}
    data = [{"timestamp": f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z", "sampledValue": [{**sample, "value": str(n)}]} for n in range(500)]
    assert charger.stop(transaction_id, meter_wh=500, transactionData=data) == {}
    assert ChargingSession.objects.get().state == "STOPPED"


def test_B02_a_message_without_end_ends_that_line_alone(server, client, chargers):
    """One message in pieces that never finishes: the server gives up at its size, not at the machine's."""
    ganga, sent, heard = client("VLT-0002"), 0, b""
    with server_line(server, "VLT-0001", KEY) as line:
        try:
            while sent < 8_000_000:
                line.sendall(masked(0x00 if sent else 0x01, b"x" * 60_000))
                sent += 60_000
                line.setblocking(False)
                with suppress(BlockingIOError):
                    heard += line.recv(1_000)
                line.settimeout(5)
                if heard:
                    break
        except OSError:
            assert sent < 8_000_000
    assert heard[:1] == b"\x88" and int.from_bytes(heard[2:4]) == 1009
    assert alive(ganga) and server.alive
    eventually(lambda: Connection.objects.filter(charge_point=chargers.kaveri_charger, closed_at__isnull=False).exists())


def test_B17_three_hundred_frames_at_once_are_answered_or_the_line_ends(client, server):
    charger, ganga = client("VLT-0001"), client("VLT-0002")
    try:
        for number in range(300):
            charger.send(f'[2,"p{number}","Heartbeat",{{}}]')
    except Exception as error:
        assert type(error).__name__.startswith("Connection"), error
    assert alive(ganga)
    answered = [f"p{number}" for number in range(300)]

    def settled() -> bool:
        heard = [json.loads(text)[1] for way, text in charger.frames if way == "IN"]
        assert heard == answered[: len(heard)]  # in their order, each once
        return len(heard) == 300 or not charger.connected

    eventually(settled, 15)
    if not charger.connected:
        eventually(lambda: Connection.objects.filter(close_reason="too many frames at once").exists())
    assert server.alive


def test_B18_the_same_start_sent_again_is_one_session(client):
    charger = client()
    charger.boot()
    start = {"connectorId": 1, "idTag": "CARD", "meterStart": 0, "timestamp": "2026-01-01T00:00:00Z"}
    first = charger.call("StartTransaction", start, uid="same")
    assert charger.call("StartTransaction", start, uid="same") == charger.call("StartTransaction", start, uid="other") == first
    assert ChargingSession.objects.count() == 1


def test_B24_a_charger_whose_row_is_held_does_not_hold_another(client, chargers):
    """Kaveri's reading waits for a row that somebody holds; Ganga's heartbeats and Kaveri's own answer do not suffer."""
    kaveri, ganga = client("VLT-0001"), client("VLT-0002")
    kaveri.boot()
    transaction_id = kaveri.start(1, "CARD")["transactionId"]
    with ThreadPoolExecutor(1) as one:
        with transaction.atomic():
            ChargingSession.objects.select_for_update().get()
            reading = one.submit(kaveri.meter, 1, transaction_id, register_wh=100)
            slowest = 0.0
            for _ in range(10):
                began = time.monotonic()
                assert alive(ganga)
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 1.0
            assert not reading.done()
        assert reading.result(15) == {}
    assert ChargingSession.objects.get().state == "RUNNING"


def test_C18_a_fact_that_waits_beyond_the_lock_time_out_is_held_and_answered_not_refused(client):
    kaveri = client("VLT-0001")
    kaveri.boot()
    transaction_id = kaveri.start(1, "CARD")["transactionId"]
    with ThreadPoolExecutor(1) as one:
        with transaction.atomic():
            ChargingSession.objects.select_for_update().get()
            stop = one.submit(kaveri.stop, transaction_id, meter_wh=0)
            time.sleep(3.4)  # lock_timeout is 3 s
            assert not stop.done()
        assert stop.result(15) == {}
    assert ChargingSession.objects.get().state == "STOPPED"
    assert OcppMessage.objects.filter(action="StopTransaction", direction="IN").count() == 1


def test_C20_a_line_that_vanishes_leaves_the_session_suspended_and_the_charger_offline(client):
    charger = client()
    charger.boot()
    charger.start(1, "CARD")
    charger.drop()
    eventually(lambda: not ChargePoint.objects.get(cp_id="VLT-0001").online)
    eventually(lambda: ChargingSession.objects.get().state == "SUSPENDED")


def test_what_was_received_before_the_line_broke_is_kept(client):
    charger = client()
    charger.boot()
    transaction_id = charger.start(1, "CARD")["transactionId"]
    charger.send(
        json.dumps([2, "last", "StopTransaction", {"transactionId": transaction_id, "meterStop": 0, "timestamp": "2026-01-01T00:00:00Z"}])
    )
    charger.drop()
    eventually(lambda: ChargingSession.objects.get().state == "STOPPED")


def test_the_doors_own_clients_see_what_it_says(client):
    """The helper of these tests tells a refusal from an answer: otherwise nothing above would mean anything."""
    with pytest.raises(InvalidStatus):
        client("VLT-0001", key="f" * 40)
    charger = client()
    with pytest.raises(CallError):
        charger.call("FooBar")
    with pytest.raises(NoAnswer):
        charger.wait_closed(0.2)


# -- below: frames that no library sends -----------------------------------------------------------------------------------
def server_line(server, cp_id: str, key: str) -> socket.socket:
    """A WebSocket after its handshake, as a bare line."""
    from tests.server import HANDSHAKE

    line = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    headers = {"Host": "x", **HANDSHAKE, **basic(cp_id, key)}
    line.sendall((f"GET /ocpp/{cp_id} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode())
    assert line.recv(4_096).startswith(b"HTTP/1.1 101")
    return line


def masked(first: int, payload: bytes) -> bytes:
    """One WebSocket frame under a mask of zeros; `first` is its first byte."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([first]) + length + b"\0\0\0\0" + payload
