"""One session from rupee to frame: payment, permit, commands, start, readings, stop, bill, refund, share, in one order of time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.doors import console_page, may_operate
from accounts.models import AuditEntry
from billing import rider
from billing.models import JournalEntry, QRPayment, Refund
from csms import exposure
from csms.by_time import between
from csms.models import ChargingSession, Command, OcppMessage
from csms.rules import exposure as exposed_rule
from csms.templatetags.console import kwh
from voltaro import clock

# What is said all the time says nothing about one session.
CHATTER = ("Heartbeat", "MeterValues")
MOST_FRAMES, MOST_ENTRIES = 60, 120


@dataclass(frozen=True)
class Moment:
    """One line of the trace."""

    at: datetime
    kind: str
    what: str
    detail: str = ""
    frame: OcppMessage | None = None


@require_safe
@never_cache
@console_page
def session(request: HttpRequest, pk: int) -> HttpResponse:
    """The page of one session; a fixed number of queries."""
    row = get_object_or_404(
        ChargingSession.objects.visible_to(request.user).select_related(
            "charge_point__station",
            "connector",
            "company",
            "user",
            "permit",
            "payment",
            "bill__correction",
            "commission__payout",
            "commission__correction__payout",
        ),
        pk=pk,
    )
    now, payment = clock.now(), _payment(row)
    refunds = list(Refund.objects.filter(payment=payment).order_by("id")) if payment else []
    bill = getattr(row, "bill", None)
    return render(
        request,
        "csms/session.html",
        {
            **admin.site.each_context(request),
            "title": f"Session {row.pk}",
            "session": row,
            "payment": payment,
            "bill": bill,
            "lines": list(bill.lines.all()) if bill else [],
            "refunds": refunds,
            "share": getattr(row, "commission", None),
            "exposed": _exposed(row, now),
            "used": rider.used_so_far(payment, row) if payment and bill is None else None,
            "trace": sorted(_trace(row, payment, refunds), key=lambda moment: moment.at),
            "entries": list(
                JournalEntry.objects.filter(postings__subject=f"payment:{payment.razorpay_payment_id}")
                .distinct()
                .order_by("id")
                .prefetch_related("postings")[:30]
            )
            if payment
            else [],
            "may_operate": may_operate(request.user),
            "now": now,
        },
    )


def _exposed(row: ChargingSession, now: datetime) -> dict[str, int] | None:
    """What may have flowed since it was last heard of, and how much of that is beyond its limit; None when it has none or is over."""
    facts = exposure.of(row, now)
    if facts is None:
        return None
    return {"silent_s": facts.silent_s, "delivered_wh": exposed_rule.delivered_wh(facts), "exposed_wh": exposed_rule.exposed_wh(facts)}


def _payment(row: ChargingSession) -> QRPayment | None:
    """The payment behind a session, linked or (for a moment after the start) not yet."""
    if payment := getattr(row, "payment", None):
        return payment
    return QRPayment.objects.filter(permit_id=row.permit_id).first() if row.permit_id else None


def _trace(row: ChargingSession, payment: QRPayment | None, refunds: list[Refund]) -> list[Moment]:
    moments: list[Moment] = []
    if payment:
        moments.append(Moment(payment.paid_at, "payment", "Paid by UPI", f"{payment.razorpay_payment_id}"))
    moments.append(
        Moment(row.started_at, "session", "Session began", f"register {kwh(row.meter_start_wh)} kWh, transaction {row.transaction_id}")
    )
    if row.ended_at:
        moments.append(Moment(row.ended_at, "session", f"Session ended: {row.stop_reason or 'no reason given'}", row.stop_reason_raw))
    moments += _commands(row)
    moments += _frames(row, payment)
    moments += _audit(row, payment, refunds)
    return moments


def _commands(row: ChargingSession) -> list[Moment]:
    theirs = Q(session=row) | Q(permit_id=row.permit_id, permit__isnull=False)
    moments = []
    for command in Command.objects.filter(theirs).order_by("id")[:30]:
        moments.append(
            Moment(command.created_at, "command", f"{command.action} asked ({command.trigger or 'no trigger'})", command.requested_by)
        )
        if command.answered_at or command.settled_at:
            moments.append(
                Moment(command.answered_at or command.settled_at, "command", f"{command.action}: {command.state}", command.error)
            )
    return moments


def _frames(row: ChargingSession, payment: QRPayment | None) -> list[Moment]:
    """The charger's frames from shortly before the payment to a minute after the end, without the chatter."""
    since = min(row.started_at, payment.heard_at if payment else row.started_at) - timedelta(seconds=10)
    until = (row.ended_at or clock.now()) + timedelta(minutes=1)
    frames = between(OcppMessage.objects.filter(charge_point=row.charge_point_id), since, until)
    frames = frames.exclude(action__in=CHATTER).defer("raw").order_by("id")[:MOST_FRAMES]
    words = {2: "", 3: " answered", 4: " answered with an error", 0: " (unreadable)"}
    return [
        Moment(f.at, f"frame {f.direction}", f"{f.action or 'Frame'}{words.get(f.message_type, '')}", f.correlation_id, frame=f)
        for f in frames
    ]


def _audit(row: ChargingSession, payment: QRPayment | None, refunds: list[Refund]) -> list[Moment]:
    """What was decided and done about each row of this story."""
    targets = [row, row.permit, payment, getattr(row, "bill", None), getattr(row, "commission", None), *refunds]
    if commission := getattr(row, "commission", None):
        targets.append(commission.payout)
    wanted = Q()
    for target in filter(None, targets):
        wanted |= Q(target_type=target._meta.label_lower, target_id=str(target.pk))
    entries = AuditEntry.objects.filter(wanted).order_by("id")[:MOST_ENTRIES]
    return [Moment(e.at, "deed", f"{e.action}", _after(e)) for e in entries]


def _after(entry: AuditEntry) -> str:
    said: dict[str, Any] = entry.after if isinstance(entry.after, dict) else {}
    facts = ", ".join(f"{name} {value}" for name, value in list(said.items())[:8] if value not in (None, "", {}, []))
    return f"by {entry.actor}{f' ({entry.trigger})' if entry.trigger else ''}{f': {facts}' if facts else ''}"
