"""Exposure: what chargers that nobody hears may be delivering unpaid; the statement says what the pure rule says."""

from datetime import timedelta

import pytest
from django.urls import reverse

from csms import exposure, permits, sessions
from csms.models import ChargingSession, IdTag
from csms.rules import exposure as rule
from tests.charger import Charger, later
from tests.factories import make_charge_point
from tests.stories import charge, queries, signed_in
from voltaro import clock
from voltaro.metrics import exposition

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    """5 kWh paid, 1 kWh drawn at 30 kW."""
    found = Charger(network.kaveri_charger)
    found.boot()
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_000, start_until=later(300)
    )
    found.start(permit.tag, meter=0)
    clock.shift(120)
    found.meter(1_000, 30_000)
    return found


def look(**how) -> exposure.Exposure:
    return exposure.look(clock.now(), **how)


def test_a_session_that_is_heard_is_no_exposure(charger):
    assert look() == exposure.Exposure([])


def test_unheard_it_is_shown_first_and_counted_when_it_may_be_beyond(charger):
    charger.drop()
    clock.shift(120)
    [row] = look().rows
    assert (row.exposed_wh, row.delivered_wh, row.online) == (0, 2_000, False) and row.within_s == 360
    clock.shift(480)
    found = look()
    assert (found.unheard, found.exposed) == (1, 1) and 995 <= found.exposed_wh <= 1_010
    assert exposure.by_charger(clock.now())[0][:3] == (charger.row.pk, "VLT-0001", 1)


def test_silent_on_an_open_line_is_unheard_too(charger):
    clock.shift(600)
    assert look().rows[0].online and 995 <= look().exposed_wh <= 1_010


def test_one_that_keeps_to_a_limit_by_itself_is_bounded(charger):
    ChargingSession.objects.update(bounded_wh=5_000)
    charger.drop()
    clock.shift(3_600)
    assert (look().exposed, look().rows[0].delivered_wh) == (0, 5_000)


def test_ended_by_us_and_still_away_it_counts_on_and_no_more_when_it_is_heard(charger):
    charger.drop()
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    [row] = look().rows
    assert not row.facts.live and 1_500 <= row.exposed_wh <= 1_520
    charger.connect()
    assert look().rows == []
    charger.drop()
    assert look().rows == [], "it was heard of since"


def test_no_limit_or_a_stop_of_its_own_is_no_exposure(charger, network):
    IdTag.objects.create(tag="CARD1", company=network.ganga.company)
    other = Charger(network.ganga_charger)
    other.boot()
    other.start("CARD1", meter=0)
    other.drop()
    charger.stop(1_200)
    charger.drop()
    clock.shift(600)
    assert look().rows == []


def test_a_start_nobody_may_is_all_exposure(charger, network):
    other = Charger(network.ganga_charger)
    other.boot()
    other.start("NOBODY1", meter=0)
    other.drop()
    clock.shift(60)
    [worst] = look().rows
    assert worst.cp_id == "VLT-0002" and worst.exposed_wh == 1_000, "60 kW, of which nothing was seen yet"


@pytest.mark.parametrize("peak", [0, 41_250, 999_999])
@pytest.mark.parametrize("state", ["RUNNING", "STOPPED"])
@pytest.mark.parametrize("bounded", [None, 3_000, 90_000])
@pytest.mark.parametrize("until_s", [None, -5, 600])
@pytest.mark.parametrize("silent_s", [59, 172_000])
def test_the_statement_says_what_the_rule_says(network, peak, state, bounded, silent_s, until_s):
    story = charge(network, state=state, wh=8_001)
    if until_s is not None:
        ChargingSession.objects.update(bounded_until=clock.now() + timedelta(seconds=until_s))
    ended = {"stop_reason": "SILENCE", "flags": ["inferred"]} if state == "STOPPED" else {}
    ChargingSession.objects.filter(pk=story.session.pk).update(peak_power_w=peak, bounded_wh=bounded, last_activity_at=clock.now(), **ended)
    clock.shift(silent_s)
    for row in look().rows:
        assert row.exposed_wh == rule.exposed_wh(row.facts)
        assert abs(row.facts.silent_s - silent_s) <= 2
    assert len(look().rows) == 1


def test_everybody_sees_their_own_and_the_pages_say_it(charger, network):
    charger.drop()
    clock.shift(900)
    om, ganga = signed_in(network.om), signed_in(network.ganga_user)
    text = om.get(reverse("exposure")).content.decode()
    assert "VLT-0001" in text and "May be unpaid" in text
    assert "Not heard" in om.get(reverse("csms:charger", args=[charger.row.pk])).content.decode()
    assert "Of it unpaid" in om.get(reverse("console-session", args=[ChargingSession.objects.get().pk])).content.decode()
    assert "may be taking more than is paid" in om.get("/admin/").content.decode()
    assert ganga.get(reverse("exposure")).status_code == 403
    assert look(user=network.ganga_user).rows == [] and len(look(user=network.om).rows) == 1
    body = exposition()[0].decode()
    assert "voltaro_sessions_exposed 1.0" in body and "voltaro_sessions_unheard 1.0" in body


def test_a_network_costs_one_statement_whatever_it_holds(charger, network, django_assert_num_queries):
    charger.drop()
    clock.shift(900)
    before = queries(signed_in(network.om), reverse("exposure"))
    for number in range(3, 9):
        cp = make_charge_point(f"VLT-000{number}", network.kaveri.company)
        for _ in range(3):
            charge(network, connector=cp.connectors.get(), state="STOPPED", number=number * 100 + _)
        charge(network, connector=cp.connectors.get(), number=number)
    with django_assert_num_queries(1):
        assert len(look().rows) == 7
    assert queries(signed_in(network.om), reverse("exposure")) == before
