"""Availability: what we want, what is reported, and how the one becomes the other."""

from datetime import timedelta

import pytest

from accounts.models import AuditEntry
from csms import availability, commands
from csms.models import ChargePoint, Command, Connector
from tests import factories
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    factories.make_connector(network.kaveri_charger, 2)
    charger = Charger(network.kaveri_charger)
    charger.boot()
    clock.shift(30)
    charger.row.refresh_from_db()
    return charger


@pytest.fixture
def want(charger):
    def want(wanted: str, connector: int = 1, **how) -> Command:
        charger.row.refresh_from_db()
        payload = {"connectorId": connector, "type": wanted}
        return commands.ask(charger.row, "ChangeAvailability", payload, **{"by": "om", "trigger": "console", **how})

    return want


def connector(charger: Charger, number: int = 1) -> Connector:
    return Connector.objects.get(charge_point=charger.row.cp_id, connector_id=number)


def state(command: Command) -> str:
    command.refresh_from_db()
    return command.state


def asserted():
    """What we asked again by ourselves."""
    return Command.objects.filter(action="ChangeAvailability", background=True)


def answer(charger: Charger, status: str) -> tuple:
    sent = charger.asked("ChangeAvailability")
    charger.accept(sent[0], {"status": status})
    return sent


# -- one connector ------------------------------------------------------------------------------------------------------
def test_R20_accepted_is_a_promise_and_the_status_is_the_effect(charger, want):
    command = want("Inoperative")
    assert connector(charger).availability_wanted == "Inoperative" and connector(charger).status == "Available"
    assert answer(charger, "Accepted")[2] == {"connectorId": 1, "type": "Inoperative"}
    assert state(command) == "accepted"
    charger.status("Unavailable")
    assert state(command) == "effective" and command.note == "It reports Unavailable."
    back = want("Operative")
    answer(charger, "Accepted")
    charger.status("Available")
    assert state(back) == "effective" and connector(charger).availability_wanted == "Operative"
    assert AuditEntry.objects.filter(action="availability.wanted").count() == 2


def test_R21_scheduled_is_pending_until_the_session_ends(charger, want, network):
    charger.start(tag="X")
    charger.status("Charging")
    command = want("Inoperative")
    answer(charger, "Scheduled")
    charger.status("Finishing")
    assert state(command) == "accepted" and connector(charger).availability_wanted == "Inoperative"
    clock.shift(3600)
    assert commands.timeout_due(clock.now(), 10) >= 0 and state(command) == "accepted"
    charger.stop(100)
    charger.status("Unavailable")
    assert state(command) == "effective"


def test_what_is_so_already_is_effective_with_the_answer(charger, want):
    charger.status("Unavailable")
    command = want("Inoperative")
    answer(charger, "Accepted")
    assert state(command) == "effective"


def test_a_refusal_leaves_the_intent_and_shows_the_difference(charger, want):
    command = want("Inoperative")
    answer(charger, "Rejected")
    assert state(command) == "rejected"
    assert (connector(charger).availability_wanted, connector(charger).status) == ("Inoperative", "Available")


def test_another_connectors_status_is_not_the_effect(charger, want):
    command = want("Inoperative", 2)
    answer(charger, "Accepted")
    charger.status("Unavailable", connector=1)
    assert state(command) == "accepted"
    charger.status("Unavailable", connector=2)
    assert state(command) == "effective"
    assert "ChangeAvailability" not in charger.context.awaits


def test_the_status_on_a_new_line_is_found_by_the_sweep(charger, want):
    command = want("Inoperative")
    answer(charger, "Accepted")
    charger.drop()
    charger.connect()
    charger.status("Unavailable")
    assert state(command) == "accepted"
    assert availability.settle_due(clock.now(), 10) == 1
    assert state(command) == "effective"
    assert availability.settle_due(clock.now(), 10) == 0


def test_asked_twice_under_one_key_the_intent_is_written_once(charger, want):
    first = want("Inoperative", idempotency_key="k")
    want("Operative")
    assert want("Inoperative", idempotency_key="k") == first
    assert connector(charger).availability_wanted == "Operative"


# -- the whole charger ------------------------------------------------------------------------------------------------------
def test_connector_0_is_the_charger_and_all_its_connectors(charger, want):
    command = want("Inoperative", 0)
    charger.row.refresh_from_db()
    assert charger.row.availability_wanted == "Inoperative"
    assert [connector(charger, n).availability_wanted for n in (1, 2)] == ["Inoperative", "Inoperative"]
    answer(charger, "Accepted")
    charger.status("Unavailable", connector=1)
    assert state(command) == "accepted"
    charger.status("Unavailable", connector=0)
    assert state(command) == "effective"


