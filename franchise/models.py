"""Franchisees: who they are, what they agreed, what they own, what they are owed and what they were paid."""

from django.db import models
from django.db.models import Q

from accounts.models import Audited
from franchise.rules.gate import REASONS
from voltaro import clock


class Franchisee(Audited):
    """A company that owns chargers in the network."""

    owner_path = "company"

    company = models.OneToOneField("accounts.Company", models.PROTECT, related_name="franchisee")
    contact_name = models.CharField(max_length=120, blank=True)
    email = models.EmailField(blank=True)
    phone = models.CharField(max_length=20, blank=True)
    pan = models.CharField("PAN", max_length=10, blank=True)
    payouts_on_hold = models.BooleanField(default=False, help_text="Set by a person: entries stay ON_HOLD until released.")
    hold_reason = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.company.name


class OfFranchisee(Audited):
    """Rows of one franchisee: seen by their company, and audited under it."""

    owner_path = "franchisee__company"

    class Meta:
        abstract = True

    @property
    def company_id(self) -> int | None:
        return self.franchisee.company_id if self.franchisee_id else None


class Contract(OfFranchisee):
    """What was agreed, from a day on. The newest that has begun counts; a session is shared by the contract at its start."""

    class FeeBorneBy(models.TextChoices):
        PLATFORM = "platform", "The platform"
        FRANCHISEE = "franchisee", "The franchisee"

    franchisee = models.ForeignKey(Franchisee, models.PROTECT, related_name="contracts")
    share_bp = models.PositiveIntegerField("franchisee's share, basis points", default=7000)
    tds_bp = models.PositiveIntegerField("TDS, basis points", default=10, help_text="194-O: 0.1 % is 10.")
    fee_borne_by = models.CharField(max_length=12, choices=FeeBorneBy, default=FeeBorneBy.FRANCHISEE, help_text="Who bears Razorpay's fee.")
    valid_from = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-valid_from", "-id"]
        constraints = [models.CheckConstraint(condition=Q(share_bp__lte=10_000) & Q(tds_bp__lte=10_000), name="contract_percent_sane")]

    def __str__(self) -> str:
        return f"{self.franchisee}: {self.share_bp / 100:g} %"


class Ownership(OfFranchisee):
    """Which franchisee owned which charger, from when to when. `ChargePoint.company` follows the open row."""

    franchisee = models.ForeignKey(Franchisee, models.PROTECT, related_name="ownerships")
    charge_point = models.ForeignKey("csms.ChargePoint", models.PROTECT, related_name="ownerships")
    owned_from = models.DateTimeField(default=clock.now)
    owned_to = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-owned_from"]
        constraints = [models.UniqueConstraint(fields=["charge_point"], condition=Q(owned_to__isnull=True), name="ownership_one_open")]

    def __str__(self) -> str:
        return f"{self.charge_point} of {self.franchisee}"


class LinkedAccount(OfFranchisee):
    """The franchisee's Razorpay Route account: where transfers go. `status` is Razorpay's activation_status."""

    class Status(models.TextChoices):
        REQUESTED = "requested", "Requested"
        NEEDS_CLARIFICATION = "needs_clarification", "Razorpay needs something"
        UNDER_REVIEW = "under_review", "Under review"
        ACTIVATED = "activated", "Activated"
        SUSPENDED = "suspended", "Suspended"

    franchisee = models.OneToOneField(Franchisee, models.PROTECT, related_name="linked_account")
    razorpay_id = models.CharField(max_length=40, unique=True)
    product_id = models.CharField(max_length=40, blank=True, help_text="Razorpay's acc_prd_..., by which its status is asked.")
    status = models.CharField(max_length=24, choices=Status, default=Status.REQUESTED)
    usable_from = models.DateTimeField(
        null=True, blank=True, help_text="No transfer before: Razorpay's cooling period, or ours after a change."
    )
    missing = models.CharField(max_length=500, blank=True, help_text="What Razorpay still asks for.")
    ask_at = models.DateTimeField(null=True, blank=True, default=clock.now, help_text="When to ask Razorpay for the status.")
    status_at = models.DateTimeField(default=clock.now, help_text="When the status last changed.")
    claimed_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        indexes = [models.Index(fields=["ask_at"], condition=Q(ask_at__isnull=False), name="linked_account_ask")]

    def __str__(self) -> str:
        return self.razorpay_id


