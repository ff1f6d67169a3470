"""A session told again frame by frame: what belongs to it, in order, and what became of it after each."""

from datetime import timedelta

import pytest
from django.urls import reverse

from accounts.models import Company
from accounts.roles import Role
from csms import dispatch, message_writer, replay, sessions
from csms.models import ChargingSession, MeterReading
from tests import factories
from tests.charger import Charger
from tests.stories import queries, signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db
TAG = "0123456789ABCDEF"


class Logged(Charger):
    """A charger whose answers reach the log too, as the gateway writes them."""

    def raw(self, frame):
        answer = super().raw(frame)
        if answer is not None:
            clock.shift(0.004)
            message_writer.sent([(self.context, self.sent[-1], clock.now())])
            clock.shift(0.006)
        return answer


@pytest.fixture
def charger(network, bells):
    factories.make_connector(network.kaveri_charger, 2)
    return Logged(network.kaveri_charger)


@pytest.fixture
def session(charger):
    """A charge of three minutes: a boot long before, another car beside it, heartbeats between, the end."""
    charger.boot()
    clock.shift(3_600)
    charger.call("Heartbeat")
    charger.status("Preparing")
    charger.start(TAG, meter=1_000)
    charger.status("Charging", connector=2)
    for minute in range(1, 4):
        clock.shift(60)
        charger.meter(1_000 + 500 * minute, power=30_000)
        charger.call("Heartbeat")
        charger.call("Heartbeat")
    charger.meter(9_000_000, connector=2, transactionId=77)
    charger.stop(2_600)
    charger.status("Available")
    clock.shift(3_600)
    charger.call("Heartbeat")
    return ChargingSession.objects.get()


def told(client, session, **asked):
    page = client.get(reverse("csms:replay", args=[session.pk]), asked)
    assert page.status_code == 200
    return page


def lines(page):
    return page.context["told"].moments


def story(page):
    """Each line in a word or two, answers left out."""
    words = []
    for line in lines(page):
        if line.deed:
            words.append(line.deed)
        elif line.until:
            words.append(f"{line.beats} beats")
        elif line.frame.message_type == 2:
            words.append(line.frame.action)
    return words


def test_a_session_is_told_in_order_with_what_became_of_it(network, session):
    page = told(signed_in(network.om), session)
    assert story(page) == [
        *("1 beats", "StatusNotification", "StartTransaction", "session.started"),
        *("MeterValues", "2 beats", "MeterValues", "2 beats", "MeterValues", "2 beats"),
        *("StopTransaction", "session.ended", "StatusNotification"),
    ]
    calls = {line.frame.action: line for line in reversed(lines(page)) if line.frame and line.frame.message_type == 2 and not line.until}
    assert calls["StartTransaction"].state == "STARTED" and calls["StartTransaction"].offset == "+0:00.000"
    assert calls["MeterValues"].state == "RUNNING" and calls["MeterValues"].reading.energy_wh == 1_500
    assert calls["MeterValues"].offset.startswith("+1:00.")
    assert calls["StopTransaction"].state == "STOPPED" and lines(page)[0].offset.startswith("-0:00.") and lines(page)[0].state == ""
    [ended] = [line for line in lines(page) if line.deed == "session.ended"]
    assert ended.energy_wh == 1_600 == session.energy_wh
    text = page.content.decode()
    for words in ("register 1.500 kWh · 30 kW", "1.600 kWh counted", "2 heartbeats, until", "4 frames of other connectors", TAG):
        assert words in text, words


def test_every_request_is_followed_by_its_answer(network, session):
    said = [line.frame for line in lines(told(signed_in(network.om), session)) if line.frame and not line.until]
    calls = [frame.correlation_id for frame in said if frame.message_type == 2]
    assert calls == [frame.correlation_id for frame in said if frame.message_type == 3] and len(calls) == 7


def test_a_drop_and_a_return_are_told_too(network, charger):
    charger.boot()
    charger.start(TAG)
    charger.meter(500, power=7_000)
    clock.shift(10)
    charger.drop()
    clock.shift(30)
    charger.connect()
    charger.boot()
    charger.meter(900, power=7_000)
    session = ChargingSession.objects.get()
    page = told(signed_in(network.om), session)
    states = [line.state for line in lines(page) if line.frame and line.frame.message_type == 2 and line.frame.action != "BootNotification"]
    assert states == ["STARTED", "RUNNING", "RUNNING"]
    assert [state for state in (line.state for line in lines(page) if line.deed)] == ["STARTED", "SUSPENDED", "RUNNING"]
    assert "BootNotification" in story(page)


