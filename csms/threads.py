"""One bounded pool of threads for the chargers' database work.

Channels' own helper puts every charger of a process on one thread; this pool lets them work side by side, each thread
keeping its database connection. `lock_timeout` and `statement_timeout` bound what one charger can make another wait.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled

_pool = ThreadPoolExecutor(max_workers=settings.CHARGER_THREADS, thread_name_prefix="charger")
# How long one failure tells that the database is away; the poll of commands (csms/gateway.py) asks it every 2 s.
TROUBLE_S = 20.0
_failed_at: float | None = None


def in_trouble() -> bool:
    """Whether the database was away when it was last asked. Asking it then may take as long as the pool has patience."""
    return _failed_at is not None and time.monotonic() - _failed_at < TROUBLE_S


# However many knock: a quarter of the threads is for those who are in.
_door = asyncio.Semaphore(max(1, settings.CHARGER_THREADS * 3 // 4))


async def run(function: Callable[..., Any], *args: Any) -> Any:
    """Run `function` in the pool. Raises what it raises; after a database failure the thread's connection is made anew."""
    return await asyncio.get_running_loop().run_in_executor(_pool, _guarded, function, args)


async def run_at_the_door(function: Callable[..., Any], *args: Any) -> Any:
    """The same for somebody who is not in yet."""
    async with _door:
        return await run(function, *args)


def _guarded(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    global _failed_at
    try:
        _bound_waiting()
        done = function(*args)
    except (OperationalError, InterfaceError) as error:
        connection.close()
        if not isinstance(error.__cause__, (LockNotAvailable, QueryCanceled, DeadlockDetected)):  # it was there, and busy
            _failed_at = time.monotonic()
        raise
    _failed_at = None
    return done


def _bound_waiting() -> None:
    """Once per connection: SET survives transactions, and a pooled connection keeps it."""
    connection.ensure_connection()
    raw = connection.connection
    if not getattr(raw, "voltaro_bounded", False):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
                [f"{settings.CHARGER_LOCK_TIMEOUT_MS}ms", f"{settings.CHARGER_STATEMENT_TIMEOUT_MS}ms"],
            )
        raw.voltaro_bounded = True
