"""Make a broken world smaller, and smaller again, as long as it still breaks the same promise."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from voltaro.worldsim import arena
from voltaro.worldsim.faults import CATALOGUE
from voltaro.worldsim.simulation import Simulation, Verdict


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, required=True)


def handle(options: dict[str, Any], say: Callable[[str], None]) -> int:
    arena.enter()
    arena.prepare()
    with arena.database():
        found = Simulation(options["seed"]).live()
        if not found.broken:
            say(f"seed {options['seed']} is not broken")
            return 0
        kept = frozenset(CATALOGUE)
        for name in CATALOGUE:
            tried = Simulation(options["seed"], kept - {name}).live()
            if _same(found, tried):
                kept, found = kept - {name}, tried
                say(f"breaks without {name} too")
    say("\n".join([f"with {' '.join(sorted(kept)) or 'no fault'}:", *found.broken, *found.trace[-40:]]))
    return 1


def _same(one: Verdict, other: Verdict) -> bool:
    return bool(other.broken) and other.broken[0].split()[0] == one.broken[0].split()[0]
