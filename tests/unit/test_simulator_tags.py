"""The simulated charger decides who may charge: its list, its cache, the server's word, groups, and who has reserved."""

from datetime import timedelta

import pytest

from csms.simulator.habits import Habits
from csms.simulator.times import stamp
from tests.simulated import BEGAN, CALM, World, charging, remote_start, world

ASHA, BILAL, GUEST = "04A1B2C3", "04D4E5F6", "04FFFFFF"


def entry(tag: str, status: str = "Accepted", **more) -> dict:
    return {"idTag": tag, "idTagInfo": {"status": status, **more}}


def send(place: World, version: int, *entries: dict, full: bool = True) -> str:
    call = {"listVersion": version, "updateType": "Full" if full else "Differential", "localAuthorizationList": list(entries)}
    return place.status_of("SendLocalList", call)


def configure(place: World, **values: str) -> None:
    for key, value in values.items():
        assert place.status_of("ChangeConfiguration", {"key": key, "value": value}) == "Accepted", key


def swiped(place: World, tag: str, connector: int = 1) -> bool:
    """Somebody plugs in and swipes; whether a transaction runs then."""
    place.charger.plug_in(connector, place.now)
    place.charger.swipe(connector, tag, place.now)
    place.wait(1)
    return place.charger.outlet(connector).transaction is not None


def reserve(place: World, connector: int = 1, tag: str = ASHA, id: int = 3, minutes: float = 10, **more) -> str:
    until = stamp(place.now + timedelta(minutes=minutes))
    return place.status_of("ReserveNow", {"connectorId": connector, "reservationId": id, "idTag": tag, "expiryDate": until, **more})


# -- the local list ------------------------------------------------------------------------------------------------
def test_a_full_list_replaces_and_a_differential_one_changes_adds_and_takes_away():
    place = world(habits=CALM)
    assert send(place, 1, entry(ASHA), entry(BILAL)) == "Accepted"
    assert send(place, 2, entry(GUEST), {"idTag": ASHA}, entry(BILAL, "Blocked"), full=False) == "Accepted"
    assert place.ask("GetLocalListVersion").payload == {"listVersion": 2}
    assert place.charger.tags.local_list.entries == {BILAL: {"status": "Blocked"}, GUEST: {"status": "Accepted"}}
    assert send(place, 9, entry(ASHA)) == "Accepted"
    assert list(place.charger.tags.local_list.entries) == [ASHA]
    assert send(place, 10) == "Accepted"  # a full list without entries empties it
    assert place.charger.tags.local_list.entries == {}


def test_a_list_that_cannot_be_changes_nothing():
    place = world(habits=CALM)
    send(place, 5, entry(ASHA))
    assert send(place, 5, entry(BILAL), full=False) == "VersionMismatch"
    assert send(place, 4, entry(BILAL), full=False) == "VersionMismatch"
    assert send(place, 0, entry(BILAL)) == "Failed"
    assert send(place, 6, entry(BILAL), entry(BILAL.lower())) == "Failed"
    assert send(place, 6, {"idTag": BILAL}) == "Failed"
    assert send(place, 6, *(entry(f"T{number}") for number in range(101))) == "Failed"  # SendLocalListMaxLength
    for version in range(6, 10):
        assert send(place, version, *(entry(f"T{version}-{number}") for number in range(100)), full=False) == "Accepted"
    assert send(place, 10, *(entry(f"U{number}") for number in range(100)), full=False) == "Failed"  # LocalAuthListMaxLength
    assert place.ask("GetLocalListVersion").payload == {"listVersion": 9}


def test_without_the_list_there_is_none():
    place = world(habits=CALM)
    configure(place, LocalAuthListEnabled="false")
    assert place.ask("GetLocalListVersion").payload == {"listVersion": -1}
    assert send(place, 1, entry(ASHA)) == "NotSupported"


def test_without_a_line_the_list_lets_in_whom_it_knows():
    place = world(habits=CALM, connectors=3)
    send(place, 1, entry(ASHA), entry(BILAL, "Blocked"), entry("OLD", expiryDate=stamp(BEGAN - timedelta(days=1))))
    place.disconnect()
    assert [swiped(place, tag) for tag in (BILAL, "OLD", GUEST, ASHA.lower())] == [False, False, False, True]
    place.connect()
    place.wait(1)
    assert not place.calls("Authorize")
    assert place.calls("StartTransaction")[0]["idTag"] == ASHA.lower()


