from django.db import models
from django.db.models import Q

from accounts.models import Recorded
from voltaro import clock


class ChargerError(Recorded):
    """A fault a charger reported (StatusNotification), open until it says NoError on that connector."""

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="errors", db_index=False)
    connector_no = models.PositiveIntegerField(default=0)
    error_code = models.CharField(max_length=50)
    status = models.CharField(max_length=20, blank=True)
    info = models.CharField(max_length=200, blank=True)
    vendor_id = models.CharField(max_length=255, blank=True)
    vendor_error_code = models.CharField(max_length=50, blank=True)
    reported_at = models.DateTimeField(default=clock.now)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["charge_point", "-id"], name="error_charge_point"),
            models.Index(fields=["charge_point", "connector_no"], condition=Q(resolved_at__isnull=True), name="error_open"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_point} / {self.connector_no}: {self.error_code}"


class SignalQuality(Recorded):
    """The modem's signal as the charger measured it (3GPP TS 27.007 CSQ: RSSI 0-31, 99 unknown; BER 0-7, 99 unknown)."""

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="signal", db_index=False)
    rssi = models.PositiveSmallIntegerField(null=True)
    ber = models.PositiveSmallIntegerField(null=True)
    temperature_c = models.SmallIntegerField(null=True)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "signal quality"
        ordering = ["-id"]
        indexes = [models.Index(fields=["charge_point", "-at"], name="signal_at")]

    def __str__(self) -> str:
        return f"{self.charge_point} RSSI {self.rssi}"
