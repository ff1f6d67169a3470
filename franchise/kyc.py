"""Linked accounts on their way to activation: Razorpay's word, by webhook when it comes, by asking when it does not.

The webhooks of Route accounts are few and may never come, so an account that is not activated is asked for, soon at
first and ever more rarely. Activation opens the gate to the franchisee's held shares.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet, Value

from accounts import audit
from billing import razorpay
from billing.events import entity
from billing.models import WebhookEvent
from franchise import hearing
from franchise.models import LinkedAccount
from voltaro import jobs

log = logging.getLogger(__name__)

Status = LinkedAccount.Status
EVENTS = ("product.route.", "account.", "linked_account.")
CLAIM = timedelta(minutes=2)
SOONEST, RAREST = timedelta(minutes=5), timedelta(hours=6)


def due(now: datetime) -> QuerySet:
    """What `work_due` would take up: account events, and accounts to ask about."""
    events = hearing.waiting(EVENTS, now).order_by().annotate(what=Value("account event")).values_list("what", "pk")
    return events.union(to_ask(now).order_by().annotate(what=Value("linked account")).values_list("what", "pk"))


def work_due(now: datetime, limit: int) -> int:
    """Work on stored account events, then ask about the accounts that are due; returns how many."""
    return hearing.hear(EVENTS, now, limit, _heard) + ask_due(now, limit)


def to_ask(now: datetime) -> QuerySet[LinkedAccount]:
    """Accounts whose status we want to know: not activated, their product known, their time come."""
    unclaimed = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
    return LinkedAccount.objects.filter(unclaimed, ask_at__lte=now).exclude(product_id="").order_by("ask_at", "pk")


def ask_due(now: datetime, limit: int) -> int:
    """Ask Razorpay about each; a failure to answer is asked again later."""
    accounts = jobs.claim(to_ask(now), limit, claimed_until=now + CLAIM)
    for account in accounts:
        try:
            ask(account, now)
        except (razorpay.TryAgain, razorpay.Unknown, razorpay.Declined) as why:
            later(account.pk, now, str(why))
        except Exception:
            log.exception("linked account %s could not be worked on", account.pk)
    return len(accounts)


def ask(account: LinkedAccount, now: datetime) -> LinkedAccount:
    """What Razorpay says of this account right now, written down."""
    return write(account.pk, razorpay.fetch_product(account.razorpay_id, account.product_id), now)


@transaction.atomic
def write(account_id: int, product: dict[str, Any], now: datetime) -> LinkedAccount:
    """Keep Razorpay's word on an account; on activation its franchisee's held shares are looked at again."""
    account = LinkedAccount.objects.select_for_update(of=("self",), no_key=True).select_related("franchisee").get(pk=account_id)
    before = account.status
    said = str(product.get("activation_status") or "")
    if said in Status.values:
        account.status = said
    elif said:
        log.warning("linked account %s: Razorpay says %r, which is not a status we know", account.pk, said)
    account.missing = "" if account.status == Status.ACTIVATED else _missing(product)
    if account.status != before:
        account.status_at = now
        audit.record(
            "linked_account.status", account, before={"status": before}, after={"status": account.status, "missing": account.missing}
        )
        if account.status == Status.ACTIVATED:
            jobs.ring("gate.opened")
    # Razorpay may suspend an account later, and says so to nobody: even an activated one is asked for now and then.
    waited = now - account.status_at
    account.ask_at = now + (timedelta(days=1) if account.status == Status.ACTIVATED else min(max(waited, SOONEST), RAREST))
    account.claimed_until = None
    account.save()
    return account


def later(account_id: int, now: datetime, why: str) -> None:
    """Razorpay did not say: ask again after a while. The reason is for the operator."""
    account = LinkedAccount.objects.get(pk=account_id)
    log.warning("linked account %s: %s", account.pk, why)
    waited = min(max(now - account.status_at, SOONEST), RAREST)
    LinkedAccount.objects.filter(pk=account_id).update(ask_at=now + waited, claimed_until=None)


def _heard(event: WebhookEvent, now: datetime) -> str:
    """The event names an account, perhaps its product; the product is then asked for what is true of it."""
    product = entity(event.payload, "merchant_product")
    named = str(product.get("merchant_id") or event.account_id)
    account = LinkedAccount.objects.filter(razorpay_id=named).first() if named else None
    if account is None:
        return ""
    if product.get("id") and account.product_id != product["id"]:
        account.product_id = str(product["id"])[:40]
        account.save(update_fields=["product_id"])
    if not account.product_id:
        return f"{account.razorpay_id}: its Route product is not known, so its status cannot be asked"
    return f"{account.razorpay_id}: {ask(account, now).status}"


def _missing(product: dict[str, Any]) -> str:
    """Razorpay's open requirements in one line for people; "" when there are none."""
    requirements = product.get("requirements")
    lines = [
        str(item.get("description") or item.get("field_reference") or item.get("reason_code") or "")
        for item in (requirements if isinstance(requirements, list) else [])
        if isinstance(item, dict)
    ]
    return "; ".join(dict.fromkeys(line for line in lines if line))[:500]
