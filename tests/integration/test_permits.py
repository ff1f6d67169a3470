"""Permits: asked until the charger starts, and then exactly one of start and refund, however close they come."""

import threading
from datetime import timedelta

import pytest
from django.db import connections, transaction

from accounts.models import AuditEntry
from csms import permits, tags
from csms.models import ChargingSession, Command, IdTag
from tests.charger import Charger, later
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


@pytest.fixture
def grant(network):
    def grant(connector=None, seconds: float = 300, **fields) -> IdTag:
        given = {"user": network.asha, "company": network.kaveri.company, "limit_wh": 5_000, "start_until": later(seconds), **fields}
        return permits.grant(connector=connector or network.kaveri_connector, **given)

    return grant


def ask() -> int:
    return permits.ask_due(clock.now(), 10)


def starts(permit: IdTag) -> list[Command]:
    return list(Command.objects.filter(permit=permit, action="RemoteStartTransaction").order_by("pk"))


# -- the tag ------------------------------------------------------------------------------------------------------------
def test_C05_a_tag_cannot_be_guessed_and_every_charger_can_carry_it(charger, grant):
    seen = set()
    for _ in range(20):
        permit = grant()
        seen.add(permit.tag)
        assert len(permit.tag) == 16 and permit.tag == permit.tag.upper() and int(permit.tag, 16) >= 0
        assert tags.normal(permit.tag) == permit.tag
        permits.revoke(permit.pk, "test")
    assert len(seen) == 20


def test_a_grant_rings_after_the_commit_and_is_written_down(charger, grant, bells, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        permit = grant()
        assert "permit.ask" not in bells
    assert bells == ["permit.ask"]
    entry = AuditEntry.objects.get(action="permit.granted", target_id=str(permit.pk))
    assert entry.after == {"limit_wh": 5_000, "connector": permit.connector.code} and permit.tag not in str(entry.after)


def test_a_connector_is_busy_while_somebody_charges_or_has_paid(charger, grant, network):
    def busy() -> bool:
        with transaction.atomic():
            return permits.busy(permits.lock_connector(network.kaveri_connector.pk))

    assert not busy()
    permit = grant()
    assert busy()
    charger.start(tag=permit.tag)
    assert busy()
    charger.stop(0)
    assert not busy()
    permits.revoke(grant().pk, "test")
    assert not busy()


# -- asking ---------------------------------------------------------------------------------------------------------------
def test_it_is_asked_at_once_and_again_when_the_charger_has_forgotten(charger, grant):
    permit = grant()
    assert ask() == 1
    charger.accept(charger.command()[0])
    clock.shift(30)
    assert ask() == 0
    clock.shift(36)
    assert ask() == 1
    _, action, payload = charger.command()
    assert (action, payload) == ("RemoteStartTransaction", {"connectorId": 1, "idTag": permit.tag})
    assert [one.dedupe_key for one in starts(permit)] == [f"permit:{permit.pk}:start:1", f"permit:{permit.pk}:start:2"]


@pytest.mark.django_db(transaction=True)
def test_plugging_in_asks_at_once(charger, grant, bells):
    permit = grant()
    ask()
    bells.clear()
    charger.accept(charger.command()[0], {"status": "Rejected"})
    assert ask() == 0
    charger.status("Preparing")
    assert bells == ["permit.ask"]
    assert ask() == 1
    assert len(starts(permit)) == 2


def test_plugging_in_next_door_wakes_nobody(network, bells, grant):
    from tests.factories import make_connector

    make_connector(network.kaveri_charger, 2)
    charger = Charger(network.kaveri_charger)
    charger.boot()
    grant()
    ask()
    charger.status("Preparing", connector=2)
    assert ask() == 0


def test_while_a_request_is_open_there_is_no_second(charger, grant):
    permit = grant()
    ask()
    charger.status("Preparing")
    assert ask() == 1
    assert len(starts(permit)) == 1


@pytest.mark.django_db(transaction=True)
def test_a_charger_that_is_away_for_seconds_is_asked_when_it_comes_back(charger, grant, bells):
    charger.drop()
    permit = grant()
    ask()
    bells.clear()
    assert starts(permit) == []
    clock.shift(5)
    charger.connect()
    assert bells == ["permit.ask"]
    assert ask() == 1
    assert len(starts(permit)) == 1


def test_a_faulted_connector_is_not_asked_until_it_is_well(charger, grant):
    charger.status("Faulted", error="GroundFailure")
    permit = grant()
    ask()
    assert starts(permit) == []
    charger.status("Preparing")
    ask()
    assert len(starts(permit)) == 1


def test_nobody_is_asked_after_the_time_to_start(charger, grant):
    permit = grant(seconds=100)
    ask()
    charger.accept(charger.command()[0])
    clock.shift(66)
    ask()
    assert starts(permit)[-1].expires_at <= permit.start_until
    clock.shift(40)
    assert charger.command() is None
    assert ask() == 0
    charger.status("Preparing")
    charger.connect()
    assert ask() == 0
    assert charger.start(tag=permit.tag)["idTagInfo"]["status"] == "Expired"
    assert permits.revoke(permit.pk, "not_started")


# -- start or refund -------------------------------------------------------------------------------------------------------
def test_a_revoked_permit_is_never_asked_and_what_was_queued_is_withdrawn(charger, grant):
    permit = grant()
    ask()
    assert permits.revoke(permit.pk, "refund")
    assert charger.command() is None
    assert ask() == 0
    assert [one.state for one in starts(permit)] == ["expired"]
    permit.refresh_from_db()
    assert (permit.state, permit.ask_at) == (IdTag.State.REVOKED, None)


def test_revoking_twice_is_a_success_and_one_entry(charger, grant):
    permit = grant()
    assert permits.revoke(permit.pk, "refund") and permits.revoke(permit.pk, "refund")
    assert AuditEntry.objects.filter(action="permit.revoked").count() == 1


def test_C04_a_used_tag_starts_nothing_again(charger, grant):
    permit = grant()
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 500)
    charger.stop(500)
    clock.shift(10)
    assert charger.start(tag=permit.tag, meter=500)["idTagInfo"]["status"] == "Invalid"
    assert list(ChargingSession.objects.order_by("pk").values_list("authorized", flat=True)) == [True, False]


