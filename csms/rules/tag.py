"""Tags: how they are compared, and what one may do. Pure.

A tag is what a card says of itself (OCPP 1.6 §7.28 IdToken: 20 characters at most, compared without regard to case).
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

MOST = 20
# OCPP 1.6 §7.2 AuthorizationStatus.
STATUSES = ("Accepted", "Blocked", "Expired", "Invalid", "ConcurrentTx")
_HEX = re.compile(r"(?:[0-9A-F]{2}){2,10}")
# How many hex digits a card's number has: 4, 7 or 10 bytes.
_LENGTHS = (8, 14, 20)


def normal(tag: str) -> str:
    """How tags are compared (1.6 errata 3.73-75): upper case, letters and digits; a payment terminal's `;...` cut off."""
    return "".join(char for char in tag.partition(";")[0].upper() if char.isascii() and char.isalnum())[:MOST]


def readings(tag: str, form: str = "as_is") -> tuple[str, ...]:
    """What a charger may mean by this tag, in our own form, likeliest first. `form` is how its reader says numbers (Q71).

    As it stands always counts too: what we sent it, it says back unchanged.
    """
    said = normal(tag)
    if not said:
        return ()
    found = [said]
    if form == "reversed" and _HEX.fullmatch(said):
        found.insert(0, _reversed(said))
    elif form == "decimal" and said.isdecimal():
        digits = f"{int(said):X}"
        longer = [length for length in _LENGTHS if length >= len(digits)]
        found = [*(digits.rjust(length, "0") for length in longer), said]
    return tuple(dict.fromkeys(found))


def spoken(tag: str, form: str = "as_is") -> str:
    """One of our tags as that charger says it: what its lists and reservations must hold."""
    if form == "reversed" and _HEX.fullmatch(tag):
        return _reversed(tag)
    if form == "decimal" and _HEX.fullmatch(tag) and len(number := str(int(tag, 16))) <= MOST:
        return number
    return tag


def _reversed(tag: str) -> str:
    return "".join(reversed([tag[at : at + 2] for at in range(0, len(tag), 2)]))


@dataclass(frozen=True)
class Tag:
    """What the rule needs to know of a tag's row. `elsewhere`: it is bound to another charger or connector."""

    state: str = "ready"
    expires_at: datetime | None = None
    elsewhere: bool = False
    concurrent: bool = False
    # The word of an external authorizer, for a tag of its; "" when it never answered.
    external: bool = False
    external_status: str = ""


@dataclass(frozen=True)
class Use:
    """A live session of the tag."""

    state: str
    last_activity_at: datetime
    sample_interval_s: int | None
    online: bool


def judge(tag: Tag | None, now: datetime, *, uses: tuple[Use, ...] = (), gap_s: int = 900, unknown: str = "Invalid") -> str:
    """What this tag may do: an AuthorizationStatus. `uses` are its live sessions at other connectors.

    `unknown` is for a tag nobody could tell us anything of.
    """
    if tag is None:
        return unknown
    if tag.state == "blocked":
        return "Blocked"
    if tag.state in ("revoked", "used"):
        return "Invalid"
    if tag.external and tag.external_status != "Accepted":
        return tag.external_status if tag.external_status in STATUSES else unknown
    if tag.expires_at is not None and tag.expires_at <= now:
        return "Expired"
    if tag.elsewhere:
        return "Invalid"
    if not tag.concurrent and any(holds(use, now, gap_s) for use in uses):
        return "ConcurrentTx"
    return "Accepted"


def holds(use: Use, now: datetime, gap_s: int) -> bool:
    """Whether a session still counts as one that goes on (Q77): a lost stop must not lock its card out for ever.

    It is neither suspended nor cut off, and it was heard of within `gap_s`, or two of its own samples.
    """
    if use.state == "SUSPENDED" or not use.online:
        return False
    return now - use.last_activity_at <= timedelta(seconds=max(gap_s, 2 * (use.sample_interval_s or 0)))
