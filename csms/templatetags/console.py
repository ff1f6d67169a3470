"""How the console shows energy, power, times and states."""

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from csms.rules import clock as clock_rule
from voltaro import clock as our_clock

register = template.Library()

STATUS_LEVELS = {
    "Available": "good",
    "Charging": "good",
    "Preparing": "warn",
    "Finishing": "warn",
    "SuspendedEV": "warn",
    "SuspendedEVSE": "warn",
    "Reserved": "warn",
    "Faulted": "bad",
    "Unavailable": "bad",
}
STATE_LEVELS = {"STARTED": "good", "RUNNING": "good", "SUSPENDED": "warn"}
COMMAND_LEVELS = {
    "accepted": "good",
    "effective": "good",
    "queued": "warn",
    "sent": "warn",
    "unknown": "warn",
    "rejected": "bad",
    "error": "bad",
    "timeout": "bad",
    "expired": "bad",
}


@register.filter
def kwh(wh: int | None) -> str:
    """Wh as kWh with three places, in whole numbers all the way."""
    if wh is None:
        return "–"
    sign = "-" if wh < 0 else ""
    return f"{sign}{abs(wh) // 1000}.{abs(wh) % 1000:03d}"


@register.filter
def kw(watts: int | None) -> str:
    """W as kW with one place, the half up."""
    if watts is None:
        return "–"
    tenths = (watts + 50) // 100
    return f"{tenths // 10}.{tenths % 10}" if tenths % 10 else f"{tenths // 10}"


@register.filter
def bp(basis_points: int) -> str:
    """Basis points as percent: 1800 is 18, 1250 is 12.5."""
    return f"{basis_points // 100}.{basis_points % 100:02d}".rstrip("0").rstrip(".")


@register.filter
def clock_off(seconds: int | None) -> str:
    """How far a charger's clock is off, in words."""
    return clock_rule.words(seconds)


@register.filter
def ago(at: datetime | None) -> str:
    """How long ago, in one unit; from two days on the date itself."""
    if at is None:
        return "never"
    seconds = int((our_clock.now() - at).total_seconds())
    if seconds < 0:
        return timezone.localtime(at).strftime("%d %b %H:%M")
    if seconds < 60:
        return f"{seconds} s ago"
    if seconds < 3600:
        return f"{seconds // 60} min ago"
    if seconds < 172_800:
        return f"{seconds // 3600} h ago"
    return timezone.localtime(at).strftime("%d %b" if seconds < 20_000_000 else "%d %b %Y")


@register.filter
def clock(at: datetime | None) -> str:
    """The time of day; with the date when it was not today."""
    if at is None:
        return "–"
    local, today = timezone.localtime(at), timezone.localtime(our_clock.now()).date()
    return local.strftime("%H:%M:%S") if local.date() == today else local.strftime("%d %b %H:%M")


@register.filter
def span(start: datetime | None, end: datetime | None) -> str:
    """From `start` to `end` as h:mm:ss."""
    if start is None or end is None:
        return "–"
    seconds = max(0, int((end - start).total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"


@register.filter
def duration(seconds: int) -> str:
    """Seconds in one unit, for people."""
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


@register.filter
def spaced(word: str) -> str:
    """A name of ours as words that can be broken: DISCONNECT_TIMEOUT."""
    return word.replace("_", " ")


@register.filter
def offset(seconds: int) -> str:
    """Seconds from a beginning as h:mm."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"


@register.filter
def status_level(status: Any) -> str:
    return STATUS_LEVELS.get(str(status), "")


@register.filter
def state_level(state: Any) -> str:
    return STATE_LEVELS.get(str(state), "")


@register.filter
def command_level(state: Any) -> str:
    return COMMAND_LEVELS.get(str(state), "")
