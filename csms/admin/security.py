"""Alerts, what chargers report of their security, their certificates, and the roots that can be installed on them."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminFileFieldWidget

from accounts import audit
from accounts.doors import may_operate
from accounts.scoped_admin import ReadOnlyAdmin, SharedAdmin
from csms import alerts, pem, roots
from csms.models import Alert, ChargerCertificate, InstalledCertificate, RootCertificate, SecurityEvent
from csms.pem import Unusable
from csms.templatetags.console import ago
from voltaro import clock


class OpenAlertFilter(admin.SimpleListFilter):
    """Open, or over: rows with `cleared_at`."""

    title, parameter_name = "state", "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(cleared_at__isnull=self.value() == "yes") if self.value() in ("yes", "no") else queryset


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """What a person should look at. Put away when it has been looked at; raised again when it goes on."""

    list_display = ["what", "charger", "detail", "count", "since", "last", "cleared"]
    list_filter = [OpenAlertFilter, "kind", "last_at"]
    list_select_related = ["charge_point"]
    search_fields = ["charge_point__cp_id", "kind", "detail"]
    fields = ["charge_point", "kind", "detail", "count", "raised_at", "last_at", "cleared_at", "cleared_by"]
    actions = ["put_away"]

    @admin.action(description="Put away: somebody has looked at it", permissions=["operate"])
    def put_away(self, request: HttpRequest, rows: QuerySet) -> None:
        done = sum(alerts.put_away(row, request.user.get_username(), clock.now()) for row in rows)
        messages.success(request, f"{done} put away." if done else "Nothing was open.")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return may_operate(request.user)

    @admin.display(description="What", ordering="kind")
    def what(self, row: Alert) -> str:
        return alerts.words(row.kind)

    @admin.display(description="Charger", ordering="charge_point")
    def charger(self, row: Alert) -> str:
        return format_html('<a href="{}">{}</a>', reverse("csms:charger", args=[row.charge_point_id]), row.charge_point)

    @admin.display(description="Since", ordering="raised_at")
    def since(self, row: Alert) -> str:
        return ago(row.raised_at)

    @admin.display(description="Last", ordering="last_at")
    def last(self, row: Alert) -> str:
        return ago(row.last_at)

    @admin.display(description="Over", ordering="cleared_at")
    def cleared(self, row: Alert) -> str:
        return f"{ago(row.cleared_at)}{f', by {row.cleared_by}' if row.cleared_by else ''}" if row.cleared_at else "open"


@admin.register(SecurityEvent)
class SecurityEventAdmin(ReadOnlyAdmin):
    """What chargers said by SecurityEventNotification; a flood of one type within an hour is one row."""

    list_display = ["last_received_at", "charge_point", "type", "tech_info", "count", "critical", "at"]
    list_filter = ["critical", "type", "received_at"]
    list_select_related = ["charge_point"]
    search_fields = ["=charge_point__cp_id", "type"]
    paginator = InfinitePaginator


@admin.register(ChargerCertificate)
class ChargerCertificateAdmin(ReadOnlyAdmin):
    """Chargers' own certificates. Made, given and revoked on a charger's security page."""

    list_display = ["id", "charger", "state", "serial", "not_before", "not_after", "error", "created_at"]
    list_filter = ["state", "not_after"]
    list_select_related = ["charge_point"]
    search_fields = ["charge_point__cp_id", "serial", "sha256"]
    exclude = ["csr"]

    @admin.display(description="Charger", ordering="charge_point")
    def charger(self, row: ChargerCertificate) -> str:
        return format_html('<a href="{}">{}</a>', reverse("csms:charger-security", args=[row.charge_point_id]), row.charge_point)


class RootForm(forms.ModelForm):
    """A root as PEM, written or as a file: read, and refused when it is none."""

    file = forms.FileField(label="or its file", required=False, widget=UnfoldAdminFileFieldWidget, help_text="PEM, .crt or .pem")

    class Meta:
        model = RootCertificate
        fields = ["name", "type", "pem"]
        labels = {"pem": "Certificate (PEM)"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pem"].required = False

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        if said.get("file"):
            said["pem"] = said["file"].read(pem.MAX_CHARACTERS + 1).decode("ascii", "replace")
        try:
            said["pem"] = self._read(said.get("pem", ""))
        except (Unusable, ValidationError) as error:
            self.add_error("pem", str(error) if isinstance(error, Unusable) else error)
        return said

    def _read(self, text: str) -> str:
        self.paper = pem.read_certificate(text)
        if not self.paper.is_authority:
            raise ValidationError("This certificate is no authority's: it signs nobody.")
        if len(self.paper.pem) > roots.LONGEST:
            raise ValidationError(f"It has {len(self.paper.pem)} characters; a charger takes {roots.LONGEST}.")
        if RootCertificate.objects.filter(sha256=self.paper.sha256).exclude(pk=self.instance.pk).exists():
            raise ValidationError("It is here already.")
        return self.paper.pem

    def save(self, commit: bool = True) -> RootCertificate:
        self.instance.sha256, self.instance.not_after = self.paper.sha256, self.paper.not_after
        return super().save(commit)


@admin.register(RootCertificate)
class RootCertificateAdmin(SharedAdmin):
    """Roots that can be installed on chargers: of our server, or of a manufacturer (for firmware)."""

    form = RootForm
    list_display = ["name", "type", "fingerprint", "not_after"]
    search_fields = ["name", "sha256"]
    fields = ["name", "type", "pem", "file", "sha256", "not_after"]
    readonly_fields = ["sha256", "not_after"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return RootCertificate.objects.order_by("name")  # everybody's: a root is public

    @admin.display(description="Fingerprint (SHA-256)")
    def fingerprint(self, row: RootCertificate) -> str:
        return f"{row.sha256[:16]}…"

    def delete_model(self, request: HttpRequest, obj: RootCertificate) -> None:
        audit.record("deleted", obj, trigger="console", before={"sha256": obj.sha256})
        super().delete_model(request, obj)


@admin.register(InstalledCertificate)
class InstalledCertificateAdmin(ReadOnlyAdmin):
    """Which roots chargers say they hold."""

    list_display = ["charge_point", "type", "serial_number", "hash_algorithm", "reported_at"]
    list_filter = ["type"]
    list_select_related = ["charge_point"]
    search_fields = ["charge_point__cp_id", "serial_number"]
