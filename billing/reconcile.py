"""Razorpay's day against our day, by entity id. Reads only; a difference is a row for a person, closed by them or by proof.

The report of a day lists what was settled on it: payments, refunds, transfers, adjustments. Every line about something of ours
must say what our books say; what our day holds and the report does not (settlement takes days) is asked for one by one.
Lines about payments we never knew belong to other installations on the same account and are only counted.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts import audit
from billing import payments, razorpay
from billing.models import Difference, JournalEntry, QRPayment, ReconciledDay, Refund
from voltaro import clock
from voltaro.jobs import claim

log = logging.getLogger(__name__)

DAYS_BACK = 3
MOST_DAYS_BACK = 60
LEASE = timedelta(minutes=30)
PAGE = 1000
ASK_AT_MOST = 500
# So many questions in a row without an answer: Razorpay is away, the others wait for the next time.
UNANSWERED_AT_MOST = 5
# What a comparison of a day finds by itself, and so what a later one may close.
KINDS = {"payment_amount", "payment_fee", "payment_unknown", "refund_amount", "refund_state", "refund_unknown", "transfer_amount"}
# The settlement report of a day is complete some hours after it.
READY_AFTER = timedelta(hours=6)


@dataclass(frozen=True)
class Found:
    """One difference: what our books say and what Razorpay says, in paise."""

    kind: str
    subject: str
    ours: int | None
    theirs: int | None
    note: str = ""


def due(now: datetime) -> QuerySet[ReconciledDay]:
    """Days noted and not yet compared (`work_due` notes them as they end): those that failed after those not tried."""
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    return ReconciledDay.objects.filter(free, done_at=None, day__lt=timezone.localdate(now - READY_AFTER)).order_by(
        F("claimed_until").asc(nulls_first=True), "day"
    )


def work_due(now: datetime, limit: int) -> int:
    """Compare the days that ended lately; a day that Razorpay cannot answer for now is tried again."""
    _note_days(timezone.localdate(now - READY_AFTER))
    done = 0
    for row in claim(due(now), min(limit, DAYS_BACK), claimed_until=clock.now() + LEASE):
        try:
            done += run(row.day).done_at is not None
        except (razorpay.TryAgain, razorpay.Unknown, razorpay.Declined) as error:
            log.warning("reconciling %s waits: %s", row.day, type(error).__name__)
            ReconciledDay.objects.filter(pk=row.pk).update(last_error=str(error)[:300])
        except Exception as error:
            log.exception("reconciling %s failed", row.day)
            ReconciledDay.objects.filter(pk=row.pk).update(last_error=type(error).__name__)
    return done


def _note_days(today: date) -> None:
    """Every day since the last one noted (the first time: a few days back), so that none is missed while no worker runs."""
    newest = ReconciledDay.objects.filter(day__lt=today).order_by("-day").values_list("day", flat=True).first()
    missed = (today - newest).days - 1 if newest else 0
    for back in range(1, min(max(missed, DAYS_BACK), MOST_DAYS_BACK) + 1):
        ReconciledDay.objects.get_or_create(day=today - timedelta(days=back))


def run(day: date) -> ReconciledDay:
    """Compare one day (IST) and write down what differs; running it again brings the rows up to date. Raises what razorpay raises.

    What Razorpay did not answer about, one by one, leaves the day open (`done_at`): it is compared again.
    """
    lines = list(_report(day))
    known = _Known(lines)
    found: list[Found] = []
    foreign = 0
    for line in lines:
        verdict = _compare(line, known)
        foreign += verdict is None
        found += verdict or []
    unanswered: set[str] = set()
    found += _missing(day, known, unanswered)
    with transaction.atomic():
        row, _ = ReconciledDay.objects.select_for_update().get_or_create(day=day)
        _write(day, found, unanswered)
        row.items, row.foreign, row.differences = len(lines), foreign, len(found)
        row.matched = len(lines) - foreign - len({difference.subject for difference in found} & {_id(line) for line in lines})
        if unanswered:
            row.done_at, row.last_error = None, f"Razorpay did not answer about {len(unanswered)}: {', '.join(sorted(unanswered))}"[:300]
            row.save()
            return row
        row.done_at, row.claimed_until, row.last_error = clock.now(), None, ""
        row.save()
        audit.record("day.reconciled", row, after={"items": row.items, "differences": row.differences, "foreign": row.foreign})
    if found:
        log.error("reconciling %s: %s differences", day, len(found))
    return row


class _Known:
    """Our rows for the ids in the report."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        ids = {_id(line) for line in lines} | {str(line.get("payment_id") or "") for line in lines}
        self.payments = {row.razorpay_payment_id: row for row in QRPayment.objects.filter(razorpay_payment_id__in=ids)}
        self.refunds = {row.razorpay_id: row for row in Refund.objects.filter(razorpay_id__in=ids)}
        # Franchise writes Razorpay's transfer id last into the memo of a payout's entries.
        transfers = {one for one in ids if one.startswith("trf_")}
        booked = JournalEntry.objects.filter(key__startswith="payout:", key__endswith=":done", at__gte=_earliest(lines))
        self.transfers = {
            entry.memo.rpartition(" ")[2]: sum(posting.amount_paise for posting in entry.postings.all() if posting.amount_paise > 0)
            for entry in (booked.prefetch_related("postings") if transfers else [])
            if entry.memo.rpartition(" ")[2] in transfers
        }
        self.report_ids = ids


