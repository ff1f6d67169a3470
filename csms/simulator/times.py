"""Times as they stand in OCPP's JSON (RFC 3339, in UTC)."""

from datetime import UTC, datetime


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def read(text: str) -> datetime:
    """The time; without a zone it is UTC. Raises ValueError when it is none."""
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return at if at.tzinfo else at.replace(tzinfo=UTC)