class Payout(OfFranchisee):
    """One Razorpay Direct Transfer of one or many entries. `key` is its X-Transfer-Idempotency."""

    class State(models.TextChoices):
        DUE = "due", "To be asked"
        ASKING = "asking", "Asked, answer not heard"
        PENDING = "pending", "On its way"
        PROCESSED = "processed", "Transferred"
        FAILED = "failed", "Failed"

    franchisee = models.ForeignKey(Franchisee, models.PROTECT, related_name="payouts", db_index=False)
    account = models.CharField("linked account", max_length=40, help_text="As it was when the payout was made.")
    amount_paise = models.BigIntegerField()
    key = models.CharField("idempotency key", max_length=36, unique=True)
    body = models.JSONField()
    attempt = models.PositiveSmallIntegerField(default=1)
    failures = models.PositiveSmallIntegerField(default=0, help_text="Failures that count, in this attempt and the ones before it.")
    follows = models.OneToOneField("self", models.PROTECT, null=True, blank=True, related_name="followed_by")
    state = models.CharField(max_length=10, choices=State, default=State.DUE)
    razorpay_id = models.CharField(max_length=40, unique=True, null=True, blank=True)
    fees = models.BigIntegerField(null=True, blank=True, help_text="paise, on top, from our balance")
    settlement_id = models.CharField(max_length=40, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True, help_text="When a worker next looks at it; empty when nothing is left to do.")
    claimed_until = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True)
    processed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=Q(amount_paise__gte=100), name="payout_at_least_a_rupee")]
        indexes = [
            models.Index(fields=["retry_at"], condition=Q(retry_at__isnull=False), name="payout_open"),
            models.Index(fields=["franchisee", "-id"], name="payout_franchisee"),
        ]

    def __str__(self) -> str:
        return f"Payout {self.pk}"


class CommissionLedgerEntry(OfFranchisee):
    """A franchisee's share of one session. All amounts in paise; see franchise/rules/share.py for the arithmetic."""

    class Status(models.TextChoices):
        PENDING = "PENDING", "Waiting for its payout"
        TRANSFERRED = "TRANSFERRED", "Transferred"
        SETTLED = "SETTLED", "In the bank"
        FAILED = "FAILED", "Failed"
        ON_HOLD = "ON_HOLD", "On hold"

    idempotency_key = models.CharField(max_length=40, unique=True, help_text="txn_{session id}")
    franchisee = models.ForeignKey(Franchisee, models.PROTECT, related_name="entries", db_index=False)
    session = models.OneToOneField("csms.ChargingSession", models.PROTECT, related_name="commission")
    contract = models.ForeignKey(
        Contract, models.PROTECT, null=True, blank=True, related_name="+", help_text="In force at the session's start."
    )
    energy_wh = models.BigIntegerField(default=0, help_text="Billed")
    gross = models.BigIntegerField(help_text="Paid by the rider, platform fee taken off")
    refund = models.BigIntegerField(help_text="Not used: refunded, or held as a remainder")
    pg_fee = models.BigIntegerField(help_text="Razorpay's fee as far as the contract puts it on the franchisee")
    gst_collected = models.BigIntegerField()
    net_excl_gst = models.BigIntegerField(help_text="gross - refund - pg_fee - gst_collected")
    platform_commission = models.BigIntegerField()
    tds = models.BigIntegerField()
    payable = models.BigIntegerField(help_text="net - platform commission - TDS")
    booked_at = models.DateTimeField(null=True, blank=True, help_text="When the share was final and booked; empty: provisional.")
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING)
    hold_reason = models.CharField(max_length=120, choices=REASONS, blank=True)
    payout = models.ForeignKey(Payout, models.PROTECT, null=True, blank=True, related_name="entries")
    due_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "commission ledger entries"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(net_excl_gst=models.F("gross") - models.F("refund") - models.F("pg_fee") - models.F("gst_collected")),
                name="commission_net_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(payable=models.F("net_excl_gst") - models.F("platform_commission") - models.F("tds")),
                name="commission_payable_adds_up",
            ),
            models.CheckConstraint(condition=Q(payable__gte=0) & Q(tds__gte=0), name="commission_never_negative"),
            models.CheckConstraint(
                condition=Q(booked_at__isnull=False) | Q(status="ON_HOLD", payout__isnull=True), name="commission_paid_when_booked"
            ),
        ]
        indexes = [
            models.Index(fields=["franchisee", "-id"], name="commission_franchisee"),
            models.Index(fields=["franchisee", "-created_at", "-id"], include=["payable", "energy_wh"], name="commission_day"),
            models.Index(
                fields=["franchisee", "status"],
                condition=~Q(status__in=["TRANSFERRED", "SETTLED"]),
                include=["payable"],
                name="commission_open",
            ),
            models.Index(fields=["due_at"], condition=Q(status="PENDING", payout__isnull=True), name="commission_due"),
        ]

    def __str__(self) -> str:
        return self.idempotency_key


