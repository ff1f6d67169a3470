"""Who the client is when a proxy stands in front: told by the proxies we trust (TRUSTED_PROXIES), never by the client itself.

What a trusted proxy says becomes what the ASGI scope would say without it: `client`, `scheme`, and the `tls` extension with the
client's certificate. Nobody downstream reads such a header; from anybody else they are dropped.

    X-Forwarded-For               the client's address; the last one no trusted proxy stands behind
    X-Forwarded-Proto             https or wss: the client speaks TLS
    X-Client-Cert-Verify          SUCCESS: the proxy has held the certificate against our authority, its time and the revoked
    X-Client-Cert                 the certificate, PEM, percent-encoded (nginx: $ssl_client_escaped_cert)
    X-Client-Cert-Subject         instead of it: the subject as RFC 2253 writes it,
    X-Client-Cert-Fingerprint     and its SHA-256 in hex
"""

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import unquote

from django.conf import settings

ADDRESS, SCHEME = b"x-forwarded-for", b"x-forwarded-proto"
VERIFIED, CERTIFICATE, SUBJECT, FINGERPRINT = (
    b"x-client-cert-verify",
    b"x-client-cert",
    b"x-client-cert-subject",
    b"x-client-cert-fingerprint",
)
OF_CERTIFICATES = {VERIFIED, CERTIFICATE, SUBJECT, FINGERPRINT}
Networks = list[IPv4Network | IPv6Network]


class TrustedProxies:
    """Middleware around the whole application."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = believed(scope, settings.TRUSTED_PROXIES)
        await self.application(scope, receive, send)


def believed(scope: dict[str, Any], proxies: Networks) -> dict[str, Any]:
    """The scope as it is to be believed."""
    said = [(name.lower(), value) for name, value in scope["headers"] if name.lower() in {ADDRESS, SCHEME, *OF_CERTIFICATES}]
    if not said:
        return scope
    trusted = _is_in((scope.get("client") or ("",))[0], proxies)
    # Where no proxy is trusted by name, pages are told of TLS as they always were (SECURE_PROXY_SSL_HEADER); sockets are not.
    kept_for_pages = {ADDRESS, SCHEME} if scope["type"] == "http" and (trusted or not proxies) else set()
    dropped = {ADDRESS, SCHEME, *OF_CERTIFICATES} - kept_for_pages
    scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name.lower() not in dropped]}
    if not trusted:
        return scope
    if address := _client([value for name, value in said if name == ADDRESS], proxies):
        scope["client"] = [address, 0]
    schemes = {value.strip().lower() for name, value in said if name == SCHEME}
    if schemes and schemes <= {b"https", b"wss"}:
        scope["scheme"] = "https" if scope["type"] == "http" else "wss"
        scope["extensions"] = {**(scope.get("extensions") or {}), "tls": _tls(said)}
    return scope


def _client(values: list[bytes], proxies: Networks) -> str:
    """The nearest address that is no proxy of ours: what stands before it in the list, anybody may have written."""
    found = ""
    for one in reversed(b",".join(values).decode("latin-1").split(",")):
        try:
            found = str(ip_address(one.strip()))
        except ValueError:
            break
        if not _is_in(found, proxies):
            break
    return found


def _tls(said: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """The ASGI tls extension: the client's certificate, or why there is none to believe."""
    told = {}
    for name in OF_CERTIFICATES:
        values = [value.strip() for one, value in said if one == name]
        if len(values) > 1:  # the proxy adds to what the client sent, where it must replace it
            return _certificate(error="told twice")
        told[name] = values[0].decode("latin-1") if values else ""
    if told[VERIFIED] in ("", "NONE"):
        return _certificate()
    if told[VERIFIED] != "SUCCESS":
        return _certificate(error=told[VERIFIED][:200])
    pem = unquote(told[CERTIFICATE])
    return _certificate([pem] if pem else [], told[SUBJECT], told[FINGERPRINT].replace(":", "").lower())


def _certificate(chain: list[str] | None = None, name: str = "", fingerprint: str = "", error: str = "") -> dict[str, Any]:
    return {
        "client_cert_chain": chain or [],
        "client_cert_name": name or None,
        "client_cert_error": error or None,
        "client_cert_sha256": fingerprint,  # not in the specification: for proxies that do not pass the certificate on
    }


def _is_in(address: str, networks: Networks) -> bool:
    if not networks:
        return False
    try:
        found = ip_address(address)
    except ValueError:  # a unix socket, or nobody
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in networks)
