"""The console's base: rows through `visible_to`, the theme's looks, and tables that nobody edits by hand."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin


class ScopedAdmin(ModelAdmin):
    """A model's pages in the console: only the rows the signed-in person may see.

    No count of the unfiltered table is asked for: the hot tables are large.
    """

    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).visible_to(request.user)


class ReadOnlyAdmin(ScopedAdmin):
    """Money and log tables: to be read, searched and followed; never added to, changed or deleted here."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
