"""Payouts: shares gathered into one Direct Transfer, asked under one key until its fate is known.

    due -> asking -> pending -> processed        a transfer, and whether it stands at the linked account
                  -> failed                      dead; a new numbered attempt with a new key follows (`follows`)

The key, the exact body and the linked account are frozen on the row before the first call. While we do not know whether
a call arrived, Razorpay is asked first and the same key is sent again; a new key is used only after a confirmed failure,
or when the franchisee's account was changed and nothing was sent to the old one. Holds, a low balance and TryAgain are
waits, never failures. An entry belongs to one payout at a time, under its lock.
"""

import logging
import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum, Value

from accounts import audit
from billing import razorpay
from franchise import corrections, gates, transfers
from franchise.models import CommissionLedgerEntry, Franchisee, Payout
from franchise.rules.gate import REASONS, TRANSFERS_OFF
from voltaro import clock, jobs

log = logging.getLogger(__name__)

State = Payout.State
Status = CommissionLedgerEntry.Status
SMALLEST_TRANSFER_PAISE = 100
ENTRIES_PER_PAYOUT = 500
CLAIM = timedelta(minutes=2)
RETRY_AFTER = timedelta(minutes=30)
HELD_FOR = timedelta(minutes=10)
# A transfer asked and never heard of is looked for this far before the asking (our clock and theirs differ).
LOOK_BACK = timedelta(minutes=15)
PAGES_TO_LOOK_AT = 20
# Stays in `last_error` whatever follows: such a payout never gets a new key by itself.
DISPUTED = "Not known whether it happened: Razorpay disputes its key"


def due(now: datetime) -> QuerySet:
    """What `work_due` would take up: transfer events, shares to gather, payouts to ask or to ask about."""
    heard = transfers.to_hear(now).order_by().annotate(what=Value("transfer event")).values_list("what", "pk")
    shares = _owed(now).annotate(what=Value("franchisee to pay")).values_list("what", "franchisee")
    return heard.union(shares, to_ask(now).order_by().annotate(what=Value("payout")).values_list("what", "pk"))


def work_due(now: datetime, limit: int) -> int:
    """Hear what Razorpay reported, gather what is due, ask for it, and ask after what is on its way."""
    return transfers.hear_due(now, limit) + collect_due(now, limit) + ask_due(now, limit)


# -- gather ---------------------------------------------------------------------------------------------------
def to_collect(now: datetime) -> QuerySet[CommissionLedgerEntry]:
    """Shares that are due and in no payout yet."""
    return CommissionLedgerEntry.objects.filter(status=Status.PENDING, payout__isnull=True, due_at__lte=now)


def _owed(now: datetime) -> QuerySet:
    """The franchisees who are owed a rupee or more; less than that waits for more of it."""
    owed = to_collect(now).order_by().values("franchisee").annotate(paise=Sum("payable"), back=corrections.owed_back("franchisee"))
    return owed.filter(paise__gte=F("back") + SMALLEST_TRANSFER_PAISE)


def collect_due(now: datetime, limit: int) -> int:
    """One payout per franchisee who is owed enough, what is to be deducted taken off; returns how many were made."""
    return jobs.each([row["franchisee"] for row in _owed(now)[:limit]], lambda pk: collect(pk, now) is not None, "franchisee")


@transaction.atomic
def collect(franchisee_id: int, now: datetime) -> Payout | None:
    """Gather one franchisee's due shares into a payout; None when there is nothing to pay or another worker does it."""
    franchisee = Franchisee.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).filter(pk=franchisee_id).first()
    if franchisee is None:
        return None
    if reason := gates.closed(franchisee, now):
        held = gates.shut(franchisee, reason)
        audit.record("payouts.held", franchisee, after={"reason": reason, "entries": held})
        return None
    rows = to_collect(now).filter(franchisee=franchisee).order_by("pk")
    entries = list(rows.select_for_update(of=("self",), no_key=True)[:ENTRIES_PER_PAYOUT])
    total = sum(entry.payable for entry in entries)
    if total < SMALLEST_TRANSFER_PAISE:
        return None
    taken = corrections.take(franchisee, total - SMALLEST_TRANSFER_PAISE)
    if len(taken) < corrections.open_(franchisee).count() and len(entries) < ENTRIES_PER_PAYOUT:
        return None  # what was paid too much is deducted before anything is paid
    deducted = sum(row.payable for row in taken)
    total -= deducted
    payout = _make(franchisee, total, now)
    corrections.put(taken, payout)
    for entry in entries:
        entry.payout = payout
    CommissionLedgerEntry.objects.bulk_update(entries, ["payout"])
    audit.record(
        "payout.made", payout, after={"amount_paise": total, "entries": len(entries), "deducted": deducted, "account": payout.account}
    )
    return payout


def _make(franchisee: Franchisee, amount_paise: int, now: datetime, *, follows: Payout | None = None) -> Payout:
    key = f"{settings.INSTANCE_PREFIX[:12]}-po-{uuid.uuid4().hex[:20]}"
    account = franchisee.linked_account.razorpay_id
    return Payout.objects.create(
        franchisee=franchisee,
        account=account,
        amount_paise=amount_paise,
        key=key,
        body={
            "account": account,
            "amount": amount_paise,
            "currency": "INR",
            "notes": {"payout": key, "for": franchisee.company.name[:200]},
        },
        attempt=follows.attempt + 1 if follows else 1,
        failures=follows.failures if follows else 0,
        follows=follows,
        retry_at=now,
    )


