"""How much a request may bring, and how fast it and its answer may go: held by the server, before any view is asked.

A body has a limit by its path. Beyond it the answer is 413, and nothing more is read. `Bounded` holds it for every ASGI server.
daphne needs more, because it shares its process with the chargers' sockets (`teach`): it gathers a body of any size, takes
every form apart by itself, hands a body over all at once, and keeps in memory what a slow reader does not take.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from daphne import http_protocol
from daphne.server import Server
from twisted.internet import reactor

from csms import files

# Forms and webhooks; whole files are let in by their addresses.
MOST_BYTES = 4 * 1024 * 1024
ENVELOPE_BYTES = 64 * 1024  # of a multipart form around its file
# A body up to this goes to the application at once.
AT_ONCE_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024
PIECES_AHEAD = 4
# Who is refused is read from for a while yet, so that the refusal arrives.
LINGER_BYTES, LINGER_S = 1024 * 1024, 5
# A reader that takes nothing for so long is let go.
STALLED_S = 60

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def limit(path: str) -> int:
    """How many bytes a request to this path may bring."""
    return max(MOST_BYTES, files.most_bytes(path) + ENVELOPE_BYTES)


class Bounded:
    """The HTTP application, none of whose requests brings more than its limit."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most, got, over = limit(scope["path"]), 0, False
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > most:
                await _too_large(send)
                return

        async def counted() -> dict[str, Any]:
            nonlocal got, over
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                over = True
                return {"type": "http.disconnect"}
            return message

        await self.app(scope, counted, send)
        if over:
            await _too_large(send)


async def _too_large(send: Send) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


# -- daphne -----------------------------------------------------------------------------------------------------------
def teach() -> None:
    """From now on daphne's requests are bounded and fed, and its answers sent, as below."""
    http_protocol.WebRequest = BoundedRequest
    Server.handle_reply = _handle_reply


class BoundedRequest(http_protocol.WebRequest):
    """A request that keeps to its limit and goes to the application no faster than it is taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._queue: Any = None
        self._most = MOST_BYTES
        self._got = 0
        self._refused = False
        super().__init__(*args, **kwargs)
        # Twisted would read every form into memory and take it apart, on the chargers' own loop. Django does that.
        self._parsePOSTFormSubmission = False

    def gotLength(self, length: int | None) -> None:
        path = self.channel._path.partition(b"?")[0].decode("latin-1")
        self._most = limit(path)
        super().gotLength(length)
        if length is not None and length > self._most:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._got += len(data)
        if not self._refused and self._got <= self._most:
            super().handleContentChunk(data)
        elif not self._refused:
            self._refuse()
        elif self._got > self._most + LINGER_BYTES:
            self._hang_up()

    def process(self) -> Any:
        if self._refused:
            return self._hang_up()
        return super().process()

    def _refuse(self) -> None:
        self._refused = True
        self.channel.persistent = False
        self.channel.transport.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        reactor.callLater(LINGER_S, self._hang_up)

    def _hang_up(self) -> None:
        if (channel := getattr(self, "channel", None)) is not None:
            channel.loseConnection()

    @property
    def application_queue(self) -> Any:
        return self._queue

    @application_queue.setter
    def application_queue(self, queue: Any) -> None:
        self._queue = Fed(queue, self.content) if queue is not None and self._got > AT_ONCE_BYTES else queue


class Fed:
    """Stands before an application's queue: a large body goes from its file into the queue as fast as it is taken out."""

    def __init__(self, queue: "asyncio.Queue[dict[str, Any]]", content: Any) -> None:
        self.queue, self.content = queue, content
        self.task: asyncio.Task[None] | None = None

    def put_nowait(self, message: dict[str, Any]) -> None:
        if message["type"] != "http.request":  # the line is gone, or the answer given
            if self.task is not None:
                self.task.cancel()
            self.queue.put_nowait(message)
        elif not message["more_body"]:  # daphne has been through all of the file; its pieces were left where they are
            self.task = asyncio.ensure_future(self._feed())

    async def _feed(self) -> None:
        self.content.seek(0)
        more = True
        while more:
            while self.queue.qsize() >= PIECES_AHEAD:
                await asyncio.sleep(0.005)
            piece = self.content.read(PIECE_BYTES)
            more = len(piece) == PIECE_BYTES
            self.queue.put_nowait({"type": "http.request", "body": piece, "more_body": more})


_sent_at_once = Server.handle_reply


async def _handle_reply(self: Server, protocol: Any, message: dict[str, Any]) -> None:
    """Send a piece of an answer, and have the application wait with the next while the line is full."""
    await _sent_at_once(self, protocol, message)
    if message["type"] != "http.response.body" or not message.get("more_body"):
        return
    waited_s = 0.0
    while getattr(getattr(protocol, "channel", None), "_waitingForTransport", False):
        if waited_s >= STALLED_S:
            protocol.channel.transport.abortConnection()
            return
        await asyncio.sleep(0.02)
        waited_s += 0.02
