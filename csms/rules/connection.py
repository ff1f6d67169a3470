"""Which socket owns a charger: the newest claim. Pure.

An older socket is fenced: its presence (boot, heartbeat, status) is not believed and no command goes to it. Its facts
(start, reading, stop) stay true: they happened at the charger, whichever wire carried them.
"""

from enum import StrEnum

PRESENCE = frozenset({"BootNotification", "Heartbeat", "StatusNotification"})


class Standing(StrEnum):
    OWNER = "owner"
    FENCED = "fenced"


def standing(epoch: int, newest_epoch: int) -> Standing:
    """Whether the socket of `epoch` owns the charger whose newest claim is `newest_epoch`."""
    return Standing.OWNER if epoch >= newest_epoch else Standing.FENCED


def believes(action: str, epoch: int, newest_epoch: int) -> bool:
    """Whether what this socket says with `action` may change what we know."""
    return standing(epoch, newest_epoch) is Standing.OWNER or action not in PRESENCE
