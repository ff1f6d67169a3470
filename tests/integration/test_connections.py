"""One owner per charger: claims, leases, what a dead process leaves behind, and two processes that want the same charger."""

import socket
import threading
import time

import pytest
import redis
from django.db import OperationalError, connections

from accounts.models import AuditEntry
from csms import dispatch, doors, stations
from csms.models import ChargePoint, ChargerError, ChargingSession, Connection, Connector
from csms.rules.budget import PRESENCE
from csms.rules.connection import Standing, standing
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


def claim(charge_point: ChargePoint, process: str = "one", channel: str = "specific.one!a") -> tuple[int, str]:
    return stations.claim(
        charge_point.pk, process=process, channel=channel, remote_address="10.0.0.9", subprotocol="ocpp1.6", now=clock.now()
    )


def release(charge_point: ChargePoint, epoch: int) -> None:
    stations.release(charge_point.pk, epoch, close_code=1006, reason="", now=clock.now())


def online(charge_point: ChargePoint) -> bool:
    charge_point.refresh_from_db()
    return charge_point.online


# -- the rule ------------------------------------------------------------------------------------------------------------
def test_the_newest_claim_owns_the_charger():
    assert (standing(3, 3), standing(2, 3)) == (Standing.OWNER, Standing.FENCED)


# -- claims ---------------------------------------------------------------------------------------------------------------
def test_a_claim_raises_the_epoch_and_names_whom_it_replaces(network):
    charge_point = network.kaveri_charger
    assert claim(charge_point, channel="specific.one!a") == (1, "")
    assert claim(charge_point, channel="specific.two!b") == (2, "specific.one!a")
    assert online(charge_point) and charge_point.epoch == 2 and charge_point.ocpp_version == "1.6"
    old, new = Connection.objects.filter(charge_point=charge_point).order_by("epoch")
    assert (old.close_reason, old.closed_at is not None, new.closed_at) == ("replaced", True, None)
    assert (new.remote_address, new.subprotocol, new.process) == ("10.0.0.9", "ocpp1.6", "one")


def test_only_the_newest_sockets_end_takes_the_charger_offline(network):
    charge_point = network.kaveri_charger
    first, _ = claim(charge_point)
    second, _ = claim(charge_point)
    release(charge_point, first)
    assert online(charge_point)
    release(charge_point, second)
    assert not online(charge_point)
    assert Connection.objects.get(epoch=second).close_code == 1006


def test_releasing_twice_changes_nothing(network):
    epoch, _ = claim(network.kaveri_charger)
    release(network.kaveri_charger, epoch)
    before = Connection.objects.values().get()
    clock.shift(5)
    release(network.kaveri_charger, epoch)
    assert Connection.objects.values().get() == before


def test_A12_a_replaced_sockets_presence_is_not_believed_and_its_facts_are(charger, network):
    old = charger.context
    charger.start(tag="CARD", meter=0)
    charger.connect()
    new, charger.context = charger.context, old
    seen = ChargePoint.objects.values("last_seen", "last_heartbeat", "boot_count", "status").get(pk=charger.row.pk)
    clock.shift(60)
    charger.call("Heartbeat")
    charger.boot(firmwareVersion="evil")
    charger.status("Faulted", connector=0, error="InternalError")
    charger.status("Faulted", error="GroundFailure")
    assert ChargePoint.objects.values("last_seen", "last_heartbeat", "boot_count", "status").get(pk=charger.row.pk) == seen
    assert not ChargerError.objects.exists()
    assert ChargingSession.objects.get().state == "STARTED"
    charger.meter(300, 20_000)
    charger.stop(400)
    assert ChargingSession.objects.get().energy_wh == 400
    notes = set(charger.row.messages.filter(note=stations.REPLACED).values_list("action", flat=True))
    assert notes == {"Heartbeat", "BootNotification", "StatusNotification"}
    charger.context = new
    charger.call("Heartbeat")
    charger.row.refresh_from_db()
    assert charger.row.firmware_version == "1.0"


