"""What goes wrong, and how often: each world draws some of these, at strengths of its own (swarm testing)."""

import random
from dataclasses import dataclass, field

# name: chance of each time it could strike, at full strength
CATALOGUE = {
    # the line between a charger and us
    "frame_lost": 0.02,  # the line dies before a frame reaches us
    "answer_lost": 0.03,  # we have acted, the answer is lost with the line
    "frame_twice": 0.03,  # the very same frame arrives twice
    "line_dead": 0.01,  # neither side hears of the end at once
    "away_long": 0.2,  # of the ends: minutes rather than seconds
    # us
    "killed": 0.0002,  # the process is gone, in the middle of a statement
    "commit_unknown": 0.0008,  # committed, but we are told it was not
    "worker_late": 0.05,  # a beat comes a minute late
    "bell_lost": 0.3,
    "bell_twice": 0.1,
    # Razorpay
    "psp_lost": 0.1,  # the deed is done, the answer is lost
    "psp_refused": 0.1,  # 500 or 429 before the deed
    "webhook_lost": 0.2,
    "webhook_twice": 0.2,
    "webhook_late": 0.3,
    # chargers and people
    "reboot": 0.5,
    "wrong_meter": 0.5,
    "late_stop": 0.5,
    "ignore_remote_stop": 0.3,
    "duplicate": 0.5,
    "pays_twice": 0.1,
    "never_plugs_in": 0.1,
}
OF_THE_CHARGER = ("reboot", "wrong_meter", "late_stop", "ignore_remote_stop", "duplicate")


@dataclass
class Faults:
    """The faults of one world. `on` until the world grows calm."""

    dice: random.Random
    only: frozenset[str] | None = None
    on: bool = True
    strength: dict[str, float] = field(default_factory=dict)
    struck: int = 0

    def __post_init__(self) -> None:
        for name in CATALOGUE:
            drawn, strength = self.dice.random() < 0.6, self.dice.choice((0.3, 1.0, 2.0))
            if drawn and (self.only is None or name in self.only):
                self.strength[name] = strength

    def strikes(self, name: str, dice: random.Random) -> bool:
        """Whether it strikes now. The dice are thrown in any case, so that a world without a fault differs by that fault alone."""
        thrown = dice.random()
        if not self.on or thrown >= CATALOGUE[name] * self.strength.get(name, 0.0):
            return False
        self.struck += 1
        return True
