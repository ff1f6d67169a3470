from django.db import models
from django.db.models import F, Q

from accounts.models import Audited


class Bill(Audited):
    """What a session costs: one per session, recomputable from the tariff snapshot and the energy.

    A correction changes its amounts and adds lines that take back; what was taken back stands in `BillCorrection`.
    """

    owner_path = "session__company"
    rider_path = "session__user"

    session = models.OneToOneField("csms.ChargingSession", models.PROTECT, related_name="bill")
    payment = models.OneToOneField("billing.QRPayment", models.PROTECT, null=True, blank=True, related_name="bill")
    tariff_snapshot = models.JSONField(default=dict)
    delivered_wh = models.BigIntegerField()
    billed_wh = models.BigIntegerField()
    energy_charge = models.BigIntegerField(help_text="paise, before GST")
    cgst = models.BigIntegerField(default=0)
    sgst = models.BigIntegerField(default=0)
    igst = models.BigIntegerField(default=0)
    platform_fee = models.BigIntegerField(default=0)
    total = models.BigIntegerField()
    refund_due = models.BigIntegerField(default=0, help_text="paise; asked of Razorpay when a rupee or more")
    remainder = models.BigIntegerField(default=0, help_text="1-99 paise that Razorpay cannot refund")
    overrun_wh = models.BigIntegerField(default=0)
    overrun_paise = models.BigIntegerField(
        default=0, help_text="Energy charge of what was delivered beyond the money; ours, not the rider's"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(total=F("energy_charge") + F("cgst") + F("sgst") + F("igst") + F("platform_fee")), name="bill_adds_up"
            ),
            models.CheckConstraint(condition=Q(cgst=F("sgst")), name="bill_equal_halves"),
            models.CheckConstraint(condition=Q(energy_charge__gte=0) & Q(total__gte=0) & Q(refund_due__gte=0), name="bill_not_negative"),
            models.CheckConstraint(condition=Q(remainder__gte=0) & Q(remainder__lt=100), name="bill_remainder_under_a_rupee"),
        ]

    def __str__(self) -> str:
        return f"Bill of session {self.session_id}"

    @property
    def gst(self) -> int:
        return self.cgst + self.sgst + self.igst


class BillCorrection(Audited):
    """What was taken off a bill after it was made: once, never more than was billed. All amounts in paise, positive.

    `given_back` is what goes back to the rider (a rupee or more); what is less is a remainder.
    """

    owner_path = "bill__session__company"
    rider_path = "bill__session__user"

    bill = models.OneToOneField(Bill, models.PROTECT, related_name="correction")
    reason = models.CharField(max_length=20, choices=[("late_stop", "The charger's own stop, which came later, says less")])
    billed_wh = models.BigIntegerField(help_text="Wh taken off what was billed")
    energy_charge = models.BigIntegerField(help_text="before GST")
    cgst = models.BigIntegerField(default=0)
    sgst = models.BigIntegerField(default=0)
    igst = models.BigIntegerField(default=0)
    platform_fee = models.BigIntegerField(default=0)
    total = models.BigIntegerField()
    given_back = models.BigIntegerField(default=0)
    share_at = models.DateTimeField(null=True, blank=True, help_text="Since when the franchisee's share waits to follow it; empty: it has.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(total=F("energy_charge") + F("cgst") + F("sgst") + F("igst") + F("platform_fee")), name="correction_adds_up"
            ),
            models.CheckConstraint(
                condition=Q(energy_charge__gte=0) & Q(cgst__gte=0) & Q(cgst=F("sgst")) & Q(igst__gte=0) & Q(platform_fee__gte=0),
                name="correction_takes_back",
            ),
            models.CheckConstraint(condition=Q(given_back__gte=0) & ~Q(given_back__range=(1, 99)), name="correction_at_least_a_rupee"),
        ]
        indexes = [models.Index(fields=["share_at"], condition=Q(share_at__isnull=False), name="correction_share")]

    def __str__(self) -> str:
        return f"Correction of the bill of session {self.bill.session_id}"

    @property
    def gst(self) -> int:
        return self.cgst + self.sgst + self.igst


class BillLine(models.Model):
    """One line of a bill. Rounding happens once, here."""

    bill = models.ForeignKey(Bill, models.CASCADE, related_name="lines")
    position = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=20, choices=[(k, k) for k in ("energy", "cgst", "sgst", "igst", "platform_fee")])
    description = models.CharField(max_length=120)
    quantity_wh = models.BigIntegerField(null=True, blank=True)
    rate_paise_per_kwh = models.BigIntegerField(null=True, blank=True)
    amount_paise = models.BigIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["bill", "position"], name="bill_line_once")]

    def __str__(self) -> str:
        return self.description


class Invoice(Audited):
    """A tax invoice made from a bill (CGST Rule 46: a serial of 16 characters at most, consecutive within a financial year)."""

    owner_path = "bill__session__company"
    rider_path = "bill__session__user"

    number = models.CharField(max_length=16, unique=True)
    bill = models.OneToOneField(Bill, models.PROTECT, related_name="invoice")
    issued_at = models.DateTimeField()
    supplier_gstin = models.CharField(max_length=15, blank=True)
    recipient_name = models.CharField(max_length=200, blank=True)
    recipient_gstin = models.CharField(max_length=15, blank=True)
    sac = models.CharField("SAC", max_length=6, default="998714")

    def __str__(self) -> str:
        return self.number
