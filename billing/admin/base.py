"""What the money's console pages share: rupees, masked names, who sees the whole installation, deeds for those who move money."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import TabularInline

from accounts.doors import may_operate, sees_unowned
from accounts.roles import OPERATES, Role, roles_of, sees_everything
from accounts.scoped_admin import ReadOnlyAdmin
from billing import razorpay
from billing.templatetags.money import rupees

PERSONAL = {"vpa", "contact", "email", "name", "customer_name", "card"}


def money(field: str, name: str) -> Callable[[Any, Model], str]:
    """A column of paise shown as rupees; None is a dash, since unknown is not zero."""

    @admin.display(description=name, ordering=field)
    def shown(self: Any, row: Model) -> str:
        return rupees(getattr(row, field))

    return shown


def as_json(value: Any) -> str:
    return format_html('<pre class="vt-json">{}</pre>', json.dumps(_masked(value), indent=2, ensure_ascii=False))


def _masked(value: Any) -> Any:
    """The same without what names a person."""
    match value:
        case dict():
            return {key: "…" if key in PERSONAL and isinstance(item, str) else _masked(item) for key, item in value.items()}
        case list():
            return [_masked(item) for item in value]
    return value


def among(field: str, name: str, values: Iterable[str]) -> type[admin.SimpleListFilter]:
    """A filter of known values: Django's own would look through the whole table for them."""

    class Among(admin.SimpleListFilter):
        title, parameter_name = name, field

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, value.replace("_", " ")) for value in values]

        def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
            return queryset.filter(**{field: self.value()}) if self.value() else queryset

    return Among


class NetworkAdmin(ReadOnlyAdmin):
    """Tables of the installation as a whole."""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        everything = self.model._default_manager.get_queryset()
        return everything.order_by(*self.get_ordering(request)) if sees_unowned(request.user) else everything.none()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_unowned(request.user)


def may_move_money(request: HttpRequest) -> bool:
    """Hold, release, pay again, give back: operators, finance and admins."""
    return sees_everything(request.user) or bool(roles_of(request.user) & (OPERATES | {Role.FINANCE}))


def said(where: Any, request: HttpRequest, done: int, asked: int, deed: str) -> None:
    """Tell how many of the chosen rows the deed was for."""
    level = messages.SUCCESS if done == asked else messages.WARNING
    where.message_user(request, f"{deed}: {done} of {asked}" + ("" if done == asked else "; the others did not need it"), level)


class MoneyAdmin(ReadOnlyAdmin):
    """Read-only, with deeds for those who may move money."""

    def has_move_money_permission(self, request: HttpRequest) -> bool:
        return may_move_money(request)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return may_operate(request.user)


class Lines(TabularInline):
    """Rows that belong to the row above; for those who may see that one."""

    extra = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission


def each(where: MoneyAdmin, request: HttpRequest, rows: QuerySet, deed: Callable[[Any], Any], name: str) -> None:
    """Do `deed` to each chosen row; Razorpay's troubles are told, not raised."""
    done, asked = 0, rows.count()
    for row in rows:
        try:
            done += deed(row) is not None
        except (razorpay.TryAgain, razorpay.Unknown, razorpay.Declined) as error:
            where.message_user(request, f"{row}: Razorpay says: {error}", messages.ERROR)
    said(where, request, done, asked, name)
