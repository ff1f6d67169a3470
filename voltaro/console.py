"""The operator's home: the network and the money today, and what is stuck. Each number leads to its rows."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from accounts import failures
from accounts.models import AuditEntry, Company
from accounts.roles import companies_of, sees_everything
from billing import webhooks
from billing.models import Difference, QRPayment, Refund, WebhookEvent
from csms import doubts, exposure
from csms.models import Alert, ChargePoint, ChargerError, ChargingSession, Command, Connector, SessionState
from franchise.models import CommissionLedgerEntry, Payout
from voltaro import clock, onboarding_pages

DAYS = 14
# Webhooks that never became rows (billing/webhooks.py).
REFUSED = {"bad_signature": "with a wrong signature", "too_big": "too large", "unreadable": "unreadable"}
# A chart's drawing board, in its own units.
WIDE, HIGH, FOOT = 560, 150, 18


@dataclass(frozen=True)
class Stuck:
    """A kind of thing that waits for a person or for too long."""

    what: str
    count: int
    link: str
    grave: bool = False


def environment(request: HttpRequest) -> list[str] | None:
    """A word in the header of every installation that is not production."""
    return None if settings.PROD else [{"dev": "Development", "test": "Test"}[settings.VOLTARO_ENV], "info"]


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The dashboard's numbers: a fixed number of queries, all through what this person may see."""
    now, user = clock.now(), request.user
    chargers = (
        ChargePoint.objects.visible_to(user)
        .filter(unclaimed=False)
        .aggregate(
            all=Count("pk"),
            online=Count("pk", filter=Q(online=True)),
            faulted=Count("pk", filter=Q(Exists(Connector.objects.filter(charge_point=OuterRef("cp_id"), status="Faulted")))),
        )
    )
    live = ChargingSession.objects.visible_to(user).exclude(state=SessionState.STOPPED)
    days = _days(user, now)
    context.update(
        title="Today",
        chargers={**chargers, "offline": chargers["all"] - chargers["online"]},
        live=live.aggregate(n=Count("pk"), power_w=Sum("last_power_w"), energy_wh=Sum("energy_wh")),
        live_rows=list(live.select_related("charge_point", "connector", "charge_point__station").order_by("-id")[:8]),
        today=days[-1],
        energy_bars=_bars(days, "energy_wh"),
        money_bars=_bars(days, "billed"),
        stuck=[item for item in _stuck(user, now) if item.count],
        refused=[(REFUSED[why], n) for why, n in webhooks.refused_counts().items() if n] if sees_everything(user) else [],
    )
    return context


@dataclass(frozen=True)
class Day:
    """One day in India: sessions begun on it, what they took and cost, and what came in by UPI."""

    on: date
    sessions: int = 0
    energy_wh: int = 0
    billed: int = 0
    payments: int = 0
    paid: int = 0


def _days(user: Any, now: datetime) -> list[Day]:
    """The last fourteen days, today last. Asked company by company, which is how the tables are indexed."""
    companies = list(Company.objects.values_list("pk", flat=True)) if sees_everything(user) else companies_of(user)
    today = timezone.localtime(now).date()
    first = today - timedelta(days=DAYS - 1)
    since = timezone.make_aware(datetime.combine(first, datetime.min.time()))
    begun = ChargingSession.objects.filter(company_id__in=companies, start_time__gte=since)
    paid = QRPayment.objects.filter(company_id__in=companies, paid_at__gte=since)
    sessions = {row["day"]: row for row in _by_day(begun, "start_time", energy_wh=Sum("energy_wh"), billed=Sum("total_billed"))}
    payments = {row["day"]: row for row in _by_day(paid, "paid_at", paid=Sum("amount_paid"))}
    days = []
    for on in (first + timedelta(days=n) for n in range(DAYS)):
        s, p = sessions.get(on, {}), payments.get(on, {})
        days.append(Day(on, s.get("n", 0), s.get("energy_wh") or 0, s.get("billed") or 0, p.get("n", 0), p.get("paid") or 0))
    return days


def _by_day(rows: QuerySet, field: str, **sums: Any) -> QuerySet:
    return rows.annotate(day=TruncDate(field)).values("day").order_by("day").annotate(n=Count("pk"), **sums)


