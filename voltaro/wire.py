"""What daphne is taught about lines, where it has no option for it. One class: daphne's own protocol, and what chargers need of it.

    before it listens    a request, or a handshake, that does not say what it wants in time is cut off (Head)
    before it parses     handshakes as chargers write them: no Host, an odd Origin, a path that begins with two slashes ...
    at the door          a refusal with its status (401, 503) where daphne can only say 403
    while it is open     a size and a number of pieces that a message may have; reading that can be stopped and writing that can be
                         waited for; pings by the charger's own interval, and their answers as signs of life
    at its end           the protocol's own close codes (1001 to 1013), which an application may not send through daphne

The consumer finds it as `scope["line"]`; under uvicorn there is none, and the consumer does without.
"""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from autobahn.twisted.websocket import ConnectionDeny
from daphne import http_protocol, server, ws_protocol
from django.conf import settings
from twisted.web import http

from voltaro import clock

# What the machine holds for a line at most, in each direction; left alone it would be megabytes for one that does not read.
SEND_BYTES = 65_536
# From so many messages on that are not worked off, no more are read: TCP tells the charger to wait.
WAITING, WAITING_BYTES = 100, 1_000_000
# How long a peer may take to answer our goodbye: torn before it has read that, the line would tell it nothing.
GOODBYE_S = 3
# A message in more pieces than this, or not complete after so long, is no charger's.
MAX_PIECES = 4096
UNFINISHED_S = 120
# A line may ask so many pings a minute of us.
PINGS_A_MINUTE = 120
# How long a request may take over its first lines, from its first byte (or the connection's beginning) on; as nginx has it.
HEAD_S = 15
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Of a charger's handshake nobody reads these, and the library is particular about them.
_DROPPED = {b"connection", b"host", b"origin", b"sec-websocket-origin", b"sec-websocket-extensions"}
_ports: list[Any] = []
log = logging.getLogger(__name__)


