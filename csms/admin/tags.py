"""Tags, their local lists and reservations as tables: to look things up. The pages that people work with are elsewhere."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts.filters import ScopedRelatedFilter
from accounts.scoped_admin import ReadOnlyAdmin
from csms.models import IdTag, LocalList, Reservation


@admin.register(IdTag)
class IdTagAdmin(ReadOnlyAdmin):
    """Cards and permits beside each other. A one-time permit is written by its payment and shown masked; cards have their pages."""

    list_display = ["shown", "card_page", "kind", "state", "note", "charge_point", "user", "company", "expires_at", "created_at"]
    list_filter = ["kind", "state", "source", ("company", ScopedRelatedFilter), "created_at"]
    list_select_related = ["charge_point", "user", "company"]
    search_fields = ["tag", "note", "user__username", "charge_point__cp_id"]
    cards = ["parent", "expires_at", "concurrent", "note", "source", "external_status", "checked_at"]
    permits = ["charge_point", "connector", "limit_wh", "limit_at", "start_until", "asked_count"]

    def get_fields(self, request: HttpRequest, obj: IdTag | None = None) -> list[str]:
        own = self.permits if obj is not None and obj.kind == IdTag.Kind.ONE_TIME else ["card_page", *self.cards]
        return ["shown", "kind", "state", "user", "company", *own, "created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: IdTag | None = None) -> list[str]:
        return self.get_fields(request, obj)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        rows, twice = super().get_search_results(request, queryset, search_term)
        # Searching by the tag must not spell out a masked one.
        return (rows.exclude(kind=IdTag.Kind.ONE_TIME, tag__icontains=search_term) if search_term else rows), twice

    @admin.display(description="Tag", ordering="tag")
    def shown(self, row: IdTag) -> str:
        return str(row)

    @admin.display(description="Page")
    def card_page(self, row: IdTag) -> str:
        if row.kind == IdTag.Kind.ONE_TIME:
            return "–"
        return format_html('<a href="{}">Open</a>', reverse("csms:tag", args=[row.pk]))


@admin.register(LocalList)
class LocalListAdmin(ReadOnlyAdmin):
    list_display = ["charge_point", "page", "enabled", "state", "wanted_version", "reported_version", "reported_at", "error"]
    list_filter = ["enabled", "state"]
    list_select_related = ["charge_point"]
    search_fields = ["charge_point__cp_id"]
    exclude = ["sent_entries"]

    @admin.display(description="Page")
    def page(self, row: LocalList) -> str:
        return format_html('<a href="{}">Open</a>', reverse("csms:local-list", args=[row.charge_point_id]))


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    list_display = ["reservation_id", "charge_point", "connector", "state", "status", "expires_at", "session", "created_at"]
    list_filter = ["state", "created_at"]
    list_select_related = ["charge_point", "connector__charge_point", "session"]
    search_fields = ["=reservation_id", "charge_point__cp_id"]
    exclude = ["id_tag"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).order_by("-id")
