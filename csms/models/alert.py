from django.db import models
from django.db.models import Q

from accounts.models import Audited
from voltaro import clock


class Alert(Audited):
    """Something about a charger that a person should look at; open until it is over or put away. One open row per kind."""

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="alerts", db_index=False)
    kind = models.CharField(max_length=40)
    detail = models.CharField(max_length=200, blank=True)
    count = models.PositiveIntegerField(default=1)
    raised_at = models.DateTimeField(default=clock.now)
    last_at = models.DateTimeField(default=clock.now)
    cleared_at = models.DateTimeField(null=True, blank=True)
    cleared_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-last_at"]
        constraints = [
            models.UniqueConstraint(fields=["charge_point", "kind"], condition=Q(cleared_at__isnull=True), name="alert_one_open")
        ]
        indexes = [
            models.Index(fields=["-last_at"], condition=Q(cleared_at__isnull=True), name="alert_open"),
            models.Index(fields=["charge_point", "-id"], name="alert_charge_point"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.charge_point}"
