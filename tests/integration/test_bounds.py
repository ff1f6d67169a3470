"""SessionLimit and PostBootState: what a charger is told, so that it stops and goes on by itself while nobody hears it."""

import json

import pytest

from accounts.models import AuditEntry
from csms import commands, permits, sessions
from csms.models import ChargingSession, Command, IdTag
from tests.charger import Charger, later
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    network.kaveri_charger.quirk_settings = {"session_limit": True, "post_boot_state": True, "vendor_id": "Acme"}
    network.kaveri_charger.save()
    found = Charger(network.kaveri_charger)
    found.boot()
    settle_boot(found)
    return found


@pytest.fixture
def started(charger, network):
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_432, start_until=later(300)
    )
    charger.start(permit.tag, meter=1_000)
    clock.shift(2)
    return charger


def settle_boot(charger):
    """Answer what it is told after a boot."""
    while (sent := charger.command()) is not None:
        charger.accept(sent[0])


def told(charger, message="SessionLimit"):
    """(message id, what it says) of the next such message."""
    ident, _, payload = charger.asked("DataTransfer")
    assert payload["vendorId"] == "Acme" and payload["messageId"] == message
    return ident, json.loads(payload["data"])


def entries(action):
    return AuditEntry.objects.filter(action=action).count()


def test_it_is_told_with_the_start_and_keeps_to_it(started, django_capture_on_commit_callbacks):
    ident, said = told(started)
    assert said == {"transactionId": started.transaction_id, "maxEnergy": 5_432, "maxCost": None, "maxTime": None}
    with django_capture_on_commit_callbacks(execute=True):
        started.accept(ident)
    assert ChargingSession.objects.get().bounded_wh == 5_432
    assert Command.objects.get(trigger="session limit").state == "effective"
    assert entries("session.bounded") == 1
    started.meter(1_500, 30_000)  # the quick way goes on
    assert ChargingSession.objects.get().bounded_wh == 5_432


