from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper

from accounts.models import Audited


class ConfigurationKey(Audited):
    """One configuration key of one charger: what it last reported (`value`) and what we want of it (`wanted`), apart.

    A key whose name says it is a secret (AuthorizationKey) has neither.
    """

    owner_path = "charge_point__company"

    class State(models.TextChoices):
        REPORTED = "reported", "Reported"  # nothing is wanted of it
        DUE = "due", "To be set"
        SENT = "sent", "Asked"
        IN_STEP = "in_step", "As wanted"
        REBOOT_REQUIRED = "reboot_required", "After a reboot"
        REJECTED = "rejected", "Rejected"
        NOT_SUPPORTED = "not_supported", "Not supported"
        DIFFERS = "differs", "Accepted, but reads otherwise"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="configuration", db_index=False)
    key = models.CharField(max_length=50)
    value = models.CharField(max_length=500, null=True, blank=True, help_text="As the charger last reported it.")
    readonly = models.BooleanField(null=True, blank=True)
    known = models.BooleanField(default=True, help_text="False: the charger says it has no such key.")
    reported_at = models.DateTimeField(null=True, blank=True)
    wanted = models.CharField(max_length=500, null=True, blank=True, help_text="What it should be.")
    wanted_by = models.CharField(max_length=80, blank=True, help_text="A quirk profile's name, or who set it here.")
    state = models.CharField(max_length=20, choices=State, default=State.REPORTED)
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["charge_point", "key"]
        constraints = [models.UniqueConstraint("charge_point", Upper("key"), name="configuration_key_once")]
        indexes = [
            models.Index(
                fields=["next_try_at"],
                condition=Q(state__in=["due", "sent", "rejected", "differs", "reboot_required"]),
                name="configuration_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.charge_point} {self.key}"
