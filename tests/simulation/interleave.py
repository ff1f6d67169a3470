"""A seeded explorer of races: our own deeds side by side on a real PostgreSQL, one statement of one of them at a time.

Each deed has a thread and a database connection of its own. One baton goes round: whoever holds it runs to the gap before its next
statement (or commit, or call out) and gives it back; seeded dice say who is next. A deed whose statement waits for somebody's lock
is found with pg_blocking_pids() and parked until the lock is free. One seed is one order of statements.

    explorer = Explorer(seed)
    explorer.run(bill=lambda: bills.bill(pk), again=lambda: bills.bill(pk))
    explorer.answers, explorer.trace, explorer.retries

A deadlock or a lock timeout is tried again, as production does (a held frame, a worker's next beat, Razorpay's next delivery).
"""

import random
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import OperationalError, connection, connections
from psycopg.errors import DeadlockDetected, LockNotAvailable

from accounts import actor as acting_actor

# After so long without a word, PostgreSQL is asked whether the statement waits for a lock.
LOOK_AFTER_S = 0.003
# So long without anybody moving: the explorer itself, or a lock nobody will ever give back.
STUCK_S = 20.0
ATTEMPTS = 8
# PostgreSQL looks for a circle of locks after so long; its own default would cost every deadlock a second.
DEADLOCK_MS = 40


class Stuck(Exception):
    """Nobody can go on, and PostgreSQL ends nobody's wait."""


@dataclass
class Actor:
    """One deed on its way. It is new, waiting (for the baton), running, parked (at somebody's lock) or done."""

    name: str
    deed: Callable[[], Any]
    state: str = "new"
    pid: int = 0
    answer: Any = None
    error: BaseException | None = None
    retries: int = 0


