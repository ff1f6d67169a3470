"""Connections (C01 to C07, C18 to C22, C40, C43): who comes in under which name, who owns a charger, and how lines end.

C08 to C17 (keys and TLS) stand in test_security.py, C23 to C42 (frames) in test_framing.py.
"""

import asyncio
import contextlib
import os
import signal
import time
from datetime import timedelta

import pytest
from django.core.cache import cache
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as plain_connect

from accounts.models import AuditEntry
from csms import credentials
from csms.models import ChargePoint, ChargingSession, Command, ConfigurationKey, Connection, Connector, MeterReading
from tests.abuse.raw import PING, RawLine
from tests.conformance.conftest import KEY
from tests.server import basic, serving
from tests.simulate_client import AsyncChargerClient, NoAnswer
from voltaro import clock

pytestmark = pytest.mark.e2e
STORM, STORM_S, MOVED = 300, 3, 100


def row(cp_id="VLT-0001"):
    return ChargePoint.objects.get(cp_id=cp_id)


def head_of(world, **headers):
    """(the head of what the server says to this handshake, in lower case; what comes behind it)."""
    said = world.server.shake("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), **headers}, patience_s=1)
    head, _, rest = said.partition(b"\r\n\r\n")
    return head.lower(), rest


def fleet(world, count):
    """So many chargers of Kaveri's, each with a key of its own name."""
    company = world.network.kaveri.company
    names = [f"FLEET-{number:04}" for number in range(count)]
    rows = [ChargePoint(cp_id=name, company=company, credentials_hash=credentials.hashed(name, KEY)) for name in names]
    ChargePoint.objects.bulk_create(rows)
    Connector.objects.bulk_create([Connector(charge_point_id=name, connector_id=1) for name in names])
    return names


# -- which sub-protocol ------------------------------------------------------------------------------------------------
def test_TC_088_C01_the_sub_protocol_is_echoed(world):
    """A charger that offers ocpp1.6 is answered with ocpp1.6."""
    head, _ = head_of(world)
    assert head.startswith(b"http/1.1 101") and b"sec-websocket-protocol: ocpp1.6" in head.splitlines()
    charger = world.connect()
    assert charger.socket.subprotocol == "ocpp1.6"


def test_C02_the_version_a_charger_is_pinned_to(world):
    """Of several sub-protocols the one this charger is pinned to is chosen, whatever their order."""
    ChargePoint.objects.filter(cp_id="VLT-0001").update(quirk_settings={"subprotocols": ["ocpp1.6"]})
    charger = world.connect(subprotocols=["ocpp2.0.1", "ocpp1.6"])
    assert charger.socket.subprotocol == "ocpp1.6"
    assert Connection.objects.latest("id").subprotocol == "ocpp1.6"
    assert charger.call("Heartbeat")["currentTime"]


def test_C03_no_sub_protocol_in_common(world):
    """Only ocpp1.5: the handshake is completed without a sub-protocol, then the line is closed."""
    cache.clear()  # one record a minute, whatever other tests knocked for
    head, rest = head_of(world, **{"Sec-WebSocket-Protocol": "ocpp1.5"})
    assert head.startswith(b"http/1.1 101") and b"sec-websocket-protocol" not in head
    assert rest[:1] == b"\x88" and int.from_bytes(rest[2:4]) == 1002
    assert not Connection.objects.exists() and not row().online
    assert AuditEntry.objects.get(action="connection.refused").trigger == "subprotocol"


def test_C04_no_sub_protocol_at_all(world):
    """No sub-protocol: closed by default; taken as 1.6, and served, where the charger's habits say so."""
    silent = {"Sec-WebSocket-Protocol": None}
    head, rest = head_of(world, **silent)
    assert head.startswith(b"http/1.1 101") and rest[:1] == b"\x88"
    ChargePoint.objects.filter(cp_id="VLT-0001").update(quirk_settings={"without_subprotocol": True})
    head, rest = head_of(world, **silent)
    assert head.startswith(b"http/1.1 101") and b"sec-websocket-protocol" not in head and rest == b""
    charger = world.connect(subprotocols=[])
    assert charger.socket.subprotocol is None
    assert Connection.objects.latest("id").subprotocol == "ocpp1.6"


# -- which charger -----------------------------------------------------------------------------------------------------
def test_C05_an_identity_nobody_knows(world):
    """An unknown identity is refused before the handshake, exactly as a wrong key is, and written down with its address."""
    cache.clear()
    stranger = world.server.shake("/ocpp/STRANGER", basic("STRANGER", KEY))
    known = world.server.shake("/ocpp/VLT-0001", basic("VLT-0001", "f" * 40))
    assert stranger.startswith(b"HTTP/1.1 401") and b"STRANGER" not in stranger
    assert _without_date(stranger) == _without_date(known)
    entry = AuditEntry.objects.get(action="connection.refused", target_id="STRANGER")
    assert (entry.trigger, entry.actor) == ("unknown", "127.0.0.1")
    assert not ChargePoint.objects.filter(cp_id="STRANGER").exists() and not Connection.objects.exists()


def _without_date(said):
    return sorted(line for line in said.split(b"\r\n") if not line.lower().startswith(b"date:"))


@pytest.mark.parametrize(
    "path",
    ["/ocpp/VLT%2D0001", "/ocpp/vlt-0001", "/ocpp/VLT-0001/", "/ocpp/VLT-0001?token=1", "/ocpp//VLT-0001", "/ocpp/%20VLT-0001%20"],
)
def test_C06_the_ways_an_identity_is_written(world, path):
    """Percent-encoded, in another case, with a slash, a space or a query behind it: the same charger."""
    charger = world.connect(path=path)
    assert charger.call("Heartbeat")
    assert Connection.objects.get(closed_at=None).charge_point.cp_id == "VLT-0001"
    assert ChargePoint.objects.count() == 2


@pytest.mark.parametrize("path", ["/ocpp/", "/ocpp", "/ocpp/%20", "/ocpp/" + "V" * 49])
def test_C07_an_identity_that_is_none(world, path):
    """An empty identity, and one of more than 48 characters, are refused."""
    with pytest.raises(InvalidStatus) as refused:
        world.connect(path=path, boot=False)
    assert refused.value.response.status_code in (401, 403, 404)
    assert not Connection.objects.exists()


# -- one owner ---------------------------------------------------------------------------------------------------------
def test_C18_a_second_socket_takes_over(world):
    """The newer socket is served; the older is closed within a second, and its end does not take the charger offline."""
    first = world.connect()
    second = world.connect(boot=False)
    began = time.monotonic()
    assert second.call("Heartbeat")
    assert first.wait_closed(2) == 1000
    assert time.monotonic() - began < 1
    old, new = Connection.objects.order_by("epoch")
    world.until(lambda: Connection.objects.filter(pk=old.pk, close_reason="replaced", closed_at__isnull=False).exists())
    time.sleep(0.5)  # whatever the old one's end may still do
    assert row().online and row().epoch == new.epoch
    assert Connection.objects.get(closed_at=None) == new
    world.ask("TriggerMessage", {"requestedMessage": "Heartbeat"})
    assert second.expect("TriggerMessage")


def test_C19_a_call_that_was_waiting_on_the_old_socket(world):
    """What the older socket had not answered becomes unknown, and is not asked again blindly."""
    first = world.connect()
    world.ask("UnlockConnector", {"connectorId": 1})
    first.expect("UnlockConnector", None)
    second = world.connect()
    first.wait_closed(5)
    command = world.command("UnlockConnector", "unknown")
    second.nothing("UnlockConnector", for_s=2.5)  # longer than the poll for waiting commands
    assert Command.objects.filter(action="UnlockConnector").count() == 1
    world.ask("ClearCache")
    assert second.expect("ClearCache") == {}  # and it holds nobody up
    command.refresh_from_db()
    assert command.state == "unknown"


# -- silence -----------------------------------------------------------------------------------------------------------
def _booted(line):
    line.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, "boot")
    while b'"boot"' not in line.frame()[1]:
        pass


