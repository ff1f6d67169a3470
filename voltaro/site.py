"""The pages that belong to nobody in particular: the front door, sign-in, and what operations looks at."""

import ipaddress
from typing import Any

from django.conf import settings
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe

from accounts.doors import home_of, may_enter_console
from accounts.roles import Role, roles_of


class SignIn(LoginView):
    """Sign in with a password; the next page is the one that was asked for, or the person's own place."""

    template_name = "site/sign_in.html"
    redirect_authenticated_user = True

    def get_default_redirect_url(self) -> str:
        return home_of(self.request.user)


class SignOut(LogoutView):
    """POST only."""


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    """The front door: leads each kind of person to their place; people we know see theirs first."""
    if code := request.GET.get("code", "").strip().upper().replace(" ", "").replace("-", ""):
        # The code as typed from the sticker; an unknown one gets that page's own help.
        if len(code) <= 12 and code.isascii() and code.isalnum():
            return redirect("billing:connector", code=code)
        return render(request, "site/landing.html", {**_places(request), "wrong_code": True}, status=400)
    return render(request, "site/landing.html", _places(request))


def _places(request: HttpRequest) -> dict[str, Any]:
    user = request.user
    return {"console": may_enter_console(user), "portal": user.is_authenticated and Role.FRANCHISEE in roles_of(user)}


def healthz(request: HttpRequest) -> JsonResponse:
    """This process answers. Asks nothing of the database."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """Database, migrations and Redis are there: 200, else 503 with what is missing."""
    checks: dict[str, Any] = {}
    try:
        executor = MigrationExecutor(connection)
        checks["database"] = "ok"
        checks["migrations"] = "ok" if not executor.migration_plan(executor.loader.graph.leaf_nodes()) else "not applied"
    except Exception as error:
        checks["database"] = type(error).__name__
    try:
        from django.core.cache import cache

        cache.set("readyz", 1, 5)
        checks["redis"] = "ok" if cache.get("readyz") == 1 else "does not remember"
    except Exception as error:
        checks["redis"] = type(error).__name__
    good = all(value == "ok" for value in checks.values())
    return JsonResponse({"status": "ok" if good else "not ready", **checks}, status=200 if good else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text: what the database says of the fleet and the money right now. In production not for everybody."""
    if settings.PROD and not _may_read_metrics(request):
        raise PermissionDenied("The numbers are for the operator's own monitoring.")
    from voltaro.metrics import exposition

    body, content_type = exposition()
    return HttpResponse(body, content_type=content_type)


def _may_read_metrics(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if settings.METRICS_TOKEN and scheme.lower() == "bearer" and constant_time_compare(token.strip(), settings.METRICS_TOKEN):
        return True
    if any(name in request.headers for name in ("X-Forwarded-For", "X-Real-Ip", "Forwarded")):
        return False  # a proxy on this machine asks for somebody else
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR") or "").is_loopback
    except ValueError:
        return False


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "404.html", status=404)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "403.html", status=403)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return render(request, "400.html", status=400)


def failed(request: HttpRequest) -> HttpResponse:
    """Something of ours broke: no details, and nothing on the page that could break again."""
    return HttpResponse(_plain_500(), status=500)


def _plain_500() -> str:
    from django.template.loader import render_to_string

    return render_to_string("500.html")
