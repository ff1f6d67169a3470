"""What is looked for in the message log: read from an address, and kept within what a table of a hundred million frames can bear."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.utils import timezone

from accounts.doors import may_operate
from csms.models import ChargePoint

KINDS = {"call": (2, "Requests"), "answer": (3, "Answers"), "error": (4, "Errors"), "unreadable": (0, "Unreadable")}
DIRECTIONS = {"IN": "From charger", "OUT": "To charger"}
# A charger says some 20,000 frames a day, a network of hundreds millions: a look is at a stretch of time.
DEFAULT, LONGEST = timedelta(hours=1), timedelta(hours=24)
DEFAULT_OF_ONE, LONGEST_OF_ONE = timedelta(hours=24), timedelta(days=31)
LONGEST_FOR_TEXT = timedelta(hours=24)


@dataclass(frozen=True)
class Search:
    """Frames between two times, narrowed. `problems` say why nothing is looked for, `remarks` what was looked for instead."""

    since: datetime
    until: datetime | None = None  # None: until now, and what comes
    charge_point: ChargePoint | None = None
    action: str = ""
    direction: str = ""
    kind: str = ""
    notes: bool = False
    correlation_id: str = ""
    text: str = ""
    # Who may not see tags must not find them letter by letter either.
    tags: bool = False
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def facts(self) -> dict[str, str]:
        """Its parameters as an address bears them, times in full."""
        said = {
            "charger": self.charge_point.cp_id if self.charge_point else "",
            "action": self.action,
            "direction": self.direction,
            "kind": self.kind,
            "notes": "1" if self.notes else "",
            "id": self.correlation_id,
            "text": self.text,
            "from": local(self.since),
            "to": local(self.until) if self.until else "",
        }
        return {name: value for name, value in said.items() if value}

    def address(self, **more: Any) -> str:
        return "?" + urlencode({**self.facts(), **more})


def local(at: datetime) -> str:
    """As <input type=datetime-local> has it: our time zone, to the second."""
    return timezone.localtime(at).strftime("%Y-%m-%dT%H:%M:%S")


def read(asked: Mapping[str, str], user: Any, now: datetime) -> Search:
    """The search an address asks for, as far as this person may; one query at most. Never raises."""
    given = {name: asked.get(name, "").replace("\0", "").strip()[:200] for name in ("charger", "action", "id", "text", "from", "to")}
    problems: list[str] = []
    charge_point = None
    if given["charger"]:
        charge_point = ChargePoint.objects.visible_to(user).filter(cp_id__iexact=given["charger"]).first()
        if charge_point is None:
            problems.append(f"No charger of yours is called {given['charger']}.")
    since, until, remarks = _window(given, problems, now, of_one=bool(given["charger"]))
    if given["text"]:
        if not given["charger"]:
            problems.append("Text is looked for inside one charger: name it.")
        elif (until or now) - since > LONGEST_FOR_TEXT + timedelta(minutes=1):
            problems.append("Text is looked for inside 24 hours at most: choose a shorter time.")
    return Search(
        since=since,
        until=until,
        charge_point=charge_point,
        action=given["action"][:50],
        direction=asked.get("direction", "") if asked.get("direction") in DIRECTIONS else "",
        kind=asked.get("kind", "") if asked.get("kind") in KINDS else "",
        notes=bool(asked.get("notes")),
        correlation_id=given["id"][:64],
        text=given["text"],
        tags=may_operate(user),
        problems=tuple(problems),
        remarks=tuple(remarks),
    )


def until_now(search: Search, now: datetime) -> Search:
    """The same with an end, for what must not grow while it is read."""
    return search if search.until else replace(search, until=now)


def _window(given: dict[str, str], problems: list[str], now: datetime, *, of_one: bool) -> tuple[datetime, datetime | None, list[str]]:
    usual, longest = (DEFAULT_OF_ONE, LONGEST_OF_ONE) if of_one else (DEFAULT, LONGEST)
    since, until = (_moment(given[name], name, problems) for name in ("from", "to"))
    if since is None:
        # To the second, as an address has it: the pages of one search are then all of the same.
        since = ((until or now) - usual).replace(microsecond=0)
    if until is not None and until <= since:
        problems.append("The time ends before it begins.")
    if (until or now) - since > longest + timedelta(minutes=1):
        until = since + longest
        most = "31 days are" if of_one else "24 hours are"
        return since, until, [f"At most {most} looked through{'' if of_one else ' without a charger'}: here until {_said(until)}."]
    return since, until, []


def _moment(text: str, name: str, problems: list[str]) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else timezone.make_aware(at)
        if not 2000 <= at.year < 2200:
            raise ValueError
    except (ValueError, OverflowError):
        problems.append(f"{text} is no time ({name}).")
        return None
    return at


def _said(at: datetime) -> str:
    return timezone.localtime(at).strftime("%-d %b %Y, %H:%M:%S")
