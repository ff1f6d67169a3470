"""The onboarding inbox: who has knocked, the window in which new chargers are let in, and claiming one, with its QRs and its owner."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.doors import console_page, may_operate, operators_only
from accounts.models import Company
from csms import onboarding, rotation, stations
from csms.models import ConnectorType, OnboardingWindow, Station, UnknownCharger
from franchise.models import Franchisee
from voltaro import clock, network

SHOWN, SHOWN_AFTER = 100, 20
LENGTHS = [(15, "15 minutes"), (30, "30 minutes"), (60, "1 hour"), (240, "4 hours"), (1440, "24 hours")]
GIVE, NONE = "give", "none"


class WindowForm(forms.Form):
    """How long new chargers are let in, and whose they will be."""

    minutes = forms.TypedChoiceField(label="For", choices=LENGTHS, coerce=int, initial=30)
    company = forms.ModelChoiceField(Company.objects.none(), label="They will belong to", empty_label=None)

    def __init__(self, data: Any, *, user: Any) -> None:
        super().__init__(data)
        networks = onboarding.networks_of(user)
        self.fields["company"].queryset = networks
        self.fields["company"].initial = networks.first()
        if networks.count() == 1:
            self.fields["company"].widget = forms.HiddenInput()


class ClaimForm(forms.Form):
    """What a claimed charger is, and whose. All of it can be changed later but the number of its connectors, which it says itself."""

    connectors = forms.IntegerField(min_value=1, max_value=stations.MAX_CONNECTORS, initial=1)
    type = forms.ChoiceField(label="Connector type", choices=ConnectorType.choices, initial=ConnectorType.CCS2)
    max_kw = forms.DecimalField(label="Power of each, kW", min_value=Decimal("0.1"), max_value=2000, decimal_places=1, initial=60)
    station = forms.ModelChoiceField(Station.objects.none(), required=False, empty_label="None yet")
    new_station = forms.CharField(label="Or a new station", max_length=120, required=False)
    owner = forms.ModelChoiceField(Franchisee.objects.none(), required=False, empty_label="The network itself")
    key = forms.ChoiceField(required=False, widget=forms.RadioSelect)

    def __init__(self, data: Any, *, user: Any, unknown: UnknownCharger) -> None:
        super().__init__(data)
        self.unknown = unknown
        self.fields["station"].queryset = Station.objects.visible_to(user)
        self.fields["owner"].queryset = Franchisee.objects.visible_to(user).select_related("company")
        self.fields["key"].choices = key_choices(unknown)
        self.fields["key"].initial = key_choices(unknown)[0][0] if key_choices(unknown) else ""
        if not key_choices(unknown):
            del self.fields["key"]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("station") and said.get("new_station"):
            raise ValidationError("Choose a station or name a new one, not both.")
        return said

    def claim(self, user: Any) -> network.SetUp:
        """Raises ValidationError."""
        said = self.cleaned_data
        identity = self.unknown.charge_point.cp_id if self.unknown.charge_point else self.unknown.identity
        wants_key = said.get("key") or GIVE
        shown: str | None = None
        if self.unknown.charge_point is None:
            company = onboarding.networks_of(user).first()
            if company is None:
                raise ValidationError("You run no network to add it to.")
            _, shown, _ = stations.add_charge_point(identity, company=company, no_auth=wants_key == NONE)
        done = network.set_up(
            identity,
            connectors=said["connectors"],
            type=said["type"],
            max_power_w=int(said["max_kw"] * 1000),
            station=said["new_station"].strip() or None,
            franchisee=said["owner"],
        )
        onboarding.claimed(done.charge_point, identity=identity, station=said["station"])
        done.charge_point.refresh_from_db()
        done.key, done.created = shown, self.unknown.charge_point is None
        if not done.created and wants_key == GIVE and not self.unknown.had_key:
            rotation.rotate_key(done.charge_point, by=user.get_username())
        return done


def key_choices(unknown: UnknownCharger) -> list[tuple[str, str]]:
    """What may become of its key; none when it has shown one that is kept."""
    if unknown.charge_point is not None and unknown.charge_point.credentials_hash:
        return []
    if unknown.charge_point is not None:
        return [(GIVE, "Ask it to take a new key, over the line, as soon as it is accepted"), (NONE, "Allow it without a key")]
    return [(GIVE, "A new key, shown once, to be set in the charger"), (NONE, "Allow it without a key")]


# -- the inbox ---------------------------------------------------------------------------------------------------------
@require_safe
@never_cache
@console_page
def inbox(request: HttpRequest) -> HttpResponse:
    """Who has knocked; updates by itself."""
    return _page(request, "csms/onboarding.html", title="Onboarding", **_facts(request))


@require_safe
@never_cache
@console_page
def inbox_live(request: HttpRequest) -> HttpResponse:
    """The part of that page that changes, as a fragment."""
    return render(request, "csms/_onboarding_live.html", _facts(request))


def _facts(request: HttpRequest) -> dict[str, Any]:
    """A fixed number of queries, whatever has knocked."""
    now, rows = clock.now(), onboarding.inbox(request.user)
    state = UnknownCharger.State
    windows = onboarding.open_windows(now).visible_to(request.user).select_related("company", "opened_by").order_by("-id")
    return {
        "windows": list(windows[:5]),
        "form": WindowForm(None, user=request.user),
        "waiting": list(rows.filter(state=state.NEW, charge_point__isnull=False).order_by("-last_at")[:SHOWN]),
        "strangers": list(rows.filter(state=state.NEW, charge_point__isnull=True).order_by("-last_at")[:SHOWN]),
        "blocked": list(rows.filter(state=state.BLOCKED).order_by("-last_at")[:SHOWN_AFTER]),
        "claimed": list(rows.filter(state=state.CLAIMED).order_by("-updated_at")[:5]),
        "url": network.socket_url("NAME").removesuffix("NAME"),
        "let_in_at_most": onboarding.LET_IN_AT_MOST,
        "may_operate": may_operate(request.user),
        "now": now,
    }


@require_POST
@operators_only
def open_window(request: HttpRequest) -> HttpResponse:
    """Let new chargers in for a while."""
    form = WindowForm(request.POST, user=request.user)
    if form.is_valid():
        said = form.cleaned_data
        window = onboarding.open_window(said["company"], request.user, minutes=said["minutes"], now=clock.now())
        messages.success(request, f"New chargers are let in until {_time(window.closes_at)}. They wait here until you claim them.")
    else:
        messages.error(request, "That window cannot be opened. Choose how long, and for which company.")
    return redirect("onboarding")


@require_POST
@operators_only
def close_window(request: HttpRequest, pk: int) -> HttpResponse:
    """Nobody new comes in any more."""
    onboarding.close_window(get_object_or_404(OnboardingWindow.objects.visible_to(request.user), pk=pk), clock.now())
    messages.success(request, "The window is closed. Chargers that were not claimed are refused again.")
    return redirect("onboarding")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@operators_only
def claim(request: HttpRequest, pk: int) -> HttpResponse:
    """Make this charger one of ours. Its key, when one was made now, is shown on this page once and nowhere else."""
    unknown = get_object_or_404(_claimable(request), pk=pk)
    posted = request.method == "POST"
    form = ClaimForm(request.POST if posted else None, user=request.user, unknown=unknown)
    if posted and form.is_valid():
        try:
            done = form.claim(request.user)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            if done.key:
                return _page(request, "csms/onboarding_key.html", title=f"{done.charge_point} is set up", done=done, facts=done.facts())
            told = f"{done.charge_point} is yours. It is accepted with its next boot, within half a minute."
            messages.success(request, told)
            if done.qr_trouble:
                messages.warning(request, f"It has {done.qr_trouble}. “manage.py add_charger {done.charge_point}” makes them later.")
            return redirect("csms:charger", done.charge_point.pk)
    return _page(
        request, "csms/onboarding_claim.html", title=f"Claim {unknown.identity}", unknown=unknown, form=form, status=400 if posted else 200
    )


@require_POST
@operators_only
def block(request: HttpRequest, pk: int) -> HttpResponse:
    """This one is never let in."""
    return _deed(request, pk, onboarding.block, "{} is blocked: it is refused for ever, like a wrong password.")


@require_POST
@operators_only
def forget(request: HttpRequest, pk: int) -> HttpResponse:
    """Put a row away; whoever it was may knock again."""
    return _deed(request, pk, onboarding.forget, "{} is forgotten. It may knock again.")


def _deed(request: HttpRequest, pk: int, deed: Any, words: str) -> HttpResponse:
    unknown = get_object_or_404(onboarding.inbox(request.user), pk=pk)
    try:
        deed(unknown, clock.now())
        messages.success(request, words.format(unknown.identity))
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    return redirect("onboarding")


def waiting(user: Any) -> int:
    """How many wait to be claimed."""
    rows = onboarding.inbox(user).filter(state=UnknownCharger.State.NEW, charge_point__isnull=False)
    return int(rows.order_by().count())


def _claimable(request: HttpRequest) -> QuerySet[UnknownCharger]:
    return onboarding.inbox(request.user).filter(state=UnknownCharger.State.NEW)


def _time(at: datetime) -> str:
    return timezone.localtime(at).strftime("%H:%M")


def _page(request: HttpRequest, template: str, *, status: int = 200, **context: Any) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context}, status=status)
