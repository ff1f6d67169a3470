"""ReserveNow, CancelReservation (OCPP 1.6 sections 5.13, 5.2)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from csms.simulator.outlet import Outlet, Reservation
from csms.simulator.times import read

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]


def reserve_now(charger: Charger, call: Payload, now: datetime) -> Payload:
    """A reservation of the same number takes the place of the one before."""
    wanted = Reservation(call["reservationId"], call["connectorId"], call["idTag"], read(call["expiryDate"]), call.get("parentIdTag") or "")
    outlet = charger.outlet(wanted.connector)
    if wanted.until <= now or (outlet is None and wanted.connector != 0):
        return {"status": "Rejected"}
    if outlet is None and not charger.configuration.on("ReserveConnectorZeroSupported"):
        return {"status": "Rejected"}
    status = _room(outlet, wanted.id) if outlet else _room_anywhere(charger, wanted.id)
    if status == "Accepted":
        charger.end_reservation(wanted.id)
        if outlet:
            outlet.reserved = wanted
        else:
            charger.reserved_any.append(wanted)
    return {"status": status}


def cancel_reservation(charger: Charger, call: Payload, now: datetime) -> Payload:
    return {"status": "Accepted" if charger.end_reservation(call["reservationId"]) else "Rejected"}


def _room(outlet: Outlet, id: int) -> str:
    """What ReserveNow.conf says about this outlet."""
    if outlet.faulted:
        return "Faulted"
    if not outlet.operative or outlet.inoperative_later or outlet.updating:
        return "Unavailable"
    in_use = outlet.transaction or outlet.waiting or (outlet.plug.knows_the_car and outlet.car)
    return "Occupied" if in_use or (outlet.reserved and outlet.reserved.id != id) else "Accepted"


def _room_anywhere(charger: Charger, id: int) -> str:
    """One free outlet more than are promised already; else what most stands in the way."""
    said = [_room(outlet, id) for outlet in charger.outlets]
    promised = sum(1 for one in charger.reserved_any if one.id != id)
    if said.count("Accepted") > promised:
        return "Accepted"
    return next((word for word in ("Occupied", "Unavailable") if word in said), "Occupied" if "Accepted" in said else "Faulted")
