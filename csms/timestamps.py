"""Charger clocks: read leniently, believed carefully, answered in the one form every charger can read. Pure."""

import re
from datetime import UTC, datetime, timedelta

# Ahead of us by more than this, or further back than any charger was ever offline: the clock is not set. A clock that was
# never set may begin in 1970, in 2000, or in the year its firmware was built.
FUTURE_S = 300
OFFLINE_AT_MOST = timedelta(days=60)
# The stations' own time: India has one zone and no summer time.
LOCAL = timedelta(hours=5, minutes=30)
_FORM = re.compile(
    r"\s*(\d{4})-(\d{1,2})-(\d{1,2})[Tt ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?\s*(Z|z|[+-]\d{2}(?::?\d{2})?)?", re.ASCII
)


def read(text: str | None) -> datetime | None:
    """The time a charger wrote, in UTC; None when it is none. Without a zone it is taken as UTC."""
    return _read(text)[0]


def read_at(text: str | None, now: datetime, zone: str = "") -> datetime | None:
    """The same, minding that some write their wall clock's time without saying so (Q53).

    `zone` is what is known of this charger's times without one: UTC, local, or "" for not yet. Then a time that cannot be
    UTC, as it lies ahead of us, is taken as the station's own when that fits.
    """
    at, naive = _read(text)
    if at is None or not naive or zone == "UTC":
        return at
    if zone == "local":
        return _as_local(at)
    return _as_local(at) if ahead(at, now) and plausible(_as_local(at), now) else at


def zone_of(text: str | None, now: datetime) -> str:
    """In which zone this time, said just now without naming one, is right: local or UTC; "" when it names one or fits neither."""
    at, naive = _read(text)
    if at is None or not naive:
        return ""
    fits = {"local": _as_local(at), "UTC": at}
    return next((zone for zone, meant in fits.items() if abs((meant - now).total_seconds()) <= FUTURE_S), "")


def ahead(at: datetime, now: datetime) -> bool:
    return (at - now).total_seconds() > FUTURE_S


def _as_local(at: datetime) -> datetime:
    return at - LOCAL if at.year > 1 else at  # the first hours of the calendar have no UTC


def _read(text: str | None) -> tuple[datetime | None, bool]:
    if not text or len(text) > 64 or not (match := _FORM.match(text)):
        return None, False
    year, month, day, hour, minute = (int(part) for part in match.groups()[:5])
    second, fraction, zone = int(match[6] or 0), (match[7] or "0")[:6].ljust(6, "0"), match[8] or ""
    try:
        at = datetime(year, month, day, hour, minute, min(second, 59), int(fraction), tzinfo=UTC)
        if zone in ("", "Z", "z"):
            return at, not zone
        sign = -1 if zone[0] == "-" else 1
        digits = zone[1:].replace(":", "").ljust(4, "0")
        return at - sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])), False
    except (ValueError, OverflowError):
        return None, False


def plausible(at: datetime | None, now: datetime) -> bool:
    """Whether a charger's time can be true: set at all, and neither ahead of us nor out of an old year."""
    return at is not None and at >= now - OFFLINE_AT_MOST and (at - now).total_seconds() <= FUTURE_S


def write(at: datetime) -> str:
    """UTC with Z and no fraction: some chargers cannot read `+00:00` or microseconds, and then have no clock at all."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
