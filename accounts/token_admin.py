"""One's own API tokens, in the console: made (shown once), revoked, never read again."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import tokens
from accounts.models import ApiToken
from accounts.scoped_admin import ScopedAdmin


@admin.register(ApiToken)
class ApiTokenAdmin(ScopedAdmin):
    list_display = ["name", "user", "beginning", "created_at", "expires_at", "last_used_at", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["name", "user__username"]
    fields = ["name", "expires_at"]
    actions = ["revoke"]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[str]:
        return ["name", "user", "beginning", "expires_at", "last_used_at", "revoked_at"] if obj else []

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[str]:
        return self.get_readonly_fields(request, obj) or ["name", "expires_at"]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return self.has_view_permission(request)  # it may do no more than its person may

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return self.has_view_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # revoked ones stay: the audit speaks of them

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        if change:
            return
        row, text = tokens.make(request.user, obj.name, obj.expires_at)
        obj.pk = row.pk
        obj.refresh_from_db()
        messages.warning(request, f"Copy this token now, it is not shown again: {text}")

    @admin.action(description="Revoke", permissions=["view"])
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiToken]) -> None:
        done = sum(tokens.revoke(row) for row in rows.select_related("user"))
        messages.success(request, f"{done} token{'s' * (done != 1)} revoked.")
