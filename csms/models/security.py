"""The security extension (OCPP 1.6 security whitepaper edition 3): events, certificates."""

from django.db import models
from django.db.models import Q

from accounts.models import Audited, Recorded
from voltaro import clock


class SecurityEvent(Recorded):
    """What a charger reported by SecurityEventNotification. A flood of one kind is one row with a count."""

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="security_events", db_index=False)
    type = models.CharField(max_length=50)
    tech_info = models.CharField(max_length=255, blank=True)
    at = models.DateTimeField(help_text="The charger's time when plausible, else ours.")
    received_at = models.DateTimeField(default=clock.now)
    last_received_at = models.DateTimeField(default=clock.now)
    count = models.PositiveIntegerField(default=1)
    critical = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["charge_point", "-id"], name="security_event_charge_point"),
            models.Index(fields=["charge_point", "type", "-received_at"], name="security_event_same"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_point}: {self.type}"


class ChargerCertificate(Audited):
    """A charger's own certificate: asked for by SignCertificate, made by our CA, given by CertificateSigned."""

    owner_path = "charge_point__company"

    class State(models.TextChoices):
        ASKED = "asked", "Asked for"
        REFUSED = "refused", "Refused by us"
        ISSUED = "issued", "Made"
        SENT = "sent", "Sent"
        ACCEPTED = "accepted", "Installed"
        REJECTED = "rejected", "Refused by the charger"
        FAILED = "failed", "Could not be made"
        REVOKED = "revoked", "Revoked"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="certificates", db_index=False)
    csr = models.TextField()
    chain = models.TextField(blank=True, help_text="PEM, leaf first.")
    serial = models.CharField(max_length=64, blank=True)
    sha256 = models.CharField("fingerprint", max_length=64, blank=True)
    not_before = models.DateTimeField(null=True, blank=True)
    not_after = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.ASKED)
    command = models.ForeignKey("csms.Command", models.SET_NULL, null=True, blank=True, related_name="+")
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["charge_point", "-id"], name="certificate_charge_point"),
            models.Index(fields=["id"], condition=Q(state__in=["asked", "issued"]), name="certificate_due"),
            models.Index(fields=["sha256"], name="certificate_sha256"),
            models.Index(fields=["not_after"], condition=Q(state="accepted"), name="certificate_renewal"),
        ]

    def __str__(self) -> str:
        return f"Certificate {self.serial or self.pk} of {self.charge_point}"


class RootCertificate(Audited):
    """A root certificate the operator may install on chargers."""

    class Type(models.TextChoices):
        CENTRAL_SYSTEM = "CentralSystemRootCertificate", "Of our server"
        MANUFACTURER = "ManufacturerRootCertificate", "Of the manufacturer (firmware)"

    name = models.CharField(max_length=80)
    type = models.CharField(max_length=30, choices=Type)
    pem = models.TextField()
    sha256 = models.CharField("fingerprint", max_length=64, unique=True, editable=False)
    not_after = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class InstalledCertificate(Audited):
    """A root certificate a charger says it holds (GetInstalledCertificateIds)."""

    owner_path = "charge_point__company"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="installed_certificates", db_index=False)
    type = models.CharField(max_length=30)
    hash_algorithm = models.CharField(max_length=10)
    issuer_name_hash = models.CharField(max_length=128)
    issuer_key_hash = models.CharField(max_length=128)
    serial_number = models.CharField(max_length=40)
    reported_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["charge_point", "type", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["charge_point", "type", "hash_algorithm", "issuer_name_hash", "issuer_key_hash", "serial_number"],
                name="installed_certificate_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.serial_number} on {self.charge_point}"
