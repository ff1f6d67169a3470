"""Reservations in the operator's console: keep a connector for a tag, see what is kept, give it free."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.doors import console_page, may_operate, operators_only
from csms import reservations
from csms.models import ChargePoint, Connector, IdTag, Reservation
from csms.rules import tag as rule
from voltaro import clock

LEVELS = {"active": "good", "requested": "warn", "used": "good", "refused": "bad", "cancelled": "", "expired": ""}
SHOW = (("open", "Open"), ("all", "All"))
PER_PAGE, OFFERED, HERE = 50, 100, 10


class ReserveForm(forms.Form):
    """Which connector, for whose tag, for how long."""

    connector = forms.ModelChoiceField(Connector.objects.none(), label="Connector", required=False, empty_label="Any of its connectors")
    tag = forms.CharField(
        label="Tag",
        max_length=40,
        widget=forms.TextInput(attrs={"list": "tags", "autocomplete": "off", "spellcheck": "false"}),
        help_text="Its number, or its holder.",
    )
    minutes = forms.IntegerField(label="Minutes", min_value=1, max_value=24 * 60, initial=30)

    def __init__(self, *args: Any, charge_point: ChargePoint, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.fields["connector"].queryset = charge_point.connectors.order_by("connector_id")
        self.fields["connector"].label_from_instance = lambda row: f"{row.connector_id} · {row.get_type_display()} · {row.status}"

    def clean_tag(self) -> IdTag:
        said = str(self.cleaned_data["tag"]).strip()
        mine = IdTag.objects.visible_to(self.user).filter(kind=IdTag.Kind.RFID)
        found = mine.filter(tag=rule.normal(said)).first()
        if found is None:
            named = list(mine.filter(note__iexact=said)[:2])
            if len(named) > 1:
                raise ValidationError(f"{said} holds several tags: give the number.")
            found = named[0] if named else None
        if found is None:
            raise ValidationError("There is no such tag.")
        return found


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@operators_only
def reserve(request: HttpRequest, pk: int) -> HttpResponse:
    """A form to keep one of this charger's connectors; beside it what is kept there."""
    rows = ChargePoint.objects.visible_to(request.user).select_related("station", "company")
    charge_point = get_object_or_404(rows, pk=pk)
    form = ReserveForm(request.POST or None, charge_point=charge_point, user=request.user)
    if request.method == "POST" and form.is_valid():
        until = clock.now() + timedelta(minutes=form.cleaned_data["minutes"])
        try:
            reservations.reserve(charge_point, form.cleaned_data["connector"], form.cleaned_data["tag"], until)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, "The charger has been asked. What it says stands beside the form; nothing is kept before it accepts.")
            return redirect("csms:reserve", pk)
    offered = IdTag.objects.visible_to(request.user).filter(kind=IdTag.Kind.RFID, state=IdTag.State.READY).order_by("-id")[:OFFERED]
    return _page(
        request,
        "csms/reserve.html",
        title=f"Reserve at {charge_point.cp_id}",
        charge_point=charge_point,
        form=form,
        offered=list(offered),
        rows=_shown(request, charge_point.reservations.order_by("-id")[:HERE]),
    )


@require_safe
@never_cache
@operators_only
def reserve_live(request: HttpRequest, pk: int) -> HttpResponse:
    """What is kept at this charger, as a fragment."""
    charge_point = get_object_or_404(ChargePoint.objects.visible_to(request.user), pk=pk)
    rows = _shown(request, charge_point.reservations.order_by("-id")[:HERE])
    return render(request, "csms/_reserve_live.html", {"rows": rows, "may_operate": True})


@require_safe
@never_cache
@console_page
def reservation_list(request: HttpRequest) -> HttpResponse:
    """What is kept where, and for whom; newest first, a fixed number of queries."""
    show = "all" if request.GET.get("show") == "all" else "open"
    mine = Reservation.objects.visible_to(request.user).order_by("-id")
    if show == "open":
        mine = mine.filter(state__in=reservations.OPEN)
    if (before := request.GET.get("before", "")).isdecimal() and len(before) < 19:
        mine = mine.filter(pk__lt=int(before))
    rows = _shown(request, mine[: PER_PAGE + 1])
    older = rows[PER_PAGE - 1].pk if len(rows) > PER_PAGE else None
    return _page(request, "csms/reservations.html", title="Reservations", rows=rows[:PER_PAGE], show=show, tabs=SHOW, older=older)


@require_POST
@operators_only
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Give a reserved connector free."""
    row = get_object_or_404(Reservation.objects.visible_to(request.user), pk=pk)
    messages.info(request, reservations.cancel(row.pk))
    return redirect("csms:reserve", row.charge_point_id) if request.POST.get("back") == "charger" else redirect("csms:reservations")


def _shown(request: HttpRequest, rows: Any) -> list[Reservation]:
    """With everything a line shows: two queries however many there are."""
    found = list(rows.select_related("charge_point__station", "connector", "id_tag", "command", "created_by"))
    full = may_operate(request.user)
    visible = set(IdTag.objects.visible_to(request.user).filter(Q(pk__in=[row.id_tag_id for row in found])).values_list("pk", flat=True))
    for row in found:
        row.level = LEVELS.get(row.state, "")
        row.open = row.state in reservations.OPEN
        row.cancelling = row.open and reservations.cancelling(row)
        row.tag_shown = row.id_tag.tag if full and row.id_tag_id in visible else f"…{row.id_tag.tag[-4:]}"
        row.tag_page = row.id_tag_id in visible
    return found


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    context = {"may_operate": may_operate(request.user), "now": clock.now(), **context}
    return render(request, template, {**admin.site.each_context(request), **context})
