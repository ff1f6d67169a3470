"""Firmware and chargers' files in the console's lists: read and searched here; made and followed on their own pages."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html

from accounts.scoped_admin import ReadOnlyAdmin
from csms.models import ChargerUpload, FirmwareImage, FirmwareUpdate


@admin.register(FirmwareImage)
class FirmwareImageAdmin(ReadOnlyAdmin):
    """Read by everybody: a manufacturer's file is no company's own."""

    list_display = ["__str__", "page", "vendor", "model", "size", "sha256", "created_at"]
    search_fields = ["name", "version", "vendor", "model", "=sha256"]
    fields = ["name", "version", "vendor", "model", "size", "sha256", "signature", "signing_certificate", "created_at", "created_by"]
    readonly_fields = ["size"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return FirmwareImage.objects.order_by("-id")

    @admin.display(description="Page")
    def page(self, row: FirmwareImage) -> str:
        return format_html('<a href="{}">Open</a>', reverse("csms:firmware-image", args=[row.pk]))

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, row: FirmwareImage) -> str:
        return filesizeformat(row.size_bytes)


@admin.register(FirmwareUpdate)
class FirmwareUpdateAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "page",
        "charge_point",
        "image",
        "state",
        "reported_status",
        "from_version",
        "to_version",
        "created_at",
        "finished_at",
    ]
    list_filter = ["state", "signed", "created_at"]
    list_select_related = ["charge_point", "image"]
    search_fields = ["=charge_point__cp_id", "=image__version"]
    search_help_text = "A charger or a version, exactly."

    @admin.display(description="Life")
    def page(self, row: FirmwareUpdate) -> str:
        return format_html('<a href="{}">Open</a>', reverse("csms:firmware-update", args=[row.pk]))


@admin.register(ChargerUpload)
class ChargerUploadAdmin(ReadOnlyAdmin):
    list_display = ["id", "page", "charge_point", "kind", "state", "reported_status", "size", "requested_by", "created_at", "received_at"]
    list_filter = ["kind", "state", "created_at"]
    list_select_related = ["charge_point"]
    search_fields = ["=charge_point__cp_id"]
    search_help_text = "A charger, exactly."
    exclude = ["file"]

    @admin.display(description="Files")
    def page(self, row: ChargerUpload) -> str:
        return format_html('<a href="{}">Open</a>', reverse("csms:charger-files", args=[row.charge_point_id]))

    @admin.display(description="Size", ordering="size_bytes")
    def size(self, row: ChargerUpload) -> str:
        return filesizeformat(row.size_bytes) if row.received_at else "–"
