"""What Razorpay says of our transfers: in an answer, in a webhook, in a settlement. Forward only, whoever says it first.

A webhook is a bell: it names a transfer, and Razorpay is asked what is true of it. Transfers and settlements that are
not ours (installations may share an account) are stored and never acted upon.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from billing import differences, ledger, razorpay
from billing.events import entity
from billing.models import Account, WebhookEvent
from franchise import hearing
from franchise.models import CommissionLedgerEntry, Payout, RazorpaySettlement

log = logging.getLogger(__name__)

State = Payout.State
Status = CommissionLedgerEntry.Status
RETRY_AFTER = timedelta(minutes=30)
# Razorpay pays linked accounts two working days later at the earliest; a lost webhook is made good by asking.
FOLLOW_EVERY = timedelta(hours=12)
FOLLOW_FOR = timedelta(days=30)
EVENTS = ("transfer.", "transfers.", "settlement.")


# -- hear -----------------------------------------------------------------------------------------------------
def to_hear(now: datetime) -> QuerySet[WebhookEvent]:
    return hearing.waiting(EVENTS, now)


def hear_due(now: datetime, limit: int) -> int:
    """Work on the stored transfer and settlement events; returns how many."""
    return hearing.hear(EVENTS, now, limit, _heard)


def _heard(event: WebhookEvent, now: datetime) -> str:
    """What was done about one event; "" when it is none of ours."""
    if event.event.startswith("settlement."):
        said = entity(event.payload, "settlement")
        return settle(str(said.get("id") or ""), now, said)
    named = entity(event.payload, "transfer")
    if not named.get("id"):
        return ""
    payout = Payout.objects.filter(razorpay_id=named["id"]).first() or Payout.objects.filter(key=key_in(named)).first()
    if payout is None:
        return ""
    persist(payout.pk, razorpay.fetch_transfer(named["id"]), now)
    return f"payout {payout.pk}"


def key_in(transfer: dict[str, Any]) -> str:
    """Our key in a transfer's notes (Razorpay writes empty notes as a list)."""
    notes = transfer.get("notes")
    return str(notes.get("payout") or "") if isinstance(notes, dict) else ""


# -- persist --------------------------------------------------------------------------------------------------
def persist(payout_id: int, transfer: dict[str, Any], now: datetime) -> Payout:
    """Write what Razorpay says of a transfer on its payout. Steps back are not taken: they are logged."""
    said = str(transfer.get("status") or transfer.get("transfer_status") or "")
    if said == "failed":
        error = transfer.get("error") if isinstance(transfer.get("error"), dict) else {}
        why = f"{error.get('code') or 'failed'}: {error.get('description') or error.get('reason') or 'no reason given'}"
        return fail(payout_id, why, now, transfer_id=transfer["id"], counts="insufficient_balance" not in f"{error}".lower())
    with transaction.atomic():
        payout = Payout.objects.select_for_update(no_key=True).get(pk=payout_id)
        if _overtaken(payout, transfer, said) or not _is_of(payout, transfer, now):
            return payout
        before = payout.state
        payout.razorpay_id = transfer["id"]
        payout.claimed_until = None
        payout.last_error = ""
        if isinstance(transfer.get("fees"), int) and payout.fees is None:
            payout.fees = transfer["fees"]
        if said in ("processed", "reversed", "partially_reversed"):
            _processed(payout, now)
            if said != "processed":
                _came_back(payout, transfer, said)
        elif payout.state in (State.DUE, State.ASKING):
            payout.state = State.PENDING
        if payout.state == State.PENDING:
            payout.retry_at = now + min(max(now - payout.asked_at, timedelta(minutes=1)), RETRY_AFTER)
        payout.save()
        if payout.fees and payout.state == State.PROCESSED:
            _book(payout, "fee", (Account.RAZORPAY_FEES, payout.fees), (Account.CLEARING, -payout.fees))
        if payout.state != before or payout.last_error:
            audit.record(
                f"payout.{payout.state}",
                payout,
                before={"state": before},
                after={"state": payout.state, "transfer": payout.razorpay_id, "said": said},
            )
    settlement = transfer.get("recipient_settlement_id")
    if settlement and payout.state == State.PROCESSED and not payout.settlement_id:
        settle(str(settlement), now)
    return payout


