from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper

from accounts.models import Audited
from voltaro import clock


class OnboardingWindow(Audited):
    """The operator's word that new chargers may knock until `closes_at`: they are let in as Pending, and wait to be claimed."""

    owner_path = "company"

    company = models.ForeignKey("accounts.Company", models.PROTECT, related_name="+")
    opened_by = models.ForeignKey("accounts.User", models.SET_NULL, null=True, related_name="+")
    opened_at = models.DateTimeField(default=clock.now)
    closes_at = models.DateTimeField()
    let_in = models.PositiveIntegerField(default=0, help_text="How many chargers came in through it.")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["closes_at"], name="onboarding_closes")]

    def __str__(self) -> str:
        return f"until {self.closes_at}"


class UnknownCharger(Audited):
    """Somebody who knocked under an identity we do not know: the onboarding inbox."""

    class State(models.TextChoices):
        NEW = "new", "Waiting"
        CLAIMED = "claimed", "Claimed"
        BLOCKED = "blocked", "Blocked"

    identity = models.CharField(max_length=48)
    address = models.CharField(max_length=64, blank=True, help_text="Where it last came from.")
    attempts = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField(default=clock.now)
    last_at = models.DateTimeField(default=clock.now)
    had_key = models.BooleanField(default=False, help_text="It showed a password.")
    state = models.CharField(max_length=10, choices=State, default=State.NEW)
    charge_point = models.OneToOneField(
        "csms.ChargePoint", models.SET_NULL, null=True, blank=True, related_name="knock", help_text="Once it was let in."
    )

    class Meta:
        ordering = ["-last_at"]
        constraints = [models.UniqueConstraint(Upper("identity"), name="unknown_charger_once")]
        indexes = [
            models.Index(fields=["-last_at"], condition=Q(state="new"), name="unknown_charger_new"),
            models.Index(fields=["-last_at"], name="unknown_charger_last"),
        ]

    def __str__(self) -> str:
        return self.identity