def _compare(line: dict[str, Any], known: _Known) -> list[Found] | None:
    """What one line of the report says otherwise than we; None when it is not about anything of ours."""
    subject, theirs = _id(line), int(line.get("amount") or 0)
    match line.get("type"):
        case "payment":
            payment = known.payments.get(subject)
            if payment is None:
                return None
            return [*_amount("payment_amount", subject, payment.amount_paid, theirs), *_fee(payment, line)]
        case "refund":
            refund = known.refunds.get(subject)
            if refund is not None:
                state = Refund.State.PROCESSED
                wrong = (
                    [] if refund.state == state else [Found("refund_state", subject, None, theirs, f"settled there, {refund.state} here")]
                )
                return [*_amount("refund_amount", subject, refund.amount_paise, theirs), *wrong]
            if str(line.get("payment_id") or "") in known.payments:
                return [Found("outside_refund", subject, None, theirs, f"of {line['payment_id']}, not asked by us")]
            return None
        case "transfer":
            return _amount("transfer_amount", subject, known.transfers[subject], theirs) if subject in known.transfers else None
        case _ if str(line.get("payment_id") or "") in known.payments:
            return [
                Found("adjustment", subject, None, int(line.get("credit") or 0) - int(line.get("debit") or 0), str(line.get("description")))
            ]
    return None


def _amount(kind: str, subject: str, ours: int, theirs: int) -> list[Found]:
    return [] if ours == theirs else [Found(kind, subject, ours, theirs)]


def _fee(payment: QRPayment, line: dict[str, Any]) -> list[Found]:
    """The report's fee is the final one: it fills in an unknown fee, and differs loudly from a booked one."""
    theirs = line.get("fee")
    if type(theirs) is not int:
        return []
    if payment.fee is None:
        payments.learn_fee(payment.pk, {"fee": theirs, "tax": line.get("tax")}, "api")
        return []
    return _amount("payment_fee", payment.razorpay_payment_id, payment.fee, theirs)


def _missing(day: date, known: _Known, unanswered: set[str]) -> Iterator[Found]:
    """What our day holds and the report does not, asked of Razorpay one by one; fills `unanswered` with what it did not say."""
    start = timezone.make_aware(datetime.combine(day, time.min))
    within = (start, start + timedelta(days=1))
    ours = QRPayment.objects.filter(paid_at__gte=within[0], paid_at__lt=within[1]).exclude(razorpay_payment_id__in=known.report_ids)
    done = Refund.objects.filter(processed_at__gte=within[0], processed_at__lt=within[1], state=Refund.State.PROCESSED)
    done = done.exclude(razorpay_id__in=known.report_ids)
    asked = [(payment.razorpay_payment_id, _missing_payment, payment) for payment in ours.order_by("pk")[:ASK_AT_MOST]]
    asked += [(str(refund.razorpay_id), _missing_refund, refund) for refund in done.order_by("pk")[:ASK_AT_MOST]]
    in_a_row = 0
    for subject, ask, row in asked:
        if in_a_row == UNANSWERED_AT_MOST:
            unanswered.add(subject)
            continue
        try:
            found = list(ask(subject, row))
        except razorpay.TryAgain:
            unanswered.add(subject)
            in_a_row += 1
        else:
            in_a_row = 0
            yield from found


def _missing_payment(subject: str, payment: QRPayment) -> Iterator[Found]:
    try:
        theirs = razorpay.fetch_payment(subject)
    except razorpay.Declined as no:
        yield Found("payment_unknown", subject, payment.amount_paid, None, no.description)
    else:
        yield from _amount("payment_amount", subject, payment.amount_paid, int(theirs.get("amount") or 0))


def _missing_refund(subject: str, refund: Refund) -> Iterator[Found]:
    try:
        theirs = razorpay.fetch_refund(subject)
    except razorpay.Declined as no:
        yield Found("refund_unknown", subject, refund.amount_paise, None, no.description)
        return
    yield from _amount("refund_amount", subject, refund.amount_paise, int(theirs.get("amount") or 0))
    if theirs.get("status") == "failed":
        yield Found("refund_state", subject, refund.amount_paise, 0, "failed there, processed here")


def _report(day: date) -> Iterator[dict[str, Any]]:
    skip = 0
    while True:
        page = razorpay.recon(day, skip=skip, count=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        skip += PAGE


def _write(day: date, found: list[Found], unanswered: set[str]) -> None:
    """Rows for what differs; what differed before and no longer does is closed by proof, which no answer is not."""
    for one in found:
        Difference.objects.update_or_create(
            day=day,
            kind=one.kind,
            subject=one.subject[:60],
            defaults={"ours_paise": one.ours, "theirs_paise": one.theirs, "note": one.note[:300]},
        )
    unproven = {subject[:60] for subject in unanswered}
    still = {(one.kind, one.subject[:60]) for one in found}
    for row in Difference.objects.filter(day=day, resolved_at=None, kind__in=KINDS):
        if (row.kind, row.subject) not in still and row.subject not in unproven:
            row.resolved_at, row.note = clock.now(), f"{row.note} (gone when compared again)"[:300]
            row.save(update_fields=["resolved_at", "note"])


def _id(line: dict[str, Any]) -> str:
    return str(line.get("entity_id") or "")


def _earliest(lines: list[dict[str, Any]]) -> datetime:
    """A day before the oldest line's own time: no entry of it can be older."""
    times = [line["created_at"] for line in lines if type(line.get("created_at")) is int]
    return datetime.fromtimestamp(min(times), UTC) - timedelta(days=1) if times else datetime.min.replace(tzinfo=UTC)
