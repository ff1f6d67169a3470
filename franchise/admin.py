"""Franchisees in the console: who they are is edited, whose turn it is to be paid is held or released, money is read."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator

from accounts import audit
from accounts.filters import ScopedRelatedFilter
from accounts.roles import OPERATES, roles_of, sees_everything
from accounts.scoped_admin import ReadOnlyAdmin, ScopedAdmin
from billing.admin.base import Lines, may_move_money, said
from billing.templatetags.money import rupees
from csms.templatetags.console import bp, kwh
from franchise import franchisees, payouts, settlements
from franchise.models import (
    CommissionLedgerEntry,
    Contract,
    Franchisee,
    LinkedAccount,
    Ownership,
    Payout,
    RazorpaySettlement,
    ShareCorrection,
)
from voltaro import clock


class ContractInline(Lines):
    """Contracts are added, never changed: what was shared under one stays explained by it."""

    model = Contract
    fields = ["valid_from", "share_bp", "tds_bp", "fee_borne_by"]
    ordering = ["-valid_from"]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user) or bool(roles_of(request.user) & OPERATES)


class OwnershipInline(Lines):
    model = Ownership
    fields = ["charge_point", "owned_from", "owned_to"]


class LinkedAccountInline(Lines):
    model = LinkedAccount
    fields = ["razorpay_id", "status", "usable_from", "missing"]


@admin.register(Franchisee)
class FranchiseeAdmin(ScopedAdmin):
    """Hold and release are deeds of the list: they leave their trace in the audit."""

    list_display = ["name", "share", "account", "payouts_on_hold", "hold_reason", "email", "phone"]
    list_filter = ["payouts_on_hold", "linked_account__status"]
    list_select_related = ["company", "linked_account"]
    search_fields = ["company__name", "contact_name", "email", "pan"]
    fields = ["company", "contact_name", "email", "phone", "pan", "payouts_on_hold", "hold_reason"]
    readonly_fields = ["payouts_on_hold", "hold_reason"]
    autocomplete_fields = ["company"]
    inlines = [ContractInline, LinkedAccountInline, OwnershipInline]
    actions = ["hold_payouts", "release_payouts"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).prefetch_related("contracts")

    def get_readonly_fields(self, request: HttpRequest, obj: Franchisee | None = None) -> list[str]:
        return [*self.readonly_fields, *(["company"] if obj else [])]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        for contract in (row for row in formset.new_objects if isinstance(row, Contract)):
            terms = {name: getattr(contract, name) for name in ("share_bp", "tds_bp", "fee_borne_by")}
            audit.record("contract.made", contract, after={**terms, "valid_from": contract.valid_from.isoformat()})

    def has_money_permission(self, request: HttpRequest) -> bool:
        return may_move_money(request)

    @admin.action(description="Put payouts on hold", permissions=["money"])
    def hold_payouts(self, request: HttpRequest, queryset: QuerySet) -> None:
        chosen = list(queryset)
        done = sum(franchisees.hold(row, f"by {request.user.get_username()} in the console") for row in chosen)
        said(self, request, done, len(chosen), "Put on hold")

    @admin.action(description="Release payouts", permissions=["money"])
    def release_payouts(self, request: HttpRequest, queryset: QuerySet) -> None:
        chosen = list(queryset)
        said(self, request, sum(franchisees.release(row) for row in chosen), len(chosen), "Released")

    @admin.display(description="Name", ordering="company__name")
    def name(self, row: Franchisee) -> str:
        return row.company.name

    @admin.display(description="Share")
    def share(self, row: Franchisee) -> str:
        now = clock.now()
        begun = [contract for contract in row.contracts.all() if contract.valid_from <= now]
        return f"{bp(max(begun, key=lambda c: (c.valid_from, c.pk)).share_bp)} %" if begun else "no contract"

    @admin.display(description="Linked account")
    def account(self, row: Franchisee) -> str:
        account = getattr(row, "linked_account", None)
        return account.get_status_display() if account else "none"


@admin.register(LinkedAccount)
class LinkedAccountAdmin(ScopedAdmin):
    """Another account than before rests a day: see franchisees.link_account."""

    list_display = ["razorpay_id", "franchisee", "status", "usable_from", "missing", "status_at", "ask_at"]
    list_filter = ["status"]
    list_select_related = ["franchisee__company"]
    search_fields = ["razorpay_id", "franchisee__company__name"]
    fields = ["franchisee", "razorpay_id", "product_id", "status", "usable_from", "missing", "status_at", "ask_at"]
    actions = ["mark_activated"]

    def get_readonly_fields(self, request: HttpRequest, obj: LinkedAccount | None = None) -> list[str]:
        return ["status", "usable_from", "missing", "status_at", "ask_at", *(["franchisee"] if obj else [])]

    def save_model(self, request: HttpRequest, obj: LinkedAccount, form: Any, change: bool) -> None:
        saved = franchisees.link_account(obj.franchisee, obj.razorpay_id, product_id=obj.product_id)
        obj.pk = saved.pk
        obj._state.adding = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_money_permission(self, request: HttpRequest) -> bool:
        return may_move_money(request)

    @admin.action(description="I have seen that Razorpay activated it", permissions=["money"])
    def mark_activated(self, request: HttpRequest, queryset: QuerySet) -> None:
        chosen = list(queryset)
        waiting = [row for row in chosen if row.status != LinkedAccount.Status.ACTIVATED]
        for row in waiting:
            franchisees.link_account(row.franchisee, row.razorpay_id, activated=True)
        said(self, request, len(waiting), len(chosen), "Activated")


@admin.register(Ownership)
class OwnershipAdmin(ScopedAdmin):
    """Adding a row hands a charger over: the old owner's row ends, and the charger follows."""

    list_display = ["charge_point", "franchisee", "owned_from", "owned_to"]
    list_filter = [("franchisee", ScopedRelatedFilter)]
    list_select_related = ["charge_point", "franchisee__company"]
    search_fields = ["charge_point__cp_id", "franchisee__company__name"]
    fields = ["charge_point", "franchisee"]
    autocomplete_fields = ["charge_point", "franchisee"]
    actions = ["back_to_the_network"]

    def get_fields(self, request: HttpRequest, obj: Ownership | None = None) -> list[str]:
        return [*self.fields, *(["owned_from", "owned_to"] if obj else [])]

    def save_model(self, request: HttpRequest, obj: Ownership, form: Any, change: bool) -> None:
        franchisees.assign(obj.charge_point, obj.franchisee)
        obj.pk = Ownership.objects.get(charge_point=obj.charge_point, owned_to__isnull=True).pk
        obj._state.adding = False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_delete_permission = has_change_permission

    def has_network_permission(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request)

    @admin.action(description="Give the charger back to the network", permissions=["network"])
    def back_to_the_network(self, request: HttpRequest, queryset: QuerySet) -> None:
        chosen = list(queryset.select_related("charge_point"))
        done = sum(franchisees.assign(row.charge_point, None) for row in chosen if row.owned_to is None)
        said(self, request, done, len(chosen), "Given back")


