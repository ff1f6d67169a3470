"""RemoteStartTransaction, RemoteStopTransaction, UnlockConnector."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from csms.simulator import limits, permission, tags
from csms.simulator.outlet import Outlet

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]


def remote_start_transaction(charger: Charger, call: Payload, now: datetime) -> Payload:
    """Accepted when an outlet is free for the tag; whether the tag may charge is asked later, if at all."""
    id_tag, wanted, profile = call["idTag"], call.get("connectorId"), call.get("chargingProfile")
    if not charger.registered or charger.reset_reason or (profile is not None and not _fits_a_start(charger, profile, now)):
        return {"status": "Rejected"}
    free = [one for one in charger.outlets if wanted in (None, one.number) and one.idle and _may_be_for(charger, one, id_tag)]
    if not free:
        return {"status": "Rejected"}
    # Without a number: where it has reserved, else where a car stands, else the first.
    outlet = min(free, key=lambda one: (one.reserved is None, one.car is None, one.number))
    if charger.configuration.on("AuthorizeRemoteTxRequests") or _needs_parent(charger, outlet, id_tag):
        permission.ask(charger, outlet, id_tag, now, profile)
    else:
        permission.granted(charger, outlet, id_tag, now, parent=_parent(charger, id_tag), profile=profile)
    return {"status": "Accepted"}


def remote_stop_transaction(charger: Charger, call: Payload, now: datetime) -> Payload:
    wanted = call["transactionId"]
    for outlet in charger.outlets:
        if outlet.transaction and outlet.transaction.id == wanted:
            charger.remote_stop(outlet, now)
            return {"status": "Accepted"}
    return {"status": "Rejected"}


def unlock_connector(charger: Charger, call: Payload, now: datetime) -> Payload:
    """Ends a transaction there, whether the lock then opens or not (OCPP 1.6 section 5.18)."""
    outlet = charger.outlet(call["connectorId"])
    if outlet is None or not outlet.plug.locks:
        return {"status": "NotSupported"}
    charger.stop(outlet, "UnlockCommand", now)
    return {"status": "UnlockFailed" if outlet.lock_broken else "Unlocked"}


def _fits_a_start(charger: Charger, profile: Payload, now: datetime) -> bool:
    """Only a TxProfile that names no transaction (section 5.16.2)."""
    try:
        read = limits.parse(1, profile, now)
    except (KeyError, TypeError, ValueError):
        return False
    return (
        read.purpose == limits.TX
        and read.transaction_id is None
        and read.stack <= charger.configuration.number("ChargeProfileMaxStackLevel")
    )


def _may_be_for(charger: Charger, outlet: Outlet, id_tag: str) -> bool:
    return permission.place_for(charger, outlet, id_tag, _parent(charger, id_tag))[0] or _needs_parent(charger, outlet, id_tag)


def _needs_parent(charger: Charger, outlet: Outlet, id_tag: str) -> bool:
    """Reserved for a group, and whether the tag belongs to it only the server knows."""
    held = outlet.reserved
    return held is not None and bool(held.parent) and not tags.same(held.id_tag, id_tag) and not _parent(charger, id_tag)


def _parent(charger: Charger, id_tag: str) -> str:
    return str((permission.local(charger, id_tag) or {}).get("parentIdTag", "")).upper()
