"""From a billed session to the franchisee's share of it: one commission entry, one journal entry, or a reason to wait.

An entry is final and booked once everything it rests on is known (its contract, and Razorpay's fee where the franchisee
bears it). Until then it stands ON_HOLD with provisional figures. A booked entry waits PENDING for its payout, or ON_HOLD
behind a gate (franchise/gates.py) until that opens.
"""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Max, OuterRef, Q, QuerySet, Subquery, Value

from accounts import audit
from billing import ledger
from billing.models import Account, Bill
from franchise import corrections, gates
from franchise.models import CommissionLedgerEntry, Contract, Franchisee, ShareMark
from franchise.rules import gate
from franchise.rules.share import Share, Terms, split
from voltaro import jobs

log = logging.getLogger(__name__)

Status = CommissionLedgerEntry.Status
# A bill numbered before another may be committed after it: the mark stays this far behind.
MARK_LAG = timedelta(hours=1)


def due(now: datetime) -> QuerySet:
    """What `work_due` would take up: bills to share, and entries whose reason to wait is gone."""
    bills = to_share(now).order_by().annotate(what=Value("bill to share")).values_list("what", "pk")
    less = corrections.to_follow(now).order_by().annotate(what=Value("corrected bill")).values_list("what", "pk")
    return bills.union(less, to_reconsider(now).order_by().annotate(what=Value("held entry")).values_list("what", "pk"))


def work_due(now: datetime, limit: int) -> int:
    """Share what was billed, follow what was corrected, look again at what is held; returns how many of all."""
    done = 0
    for pk in to_share(now).values_list("pk", flat=True)[:limit]:
        done += _safely(share_bill, pk, now)
    _move_mark(now)
    for pk in list(corrections.to_follow(now).values_list("pk", flat=True)[:limit]):
        done += _safely(corrections.follow, pk, now)
    for pk in to_reconsider(now).values_list("pk", flat=True)[:limit]:
        done += _safely(reconsider, pk, now)
    return done


def to_share(now: datetime) -> QuerySet[Bill]:
    """Paid sessions of franchisees, billed but not yet shared; only bills past the mark are looked at."""
    return Bill.objects.filter(
        pk__gt=_mark(),
        payment__isnull=False,
        session__billed_at__isnull=False,
        session__company__franchisee__isnull=False,
        session__commission__isnull=True,
    ).order_by("pk")


def to_reconsider(now: datetime) -> QuerySet[CommissionLedgerEntry]:
    """Held entries that need not wait any more: what was unknown is known, or the gate is open."""
    begun = Contract.objects.filter(franchisee=OuterRef("franchisee"), valid_from__lte=OuterRef("session__started_at"))
    known = Q(hold_reason=gate.FEE_UNKNOWN, session__payment__fee__isnull=False) | Q(hold_reason=gate.NO_CONTRACT, in_force__isnull=False)
    return (
        CommissionLedgerEntry.objects.filter(status=Status.ON_HOLD)
        .annotate(in_force=Subquery(begun.values("pk")[:1]))
        .filter(Q(booked_at__isnull=True) & known | Q(booked_at__isnull=False, franchisee__in=gates.open_(now)))
        .order_by("pk")
    )


@transaction.atomic
def share_bill(bill_id: int, now: datetime) -> bool:
    """Make the one entry of a billed session. False when another worker has it, or had it."""
    bill = Bill.objects.select_for_update(of=("self",), skip_locked=True, no_key=True).filter(pk=bill_id).first()
    if bill is None or CommissionLedgerEntry.objects.filter(session=bill.session_id).exists():
        return False
    franchisee = Franchisee.objects.select_related("linked_account").get(company=bill.session.company_id)
    entry = CommissionLedgerEntry(
        idempotency_key=f"txn_{bill.session_id}",
        franchisee=franchisee,
        session=bill.session,
        due_at=now + timedelta(seconds=settings.PAYOUT_DELAY_S),
    )
    _weigh(entry, bill, now)
    _settle(entry, now)
    audit.record("commission.shared", entry, after=_facts(entry), trigger="bill.made")
    return True


@transaction.atomic
def reconsider(entry_id: int, now: datetime) -> bool:
    """Look again at a held entry; False when nothing changed."""
    entry = (
        CommissionLedgerEntry.objects.select_for_update(of=("self",), skip_locked=True, no_key=True)
        .select_related("franchisee__linked_account", "session")
        .filter(pk=entry_id, status=Status.ON_HOLD)
        .first()
    )
    if entry is None:
        return False
    before = _facts(entry)
    if entry.booked_at is None:
        _weigh(entry, entry.session.bill, now)
    _settle(entry, now)
    if _facts(entry) == before:
        return False
    audit.record("commission.reconsidered", entry, before=before, after=_facts(entry))
    return True