# -- ask ------------------------------------------------------------------------------------------------------
def to_ask(now: datetime) -> QuerySet[Payout]:
    """Payouts to be asked, to be asked about, or whose way to the bank is still to be followed."""
    unclaimed = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
    return Payout.objects.filter(unclaimed, retry_at__lte=now).exclude(state=State.FAILED).order_by("retry_at", "pk")


def ask_due(now: datetime, limit: int) -> int:
    """Claim -> call -> persist, one payout after another, none under a lock during its call."""
    done = 0
    for _ in range(limit):
        payout = _claim(now)
        if payout is None:
            break
        try:
            _ask(payout, now)
        except Exception:
            log.exception("payout %s could not be worked on; it stays due", payout.pk)
        done += 1
    return done


@transaction.atomic
def _claim(now: datetime) -> Payout | None:
    payout = to_ask(now).select_for_update(skip_locked=True, no_key=True, of=("self",)).first()
    if payout is not None:
        payout.claimed_until = clock.now() + CLAIM  # `now` is when the batch began, and calls may be slow
        payout.save(update_fields=["claimed_until"])
    return payout


def _ask(payout: Payout, now: datetime) -> None:
    """One step of one claimed payout: no lock is held here."""
    try:
        if payout.razorpay_id:
            transfer = razorpay.fetch_transfer(payout.razorpay_id)
        else:
            transfer = _find(payout, now) if payout.asked_at else None
            if transfer is None:
                if reason := gates.closed(payout.franchisee, now):
                    return wait(payout.pk, now, REASONS[reason], HELD_FOR)
                if _account_changed(payout):
                    return _leave(payout.pk, now)
                if not mark_asked(payout.pk, now):
                    return
                transfer = razorpay.create_transfer(payout.body, payout.key)
    except razorpay.TryAgain as why:
        return wait(payout.pk, now, str(why))
    except razorpay.Unknown as why:
        return wait(payout.pk, now, f"Not known whether it happened: {why}")
    except razorpay.Declined as why:
        return _declined(payout, why, now)
    transfers.persist(payout.pk, transfer, now)


def _find(payout: Payout, now: datetime) -> dict | None:
    """The transfer of an asking whose answer we did not hear, if Razorpay has it: by our key in its notes.

    TryAgain when there are more than we look through, and without knowing it must not be sent again (see `_leave`).
    """
    since = int((payout.asked_at - LOOK_BACK).timestamp())
    until = int((now + LOOK_BACK).timestamp())
    for page in range(PAGES_TO_LOOK_AT):
        listed = razorpay.transfers(since=since, until=until, skip=page * razorpay.PAGE)
        for transfer in listed:
            if transfers.key_in(transfer) == payout.key:
                return transfer
        if len(listed) < razorpay.PAGE:
            return None
    if _account_changed(payout):
        log.error("payout %s: its account was changed, and too many transfers follow to see whether it was sent", payout.pk)
        raise razorpay.TryAgain("A person must look: made for another account, and not known whether it was sent")
    return None


def _account_changed(payout: Payout) -> bool:
    """Whether the franchisee has another account now than the one this payout was made for."""
    account = getattr(payout.franchisee, "linked_account", None)
    return account is not None and account.razorpay_id != payout.account


@transaction.atomic
def _leave(payout_id: int, now: datetime) -> None:
    """Razorpay has no transfer of it and its account is the franchisee's no more: the next attempt goes to the new one.

    Also when the answer to an earlier call was not heard: a changed account keeps the gate shut for a day, so such a call is a
    day old, and what it made would be listed. A disputed key is the exception: what was made under it may not bear it.
    """
    payout = Payout.objects.select_for_update(no_key=True).filter(pk=payout_id, razorpay_id__isnull=True).first()
    if payout is None:
        return  # recalled, or heard of meanwhile
    why = f"The linked account was changed from {payout.account} before it was sent"
    if DISPUTED in payout.last_error:
        log.error("payout %s: its key is disputed, and its account was changed; a person must look", payout.pk)
        wait(payout.pk, now, why)
    else:
        transfers.fail(payout.pk, why, now, counts=False)


def _declined(payout: Payout, why: razorpay.Declined, now: datetime) -> None:
    said = why.description.lower()
    if payout.razorpay_id:  # asked about, not asked: that a look-up is refused says nothing about the transfer
        wait(payout.pk, now, str(why))
    elif why.status == 409 or "idempotency" in said:
        # The key is known there with something else: a transfer may exist. Never a new key now.
        log.error("payout %s: Razorpay disputes its key; a person must look", payout.pk)
        wait(payout.pk, now, f"{DISPUTED}: {why}")
    elif "url was not found" in said:
        wait(payout.pk, now, f"{REASONS[TRANSFERS_OFF]} (Razorpay: {why.description})", RETRY_AFTER)
    else:
        transfers.fail(payout.pk, str(why), now)


