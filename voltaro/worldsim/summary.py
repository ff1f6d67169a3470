"""What a log of runs holds, by commit: seeds, sessions, faults, violations."""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voltaro.worldsim.coverage import WANTED
from voltaro.worldsim.run import lines


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--log", required=True, metavar="FILE")
    parser.add_argument("--states", action="store_true", help="and how often each state was reached, as a table")


def handle(options: dict[str, Any], say: Callable[[str], None]) -> int:
    reached: Counter[str] = Counter()
    by_commit: dict[str, Counter[str]] = {}
    for one in lines(Path(options["log"])):
        total = by_commit.setdefault(one["commit"], Counter())
        total.update(seeds=1, sessions=one["sessions"], faults=one["faults"], violations=len(one["broken"]))
        reached.update(one["reached"])
    for commit, total in [*by_commit.items(), ("all", sum(by_commit.values(), Counter()))]:
        say(
            f"{commit:14} {total['seeds']:>7} seeds {total['sessions']:>8} sessions "
            f"{total['faults']:>8} faults {total['violations']:>5} violations"
        )
    if options["states"]:
        say("\n".join(["", "| state | reached |", "|---|---|", *(f"| {what} | {reached[name]} |" for name, what in WANTED.items())]))
    return 0
