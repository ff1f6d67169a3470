"""What one line may cost: who comes too often, says too much, reads too little or nothing, on real sockets.

Named after the abuse cases (A: transport and identity, B: frames, C: what chargers do) and the conformance cases they play.
"""

import json
import threading
import time
from contextlib import suppress

import pytest
from django.core.cache import cache
from django.db import transaction

from accounts.models import AuditEntry
from csms.models import Alert, ChargePoint, ChargingSession, Command, Connection, OcppMessage
from csms.stations import add_charge_point
from tests.abuse.raw import PING, PONG, TEXT, RawLine, masked
from tests.server import HANDSHAKE, basic, serving
from tests.simulate_client import ChargerClient
from voltaro import wire

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
KEY, OTHER_KEY = "a1" * 20, "b2" * 20


@pytest.fixture(autouse=True)
def _put_right(server):
    cache.clear()
    server.forgive()
    yield
    eventually(lambda: not Connection.objects.filter(closed_at=None).exists(), 10)
    assert server.alive
    assert server.mistakes == []


@pytest.fixture
def chargers(network):
    """Kaveri's VLT-0001 and Ganga's VLT-0002, each with a key of its own."""
    add_charge_point("VLT-0001", company=network.kaveri.company, key=KEY)
    add_charge_point("VLT-0002", company=network.ganga.company, key=OTHER_KEY)
    return network


@pytest.fixture
def kaveri(server, chargers):
    """Her charger on a bare line."""
    with RawLine(server.port, "VLT-0001", KEY) as line:
        yield line


@pytest.fixture
def ganga(server, chargers):
    with ChargerClient(server.url, "VLT-0002", OTHER_KEY) as charger:
        yield charger


