"""At the door: what a refusal costs, shared factory keys, slow handshakes, everybody at once, browsers (A02, A03, A08, A15, A17, A24)."""

import asyncio
import socket
import ssl
import time
from contextlib import ExitStack

import pytest
from websockets.exceptions import InvalidStatus

from accounts.models import AuditEntry
from csms import onboarding
from csms.models import Alert, ChargePoint, ChargingSession, Connection, UnknownCharger
from csms.simulator import link
from csms.stations import add_charge_point
from tests import nginx
from tests.abuse.test_lines import _put_right  # noqa: F401 before and after every story
from tests.abuse.test_sockets import KEY, OTHER_KEY, chargers, client, eventually  # noqa: F401 the same cast
from tests.server import basic
from tests.simulate_client import AsyncChargerClient, CallError, ChargerClient
from tests.stories import signed_in
from voltaro import clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
FACTORY_KEY = "the-key-of-the-factory"


# -- what a refusal tells ------------------------------------------------------------------------------------------------
def test_A02_A03_every_refusal_takes_the_same_way_and_the_same_hashes(server, chargers, monkeypatch):  # noqa: F811
    """A wrong key, a stranger, a blocked and a rejected charger: one look-up, the same number of hashes, the same words."""
    from csms import credentials, doors

    made: list[str] = []
    real = credentials.hashed
    monkeypatch.setattr(credentials, "hashed", lambda *told: made.append(told[0]) or real(*told))
    add_charge_point("VLT-0003", company=chargers.kaveri.company, key=KEY)
    ChargePoint.objects.filter(cp_id="VLT-0002").update(blocked=True)
    ChargePoint.objects.filter(cp_id="VLT-0003").update(registration="Rejected")
    costs, heard = {}, set()
    for cp_id, key in {"VLT-0001": "f" * 40, "VLT-9999": "f" * 40, "VLT-0002": OTHER_KEY, "VLT-0003": KEY}.items():
        made.clear()
        authorization = basic(cp_id, key)["Authorization"].encode()
        assert isinstance(
            doors.admit(doors.Knock(cp_id, "192.0.2.9", f"/ocpp/{cp_id}", authorization, ("ocpp1.6",)), "t", "c"), doors.Refused
        )
        costs[cp_id] = len(made)
        said = server.shake(f"/ocpp/{cp_id}", basic(cp_id, key))
        heard.add(tuple(sorted(line for line in said.split(b"\r\n") if not line.lower().startswith(b"date:"))))
    assert len(set(costs.values())) == 1 and costs["VLT-0001"] > 0, costs
    assert len(heard) == 1


def test_A08_chargers_with_one_factory_key_wait_and_can_do_nothing(server, chargers, network):  # noqa: F811
    """Without an open window they are refused and listed. With one each waits as Pending, under its own name only, and no start of theirs
    is heard before a person has claimed it."""
    boxes = ["BOX-1", "BOX-2", "BOX-3"]
    for name in boxes:
        assert server.status(f"/ocpp/{name}", basic(name, FACTORY_KEY)) == 401
    assert set(UnknownCharger.objects.values_list("identity", flat=True)) == set(boxes)
    onboarding.open_window(network.voltaro, network.om, minutes=5, now=clock.now())
    with ExitStack() as open_lines:
        for name in boxes:
            box = open_lines.enter_context(ChargerClient(server.url, name, FACTORY_KEY))
            assert box.boot()["status"] == "Pending"
            for call in (
                lambda box=box: box.start(1, "CARD"),
                lambda box=box: box.meter(1, None, register_wh=5),
                lambda box=box: box.authorize("A"),
            ):
                with pytest.raises(CallError, match="SecurityError"):
                    call()
        assert not ChargingSession.objects.exists()
        rows = ChargePoint.objects.filter(cp_id__in=boxes)
        assert set(rows.values_list("unclaimed", "registration")) == {(True, "Pending")}
        assert len(set(rows.values_list("credentials_hash", flat=True))) == 3  # bound to its name: none tells of the others
        assert server.status("/ocpp/BOX-2", basic("BOX-1", FACTORY_KEY)) == 401
    assert server.status("/ocpp/VLT-0001", basic("VLT-0001", FACTORY_KEY)) == 401


# -- everybody at once ---------------------------------------------------------------------------------------------------------
STORM = 200


