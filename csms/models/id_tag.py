from django.db import models
from django.db.models import Q

from accounts.models import Audited


class IdTag(Audited):
    """A permit to charge. RFID tags live long; a one-time tag is written for one payment, one connector, one start.

    The row is the arbiter of "start or refund": whoever starts and whoever gives the money back lock it first.
    """

    owner_path = "company"
    rider_path = "user"

    class Kind(models.TextChoices):
        RFID = "rfid", "RFID card"
        ONE_TIME = "one_time", "One payment"

    class State(models.TextChoices):
        READY = "ready", "May charge"
        USED = "used", "Used"
        REVOKED = "revoked", "Revoked"
        BLOCKED = "blocked", "Blocked"

    tag = models.CharField(max_length=20, unique=True, help_text="Upper case, letters and digits only: how tags are compared.")
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.RFID)
    state = models.CharField(max_length=10, choices=State, default=State.READY)
    parent = models.CharField("parent tag", max_length=20, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    concurrent = models.BooleanField("may charge at several connectors at once", default=False)
    note = models.CharField(max_length=120, blank=True, help_text="Whose card it is, for people.")
    # What an external authorizer last said of it; a tag of our own has neither.
    source = models.CharField(max_length=10, default="own", choices=[("own", "Our own"), ("external", "External authorizer")])
    checked_at = models.DateTimeField(null=True, blank=True, help_text="When the external authorizer last answered.")
    external_status = models.CharField("authorizer's answer", max_length=16, blank=True)
    refresh_at = models.DateTimeField(null=True, blank=True, help_text="It did not answer: to be asked again then.")
    user = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="id_tags")
    company = models.ForeignKey("accounts.Company", models.PROTECT, null=True, blank=True)
    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, null=True, blank=True, related_name="permits", db_index=False)
    connector = models.ForeignKey("csms.Connector", models.CASCADE, null=True, blank=True, related_name="permits", db_index=False)
    limit_wh = models.BigIntegerField(null=True, blank=True, help_text="How far this permit lets a session go.")
    limit_at = models.DateTimeField(null=True, blank=True)
    start_until = models.DateTimeField(null=True, blank=True, help_text="Ask the charger to start until then.")
    ask_at = models.DateTimeField(null=True, blank=True, help_text="When to ask the charger to start (again).")
    asked_count = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = "id tag"
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(limit_wh__isnull=True) | Q(limit_wh__gte=0), name="id_tag_limit_not_negative")]
        indexes = [
            models.Index(fields=["connector"], condition=Q(state="ready", kind="one_time"), name="id_tag_ready"),
            models.Index(fields=["ask_at"], condition=Q(state="ready", kind="one_time"), name="id_tag_ask"),
            models.Index(fields=["-id"], condition=Q(kind="rfid"), name="id_tag_cards"),
            models.Index(fields=["company", "-id"], condition=Q(kind="rfid"), name="id_tag_company_cards"),
            models.Index(fields=["refresh_at"], condition=Q(refresh_at__isnull=False), name="id_tag_refresh"),
        ]

    def __str__(self) -> str:
        return f"…{self.tag[-4:]}" if self.kind == self.Kind.ONE_TIME else self.tag
