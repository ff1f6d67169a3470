from django.db import models

from accounts.models import Recorded
from voltaro import clock


class WebhookEvent(Recorded):
    """One event from Razorpay, raw, stored once by its event id. A bell: what is true is asked of Razorpay after."""

    class State(models.TextChoices):
        NEW = "new", "To be worked on"
        DONE = "done", "Done"
        IGNORED = "ignored", "Not ours, or nothing to do"
        FAILED = "failed", "Failed, will be tried again"

    event_id = models.CharField(max_length=100, unique=True)
    event = models.CharField(max_length=60)
    account_id = models.CharField(max_length=40, blank=True)
    raw = models.BinaryField()
    payload = models.JSONField(default=dict)
    payment_id = models.CharField(max_length=40, blank=True)
    qr_id = models.CharField(max_length=40, blank=True)
    event_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField(default=clock.now)
    repeats = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State, default=State.NEW)
    note = models.CharField(max_length=300, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    retry_at = models.DateTimeField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(state__in=["new", "failed"]), name="webhook_due"),
            models.Index(fields=["payment_id"], name="webhook_payment"),
            models.Index(fields=["event", "-id"], name="webhook_event"),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.event_id}"
