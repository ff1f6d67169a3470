from django.db import models
from django.db.models import Q

from accounts.models import Audited


class FirmwareImage(Audited):
    """A firmware file the operator may send to chargers. Its signature is the manufacturer's, for SignedUpdateFirmware."""

    name = models.CharField(max_length=120)
    version = models.CharField(max_length=50, help_text="As the charger's BootNotification will name it.")
    vendor = models.CharField(max_length=50, blank=True)
    model = models.CharField(max_length=50, blank=True)
    file = models.FileField(upload_to="firmware/")
    sha256 = models.CharField(max_length=64, unique=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    signature = models.TextField(blank=True, help_text="Base64, of the file (security whitepaper, L01).")
    signing_certificate = models.TextField(blank=True, help_text="PEM, the manufacturer's.")

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class FirmwareUpdate(Audited):
    """One charger's way from one firmware to another (1.6 §4.5, §5.19; signed: security whitepaper L01).

    Its end is what the charger boots with, more than what it says on the way.
    """

    owner_path = "charge_point__company"

    class State(models.TextChoices):
        REQUESTED = "requested", "Asked"
        ACCEPTED = "accepted", "Accepted"
        SCHEDULED = "scheduled", "Scheduled"
        DOWNLOADING = "downloading", "Downloading"
        DOWNLOADED = "downloaded", "Downloaded"
        INSTALLING = "installing", "Installing"
        REBOOTING = "rebooting", "Rebooting"
        INSTALLED = "installed", "Installed"
        DOWNLOAD_FAILED = "download_failed", "Download failed"
        INSTALLATION_FAILED = "installation_failed", "Installation failed"
        BAD_SIGNATURE = "bad_signature", "Signature refused"
        ROLLED_BACK = "rolled_back", "Rolled back"
        REFUSED = "refused", "Refused"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Nothing heard"

    OPEN = ("requested", "accepted", "scheduled", "downloading", "downloaded", "installing", "rebooting")

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="firmware_updates", db_index=False)
    image = models.ForeignKey(FirmwareImage, models.PROTECT)
    request_id = models.PositiveIntegerField(unique=True, help_text="From the one sequence csms_request_id.")
    signed = models.BooleanField(default=False, help_text="SignedUpdateFirmware rather than UpdateFirmware.")
    retrieve_at = models.DateTimeField()
    install_at = models.DateTimeField(null=True, blank=True)
    command = models.ForeignKey("csms.Command", models.SET_NULL, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=20, choices=State, default=State.REQUESTED)
    reported_status = models.CharField(max_length=40, blank=True, help_text="As the charger last said it.")
    reported_at = models.DateTimeField(null=True, blank=True)
    from_version = models.CharField(max_length=50, blank=True)
    to_version = models.CharField(max_length=50, blank=True, help_text="What it booted with.")
    fetched_at = models.DateTimeField(null=True, blank=True, help_text="When it first read from the download address.")
    fetched_whole_at = models.DateTimeField(null=True, blank=True, help_text="When it first read up to the last byte.")
    fetch_count = models.PositiveIntegerField(default=0, help_text="Requests; a modem that goes on where it was cut off makes many.")
    attempts = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    deadline_at = models.DateTimeField(null=True, blank=True, help_text="Nothing heard by then: expired.")
    requested_by = models.CharField(max_length=150, blank=True)
    error = models.CharField(max_length=200, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["charge_point"], condition=Q(finished_at__isnull=True), name="firmware_update_one_open")
        ]
        indexes = [
            models.Index(fields=["charge_point", "-id"], name="firmware_update_charge_point"),
            models.Index(fields=["deadline_at"], condition=Q(finished_at__isnull=True), name="firmware_update_deadline"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_point} to {self.image}"
