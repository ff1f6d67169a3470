"""The franchisees' portal: chargers, sessions, earnings and payouts of their own; riders stay unnamed."""

from datetime import date, datetime, timedelta
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from csms import charts
from franchise import figures, statements
from franchise.doors import Mine, portal_page
from franchise.models import CommissionLedgerEntry, RazorpaySettlement
from voltaro import clock

ROWS = 50
LONGEST_DAYS = 366


@require_safe
@never_cache
@portal_page
def overview(request: HttpRequest, mine: Mine) -> HttpResponse:
    """Today, this month, what waits and why, thirty days as bars, the chargers as they are now."""
    now = clock.now()
    days = figures.days(mine.entries(), now)
    month = [day for day in days if (day.on.year, day.on.month) == (days[-1].on.year, days[-1].on.month)]
    return _page(
        request,
        mine,
        "franchise/overview.html",
        here="overview",
        today=days[-1],
        month={"payable": sum(day.payable for day in month), "energy_wh": sum(day.energy_wh for day in month)},
        open=figures.open_sums(mine.entries()),
        closed=mine.closed_gates(now),
        charts=[
            ("Earnings, last 30 days", "money", figures.bars(days[-figures.DAYS :], "payable")),
            ("Energy sold, last 30 days", "energy", figures.bars(days[-figures.DAYS :], "energy_wh")),
        ],
        any_days=any(day.sessions for day in days),
        recent=_shared(mine.sessions().order_by("-start_time", "-id")[:6]),
        **_fleet(mine, 12),
    )


@require_safe
@never_cache
@portal_page
def overview_live(request: HttpRequest, mine: Mine) -> HttpResponse:
    """The chargers as they are now, as a fragment."""
    return render(request, "franchise/_chargers.html", _fleet(mine, 12))


@require_safe
@never_cache
@portal_page
def chargers(request: HttpRequest, mine: Mine) -> HttpResponse:
    """All chargers, fifty to a page."""
    page = Paginator(mine.chargers().order_by("cp_id"), ROWS).get_page(request.GET.get("page"))
    return _page(request, mine, "franchise/chargers.html", here="chargers", page=page, rows=figures.with_outlets(list(page.object_list)))


@require_safe
@never_cache
@portal_page
def charger(request: HttpRequest, mine: Mine, code: str) -> HttpResponse:
    """One charger: its connectors now, its last sessions under this owner."""
    row = get_object_or_404(mine.chargers(), public_code=code)
    figures.with_outlets([row])
    sessions = _shared(mine.sessions().filter(charge_point=row).order_by("-id")[:20])
    return _page(request, mine, "franchise/charger.html", here="chargers", charger=row, sessions=sessions)


@require_safe
@never_cache
@portal_page
def charger_live(request: HttpRequest, mine: Mine, code: str) -> HttpResponse:
    """The part of that page that changes, as a fragment."""
    row = get_object_or_404(mine.chargers(), public_code=code)
    figures.with_outlets([row])
    return render(request, "franchise/_charger_live.html", {"charger": row})


@require_safe
@never_cache
@portal_page
def sessions(request: HttpRequest, mine: Mine) -> HttpResponse:
    """Sessions of some days, of one charger or all, newest first, page by page."""
    since, until = _range(request)
    rows = mine.sessions().filter(start_time__gte=figures.midnight(since), start_time__lt=figures.midnight(until + timedelta(days=1)))
    chargers = list(mine.chargers().order_by("cp_id")[:500])
    chosen = next((row for row in chargers if row.public_code == request.GET.get("charger")), None)
    if chosen:
        rows = rows.filter(charge_point=chosen)
    shown, more = _slice(request, rows, "start_time")
    return _page(
        request,
        mine,
        "franchise/sessions.html",
        here="sessions",
        since=since,
        until=until,
        chargers=chargers,
        chosen=chosen,
        sessions=_shared(shown),
        more=more,
    )


@require_safe
@never_cache
@portal_page
def session(request: HttpRequest, mine: Mine, pk: int) -> HttpResponse:
    """One session: its curve, its bill, and the share of it line by line."""
    row = get_object_or_404(mine.sessions().select_related("charge_point__station", "connector"), pk=pk)
    entry = mine.entries().filter(session=row).select_related("contract", "payout", "correction__payout").first()
    if entry:
        figures.explain([entry], mine.closed_gates(clock.now()))
    bill = getattr(row, "bill", None)
    return _page(
        request,
        mine,
        "franchise/session.html",
        here="sessions",
        session=row,
        bill=bill,
        lines=list(bill.lines.all()) if bill else [],
        paid=bill.payment.amount_paid if bill and bill.payment_id else None,
        entry=entry,
        curve=figures.curve(charts.curve(row)),
    )