@transaction.atomic
def bear_unknown_fee(entry_id: int, now: datetime) -> bool:
    """A person decides that the platform bears a fee Razorpay never told: the entry becomes final without it.

    False when the entry does not wait for that.
    """
    entry = CommissionLedgerEntry.objects.select_for_update(of=("self",), no_key=True).select_related("session").get(pk=entry_id)
    if entry.booked_at is not None or entry.hold_reason != gate.FEE_UNKNOWN:
        return False
    before = _facts(entry)
    _weigh(entry, entry.session.bill, now, waive_fee=True)
    _settle(entry, now)
    audit.record("commission.fee_waived", entry, before=before, after=_facts(entry))
    return True


def _weigh(entry: CommissionLedgerEntry, bill: Bill, now: datetime, *, waive_fee: bool = False) -> None:
    """Write the figures on the entry, and book them when they are final."""
    entry.energy_wh = bill.billed_wh
    entry.contract = entry.contract or contract_at(entry.franchisee, bill.session.started_at)
    terms = Terms(0, 0, False)
    if entry.contract is not None:
        borne = entry.contract.fee_borne_by == Contract.FeeBorneBy.FRANCHISEE and not waive_fee
        terms = Terms(entry.contract.share_bp, entry.contract.tds_bp, borne)
    share = split(
        amount_paid=bill.payment.amount_paid,
        platform_fee=bill.platform_fee,
        refund=bill.refund_due + bill.remainder,
        gst=bill.gst,
        energy_charge=bill.energy_charge,
        razorpay_fee=bill.payment.fee,
        terms=terms,
    )
    for name in ("gross", "refund", "pg_fee", "gst_collected", "net_excl_gst", "platform_commission", "tds", "payable"):
        setattr(entry, name, getattr(share, name))
    entry.hold_reason = gate.NO_CONTRACT if entry.contract is None else "" if share.final else gate.FEE_UNKNOWN
    if not entry.hold_reason:
        entry.booked_at = now
        _book(entry, share)


def _settle(entry: CommissionLedgerEntry, now: datetime) -> None:
    """Decide what the entry waits for, write it, and say so."""
    if entry.booked_at is not None:
        entry.hold_reason = gates.closed(entry.franchisee, now) if entry.payable else ""
    if entry.hold_reason:
        entry.status = Status.ON_HOLD
    elif entry.payable == 0:
        entry.status = Status.SETTLED  # nothing is owed: there is nothing to wait for
    else:
        entry.status = Status.PENDING
        jobs.ring("payout.due")
    entry.save()


def _book(entry: CommissionLedgerEntry, share: Share) -> None:
    """The share becomes an expense of ours and a debt to the franchisee and to the tax office."""
    if share.share == 0:
        return
    whose = f"franchisee:{entry.franchisee_id}"
    ledger.post(
        f"share:{entry.session_id}",
        [
            (Account.FRANCHISE_SHARE, share.share, whose),
            (Account.FRANCHISEE_PAYABLE, -share.payable, whose),
            (Account.TDS_PAYABLE, -share.tds, whose),
        ],
        memo=entry.idempotency_key,
    )


def contract_at(franchisee: Franchisee, at: datetime) -> Contract | None:
    """The contract in force at a moment: the newest that had begun."""
    return franchisee.contracts.filter(valid_from__lte=at).order_by("-valid_from", "-pk").first()


def _facts(entry: CommissionLedgerEntry) -> dict[str, object]:
    names = ("status", "hold_reason", "pg_fee", "net_excl_gst", "tds", "payable")
    return {name: getattr(entry, name) for name in names} | {"booked": entry.booked_at is not None}


def _mark() -> int:
    return ShareMark.objects.values_list("bill_id", flat=True).first() or 0


@transaction.atomic
def _move_mark(now: datetime) -> None:
    """Forget the bills that are done with, so that the next look is as short as this one."""
    ShareMark.objects.get_or_create(pk=1)
    mark = ShareMark.objects.select_for_update(skip_locked=True).filter(pk=1).first()
    if mark is None:
        return
    settled = Bill.objects.filter(pk__gt=mark.bill_id, created_at__lt=now - MARK_LAG).aggregate(last=Max("pk"))["last"]
    if settled is None:
        return
    open_bills = Bill.objects.filter(pk__gt=mark.bill_id, pk__lte=settled, payment__isnull=False, session__billed_at__isnull=True)
    first_open = min(
        (pk for q in (to_share(now), open_bills) if (pk := q.order_by("pk").values_list("pk", flat=True).first())), default=None
    )
    last = settled if first_open is None else min(settled, first_open - 1)
    ShareMark.objects.filter(pk=1, bill_id__lt=last).update(bill_id=last, updated_at=now)


def _safely(deed, pk: int, now: datetime) -> int:
    """One row's trouble never stops the rows after it; it stays due and is logged."""
    try:
        return int(deed(pk, now))
    except Exception:
        log.exception("%s %s could not be worked on", deed.__name__, pk)
        return 0
