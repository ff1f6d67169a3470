"""The simulated fleet on real sockets, against a server of the test's own."""

import asyncio
import contextlib
import json
import random

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from csms.simulator import fleet, profiles, script
from csms.simulator.charger import Habits, make
from csms.simulator.client import Line
from voltaro import clock

KEY = "a key of sixteen or more"


class Server:
    """Answers every call kindly, remembers them, and can turn the next callers away or hang up on everybody."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, dict]] = []
        self.sockets: dict[str, ServerConnection] = {}
        self.passwords: list[str] = []
        self.turn_away = 0
        self.transactions = 0

    def door(self, socket: ServerConnection, request: Request) -> Response | None:
        self.passwords.append(request.headers.get("Authorization", ""))
        if self.turn_away:
            self.turn_away -= 1
            return socket.respond(401, "no\n")
        return None

    async def talk(self, socket: ServerConnection) -> None:
        cp_id = socket.request.path.rsplit("/", 1)[-1]
        self.sockets[cp_id] = socket
        async for text in socket:
            match json.loads(text):
                case [2, uid, action, payload]:
                    self.said.append((cp_id, action, payload))
                    await socket.send(json.dumps([3, uid, self._answer(action)]))

    def _answer(self, action: str) -> dict:
        self.transactions += action == "StartTransaction"
        return {
            "BootNotification": {"status": "Accepted", "currentTime": "2026-11-21T09:00:00Z", "interval": 300},
            "Authorize": {"idTagInfo": {"status": "Accepted"}},
            "StartTransaction": {"transactionId": self.transactions, "idTagInfo": {"status": "Accepted"}},
        }.get(action, {})

    def calls(self, cp_id: str, action: str) -> list[dict]:
        return [payload for one, name, payload in self.said if (one, name) == (cp_id, action)]

    async def ask(self, cp_id: str, action: str, payload: dict) -> None:
        await self.sockets[cp_id].send(json.dumps([2, f"ask-{action}", action, payload]))


@contextlib.asynccontextmanager
async def running(server: Server, *cp_ids: str, jobs=(), connectors: int = 1):
    habits = Habits(sample_every_s=1, arrives_after_s=(0.05, 0.1), leaves_after_s=(0.05, 0.1), boots_in_s=(0.1, 0.2), step_s=0.1)
    notes: list[str] = []
    async with serve(server.talk, "127.0.0.1", 0, subprotocols=["ocpp1.6"], process_request=server.door) as door:
        url = f"ws://127.0.0.1:{door.sockets[0].getsockname()[1]}"
        lines = {}
        for cp_id in cp_ids:
            charger = make(cp_id, [profiles.plug("ccs2", 60_000)] * connectors, habits=habits)
            lines[cp_id] = Line(charger, url, KEY, clock=clock.now, tell=notes.append, tick_s=0.05, on_new_key=notes.append)
        herd = fleet.Fleet(lines, clock=clock.now, tell=notes.append)
        herd.notes = notes  # type: ignore[attr-defined]
        task = asyncio.create_task(herd.run(*jobs))
        try:
            yield herd
        finally:
            herd.stop.set()
            await asyncio.wait_for(task, 5)


async def until(true, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_fleet_connects_charges_on_request_and_hangs_up_when_told():
    server = Server()
    async with running(server, "A", "B") as herd:
        await until(lambda: server.calls("A", "StatusNotification") and server.calls("B", "StatusNotification"))
        await server.ask("A", "RemoteStartTransaction", {"connectorId": 1, "idTag": "T1"})
        await until(lambda: len(server.calls("A", "MeterValues")) >= 2)
        await server.ask("A", "RemoteStopTransaction", {"transactionId": 1})
        await until(lambda: server.calls("A", "StopTransaction"))
        assert not server.calls("B", "StartTransaction")
        assert any("transaction 1 stopped after" in note for note in herd.notes)
    await until(lambda: all(socket.close_code is not None for socket in server.sockets.values()))


async def test_a_charger_turned_away_tries_again_with_its_password(monkeypatch):
    monkeypatch.setattr("csms.simulator.client.BACK_OFF_FIRST_S", 0.05)
    monkeypatch.setattr("csms.simulator.client.BACK_OFF_LONGEST_S", 0.1)
    server = Server()
    server.turn_away = 3
    async with running(server, "A") as herd:
        await until(lambda: server.calls("A", "BootNotification"))
        assert len(server.passwords) == 4 and len(set(server.passwords)) == 1
        assert any("401" in note for note in herd.notes)


async def test_after_a_lost_line_it_returns_without_a_boot_and_says_what_it_measured_meanwhile():
    server = Server()
    async with running(server, "A"):
        await until(lambda: server.calls("A", "StatusNotification"))
        await server.ask("A", "RemoteStartTransaction", {"connectorId": 1, "idTag": "T1"})
        await until(lambda: server.calls("A", "MeterValues"))
        old = server.sockets["A"]
        old.transport.abort()
        await until(lambda: server.sockets["A"] is not old)
        before = len(server.calls("A", "MeterValues"))
        await until(lambda: len(server.calls("A", "MeterValues")) > before)
        assert len(server.calls("A", "BootNotification")) == 1


async def test_a_new_key_is_used_from_the_next_line_on():
    server = Server()
    async with running(server, "A") as herd:
        await until(lambda: server.calls("A", "StatusNotification"))
        await server.ask("A", "ChangeConfiguration", {"key": "AuthorizationKey", "value": "another key of sixteen"})
        await until(lambda: len(server.passwords) == 2)
        assert server.passwords[0] != server.passwords[1]
        assert "another key of sixteen" in herd.notes  # given to whoever keeps the keys


async def test_a_script_is_played_and_quits():
    server = Server()
    deeds = script.read("0.5 A plug 1\n0.6 A swipe 1 04AA\n2.2 A unplug 1\n3 * quit")
    async with running(server, "A", jobs=[fleet.follow(deeds)]) as herd:
        await asyncio.wait_for(herd.stop.wait(), 10)
    assert server.calls("A", "Authorize") == [{"idTag": "04AA"}]
    assert [server.calls("A", name)[0]["idTag"] for name in ("StartTransaction", "StopTransaction")] == ["04AA", "04AA"]
    assert server.calls("A", "StopTransaction")[0]["reason"] == "EVDisconnected"


@pytest.mark.parametrize("marked", [True, False])
async def test_riders_pay_at_free_connectors_and_leave_one_charger_to_people(monkeypatch, marked):
    paid: list[tuple[str, dict]] = []

    def sandbox(request: httpx.Request) -> httpx.Response:
        paid.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json={"payment_id": "pay_1"})

    real = httpx.AsyncClient
    monkeypatch.setattr(fleet.httpx, "AsyncClient", lambda **how: real(transport=httpx.MockTransport(sandbox), **how))
    dice = random.Random(1)
    monkeypatch.setattr(dice, "uniform", lambda low, high: 0.1)
    members = {
        cp_id: fleet.Member(cp_id, KEY, [{"type": "ccs2", "max_power_w": 60_000, "qr_id": f"qr_{cp_id}"}], reserved=marked and cp_id == "A")
        for cp_id in ("A", "B", "C")
    }
    job = fleet.ride("http://127.0.0.1:1", members, at_once=5, rng=dice)
    server = Server()
    async with running(server, "A", "B", "C", jobs=[job]):
        await until(lambda: len(paid) == 2)
        await asyncio.sleep(0.5)
    left_alone = "A" if marked else "C"
    assert {path for path, _ in paid} == {f"/pay/qr_{cp_id}" for cp_id in "ABC" if cp_id != left_alone}
    assert len(paid) == 2  # who has paid is on the way: nobody else pays there
    assert all(10 <= rider["amount"] <= 60 and "@" in rider["vpa"] and len(rider["contact"]) == 10 for _, rider in paid)
