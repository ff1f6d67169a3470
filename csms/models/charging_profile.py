from django.db import models
from django.db.models import Q

from accounts.models import Audited


class ChargingProfile(Audited):
    """A limit on how a charger may deliver (OCPP 1.6 §7.8): what we asked for, and what the charger said of it."""

    owner_path = "charge_point__company"

    class Purpose(models.TextChoices):
        MAX = "ChargePointMaxProfile", "The whole charger, always"
        TX_DEFAULT = "TxDefaultProfile", "Every new session"
        TX = "TxProfile", "One running session"

    class State(models.TextChoices):
        WANTED = "wanted", "To be sent"
        SENT = "sent", "Asked"
        ACTIVE = "active", "Accepted"
        REJECTED = "rejected", "Rejected"
        UNSUPPORTED = "unsupported", "Not supported"
        CLEARED = "cleared", "Cleared"
        REPLACED = "replaced", "Replaced"
        ENDED = "ended", "Over with its session"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="charging_profiles", db_index=False)
    connector_no = models.PositiveIntegerField(default=0, help_text="0: the whole charger.")
    profile_id = models.PositiveIntegerField(unique=True, help_text="chargingProfileId, from the one sequence csms_request_id.")
    purpose = models.CharField(max_length=24, choices=Purpose)
    stack_level = models.PositiveSmallIntegerField(default=0)
    kind = models.CharField(max_length=10, default="Absolute", choices=[(s, s) for s in ("Absolute", "Recurring", "Relative")])
    recurrency = models.CharField(max_length=10, blank=True, choices=[(s, s) for s in ("Daily", "Weekly")])
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_to = models.DateTimeField(null=True, blank=True)
    schedule = models.JSONField(default=dict, help_text="chargingSchedule as it was asked for, before the charger's quirks.")
    payload = models.JSONField(default=dict, blank=True, help_text="SetChargingProfile.req as it was sent last.")
    state = models.CharField(max_length=12, choices=State, default=State.WANTED)
    error = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    session = models.ForeignKey("csms.ChargingSession", models.CASCADE, null=True, blank=True, related_name="charging_profiles")
    command = models.ForeignKey("csms.Command", models.SET_NULL, null=True, blank=True, related_name="+")
    requested_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["charge_point", "-id"], name="profile_charge_point"),
            models.Index(fields=["updated_at"], condition=Q(state="wanted"), name="profile_wanted"),
            models.Index(fields=["session"], condition=Q(state="active", session__isnull=False), name="profile_active_session"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.profile_id} of {self.charge_point}"
