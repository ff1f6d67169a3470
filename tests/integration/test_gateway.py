"""What a server process promises about its chargers: it renews the leases of those it truly holds, whatever one of them does."""

import asyncio
from types import SimpleNamespace

import pytest
from django.db import connection

from csms import stations, threads
from csms.context import Reply
from csms.gateway import Gateway
from csms.models import ChargePoint, Connection, OcppMessage
from csms.rules import connection as rule
from csms.rules.habits import STANDARD
from voltaro import clock


class Socket:
    """A consumer, as far as the gateway knows one."""

    def __init__(self, charge_point: ChargePoint, gateway: Gateway, *, heard_s_ago: float = 0, closes: bool = True) -> None:
        epoch, _ = stations.claim(
            charge_point.pk, process=gateway.process, channel="c", remote_address="", subprotocol="ocpp1.6", now=clock.now()
        )
        self.context = SimpleNamespace(charge_point_pk=charge_point.pk, epoch=epoch, habits=STANDARD)
        self.heard_s = clock.elapsed() - heard_s_ago
        self.closes, self.closed = closes, ""
        self.deaf = False
        gateway.sockets[charge_point.pk] = self

    def gone(self, now_s: float) -> str:
        return rule.gone(rule.timers(2), now_s, opened_s=self.heard_s, heard_s=self.heard_s, sign_s=0, booted=True)

    async def close_for(self, reason: str, code: int) -> None:
        self.closed = reason
        if not self.closes:
            raise RuntimeError("Unexpected ASGI message 'websocket.close', after sending 'websocket.close'.")


@pytest.fixture
def gateway(settings, monkeypatch):
    async def run(function, *args):
        def work():
            try:
                return function(*args)
            finally:
                connection.close()

        return await asyncio.to_thread(work)

    monkeypatch.setattr(threads, "run", run)
    settings.HEARTBEAT_TIMEOUT_S = 2
    return Gateway()


def lease(charge_point: ChargePoint) -> float:
    """Seconds left of a charger's lease."""
    return (Connection.objects.get(charge_point=charge_point, closed_at=None).lease_until - clock.now()).total_seconds()


@pytest.mark.django_db(transaction=True)
def test_a_socket_that_ended_while_the_database_was_away_loses_its_lease(network, gateway, bells):
    """Its end could not be written; were its lease renewed with the others, the charger would be online for ever."""
    gone = Socket(network.kaveri_charger, gateway)
    Socket(network.ganga_charger, gateway)
    del gateway.sockets[gone.context.charge_point_pk]
    for _ in range(4):
        clock.shift(1)
        for socket in gateway.sockets.values():
            socket.heard_s = clock.elapsed()
        asyncio.run(gateway._keep_leases())
    assert [row.cp_id for row in stations.to_mark_silent(clock.now())] == ["VLT-0001"]
    stations.silent_due(clock.now(), 10)
    assert list(ChargePoint.objects.filter(online=True).values_list("cp_id", flat=True)) == ["VLT-0002"]


@pytest.mark.django_db(transaction=True)
def test_a_silent_socket_that_cannot_be_closed_does_not_take_the_others_with_it(network, gateway, bells):
    stuck = Socket(network.kaveri_charger, gateway, heard_s_ago=3, closes=False)
    Socket(network.ganga_charger, gateway)
    clock.shift(1)
    gateway.sockets[network.ganga_charger.pk].heard_s = clock.elapsed()
    asyncio.run(gateway._keep_leases())
    assert stuck.closed == "silent"
    assert lease(network.ganga_charger) > 1 > lease(network.kaveri_charger)


@pytest.mark.django_db(transaction=True)
def test_a_frame_that_cannot_be_written_does_not_keep_the_others_from_the_log(network, gateway, bells):
    """A charger deleted a moment ago: its last answer belongs to nobody, and stood at the head of the queue for ever."""
    here, gone = Socket(network.kaveri_charger, gateway).context, SimpleNamespace(charge_point_pk=9_999_999, epoch=1, habits=STANDARD)
    for context in (here, gone, here):
        gateway.sent(context, Reply("[3,'1',{}]", "1", 3, "Heartbeat", clock.now()))
    asyncio.run(gateway._write_sent())
    assert OcppMessage.objects.filter(direction="OUT").count() == 2
    assert gateway._sent == []


@pytest.mark.django_db(transaction=True)
def test_a_charger_that_talks_and_answers_nothing_gets_a_new_line_once_an_hour(network, gateway, bells):
    deaf = Socket(network.kaveri_charger, gateway)
    deaf.deaf = True
    asyncio.run(gateway._keep_leases())
    assert deaf.closed == "does not answer"
    deaf.closed, deaf.heard_s = "", clock.elapsed()
    asyncio.run(gateway._keep_leases())
    assert deaf.closed == ""  # it has come again as deaf as before: closing it again would only take it offline
    clock.shift(3601)
    deaf.heard_s = clock.elapsed()
    asyncio.run(gateway._keep_leases())
    assert deaf.closed == "does not answer"


@pytest.mark.django_db(transaction=True)
def test_a_line_that_outlived_its_lease_is_closed_so_that_the_charger_is_claimed_anew(network, gateway, bells):
    """The database was away for longer than a lease: the rows are closed, the lines live, and the charger would stay offline."""
    outlived, fine = Socket(network.kaveri_charger, gateway), Socket(network.ganga_charger, gateway)
    clock.shift(1.5)
    stations.renew_leases(gateway.process, clock.now(), [network.ganga_charger.pk])
    clock.shift(1)
    assert stations.silent_due(clock.now(), 10) == 1
    outlived.heard_s = fine.heard_s = clock.elapsed()
    asyncio.run(gateway._keep_leases())
    assert (outlived.closed, fine.closed) == ("lease ran out", "")
    anew = Socket(network.kaveri_charger, gateway)
    asyncio.run(gateway._keep_leases())
    assert anew.closed == ""
    assert ChargePoint.objects.get(pk=network.kaveri_charger.pk).online


def test_only_a_line_that_nobody_has_claimed_since_has_lapsed(network):
    row = network.kaveri_charger
    told = {"channel": "c", "remote_address": "", "subprotocol": "ocpp1.6", "now": clock.now()}
    first, _ = stations.claim(row.pk, process="one", **told)
    assert stations.lapsed("one", [row.pk]) == []
    clock.shift(stations.lease_s() + 1)
    stations.silent_due(clock.now(), 10)
    assert stations.lapsed("one", [row.pk]) == [(row.pk, first)]
    assert stations.lapsed("one", []) == stations.lapsed("two", [row.pk]) == []
    stations.claim(row.pk, process="two", **told | {"now": clock.now()})
    assert stations.lapsed("one", [row.pk]) == []
