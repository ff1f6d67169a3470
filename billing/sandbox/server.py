"""HTTP in front of the sandbox, on this machine only, and the one thread that does what is due."""

import contextlib
import json
import logging
import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from billing.sandbox import accounts, page, refunds, routes, settlements, transfers, webhooks
from billing.sandbox.errors import trouble
from billing.sandbox.options import loopback
from billing.sandbox.world import Request, Response, World

log = logging.getLogger("billing.sandbox")

LARGEST_BODY = 1_000_000
TODO = {"refund": refunds.finish, "transfer": transfers.finish, "product": accounts.activate}
SETTLE_EVERY_S = 5


class Refused(Exception):
    """The sandbox does not start like this."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, world: World):
        host, port = world.options.host, world.options.port
        if not loopback(host):
            raise Refused(f"the sandbox listens on this machine only (127.0.0.1 or ::1), not on {host}")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.world = world
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((host.strip("[]"), port), Handler)
        if not world.url:
            name = f"[{host.strip('[]')}]" if ":" in host else host
            world.url = f"http://{name}:{self.server_address[1]}"

    def server_bind(self) -> None:
        # Not HTTPServer's: that one asks the name service who we are.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request, client_address) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close kept-alive connections too: nobody may go on talking to a sandbox that was stopped."""
        with self._lock:
            for request in self._open:
                with contextlib.suppress(OSError):  # the other side was faster
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address) -> None:
        log.debug("a caller hung up", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sandbox", ""
    timeout = 60
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def do_GET(self) -> None:
        began, split = time.monotonic(), urlsplit(self.path)
        length = self.headers.get("Content-Length") or "0"
        if not length.isdecimal() or int(length) > LARGEST_BODY or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            response = Response(413, b'{"error":{"code":"BAD_REQUEST_ERROR","description":"Request Entity Too Large"}}')
        else:
            request = Request(
                method=self.command,
                path=split.path,
                query=dict(parse_qsl(split.query)),
                headers={name.lower(): value for name, value in self.headers.items()},
                raw=self.rfile.read(int(length)),
            )
            response = handle(self.server.world, request)
        if response.hang_up_after_s is not None:
            time.sleep(response.hang_up_after_s)
            self.close_connection = True
        else:
            self._send(response)
        shown = "no answer" if response.hang_up_after_s is not None else response.status
        # The path only: no query, no body, no header. Nothing in it names a person.
        log.info("%s %s %s %d ms", self.command, split.path, shown, (time.monotonic() - began) * 1000)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_GET

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        if response.content_type.startswith("text/html"):
            self.send_header("Content-Security-Policy", page.POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "same-origin")
        for name, value in response.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def log_message(self, format: str, *args) -> None:
        log.debug(format, *args)


def handle(world: World, request: Request) -> Response:
    """One request, one answer; our own mistakes become Razorpay's 500."""
    try:
        return routes.answer(world, request)
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return Response(500, json.dumps(trouble().envelope).encode())


def work(world: World, pool: ThreadPoolExecutor | None = None) -> int:
    """Everything that is due now: refunds and transfers to be finished, settlements, webhooks. Returns how much there was."""
    done = 0
    for row in world.store.rows("SELECT seq, what, ref FROM todo WHERE at <= ? ORDER BY at, seq LIMIT 100", world.time()):
        try:
            with world.store.transaction():
                if world.store.run("DELETE FROM todo WHERE seq = ?", row["seq"]):
                    TODO[row["what"]](world, row["ref"])
                    done += 1
        except Exception:
            # Behind it others wait: they shall not wait for ever.
            log.exception("%s %s could not be finished", row["what"], row["ref"])
            world.store.run("UPDATE todo SET at = ? WHERE seq = ?", world.time() + 60, row["seq"])
    return done + webhooks.deliver_due(world, pool)


class Worker(threading.Thread):
    """Does what is due, as soon as it is."""

    def __init__(self, world: World):
        super().__init__(name="sandbox-worker", daemon=True)
        self.world, self.ending = world, threading.Event()
        self.pool = ThreadPoolExecutor(4, thread_name_prefix="sandbox-webhook")

    def run(self) -> None:
        settled_at = time.monotonic()
        while not self.ending.is_set():
            try:
                done = work(self.world, self.pool)
                after = self.world.options.settle_after_s
                # One settlement for many payments, as banks are paid.
                if after is not None and time.monotonic() - settled_at > max(SETTLE_EVERY_S, after):
                    settled_at = time.monotonic()
                    settlements.run(self.world, older_than_s=after)
            except Exception:
                # One bad row must not end the clockwork; it is tried again with the next round.
                log.exception("the sandbox's worker stumbled")
                done = 0
            if not done:
                self.world.wake.wait(0.1)
                self.world.wake.clear()

    def end(self) -> None:
        self.ending.set()
        self.world.wake.set()
        self.join(timeout=10)
        self.pool.shutdown(wait=True, cancel_futures=True)