def test_C06_a_tag_paid_for_one_connector_starts_no_other(network, bells, grant):
    from tests.factories import make_connector

    make_connector(network.kaveri_charger, 2)
    charger = Charger(network.kaveri_charger)
    charger.boot()
    permit = grant()
    assert charger.start(tag=permit.tag, connector=2)["idTagInfo"]["status"] == "Invalid"
    assert charger.start(tag=permit.tag, connector=1)["idTagInfo"]["status"] == "Accepted"


def test_a_used_tag_may_be_shown_to_stop(charger, grant):
    permit = grant()
    charger.start(tag=permit.tag)
    assert charger.call("Authorize", {"idTag": permit.tag.lower()})["idTagInfo"]["status"] == "Accepted"
    charger.stop(0)
    assert charger.call("Authorize", {"idTag": permit.tag})["idTagInfo"]["status"] == "Invalid"


def both(*deeds) -> list:
    """Run the deeds at the same moment, each on a thread and a connection of its own; their answers in their order."""
    ready, answers = threading.Barrier(len(deeds)), [None] * len(deeds)

    def run(number: int) -> None:
        try:
            ready.wait(10)
            answers[number] = deeds[number]()
        except Exception as error:
            answers[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return answers


@pytest.mark.django_db(transaction=True)
def test_start_and_refund_at_once_one_of_them_wins(network, bells, grant):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    won = set()
    for turn in range(8):
        permit = grant()
        started, revoked = both(
            lambda tag=permit.tag, meter=turn: charger.start(tag=tag, meter=meter)["idTagInfo"]["status"],
            lambda pk=permit.pk: permits.revoke(pk, "refund"),
        )
        session = ChargingSession.objects.latest("pk")
        permit.refresh_from_db()
        assert (started, revoked) in {("Accepted", False), ("Invalid", True)}, (started, revoked)
        assert session.authorized is not revoked
        assert permit.state == (IdTag.State.REVOKED if revoked else IdTag.State.USED)
        assert session.permit_id == (None if revoked else permit.pk)
        won.add(revoked)
        charger.stop(turn)
        clock.shift(1)
    assert won


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["start", "refund"])
def test_whoever_comes_second_waits_and_sees_what_the_first_did(network, bells, grant, first):
    """The race held still: the first has done its deed and not committed when the second arrives."""
    charger = Charger(network.kaveri_charger)
    charger.boot()
    permit = grant()

    def start() -> str:
        return charger.start(tag=permit.tag)["idTagInfo"]["status"]

    def refund() -> bool:
        return permits.revoke(permit.pk, "refund")

    done, answer = (start, refund) if first == "start" else (refund, start)
    second: list = []
    thread = threading.Thread(target=lambda: (second.append(answer()), connections.close_all()))
    with transaction.atomic():
        mine = done()
        thread.start()
        thread.join(0.4)
        assert thread.is_alive() and second == []
    thread.join(10)
    assert (mine, second[0]) == (("Accepted", False) if first == "start" else (True, "Invalid"))


