"""How far a charger's clock is off, from the times it writes. Pure. Seconds; ahead of us is positive.

What lay in a queue looks like a clock that is behind. So a time behind us counts only when another, said at least APART_S
later, is behind by as much: a queue is emptied at once. Nothing is ever corrected by this; a person is told.
"""

from dataclasses import dataclass
from datetime import datetime

SAME_S = 60
APART_S = 10
WRONG_S = 300


@dataclass(frozen=True)
class Offset:
    """`believed_s`: None until it is known. The candidate waits for a second time that says the same."""

    believed_s: int | None = None
    candidate_s: int | None = None
    candidate_at: datetime | None = None


def measured(offset: Offset, off_s: int, now: datetime) -> Offset:
    """What is known after the charger said a time that is `off_s` ahead of ours. A change below SAME_S is none."""
    if offset.believed_s is not None and abs(off_s - offset.believed_s) <= SAME_S:
        return Offset(offset.believed_s)
    if off_s >= -SAME_S:
        return Offset(off_s)
    if offset.candidate_s is None or offset.candidate_at is None or abs(off_s - offset.candidate_s) > SAME_S:
        return Offset(offset.believed_s, off_s, now)
    if (now - offset.candidate_at).total_seconds() < APART_S:
        return offset
    return Offset(off_s)


def wrong(off_s: int | None) -> bool:
    return off_s is not None and abs(off_s) > WRONG_S


def words(off_s: int | None) -> str:
    """For people: "5 h 30 min ahead", and what whole half hours tell."""
    if off_s is None:
        return "not known yet"
    if abs(off_s) <= SAME_S:
        return "right"
    if abs(off_s) > 10 * 365 * 86_400:
        return "not set"
    minutes = round(abs(off_s) / 60)
    parts = ((minutes // 1440, "d"), (minutes % 1440 // 60, "h"), (minutes % 60, "min"))
    said = f"{' '.join(f'{number} {unit}' for number, unit in parts if number)} {'ahead' if off_s > 0 else 'behind'}"
    zone = 900 < abs(off_s) <= 14 * 3600 + SAME_S and min(abs(off_s) % 1800, 1800 - abs(off_s) % 1800) <= WRONG_S
    return f"{said}: it seems to write local time as UTC" if zone else said