@pytest.mark.django_db(transaction=True)
def test_A14_of_many_claims_at_once_one_is_the_last_and_every_other_is_told(network, bells):
    """Newcomers that meet do not see each other's rows yet: the lease-keeper of their process finds whom nobody told."""
    charge_point, ready, claims = network.kaveri_charger, threading.Barrier(6), []

    def come(number: int) -> None:
        ready.wait(10)
        claims.append(claim(charge_point, process=f"process {number % 2}", channel=f"specific.{number}"))
        connections.close_all()

    threads = [threading.Thread(target=come, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(epoch for epoch, _ in claims) == [1, 2, 3, 4, 5, 6]
    fenced = [epoch for process in ("process 0", "process 1") for _, epoch in stations.fenced(process)]
    told = Connection.objects.filter(close_reason="replaced").count()
    assert told + len(fenced) == 5
    open_rows = set(Connection.objects.filter(closed_at=None).values_list("epoch", flat=True))
    assert open_rows == {6, *fenced}


@pytest.mark.django_db(transaction=True)
def test_coming_back_while_the_old_socket_is_put_away_never_deadlocks(network, bells):
    charge_point = network.kaveri_charger
    epoch, _ = claim(charge_point)
    for turn in range(25):
        ready, failed = threading.Barrier(2), []

        def at_once(deed, *given, ready=ready, failed=failed) -> None:
            try:
                ready.wait(10)
                deed(*given)
            except Exception as error:
                failed.append(error)
            finally:
                connections.close_all()

        both = [
            threading.Thread(target=at_once, args=(claim, charge_point)),
            threading.Thread(target=at_once, args=(release, charge_point, epoch)),
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(20)
        assert failed == [], turn
        epoch += 1
    assert online(charge_point)


def test_a_socket_nobody_told_of_its_replacement_is_found(network):
    """The layer that tells is at-most-once, and a claim cannot see one that is not committed yet."""
    charge_point = network.kaveri_charger
    first, _ = claim(charge_point, process="one")
    assert stations.fenced("one") == []
    claim(charge_point, process="two")
    Connection.objects.filter(epoch=first).update(closed_at=None, close_reason="")
    assert stations.fenced("one") == [(charge_point.pk, first)]
    assert stations.fenced("two") == []


# -- leases -----------------------------------------------------------------------------------------------------------------
def test_a_process_that_lives_keeps_its_chargers(network):
    claim(network.kaveri_charger, process="one")
    for _ in range(10):
        clock.shift(60)
        assert stations.renew_leases("one", clock.now()) == 1
        assert stations.silent_due(clock.now(), 10) == 0
    assert online(network.kaveri_charger)


def test_a_process_that_died_loses_its_chargers_and_only_its(network, bells):
    """kill -9 of one of two processes: nobody says goodbye."""
    claim(network.kaveri_charger, process="dead")
    claim(network.ganga_charger, process="alive")
    clock.shift(stations.lease_s() - 1)
    stations.renew_leases("alive", clock.now())
    assert stations.silent_due(clock.now(), 10) == 0
    clock.shift(2)
    assert [row.cp_id for row in stations.to_mark_silent(clock.now())] == ["VLT-0001"]
    assert stations.silent_due(clock.now(), 10) == 1
    assert (online(network.kaveri_charger), online(network.ganga_charger)) == (False, True)
    assert Connection.objects.get(process="dead").close_reason == "lease ran out"
    assert stations.silent_due(clock.now(), 10) == 0


def test_what_was_charging_at_a_dead_process_is_suspended_not_ended(charger):
    charger.start(tag="CARD", meter=0)
    clock.shift(stations.lease_s() + 1)
    stations.silent_due(clock.now(), 10)
    assert ChargingSession.objects.get().state == "SUSPENDED"
    charger.connect()  # to another process
    charger.meter(900, 22_000)
    assert ChargingSession.objects.get().state == "RUNNING"


def test_the_sweep_never_touches_a_charger_that_has_moved_to_another_process(network):
    claim(network.kaveri_charger, process="dead")
    clock.shift(stations.lease_s() + 1)
    epoch, _ = claim(network.kaveri_charger, process="alive")
    assert stations.silent_due(clock.now(), 10) == 0
    assert online(network.kaveri_charger) and network.kaveri_charger.epoch == epoch


def test_shown_online_without_any_connection_is_put_right(network):
    ChargePoint.objects.filter(pk=network.kaveri_charger.pk).update(online=True)
    assert stations.silent_due(clock.now(), 10) == 1
    assert not online(network.kaveri_charger)


def test_a_charger_is_reachable_for_a_moment_after_its_line_broke(charger):
    row = charger.row
    charger.drop()
    row.refresh_from_db()
    assert not row.online and stations.reachable(row, clock.now())
    clock.shift(121)
    assert not stations.reachable(row, clock.now())


# -- the door ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("identity", ["", " ", "VLT-9999", "VLT-0001 ", "VLT%", "VLT_0001", "' OR 1=1 --", "V" * 500, "VLT-0001\u0130"])
def test_a_stranger_is_not_found(network, identity):
    assert stations.find(identity) is None


def test_a_charger_is_found_in_any_case_with_its_connectors(network):
    for identity in ("VLT-0001", "vlt-0001"):
        known = stations.find(identity)
        assert (known.cp_id, known.pk) == ("VLT-0001", network.kaveri_charger.pk)
        assert [place.code for place in known.places.values()] == [network.kaveri_connector.code]


@pytest.fixture
def counting():
    """Nobody was refused yet."""
    from django.core.cache import cache

    cache.clear()
    doors.counters = doors.Counters()
    yield doors.counters
    cache.clear()


def test_refusals_are_kept_once_a_minute_for_each_and_never_many(network, counting):
    for _ in range(5):
        doors.refused("NOBODY", "10.0.0.9", "unknown")
    doors.refused("NOBODY", "10.0.0.9", "wrong_key")
    doors.refused("A\x00B\ud800" + "x" * 300, "10.0.0.9", "unknown")
    kept = AuditEntry.objects.filter(action="connection.refused").order_by("pk")
    assert [(entry.trigger, entry.target_id[:6]) for entry in kept] == [
        ("unknown", "NOBODY"),
        ("wrong_key", "NOBODY"),
        ("unknown", "AB\ufffdxxx"),
    ]
    assert {len(entry.target_id) for entry in kept} == {6, 48}
    for number in range(100):
        doors.refused(f"SPRAY-{number}", "10.0.0.9", "unknown")
    assert kept.all().count() == doors.RECORDS_A_MINUTE


def test_a_count_that_ended_while_it_was_counted_ends_again(counting):
    """Redis forgets the key between the two commands: the second makes it anew, without an end."""
    name = "voltaro:door:knock:somebody"
    counting._redis.set(name, 7)
    assert counting.count("knock:somebody", 60) == 8
    assert 0 < counting._redis.ttl(name) <= 60
    counting._redis.delete(name)


def test_without_redis_refusals_are_counted_and_kept_all_the_same(network, counting, monkeypatch):
    def away():
        raise redis.ConnectionError

    monkeypatch.setattr(counting._redis, "pipeline", lambda **how: away())
    told = [doors.refused("NOBODY", "10.0.0.9", "unknown").failures for _ in range(3)]
    assert told == [(1, 1), (2, 2), (3, 3)]
    assert AuditEntry.objects.filter(action="connection.refused").count() == 1


def test_a_redis_that_hangs_holds_nobody_at_the_door(network, settings, counting):
    """It takes the connection and never answers: once a quarter of a second is lost, then five seconds long nothing is asked of it."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        settings.REDIS_URL = f"redis://127.0.0.1:{hanging.getsockname()[1]}/0"
        doors.counters = doors.Counters()
        began = time.monotonic()
        for _ in range(10):
            doors.refused("NOBODY", "10.0.0.9", "unknown")
        assert time.monotonic() - began < 1.0


def test_a_heartbeat_is_written_though_readings_keep_the_charger_seen(charger, network):
    clock.shift(60)
    charger.start(tag="CARD", meter=0)
    charger.call("Heartbeat")
    network.kaveri_charger.refresh_from_db()
    first = network.kaveri_charger.last_heartbeat
    assert first is not None
    charger.call("Heartbeat")  # within 20 seconds: answered, not written
    network.kaveri_charger.refresh_from_db()
    assert network.kaveri_charger.last_heartbeat == first


def test_statuses_that_were_held_back_outlive_a_database_that_was_away(charger, network, monkeypatch):
    """They were answered already: the charger will not say them again. One that our code stumbles over does not take the others along."""
    for _ in range(PRESENCE):
        charger.call("Heartbeat")
    for number in (1, 2, 3):
        charger.status("Faulted", connector=number, error="OtherError")
    held = charger.context.budgets.held
    assert set(held) == {1, 2, 3}
    real = stations.status

    def away(*args):
        if args[3].connector_no == 2:
            raise OperationalError("gone")
        return real(*args)

    monkeypatch.setattr(stations, "status", away)
    with pytest.raises(OperationalError):
        dispatch.settle_held(charger.context)
    assert set(held) == {2, 3}

    def stumbles(*args):
        if args[3].connector_no == 2:
            raise ZeroDivisionError
        return real(*args)

    monkeypatch.setattr(stations, "status", stumbles)
    dispatch.settle_held(charger.context)
    states = dict(Connector.objects.filter(charge_point="VLT-0001").values_list("connector_id", "status"))
    assert not held and (states[1], states[3]) == ("Faulted", "Faulted") and states.get(2) != "Faulted"
    assert AuditEntry.objects.filter(action="message.quarantined").exists()


def test_a_status_that_was_held_back_is_not_put_over_a_newer_one_of_its_connector(charger):
    """The newer one found room in the budget and was stored at once; without a clock of its own the older would count as of now."""
    while charger.context.budgets.presence.take(clock.elapsed()):
        pass
    for number in (1, 2):
        charger.status("Faulted", connector=number, error="OtherError")
    clock.shift(6)
    charger.status("Available", connector=1)
    dispatch.settle_held(charger.context)
    states = dict(Connector.objects.filter(charge_point="VLT-0001").values_list("connector_id", "status"))
    assert (states[1], states[2]) == ("Available", "Faulted")
