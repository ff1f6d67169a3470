"""The conformance cases: real sockets to a running server, whose clock can be moved forward, and its workers called by hand.

Every test bears the code of its case (C18, T03 ...) and, where there is one, the number of the OCA's test case (TC_003).
`bin/test tests/conformance --write-table` writes docs/conformance.md from what passed (tests/tables.py).
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.actor import acting
from csms import commands, credentials, stations
from csms.models import ChargePoint, ChargingSession, Command, Connection, IdTag, OcppMessage
from tests.factories import make_network
from tests.nginx import PROXY
from tests.server import Server, serving
from tests.simulate_client import ChargerClient
from voltaro import clock
from voltaro.celery import WORKERS

KEY = "0123456789abcdef0123456789abcdef01234567"


class World:
    """A server, its database, and chargers on real lines."""

    def __init__(self, server: Server, clock_file: Path) -> None:
        self.server, self.clock_file = server, clock_file
        self.clients: list[ChargerClient] = []

    # -- chargers ------------------------------------------------------------------------------------------------
    def set_up(self, cp_id: str = "VLT-0001", *, connectors: int = 1, key: str | None = KEY, **fields: Any) -> ChargePoint:
        """A charger of the network with this key (None: without one); `fields` are set on its row."""
        company = ChargePoint.objects.order_by("pk").values_list("company", flat=True).first() or self.network.voltaro.pk
        from accounts.models import Company

        row, _, _ = stations.add_charge_point(
            cp_id, company=Company.objects.get(pk=company), connectors=connectors, key=key, no_auth=key is None
        )
        if fields:
            ChargePoint.objects.filter(pk=row.pk).update(**fields)
            row.refresh_from_db()
        return row

    def connect(
        self, cp_id: str = "VLT-0001", key: str | None = KEY, *, boot: bool = True, status: bool = True, **how: Any
    ) -> ChargerClient:
        """That charger on a line; booted, and Available on each connector, unless told otherwise."""
        client = ChargerClient(self.server.url, cp_id, key, **how).connect()
        self.clients.append(client)
        if boot:
            assert client.boot()["status"] == "Accepted"
            if status:
                for number in stations.find(cp_id).places.values():
                    client.status(number.connector_no, "Available")
        return client

    # -- time and workers ----------------------------------------------------------------------------------------
    def pass_time(self, seconds: float) -> None:
        """Move the clock of the server, and of the test itself, forward."""
        already = float(self.clock_file.read_text() or 0) if self.clock_file.exists() else 0.0
        self._set(already + seconds)

    def time_put_right(self) -> None:
        if self.clock_file.exists() and float(self.clock_file.read_text() or 0):
            self._set(0.0)

    def _set(self, seconds: float) -> None:
        fresh = self.clock_file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.rename(self.clock_file)

    def work(self, *names: str) -> int:
        """Run these workers once, as the beat would."""
        done = 0
        for name in names:
            with acting("worker", name):
                done += WORKERS[name].function("work")(clock.now(), 100)
        return done

    # -- the operator --------------------------------------------------------------------------------------------
    @staticmethod
    def ask(action: str, payload: dict[str, Any] | None = None, cp_id: str = "VLT-0001") -> Command:
        """Om asks something of a charger."""
        with acting("user", "om"):
            return commands.ask(ChargePoint.objects.get(cp_id=cp_id), action, payload or {}, by="om", trigger="console")

    # -- looking -------------------------------------------------------------------------------------------------
    @staticmethod
    def until(look: Callable[[], Any], what: str = "it to happen", within_s: float = 5) -> Any:
        """Wait until `look()` is true and return it."""
        deadline = time.monotonic() + within_s
        while not (found := look()):
            assert time.monotonic() < deadline, f"waited {within_s:g} s for {what}"
            time.sleep(0.03)
        return found

    @staticmethod
    def session(**wanted: Any) -> ChargingSession:
        """The one session (of these)."""
        return ChargingSession.objects.get(**wanted)

    def command(self, action: str, state: str | None = None) -> Command:
        """The newest command of this action; waits for its state when one is named."""

        def look() -> Command | None:
            row = Command.objects.filter(action=action).order_by("-id").first()
            return row if row is not None and state in (None, row.state) else None

        return self.until(look, f"{action} to be {state}")

    @staticmethod
    def frames(charge_point: ChargePoint, action: str = "", direction: str = "") -> list[OcppMessage]:
        rows = OcppMessage.objects.filter(charge_point=charge_point).order_by("id")
        return list(rows.filter(**{k: v for k, v in {"action": action, "direction": direction}.items() if v}))

    def card(self, tag: str = "CARD1", **fields: Any) -> IdTag:
        """A card of the network's own, that may charge."""
        return IdTag.objects.create(tag=tag, company=self.network.voltaro, **fields)


@pytest.fixture(scope="session")
def served(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("conformance")
    clock_file = folder / "clock"
    clock_file.write_text("0")
    # nginx (tests/nginx.py) comes from an address that is trusted, chargers of the tests do not.
    how = {"VOLTARO_CLOCK_FILE": str(clock_file), "TRUSTED_PROXIES": PROXY, "CHARGER_CA_DIR": str(folder / "charger-ca")}
    with django_db_blocker.unblock(), serving(folder, **how) as server:
        yield World(server, clock_file)


@pytest.fixture
def world(served: World, transactional_db, monkeypatch) -> Iterator[World]:
    """The cast and its network on the running server. Afterwards: the server lives, made no mistake, and its clock is right."""
    monkeypatch.setattr(clock, "_file", str(served.clock_file))
    monkeypatch.setattr(clock, "_seen", (0, 0.0))
    served.network = make_network()
    ChargePoint.objects.update(credentials_hash="")
    for row in ChargePoint.objects.all():
        ChargePoint.objects.filter(pk=row.pk).update(credentials_hash=credentials.hashed(row.cp_id, KEY))
    served.server.forgive()
    yield served
    for client in served.clients:
        with contextlib.suppress(Exception):
            client.end()
    heard = sum(way == "IN" for client in served.clients for way, _ in client.frames)
    served.clients.clear()
    # The server has put every line away and written its log before the tables are emptied under it.
    with contextlib.suppress(AssertionError):
        World.until(lambda: not Connection.objects.filter(closed_at__isnull=True).exists(), "the lines to be put away")
    with contextlib.suppress(AssertionError):
        World.until(lambda: 0 < heard <= OcppMessage.objects.filter(direction="OUT").count(), "the log to be written", 0.3)
    served.time_put_right()
    assert served.server.alive, served.server.log.read_text()[-3000:]
    assert not served.server.mistakes, served.server.mistakes[:3]


@pytest.fixture
def charger(world: World) -> ChargerClient:
    """Kaveri's charger VLT-0001, accepted, its one connector Available."""
    return world.connect()