def test_the_stop_we_sent_belongs_to_its_session_only(network, charger):
    charger.boot()
    charger.start(TAG)
    charger.start("OTHER", connector=2)
    session = ChargingSession.objects.order_by("pk").first()
    for row in ChargingSession.objects.all():
        sessions.ask_stop(row, trigger="console", requested_by="om", attempt=1)
    for _ in range(2):
        reply = dispatch.next_command(charger.context)
        message_writer.sent([(charger.context, reply, clock.now())])
        charger.accept(reply.correlation_id)
    page = told(signed_in(network.om), session)
    assert story(page).count("RemoteStopTransaction") == 1
    assert len([line for line in lines(page) if line.frame and line.frame.action == "RemoteStopTransaction"]) == 2


def test_a_long_session_comes_in_pages_that_miss_and_repeat_nothing(network, session, monkeypatch):
    om = signed_in(network.om)
    whole = [line.frame.pk for line in lines(told(om, session)) if line.frame and not line.until]
    deeds = [line.deed for line in lines(told(om, session)) if line.deed]
    states = {line.frame.pk: line.state for line in lines(told(om, session)) if line.frame}
    monkeypatch.setattr(replay, "MOST_FRAMES", 5)
    seen, seen_deeds, after, pages = [], [], "", 0
    while after is not None:
        page = told(om, session, after=after)
        assert len([line for line in lines(page) if line.frame]) <= 5
        seen += [line.frame.pk for line in lines(page) if line.frame and not line.until]
        seen_deeds += [line.deed for line in lines(page) if line.deed]
        assert all(states[line.frame.pk] == line.state for line in lines(page) if line.frame and line.frame.pk in states)
        after, pages = page.context["told"].after, pages + 1
    assert (seen, seen_deeds) == (whole, deeds) and pages > 4


def test_a_long_session_costs_no_more_queries(network, session):
    om, address = signed_in(network.om), reverse("csms:replay", args=[session.pk])
    om.get(address)
    few = queries(om, address)
    at = session.started_at + timedelta(seconds=1)
    MeterReading.objects.bulk_create(
        MeterReading(charge_point=network.kaveri_charger, session=session, at=at, received_at=at, digest=str(n)) for n in range(300)
    )
    for number in range(100):
        session.charge_point.messages.create(
            direction="IN", message_type=2, action="Authorize", correlation_id=f"x{number}", raw=b"[]", at=at
        )
    assert queries(om, address) <= few <= 20


def test_a_frame_of_megabytes_is_read_by_its_ends_only(network, session):
    raw = b'[2,"big","MeterValues",{"meterValue":[' + b'{"x":1},' * 20_000 + b'{}],"connectorId":2}]'
    at = session.started_at + timedelta(seconds=1)
    session.charge_point.messages.create(direction="IN", message_type=2, action="MeterValues", correlation_id="big", raw=raw, at=at)
    page = told(signed_in(network.om), session)
    assert "big" not in [line.frame.correlation_id for line in lines(page) if line.frame]


def test_who_may_not_operate_sees_no_whole_tag_in_it(network, session):
    support = signed_in(factories.make_user("sita", Role.SUPPORT, network.voltaro))
    page = told(support, session).content.decode()
    assert TAG not in page and "…CDEF" in page


def test_another_networks_operator_finds_no_session_of_ours(network, session):
    stranger = factories.make_user("stranger", Role.OPERATOR, Company.objects.create(name="Another network"))
    address = reverse("csms:replay", args=[session.pk])
    assert signed_in(stranger).get(address).status_code == 404
    assert signed_in(network.kaveri_user).get(address).status_code == 403


def test_a_session_whose_frames_are_gone_says_so(network, session):
    session.charge_point.messages.all().delete()
    ChargingSession.objects.filter(pk=session.pk).update(started_at=clock.now(), ended_at=None, state="RUNNING")
    page = told(signed_in(network.om), session).content.decode()
    assert "No frames of this session are kept." in page


def test_its_story_leads_to_it(network, session):
    page = signed_in(network.om).get(reverse("console-session", args=[session.pk])).content.decode()
    assert reverse("csms:replay", args=[session.pk]) in page and "StartTransaction" in page
