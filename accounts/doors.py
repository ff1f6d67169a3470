"""Who may go in where: the doors of the console and of the things only operators do."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from accounts.roles import CONSOLE, OPERATES, Role, roles_of, sees_everything


def may_enter_console(user: Any) -> bool:
    """Superusers and members with a console role."""
    return bool(user.is_authenticated and user.is_active and (user.is_superuser or roles_of(user) & CONSOLE))


def may_operate(user: Any) -> bool:
    """May send commands to chargers and change the network."""
    return bool(user.is_authenticated and user.is_active and (sees_everything(user) or roles_of(user) & OPERATES))


def runs_network(user: Any) -> bool:
    """May change what all companies share: quirk profiles, firmware images, roots. Operators of a network, not of a company below one."""
    if not user.is_authenticated or not user.is_active:
        return False
    return sees_everything(user) or bool(user.memberships.filter(role__in=OPERATES, company__parent__isnull=True).exists())


def home_of(user: Any) -> str:
    """The address of a signed-in person's own place."""
    if may_enter_console(user):
        return "/admin/"
    return "/portal/" if Role.FRANCHISEE in roles_of(user) else "/ride/"


def console_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A page of the console: sign in first; 403 for people of other places."""
    return _behind(may_enter_console, view)


def operators_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A deed of the console: 403 for people who only look."""
    return _behind(may_operate, view)


def networks_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A deed that all companies feel: 403 for those who run no network."""
    return _behind(runs_network, view)


def _behind(allowed: Callable[[Any], bool], view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not allowed(request.user):
            raise PermissionDenied("This page is for the network's operators.")
        return view(request, *args, **kwargs)

    return guarded
