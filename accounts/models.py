"""People, companies, and the record of who did what."""

from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q

from accounts import actor
from accounts.roles import Role, ScopedManager
from voltaro import clock


class Audited(models.Model):
    """When a row was made and last changed, and by whom (a person; machine actors stand in the audit entries)."""

    owner_path = ""
    rider_path = ""

    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, editable=False, related_name="+", db_index=False
    )
    updated_by = models.ForeignKey(
        "accounts.User", models.SET_NULL, null=True, blank=True, editable=False, related_name="+", db_index=False
    )

    objects = ScopedManager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.updated_at = clock.now()
        user = actor.current().user
        if user is not None and (user.pk != self.pk or not isinstance(self, type(user))):
            self.updated_by = user
            if self._state.adding:
                self.created_by = user
        if (fields := kwargs.get("update_fields")) is not None:
            kwargs["update_fields"] = {*fields, "updated_at", "updated_by"}
        super().save(*args, **kwargs)


class Recorded(models.Model):
    """Append-only rows keep only when they were made."""

    owner_path = ""
    rider_path = ""

    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = ScopedManager()

    class Meta:
        abstract = True


class Provider(models.TextChoices):
    LOCAL = "local", "Local password"
    OIDC = "oidc", "Identity provider"
    UPI_GUEST = "upi_guest", "UPI guest"


class User(AbstractUser):
    """A person: a driver unless a membership says more. UPI guests are made from a payment and cannot sign in."""

    provider = models.CharField(max_length=16, choices=Provider, default=Provider.LOCAL)
    phone = models.CharField(max_length=20, blank=True)
    phone_verified_at = models.DateTimeField(null=True, blank=True)
    vpa = models.CharField("UPI id", max_length=100, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["vpa"], condition=~Q(vpa=""), name="user_vpa_once"),
            models.UniqueConstraint(
                fields=["phone"], condition=Q(phone_verified_at__isnull=False) & ~Q(phone=""), name="user_verified_phone_once"
            ),
        ]


class Company(Audited):
    """Somebody who owns chargers or runs them. A franchisee is a company below the network that runs its chargers."""

    owner_path = "pk"

    name = models.CharField(max_length=200, unique=True)
    legal_name = models.CharField(max_length=200, blank=True)
    gstin = models.CharField("GSTIN", max_length=15, blank=True)
    state = models.CharField(max_length=40, blank=True, help_text="State of registration: decides CGST+SGST or IGST.")
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="children")

    class Meta:
        verbose_name_plural = "companies"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(Audited):
    """What a person may do, and for which company."""

    owner_path = "company"
    rider_path = "user"

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    company = models.ForeignKey(Company, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "company", "role"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} · {self.get_role_display()} of {self.company}"


class Vehicle(Audited):
    """A rider's car or scooter, known by its licence plate."""

    rider_path = "owner"

    owner = models.ForeignKey(User, models.CASCADE, related_name="vehicles")
    licence_plate = models.CharField(max_length=16, unique=True)
    make = models.CharField(max_length=60, blank=True)
    model = models.CharField(max_length=60, blank=True)

    def __str__(self) -> str:
        return self.licence_plate


class ApiToken(Audited):
    """A program's key to the REST API: it may do what its person may. Shown once; stored as a digest (accounts/tokens.py)."""

    rider_path = "user"

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=60, help_text="What uses it.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    beginning = models.CharField(max_length=12, editable=False, help_text="To recognise it by.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is revoked.")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API token"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.beginning}…)"


class AuditEntry(Recorded):
    """One deed or transition: who, what, on which row, and what changed. Append-only (a trigger refuses changes)."""

    actor = models.CharField(max_length=150)
    actor_type = models.CharField(max_length=16)
    user = models.ForeignKey(User, models.DO_NOTHING, null=True, blank=True, related_name="+", db_index=False, db_constraint=False)
    action = models.CharField(max_length=80)
    trigger = models.CharField(max_length=80, blank=True)
    target_type = models.CharField(max_length=60)
    target_id = models.CharField(max_length=64)
    before = models.JSONField(default=dict, blank=True)
    after = models.JSONField(default=dict, blank=True)
    company = models.ForeignKey(Company, models.DO_NOTHING, null=True, blank=True, related_name="+", db_index=False, db_constraint=False)
    at = models.DateTimeField(default=clock.now)

    owner_path = "company"

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["target_type", "target_id", "-id"], name="audit_target"),
            models.Index(fields=["action", "-id"], name="audit_action"),
            models.Index(fields=["company", "-id"], name="audit_company"),
            models.Index(fields=["-at"], name="audit_at"),
            # Failures are few among the entries, and counted by pages and metrics (accounts/failures.py).
            models.Index(fields=["-at"], include=["action", "company"], condition=Q(action__startswith="failure."), name="audit_failures"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.target_type} {self.target_id}"
