"""So many at once, and so many a second after that: what one charger may cost. Pure; the time comes in by the door."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

# Frames within an hour that are no OCPP, and how many of them the log keeps.
NOISE, NOISE_KEPT, NOISE_WINDOW_S = 50, 10, 3600
# Heartbeats and statuses at once, and how many a second after that.
PRESENCE, PRESENCE_PER_S = 60, 0.2


@dataclass
class Budget:
    """A bucket of `burst` that fills again by `per_s` a second."""

    burst: float
    per_s: float
    left: float = -1.0
    at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        """Take one, if there is one."""
        passed_s = max(0.0, now_s - self.at_s)  # a test's clock that is put right again is no debt
        self.left = min(self.burst, self.left + passed_s * self.per_s) if self.left >= 0 else self.burst
        self.at_s = now_s
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class Budgets:
    """What one socket has left, and what of its statuses is held back: by connector the last frame, and how many there were."""

    noise: Budget = field(default_factory=lambda: Budget(NOISE, NOISE / NOISE_WINDOW_S))
    kept: Budget = field(default_factory=lambda: Budget(NOISE_KEPT, NOISE_KEPT / NOISE_WINDOW_S))
    presence: Budget = field(default_factory=lambda: Budget(PRESENCE, PRESENCE_PER_S))
    last_noise: tuple[int, float] = (0, 0.0)
    not_kept: int = 0
    ended: bool = False
    held: dict[Any, tuple[bytes, int]] = field(default_factory=dict)


class Counts:
    """How often each key was counted within `window_s` of its first time; never more than `keys` of them are remembered."""

    def __init__(self, window_s: float, keys: int = 50_000) -> None:
        self.window_s, self.keys = window_s, keys
        self._found: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def add(self, key: str, now_s: float) -> int:
        """Count the key once more; how often that is."""
        count, until_s = self._found.pop(key, (0, 0.0))
        if until_s <= now_s:
            count, until_s = 0, now_s + self.window_s
        self._found[key] = (count + 1, until_s)
        if len(self._found) > self.keys:
            self._found.popitem(last=False)
        return count + 1
