from django.db import models
from django.db.models import Q

from accounts.models import Audited


class LocalList(Audited):
    """A charger's local authorization list: what it should hold (`wanted_version`) and what it says it holds, apart."""

    owner_path = "charge_point__company"

    class State(models.TextChoices):
        DUE = "due", "To be sent"
        SENDING = "sending", "Being sent"
        IN_STEP = "in_step", "In step"
        UNSUPPORTED = "unsupported", "Not supported"
        FAILED = "failed", "Failed"

    charge_point = models.OneToOneField("csms.ChargePoint", models.CASCADE, related_name="local_list")
    enabled = models.BooleanField(default=True)
    state = models.CharField(max_length=12, choices=State, default=State.DUE)
    wanted_version = models.PositiveIntegerField(default=1)
    wanted_digest = models.CharField(max_length=64, blank=True)
    sent_entries = models.JSONField(default=dict, blank=True, help_text="Of the last version the charger accepted: tag to digest.")
    sent_version = models.PositiveIntegerField(null=True, blank=True, help_text="Of what it accepted; empty: only a full list will do.")
    reported_version = models.IntegerField(null=True, blank=True, help_text="-1: the charger says it has no lists.")
    reported_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["charge_point"]
        indexes = [models.Index(fields=["next_try_at"], condition=Q(enabled=True), name="local_list_due")]

    def __str__(self) -> str:
        return f"Local list of {self.charge_point}"
