"""Working on stored webhook events that concern franchisees: claimed, done or put back, none acted upon twice at a time."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from accounts.actor import acting
from billing import razorpay
from billing.models import WebhookEvent
from voltaro import jobs

log = logging.getLogger(__name__)

State = WebhookEvent.State
CLAIM = timedelta(minutes=2)


def waiting(prefixes: tuple[str, ...], now: datetime) -> QuerySet[WebhookEvent]:
    """Events of these kinds that nobody has worked on yet, oldest first."""
    kinds = Q()
    for prefix in prefixes:
        kinds |= Q(event__startswith=prefix)
    unclaimed = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
    patient = Q(retry_at__isnull=True) | Q(retry_at__lte=now)
    return WebhookEvent.objects.filter(kinds, unclaimed, patient, state__in=[State.NEW, State.FAILED]).order_by("id")


def hear(prefixes: tuple[str, ...], now: datetime, limit: int, deed: Callable[[WebhookEvent, datetime], str]) -> int:
    """Claim events and do `deed` on each. It says what was done, or "" for an event that is none of ours.

    An event that cannot be worked on now is tried again, later each time; it never stops the others.
    """
    events = jobs.claim(waiting(prefixes, now), limit, claimed_until=now + CLAIM)
    for event in events:
        event.claimed_until = None
        event.attempts += 1
        try:
            with acting("webhook", event.event):
                note = deed(event, now)
        except (razorpay.TryAgain, razorpay.Unknown) as why:
            _put_back(event, now, str(why))
        except razorpay.Declined as why:
            # What the event names does not exist for us: most likely another installation's.
            _end(event, State.IGNORED, f"Razorpay does not know it: {why}", now)
        except Exception as error:
            log.exception("webhook event %s could not be worked on", event.pk)
            _put_back(event, now, type(error).__name__)
        else:
            _end(event, State.DONE if note else State.IGNORED, note or "not ours", now)
    return len(events)


def _put_back(event: WebhookEvent, now: datetime, note: str) -> None:
    event.state = State.FAILED
    event.retry_at = now + timedelta(seconds=min(30 * 2 ** min(event.attempts, 10), 6 * 3600))
    event.note = note[:300]
    event.save(update_fields=["state", "retry_at", "note", "attempts", "claimed_until"])


def _end(event: WebhookEvent, state: str, note: str, now: datetime) -> None:
    event.state, event.note, event.done_at, event.retry_at = state, note[:300], now, None
    event.save(update_fields=["state", "note", "done_at", "retry_at", "attempts", "claimed_until"])
