"""The QR on the charger, the payments that came through it, and the money that goes back."""

from django.db import models
from django.db.models import F, Q

from accounts.models import Audited


class QRCode(Audited):
    """A Razorpay `upi_qr` (multiple use, any amount) on one connector. One active per connector."""

    owner_path = "connector__charge_point__company"

    class Status(models.TextChoices):
        ACTIVE = "active"
        CLOSED = "closed"

    connector = models.ForeignKey("csms.Connector", models.PROTECT, related_name="qr_codes")
    razorpay_id = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=120)
    image_url = models.CharField(max_length=500, blank=True)
    image_content = models.CharField(max_length=1000, blank=True, help_text="The upi:// text, where the account has that feature.")
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    closed_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.CharField(max_length=40, blank=True)
    last_polled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "QR code"
        constraints = [models.UniqueConstraint(fields=["connector"], condition=Q(status="active"), name="qr_one_active_per_connector")]

    def __str__(self) -> str:
        return self.name


class QRPayment(Audited):
    """One captured UPI payment through one of our QRs, from hearing of it to its end."""

    owner_path = "company"
    rider_path = "user"

    class State(models.TextChoices):
        RECEIVED = "received", "Received"
        STARTING = "starting", "Asking the charger"
        CHARGING = "charging", "Charging"
        ENDED = "ended", "Ended, billing"
        REFUNDING = "refunding", "Refunding"
        SETTLED = "settled", "Settled"

    razorpay_payment_id = models.CharField(max_length=40, unique=True)
    qr = models.ForeignKey(QRCode, models.PROTECT, related_name="payments")
    connector = models.ForeignKey("csms.Connector", models.PROTECT, related_name="payments", db_index=False)
    company = models.ForeignKey("accounts.Company", models.PROTECT, related_name="+", db_index=False)
    user = models.ForeignKey("accounts.User", models.PROTECT, null=True, blank=True, related_name="payments")
    vpa = models.CharField("UPI id", max_length=100, blank=True)
    rrn = models.CharField("bank reference", max_length=40, blank=True)
    amount_paid = models.BigIntegerField(help_text="paise")
    # What Razorpay takes: null is unknown, 0 is a value.
    fee = models.BigIntegerField(null=True, blank=True, help_text="paise, GST included")
    fee_tax = models.BigIntegerField(null=True, blank=True, help_text="paise, the GST inside the fee")
    fee_source = models.CharField(max_length=10, blank=True, choices=[(s, s) for s in ("webhook", "api", "estimate")])
    fee_ask_at = models.DateTimeField(null=True, blank=True, help_text="When to ask Razorpay for the fee (again); null: not to be asked.")
    fee_attempts = models.PositiveIntegerField(default=0)
    platform_fee = models.BigIntegerField(default=0, help_text="paise; what the rider pays for the service, frozen here")
    tariff = models.ForeignKey("billing.Tariff", models.PROTECT, null=True, blank=True)
    tariff_snapshot = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.RECEIVED)
    refund_reason = models.CharField(max_length=40, blank=True)
    remainder = models.BigIntegerField(
        default=0, help_text="paise that Razorpay cannot refund (under a rupee), beside the remainder of its bill"
    )
    review = models.CharField(max_length=40, blank=True, help_text="Why a person must look at it; empty: nobody must.")
    permit = models.OneToOneField("csms.IdTag", models.PROTECT, null=True, blank=True, related_name="payment")
    session = models.OneToOneField("csms.ChargingSession", models.PROTECT, null=True, blank=True, related_name="payment")
    paid_at = models.DateTimeField(help_text="Razorpay's time of the payment.")
    heard_at = models.DateTimeField(help_text="When we first heard of it.")
    start_deadline = models.DateTimeField(null=True, blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "QR payment"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_paid__gt=0) & Q(amount_paid__lte=10_000_000_00), name="payment_amount_sane"),
            models.CheckConstraint(condition=Q(remainder__gte=0), name="payment_remainder_not_negative"),
            models.CheckConstraint(condition=Q(platform_fee__gte=0) & Q(platform_fee__lte=F("amount_paid")), name="payment_fee_sane"),
        ]
        indexes = [
            models.Index(fields=["company", "-id"], name="payment_company"),
            models.Index(fields=["company", "paid_at"], name="payment_company_day", include=["amount_paid"]),
            models.Index(fields=["connector", "-id"], name="payment_connector"),
            models.Index(fields=["state", "start_deadline"], condition=~Q(state="settled"), name="payment_open"),
            models.Index(fields=["fee_ask_at"], condition=Q(fee__isnull=True), name="payment_fee_unknown"),
        ]

    def __str__(self) -> str:
        return self.razorpay_payment_id


class Refund(Audited):
    """Money on its way back to the rider. The key and the exact body are stored before the first call.

    due -> asking -> pending -> processed | failed. After an answer we did not hear, Razorpay is asked before
    anything is sent again.
    """

    owner_path = "payment__company"
    rider_path = "payment__user"

    class State(models.TextChoices):
        DUE = "due", "To be asked"
        ASKING = "asking", "Asked, answer not heard"
        PENDING = "pending", "On its way"
        PROCESSED = "processed", "Processed"
        FAILED = "failed", "Failed"

    payment = models.ForeignKey(QRPayment, models.PROTECT, related_name="refunds")
    razorpay_id = models.CharField(max_length=40, unique=True, null=True, blank=True)
    amount_paise = models.BigIntegerField()
    reason = models.CharField(max_length=40)
    key = models.CharField("idempotency key", max_length=80, unique=True)
    body = models.JSONField(help_text="The exact request, frozen with the key.")
    state = models.CharField(max_length=10, choices=State, default=State.DUE)
    speed_requested = models.CharField(max_length=10, default="optimum")
    speed_processed = models.CharField(max_length=10, blank=True)
    bank_reference = models.CharField(max_length=60, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    retry_at = models.DateTimeField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True)
    processed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_paise__gte=100), name="refund_at_least_a_rupee"),
            models.CheckConstraint(
                condition=~Q(state__in=["pending", "processed"]) | Q(razorpay_id__isnull=False), name="refund_done_has_id"
            ),
            # One refund of a kind per payment: a second "surplus" or "full" would be a double refund.
            models.UniqueConstraint(fields=["payment", "reason"], condition=~Q(state="failed"), name="refund_reason_once"),
        ]
        indexes = [models.Index(fields=["retry_at"], condition=~Q(state__in=["processed", "failed"]), name="refund_due")]

    def __str__(self) -> str:
        return f"Refund {self.pk}"


class Wallet(Audited):
    """Prepaid balance of a signed-in rider. Never below zero."""

    rider_path = "user"

    user = models.OneToOneField("accounts.User", models.PROTECT, related_name="wallet")
    balance_paise = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(balance_paise__gte=0), name="wallet_not_negative")]

    def __str__(self) -> str:
        return f"Wallet of {self.user}"