def _bars(days: list[Day], field: str) -> dict[str, Any]:
    """A bar chart as plain numbers for SVG attributes."""
    values = [getattr(day, field) for day in days]
    top, step = max([*values, 1]), WIDE // len(days)
    bars = []
    for n, (day, value) in enumerate(zip(days, values, strict=True)):
        high = max(value * (HIGH - 24) // top, 2 if value else 0)
        bars.append(
            {"x": n * step + 4, "y": HIGH - high, "w": step - 8, "h": high, "day": day, "value": value, "mid": n * step + step // 2}
        )
    return {"bars": bars, "wide": WIDE, "high": HIGH + FOOT, "base": HIGH, "label_y": HIGH + 14, "top": top, "empty": not any(values)}


def _stuck(user: Any, now: datetime) -> list[Stuck]:
    """What should have moved by now, the gravest first."""

    def mine(model: Any) -> QuerySet:
        return model.objects.visible_to(user)

    def rows(model: str, query: str) -> str:
        return reverse(f"admin:{model}_changelist") + "?" + query

    late, hour = now - timedelta(minutes=2), now - timedelta(hours=1)
    stale = now - timedelta(seconds=settings.HEARTBEAT_TIMEOUT_S)
    payment, refund, event, session = "billing_qrpayment", "billing_refund", "billing_webhookevent", "csms_chargingsession"
    return [
        Stuck("Refunds that failed", mine(Refund).filter(state="failed").count(), rows(refund, "state__exact=failed"), True),
        Stuck(
            "Payments for a person to look at",
            mine(QRPayment).exclude(review="").exclude(state="settled").count(),
            rows(payment, "review__gt="),
            True,
        ),
        Stuck(
            "Paid, and the start is overdue",
            mine(QRPayment)
            .filter(state__in=["received", "starting"], heard_at__lt=now - timedelta(seconds=settings.START_TIMEOUT_S + 60))
            .count(),
            rows(payment, "state__in=received,starting"),
            True,
        ),
        Stuck(
            "Refunds on their way for more than an hour",
            mine(Refund).filter(state__in=["due", "asking", "pending"], created_at__lt=hour).count(),
            rows(refund, "state__in=due,asking,pending"),
        ),
        Stuck(
            "Ended sessions without a bill",
            mine(ChargingSession).filter(state=SessionState.STOPPED, billed_at__isnull=True, ended_at__lt=late).count(),
            rows(session, "state__exact=STOPPED&billed_at__isnull=True"),
        ),
        Stuck("Kept for a person", failures.kept(now, mine(AuditEntry), away=False).count(), reverse("kept")),
        Stuck("Sessions held for review", doubts.held(user).count(), reverse("held"), True),
        Stuck("Webhooks that failed", mine(WebhookEvent).filter(state="failed").count(), rows(event, "state__exact=failed"), True),
        Stuck("Webhooks waiting", mine(WebhookEvent).filter(state="new", received_at__lt=late).count(), rows(event, "state__exact=new")),
        Stuck(
            "Webhooks ignored, of the newest 1000",
            _ignored(user),
            rows(event, "state__exact=ignored"),
        ),
        Stuck(
            "Chargers offline",
            mine(ChargePoint).filter(online=False, unclaimed=False).count(),
            reverse("csms:chargers") + "?show=offline",
        ),
        Stuck(
            "Chargers silent", mine(ChargePoint).filter(online=True, last_seen__lt=stale).count(), reverse("csms:chargers") + "?show=silent"
        ),
        Stuck("New chargers that wait to be claimed", onboarding_pages.waiting(user), reverse("onboarding")),
        Stuck("Sessions that may be taking more than is paid", exposure.look(now, user=user).exposed, reverse("exposure"), True),
        Stuck("Alerts about chargers", mine(Alert).filter(cleared_at__isnull=True).count(), rows("csms_alert", "open=yes"), True),
        Stuck("Open faults", mine(ChargerError).filter(resolved_at__isnull=True).count(), rows("csms_chargererror", "open=yes")),
        Stuck(
            "Commands without an answer",
            mine(Command).filter(state__in=["sent", "unknown"], sent_at__lt=late).count(),
            rows("csms_command", "state__in=sent,unknown"),
        ),
        Stuck(
            "Earnings on hold",
            mine(CommissionLedgerEntry).filter(status="ON_HOLD").count(),
            rows("franchise_commissionledgerentry", "status__exact=ON_HOLD"),
        ),
        Stuck(
            "Payouts that failed",
            mine(Payout).filter(state="failed", followed_by__isnull=True).count(),
            rows("franchise_payout", "state__exact=failed"),
            True,
        ),
        Stuck(
            "Differences with Razorpay",
            mine(Difference).filter(resolved_at__isnull=True).count(),
            rows("billing_difference", "resolved_at__isnull=True"),
            True,
        ),
    ]


def _ignored(user: Any) -> int:
    newest = WebhookEvent.objects.order_by("-id").values("pk")[:1000]
    return WebhookEvent.objects.visible_to(user).filter(pk__in=newest, state="ignored").count()