def _overtaken(payout: Payout, transfer: dict[str, Any], said: str) -> bool:
    """Whether this answer is of before the failure we have heard of since: whoever asked was slower than the webhook."""
    return payout.state == State.FAILED and payout.razorpay_id == transfer["id"] and said in ("created", "pending")


def _is_of(payout: Payout, transfer: dict[str, Any], now: datetime) -> bool:
    """Whether this transfer is this payout's: same account and amount, and not a second one."""
    if payout.razorpay_id not in (None, transfer["id"]):
        problem = f"a second transfer {transfer['id']} bears this payout's key"
    elif (transfer.get("amount"), transfer.get("recipient")) != (payout.amount_paise, payout.account):
        problem = "its transfer has another amount or account"
    elif payout.state == State.FAILED:
        problem = f"it failed and was given up, but Razorpay now says {transfer.get('status')}"
    else:
        return True
    log.error("payout %s: %s; a person must look", payout.pk, problem)
    audit.record("payout.contradiction", payout, after={"problem": problem, "transfer": transfer["id"]})
    payout.last_error, payout.claimed_until = f"A person must look: {problem}"[:300], None
    payout.retry_at = None if payout.state == State.FAILED else now + FOLLOW_EVERY  # no new attempt while this is open
    payout.save(update_fields=["last_error", "claimed_until", "retry_at"])
    return False


def _processed(payout: Payout, now: datetime) -> None:
    """The money left our balance and stands at the linked account. In the bank it is only when settled."""
    if payout.state == State.PROCESSED:
        payout.retry_at = follow_at(payout, now)
        return
    payout.state = State.PROCESSED
    payout.processed_at = now
    payout.retry_at = now + FOLLOW_EVERY
    book_asked(payout)
    _book(payout, "done", (Account.TRANSFERS_IN_FLIGHT, payout.amount_paise), (Account.CLEARING, -payout.amount_paise))
    payout.entries.filter(status=Status.PENDING).update(status=Status.TRANSFERRED, updated_at=now)


def _came_back(payout: Payout, transfer: dict[str, Any], said: str) -> None:
    """Somebody took (a part of) it back on the dashboard. Whether it is owed again only they know: a difference, and nothing is booked."""
    told = transfer.get("amount_reversed")
    back = told if type(told) is int and told > 0 else payout.amount_paise
    payout.last_error = f"Razorpay says {said}: {back} paise came back. A person must look."
    note = f"payout {payout.pk} to {payout.account}: {back} paise were taken back; its shares count as paid"
    if differences.show("transfer_reversed", transfer["id"], payout.amount_paise, payout.amount_paise - back, note):
        log.error("payout %s: Razorpay says %s, %s paise came back; a person must look", payout.pk, said, back)


def follow_at(payout: Payout, now: datetime) -> datetime | None:
    """When a processed payout is next asked after, until it is in the bank; None once that is known or no longer hoped for."""
    return now + FOLLOW_EVERY if now - payout.processed_at < FOLLOW_FOR and not payout.settlement_id else None


