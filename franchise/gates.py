"""Which franchisees' money may move right now: the one reading of franchise/rules/gate.py against the rows.

`closed` asks for one franchisee, `open_` is the same question to the whole table.
"""

from datetime import datetime

from django.conf import settings
from django.db.models import Q, QuerySet

from franchise.models import CommissionLedgerEntry, Franchisee, LinkedAccount
from franchise.rules import gate

Status = CommissionLedgerEntry.Status


def closed(franchisee: Franchisee, now: datetime) -> str:
    """The first closed gate as a code of gate.REASONS; "" when all are open."""
    account = getattr(franchisee, "linked_account", None)
    return gate.closed(
        transfers_on=settings.DIRECT_TRANSFERS_ENABLED,
        held=franchisee.payouts_on_hold,
        account_status=account.status if account else None,
        usable_from=account.usable_from if account else None,
        now=now,
    )


def open_(now: datetime) -> QuerySet[Franchisee]:
    """The franchisees whose gates are all open."""
    if not settings.DIRECT_TRANSFERS_ENABLED:
        return Franchisee.objects.none()
    usable = Q(linked_account__usable_from__isnull=True) | Q(linked_account__usable_from__lte=now)
    return Franchisee.objects.filter(usable, payouts_on_hold=False, linked_account__status=LinkedAccount.Status.ACTIVATED)


def shut(franchisee: Franchisee, reason: str) -> int:
    """Put the shares that wait for their payout on hold; returns how many. A payout already made is not touched."""
    waiting = CommissionLedgerEntry.objects.filter(franchisee=franchisee, status=Status.PENDING, payout__isnull=True)
    return waiting.update(status=Status.ON_HOLD, hold_reason=reason)