def test_it_is_told_again_on_a_new_line_and_after_a_boot(started, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        started.accept(told(started)[0])
    started.drop()
    started.connect()
    ident, said = told(started)
    assert said["maxEnergy"] == 5_432
    started.accept(ident)
    started.boot()
    ident, said = told(started, "PostBootState")
    assert said["hasPendingTransaction"] is True
    started.accept(ident)
    assert told(started)[1]["maxEnergy"] == 5_432


def test_a_rejection_is_told_again_a_few_times_and_is_no_promise(started, django_capture_on_commit_callbacks):
    for _ in range(3):
        ident, _ = told(started)
        with django_capture_on_commit_callbacks(execute=True):
            started.accept(ident, {"status": "Rejected"})
        clock.shift(6)
    assert started.asked("DataTransfer") is None
    assert ChargingSession.objects.get().bounded_wh is None
    assert entries("session.not_bounded") == 3


@pytest.mark.parametrize("status", ["UnknownMessageId", "UnknownVendorId"])
def test_one_that_does_not_know_it_is_told_once(started, status, django_capture_on_commit_callbacks):
    ident, _ = told(started)
    with django_capture_on_commit_callbacks(execute=True):
        started.accept(ident, {"status": status})
    clock.shift(6)
    assert started.asked("DataTransfer") is None
    assert ChargingSession.objects.get().bounded_wh is None


def test_without_an_answer_it_is_told_again(started):
    told(started)
    clock.shift(31)
    assert commands.timeout_due(clock.now(), 10) == 1
    clock.shift(6)
    assert told(started)[1]["maxEnergy"] == 5_432


def test_the_stop_at_the_limit_is_asked_all_the_same(started, django_capture_on_commit_callbacks):
    from csms import sessions

    with django_capture_on_commit_callbacks(execute=True):
        started.accept(told(started)[0])
    clock.shift(330)
    started.meter(6_400, 60_000)
    clock.shift(30)
    assert sessions.stop_due(clock.now(), 10) == 1


def test_nobody_else_is_told(network, bells):
    charger = Charger(network.ganga_charger)
    charger.boot()
    charger.start("UNKNOWN")
    clock.shift(2)
    assert charger.asked("DataTransfer") is None


# -- PostBootState --------------------------------------------------------------------------------------------------------
def test_after_a_boot_it_is_told_what_was_running_and_that_runs_on(started, django_capture_on_commit_callbacks):
    started.accept(told(started)[0])
    started.meter(1_400, 30_000)
    started.boot()
    assert ChargingSession.objects.get().state == "SUSPENDED"
    ident, said = told(started, "PostBootState")
    assert said == {
        "hasPendingTransaction": True,
        "transactionId": started.transaction_id,
        "startMeterValueWh": 1_000,
        "lastMeterValueWh": 1_400,
        "energyConsumedWh": 400,
    }
    with django_capture_on_commit_callbacks(execute=True):
        started.accept(ident)
    session = ChargingSession.objects.get()
    assert (session.state, session.resume_count) == ("RUNNING", 1)
    assert entries("session.resumed") == 1


def test_a_connector_that_is_free_since_the_boot_runs_on_for_a_moment_only(started, django_capture_on_commit_callbacks):
    """The car left while the power was away; to have taken PostBootState is not to charge."""
    started.accept(told(started)[0])
    started.meter(1_400, 30_000)
    started.status("Charging")
    clock.shift(5)
    started.boot()
    clock.shift(2)
    started.status("Available")
    ident, _ = told(started, "PostBootState")
    with django_capture_on_commit_callbacks(execute=True):
        started.accept(ident)
    clock.shift(180)
    sessions.timeout_due(clock.now(), 10)
    assert ChargingSession.objects.get().stop_reason == "NO_STOP"


def test_one_that_does_not_take_it_stays_suspended(started, django_capture_on_commit_callbacks):
    started.accept(told(started)[0])
    started.boot()
    ident, _ = told(started, "PostBootState")
    with django_capture_on_commit_callbacks(execute=True):
        started.accept(ident, {"status": "UnknownMessageId"})
    assert ChargingSession.objects.get().state == "SUSPENDED"


def test_after_too_long_it_is_told_that_nothing_waits(started):
    started.accept(told(started)[0])
    started.meter(1_400, 30_000)
    started.drop()
    clock.shift(1_000)
    started.connect()
    started.boot()
    assert ChargingSession.objects.get().stop_reason == "STALE_RECONNECT"
    clock.shift(120)  # the limit that was told to the new line is not worth sending any more
    started.boot()
    assert told(started, "PostBootState")[1] == {"hasPendingTransaction": False, "lastMeterValueWh": 1_400}


def test_it_may_ask_for_it_too(started):
    started.accept(told(started)[0])
    started.meter(1_400, 30_000)
    started.drop()
    started.connect()
    answer = started.call("DataTransfer", {"vendorId": "VoltLync", "messageId": "PostBootState"})
    assert answer["status"] == "Accepted" and json.loads(answer["data"])["energyConsumedWh"] == 400
    assert ChargingSession.objects.get().state == "RUNNING"


def test_of_two_outlets_both_are_named(network, bells):
    from tests.factories import make_connector

    make_connector(network.kaveri_charger, 2)
    network.kaveri_charger.quirk_settings = {"post_boot_state": True, "vendor_id": "Acme"}
    network.kaveri_charger.save()
    IdTag.objects.create(tag="CARD1", company=network.kaveri.company, concurrent=True)
    charger = Charger(network.kaveri_charger)
    charger.boot()
    settle_boot(charger)
    first = charger.start("CARD1", meter=100, connector=1)["transactionId"]
    second = charger.start("CARD1", meter=200, connector=2)["transactionId"]
    charger.boot()
    said = told(charger, "PostBootState")[1]
    assert said["transactionId"] == second and [one["transactionId"] for one in said["transactions"]] == [second, first]
