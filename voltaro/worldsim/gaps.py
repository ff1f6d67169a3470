"""The gaps in our code's work with the database: before each statement, before each commit, and after what is committed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db import connection


@contextmanager
def gaps(at: Callable[[str], None]) -> Iterator[None]:
    """Inside, `at(what)` is told of each gap of this thread's work. What it raises ends the work there, as a crash would.

    An open transaction is rolled back, as PostgreSQL does for a client that is gone; what was committed stays. Hooks that wait for
    a commit are the caller's to forget (`connection.run_on_commit.clear()`).
    """

    def statement(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        what = " ".join(str(sql).split())[:100]
        at(f"before {what}")
        done = execute(sql, params, many, context)
        if not connection.in_atomic_block:  # a statement of its own commits by itself
            at(f"after {what}")
        return done

    commit = commits(before=lambda: at("before the commit"), after=lambda: at("after the commit"))
    with connection.execute_wrapper(statement), commit:
        yield


@contextmanager
def commits(*, before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
    """Inside, each commit of this thread has these around it. When `before` raises, the transaction is rolled back."""
    commit = connection._commit

    def committing() -> None:
        try:
            before()
        except BaseException:
            connection._rollback()  # what PostgreSQL does for a client that is gone
            raise
        commit()
        after()

    with mock.patch.object(connection, "_commit", committing):
        yield
