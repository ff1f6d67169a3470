"""The pages that belong to nobody in particular: the front door, sign-in, and what operations looks at."""

from typing import Any

from django.contrib.auth.views import LoginView, LogoutView
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render


class SignIn(LoginView):
    """Sign in with a password; the next page is the one that was asked for, or the person's own place."""

    template_name = "site/sign_in.html"
    redirect_authenticated_user = True


class SignOut(LogoutView):
    pass


def landing(request: HttpRequest) -> HttpResponse:
    """The front door: leads each kind of person to their place."""
    return render(request, "site/landing.html")


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


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text: what the database says of the fleet and the money right now."""
    from voltaro.metrics import exposition

    body, content_type = exposition()
    return HttpResponse(body, content_type=content_type)
