"""What happened: sessions, readings, frames, commands, faults, connections. Read, searched, never changed."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.paginator import InfinitePaginator

from accounts.filters import ScopedRelatedFilter
from accounts.scoped_admin import ReadOnlyAdmin
from csms import commands, log_views
from csms.models import (
    ChargerError,
    ChargingSession,
    Command,
    Connection,
    MeterReading,
    OcppMessage,
    SignalQuality,
)
from csms.templatetags.console import kwh


def _as_json(value: Any) -> str:
    return format_html('<pre class="vt-json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


class OpenFilter(admin.SimpleListFilter):
    """Open or over: rows with `resolved_at`."""

    title, parameter_name = "state", "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(resolved_at__isnull=self.value() == "yes") if self.value() in ("yes", "no") else queryset


@admin.register(ChargingSession)
class ChargingSessionAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "trace",
        "charge_point",
        "connector_no",
        "state",
        "energy",
        "total_rupees",
        "started_at",
        "ended_at",
        "stop_reason",
        "flags",
    ]
    list_filter = ["state", "stop_reason", ("charge_point__station", ScopedRelatedFilter), "started_at"]
    list_select_related = ["charge_point", "connector"]
    search_fields = ["=id", "=transaction_id", "charge_point__cp_id", "connector__code"]
    search_help_text = "A session's or transaction's number, a charger, or the code on its sticker."
    exclude = ["id_tag", "start_key"]

    @admin.display(description="Story")
    def trace(self, row: ChargingSession) -> str:
        return format_html('<a href="{}">Open</a>', reverse("console-session", args=[row.pk]))

    @admin.display(description="No.")
    def connector_no(self, row: ChargingSession) -> int:
        return row.connector.connector_id

    @admin.display(description="kWh", ordering="energy_wh")
    def energy(self, row: ChargingSession) -> str:
        return kwh(row.energy_wh)

    @admin.display(description="Billed, ₹", ordering="total_billed")
    def total_rupees(self, row: ChargingSession) -> str:
        return "–" if row.total_billed is None else f"{row.total_billed // 100}.{row.total_billed % 100:02d}"


@admin.register(MeterReading)
class MeterReadingAdmin(ReadOnlyAdmin):
    list_display = ["at", "charge_point", "connector_no", "session", "energy_wh", "power_w", "soc_pct", "context", "late"]
    list_filter = ["late", "context"]
    list_select_related = ["charge_point", "session"]
    search_fields = ["=session__id"]
    search_help_text = "A session's number."
    paginator = InfinitePaginator
    fields = [
        "charge_point",
        "session",
        "connector_no",
        "at",
        "received_at",
        "context",
        "energy_wh",
        "power_w",
        "current_ma",
        "voltage_mv",
        "soc_pct",
    ]
    fields += ["late", "all_samples"]
    readonly_fields = ["all_samples"]

    @admin.display(description="Samples")
    def all_samples(self, row: MeterReading) -> str:
        return _as_json(row.samples)


@admin.register(OcppMessage)
class OcppMessageAdmin(ReadOnlyAdmin):
    """Every frame. The list and the row are the message log's own pages, which bound what they look through."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return log_views.messages(request)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not object_id.isdecimal():
            raise Http404
        return log_views.message(request, int(object_id))


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "live_page",
        "charge_point",
        "action",
        "state",
        "trigger",
        "requested_by",
        "created_at",
        "sent_at",
        "answered_at",
        "error",
    ]
    list_filter = ["state", "action", "created_at"]
    list_select_related = ["charge_point"]
    search_fields = ["charge_point__cp_id", "=unique_id", "=session__id", "requested_by"]
    fields = [
        "charge_point",
        "action",
        "asked_with",
        "state",
        "unique_id",
        "session",
        "trigger",
        "requested_by",
        "created_at",
        "expires_at",
    ]
    fields += ["epoch", "sent_at", "answered_at", "settled_at", "answer", "error"]
    readonly_fields = ["asked_with", "answer"]

    @admin.display(description="Page")
    def live_page(self, row: Command) -> str:
        return format_html('<a href="{}">Open</a>', reverse("csms:command", args=[row.pk]))

    @admin.display(description="Payload")
    def asked_with(self, row: Command) -> str:
        return _as_json(commands.shown(row, tags=False))

    @admin.display(description="Answer")
    def answer(self, row: Command) -> str:
        return _as_json(row.response)


@admin.register(ChargerError)
class ChargerErrorAdmin(ReadOnlyAdmin):
    list_display = ["reported_at", "charge_point", "connector_no", "error_code", "vendor_error_code", "info", "resolved_at"]
    list_filter = [OpenFilter, "error_code", "reported_at"]
    list_select_related = ["charge_point"]
    search_fields = ["charge_point__cp_id", "error_code", "vendor_error_code", "info"]


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    list_display = [
        "opened_at",
        "charge_point",
        "epoch",
        "subprotocol",
        "remote_address",
        "closed_at",
        "close_code",
        "close_reason",
        "process",
    ]
    list_filter = [("closed_at", admin.EmptyFieldListFilter), "close_code", "opened_at"]
    list_select_related = ["charge_point"]
    search_fields = ["=charge_point__cp_id", "remote_address"]
    paginator = InfinitePaginator
    exclude = ["channel"]


@admin.register(SignalQuality)
class SignalQualityAdmin(ReadOnlyAdmin):
    list_display = ["at", "charge_point", "rssi", "ber", "temperature_c"]
    list_select_related = ["charge_point"]
    search_fields = ["=charge_point__cp_id"]
    paginator = InfinitePaginator
