"""The operator's console is Django's admin with one door: our sign-in, for people whose role works there."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

from accounts.doors import may_enter_console


class ConsoleSite(UnfoldAdminSite):
    """Only console roles and superusers enter; `is_staff` alone opens nothing."""

    def has_permission(self, request: HttpRequest) -> bool:
        return may_enter_console(request.user)

    def admin_view(self, view: Callable[..., HttpResponse], cacheable: bool = False) -> Callable[..., HttpResponse]:
        inside = super().admin_view(view, cacheable)

        @wraps(inside)
        def door(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if self.has_permission(request) or request.path == reverse("admin:logout", current_app=self.name):
                return inside(request, *args, **kwargs)
            return self._turn_away(request, request.get_full_path())

        return door

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if self.has_permission(request):
            return redirect("admin:index")
        return self._turn_away(request, request.GET.get("next") or reverse("admin:index"))

    def _turn_away(self, request: HttpRequest, wanted: str) -> HttpResponse:
        if request.user.is_authenticated:  # signed in, but this is not their place: asking again would go in circles
            raise PermissionDenied("The console is for the network's operators.")
        return redirect_to_login(wanted)
