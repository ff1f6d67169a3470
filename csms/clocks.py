"""Chargers' clocks: how far off each is, shown and told to a person; and whose times without a zone are the station's own (Q53-Q55).

Only statuses are looked at: starts, readings and stops come out of queues, and boots and heartbeats bear no time.
"""

from dataclasses import replace
from datetime import datetime

from csms import alerts, quirks
from csms.context import Context
from csms.events import StatusReported
from csms.models import ChargePoint
from csms.rules import clock as rule


def news(context: Context, said: StatusReported, now: datetime) -> bool:
    """Whether this status shows something of the charger's clock that is to be written; the socket remembers the rest."""
    if said.clock_s is None:
        return False
    if said.local_clock and not context.habits.naive_time:
        return True
    after = rule.measured(context.clock, said.clock_s, now)
    if after.believed_s != context.clock.believed_s:
        return True
    context.clock = after
    return False


def heard(context: Context, said: StatusReported, now: datetime) -> None:
    """Write what `news` found."""
    if said.clock_s is None or not news(context, said, now):
        return
    if said.local_clock and not context.habits.naive_time:
        context.learned = {**context.learned, "naive_time": "local"}
        context.habits = replace(context.habits, naive_time="local")
        quirks.learn(context.charge_point_pk, naive_time="local")
    after = rule.measured(context.clock, said.clock_s, now)
    if after.believed_s != context.clock.believed_s:
        mine = ChargePoint.objects.filter(pk=context.charge_point_pk, epoch=context.epoch)
        if mine.update(clock_offset_s=after.believed_s):
            _tell(context.charge_point_pk, after.believed_s, now)
    context.clock = after


def _tell(charge_point_pk: int, off_s: int | None, now: datetime) -> None:
    if rule.wrong(off_s):
        alerts.raise_alert(charge_point_pk, "clock", f"Its clock is {rule.words(off_s)}.", now)
    else:
        alerts.clear(charge_point_pk, "clock", now, by="its clock is right")
