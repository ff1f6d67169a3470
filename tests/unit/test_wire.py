"""Handshakes as chargers write them, made into what the WebSocket library takes."""

from types import SimpleNamespace
from typing import ClassVar

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web import http

from voltaro import wire
from voltaro.wire import tidied


def tidy(first: str, *lines: str, rest: bytes = b"") -> tuple[str, list[str]]:
    raw = "\r\n".join([first, *lines]).encode("latin-1") + b"\r\n\r\n" + rest
    head, _, after = tidied(raw).partition(b"\r\n\r\n")
    assert after == rest
    first, *lines = head.decode("latin-1").split("\r\n")
    return first, lines


GOOD = ["Upgrade: websocket", "Sec-WebSocket-Key: k", "Connection: Upgrade", "Host: chargers"]


def test_what_is_right_stays_as_it_is():
    assert tidy("GET /ocpp/A HTTP/1.1", *GOOD, "Sec-WebSocket-Protocol: ocpp1.6") == (
        "GET /ocpp/A HTTP/1.1",
        [*GOOD, "Sec-WebSocket-Protocol: ocpp1.6"],
    )


def test_paths():
    for path in ("//ocpp/A?x=1", "////ocpp/A?x=1", "http://10.0.0.1:9000/ocpp/A?x=1", "wss://x//ocpp/A?x=1", "/ocpp/A?x=1#y"):
        assert tidy(f"GET {path} HTTP/1.1", *GOOD)[0] == "GET /ocpp/A?x=1 HTTP/1.1"


def test_headers():
    _, lines = tidy("GET /ocpp/A HTTP/1.1", "Upgrade: websocket", "Origin: file:/x", "ORIGIN: y", "Sec-WebSocket-Extensions: x;y")
    assert lines == ["Upgrade: websocket", "Connection: Upgrade", "Host: chargers"]
    _, lines = tidy("GET /ocpp/A HTTP/1.1", "Host: a:9000/ocpp", "host: b", "connection: keep-alive")
    assert lines == ["Connection: Upgrade", "Host: chargers"]


def test_sub_protocols_are_named_once_and_in_ascii():
    for given in (["ocpp1.6, ocpp1.6,ocpp2.0.1", "ocpp1.6"], ["ocpp1.6", "\xfc,ocpp2.0.1, ,"]):
        _, lines = tidy("GET /ocpp/A HTTP/1.1", *GOOD, *(f"Sec-WebSocket-Protocol: {one}" for one in given))
        assert lines[-1] == "Sec-WebSocket-Protocol: ocpp1.6, ocpp2.0.1"
    assert tidy("GET /ocpp/A HTTP/1.1", *GOOD, "Sec-WebSocket-Protocol: \xff")[1] == GOOD


def test_any_other_request_is_not_touched():
    for raw in (
        b"GET /live/ABCD/ HTTP/1.1\r\nOrigin: x\r\n\r\n",
        b"GET /ocppx HTTP/1.1\r\nOrigin: x\r\n\r\n",
        b"GET /ocpp/A HTTP/1.1\r\nOrigin: x\r\n",
        b"GET  /ocpp/A  HTTP/1.1\r\n\r\n",
        b"",
        b"\r\n\r\n",
        b"\x00\xff\r\n\r\n",
    ):
        assert tidied(raw) == raw


# -- requests that take their time --------------------------------------------------------------------------------------
HEAD = b"GET /ocpp/VLT-0001 HTTP/1.1\r\nHost: x\r\n"


class Heard(http.Request):
    """A request that has arrived; it is answered when the test says so."""

    all: ClassVar[list[http.Request]] = []

    def process(self) -> None:
        self.all.append(self)


@pytest.fixture
def line():
    """A connection, its clock, and how to say something on it."""
    Heard.all.clear()
    factory = http.HTTPFactory(reactor=(time := Clock()))
    factory.protocol = wire._made
    protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
    protocol.requestFactory = Heard
    protocol.makeConnection(transport := StringTransport())

    def drip(said: bytes, *, every_s: float = 1.0) -> None:
        for number in range(len(said)):
            protocol.dataReceived(said[number : number + 1])
            time.advance(every_s)

    return SimpleNamespace(
        said=protocol.dataReceived, time=time, drip=drip, ended=lambda: transport.disconnected or transport.disconnecting
    )


def test_A15_a_head_that_never_ends_is_cut_off_however_it_comes(line):
    line.drip(HEAD[: wire.HEAD_S - 1])
    assert not line.ended()
    line.drip(HEAD[wire.HEAD_S - 1 : wire.HEAD_S + 1])
    assert line.ended() and not Heard.all


def test_A15_so_is_a_line_that_says_nothing(line):
    line.time.advance(wire.HEAD_S - 1)
    assert not line.ended()
    line.time.advance(2)
    assert line.ended()


def test_a_request_that_arrived_is_not_hurried_and_the_next_one_has_its_own_time(line):
    line.said(HEAD + b"\r\n")
    line.time.advance(wire.HEAD_S * 20)
    assert len(Heard.all) == 1 and not line.ended()
    Heard.all[0].setHeader(b"content-length", b"0")
    Heard.all[0].finish()
    line.time.advance(wire.HEAD_S * 2)  # kept, idle
    assert not line.ended()
    line.drip(HEAD, every_s=wire.HEAD_S / 10)
    assert line.ended() and len(Heard.all) == 1


def test_a_body_has_a_bound_of_its_own(line):
    """A charger on a slow modem sends its diagnostics for an hour."""
    line.said(b"PUT /uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n")
    line.drip(b"x" * 40, every_s=wire.HEAD_S)
    assert not line.ended() and len(Heard.all) == 1
