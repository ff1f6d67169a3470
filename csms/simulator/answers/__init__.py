"""What a charger answers to each call of the server's: one table, one function per action, a file per noun."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from csms.simulator import vendor, wire
from csms.simulator.answers import charging, files, remote, reservations, security, settings, tags, triggers

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]
ERRORS = {"NotImplemented", "NotSupported", "InternalError", "ProtocolError", "SecurityError", "GenericError"}
SILENCE = "silence"


def answer(charger: Charger, frame: wire.Frame, now: datetime) -> str | None:
    """The frame that answers the server's call. Never raises: an unknown action is NotImplemented.

    None only when somebody has told the charger to be silent (`Charger.forced`, see the script's `answer`).
    """
    if word := charger.forced.pop(frame.action, ""):
        return _forced(frame, word)
    deed = ACTIONS.get(frame.action)
    if deed is None:
        return wire.error(frame.uid, "NotImplemented", f"{frame.action} is not known here")
    try:
        return wire.result(frame.uid, deed(charger, frame.payload, now))
    except KeyError as missing:
        return wire.error(frame.uid, "OccurenceConstraintViolation", f"{missing} is missing or has no such value")
    except (TypeError, ValueError, AttributeError) as reason:
        return wire.error(frame.uid, "PropertyConstraintViolation", str(reason)[:200])


def _forced(frame: wire.Frame, word: str) -> str | None:
    if word == SILENCE:
        return None
    return wire.error(frame.uid, word, "so it was told") if word in ERRORS else wire.result(frame.uid, {"status": word})


ACTIONS: dict[str, Callable[[Charger, Payload, datetime], Payload]] = {
    "CancelReservation": reservations.cancel_reservation,
    "CertificateSigned": security.certificate_signed,
    "ChangeAvailability": settings.change_availability,
    "ChangeConfiguration": settings.change_configuration,
    "ClearCache": tags.clear_cache,
    "ClearChargingProfile": charging.clear_charging_profile,
    "DataTransfer": vendor.hear,
    "DeleteCertificate": security.delete_certificate,
    "ExtendedTriggerMessage": triggers.extended_trigger_message,
    "GetCompositeSchedule": charging.get_composite_schedule,
    "GetConfiguration": settings.get_configuration,
    "GetDiagnostics": files.get_diagnostics,
    "GetInstalledCertificateIds": security.get_installed_certificate_ids,
    "GetLocalListVersion": tags.get_local_list_version,
    "GetLog": files.get_log,
    "InstallCertificate": security.install_certificate,
    "RemoteStartTransaction": remote.remote_start_transaction,
    "RemoteStopTransaction": remote.remote_stop_transaction,
    "ReserveNow": reservations.reserve_now,
    "Reset": settings.reset,
    "SendLocalList": tags.send_local_list,
    "SetChargingProfile": charging.set_charging_profile,
    "SignedUpdateFirmware": files.signed_update_firmware,
    "TriggerMessage": triggers.trigger_message,
    "UnlockConnector": remote.unlock_connector,
    "UpdateFirmware": files.update_firmware,
}