@transaction.atomic
def mark_asked(payout_id: int, now: datetime) -> bool:
    """Before the first call: from here on it may have happened. False when it was recalled meanwhile."""
    payout = Payout.objects.select_for_update(no_key=True).filter(pk=payout_id).exclude(state=State.FAILED).first()
    if payout is None:
        return False
    if payout.asked_at is None:
        payout.asked_at = now
        payout.state = State.ASKING
        payout.save(update_fields=["asked_at", "state"])
        transfers.book_asked(payout)
        audit.record("payout.asked", payout, after={"amount_paise": payout.amount_paise, "attempt": payout.attempt})
    return True


@transaction.atomic
def recall(franchisee: Franchisee, why: str) -> int:
    """Take back the payouts nobody asked Razorpay for yet: they never were, and their shares wait again. Returns how many."""
    unasked = Payout.objects.select_for_update(no_key=True).filter(franchisee=franchisee, state=State.DUE, asked_at__isnull=True)
    payouts = list(unasked)
    for payout in payouts:
        audit.record("payout.recalled", payout, before={"key": payout.key, "account": payout.account}, after={"why": why})
        payout.entries.update(payout=None)
        payout.corrections.update(payout=None)
        payout.delete()
    return len(payouts)


@transaction.atomic
def wait(payout_id: int, now: datetime, why: str, pause: timedelta | None = None) -> None:
    """Leave it as it is and look again: after `pause`, or as long as it has waited already (1 to 30 minutes).

    What has arrived is only followed to the bank: as seldom as when Razorpay answers, and no longer.
    """
    payout = Payout.objects.select_for_update(no_key=True).filter(pk=payout_id).first()
    if payout is None or payout.state == State.FAILED:
        return
    if payout.state == State.PROCESSED:
        payout.retry_at = transfers.follow_at(payout, now)
    else:
        waited = now - (payout.asked_at or payout.created_at)
        payout.retry_at = now + (pause or min(max(waited, timedelta(minutes=1)), RETRY_AFTER))
    payout.claimed_until = None
    if DISPUTED in payout.last_error and DISPUTED not in why:
        why = f"{why[:200]}. {DISPUTED}"
    payout.last_error = why[:300]
    payout.save(update_fields=["retry_at", "claimed_until", "last_error"])


# -- try again ------------------------------------------------------------------------------------------------
def to_retry(now: datetime) -> QuerySet[Payout]:
    """Failed payouts to be followed by a new attempt, or given up."""
    return Payout.objects.filter(state=State.FAILED, retry_at__lte=now).order_by("retry_at", "pk")


def retry_due(now: datetime, limit: int) -> int:
    """Follow each failed payout by a new numbered attempt, MAX_TRANSFER_RETRIES times; then its entries are FAILED."""
    return jobs.each(list(to_retry(now).values_list("pk", flat=True)[:limit]), lambda pk: retry(pk, now), "payout")


@transaction.atomic
def retry(payout_id: int, now: datetime) -> bool:
    """False when another worker has it. While a gate is closed it waits, and that is not counted."""
    # The franchisee first, as everywhere: no account is changed between reading it and committing a payout to it.
    mine = Franchisee.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
    if mine.filter(payouts=payout_id).first() is None:
        return False
    old = (
        Payout.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
        .select_related("franchisee__linked_account", "franchisee__company")
        .filter(pk=payout_id, state=State.FAILED, retry_at__isnull=False)
        .first()
    )
    if old is None:
        return False
    if old.failures > settings.MAX_TRANSFER_RETRIES:
        gave_up = old.entries.filter(status=Status.PENDING).update(status=Status.FAILED)
        old.corrections.update(payout=None)
        old.retry_at = None
        old.save(update_fields=["retry_at"])
        audit.record("payout.given_up", old, after={"attempts": old.attempt, "entries": gave_up, "error": old.last_error})
        return True
    if gates.closed(old.franchisee, now):
        old.retry_at = now + HELD_FOR
        old.save(update_fields=["retry_at"])
        return True
    new = _make(old.franchisee, old.amount_paise, now, follows=old)
    moved = old.entries.filter(status=Status.PENDING).update(payout=new)
    old.corrections.update(payout=new)
    old.retry_at = None
    old.save(update_fields=["retry_at"])
    audit.record("payout.follows", new, after={"follows": old.pk, "attempt": new.attempt, "entries": moved, "account": new.account})
    jobs.ring("payout.due")
    return True


@transaction.atomic
def pay_again(entry_id: int, now: datetime) -> bool:
    """A person asks to pay a FAILED entry again, as a new share to gather; False when it has not failed."""
    entry = CommissionLedgerEntry.objects.select_for_update(no_key=True).get(pk=entry_id)
    if entry.status != Status.FAILED:
        return False
    audit.record("commission.pay_again", entry, before={"payout": entry.payout_id}, after={"status": Status.PENDING})
    entry.status, entry.payout, entry.due_at = Status.PENDING, None, now
    entry.save(update_fields=["status", "payout", "due_at"])
    jobs.ring("payout.due")
    return True
