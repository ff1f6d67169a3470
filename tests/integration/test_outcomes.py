"""What shows that a charger obeyed, what an answer leads to, and what its answers teach us of it."""

import json
from datetime import timedelta

import pytest
from django.db import OperationalError

from csms import alerts, commands, health, learned, outcomes
from csms.models import Alert, ChargingSession, Command, IdTag
from tests import factories
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.row.refresh_from_db()
    return charger


@pytest.fixture
def ask(charger):
    def ask(action: str, payload: dict | None = None) -> Command:
        """Ask it, and have it sent."""
        command = commands.ask(charger.row, action, payload or {}, by="om", trigger="console")
        assert charger.asked(action)[0] == command.unique_id
        return command

    return ask


@pytest.fixture
def card(network):
    return IdTag.objects.create(tag="CARD01", company=network.kaveri.company, user=network.asha)


def state(command: Command) -> str:
    command.refresh_from_db()
    return command.state


def error(charger: Charger, command: Command, code: str, words: str = "") -> None:
    charger.raw(json.dumps([4, command.unique_id, code, words, {}]))


def open_alert(charger: Charger, kind: str) -> Alert | None:
    return Alert.objects.filter(charge_point=charger.row, kind=kind, cleared_at=None).first()


def test_what_is_seen_while_the_database_is_away_is_seen_when_it_is_back(charger, ask, monkeypatch):
    command = ask("Reset", {"type": "Hard"})
    charger.accept(command.unique_id)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "effective", lambda *_: (_ for _ in ()).throw(OperationalError("away")))
        with pytest.raises(OperationalError):
            outcomes.seen(charger.context, "BootNotification", {}, clock.now())
    outcomes.seen(charger.context, "BootNotification", {}, clock.now())
    assert state(command) == "effective"


# -- restarts -----------------------------------------------------------------------------------------------------------
def test_R16_a_restart_has_happened_when_it_boots(charger, ask):
    command = ask("Reset", {"type": "Hard"})
    charger.accept(command.unique_id)
    assert state(command) == "accepted"
    charger.boot()
    assert state(command) == "effective" and command.note == "It booted." and command.settled_at


def test_R18_a_restart_without_an_answer_has_happened_when_it_is_back(charger, ask):
    command = ask("Reset", {"type": "Soft"})
    charger.drop()
    assert state(command) == "unknown"
    charger.connect()
    assert state(command) == "effective" and command.note == "It connected again."


def test_R18_the_same_after_the_time_out(charger, ask):
    command = ask("Reset", {"type": "Soft"})
    clock.shift(31)
    commands.timeout_due(clock.now(), 10)
    assert state(command) == "timeout"
    charger.connect()
    assert state(command) == "effective"


def test_R19_a_restart_that_was_refused_did_not_happen(charger, ask):
    command = ask("Reset", {"type": "Soft"})
    charger.accept(command.unique_id, {"status": "Rejected"})
    charger.drop()
    charger.connect()
    charger.boot()
    assert state(command) == "rejected" and Command.objects.filter(action="Reset").count() == 1


def test_a_restart_that_waits_to_be_sent_is_not_done_by_coming_back(charger):
    charger.drop()
    command = commands.ask(charger.row, "Reset", {"type": "Soft"}, by="om", trigger="console")
    charger.connect()
    assert state(command) == "queued"


# -- messages asked for -------------------------------------------------------------------------------------------------
def test_R24_a_message_that_comes_is_the_effect(charger, ask):
    for wanted, come in {
        "Heartbeat": lambda: charger.call("Heartbeat"),
        "StatusNotification": lambda: charger.status("Available"),
        "MeterValues": lambda: charger.meter(100),
    }.items():
        command = ask("TriggerMessage", {"requestedMessage": wanted})
        charger.accept(command.unique_id)
        assert state(command) == "accepted"
        come()
        assert state(command) == "effective" and command.note == f"{wanted} came."
    assert not charger.context.triggered


def test_the_message_of_another_connector_is_not_it(charger, ask):
    factories.make_connector(charger.row, 2)
    command = ask("TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": 2})
    charger.accept(command.unique_id)
    charger.status("Available", connector=1)
    assert state(command) == "accepted"
    charger.status("Available", connector=2)
    assert state(command) == "effective"


def test_a_message_that_comes_before_its_answer_counts_and_the_answer_is_kept(charger, ask):
    command = ask("TriggerMessage", {"requestedMessage": "Heartbeat"})
    charger.call("Heartbeat")
    assert state(command) == "effective"
    charger.accept(command.unique_id)
    assert state(command) == "effective" and command.response == {"status": "Accepted"}


