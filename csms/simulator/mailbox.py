"""What the charger has to say and has not yet said: one call at a time, transactions kept through disconnects and reboots."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from csms.simulator import wire
from csms.simulator.outlet import Transaction

ANSWER_WITHIN_S = 30
MOST_KEPT = 1_000


@dataclass
class Letter:
    """A call to the server. One about a transaction is `kept` until it is answered; the rest is dropped when offline.

    A boot, and what the server has `triggered`, may be said before the boot is accepted.
    """

    action: str
    payload: dict[str, Any]
    kept: bool = False
    triggered: bool = False
    transaction: Transaction | None = None
    on_answer: Callable[[dict[str, Any], datetime], None] | None = None
    tries: int = 0
    not_before: datetime | None = None

    def body(self) -> dict[str, Any]:
        """The payload; the transaction's id is filled in when it leaves, since it may have come only now."""
        if self.transaction is None or self.action == "StartTransaction":
            return self.payload
        return {**self.payload, "transactionId": -1 if self.transaction.id is None else self.transaction.id}


@dataclass
class Mailbox:
    rng: random.Random
    attempts: int = 3
    retry_s: int = 10
    waiting: list[Letter] = field(default_factory=list)
    in_flight: Letter | None = None
    uid: str = ""
    sent_at: datetime | None = None
    lost: int = 0  # letters about transactions given up after `attempts`

    def add(self, letter: Letter) -> None:
        self.waiting.append(letter)
        if len(self.waiting) > MOST_KEPT:  # memory is small: the oldest reading goes first, never a start or a stop
            oldest = next((one for one in self.waiting if one.action == "MeterValues"), None)
            if oldest:
                self.waiting.remove(oldest)

    def idle(self) -> bool:
        return self.in_flight is None and not self.waiting

    def next(self, now: datetime, *, only_triggered: bool = False) -> str | None:
        """The frame to send now, if the line is free. Letters about transactions keep their order; others may pass them."""
        if self.in_flight is not None and self.sent_at is not None:
            if now - self.sent_at < timedelta(seconds=ANSWER_WITHIN_S):
                return None
            self.failed(now)
        blocked = False
        for letter in self.waiting:
            if only_triggered and not letter.triggered:
                continue
            if letter.kept and (blocked or (letter.not_before and now < letter.not_before)):
                blocked = True
                continue
            self.waiting.remove(letter)
            self.in_flight, self.sent_at = letter, now
            self.uid = new_uid(self.rng)
            return wire.call(self.uid, letter.action, letter.body())
        return None

    def answered(self, uid: str, payload: dict[str, Any], now: datetime) -> None:
        """An answer; one to a call we have forgotten (a repeat) is nobody's."""
        if self.in_flight is not None and uid == self.uid:
            letter, self.in_flight = self.in_flight, None
            if letter.on_answer:
                letter.on_answer(payload, now)

    def refused(self, uid: str, now: datetime) -> None:
        """A CALLERROR."""
        if self.in_flight is not None and uid == self.uid:
            self.failed(now)

    def failed(self, now: datetime) -> None:
        """No answer, or an error: what concerns a transaction is tried again later, a few times."""
        letter, self.in_flight = self.in_flight, None
        if letter is None or not letter.kept:
            return
        letter.tries += 1
        if letter.tries >= self.attempts:
            self.lost += 1
            return
        letter.not_before = now + timedelta(seconds=self.retry_s * letter.tries)
        self.waiting.insert(0, letter)

    def cut(self) -> None:
        """The line is gone: chatter is forgotten, what was under way is said again, without counting as a failure."""
        if self.in_flight is not None and self.in_flight.kept:
            self.waiting.insert(0, self.in_flight)
        self.in_flight = None
        self.waiting = [letter for letter in self.waiting if letter.kept]
        for letter in self.waiting:
            letter.not_before = None


def new_uid(rng: random.Random) -> str:
    return f"{rng.getrandbits(96):024x}"
