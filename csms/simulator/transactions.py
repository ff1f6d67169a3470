"""A transaction from its start to its stop, and what is said about it meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from csms.simulator import limits, vendor
from csms.simulator.mailbox import Letter
from csms.simulator.outlet import Outlet, Reservation, Transaction
from csms.simulator.times import stamp

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

# A stop carries no more than this; the oldest readings go first.
MOST_DATA = 500
ENERGY = "Energy.Active.Import.Register"


def start(
    charger: Charger,
    outlet: Outlet,
    id_tag: str,
    now: datetime,
    *,
    parent: str = "",
    reservation: Reservation | None = None,
    profile: dict[str, Any] | None = None,
) -> None:
    """Begin: the tag's `parent` group, the reservation it uses, and the TxProfile a remote start brought."""
    if "session_register" in charger.habits.strange:
        outlet.register_wh = 0.0
    tx = outlet.transaction = Transaction(id_tag, now, outlet.meter_wh, parent=parent)
    payload: dict[str, Any] = {
        "connectorId": outlet.number,
        "idTag": id_tag,
        "meterStart": tx.meter_start_wh,
        "timestamp": stamp(now),
    }
    if reservation is not None:
        payload["reservationId"] = reservation.id
        charger.end_reservation(reservation.id)
    if profile is not None:
        charger.profiles.add(limits.parse(outlet.number, profile, now), most=charger.configuration.number("MaxChargingProfilesInstalled"))
    tx.begin = outlet.samples("Transaction.Begin", ENERGY)
    _keep_for_stop(charger, outlet, tx, "StopTxnSampledData", "Transaction.Begin", now)
    say_start(charger, tx, payload)


def say_start(charger: Charger, tx: Transaction, payload: dict[str, Any]) -> None:
    outlet = charger.known(payload["connectorId"])

    def heard(answer: dict[str, Any], at: datetime) -> None:
        tx.id = answer.get("transactionId")
        info = charger.learn(payload["idTag"], answer, at)
        charger.note(f"{outlet.number}: transaction {tx.id} started ({info.get('status')})")
        if info.get("status") == "Accepted":
            tx.parent = tx.parent or str(info.get("parentIdTag", "")).upper()
        elif outlet.transaction is tx:
            _unwelcome(charger, outlet, tx, at)

    keep(charger, "StartTransaction", payload, tx, heard)


def _unwelcome(charger: Charger, outlet: Outlet, tx: Transaction, now: datetime) -> None:
    """The server does not accept the tag of a transaction that runs (section 4.8)."""
    if charger.configuration.on("StopTransactionOnInvalidId"):
        stop(charger, outlet, "DeAuthorized", now)
    elif most_wh := charger.configuration.number("MaxEnergyOnInvalidId"):
        tx.most_wh, tx.limit_reason = outlet.meter_wh - tx.meter_start_wh + most_wh, "DeAuthorized"


def live(charger: Charger, outlet: Outlet, tx: Transaction, now: datetime) -> None:
    """What a transaction does as time passes: it obeys, reaches its limit, or takes a sample."""
    if tx.stop_at and now >= tx.stop_at:
        stop(charger, outlet, tx.stop_reason, now)
        return
    taken_wh = outlet.meter_wh - tx.meter_start_wh
    if (tx.most_wh is not None and taken_wh >= tx.most_wh) or (tx.until is not None and now >= tx.until):
        stop(charger, outlet, "DeAuthorized" if tx.limit_reason == "DeAuthorized" else "Local", now)
        if tx.limit_reason != "DeAuthorized":
            vendor.stop_detail(charger, tx)
        return
    every = timedelta(seconds=charger.configuration.number("MeterValueSampleInterval"))
    if every and now - (tx.sampled_at or tx.started_at) >= every:
        tx.sampled_at = now
        sample(charger, outlet, tx, now)


def sample(charger: Charger, outlet: Outlet, tx: Transaction, now: datetime) -> None:
    register_wh = charger.faults.register_wh(outlet.meter_wh)
    _say_reading(charger, outlet, tx, "Sample.Periodic", charger.configuration["MeterValuesSampledData"], now, register_wh)
    _keep_for_stop(charger, outlet, tx, "StopTxnSampledData", "Sample.Periodic", now)


