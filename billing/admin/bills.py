"""Bills, invoices and prices."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from accounts.doors import sees_unowned
from accounts.filters import ScopedRelatedFilter
from accounts.models import Company
from accounts.roles import sees_everything
from accounts.scoped_admin import ReadOnlyAdmin, ScopedAdmin
from billing.admin.base import Lines, as_json, money
from billing.models import Bill, BillCorrection, BillLine, Invoice, Tariff
from billing.rules.tariff import price
from billing.templatetags.money import rupees
from csms.models import ChargePoint, Station
from csms.templatetags.console import bp, kwh


class BillLines(Lines):
    model = BillLine
    fields = readonly_fields = ["description", "energy", "rate", "amount"]
    amount, rate = money("amount_paise", "Amount"), money("rate_paise_per_kwh", "Rate per kWh")

    @admin.display(description="Energy")
    def energy(self, row: BillLine) -> str:
        return kwh(row.quantity_wh) if row.quantity_wh is not None else "–"


@admin.register(Bill)
class BillAdmin(ReadOnlyAdmin):
    list_display = ["session", "created_at", "delivered", "charge", "gst_shown", "service_fee", "whole", "back", "rest", "beyond"]
    list_filter = [("session__company", ScopedRelatedFilter), "created_at"]
    list_select_related = ["session"]
    date_hierarchy = "created_at"
    search_fields = ["=session__id", "=payment__razorpay_payment_id", "=session__charge_point__cp_id"]
    fields = [
        *("session", "payment", "delivered", "billed", "charge", "gst_shown", "service_fee", "whole", "back", "rest", "beyond"),
        *("beyond_price", "frozen_price", "created_at"),
    ]
    readonly_fields = [
        *("delivered", "billed", "charge", "gst_shown", "service_fee", "whole", "back", "rest", "beyond", "beyond_price", "frozen_price"),
        "created_at",
    ]
    inlines = [BillLines]
    charge, service_fee, whole = money("energy_charge", "Energy charge"), money("platform_fee", "Platform fee"), money("total", "Total")
    back, rest, beyond_price = money("refund_due", "Goes back"), money("remainder", "Remainder"), money("overrun_paise", "Overrun's worth")

    @admin.display(description="GST")
    def gst_shown(self, row: Bill) -> str:
        return rupees(row.gst)

    @admin.display(description="Delivered", ordering="delivered_wh")
    def delivered(self, row: Bill) -> str:
        return kwh(row.delivered_wh)

    @admin.display(description="Billed", ordering="billed_wh")
    def billed(self, row: Bill) -> str:
        return kwh(row.billed_wh)

    @admin.display(description="Overrun", ordering="overrun_wh")
    def beyond(self, row: Bill) -> str:
        return kwh(row.overrun_wh) if row.overrun_wh else "–"

    @admin.display(description="Price, frozen")
    def frozen_price(self, row: Bill) -> str:
        return as_json(row.tariff_snapshot)


@admin.register(BillCorrection)
class BillCorrectionAdmin(ReadOnlyAdmin):
    list_display = ["bill", "created_at", "reason", "energy", "charge", "gst_shown", "service_fee", "whole", "back"]
    list_filter = [("bill__session__company", ScopedRelatedFilter), "created_at"]
    list_select_related = ["bill"]
    search_fields = ["=bill__session__id", "=bill__payment__razorpay_payment_id"]
    fields = ["bill", "created_at", "reason", "energy", "charge", "gst_shown", "service_fee", "whole", "back", "share_at"]
    readonly_fields = ["created_at", "energy", "charge", "gst_shown", "service_fee", "whole", "back"]
    charge, service_fee, whole = money("energy_charge", "Energy charge"), money("platform_fee", "Platform fee"), money("total", "Taken off")
    back = money("given_back", "Goes back")

    @admin.display(description="GST")
    def gst_shown(self, row: BillCorrection) -> str:
        return rupees(row.gst)

    @admin.display(description="Energy less", ordering="billed_wh")
    def energy(self, row: BillCorrection) -> str:
        return kwh(row.billed_wh)


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    list_display = ["number", "bill", "issued_at", "supplier_gstin", "recipient_name", "recipient_gstin", "sac"]
    list_filter = ["issued_at"]
    list_select_related = ["bill"]
    date_hierarchy = "issued_at"
    search_fields = ["=number", "=recipient_gstin", "=bill__session__id"]


class TariffForm(forms.ModelForm):
    """A new price, or a new version of one: rows in force are never edited."""

    user: Any = None

    class Meta:
        model = Tariff
        fields = ["name", "company", "station", "charge_point", "rate_paise_per_kwh", "gst_bp", "igst", "platform_fee_bp", "valid_from"]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        places = [name for name in ("company", "station", "charge_point") if given.get(name)]
        if len(places) > 1:
            raise ValidationError("A price holds at one place: a company, a station or a charger.")
        if not places and not sees_unowned(self.user):
            raise ValidationError("A price that holds everywhere is for those who run the network. Choose a place.")
        return given


@admin.register(Tariff)
class TariffAdmin(ScopedAdmin):
    form = TariffForm
    list_display = ["name", "version", "place", "per_kwh", "gst_shown", "igst", "with_gst", "fee_shown", "valid_from"]
    list_filter = ["igst", ("company", ScopedRelatedFilter), "valid_from"]
    list_select_related = ["company", "station", "charge_point"]
    search_fields = ["name", "company__name", "station__name", "=charge_point__cp_id"]
    per_kwh = money("rate_paise_per_kwh", "Per kWh")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Those of the places this person may see, and those that hold everywhere."""
        user = request.user
        if sees_everything(user):
            return super().get_queryset(request)
        everywhere = Q(company=None, station=None, charge_point=None)
        stations, chargers = Station.objects.visible_to(user), ChargePoint.objects.visible_to(user)
        theirs = Q(company__in=Company.objects.visible_to(user)) | Q(station__in=stations) | Q(charge_point__in=chargers)
        return Tariff.objects.filter(everywhere | theirs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.user = request.user
        return form

    def save_model(self, request: HttpRequest, obj: Tariff, form: Any, change: bool) -> None:
        same = Tariff.objects.filter(name=obj.name, company=obj.company, station=obj.station, charge_point=obj.charge_point)
        obj.version = max(same.values_list("version", flat=True), default=0) + 1
        super().save_model(request, obj, form, change)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Holds at")
    def place(self, row: Tariff) -> str:
        return str(row.charge_point or row.station or row.company or "everywhere")

    @admin.display(description="GST", ordering="gst_bp")
    def gst_shown(self, row: Tariff) -> str:
        return bp(row.gst_bp)

    @admin.display(description="With GST")
    def with_gst(self, row: Tariff) -> str:
        return rupees(price(1000, row.snapshot()).total)

    @admin.display(description="Platform fee", ordering="platform_fee_bp")
    def fee_shown(self, row: Tariff) -> str:
        return bp(row.platform_fee_bp)
