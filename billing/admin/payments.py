"""Payments, what goes back, and the QRs they came through."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from accounts.filters import ScopedRelatedFilter
from accounts.scoped_admin import ReadOnlyAdmin
from billing import qr, refunds
from billing.admin.base import Lines, MoneyAdmin, among, as_json, each, money
from billing.models import Bill, Posting, QRCode, QRPayment, Refund, Wallet
from billing.rules.payer import mask_vpa
from billing.rules.payment import REFUND_REASONS
from billing.templatetags.money import rupees
from csms.templatetags.console import kwh


class NeedsAPerson(admin.SimpleListFilter):
    """Payments that a machine may not decide."""

    title, parameter_name = "needs a person", "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return {"yes": queryset.exclude(review=""), "no": queryset.filter(review="")}.get(self.value() or "", queryset)


class RefundLines(Lines):
    model = Refund
    fields = readonly_fields = ["amount", "reason", "state", "speed_requested", "speed_processed", "razorpay_id", "last_error"]
    amount = money("amount_paise", "Amount")


@admin.register(QRPayment)
class QRPaymentAdmin(MoneyAdmin):
    list_display = [
        "razorpay_payment_id",
        "paid_at",
        "connector",
        "paid",
        "state",
        "refund_reason",
        "review",
        "limit",
        "session",
        "fee_taken",
    ]
    list_filter = [
        "state",
        NeedsAPerson,
        among("refund_reason", "refund reason", REFUND_REASONS),
        "fee_source",
        ("company", ScopedRelatedFilter),
        "paid_at",
    ]
    list_select_related = ["connector", "permit", "session"]
    date_hierarchy = "paid_at"
    search_fields = ["=razorpay_payment_id", "=rrn", "=vpa", "=connector__code", "=connector__charge_point__cp_id", "=session__id"]
    search_help_text = "Payment id, bank reference, whole UPI id, connector code, charger or session."
    fields = [
        *("razorpay_payment_id", "qr", "connector", "company", "user", "upi_id", "rrn", "paid", "service_fee", "fee_taken", "fee_source"),
        *(
            "state",
            "refund_reason",
            "review",
            "permit",
            "limit",
            "session",
            "the_bill",
            "kept",
            "paid_at",
            "heard_at",
            "start_deadline",
            "settled_at",
        ),
        *("tariff", "frozen_price", "in_the_books"),
    ]
    readonly_fields = ["upi_id", "paid", "service_fee", "fee_taken", "limit", "the_bill", "kept", "frozen_price", "in_the_books"]
    inlines = [RefundLines]
    actions = ["give_back"]
    paid, service_fee, fee_taken = money("amount_paid", "Paid"), money("platform_fee", "Platform fee"), money("fee", "Razorpay's fee")
    kept = money("remainder", "Remainder")

    @admin.display(description="UPI id")
    def upi_id(self, row: QRPayment) -> str:
        return mask_vpa(row.vpa) or "–"

    @admin.display(description="Buys")
    def limit(self, row: QRPayment) -> str:
        return kwh(row.permit.limit_wh) if row.permit and row.permit.limit_wh is not None else "–"

    @admin.display(description="Bill")
    def the_bill(self, row: QRPayment) -> str:
        made = Bill.objects.filter(payment=row).first()
        return format_html('<a href="{}">{}</a>', reverse("admin:billing_bill_change", args=[made.pk]), rupees(made.total)) if made else "–"

    @admin.display(description="Price, frozen")
    def frozen_price(self, row: QRPayment) -> str:
        return as_json(row.tariff_snapshot)

    @admin.display(description="In the books")
    def in_the_books(self, row: QRPayment) -> str:
        postings = Posting.objects.filter(subject=f"payment:{row.razorpay_payment_id}").select_related("entry")
        lines = [(one.get_account_display(), rupees(one.amount_paise), one.entry.key) for one in postings]
        rows = format_html_join("", '<tr><td>{}</td><td class="num">{}</td><td class="mono anywhere">{}</td></tr>', lines)
        return format_html('<div class="vt"><table>{}</table></div>', rows) if lines else "nothing"

    @admin.action(description="Give back what is left of payments under review", permissions=["move_money"])
    def give_back(self, request: HttpRequest, queryset: QuerySet[QRPayment]) -> None:
        each(self, request, queryset, lambda row: refunds.give_back(row.pk), "Going back")


@admin.register(Refund)
class RefundAdmin(MoneyAdmin):
    list_display = [
        *("id", "payment", "amount", "reason", "state", "speed_requested", "speed_processed", "attempts", "asked_at", "processed_at"),
        "last_error",
    ]
    list_filter = [
        "state",
        among("reason", "reason", REFUND_REASONS),
        among("speed_processed", "speed", ("instant", "normal")),
        "created_at",
    ]
    list_select_related = ["payment"]
    date_hierarchy = "created_at"
    search_fields = ["=razorpay_id", "=payment__razorpay_payment_id", "=key", "=bank_reference"]
    fields = [
        *("payment", "amount", "reason", "state", "razorpay_id", "speed_requested", "speed_processed", "bank_reference", "key", "frozen"),
        *("attempts", "retry_at", "claimed_until", "asked_at", "processed_at", "last_error"),
    ]
    readonly_fields = ["amount", "frozen"]
    actions = ["ask_again"]
    amount = money("amount_paise", "Amount")

    @admin.display(description="Request, frozen")
    def frozen(self, row: Refund) -> str:
        return as_json(row.body)

    @admin.action(description="Ask for failed refunds once more", permissions=["move_money"])
    def ask_again(self, request: HttpRequest, queryset: QuerySet[Refund]) -> None:
        each(self, request, queryset, lambda row: refunds.again(row.pk), "Asked again")


@admin.register(QRCode)
class QRCodeAdmin(MoneyAdmin):
    list_display = ["name", "connector", "razorpay_id", "status", "created_at", "last_polled_at", "sticker"]
    list_filter = ["status", "created_at"]
    list_select_related = ["connector"]
    search_fields = ["name", "=razorpay_id", "=connector__code", "=connector__charge_point__cp_id"]
    fields = ["name", "connector", "razorpay_id", "status", "image_url", "sticker", "closed_at", "close_reason", "last_polled_at"]
    readonly_fields = ["sticker"]
    actions = ["close"]

    @admin.display(description="Sticker")
    def sticker(self, row: QRCode) -> str:
        if row.status != QRCode.Status.ACTIVE:
            return "–"
        return format_html('<a href="{}">print</a>', reverse("billing:sticker", args=[row.connector.code]))

    @admin.action(description="Close: what is paid to them from now on goes back", permissions=["operate"])
    def close(self, request: HttpRequest, queryset: QuerySet[QRCode]) -> None:
        each(self, request, queryset.filter(status=QRCode.Status.ACTIVE), qr.close, "Closed")


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    list_display = ["user", "balance", "updated_at"]
    list_select_related = ["user"]
    search_fields = ["=user__username"]
    fields = readonly_fields = ["user", "balance", "updated_at"]
    balance = money("balance_paise", "Balance")
