"""Reservations: kept only once the charger has accepted, used up by their start, over when their time is. Cases by their codes."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from accounts.models import AuditEntry
from csms import commands, permits, reservations, tags
from csms.models import ChargePoint, ChargingSession, Command, IdTag, Reservation
from csms.timestamps import write
from tests import factories, money
from tests.charger import Charger, later
from tests.integration.test_permits import both
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_remembered():
    tags.forget()


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


@pytest.fixture
def card(network):
    return IdTag.objects.create(tag="04A2B3C4", company=network.voltaro, parent="FAMILY")


@pytest.fixture
def reserve(network, charger, card):
    """Kept for the card, half an hour; `answer` is what the charger says of it (None: nothing)."""

    def reserve(answer="Accepted", connector=..., tag=None, minutes=30) -> Reservation:
        place = network.kaveri_connector if connector is ... else connector
        row = reservations.reserve(network.kaveri_charger, place, tag or card, later(minutes * 60))
        if answer is not None:
            unique_id, action, reserve.sent = charger.command()
            assert action == "ReserveNow"
            charger.accept(unique_id, {"status": answer})
            row.refresh_from_db()
        return row

    return reserve


def expire() -> int:
    return reservations.expire_due(clock.now(), 10)


def kept(network) -> bool:
    return reservations.kept_until(network.kaveri_connector, clock.now()) is not None


def test_V01_reserved_and_started_by_the_same_tag_it_is_used_up(charger, reserve, card, network):
    row = reserve()
    assert reserve.sent == {
        "connectorId": 1,
        "expiryDate": write(row.expires_at),
        "idTag": "04A2B3C4",
        "parentIdTag": "FAMILY",
        "reservationId": row.reservation_id,
    }
    assert (row.state, row.status) == ("active", "Accepted") and kept(network)
    charger.status("Reserved")
    assert charger.start("04A2B3C4", reservationId=row.reservation_id)["idTagInfo"]["status"] == "Accepted"
    row.refresh_from_db()
    assert (row.state, row.session) == ("used", ChargingSession.objects.get())
    assert not kept(network)
    assert [e.action for e in AuditEntry.objects.filter(action__startswith="reservation.").order_by("pk")] == [
        "reservation.requested",
        "reservation.accepted",
        "reservation.used",
    ]
    assert "04A2B3C4" not in str(list(AuditEntry.objects.filter(action__startswith="reservation.").values()))


@pytest.mark.parametrize("number", [-1, None, 0])
def test_T15_without_its_number_the_tag_says_which(charger, reserve, number):
    row = reserve()
    charger.start("04 a2 b3 c4", **({} if number is None else {"reservationId": number}))
    row.refresh_from_db()
    assert row.state == "used"


def test_V02_over_when_its_time_is_and_a_charger_that_holds_on_is_told(charger, reserve, network):
    row = reserve()
    charger.status("Reserved")
    clock.shift(30 * 60 + 1)
    assert not kept(network)  # whoever looks, and whatever the worker does
    assert expire() == 0
    clock.shift(15)
    assert expire() == 1
    row.refresh_from_db()
    assert row.state == "expired"
    clock.shift(60)
    _, action, payload = charger.command()
    assert (action, payload) == ("CancelReservation", {"reservationId": row.reservation_id})


def test_V02_a_charger_that_lets_go_by_itself_is_left_alone(charger, reserve):
    reserve()
    charger.status("Reserved")
    clock.shift(30 * 60 + 16)
    charger.status("Available")
    assert expire() == 1
    assert not Command.objects.filter(action="CancelReservation").exists()


@pytest.mark.parametrize("answer", ["Faulted", "Occupied", "Unavailable", "Rejected"])
def test_V03_what_the_charger_refuses_is_shown_and_keeps_nothing(charger, reserve, network, answer):
    row = reserve(answer)
    assert (row.state, row.status) == ("refused", answer)
    assert not kept(network)
    assert reserve("Accepted").state == "active"  # and may be tried again


def test_V03_a_charger_that_knows_no_reservations_refuses(charger, reserve, network):
    row = reserve(None)
    charger.raw(f'[4,"{charger.command()[0]}","NotSupported","",{{}}]')
    row.refresh_from_db()
    assert (row.state, row.status) == ("refused", "NotSupported")


def test_before_the_charger_has_accepted_nothing_is_kept(reserve, network):
    assert reserve(None).state == "requested"
    assert not kept(network)


def test_no_answer_keeps_nothing_and_should_it_have_heard_it_is_told(charger, reserve, network):
    row = reserve(None)
    assert charger.command()[1] == "ReserveNow"
    clock.shift(40)
    commands.timeout_due(clock.now(), 10)
    row.refresh_from_db()
    assert (row.state, row.status) == ("refused", "No answer")
    assert charger.command()[1:] == ("CancelReservation", {"reservationId": row.reservation_id})


def test_a_charger_that_is_not_there_is_said(charger, reserve):
    charger.drop()
    row = reserve(None)
    clock.shift(61)
    commands.timeout_due(clock.now(), 10)
    row.refresh_from_db()
    assert (row.state, row.status) == ("refused", "Not reached")
    assert not Command.objects.filter(action="CancelReservation").exists()


def test_V04_any_connector_of_the_charger(charger, reserve, network):
    factories.make_connector(network.kaveri_charger, 2)
    row = reserve(connector=None)
    assert reserve.sent["connectorId"] == 0
    assert not kept(network)  # two are free, one is wanted
    charger.start("SOMEBODY", connector=2)
    assert kept(network)  # the last one is for whoever reserved
    charger.start("04A2B3C4", connector=1)
    row.refresh_from_db()
    assert row.state == "used"


def test_V05_another_of_the_group_may_come(charger, reserve, network):
    IdTag.objects.create(tag="FAMILYCAR2", company=network.voltaro, parent="FAMILY")
    row = reserve()
    assert charger.start("FAMILYCAR2")["idTagInfo"] == {"status": "Accepted", "parentIdTag": "FAMILY"}
    row.refresh_from_db()
    assert row.state == "used"


@pytest.mark.parametrize("answer", ["Accepted", "Rejected"])
def test_V06_cancelled_whether_the_charger_still_had_it_or_not(charger, reserve, network, answer):
    row = reserve()
    assert "has been asked" in reservations.cancel(row.pk)
    assert "asked already" in reservations.cancel(row.pk)
    unique_id, action, payload = charger.command()
    assert (action, payload) == ("CancelReservation", {"reservationId": row.reservation_id})
    row.refresh_from_db()
    assert row.state == "active"  # until it answers
    charger.accept(unique_id, {"status": answer})
    row.refresh_from_db()
    assert (row.state, row.status) == ("cancelled", f"Cancel: {answer}")
    assert not kept(network)
    assert "over already" in reservations.cancel(row.pk)


def test_V06_unanswered_it_stays_and_may_be_asked_again(charger, reserve, network):
    row = reserve()
    reservations.cancel(row.pk)
    charger.command()
    clock.shift(40)
    commands.timeout_due(clock.now(), 10)
    row.refresh_from_db()
    assert (row.state, row.status) == ("active", "Cancel: no answer") and kept(network)
    assert "has been asked" in reservations.cancel(row.pk)
    charger.accept(charger.command()[0])
    row.refresh_from_db()
    assert row.state == "cancelled"


def test_what_the_charger_never_heard_of_is_withdrawn(charger, reserve):
    row = reserve(None)
    assert "withdrawn" in reservations.cancel(row.pk)
    assert charger.command() is None
    row.refresh_from_db()
    assert (row.state, row.status) == ("cancelled", "Never asked")


def test_V07_a_strangers_start_is_recorded_told_no_and_asked_to_stop(charger, reserve, network):
    stranger = IdTag.objects.create(tag="STRANGER", company=network.voltaro)
    row = reserve()
    answer = charger.start("STRANGER", meter=5)
    assert answer["idTagInfo"] == {"status": "ConcurrentTx"} and answer["transactionId"] > 0
    session = ChargingSession.objects.get()
    assert (session.authorized, session.card, session.flags) == (False, stranger, ["reserved"])
    assert charger.command()[1] == "RemoteStopTransaction"
    row.refresh_from_db()
    assert row.state == "active"


def test_V07_while_it_is_being_cancelled_a_stranger_may(charger, reserve, network):
    IdTag.objects.create(tag="STRANGER", company=network.voltaro)
    reservations.cancel(reserve().pk)
    assert charger.start("STRANGER")["idTagInfo"]["status"] == "Accepted"


def test_the_reserved_card_itself_must_still_be_good(charger, reserve, card):
    row = reserve()
    card.state = "blocked"
    card.save()
    assert charger.start("04A2B3C4", reservationId=row.reservation_id)["idTagInfo"]["status"] == "Blocked"
    row.refresh_from_db()
    assert row.state == "active"


def test_somebody_who_has_paid_before_it_was_kept_charges(charger, reserve, network):
    """The charger accepted while the payment came in: the rider's start stands."""
    row = reserve(None)
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_000, start_until=later(300)
    )
    charger.accept(charger.command()[0], {"status": "Accepted"})
    assert charger.start(permit.tag)["idTagInfo"]["status"] == "Accepted"
    row.refresh_from_db()
    assert row.state == "active"


