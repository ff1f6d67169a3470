"""The whole product as processes, for end-to-end tests: server, worker, beat, sandbox, on a database of their own.

The network is set up with the product's own commands, as an operator would; the clock of the running processes can be
moved forward (`Stack.pass_time`).
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from tests.simulate_client import ChargerClient

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bin"))
from embedded.services import die_with_parent  # noqa: E402


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """Started once for all end-to-end tests; each test sets up chargers of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, tuple[str, ...]] = {}
        port, sandbox_port = free_port(), free_port()
        self.url, self.sandbox = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
        self.ws = f"ws://127.0.0.1:{port}"
        self.clock_file = folder / "clock"
        self.database = _own_database(os.environ["DATABASE_URL"])
        self.env = {
            **os.environ,
            "DATABASE_URL": self.database,
            "REDIS_URL": _own_redis(os.environ["REDIS_URL"]),
            "VOLTARO_ENV": "test",
            "VOLTARO_CLOCK_FILE": str(self.clock_file),
            "RAZORPAY_BASE_URL": self.sandbox,
            "PUBLIC_BASE_URL": self.url,
            "LOG_LEVEL": "WARNING",
        }

    def start(self) -> None:
        self.manage("migrate", "-v0")
        port, sandbox_port = self.url.rsplit(":", 1)[1], self.sandbox.rsplit(":", 1)[1]
        hooks = ("--webhook-url", f"{self.url}/webhooks/razorpay/", "--rider-url-template", self.url + "/c/{connector}/")
        self._child("sandbox", "-m", "billing.sandbox", "--port", sandbox_port, "--db", str(self.folder / "sandbox.sqlite3"), *hooks)
        timers = ("--websocket_timeout", "-1", "--websocket_connect_timeout", "60", "--ping-interval", "30", "--ping-timeout", "30")
        self._child("server", "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", port, *timers, "voltaro.asgi:application")
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
        self._child("worker", "-m", "celery", "-A", "voltaro", "worker", "--pool", "threads", "-c", "4", *quiet)
        schedule = str(self.folder / "beat")
        self._child("beat", "-m", "celery", "-A", "voltaro", "beat", "--loglevel", "WARNING", "-s", schedule, "--pidfile=")
        self.wait(lambda: self._ready(f"{self.url}/readyz") and self._ready(f"{self.sandbox}/"), "the stack to start", 60)

    def stop(self) -> None:
        children = list(reversed(self.children.values()))
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()

    def pull_the_plug(self, *names: str) -> None:
        """kill -9: these processes are gone in the middle of whatever they did."""
        for name in names:
            self.children[name].kill()
            self.children[name].wait(10)

    def start_again(self, *names: str) -> None:
        """Start them as they were."""
        for name in names:
            self._child(name, *self.commands[name])
        if "server" in names:
            self.wait(lambda: self._ready(f"{self.url}/readyz"), "the server to be back", 60)

    # -- driving it --------------------------------------------------------------------------------------------
    def manage(self, *arguments: str) -> str:
        """A manage.py command; its output. AssertionError with what it said when it fails."""
        done = self.try_manage(*arguments)
        assert done.returncode == 0, f"manage.py {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=90)

    def add_charger(self, cp_id: str, *options: str) -> dict[str, Any]:
        return json.loads(self.manage("add_charger", cp_id, *options))

    def connect(self, charger: dict[str, Any]) -> ChargerClient:
        """The charger's socket, booted and Available on every connector."""
        client = ChargerClient(self.ws, charger["cp_id"], charger["key"]).connect()
        assert client.boot()["status"] == "Accepted"
        for connector in charger["connectors"]:
            client.status(connector["connector_id"], "Available")
        return client

    def pay(self, qr_id: str, rupees: int, vpa: str = "asha@okaxis", contact: str = "") -> None:
        """Pay a QR as a rider's UPI app would."""
        form = {"amount": str(rupees), "vpa": vpa, "contact": contact}
        answer = httpx.post(f"{self.sandbox}/pay/{qr_id}", data=form, headers={"Origin": self.sandbox})
        assert answer.status_code in (200, 303), answer.text[:500]

    def pass_time(self, seconds: float) -> None:
        """Move the clock of every running process forward."""
        already = float(self.clock_file.read_text()) if self.clock_file.exists() else 0.0
        fresh = self.clock_file.with_suffix(".new")
        fresh.write_text(str(already + seconds))
        fresh.replace(self.clock_file)

    def time_put_right(self) -> None:
        self.clock_file.unlink(missing_ok=True)

    # -- looking at it -----------------------------------------------------------------------------------------
    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.database, row_factory=dict_row, autocommit=True) as db:
            return db.execute(sql, parameters).fetchall()

    def row(self, sql: str, *parameters: Any) -> dict[str, Any]:
        (found,) = self.rows(sql, *parameters)
        return found

    def wait(self, look: Any, what: str, seconds: float = 30) -> Any:
        """What `look` returns once it is true; AssertionError naming `what` when it never is, with the logs' last words."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s for {what}\n{self._last_words()}")
            time.sleep(0.2)
        return found

    def razorpay(self, path: str) -> dict[str, Any]:
        """What Razorpay (the sandbox) says, asked with our key."""
        auth = (self.env.get("RAZORPAY_KEY_ID", "rzp_test_sandbox00000000"), self.env.get("RAZORPAY_KEY_SECRET", "sandbox-key-secret"))
        answer = httpx.get(f"{self.sandbox}{path}", auth=auth)
        answer.raise_for_status()
        return answer.json()

    def _ready(self, url: str) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url).status_code == 200
        return False

    def _child(self, name: str, *arguments: str) -> None:
        with open(self.folder / f"{name}.log", "ab") as out:
            child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self.env,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        self.children[name], self.commands[name] = child, arguments

    def _last_words(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(self.folder.glob("*.log")))


def _own_database(url: str) -> str:
    """A fresh database beside the tests' own: other processes cannot see into a test's transaction."""
    name = "voltaro_e2e"
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"drop database if exists {name} with (force)")
        db.execute(f"create database {name}")
    before, _, after = url.partition("?")
    return before.rsplit("/", 1)[0] + f"/{name}" + (f"?{after}" if after else "")


def _own_redis(url: str) -> str:
    return url.replace("?db=0", "?db=1") if "?db=" in url else url.rstrip("/").removesuffix("/0") + "/1"
