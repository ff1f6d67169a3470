"""Make a broken world smaller, and smaller again, as long as it still breaks the same promise; write what is left as a tape."""

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from voltaro.worldsim import arena, run
from voltaro.worldsim.simulation import BUSY_S, Plan, Simulation, Verdict
from voltaro.worldsim.tape import Tape

RIDERS = (1, 2, 4, 8, 16)
Firing = tuple[str, int]


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--tape", metavar="FILE", help="where to write it (default worldsim-SEED.tape)")
    parser.add_argument("--worlds", type=int, default=200, metavar="N", help="live at most so many (default 200)")


def handle(options: dict[str, Any], say: Callable[[str], None]) -> int:
    arena.enter()
    arena.prepare()
    seed = options["seed"]
    with arena.database():
        found = Simulation(seed).live()
        if not found.broken:
            say(f"seed {seed} is not broken")
            return 0
        say(f"seed {seed} breaks {found.broken[0]}")
        smallest, found = Shrinking(seed, found, options["worlds"], say).go()
    path = Path(options["tape"] or f"worldsim-{seed}.tape")
    replace(smallest, breaks=found.broken[0]).write(path)
    plan = smallest.plan
    say(f"{plan.chargers or 'all'} chargers, {plan.riders or 'all'} riders, {plan.busy_s:.0f} s, {len(smallest.firings or ())} faults:")
    say("\n".join(f"  {name} {number}" for name, number in smallest.firings or ()))
    say(run.failure(found))
    say(f"manage.py worldsim replay --tape {path}")
    return 1


class Shrinking:
    """`smallest` is the smallest world so far that breaks the same promise (the word that a finding begins with)."""

    def __init__(self, seed: int, found: Verdict, worlds: int, say: Callable[[str], None]) -> None:
        self.smallest, self.found, self.left, self.say = Tape(seed), found, worlds, say
        self.promise = found.broken[0].split()[0]

    def go(self) -> tuple[Tape, Verdict]:
        for plan in self._plans():
            self._try(replace(self.smallest, plan=plan))
        # From here on by its firings: the same world, told by what struck rather than by dice.
        if self._try(replace(self.smallest, firings=tuple(self.found.struck))):
            self._classes()
            self._single()
        return self.smallest, self.found

    def _plans(self) -> Iterator[Plan]:
        """Fewer chargers, fewer riders, an earlier calm: the smallest first."""
        for chargers in (1, 2, 3, 4):
            yield replace(self.smallest.plan, chargers=chargers)
            if self.smallest.plan.chargers:
                break
        for riders in RIDERS:
            yield replace(self.smallest.plan, riders=riders)
            if self.smallest.plan.riders:
                break
        for part in (8, 4, 2):
            yield replace(self.smallest.plan, busy_s=BUSY_S / part)
            if self.smallest.plan.busy_s < BUSY_S:
                break

    def _classes(self) -> None:
        """Whole kinds of faults off, the most frequent first."""
        kinds = sorted({name for name, _ in self._firings}, key=lambda kind: -sum(name == kind for name, _ in self._firings))
        for kind in kinds:
            self._try_firings([one for one in self._firings if one[0] != kind])

    def _single(self) -> None:
        """Parts of what is left, ever smaller ones, down to single firings (delta debugging)."""
        size = max(1, len(self._firings) // 2)
        while self._firings:
            for begin in range(0, len(self._firings), size):
                self._try_firings([*self._firings[:begin], *self._firings[begin + size :]])
            if size == 1 or self.left <= 0:
                return
            size = max(1, size // 2)

    @property
    def _firings(self) -> list[Firing]:
        return list(self.smallest.firings or ())

    def _try_firings(self, firings: list[Firing]) -> None:
        if len(firings) < len(self._firings):
            self._try(replace(self.smallest, firings=tuple(firings)))

    def _try(self, tape: Tape) -> bool:
        if self.left <= 0:
            return False
        self.left -= 1
        lived = tape.live()
        if not any(one.split()[0] == self.promise for one in lived.broken):
            return False
        self.smallest, self.found = tape, lived
        plan, struck = tape.plan, len(tape.firings if tape.firings is not None else lived.struck)
        self.say(f"breaks with {plan.chargers or 'all'} chargers, {plan.riders or 'all'} riders, {plan.busy_s:.0f} s, {struck} faults")
        return True