def eventually(holds, within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def answer(line: RawLine, uid: str, within_s: float = 10):
    """The answer to that message, whatever comes before it."""
    while (found := line.frame(within_s)) is not None:
        if found[0] == TEXT and (frame := json.loads(found[1]))[1] == uid and frame[0] in (3, 4):
            return frame
    raise AssertionError("the line ended")


# -- handshakes as chargers write them ---------------------------------------------------------------------------------
ODD_HANDSHAKES = {
    "two slashes": ("//ocpp/VLT-0001", {}),
    "many slashes": ("////ocpp//VLT-0001", {}),
    "the whole address": ("http://10.0.0.1:9000/ocpp/VLT-0001", {}),
    "its address as its identity": ("/ocpp/ws://10.0.0.1:9000/ocpp/VLT-0001", {}),
    "a fragment": ("/ocpp/VLT-0001#1", {}),
    "an Origin that is no address": ("/ocpp/VLT-0001", {"Origin": "localhost"}),
    "an Origin of its file": ("/ocpp/VLT-0001", {"Origin": "file://"}),
    "no Connection": ("/ocpp/VLT-0001", {"Connection": None}),
    "Connection: keep-alive": ("/ocpp/VLT-0001", {"Connection": "keep-alive"}),
    "a sub-protocol twice": ("/ocpp/VLT-0001", {"Sec-WebSocket-Protocol": "ocpp1.6, ocpp1.6"}),
    "in capitals": ("/ocpp/VLT-0001", {"Sec-WebSocket-Protocol": "OCPP1.6"}),
    "C40 compression, and odd parameters": (
        "/ocpp/VLT-0001",
        {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=99"},
    ),
    "cookies and an evil Origin (A24)": ("/ocpp/VLT-0001", {"Origin": "https://evil.example", "Cookie": "sessionid=1"}),
}


def test_Q05_Q07_handshakes_as_chargers_write_them(server, chargers, subtests):
    for what, (path, headers) in ODD_HANDSHAKES.items():
        with subtests.test(what):
            said = server.shake(path, {**basic("VLT-0001", KEY), **headers}, until=b"\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 101"), said
            assert b"sec-websocket-extensions" not in said.lower()


def test_Q04_a_handshake_without_a_host(server, chargers):
    import socket

    from tests.server import HANDSHAKE

    lines = [f"{name}: {value}" for name, value in {**HANDSHAKE, **basic("VLT-0001", KEY)}.items()]
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
        line.sendall(("GET /ocpp/VLT-0001 HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())
        assert line.recv(4_096).startswith(b"HTTP/1.1 101")


def test_C02_C04_sub_protocols_by_the_chargers_habits(server, chargers):
    said = server.shake("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Protocol": "ocpp2.0.1,ocpp1.6"}, until=b"\r\n\r\n")
    assert b"sec-websocket-protocol: ocpp1.6\r\n" in said.lower()
    silent = {**basic("VLT-0001", KEY), "Sec-WebSocket-Protocol": None}
    assert b"\x88" in server.shake("/ocpp/VLT-0001", silent).partition(b"\r\n\r\n")[2]
    ChargePoint.objects.filter(cp_id="VLT-0001").update(quirk_settings={"without_subprotocol": True})
    head = server.shake("/ocpp/VLT-0001", silent, until=b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101") and b"sec-websocket-protocol" not in head.lower()
    eventually(lambda: Connection.objects.filter(subprotocol="ocpp1.6").count() == 2)


def test_C05_C09_C10_a_refusal_says_401_and_nothing_else(server, chargers):
    said = server.shake("/ocpp/VLT-0001", basic("VLT-0001", "f" * 40))
    assert said.startswith(b"HTTP/1.1 401 Unauthorized\r\n") and b'www-authenticate: basic realm="ocpp"' in said.lower()
    assert said.partition(b"\r\n\r\n")[2] == b""


def test_frames_that_are_written_before_the_handshake_is_answered_are_heard(server, chargers):
    """In one piece with the handshake, and right behind it: some chargers do not wait for the answer."""
    boot = json.dumps([2, "b", "BootNotification", {"chargePointVendor": "Acme", "chargePointModel": "Fast 60"}])
    beats = [json.dumps([2, f"h{number}", "Heartbeat", {}]) for number in range(3)]
    with RawLine(server.port, "VLT-0001", KEY, behind=b"".join(masked(0x80 | TEXT, one.encode()) for one in (boot, *beats))) as line:
        assert line.status == 101
        assert answer(line, "b")[2]["status"] == "Accepted"
        assert [answer(line, f"h{number}")[0] for number in range(3)] == [3, 3, 3]
    with RawLine(server.port, "VLT-0002", OTHER_KEY, handshake=False) as line:
        headers = {"Host": "x", **HANDSHAKE, **basic("VLT-0002", OTHER_KEY)}
        line.line.sendall(("GET /ocpp/VLT-0002 HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode())
        time.sleep(0.005)
        line.send(boot)
        while b"\r\n\r\n" not in line.heard:
            line.heard += line.line.recv(65_536)
        line.heard = line.heard.partition(b"\r\n\r\n")[2]
        assert answer(line, "b")[2]["status"] == "Accepted"


# -- A: who knocks too often --------------------------------------------------------------------------------------------
def tries(server, cp_id: str, key: str, source: str, times: int = 1) -> list[int]:
    found = []
    for _ in range(times):
        with RawLine(server.port, cp_id, key, source=source) as line:
            found.append(line.status)
    return found


def test_A04_guessing_is_refused_without_work_and_the_real_charger_is_not_locked_out(server, chargers):
    with RawLine(server.port, "VLT-0001", KEY, source="127.0.0.3") as line:
        assert line.status == 101
    assert set(tries(server, "VLT-0001", "f" * 40, "127.0.0.4", 12)) == {401}
    assert tries(server, "VLT-0001", KEY, "127.0.0.4") == [401]  # whoever guesses there does not even learn that it guessed right
    assert tries(server, "VLT-0002", OTHER_KEY, "127.0.0.4") == [101]  # its neighbour behind the same address
    assert tries(server, "VLT-0001", KEY, "127.0.0.5") == [101]  # the charger itself, from elsewhere
    set(tries(server, "VLT-0001", "f" * 40, "127.0.0.3", 12))
    assert tries(server, "VLT-0001", KEY, "127.0.0.3") == [101]  # and from where it came in before, whoever guesses there
    assert AuditEntry.objects.filter(action="connection.refused", target_id="VLT-0001").count() == 2


def test_A05_a_spray_narrows_the_door_of_that_address_only(server, chargers, tmp_path):
    with serving(tmp_path, alone=False, MAX_REFUSALS_PER_ADDRESS="30") as narrow:
        assert tries(narrow, "VLT-0001", KEY, "127.0.0.6") == [101]
        for number in range(40):
            assert tries(narrow, f"SPRAY-{number}", "x", "127.0.0.6") == [401]
        assert tries(narrow, "VLT-0001", KEY, "127.0.0.6") == [101]
        assert tries(narrow, "VLT-0002", OTHER_KEY, "127.0.0.6") == [401]  # it has never come in from there
        assert tries(narrow, "VLT-0002", OTHER_KEY, "127.0.0.7") == [101]
        assert narrow.mistakes == []
    spray = AuditEntry.objects.get(action="connection.spray")
    assert (spray.actor, spray.after) == ("127.0.0.6", {"address": "127.0.0.6", "refusals": 30})


def test_A15_half_open_handshakes_do_not_hold_the_door_and_are_cut_off(server, chargers):
    """Also without a proxy before the server, and also when a byte comes now and then."""
    half_open = [RawLine(server.port, "", "", handshake=False) for _ in range(300)]
    opened = time.monotonic()
    for one in half_open:
        one.line.sendall(b"GET /ocpp/VLT-0001 HTTP/1.1\r\nUpgrade: webso")
    began = time.monotonic()
    assert tries(server, "VLT-0001", KEY, "127.0.0.1") == [101]
    assert time.monotonic() - began < 2
    while time.monotonic() - opened < wire.HEAD_S - 3:
        time.sleep(2)
        for one in half_open[:30]:
            with suppress(ConnectionError):  # the first of them are a moment older
                one.line.sendall(b"c")
    for one in half_open:
        one.line.settimeout(max(0.1, opened + wire.HEAD_S + 10 - time.monotonic()))
        with suppress(ConnectionError):  # torn, rather than closed
            assert one.line.recv(100) == b""
        one.line.close()


def test_A16_A23_an_address_has_so_many_sockets_and_a_charger_known_there_has_one_more(server, chargers, tmp_path):
    limits = {"MAX_SOCKETS_PER_ADDRESS": "1", "TRUSTED_PROXIES": "127.0.0.1"}
    with serving(tmp_path, alone=False, **limits) as small, RawLine(small.port, "VLT-0001", KEY) as line:
        assert line.status == 101
        # Another, through a proxy that is trusted: counted and kept under its own address.
        assert small.status("/ocpp/VLT-0002", {**basic("VLT-0002", OTHER_KEY), "X-Forwarded-For": "203.0.113.7"}) == 101
        assert Connection.objects.get(charge_point__cp_id="VLT-0002").remote_address == "203.0.113.7"
        assert tries(small, "NOBODY", OTHER_KEY, "127.0.0.1") == [503]
        assert tries(small, "VLT-0002", OTHER_KEY, "127.0.0.8") == [101]
        Connection.objects.filter(charge_point__cp_id="VLT-0002").update(remote_address="127.0.0.1")  # yesterday, say
        assert tries(small, "VLT-0002", OTHER_KEY, "127.0.0.1") == [101]


def test_A13_flapping_from_one_address_and_from_two(server, chargers):
    lines = [RawLine(server.port, "VLT-0001", KEY) for _ in range(4)]
    eventually(lambda: Alert.objects.filter(kind="flapping", cleared_at=None).exists())
    assert "all from 127.0.0.1" in Alert.objects.get().detail
    lines.append(RawLine(server.port, "VLT-0001", KEY, source="127.0.0.2"))
    eventually(lambda: Alert.objects.filter(kind="contested").exists())
    assert "127.0.0.1, 127.0.0.2" in Alert.objects.get(kind="contested").detail
    lines[-1].call("Heartbeat", {}, "still")
    assert answer(lines[-1], "still")[0] == 3  # the newcomer is served all the same
    for line in lines:
        line.line.close()


# -- B: what is said ------------------------------------------------------------------------------------------------------
def test_B10_text_that_is_not_utf8_is_read_as_far_as_it_goes(kaveri):
    kaveri.send('[2,"x","BootNotification",{"chargePointVendor":"M\xfcller","chargePointModel":"A"}]'.encode("latin-1"))
    assert answer(kaveri, "x")[2]["status"] == "Accepted"


def test_B02_a_message_in_a_million_pieces_ends_that_line_alone(kaveri, ganga):
    kaveri.send(b"[", TEXT, fin=False)
    some = b"\x00\x80\0\0\0\0" * 1_000  # pieces of nothing: no limit on bytes ever ends them
    try:
        for _ in range(1_000):
            kaveri.line.sendall(some)
            kaveri.line.settimeout(0.001)
            try:
                if kaveri.line.recv(4_096):
                    break
            except TimeoutError:
                kaveri.line.settimeout(10)
        else:
            raise AssertionError("a million pieces were taken")
    except ConnectionError:
        pass
    assert ganga.call("Heartbeat")


def test_A18_pings_are_answered_up_to_a_flood(kaveri, ganga):
    for number in range(100):
        kaveri.send(str(number).encode(), PING)
        assert kaveri.frame() == (PONG, str(number).encode())
    for _ in range(200):
        kaveri.send(b"", PING)
    assert kaveri.close_code() == 1008
    assert ganga.call("Heartbeat")


def test_A18_pongs_without_a_ping_and_control_frames_too_long(kaveri):
    for _ in range(50):
        kaveri.send(b"unasked", PONG)
    kaveri.call("Heartbeat", {}, "then")
    assert answer(kaveri, "then")[0] == 3
    kaveri.line.sendall(b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126)
    assert kaveri.close_code() == 1002


def test_C42_a_chatty_modem_is_ignored_up_to_a_budget(server, chargers):
    with RawLine(server.port, "VLT-0001", KEY) as line:
        for number in range(50):
            line.send(f"AT+CSQ {number}\r\nOK")
        line.call("Heartbeat", {}, "alive")
        assert answer(line, "alive")[0] == 3
        assert not Alert.objects.exists()
        assert OcppMessage.objects.filter(note__startswith="not JSON").count() == 10  # the others are only counted
        line.send("AT+CSQ\r\nOK")
        assert line.close_code() == 1008
    alert = Alert.objects.get()
    assert alert.kind == "garbage" and "AT+CSQ" in alert.detail
    eventually(lambda: Connection.objects.filter(close_code=1008, close_reason="garbage").exists())


def test_B17_C16_five_thousand_queued_messages_are_taken_in_their_order(server, chargers, ganga):
    """Eight hours offline, then everything at once, without waiting for an answer: reading stops now and then, nothing is dropped."""
    with RawLine(server.port, "VLT-0001", KEY) as line:
        line.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, "boot")
        answer(line, "boot")
        line.call("StartTransaction", {"connectorId": 1, "idTag": "CARD", "meterStart": 0, "timestamp": "2026-01-01T00:00:00Z"}, "start")
        transaction_id = answer(line, "start")[2]["transactionId"]
        said = [meter(transaction_id, number) for number in range(5_000)]
        said.append(
            json.dumps([2, "stop", "StopTransaction", {"transactionId": transaction_id, "meterStop": 5_000, "timestamp": at(5_000)}])
        )
        heard: list[str] = []
        sender = threading.Thread(target=lambda: [line.send(one) for one in said])
        sender.start()
        slowest = 0.0
        while "stop" not in heard:
            opcode, payload = line.frame(30)
            assert opcode in (TEXT, PING), payload
            if opcode == TEXT and (frame := json.loads(payload))[0] == 3:
                heard.append(frame[1])
                if len(heard) % 500 == 0:
                    began = time.monotonic()
                    ganga.call("Heartbeat")
                    slowest = max(slowest, time.monotonic() - began)
        sender.join()
    assert heard == [*(f"m{number}" for number in range(5_000)), "stop"]
    assert slowest < 2.0
    session = ChargingSession.objects.get()
    assert (session.state, session.energy_wh, session.readings.count()) == ("STOPPED", 5_000, 5_000)


def test_B17_while_its_frames_wait_for_the_database_no_more_are_read(server, chargers, ganga):
    """Somebody holds the row its readings need; it goes on sending, as much as it can."""
    with RawLine(server.port, "VLT-0001", KEY) as line:
        line.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, "boot")
        answer(line, "boot")
        line.call("StartTransaction", {"connectorId": 1, "idTag": "CARD", "meterStart": 0, "timestamp": at(0)}, "start")
        transaction_id, sent = answer(line, "start")[2]["transactionId"], 0
        large = json.dumps([2, "large", "DataTransfer", {"vendorId": "v", "data": "x" * 20_000}])
        with transaction.atomic():
            ChargingSession.objects.select_for_update().get()
            line.send(meter(transaction_id, 1))
            line.line.settimeout(1)
            with suppress(TimeoutError):
                while sent < 100_000_000:
                    line.send(large)
                    sent += len(large)
            assert sent < 20_000_000  # what the two ends of the line hold
            assert ganga.call("Heartbeat")
        assert answer(line, "m1", 20) == [3, "m1", {}]


def at(second: int) -> str:
    return f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def meter(transaction_id: int, number: int) -> str:
    value = {"timestamp": at(number), "sampledValue": [{"value": str(number)}]}
    return json.dumps([2, f"m{number}", "MeterValues", {"connectorId": 1, "transactionId": transaction_id, "meterValue": [value]}])


def test_C21_a_flood_of_presence_is_answered_and_bounded_in_the_tables(server, chargers, network):
    with RawLine(server.port, "VLT-0001", KEY) as line:
        line.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, "boot")
        answer(line, "boot")
        before = OcppMessage.objects.count()
        sender = threading.Thread(target=lambda: [line.send(one) for one in presence(600)])
        sender.start()
        heard = [answer(line, f"p{number}")[1] for number in range(1_200)]
        sender.join()
        assert len(heard) == 1_200
        eventually(lambda: OcppMessage.objects.filter(note__contains="the others were not kept").exists(), 8)
        network.kaveri_connector.refresh_from_db()
        assert network.kaveri_connector.status == "Unavailable"  # the last one said
        assert OcppMessage.objects.count() - before < 160


def presence(pairs: int) -> list[str]:
    found = []
    for number in range(pairs):
        status = ("Available", "Preparing", "Unavailable")[number % 3]
        payload = {"connectorId": 1, "errorCode": "NoError", "status": status}
        found += [json.dumps([2, f"p{number * 2}", "Heartbeat", {}]), json.dumps([2, f"p{number * 2 + 1}", "StatusNotification", payload])]
    return found


# -- A20: who does not read ---------------------------------------------------------------------------------------------------
def test_A20_a_line_that_is_never_read_is_given_up_and_nobody_else_waits(server, chargers, ganga):
    with RawLine(server.port, "VLT-0001", KEY, buffer=4_096) as line:
        question = json.dumps([2, "x" * 250, "Heartbeat", {}])
        line.line.settimeout(1)
        began, slowest = time.monotonic(), 0.0
        with suppress(TimeoutError, ConnectionError):
            while time.monotonic() - began < 25:
                line.send(question)
        while not Connection.objects.filter(close_reason="does not read").exists():
            asked = time.monotonic()
            ganga.call("Heartbeat")
            slowest = max(slowest, time.monotonic() - asked)
            assert time.monotonic() - began < 60
            time.sleep(0.2)
    assert slowest < 1.0


# -- liveness -------------------------------------------------------------------------------------------------------------------
def test_A19_B03_C20_C21_who_says_nothing_who_pongs_and_who_is_dead(server, chargers, tmp_path):
    """A server whose chargers may be silent for 30 s, and whose clock is moved. One was never accepted and says nothing, one answers
    pings, one does not, and one must not be pinged."""
    for cp_id, habits in (("PONGS", {}), ("DEAD", {}), ("UNPINGED", {"pings": False})):
        add_charge_point(cp_id, company=chargers.kaveri.company, key=KEY)
        ChargePoint.objects.filter(cp_id=cp_id).update(quirk_settings=habits)
    clock_file = tmp_path / "clock"
    clock_file.write_text("0")
    with serving(tmp_path, alone=False, HEARTBEAT_TIMEOUT_S="30", VOLTARO_CLOCK_FILE=str(clock_file)) as hasty:
        new, pongs, dead, unpinged = (RawLine(hasty.port, cp_id, KEY) for cp_id in ("VLT-0001", "PONGS", "DEAD", "UNPINGED"))
        for line in (pongs, dead, unpinged):
            line.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, "boot")
            assert answer(line, "boot")[2]["interval"] == 10
        for seconds in (8, 16, 24, 32):
            clock_file.write_text(str(seconds))
            pongs.send(b"unasked", PONG)
            if seconds == 16:
                eventually(lambda: reasons().get("VLT-0001") == "said nothing", 15)
                pongs.send(b"unasked", PONG)
        eventually(lambda: reasons() == {"VLT-0001": "said nothing", "DEAD": "silent", "UNPINGED": "silent"}, 20)
        assert new.close_code() == dead.close_code() == unpinged.close_code() == 1001
        assert set(opcodes(pongs)) == {PING} and PING not in opcodes(unpinged)
        pongs.call("Heartbeat", {}, "still")
        assert answer(pongs, "still")[0] == 3
        pongs.send(b'[2,"B3","Heartbeat"', TEXT, fin=False)  # B3: a message that is begun and never ended
        eventually(lambda: opcodes(pongs) == [])
        clock_file.write_text("160")
        pongs.send(b"unasked", PONG)
        assert pongs.close_code() == 1008
        assert hasty.mistakes == []
        for line in (new, pongs, dead, unpinged):
            line.line.close()


def reasons() -> dict[str, str]:
    return dict(Connection.objects.exclude(closed_at=None).values_list("charge_point__cp_id", "close_reason"))


def opcodes(line: RawLine) -> list[int]:
    """Of all frames that have come by now."""
    found = []
    try:
        while (frame := line.frame(0.1)) is not None:
            found.append(frame[0])
    except TimeoutError:
        pass
    return found


# -- what broke it ----------------------------------------------------------------------------------------------------------------
def test_Q12_a_line_that_breaks_right_after_a_large_call(server, chargers, network):
    from csms import commands

    with RawLine(server.port, "VLT-0001", KEY) as line:
        line.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, "boot")
        answer(line, "boot")
        payload = {"vendorId": "v", "data": "x" * 3_000}
        command = commands.request(network.kaveri_charger, "DataTransfer", payload, trigger="test")
        while b"DataTransfer" not in (line.frame() or (0, b""))[1]:
            pass
    eventually(lambda: Command.objects.get(pk=command.pk).note.startswith("size suspect: the line broke right after these 30"))
    assert Command.objects.get(pk=command.pk).state == "unknown"
