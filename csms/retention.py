"""Bounded memory: frames and readings past their retention are deleted in batches, oldest first.

Frames of sessions under dispute or held for review stay. Heartbeats, most of all frames, go sooner.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from csms.models import ChargingSession, MeterReading, OcppMessage

# Heartbeats are looked for this far behind their time: among frames kept for half a year, the look would cost more every day.
# What a longer pause of the sweep leaves goes with the other frames.
LOOK_BACK = timedelta(days=3)
KEEP_FLAGS = ["disputed", "held", "suspect"]


def old_frames(now: datetime) -> QuerySet[OcppMessage]:
    """Frames past FRAME_RETENTION_DAYS (heartbeats: HEARTBEAT_RETENTION_DAYS), but for those of disputed sessions."""
    disputed = ChargingSession.objects.filter(
        charge_point=OuterRef("charge_point"),
        flags__overlap=KEEP_FLAGS,
        started_at__lte=OuterRef("at"),
        ended_at__gte=OuterRef("at"),
    )
    heartbeats = now - timedelta(days=settings.HEARTBEAT_RETENTION_DAYS)
    return OcppMessage.objects.filter(
        Q(at__lt=now - timedelta(days=settings.FRAME_RETENTION_DAYS))
        | Q(at__lt=heartbeats, at__gte=heartbeats - LOOK_BACK, action="Heartbeat")
    ).exclude(Exists(disputed))


def frames_due(now: datetime, limit: int) -> int:
    """Delete up to `limit` x 50 frames; in order of the table, so that the work is bounded whatever its size."""
    return _delete(old_frames(now), limit * 50)


def old_readings(now: datetime) -> QuerySet[MeterReading]:
    return MeterReading.objects.filter(at__lt=now - timedelta(days=settings.READING_RETENTION_DAYS))


def readings_due(now: datetime, limit: int) -> int:
    """Delete up to `limit` x 50 readings."""
    return _delete(old_readings(now), limit * 50)


def _delete(rows: QuerySet, batch: int) -> int:  # type: ignore[type-arg]
    with transaction.atomic():
        oldest = list(rows.order_by("pk").values_list("pk", flat=True)[:batch])
        deleted = rows.model.objects.filter(pk__in=oldest)._raw_delete("default") if oldest else 0
    # The caller comes back at once while a whole batch was found.
    return deleted if deleted >= batch else 0