def test_C20_a_line_that_died_without_a_word(world):
    """A socket on which nothing comes for the time a charger may be silent: closed, and the charger is offline."""
    with RawLine(world.server.port, "VLT-0001", KEY) as line:  # it answers no pings
        _booted(line)
        assert row().online
        world.pass_time(125)
        assert line.close_code(20) == 1001
    world.until(lambda: not row().online, "it to be offline")
    assert Connection.objects.get().close_reason == "silent"


def test_C21_a_charger_that_must_not_be_pinged(world):
    """A charger whose habits forbid pings sends heartbeats only, for ten minutes: no ping, and the line stays."""
    ChargePoint.objects.filter(cp_id="VLT-0001").update(quirk_settings={"pings": False})
    with RawLine(world.server.port, "VLT-0001", KEY) as line:
        _booted(line)
        heard = []
        for number in range(6):
            world.pass_time(100)
            line.call("Heartbeat", {}, f"hb{number}")
            while (frame := line.frame()) is not None and f"hb{number}".encode() not in frame[1]:
                heard.append(frame)
        # The server has looked whether it is still there, after all that time.
        renewed = Connection.objects.filter(closed_at=None, lease_until__gt=clock.now() + timedelta(seconds=60))
        world.until(renewed.exists, "its lease to be renewed", 20)
        line.call("Heartbeat", {}, "last")
        while (frame := line.frame()) is not None and b'"last"' not in frame[1]:
            heard.append(frame)
        assert frame is not None and row().online
        assert PING not in [opcode for opcode, _ in heard]


