"""One charger's habits in the console: what counts for it, who says so, and what an operator says otherwise."""

import json
from hashlib import sha256
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import audit
from accounts.doors import console_page, may_operate, operators_only
from csms import quirk_form, quirks, stations, wishes
from csms.models import ChargePoint, QuirkProfile
from csms.rules import clock as clock_rule
from csms.rules import habits
from voltaro import clock

CHANGED = "Somebody else has changed these habits since you opened this page. Nothing was saved: open it anew and say it again."


class OwnForm(forms.Form):
    """A profile chosen by hand, and settings of this charger's own."""

    quirk_profile = forms.ModelChoiceField(
        QuirkProfile.objects.order_by("name"),
        label="Profile",
        required=False,
        empty_label="Whatever speaks of its vendor, model and firmware",
        help_text="One chosen here stands instead of those.",
    )

    read = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any, *, row: ChargePoint) -> None:
        known = {"quirk_profile": row.quirk_profile_id, "read": _digest(row)}
        super().__init__(data, initial={**known, **quirk_form.initial(row.quirk_settings)})
        self.fields |= quirk_form.form_fields()

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        self.settings = quirk_form.collect(said)
        return said

    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        return [(title, [self[name] for name in names]) for title, names in quirk_form.groups()]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@console_page
def charger_habits(request: HttpRequest, pk: int) -> HttpResponse:
    """What counts for this charger and where it comes from; changed by operators."""
    row = get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station", "quirk_profile"), pk=pk)
    form = OwnForm(request.POST if request.method == "POST" else None, row=row)
    if request.method == "POST":
        if not may_operate(request.user):
            raise PermissionDenied("This is for the network's operators.")
        if form.is_valid() and _save(row, form):
            messages.success(request, "Saved. It goes by these within ten seconds; its configuration is asked for now.")
            return redirect("csms:habits", row.pk)
    told, configuration = quirks.sources(row)
    settled = quirks.of(row)
    context = {
        "title": f"Habits of {row.cp_id}",
        "charge_point": row,
        "form": form,
        "may_operate": may_operate(request.user),
        "differing": [
            (quirk_form.label(name), _words(getattr(settled, name)), told[name].by if name in told else "learned from its clock")
            for name in habits.HELP
            if name != "configuration" and (name in told or getattr(settled, name) != getattr(habits.STANDARD, name))
        ],
        "configuration": [(key, one.value, one.by) for key, one in sorted(configuration.items())],
        "profiles": [one.name for one in quirks.found(row)],
        "clock": clock_rule.words(row.clock_offset_s),
        "clock_wrong": clock_rule.wrong(row.clock_offset_s),
        "refused": (row.learned.get("refused") or {}) if row.learned.get("firmware") == row.firmware_version else {},
    }
    return render(request, "csms/habits.html", {**admin.site.each_context(request), **context}, status=400 if form.is_bound else 200)


def _digest(row: ChargePoint) -> str:
    """What was there when the form was read. (`updated_at` moves with what the charger says of itself.)"""
    return sha256(json.dumps([row.quirk_profile_id, row.quirk_settings], sort_keys=True).encode()).hexdigest()[:16]


@transaction.atomic
def _save(row: ChargePoint, form: OwnForm) -> bool:
    """False when somebody else has saved meanwhile: nothing is written then, and the form says so."""
    locked = ChargePoint.objects.select_for_update(no_key=True).get(pk=row.pk)
    before, read = {"profile": locked.quirk_profile_id, "settings": locked.quirk_settings}, _digest(locked)
    locked.quirk_profile, locked.quirk_settings = form.cleaned_data["quirk_profile"], form.settings
    after = {"profile": locked.quirk_profile_id, "settings": locked.quirk_settings}
    if after != before:
        if form.cleaned_data["read"] != read:
            form.add_error(None, CHANGED)
            return False
        locked.save(update_fields=["quirk_profile", "quirk_settings"])
        audit.record("charge_point.habits", locked, trigger="console", before=before, after=after)
        quirks.conceal([locked.pk], quirks.of(locked).secret_keys)
        wishes.take_up([locked.pk], quirks.wishes(locked), clock.now())
    return True


@require_POST
@operators_only
def connect_anew(request: HttpRequest, pk: int) -> HttpResponse:
    """Close its line, so that it comes again and what was changed counts."""
    row = get_object_or_404(ChargePoint.objects.visible_to(request.user), pk=pk)
    if stations.hang_up(row.pk, "asked to connect anew", clock.now()):
        audit.record("charge_point.hung_up", row, trigger="console")
        messages.success(request, "Its line is closed. Most chargers come back within a minute.")
    else:
        messages.info(request, "It is not connected.")
    return redirect("csms:habits", row.pk)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value != "" else "nothing"
