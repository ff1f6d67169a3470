"""What every part of the sandbox is handed: its memory, its clock, its dice, its moods."""

import random
import string
import threading
from dataclasses import dataclass

from billing.sandbox.moods import Moods
from billing.sandbox.options import Options
from billing.sandbox.store import Store

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


class World:
    def __init__(self, options: Options):
        self.options = options
        self.store = Store(options.db)
        self.moods = Moods(self.store)
        self.dice = random.SystemRandom() if options.seed is None else random.Random(options.seed)  # noqa: S311 a seeded world repeats itself
        self.wake = threading.Event()  # set when there is something to do
        self.url = options.public_url.rstrip("/")
        with self.store.transaction():
            if self.store.fact("merchant") is None:
                self.store.set_fact("merchant", self.new_id("acc"))
                self.store.move(self.now(), "opening", "opening balance", options.opening_balance, credit=options.opening_balance)
        self.merchant: str = self.store.fact("merchant")

    def time(self) -> float:
        return self.options.now()

    def now(self) -> int:
        """Unix seconds."""
        return int(self.options.now())

    def word(self, length: int) -> str:
        return "".join(self.dice.choice(_ALPHABET) for _ in range(length))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self.word(14)}"

    def digits(self, length: int) -> str:
        """A number as banks write their references."""
        return str(self.dice.randrange(10 ** (length - 1), 10**length))

    def later(self, in_s: float, what: str, ref: str) -> None:
        """To be done in a while, even if the process ends in between."""
        self.store.run("INSERT INTO todo (at, what, ref) VALUES (?, ?, ?)", self.time() + in_s, what, ref)
        self.wake.set()


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    raw: bytes = b""
    body: dict | None = None  # the parsed JSON object
    mood: str | None = None  # what the handler itself has to act out


@dataclass
class Response:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    hang_up_after_s: float | None = None  # the line is held so long, then dropped without a word


def collection(items: list[dict]) -> dict:
    return {"entity": "collection", "count": len(items), "items": items}
