"""The odd days of a charger, on request: what real ones do that the standard does not foresee."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

FAULTS = {
    "drop": "the line dies without a word, and comes back seconds later",
    "reboot": "the charger restarts in the middle of a session, and goes on with it or ends it with PowerLoss",
    "duplicate": "transactional frames are sent twice, some with a new message id",
    "late_stop": "a remote stop is accepted at once and obeyed 15 to 30 seconds later",
    "ignore_remote_stop": "a remote stop is accepted and forgotten",
    "wrong_meter": "now and then one sample's register reads zero or far too much",
}


@dataclass
class Faults:
    """Which faults this charger has, and when the next one that comes by itself is due (`every_s` seconds apart, about)."""

    rng: random.Random
    kinds: frozenset[str] = frozenset()
    every_s: float = 60.0
    _due: dict[str, datetime] = field(default_factory=dict)

    def __contains__(self, kind: str) -> bool:
        return kind in self.kinds

    def due(self, kind: str, now: datetime) -> bool:
        """Whether `kind` strikes now."""
        if kind not in self.kinds:
            return False
        if kind not in self._due:
            self._due[kind] = now + timedelta(seconds=self.rng.expovariate(1 / self.every_s))
        if now < self._due[kind]:
            return False
        del self._due[kind]
        return True

    def register_wh(self, true_wh: int) -> int:
        """The register as this sample shows it."""
        if "wrong_meter" in self.kinds and self.rng.random() < 0.12:
            return 0 if self.rng.random() < 0.5 else true_wh + 500_000
        return true_wh


def parse(text: str) -> frozenset[str]:
    """The faults named in a comma-separated list; ValueError names the one that does not exist."""
    wanted = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := sorted(wanted - set(FAULTS)):
        raise ValueError(f"no such fault: {', '.join(unknown)} (there are: {', '.join(FAULTS)})")
    return wanted
