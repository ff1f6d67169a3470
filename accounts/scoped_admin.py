"""The console's base: rows through `visible_to`, rights from the roles, the theme's looks, and tables nobody edits by hand."""

from typing import Any

from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from accounts import audit
from accounts.doors import may_change_shared
from accounts.roles import CONSOLE, OPERATES, roles_of, sees_everything


class ScopedAdmin(ModelAdmin):
    """A model's pages in the console: only the rows the signed-in person may see, and only what their role may do.

    Console roles look; operators and admins add and change; only an admin deletes. No count of the unfiltered table
    is asked for: the hot tables are large.
    """

    list_per_page = 50
    show_full_result_count = False
    # Of a row that chargers write all the time, only what was changed in the form is written: the rest has moved on since it was read.
    only_changed = False

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).visible_to(request.user)

    def formfield_for_foreignkey(self, db_field: ForeignKey, request: HttpRequest, **kwargs: Any) -> Any:
        # The choices of a form are rows too: somebody else's charger must not be offered.
        manager = db_field.remote_field.model._default_manager
        if "queryset" not in kwargs and hasattr(manager, "visible_to"):
            kwargs["queryset"] = manager.visible_to(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change and self.only_changed:
            save_changed(obj, form.changed_data)
        else:
            super().save_model(request, obj, form, change)
        # Which fields, not their values: some are nobody's to read twice.
        audit.record("changed" if change else "added", obj, trigger="console", after={"fields": form.changed_data})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request, CONSOLE)

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return _may(request, OPERATES)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may(request, OPERATES)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user)


def save_changed(obj: Any, names: list[str]) -> None:
    """Write these fields of a row, and no other."""
    columns = {field.name for field in obj._meta.concrete_fields}
    obj.save(update_fields=[name for name in names if name in columns])


class SharedAdmin(ScopedAdmin):
    """What is everybody's: read by all of the console, changed by those who run a network."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return may_change_shared(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_change_shared(request.user)


class ReadOnlyAdmin(ScopedAdmin):
    """Money and log tables: to be read, searched and followed; never added to, changed or deleted here."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _may(request: HttpRequest, roles: set[str]) -> bool:
    return sees_everything(request.user) or bool(roles_of(request.user) & roles)
