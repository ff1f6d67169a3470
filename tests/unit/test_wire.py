"""Handshakes as chargers write them, made into what the WebSocket library takes."""

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
