"""The people at a charger: they come after a remote start, plug in, and drive away."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from csms.simulator import permission, statuses, transactions
from csms.simulator.car import Car
from csms.simulator.outlet import Outlet
from csms.simulator.profiles import some_car

if TYPE_CHECKING:
    from csms.simulator.charger import Charger


def live(charger: Charger, outlet: Outlet, now: datetime) -> None:
    """Who was to come or to go by now does."""
    if outlet.arrives_at and now >= outlet.arrives_at:
        outlet.arrives_at = None
        if outlet.car is None:
            plug_in(charger, outlet, now)
    if outlet.leaves_at and now >= outlet.leaves_at:
        unplug(charger, outlet, now)
    if outlet.waiting and now >= outlet.waiting.until:
        charger.note(f"{outlet.number}: nobody plugged in, the start is forgotten")
        outlet.waiting = outlet.arrives_at = None
    if outlet.transaction and outlet.car and outlet.car.full and outlet.leaves_at is None:
        outlet.leaves_at = charger.soon(charger.habits.leaves_after_s, now)


def plug_in(charger: Charger, outlet: Outlet, now: datetime, car: Car | None = None) -> None:
    outlet.car, outlet.served, outlet.leaves_at = car or some_car(outlet.plug, charger.rng), False, None
    if outlet.waiting and not outlet.faulted:
        statuses.tell_changes(charger, now)  # Preparing comes before the start
        waited, outlet.waiting = outlet.waiting, None
        permission.granted(charger, outlet, waited.id_tag, now, parent=waited.parent, profile=waited.profile)
    elif outlet.transaction is None and charger.habits.leaves_after_s:
        outlet.leaves_at = now + timedelta(seconds=charger.configuration.number("ConnectionTimeOut") * 3)


def unplug(charger: Charger, outlet: Outlet, now: datetime) -> None:
    """The car goes; a transaction ends with it, or waits for it (StopTransactionOnEVSideDisconnect)."""
    if charger.configuration.on("StopTransactionOnEVSideDisconnect"):
        transactions.stop(charger, outlet, "EVDisconnected", now)
    outlet.car = outlet.leaves_at = None
    outlet.served = False
