"""Live the worlds of many seeds; the last line counts sessions, faults, violations and seeds (exit code 1 on a violation)."""

import json
import subprocess
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from voltaro.worldsim import arena, coverage, pool
from voltaro.worldsim.simulation import Simulation, Verdict

TELL_EVERY_S = 5.0
LAST_LINES = 40
# A run of so many sessions that was never in one of the states of coverage.WANTED has looked away.
ENOUGH_SESSIONS = 2_000


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seeds", required=True, metavar="A..B", help="these and all between; or one")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, each with its own database (default 1)")
    parser.add_argument(
        "--enough", type=int, default=ENOUGH_SESSIONS, metavar="N", help=f"fail when N sessions missed a state (default {ENOUGH_SESSIONS})"
    )
    parser.add_argument("--states", action="store_true", help="print how often each state was reached")
    parser.add_argument("--log", metavar="FILE", help="a JSON line per finished seed; seeds that stand there with this commit are skipped")


def handle(options: dict[str, Any], say: Callable[[str], None]) -> int:
    arena.enter()
    seeds = read_seeds(options["seeds"])
    log, now_at = options["log"] and Path(options["log"]), commit()
    skipped = {one["seed"] for one in lines(log) if one["commit"] == now_at} if log else set()
    wanted = [seed for seed in seeds if seed not in skipped]
    total, reached, told_at = Counter(), Counter(), time.monotonic()
    broken: list[Verdict] = []
    for verdict in pool.over(live, wanted, options["jobs"]):
        total.update(seeds=1, sessions=verdict.sessions, faults=verdict.faults, violations=len(verdict.broken))
        reached.update(verdict.reached)
        if log:
            _keep(log, now_at, verdict)
        if verdict.broken:
            broken.append(verdict)
            say(failure(verdict))
        elif time.monotonic() - told_at > TELL_EVERY_S:
            told_at = time.monotonic()
            say(f"... {total['seeds']} of {len(wanted)} worlds, {total['sessions']} sessions, {total['faults']} faults")
    if options["states"]:
        say("\n".join(f"{reached[name]:>8}  {name:28} {what}" for name, what in coverage.WANTED.items()))
    missed = coverage.missing(reached)
    if missed:
        say(f"never reached: {', '.join(missed)}")
    if broken:
        say(f"broken seeds: {' '.join(str(one.seed) for one in sorted(broken, key=lambda one: one.seed))}")
    say(_last_line(total, len(skipped)))
    return 1 if broken or (missed and total["sessions"] >= options["enough"]) else 0


def live(seed: int) -> Verdict:
    """One world, without its trace when all is well."""
    verdict = Simulation(seed).live()
    if not verdict.broken:
        verdict.trace = []
    return verdict


def failure(verdict: Verdict) -> str:
    """What a person needs first: what broke, and what happened last before."""
    said = [f"seed {verdict.seed} ({verdict.digest}) is broken:", *(f"  {one}" for one in verdict.broken)]
    return "\n".join([*said, *(f"    {line}" for line in verdict.trace[-LAST_LINES:])])


def _last_line(total: Counter[str], skipped: int) -> str:
    said = f"{total['sessions']} sessions, {total['faults']} faults, {total['violations']} violations, {total['seeds']} seeds"
    return said + (f" ({skipped} more stand in the log)" if skipped else "")


def read_seeds(said: str) -> range:
    first, _, last = said.partition("..")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise CommandError(f"--seeds {said}: write 1..50, or one number.") from None


# -- the log ---------------------------------------------------------------------------------------------------------
def _keep(log: Path, now_at: str, verdict: Verdict) -> None:
    kept = {
        "seed": verdict.seed,
        "commit": now_at,
        "sessions": verdict.sessions,
        "faults": verdict.faults,
        "broken": verdict.broken,
        "digest": verdict.digest,
        "reached": dict(sorted(verdict.reached.items())),
    }
    with log.open("a") as out:
        out.write(json.dumps(kept, separators=(",", ":")) + "\n")


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """What stands in the log. A line cut off by the end of a run counts as not written."""
    if not log.exists():
        return
    for line in log.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def commit() -> str:
    """Which code this is: the commit, with a + when files of ours are not as it has them."""
    try:
        at = _git("rev-parse", "--short=12", "HEAD")
        return at + ("+" if _git("status", "--porcelain", "--untracked-files=no", "--", "*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*said: str) -> str:
    return subprocess.run(["git", *said], cwd=settings.BASE_DIR, check=True, capture_output=True, text=True).stdout.strip()
