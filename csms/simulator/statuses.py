"""What a charger says of its connectors, and when: a StatusNotification for each change (OCPP 1.6 section 4.9)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from csms.simulator.outlet import Trouble
from csms.simulator.times import stamp

if TYPE_CHECKING:
    from csms.simulator.charger import Charger


def of_the_charger(charger: Charger) -> str:
    """Connector 0's status."""
    return "Faulted" if charger.error.faulted else "Available" if charger.operative else "Unavailable"


def forget(charger: Charger) -> None:
    """The server is to hear them all again."""
    charger.told = ""
    for outlet in charger.outlets:
        outlet.told = ""


def tell_changes(charger: Charger, now: datetime) -> None:
    """Say what is not as it was said last; a fault at once, the rest when it has lasted (MinimumStatusDuration)."""
    if not (charger.online and charger.registered):
        return
    if charger.told != _words(of_the_charger(charger), charger.error):
        tell(charger, 0, now)
    least = timedelta(seconds=charger.configuration.number("MinimumStatusDuration"))
    for outlet in charger.outlets:
        words = _words(outlet.status(), outlet.trouble)
        if words != outlet.seen:
            outlet.seen, outlet.seen_at = words, now
        lasted = not outlet.told or outlet.faulted or outlet.seen_at is None or now - outlet.seen_at >= least
        if words != outlet.told and lasted:
            tell(charger, outlet.number, now)


def tell(charger: Charger, number: int, now: datetime) -> None:
    outlet = charger.outlet(number)
    if outlet:
        status, trouble = outlet.status(), outlet.trouble
        outlet.told = _words(status, trouble)
    else:
        status, trouble = of_the_charger(charger), charger.error
        charger.told = _words(status, trouble)
    payload: dict[str, Any] = {"connectorId": number, "status": status, "errorCode": trouble.code, "timestamp": stamp(now)}
    if trouble.info:
        payload["info"] = trouble.info[:50]
    if trouble.vendor_code:
        payload |= {"vendorId": charger.habits.vendor, "vendorErrorCode": trouble.vendor_code[:50]}
    charger.say("StatusNotification", payload)


def tell_conflict(charger: Charger, id_tag: str, status: str, now: datetime) -> None:
    """The server says otherwise of a tag than the Local Authorization List it gave (section 3.5.3)."""
    conflict = {"connectorId": 0, "status": of_the_charger(charger), "errorCode": "LocalListConflict", "timestamp": stamp(now)}
    charger.say("StatusNotification", {**conflict, "info": f"{id_tag} is {status}"})


def _words(status: str, trouble: Trouble) -> str:
    return f"{status} {trouble.code} {trouble.vendor_code}"
