"""A corrected bill lowers the franchisee's share of it, once: in the share itself, or out of a later payout when it was paid already."""

from datetime import datetime

from django.db import transaction
from django.db.models import BigIntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from accounts import audit
from billing import ledger
from billing.models import Account, Bill, BillCorrection
from franchise.models import CommissionLedgerEntry, Franchisee, Payout, ShareCorrection
from franchise.rules.share import Share, Terms, split

Status = CommissionLedgerEntry.Status
_FIGURES = ("refund", "gst_collected", "net_excl_gst", "platform_commission", "tds", "payable")


def to_follow(now: datetime) -> QuerySet[BillCorrection]:
    """Corrected bills whose share has not followed yet."""
    return BillCorrection.objects.filter(share_at__lte=now).order_by("share_at")


@transaction.atomic
def follow(correction_pk: int, now: datetime) -> bool:
    """Lower the share of one corrected bill; False when another worker has it or when there is nothing to lower.

    A share that is not made or not booked yet will be made of the bill as it now stands.
    """
    # The bill's row first: a share is made under it (settlements.share_bill), before this correction or after it.
    bill = Bill.objects.select_for_update(of=("self",), no_key=True).get(correction=correction_pk)
    done = BillCorrection.objects.filter(pk=correction_pk, share_at__isnull=False).update(share_at=None, updated_at=now)
    entry = (
        CommissionLedgerEntry.objects.select_for_update(of=("self",), no_key=True)
        .select_related("franchisee", "contract")
        .filter(session=bill.session_id)
        .first()
    )
    if not done or entry is None or entry.booked_at is None or ShareCorrection.objects.filter(entry=entry).exists():
        return False
    right = _split(entry, bill)
    less = {name: getattr(entry, name) - getattr(right, name) for name in _FIGURES}
    less["refund"] = -less["refund"]
    if not any(less.values()):
        return False
    made = ShareCorrection(entry=entry, franchisee=entry.franchisee, energy_wh=entry.energy_wh - bill.billed_wh, **less)
    made.deducted = entry.payout_id is not None
    made.save()
    _book(entry, made)
    if not made.deducted:
        _lower(entry, right, bill)
    audit.record("commission.corrected", entry, after={**less, "deducted": made.deducted}, trigger="bill.made")
    return True


def _split(entry: CommissionLedgerEntry, bill: Bill) -> Share:
    """The same terms, and Razorpay's fee as it was borne: only the bill is another."""
    terms = Terms(entry.contract.share_bp, entry.contract.tds_bp, True) if entry.contract else Terms(0, 0, True)
    return split(
        amount_paid=bill.payment.amount_paid,
        # What the share was made of: a bill of nothing has no platform fee, and then it belongs to what went back.
        platform_fee=bill.payment.amount_paid - entry.gross,
        refund=bill.refund_due + bill.remainder - (bill.payment.amount_paid - bill.platform_fee - entry.gross),
        gst=bill.gst,
        energy_charge=bill.energy_charge,
        razorpay_fee=entry.pg_fee,
        terms=terms,
    )


def _book(entry: CommissionLedgerEntry, less: ShareCorrection) -> None:
    whose = f"franchisee:{entry.franchisee_id}"
    if less.payable + less.tds:
        ledger.post(
            f"share:{entry.session_id}:corrected",
            [
                (Account.FRANCHISEE_PAYABLE, less.payable, whose),
                (Account.TDS_PAYABLE, less.tds, whose),
                (Account.FRANCHISE_SHARE, -less.payable - less.tds, whose),
            ],
            memo=entry.idempotency_key,
        )


def _lower(entry: CommissionLedgerEntry, right: Share, bill: Bill) -> None:
    for name in _FIGURES:
        setattr(entry, name, getattr(right, name))
    entry.energy_wh = bill.billed_wh
    if entry.payable == 0:
        entry.status, entry.hold_reason = Status.SETTLED, ""
    entry.save()


# -- out of a later payout ----------------------------------------------------------------------------------------------
def open_(franchisee: Franchisee | None = None) -> QuerySet[ShareCorrection]:
    """What is still to be deducted, of one franchisee or of all."""
    rows = ShareCorrection.objects.filter(deducted=True, payout__isnull=True)
    return rows if franchisee is None else rows.filter(franchisee=franchisee)


def owed_back(franchisee: str | int) -> Coalesce:
    """Paise still to be deducted, of the franchisee of that name in a query (or of that number)."""
    whose = OuterRef(franchisee) if isinstance(franchisee, str) else franchisee
    mine = open_().filter(franchisee=whose).order_by().values("franchisee")
    return Coalesce(Subquery(mine.annotate(paise=Sum("payable")).values("paise")), 0, output_field=BigIntegerField())


def take(franchisee: Franchisee, at_most: int) -> list[ShareCorrection]:
    """Those, oldest first, that fit into `at_most` paise; locked."""
    taken, rest = [], at_most
    for row in open_(franchisee).select_for_update(of=("self",), no_key=True).order_by("pk"):
        if row.payable <= rest:
            taken.append(row)
            rest -= row.payable
    return taken


def put(rows: list[ShareCorrection], payout: Payout) -> None:
    ShareCorrection.objects.filter(pk__in=[row.pk for row in rows]).update(payout=payout)


def sums(rows: QuerySet[ShareCorrection]) -> dict[int, dict[str, int]]:
    """By franchisee: payable and tds."""
    found = rows.order_by().values_list("franchisee").annotate(payable=Sum("payable"), tds=Sum("tds"))
    return {franchisee: {"payable": int(payable), "tds": int(tds)} for franchisee, payable, tds in found}
