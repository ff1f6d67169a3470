from django.db import models

from accounts.models import Recorded
from voltaro import clock


class Connection(Recorded):
    """One socket of one charger: which process owns it, from when to when, and how it ended.

    The newest `epoch` of a charger owns it; an older one is fenced (its presence is not believed, its facts are).
    A start-up sweep ends only the rows of processes whose lease ran out.
    """

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="connections", db_index=False)
    epoch = models.PositiveIntegerField()
    process = models.CharField(max_length=80)
    channel = models.CharField(max_length=120)
    lease_until = models.DateTimeField()
    remote_address = models.CharField(max_length=64, blank=True)
    subprotocol = models.CharField(max_length=16, blank=True)
    security_profile = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="What it showed at the door was good for this one."
    )
    opened_at = models.DateTimeField(default=clock.now)
    closed_at = models.DateTimeField(null=True, blank=True)
    close_code = models.PositiveIntegerField(null=True, blank=True)
    close_reason = models.CharField(max_length=80, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["charge_point", "epoch"], name="connection_epoch_once")]
        indexes = [
            models.Index(fields=["process"], condition=models.Q(closed_at__isnull=True), name="connection_open"),
            models.Index(fields=["lease_until"], condition=models.Q(closed_at__isnull=True), name="connection_lease"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_point} #{self.epoch}"
