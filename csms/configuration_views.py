"""A charger's configuration in the console: what it reports beside what is wanted of it."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.doors import console_page, may_operate, operators_only
from csms import askable, commands, configuration, quirks, wishes
from csms.models import ChargePoint, Command, ConfigurationKey
from csms.rules.secrecy import is_secret
from voltaro import clock

State = ConfigurationKey.State
SHOW = ("all", "wanted", "differs")
# What is not as it should be.
AMISS = (State.DUE, State.SENT, State.REJECTED, State.NOT_SUPPORTED, State.DIFFERS, State.REBOOT_REQUIRED)
LEVELS = {
    State.IN_STEP: "good",
    State.DUE: "warn",
    State.SENT: "warn",
    State.REBOOT_REQUIRED: "warn",
    State.REJECTED: "bad",
    State.NOT_SUPPORTED: "bad",
    State.DIFFERS: "bad",
}


@require_safe
@never_cache
@console_page
def charger_configuration(request: HttpRequest, pk: int) -> HttpResponse:
    """Every key it has told us, and every wish."""
    charge_point = _charge_point(request, pk)
    facts = _facts(request, charge_point)
    return render(
        request,
        "csms/configuration.html",
        {**admin.site.each_context(request), "title": f"Configuration of {charge_point.cp_id}", **facts},
    )


@require_safe
@never_cache
@console_page
def charger_configuration_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of that page that changes, as a fragment."""
    return render(request, "csms/_configuration_live.html", _facts(request, _charge_point(request, pk)))


def _facts(request: HttpRequest, charge_point: ChargePoint) -> dict[str, Any]:
    rows, secret = list(ConfigurationKey.objects.filter(charge_point=charge_point).order_by("key")), quirks.of(charge_point).secret_keys
    for row in rows:
        row.secret = is_secret(row.key, secret)
        row.amiss = row.wanted is not None and row.state in AMISS
        row.level = LEVELS.get(row.state, "") if row.wanted is not None or row.state == State.REBOOT_REQUIRED else ""
        row.by = row.wanted_by.removeprefix(wishes.PROFILE)
        row.from_profile = row.wanted_by.startswith(wishes.PROFILE)
    show = request.GET.get("show", "all")
    show = show if show in SHOW else "all"
    lists = {"all": rows, "wanted": [row for row in rows if row.wanted is not None], "differs": [row for row in rows if row.amiss]}
    known = charge_point.learned.get("configuration") or {}
    return {
        "charge_point": charge_point,
        "rows": [row for row in lists[show] if row.known or row.wanted is not None],
        "unknown": [row.key for row in rows if not row.known and row.wanted is None] if show == "all" else [],
        "tabs": [(name, name.capitalize(), len([row for row in lists[name] if row.known or row.wanted is not None])) for name in SHOW],
        "show": show,
        "asked": Command.objects.filter(charge_point=charge_point, state__in=commands.OPEN, action__in=configuration.CALLS).count(),
        "reboot": any(row.state == State.REBOOT_REQUIRED for row in rows),
        "read_of": known.get("firmware"),
        "read_at": max((row.reported_at for row in rows if row.reported_at), default=None),
        "may_operate": may_operate(request.user),
    }


@require_POST
@operators_only
def wish(request: HttpRequest, pk: int) -> HttpResponse:
    """Want a key to be so; or, with nothing given, want nothing of it any more."""
    charge_point = _charge_point(request, pk)
    key, value = request.POST.get("key", "").strip(), request.POST.get("value", "").strip()
    try:
        if "withdraw" in request.POST:
            wishes.withdraw(charge_point, key, now=clock.now())
            messages.success(request, f"Nothing is wanted of {key} any more, but what its profiles say.")
        else:
            row = wishes.wish(charge_point, key, value, by=request.user.get_username(), now=clock.now())
            told = "is so already" if row.state == State.IN_STEP else "is set as soon as the charger can be asked, and read back"
            messages.success(request, f"{row.key} = {value} {told}.")
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    return redirect("csms:configuration", pk)


@require_POST
@operators_only
def read_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Read the keys we know of again; or ask for all that it has, without naming any."""
    charge_point = _charge_point(request, pk)
    everything = "everything" in request.POST
    try:
        askable.may_be_asked(charge_point, "GetConfiguration")
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        configuration.read(charge_point, quirks.of(charge_point), everything=everything, by=request.user.get_username())
        messages.success(request, "It is being read." if charge_point.online else "It is read when it is connected, within 15 minutes.")
    return redirect("csms:configuration", pk)


def _charge_point(request: HttpRequest, pk: int) -> ChargePoint:
    return get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station"), pk=pk)
