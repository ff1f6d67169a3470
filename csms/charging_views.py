"""Limits on a charger's power: what stands, what it comes to, and the form for a new one."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.doors import console_page, may_operate, operators_only
from csms import charging_profiles, commands
from csms.models import ChargePoint, ChargingProfile, ChargingSession, Command, SessionState
from csms.rules import profile as rule
from voltaro import clock

HISTORY = 30
CHART = (1000.0, 160.0)


class LimitForm(forms.Form):
    """A limit as people write it; what it comes to is the rule's."""

    what = forms.ChoiceField(label="What it limits")
    limit = forms.CharField(
        label="Limit",
        max_length=600,
        widget=forms.Textarea(attrs={"rows": 2, "class": "vt-input", "placeholder": "22000"}),
        help_text="One number. Or a line for each step: minutes from the beginning and a number (“0 22000”, “30 11000”); "
        "every day: the time and a number (“00:00 22000”, “18:00 7000”).",
    )
    unit = forms.ChoiceField(choices=[("W", "W, in all"), ("A", "A, on each phase")])
    phases = forms.ChoiceField(choices=[("0", "As the outlet has"), ("1", "1"), ("3", "3")], required=False)
    daily = forms.BooleanField(label="Every day", required=False)
    hours = forms.IntegerField(
        label="For how many hours", min_value=1, max_value=720, required=False, help_text="Empty: until it is cleared."
    )

    def __init__(self, charge_point: ChargePoint, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.charge_point = charge_point
        choices = [("ChargePointMaxProfile:0", "The whole charger, always"), ("TxDefaultProfile:0", "Every new session, at any connector")]
        numbers = list(charge_point.connectors.order_by("connector_id").values_list("connector_id", flat=True))
        choices += [(f"TxDefaultProfile:{number}", f"Every new session at connector {number}") for number in numbers]
        running = ChargingSession.objects.filter(charge_point=charge_point).exclude(state=SessionState.STOPPED).select_related("connector")
        self.sessions = {f"TxProfile:{one.pk}": one for one in running}
        choices += [(key, f"Session {one.pk} at connector {one.connector.connector_id}, now") for key, one in self.sessions.items()]
        self.fields["what"].choices = choices

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if "limit" in said:
            try:
                said["steps"] = rule.steps_of(said["limit"], daily=said.get("daily", False))
            except ValueError as why:
                self.add_error("limit", str(why))
        return said

    def want(self, by: str) -> ChargingProfile:
        """Raises ValidationError."""
        said = self.cleaned_data
        purpose, _, number = said["what"].partition(":")
        session = self.sessions.get(said["what"])
        return charging_profiles.want(
            self.charge_point,
            purpose=purpose,
            connector_no=session.connector.connector_id if session else int(number),
            steps=said["steps"],
            unit=said["unit"],
            phases=int(said["phases"] or 0),
            daily=said["daily"],
            valid_to=clock.now() + timedelta(hours=said["hours"]) if said["hours"] else None,
            session=session,
            by=by,
        )


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def charging(request: HttpRequest, pk: int) -> HttpResponse:
    """The limits of one charger; a new one for those who may operate it."""
    rows = ChargePoint.objects.visible_to(request.user).select_related("station")
    charge_point = get_object_or_404(rows, pk=pk)
    operates = may_operate(request.user)
    if request.method == "POST":
        return _wanted(request, charge_point)
    return _page(request, charge_point, LimitForm(charge_point) if operates else None)


@operators_only
def _wanted(request: HttpRequest, charge_point: ChargePoint) -> HttpResponse:
    form = LimitForm(charge_point, request.POST)
    if form.is_valid():
        try:
            form.want(request.user.get_username())
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, "The limit is wanted. It is sent as soon as the charger can take it; this page shows what it said.")
            return redirect("csms:charging", charge_point.pk)
    return _page(request, charge_point, form, status=400)


@require_POST
@operators_only
def clear(request: HttpRequest, pk: int) -> HttpResponse:
    """Clear one profile by its number, or all of the charger's."""
    charge_point = get_object_or_404(ChargePoint.objects.visible_to(request.user), pk=pk)
    number = request.POST.get("profile", "")
    payload: dict[str, Any] = {"id": int(number)} if number.isascii() and number.isdigit() and len(number) < 10 else {}
    return _ask(request, charge_point, "ClearChargingProfile", payload)


@require_POST
@operators_only
def read_schedule(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask the charger what all its profiles come to, for the next day."""
    charge_point = get_object_or_404(ChargePoint.objects.visible_to(request.user), pk=pk)
    number = request.POST.get("connector", "")
    connector = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
    return _ask(request, charge_point, "GetCompositeSchedule", {"connectorId": connector, "duration": 86_400})


def _ask(request: HttpRequest, charge_point: ChargePoint, action: str, payload: dict[str, Any]) -> HttpResponse:
    try:
        commands.ask(charge_point, action, payload, by=request.user.get_username(), trigger="console")
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, "The charger has been asked; this page shows what it says.")
    return redirect("csms:charging", charge_point.pk)


def _page(request: HttpRequest, charge_point: ChargePoint, form: LimitForm | None, status: int = 200) -> HttpResponse:
    profiles = list(ChargingProfile.objects.filter(charge_point=charge_point).order_by("-id")[:HISTORY])
    schedule = (
        Command.objects.filter(charge_point=charge_point, action="GetCompositeSchedule", answered_at__isnull=False).order_by("-id").first()
    )
    context = {
        **admin.site.each_context(request),
        "title": f"Power of {charge_point.cp_id}",
        "charge_point": charge_point,
        "form": form,
        "standing": [one for one in profiles if one.state in charging_profiles.STANDING],
        "over": [one for one in profiles if one.state not in charging_profiles.STANDING],
        "connectors": list(charge_point.connectors.order_by("connector_id")),
        "schedule": _drawn(schedule) if schedule else None,
        "may_operate": may_operate(request.user),
    }
    return render(request, "csms/charging.html", context, status=status)


def _drawn(command: Command) -> dict[str, Any]:
    """The composite schedule as a staircase of rectangles."""
    found = charging_profiles.composite(command)
    shown: dict[str, Any] = {"command": command, "status": (command.response or {}).get("status", "")}
    if found is None or not found["steps"]:
        return shown
    width, height = CHART
    whole = max(found["duration_s"] or 0, found["steps"][-1][0] + 1, 1)
    most = max(limit for _, limit in found["steps"]) or 1
    ends = [start for start, _ in found["steps"][1:]] + [whole]
    begins = timezone.localtime(command.answered_at)
    shown["unit"], shown["most"] = found["unit"], most
    shown["bars"] = [
        {
            "x": round(start / whole * width, 2),
            "width": max(0.5, round((end - start) / whole * width, 2)),
            "y": round(height - limit / most * (height - 20), 2),
            "height": round(limit / most * (height - 20), 2),
            "limit": limit,
            "at": begins + timedelta(seconds=start),
        }
        for (start, limit), end in zip(found["steps"], ends, strict=True)
    ]
    return shown
