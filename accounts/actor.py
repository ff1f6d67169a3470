"""Who is acting right now: a signed-in person, a charger, a webhook, a worker, a command.

`created_by`/`updated_by` and every audit entry take their actor from here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Actor:
    """`kind` is one of user, charger, webhook, worker, command, system; `name` says which one."""

    kind: str
    name: str
    user: Any = None


SYSTEM = Actor("system", "system")
_current: ContextVar[Actor] = ContextVar("actor", default=SYSTEM)


def current() -> Actor:
    return _current.get()


@contextmanager
def acting(kind: str, name: str, user: Any = None) -> Iterator[Actor]:
    """Everything inside is done by this actor."""
    actor = Actor(kind, name, user)
    token = _current.set(actor)
    try:
        yield actor
    finally:
        _current.reset(token)


class ActorMiddleware:
    """The signed-in person acts for the length of their request."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        user = request.user if request.user.is_authenticated else None
        with acting("user", user.get_username() if user else "anonymous", user):
            return self.get_response(request)
