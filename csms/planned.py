"""What is to happen on one line a little later: by key, the newest plan counts. Used by the server's loop only."""

import asyncio
from collections.abc import Callable


class Planned:
    """The plans of one line; none of them outlives it."""

    def __init__(self) -> None:
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def plan(self, key: int, wait_s: float | None, deed: Callable[[int], None]) -> None:
        """Do it after so long (None: not at all), instead of what was planned under this key."""
        if (old := self._timers.pop(key, None)) is not None:
            old.cancel()
        if wait_s is not None:
            self._timers[key] = asyncio.get_running_loop().call_later(wait_s, self._do, key, deed)

    def __contains__(self, key: int) -> bool:
        """Whether something is planned under this key."""
        return key in self._timers

    def forget(self) -> None:
        """The line is gone."""
        while self._timers:
            self._timers.popitem()[1].cancel()

    def _do(self, key: int, deed: Callable[[int], None]) -> None:
        self._timers.pop(key, None)
        deed(key)
