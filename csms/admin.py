"""The network in the console: what stands where is edited here; what happened is only read."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import TabularInline
from unfold.paginator import InfinitePaginator

from accounts.doors import may_operate
from accounts.filters import ScopedRelatedFilter
from accounts.scoped_admin import ReadOnlyAdmin, ScopedAdmin
from csms.models import (
    ChargePoint,
    ChargerError,
    ChargingSession,
    Command,
    Connection,
    Connector,
    FirmwareImage,
    FirmwareUpdate,
    IdTag,
    MeterReading,
    OcppMessage,
    QuirkProfile,
    Reservation,
    SignalQuality,
    Station,
)
from csms.templatetags.console import ago, kw, kwh
from csms.views import pretty


def _as_json(value: Any) -> str:
    return format_html('<pre class="vt-json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


class OpenFilter(admin.SimpleListFilter):
    """Open or over: rows with `resolved_at`."""

    title, parameter_name = "state", "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(resolved_at__isnull=self.value() == "yes") if self.value() in ("yes", "no") else queryset


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

    list_display = ["cp_id", "live_page", "station", "company", "online", "heard", "status", "vendor", "model", "firmware_version"]
    list_filter = ["online", "blocked", "status", "registration", "vendor", ("company", ScopedRelatedFilter)]
    list_select_related = ["station", "company"]
    search_fields = ["cp_id", "serial_number", "reported_serial", "station__name", "connectors__code"]
    autocomplete_fields = ["station", "quirk_profile"]
    inlines = [ConnectorInline]
    ordering = ["cp_id"]
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
    """Every frame. Read from the end; search is exact, because a scan of all frames would take minutes."""

    list_display = ["at", "charge_point", "direction", "action", "kind", "correlation_id", "duration", "note"]
    list_filter = ["direction", "message_type", "action", "at"]
    list_select_related = ["charge_point"]
    search_fields = ["=correlation_id", "=charge_point__cp_id"]
    search_help_text = "A correlation id or a charger, exactly."
    paginator = InfinitePaginator
    fields = ["at", "charge_point", "direction", "action", "kind", "correlation_id", "duration", "epoch", "note", "frame"]
    readonly_fields = ["kind", "duration", "frame"]
    kinds = {2: "Call", 3: "Answer", 4: "Error", 0: "Unreadable"}

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("raw")

    @admin.display(description="Kind", ordering="message_type")
    def kind(self, row: OcppMessage) -> str:
        return self.kinds.get(row.message_type, str(row.message_type))

    @admin.display(description="Took")
    def duration(self, row: OcppMessage) -> str:
        return "–" if row.duration_ms is None else f"{row.duration_ms} ms"

    @admin.display(description="Frame")
    def frame(self, row: OcppMessage) -> str:
        return format_html('<pre class="vt-json">{}</pre>', pretty(row))


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    list_display = ["id", "charge_point", "action", "state", "trigger", "requested_by", "created_at", "sent_at", "answered_at", "error"]
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

    @admin.display(description="Payload")
    def asked_with(self, row: Command) -> str:
        # A one-time tag opens a charger until it is used.
        return _as_json({name: "…" + str(value)[-4:] if name == "idTag" else value for name, value in row.payload.items()})

    @admin.display(description="Answer")
    def answer(self, row: Command) -> str:
        return _as_json(row.response)


@admin.register(IdTag)
class IdTagAdmin(ScopedAdmin):
    """Cards are kept here; a one-time permit is written by its payment, shown masked, and never edited."""

    list_display = ["shown", "kind", "state", "charge_point", "user", "company", "expires_at", "asked_count", "created_at"]
    list_filter = ["kind", "state", "created_at"]
    list_select_related = ["charge_point", "user", "company"]
    search_fields = ["tag", "user__username", "charge_point__cp_id"]
    autocomplete_fields = ["user", "company"]
    fields = ["tag", "state", "parent", "expires_at", "user", "company"]

    def get_fields(self, request: HttpRequest, obj: IdTag | None = None) -> list[str]:
        if obj is not None and obj.kind == IdTag.Kind.ONE_TIME:
            return [
                "shown",
                "kind",
                "state",
                "charge_point",
                "connector",
                "user",
                "company",
                "limit_wh",
                "start_until",
                "asked_count",
                "created_at",
            ]
        return super().get_fields(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: IdTag | None = None) -> list[str]:
        return self.get_fields(request, obj) if obj is not None and obj.kind == IdTag.Kind.ONE_TIME else []

    def has_change_permission(self, request: HttpRequest, obj: IdTag | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.kind != IdTag.Kind.ONE_TIME)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: IdTag, form: Any, change: bool) -> None:
        obj.tag = obj.tag.strip().upper()  # how tags are compared
        super().save_model(request, obj, form, change)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        rows, twice = super().get_search_results(request, queryset, search_term)
        # Searching by the tag must not spell out a masked one.
        return (rows.exclude(kind=IdTag.Kind.ONE_TIME, tag__icontains=search_term) if search_term else rows), twice

    @admin.display(description="Tag", ordering="tag")
    def shown(self, row: IdTag) -> str:
        return str(row)


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


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ["connector", "id_tag", "state", "expires_at", "created_at"]
    list_filter = ["state"]
    list_select_related = ["connector", "id_tag"]


@admin.register(QuirkProfile)
class QuirkProfileAdmin(ScopedAdmin):
    """Read by everybody: a vendor's habits are nobody's secret."""

    list_display = ["name", "vendor", "model", "firmware", "updated_at"]
    search_fields = ["name", "vendor", "model"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return QuirkProfile.objects.order_by(F("name"))


@admin.register(FirmwareImage)
class FirmwareImageAdmin(ReadOnlyAdmin):
    list_display = ["name", "version", "vendor", "model", "size_bytes", "created_at"]
    search_fields = ["name", "version", "vendor", "model"]


@admin.register(FirmwareUpdate)
class FirmwareUpdateAdmin(ReadOnlyAdmin):
    list_display = ["charge_point", "image", "state", "from_version", "created_at", "finished_at"]
    list_filter = ["state"]
    list_select_related = ["charge_point", "image"]
