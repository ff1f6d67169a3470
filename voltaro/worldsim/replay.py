"""Live one world again and print its trace and the hash of it: the same seed always gives the same."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voltaro.worldsim import arena, tape
from voltaro.worldsim.simulation import Simulation


def arguments(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int)
    which.add_argument("--tape", metavar="FILE", help="what `shrink` wrote")
    parser.add_argument("--until", type=float, metavar="S", help="stop after so many seconds of the world's time")
    parser.add_argument("--hash", action="store_true", help="the last line only")


def handle(options: dict[str, Any], say: Callable[[str], None]) -> int:
    arena.enter()
    arena.prepare()
    with arena.database():
        if options["tape"]:
            verdict = tape.read(Path(options["tape"])).live()
        else:
            verdict = Simulation(options["seed"], until_s=options["until"]).live()
    if not options["hash"]:
        say("\n".join(verdict.trace))
    say("\n".join([*(f"BROKEN {one}" for one in verdict.broken), f"seed {verdict.seed}: {verdict.sessions} sessions, "
                   f"{verdict.faults} faults, hash {verdict.digest}"]))  # fmt: skip
    return 1 if verdict.broken else 0
