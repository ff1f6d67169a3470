"""The charger's end of the WebSocket: address, sub-protocol, password, TLS, and the ways a line can end."""

import base64
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from websockets.asyncio.client import ClientConnection, connect

SUBPROTOCOL = "ocpp1.6"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def address(url: str, cp_id: str) -> str:
    """`ws://HOST/ocpp/<cp_id>`; `url` may be the server's root or already name the path before the id."""
    base = url.rstrip("/")
    if not urlsplit(base).path:
        base += "/ocpp"
    return f"{base}/{quote(cp_id, safe='')}"


async def dial(
    url: str,
    cp_id: str,
    key: str | bytes | None,
    *,
    subprotocols: list[str] | None = None,
    ping_interval_s: float | None = 30,
    open_timeout_s: float = 30,
    user: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    path: str | None = None,
) -> ClientConnection:
    """Open the charger's socket; `key` is its Basic password, None sends none.

    `user` is the Basic user when it is not the cp_id; `headers` go beside ours; `tls` is used for a wss address; `path`,
    beginning with a slash, takes the place of /ocpp/<cp_id>, exactly as it is.

    Raises what `websockets` raises: InvalidStatus when the server refuses (401, 403, 404), OSError when nobody is there.
    """
    sent = dict(headers or {})
    if key is not None:
        name, secret = (cp_id if user is None else user).encode(), key.encode() if isinstance(key, str) else key
        sent["Authorization"] = "Basic " + base64.b64encode(name + b":" + secret).decode()
    parts = urlsplit(url)
    target = address(url, cp_id) if path is None else f"{parts.scheme}://{parts.netloc}{path}"
    return await connect(
        target,
        subprotocols=[SUBPROTOCOL] if subprotocols is None else subprotocols or None,  # type: ignore[arg-type]
        additional_headers=sent,
        ping_interval=ping_interval_s,
        ping_timeout=30,
        open_timeout=open_timeout_s,
        close_timeout=5,
        max_size=None,
        compression=None,
        proxy=None if parts.hostname in LOOPBACK else True,
        **({"ssl": tls} if tls is not None and parts.scheme == "wss" else {}),
    )


def tear(socket: ClientConnection) -> None:
    """End the line as a dying modem does: no close frame, no goodbye."""
    socket.transport.abort()


def secure(url: str) -> str:
    """The same server by TLS."""
    return "wss" + url.removeprefix("ws") if url.startswith("ws://") else url


def context(roots: list[str], chain: str = "", key: str = "") -> ssl.SSLContext:
    """TLS that believes these roots (PEM; the system's when there are none) and shows this certificate, if there is one."""
    made = ssl.create_default_context(cadata="\n".join(roots) or None)
    if chain and key:
        with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads them from files only; the folder is ours alone
            mine = Path(folder) / "mine.pem"
            mine.write_text(f"{key.strip()}\n{chain.strip()}\n")
            made.load_cert_chain(mine)
    return made
