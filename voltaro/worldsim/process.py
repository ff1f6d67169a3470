"""Our own processes, which can be killed: between any two statements, or just after a commit they never hear of.

There are several: two gateways that hold the chargers' sockets, the web that hears webhooks, the workers. Code of ours runs inside
`run`; a kill takes that one process with all it remembers. The database and Redis may be away for all of them.
"""

import logging
import random
import secrets
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.db import IntegrityError, InterfaceError, OperationalError, connection

from accounts import audit
from csms import live, quirks, tags
from csms.models import Connector
from voltaro import clock, jobs
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.gaps import commits

DEADLOCK = "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$"


class Killed(BaseException):
    """The process is gone. No `except Exception` of ours may notice."""


class Process:
    """Runs our code with a virtual clock and seeded chance; kills it when the faults say so."""

    def __init__(self, clockwork: Clockwork, faults: Faults) -> None:
        self.clockwork, self.faults = clockwork, faults
        self.dice = clockwork.dice("process")
        self.ring: Callable[[str], None] = lambda bell: None
        self.wake: Callable[[str, dict[str, Any]], None] = lambda channel, message: None
        self.deaths: dict[str, Callable[[], None]] = {}  # what is lost with a process, by its name
        self.heard: Callable[[str, str, str], None] = lambda action, trigger, what: None  # audit entries, as they are made
        self.mistakes: list[str] = []
        self.log_lines: list[str] = []
        self.database_away_until_s = self.redis_away_until_s = -1.0
        # Who is running, innermost last: (process, deed). ("", "") while one of them waits and the world goes on.
        self._where: list[tuple[str, str]] = [("", "")]
        self.statements: Counter[str] = Counter()

    away = (OperationalError, InterfaceError)  # what our code raises when the database is

    @property
    def what(self) -> str:
        return self._where[-1][1]

    @property
    def standing(self) -> list[tuple[str, str]]:
        """The deeds that have begun and not ended, each as (process, deed)."""
        return [one for one in self._where if one[0]]

    @property
    def database_away(self) -> bool:
        return self.clockwork.now_s < self.database_away_until_s

    @property
    def redis_away(self) -> bool:
        return self.clockwork.now_s < self.redis_away_until_s

    @contextmanager
    def world(self) -> Iterator[None]:
        """Inside, time and chance are the world's; nothing leaves the process but to the database."""
        chance = self.clockwork.dice("chance")
        before = caches["default"], random.getstate()
        key = Connector._meta.get_field("id")
        with ExitStack() as stack:
            caches["default"] = _Redis(self)
            stack.callback(self._put_back, *before)
            for target, name, value in (
                (jobs, "_send", lambda bell: self.ring(bell)),
                (live, "send", lambda channel, message: self.wake(channel, message)),
                (live, "changed", lambda *a, **k: None),
                (live, "changed_charge_point", lambda *a, **k: None),
                (audit, "record", self._audited(audit.record)),
                (uuid, "uuid4", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
                (key, "_get_default", lambda: uuid.UUID(int=chance.getrandbits(128), version=4)),
                (secrets, "token_hex", lambda size=16: chance.randbytes(size).hex()),
                (secrets, "randbelow", lambda most: chance.randrange(most)),
                (quirks, "REMEMBERED_S", float("inf")),
                (quirks, "KINDS_S", float("inf")),
            ):
                stack.enter_context(mock.patch.object(target, name, value))
            stack.enter_context(clock.instead(self.clockwork.now, self.clockwork.elapsed))
            random.seed(f"{self.clockwork.seed}/global")
            quirks.forget()
            tags.forget()
            stack.enter_context(connection.execute_wrapper(self._statement))
            stack.enter_context(commits(before=self._before_commit, after=self._after_commit))
            stack.enter_context(self._listening())
            yield

    @staticmethod
    def _put_back(cache: BaseCache, dice: Any) -> None:
        caches["default"] = cache
        random.setstate(dice)

    def run(self, where: str, what: str, deed: Callable[..., Any], *given: Any) -> tuple[Any, bool]:
        """Do this as that process: (what it answered, whether the process lived). An error of the database is raised."""
        self._where.append((where, what))
        try:
            return deed(*given), True
        except Killed:
            connection.run_on_commit.clear()
            self.clockwork.reach("killed", f"{where}: {what}")
        finally:
            self._where.pop()
        if where in self.deaths:
            self.deaths[where]()
        return None, False

    def wait(self, seconds: float) -> None:
        """The running deed waits so long (for an answer, or because its machine sleeps), and the rest of the world goes on."""
        assert not connection.in_atomic_block
        self._where.append(("", ""))
        try:
            self.clockwork.run_until(self.clockwork.now_s + seconds)
        finally:
            self._where.pop()

    @property
    def waits(self) -> int:
        """How many deeds wait in each other's midst just now."""
        return self._where.count(("", "")) - 1

    def may_die(self, fault: str, reached: str) -> None:
        """A point where the running process may be killed."""
        if self._where[-1][0] and self.faults.strikes(fault, self.dice):
            self.clockwork.reach(reached)
            raise Killed

    # -- where it may die --------------------------------------------------------------------------------------
    def _statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        where, what = self._where[-1]
        if not where:
            return execute(sql, params, many, context)
        self.statements[what.rpartition(" ")[2]] += 1
        if self.database_away:
            raise OperationalError("the database is away")
        if self.faults.strikes("killed", self.dice):
            raise Killed
        if connection.in_atomic_block and self.faults.strikes("deadlock", self.dice):
            self.clockwork.reach("deadlock", what)
            return execute(DEADLOCK, None, False, context)
        try:
            done = execute(sql, params, many, context)
        except IntegrityError:
            self.clockwork.reach("integrity_error", what)
            raise
        # A statement of its own commits by itself.
        if not connection.in_atomic_block and self.faults.strikes("commit_unknown", self.dice):
            self._unknown(what)
        return done

    def _unknown(self, what: str) -> None:
        self.clockwork.reach("commit_unknown", what)
        if what == "bills":
            self.clockwork.reach("commit_unknown_on_bill")
        raise OperationalError("the connection was lost")

    def _before_commit(self) -> None:
        if not self._where[-1][0]:
            return
        if self.database_away:
            raise OperationalError("the database is away")
        if self.faults.strikes("killed", self.dice):
            raise Killed

    def _after_commit(self) -> None:
        where, what = self._where[-1]
        if not where:
            return
        if self.faults.strikes("commit_unknown", self.dice):
            self._unknown(what)
        if self.faults.strikes("killed", self.dice):
            raise Killed

    # -- what is seen and heard of it ----------------------------------------------------------------------------
    def _audited(self, record: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(action: str, *given: Any, **more: Any) -> Any:
            self.heard(action, str(more.get("trigger") or ""), self.what)
            return record(action, *given, **more)

        return recorded

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Every line of the log is read: an exception that is no plan of ours is a mistake of our code's."""
        listener, root = _Listener(self), logging.getLogger()
        before, level, disabled = root.handlers[:], root.level, logging.root.manager.disable
        root.handlers[:] = [listener]
        root.setLevel(logging.INFO)
        logging.disable(logging.NOTSET)
        try:
            yield
        finally:
            root.handlers[:] = before
            root.setLevel(level)
            logging.disable(disabled)


class _Listener(logging.Handler):
    def __init__(self, process: Process) -> None:
        super().__init__(logging.INFO)
        self.process = process

    def emit(self, record: logging.LogRecord) -> None:
        self.process.log_lines.append(record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not _planned(error):
            said = f"{record.name}: {record.getMessage()}: {type(error).__name__}: {error}"
            self.process.mistakes.append(said)
            self.process.clockwork.tell(f"! {said}")


def _planned(error: BaseException) -> bool:
    """Whether this is what a database does that is away, or ends a transaction."""
    return isinstance(error, OperationalError)


class _Redis(BaseCache):
    """The cache, remembered by the world; an error while Redis is away."""

    def __init__(self, process: Process) -> None:
        super().__init__({})
        self.process = process
        self.kept: dict[str, Any] = {}

    def _there(self) -> None:
        if self.process.redis_away:
            raise ConnectionError("Redis is away")

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        self._there()
        return self.kept.get(key, default)

    def set(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> None:
        self._there()
        self.kept[key] = value

    def add(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> bool:
        self._there()
        return self.kept.setdefault(key, value) is value

    def delete(self, key: str, version: Any = None) -> bool:
        self._there()
        return self.kept.pop(key, None) is not None
