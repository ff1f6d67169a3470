"""The REST API's door: who a token is, what it may do, how often it may ask, and what a refusal looks like."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError as PlainValidationError
from rest_framework import exceptions, status
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle

from accounts import tokens
from accounts.actor import acting
from accounts.doors import may_operate

log = logging.getLogger(__name__)


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer vlt_...`: the token's person. Cookies count for nothing here."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        header = get_authorization_header(request).split()
        if not header:
            return None
        if header[0].lower() != b"bearer" or len(header) != 2:
            raise exceptions.AuthenticationFailed("Send Authorization: Bearer <token>.")
        row = tokens.find(header[1].decode("latin-1"))
        if row is None:
            raise exceptions.AuthenticationFailed("This token opens nothing.")
        return row.user, row

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class MayOperate(BasePermission):
    """Looking needs a token; a deed needs a person who may operate the network."""

    message = "This token's person may not send commands to chargers."

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated) and (
            request.method in ("GET", "HEAD", "OPTIONS") or may_operate(request.user)
        )


class Json(JSONParser):
    """JSON; what is nested a thousand deep is refused like anything else that cannot be read."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except RecursionError:
            raise exceptions.ParseError("JSON parse error - it is nested too deep.") from None


class Throttle(UserRateThrottle):
    """So many requests a minute for one person; without Redis nobody is counted."""

    rate = "300/min"

    def allow_request(self, request: Request, view: Any) -> bool:
        try:
            return super().allow_request(request, view)
        except OSError as error:
            log.warning("requests are not counted just now (%s)", type(error).__name__)
        except Exception as error:  # redis has its own for a server that is away
            if type(error).__module__.split(".")[0] != "redis":
                raise
            log.warning("requests are not counted just now (%s)", type(error).__name__)
        return True


@contextmanager
def as_person(request: Request) -> Iterator[None]:
    """What happens inside is done by the token's person."""
    with acting("user", request.user.get_username(), request.user):
        yield


def refusal(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every refusal has one shape: {"error": {"code", "message", "fields"}}."""
    from rest_framework.views import exception_handler  # it reads the settings, which name this module

    if isinstance(error, PlainValidationError):
        error = exceptions.ValidationError({"non_field_errors": error.messages}, code="invalid")
    response = exception_handler(error, context)
    if response is None:
        return None
    fields: dict[str, Any] = {}
    if isinstance(error, exceptions.ValidationError):
        code, fields = "invalid", error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
        message = " ".join(str(one) for some in fields.values() for one in (some if isinstance(some, list) else [some]))
    else:
        code, message = getattr(error, "default_code", "error"), str(getattr(error, "detail", "")) or "Not found."
        if response.status_code == status.HTTP_404_NOT_FOUND:
            code, message = "not_found", "There is no such thing, or it is not yours to see."
    response.data = {"error": {"code": code, "message": message, "fields": fields}}
    return response
