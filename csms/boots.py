"""What a BootNotification makes of a charger, beside its row (csms/stations.py: booted): what it is told, whether it boots in
circles, whether it is still the same box. And the one time in its life that a charger is asked to boot.
"""

import random
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, QuerySet

from accounts import audit
from csms import alerts, commands, configuration, quirks
from csms.context import Context
from csms.events import Booted
from csms.models import Alert, ChargePoint, Registration
from csms.rules.habits import Habits
from csms.stations import Boot
from voltaro.jobs import each

# More boots than this within LOOP_S are a loop; without one for CALM_S it is over.
LOOP_BOOTS, LOOP_S = 5, 600
CALM = timedelta(minutes=30)
# A charger that wants its configuration first (Q49) is told Pending so often at most.
PENDING_AT_MOST = 4
# When to boot again after Pending, and after Rejected.
RETRY_S = {Registration.PENDING: 30, Registration.REJECTED: 300}
# The command that asks for a boot. A charger that has not booted so long after it came is asked; so long after, it is served without.
ASKED = "never booted"
ASK_AFTER_S, SERVE_AFTER_S = 15, 60


def heard(context: Context, boot: Boot, said: Booted, now: datetime) -> str:
    """What this boot is answered: its registration. Called with the charger's row locked, `context.habits` known."""
    _count(context.charge_point_pk, boot, now)
    if boot.last_boot is not None or boot.serial_number != said.serial_number:
        compare_serial(context.charge_point_pk, boot.serial_number, said.serial_number, now)
    status = _registration(context, boot, now)
    if status != Registration.REJECTED and not boot.unclaimed:
        configuration.booted(context, boot, said, now)
    return status


def retry_s(status: str, heartbeat_s: int) -> int:
    """`interval` of the answer: the heartbeat's when accepted, else when to ask again (1.6 §4.2)."""
    return RETRY_S.get(Registration(status), heartbeat_s)


def settles_at(habits: Habits, now: datetime) -> datetime:
    """From when on it may be asked what nobody waits for: spread, as a whole fleet comes back at once (Q48, Q132)."""
    return now + timedelta(seconds=habits.settle_s * (1 + random.random()))  # noqa: S311 - a spread, not a secret


# -- loops -----------------------------------------------------------------------------------------------------------
def _count(charge_point_pk: int, boot: Boot, now: datetime) -> None:
    """Boots within LOOP_S of each other. Once is a reboot; a charger that cannot stop needs a person."""
    since = now - timedelta(seconds=LOOP_S)
    if boot.last_boot is None or boot.last_boot < since:
        return
    times = {datetime.fromisoformat(one) for one in boot.learned.get("boots", ())} | {boot.last_boot, now}
    times = {one for one in times if since <= one <= now}
    quirks.learn(charge_point_pk, boots=[one.isoformat() for one in sorted(times)[-2 * LOOP_BOOTS :]])
    if len(times) > LOOP_BOOTS:
        alerts.raise_alert(charge_point_pk, "boot_loop", f"It boots again and again: {len(times)} times within ten minutes.", now)


def to_calm(now: datetime) -> QuerySet[Alert]:
    """Alerts about boots that are over: no boot for CALM; a serial number that is now the one it reports."""
    still_open = Alert.objects.filter(cleared_at__isnull=True)
    loops = still_open.filter(kind="boot_loop", last_at__lt=now - CALM)
    serials = still_open.filter(kind="serial", charge_point__serial_number=F("charge_point__reported_serial"))
    return (loops | serials).order_by("pk")


def calm_due(now: datetime, limit: int) -> int:
    """Put them away."""
    rows = {pk: what for pk, *what in to_calm(now).values_list("pk", "charge_point_id", "kind")[:limit]}
    return each(list(rows), lambda pk: alerts.clear(*rows[pk], now, by="it is over"), "alert")


# -- which box this is -----------------------------------------------------------------------------------------------
def compare_serial(charge_point_pk: int, ours: str, reported: str, now: datetime) -> None:
    """A serial number other than the one we hold: another box under this name, or one that was exchanged."""
    if not ours or not reported:
        return
    if ours == reported:
        alerts.clear(charge_point_pk, "serial", now, by="it is the same again")
    else:
        alerts.raise_alert(charge_point_pk, "serial", f"It says that its serial number is {reported}; ours is {ours}.", now)


# -- registration ----------------------------------------------------------------------------------------------------
def _registration(context: Context, boot: Boot, now: datetime) -> str:
    """Accepted, unless an operator says otherwise, nobody has claimed it, or its model wants its configuration first (Q49)."""
    ours = dict(boot.learned.get("pending_first") or {})
    waits = boot.registration == Registration.PENDING and bool(ours) and not ours.get("done") and not boot.unclaimed
    if boot.registration != Registration.ACCEPTED and not waits:
        return boot.registration
    if not context.habits.pending_first:
        return _accept(context.charge_point_pk, ours, now) if waits else boot.registration
    if ours.get("firmware") != boot.firmware:
        ours = {"firmware": boot.firmware, "told": 0}
    elif ours.get("done"):
        return boot.registration
    elif ours["told"] >= PENDING_AT_MOST or not configuration.outstanding(context.charge_point_pk):
        return _accept(context.charge_point_pk, ours, now)
    quirks.learn(context.charge_point_pk, pending_first={**ours, "told": ours["told"] + 1})
    ChargePoint.objects.filter(pk=context.charge_point_pk).update(registration=Registration.PENDING)
    return Registration.PENDING


def _accept(charge_point_pk: int, ours: dict[str, Any], now: datetime) -> str:
    quirks.learn(charge_point_pk, pending_first={**ours, "done": True})
    ChargePoint.objects.filter(pk=charge_point_pk).update(registration=Registration.ACCEPTED)
    audit.record(
        "charge_point.accepted", ChargePoint(pk=charge_point_pk), trigger="its configuration was set", after={"at": now.isoformat()}
    )
    return Registration.ACCEPTED


# -- asked to boot ---------------------------------------------------------------------------------------------------
def ask(charge_point_pk: int, now: datetime) -> None:
    """Ask for a BootNotification, once in this charger's life: some never boot by themselves, and others are harmed (Q44, Q45)."""
    commands.request(
        ChargePoint(pk=charge_point_pk),
        "TriggerMessage",
        {"requestedMessage": "BootNotification"},
        trigger=ASKED,
        dedupe_key=f"boot:{charge_point_pk}",
        expires_in_s=ASK_AFTER_S + 120,
        send_after=now + timedelta(seconds=ASK_AFTER_S),
    )


def only(context: Context, now: datetime) -> str | None:
    """Before a charger has booted it gets the one command with this trigger; None: it may get any."""
    if context.booted or context.opened_at is None:
        return None
    return ASKED if now < context.opened_at + timedelta(seconds=SERVE_AFTER_S) else None
