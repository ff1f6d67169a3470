"""Bounded memory: frames and readings past their retention are deleted in batches, oldest first.

Frames of sessions under dispute or held for review stay. Heartbeats, most of all frames, go sooner.
"""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from csms.by_time import between
from csms.doubts import DISPUTED
from csms.models import ChargingSession, MeterReading, OcppMessage
from csms.rules.session import HELD

# Heartbeats are looked for this far behind their time: among frames kept for half a year, the look would cost more every day.
# What a longer pause of the sweep leaves goes with the other frames.
LOOK_BACK = timedelta(days=3)
KEEP_FLAGS = [DISPUTED, HELD, "suspect"]
# Of a session that is kept, what its replay shows (csms/replay.py).
KEEP_AROUND = timedelta(minutes=1)
_EVER = datetime(2000, 1, 1, tzinfo=UTC)


def old_frames(now: datetime) -> QuerySet[OcppMessage]:
    """Frames past FRAME_RETENTION_DAYS (heartbeats: HEARTBEAT_RETENTION_DAYS), but for those of disputed sessions."""
    return _old(now).union(_old_heartbeats(now), all=True)


def frames_due(now: datetime, limit: int) -> int:
    """Delete up to `limit` x 50 frames. Looks at those past their time only, found by their ids, whatever the table holds."""
    batch = limit * 50
    deleted = _delete(_old(now), batch)
    if deleted < batch:
        deleted += _delete(_old_heartbeats(now), batch - deleted)
    # The caller comes back at once while a whole batch was found.
    return deleted if deleted >= batch else 0


def _old(now: datetime) -> QuerySet[OcppMessage]:
    return _undisputed(_EVER, now - timedelta(days=settings.FRAME_RETENTION_DAYS))


def _old_heartbeats(now: datetime) -> QuerySet[OcppMessage]:
    until = now - timedelta(days=settings.HEARTBEAT_RETENTION_DAYS)
    since = max(until - LOOK_BACK, now - timedelta(days=settings.FRAME_RETENTION_DAYS))
    return _undisputed(since, max(since, until)).filter(action="Heartbeat")


def _undisputed(since: datetime, until: datetime) -> QuerySet[OcppMessage]:
    disputed = ChargingSession.objects.filter(
        charge_point=OuterRef("charge_point"),
        flags__overlap=KEEP_FLAGS,
        started_at__lte=OuterRef("at") + KEEP_AROUND,
        ended_at__gte=OuterRef("at") - KEEP_AROUND,
    )
    return between(OcppMessage.objects.all(), since, until).exclude(Exists(disputed))


def old_readings(now: datetime) -> QuerySet[MeterReading]:
    """By when we heard of them: a charger whose clock stands in 1970 says what is true all the same."""
    return between(MeterReading.objects.all(), _EVER, now - timedelta(days=settings.READING_RETENTION_DAYS), "received_at")


def readings_due(now: datetime, limit: int) -> int:
    """Delete up to `limit` x 50 readings."""
    deleted = _delete(old_readings(now), limit * 50)
    return deleted if deleted >= limit * 50 else 0


def _delete(rows: QuerySet, batch: int) -> int:  # type: ignore[type-arg]
    with transaction.atomic():
        oldest = list(rows.order_by("pk").values_list("pk", flat=True)[:batch])
        return rows.model.objects.filter(pk__in=oldest)._raw_delete("default") if oldest else 0