def aligned(charger: Charger, outlet: Outlet, now: datetime) -> None:
    """The clock-aligned reading, with a transaction or without (ClockAlignedDataInterval)."""
    if measurands := charger.configuration["MeterValuesAlignedData"]:
        _say_reading(charger, outlet, outlet.transaction, "Sample.Clock", measurands, now)
    if outlet.transaction:
        _keep_for_stop(charger, outlet, outlet.transaction, "StopTxnAlignedData", "Sample.Clock", now)


def triggered(charger: Charger, outlet: Outlet, now: datetime) -> None:
    """A reading because the server asked for one: said now or never."""
    samples = outlet.samples("Trigger", charger.configuration["MeterValuesSampledData"])
    payload: dict[str, Any] = {"connectorId": outlet.number, "meterValue": [{"timestamp": stamp(now), "sampledValue": samples}]}
    if outlet.transaction and outlet.transaction.id is not None:
        payload["transactionId"] = outlet.transaction.id
    charger.say("MeterValues", payload)


def stop(charger: Charger, outlet: Outlet, reason: str, now: datetime, *, id_tag: str = "") -> None:
    """End the transaction there, if one runs; the current stops at once."""
    tx, outlet.transaction = outlet.transaction, None
    if tx is None:
        return
    charger.profiles.end_transaction(outlet.number)
    outlet.served, outlet.leaves_at, outlet.limit_w = True, charger.soon(charger.habits.leaves_after_s, now), None
    if not outlet.plug.knows_the_car and outlet.leaves_at is None:
        outlet.car = None
    payload: dict[str, Any] = {"meterStop": outlet.meter_wh, "timestamp": stamp(now), "reason": reason}
    if id_tag or reason in ("Local", "Remote", "EVDisconnected"):
        payload["idTag"] = id_tag or tx.id_tag
    _keep_for_stop(charger, outlet, tx, "StopTxnSampledData", "Transaction.End", now)
    if tx.data:
        payload["transactionData"] = tx.data
    elif charger.habits.transaction_data:
        end = outlet.samples("Transaction.End", ENERGY)
        payload["transactionData"] = [
            {"timestamp": stamp(tx.started_at), "sampledValue": tx.begin},
            {"timestamp": stamp(now), "sampledValue": end},
        ]
    if outlet.inoperative_later:
        outlet.operative, outlet.inoperative_later = False, False
    taken_wh = outlet.meter_wh - tx.meter_start_wh
    charger.note(f"{outlet.number}: transaction {tx.id} stopped after {taken_wh / 1000:.3f} kWh ({reason})")
    if "never_stops" not in charger.habits.strange:
        keep(charger, "StopTransaction", payload, tx)


def remote_stop(charger: Charger, outlet: Outlet, now: datetime) -> None:
    tx = outlet.transaction
    if tx is None or tx.deaf:
        return
    if "ignore_remote_stop" in charger.faults or "ignores_remote_stop" in charger.habits.strange:
        tx.deaf = True
        return
    wait_s = charger.rng.uniform(15, 30) if "late_stop" in charger.faults else charger.rng.uniform(0.2, 0.8)
    tx.stop_at, tx.stop_reason = now + timedelta(seconds=wait_s), "Remote"


def keep(charger: Charger, action: str, payload: dict[str, Any], tx: Transaction, on_answer: Any = None) -> None:
    """Something about a transaction: kept until the server has answered it."""
    charger.mailbox.add(Letter(action, payload, kept=True, transaction=tx, on_answer=on_answer))


def _say_reading(
    charger: Charger, outlet: Outlet, tx: Transaction | None, context: str, measurands: str, now: datetime, register_wh: int | None = None
) -> None:
    samples = outlet.samples(context, measurands, register_wh)
    if not samples:
        return
    payload = {"connectorId": outlet.number, "meterValue": [{"timestamp": stamp(now), "sampledValue": samples}]}
    if tx is not None:
        keep(charger, "MeterValues", payload, tx)
    else:
        charger.say("MeterValues", payload)


def _keep_for_stop(charger: Charger, outlet: Outlet, tx: Transaction, key: str, context: str, now: datetime) -> None:
    if (measurands := charger.configuration[key]) and (samples := outlet.samples(context, measurands)):
        tx.data.append({"timestamp": stamp(now), "sampledValue": samples})
        del tx.data[: max(0, len(tx.data) - MOST_DATA)]
