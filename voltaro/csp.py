"""The console's own Content-Security-Policy: its theme evaluates expressions, which no other page may."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


class ConsolePolicy:
    """Sets ADMIN_CONTENT_SECURITY_POLICY on the pages that django-csp leaves out (CONTENT_SECURITY_POLICY's excluded prefixes)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.prefixes = tuple(settings.CONTENT_SECURITY_POLICY["EXCLUDE_URL_PREFIXES"])

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path_info.startswith(self.prefixes):
            response.headers["Content-Security-Policy"] = settings.ADMIN_CONTENT_SECURITY_POLICY
        return response
