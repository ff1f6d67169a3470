"""Child processes that are watched, started again a few times, stopped in order, and that never outlive their parent."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from embedded.bootstrap import ROOT
from embedded.services import Services, die_with_parent

RESTARTS = 3
# A child that ran this long had a good start: its earlier failures are forgotten.
GOOD_S = 300
LOG_BYTES = 5_000_000
TAIL_LINES = 15

Say = Callable[[str], None]


class Fatal(Exception):
    """What ends everything, as a sentence."""


class Child:
    """One process with its log. `stop_s` is how long it may take to stop politely."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path, *, stop_s: float = 3) -> None:
        self.name, self.command, self.env, self.log, self.stop_s = name, command, env, log, stop_s
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.started_at = 0.0
        self.again_at: float | None = None

    def start(self) -> None:
        self.log.parent.mkdir(exist_ok=True, mode=0o700)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=partial(die_with_parent, signal.SIGKILL),
                start_new_session=True,  # a Ctrl-C is ours to pass on, in order
            )
        self.started_at, self.again_at = time.monotonic(), None

    def ended(self) -> int | None:
        """Its exit code when it ended; None while it runs, or before it was started."""
        return self.process.poll() if self.process else None

    def tail(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()
            return "\n".join(f"    {line[:300]}" for line in lines[-TAIL_LINES:])
        return ""

    def signal(self, which: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, which)


class Supervisor:
    """The children in the order of their start, and the services below them."""

    def __init__(self, services: Services, say: Say) -> None:
        self.services, self.say = services, say
        self.children: list[Child] = []
        self._service_deaths = 0

    def start(self, child: Child) -> None:
        self.children.append(child)
        child.start()

    def check(self) -> None:
        """Look after everybody once. Raises Fatal when something died too often."""
        self._check_services()
        for child in self.children:
            if child.again_at is not None:
                if time.monotonic() >= child.again_at:
                    child.start()
                continue
            code = child.ended()
            if code is None:
                continue
            if time.monotonic() - child.started_at > GOOD_S:
                child.failures = 0
            child.failures += 1
            self.say(f"{child.name} ended ({_how(code)}). The end of its log, {child.log}:\n{child.tail()}")
            if child.failures > RESTARTS:
                raise Fatal(f"{child.name} ended {child.failures} times; giving up. Its log: {child.log}")
            wait_s = 2 ** (child.failures - 1)
            self.say(f"starting {child.name} again in {wait_s} s ({child.failures} of {RESTARTS})")
            child.again_at = time.monotonic() + wait_s

    def _check_services(self) -> None:
        for name, log in self.services.dead().items():
            self._service_deaths += 1
            if self._service_deaths > RESTARTS:
                raise Fatal(f"the database or Valkey ended {self._service_deaths} times; giving up. Its log: {log}")
            self.say(f"{'PostgreSQL' if name == 'pg' else 'Valkey'} ended; starting it again. Its log: {log}")
            self.services.revive(name)

    def stop(self) -> None:
        """Stop the children, the last started first; whoever does not listen is killed."""
        for child in reversed(self.children):
            child.again_at = None
            child.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                if child.process is not None:
                    child.process.wait(child.stop_s)
            child.signal(signal.SIGKILL)
        for child in self.children:
            if child.process is not None:
                child.process.wait()


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
