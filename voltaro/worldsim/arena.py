"""A database of its own for every world that is lived, in the PostgreSQL of DATABASE_URL; never the configured one.

arena.enter()                  # this process becomes one that may play with time (VOLTARO_ENV=test)
with arena.database() as name:
    Simulation(7).live()
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection

PREFIX = "worldsim_"
BASE = PREFIX + "base"
MOST = 64
LOCK = 0x0C99


def enter() -> None:
    """Go on as a process whose clock may be moved. Raises CommandError in production."""
    if settings.VOLTARO_ENV == "test":
        return
    if settings.VOLTARO_ENV == "prod":
        raise CommandError("Worlds are simulated under VOLTARO_ENV=dev or test, never in production.")
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "VOLTARO_ENV": "test"})  # noqa: S606 - the same again


def prepare() -> None:
    """Have the tables ready, as today's migrations make them, to be copied by `database`. Once a run: this takes a while."""
    with _on_its_own() as holder:
        holder.execute("SELECT pg_advisory_lock(%s, 0)", [LOCK])
        connection.settings_dict["TEST"] = {**connection.settings_dict["TEST"], "NAME": BASE, "MIGRATE": True}
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False, keepdb=True)


@contextmanager
def database() -> Iterator[str]:
    """Inside, the default connection is to a private database `worldsim_<n>`, the first that nobody else is in.

    Call `prepare` before. Raises CommandError when all are taken.
    """
    with _on_its_own() as holder:
        name = f"{PREFIX}{_take(holder)}"
        holder.execute("SELECT pg_advisory_lock(%s, 0)", [LOCK])
        connection.settings_dict["TEST"] = {**connection.settings_dict["TEST"], "NAME": name, "TEMPLATE": BASE}
        holder.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # of a run that was cut off
        connection.creation._create_test_db(0, True, False)
        holder.execute("SELECT pg_advisory_unlock(%s, 0)", [LOCK])
        connection.settings_dict["NAME"] = name
        yield name
        connection.close()
        connection.creation._destroy_test_db(name, 0)


@contextmanager
def _on_its_own() -> Iterator[Any]:
    """The settings of the connection may be changed inside; a line to the server that holds our locks until the end."""
    given = dict(connection.settings_dict)
    options = {key: value for key, value in given["OPTIONS"].items() if key != "pool"}
    # What a crash of the server would lose here is nothing to anybody.
    options["options"] = "-c voltaro.allow_truncate=on -c synchronous_commit=off -c jit=off"
    connection.close()
    connection.close_pool()
    connection.settings_dict["OPTIONS"] = options
    logging.disable(logging.ERROR)
    try:
        with connection._nodb_cursor() as holder:
            yield holder
    finally:
        logging.disable(logging.NOTSET)
        connection.close()
        connection.settings_dict.update(given)
        settings.DATABASES["default"]["NAME"] = given["NAME"]


def _take(holder: Any) -> int:
    """The first number nobody holds; ours until the line ends."""
    for number in range(1, MOST + 1):
        holder.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK, number])
        if holder.fetchone()[0]:
            return number
    raise CommandError(f"All of {PREFIX}1 to {PREFIX}{MOST} are in use.")