# -- many --------------------------------------------------------------------------------------------------------------
def test_C22_a_server_that_is_ended_sends_its_chargers_to_another(world, tmp_path):
    """SIGTERM under 100 chargers being metered: all are closed with 1012 and go to the other server; nothing acknowledged is lost."""
    names = fleet(world, MOVED)
    world.card("CARD1", concurrent=True)
    with serving(tmp_path, alone=False) as leaving:
        sent, codes = asyncio.run(_metered_until_it_ends(leaving, names, world.server.url))
    assert set(codes.values()) == {1012}, codes
    assert sum(map(len, sent.values())) > MOVED
    kept = {}
    for name, energy_wh in MeterReading.objects.values_list("charge_point__cp_id", "energy_wh"):
        kept.setdefault(name, set()).add(energy_wh)
    assert not {name: lost for name in names if (lost := sent[name] - kept.get(name, set()))}
    assert ChargingSession.objects.exclude(state="STOPPED").count() == MOVED
    assert leaving.mistakes == []


async def _metered_until_it_ends(leaving, names, elsewhere):
    """Each charger boots and sends readings as fast as they are acknowledged; (what was acknowledged, close codes)."""
    acknowledged: dict[str, set[int]] = {name: set() for name in names}
    codes: dict[str, int | None] = {}
    underway = asyncio.Event()

    async def one(name):
        charger = await AsyncChargerClient(leaving.url, name, KEY).connect()
        await charger.boot()
        transaction_id = (await charger.start(1, "CARD1"))["transactionId"]
        with contextlib.suppress(Exception):
            for register_wh in range(1, 100_000):
                await charger.meter(1, transaction_id, register_wh=register_wh)
                acknowledged[name].add(register_wh)
                if sum(map(len, acknowledged.values())) > 3 * MOVED:
                    underway.set()
        codes[name] = await charger.wait_closed(15)
        again = await AsyncChargerClient(elsewhere, name, KEY).connect()
        await again.heartbeat()
        await again.close()

    running = asyncio.gather(*(one(name) for name in names))
    await asyncio.wait_for(underway.wait(), 60)
    os.kill(leaving.process.pid, signal.SIGTERM)
    await asyncio.wait_for(running, 60)
    return acknowledged, codes


def test_C43_a_fleet_that_comes_back_at_once(world):
    """300 chargers in 3 s: all are let in, every boot is answered; what we ask by ourselves comes later, spread."""
    names, began = fleet(world, STORM), clock.now()
    took, asked = asyncio.run(_storm(world.server.url, names))
    assert len(took) == STORM  # how soon is measured in tests/bench
    assert asked == []
    assert not Command.objects.exclude(state="queued").exists()
    due = sorted(ConfigurationKey.objects.filter(charge_point__cp_id__in=names).values_list("next_try_at", flat=True))
    assert len(due) == STORM
    assert due[0] > began + timedelta(seconds=60)
    assert (due[-1] - due[0]).total_seconds() > 40
    half = due[STORM // 2] - due[0]
    assert 0.25 < half / (due[-1] - due[0]) < 0.75  # not all but a few at one moment


async def _storm(url, names):
    took: list[str] = []
    asked: list[str] = []

    async def one(number, name):
        await asyncio.sleep(number * STORM_S / STORM)
        charger = await AsyncChargerClient(url, name, KEY).connect()
        boot = {"chargePointVendor": "Voltaro", "chargePointModel": "Scripted"}
        assert (await charger.call("BootNotification", boot, timeout_s=60))["status"] == "Accepted"
        took.append(name)
        await charger.status(1, "Available")
        with contextlib.suppress(NoAnswer):
            await charger.expect("GetConfiguration", timeout_s=2.5)
        asked.extend(frame.action for frame in charger.inbox)
        await charger.close()

    await asyncio.gather(*(one(number, name) for number, name in enumerate(names)))
    return took, asked


# -- compression -------------------------------------------------------------------------------------------------------
def test_C40_compression_is_offered(world):
    """permessage-deflate is not negotiated with 1.6 chargers, some of which cannot do it; who offers it is served without."""
    head, _ = head_of(world, **{"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"})
    assert head.startswith(b"http/1.1 101") and b"sec-websocket-extensions" not in head
    with plain_connect(
        f"{world.server.url}/ocpp/VLT-0001",
        subprotocols=["ocpp1.6"],
        additional_headers=basic("VLT-0001", KEY),
        compression="deflate",
        proxy=None,
    ) as line:
        assert line.protocol.extensions == []
        line.send('[2,"x","Heartbeat",{}]')
        assert '"currentTime"' in line.recv(5)
    assert world.connect().call("Heartbeat")