def test_A17_all_chargers_come_back_in_the_same_second(server, chargers):  # noqa: F811
    """All are let in and their boots answered, none is refused; the heartbeats of one who is in are answered meanwhile."""
    for number in range(STORM):
        add_charge_point(f"STORM-{number:03}", company=chargers.kaveri.company, key=KEY)

    async def come(number: int) -> float:
        began = time.monotonic()
        charger = AsyncChargerClient(server.url, f"STORM-{number:03}", KEY)
        charger.socket = await link.dial(server.url, charger.cp_id, KEY, open_timeout_s=60)
        charger._reader = asyncio.create_task(charger._read(charger.socket))
        lines.append(charger)
        assert (await charger.call("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, timeout_s=60))[
            "status"
        ] == "Accepted"
        return time.monotonic() - began

    async def watch() -> float:
        slowest = 0.0
        async with asyncio.timeout(120):
            while len(lines) < STORM:
                began = time.monotonic()
                await steady.heartbeat()
                slowest = max(slowest, time.monotonic() - began)
                await asyncio.sleep(0.1)
        return slowest

    async def storm() -> tuple[list[float], float]:
        await steady.connect()
        await steady.boot()
        watching = asyncio.create_task(watch())
        took = await asyncio.gather(*(come(number) for number in range(STORM)))
        slowest = await watching
        await asyncio.gather(*(one.close() for one in (*lines, steady)))
        return took, slowest

    lines: list[AsyncChargerClient] = []
    steady = AsyncChargerClient(server.url, "VLT-0001", KEY)
    took, slowest = asyncio.run(storm())
    assert len(took) == STORM and max(took) < 60 and slowest < 10
    assert not AuditEntry.objects.filter(action="connection.refused").exists()
    assert ChargePoint.objects.filter(cp_id__startswith="STORM-", boot_count=1).count() == STORM


def test_A17_one_that_comes_back_every_moment_is_sent_away_for_a_moment(server, chargers):  # noqa: F811
    """With the right key, again and again: 503 until it slows down, others are not meant; then it is let in as ever."""
    add_charge_point("HASTY", company=chargers.kaveri.company, key=KEY)
    said = [server.status("/ocpp/HASTY", basic("HASTY", KEY)) for _ in range(140)]
    assert said[:100] == [101] * 100 and 503 in said[100:] and set(said) == {101, 503}
    assert server.status("/ocpp/VLT-0002", basic("VLT-0002", OTHER_KEY)) == 101
    eventually(lambda: server.status("/ocpp/HASTY", basic("HASTY", KEY)) == 101, 5)
    eventually(lambda: Alert.objects.filter(kind="flapping").exists())


# -- slow handshakes ---------------------------------------------------------------------------------------------------------------
def test_A15_handshakes_that_never_end_stop_at_the_proxy(server, chargers, tmp_path):  # noqa: F811
    """nginx ends them after 15 s (2 s here): half a TLS greeting, half a request, a byte now and then; the server never hears of them,
    and chargers come in meanwhile."""
    deployed = (nginx.ROOT / "deploy/nginx.conf").read_text()
    assert "client_header_timeout 15s;" in deployed and "limit_conn sockets" in deployed
    with nginx.front(tmp_path / "nginx", server.port, changed={"client_header_timeout 15s": "client_header_timeout 2s"}) as front:
        with ExitStack() as lines:
            slow = [lines.enter_context(socket.create_connection(("127.0.0.1", front.port), 5)) for _ in range(90)]
            secured = []
            for number, line in enumerate(slow):
                if number < 30:
                    line.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the first bytes of a TLS greeting
                elif number < 60:
                    tls = lines.enter_context(front.trusting().wrap_socket(line, server_hostname="127.0.0.1"))
                    tls.sendall(b"GET /ocpp/VLT-0001 HTTP/1.1\r\nHost: x\r\nUpgrade: web")
                    secured.append(tls)
            began = time.monotonic()
            for _ in range(5):
                with ChargerClient(front.url, "VLT-0001", KEY, tls=front.trusting()) as charger:
                    assert charger.boot()["status"] == "Accepted"
            assert time.monotonic() - began < 10
            ended = 0
            deadline = time.monotonic() + 15
            for line in (*slow[:30], *secured, *slow[60:]):
                line.settimeout(max(0.1, deadline - time.monotonic()))
                ended += _is_ended(line)
            assert ended == 90
    assert Connection.objects.count() == 5 and not AuditEntry.objects.filter(action="connection.refused").exists()


def _is_ended(line: socket.socket) -> bool:
    """Whether the server ends this line in time; it may say why first."""
    try:
        while line.recv(4_096):
            pass
    except TimeoutError:
        return False
    except (ConnectionError, ssl.SSLError):
        return True
    return True


# -- browsers ------------------------------------------------------------------------------------------------------------------------
def test_A24_an_operators_cookies_open_no_charger_and_a_live_page_tells_nothing(server, chargers):  # noqa: F811
    """The chargers' door knows no cookies: from any page, with an operator's session and no key, it is 401. A live page's socket says
    that something changed, never what, whoever asks."""
    om = signed_in(chargers.om)
    cookies = "; ".join(f"{name}={one.value}" for name, one in om.cookies.items())
    evil = {"Origin": "https://evil.example", "Cookie": cookies}
    assert "sessionid=" in cookies
    for origin in ("https://evil.example", f"http://127.0.0.1:{server.port}", "null"):
        assert server.status("/ocpp/VLT-0001", {**evil, "Origin": origin}) == 401
    code = chargers.kaveri_connector.code
    with ChargerClient(server.url, "VLT-0001", KEY) as charger:
        charger.boot()
        told = asyncio.run(_listen(f"{server.url}/live/{code}/", {"Origin": "https://evil.example", "Cookie": cookies}, charger))
    assert told and set(told) == {'{"changed": true}'}


async def _listen(address: str, headers: dict[str, str], charger: ChargerClient) -> list[str]:
    from websockets.asyncio.client import connect

    heard: list[str] = []
    try:
        async with connect(address, additional_headers=headers, proxy=None) as page:
            for status in ("Preparing", "Charging", "Available"):
                await asyncio.to_thread(charger.status, 1, status)
                heard.append(str(await asyncio.wait_for(page.recv(), 10)))
                await page.send('{"type": "socket.replaced", "charge_point": 1}')
                await page.send("[" * 5_000)
    except InvalidStatus as refused:
        heard.append(f"refused with {refused.response.status_code}")
    return heard
