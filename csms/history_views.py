"""A charger's history: when it was there, what was wrong with it, how well its modem heard."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.doors import console_page
from csms import signal_quality
from csms.health import CLOSE_CODES
from csms.models import ChargePoint, Connection
from csms.rules import signal
from voltaro import clock

DAYS = (1, 7, 30)
ROWS = 50
WIDTH = 1000.0  # of the strip, in its own units
SHOWN_CONNECTIONS = 2000


@require_safe
@never_cache
@console_page
def history(request: HttpRequest, pk: int) -> HttpResponse:
    """Presence, faults, connections and signal of one charger; five bounded queries."""
    charge_point = _charge_point(request, pk)
    days, now = _days(request), clock.now()
    since = now - timedelta(days=days)
    connections = _connections(charge_point, since)
    here = _presence(connections, since, now)
    known = max(since, min(charge_point.created_at, now - timedelta(minutes=1)))  # before that nobody expected it
    before = request.GET.get("before", "")
    faults = charge_point.errors.order_by("-id")
    if before.isascii() and before.isdigit():
        faults = faults.filter(pk__lt=int(before[:18]))
    rows = list(faults[: ROWS + 1])
    latest = signal_quality.latest(charge_point.pk)
    context = {
        **admin.site.each_context(request),
        "title": f"History of {charge_point.cp_id}",
        "charge_point": charge_point,
        "days": days,
        "all_days": DAYS,
        "strip": here,
        "online_pct": _percent(here, known, now),
        "known_x": round((known - since) / (now - since) * WIDTH, 2),
        "known": known if known > since else None,
        "midnights": _midnights(since, now),
        "connections": [(one, CLOSE_CODES.get(one.close_code or 0, "")) for one in connections[:ROWS]],
        "dropped": sum(one.closed_at is not None for one in connections),
        "faults": rows[:ROWS],
        "older": rows[ROWS - 1].pk if len(rows) > ROWS else None,
        "latest": latest,
        "dbm": signal.dbm(latest.rssi) if latest and latest.rssi is not None else None,
        "level": signal.level(latest.rssi) if latest else "",
        "series": f"{reverse('csms:signal', args=[charge_point.pk])}?days={days}",
        "now": now,
    }
    return render(request, "csms/history.html", context)


@require_safe
@never_cache
@console_page
def signal_series(request: HttpRequest, pk: int) -> JsonResponse:
    """The signal over time, for the chart."""
    since = clock.now() - timedelta(days=_days(request))
    return JsonResponse(signal_quality.series(_charge_point(request, pk).pk, since))


def _charge_point(request: HttpRequest, pk: int) -> ChargePoint:
    return get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station"), pk=pk)


def _days(request: HttpRequest) -> int:
    asked = request.GET.get("days", "")
    return int(asked) if asked in {str(one) for one in DAYS} else 7


def _connections(charge_point: ChargePoint, since: datetime) -> list[Connection]:
    """Those that touch the time since then, the newest first."""
    rows = Connection.objects.filter(charge_point=charge_point)
    return list(rows.filter(Q(closed_at__isnull=True) | Q(closed_at__gte=since)).order_by("-epoch")[:SHOWN_CONNECTIONS])


def _presence(connections: list[Connection], since: datetime, now: datetime) -> list[dict[str, Any]]:
    """When it was connected, as pieces of a strip; sockets that overlap are one piece."""
    whole = (now - since).total_seconds()
    pieces: list[list[datetime]] = []
    for one in sorted(connections, key=lambda row: row.opened_at):
        begin, end = max(one.opened_at, since), min(one.closed_at or now, now)
        if end <= begin:
            continue
        if pieces and begin <= pieces[-1][1]:
            pieces[-1][1] = max(pieces[-1][1], end)
        else:
            pieces.append([begin, end])
    return [
        {
            "begin": begin,
            "end": end,
            "x": round((begin - since).total_seconds() / whole * WIDTH, 2),
            "width": max(0.5, round((end - begin).total_seconds() / whole * WIDTH, 2)),
        }
        for begin, end in pieces
    ]


def _percent(strip: list[dict[str, Any]], since: datetime, now: datetime) -> str:
    here = sum((piece["end"] - piece["begin"]).total_seconds() for piece in strip)
    return f"{min(100.0, 100 * here / (now - since).total_seconds()):.1f}"


def _midnights(since: datetime, now: datetime) -> list[dict[str, Any]]:
    whole = (now - since).total_seconds()
    at = timezone.localtime(since).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    found = []
    while at < now:
        found.append({"x": round((at - since).total_seconds() / whole * WIDTH, 2), "day": at})
        at += timedelta(days=1)
    return found
