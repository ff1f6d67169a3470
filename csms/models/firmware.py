from django.db import models

from accounts.models import Audited


class FirmwareImage(Audited):
    """A firmware file the operator may send to chargers."""

    name = models.CharField(max_length=120)
    version = models.CharField(max_length=50)
    vendor = models.CharField(max_length=50, blank=True)
    model = models.CharField(max_length=50, blank=True)
    file = models.FileField(upload_to="firmware/")
    sha256 = models.CharField(max_length=64, unique=True)
    size_bytes = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class FirmwareUpdate(Audited):
    """One charger's way from one firmware to another."""

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="firmware_updates")
    image = models.ForeignKey(FirmwareImage, models.PROTECT)
    command = models.ForeignKey("csms.Command", models.SET_NULL, null=True, blank=True)
    state = models.CharField(max_length=30, default="requested")
    from_version = models.CharField(max_length=50, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.charge_point} to {self.image}"
