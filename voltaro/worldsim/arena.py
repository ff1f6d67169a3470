"""A database of its own for every world that is lived, in the PostgreSQL of DATABASE_URL; never the configured one.

arena.enter()                  # this process becomes one that may play with time (VOLTARO_ENV=test)
with arena.database() as name:
    Simulation(7).live()
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection, connections

PREFIX = "worldsim_"
MOST = 64


def enter() -> None:
    """Go on as a process whose clock may be moved. Raises CommandError in production."""
    if settings.VOLTARO_ENV == "test":
        return
    if settings.VOLTARO_ENV == "prod":
        raise CommandError("Worlds are simulated under VOLTARO_ENV=dev or test, never in production.")
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "VOLTARO_ENV": "test"})  # noqa: S606 - the same again


@contextmanager
def database() -> Iterator[str]:
    """Inside, the default connection is to a private database `worldsim_<n>`, migrated, the first that nobody else is in.

    It stays when we leave, so that the next run need not migrate it again. Raises CommandError when all are taken.
    """
    given = dict(connection.settings_dict)
    with ExitStack() as stack:
        stack.callback(_back, given)
        options = {key: value for key, value in given["OPTIONS"].items() if key != "pool"}
        # What a crash of the server would lose here is nothing to anybody.
        options["options"] = "-c voltaro.allow_truncate=on -c synchronous_commit=off -c jit=off"
        connection.close()
        connection.close_pool()
        connection.settings_dict["OPTIONS"] = options
        name = f"{PREFIX}{_take(stack)}"
        connection.settings_dict["TEST"] = {**given["TEST"], "NAME": name, "MIGRATE": True}
        logging.disable(logging.ERROR)
        stack.callback(logging.disable, logging.NOTSET)
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False, keepdb=True)
        assert connection.settings_dict["NAME"] == name
        yield name


def _take(stack: ExitStack) -> int:
    """The first number nobody holds; ours until the stack unwinds (a lock on a line of its own to the server)."""
    holder = stack.enter_context(connection._nodb_cursor())
    for number in range(1, MOST + 1):
        holder.execute("SELECT pg_try_advisory_lock(%s, %s)", [0x0C99, number])
        if holder.fetchone()[0]:
            return number
    raise CommandError(f"All of {PREFIX}1 to {PREFIX}{MOST} are in use.")


def _back(given: dict[str, object]) -> None:
    connections["default"].close()
    connection.settings_dict.update(given)
    settings.DATABASES["default"]["NAME"] = given["NAME"]
