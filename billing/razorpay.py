"""The only module that speaks HTTP to Razorpay. A client of our own: docs/decisions/0006-razorpay-client.md says why.

Nothing here retries. A failure is one of three kinds, and the caller, who has a row and a beat, knows what each means:
`Declined` did not happen; `TryAgain` did not happen, later it may; `Unknown` may have happened: ask before sending again.
Secrets, ids and payloads never reach a log: a call is logged by its pattern.
"""

import hashlib
import hmac
import json
import logging
import os
import re
import threading
from datetime import date
from typing import Any

import httpx
from django.conf import settings

log = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(20, connect=3)
PAGE = 100
_LOW_BALANCE = re.compile(r"balance.*(insufficient|not sufficient|less|low)|(insufficient|enough|sufficient).*balance", re.I | re.S)
# Documented with 409 and with 400: something else is being done with the payment, or with the same key, at this moment.
_IN_PROGRESS = re.compile(r"another payment operation is in progress|is still in progress", re.I)
# A refusal of speed "optimum" alone: the same money can go back at the ordinary speed.
NO_INSTANT = "instant refund not supported"
# Nothing left us: the request was never sent.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Declined(Exception):
    """Razorpay said no: it did not happen, and asking again changes nothing."""

    def __init__(self, status: int, code: str = "", description: str = "") -> None:
        super().__init__(f"{status} {code} {description}".strip())
        self.status, self.code, self.description = status, code, description


class TryAgain(Exception):
    """It did not happen; later it may."""


class LowBalance(TryAgain):
    """Our balance at Razorpay does not cover it: later, when payments or funds have come in."""


class Unknown(Exception):
    """It may have happened: ask Razorpay before sending it again."""


