"""The charger itself: ChangeAvailability, Reset, GetConfiguration, ChangeConfiguration."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]
ABOUT_SECURITY = ("authorizationkey", "securityprofile")


def change_availability(charger: Charger, call: Payload, now: datetime) -> Payload:
    """Connector 0 is the charger with all its outlets. Where a transaction runs it is Scheduled."""
    operative = {"Operative": True, "Inoperative": False}[call["type"]]
    number = call["connectorId"]
    chosen = charger.outlets if number == 0 else [one for one in charger.outlets if one.number == number]
    if not chosen:
        return {"status": "Rejected"}
    later = False
    for outlet in chosen:
        outlet.inoperative_later = not operative and outlet.transaction is not None
        later = later or outlet.inoperative_later
        if not outlet.inoperative_later:
            outlet.operative = operative
    if number == 0:
        charger.operative = operative
    return {"status": "Scheduled" if later else "Accepted"}


def reset(charger: Charger, call: Payload, now: datetime) -> Payload:
    reason = {"Soft": "SoftReset", "Hard": "HardReset"}[call["type"]]
    if charger.update and charger.update.busy:
        return {"status": "Rejected"}
    charger.reset_reason, charger.reset_by = reason, now + timedelta(seconds=10)
    for outlet in charger.outlets:
        charger.stop(outlet, reason, now)
    return {"status": "Accepted"}


def get_configuration(charger: Charger, call: Payload, now: datetime) -> Payload:
    return charger.configuration.answer(call.get("key"))


def change_configuration(charger: Charger, call: Payload, now: datetime) -> Payload:
    status = charger.configuration.change(call["key"], call["value"])
    if status in ("Accepted", "RebootRequired") and call["key"].lower() in ABOUT_SECURITY:
        charger.event("ReconfigurationOfSecurityParameters", call["key"], now)
    return {"status": status}
