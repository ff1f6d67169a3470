"""`from`, `to`, `count` and `skip` of a list call."""

from billing.sandbox.errors import bad_input
from billing.sandbox.world import Request


def window(request: Request, *, most: int = 100, default: int = 10) -> dict:
    """Arguments for Store.find."""
    count, skip = _number(request, "count", default), _number(request, "skip", 0)
    if count > most:
        raise bad_input(f"The count may not be greater than {most}.", "count")
    if count < 1:
        raise bad_input("The count must be at least 1.", "count")
    return {"since": _number(request, "from", None), "until": _number(request, "to", None), "count": count, "skip": skip}


def _number(request: Request, name: str, default: int | None) -> int | None:
    value = request.query.get(name)
    if value in (None, ""):
        return default
    if not value.isdecimal() or len(value) > 15:
        raise bad_input(f"The {name} must be an integer.", name)
    return int(value)
