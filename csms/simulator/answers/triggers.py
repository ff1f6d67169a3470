"""TriggerMessage and ExtendedTriggerMessage: each message once more, because the server asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from csms.simulator import firmware, statuses, transactions, uploads

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]
# What it does to one connector (0: the charger).
Trigger = Callable[["Charger", int, datetime], None]
PER_CONNECTOR = ("MeterValues", "StatusNotification")


def trigger_message(charger: Charger, call: Payload, now: datetime) -> Payload:
    return _trigger(charger, call, now, TRIGGERS)


def extended_trigger_message(charger: Charger, call: Payload, now: datetime) -> Payload:
    return _trigger(charger, call, now, EXTENDED)


def _trigger(charger: Charger, call: Payload, now: datetime, table: dict[str, Trigger]) -> Payload:
    wanted, number = call["requestedMessage"], call.get("connectorId")
    if wanted not in table:
        return {"status": "NotImplemented"}
    if number not in (None, 0) and charger.outlet(number) is None:
        return {"status": "Rejected"}
    with charger.triggered():
        for connector in _connectors(charger, wanted, number):
            table[wanted](charger, connector, now)
    return {"status": "Accepted"}


def _connectors(charger: Charger, wanted: str, number: int | None) -> list[int]:
    if wanted not in PER_CONNECTOR:
        return [0]
    if number is not None:
        return [number]
    return [0, *(outlet.number for outlet in charger.outlets)]


def _meter_values(charger: Charger, connector: int, now: datetime) -> None:
    for outlet in charger.outlets:
        if outlet.number == connector:
            transactions.triggered(charger, outlet, now)


def _sign_certificate(charger: Charger, connector: int, now: datetime) -> None:
    charger.ask_for_certificate()


BOTH: dict[str, Trigger] = {
    "BootNotification": lambda charger, connector, now: charger.boot(now),
    "Heartbeat": lambda charger, connector, now: charger.say("Heartbeat", {}),
    "MeterValues": _meter_values,
    "StatusNotification": statuses.tell,
}
TRIGGERS: dict[str, Trigger] = BOTH | {
    "DiagnosticsStatusNotification": lambda charger, connector, now: uploads.say_where(
        charger, charger.diagnostics, "DiagnosticsStatusNotification"
    ),
    "FirmwareStatusNotification": lambda charger, connector, now: firmware.say_status(charger, charger.update),
}
EXTENDED: dict[str, Trigger] = BOTH | {
    "FirmwareStatusNotification": lambda charger, connector, now: firmware.say_status(charger, charger.update, signed=True),
    "LogStatusNotification": lambda charger, connector, now: uploads.say_where(charger, charger.log, "LogStatusNotification"),
    "SignChargePointCertificate": _sign_certificate,
}
