"""Local lists in the operator's console: which chargers hold one, what is wanted and what they report; one charger's list."""

from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.doors import console_page, may_operate, operators_only
from csms import local_lists, quirks
from csms.models import ChargePoint, Command, ConfigurationKey, IdTag, LocalList
from csms.rules import tag as rule
from voltaro import clock

LEVELS = {"in_step": "good", "due": "warn", "sending": "warn", "failed": "bad", "unsupported": ""}
SHOW = (("all", "All chargers"), ("on", "On"), ("behind", "Not in step"), ("off", "Off"))
PER_PAGE, SHOWN = 50, 300
DEEDS = ("on", "off", "again")


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def lists(request: HttpRequest) -> HttpResponse:
    """Every charger and its list; a fixed number of queries. Switched on and off for the chosen."""
    if request.method == "POST":
        return _switch(request, request.POST.getlist("charger"), "csms:local-lists")
    mine = ChargePoint.objects.visible_to(request.user)
    words = request.GET.get("q", "").replace("\0", "").strip()[:80]
    if words:
        mine = mine.filter(Q(cp_id__icontains=words) | Q(station__name__icontains=words))
    on = Q(local_list__enabled=True)
    kinds = {
        "on": on,
        "behind": on & ~Q(local_list__state="in_step"),
        "off": ~Q(pk__in=LocalList.objects.filter(enabled=True).values("charge_point")),
    }
    numbers = mine.aggregate(all=Count("pk"), on=Count("pk", filter=on), behind=Count("pk", filter=kinds["behind"]))
    numbers["off"] = numbers["all"] - numbers["on"]
    show = request.GET.get("show", "all")
    show = show if show in numbers else "all"
    rows = mine.filter(kinds[show]) if show != "all" else mine
    page = Paginator(rows.select_related("station", "local_list").order_by("cp_id"), PER_PAGE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    for row in shown:
        row.list = _list(row)
    tabs = [(name, label, numbers[name]) for name, label in SHOW]
    return _page(request, "csms/local_lists.html", title="Local lists", rows=shown, page=page, words=words, show=show, tabs=tabs)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def charger_list(request: HttpRequest, pk: int) -> HttpResponse:
    """One charger's list: wanted and reported, tag by tag, and what was sent last."""
    rows = ChargePoint.objects.visible_to(request.user).select_related("station", "company", "local_list")
    charge_point = get_object_or_404(rows, pk=pk)
    if request.method == "POST":
        return _switch(request, [str(pk)], "csms:local-list", pk)
    return _page(request, "csms/local_list.html", title=f"Local list of {charge_point.cp_id}", **_list_facts(request, charge_point))


@require_safe
@never_cache
@console_page
def charger_list_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of that page that changes, as a fragment."""
    rows = ChargePoint.objects.visible_to(request.user).select_related("company", "local_list")
    return render(request, "csms/_local_list.html", _list_facts(request, get_object_or_404(rows, pk=pk)))


def _list_facts(request: HttpRequest, charge_point: ChargePoint) -> dict[str, Any]:
    now = clock.now()
    row = _list(charge_point)
    wanted, _, crowded = local_lists.wanted(charge_point, now)
    held = row.sent_entries if row is not None else {}
    names = sorted({*wanted, *held})
    known = _named(request, charge_point, names[:SHOWN])
    tags = [
        {"tag": known.get(tag, f"…{tag[-4:]}"), "wanted": tag in wanted, "held": tag in held, "group": wanted.get(tag) or held.get(tag, "")}
        for tag in names[:SHOWN]
    ]
    keys = ("LocalAuthListEnabled", "LocalPreAuthorize", "LocalAuthorizeOffline", "LocalAuthListMaxLength", "SendLocalListMaxLength")
    named = Q(key__in=keys) | Q(key__in=[key.lower() for key in keys])
    return dict(
        charge_point=charge_point,
        row=row,
        tags=tags,
        more=max(0, len(names) - SHOWN),
        n_wanted=len(wanted),
        n_held=len(held),
        crowded=crowded,
        settings=list(ConfigurationKey.objects.filter(named, charge_point=charge_point).order_by("key")),
        last=list(Command.objects.filter(charge_point=charge_point, action__in=local_lists.ACTIONS).order_by("-id")[:10]),
        now=now,
    )


def _named(request: HttpRequest, charge_point: ChargePoint, names: list[str]) -> dict[str, str]:
    """Of these tags, as the charger says them, those whose numbers this person may read: an operator, of their companies."""
    if not may_operate(request.user):
        return {}
    form = quirks.of(charge_point).id_tag_form
    meant = {reading: name for name in names for reading in rule.readings(name, form)}
    mine = IdTag.objects.visible_to(request.user).filter(kind=IdTag.Kind.RFID, tag__in=list(meant))
    return {meant[tag]: meant[tag] for tag in mine.values_list("tag", flat=True)}


@operators_only
def _switch(request: HttpRequest, chosen: list[str], back: str, *args: Any) -> HttpResponse:
    """Switch the lists of the chosen chargers on or off, or have them tried again."""
    keys = [int(key) for key in chosen if key.isdecimal() and len(key) < 19][:500]
    rows = list(ChargePoint.objects.visible_to(request.user).filter(pk__in=keys))
    deed = request.POST.get("deed", "")
    if not rows or deed not in DEEDS:
        messages.info(request, "Choose chargers first.")
    elif deed == "off":
        done = local_lists.switch_off(rows)
        messages.success(request, f"{_chargers(done)} switched off; what they hold is emptied.")
    else:
        if deed == "again":
            rows = [row for row in rows if (one := _list(row)) is not None and one.enabled]
        local_lists.switch_on(rows)
        messages.success(request, f"{_chargers(len(rows))}: compared and brought in step, a few at a time.")
    return redirect(back, *args)


def _chargers(number: int) -> str:
    return f"{number} charger{'' if number == 1 else 's'}"


def _list(charge_point: ChargePoint) -> LocalList | None:
    row = getattr(charge_point, "local_list", None)
    if row is not None:
        row.level = LEVELS.get(row.state, "")
    return row


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), "may_operate": may_operate(request.user), **context})
