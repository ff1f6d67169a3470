"""Bounded memory: what is past its time goes in batches, what is disputed stays."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from csms import retention
from csms.models import ChargingSession, MeterReading, OcppMessage
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    return Charger(network.kaveri_charger)


def frames(charger: Charger, days_ago: float, action: str = "MeterValues", count: int = 1) -> list[int]:
    """Frames of this charger, so many days old: their keys."""
    at = clock.now() - timedelta(days=days_ago)
    rows = [OcppMessage(charge_point=charger.row, direction="IN", action=action, raw=b"[]", at=at) for _ in range(count)]
    return [row.pk for row in OcppMessage.objects.bulk_create(rows)]


def left() -> set[int]:
    return set(OcppMessage.objects.values_list("pk", flat=True))


def sweep() -> int:
    return retention.frames_due(clock.now(), 100)


def test_frames_go_after_180_days_and_heartbeats_after_14(charger):
    old, young = frames(charger, 181), frames(charger, 179)
    old += frames(charger, 15, "Heartbeat")
    young += frames(charger, 15, "StatusNotification") + frames(charger, 13, "Heartbeat")
    assert set(retention.old_frames(clock.now()).values_list("pk", flat=True)) == set(old)
    sweep()
    assert left() == set(young)


def test_heartbeats_are_looked_for_near_their_time_only(charger):
    """An hourly look over half a year of frames, for the few that a longer pause left, would cost more every day."""
    missed, due = frames(charger, 18, "Heartbeat"), frames(charger, 16.9, "Heartbeat")
    assert list(retention.old_frames(clock.now()).values_list("pk", flat=True)) == due
    clock.shift(163 * 86_400)
    assert list(retention.old_frames(clock.now()).order_by("pk").values_list("pk", flat=True)) == missed


def test_the_days_are_settings(charger, settings):
    settings.FRAME_RETENTION_DAYS = 30
    frames(charger, 31)
    sweep()
    assert left() == set()


@pytest.mark.parametrize("flag", retention.KEEP_FLAGS)
def test_frames_of_a_session_under_dispute_stay(charger, flag):
    began = clock.now() - timedelta(days=200)
    charger.start(tag="CARD")
    charger.stop(0)
    OcppMessage.objects.all().delete()
    ChargingSession.objects.update(started_at=began, ended_at=began + timedelta(hours=1), flags=[flag])
    before, at_its_start, during = frames(charger, 200.001), frames(charger, 200.0005), frames(charger, 199.99)
    heartbeat, after = frames(charger, 199.98, "Heartbeat"), frames(charger, 199.9)
    sweep()
    assert left() == {*at_its_start, *during, *heartbeat}
    assert not {*before, *after} & left()


def test_a_dispute_at_one_charger_keeps_nothing_of_another(charger, network):
    began = clock.now() - timedelta(days=200)
    charger.start(tag="CARD")
    charger.stop(0)
    OcppMessage.objects.all().delete()
    ChargingSession.objects.update(started_at=began, ended_at=began + timedelta(hours=1), flags=["disputed"])
    frames(Charger(network.ganga_charger), 199.99)
    sweep()
    assert left() == set()


def test_a_sweep_takes_a_bounded_batch_and_says_when_there_is_more(charger):
    keys = frames(charger, 200, count=120)
    assert retention.frames_due(clock.now(), 1) == 50
    assert left() == set(keys[50:])  # the oldest first
    assert retention.frames_due(clock.now(), 1) == 50
    assert retention.frames_due(clock.now(), 1) == 0
    assert left() == set()


def test_readings_go_after_three_years_and_the_session_keeps_its_energy(charger):
    charger.start(tag="CARD", meter=0)
    charger.charge(0, 1_000)
    charger.stop(1_000)
    readings = MeterReading.objects.count()
    old = MeterReading.objects.order_by("pk").first()
    MeterReading.objects.filter(pk=old.pk).update(received_at=clock.now() - timedelta(days=1_096))
    retention.readings_due(clock.now(), 10)
    assert MeterReading.objects.count() == readings - 1 and not MeterReading.objects.filter(pk=old.pk).exists()
    assert ChargingSession.objects.get().energy_wh == 1_000


def test_a_sweep_looks_at_what_is_past_its_time_only(charger):
    """Held by the plans: an hourly walk over half a year of frames would cost more every day."""
    rows = [
        OcppMessage(
            charge_point=charger.row,
            direction="IN",
            action="Heartbeat" if n % 3 == 0 and n > 3_400 else "MeterValues",
            raw=b"[]",
            at=clock.now() - timedelta(days=178) + timedelta(hours=n),
        )
        for n in range(178 * 24)
    ]
    OcppMessage.objects.bulk_create(rows)
    old = rows[0]
    OcppMessage.objects.filter(action="Heartbeat", at__lt=clock.now() - timedelta(days=14, hours=2))._raw_delete("default")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE csms_ocppmessage")
    clock.shift(2 * 86_400 - 3_600 * 20)
    with CaptureQueriesContext(connection) as seen:
        sweep()
    looked = [query["sql"] for query in seen.captured_queries if query["sql"].startswith("SELECT") and "csms_ocppmessage" in query["sql"]]
    assert len(looked) == 2 and OcppMessage.objects.filter(pk=old.pk).exists()
    for query in looked:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query)
            [[plan]] = cursor.fetchone()
        assert _read(plan["Plan"]) < 200, query


def _read(plan) -> int:
    own = plan["Actual Rows"] * plan["Actual Loops"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
    return own + sum(_read(inner) for inner in plan.get("Plans", []))


def test_a_sweep_with_nothing_to_do_deletes_nothing(charger):
    kept = frames(charger, 1)
    assert sweep() == 0 and retention.readings_due(clock.now(), 10) == 0
    assert left() == set(kept)
