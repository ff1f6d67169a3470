"""A charger's local authorization list: what is to be sent next to bring it in step. Pure (OCPP 1.6 §5.15).

Versions only grow and begin at 1: 0 and -1 have meanings of their own (errata 3.52). A long list goes out in pieces, one Full
and then Differentials, each with the next version.
"""

import hashlib
import json
from dataclasses import dataclass

# idTag as that charger says it: parentIdTag ("" for none). Everybody on a list may charge.
Entries = dict[str, str]
# What a Full and then a Differential that fail are followed by; then with patience. The first repeat is at once (L03).
BACK_OFF_S = (0, 300, 1800, 7200, 86_400)
FEWEST = 5


@dataclass(frozen=True)
class Update:
    """One SendLocalList. `entries` with None are taken off the list; `in_step_at` is the version after the last piece."""

    full: bool
    version: int
    entries: dict[str, str | None]
    in_step_at: int

    @property
    def payload(self) -> dict[str, object]:
        """As the charger gets it. Entries without idTagInfo are to be removed; no expiryDate: wrong clocks take it for expired."""
        entries = [{"idTag": tag} if parent is None else {"idTag": tag, "idTagInfo": _info(parent)} for tag, parent in self.entries.items()]
        return {
            "listVersion": self.version,
            "updateType": "Full" if self.full else "Differential",
            "localAuthorizationList": entries,
        }


def _info(parent: str) -> dict[str, str]:
    return {"status": "Accepted", "parentIdTag": parent} if parent else {"status": "Accepted"}


def digest(wanted: Entries) -> str:
    """What tells two lists apart."""
    return hashlib.sha256(json.dumps(sorted(wanted.items())).encode()).hexdigest()


def next_update(wanted: Entries, *, sent: Entries, sent_version: int | None, reported: int, most: int) -> Update | None:
    """What to send next, `most` entries at a time; None when the list is in step.

    `sent` is what the charger accepted as `sent_version` (None: unknown, or refused since). Only on that may a Differential
    build, and only while the charger still reports that version.
    """
    if sent_version is None or reported != sent_version:
        if not wanted and reported == 0:
            return None  # nothing is on it, nothing is to be
        names = sorted(wanted)
        entries: dict[str, str | None] = {tag: wanted[tag] for tag in names[:most]}
        version = max(reported, sent_version or 0, 0) + 1
        return Update(True, version, entries, version + _pieces(len(names) - len(entries), most))
    changes: dict[str, str | None] = {tag: None for tag in sorted(sent) if tag not in wanted}  # first, to make room
    changes |= {tag: parent for tag, parent in sorted(wanted.items()) if sent.get(tag) != parent}
    if not changes:
        return None
    entries = dict(list(changes.items())[:most])
    version = sent_version + 1
    return Update(False, version, entries, version + _pieces(len(changes) - len(entries), most))


def after(payload: dict[str, object], sent: Entries) -> Entries:
    """What the charger holds once it has accepted this SendLocalList."""
    entries = payload.get("localAuthorizationList")
    held = dict(sent) if payload.get("updateType") == "Differential" else {}
    for entry in entries if isinstance(entries, list) else []:
        tag, info = entry.get("idTag"), entry.get("idTagInfo")
        if info is None:
            held.pop(tag, None)
        else:
            held[tag] = info.get("parentIdTag", "") if info.get("status") == "Accepted" else "?"
    return held


def fewer(most: int, attempts: int) -> int:
    """After failures in smaller pieces: what chargers say of their own limits is often wrong (Q163)."""
    return max(min(most, FEWEST), most >> max(0, attempts - 1))


def back_off_s(attempts: int) -> int:
    return BACK_OFF_S[min(max(attempts, 1), len(BACK_OFF_S)) - 1]


def _pieces(left: int, most: int) -> int:
    return -(-left // most)
