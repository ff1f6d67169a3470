"""Carries out a charger's orders over HTTP: fetches its firmware, stores its logs."""

import asyncio
import hashlib
import ssl
from urllib.parse import urlsplit

import httpx

from csms.simulator.link import LOOPBACK
from csms.simulator.orders import HEAD_BYTES, MOST_BYTES, Download, Failed, Fetched, Order, Outcome, Stored, Upload

AT_MOST_S = 120
# Who does not take a PUT may take a POST.
NOT_BY_PUT = {404, 405, 501}


async def carry(order: Order, tls: ssl.SSLContext | None = None) -> Outcome:
    """The outcome of the order. Never raises: what goes wrong is a Failed. Redirects are not followed."""
    try:
        parts = urlsplit(order.url)
        host = parts.hostname
    except ValueError:
        return Failed("no address", "BadMessage")
    if parts.scheme not in ("http", "https"):
        return Failed(f"cannot speak {parts.scheme or 'nothing'}", "NotSupportedOperation" if parts.scheme else "BadMessage")
    if not host:
        return Failed("no host in the address", "BadMessage")
    try:
        async with asyncio.timeout(AT_MOST_S):
            async with httpx.AsyncClient(timeout=30, trust_env=host not in LOOPBACK, verify=_verify(parts.scheme, tls)) as http:
                return await (_fetch(http, order) if isinstance(order, Download) else _store(http, order))
    except TimeoutError:
        return Failed(f"took longer than {AT_MOST_S} s")
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as reason:
        return Failed(f"{type(reason).__name__} {reason}".strip()[:120])


def _verify(scheme: str, tls: ssl.SSLContext | None) -> ssl.SSLContext | bool:
    # Reading the system's roots takes a while; an http address never needs them.
    return False if scheme == "http" else tls or True


async def _fetch(http: httpx.AsyncClient, order: Download) -> Outcome:
    head, digest, size = b"", hashlib.sha256(), 0
    async with http.stream("GET", order.url) as answer:
        if answer.status_code != 200:
            return _refused(answer)
        async for piece in answer.aiter_bytes():
            size += len(piece)
            if size > MOST_BYTES:
                return Failed(f"larger than {MOST_BYTES} bytes")
            digest.update(piece)
            if len(head) < HEAD_BYTES:
                head = (head + piece)[:HEAD_BYTES]
    return Fetched(head, digest.digest(), size)


async def _store(http: httpx.AsyncClient, order: Upload) -> Outcome:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    answer = await http.put(order.url, content=order.body, headers=headers)
    if answer.status_code in NOT_BY_PUT:
        answer = await http.post(order.url, content=order.body, headers=headers)
    return Stored() if answer.is_success else _refused(answer)


def _refused(answer: httpx.Response) -> Failed:
    return Failed(f"HTTP {answer.status_code}", "PermissionDenied" if answer.status_code in (401, 403) else "UploadFailure")
