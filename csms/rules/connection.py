"""Which socket owns a charger, when a socket counts as dead, and when its owners change too often. Pure.

The newest claim owns. An older socket is fenced: its presence (boot, heartbeat, status) is not believed and no command goes
to it. Its facts (start, reading, stop) stay true: they happened at the charger, whichever wire carried them. The statements
in csms/stations.py carry the same comparison into the database, so that looking and writing are one step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# Pongs alone keep a line for a day: with pings, one heartbeat in 24 hours is enough (OCPP-J 1.6 §5.3).
PONGS_ALONE_S = 25 * 3600
FLAPPING_S = 300
FLAPPING_TAKEOVERS = 3


class Standing(StrEnum):
    OWNER = "owner"
    FENCED = "fenced"


def standing(epoch: int, newest_epoch: int) -> Standing:
    """Whether the socket of `epoch` owns the charger whose newest claim is `newest_epoch`."""
    return Standing.OWNER if epoch >= newest_epoch else Standing.FENCED


@dataclass(frozen=True)
class Timers:
    """All that tells a live line from a dead one, derived from one number: how long a charger may be silent."""

    silence_s: int
    heartbeat_s: int  # told to the charger: two may be lost
    ping_s: int  # to an idle line; NATs and some chargers forget one after 30 s
    first_frame_s: int  # to say anything at all, after connecting


def timers(silence_s: int) -> Timers:
    heartbeat_s = max(10, silence_s // 3)
    return Timers(silence_s, heartbeat_s, max(5, min(25, silence_s // 4)), max(silence_s // 2, heartbeat_s * 3 // 2))


def gone(timers: Timers, now_s: float, *, opened_s: float, heard_s: float | None, sign_s: float, booted: bool) -> str:
    """Why this line is to be given up ("" when it is not). `heard_s`: its last frame; `sign_s`: its last ping or pong, 0 for none.

    Who has never been accepted must say something soon. A charger we know, that answers our pings, may keep its own hours.
    """
    if heard_s is None and not booted and now_s - opened_s > timers.first_frame_s:
        return "said nothing"
    spoke_s = opened_s if heard_s is None else heard_s
    if now_s - max(spoke_s, sign_s) > timers.silence_s or now_s - spoke_s > max(PONGS_ALONE_S, timers.silence_s):
        return "silent"
    return ""


@dataclass(frozen=True)
class Takeover:
    """A live socket that was closed for a newer one of the same charger, and where the older came from."""

    at: datetime
    address: str


def flapping(takeovers: Sequence[Takeover], address: str, now: datetime) -> tuple[int, list[str]] | None:
    """(how many takeovers, from which addresses) when owners change too often; None when they do not. `address`: the newest's."""
    recent = [one for one in takeovers if now - one.at <= timedelta(seconds=FLAPPING_S)]
    if len(recent) < FLAPPING_TAKEOVERS:
        return None
    return len(recent), sorted({address, *(one.address for one in recent)} - {""})
