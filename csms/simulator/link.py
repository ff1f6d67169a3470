"""The charger's end of the WebSocket: address, sub-protocol, password, and the ways a line can end."""

import base64
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
    key: str | None,
    *,
    subprotocols: list[str] | None = None,
    ping_interval_s: float | None = 30,
    open_timeout_s: float = 30,
) -> ClientConnection:
    """Open the charger's socket; `key` is its Basic password, None sends none.

    Raises what `websockets` raises: InvalidStatus when the server refuses (401, 403, 404), OSError when nobody is there.
    """
    headers = {}
    if key is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{cp_id}:{key}".encode()).decode()
    target = address(url, cp_id)
    return await connect(
        target,
        subprotocols=[SUBPROTOCOL] if subprotocols is None else subprotocols or None,  # type: ignore[arg-type]
        additional_headers=headers,
        ping_interval=ping_interval_s,
        ping_timeout=30,
        open_timeout=open_timeout_s,
        close_timeout=5,
        max_size=None,
        compression=None,
        proxy=None if urlsplit(target).hostname in LOOPBACK else True,
    )


def tear(socket: ClientConnection) -> None:
    """End the line as a dying modem does: no close frame, no goodbye."""
    socket.transport.abort()
