from django.db import models

from accounts.models import Audited


class ReconciledDay(Audited):
    """One day (IST) of Razorpay's report, compared with our books or waiting to be."""

    day = models.DateField(unique=True)
    done_at = models.DateTimeField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    items = models.PositiveIntegerField(default=0, help_text="Lines of Razorpay's report.")
    matched = models.PositiveIntegerField(default=0, help_text="Lines that say what our books say.")
    foreign = models.PositiveIntegerField(default=0, help_text="Lines about payments of other installations on the same account.")
    differences = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-day"]

    def __str__(self) -> str:
        return str(self.day)


class Difference(Audited):
    """Something Razorpay says otherwise than our books, found by the nightly comparison. Closed by a person or by proof."""

    day = models.DateField(db_index=True)
    kind = models.CharField(max_length=30)
    subject = models.CharField(max_length=60)
    ours_paise = models.BigIntegerField(null=True, blank=True)
    theirs_paise = models.BigIntegerField(null=True, blank=True)
    note = models.CharField(max_length=300, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["day", "kind", "subject"], name="difference_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.kind} {self.subject}"
