"""One bounded pool of threads for the chargers' database work.

Channels' own helper puts every charger of a process on one thread; this pool lets them work side by side, each thread
keeping its database connection. `lock_timeout` and `statement_timeout` bound what one charger can make another wait.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

_pool = ThreadPoolExecutor(max_workers=settings.CHARGER_THREADS, thread_name_prefix="charger")


async def run(function: Callable[..., Any], *args: Any) -> Any:
    """Run `function` in the pool. Raises what it raises; after a database failure the thread's connection is made anew."""
    return await asyncio.get_running_loop().run_in_executor(_pool, _guarded, function, args)


def _guarded(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        _bound_waiting()
        return function(*args)
    except (OperationalError, InterfaceError):
        connection.close()
        raise


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
