"""What people change in the console reaches chargers that are connected, and the door, soon; and costs each message nothing."""

import asyncio

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from csms import dispatch, doors, heed, onboarding, quirks
from csms.doors import Door, Knock, Refused
from csms.models import ChargePoint, QuirkProfile
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db
VENDOR_MESSAGE = {"vendorId": "org.example", "messageId": "Hello"}


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


@pytest.fixture(autouse=True)
def _fresh():
    quirks.forget()
    yield
    quirks.forget()


def hears(charger: Charger, watch: heed.Heed) -> bool:
    """As the gateway does it: look, and think again between two frames."""
    news = watch.look([charger.row.pk], clock.now())
    for own in news.habits.values():
        heed.think_again(charger.context, own)
    return bool(news.habits)


def test_its_own_settings_count_from_its_next_message_on(charger):
    watch = heed.Heed()
    assert not hears(charger, watch), "it was let in by what its row says"
    assert charger.call("DataTransfer", VENDOR_MESSAGE)["status"] == "UnknownVendorId"
    ChargePoint.objects.filter(pk=charger.row.pk).update(quirk_settings={"data_transfer": "accept", "heartbeat_timeout_s": 600})
    assert hears(charger, watch) and not hears(charger, watch)
    assert charger.call("DataTransfer", VENDOR_MESSAGE)["status"] == "Accepted"
    assert charger.context.heartbeat_s == 200
    charger.boot()  # what it boots with is resolved by the same settings
    assert charger.call("DataTransfer", VENDOR_MESSAGE)["status"] == "Accepted"
    ChargePoint.objects.filter(pk=charger.row.pk).update(quirk_settings={})
    assert hears(charger, watch)
    assert charger.call("DataTransfer", VENDOR_MESSAGE)["status"] == "UnknownVendorId"


def test_a_profile_that_is_changed_reaches_everybody_it_speaks_of(charger, network):
    watch = heed.Heed()
    hears(charger, watch)
    vendor = charger.context.kind[0]
    profile = QuirkProfile.objects.create(name="made in this test", vendor=vendor, settings={"data_transfer": "refuse"})
    assert hears(charger, watch)
    assert charger.call("DataTransfer", VENDOR_MESSAGE)["status"] == "Rejected"
    profile.settings = {"data_transfer": "accept"}
    profile.save()
    assert hears(charger, watch)
    assert charger.call("DataTransfer", VENDOR_MESSAGE)["status"] == "Accepted"
    profile.delete()
    assert hears(charger, watch)
    assert charger.context.habits == dispatch.habits_of(doors.stations.find(charger.row.cp_id))


def test_a_look_is_three_queries_however_many_chargers_there_are(network, bells):
    pks = [Charger(row).row.pk for row in (network.kaveri_charger, network.ganga_charger)]
    watch = heed.Heed()
    for some in (pks[:1], pks, range(1, 5000)):
        with CaptureQueriesContext(connection) as asked:
            watch.look(some, clock.now())
        assert len(asked) == 3


def test_a_window_lets_those_knock_who_were_sent_away_unknown(network):
    """They are heard at once, and stand in the inbox; a wrong key of one of ours stays shut out."""
    door, watch = Door(), heed.Heed()
    watch.look([], clock.now())
    new, ours = Knock("NEW-1", "203.0.113.7", "/ocpp/NEW-1"), Knock("VLT-0001", "203.0.113.7", "/ocpp/VLT-0001")
    door.failed(new, Refused("unknown", (doors.TRIES, 1)))
    door.failed(ours, Refused("wrong_key", (doors.TRIES, 1)))

    def status(knock: Knock) -> int:
        door.strangers[knock.who] = clock.elapsed() + 60  # neither has come in from there before
        return asyncio.run(door.refuses(knock, sockets=0, at_address=0))

    assert (status(new), status(ours)) == (401, 401)
    assert not watch.look([], clock.now()).opened
    window = onboarding.open_window(network.voltaro, network.om, minutes=30, now=clock.now())
    assert watch.look([], clock.now()).opened
    door.window_opened()
    assert (status(new), status(ours)) == (0, 401)
    assert not watch.look([], clock.now()).opened, "once"
    onboarding.close_window(window, clock.now())
    clock.shift(1)
    onboarding.open_window(network.voltaro, network.om, minutes=30, now=clock.now())
    assert watch.look([], clock.now()).opened
    door.failed(new, Refused("unknown", (doors.TRIES, 1000)))
    assert door.shut.keys() >= {new.who, new.address}
    door.window_opened()
    assert set(door.shut) == {ours.who} and not door.unknown
