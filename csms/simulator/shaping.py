"""How the charging profiles shape the power of the outlets, and the schedule they make together."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from csms.simulator import limits
from csms.simulator.limits import Limit
from csms.simulator.outlet import Outlet
from csms.simulator.times import stamp

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

# With less a car does not charge on AC at all (IEC 61851).
LEAST_AMPS = 6.0


def shape(charger: Charger, now: datetime) -> None:
    """Set what each outlet may give now: its own limit, and its share of the charger's."""
    if not charger.profiles.kept:
        for outlet in charger.outlets:
            outlet.limit_w = None
        return
    own = {outlet.number: charger.profiles.outlet(outlet.number, now, _begun(outlet, now)) for outlet in charger.outlets}
    for outlet in charger.outlets:
        limit = own[outlet.number]
        outlet.limit_w = limit.watts(outlet.plug.nominal_volts, outlet.plug.phases) if limit else None
    whole = charger.profiles.whole(now, now)
    whole_w = whole.watts(_volts(charger), _phases(charger)) if whole else None
    running = [outlet for outlet in charger.outlets if outlet.transaction]
    if whole_w is not None and running:
        wanted = [outlet.car.asks_for_w(outlet.offered_w) if outlet.car else 0.0 for outlet in running]
        for outlet, wanted_w, given_w in zip(running, wanted, limits.share(whole_w, wanted), strict=True):
            outlet.limit_w = given_w if given_w < wanted_w else min(outlet.offered_w, whole_w)
    for outlet in running:
        if outlet.plug.type == "type2" and outlet.offered_w < _least_w(outlet, own[outlet.number]) - 0.5:
            outlet.limit_w = 0.0


def _least_w(outlet: Outlet, limit: Limit | None) -> float:
    phases = min(outlet.plug.phases, limit.phases) if limit else outlet.plug.phases
    return LEAST_AMPS * outlet.plug.nominal_volts * phases


def composite(charger: Charger, connector: int, duration_s: int, unit: str | None, now: datetime) -> dict[str, Any] | None:
    """GetCompositeSchedule.conf's schedule for the next `duration_s`; None for an outlet or a duration that is none."""
    outlet = charger.outlet(connector)
    if duration_s < 1 or (outlet is None and connector != 0):
        return None
    unit = unit or ("W" if outlet is None or outlet.plug.dc else "A")
    until, begun = now + timedelta(seconds=duration_s), _begun(outlet, now) if outlet else now
    periods: list[dict[str, Any]] = []
    for moment in [now, *charger.profiles.turns(now, until, begun)]:
        value, phases = _allowed(charger, outlet, moment, begun, unit)
        period = {"limit": limits.tenths(value)} | ({"numberPhases": phases} if unit == "A" else {})
        if not periods or {name: periods[-1][name] for name in period} != period:
            periods.append({"startPeriod": round((moment - now).total_seconds()), **period})
    return {"duration": duration_s, "startSchedule": stamp(now), "chargingRateUnit": unit, "chargingSchedulePeriod": periods}


def _allowed(charger: Charger, outlet: Outlet | None, moment: datetime, begun: datetime, unit: str) -> tuple[float, int]:
    """What may flow at that moment, in that unit, and over how many phases."""
    volts, phases = (outlet.plug.nominal_volts, outlet.plug.phases) if outlet else (_volts(charger), _phases(charger))
    watts: float = outlet.plug.max_power_w if outlet else sum(one.plug.max_power_w for one in charger.outlets)
    said: list[Limit] = [limit for limit in [charger.profiles.whole(moment, begun)] if limit]
    if outlet and (own := charger.profiles.outlet(outlet.number, moment, begun)):
        said.append(own)
    for limit in said:
        watts = min(watts, limit.watts(volts, phases))
        if limit.unit == "A":
            phases = min(phases, limit.phases)
    return (watts if unit == "W" else watts / (volts * phases)), phases


def _begun(outlet: Outlet, now: datetime) -> datetime:
    return outlet.transaction.started_at if outlet.transaction else now


def _volts(charger: Charger) -> float:
    return max(outlet.plug.nominal_volts for outlet in charger.outlets)


def _phases(charger: Charger) -> int:
    return max(outlet.plug.phases for outlet in charger.outlets)
