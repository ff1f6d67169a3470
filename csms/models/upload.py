from django.db import models
from django.db.models import Q

from accounts.models import Audited


class ChargerUpload(Audited):
    """A file a charger was asked to send: diagnostics or a log. Stored as it came, never read by us."""

    owner_path = "charge_point__company"

    class Kind(models.TextChoices):
        DIAGNOSTICS = "diagnostics", "Diagnostics (GetDiagnostics)"
        DIAGNOSTICS_LOG = "DiagnosticsLog", "Diagnostics log (GetLog)"
        SECURITY_LOG = "SecurityLog", "Security log (GetLog)"

    class State(models.TextChoices):
        REQUESTED = "requested", "Asked"
        UPLOADING = "uploading", "Uploading"
        UPLOADED = "uploaded", "Uploaded"
        NOTHING = "nothing", "Nothing to upload"
        FAILED = "failed", "Failed"
        REFUSED = "refused", "Refused"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Nothing came"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="uploads", db_index=False)
    kind = models.CharField(max_length=16, choices=Kind)
    request_id = models.PositiveIntegerField(unique=True, help_text="From the one sequence csms_request_id.")
    command = models.ForeignKey("csms.Command", models.SET_NULL, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=12, choices=State, default=State.REQUESTED)
    reported_status = models.CharField(max_length=40, blank=True, help_text="As the charger last said it.")
    reported_at = models.DateTimeField(null=True, blank=True)
    reported_name = models.CharField("file name, as the charger calls it", max_length=255, blank=True)
    from_at = models.DateTimeField(null=True, blank=True)
    to_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(help_text="The upload address is good until then.")
    file = models.FileField(upload_to="uploads/", blank=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    received_at = models.DateTimeField(null=True, blank=True)
    requested_by = models.CharField(max_length=150, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["charge_point", "-id"], name="upload_charge_point"),
            models.Index(fields=["expires_at"], condition=Q(state__in=["requested", "uploading"]), name="upload_open"),
            models.Index(fields=["received_at"], condition=~Q(file=""), name="upload_stored"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.charge_point}"