def test_a_message_that_does_not_come_expires(charger, ask):
    command = ask("TriggerMessage", {"requestedMessage": "MeterValues"})
    charger.accept(command.unique_id)
    clock.shift(61)
    commands.timeout_due(clock.now(), 10)
    assert state(command) == "expired"


def test_a_signing_request_is_waited_for_under_its_own_name(charger, ask):
    ask("ExtendedTriggerMessage", {"requestedMessage": "SignChargePointCertificate"})
    assert set(charger.context.triggered) == {"SignCertificate"}


# -- what its answers teach ----------------------------------------------------------------------------------------------
def test_R25_what_it_cannot_be_asked_for_is_remembered_until_its_next_firmware(charger, ask):
    wanted = {"requestedMessage": "MeterValues"}
    command = ask("TriggerMessage", wanted)
    charger.accept(command.unique_id, {"status": "NotImplemented"})
    assert state(command) == "rejected"
    charger.row.refresh_from_db()
    assert learned.refused(charger.row, "TriggerMessage", wanted) == "NotImplemented"
    assert learned.refused(charger.row, "TriggerMessage", {"requestedMessage": "Heartbeat"}) == ""
    charger.boot(firmwareVersion="2.0")
    charger.row.refresh_from_db()
    assert learned.refused(charger.row, "TriggerMessage", wanted) == ""


def test_what_it_can_after_all_is_forgotten(charger, ask):
    first = ask("ClearCache")
    error(charger, first, "NotImplemented", "what?")
    charger.row.refresh_from_db()
    assert learned.refused(charger.row, "ClearCache") == "NotImplemented"
    second = ask("ClearCache")
    charger.accept(second.unique_id)
    charger.row.refresh_from_db()
    assert learned.refused(charger.row, "ClearCache") == ""


def test_a_refusal_of_the_moment_teaches_nothing(charger, ask):
    charger.accept(ask("ClearCache").unique_id, {"status": "Rejected"})
    charger.accept(ask("ChangeConfiguration", {"key": "X", "value": "1"}).unique_id, {"status": "NotSupported"})
    error(charger, ask("ClearCache"), "InternalError")
    charger.row.refresh_from_db()
    assert not charger.row.learned.get("refused")


# -- answers that are not the standard's ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "settled", "note"),
    [
        ({"status": "Accepted", "reason": "ok"}, "accepted", "Its answer: unknown field reason."),
        ({"status": "ACCEPTED"}, "accepted", "Its answer: status is not as the standard has it."),
        ({"status": "Okay"}, "unknown", "Its answer: status is not as the standard has it."),
        ({}, "unknown", "Its answer: 'status' is missing."),
        ({"status": "Rejected"}, "rejected", ""),
    ],
)
def test_C36_an_odd_answer_counts_as_far_as_it_can_be_understood(charger, ask, answer, settled, note):
    command = ask("Reset", {"type": "Soft"})
    charger.raw(json.dumps([3, command.unique_id, answer]))
    assert state(command) == settled and command.note == note and command.response == answer


def test_C35_an_error_of_any_shape_is_kept(charger, ask):
    for frame, words in (([4, "{id}", "Oops"], "Oops"), ([4, "{id}", "Vendor42", "no", None, 1], "Vendor42: no")):
        command = ask("ClearCache")
        charger.raw(json.dumps(frame).replace("{id}", command.unique_id))
        assert state(command) == "error" and command.error.startswith(words.split(":")[0])
    assert charger.call("Heartbeat")["currentTime"]


def test_a_configuration_that_tells_a_key_is_kept_without_it(charger, ask):
    command = ask("GetConfiguration")
    told = {"configurationKey": [{"key": "AuthorizationKey", "readonly": False, "value": "0123456789abcdef"}]}
    charger.raw(json.dumps([3, command.unique_id, told]))
    assert state(command) == "effective" and "0123456789abcdef" not in json.dumps(command.response)


# -- chargers that do not answer -------------------------------------------------------------------------------------------
def unanswered(charger: Charger, ask, times: int) -> Command:
    for _ in range(times):
        command = ask("ClearCache")
        clock.shift(31)
        charger.call("Heartbeat")
        commands.timeout_due(clock.now(), 10)
    return command


def test_three_unanswered_in_a_row_on_a_charger_that_talks_are_an_alert(charger, ask):
    unanswered(charger, ask, 2)
    assert open_alert(charger, "command_timeouts") is None
    last = unanswered(charger, ask, 1)
    assert open_alert(charger, "command_timeouts")
    charger.row.refresh_from_db()
    assert any("does not answer" in finding for finding in health.look(charger.row, clock.now()).findings)
    charger.accept(last.unique_id)  # late, and a sign of life
    assert open_alert(charger, "command_timeouts") is None
    charger.row.refresh_from_db()
    assert charger.row.last_answer is not None