class Line(ws_protocol.WebSocketProtocol):
    """One socket, as daphne has it. Whoever takes it (`take`) treats it as a charger's; live pages stay as daphne made them."""

    maxMessagePayloadSize = settings.MAX_FRAME_BYTES
    failByDrop = False  # who sends too much is told 1009; a torn line would tell it nothing

    http_status_line = ""
    sign_s = 0.0  # when (clock.elapsed) it last sent a ping or a pong
    ping_s = 0.0
    _taken = _shaking = _full = False
    _waiting = _waiting_bytes = 0
    _status = 0
    _begun_s = 0.0  # of a message that is not complete
    _pieces = 0
    _pings = (0, 0)
    _room: asyncio.Event | None = None

    # -- what the consumer asks of it ------------------------------------------------------------------------------
    def take(self) -> None:
        """A charger's line: pinged after `ping_s` quiet seconds (0: never), and never ended because a pong is missing."""
        self._taken = True
        self.autoPingTimeout = 0
        self.closeHandshakeTimeout = GOODBYE_S
        self.utf8validateIncoming = False  # a vendor's name in Latin-1 is no reason to hang up
        self._room = asyncio.Event()
        self._room.set()
        if self.transport is not None and self.state != self.STATE_CLOSED:
            if (handle := getattr(self.transport, "socket", None)) is not None:
                for which, size in ((socket.SO_SNDBUF, SEND_BYTES), (socket.SO_RCVBUF, settings.MAX_FRAME_BYTES)):
                    handle.setsockopt(socket.SOL_SOCKET, which, size)
            self.transport.unregisterProducer()  # the HTTP channel's, from before the upgrade
            self.transport.registerProducer(self, True)

    def worked_off(self, size: int) -> None:
        """One of its messages, of so many bytes, is done. When half of those that waited are, more are read."""
        self._waiting -= 1
        self._waiting_bytes -= size
        if self._full and self._waiting <= WAITING // 2 and self._waiting_bytes <= WAITING_BYTES // 2:
            self._full = False
            if self.transport is not None and self.state != self.STATE_CLOSED:
                self.transport.resumeProducing()

    async def may_write(self) -> None:
        """Wait until the peer has read what was sent to it."""
        if self._room is not None and not self._room.is_set():
            await self._room.wait()

    def tear(self) -> None:
        """End the line without a word: whoever does not read does not hear a goodbye either."""
        self.dropConnection(abort=True)

    @staticmethod
    def stop_listening() -> None:
        """The process takes no new connections any more."""
        while _ports:
            _ports.pop().stopListening()

    # -- called by the transport, when what it holds for the peer is much, or gone (Twisted's push producer) -------------
    def pauseProducing(self) -> None:
        if self._room is not None:
            self._room.clear()

    def resumeProducing(self) -> None:
        if self._room is not None:
            self._room.set()

    stopProducing = resumeProducing

    # -- the handshake ---------------------------------------------------------------------------------------------------
    def processHandshake(self) -> None:
        if self._shaking:  # frames before the answer to the handshake: they wait, but not without end
            if len(self.data) > settings.MAX_FRAME_BYTES:
                self.dropConnection(abort=True)
            return
        if b"\r\n\r\n" in self.data:
            self._shaking = True
            self.data = tidied(self.data)
        super().processHandshake()

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "websocket.http.response.start":
                self._status = message["status"]
            case "websocket.http.response.body":
                if self.state == self.STATE_CONNECTING and hasattr(self, "handshake_deferred"):
                    self._refuse(self._status)
            case "websocket.close" if self.state != self.STATE_CONNECTING:
                self._say_goodbye(message.get("code") or 1000, message.get("reason") or "")
            case _:
                super().handle_reply(message)

    def _refuse(self, status: int) -> None:
        self.handshake_deferred.errback(ConnectionDeny(status, HTTPStatus(status).phrase))
        del self.handshake_deferred
        self.server.protocol_disconnected(self)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        if code < 500 and not hasattr(self, "server"):  # ours are in the audit; these were never asked
            log.info("a handshake from %s is none: %s (%s)", self.peer, reason[:100], self.http_status_line[:100])
        super().failHandshake(reason, code, responseHeaders)

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:
        headers = [("Content-Length", "0"), ("Connection", "close"), *(responseHeaders or [])]
        if code == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", 'Basic realm="ocpp"'))
        super().sendHttpErrorResponse(code, reason, headers)

    def _say_goodbye(self, code: int, reason: str) -> None:
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:123] or None, isReply=False)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        self.resumeProducing()
        if hasattr(self, "server"):  # else the handshake failed before daphne had heard of it
            super().onClose(wasClean, code, reason)

    # -- messages ----------------------------------------------------------------------------------------------------------
    def onMessageBegin(self, isBinary: bool) -> None:
        self._begun_s, self._pieces = clock.elapsed(), 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        self._pieces += 1
        if self._pieces > MAX_PIECES and not self.failedByMe:
            self._max_message_size_exceeded(self._pieces, MAX_PIECES, "message in too many pieces")
        super().onMessageFrameBegin(length)

    def onMessageEnd(self) -> None:
        self._begun_s = 0.0
        super().onMessageEnd()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if not self._taken:
            return  # a live page has nothing to say
        self._waiting += 1
        self._waiting_bytes += len(payload)
        # Here, not in the consumer: before that hears of one message, a thousand more are read.
        if not self._full and (self._waiting >= WAITING or self._waiting_bytes >= WAITING_BYTES):
            self._full = True
            self.transport.pauseProducing()
        super().onMessage(payload, True)  # read by csms/frames.py, whatever the bytes are

    # -- signs of life -----------------------------------------------------------------------------------------------------
    def onPing(self, payload: bytes) -> None:
        self.sign_s = clock.elapsed()
        minute, count = self._pings
        self._pings = (minute, count + 1) if minute == int(self.sign_s // 60) else (int(self.sign_s // 60), 1)
        if self._taken and self._pings[1] > PINGS_A_MINUTE:
            self._say_goodbye(1008, "too many pings")
        elif self._room is None or self._room.is_set():
            super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        self.sign_s = clock.elapsed()
        super().onPong(payload)

    def check_timeouts(self) -> None:
        """Called by daphne every 2 s."""
        now_s = clock.elapsed()
        if self._begun_s and now_s - self._begun_s > UNFINISHED_S and self.state == self.STATE_OPEN:
            self._say_goodbye(1008, "a message without end")
        if not self._taken:
            super().check_timeouts()
        elif self.ping_s and self.state == self.STATE_OPEN and time.time() - self.last_ping > self.ping_s:
            self.last_ping = time.time()
            if self._room is not None and self._room.is_set():
                self.sendPing()


class Head(http.HTTPChannel):
    """A connection before anything of ours has heard of it. Twisted ends one that is silent for a minute; a byte now and then is not."""

    _deadline: Any = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._deadline = self.callLater(HEAD_S, self._too_slow)

    def dataReceived(self, data: bytes) -> None:
        # The next request of a connection that is kept; not the body of one, nor what waits behind one that is being answered.
        if self._deadline is None and self.line_mode and not self._handlingRequest:
            self._deadline = self.callLater(HEAD_S, self._too_slow)
        super().dataReceived(data)

    def rawDataReceived(self, data: bytes) -> None:
        """What came in one piece with a handshake, behind it, is the line's: Twisted would keep it for the next request."""
        now = getattr(self.transport, "wrappedProtocol", None) or getattr(self.transport, "protocol", None)
        if isinstance(now, Line):
            now.dataReceived(data)
        else:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        self._in_time()
        super().allHeadersReceived()

    def connectionLost(self, reason: Any) -> None:
        self._in_time()
        super().connectionLost(reason)

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.transport is not None:
            self.transport.abortConnection()


def _made() -> Any:
    return http._GenericHTTPChannelProtocol(Head())


def tidied(request: bytes) -> bytes:
    """A charger's handshake as the WebSocket library wants it; any other request as it is.

    The library refuses with 400, before anything of ours is asked, what chargers do send: a path that begins with two slashes,
    an Origin that is no address, no Host or a path in it, no `Connection: Upgrade`, a sub-protocol twice or not in ASCII.
    """
    head, blank, rest = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not blank:
        return request
    path = b"/" + re.sub(rb"^[A-Za-z][A-Za-z0-9+.-]*://[^/]*", b"", words[1]).partition(b"#")[0].lstrip(b"/")
    if not re.match(rb"/ocpp(?:[/?]|$)", path):
        return request
    words[1] = path
    kept, protocols = [], []
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip()
        if name in _DROPPED:
            continue
        if name == b"sec-websocket-protocol":
            protocols += [one.strip() for one in value.split(b",") if _TOKEN.fullmatch(one.strip())]
            continue
        kept.append(line)
    # Whoever asks for `Upgrade: websocket` wants it, whether `Connection` says so or not.
    kept += [b"Connection: Upgrade", b"Host: chargers"]
    if protocols:
        kept.append(b"Sec-WebSocket-Protocol: " + b", ".join(dict.fromkeys(protocols)))
    return b"\r\n".join([b" ".join(words), *kept]) + blank + rest


def teach() -> None:
    """From now on daphne makes our lines, and tells the application which one it speaks on."""
    ws_protocol.WebSocketFactory.protocol = Line
    http_protocol.HTTPFactory.protocol = staticmethod(_made)
    server.Server.create_application = _create_application
    server.Server.listen_success = _listen_success


_create = server.Server.create_application
_listened = server.Server.listen_success


def _create_application(self: Any, protocol: Any, scope: dict[str, Any]) -> Any:
    if isinstance(protocol, Line):
        scope["line"] = protocol
        scope["extensions"] = {"websocket.http.response": {}}
    return _create(self, protocol, scope)


def _listen_success(self: Any, port: Any) -> None:
    _ports.append(port)
    _listened(self, port)
