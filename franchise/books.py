"""Do the franchisees' rows and the books say the same? Sentences about what differs; nothing when all is right."""

from collections.abc import Iterator

from django.db.models import BigIntegerField, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from billing.models import Account, Posting
from franchise import corrections
from franchise.models import CommissionLedgerEntry, Franchisee, Payout, ShareCorrection

State = Payout.State


def check() -> list[str]:
    """For every franchisee, owed = shared - corrected - asked; for every payout, what is on its way is what was asked and not yet done."""
    return [*_owed(), *_on_its_way()]


def _owed() -> Iterator[str]:
    payable = _by_subject(Account.FRANCHISEE_PAYABLE, "franchisee:")
    tds = _by_subject(Account.TDS_PAYABLE, "franchisee:")
    booked = CommissionLedgerEntry.objects.filter(booked_at__isnull=False).order_by().values("franchisee")
    shared = {row["franchisee"]: row for row in booked.annotate(payable=Sum("payable"), tds=Sum("tds"))}
    asked = dict(
        Payout.objects.filter(asked_at__isnull=False)
        .exclude(state=State.FAILED)
        .order_by()
        .values_list("franchisee")
        .annotate(paise=Sum("amount_paise"))
    )
    less = corrections.sums(ShareCorrection.objects.filter(deducted=True))
    for franchisee in Franchisee.objects.select_related("company").order_by("pk"):
        row, back = shared.get(franchisee.pk, {"payable": 0, "tds": 0}), less.get(franchisee.pk, {"payable": 0, "tds": 0})
        subject = f"franchisee:{franchisee.pk}"
        owed = row["payable"] - back["payable"] - asked.get(franchisee.pk, 0)
        if -payable.get(subject, 0) != owed:
            yield f"{franchisee}: the books owe {-payable.get(subject, 0)} paise, the rows say {owed}"
        if -tds.get(subject, 0) != row["tds"] - back["tds"]:
            yield f"{franchisee}: the books hold {-tds.get(subject, 0)} paise of TDS, the rows say {row['tds'] - back['tds']}"


def _on_its_way() -> Iterator[str]:
    in_flight = {subject: paise for subject, paise in _by_subject(Account.TRANSFERS_IN_FLIGHT, "payout:").items() if paise}
    open_ = Payout.objects.filter(Q(state__in=[State.ASKING, State.PENDING]), asked_at__isnull=False)
    expected = {f"payout:{pk}": -paise for pk, paise in open_.values_list("pk", "amount_paise")}
    for subject in sorted({*in_flight, *expected}):
        if in_flight.get(subject, 0) != expected.get(subject, 0):
            yield f"{subject}: {-in_flight.get(subject, 0)} paise are on their way in the books, the rows say {-expected.get(subject, 0)}"
    unpaid = CommissionLedgerEntry.objects.filter(status__in=["TRANSFERRED", "SETTLED"], payable__gt=0).exclude(
        payout__state=State.PROCESSED
    )
    for key in unpaid.order_by("pk").values_list("idempotency_key", flat=True)[:100]:
        yield f"{key}: counts as paid, but no processed payout holds it"
    deducted = ShareCorrection.objects.filter(payout=OuterRef("pk")).order_by().values("payout").annotate(paise=Sum("payable"))
    back = Coalesce(Subquery(deducted.values("paise")), 0, output_field=BigIntegerField())
    sums = Payout.objects.filter(state=State.PROCESSED).annotate(entries_paise=Sum("entries__payable"), back=back)
    for payout in sums.exclude(entries_paise=F("amount_paise") + F("back")).order_by("pk")[:100]:
        less = f" less {payout.back}" if payout.back else ""
        yield f"payout {payout.pk}: {payout.amount_paise} paise were sent for entries of {payout.entries_paise or 0}{less}"


def _by_subject(account: str, prefix: str) -> dict[str, int]:
    rows = Posting.objects.filter(account=account, subject__startswith=prefix).order_by().values_list("subject")
    return {subject: int(paise) for subject, paise in rows.annotate(paise=Sum("amount_paise"))}
