"""Razorpay's webhooks: a bell. Store the event once, answer 200, and only then, in a worker, ask Razorpay what is true.

Everything that may be about money here begins with `qr_code.`, `payment.` or `refund.`; events of franchisees' accounts and
transfers are claimed from the same table by franchise. What nobody listens to is stored, shown and left alone.
"""

import hashlib
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.actor import acting
from billing import events
from billing.models import WebhookEvent
from voltaro import clock
from voltaro.jobs import claim, ring

log = logging.getLogger(__name__)

State = WebhookEvent.State
MAX_BYTES = 256 * 1024
OURS = ("qr_code.", "payment.", "refund.")
FRANCHISES = ("transfer.", "transfers.", "settlement.", "product.route.", "account.", "linked_account.")
# What a worker that died was working on is taken up again after this: a rider may be waiting at the charger (START_TIMEOUT_S).
LEASE_S = 90
MAX_WAIT_S = 1800
REFUSALS = ("too_big", "unreadable", "bad_signature")


# -- at the door ----------------------------------------------------------------------------------------------------
@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """Verify the raw bytes, insert once, ring, answer. Forged or too big: nothing is stored, but it is counted and logged."""
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BYTES:
            return _refuse("too_big", 413)
        # Not `request.body`: a chunked body names no length, and would be taken into memory whole.
        raw = request.read(MAX_BYTES + 1)
    except (ValueError, UnreadablePostError):
        return _refuse("unreadable", 400)
    if len(raw) > MAX_BYTES:
        return _refuse("too_big", 413)
    if not events.genuine(raw, request.headers.get("X-Razorpay-Signature")):
        return _refuse("bad_signature", 400)
    store(raw, request.headers.get("X-Razorpay-Event-Id"))
    return HttpResponse("ok", content_type="text/plain")


@transaction.atomic
def store(raw: bytes, event_id: str | None) -> tuple[WebhookEvent, bool]:
    """Keep a genuine event, once by its id: (its row, whether it is new). A repeat only counts."""
    if not event_id or not re.fullmatch(r"[\x21-\x7e]{1,100}", event_id):
        event_id = "sha256-" + hashlib.sha256(raw).hexdigest()
    event, new = WebhookEvent.objects.get_or_create(event_id=event_id, defaults={"raw": raw, **_read(raw)})
    if new:
        ring("webhook.received")
    else:
        WebhookEvent.objects.filter(pk=event.pk).update(repeats=F("repeats") + 1)
    return event, new


def refused_counts() -> dict[str, int]:
    """How many deliveries were refused at the door, by reason (lost when Redis is)."""
    try:
        return {why: int(cache.get(_counter(why)) or 0) for why in REFUSALS}
    except Exception as error:
        log.warning("refused webhooks not counted (%s)", type(error).__name__)
        return {}


def _refuse(why: str, status: int) -> HttpResponse:
    log.warning("webhook refused: %s", why)
    try:
        cache.add(_counter(why), 0, None)
        cache.incr(_counter(why))
    except Exception as error:
        log.warning("refused webhook not counted (%s)", type(error).__name__)
    return HttpResponse(why, status=status, content_type="text/plain")


def _counter(why: str) -> str:
    return f"webhooks:refused:{why}"


def _read(raw: bytes) -> dict[str, Any]:
    """The columns of an event. What cannot be understood is kept as it came, visible and not acted upon."""
    try:
        payload = _storable(json.loads(raw, parse_constant=_no_constant))
        if not isinstance(payload, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        return {"event": "", "state": State.IGNORED, "note": f"not understood: {error}"[:300], "done_at": clock.now()}
    name = str(payload.get("event") or "")[:60]
    fields = {
        "event": name,
        "account_id": str(payload.get("account_id") or "")[:40],
        "payload": payload,
        "payment_id": str(events.entity(payload, "payment").get("id") or "")[:40],
        "qr_id": str(events.entity(payload, "qr_code").get("id") or "")[:40],
        "event_at": _unix(payload.get("created_at")),
    }
    if not name.startswith((*OURS, *FRANCHISES)):
        fields |= {"state": State.IGNORED, "note": "nothing here listens to this event", "done_at": clock.now()}
    return fields


def _storable(value: Any) -> Any:
    """PostgreSQL keeps neither NUL nor half a character in text."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode().replace("\x00", "�")
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {_storable(name): _storable(item) for name, item in value.items()}
        case float() if value in (float("inf"), float("-inf")):
            raise ValueError("a number without an end")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unix(value: object) -> datetime | None:
    return datetime.fromtimestamp(value, UTC) if type(value) is int and 0 < value < 10**10 else None


# -- the worker -----------------------------------------------------------------------------------------------------
def due(now: datetime) -> QuerySet[WebhookEvent]:
    """Events of billing's not yet worked on, or to be tried again."""
    ours = Q()
    for prefix in OURS:
        ours |= Q(event__startswith=prefix)
    ready = Q(retry_at=None) | Q(retry_at__lte=now)
    free = Q(claimed_until=None) | Q(claimed_until__lte=now)
    return WebhookEvent.objects.filter(ours & ready & free, state__in=[State.NEW, State.FAILED]).order_by("pk")


def work_due(now: datetime, limit: int) -> int:
    """Claim and work on one event after another: one that waits for Razorpay holds up only itself, a dead worker only one."""
    for done in range(limit):
        claimed = claim(due(now), 1, claimed_until=clock.now() + timedelta(seconds=LEASE_S))
        if not claimed:
            return done
        _work(claimed[0])
    return limit


def _work(event: WebhookEvent) -> None:
    event.attempts += 1
    event.claimed_until = event.retry_at = None
    try:
        with acting("webhook", event.event):
            event.state, event.note = events.act(event)
        event.done_at = clock.now()
    except Exception as error:
        if not isinstance(error, events.LATER):
            log.exception("webhook event %s: failed", event.pk)
        event.state, event.note = State.FAILED, f"{type(error).__name__}: {error}"[:300]
        # The first retries come quickly: a rider may be waiting at the charger.
        event.retry_at = clock.now() + timedelta(seconds=min(5 * 2 ** min(event.attempts, 10), MAX_WAIT_S))
    event.save(update_fields=["state", "note", "attempts", "retry_at", "claimed_until", "done_at"])