def test_without_a_line_a_stranger_may_charge_when_the_settings_say_so_and_is_stopped_later():
    place = world(habits=CALM, connectors=2)
    configure(place, AllowOfflineTxForUnknownId="true", LocalAuthorizeOffline="false")
    send(place, 1, entry(BILAL, "Blocked"))
    place.disconnect()
    assert swiped(place, GUEST) and not swiped(place, BILAL, 2)
    place.tags[GUEST] = {"status": "Invalid"}
    place.connect()
    place.wait(2)
    assert place.calls("StopTransaction")[0]["reason"] == "DeAuthorized"


def test_an_unwelcome_tag_may_be_left_some_energy():
    place = world(habits=CALM)
    configure(place, StopTransactionOnInvalidId="false", MaxEnergyOnInvalidId="200")
    place.tags[GUEST] = {"status": "Blocked"}
    charging(place, GUEST)
    place.wait(60)
    start, stop = place.calls("StartTransaction")[0], place.calls("StopTransaction")[0]
    assert stop["reason"] == "DeAuthorized" and 190 <= stop["meterStop"] - start["meterStart"] <= 200


def test_with_preauthorisation_the_list_is_not_asked_about_and_a_blocked_tag_is():
    place = world(habits=CALM, connectors=2)
    configure(place, LocalPreAuthorize="true")
    send(place, 1, entry(ASHA), entry(BILAL, "Blocked"))
    assert swiped(place, ASHA) and not place.calls("Authorize")
    assert swiped(place, BILAL, 2)  # the server knows better
    assert place.calls("Authorize") == [{"idTag": BILAL}]
    conflict = place.calls("StatusNotification")[-1] | {"timestamp": ""}
    told = [one for one in place.calls("StatusNotification") if one["errorCode"] == "LocalListConflict"]
    assert told and told[0]["connectorId"] == 0 and BILAL in told[0]["info"], conflict


def test_the_cache_learns_from_every_answer_and_is_cleared():
    place = world(habits=CALM, connectors=2)
    place.tags[BILAL] = {"status": "Expired"}
    assert swiped(place, ASHA) and not swiped(place, BILAL, 2)
    assert {tag: info["status"] for tag, info in place.charger.tags.cache.items()} == {ASHA: "Accepted", BILAL: "Expired"}
    place.charger.swipe(1, ASHA, place.now)
    place.disconnect()
    assert swiped(place, ASHA) and not swiped(place, BILAL, 2)
    place.connect()
    assert place.status_of("ClearCache") == "Accepted" and not place.charger.tags.cache
    configure(place, AuthorizationCacheEnabled="false")
    assert place.status_of("ClearCache") == "Rejected"


def test_a_card_of_the_same_group_stops_and_another_does_not():
    place = world(habits=CALM)
    place.tags |= {ASHA: {"status": "Accepted", "parentIdTag": "FLEET"}, BILAL: {"status": "Accepted", "parentIdTag": "fleet"}}
    assert swiped(place, ASHA)
    place.charger.swipe(1, GUEST, place.now)
    place.wait(1)
    assert not place.calls("StopTransaction")
    place.charger.swipe(1, BILAL, place.now)
    place.wait(1)
    assert place.calls("StopTransaction")[0]["idTag"] == BILAL


def test_a_remote_start_may_have_to_ask_first():
    place = world(habits=CALM)
    configure(place, AuthorizeRemoteTxRequests="true")
    place.charger.plug_in(1, place.now)
    place.tags[GUEST] = {"status": "Invalid"}
    assert remote_start(place, GUEST).payload == {"status": "Accepted"}
    place.wait(1)
    assert place.calls("Authorize") == [{"idTag": GUEST}] and not place.calls("StartTransaction")
    remote_start(place, ASHA)
    place.wait(1)
    assert place.calls("StartTransaction")[0]["idTag"] == ASHA


