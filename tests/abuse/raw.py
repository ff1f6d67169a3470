"""A WebSocket client that can do what no library does: stop reading, send half a frame, come from another address."""

import json
import socket
import time
from contextlib import suppress

from tests.server import HANDSHAKE, basic

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0


class RawLine:
    """A charger's line, byte for byte. `source`: the address of this machine it comes from (127.0.0.2 is another charger's).

    `behind`: what is written in one piece with the handshake.
    """

    def __init__(
        self,
        port: int,
        cp_id: str,
        key: str,
        *,
        source: str = "127.0.0.1",
        handshake: bool = True,
        buffer: int = 0,
        behind: bytes = b"",
    ) -> None:
        self.line = socket.socket()
        if buffer:
            self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.line.bind((source, 0))
        self.line.settimeout(10)
        self.line.connect(("127.0.0.1", port))
        self.heard = b""
        if handshake:
            headers = {"Host": "x", **HANDSHAKE, **basic(cp_id, key)}
            head = f"GET /ocpp/{cp_id} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
            self.line.sendall(head.encode() + behind)
            while b"\r\n\r\n" not in self.heard:
                if not (some := self.line.recv(65_536)):
                    break
                self.heard += some
            head, _, self.heard = self.heard.partition(b"\r\n\r\n")
            self.status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0

    def __enter__(self) -> "RawLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def send(self, payload: str | bytes, opcode: int = TEXT, *, fin: bool = True) -> None:
        raw = payload.encode() if isinstance(payload, str) else payload
        self.line.sendall(masked((0x80 if fin else 0) | opcode, raw))

    def call(self, action: str, payload: dict, uid: str = "x") -> None:
        self.send(json.dumps([2, uid, action, payload]))

    def frame(self, within_s: float = 10) -> tuple[int, bytes] | None:
        """The next frame: (opcode, payload). None when the line has ended; TimeoutError when nothing comes."""
        deadline = time.monotonic() + within_s
        while (found := self._cut()) is None:
            self.line.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                some = self.line.recv(65_536)
            except ConnectionResetError:
                return None
            if not some:
                return None
            self.heard += some
        return found

    def _cut(self) -> tuple[int, bytes] | None:
        if len(self.heard) < 2:
            return None
        size, at = self.heard[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(self.heard[2:4]), 4
        elif size == 127:
            size, at = int.from_bytes(self.heard[2:10]), 10
        if len(self.heard) < at + size:
            return None
        first, payload, self.heard = self.heard[0], self.heard[at : at + size], self.heard[at + size :]
        return first & 0x0F, payload

    def close_code(self, within_s: float = 10) -> int | None:
        """Read on until the server says goodbye, and answer it; its code. None when the line just ended."""
        while (found := self.frame(within_s)) is not None:
            if found[0] == CLOSE:
                with suppress(OSError):  # it does not wait for ever
                    self.send(found[1], CLOSE)
                return int.from_bytes(found[1][:2])
        return None


def masked(first: int, payload: bytes) -> bytes:
    """One WebSocket frame under a mask of zeros; `first` is its first byte."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = bytes([0x80 | 126]) + size.to_bytes(2)
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8)
    return bytes([first]) + length + b"\0\0\0\0" + payload