# -- asking ---------------------------------------------------------------------------------------------------------------
def refusal(*args) -> str:
    with pytest.raises(ValidationError) as refused, transaction.atomic():
        reservations.reserve(*args)
    return " ".join(refused.value.messages)


def test_what_cannot_be_reserved_is_said_in_a_sentence(charger, reserve, card, network):
    here, place = network.kaveri_charger, network.kaveri_connector
    assert "another charger" in refusal(here, network.ganga_connector, card, later(600))
    assert "next 24 hours" in refusal(here, place, card, later(-1))
    assert "next 24 hours" in refusal(here, place, card, later(25 * 3600))
    paid = IdTag.objects.create(tag="PAID", kind="one_time")
    blocked = IdTag.objects.create(tag="NO", state="blocked")
    assert "may not charge" in refusal(here, place, paid, later(600))
    assert "may not charge" in refusal(here, place, blocked, later(600))
    reserve()
    assert "already reserved until" in refusal(here, place, card, later(600))
    assert Reservation.objects.count() == 1


def test_what_is_over_by_time_makes_room_before_the_worker_has_come(reserve):
    first = reserve(minutes=1)
    clock.shift(61)
    assert reserve().state == "active"
    first.refresh_from_db()
    assert first.state == "expired"


def test_a_connector_somebody_uses_or_has_paid_for_cannot_be_reserved(charger, card, network):
    charger.start("04A2B3C4")
    assert "Somebody charges" in refusal(network.kaveri_charger, network.kaveri_connector, card, later(600))


