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
    if _other_zone(context, said):
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
    off_s = said.clock_s
    if zone := _other_zone(context, said):
        context.learned = {**context.learned, "naive_time": zone}
        context.habits = replace(context.habits, naive_time=zone)
        quirks.learn(context.charge_point_pk, naive_time=zone)
        off_s = off_s if abs(off_s) <= rule.WRONG_S else 0  # in its own zone it is right, or it would not fit
    after = rule.measured(context.clock, off_s, now)
    if after.believed_s != context.clock.believed_s:
        mine = ChargePoint.objects.filter(pk=context.charge_point_pk, epoch=context.epoch)
        if mine.update(clock_offset_s=after.believed_s):
            _tell(context.charge_point_pk, after.believed_s, now)
    context.clock = after


def _other_zone(context: Context, said: StatusReported) -> str:
    """The zone its unnamed times are in, when that is news and no profile says otherwise ("" when it is not)."""
    settled = context.habits.naive_time
    ours = settled == context.learned.get("naive_time", "")
    return said.naive if ours and said.naive and said.naive != (settled or "UTC") else ""


def _tell(charge_point_pk: int, off_s: int | None, now: datetime) -> None:
    if rule.wrong(off_s):
        alerts.raise_alert(charge_point_pk, "clock", f"Its clock is {rule.words(off_s)}.", now)
    else:
        alerts.clear(charge_point_pk, "clock", now, by="its clock is right")
