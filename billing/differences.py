"""What Razorpay says otherwise than our books, shown to a person the moment it is heard (reconcile.py compares whole days)."""

from django.utils import timezone

from billing.models import Difference
from voltaro import clock


def show(kind: str, subject: str, ours: int | None, theirs: int | None, note: str) -> bool:
    """Show it to a person: once, and again when Razorpay says another amount (both in paise). Whether it was shown now."""
    if Difference.objects.filter(kind=kind, subject=subject[:60], theirs_paise=theirs).exists():
        return False
    Difference.objects.update_or_create(
        day=timezone.localdate(clock.now()),
        kind=kind,
        subject=subject[:60],
        defaults={"ours_paise": ours, "theirs_paise": theirs, "note": note[:300], "resolved_at": None},
    )
    return True
