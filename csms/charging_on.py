"""A charger charges on with a session that we have ended, because it was away for too long: it is told to stop.

The rest of the money has gone back, so whatever flows is nobody's. Its readings are kept as late; each that shows flow asks, a few
times soon, then now and then, and a person is told.
"""

from datetime import datetime, timedelta
from uuid import UUID

from csms import alerts, commands, failures, sessions
from csms.events import Reading
from csms.models import ChargingSession, Command

TRIGGER = "ended"
# Less than this is what a charger takes for itself.
FLOWS_W = 200
# So long after its end a session may be meant by readings that name none.
LATELY = timedelta(hours=6)
# An older reading came out of a queue: it says nothing of now.
NOW_S = 120


def heard(row: ChargingSession, readings: tuple[Reading, ...], now: datetime) -> bool:
    """Readings of a session that is over (its row locked); True when its charger was asked to stop."""
    last = readings[-1] if readings else None
    if last is None or "inferred" not in row.flags or _is_old(row, last, now):
        return False
    return _flows(row, last.power_w, last.energy_wh) and _ask(row, last, now)


def heard_unnamed(connector_id: UUID, readings: tuple[Reading, ...], now: datetime) -> bool:
    """Readings that name no transaction (Q116) show that energy flows, and none is open there: True when the one we ended
    last is meant."""
    rows = ChargingSession.objects.select_for_update(of=("self",), no_key=True).select_related("charge_point")
    row = rows.filter(connector_id=connector_id).order_by("-id").first()
    if row is None or row.ended_at is None or row.ended_at < now - LATELY or "inferred" not in row.flags:
        return False
    heard(row, readings, now)
    return True


def stopped(row: ChargingSession, now: datetime) -> None:
    """Its real stop has come."""
    if commands.effective(Command.objects.filter(session=row, action="RemoteStopTransaction", trigger=TRIGGER), now):
        alerts.clear(row.charge_point_id, "not_obeying", now)


def _ask(row: ChargingSession, reading: Reading, now: datetime) -> bool:
    asked = Command.objects.filter(session=row, action="RemoteStopTransaction", trigger=TRIGGER)
    before, attempts = asked.order_by("-id").values_list("created_at", flat=True).first(), asked.count()
    wait_s = sessions.STOP_AGAIN_S if attempts < sessions.STOP_ATTEMPTS else sessions.STOP_RARELY_S
    if before is not None and before > now - timedelta(seconds=wait_s):
        return False
    if attempts == 0:
        failures.charges_on(row, reading.power_w, reading.energy_wh)
    if attempts == sessions.STOP_ATTEMPTS:
        alerts.raise_alert(row.charge_point_id, "not_obeying", f"Session {row.pk} is over, and it charges on.", now)
        failures.not_obeyed(row, attempts)
    sessions.ask_stop(row, trigger=TRIGGER, attempt=attempts + 1)
    return True


def _is_old(row: ChargingSession, reading: Reading, now: datetime) -> bool:
    """By the charger's clock, put right by what it is known to be off."""
    return reading.at is not None and (now - row.charge_point.by_our_clock(reading.at)).total_seconds() > NOW_S


def _flows(row: ChargingSession, power_w: int | None, register_wh: int | None) -> bool:
    """Power says so; without it, a register above the last one that counted."""
    if power_w is not None:
        return power_w >= FLOWS_W
    return register_wh is not None and row.meter_last_wh is not None and register_wh > row.meter_last_wh
