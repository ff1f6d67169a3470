"""What a charger answers to each call of the server's: one table, one function per action."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from csms.simulator import wire
from csms.simulator.outlet import Outlet

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]
NONE: Payload = {}


def answer(charger: Charger, frame: wire.Frame, now: datetime) -> str:
    """The frame that answers the server's call. Never raises: an unknown action is NotImplemented."""
    deed = ACTIONS.get(frame.action)
    if deed is None:
        return wire.error(frame.uid, "NotImplemented", f"{frame.action} is not known here")
    try:
        return wire.result(frame.uid, deed(charger, frame.payload, now))
    except KeyError as missing:
        return wire.error(frame.uid, "OccurenceConstraintViolation", f"{missing} is missing or has no such value")
    except (TypeError, ValueError) as reason:
        return wire.error(frame.uid, "PropertyConstraintViolation", str(reason)[:200])


def _status(word: str) -> Payload:
    return {"status": word}


# -- starts and stops --------------------------------------------------------------------------------------------
def remote_start_transaction(charger: Charger, call: Payload, now: datetime) -> Payload:
    id_tag = call["idTag"]
    wanted = call.get("connectorId")
    free = [one for one in charger.outlets if one.free_for(id_tag) and wanted in (None, one.number)]
    if not free or charger.reset_reason:
        return _status("Rejected")
    charger.remote_start(free[0], id_tag, now)
    return _status("Accepted")


def remote_stop_transaction(charger: Charger, call: Payload, now: datetime) -> Payload:
    wanted = call["transactionId"]
    for outlet in charger.outlets:
        if outlet.transaction and outlet.transaction.id == wanted:
            charger.remote_stop(outlet, now)
            return _status("Accepted")
    return _status("Rejected")


def unlock_connector(charger: Charger, call: Payload, now: datetime) -> Payload:
    outlet = charger.outlet(call["connectorId"])
    if outlet is None or not outlet.plug.locks:
        return _status("NotSupported")
    charger.stop(outlet, "UnlockCommand", now)
    return _status("Unlocked")


# -- reservations --------------------------------------------------------------------------------------------------
def reserve_now(charger: Charger, call: Payload, now: datetime) -> Payload:
    outlet = charger.outlet(call["connectorId"])
    if outlet is None:
        return _status("Rejected")
    same = outlet.reserved is not None and outlet.reserved[0] == call["reservationId"]
    if outlet.faulted or not outlet.operative:
        return _status("Faulted" if outlet.faulted else "Unavailable")
    if outlet.transaction or outlet.waiting or (outlet.reserved and not same):
        return _status("Occupied")
    until = datetime.fromisoformat(call["expiryDate"].replace("Z", "+00:00"))
    outlet.reserved = (call["reservationId"], call["idTag"], until)
    return _status("Accepted")


def cancel_reservation(charger: Charger, call: Payload, now: datetime) -> Payload:
    for outlet in charger.outlets:
        if outlet.reserved and outlet.reserved[0] == call["reservationId"]:
            outlet.reserved = None
            return _status("Accepted")
    return _status("Rejected")


# -- the charger itself ------------------------------------------------------------------------------------------
def change_availability(charger: Charger, call: Payload, now: datetime) -> Payload:
    operative = {"Operative": True, "Inoperative": False}[call["type"]]
    number = call["connectorId"]
    chosen = charger.outlets if number == 0 else [one for one in charger.outlets if one.number == number]
    if not chosen:
        return _status("Rejected")
    later = False
    for outlet in chosen:
        outlet.inoperative_later = not operative and outlet.transaction is not None
        later = later or outlet.inoperative_later
        if not outlet.inoperative_later:
            outlet.operative = operative
    return _status("Scheduled" if later else "Accepted")


def reset(charger: Charger, call: Payload, now: datetime) -> Payload:
    charger.reset_reason = {"Soft": "SoftReset", "Hard": "HardReset"}[call["type"]]
    charger.reset_by = now + timedelta(seconds=10)
    for outlet in charger.outlets:
        charger.stop(outlet, charger.reset_reason, now)
    return _status("Accepted")


def get_configuration(charger: Charger, call: Payload, now: datetime) -> Payload:
    return charger.configuration.answer(call.get("key"))


def change_configuration(charger: Charger, call: Payload, now: datetime) -> Payload:
    return _status(charger.configuration.change(call["key"], call["value"]))


def clear_cache(charger: Charger, call: Payload, now: datetime) -> Payload:
    return _status("Accepted")


def data_transfer(charger: Charger, call: Payload, now: datetime) -> Payload:
    return _status("UnknownVendorId")


def get_local_list_version(charger: Charger, call: Payload, now: datetime) -> Payload:
    return {"listVersion": -1}


def send_local_list(charger: Charger, call: Payload, now: datetime) -> Payload:
    return _status("NotSupported")