@require_safe
@never_cache
@portal_page
def earnings(request: HttpRequest, mine: Mine) -> HttpResponse:
    """Shares of some days, with what each waits for."""
    since, until = _range(request)
    rows = _earned(mine, since, until)
    status = request.GET.get("status", "")
    if status in CommissionLedgerEntry.Status.values:
        rows = rows.filter(status=status)
    shown, more = _slice(request, rows.select_related("payout", "session__charge_point"), "created_at")
    now = clock.now()
    return _page(
        request,
        mine,
        "franchise/earnings.html",
        here="earnings",
        since=since,
        until=until,
        status=status,
        statuses=CommissionLedgerEntry.Status.choices,
        entries=figures.explain(shown, mine.closed_gates(now)),
        more=more,
        open=figures.open_sums(mine.entries()),
        owed_back=list(mine.corrections().filter(deducted=True, payout__isnull=True).select_related("entry")[:ROWS]),
        closed=mine.closed_gates(now),
    )


@require_safe
@never_cache
@portal_page
def earnings_csv(request: HttpRequest, mine: Mine) -> HttpResponse:
    """The same days as a file."""
    since, until = _range(request)
    return statements.download(_earned(mine, since, until), mine.closed_gates(clock.now()), since, until)


@require_safe
@never_cache
@portal_page
def payouts(request: HttpRequest, mine: Mine) -> HttpResponse:
    """Transfers to the linked account, newest first."""
    rows = mine.payouts().order_by("-id")
    if before := _number(request.GET.get("before")):
        rows = rows.filter(pk__lt=before)
    shown = list(rows[: ROWS + 1])
    more = shown[ROWS - 1].pk if len(shown) > ROWS else None
    return _page(request, mine, "franchise/payouts.html", here="payouts", payouts=_banked(shown[:ROWS]), more=more)


@require_safe
@never_cache
@portal_page
def payout(request: HttpRequest, mine: Mine, pk: int) -> HttpResponse:
    """One transfer: its state, its attempts, the shares in it."""
    row = get_object_or_404(mine.payouts().select_related("follows", "followed_by"), pk=pk)
    entries = list(mine.entries().filter(payout=row).select_related("session__charge_point", "payout").order_by("-id")[:500])
    figures.explain(entries, mine.closed_gates(clock.now()))
    deducted = list(mine.corrections().filter(payout=row).select_related("entry"))
    return _page(request, mine, "franchise/payout.html", here="payouts", payout=_banked([row])[0], entries=entries, deducted=deducted)


# -- helpers ------------------------------------------------------------------------------------------------
def _page(request: HttpRequest, mine: Mine, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {"franchisees": mine.franchisees, "several": len(mine.franchisees) > 1, **context})


def _fleet(mine: Mine, most: int) -> dict[str, Any]:
    rows = figures.with_outlets(list(mine.chargers().order_by("-online", "cp_id")[: most + 1]))
    return {"rows": rows[:most], "further": len(rows) > most, "codes": " ".join(row.codes for row in rows[:most])}


def _earned(mine: Mine, since: date, until: date) -> QuerySet[CommissionLedgerEntry]:
    return mine.entries().filter(created_at__gte=figures.midnight(since), created_at__lt=figures.midnight(until + timedelta(days=1)))


def _shared(rows: Any) -> list[Any]:
    """Sessions with their charger and their share, in one query more."""
    found = list(rows.select_related("charge_point__station", "connector") if isinstance(rows, QuerySet) else rows)
    entries = CommissionLedgerEntry.objects.filter(session__in=[row.pk for row in found])
    by_session = {entry.session_id: entry for entry in entries}
    for row in found:
        row.share = by_session.get(row.pk)
    return found


def _banked(rows: list[Any]) -> list[Any]:
    """Payouts with the settlement that took them to the bank, in one query more."""
    wanted = [row.settlement_id for row in rows if row.settlement_id]
    found = {row.razorpay_id: row for row in RazorpaySettlement.objects.filter(razorpay_id__in=wanted)} if wanted else {}
    for row in rows:
        row.banked = found.get(row.settlement_id)
    return rows


def _slice(request: HttpRequest, rows: QuerySet, at: str) -> tuple[list[Any], int | None]:
    """One page, newest first, after the row named by ?before=; and the number to ask the next page with."""
    before = _number(request.GET.get("before"))
    anchor = rows.filter(pk=before).first() if before else None
    if anchor is not None:
        moment: datetime = getattr(anchor, at)
        rows = rows.filter(Q(**{f"{at}__lt": moment}) | Q(**{at: moment, "pk__lt": anchor.pk}))
    if rows.model is not CommissionLedgerEntry:
        rows = rows.select_related("charge_point__station", "connector")
    shown = list(rows.order_by(f"-{at}", "-pk")[: ROWS + 1])
    return shown[:ROWS], shown[ROWS - 1].pk if len(shown) > ROWS else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) <= 18 else None


def _range(request: HttpRequest) -> tuple[date, date]:
    """The days asked for, the last thirty when none are; never more than a year at once."""
    today = timezone.localtime(clock.now()).date()
    until = min(_date(request.GET.get("to")) or today, today + timedelta(days=1))
    since = _date(request.GET.get("from")) or until - timedelta(days=29)
    return max(min(since, until), until - timedelta(days=LONGEST_DAYS)), until


def _date(text: str | None) -> date | None:
    try:
        found = date.fromisoformat(text or "")
    except ValueError:
        return None
    return found if 2000 <= found.year < 2200 else None
