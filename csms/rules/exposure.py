"""What a charger may be delivering beyond what is paid, while nobody hears it. Pure.

The statement in csms/exposure.py carries the same arithmetic into the database, so that a whole network is one query.
"""

from dataclasses import dataclass

from csms.rules.session import MOST_WH  # no car takes more at once, however long nobody hears of it


@dataclass(frozen=True)
class Unheard:
    """A session as it was last heard of, `silent_s` ago. `live`: not ended by us; what is left of its money is still its own."""

    energy_wh: int
    limit_wh: int
    peak_power_w: int
    max_power_w: int
    silent_s: int
    live: bool = True
    bounded_wh: int | None = None
    flows_s: int | None = None  # for so long since it was heard of it may go on by itself; None: it is not bounded in time


def power_w(session: Unheard) -> int:
    """What may be flowing: the most this session has drawn, or what the outlet has when nothing was seen of it."""
    return min(session.peak_power_w, session.max_power_w) if session.peak_power_w > 0 else session.max_power_w


def delivered_wh(session: Unheard) -> int:
    """What may have been delivered by now; a charger that has promised to keep to a limit stops there."""
    flowed_s = max(0, session.silent_s if session.flows_s is None else min(session.silent_s, session.flows_s))
    may_wh = session.energy_wh + min(power_w(session) * flowed_s // 3600, MOST_WH)
    if session.bounded_wh is not None:
        may_wh = min(may_wh, max(session.bounded_wh, session.energy_wh))
    return may_wh


def exposed_wh(session: Unheard) -> int:
    """How much of that nobody has paid for. Of a session that we have ended the rest of the money has gone back."""
    paid_wh = session.limit_wh if session.live else min(session.limit_wh, session.energy_wh)
    return max(0, delivered_wh(session) - paid_wh)


def within_s(session: Unheard) -> int | None:
    """In how many seconds it may begin to be beyond what is paid; None: never, or it is already."""
    if exposed_wh(session) or not session.live or power_w(session) <= 0:
        return None
    if session.bounded_wh is not None and session.bounded_wh <= session.limit_wh:
        return None
    within = (session.limit_wh - delivered_wh(session)) * 3600 // power_w(session)
    return within if session.flows_s is None or session.silent_s + within < session.flows_s else None
