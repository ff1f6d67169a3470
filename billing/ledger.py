"""The books: double entry, append-only, every deed under one natural key.

    post("payment:pay_X", [("clearing", 50_000, "payment:pay_X"), ("prepaid", -50_000, "payment:pay_X")])

A repeat is a success; the same key with other postings is our own mistake, and loud. `check()` proves that what the
rows say and what the books say is the same, paisa by paisa.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, OuterRef, Sum, Value
from django.db.models.functions import Concat

from billing.models import Account, Bill, JournalEntry, Posting, QRPayment, Refund

Line = tuple[str, int, str]
CHUNK = 1000
REMAINDER_REASON = "under_a_rupee"


class KeyReused(Exception):
    """The same key came with other postings: two different deeds claim to be one. A bug, never to be ignored."""


def post(key: str, postings: Sequence[Line], memo: str = "") -> JournalEntry:
    """Write one entry of (account, amount in paise, subject); debits positive. Zero amounts are left out.

    The same key and postings again: the old entry, quietly. Other postings: raises KeyReused.
    """
    lines = [(Account(account).value, amount, subject) for account, amount, subject in postings if amount]
    assert len(lines) >= 2 and sum(amount for _, amount, _ in lines) == 0, (key, postings)
    digest = _digest(lines)
    if old := JournalEntry.objects.filter(key=key).first():
        return _same(old, digest)
    try:
        with transaction.atomic():
            entry = JournalEntry.objects.create(key=key, digest=digest, memo=memo[:200])
            Posting.objects.bulk_create(
                Posting(entry=entry, account=account, amount_paise=amount, subject=subject) for account, amount, subject in lines
            )
    except IntegrityError:
        # Somebody posted it between our look and our insert.
        return _same(JournalEntry.objects.get(key=key), digest)
    return entry


def posted(key: str) -> bool:
    return JournalEntry.objects.filter(key=key).exists()


def balance(account: str, subject: str | None = None) -> int:
    """The sum of an account in paise (debits positive), of one subject when one is named."""
    rows = Posting.objects.filter(account=account)
    if subject is not None:
        rows = rows.filter(subject=subject)
    return rows.aggregate(total=Sum("amount_paise"))["total"] or 0


def of_payment(payment: QRPayment) -> str:
    """The subject of a payment's postings."""
    return f"payment:{payment.razorpay_payment_id}"


def check() -> list[str]:
    """What is wrong with the books, in sentences; nothing when they are right.

    Every entry balances; for every payment, paid = billed + refunded + held, and each account holds what the rows
    (payments, bills, refunds) say it must.
    """
    return [*_unbalanced(), *_ownerless(), *_payments_that_differ()]


def _unbalanced() -> Iterator[str]:
    entries = JournalEntry.objects.annotate(total=Sum("postings__amount_paise"), sides=Count("postings"))
    for entry in entries.exclude(total=0, sides__gte=2).order_by("id"):
        yield f"entry {entry.key}: {entry.sides} postings that sum to {entry.total or 0} paise"


def _ownerless() -> Iterator[str]:
    known = QRPayment.objects.annotate(subject=Concat(Value("payment:"), "razorpay_payment_id")).filter(subject=OuterRef("subject"))
    subjects = Posting.objects.filter(subject__startswith="payment:").exclude(Exists(known))
    for subject in subjects.order_by("subject").values_list("subject", flat=True).distinct():
        yield f"{subject}: has postings but there is no such payment"


def _payments_that_differ() -> Iterator[str]:
    last = 0
    while chunk := list(QRPayment.objects.filter(pk__gt=last).order_by("pk").select_related("bill")[:CHUNK]):
        last = chunk[-1].pk
        actual = _actual(of_payment(payment) for payment in chunk)
        refunds: dict[int, list[Refund]] = defaultdict(list)
        for refund in Refund.objects.filter(payment__in=chunk):
            refunds[refund.payment_id].append(refund)
        for payment in chunk:
            yield from _differs(payment, refunds[payment.pk], actual[of_payment(payment)])


def _actual(subjects: Iterable[str]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = defaultdict(dict)
    rows = Posting.objects.filter(subject__in=list(subjects)).values_list("subject", "account").order_by()
    for subject, account, total in rows.annotate(total=Sum("amount_paise")):
        sums[subject][account] = int(total)
    return sums


def _differs(payment: QRPayment, refunds: list[Refund], actual: dict[str, int]) -> Iterator[str]:
    bill: Bill | None = getattr(payment, "bill", None)
    asked = sum(r.amount_paise for r in refunds if r.asked_at and r.state != Refund.State.FAILED)
    done = sum(r.amount_paise for r in refunds if r.state == Refund.State.PROCESSED)
    remainder = payment.remainder + (bill.remainder if bill else 0)
    billed = bill.total if bill else 0
    held = payment.amount_paid - billed - remainder - asked
    fee = payment.fee or 0
    expected = {
        Account.CLEARING: payment.amount_paid - done - fee,
        Account.PREPAID: -held,
        Account.REFUNDS_IN_FLIGHT: done - asked,
        Account.REMAINDERS: -remainder,
        Account.RAZORPAY_FEES: fee,
        Account.ENERGY_REVENUE: -bill.energy_charge if bill else 0,
        Account.CGST_PAYABLE: -bill.cgst if bill else 0,
        Account.SGST_PAYABLE: -bill.sgst if bill else 0,
        Account.IGST_PAYABLE: -bill.igst if bill else 0,
        Account.PLATFORM_FEE: -bill.platform_fee if bill else 0,
        Account.OVERRUN_GIVEN: bill.overrun_paise if bill else 0,
        Account.OVERRUN_DELIVERED: -bill.overrun_paise if bill else 0,
    }
    name = of_payment(payment)
    for account in sorted({*expected, *actual}):
        if expected.get(account, 0) != actual.get(account, 0):
            yield f"{name}: {account} holds {actual.get(account, 0)} paise, the rows say {expected.get(account, 0)}"
    if held < 0:
        yield f"{name}: {payment.amount_paid} paise paid, but {billed + remainder + asked} billed and refunded"
    if payment.state == QRPayment.State.SETTLED and (held or done != asked):
        yield f"{name}: settled, but {held} paise are held and {asked - done} are on their way"


def _digest(lines: Sequence[Line]) -> str:
    return hashlib.sha256(json.dumps(sorted(lines)).encode()).hexdigest()


def _same(old: JournalEntry, digest: str) -> JournalEntry:
    if old.digest != digest:
        raise KeyReused(f"{old.key} was posted before with other postings (entry {old.pk})")
    return old
