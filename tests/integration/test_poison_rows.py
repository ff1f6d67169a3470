"""One row our code stumbles over is logged and stays due; the rows behind it are worked on all the same."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from billing import razorpay, reconcile
from billing.models import ReconciledDay
from csms import commands, permits, sessions, stations
from csms.models import ChargePoint, ChargingSession, Command, IdTag
from franchise import payouts, settlements
from franchise.models import CommissionLedgerEntry, Payout
from tests.charger import Charger, later
from tests.shares import Route, bill
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def two(network, bells):
    """Two chargers with a session each, Kaveri's first in every line."""
    chargers = []
    for row in (network.kaveri_charger, network.ganga_charger):
        charger = Charger(row)
        charger.boot()
        charger.start(tag="CARD")
        chargers.append(charger)
        clock.shift(1)
    first, second = ChargingSession.objects.order_by("pk")
    return SimpleNamespace(chargers=chargers, first=first, second=second)


def stumbling(monkeypatch, module, name, stumbles) -> None:
    """`module.name` fails for what `stumbles` says yes to."""
    true = getattr(module, name)

    def replaced(*args, **more):
        if stumbles(*args):
            raise TypeError("our own mistake")
        return true(*args, **more)

    monkeypatch.setattr(module, name, replaced)


def test_sessions_that_wait_too_long(two, monkeypatch):
    stumbling(monkeypatch, sessions, "apply", lambda row, *_: row.pk == two.first.pk)
    clock.shift(4 * 3600)
    assert sessions.timeout_due(clock.now(), 100) == 1
    assert set(ChargingSession.objects.filter(state="STOPPED")) == {two.second}


def test_sessions_to_stop(two, monkeypatch):
    ChargingSession.objects.update(stop_due_at=clock.now())
    stumbling(monkeypatch, sessions, "ask_stop", lambda row, *_: row.pk == two.first.pk)
    clock.shift(30)
    assert sessions.stop_due(clock.now(), 100) == 1
    assert Command.objects.filter(trigger="limit").get().session == two.second


def test_permits_to_ask(network, bells, monkeypatch):
    for charger, franchisee, connector in (
        (network.kaveri_charger, network.kaveri, network.kaveri_connector),
        (network.ganga_charger, network.ganga, network.ganga_connector),
    ):
        Charger(charger).boot()
        permits.grant(connector=connector, user=None, company=franchisee.company, limit_wh=1_000, start_until=later(300))
    stumbling(monkeypatch, commands, "request", lambda charge_point, *_: charge_point.pk == network.kaveri_charger.pk)
    assert permits.ask_due(clock.now(), 100) == 1
    assert Command.objects.get().charge_point == network.ganga_charger


def test_commands_to_time_out(two, monkeypatch):
    first, second = (commands.request(charger.row, "Reset", {}, trigger="test") for charger in two.chargers)
    stumbling(monkeypatch, Command, "save", lambda row, *_: row.pk == first.pk)
    clock.shift(100)
    assert commands.timeout_due(clock.now(), 100) >= 1
    second.refresh_from_db()
    assert second.state == "expired"


def test_chargers_gone_silent(two, monkeypatch):
    stumbling(monkeypatch, stations, "release", lambda pk, *_: pk == two.chargers[0].row.pk)
    clock.shift(stations.lease_s() + 1)
    stations.silent_due(clock.now(), 100)
    assert ChargePoint.objects.get(online=False) == two.chargers[1].row
    assert [row.pk for row in stations.to_mark_silent(clock.now())] == [two.chargers[0].row.pk]


def test_franchisees_to_pay(network, monkeypatch):
    route = Route(monkeypatch)
    for connector in (network.kaveri_connector, network.ganga_connector):
        bill(connector)
    settlements.work_due(clock.now(), 100)
    stumbling(monkeypatch, payouts, "_make", lambda franchisee, *_: franchisee == network.kaveri)
    payouts.work_due(clock.now(), 100)
    assert len(route.asked) == 1 and Payout.objects.get().franchisee == network.ganga
    assert CommissionLedgerEntry.objects.get(status="PENDING").franchisee == network.kaveri


def test_payouts_to_try_again(network, monkeypatch):
    route = Route(monkeypatch)
    for connector in (network.kaveri_connector, network.ganga_connector):
        bill(connector)
    settlements.work_due(clock.now(), 100)
    route.mood = ["declined", "declined"]
    payouts.work_due(clock.now(), 100)
    clock.shift(3600)
    stumbling(monkeypatch, payouts, "_make", lambda franchisee, *_: franchisee == network.kaveri)
    assert payouts.retry_due(clock.now(), 100) == 1
    assert Payout.objects.get(attempt=2).franchisee == network.ganga


def test_days_to_reconcile(db, monkeypatch):
    monkeypatch.setattr(razorpay, "recon", lambda day, **window: [])
    today = timezone.localdate(clock.now() - reconcile.READY_AFTER)
    stumbling(monkeypatch, reconcile, "run", lambda day: day == today - timedelta(days=reconcile.DAYS_BACK))
    assert reconcile.work_due(clock.now(), 100) == reconcile.DAYS_BACK - 1
    assert "TypeError" in ReconciledDay.objects.get(done_at=None).last_error


def test_days_without_a_worker_are_made_good(db, monkeypatch):
    monkeypatch.setattr(razorpay, "recon", lambda day, **window: [])
    for _ in range(2):
        while reconcile.work_due(clock.now(), 100):
            pass
        clock.shift(9 * 86_400)
    while reconcile.work_due(clock.now(), 100):
        pass
    days = sorted(ReconciledDay.objects.values_list("day", flat=True))
    assert len(days) == 3 + 9 + 9 and (days[-1] - days[0]).days == 20


def test_permits_of_the_past_are_nobodys_hot_loop(network, bells):
    """A connector out of order until the money goes back: looked at now and then, never asked, never in a loop."""
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.status("Faulted", error="GroundFailure")
    permit = permits.grant(
        connector=network.kaveri_connector, user=None, company=network.kaveri.company, limit_wh=1_000, start_until=later(300)
    )
    looks = 0
    for _ in range(62):
        looks += permits.ask_due(clock.now(), 100)
        assert permits.ask_due(clock.now(), 100) == 0
        clock.shift(5)
    assert looks <= 31 and not Command.objects.exists()
    assert IdTag.objects.get(pk=permit.pk).asked_count == 0
