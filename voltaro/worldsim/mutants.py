"""Live worlds with a planted bug in our own code, until one of them is found broken: a line each, killed or survived.

A bug that no seed up to the last one shows says that the simulation looks away: exit code 1. The table is docs/mutants.md.
"""

import inspect
import re
import sys
import textwrap
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

from django.conf import settings

from voltaro.worldsim import arena, pool, run
from voltaro.worldsim.planted import MUTANTS, SIMULATION, Mutant
from voltaro.worldsim.simulation import Simulation

SEEDS = "1..200"
OURS = ("accounts", "billing", "csms", "franchise", "voltaro")
DOCUMENT = Path("docs/mutants.md")
BY_NAME = {one.name: one for one in MUTANTS}
_sound: dict[tuple[int, str], bool] = {}


class DoesNotFit(Exception):
    """The code has changed under a planted bug: the row of planted.py is to be mended."""


# -- planting ----------------------------------------------------------------------------------------------------------
@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Inside, the bug is in our code. Raises DoesNotFit when its text no longer stands there exactly once."""
    with ExitStack() as stack:
        stack.callback(_forget)
        for where, edits in _by_function(mutant).items():
            holder, name, found = _find(where)
            bug = _edited(where, found, edits)
            for one, alias in [(holder, name), *_imported(found, holder)]:
                stack.enter_context(mock.patch.object(one, alias, bug))
        _forget()
        yield


def _forget() -> None:
    """Functions that were found by their names once, and are remembered."""
    for name, one in list(sys.modules.items()):
        if name.partition(".")[0] in OURS:
            for value in list(vars(one).values()):
                if hasattr(value, "cache_clear") and getattr(value, "__module__", "") == name:
                    value.cache_clear()


def _imported(found: Any, home: Any) -> list[tuple[Any, str]]:
    """Where else in our code it stands under a name: `from ... import`."""
    ours = [one for name, one in sys.modules.items() if name.partition(".")[0] in OURS and one is not home]
    return [(one, name) for one in ours for name, value in list(vars(one).items()) if value is found]


def _by_function(mutant: Mutant) -> dict[str, list[tuple[str, str]]]:
    edits: dict[str, list[tuple[str, str]]] = {}
    for where, stands, instead in mutant.edits:
        edits.setdefault(where, []).append((stands, instead))
    return edits


def _find(where: str) -> tuple[Any, str, Any]:
    """(the module or class, the name in it, what it is now)"""
    holder, _, name = where.rpartition(".")
    path, inside = holder, []
    while True:
        try:
            at = import_module(path)
            break
        except ModuleNotFoundError:
            path, _, last = path.rpartition(".")
            inside.insert(0, last)
    for one in inside:
        at = getattr(at, one)
    return at, name, inspect.getattr_static(at, name)


def _edited(where: str, found: Any, edits: list[tuple[str, str]]) -> Any:
    """The same function from its edited source, living in the same module: everything it calls is looked up as before."""
    function: FunctionType = inspect.unwrap(found.fget if isinstance(found, property) else found)
    source = textwrap.dedent(inspect.getsource(function))
    for stands, instead in edits:
        if source.count(stands) != 1:
            raise DoesNotFit(f"{where}: {stands!r} stands there {source.count(stands)} times, not once")
        source = source.replace(stands, instead)
    made: dict[str, Any] = {}
    exec(compile(source, f"<planted in {where}>", "exec"), function.__globals__, made)  # noqa: S102 - our own source
    return made[function.__name__]


# -- killing -----------------------------------------------------------------------------------------------------------
def killed(mutant: Mutant, seeds: range, sound: dict[tuple[int, str], bool]) -> tuple[int, str] | None:
    """(the first seed whose world breaks by this bug, what it breaks); None when it survives them all.

    Only the promises that it is said to break count, in a world that keeps them without it (`sound` remembers which do).
    """
    for seed in seeds:
        world = (seed, f"{mutant.plan} {mutant.faults}")
        if not sound.get(world, True):
            continue
        with planted(mutant):
            found = next((one for one in _broken(seed, mutant) if one.partition(" ")[0] in mutant.shows.split()), None)
        if found is not None:
            if world not in sound:
                sound[world] = not _broken(seed, mutant)
            if sound[world]:
                return seed, found
    return None


def _broken(seed: int, mutant: Mutant) -> list[str]:
    """What is broken in its world of this seed. One that cannot be lived to its end (an error nobody foresaw) breaks I29."""
    try:
        return Simulation(seed, plan=mutant.plan, chances=mutant.faults).live().broken
    except Exception as error:
        return [f"I29 {type(error).__name__}: {error}"]


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--name", action="append", choices=list(BY_NAME), metavar="NAME", help="only this one (repeatable)")
    parser.add_argument("--seeds", default=SEEDS, metavar="A..B", help=f"the worlds to try, in this order (default {SEEDS})")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, each with its own database (default 1)")
    parser.add_argument("--write", action="store_true", help=f"write what was found to {DOCUMENT}, row by row")


def handle(options: dict[str, Any], say: Callable[[str], None]) -> int:
    arena.enter()
    wanted = [one for one in MUTANTS if one.name in (options["name"] or BY_NAME)]
    told, survived, began = rows(), 0, time.monotonic()
    given = [(one.name, options["seeds"]) for one in wanted if one.by == SIMULATION]
    for one in wanted:
        if one.by != SIMULATION:
            told[one.name] = one.by
            say(f"{one.name}: not by worlds ({one.by})")
    for name, found, seconds in pool.over(tried, given, options["jobs"]):
        survived += found is None
        told[name] = f"seed {found[0]}: {_short(found[1])}" if found else f"survived {options['seeds']}"
        say(f"{name}: {'killed' if found else 'survived'} ({told[name]}, {seconds:.0f} s)")
        if options["write"]:
            (settings.BASE_DIR / DOCUMENT).write_text(document(told))
    if options["write"]:
        (settings.BASE_DIR / DOCUMENT).write_text(document(told))
    say(f"{len(given) - survived} of {len(given)} killed by worlds, in {time.monotonic() - began:.0f} s; "
        f"{len(wanted) - len(given)} by other proofs (tests/simulation/test_mutants.py)")  # fmt: skip
    return 1 if survived else 0


def tried(given: tuple[str, str]) -> tuple[str, tuple[int, str] | None, float]:
    """One bug by its name, in these worlds: (its name, what killed it, how many seconds that took)."""
    name, seeds = given
    began = time.monotonic()
    return name, killed(BY_NAME[name], run.read_seeds(seeds), _sound), time.monotonic() - began


def _short(broken: str) -> str:
    """What is broken, without the numbers of rows that only this world has."""
    return " ".join(broken.replace("|", "/").split())[:110]


HEAD = """# Planted bugs

Generated by `bin/manage worldsim mutants --write`: each row is a bug planted in our own code
(`voltaro/worldsim/planted.py`), and what kills it: the first seed whose world is found broken, and the promise it
breaks ([simulation.md](simulation.md)); the same world keeps its promises without the bug. The
worlds are small, with much of what the bug needs. What no single world can show names the proof that does
(`tests/simulation/`).

| name | the bug | killed by |
|---|---|---|
"""


def rows() -> dict[str, str]:
    """What the document says of each: by its name, what kills it."""
    at = settings.BASE_DIR / DOCUMENT
    found = re.findall(r"^\| `(\w+)` \| .+? \| (.+) \|$", at.read_text() if at.exists() else "", re.MULTILINE)
    return dict(found)


def document(told: dict[str, str]) -> str:
    """The page, of the bugs that have a row by now."""
    table = "".join(f"| `{one.name}` | {one.says} | {told[one.name]} |\n" for one in MUTANTS if one.name in told)
    return HEAD + table
