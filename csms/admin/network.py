"""What stands where: edited by operators."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import TabularInline

from accounts.doors import may_operate
from accounts.filters import ScopedRelatedFilter
from accounts.scoped_admin import ScopedAdmin, save_changed
from csms import batches, quirks, stations, wishes
from csms.batch_views import ask_chargers
from csms.models import (
    ChargePoint,
    Connector,
    QuirkProfile,
    Station,
)
from csms.templatetags.console import ago, kw
from voltaro import clock


class ConnectorInline(TabularInline):
    model = Connector
    extra = 0
    fields = ["connector_id", "type", "max_power_w", "code", "status", "error_code", "last_updated"]
    readonly_fields = ["connector_id", "code", "status", "error_code", "last_updated"]
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_operate(request.user)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a charger's own status, or add_charger, makes them: with their QR

    has_delete_permission = has_add_permission


@admin.register(Station)
class StationAdmin(ScopedAdmin):
    list_display = ["name", "city", "state", "company", "pin_code"]
    list_filter = ["state", ("company", ScopedRelatedFilter)]
    list_select_related = ["company"]
    search_fields = ["name", "city", "address", "pin_code"]
    autocomplete_fields = ["company", "owner"]


@admin.register(ChargePoint)
class ChargePointAdmin(ScopedAdmin):
    """Identity and settings. Its key is shown once, by the command that makes it, and never here."""

    only_changed = True
    list_display = ["cp_id", "live_page", "station", "company", "online", "heard", "status", "vendor", "model", "firmware_version"]
    list_filter = ["online", "blocked", "status", "registration", "vendor", ("company", ScopedRelatedFilter)]
    list_select_related = ["station", "company"]
    search_fields = ["cp_id", "serial_number", "reported_serial", "station__name", "connectors__code"]
    autocomplete_fields = ["station", "quirk_profile"]
    inlines = [ConnectorInline]
    ordering = ["cp_id"]
    actions = ["ask_them"]
    fieldsets = [
        (None, {"fields": ["cp_id", "live_page", "station", "company", "serial_number", "blocked", "registration", "quirk_profile"]}),
        (
            "What it says of itself",
            {"fields": ["vendor", "model", "firmware_version", "reported_serial", "ocpp_version", "status", "error_code"]},
        ),
        ("Access", {"fields": ["security_profile", "has_key"]}),
        ("Times", {"fields": ["online", "last_seen", "last_heartbeat", "last_boot", "boot_count", "last_updated"]}),
    ]
    said_by_it = ["vendor", "model", "firmware_version", "reported_serial", "ocpp_version", "status", "error_code"]
    times = ["online", "last_seen", "last_heartbeat", "last_boot", "boot_count", "last_updated"]

    def get_readonly_fields(self, request: HttpRequest, obj: ChargePoint | None = None) -> list[str]:
        # The identity is the charger's address: it is given once. Its owner follows the ownership (franchise).
        return ["cp_id", "company", "live_page", "has_key", "security_profile", *self.said_by_it, *self.times]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False  # `manage.py add_charger` makes the charger with its key, its connectors and their QRs

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # its frames and sessions are the record; a charger that is gone is blocked

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "quirk_profile":
            kwargs["queryset"] = QuirkProfile.objects.order_by("name")  # nobody's rows: for everybody to choose from
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: ChargePoint, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "blocked" in form.changed_data and obj.blocked:
            stations.hang_up(obj.pk, "blocked", clock.now())
        if "quirk_profile" in form.changed_data:
            wishes.take_up([obj.pk], quirks.wishes(obj), clock.now())

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save(commit=False)
        for connector, names in formset.changed_objects:
            save_changed(connector, names)

    @admin.action(description="Ask them …", permissions=["change"])
    def ask_them(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse:
        """One call for all of the chosen: choose it, fill its form once, follow the batch."""
        return ask_chargers(request, list(queryset.order_by("cp_id").values_list("pk", flat=True)[: batches.AT_MOST + 1]))

    @admin.display(description="Last heard", ordering="last_seen")
    def heard(self, row: ChargePoint) -> str:
        return ago(row.last_seen)

    @admin.display(description="Live")
    def live_page(self, row: ChargePoint) -> str:
        return format_html('<a href="{}">Open</a>', reverse("csms:charger", args=[row.pk])) if row.pk else "–"

    @admin.display(description="Key", boolean=True)
    def has_key(self, row: ChargePoint) -> bool:
        return bool(row.credentials_hash)


@admin.register(Connector)
class ConnectorAdmin(ScopedAdmin):
    only_changed = True
    list_display = ["__str__", "code", "type", "power", "status", "error_code", "last_updated", "sticker"]
    list_filter = ["status", "type", "error_code"]
    list_select_related = ["charge_point"]
    search_fields = ["code", "charge_point__cp_id", "charge_point__station__name"]
    fields = [
        "charge_point",
        "connector_id",
        "type",
        "max_power_w",
        "code",
        "sticker",
        "status",
        "error_code",
        "info",
        "vendor_error_code",
        "last_updated",
    ]
    readonly_fields = [
        "charge_point",
        "connector_id",
        "code",
        "sticker",
        "status",
        "error_code",
        "info",
        "vendor_error_code",
        "last_updated",
    ]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Power", ordering="max_power_w")
    def power(self, row: Connector) -> str:
        return f"{kw(row.max_power_w)} kW"

    @admin.display(description="Sticker")
    def sticker(self, row: Connector) -> str:
        return format_html('<a href="/c/{}/sticker/">Print</a>', row.code)
