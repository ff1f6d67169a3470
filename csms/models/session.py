"""A charging session and its readings."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.models import Audited, Recorded
from voltaro import clock


class SessionState(models.TextChoices):
    STARTED = "STARTED", "Started"
    RUNNING = "RUNNING", "Running"
    SUSPENDED = "SUSPENDED", "Suspended"
    STOPPED = "STOPPED", "Stopped"


class ChargingSession(Audited):
    """One delivery of energy at one connector, from start to its one end. Energy in Wh, money in paise."""

    owner_path = "company"
    rider_path = "user"

    charge_point = models.ForeignKey("csms.ChargePoint", models.PROTECT, related_name="sessions", db_index=False)
    connector = models.ForeignKey("csms.Connector", models.PROTECT, related_name="sessions", db_index=False)
    company = models.ForeignKey(
        "accounts.Company", models.PROTECT, related_name="sessions", help_text="The owner at the start.", db_index=False
    )
    user = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="sessions")
    vehicle = models.ForeignKey("accounts.Vehicle", models.SET_NULL, null=True, blank=True, db_index=False)
    permit = models.ForeignKey("csms.IdTag", models.PROTECT, null=True, blank=True, related_name="sessions")
    card = models.ForeignKey(
        "csms.IdTag",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="card_sessions",
        db_index=False,
        help_text="The RFID tag it was started with, accepted or not; a payment's own is its permit.",
    )
    id_tag = models.CharField(max_length=64, blank=True)
    authorized = models.BooleanField(default=True, help_text="False: recorded as a fact, though the tag was not accepted.")
    transaction_id = models.CharField(max_length=64)
    start_key = models.CharField(max_length=64)
    state = models.CharField(max_length=10, choices=SessionState, default=SessionState.STARTED)
    # What the charger says and what we saw.
    start_time = models.DateTimeField(help_text="The charger's time when plausible, else ours.")
    end_time = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(default=clock.now, help_text="When we heard of it.")
    ended_at = models.DateTimeField(null=True, blank=True, help_text="When we ended it.")
    suspended_at = models.DateTimeField(null=True, blank=True)
    idle_status = models.CharField(max_length=20, blank=True, help_text="The connector's status that suspended it; empty: a lost line did.")
    idle_since = models.DateTimeField(null=True, blank=True, help_text="Since when its socket shows Available and no energy is seen.")
    resumed_at = models.DateTimeField(null=True, blank=True)
    resume_count = models.PositiveIntegerField(default=0)
    disconnects_without_progress = models.PositiveIntegerField(default=0)
    last_activity_at = models.DateTimeField(default=clock.now)
    metered_at = models.DateTimeField(null=True, blank=True, help_text="The charger's time of its last believed reading.")
    register_at = models.DateTimeField(null=True, blank=True, help_text="When we last heard a register that was believed.")
    stop_reason = models.CharField(max_length=40, blank=True)
    stop_reason_raw = models.CharField(max_length=100, blank=True)
    # Energy. `energy_wh` is what counts (segments, plausible); `reported_wh` is the plain register difference.
    meter_start_wh = models.BigIntegerField(null=True, blank=True)
    meter_last_wh = models.BigIntegerField(null=True, blank=True)
    segment_start_wh = models.BigIntegerField(null=True, blank=True, help_text="Register at the start of the current meter segment.")
    segments_wh = models.BigIntegerField(default=0, help_text="Energy of the segments before the current one.")
    pending_wh = models.BigIntegerField(null=True, blank=True, help_text="A register that jumped once and waits for a second sample.")
    pending_at = models.DateTimeField(null=True, blank=True, help_text="When that register was read, by the charger's clock.")
    energy_wh = models.BigIntegerField(default=0)
    reported_wh = models.BigIntegerField(null=True, blank=True)
    billable_wh = models.BigIntegerField(
        null=True, blank=True, help_text="What is billed where that is not energy_wh: a person's word, or a late stop that is lower."
    )
    rebill_at = models.DateTimeField(null=True, blank=True, help_text="Since when its bill waits to be corrected.")
    last_power_w = models.PositiveIntegerField(null=True, blank=True)
    peak_power_w = models.PositiveIntegerField(default=0)
    soc_pct = models.PositiveSmallIntegerField(null=True, blank=True)
    sample_interval_s = models.PositiveIntegerField(null=True, blank=True)
    # Neutral limits copied from the permit at the start.
    limit_wh = models.BigIntegerField(null=True, blank=True)
    limit_at = models.DateTimeField(null=True, blank=True)
    bounded_wh = models.BigIntegerField(
        null=True, blank=True, help_text="What the charger has said it keeps to by itself, in Wh from the start; empty: nothing."
    )
    bounded_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the charger stops delivering by itself unless it is told anew (a charging profile that ends).",
    )
    stop_due_at = models.DateTimeField(null=True, blank=True, help_text="When, at the power now flowing, the stop must be sent.")
    stop_asked_at = models.DateTimeField(null=True, blank=True)
    overrun_wh = models.BigIntegerField(default=0, help_text="Delivered beyond limit_wh; never charged to the rider.")
    # Money, written by billing.
    energy_charge = models.BigIntegerField(null=True, blank=True, help_text="paise")
    gst_amount = models.BigIntegerField(null=True, blank=True, help_text="paise")
    total_billed = models.BigIntegerField(null=True, blank=True, help_text="paise")
    billed_at = models.DateTimeField(null=True, blank=True)
    flags = ArrayField(models.CharField(max_length=20), default=list, blank=True, help_text="suspect, orphan, inferred, late ...")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["charge_point", "transaction_id"], name="session_transaction_once"),
            models.UniqueConstraint(fields=["charge_point", "start_key"], name="session_start_once"),
            models.UniqueConstraint(fields=["connector"], condition=~Q(state="STOPPED"), name="session_one_live_per_connector"),
            models.UniqueConstraint(fields=["permit"], condition=Q(permit__isnull=False), name="session_permit_once"),
            models.CheckConstraint(condition=Q(energy_wh__gte=0) & Q(overrun_wh__gte=0), name="session_energy_not_negative"),
            models.CheckConstraint(condition=Q(billable_wh__isnull=True) | Q(billable_wh__gte=0), name="session_billable_not_negative"),
            models.CheckConstraint(condition=~Q(state="STOPPED") | Q(ended_at__isnull=False), name="session_stopped_has_end"),
        ]
        indexes = [
            models.Index(fields=["company", "-id"], name="session_company"),
            models.Index(fields=["charge_point", "-id"], name="session_charge_point"),
            models.Index(fields=["connector", "-id"], name="session_connector"),
            models.Index(fields=["card", "-id"], condition=Q(card__isnull=False), name="session_card"),
            models.Index(fields=["last_activity_at"], condition=~Q(state="STOPPED"), name="session_live"),
            models.Index(fields=["ended_at"], condition=Q(state="STOPPED", billed_at__isnull=True), name="session_unbilled"),
            models.Index(fields=["rebill_at"], condition=Q(rebill_at__isnull=False), name="session_rebill"),
            models.Index(
                fields=["bounded_until"], condition=~Q(state="STOPPED") & Q(bounded_until__isnull=False), name="session_bounded_until"
            ),
            models.Index(fields=["stop_due_at"], condition=~Q(state="STOPPED") & Q(stop_due_at__isnull=False), name="session_stop_due"),
        ]

    def __str__(self) -> str:
        return f"Session {self.pk}"

    @property
    def live(self) -> bool:
        return self.state != SessionState.STOPPED


class MeterReading(Recorded):
    """One moment's samples. `samples` keeps all of them as they came; the columns are the ones charts and bills use."""

    owner_path = "charge_point__company"
    rider_path = "session__user"

    charge_point = models.ForeignKey("csms.ChargePoint", models.CASCADE, related_name="+", db_index=False)
    session = models.ForeignKey(ChargingSession, models.PROTECT, null=True, blank=True, related_name="readings", db_index=False)
    connector_no = models.PositiveIntegerField(default=0)
    at = models.DateTimeField(help_text="When the charger says it measured.")
    received_at = models.DateTimeField(default=clock.now)
    context = models.CharField(max_length=30, blank=True)
    energy_wh = models.BigIntegerField(null=True, blank=True, help_text="The register, as it stood.")
    power_w = models.PositiveIntegerField(null=True, blank=True)
    current_ma = models.PositiveIntegerField(null=True, blank=True)
    voltage_mv = models.PositiveIntegerField(null=True, blank=True)
    soc_pct = models.PositiveSmallIntegerField(null=True, blank=True)
    samples = models.JSONField(default=list)
    digest = models.CharField(max_length=16, help_text="Of the samples: a repeat is stored once.")
    late = models.BooleanField(default=False, help_text="Arrived after its session had ended.")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["charge_point", "at", "digest"], name="reading_once")]
        indexes = [models.Index(fields=["session", "at"], name="reading_session")]

    def __str__(self) -> str:
        return f"{self.energy_wh} Wh at {self.at}"
