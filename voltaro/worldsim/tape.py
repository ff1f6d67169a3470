"""A tape: one world with the very faults that struck in it, to be lived again whatever the dice have come to say since."""

import json
from dataclasses import dataclass
from pathlib import Path

from django.core.management.base import CommandError

from voltaro.worldsim.simulation import Plan, Simulation, Verdict

WHOLE = Plan()


@dataclass(frozen=True)
class Tape:
    """`firings`: what strikes, each as (fault, the how manieth time it could have); None: as the seed's dice say."""

    seed: int
    plan: Plan = WHOLE
    firings: tuple[tuple[str, int], ...] | None = None
    breaks: str = ""

    def live(self) -> Verdict:
        tape = None if self.firings is None else frozenset(self.firings)
        return Simulation(self.seed, plan=self.plan, tape=tape).live()

    def write(self, path: Path) -> None:
        plan = {"chargers": self.plan.chargers, "riders": self.plan.riders, "busy_s": self.plan.busy_s}
        firings = None if self.firings is None else [list(one) for one in self.firings]
        path.write_text(json.dumps({"seed": self.seed, "breaks": self.breaks, "plan": plan, "firings": firings}, indent=1) + "\n")


def read(path: Path) -> Tape:
    """Raises CommandError when that is no tape."""
    try:
        said = json.loads(path.read_text())
        firings = None if said["firings"] is None else tuple((str(name), int(number)) for name, number in said["firings"])
        return Tape(said["seed"], Plan(**said["plan"]), firings, said["breaks"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} is no tape: {error}") from None