@dataclass
class Explorer:
    seed: object
    trace: list[str] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    circles: int = 0  # deadlocks, those too that our own code took in its stride

    def __post_init__(self) -> None:
        self.dice = random.Random(str(self.seed))
        self._change = threading.Condition()
        self._actors: list[Actor] = []
        self._here = threading.local()

    # -- the scheduler (the test's own thread) ------------------------------------------------------------------
    def run(self, **deeds: Callable[[], Any]) -> "Explorer":
        """Drive the deeds to their ends. Raises what a deed raised (a database's "try again" excepted), or Stuck."""
        self._actors = [Actor(name, deed) for name, deed in deeds.items()]
        threads = [threading.Thread(target=self._live, args=(one,), name=one.name, daemon=True) for one in self._actors]
        for thread in threads:
            thread.start()
        try:
            self._drive()
        finally:
            with self._change:  # whatever went wrong, nobody is left waiting for the baton
                for one in self._actors:
                    if one.state != "done":
                        one.state = "free"
                self._change.notify_all()
            for thread in threads:
                thread.join(STUCK_S)
        self.retries = sum(one.retries for one in self._actors)
        self.answers = {one.name: one.answer for one in self._actors}
        for one in self._actors:
            if one.error is not None:
                one.error.add_note(f"{one.name}, seed {self.seed}:\n" + "\n".join(self.trace))
                raise one.error
        return self

    def at(self, name: str, what: str) -> int:
        """The place in the trace where `name` did what begins with `what`; -1 when it never did."""
        line = f"{name}: {what}"
        return next((place for place, one in enumerate(self.trace) if one.startswith(line)), -1)

    def _drive(self) -> None:
        while True:
            self._settle()
            ready = [one for one in self._actors if one.state == "waiting"]
            if not ready:
                return
            chosen = self.dice.choice(ready)
            with self._change:
                chosen.state = "running"
                self._change.notify_all()

    def _settle(self) -> None:
        """Wait until nobody runs, and everybody parked is truly held by somebody's lock; or until somebody is there to choose."""
        waited_s = 0.0
        while True:
            with self._change:
                busy = [one for one in self._actors if one.state in ("new", "running")]
                parked = [one for one in self._actors if one.state == "parked"]
                if busy:
                    self._change.wait(LOOK_AFTER_S)
                    busy = [one for one in self._actors if one.state in ("new", "running")]
            if not busy and not parked:
                return
            held = self._held([one.pid for one in (*busy, *parked) if one.pid])
            with self._change:
                for one in busy:
                    if one.state == "running" and one.pid in held:
                        one.state = "parked"
                moving = [one for one in self._actors if one.state in ("new", "running")]
                moving += [one for one in self._actors if one.state == "parked" and one.pid not in held]
                # Everybody at a lock: PostgreSQL will end one of them.
                if not moving and any(one.state == "waiting" for one in self._actors):
                    return
                if all(one.state == "done" for one in self._actors):
                    return
                self._change.wait(LOOK_AFTER_S)
            waited_s += LOOK_AFTER_S
            if waited_s > STUCK_S:
                raise Stuck(f"seed {self.seed}: {[(one.name, one.state) for one in self._actors]}\n" + "\n".join(self.trace))

    def _held(self, pids: list[int]) -> set[int]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pid FROM unnest(%s::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0", [pids])
            return {row[0] for row in cursor.fetchall()}

    # -- a deed (a thread of its own) ---------------------------------------------------------------------------
    def _live(self, one: Actor) -> None:
        self._here.actor = one
        try:
            mine = connections["default"]
            mine.ensure_connection()
            one.pid = mine.connection.info.backend_pid
            with mine.cursor() as cursor:
                cursor.execute("SELECT set_config('deadlock_timeout', %s, false)", [f"{DEADLOCK_MS}ms"])
            with mine.execute_wrapper(partial(self._statement, one)), self._commits_told(one, mine), acting_actor.acting("test", one.name):
                self._give_back(one)
                one.answer = self._patiently(one)
        except BaseException as error:
            one.error = error
        finally:
            with connections["default"].cursor() as cursor:
                cursor.execute("RESET deadlock_timeout")
            connections["default"].close()
            with self._change:
                one.state = "done"
                self._change.notify_all()

    def _patiently(self, one: Actor) -> Any:
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                return one.deed()
            except OperationalError as error:
                if not left or not isinstance(error.__cause__, (DeadlockDetected, LockNotAvailable)):
                    raise
                one.retries += 1
                self.trace.append(f"{one.name}: TRY AGAIN ({type(error.__cause__).__name__})")
        raise AssertionError("unreachable")

    def _give_back(self, one: Actor) -> None:
        """Give the baton back and wait until it is ours again."""
        with self._change:
            if one.state == "free":
                return
            one.state = "waiting"
            self._change.notify_all()
            self._change.wait_for(lambda: one.state in ("running", "free"))

    def _took(self, one: Actor) -> None:
        """A statement is over. Who was parked at a lock meanwhile has lost the baton."""
        with self._change:
            lost = one.state == "parked"
        if lost:
            self._give_back(one)

    def _statement(self, one: Actor, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        self._give_back(one)
        try:
            return execute(sql, params, many, context)
        except OperationalError as error:
            self.circles += isinstance(error.__cause__, DeadlockDetected)
            raise
        finally:
            self._took(one)
            self.trace.append(f"{one.name}: {' '.join(str(sql).split())[:110]}")

    @contextmanager
    def _commits_told(self, one: Actor, mine: Any) -> Any:
        commit = mine._commit

        def committing() -> None:
            self._give_back(one)
            try:
                commit()
            finally:
                self._took(one)
                self.trace.append(f"{one.name}: COMMIT")

        mine._commit = committing
        try:
            yield
        finally:
            mine._commit = commit

    def gap(self, what: str) -> None:
        """A gap that is no statement of ours: a call to the outside begins, or its answer has come. Nothing outside a deed."""
        one: Actor | None = getattr(self._here, "actor", None)
        if one is not None:
            self._give_back(one)
            self.trace.append(f"{one.name}: {what}")