def test_a_charger_that_never_speaks_of_itself_is_seen_by_its_connectors(charger, want):
    command = want("Inoperative", 0)
    answer(charger, "Accepted")
    charger.status("Unavailable", connector=1)
    charger.status("Unavailable", connector=2)
    assert state(command) == "effective"


def test_R22_refused_for_connector_0_each_connector_is_asked_and_the_next_time_at_once(charger, want):
    first = want("Inoperative", 0)
    assert answer(charger, "Rejected")[2]["connectorId"] == 0
    assert state(first) == "rejected" and first.note == "Refused for connector 0: each connector is asked."
    sent = [answer(charger, "Accepted")[2], answer(charger, "Accepted")[2]]
    assert sent == [{"connectorId": 1, "type": "Inoperative"}, {"connectorId": 2, "type": "Inoperative"}]
    assert {row.requested_by for row in Command.objects.filter(action="ChangeAvailability")} == {"om"}
    want("Operative", 0)
    assert [answer(charger, "Accepted")[2]["connectorId"] for _ in range(2)] == [1, 2]


def test_a_profile_that_knows_no_connector_0_asks_each_at_once(charger, want):
    ChargePoint.objects.filter(pk=charger.row.pk).update(quirk_settings={"availability_zero": False})
    want("Inoperative", 0)
    assert [answer(charger, "Accepted")[2]["connectorId"] for _ in range(2)] == [1, 2]


# -- chargers that come back -------------------------------------------------------------------------------------------------
def come_back(charger: Charger, *statuses: str) -> None:
    charger.drop()
    charger.connect()
    charger.boot()
    for number, status in enumerate(statuses, start=1):
        charger.status(status, connector=number)
    clock.shift(60)


def test_R23_after_a_boot_what_is_wanted_is_asked_again(charger, want):
    want("Inoperative")
    answer(charger, "Accepted")
    charger.status("Unavailable")
    clock.shift(700)
    come_back(charger, "Available", "Available")
    assert availability.assert_due(clock.now(), 10) == 1
    again = asserted().get()
    assert again.background and again.trigger == "wanted, and reported otherwise"
    assert answer(charger, "Accepted")[2] == {"connectorId": 1, "type": "Inoperative"}
    charger.status("Unavailable")
    assert state(again) == "effective"
    assert availability.assert_due(clock.now(), 10) == 0


def test_R23_once_for_each_time_it_came_back_and_not_too_often(charger, want):
    want("Inoperative")
    answer(charger, "Rejected")
    clock.shift(700)
    assert availability.assert_due(clock.now(), 10) == 0  # it did not come back
    come_back(charger, "Available", "Available")
    assert availability.assert_due(clock.now(), 10) == 1
    answer(charger, "Rejected")
    clock.shift(700)
    assert availability.assert_due(clock.now(), 10) == 0
    come_back(charger, "Available", "Available")
    assert availability.assert_due(clock.now(), 10) == 1
    answer(charger, "Rejected")
    come_back(charger, "Available", "Available")  # a charger that boots again and again
    assert availability.assert_due(clock.now(), 10) == 0


def test_nobody_waits_for_a_charger_that_has_not_told_its_states_yet(charger, want):
    want("Inoperative")
    answer(charger, "Accepted")
    clock.shift(700)
    charger.drop()
    charger.connect()
    charger.boot()
    clock.shift(5)
    assert availability.assert_due(clock.now(), 10) == 0


def test_both_connectors_are_asked_and_what_is_asked_already_is_not(charger, want):
    want("Inoperative", 0)
    answer(charger, "Accepted")
    clock.shift(700)
    Command.objects.update(state="expired")
    come_back(charger, "Available", "Available")
    assert availability.assert_due(clock.now(), 10) == 2
    assert {row.payload["connectorId"] for row in asserted()} == {1, 2}


def test_what_nobody_ever_wanted_is_not_asked(charger):
    come_back(charger, "Unavailable", "Available")
    assert availability.to_assert(clock.now() + timedelta(days=1)).count() == 0


def test_a_charger_that_does_not_know_the_call_is_left_alone(charger, want):
    want("Inoperative")
    ident = charger.asked("ChangeAvailability")[0]
    charger.raw(f'[4,"{ident}","NotImplemented","",{{}}]')
    clock.shift(700)
    come_back(charger, "Available", "Available")
    assert availability.assert_due(clock.now(), 10) == 1 and not asserted().exists()