@admin.register(CommissionLedgerEntry)
class CommissionLedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ["idempotency_key", "franchisee", "energy", "net", "commission", "tds_", "to_pay", "status", "hold_reason", "created_at"]
    list_filter = ["status", "hold_reason", ("franchisee", ScopedRelatedFilter), "created_at"]
    list_select_related = ["franchisee__company"]
    search_fields = ["=idempotency_key", "franchisee__company__name", "=payout__razorpay_id"]
    paginator = InfinitePaginator
    actions = ["pay_again", "bear_fee"]

    def has_money_permission(self, request: HttpRequest) -> bool:
        return may_move_money(request)

    @admin.action(description="Pay again (failed)", permissions=["money"])
    def pay_again(self, request: HttpRequest, queryset: QuerySet) -> None:
        keys = list(queryset.values_list("pk", flat=True))
        said(self, request, sum(payouts.pay_again(pk, clock.now()) for pk in keys), len(keys), "To be paid again")

    @admin.action(description="The platform bears the unknown Razorpay fee", permissions=["money"])
    def bear_fee(self, request: HttpRequest, queryset: QuerySet) -> None:
        keys = list(queryset.values_list("pk", flat=True))
        said(self, request, sum(settlements.bear_unknown_fee(pk, clock.now()) for pk in keys), len(keys), "Shared without the fee")

    @admin.display(description="Energy, kWh", ordering="energy_wh")
    def energy(self, row: CommissionLedgerEntry) -> str:
        return kwh(row.energy_wh)

    @admin.display(description="Net", ordering="net_excl_gst")
    def net(self, row: CommissionLedgerEntry) -> str:
        return rupees(row.net_excl_gst)

    @admin.display(description="Commission", ordering="platform_commission")
    def commission(self, row: CommissionLedgerEntry) -> str:
        return rupees(row.platform_commission)

    @admin.display(description="TDS", ordering="tds")
    def tds_(self, row: CommissionLedgerEntry) -> str:
        return rupees(row.tds)

    @admin.display(description="To pay", ordering="payable")
    def to_pay(self, row: CommissionLedgerEntry) -> str:
        return rupees(row.payable)


@admin.register(ShareCorrection)
class ShareCorrectionAdmin(ReadOnlyAdmin):
    list_display = ["entry", "franchisee", "taken", "deducted", "payout", "created_at"]
    list_filter = ["deducted", ("payout", admin.EmptyFieldListFilter), ("franchisee", ScopedRelatedFilter), "created_at"]
    list_select_related = ["entry", "franchisee__company", "payout"]
    search_fields = ["=entry__idempotency_key", "franchisee__company__name"]
    paginator = InfinitePaginator

    @admin.display(description="Taken back", ordering="payable")
    def taken(self, row: ShareCorrection) -> str:
        return rupees(row.payable)


@admin.register(Payout)
class PayoutAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "franchisee",
        "amount",
        "state",
        "attempt",
        "razorpay_id",
        "settlement_id",
        "retry_at",
        "last_error",
        "created_at",
    ]
    list_filter = ["state", ("franchisee", ScopedRelatedFilter), "created_at"]
    list_select_related = ["franchisee__company"]
    search_fields = ["=id", "=razorpay_id", "=key", "=settlement_id", "franchisee__company__name"]
    paginator = InfinitePaginator

    @admin.display(description="Amount", ordering="amount_paise")
    def amount(self, row: Payout) -> str:
        return rupees(row.amount_paise)


@admin.register(RazorpaySettlement)
class RazorpaySettlementAdmin(ReadOnlyAdmin):
    list_display = ["razorpay_id", "franchisee", "amount", "status", "utr", "settled_at"]
    list_filter = ["status", ("franchisee", ScopedRelatedFilter)]
    list_select_related = ["franchisee__company"]
    search_fields = ["=razorpay_id", "=utr"]

    @admin.display(description="Amount", ordering="amount_paise")
    def amount(self, row: RazorpaySettlement) -> str:
        return rupees(row.amount_paise)
