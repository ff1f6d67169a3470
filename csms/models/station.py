"""Sites, charge points, connectors, and what is known of a model's habits."""

import secrets
import uuid
from datetime import datetime, timedelta

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper

from accounts.models import Audited

# No 0/O, 1/I/L: people read these aloud and type them.
CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


def new_code() -> str:
    """A public code of 8 characters: what stands on the sticker; says nothing about the OCPP identity."""
    number = secrets.randbelow(len(CODE_ALPHABET) ** 8)  # asked of the system once: every row of a charger begins with this
    return "".join(CODE_ALPHABET[number // len(CODE_ALPHABET) ** place % len(CODE_ALPHABET)] for place in range(8))


class Station(Audited):
    """A site: where chargers stand."""

    owner_path = "company"

    name = models.CharField(max_length=120)
    address = models.TextField(blank=True)
    city = models.CharField(max_length=80, blank=True)
    state = models.CharField(max_length=40, blank=True)
    pin_code = models.CharField(max_length=6, blank=True)
    latitude = models.DecimalField(max_digits=9, decimal_places=6, null=True, blank=True)
    longitude = models.DecimalField(max_digits=9, decimal_places=6, null=True, blank=True)
    company = models.ForeignKey("accounts.Company", models.PROTECT, related_name="stations")
    owner = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Registration(models.TextChoices):
    """OCPP 1.6 §7.40 RegistrationStatus."""

    ACCEPTED = "Accepted"
    PENDING = "Pending"
    REJECTED = "Rejected"


class QuirkProfile(Audited):
    """How a vendor's model or firmware differs from the standard, as data (csms/rules/habits.py names the settings).

    Patterns are compared without regard to case; `*` stands for anything, an empty one matches everything.
    """

    name = models.CharField(max_length=80, unique=True)
    vendor = models.CharField(max_length=60, blank=True)
    model = models.CharField(max_length=60, blank=True)
    firmware = models.CharField(max_length=60, blank=True)
    settings = models.JSONField(default=dict, blank=True)
    active = models.BooleanField(default=True)
    note = models.CharField(max_length=300, blank=True, help_text="What was seen, and where.")

    def __str__(self) -> str:
        return self.name


class Availability(models.TextChoices):
    """OCPP 1.6 §7.3 AvailabilityType."""

    OPERATIVE = "Operative"
    INOPERATIVE = "Inoperative"


class ChargePoint(Audited):
    """A charger. `cp_id` is its OCPP identity (the last part of its URL): unique, never changed, never shown in public."""

    owner_path = "company"

    cp_id = models.CharField(
        "charge point id",
        max_length=48,
        unique=True,
        validators=[RegexValidator(r"^[A-Za-z0-9*\-_=+|@.]{1,48}$", "Letters, digits and * - _ = + | @ . only, 48 at most.")],
    )
    public_code = models.CharField(max_length=8, unique=True, default=new_code, editable=False)
    station = models.ForeignKey(Station, models.PROTECT, null=True, blank=True, related_name="charge_points")
    company = models.ForeignKey("accounts.Company", models.PROTECT, related_name="charge_points")
    serial_number = models.CharField(max_length=50, unique=True, null=True, blank=True)
    reported_serial = models.CharField(max_length=50, blank=True)
    vendor = models.CharField(max_length=50, blank=True)
    model = models.CharField(max_length=50, blank=True)
    firmware_version = models.CharField(max_length=50, blank=True)
    ocpp_version = models.CharField(max_length=8, blank=True)
    status = models.CharField(max_length=20, blank=True, help_text="What the charger last said of itself (connector 0).")
    error_code = models.CharField(max_length=50, blank=True)
    registration = models.CharField(max_length=10, choices=Registration, default=Registration.ACCEPTED)
    blocked = models.BooleanField(default=False, help_text="A blocked charger is refused at the door.")
    unclaimed = models.BooleanField(default=False, help_text="Came in through an onboarding window; nobody has claimed it yet.")
    availability_wanted = models.CharField(
        max_length=12, choices=Availability, default=Availability.OPERATIVE, help_text="Of the whole charger; what it says is its status."
    )
    availability_wanted_at = models.DateTimeField(null=True, blank=True, help_text="When somebody last said so; empty: nobody ever did.")
    # Credentials: a keyed hash of a 160-bit random key (docs/decisions/0005). Profile 0 means no key at all.
    security_profile = models.PositiveSmallIntegerField(default=1)
    credentials_hash = models.CharField(max_length=64, blank=True)
    # While a key is being changed both open the door; the first connect with the new one makes it the only one.
    pending_credentials_hash = models.CharField(max_length=64, blank=True)
    pending_security_profile = models.PositiveSmallIntegerField(null=True, blank=True)
    credentials_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="Since when its key is the one it is.")
    pending_since = models.DateTimeField(null=True, blank=True, editable=False, help_text="Of a new key or profile nobody has used yet.")
    certificate_name = models.CharField(
        max_length=64,
        blank=True,
        help_text="Common name its client certificate must bear (profile 3); empty: its identity or serial number.",
    )
    quirk_profile = models.ForeignKey(
        QuirkProfile, models.SET_NULL, null=True, blank=True, help_text="Chosen by hand; empty: whatever matches its vendor and model."
    )
    quirk_settings = models.JSONField(default=dict, blank=True, help_text="This charger's own, over those of its profiles.")
    learned = models.JSONField(default=dict, blank=True, help_text="What its answers taught us of this firmware.")
    # Which socket owns this charger: raised by every claim (docs/one-message.md).
    epoch = models.PositiveIntegerField(default=0, editable=False)
    online = models.BooleanField(default=False, editable=False)
    boot_count = models.PositiveIntegerField(default=0, editable=False)
    last_boot = models.DateTimeField(null=True, blank=True)
    last_heartbeat = models.DateTimeField(null=True, blank=True)
    last_seen = models.DateTimeField(null=True, blank=True, help_text="Any frame; written at most every 20 seconds.")
    last_updated = models.DateTimeField(null=True, blank=True, help_text="Last status.")
    last_answer = models.DateTimeField(null=True, blank=True, help_text="When it last answered a command of ours.")
    clock_offset_s = models.IntegerField(null=True, blank=True, help_text="Its clock minus ours, as its last boot or status showed it.")

    class Meta:
        ordering = ["cp_id"]
        # Chargers get the case of their own name wrong; two that differ only in case could not be told apart.
        constraints = [models.UniqueConstraint(Upper("cp_id"), name="charge_point_once_in_any_case")]
        indexes = [
            models.Index(fields=["company", "cp_id"], name="charge_point_company"),
            # Not last_seen: it changes with every sign of life, and an indexed column makes each of those write every index.
            models.Index(fields=["online"], name="charge_point_online"),
            models.Index(fields=["pending_since"], condition=Q(pending_since__isnull=False), name="charge_point_pending"),
        ]

    def __str__(self) -> str:
        return self.cp_id

    def by_our_clock(self, at: datetime) -> datetime:
        """A time that this charger told, put right by what its clock is known to be off."""
        return at - timedelta(seconds=self.clock_offset_s or 0)


class ConnectorType(models.TextChoices):
    SOCKET = "socket", "15 A socket"
    TYPE2 = "type2", "Type 2"
    CCS2 = "ccs2", "CCS2"
    CHADEMO = "chademo", "CHAdeMO"
    BHARAT_DC = "gbt", "GB/T (Bharat DC-001)"


class Connector(Audited):
    """One outlet of a charger. Its `code` is what stands on the QR sticker."""

    owner_path = "charge_point__company"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    charge_point = models.ForeignKey(ChargePoint, models.CASCADE, to_field="cp_id", related_name="connectors")
    connector_id = models.PositiveIntegerField(help_text="The charger's own number for it, from 1.")
    code = models.CharField(max_length=8, unique=True, default=new_code, editable=False)
    type = models.CharField(max_length=10, choices=ConnectorType, default=ConnectorType.CCS2)
    max_power_w = models.PositiveIntegerField(default=60_000)
    availability_wanted = models.CharField(max_length=12, choices=Availability, default=Availability.OPERATIVE)
    availability_wanted_at = models.DateTimeField(null=True, blank=True, help_text="When somebody last said so; empty: nobody ever did.")
    availability_asserted_at = models.DateTimeField(null=True, blank=True, help_text="When it was last asked again by itself.")
    status = models.CharField(max_length=20, default="Unknown")
    error_code = models.CharField(max_length=50, blank=True)
    info = models.CharField(max_length=200, blank=True)
    vendor_error_code = models.CharField(max_length=50, blank=True)
    last_updated = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["charge_point", "connector_id"]
        constraints = [
            models.UniqueConstraint(fields=["charge_point", "connector_id"], name="connector_once"),
            models.CheckConstraint(condition=Q(connector_id__gte=1), name="connector_from_1"),
        ]
        indexes = [
            models.Index(fields=["charge_point"], condition=Q(availability_wanted_at__isnull=False), name="connector_availability"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_point_id} / {self.connector_id}"
