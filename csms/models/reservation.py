from django.db import models
from django.db.models import Q

from accounts.models import Audited


class Reservation(Audited):
    """A connector kept for a tag (OCPP 1.6 §5.13 ReserveNow). The truth is here; the charger is told.

    `connector` empty: any connector of the charger (connectorId 0).
    """

    owner_path = "charge_point__company"
    rider_path = "id_tag__user"

    class State(models.TextChoices):
        REQUESTED = "requested", "Asked"
        ACTIVE = "active", "Kept"
        USED = "used", "Used"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Expired"
        REFUSED = "refused", "Refused"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="reservations", db_index=False)
    connector = models.ForeignKey("csms.Connector", models.CASCADE, null=True, blank=True, related_name="reservations", db_index=False)
    reservation_id = models.PositiveIntegerField(unique=True, help_text="From the one sequence csms_request_id.")
    id_tag = models.ForeignKey("csms.IdTag", models.PROTECT, related_name="reservations")
    expires_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State, default=State.REQUESTED)
    status = models.CharField("charger's answer", max_length=20, blank=True)
    command = models.ForeignKey("csms.Command", models.SET_NULL, null=True, blank=True, related_name="+")
    session = models.ForeignKey("csms.ChargingSession", models.SET_NULL, null=True, blank=True, related_name="reservations")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["connector"],
                condition=Q(state__in=["requested", "active"], connector__isnull=False),
                name="reservation_one_per_connector",
            )
        ]
        indexes = [
            models.Index(fields=["expires_at"], condition=Q(state__in=["requested", "active"]), name="reservation_open"),
            models.Index(fields=["charge_point", "-id"], name="reservation_charge_point"),
        ]

    def __str__(self) -> str:
        return f"{self.connector or self.charge_point} until {self.expires_at}"
