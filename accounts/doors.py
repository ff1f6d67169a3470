"""Who may go in where: the doors of the console and of the things only operators do."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from accounts.models import Company
from accounts.roles import CONSOLE, OPERATES, Role, roles_of, root_roles, sees_everything


def may_enter_console(user: Any) -> bool:
    """Superusers and members with a console role."""
    return bool(user.is_authenticated and user.is_active and (user.is_superuser or roles_of(user) & CONSOLE))


def may_operate(user: Any) -> bool:
    """May send commands to chargers and change the network."""
    return bool(user.is_authenticated and user.is_active and (sees_everything(user) or roles_of(user) & OPERATES))


def may_change_shared(user: Any) -> bool:
    """May change what all companies share: quirk profiles, firmware images, roots. Operators of any network, not of a company below one."""
    return sees_everything(user) or any(role in OPERATES for _, role in root_roles(user))


def sees_unowned(user: Any) -> bool:
    """May see what belongs to no company in particular: books, webhooks, differences, prices that hold everywhere.

    Console people of the one network here; where several share an installation it is nobody's but an admin's.
    """
    return sees_everything(user) or (any(role in CONSOLE for _, role in root_roles(user)) and _one_network(user))


def _one_network(user: Any) -> bool:
    if not hasattr(user, "_one_network"):
        user._one_network = Company.objects.filter(parent=None)[:2].count() == 1
    return bool(user._one_network)


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


def shared_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A deed that all companies feel: 403 for those who may not change what is shared."""
    return _behind(may_change_shared, view)


def _behind(allowed: Callable[[Any], bool], view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not allowed(request.user):
            raise PermissionDenied("This page is for the network's operators.")
        return view(request, *args, **kwargs)

    return guarded
