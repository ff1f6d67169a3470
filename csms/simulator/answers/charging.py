"""SetChargingProfile, ClearChargingProfile, GetCompositeSchedule (OCPP 1.6 sections 5.16, 5.5, 5.7)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from csms.simulator import limits, shaping
from csms.simulator.times import stamp

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]
UNITS = {"A": "Current", "W": "Power"}


def set_charging_profile(charger: Charger, call: Payload, now: datetime) -> Payload:
    number, settings = call["connectorId"], charger.configuration
    outlet = charger.outlet(number)
    try:
        profile = limits.parse(number, call["csChargingProfiles"], now)
    except (KeyError, TypeError, ValueError) as reason:
        charger.note(f"a charging profile that cannot be: {reason}")
        return {"status": "Rejected"}
    known = number == 0 or outlet is not None
    small = profile.stack <= settings.number("ChargeProfileMaxStackLevel") and len(profile.limits) <= settings.number(
        "ChargingScheduleMaxPeriods"
    )
    if not known or not small or profile.stack < 0 or not _unit_allowed(charger, profile.limits[0].unit):
        return {"status": "Rejected"}
    if (profile.purpose == limits.MAX and number != 0) or (profile.purpose == limits.TX and not _runs(charger, profile)):
        return {"status": "Rejected"}
    installed = charger.profiles.add(profile, most=settings.number("MaxChargingProfilesInstalled"))
    return {"status": "Accepted" if installed else "Rejected"}


def clear_charging_profile(charger: Charger, call: Payload, now: datetime) -> Payload:
    gone = charger.profiles.clear(
        id=call.get("id"),
        connector=call.get("connectorId"),
        purpose=call.get("chargingProfilePurpose"),
        stack=call.get("stackLevel"),
    )
    return {"status": "Accepted" if gone else "Unknown"}


def get_composite_schedule(charger: Charger, call: Payload, now: datetime) -> Payload:
    number, unit = call["connectorId"], call.get("chargingRateUnit")
    schedule = shaping.composite(charger, number, call["duration"], unit, now)
    if schedule is None or not _unit_allowed(charger, schedule["chargingRateUnit"]):
        return {"status": "Rejected"}
    return {"status": "Accepted", "connectorId": number, "scheduleStart": stamp(now), "chargingSchedule": schedule}


def _unit_allowed(charger: Charger, unit: str) -> bool:
    return UNITS[unit] in charger.configuration["ChargingScheduleAllowedChargingRateUnit"].split(",")


def _runs(charger: Charger, profile: limits.Profile) -> bool:
    """A TxProfile is for the transaction that runs there now (section 5.16.4)."""
    outlet = charger.outlet(profile.connector)
    tx = outlet.transaction if outlet else None
    return tx is not None and profile.transaction_id in (None, tx.id)