def trigger_message(charger: Charger, call: Payload, now: datetime) -> Payload:
    wanted = call["requestedMessage"]
    number = call.get("connectorId")
    chosen = [one for one in charger.outlets if number in (None, one.number)]
    if not chosen and number != 0:
        return _status("Rejected")
    if wanted not in TRIGGERS:
        return _status("NotImplemented")
    for outlet in chosen if wanted in ("MeterValues", "StatusNotification") else chosen[:1]:
        TRIGGERS[wanted](charger, outlet, now)
    return _status("Accepted")


def _trigger_boot(charger: Charger, outlet: Outlet, now: datetime) -> None:
    charger.boot(now)


def _trigger_meter_values(charger: Charger, outlet: Outlet, now: datetime) -> None:
    if outlet.transaction:
        charger.sample(outlet, outlet.transaction, now)


TRIGGERS: dict[str, Callable[[Charger, Outlet, datetime], None]] = {
    "BootNotification": _trigger_boot,
    "Heartbeat": lambda charger, outlet, now: charger.say("Heartbeat", {}),
    "StatusNotification": lambda charger, outlet, now: charger.tell_status(outlet, now),
    "MeterValues": _trigger_meter_values,
    "FirmwareStatusNotification": lambda charger, outlet, now: charger.say("FirmwareStatusNotification", {"status": "Idle"}),
    "DiagnosticsStatusNotification": lambda charger, outlet, now: charger.say("DiagnosticsStatusNotification", {"status": "Idle"}),
}


# -- smart charging: the first limit of the newest profile ---------------------------------------------------------
def set_charging_profile(charger: Charger, call: Payload, now: datetime) -> Payload:
    schedule = call["csChargingProfiles"]["chargingSchedule"]
    limit = float(schedule["chargingSchedulePeriod"][0]["limit"])
    number = call["connectorId"]
    chosen = [one for one in charger.outlets if number in (0, one.number)]
    if not chosen or (call["csChargingProfiles"]["chargingProfilePurpose"] == "TxProfile" and not any(one.transaction for one in chosen)):
        return _status("Rejected")
    for outlet in chosen:
        volts, _ = outlet.plug.volts_and_amps(outlet.car)
        outlet.limit_w = limit if schedule["chargingRateUnit"] == "W" else limit * (volts or 400.0) * outlet.plug.phases
    return _status("Accepted")


def clear_charging_profile(charger: Charger, call: Payload, now: datetime) -> Payload:
    limited = [one for one in charger.outlets if one.limit_w is not None and call.get("connectorId") in (None, 0, one.number)]
    for outlet in limited:
        outlet.limit_w = None
    return _status("Accepted" if limited else "Unknown")


def get_composite_schedule(charger: Charger, call: Payload, now: datetime) -> Payload:
    return _status("Rejected")


# -- firmware and diagnostics --------------------------------------------------------------------------------------
def update_firmware(charger: Charger, call: Payload, now: datetime) -> Payload:
    begin = max(now, datetime.fromisoformat(call["retrieveDate"].replace("Z", "+00:00")))
    steps = [(2, "Downloading"), (6, "Downloaded"), (8, "Installing"), (12, "restart"), (13, "Installed")]
    charger.jobs = [(begin + timedelta(seconds=after_s), step) for after_s, step in steps]
    charger.firmware_waiting = call["location"].rsplit("/", 1)[-1][:50]
    return NONE


def get_diagnostics(charger: Charger, call: Payload, now: datetime) -> Payload:
    charger.jobs = [(now + timedelta(seconds=1), "Uploading"), (now + timedelta(seconds=4), "Uploaded")]
    return {"fileName": f"{charger.cp_id}-diagnostics.tar.gz"}


def do_job(charger: Charger, step: str, now: datetime) -> None:
    """One step of a firmware update or of a diagnostics upload."""
    if step == "restart":
        charger.firmware = charger.firmware_waiting or charger.firmware
        charger.restart(now, keeps_transactions=False, why="installs its firmware", reason="Reboot")
    elif step.startswith("Upload"):
        charger.say("DiagnosticsStatusNotification", {"status": step})
    else:
        charger.say("FirmwareStatusNotification", {"status": step})


ACTIONS: dict[str, Callable[[Charger, Payload, datetime], Payload]] = {
    "CancelReservation": cancel_reservation,
    "ChangeAvailability": change_availability,
    "ChangeConfiguration": change_configuration,
    "ClearCache": clear_cache,
    "ClearChargingProfile": clear_charging_profile,
    "DataTransfer": data_transfer,
    "GetCompositeSchedule": get_composite_schedule,
    "GetConfiguration": get_configuration,
    "GetDiagnostics": get_diagnostics,
    "GetLocalListVersion": get_local_list_version,
    "RemoteStartTransaction": remote_start_transaction,
    "RemoteStopTransaction": remote_stop_transaction,
    "ReserveNow": reserve_now,
    "Reset": reset,
    "SendLocalList": send_local_list,
    "SetChargingProfile": set_charging_profile,
    "TriggerMessage": trigger_message,
    "UnlockConnector": unlock_connector,
    "UpdateFirmware": update_firmware,
}
