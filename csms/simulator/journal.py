"""What a charger writes down about itself: the lines of its diagnostics, and its security log."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from csms.simulator.times import stamp

# Security white paper, appendix 1. A charger may send others too.
CRITICAL = {
    "FirmwareUpdated",
    "SettingSystemTime",
    "StartupOfTheDevice",
    "ResetOrReboot",
    "SecurityLogWasCleared",
    "MemoryExhaustion",
    "TamperDetectionActivated",
}


@dataclass
class Journal:
    """`unsent` are security events of the time without a line: (when, type, techInfo)."""

    lines: deque[tuple[datetime, str]] = field(default_factory=lambda: deque(maxlen=500))
    events: deque[tuple[datetime, str, str]] = field(default_factory=lambda: deque(maxlen=200))
    unsent: deque[tuple[datetime, str, str]] = field(default_factory=lambda: deque(maxlen=100))

    def diagnostics(self, since: datetime | None, until: datetime | None) -> list[str]:
        return [f"{stamp(at)} {line}" for at, line in _within(self.lines, since, until)]

    def security(self, since: datetime | None, until: datetime | None) -> list[str]:
        return [
            f"{stamp(at)} {'CRITICAL' if type in CRITICAL else 'info'} {type} {info}".rstrip()
            for at, type, info in _within(self.events, since, until)
        ]


def _within(entries: Iterable[Any], since: datetime | None, until: datetime | None) -> list[Any]:
    return [entry for entry in entries if (since is None or entry[0] >= since) and (until is None or entry[0] <= until)]
