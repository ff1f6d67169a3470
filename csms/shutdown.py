"""The end of a server process: its chargers are told (1012), what was acknowledged is written, then the server goes as it always did.

A charger that is told comes again at once, to another process or to the next one; one whose line just breaks may wait for minutes.
The server's own handlers of SIGTERM and SIGINT are called when we are done, or at once when somebody asks a second time.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)
WITHIN_S = 8.0
_before: dict[int, Any] = {}
_going = False


def arm(leave: Callable[[], Any]) -> None:
    """From now on `leave` (a coroutine function) is carried out before the server is told of a signal. Once per process."""
    if _before or threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def heard(number: int, frame: Any) -> None:
        global _going
        if _going or loop.is_closed():
            _pass_on(number, frame)
            return
        _going = True
        loop.call_soon_threadsafe(_begin, leave, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        _before[number] = signal.signal(number, heard)


def _begin(leave: Callable[[], Any], number: int) -> None:
    task = asyncio.ensure_future(_leave(leave, number))
    task.add_done_callback(lambda done: done.exception())


async def _leave(leave: Callable[[], Any], number: int) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            await leave()
    except TimeoutError:
        log.warning("not every charger could be told within %.0f s that this process ends", WITHIN_S)
    except Exception:
        log.exception("leaving failed")
    _pass_on(number, None)


def _pass_on(number: int, frame: Any) -> None:
    before = _before.get(number)
    if callable(before):
        before(number, frame)
    elif before is not signal.SIG_IGN:  # the default, or a handler that is not Python's
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
