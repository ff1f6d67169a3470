"""A vendor's own messages, by DataTransfer: signal quality, and how a transaction goes on after a reboot or ends at a limit.

Outwards SignalQuality, GetLastMeterValue and StopDetail; inwards PostBootState and SessionLimit. Each is a habit
(`csms.simulator.habits`); what a charger does not have the habit of, it does not know.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from csms.simulator.outlet import Outlet, Transaction

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

VENDOR = "VOLTLYNC"
# Told nothing for so long after a boot, the charger asks by itself.
PUSH_WITHIN_S = 15
UNKNOWN_RSSI = 99


def hear(charger: Charger, call: dict[str, Any], now: datetime) -> dict[str, Any]:
    """DataTransfer.conf to what the server says."""
    habits = charger.habits
    if call["vendorId"].upper() != VENDOR or not (habits.signal_every_s or habits.strange & {"post_boot_state", "session_limit"}):
        return {"status": "UnknownVendorId"}
    message = call.get("messageId", "")
    deed = {"PostBootState": _post_boot_state, "SessionLimit": _session_limit}.get(message)
    if deed is None or {"PostBootState": "post_boot_state", "SessionLimit": "session_limit"}[message] not in habits.strange:
        return {"status": "UnknownMessageId"}
    try:
        said = json.loads(call.get("data") or "null")
        good = isinstance(said, dict) and deed(charger, said, now)
    except (ValueError, TypeError, KeyError):
        good = False
    return {"status": "Accepted" if good else "Rejected"}


def tick(charger: Charger, now: datetime) -> None:
    """Time has passed on an open line: the signal is due, or the server has not told what it should have."""
    every = timedelta(seconds=charger.habits.signal_every_s)
    if every and charger.signal_at is None:  # not all chargers of a network in the same second
        charger.signal_at = now + every * charger.rng.random()
    if every and charger.signal_at and now >= charger.signal_at:
        charger.signal_at = now + every
        signal(charger, now)
    if charger.ask_at and now >= charger.ask_at:
        charger.ask_at = None
        for outlet in charger.outlets:
            if outlet.transaction and outlet.transaction.asleep:
                _ask_last_meter_value(charger, outlet, outlet.transaction)


def signal(charger: Charger, now: datetime, rssi: int | None = None, ber: int = UNKNOWN_RSSI) -> None:
    """How well the modem hears: CSQ 0 to 31, 99 when it does not know."""
    said = {
        "rssi": charger.rng.choice([*range(12, 27), UNKNOWN_RSSI]) if rssi is None else rssi,
        "ber": ber,
        "temperature": round(charger.rng.uniform(31, 46), 1),
        "timestamp": str(round((now - charger.up_since).total_seconds())) if charger.up_since else "0",
    }
    _tell(charger, "SignalQuality", said)


def after_boot(charger: Charger, now: datetime) -> None:
    """What ran when it went down waits for a word, if that is its habit; else it simply goes on."""
    sleeping = [outlet.transaction for outlet in charger.outlets if outlet.transaction and outlet.transaction.asleep]
    waits, asks = "post_boot_state" in charger.habits.strange, "last_meter_value" in charger.habits.strange
    if sleeping and (waits or asks):
        charger.ask_at = now + timedelta(seconds=PUSH_WITHIN_S if waits else 0)
        return
    for tx in sleeping:
        tx.asleep = False


def stop_detail(charger: Charger, tx: Transaction) -> None:
    """Why the stop that was just said as Local really happened."""
    _tell(charger, "StopDetail", {"transactionId": tx.id, "reason": "SessionLimit"})


def _ask_last_meter_value(charger: Charger, outlet: Outlet, tx: Transaction) -> None:
    def heard(answer: dict[str, Any], at: datetime) -> None:
        if outlet.transaction is not tx:
            return
        # A server that does not know the message has no opinion: go on.
        _wake(charger, outlet, tx, answer.get("status") != "Rejected", at)

    _tell(charger, "GetLastMeterValue", {"transactionId": tx.id}, heard)


def _post_boot_state(charger: Charger, said: dict[str, Any], now: datetime) -> bool:
    """One transaction, or a list of them: a charger may have several outlets. What the server does not name is over."""
    pending = {one["transactionId"] for one in said.get("transactions") or [said]} if said["hasPendingTransaction"] else set()
    charger.ask_at = None
    mine = {outlet.transaction.id for outlet in charger.outlets if outlet.transaction}
    for outlet in charger.outlets:
        if outlet.transaction and outlet.transaction.asleep:
            _wake(charger, outlet, outlet.transaction, outlet.transaction.id in pending, now)
    return not pending or bool(pending & mine)


def _session_limit(charger: Charger, said: dict[str, Any], now: datetime) -> bool:
    """An absolute limit from the meter at the start, in Wh and seconds; said again it replaces the one before."""
    tx = next((one.transaction for one in charger.outlets if one.transaction and one.transaction.id == said["transactionId"]), None)
    if tx is None:
        return False
    energy_wh, time_s = said.get("maxEnergy"), said.get("maxTime")
    tx.most_wh = int(energy_wh) if energy_wh is not None else None
    tx.until = tx.started_at + timedelta(seconds=int(time_s)) if time_s is not None else None
    tx.limit_reason = "SessionLimit"
    return True


def _wake(charger: Charger, outlet: Outlet, tx: Transaction, goes_on: bool, now: datetime) -> None:
    tx.asleep = False
    charger.note(f"{outlet.number}: transaction {tx.id} {'goes on' if goes_on else 'is over, says the server'}")
    if not goes_on:
        charger.stop(outlet, "PowerLoss", now)


def _tell(charger: Charger, message: str, said: dict[str, Any], on_answer: Any = None) -> None:
    data = json.dumps(said, separators=(",", ":"))
    charger.say("DataTransfer", {"vendorId": VENDOR, "messageId": message, "data": data}, on_answer=on_answer)