@transaction.atomic
def fail(payout_id: int, why: str, now: datetime, *, transfer_id: str = "", counts: bool = True) -> Payout:
    """A confirmed failure: this payout is dead, its entries are owed again, and a new attempt follows later.

    A low balance and a changed account are our own matter: they never count (`counts`) as a failed attempt.
    """
    payout = Payout.objects.select_for_update(no_key=True).get(pk=payout_id)
    if payout.state == State.FAILED:
        return payout
    if payout.state == State.PROCESSED:
        log.error("payout %s was processed, and now Razorpay says failed (%s); a person must look", payout.pk, why)
        audit.record("payout.contradiction", payout, after={"problem": why[:200], "transfer": transfer_id})
        payout.last_error, payout.claimed_until = f"A person must look: {why}"[:300], None
        payout.retry_at = now + FOLLOW_EVERY
        payout.save(update_fields=["last_error", "claimed_until", "retry_at"])
        return payout
    before = payout.state
    payout.state = State.FAILED
    payout.failures += 1 if counts else 0
    payout.last_error = why[:300]
    payout.razorpay_id = payout.razorpay_id or transfer_id or None
    payout.retry_at = now + RETRY_AFTER
    payout.claimed_until = None
    payout.save()
    if ledger.posted(f"payout:{payout.pk}:asked"):
        _book(payout, "failed", (Account.TRANSFERS_IN_FLIGHT, payout.amount_paise), (Account.FRANCHISEE_PAYABLE, -payout.amount_paise))
    audit.record("payout.failed", payout, before={"state": before}, after={"state": payout.state, "why": why[:200], "counted": counts})
    return payout


def book_asked(payout: Payout) -> None:
    """The debt to the franchisee becomes money on its way."""
    _book(payout, "asked", (Account.FRANCHISEE_PAYABLE, payout.amount_paise), (Account.TRANSFERS_IN_FLIGHT, -payout.amount_paise))


def _book(payout: Payout, deed: str, *lines: tuple[str, int]) -> None:
    subjects = {Account.FRANCHISEE_PAYABLE: f"franchisee:{payout.franchisee_id}"}
    ledger.post(
        f"payout:{payout.pk}:{deed}",
        [(account, amount, subjects.get(account, f"payout:{payout.pk}")) for account, amount in lines],
        # The transfer's id stands last: the nightly comparison finds the entry by it.
        memo=f"attempt {payout.attempt} {payout.razorpay_id or ''}".strip(),
    )


# -- settle ---------------------------------------------------------------------------------------------------
def settle(settlement_id: str, now: datetime, said: dict[str, Any] | None = None) -> str:
    """A settlement paid transfers out to a bank: mark those that are ours. Returns what was done, "" for nothing of ours.

    The event carries no transfers, so Razorpay is asked for them; none at all means it is our own account's settlement.
    `said` is what the event says of it: used where Razorpay does not show us another account's settlement.
    """
    paid = {transfer["id"]: transfer for transfer in razorpay.transfers_of_settlement(settlement_id)}
    ours = list(Payout.objects.filter(razorpay_id__in=paid).select_related("franchisee")) if paid else []
    if paid and not ours:
        return ""
    try:
        told = razorpay.fetch_settlement(settlement_id)
    except razorpay.Declined:
        if not ours:
            return ""
        told = said or {}
    with transaction.atomic():
        row, _ = RazorpaySettlement.objects.update_or_create(
            razorpay_id=settlement_id,
            defaults={
                "franchisee": ours[0].franchisee if ours else None,
                "amount_paise": told.get("amount") or sum(transfer["amount"] for transfer in paid.values()),
                "fees": told.get("fees") or 0,
                "tax": told.get("tax") or 0,
                "utr": told.get("utr") or "",
                "status": str(told.get("status") or "processed")[:16],
                "settled_at": datetime.fromtimestamp(told["created_at"], UTC) if told.get("created_at") else now,
            },
        )
        for payout in ours:
            if row.status == "processed" and paid[payout.razorpay_id].get("settlement_status") in (None, "settled"):
                _settled(payout.pk, settlement_id, now)
    return f"settlement of {len(ours)} payouts" if ours else "our own settlement"


def _settled(payout_id: int, settlement_id: str, now: datetime) -> None:
    payout = Payout.objects.select_for_update(no_key=True).get(pk=payout_id)
    if payout.settlement_id or payout.state == State.FAILED:
        return
    _processed(payout, now)
    payout.settlement_id = settlement_id
    payout.retry_at = None
    payout.save()
    settled = payout.entries.filter(status=Status.TRANSFERRED).update(status=Status.SETTLED, updated_at=now)
    audit.record("payout.settled", payout, after={"settlement": settlement_id, "entries": settled})
