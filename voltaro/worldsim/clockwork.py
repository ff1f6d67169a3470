"""Time that is not real: events in their order, and what happened, written down."""

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)


class Clockwork:
    """`after(seconds, deed)` plans, `run_until` lives. `dice(name)` are independent: one more throw here changes nothing there.

    `run_until` may be called by a deed: a process of ours that waits for an answer, while the rest of the world goes on.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.end_s = float("inf")  # nothing happens after this (`replay --until`)
        self.reached: Counter[str] = Counter()  # interesting states and faults, by name
        self.trace: list[str] = []
        self._hash = hashlib.sha256()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def dice(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")  # noqa: S311 - a world's dice, not a secret

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.now_s)

    def elapsed(self) -> float:
        return self.now_s

    def after(self, seconds: float, deed: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_s + max(0.0, seconds), self._count, deed))

    def run_until(self, end_s: float) -> None:
        end_s = min(end_s, self.end_s)
        while self._heap and self._heap[0][0] <= end_s:
            at_s, _, deed = heapq.heappop(self._heap)
            self.now_s = max(self.now_s, at_s)
            deed()
        self.now_s = max(self.now_s, end_s)

    def leap(self, seconds: float) -> None:
        """So much time passes, and nobody does anything: what was planned is as far away as before."""
        self.now_s += seconds
        self._heap = [(at_s + seconds, number, deed) for at_s, number, deed in self._heap]

    def tell(self, what: str) -> None:
        """One line of the trace. It must be the same whenever the seed is lived again."""
        line = f"{self.now_s:10.3f} {what}"
        self.trace.append(line)
        self._hash.update(line.encode() + b"\n")

    def reach(self, what: str, detail: str = "") -> None:
        """Something worth counting was reached."""
        self.reached[what] += 1
        self.tell(f"* {what}{f' {detail}' if detail else ''}")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]
