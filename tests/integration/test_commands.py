"""Commands as rows: asked once, one in flight, settled by the answer, by the effect or by time; never sent blindly again."""

import json
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections

from accounts.models import AuditEntry
from csms import commands, permits
from csms.models import Command, CommandState, OcppMessage
from tests.charger import Charger, later
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


@pytest.fixture
def ask(network):
    """Ask something of Kaveri's charger."""

    def ask(action: str = "Reset", payload: dict | None = None, **fields) -> Command:
        return commands.request(network.kaveri_charger, action, payload or {}, **{"trigger": "test", **fields})

    return ask


def state(command: Command) -> str:
    command.refresh_from_db()
    return command.state


# -- asking ------------------------------------------------------------------------------------------------------------
def test_a_command_goes_out_as_it_was_asked(charger, ask):
    command = ask("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "10"})
    assert charger.command() == (command.unique_id, "ChangeConfiguration", command.payload)
    assert state(command) == "sent" and command.epoch == charger.context.epoch
    assert AuditEntry.objects.filter(action="command.requested", target_id=str(command.pk)).count() == 1


def test_asking_twice_under_one_key_asks_once(charger, ask):
    assert ask(dedupe_key="restart:1") == ask(dedupe_key="restart:1", payload={"type": "Hard"})
    assert ask() != ask()
    assert Command.objects.count() == 3


def test_one_is_in_flight_and_they_go_in_their_order(charger, ask):
    first, second, third = ask(), ask(), ask()
    sent = charger.command()
    assert sent[0] == first.unique_id and charger.command() is None
    charger.accept(sent[0])
    sent = charger.command()
    assert sent[0] == second.unique_id
    clock.shift(31)  # unanswered for longer than COMMAND_TIMEOUT_S: it blocks nobody
    assert charger.command()[0] == third.unique_id


def test_another_chargers_command_waits_for_nobody(charger, ask, network):
    ask()
    charger.command()
    ganga = Charger(network.ganga_charger)
    ganga.boot()
    commands.request(network.ganga_charger, "ClearCache", {}, trigger="test")
    assert ganga.command()[1] == "ClearCache"


def test_the_owning_socket_is_woken_by_its_name_after_the_commit(charger, ask, monkeypatch, django_capture_on_commit_callbacks):
    woken = []
    monkeypatch.setattr("csms.commands.live.send", lambda channel, message: woken.append((channel, message)))
    charger.connect()  # a second socket: the first is nobody's any more
    with django_capture_on_commit_callbacks(execute=True):
        ask()
        assert woken == []
    channel = charger.row.connections.get(closed_at=None).channel
    assert woken == [(channel, {"type": "command.waiting", "charge_point": charger.row.pk})]


def test_the_poll_finds_what_a_lost_wake_left(charger, ask, network):
    assert commands.waiting([network.kaveri_charger.pk, network.ganga_charger.pk], clock.now()) == []
    ask()
    ask()
    assert commands.waiting([network.kaveri_charger.pk, network.ganga_charger.pk], clock.now()) == [network.kaveri_charger.pk]
    assert commands.waiting([network.ganga_charger.pk], clock.now()) == []
    clock.shift(61)
    assert commands.waiting([network.kaveri_charger.pk], clock.now()) == []


def test_a_replaced_socket_is_given_no_command(charger, ask):
    old = charger.context
    charger.connect()
    command = ask()
    charger.context, new = old, charger.context
    assert charger.command() is None
    charger.context = new
    assert charger.command()[0] == command.unique_id


# -- the answer ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("action", "answer", "settled"),
    [
        ("Reset", [3, "{id}", {"status": "Accepted"}], "accepted"),
        ("ChangeAvailability", [3, "{id}", {"status": "Scheduled"}], "accepted"),
        ("UnlockConnector", [3, "{id}", {"status": "Unlocked"}], "effective"),
        ("ChangeConfiguration", [3, "{id}", {"status": "Accepted"}], "effective"),
        ("ChangeConfiguration", [3, "{id}", {"status": "RebootRequired"}], "accepted"),
        ("Reset", [3, "{id}", {"status": "Rejected"}], "rejected"),
        ("UnlockConnector", [3, "{id}", {"status": "NotSupported"}], "rejected"),
        ("Reset", [3, "{id}", {"status": {"odd": 1}}], "unknown"),
        ("GetConfiguration", [3, "{id}", {"configurationKey": []}], "effective"),
        ("GetDiagnostics", [3, "{id}", {}], "accepted"),
        ("Reset", [3, "{id}", {}], "unknown"),
        ("Reset", [3, "{id}"], "unknown"),
        ("Reset", [4, "{id}", "NotSupported", "no", {}], "error"),
        ("Reset", [4, "{id}"], "error"),
    ],
)
def test_an_answer_settles_the_row(charger, ask, action, answer, settled):
    command = ask(action, {"connectorId": 1, "type": "Inoperative"} if action == "ChangeAvailability" else {})
    charger.command()
    charger.raw(json.dumps(answer).replace("{id}", command.unique_id))
    assert state(command) == settled
    assert command.answered_at and bool(command.settled_at) == (settled not in ("accepted", "unknown"))
    assert AuditEntry.objects.filter(action=f"command.{settled}").count() == 1
    assert OcppMessage.objects.filter(direction="IN", correlation_id=command.unique_id, action=action).count() == 1


