from typing import Any

from django.db import models
from django.db.models import Q

from accounts.models import Audited
from voltaro import clock


class Tariff(Audited):
    """A price, from a day on. Never edited once used: a new version is a new row (the newest that has begun counts).

    The most specific wins: charge point, then station, then company, then everybody.
    """

    owner_path = "company"

    name = models.CharField(max_length=80)
    company = models.ForeignKey("accounts.Company", models.PROTECT, null=True, blank=True, related_name="tariffs")
    station = models.ForeignKey("csms.Station", models.CASCADE, null=True, blank=True, related_name="tariffs")
    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, null=True, blank=True, related_name="tariffs")
    rate_paise_per_kwh = models.PositiveIntegerField(help_text="Energy, before GST.")
    gst_bp = models.PositiveIntegerField("GST, basis points", default=1800)
    igst = models.BooleanField("inter-state (IGST)", default=False, help_text="One IGST amount instead of equal CGST and SGST.")
    platform_fee_bp = models.PositiveIntegerField(
        "platform fee, basis points", default=0, help_text="Of the amount paid; charged to the rider when energy was delivered."
    )
    valid_from = models.DateTimeField(default=clock.now)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["-valid_from", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(rate_paise_per_kwh__lte=1_000_000), name="tariff_rate_sane"),
            models.CheckConstraint(condition=Q(gst_bp__lte=10_000) & Q(platform_fee_bp__lte=10_000), name="tariff_percent_sane"),
        ]
        indexes = [models.Index(fields=["charge_point", "station", "company", "-valid_from"], name="tariff_lookup")]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"

    def snapshot(self) -> dict[str, Any]:
        """The price as plain data, frozen onto payments and bills."""
        return {
            "tariff_id": self.pk,
            "name": self.name,
            "version": self.version,
            "rate_paise_per_kwh": self.rate_paise_per_kwh,
            "gst_bp": self.gst_bp,
            "igst": self.igst,
            "platform_fee_bp": self.platform_fee_bp,
        }
