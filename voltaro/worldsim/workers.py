"""Our workers in their world: beats and bells, late, doubled, lost. A worker that has nothing due is not woken, which costs nothing.

Whether it has is asked of the database for all of them in one statement, made of their own `due`; every FULL_S each runs all the same,
should its `due` and its `work` not be of one mind.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connection

from accounts.actor import acting
from voltaro.celery import BATCH, WORKERS
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.process import Process

# Not part of a few hours' life: days, months, certificates.
LEFT_OUT = {"reconcile", "retention.frames", "retention.readings", "retention.uploads", "certificates.renew", "security.unused"}
NAMES = sorted(set(WORKERS) - LEFT_OUT)
TICK_S, CALM_TICK_S = 5.0, 15.0
FULL_S = 900.0
COMMANDS = "csms_command WHERE state = 'queued'"


class Sieve:
    """Which of our workers have something due, by one statement, prepared once."""

    def __init__(self) -> None:
        self.always: set[str] = set()
        self._names: list[str] = []
        self._one: dict[str, str] = {}
        asked: list[str] = []
        then = datetime(2026, 1, 1, tzinfo=UTC)
        with connection.cursor() as cursor:
            for name in NAMES:
                try:
                    query = WORKERS[name].function("due")(then).query.exists()
                    sql, given = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
                except (AttributeError, TypeError, EmptyResultSet):
                    self.always.add(name)
                    continue
                # A time is so long before or after the moment of asking.
                given = [f"@{(one - then).total_seconds():.6f}@" if isinstance(one, datetime) else one for one in given]
                self._names.append(name)
                asked.append(f"EXISTS ({cursor.mogrify(sql, given)})")
            cursor.execute("DEALLOCATE ALL")
            for number, (name, one) in enumerate(zip(self._names, asked, strict=True)):
                self._one[name] = f"sieve_{number}"
                self._prepare(cursor, f"sieve_{number}", one)
            self._prepare(cursor, "sieve", ", ".join([*asked, f"EXISTS (SELECT 1 FROM {COMMANDS})"]))  # noqa: S608

    @staticmethod
    def _prepare(cursor: Any, name: str, asked: str) -> None:
        timed = re.sub(r"'@(-?[0-9.]+)@'(?:::[a-z ]+)?", r"($1 + interval '\1 seconds')", asked)
        cursor.cursor.execute(f"PREPARE {name} (timestamptz) AS SELECT {timed}".encode())

    def has(self, name: str, now: datetime) -> bool:
        """Whether this one worker has something due."""
        if name in self.always:
            return True
        with connection.cursor() as cursor:
            cursor.cursor.execute(f"EXECUTE {self._one[name]} ('{now.isoformat()}')".encode())
            return bool(cursor.cursor.fetchone()[0])

    def ask(self, now: datetime) -> tuple[set[str], bool]:
        """(the workers that have something to do, whether a command waits to be sent)."""
        with connection.cursor() as cursor:
            cursor.cursor.execute(f"EXECUTE sieve ('{now.isoformat()}')".encode())
            *due, queued = cursor.cursor.fetchone()
        return self.always | {name for name, is_due in zip(self._names, due, strict=True) if is_due}, queued


class Workers:
    def __init__(self, clockwork: Clockwork, faults: Faults, process: Process, poll: Callable[[], None]) -> None:
        self.clockwork, self.faults, self.process, self._poll = clockwork, faults, process, poll
        self.dice = clockwork.dice("workers")
        self.sieve = Sieve()
        self.away_until_s = -1.0
        self._next = {name: self.dice.uniform(0, WORKERS[name].every_s) for name in NAMES}
        self._full = {name: self.dice.uniform(0, FULL_S) for name in NAMES}
        self._rung: set[str] = set()
        process.ring = self.ring
        clockwork.after(TICK_S, self._tick)

    @property
    def away(self) -> bool:
        return self.clockwork.now_s < self.away_until_s

    def _tick(self) -> None:
        self.clockwork.after(TICK_S if self.faults.on else CALM_TICK_S, self._tick)
        self.beat()

    def beat(self) -> None:
        """Every worker whose beat has come and that has something to do; and the gateways' polls."""
        due, queued = self.sieve.ask(self.clockwork.now())
        if queued:
            self._poll()
        if self.away:
            return
        now_s = self.clockwork.now_s
        for name in NAMES:
            full = self.faults.on and now_s >= self._full[name]
            if now_s < self._next[name] or not (name in due or full):
                continue
            if full:
                self._full[name] = now_s + FULL_S
            late_s = 60.0 if self.faults.strikes("worker_late", self.dice) else 0.0
            self._next[name] = now_s + WORKERS[name].every_s + late_s
            if self.faults.strikes("beat_twice", self.dice):
                self.clockwork.reach("beat_twice", name)
                self.work(name)
            self.work(name)

    def ring(self, bell: str) -> None:
        if self.process.redis_away or self.faults.strikes("bell_lost", self.dice):
            return
        for number in range(2 if self.faults.strikes("bell_twice", self.dice) else 1):
            for name in NAMES:
                if bell in WORKERS[name].bells and (number or name not in self._rung):
                    self._rung.add(name)
                    self.clockwork.after(self.dice.uniform(0.05, 1.0), partial(self._hear, name))

    def _hear(self, name: str) -> None:
        self._rung.discard(name)
        if not self.away and self.sieve.has(name, self.clockwork.now()):
            self.work(name)

    def work(self, name: str) -> None:
        """Once, as the task of voltaro/celery.py does it."""
        try:
            done, lived = self.process.run("worker", name, _work, name, self.clockwork.now())
        except self.process.away:
            return
        if lived and done:
            self.clockwork.tell(f"worker {name}: {done}")


def _work(name: str, now: datetime) -> int:
    with acting("worker", name):
        return int(WORKERS[name].function("work")(now, BATCH))
