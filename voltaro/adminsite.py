"""The operator's console is Django's admin with one door: our sign-in, for people whose role works there."""

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from unfold.sites import UnfoldAdminSite

from accounts.doors import may_enter_console


class ConsoleSite(UnfoldAdminSite):
    """Only console roles and superusers enter; `is_staff` alone opens nothing."""

    def has_permission(self, request: HttpRequest) -> bool:
        return may_enter_console(request.user)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if self.has_permission(request):
            return self.index(request)
        if request.user.is_authenticated:  # signed in, but this is not their place: asking again would go in circles
            raise PermissionDenied("The console is for the network's operators.")
        return redirect_to_login(request.GET.get("next") or request.get_full_path())