def test_an_answer_between_breaks_the_row(charger, ask):
    unanswered(charger, ask, 2)
    charger.accept(ask("ClearCache").unique_id)
    unanswered(charger, ask, 2)
    assert open_alert(charger, "command_timeouts") is None


def test_a_charger_that_says_nothing_at_all_is_not_deaf(charger, ask):
    for _ in range(4):
        ask("ClearCache")
        clock.shift(31)
        commands.timeout_due(clock.now(), 10)
    assert open_alert(charger, "command_timeouts") is None


# -- starts of people's ------------------------------------------------------------------------------------------------------
def test_R01_the_start_with_the_tag_is_the_effect(charger, ask, card):
    command = ask("RemoteStartTransaction", {"idTag": "CARD01"})
    charger.accept(command.unique_id)
    charger.start(tag="card01", meter=100)
    session = ChargingSession.objects.get()
    assert state(command) == "effective" and command.session == session and session.authorized
    assert command.note == f"Session {session.pk} began."


def test_R03_no_plug_no_session(charger, ask, card):
    command = ask("RemoteStartTransaction", {"idTag": "CARD01"})
    charger.accept(command.unique_id)
    clock.shift(181)
    commands.timeout_due(clock.now(), 10)
    assert state(command) == "expired"


def test_R05_a_start_under_the_chargers_own_tag_is_the_one_that_was_asked(charger, ask, card):
    command = ask("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 1})
    charger.accept(command.unique_id)
    assert charger.start(tag="OWN-TAG-1", meter=0)["idTagInfo"]["status"] == "Accepted"
    session = ChargingSession.objects.get()
    assert state(command) == "effective" and session.authorized and session.flags == ["tag_changed"]


def test_a_strange_tag_at_another_connector_or_too_late_is_not_it(charger, ask, card):
    factories.make_connector(charger.row, 2)
    command = ask("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 1})
    charger.accept(command.unique_id)
    assert charger.start(tag="STRANGER", connector=2)["idTagInfo"]["status"] == "Invalid"
    clock.shift(181)
    assert charger.start(tag="STRANGER", connector=1)["idTagInfo"]["status"] == "Invalid"
    assert state(command) == "accepted"


def test_an_old_start_under_a_strange_tag_is_not_what_was_asked_a_moment_ago(charger, ask, card):
    command = ask("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 1})
    charger.accept(command.unique_id)
    assert charger.start(tag="OWN-TAG-1", at=clock.now() - timedelta(hours=2))["idTagInfo"]["status"] == "Invalid"
    assert state(command) == "accepted"
    assert charger.start(tag="OWN-TAG-1")["idTagInfo"]["status"] == "Accepted" and state(command) == "effective"


def test_Q144_a_start_after_its_refusal_is_a_session_and_the_refusal_stays(charger, ask, card):
    command = ask("RemoteStartTransaction", {"idTag": "CARD01"})
    charger.accept(command.unique_id, {"status": "Rejected"})
    charger.start(tag="CARD01")
    assert state(command) == "rejected" and ChargingSession.objects.get().authorized


# -- stops -------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def running(charger, card):
    charger.start(tag="CARD01", meter=0)
    charger.status("Charging")
    clock.shift(10)
    return ChargingSession.objects.get()


def stop(ask, session: ChargingSession) -> Command:
    return ask("RemoteStopTransaction", {"transactionId": int(session.transaction_id)})


def test_R09_the_stop_is_the_effect(charger, ask, running):
    command = stop(ask, running)
    charger.accept(command.unique_id)
    charger.stop(500, reason="Remote")
    assert state(command) == "effective"


def test_R10_refused_it_is_asked_once_more_under_the_chargers_own_number(charger, ask, running):
    ours = charger.transaction_id
    charger.transaction_id = 4711  # what this firmware calls it
    charger.meter(100)
    command = stop(ask, running)
    charger.accept(command.unique_id, {"status": "Rejected"})
    assert state(command) == "rejected" and "4711" in command.note
    ident, _, payload = charger.asked("RemoteStopTransaction")
    assert payload == {"transactionId": 4711}
    charger.accept(ident, {"status": "Rejected"})
    assert charger.asked("RemoteStopTransaction") is None  # once
    charger.transaction_id = ours
    charger.stop(500)
    assert state(command) == "rejected"


def test_R10_refused_by_a_charger_that_uses_our_number_it_is_shown_and_not_repeated(charger, ask, running):
    charger.meter(100)
    command = stop(ask, running)
    charger.accept(command.unique_id, {"status": "Rejected"})
    assert state(command) == "rejected" and charger.asked("RemoteStopTransaction") is None


def test_Q149_no_transaction_at_an_idle_connector_ends_the_session(charger, ask, running, django_capture_on_commit_callbacks):
    charger.status("Available")
    command = stop(ask, running)
    with django_capture_on_commit_callbacks(execute=True):
        error(charger, command, "InternalError", "No transaction")
    running.refresh_from_db()
    assert running.state == "STOPPED" and running.stop_reason == "CHARGER_HAS_NONE" and "inferred" in running.flags
    assert state(command) == "effective"


def test_Q149_should_we_die_before_that_session_ends_it_is_asked_again(charger, ask, running, django_capture_on_commit_callbacks):
    charger.status("Available")
    command = stop(ask, running)
    error(charger, command, "InternalError", "No transaction")  # and what follows the commit is lost
    assert state(command) == "unknown"
    clock.shift(outcomes.ENDS_WITHIN_S + 1)
    commands.timeout_due(clock.now(), 10)
    again = Command.objects.get(unique_id=charger.asked("RemoteStopTransaction")[0])
    with django_capture_on_commit_callbacks(execute=True):
        error(charger, again, "InternalError", "No transaction")
    running.refresh_from_db()
    assert running.stop_reason == "CHARGER_HAS_NONE" and state(command) == "expired" and state(again) == "effective"


def test_Q149_no_transaction_while_it_charges_ends_nothing(charger, ask, running, django_capture_on_commit_callbacks):
    command = stop(ask, running)
    with django_capture_on_commit_callbacks(execute=True):
        error(charger, command, "InternalError", "No transaction")
    running.refresh_from_db()
    assert running.live and state(command) == "error"


@pytest.mark.parametrize(
    "words", ["No transaction", "unknown transaction id", "Transaction not found", "no active transaction on connector 1"]
)
def test_the_words_for_no_transaction(words):
    assert outcomes._NONE_RUNNING.search(f"InternalError: {words}")


def test_other_errors_are_not_those_words():
    assert not outcomes._NONE_RUNNING.search("InternalError: could not stop the transaction in time")


def test_R11_accepted_and_still_charging_it_is_asked_again_and_a_person_is_told(charger, ask, running):
    command = stop(ask, running)
    charger.accept(command.unique_id)
    for attempt in range(3):
        clock.shift(61)
        charger.meter(100 + attempt)
        commands.timeout_due(clock.now(), 10)
        again = charger.asked("RemoteStopTransaction")
        assert again[2] == {"transactionId": int(running.transaction_id)}
        charger.accept(again[0])
    clock.shift(61)
    commands.timeout_due(clock.now(), 10)
    assert charger.asked("RemoteStopTransaction") is None
    assert open_alert(charger, "not_obeying") and state(command) == "expired"
    charger.stop(500)
    assert open_alert(charger, "not_obeying") is None


def test_R12_a_stop_without_an_answer_is_settled_by_the_stop(charger, ask, running):
    command = stop(ask, running)
    clock.shift(31)
    commands.timeout_due(clock.now(), 10)
    assert state(command) == "timeout"
    charger.stop(500)
    assert state(command) == "effective"


# -- unlock ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("answer", "settled"), [("Unlocked", "effective"), ("UnlockFailed", "rejected"), ("NotSupported", "rejected")])
def test_R14_R15_unlock(charger, ask, running, answer, settled):
    command = ask("UnlockConnector", {"connectorId": 1})
    charger.accept(command.unique_id, {"status": answer})
    assert state(command) == settled
    if answer == "Unlocked":
        charger.stop(500, reason="UnlockCommand")
        running.refresh_from_db()
        assert running.stop_reason == "UnlockCommand"


# -- times -------------------------------------------------------------------------------------------------------------------
def test_what_is_asked_for_later_waits_for_its_moment(charger):
    command = commands.ask(charger.row, "ClearCache", {}, by="om", trigger="console", send_after=clock.now() + timedelta(seconds=20))
    assert charger.asked("ClearCache") is None and commands.waiting([charger.row.pk], clock.now()) == []
    clock.shift(21)
    assert commands.waiting([charger.row.pk], clock.now()) == [charger.row.pk]
    assert charger.asked("ClearCache")[0] == command.unique_id


def test_clearing_an_alert_that_is_not_there_is_nothing(charger):
    assert alerts.clear(charger.row.pk, "command_timeouts", clock.now()) is False