class Client:
    """One connection pool to one account. Thread-safe (httpx.Client is); one per process (see `client`)."""

    def __init__(self, base_url: str, key_id: str, key_secret: str) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            auth=httpx.BasicAuth(key_id, key_secret),
            timeout=TIMEOUT,
            follow_redirects=False,
            trust_env=False,
            headers={"Accept": "application/json", "User-Agent": "voltaro"},
        )

    def get(self, pattern: str, *ids: str, **query: Any) -> dict[str, Any]:
        return self._call("GET", pattern, ids, params={name: value for name, value in query.items() if value is not None})

    def post(self, pattern: str, *ids: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
        return self._call("POST", pattern, ids, body=body, headers=headers)

    def patch(self, pattern: str, *ids: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("PATCH", pattern, ids, body=body)

    def _call(
        self,
        method: str,
        pattern: str,
        ids: tuple[str, ...],
        *,
        params: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        what = f"{method} {pattern}"
        # A query never changes anything: not hearing its answer costs only asking again.
        lost: type[Exception] = TryAgain if method == "GET" else Unknown
        sent_headers = dict(headers or {})
        content = None
        if body is not None:
            content = frozen(body)
            sent_headers["Content-Type"] = "application/json"
        try:
            answer = self._http.request(method, pattern.format(*map(_safe_id, ids)), params=params, content=content, headers=sent_headers)
        except _NOT_SENT as error:
            log.warning("razorpay %s: not sent (%s)", what, type(error).__name__)
            raise TryAgain(f"not sent: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            log.warning("razorpay %s: no answer (%s)", what, type(error).__name__)
            raise lost(f"no answer: {type(error).__name__}") from None
        return _read(answer, what, lost)


_clients: dict[tuple[Any, ...], Client] = {}
_lock = threading.Lock()


def client() -> Client:
    """The client of this process for the account the settings name (a forked worker gets its own sockets)."""
    key = (os.getpid(), settings.RAZORPAY_BASE_URL, settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET)
    with _lock:
        if key not in _clients:
            _clients[key] = Client(*key[1:])
        return _clients[key]


def frozen(body: dict[str, Any]) -> bytes:
    """A body as bytes, the same for the same content: a retry under one key must not differ in a single byte."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _safe_id(value: str) -> str:
    """An id as a part of a path. Ids come from webhooks and must not lead anywhere else."""
    if not re.fullmatch(r"[A-Za-z0-9_]{1,60}", value, re.ASCII):
        raise Declined(0, "BAD_ID", "not an id")
    return value


def _read(answer: httpx.Response, what: str, lost: type[Exception]) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        said = None
    status = answer.status_code
    if answer.is_success and isinstance(said, dict):
        return said
    if answer.is_success and lost is TryAgain and answer.text.strip() == "null":
        return {}  # what a list by an id that is not there answers
    log.warning("razorpay %s: HTTP %s%s", what, status, "" if isinstance(said, dict) else ", not a JSON object")
    error = said.get("error") if isinstance(said, dict) else None
    error = error if isinstance(error, dict) else {}
    code, description = str(error.get("code") or ""), str(error.get("description") or "")[:250]
    if answer.is_success or answer.is_redirect or status >= 500 or status == 408 or code in ("SERVER_ERROR", "GATEWAY_ERROR"):
        raise lost(f"HTTP {status} {description}".strip())
    if status == 429:
        raise TryAgain("HTTP 429: too many requests")
    if status in (401, 403) or not error:
        # A wrong key, or a proxy's page: refused before it reached the business, so nothing happened, and it can be mended.
        log.error("razorpay %s: refused with HTTP %s; are the key and the address right?", what, status)
        raise TryAgain(f"HTTP {status} {description}".strip())
    if _LOW_BALANCE.search(f"{description} {error.get('reason') or ''}"):
        raise LowBalance(f"HTTP {status} {description}")
    if _IN_PROGRESS.search(description) or (status == 409 and "progress" in description.lower()):
        raise TryAgain(f"HTTP {status} {description}")
    if "idempotency key" in description.lower():
        log.error("razorpay %s: HTTP %s, the same key was used with another body", what, status)
    raise Declined(status, code, description)


# -- QR codes ---------------------------------------------------------------------------------------------------
def create_qr(body: dict[str, Any]) -> dict[str, Any]:
    return client().post("/v1/payments/qr_codes", body=body)


def fetch_qr(qr_id: str) -> dict[str, Any]:
    return client().get("/v1/payments/qr_codes/{}", qr_id)


def close_qr(qr_id: str) -> dict[str, Any]:
    return client().post("/v1/payments/qr_codes/{}/close", qr_id)


def qr_payments(qr_id: str, *, since: int | None = None, until: int | None = None, skip: int = 0) -> list[dict[str, Any]]:
    """One page (of PAGE) of a QR's payments between two Unix times."""
    return _items(client().get("/v1/payments/qr_codes/{}/payments", qr_id, **{"from": since, "to": until, "count": PAGE, "skip": skip}))


# -- payments and refunds ---------------------------------------------------------------------------------------
def fetch_payment(payment_id: str) -> dict[str, Any]:
    return client().get("/v1/payments/{}", payment_id)


def payment_refunds(payment_id: str) -> list[dict[str, Any]]:
    """All refunds of a payment, by whomever they were asked."""
    return _all("/v1/payments/{}/refunds", payment_id)


def create_refund(payment_id: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    return client().post("/v1/payments/{}/refund", payment_id, body=body, headers={"X-Refund-Idempotency": key})


def fetch_refund(refund_id: str) -> dict[str, Any]:
    return client().get("/v1/refunds/{}", refund_id)


# -- Route: linked accounts and transfers -----------------------------------------------------------------------
def create_transfer(body: dict[str, Any], key: str) -> dict[str, Any]:
    """A Direct Transfer from our balance to a linked account."""
    return client().post("/v1/transfers", body=body, headers={"X-Transfer-Idempotency": key})


def fetch_transfer(transfer_id: str) -> dict[str, Any]:
    return client().get("/v1/transfers/{}", transfer_id)


def transfers(*, since: int | None = None, until: int | None = None, skip: int = 0) -> list[dict[str, Any]]:
    """One page (of PAGE) of transfers between two Unix times, newest first."""
    return _items(client().get("/v1/transfers", **{"from": since, "to": until, "count": PAGE, "skip": skip}))


def transfers_of_settlement(settlement_id: str) -> list[dict[str, Any]]:
    """All transfers that one settlement of a linked account paid out. Empty: the settlement is our own."""
    return _all("/v1/transfers", recipient_settlement_id=settlement_id)


def create_account(body: dict[str, Any]) -> dict[str, Any]:
    return client().post("/v2/accounts", body=body)


def create_stakeholder(account_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return client().post("/v2/accounts/{}/stakeholders", account_id, body=body)


def request_product(account_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return client().post("/v2/accounts/{}/products", account_id, body=body)


def update_product(account_id: str, product_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return client().patch("/v2/accounts/{}/products/{}", account_id, product_id, body=body)


def fetch_product(account_id: str, product_id: str) -> dict[str, Any]:
    return client().get("/v2/accounts/{}/products/{}", account_id, product_id)


# -- settlements ------------------------------------------------------------------------------------------------
def fetch_settlement(settlement_id: str) -> dict[str, Any]:
    return client().get("/v1/settlements/{}", settlement_id)


def recon(day: date, *, skip: int = 0, count: int = 1000) -> list[dict[str, Any]]:
    """One page of the reconciliation report of a day (IST)."""
    return _items(
        client().get(
            "/v1/settlements/recon/combined", year=day.year, month=f"{day.month:02d}", day=f"{day.day:02d}", count=count, skip=skip
        )
    )


def _all(pattern: str, *ids: str, **query: Any) -> list[dict[str, Any]]:
    """Every page of a list (Razorpay has neither cursor nor total: the first short page is the last)."""
    found: list[dict[str, Any]] = []
    while True:
        page = _items(client().get(pattern, *ids, count=PAGE, skip=len(found), **query))
        found += page
        if len(page) < PAGE:
            return found


def _items(collection: dict[str, Any]) -> list[dict[str, Any]]:
    items = collection.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


# -- webhooks ---------------------------------------------------------------------------------------------------
def verify_webhook(raw: bytes, signature: object) -> bool:
    """Whether Razorpay signed these very bytes, with the current secret or the one before it. Never raises."""
    if not isinstance(signature, str):
        return False
    given = signature.encode("utf-8", "replace")
    good = False
    for secret in settings.RAZORPAY_WEBHOOK_SECRETS:
        expected = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest().encode()
        good |= bool(secret) and hmac.compare_digest(expected, given)
    return good