def test_B14_an_answer_to_another_chargers_command_is_nobodys(charger, ask, network):
    command = ask()
    charger.command()
    Charger(network.ganga_charger).accept(command.unique_id)
    assert state(command) == "sent"
    assert OcppMessage.objects.get(charge_point=network.ganga_charger).note == "answers nothing we asked"


def test_B14_the_second_answer_changes_nothing(charger, ask):
    command = ask()
    charger.command()
    charger.accept(command.unique_id, {"status": "Rejected"})
    charger.accept(command.unique_id, {"status": "Accepted"})
    assert state(command) == "rejected" and command.response == {"status": "Rejected"}


def test_B09_an_answer_with_bytes_no_database_holds_settles_all_the_same(charger, ask):
    command = ask("GetConfiguration")
    charger.command()
    odd = '{"configurationKey":[{"key":"A\\u0000\\ud800","readonly":true}],"unk\\u0000nown":[1.5,null,"\\u0000"]}'
    assert charger.raw(f'[3,"{command.unique_id}",{odd}]') is None
    assert state(command) == "effective"
    assert command.response == {"configurationKey": [{"key": "A\ufffd", "readonly": True}], "unknown": [1.5, None, ""]}
    assert OcppMessage.objects.filter(direction="IN", correlation_id=command.unique_id).count() == 1


def test_B15_an_error_of_many_words_is_cut(charger, ask):
    command = ask()
    charger.command()
    charger.raw(json.dumps([4, command.unique_id, "InternalError\x00", "x" * 200_000, {}]))
    assert state(command) == "error" and command.error.startswith("InternalError: xxx") and len(command.error) == 255


def test_our_own_mistake_over_an_answer_keeps_the_frame_and_holds_nobody_up(charger, ask, monkeypatch):
    first, second = ask(), ask()
    charger.command()
    monkeypatch.setattr("csms.dispatch.commands.settle", lambda *a, **k: 1 / 0)
    charger.accept(first.unique_id)
    assert "ZeroDivisionError" in OcppMessage.objects.get(correlation_id=first.unique_id).note
    assert AuditEntry.objects.filter(action="message.quarantined").count() == 1
    monkeypatch.undo()
    clock.shift(31)
    assert charger.command()[0] == second.unique_id


# -- time, and lines that break ----------------------------------------------------------------------------------------
def test_what_waited_too_long_is_not_sent_and_expires(charger, ask):
    command = ask(expires_in_s=10)
    clock.shift(11)
    assert charger.command() is None
    assert commands.timeout_due(clock.now(), 10) == 1
    assert state(command) == "expired" and command.settled_at
    assert commands.timeout_due(clock.now(), 10) == 0


