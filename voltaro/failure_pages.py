"""How charging goes wrong, counted: the modes of accounts/failures.py over a day and a week, what is kept for a person, and what
chargers that we cannot hear may be delivering unpaid."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import TruncDate
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import failures
from accounts.doors import console_page, may_operate, operators_only
from accounts.failures import MODES, PREFIX, Mode
from accounts.models import AuditEntry
from billing.models import QRPayment, Refund
from billing.rules.tariff import price
from billing.templatetags.money import rupees
from csms import exposure
from csms.templatetags.console import kw, kwh
from franchise.models import Payout
from voltaro import clock
from voltaro.pages import page

DAYS, SHOWN = 7, 50
# A small chart, in its own units: a bar a day.
BAR, HIGH = 12, 28
# After so long an answer that was not heard, and money that has not arrived, are stuck.
ASKED_AT_MOST, UNDER_WAY_AT_MOST = timedelta(hours=1), timedelta(days=10)
# What an entry says that the page says already.
UNSAID = {"charge_point"}


# -- what stands as it is now -------------------------------------------------------------------------------------------
def refunds_stuck(rows: QuerySet[Refund], now: datetime) -> QuerySet[Refund]:
    """Refunds that failed and wait for a person, that were not heard of, or have been on their way for too long."""
    return rows.filter(Q(state="failed", payment__review="refund_failed") | _too_long(now))


def payouts_stuck(rows: QuerySet[Payout], now: datetime) -> QuerySet[Payout]:
    """The same of payouts; a failed one that another follows is not stuck."""
    return rows.filter(Q(state="failed", followed_by__isnull=True) | _too_long(now))


def _too_long(now: datetime) -> Q:
    return (
        Q(state="due", created_at__lt=now - ASKED_AT_MOST)
        | Q(state="asking", asked_at__lt=now - ASKED_AT_MOST)
        | Q(state="pending", asked_at__lt=now - UNDER_WAY_AT_MOST)
    )


STANDING: dict[str, tuple[Any, Any, str]] = {
    "refund_stuck": (Refund, refunds_stuck, "admin:billing_refund_changelist"),
    "payout_stuck": (Payout, payouts_stuck, "admin:franchise_payout_changelist"),
}


def standing(now: datetime, user: Any = None) -> dict[str, int]:
    """How many stand at this moment: of all, or of what this person may see."""
    found = {}
    for name, (model, stuck, _) in STANDING.items():
        found[name] = stuck(model.objects.all() if user is None else model.objects.visible_to(user), now).count()
    return found


# -- pages --------------------------------------------------------------------------------------------------------------
@dataclass
class Line:
    """One mode on the page. `bars` is its week as plain numbers for SVG attributes."""

    name: str
    mode: Mode
    day: int = 0
    week: int = 0
    last_at: datetime | None = None
    bars: list[dict[str, Any]] | None = None
    link: str = ""


@require_safe
@never_cache
@console_page
def overview(request: HttpRequest) -> HttpResponse:
    """Every mode: the last day, the last seven, and where to go from there. One query over the week, one for each that stands."""
    now = clock.now()
    today = timezone.localtime(now).date()
    days = [today - timedelta(days=DAYS - 1 - number) for number in range(DAYS)]
    by_day: dict[str, dict[Any, int]] = {}
    lines = {name: Line(name, mode) for name, mode in MODES.items()}
    found = failures.entries(now, AuditEntry.objects.visible_to(request.user)).order_by().values("action", on=TruncDate("at"))
    day_ago = Q(at__gte=now - timedelta(days=1))
    for row in found.annotate(week=Count("pk"), day=Count("pk", filter=day_ago), last_at=Max("at")):
        line = lines.get(row["action"].removeprefix(PREFIX))
        if line is None:  # a mode of another version of ours
            continue
        line.day, line.week = line.day + row["day"], line.week + row["week"]
        line.last_at = max(filter(None, (line.last_at, row["last_at"])))
        by_day.setdefault(line.name, {})[row["on"]] = row["week"]
    stands = standing(now, request.user)
    for name, line in lines.items():
        if line.mode.standing:
            line.day = stands[name]
            line.link = reverse(STANDING[name][2])
        else:
            line.bars = _bars([(on, by_day.get(name, {}).get(on, 0)) for on in days])
            line.link = reverse("failure", args=[name])
    families: dict[str, list[Line]] = {}
    for line in lines.values():
        families.setdefault(line.mode.family, []).append(line)
    return page(request, "csms/failures.html", "Failures", families=families, wide=BAR * DAYS, high=HIGH)


def _bars(days: list[tuple[Any, int]]) -> list[dict[str, Any]]:
    top = max(1, *(number for _, number in days))
    bars = []
    for place, (on, number) in enumerate(days):
        high = max(number * HIGH // top, 2 if number else 1)
        bars.append({"x": place * BAR, "y": HIGH - high, "w": BAR - 2, "h": high, "on": on, "number": number})
    return bars


@require_safe
@never_cache
@console_page
def failure(request: HttpRequest, name: str) -> HttpResponse:
    """The newest of one mode, with what is known of each."""
    mode = MODES.get(name)
    if mode is None or mode.standing:
        raise Http404("There is no such failure.")
    rows = _entries(request, [name])
    return page(request, "csms/failure.html", mode.words, mode=mode, rows=[told(row) for row in rows], shown=SHOWN)


@require_safe
@never_cache
@console_page
def kept(request: HttpRequest) -> HttpResponse:
    """Orphans and phantoms: starts nobody was known for, energy without a session, stops without one, messages we could not take.

    ?show=away: those that an operator has put away.
    """
    away = request.GET.get("show") == "away"
    found = list(failures.kept(clock.now(), AuditEntry.objects.visible_to(request.user), away=away)[:SHOWN])
    words = failures.words_about(found) if away else {}
    rows = [{**told(row), "pk": row.pk, "word": words.get(row.pk)} for row in found]
    context = {"rows": rows, "away": away, "shown": SHOWN, "may_put_away": may_operate(request.user) and not away}
    return page(request, "csms/kept.html", "Kept for a person", **context)


class NoteForm(forms.Form):
    note = forms.CharField(max_length=200)


@require_POST
@operators_only
def put_away(request: HttpRequest, pk: int) -> HttpResponse:
    """One of them wants nothing more of anybody: it leaves the list, with a note."""
    entry = get_object_or_404(failures.kept_at_all(AuditEntry.objects.visible_to(request.user)), pk=pk)
    form = NoteForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Say in a word why it is done with, in 200 characters at most.")
    elif failures.put_away(entry, form.cleaned_data["note"]):
        messages.success(request, "Put away. It stands under Put away, and in the audit entries.")
    else:
        messages.info(request, "Somebody had put it away already.")
    return redirect("kept")


def _entries(request: HttpRequest, names: list[str]) -> list[AuditEntry]:
    mine = failures.entries(clock.now(), AuditEntry.objects.visible_to(request.user))
    return list(mine.filter(action__in=[PREFIX + name for name in names]).order_by("-at")[:SHOWN])


def told(entry: AuditEntry) -> dict[str, Any]:
    """An entry for people: what, when, about which row, and the facts."""
    links = {
        "csms.chargingsession": ("Session", "console-session"),
        "csms.chargepoint": ("Charger", "csms:charger"),
        "billing.qrpayment": ("Payment", "admin:billing_qrpayment_change"),
    }
    words, place = links[entry.target_type]
    name = entry.action.removeprefix(PREFIX)
    facts = [_fact(key, value) for key, value in entry.after.items() if key not in UNSAID and value not in (None, "", [], {})]
    return {
        "at": entry.at,
        "name": name,
        "mode": MODES.get(name),
        "target": f"{words} {entry.target_id}",
        "link": reverse(place, args=[entry.target_id]),
        "facts": facts,
        "charger": entry.after.get("charge_point") if entry.target_type != "csms.chargepoint" else None,
    }


def _fact(name: str, value: Any) -> tuple[str, Any]:
    """A fact in people's units."""
    for unit, shown in (("_wh", lambda wh: f"{kwh(wh)} kWh"), ("_w", lambda watts: f"{kw(watts)} kW"), ("_paise", rupees)):
        if name.endswith(unit) and type(value) is int:
            return name.removesuffix(unit).replace("_", " "), shown(value)
    return name.replace("_", " "), value


@require_safe
@never_cache
@console_page
def unpaid(request: HttpRequest) -> HttpResponse:
    """Sessions nobody hears, and what they may cost us; the worst first."""
    now = clock.now()
    found = exposure.look(now, user=request.user)
    snapshots = dict(
        QRPayment.objects.filter(session__in=[row.session_id for row in found.rows]).values_list("session_id", "tariff_snapshot")
    )
    rows = [(row, price(row.exposed_wh, snapshots[row.session_id]).total if snapshots.get(row.session_id) else None) for row in found.rows]
    worst = exposure.by_charger(now, user=request.user)
    return page(request, "csms/exposure.html", "Exposure", found=found, rows=rows, worst=worst[:10], shown=exposure.SHOWN)
