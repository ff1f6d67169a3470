"""What a charger knows about tags by itself: the Local Authorization List, and its cache (OCPP 1.6 sections 3.5.1, 3.5.3)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from csms.simulator.times import read

Info = dict[str, Any]
CACHE_HOLDS = 200


def same(one: str, other: str) -> bool:
    """Tags compare without regard to case (errata 3.73)."""
    return one.upper() == other.upper()


def accepted(info: Info | None, now: datetime) -> bool:
    """Whether this idTagInfo lets its tag charge now."""
    if info is None or info.get("status") != "Accepted":
        return False
    return "expiryDate" not in info or now < read(info["expiryDate"])


@dataclass
class LocalList:
    """Version 0 is an empty list. The entries by tag in upper case, each an idTagInfo."""

    version: int = 0
    entries: dict[str, Info] = field(default_factory=dict)

    def update(self, call: dict[str, Any], *, per_message: int, in_all: int) -> str:
        """SendLocalList.conf's status. Raises KeyError or TypeError when the call is none."""
        version, entries = call["listVersion"], call.get("localAuthorizationList") or []
        differential = {"Differential": True, "Full": False}[call["updateType"]]
        if differential and version <= self.version:
            return "VersionMismatch"
        tags = [entry["idTag"].upper() for entry in entries]
        if version < 1 or len(set(tags)) != len(tags) or len(entries) > per_message:
            return "Failed"
        if not differential and any("idTagInfo" not in entry for entry in entries):
            return "Failed"  # only a differential update can take entries away
        after = dict(self.entries) if differential else {}
        for tag, entry in zip(tags, entries, strict=True):
            if info := entry.get("idTagInfo"):
                after[tag] = info
            else:
                after.pop(tag, None)
        if len(after) > in_all:
            return "Failed"
        self.version, self.entries = version, after
        return "Accepted"


@dataclass
class Tags:
    """The list comes before the cache: what the list says, the cache cannot unsay."""

    local_list: LocalList = field(default_factory=LocalList)
    cache: dict[str, Info] = field(default_factory=dict)

    def local(self, tag: str, *, use_list: bool, use_cache: bool) -> Info | None:
        """What is known of the tag without asking."""
        found = self.local_list.entries.get(tag.upper()) if use_list else None
        return found or (self.cache.get(tag.upper()) if use_cache else None)

    def learn(self, tag: str, info: Info) -> bool:
        """Keep what the server said of a tag; True when the list says otherwise (LocalListConflict)."""
        self.cache.pop(tag.upper(), None)
        self.cache[tag.upper()] = info
        while len(self.cache) > CACHE_HOLDS:
            del self.cache[next(iter(self.cache))]
        listed = self.local_list.entries.get(tag.upper())
        return listed is not None and (listed.get("status") == "Accepted") != (info.get("status") in ("Accepted", "ConcurrentTx"))
