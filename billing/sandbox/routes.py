"""Every address the sandbox answers, and what happens on the way there: key, body, mood, envelope."""

import base64
import hmac
import json
import re
from collections.abc import Callable

from billing.sandbox import accounts, idempotency, moods, orders, payments, person, qr_codes, refunds, settlements, transfers
from billing.sandbox.errors import ApiError, bad_input, trouble, url_not_found
from billing.sandbox.world import Request, Response, World

# method, address ({} stands for an id), handler, the feature it needs, the moods it suffers
API: list[tuple[str, str, Callable, str | None, str | None]] = [
    ("POST", "/v1/payments/qr_codes", qr_codes.create, "qr", "next_qr"),
    ("GET", "/v1/payments/qr_codes", qr_codes.list_all, "qr", None),
    ("GET", "/v1/payments/qr_codes/{}", qr_codes.fetch, "qr", None),
    ("PATCH", "/v1/payments/qr_codes/{}", qr_codes.edit, "qr", None),
    ("GET", "/v1/payments/qr_codes/{}/payments", qr_codes.list_payments, "qr", None),
    ("POST", "/v1/payments/qr_codes/{}/close", qr_codes.close, "qr", "next_qr"),
    ("GET", "/v1/payments", payments.list_all, None, None),
    ("GET", "/v1/payments/{}", payments.fetch, None, None),
    ("POST", "/v1/payments/{}/capture", payments.capture, None, None),
    ("POST", "/v1/payments/{}/refund", refunds.create, None, "next_refund"),
    ("GET", "/v1/payments/{}/refunds", refunds.list_of_payment, None, None),
    ("GET", "/v1/payments/{}/refunds/{}", refunds.fetch_of_payment, None, None),
    ("POST", "/v1/payments/{}/transfers", transfers.create_from_payment, "route", "next_transfer"),
    ("GET", "/v1/payments/{}/transfers", transfers.list_of_payment, "route", None),
    ("GET", "/v1/refunds", refunds.list_all, None, None),
    ("GET", "/v1/refunds/{}", refunds.fetch, None, None),
    ("PATCH", "/v1/refunds/{}", refunds.edit, None, None),
    ("POST", "/v1/transfers", transfers.create_direct, "route", "next_transfer"),
    ("GET", "/v1/transfers", transfers.list_all, "route", None),
    ("GET", "/v1/transfers/{}", transfers.fetch, "route", None),
    ("PATCH", "/v1/transfers/{}", transfers.edit, "route", None),
    ("POST", "/v1/transfers/{}/reversals", transfers.reverse, "route", None),
    ("GET", "/v1/transfers/{}/reversals", transfers.reversals, "route", None),
    ("GET", "/v1/settlements", settlements.list_all, None, None),
    ("GET", "/v1/settlements/recon/combined", settlements.recon, None, None),
    ("GET", "/v1/settlements/{}", settlements.fetch, None, None),
    ("POST", "/v1/orders", orders.create, None, None),
    ("GET", "/v1/orders", orders.list_all, None, None),
    ("GET", "/v1/orders/{}", orders.fetch, None, None),
    ("PATCH", "/v1/orders/{}", orders.edit, None, None),
    ("GET", "/v1/orders/{}/payments", orders.list_payments, None, None),
    ("POST", "/v2/accounts", accounts.create, "route", None),
    ("GET", "/v2/accounts/{}", accounts.fetch, "route", None),
    ("PATCH", "/v2/accounts/{}", accounts.edit, "route", None),
    ("POST", "/v2/accounts/{}/stakeholders", accounts.add_stakeholder, "route", None),
    ("POST", "/v2/accounts/{}/products", accounts.request_product, "route", None),
    ("GET", "/v2/accounts/{}/products/{}", accounts.fetch_product, "route", None),
    ("PATCH", "/v2/accounts/{}/products/{}", accounts.edit_product, "route", None),
]
BODYLESS = (qr_codes.close, transfers.reverse, refunds.create)


def _pattern(address: str) -> re.Pattern:
    return re.compile(address.replace("{}", r"([A-Za-z0-9_]{1,40})"))


_COMPILED = [(method, _pattern(address), *rest) for method, address, *rest in API]


def answer(world: World, request: Request) -> Response:
    if not request.path.startswith(("/v1/", "/v2/")):
        return person.answer(world, request)
    try:
        _authenticate(world, request)
        return _api(world, request)
    except ApiError as error:
        return _json(error.status, error.envelope)


def _api(world: World, request: Request) -> Response:
    handler, ids, suffers = _find(world, request)
    request.body = _body(request, optional=handler in BODYLESS)
    mood = world.moods.take(*(("next_call", suffers) if suffers else ("next_call",)))
    if mood in moods.BEFORE:
        return _suffer(world, mood)
    if mood not in moods.WIRE:
        request.mood = mood
    done = handler(world, request, *ids)
    if mood == "409_in_progress" and any(name.endswith("-idempotency") for name in request.headers):
        raise idempotency.in_progress()  # the deed is done, as by the request that was still running
    if mood in moods.AFTER:
        return _suffer(world, mood)
    return _json(200, done)


def _suffer(world: World, mood: str) -> Response:
    """What the caller gets to see; before or after the deed, it looks the same."""
    kind = mood.partition("_")[0]
    if kind == "500":
        raise trouble()
    if kind == "429":
        raise ApiError("Too many requests", status=429)
    if kind == "html502":
        return Response(502, b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>", "text/html")
    return Response(200, b"", hang_up_after_s=world.moods.hold_s)


def _find(world: World, request: Request) -> tuple[Callable, tuple[str, ...], str | None]:
    for method, pattern, handler, feature, suffers in _COMPILED:
        if method == request.method and (match := pattern.fullmatch(request.path)):
            if feature in world.moods.features_off:
                break
            return handler, match.groups(), suffers
    raise url_not_found()


def _authenticate(world: World, request: Request) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        key_id, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        key_id = secret = ""
    if scheme != "Basic" or not key_id:
        raise ApiError("Authentication failed", status=401)
    if not hmac.compare_digest(key_id.encode(), world.options.key_id.encode()):
        raise ApiError("The api key provided is invalid", status=401)
    if not hmac.compare_digest(secret.encode(), world.options.key_secret.encode()):
        raise ApiError("Authentication failed", status=401)


def _body(request: Request, *, optional: bool) -> dict | None:
    if request.method == "GET":
        return None
    if not request.raw.strip():
        return {}
    try:
        body = json.loads(request.raw)
    except (ValueError, RecursionError):
        raise bad_input("The request body is not valid JSON.") from None
    if body == [] and optional:
        return {}
    if not isinstance(body, dict):
        raise bad_input("The request body must be a JSON object.")
    return body


def _json(status: int, document: object) -> Response:
    return Response(status, json.dumps(document, separators=(",", ":")).encode())
