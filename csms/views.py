"""The network's pages in the operator's console: all chargers, one charger, a session's curve, and the Stop button."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.doors import console_page, may_operate, operators_only
from csms import calls, charts, exposure, health, sessions
from csms.models import ChargePoint, ChargingSession, Command, CommandState, Connector, OcppMessage, SessionState
from voltaro import clock

FRAMES = 50
OPEN = (CommandState.QUEUED, CommandState.SENT, CommandState.ACCEPTED)
SHOW = ("all", "online", "offline", "silent", "faulted", "charging")


@require_safe
@never_cache
@console_page
def chargers(request: HttpRequest) -> HttpResponse:
    """All chargers this person may see: search, filters with their counts, fifty to a page; a fixed number of queries."""
    words = request.GET.get("q", "").replace("\0", "").strip()[:80]
    mine = found(request.user, words)
    numbers = mine.aggregate(
        n_all=Count("pk"),
        n_online=Count("pk", filter=Q(online=True)),
        n_silent=Count("pk", filter=Q(silent=True)),
        n_faulted=Count("pk", filter=Q(faulted=True)),
        n_charging=Count("pk", filter=Q(charging=True)),
    )
    counts = {name.removeprefix("n_"): number for name, number in numbers.items()}
    counts["offline"] = counts["all"] - counts["online"]
    show = request.GET.get("show", "all")
    show = show if show in SHOW else "all"
    mine = shown(mine, show)
    page = Paginator(_Counted(mine.select_related("station", "company").order_by("cp_id"), counts[show]), 50).get_page(
        request.GET.get("page")
    )
    rows = list(page.object_list)
    _attach(rows)
    return _page(
        request,
        "csms/chargers.html",
        title="Chargers",
        rows=rows,
        page=page,
        words=words,
        show=show,
        tabs=[(name, name.capitalize(), counts[name]) for name in SHOW],
        may_operate=may_operate(request.user),
    )


def found(user: Any, words: str) -> QuerySet:
    """The chargers this person may see that these words find, each with its state."""
    mine = _with_state(ChargePoint.objects.visible_to(user).filter(unclaimed=False))
    if not words:
        return mine
    return mine.filter(
        Q(cp_id__icontains=words)
        | Q(station__name__icontains=words)
        | Q(station__city__icontains=words)
        | Q(serial_number__icontains=words)
        | Q(company__name__icontains=words)
        | Exists(Connector.objects.filter(charge_point=OuterRef("cp_id"), code__iexact=words))
    )


def shown(rows: QuerySet, show: str) -> QuerySet:
    """Of these only the online, the silent ... (SHOW)."""
    if show == "all" or show not in SHOW:
        return rows
    return rows.filter(**{show: True} if show != "offline" else {"online": False})


@require_safe
@never_cache
@console_page
def charger(request: HttpRequest, pk: int) -> HttpResponse:
    """One charger: identity, health, connectors, the running session, frames, commands, faults; updates by itself."""
    charge_point = _charge_point(request, pk)
    context = _charger_facts(request, charge_point)
    return _page(request, "csms/charger.html", title=charge_point.cp_id, often=calls.OFTEN, groups=calls.groups(), **context)


@require_safe
@never_cache
@console_page
def charger_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of that page that changes, as a fragment."""
    return render(request, "csms/_charger_live.html", _charger_facts(request, _charge_point(request, pk)))


@require_safe
@never_cache
@console_page
def curve(request: HttpRequest, pk: int) -> JsonResponse:
    """A session's power and energy, for the chart."""
    return JsonResponse(charts.curve(get_object_or_404(ChargingSession.objects.visible_to(request.user), pk=pk)))


@require_POST
@operators_only
def stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask the charger to stop this session. Asking again while it is being asked asks once; after a failure it asks anew."""
    session = get_object_or_404(ChargingSession.objects.visible_to(request.user), pk=pk)
    if session.live:
        asked = Command.objects.filter(session=session, trigger="console").order_by("-id").values_list("state", flat=True)
        attempt = len(asked) + (1 if not asked or asked[0] not in OPEN else 0)
        sessions.ask_stop(session, trigger="console", requested_by=request.user.get_username(), attempt=attempt)
        messages.success(request, "The charger has been asked to stop. This page shows when it has.")
    else:
        messages.info(request, "This session had already ended.")
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        back = reverse("csms:charger", args=[session.charge_point_id])
    return redirect(back)


# -- helpers ------------------------------------------------------------------------------------------------


class _Counted(list):
    """A page's rows whose number is already known: the paginator asks nothing twice."""

    def __init__(self, rows: QuerySet, number: int) -> None:
        super().__init__()
        self.rows, self.number = rows, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, window: Any) -> Any:
        return self.rows[window]


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})


def _charge_point(request: HttpRequest, pk: int) -> ChargePoint:
    return get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station", "company"), pk=pk)


def _live() -> QuerySet:
    return ChargingSession.objects.exclude(state=SessionState.STOPPED)


def _with_state(rows: QuerySet) -> QuerySet:
    heard_by = clock.now() - timedelta(seconds=settings.HEARTBEAT_TIMEOUT_S)
    return rows.annotate(
        silent=Q(online=True, last_seen__lt=heard_by),
        faulted=Exists(Connector.objects.filter(charge_point=OuterRef("cp_id"), status="Faulted")),
        charging=Exists(_live().filter(charge_point=OuterRef("pk"))),
    )


def _attach(rows: list[ChargePoint]) -> None:
    """Give each charger its connectors, and each connector its live session: two queries however many there are."""
    by_charger: dict[str, list[Connector]] = {row.cp_id: [] for row in rows}
    running = {session.connector_id: session for session in _live().filter(charge_point__in=[row.pk for row in rows])}
    for connector in Connector.objects.filter(charge_point__in=list(by_charger)).order_by("connector_id"):
        connector.running = running.get(connector.pk)
        by_charger[connector.charge_point_id].append(connector)
    for row in rows:
        row.outlets = by_charger[row.cp_id]


def _charger_facts(request: HttpRequest, charge_point: ChargePoint) -> dict[str, Any]:
    """Everything the changing part shows; a fixed number of queries, whatever the tables hold."""
    now = clock.now()
    recent = list(ChargingSession.objects.filter(charge_point=charge_point).select_related("connector").order_by("-id")[:10])
    running = list(_live().filter(charge_point=charge_point).select_related("connector").order_by("connector__connector_id"))
    connectors = list(Connector.objects.filter(charge_point=charge_point.cp_id).order_by("connector_id"))
    for connector in connectors:
        connector.running = next((session for session in running if session.connector_id == connector.pk), None)
    frames = OcppMessage.objects.filter(charge_point=charge_point).defer("raw").annotate(size=Length("raw")).order_by("-id")
    return {
        "charge_point": charge_point,
        "connectors": connectors,
        "health": health.look(charge_point, now),
        "unheard": [(row, None) for row in exposure.look(now, charge_point_pk=charge_point.pk).rows],
        "running": running,
        "recent": recent,
        "drawn": (running or recent or [None])[0],
        "frames": list(frames[:FRAMES]),
        "commands": list(Command.objects.filter(charge_point=charge_point).order_by("-id")[:10]),
        "errors": list(charge_point.errors.order_by("-id")[:10]),
        "may_operate": may_operate(request.user),
        "now": now,
    }
