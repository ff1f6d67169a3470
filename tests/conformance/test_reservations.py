"""Reservations of OCPP 1.6 (V): a connector kept for a tag, once the charger has agreed."""

from datetime import timedelta

import pytest

from csms import reservations
from csms.models import ChargingSession, Command, Connector, Reservation
from csms.timestamps import write
from tests.factories import make_connector
from tests.simulate_client import CallError, stamp
from voltaro import clock

pytestmark = pytest.mark.e2e


@pytest.fixture
def card(world):
    return world.card("CARD1", parent="FAMILY")


@pytest.fixture
def reserve(world, charger, card):
    """Ask to keep connector 1 (None: any) for the card; the charger answers so."""

    def reserve(answer="Accepted", connector=..., minutes=10):
        place = world.network.kaveri_connector if connector is ... else connector
        row = reservations.reserve(world.network.kaveri_charger, place, card, clock.now() + timedelta(minutes=minutes))
        reserve.sent = charger.expect("ReserveNow", {"status": answer} if isinstance(answer, str) else answer)
        world.until(lambda: Reservation.objects.get(pk=row.pk).state != "requested", "the answer")
        row.refresh_from_db()
        return row

    return reserve


def start(charger, tag, **fields):
    said = {"connectorId": 1, "idTag": tag, "meterStart": 0, "timestamp": stamp(), **fields}
    return charger.call("StartTransaction", said)


def kept(world):
    place = Connector.objects.get(pk=world.network.kaveri_connector.pk)
    return reservations.kept_until(place, clock.now()) is not None


def test_TC_046_V01_reserved_and_used(world, charger, reserve):
    """Reserved, then started with the same tag: accepted, and the reservation is used up."""
    row = reserve()
    assert reserve.sent == {
        "connectorId": 1,
        "expiryDate": write(row.expires_at),
        "idTag": "CARD1",
        "parentIdTag": "FAMILY",
        "reservationId": row.reservation_id,
    }
    assert row.state == "active" and kept(world)
    charger.status(1, "Reserved")
    assert start(charger, "CARD1", reservationId=row.reservation_id)["idTagInfo"]["status"] == "Accepted"
    row.refresh_from_db()
    assert (row.state, row.session) == ("used", world.session()) and not kept(world)


def test_TC_047_V02_reserved_and_nobody_comes(world, charger, reserve):
    """Its time ends: it is over here, and a charger that still shows it is told so."""
    row = reserve(minutes=1)
    charger.status(1, "Reserved")
    world.pass_time(80)
    assert not kept(world)
    world.work("reservations.expire")
    row.refresh_from_db()
    assert row.state == "expired"
    assert charger.expect("CancelReservation", timeout_s=15) == {"reservationId": row.reservation_id}
    charger.status(1, "Available", timestamp=stamp(clock.now()))
    world.command("CancelReservation", "effective")


@pytest.mark.parametrize("status", ["Faulted", "Occupied", "Unavailable", "Rejected"])
def test_TC_048_1_V03_what_cannot_be_reserved(world, reserve, status):
    """Faulted, Occupied, Unavailable, Rejected: shown as they are, and nothing is kept."""
    row = reserve(status)
    assert (row.state, row.status) == ("refused", status)
    assert not kept(world)
    assert Command.objects.get(action="ReserveNow").response == {"status": status}


def test_TC_049_V04_any_connector_of_the_charger(world, charger, reserve):
    """Connector 0: whichever is free; its tag starts at any, and it is used up."""
    make_connector(world.network.kaveri_charger, 2)
    row = reserve(connector=None)
    assert reserve.sent["connectorId"] == 0 and row.state == "active"
    assert not kept(world)  # two are free, one is wanted
    assert start(charger, "CARD1", connectorId=2)["idTagInfo"]["status"] == "Accepted"
    row.refresh_from_db()
    assert row.state == "used"


def test_TC_053_V05_another_tag_of_its_group(world, charger, reserve):
    """A tag with the same parentIdTag may come instead."""
    world.card("CARD2", parent="FAMILY")
    row = reserve()
    assert reserve.sent["parentIdTag"] == "FAMILY"
    assert start(charger, "CARD2")["idTagInfo"] == {"status": "Accepted", "parentIdTag": "FAMILY"}
    row.refresh_from_db()
    assert row.state == "used"


@pytest.mark.parametrize("status", ["Accepted", "Rejected"])
def test_TC_051_V06_a_reservation_is_cancelled(world, charger, reserve, status):
    """Cancelled: Accepted; or Rejected, because the charger has no such reservation: over either way."""
    row = reserve()
    reservations.cancel(row.pk)
    row.refresh_from_db()
    assert row.state == "active"  # until it answers
    assert charger.expect("CancelReservation", {"status": status}) == {"reservationId": row.reservation_id}
    world.until(lambda: not kept(world), "it to be over")
    row.refresh_from_db()
    assert (row.state, row.status) == ("cancelled", f"Cancel: {status}")
    assert world.command("CancelReservation").response == {"status": status}


def test_V07_somebody_else_starts_there(world, charger, reserve):
    """Another tag starts on the reserved connector: ConcurrentTx, the transaction is recorded and asked to stop, the reservation stays."""
    world.card("STRANGER")
    row = reserve()
    told = start(charger, "STRANGER", meterStart=500)
    assert told["idTagInfo"] == {"status": "ConcurrentTx"} and told["transactionId"] > 0
    assert charger.expect("RemoteStopTransaction") == {"transactionId": told["transactionId"]}
    charger.stop(told["transactionId"], meter_wh=600, reason="DeAuthorized")
    session = ChargingSession.objects.get()
    assert (session.authorized, session.state, session.energy_wh, session.flags) == (False, "STOPPED", 100, ["reserved"])
    row.refresh_from_db()
    assert row.state == "active" and kept(world)


def test_a_charger_that_knows_no_reservations(world, reserve):
    row = reserve(CallError("NotSupported"))
    assert (row.state, row.status) == ("refused", "NotSupported") and not kept(world)
