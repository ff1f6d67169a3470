"""Double-entry books. Debits are positive, credits negative; every entry sums to zero.

PostgreSQL holds this: a deferred constraint trigger refuses unbalanced or empty entries, and triggers refuse UPDATE,
DELETE and TRUNCATE (billing/migrations).
"""

from django.db import models

from accounts.models import Recorded
from voltaro import clock


class Account(models.TextChoices):
    """The chart of accounts. Assets and expenses grow by debits, liabilities and income by credits."""

    CLEARING = "clearing", "Money at Razorpay"
    PREPAID = "prepaid", "Riders' prepaid money"
    ENERGY_REVENUE = "energy_revenue", "Energy sold"
    CGST_PAYABLE = "cgst_payable", "CGST to pay"
    SGST_PAYABLE = "sgst_payable", "SGST to pay"
    IGST_PAYABLE = "igst_payable", "IGST to pay"
    PLATFORM_FEE = "platform_fee", "Platform fees earned"
    REFUNDS_IN_FLIGHT = "refunds_in_flight", "Refunds asked, not yet done"
    REMAINDERS = "remainders", "Remainders under one rupee"
    OVERRUN_GIVEN = "overrun_given", "Energy given beyond the money paid"
    OVERRUN_DELIVERED = "overrun_delivered", "Overrun, contra"
    RAZORPAY_FEES = "razorpay_fees", "Razorpay's fees"
    FRANCHISE_SHARE = "franchise_share", "Franchisees' shares (expense)"
    FRANCHISEE_PAYABLE = "franchisee_payable", "Owed to franchisees"
    TDS_PAYABLE = "tds_payable", "TDS to pay"
    TRANSFERS_IN_FLIGHT = "transfers_in_flight", "Transfers asked, not yet done"


class JournalEntry(Recorded):
    """One deed in the books, under one natural key (payment:pay_X, bill:session:42 ...). Append-only."""

    key = models.CharField(max_length=120, unique=True)
    digest = models.CharField(max_length=64, help_text="Of the postings: the same key with other postings is a loud error.")
    memo = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "journal entries"
        ordering = ["-id"]
        indexes = [models.Index(fields=["at"], name="journal_at")]

    def __str__(self) -> str:
        return self.key


class Posting(Recorded):
    """One side of an entry: an amount on an account, about a subject (payment:pay_X, franchisee:3 ...)."""

    entry = models.ForeignKey(JournalEntry, models.PROTECT, related_name="postings")
    account = models.CharField(max_length=24, choices=Account)
    amount_paise = models.BigIntegerField(help_text="Debit positive, credit negative")
    subject = models.CharField(max_length=60, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.CheckConstraint(condition=~models.Q(amount_paise=0), name="posting_not_zero")]
        indexes = [models.Index(fields=["account", "subject"], name="posting_account_subject", include=["amount_paise"])]

    def __str__(self) -> str:
        return f"{self.account} {self.amount_paise}"
