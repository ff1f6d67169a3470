"""Our own process, which can be killed: between any two statements, or just after a commit it never hears of."""

import random
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from django.db import OperationalError, connection

from csms import live, quirks
from voltaro import clock, jobs
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults


class Killed(BaseException):
    """The process is gone. No `except Exception` of ours may notice."""


class Process:
    """Runs our code with a virtual clock and seeded chance; kills it when the faults say so."""

    def __init__(self, clockwork: Clockwork, faults: Faults, ring: Callable[[str], None]) -> None:
        self.clockwork, self.faults = clockwork, faults
        self.dice = clockwork.dice("process")
        self._ring = ring
        self._running = False
        self.kills: list[Callable[[], None]] = []  # what else is lost with the process
        self.statements = 0

    @contextmanager
    def world(self) -> Iterator[None]:
        """Inside, time and chance are the world's; nothing leaves the process but to the database."""
        chance = self.clockwork.dice("chance")
        with ExitStack() as stack:
            for target, name, value in (
                (jobs, "_send", self._ring),
                (live, "send", lambda *a, **k: None),
                (live, "changed", lambda *a, **k: None),
                (live, "changed_charge_point", lambda *a, **k: None),
                (uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
                (secrets, "token_hex", lambda size=16: chance.randbytes(size).hex()),
                (secrets, "randbelow", lambda most: chance.randrange(most)),
            ):
                stack.enter_context(mock.patch.object(target, name, value))
            stack.enter_context(clock.instead(self.clockwork.now, self.clockwork.elapsed))
            random.seed(f"{self.clockwork.seed}/global")
            quirks.forget()
            stack.enter_context(connection.execute_wrapper(self._statement))
            stack.enter_context(mock.patch.object(connection, "_commit", self._committing(connection._commit)))
            yield

    def run(self, what: str, deed: Callable[..., Any], *given: Any) -> tuple[Any, bool]:
        """Do this as our process: (what it answered, whether the process lived). An error of the database is raised."""
        self._running = True
        try:
            return deed(*given), True
        except Killed:
            self.clockwork.reach("killed", what)
            for lost in self.kills:
                lost()
            return None, False
        finally:
            self._running = False

    # -- where it may die --------------------------------------------------------------------------------------
    def _statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if not self._running:
            return execute(sql, params, many, context)
        self.statements += 1
        if self.faults.strikes("killed", self.dice):
            raise Killed
        done = execute(sql, params, many, context)
        # A statement of its own commits by itself.
        if not connection.in_atomic_block and self.faults.strikes("commit_unknown", self.dice):
            self.clockwork.reach("commit_unknown")
            raise OperationalError("the connection was lost")
        return done

    def _committing(self, commit: Callable[[], None]) -> Callable[[], None]:
        def committing() -> None:
            if self._running and self.faults.strikes("killed", self.dice):
                connection._rollback()  # what PostgreSQL does for a client that is gone
                raise Killed
            commit()
            if self._running and self.faults.strikes("commit_unknown", self.dice):
                self.clockwork.reach("commit_unknown")
                raise OperationalError("the connection was lost")
            if self._running and self.faults.strikes("killed", self.dice):
                raise Killed

        return committing
