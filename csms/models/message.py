from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from accounts.models import Recorded
from voltaro import clock


class Direction(models.TextChoices):
    IN = "IN", "From charger"
    OUT = "OUT", "To charger"


class OcppMessage(Recorded):
    """One raw frame, byte for byte as it crossed the wire. Request and answer share the correlation id."""

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="messages", db_index=False)
    direction = models.CharField(max_length=3, choices=Direction)
    correlation_id = models.CharField(max_length=64, blank=True)
    message_type = models.PositiveSmallIntegerField(default=0, help_text="2 CALL, 3 CALLRESULT, 4 CALLERROR, 0 unreadable")
    action = models.CharField(max_length=50, blank=True)
    raw = models.BinaryField()
    note = models.CharField(max_length=500, blank=True, help_text="What was repaired before it was understood, or why it was not.")
    duration_ms = models.PositiveIntegerField(null=True, blank=True, help_text="From the request to this answer.")
    epoch = models.PositiveIntegerField(default=0)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = "OCPP message"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["charge_point", "-id"], name="message_charge_point"),
            BrinIndex(fields=["at"], name="message_at", pages_per_range=32, autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.action} {self.correlation_id}"

    @property
    def text(self) -> str:
        """The frame as text for people; what is not UTF-8 is shown escaped."""
        return bytes(self.raw).decode("utf-8", "backslashreplace")
