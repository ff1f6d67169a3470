"""The client tells refused, unsent and unheard apart, whatever comes back over the wire."""

import base64
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from billing import razorpay
from billing.razorpay import Declined, LowBalance, TryAgain, Unknown


class Play:
    """What the server answers next, and what it was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] | None = (200, b"{}")
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []


@pytest.fixture
def play(settings):
    played = Play()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            played.seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            if played.answer is None:  # took the request, died without a word
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, content = played.answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Location", "http://elsewhere.example/")
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PATCH = do_GET

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    settings.RAZORPAY_BASE_URL = f"http://127.0.0.1:{server.server_address[1]}"
    settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET = "rzp_test_key", "the-key-secret"
    yield played
    server.shutdown()
    server.server_close()


def error(description: str, code: str = "BAD_REQUEST_ERROR", **more: str) -> bytes:
    return json.dumps({"error": {"code": code, "description": description, "reason": None, **more}}).encode()


def ask() -> dict:
    return razorpay.fetch_payment("pay_Asha0000000001")


def send() -> dict:
    return razorpay.create_refund("pay_Asha0000000001", {"speed": "normal", "amount": 100}, "pay_Asha-surplus")


def test_a_call_carries_the_key_the_idempotency_key_and_the_same_bytes_every_time(play):
    send()
    razorpay.create_refund("pay_Asha0000000001", {"amount": 100, "speed": "normal"}, "pay_Asha-surplus")
    (method, path, headers, body), (*_, again) = play.seen
    assert (method, path) == ("POST", "/v1/payments/pay_Asha0000000001/refund")
    assert headers["authorization"] == "Basic " + base64.b64encode(b"rzp_test_key:the-key-secret").decode()
    assert headers["x-refund-idempotency"] == "pay_Asha-surplus"
    assert body == again == b'{"amount":100,"speed":"normal"}'


def test_any_success_is_a_success(play):
    play.answer = (201, b'{"id": "rfnd_1"}')
    assert send() == {"id": "rfnd_1"}


@pytest.mark.parametrize(
    ("status", "body", "asking", "sending"),
    [
        (400, error("The amount must be at least INR 1.00"), Declined, Declined),
        (400, error("The payment has been fully refunded already."), Declined, Declined),
        (409, error("Different request with the same idempotency key has already been processed."), Declined, Declined),
        (409, error("Another request with the same idempotency key is still in progress."), TryAgain, TryAgain),
        (400, error("Another request with the same idempotency key is still in progress."), TryAgain, TryAgain),
        (400, error("Request failed because another payment operation is in progress"), TryAgain, TryAgain),
        (400, error("Your account does not have enough balance to carry out the refund operation."), LowBalance, LowBalance),
        (400, error("Transfer cannot be made due to insufficient balance"), LowBalance, LowBalance),
        (400, error("", reason="insufficient_balance"), LowBalance, LowBalance),
        (401, error("Authentication failed"), TryAgain, TryAgain),
        (429, b"", TryAgain, TryAgain),
        (429, error("Too many requests"), TryAgain, TryAgain),
        (500, error("We are facing some trouble", "SERVER_ERROR"), TryAgain, Unknown),
        (502, b"<html>Bad Gateway</html>", TryAgain, Unknown),
        (503, b"", TryAgain, Unknown),
        (400, error("The gateway failed", "GATEWAY_ERROR"), TryAgain, Unknown),
        (403, b"<html>Blocked by the firewall</html>", TryAgain, TryAgain),
        (404, b"<html>nginx</html>", TryAgain, TryAgain),
        (400, b'{"error": "text"}', TryAgain, TryAgain),
        (400, b"[]", TryAgain, TryAgain),
        (408, b"", TryAgain, Unknown),
        (302, b"", TryAgain, Unknown),
        (200, b"<html>OK</html>", TryAgain, Unknown),
        (200, b'{"id": "rfnd_', TryAgain, Unknown),
        (200, b"[]", TryAgain, Unknown),
        (200, b"", TryAgain, Unknown),
    ],
)
def test_every_answer_is_one_of_three_kinds(play, status, body, asking, sending):
    play.answer = (status, body)
    with pytest.raises(asking) as asked:
        ask()
    with pytest.raises(sending) as sent:
        send()
    assert type(asked.value) is asking and type(sent.value) is sending
    assert len(play.seen) == 2  # no retry of its own


def test_a_refusal_keeps_what_razorpay_said(play):
    play.answer = (400, error("The amount must be at least INR 1.00"))
    with pytest.raises(Declined) as refused:
        send()
    assert (refused.value.status, refused.value.code, refused.value.description) == (
        400,
        "BAD_REQUEST_ERROR",
        "The amount must be at least INR 1.00",
    )


def test_a_line_that_drops_after_the_request_is_unknown_for_a_post(play):
    play.answer = None
    with pytest.raises(Unknown):
        send()
    with pytest.raises(TryAgain):
        ask()


def test_a_server_that_is_not_there_was_sent_nothing(settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.RAZORPAY_BASE_URL = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TryAgain):
        send()


def test_a_slow_answer_is_unknown():
    silent = socket.create_server(("127.0.0.1", 0))
    client = razorpay.Client(f"http://127.0.0.1:{silent.getsockname()[1]}", "k", "s")
    client._http.timeout = httpx.Timeout(0.2, connect=1)
    with pytest.raises(Unknown):
        client.post("/v1/transfers", body={"amount": 100})
    with pytest.raises(TryAgain):
        client.get("/v1/transfers")
    silent.close()


def test_timeouts_are_three_seconds_to_connect_and_twenty_to_read():
    assert (razorpay.TIMEOUT.connect, razorpay.TIMEOUT.read) == (3, 20)


@pytest.mark.parametrize("bad", ["../transfers", "pay_1/refund", "", "pay 1", "pay_1?x=1", "pay_é", "x" * 61])
def test_an_id_that_is_none_never_leaves(play, bad):
    with pytest.raises(Declined):
        razorpay.fetch_payment(bad)
    assert play.seen == []


def test_neither_ids_nor_secrets_are_logged(play, caplog):
    caplog.set_level(0)
    for play.answer in ((400, error("pay_Asha0000000001 is not a valid id.")), (502, b"x"), (401, error("no")), None):
        for call in (ask, send):
            with pytest.raises((Declined, TryAgain, Unknown)):
                call()
    assert "POST /v1/payments/{}/refund" in caplog.text
    assert "pay_Asha" not in caplog.text and "the-key-secret" not in caplog.text


def test_a_list_is_read_page_by_page(play, monkeypatch):
    pages = iter([[{"id": str(n)} for n in range(100)], [{"id": "last"}]])
    monkeypatch.setattr(razorpay.Client, "get", lambda self, *_, **query: {"items": next(pages), "asked": query})
    assert len(razorpay.payment_refunds("pay_Asha0000000001")) == 101


def test_a_list_by_an_id_that_is_not_there_is_empty(play):
    play.answer = (200, b"null")
    assert razorpay.transfers_of_settlement("setl_00000000000000") == []
