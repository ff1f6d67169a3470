"""A server process that ends or is not alone: every charger is told, nothing acknowledged is lost, the newest socket owns."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from websockets.exceptions import ConnectionClosed

from csms import commands
from csms.models import ChargePoint, ChargingSession, Command, Connection, MeterReading, OcppMessage
from csms.rules.budget import PRESENCE
from csms.simulator import link
from csms.stations import add_charge_point
from tests.server import Server, basic, serving
from tests.simulate_client import ChargerClient

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
KEY = "a1" * 20
CHARGERS = 200


@pytest.fixture
def processes(network, tmp_path, request):
    """Start a server of the product when asked; all are ended after the test."""
    add_charge_point("VLT-0001", company=network.kaveri.company, key=KEY)
    with ExitStack() as stack:
        yield lambda under="daphne", **environment: stack.enter_context(serving(tmp_path, under=under, alone=False, **environment))


def eventually(holds, within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@contextmanager
def charger(server: Server, cp_id: str = "VLT-0001") -> Iterator[ChargerClient]:
    with ChargerClient(server.url, cp_id, KEY) as found:
        yield found


# -- one owner across processes -------------------------------------------------------------------------------------------
def test_C18_a_takeover_by_another_process_closes_the_old_socket_within_a_second(processes, network):
    first, second = processes(), processes()
    with charger(first) as old:
        old.boot()
        transaction_id = old.start(1, "CARD")["transactionId"]
        with charger(second) as new:
            assert old.wait_closed(1.5) == 1000
            assert new.meter(1, transaction_id, register_wh=100) == {}
            eventually(lambda: Connection.objects.filter(close_reason="replaced").count() == 1)
            row = ChargePoint.objects.get(cp_id="VLT-0001")
            assert row.online and Connection.objects.get(closed_at=None).epoch == row.epoch
            assert ChargingSession.objects.get().state == "RUNNING"
            commands.request(row, "GetConfiguration", {"key": ["HeartbeatInterval"]}, trigger="test")
            assert new.expect("GetConfiguration", {"configurationKey": []})


def test_C19_a_call_in_flight_at_the_replaced_socket_is_unknown_and_not_sent_again(processes, network):
    first, second = processes(), processes()
    with charger(first) as old:
        old.boot()
        row = ChargePoint.objects.get(cp_id="VLT-0001")
        asked = commands.request(row, "Reset", {"type": "Soft"}, trigger="test")
        old.expect("Reset", None)
        with charger(second) as new:
            new.boot()
            eventually(lambda: Command.objects.get(pk=asked.pk).state in ("unknown", "effective"))
            new.nothing("Reset", for_s=2.5)


# -- the end of a process ---------------------------------------------------------------------------------------------------
class Talker:
    """A charger that charges and sends readings as fast as they are answered; it keeps what was acknowledged."""

    def __init__(self, number: int) -> None:
        self.cp_id, self.acknowledged, self.close_code, self.socket = f"TALK-{number:03}", [], None, None

    async def connect(self, url: str) -> None:
        self.socket = await link.dial(url, self.cp_id, KEY, open_timeout_s=30)

    async def call(self, uid: str, action: str, payload: dict) -> dict:
        await self.socket.send(json.dumps([2, uid, action, payload]))
        while True:
            frame = json.loads(await self.socket.recv())
            if frame[0] == 3 and frame[1] == uid:
                return frame[2]

    async def begin(self) -> None:
        await self.call("boot", "BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})
        start = {"connectorId": 1, "idTag": "CARD", "meterStart": 0, "timestamp": "2026-01-01T00:00:00Z"}
        self.transaction_id = (await self.call("start", "StartTransaction", start))["transactionId"]

    async def talk(self) -> None:
        """Until the line ends."""
        number = len(self.acknowledged)
        try:
            while True:
                number += 1
                value = {"timestamp": f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"}
                reading = {**value, "sampledValue": [{"value": str(number)}]}
                told = {"connectorId": 1, "transactionId": self.transaction_id, "meterValue": [reading]}
                await self.call(f"m{number}", "MeterValues", told)
                self.acknowledged.append(number)
        except ConnectionClosed:
            self.close_code = self.socket.close_code


@pytest.mark.parametrize("under", ["daphne", "uvicorn"])
def test_C22_at_sigterm_every_charger_hears_1012_and_nothing_acknowledged_is_lost(processes, network, under):
    for number in range(CHARGERS):
        add_charge_point(f"TALK-{number:03}", company=network.kaveri.company, key=KEY)
    first, second = processes(under), processes()
    talkers = [Talker(number) for number in range(CHARGERS)]

    async def until_the_end() -> float:
        await asyncio.gather(*(one.connect(first.url) for one in talkers))
        await asyncio.gather(*(one.begin() for one in talkers))
        talking = asyncio.gather(*(one.talk() for one in talkers))
        await asyncio.sleep(2)
        began = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        await talking
        while first.process.poll() is None:
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def again() -> None:
        await asyncio.gather(*(one.connect(second.url) for one in talkers))
        await asyncio.gather(*(one.call("hb", "Heartbeat", {}) for one in talkers))
        await asyncio.gather(*(one.socket.close() for one in talkers))

    took_s = asyncio.run(until_the_end())
    assert took_s < 10, took_s
    assert {one.close_code for one in talkers} == {1012}
    assert first.mistakes == []
    kept: dict[str, set[int]] = {}
    for cp_id, energy_wh in MeterReading.objects.values_list("charge_point__cp_id", "energy_wh"):
        kept.setdefault(cp_id, set()).add(energy_wh)
    assert sum(len(one.acknowledged) for one in talkers) > CHARGERS
    assert all(set(one.acknowledged) <= kept[one.cp_id] for one in talkers)
    rows = Connection.objects.filter(charge_point__cp_id__startswith="TALK-")
    assert set(rows.values_list("close_code", "close_reason")) == {(1012, "restart")}
    answered = OcppMessage.objects.filter(direction="OUT", message_type=3, action="MeterValues").count()
    assert answered >= sum(len(one.acknowledged) for one in talkers)  # the buffer of what was sent is written too
    assert not ChargePoint.objects.filter(cp_id__startswith="TALK-", online=True).exists()
    asyncio.run(again())
    assert second.mistakes == []


def test_a_status_that_was_held_back_outlives_its_line_and_its_process(processes, network):
    """It was acknowledged; the charger does not say it again."""
    server = processes()
    kept = OcppMessage.objects.filter(note__contains="the others were not kept")
    for number, (status, end) in enumerate([("Unavailable", "line"), ("Preparing", "process")]):
        with charger(server) as here:
            here.boot()
            for _ in range(PRESENCE + 5):
                here.call("Heartbeat")
            here.call("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": status})
            assert kept.count() == number
            if end == "line":
                here.drop()
            else:
                server.process.send_signal(signal.SIGTERM)
                assert here.wait_closed(5) == 1012
            eventually(lambda number=number: kept.count() == number + 1, 3)
        network.kaveri_connector.refresh_from_db()
        assert network.kaveri_connector.status == status
    assert server.process.wait(10) == 0
    assert server.mistakes == []


def test_a_call_in_flight_at_sigint_is_unknown_and_newcomers_are_sent_away(processes, network):
    server = processes()
    with charger(server) as here:
        here.boot()
        asked = commands.request(ChargePoint.objects.get(cp_id="VLT-0001"), "Reset", {"type": "Soft"}, trigger="test")
        here.expect("Reset", None)
        server.process.send_signal(signal.SIGINT)
        assert here.wait_closed(5) == 1012
        with suppress(OSError):
            assert server.status("/ocpp/VLT-0001", basic("VLT-0001", KEY)) in (0, 503)
    assert server.process.wait(10) == 0
    assert Command.objects.get(pk=asked.pk).state == "unknown"


def test_a_second_signal_does_not_wait(processes, network):
    server = processes()
    with charger(server) as here:
        here.boot()
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(6) == 0


# -- the other server ---------------------------------------------------------------------------------------------------------
def test_under_uvicorn_the_same_door_the_same_codes(processes, network):
    server = processes("uvicorn")
    assert server.shake("/ocpp/VLT-0001", basic("VLT-0001", "f" * 40), until=b"\r\n\r\n").startswith(b"HTTP/1.1 401")
    assert server.status("/ocpp/VLT-9999", basic("VLT-9999", "f" * 40)) == 401
    assert server.status("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Protocol": "\xfc"}) == 400
    for offered in (None, "ocpp1.5"):
        said = server.shake("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Protocol": offered})
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101") and body[:1] == b"\x88" and int.from_bytes(body[2:4]) == 1002
    for path in ("/ocpp/VLT-0001/", "/ocpp/vlt-0001?x=1", "/ocpp/VLT-0001;v=1", "/ocpp/%20VLT-0001"):
        assert server.status(path, basic("VLT-0001", KEY)) == 101
    with charger(server) as here:
        here.boot()
        for number in range(400):
            here.send(f'[2,"p{number}","Authorize",{{"idTag":"A"}}]')
        assert here.answer("p399", timeout_s=30)
        here.send('[2,"x","DataTransfer",{"vendorId":"v","data":"' + "x" * 1_000_000 + '"}]')
        assert here.wait_closed(10) == 1009
    assert server.mistakes == []