def test_a_card_waits_for_the_car_as_long_as_the_settings_say():
    place = world(habits=CALM)
    configure(place, ConnectionTimeOut="20")
    place.charger.swipe(1, ASHA, place.now)
    place.wait(10)
    assert place.statuses()[-1] == "Preparing"
    place.wait(15)
    assert place.statuses()[-1] == "Available" and not place.calls("StartTransaction")


# -- reservations --------------------------------------------------------------------------------------------------
def test_a_reserved_outlet_is_kept_and_used_by_its_tag():
    place = world(habits=CALM)
    assert reserve(place) == "Accepted"
    assert place.statuses()[-1] == "Reserved"
    assert remote_start(place, GUEST).payload == {"status": "Rejected"}
    place.charger.swipe(1, GUEST, place.now)
    assert not swiped(place, GUEST)
    assert swiped(place, ASHA.lower())
    assert place.calls("StartTransaction")[0]["reservationId"] == 3
    assert place.ask("CancelReservation", {"reservationId": 3}).payload == {"status": "Rejected"}  # it is used up


def test_a_remote_start_goes_where_the_tag_has_reserved():
    place = world(habits=CALM, connectors=3)
    reserve(place, connector=2)
    place.charger.plug_in(1, place.now)
    assert place.ask("RemoteStartTransaction", {"idTag": ASHA}).payload == {"status": "Accepted"}
    place.charger.plug_in(2, place.now)
    place.wait(1)
    assert [(one["connectorId"], one["reservationId"]) for one in place.calls("StartTransaction")] == [(2, 3)]


def test_a_reservation_expires_or_is_cancelled_or_replaced():
    place = world(habits=CALM)
    reserve(place, minutes=1)
    place.wait(70)
    assert place.statuses()[-2:] == ["Reserved", "Available"]
    reserve(place, id=4)
    assert reserve(place, id=4, tag=BILAL) == "Accepted" and place.charger.outlets[0].reserved.id_tag == BILAL
    assert place.status_of("CancelReservation", {"reservationId": 4}) == "Accepted"
    assert place.statuses()[-1] == "Available"


@pytest.mark.parametrize(
    ("before", "answer"),
    [
        (lambda place: place.charger.trouble(1, "GroundFailure", place.now), "Faulted"),
        (lambda place: place.ask("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"}), "Unavailable"),
        (lambda place: place.charger.plug_in(1, place.now), "Occupied"),
        (lambda place: charging(place), "Occupied"),
        (lambda place: reserve(place, id=9), "Occupied"),
    ],
)
def test_an_outlet_that_is_not_free_cannot_be_reserved(before, answer):
    place = world(habits=CALM)
    before(place)
    assert reserve(place) == answer


def test_a_reservation_that_cannot_be_is_rejected():
    place = world(habits=CALM)
    assert reserve(place, minutes=-1) == "Rejected"
    assert reserve(place, connector=7) == "Rejected"


def test_a_group_may_use_what_one_of_it_has_reserved():
    place = world(habits=CALM)
    place.tags |= {BILAL: {"status": "Accepted", "parentIdTag": "FLEET"}, GUEST: {"status": "Accepted"}}
    reserve(place, parentIdTag="FLEET")
    assert remote_start(place, GUEST).payload == {"status": "Accepted"}  # only the server knows whose group it is of
    place.wait(1)
    assert not swiped(place, GUEST)
    assert swiped(place, BILAL)
    assert place.calls("StartTransaction")[0]["reservationId"] == 3


def test_any_outlet_reserved_keeps_one_free():
    place = world(habits=CALM, connectors=2)
    assert reserve(place, connector=0) == "Accepted"
    assert swiped(place, GUEST, 1)
    assert not swiped(place, BILAL, 2)
    assert reserve(place, connector=0, id=4) == "Occupied"
    assert swiped(place, ASHA, 2)
    assert place.calls("StartTransaction")[1]["reservationId"] == 3
    assert not place.charger.reserved_any


def test_a_reservation_for_any_outlet_expires_too():
    place = world(habits=Habits(arrives_after_s=None, leaves_after_s=None), connectors=1)
    reserve(place, connector=0, minutes=1)
    assert not swiped(place, GUEST)
    place.wait(70)
    assert swiped(place, GUEST)