def test_no_answer_in_time_is_a_timeout_and_a_late_answer_still_counts(charger, ask):
    command = ask("RemoteStartTransaction")
    charger.command()
    assert commands.timeout_due(clock.now(), 10) == 0
    clock.shift(31)
    assert commands.timeout_due(clock.now(), 10) == 1
    assert state(command) == "timeout" and command.settled_at is None
    charger.accept(command.unique_id)
    assert state(command) == "accepted"
    clock.shift(60 + 180)
    assert commands.timeout_due(clock.now(), 10) == 1
    assert state(command) == "expired"  # it said yes and nothing came of it


def test_an_answer_after_the_end_is_kept_and_changes_no_state(charger, ask):
    command = ask()
    charger.command()
    clock.shift(31)
    commands.timeout_due(clock.now(), 10)
    clock.shift(300)
    commands.timeout_due(clock.now(), 10)
    charger.accept(command.unique_id)
    assert state(command) == "expired" and command.response == {"status": "Accepted"}


def test_an_accepted_reset_that_never_happens_expires(charger, ask):
    command = ask("Reset")
    charger.accept(charger.command()[0])
    clock.shift(599)
    assert commands.timeout_due(clock.now(), 10) == 0
    clock.shift(2)
    assert commands.timeout_due(clock.now(), 10) == 1
    assert state(command) == "expired"


def test_a_line_that_breaks_leaves_it_unknown_and_it_is_not_sent_again(charger, ask):
    command = ask("TriggerMessage", {"requestedMessage": "StatusNotification"})
    charger.command()
    charger.drop()
    assert state(command) == "unknown"
    charger.connect()
    assert charger.command() is None
    charger.accept(command.unique_id)  # the charger kept the answer over the reconnect
    assert state(command) == "accepted"


def test_what_is_queued_outlives_the_line(charger, ask):
    command = ask()
    charger.drop()
    charger.connect()
    assert charger.command()[0] == command.unique_id


def test_the_start_is_the_effect_whatever_was_answered(charger, network):
    for answer in (None, "timeout", "Rejected"):
        permit = permits.grant(
            connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=1_000, start_until=later(300)
        )
        permits.ask_due(clock.now(), 10)
        command = Command.objects.get(permit=permit)
        charger.command()
        if answer == "timeout":
            Command.objects.filter(pk=command.pk).update(state=CommandState.TIMEOUT)
        elif answer:
            charger.accept(command.unique_id, {"status": answer})
        charger.start(tag=permit.tag, meter=0)
        assert state(command) == ("rejected" if answer == "Rejected" else "effective")
        charger.stop(0)
        clock.shift(1)


# -- at once -------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_two_polls_at_once_send_it_once(network, bells):
    charger = Charger(network.kaveri_charger)
    commands.request(network.kaveri_charger, "ClearCache", {}, trigger="test")
    commands.request(network.kaveri_charger, "ClearCache", {}, trigger="test")
    ready, sent = threading.Barrier(4), []

    def poll() -> None:
        ready.wait()
        sent.append(commands.next_to_send(network.kaveri_charger.pk, charger.context.epoch, clock.now()))
        connections.close_all()

    threads = [threading.Thread(target=poll) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [one is not None for one in sent].count(True) == 1
    assert Command.objects.filter(state="sent").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_time_out_passes_by_a_row_that_is_being_answered(network, bells):
    Charger(network.kaveri_charger)
    command = commands.request(network.kaveri_charger, "ClearCache", {}, trigger="test")
    Command.objects.filter(pk=command.pk).update(state="sent", sent_at=clock.now() - timedelta(seconds=60))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        from django.db import transaction

        with transaction.atomic():
            Command.objects.select_for_update().get(pk=command.pk)
            held.set()
            done.wait(20)
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    try:
        assert commands.timeout_due(clock.now(), 10) == 0
    finally:
        done.set()
        thread.join(10)
    assert commands.timeout_due(clock.now(), 10) == 1
    assert connection.in_atomic_block is False
