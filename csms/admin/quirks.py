"""Quirk profiles: a vendor's habits as data, edited field by field."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounts import audit
from accounts.scoped_admin import SharedAdmin
from csms import quirk_form, quirk_seeds, quirks, wishes
from csms.models import ChargePoint, QuirkProfile
from csms.rules.habits import Known
from voltaro import clock

SHOWN = 20


def _look(kind: str) -> forms.Widget:
    return {"choice": UnfoldAdminSelectWidget, "number": UnfoldAdminIntegerFieldWidget, "lines": UnfoldAdminTextareaWidget}.get(
        kind, UnfoldAdminTextInputWidget
    )()


class _ProfileForm(forms.ModelForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        row = kwargs.get("instance")
        kwargs["initial"] = {**(quirk_form.initial(row.settings) if row else {}), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        self.instance.settings = quirk_form.collect(said)
        if not any(said.get(name) for name in ("vendor", "model", "firmware")) and self.instance.name != "Every charger":
            raise forms.ValidationError("Say whom it speaks of: a vendor, a model or a firmware.")
        return said


ProfileForm = type("ProfileForm", (_ProfileForm,), quirk_form.form_fields(_look))


@admin.register(QuirkProfile)
class QuirkProfileAdmin(SharedAdmin):
    """Read by everybody: a vendor's habits are nobody's secret. What came with the product is switched off, not deleted."""

    form = ProfileForm
    list_display = ["name", "vendor", "model", "firmware", "says", "speaks_of", "active"]
    list_filter = ["active"]
    search_fields = ["name", "vendor", "model", "note"]
    fieldsets = [
        (None, {"fields": ["name", "active", "vendor", "model", "firmware", "note", "chargers"]}),
        *((title, {"fields": list(names)}) for title, names in quirk_form.groups()),
    ]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "note":
            field.widget = UnfoldAdminTextareaWidget(attrs={"rows": 4})
        return field

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return QuirkProfile.objects.order_by(F("name"))

    def get_readonly_fields(self, request: HttpRequest, obj: QuirkProfile | None = None) -> list[str]:
        return ["chargers", "name"] if obj is not None and obj.name in quirk_seeds.NAMES else ["chargers"]

    def has_delete_permission(self, request: HttpRequest, obj: QuirkProfile | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.name not in quirk_seeds.NAMES)

    def save_model(self, request: HttpRequest, obj: QuirkProfile, form: Any, change: bool) -> None:
        before = QuirkProfile.objects.filter(pk=obj.pk).first()
        obj.save()
        audit.record(
            "quirk_profile.changed" if change else "quirk_profile.added",
            obj,
            trigger="console",
            before=_facts(before) if before else {},
            after=_facts(obj),
        )
        self._has_changed(obj, [_known(one) for one in (before, obj) if one is not None])

    def delete_model(self, request: HttpRequest, obj: QuirkProfile) -> None:
        pk, known = obj.pk, _known(obj)
        audit.record("quirk_profile.deleted", obj, trigger="console", before=_facts(obj))
        obj.delete()
        obj.pk = pk
        self._has_changed(obj, [known])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet) -> None:
        for row in queryset:
            self.delete_model(request, row)

    @staticmethod
    def _has_changed(obj: QuirkProfile, spoke_of: list[Known]) -> None:
        """Every process hears of it within seconds (csms/heed.py), and connected chargers with it; their wishes change now."""
        quirks.forget()
        wishes.spread(spoke_of, obj.pk, clock.now())

    @admin.display(description="Settings")
    def says(self, row: QuirkProfile) -> str:
        said = quirk_form.initial(row.settings)
        names = [quirk_form.label(name).partition(",")[0] for _, group in quirk_form.groups() for name in group if name in said]
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") if names else "–"

    @admin.display(description="Chargers")
    def speaks_of(self, row: QuirkProfile) -> int:
        return sum(one[3] for one in quirks.matches(_known(row)))

    @admin.display(description="Speaks of")
    def chargers(self, row: QuirkProfile) -> str:
        if row.pk is None:
            return "–"
        kinds = quirks.matches(_known(row))
        total = sum(one[3] for one in kinds)
        if not total:
            return "No charger yet."
        mine = ChargePoint.objects.filter(vendor__in={one[0] for one in kinds}, model__in={one[1] for one in kinds})
        rows = [
            one for one in mine.order_by("cp_id")[: 5 * SHOWN] if (one.vendor, one.model, one.firmware_version) in {k[:3] for k in kinds}
        ]
        links = format_html_join(", ", '<a href="{}">{}</a>', ((reverse("csms:habits", args=[one.pk]), one.cp_id) for one in rows[:SHOWN]))
        return format_html("{} charger{}: {}{}", total, "" if total == 1 else "s", links, " …" if total > SHOWN else "")


def _known(row: QuirkProfile) -> Known:
    return Known(row.name, row.vendor, row.model, row.firmware, row.settings)


def _facts(row: QuirkProfile) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("name", "vendor", "model", "firmware", "settings", "active", "note")}
