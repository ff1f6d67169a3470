"""The books, what differs from them, and what Razorpay told us."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator

from accounts import audit
from billing import reconcile, webhooks
from billing.admin.base import Lines, MoneyAdmin, NetworkAdmin, among, as_json, money, said
from billing.models import Difference, JournalEntry, Posting, ReconciledDay, WebhookEvent
from voltaro import clock
from voltaro.jobs import ring

EVENTS = (
    *("qr_code.credited", "qr_code.created", "qr_code.closed", "payment.captured", "payment.failed"),
    *("refund.created", "refund.processed", "refund.failed", "refund.speed_changed"),
    *("transfer.processed", "transfer.failed", "settlement.processed"),
    *("product.route.activated", "product.route.under_review", "product.route.needs_clarification"),
)
KINDS = (*sorted(reconcile.KINDS), "adjustment", "dispute", "outside_refund", "refund_alive", "transfer_reversed")


class OpenDifference(admin.SimpleListFilter):
    title, parameter_name = "state", "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Open"), ("no", "Resolved")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(resolved_at__isnull=self.value() == "yes") if self.value() in ("yes", "no") else queryset


class PostingLines(Lines):
    model = Posting
    fields = readonly_fields = ["account", "amount", "subject"]
    amount = money("amount_paise", "Amount")


@admin.register(JournalEntry)
class JournalEntryAdmin(NetworkAdmin):
    list_display = ["key", "at", "memo"]
    list_filter = ["at"]
    search_fields = ["key__startswith", "=postings__subject"]
    search_help_text = "The beginning of a key (bill:session:42), or a whole subject (payment:pay_…)."
    paginator = InfinitePaginator
    inlines = [PostingLines]


@admin.register(Posting)
class PostingAdmin(NetworkAdmin):
    list_display = ["entry", "account", "amount", "subject", "created_at"]
    list_filter = ["account", "created_at"]
    list_select_related = ["entry"]
    search_fields = ["=subject", "=entry__key"]
    paginator = InfinitePaginator
    fields = readonly_fields = ["entry", "account", "amount", "subject", "created_at"]
    amount = money("amount_paise", "Amount")


@admin.register(ReconciledDay)
class ReconciledDayAdmin(NetworkAdmin):
    list_display = ["day", "done_at", "items", "matched", "foreign", "differences", "last_error"]
    list_filter = ["day"]


@admin.register(Difference)
class DifferenceAdmin(NetworkAdmin, MoneyAdmin):
    list_display = ["day", "kind", "subject", "ours", "theirs", "note", "resolved_at"]
    list_filter = [OpenDifference, among("kind", "kind", KINDS), "day"]
    date_hierarchy = "day"
    search_fields = ["=subject", "note"]
    fields = readonly_fields = ["day", "kind", "subject", "ours", "theirs", "note", "resolved_at"]
    actions = ["resolve"]
    ours, theirs = money("ours_paise", "Our books"), money("theirs_paise", "Razorpay")

    @admin.action(description="Resolved: looked at and explained", permissions=["move_money"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Difference]) -> None:
        asked, done = queryset.count(), 0
        for row in queryset.filter(resolved_at=None):
            row.resolved_at = clock.now()
            row.save(update_fields=["resolved_at"])
            audit.record("difference.resolved", row, trigger="console")
            done += 1
        said(self, request, done, asked, "Resolved")


@admin.register(WebhookEvent)
class WebhookEventAdmin(NetworkAdmin, MoneyAdmin):
    """What Razorpay told us, with what names a person left out."""

    list_display = ["received_at", "event", "state", "note", "payment_id", "qr_id", "repeats", "attempts", "retry_at"]
    list_filter = ["state", among("event", "event", EVENTS), "received_at"]
    search_fields = ["=event_id", "=payment_id", "=qr_id"]
    paginator = InfinitePaginator
    fields = readonly_fields = [
        *("event_id", "event", "state", "note", "payment_id", "qr_id", "account_id", "event_at", "received_at", "repeats", "attempts"),
        *("retry_at", "done_at", "told"),
    ]
    actions = ["work_again"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("raw")

    @admin.display(description="Payload")
    def told(self, row: WebhookEvent) -> str:
        return as_json(row.payload)

    @admin.action(description="Work on these again (harmless: every deed has its key)", permissions=["operate"])
    def work_again(self, request: HttpRequest, queryset: QuerySet[WebhookEvent]) -> None:
        asked, done = queryset.count(), 0
        for row in queryset:
            if row.event.startswith((*webhooks.OURS, *webhooks.FRANCHISES)):
                audit.record("webhook.replayed", row, trigger="console", before={"state": row.state})
                row.state, row.retry_at, row.claimed_until = WebhookEvent.State.NEW, None, None
                row.save(update_fields=["state", "retry_at", "claimed_until"])
                done += 1
        ring("webhook.received")
        said(self, request, done, asked, "To be worked on again")
