"""What a charger's socket plans for a moment later."""

import asyncio
from collections import deque

from csms import consumers
from csms.consumers import ChargerConsumer
from csms.context import Held
from csms.planned import Planned


def test_statuses_that_are_held_back_are_looked_at_though_more_are_held_all_the_time(monkeypatch):
    """One connector that flaps keeps no other waiting: the look is planned once, not put off by each."""
    monkeypatch.setattr(consumers, "HELD_S", 0.2)

    async def looks() -> int:
        consumer = ChargerConsumer()
        consumer._planned, consumer._inbox, consumer._news = Planned(), deque(), asyncio.Event()
        for _ in range(50):
            await consumer._carry_out([Held()])
            await asyncio.sleep(0.01)
        consumer._planned.forget()
        return len(consumer._inbox)

    assert 1 <= asyncio.run(looks()) <= 10