def test_a_charger_that_says_tags_its_own_way_gets_it_so(charger, reserve, network):
    ChargePoint.objects.update(quirk_settings={"id_tag_form": "reversed"})
    network.kaveri_charger.refresh_from_db()
    reserve()
    assert reserve.sent["idTag"] == "C4B3A204"


def test_one_written_by_hand_is_a_reservation_too(charger, card, network):
    until = clock.now() + timedelta(hours=1)
    payload = {"connectorId": 1, "expiryDate": write(until), "idTag": "04A2B3C4", "reservationId": 4711}
    commands.request(network.kaveri_charger, "ReserveNow", payload, trigger="api")
    charger.accept(charger.command()[0], {"status": "Accepted"})
    row = Reservation.objects.get()
    assert (row.reservation_id, row.state, row.connector, row.id_tag) == (4711, "active", network.kaveri_connector, card)
    commands.request(network.kaveri_charger, "CancelReservation", {"reservationId": 4711}, trigger="api")
    charger.accept(charger.command()[0], {"status": "Accepted"})
    row.refresh_from_db()
    assert row.state == "cancelled"


# -- riders ---------------------------------------------------------------------------------------------------------------
def test_a_rider_reads_until_when_it_is_reserved(charger, reserve, network, client):
    address = f"/c/{network.kaveri_connector.code}/"
    assert "Reserved until" not in client.get(address).content.decode()
    row = reserve()
    page = client.get(address).content.decode()
    assert f"Reserved until {timezone.localtime(row.expires_at):%H:%M}" in page and "sent back in full" in page
    clock.shift(30 * 60 + 1)
    assert "Reserved until" not in client.get(address).content.decode()


def test_a_payment_on_a_reserved_connector_goes_back_whole(sandbox, kaveri_qr, reserve):
    reserve()
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    assert (payment.state, payment.refund_reason, payment.permit) == ("refunding", "reserved", None)
    assert payment.refunds.get().amount_paise == 50_000
    clock.shift(30 * 60 + 1)
    ChargePoint.objects.update(last_seen=clock.now())
    assert money.pay(sandbox, kaveri_qr, 20_000, vpa="ravi@ybl").state == "starting"


@pytest.mark.django_db(transaction=True)
def test_two_reserve_one_connector_in_the_same_instant(network, bells):
    tags_ = [IdTag.objects.create(tag=f"CARD{number}", company=network.voltaro) for number in range(2)]
    until = later(600)
    heard = both(*(lambda tag=tag: reservations.reserve(network.kaveri_charger, network.kaveri_connector, tag, until) for tag in tags_))
    assert sorted(type(one).__name__ for one in heard) == ["Reservation", "ValidationError"]
    assert Reservation.objects.count() == Command.objects.count() == 1
