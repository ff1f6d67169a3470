"""The only place that asks the time.

Under VOLTARO_ENV=test a running server's clock can be moved forward: the file named by VOLTARO_CLOCK_FILE holds
the seconds to add. In a test's own process `shift()` does the same. In dev and production there is neither.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_file: str | None = None
_seen: tuple[int, float] = (0, 0.0)
_shift_s = 0.0


_instead: tuple[Callable[[], datetime], Callable[[], float]] | None = None


def now() -> datetime:
    """The time, in UTC, timezone-aware."""
    if _instead is not None:
        return _instead[0]()
    at = datetime.now(UTC)
    moved_s = _moved_s()
    return at + timedelta(seconds=moved_s) if moved_s else at


def elapsed() -> float:
    """Seconds that only go forward, whatever becomes of the machine's time of day: for silences and waits. Moved in tests as `now` is."""
    if _instead is not None:
        return _instead[1]()
    return time.monotonic() + _moved_s()


@contextmanager
def instead(now: Callable[[], datetime], elapsed: Callable[[], float]) -> Iterator[None]:
    """Inside, this process's time is told by these (a simulated world). Raises RuntimeError outside VOLTARO_ENV=test."""
    from django.conf import settings

    if settings.VOLTARO_ENV != "test":
        raise RuntimeError("Another time is only for VOLTARO_ENV=test.")
    global _instead
    before, _instead = _instead, (now, elapsed)
    try:
        yield
    finally:
        _instead = before


def shift(seconds: float) -> None:
    """Move this process's clock forward by `seconds` (tests only); `shift(0)` puts it right again.

    Raises RuntimeError outside VOLTARO_ENV=test.
    """
    from django.conf import settings

    if settings.VOLTARO_ENV != "test":
        raise RuntimeError("The clock moves only under VOLTARO_ENV=test.")
    global _shift_s
    _shift_s = 0.0 if seconds == 0 else _shift_s + seconds


def _moved_s() -> float:
    global _file, _seen
    if _file is None:
        from django.conf import settings

        _file = getattr(settings, "CLOCK_FILE", "")
    if not _file:
        return _shift_s
    try:
        changed = os.stat(_file).st_mtime_ns
    except FileNotFoundError:
        return _shift_s
    if changed != _seen[0]:
        with open(_file) as f:
            _seen = (changed, float(f.read().strip() or 0))
    return _seen[1] + _shift_s