@pytest.mark.django_db(transaction=True)
def test_two_payments_at_once_make_one_permit(network, bells, grant):
    Charger(network.kaveri_charger)

    def pay() -> bool:
        with transaction.atomic():
            connector = permits.lock_connector(network.kaveri_connector.pk)
            if permits.busy(connector):
                return False
            grant()
            return True

    assert sorted(both(pay, pay, pay)) == [False, False, True]
    assert IdTag.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_start_twice_at_once_is_one_session(network, bells, grant):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    permit, at = grant(), clock.now()
    other = Charger(network.kaveri_charger)
    first, second = both(*(lambda one=one: one.start(tag=permit.tag, meter=3, at=at) for one in (charger, other)))
    assert first == second and first["idTagInfo"]["status"] == "Accepted"
    assert ChargingSession.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_ask_once(network, bells, grant):
    Charger(network.kaveri_charger).boot()
    permit = grant()
    assert sum(both(ask, ask, ask)) == 1
    permit.refresh_from_db()
    assert permit.asked_count == 1 and len(starts(permit)) == 1
    assert permit.ask_at - clock.now() > timedelta(seconds=60)


# -- asked again, by what really is in the way ------------------------------------------------------------------------------
def test_a_request_that_expired_unsent_is_asked_again_at_once(network, bells, grant):
    """The charger never booted, so nothing was sent; that the row has not been settled yet is no reason to wait another minute."""
    charger = Charger(network.kaveri_charger)
    permit = grant()
    ask()
    assert charger.context.booted is False and starts(permit)[0].state == "queued"
    clock.shift(permits.ASK_AGAIN_S + 1)
    ask()
    assert [one.state for one in starts(permit)] == ["queued", "queued"]
    charger.boot()
    assert charger.command()[0] == starts(permit)[1].unique_id
    assert charger.command() is None


def test_a_request_lost_with_its_socket_is_asked_again_on_the_new_one(charger, grant, network):
    """The new socket comes before the old one's end is noticed, as most do: what was in flight there is in nobody's flight here."""
    permit = grant()
    ask()
    charger.command()
    again = Charger(network.kaveri_charger)
    assert ask() == 1
    assert len(starts(permit)) == 2
    unique_id, action, payload = again.command()
    assert (unique_id, action, payload["idTag"]) == (starts(permit)[1].unique_id, "RemoteStartTransaction", permit.tag)
    charger.drop()
    assert [one.state for one in starts(permit)] == ["unknown", "sent"]


def test_a_connector_that_is_well_again_is_asked_without_a_word_of_preparing(charger, grant):
    """Socket chargers never say Preparing: they go from Faulted to Available."""
    charger.status("Faulted", error="GroundFailure")
    permit = grant()
    ask()
    charger.status("Available")
    clock.shift(11)
    ask()
    assert len(starts(permit)) == 1
