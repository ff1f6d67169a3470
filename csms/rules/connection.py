"""Which socket owns a charger: the newest claim. Pure.

An older socket is fenced: its presence (boot, heartbeat, status) is not believed and no command goes to it. Its facts
(start, reading, stop) stay true: they happened at the charger, whichever wire carried them. The statements in
csms/stations.py carry the same comparison into the database, so that looking and writing are one step.
"""

from enum import StrEnum


class Standing(StrEnum):
    OWNER = "owner"
    FENCED = "fenced"


def standing(epoch: int, newest_epoch: int) -> Standing:
    """Whether the socket of `epoch` owns the charger whose newest claim is `newest_epoch`."""
    return Standing.OWNER if epoch >= newest_epoch else Standing.FENCED