class ShareCorrection(OfFranchisee):
    """What a share loses because its bill was corrected. All amounts in paise, positive, taken back.

    A share in no payout yet was lowered itself (`deducted` False); one in a payout stays as it is, and its loss is deducted from a
    later payout of the same franchisee.
    """

    franchisee = models.ForeignKey(Franchisee, models.PROTECT, related_name="corrections", db_index=False)
    entry = models.OneToOneField(CommissionLedgerEntry, models.PROTECT, related_name="correction")
    energy_wh = models.BigIntegerField()
    refund = models.BigIntegerField(help_text="So much more went back to the rider")
    gst_collected = models.BigIntegerField()
    net_excl_gst = models.BigIntegerField()
    platform_commission = models.BigIntegerField()
    tds = models.BigIntegerField()
    payable = models.BigIntegerField()
    deducted = models.BooleanField(help_text="From a later payout, since its share was in one already.")
    payout = models.ForeignKey(Payout, models.PROTECT, null=True, blank=True, related_name="corrections")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(payable=models.F("net_excl_gst") - models.F("platform_commission") - models.F("tds")),
                name="share_correction_adds_up",
            ),
            models.CheckConstraint(condition=Q(payable__gte=0) & Q(tds__gte=0), name="share_correction_takes_back"),
            models.CheckConstraint(condition=Q(deducted=True) | Q(payout__isnull=True), name="share_correction_deducted_once"),
        ]
        indexes = [
            models.Index(fields=["franchisee"], condition=Q(deducted=True, payout__isnull=True), name="share_correction_open"),
            models.Index(fields=["franchisee", "-id"], name="share_correction_franchisee"),
        ]

    def __str__(self) -> str:
        return f"Correction of {self.entry.idempotency_key}"


class ShareMark(models.Model):
    """How far the bills are known to be shared: one row. Every bill up to it has its entry or needs none."""

    bill_id = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"up to bill {self.bill_id}"


class RazorpaySettlement(OfFranchisee):
    """A settlement Razorpay reported: ours, or a linked account's."""

    razorpay_id = models.CharField(max_length=40, unique=True)
    franchisee = models.ForeignKey(Franchisee, models.PROTECT, null=True, blank=True, related_name="settlements")
    amount_paise = models.BigIntegerField()
    fees = models.BigIntegerField(default=0)
    tax = models.BigIntegerField(default=0)
    utr = models.CharField("UTR", max_length=40, blank=True)
    status = models.CharField(max_length=16)
    settled_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.razorpay_id
