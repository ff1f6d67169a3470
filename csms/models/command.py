from typing import Any

from django.db import models
from django.db.models import Q

from accounts.models import Audited


class CommandState(models.TextChoices):
    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ERROR = "error"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"
    EFFECTIVE = "effective"
    EXPIRED = "expired"


class CommandBatch(Audited):
    """One deed asked of many chargers: each has its own command, with its own life."""

    owner_path = "company"

    company = models.ForeignKey("accounts.Company", models.PROTECT, null=True, blank=True, related_name="+", db_index=False)
    action = models.CharField(max_length=50)
    payload = models.JSONField(default=dict, blank=True)
    requested_by = models.CharField(max_length=150, blank=True)
    spread_s = models.PositiveIntegerField(default=0, help_text="Each is sent at a moment of its own within so many seconds.")
    key = models.CharField(max_length=64, unique=True, null=True, blank=True, help_text="Asking twice under one key asks once.")
    refused = models.JSONField(default=dict, blank=True, help_text="Chargers that were not asked (their number), and why.")

    class Meta:
        verbose_name_plural = "command batches"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.action} #{self.pk}"


class Command(Audited):
    """Something we ask of a charger, durable from the asking to the effect.

    queued -> sent -> accepted | rejected | error | timeout | unknown -> effective | expired. `accepted` is the
    charger's word, not the deed. One is in flight per charger.
    """

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="commands", db_index=False)
    action = models.CharField(max_length=50)
    payload = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=CommandState, default=CommandState.QUEUED)
    unique_id = models.CharField("OCPP message id", max_length=36, unique=True)
    dedupe_key = models.CharField(max_length=100, unique=True, null=True, blank=True, help_text="Asking twice under one key asks once.")
    session = models.ForeignKey("csms.ChargingSession", models.CASCADE, null=True, blank=True, related_name="commands")
    permit = models.ForeignKey("csms.IdTag", models.CASCADE, null=True, blank=True, related_name="commands")
    batch = models.ForeignKey(CommandBatch, models.SET_NULL, null=True, blank=True, related_name="commands")
    # Asked by us, not by a person or a rider: waits until the charger has settled after connecting.
    background = models.BooleanField(default=False)
    # Of a key that is made when the frame is sent, and can be made again from this alone by whoever has the pepper; emptied at the end.
    secret = models.CharField(max_length=64, blank=True, editable=False)
    # What is sent, when `payload` does not say it all because it is a secret: readable by the sender alone (csms/sealed.py), and
    # emptied when it has been sent, or will not be.
    sealed = models.TextField(blank=True, editable=False)
    trigger = models.CharField(max_length=80, blank=True, help_text="Why it was asked.")
    requested_by = models.CharField(max_length=150, blank=True)
    send_after = models.DateTimeField(null=True, blank=True, help_text="Not sent before this; empty: at once.")
    expires_at = models.DateTimeField(help_text="Not sent after this; once promised, its effect is not waited for longer.")
    epoch = models.PositiveIntegerField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    response = models.JSONField(null=True, blank=True)
    error = models.CharField(max_length=255, blank=True)
    note = models.CharField(max_length=255, blank=True, help_text="What was odd about the answer, or what showed its effect.")

    # What is sent instead of `payload`, once it was claimed for sending (csms/commands.py: next_to_send).
    secret_payload: dict[str, Any] | None = None

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["charge_point", "id"], condition=Q(state="queued"), name="command_queued"),
            models.Index(fields=["charge_point", "-id"], name="command_charge_point"),
            models.Index(fields=["sent_at"], condition=Q(state="sent"), name="command_sent"),
            # What may still show its effect: a boot, a status, a start asks for it.
            models.Index(
                fields=["charge_point", "action"],
                condition=Q(state__in=["sent", "accepted", "timeout", "unknown"]),
                name="command_effect",
            ),
            models.Index(fields=["requested_by", "-id"], condition=Q(batch__isnull=True), name="command_requested_by"),
            models.Index(fields=["expires_at"], condition=Q(state__in=["queued", "accepted", "timeout", "unknown"]), name="command_open"),
        ]

    def __str__(self) -> str:
        return f"{self.action} → {self.charge_point_id} ({self.state})"
