"""A real server for tests: daphne as a process of its own, on the test's database."""

import base64
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))
from embedded.services import die_with_parent  # noqa: E402

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes ok").decode(),
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "ocpp1.6",
}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    forgiven_bytes: int = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def mistakes(self) -> list[str]:
        """What the server's log says of mistakes of our own, since it was last forgiven."""
        said = self.log.read_bytes()[self.forgiven_bytes :].decode(errors="replace")
        # A frame whose charger went with the last test's tables.
        said = re.sub(r"^.*a frame that went out was not kept: IntegrityError$", "", said, flags=re.MULTILINE)
        return re.findall(r"^.*(?:Traceback|ERROR|CRITICAL|Exception).*$", said, re.MULTILINE)

    def forgive(self) -> None:
        self.forgiven_bytes = self.log.stat().st_size

    def shake(self, path: str | bytes, headers: dict[str, str | None] | None = None, *, until: bytes = b"", patience_s: float = 5) -> bytes:
        """Send a handshake byte for byte and return what the server says: until that, until it ends the line, or says no more."""
        raw = path.encode("latin-1") if isinstance(path, str) else path
        lines = [b"GET " + raw + b" HTTP/1.1", f"Host: 127.0.0.1:{self.port}".encode()]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in {**HANDSHAKE, **(headers or {})}.items() if value is not None]
        heard = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience_s) as line:
            line.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
            try:
                while some := line.recv(65_536):
                    heard += some
                    if (until and until in heard) or heard.partition(b"\r\n\r\n")[2].startswith(b"\x88"):  # it waits for our close
                        break
            except (TimeoutError, ConnectionResetError):
                return heard
        return heard

    def status(self, path: str | bytes, headers: dict[str, str | None] | None = None) -> int:
        """The HTTP status of the answer; 0 when there was none."""
        said = self.shake(path, headers, until=b"\r\n\r\n")
        return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.1 ") else 0


@contextmanager
def serving(folder: Path, *, under: str = "daphne", alone: bool = True, **environment: str) -> Iterator[Server]:
    """A daphne (or uvicorn) on the same database, Valkey and code as the tests' own process, until the end of the block.

    `alone`: it is the last to use the database. A second one, for a single test, is not.
    """
    from django.conf import settings
    from django.db import connection

    given, name = settings.DATABASE_URL, str(connection.settings_dict["NAME"])
    url = re.sub(r"(?<=/)[^/?]+(?=(\?|$))", name, given, count=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / f"log-{port}" if not alone else folder / "log"
    how = "--websocket_timeout -1 --websocket_connect_timeout 60 --ping-interval 30 --ping-timeout 30"
    command = [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), *how.split(), "voltaro.asgi:application"]
    if under == "uvicorn":
        command = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--port", str(port), "voltaro.asgi:application"]
    env = {**os.environ, "DATABASE_URL": url, "VOLTARO_ENV": "test", **environment}
    with open(log, "wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=die_with_parent)
    found = Server(port, process, log)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert found.alive and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
    try:
        yield found
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
        if alone:
            # Its pooled connections must be gone before the test's database is dropped.
            with psycopg.connect(given, autocommit=True) as db:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
                db.execute(others, [name])
