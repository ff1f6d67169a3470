"""Live one world again and print its trace and the hash of it: the same seed always gives the same."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from voltaro.worldsim import arena
from voltaro.worldsim.simulation import Simulation


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, required=True)


def handle(options: dict[str, Any], say: Callable[[str], None]) -> int:
    arena.enter()
    arena.prepare()
    with arena.database():
        verdict = Simulation(options["seed"]).live()
    say("\n".join([*verdict.trace, *(f"BROKEN {one}" for one in verdict.broken)]))
    say(f"seed {verdict.seed}: {verdict.sessions} sessions, {verdict.faults} faults, hash {verdict.digest}")
    return 1 if verdict.broken else 0
