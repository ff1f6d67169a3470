"""Everything a charger can be asked in OCPP 1.6 and its security extension: ONE table, used by the console, the API and the command line.

A row says what the call is for, which answers are the effect itself and which only promise it, and who is told of the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import Any

from django.core.exceptions import ValidationError
from ocpp.messages import MessageType, get_validator

from csms.models import ChargePoint, Command, CommandState


@dataclass(frozen=True)
class Call:
    """One call. `answered` and `ended` are dotted names of functions (command, now) -> None, called in the transaction that
    settles the command: `answered` with the charger's answer in `command.response` (whatever it says; `command.error` for a
    CALLERROR), `ended` when it ends without one (timeout, unknown, expired unsent)."""

    profile: str
    label: str
    what: str
    effective: tuple[str, ...] = ()  # statuses that are the effect itself
    promised: tuple[str, ...] = ("Accepted",)  # statuses that promise it
    without_status: str = CommandState.EFFECTIVE  # an answer that has no status by the standard; {} where it must have more is unknown
    may_be_empty: bool = False
    confirm: str = ""  # what a person should know first
    before_accepted: bool = False  # may be sent to a charger that is Pending (1.6 §4.2)
    effect_s: int = 180  # how long a promise may take
    answered: str = ""
    ended: str = ""

    def tell(self, which: str, command: Command, now: datetime) -> None:
        """Tell whoever listens for `answered` or `ended`."""
        if name := getattr(self, which):
            _function(name)(command, now)


CORE, FIRMWARE, LISTS, RESERVATION, SMART, TRIGGER, SECURITY = (
    "Core",
    "FirmwareManagement",
    "LocalAuthListManagement",
    "Reservation",
    "SmartCharging",
    "RemoteTrigger",
    "Security",
)

CALLS: dict[str, Call] = {
    "ChangeAvailability": Call(
        CORE, "Take out of or into service", "connectorId 0 is the whole charger.", promised=("Accepted", "Scheduled"), effect_s=24 * 3600
    ),
    "ChangeConfiguration": Call(
        CORE,
        "Set a configuration key",
        "What it answers is read back.",
        effective=("Accepted",),
        promised=("RebootRequired",),
        before_accepted=True,
    ),
    "ClearCache": Call(
        CORE, "Clear its authorization cache", "Tags it remembers are asked for again.", effective=("Accepted",), promised=()
    ),
    "DataTransfer": Call(
        CORE, "Send a vendor's message", "As the vendor's documents say.", effective=("Accepted",), promised=(), before_accepted=True
    ),
    "GetConfiguration": Call(CORE, "Read its configuration", "All keys, or those named.", before_accepted=True),
    "RemoteStartTransaction": Call(CORE, "Start a session", "For a tag, at a connector.", effect_s=180),
    "RemoteStopTransaction": Call(
        CORE, "Stop a session", "By its transaction.", confirm="The session ends; what is left of its money is refunded."
    ),
    "Reset": Call(
        CORE,
        "Restart",
        "Soft ends its sessions first; Hard does not wait.",
        confirm="Running sessions on it end.",
        before_accepted=True,
        effect_s=600,
    ),
    "UnlockConnector": Call(
        CORE, "Unlock a connector", "Releases a stuck plug.", effective=("Unlocked",), promised=(), confirm="A running session on it ends."
    ),
    "GetDiagnostics": Call(
        FIRMWARE, "Fetch its diagnostics", "It uploads a file here.", without_status=CommandState.ACCEPTED, may_be_empty=True, effect_s=3600
    ),
    "UpdateFirmware": Call(
        FIRMWARE,
        "Update its firmware",
        "From a stored image.",
        without_status=CommandState.ACCEPTED,
        may_be_empty=True,
        confirm="It restarts when it installs.",
        effect_s=24 * 3600,
    ),
    "GetLocalListVersion": Call(LISTS, "Read its local list's version", "-1: it has no lists; 0: the list is empty."),
    "SendLocalList": Call(LISTS, "Send its local list", "The tags it may start without asking us.", effective=("Accepted",), promised=()),
    "CancelReservation": Call(RESERVATION, "Cancel a reservation", "By its number.", effective=("Accepted",), promised=()),
    "ReserveNow": Call(
        RESERVATION, "Keep a connector for a tag", "Until a time; connectorId 0 is any.", effective=("Accepted",), promised=()
    ),
    "ClearChargingProfile": Call(
        SMART, "Clear charging profiles", "Those that fit all that is named.", effective=("Accepted", "Unknown"), promised=()
    ),
    "GetCompositeSchedule": Call(SMART, "Read its schedule", "What all its profiles come to.", effective=("Accepted",), promised=()),
    "SetChargingProfile": Call(SMART, "Set a charging profile", "A limit on its power.", effective=("Accepted",), promised=()),
    "TriggerMessage": Call(TRIGGER, "Ask for a message", "It sends that message now.", before_accepted=True, effect_s=60),
    "ExtendedTriggerMessage": Call(
        SECURITY, "Ask for a message (security)", "It sends that message now.", before_accepted=True, effect_s=60
    ),
    "CertificateSigned": Call(SECURITY, "Give it its certificate", "In answer to SignCertificate.", effective=("Accepted",), promised=()),
    "DeleteCertificate": Call(
        SECURITY,
        "Delete a root certificate",
        "By its hashes.",
        effective=("Accepted",),
        promised=(),
        confirm="Without the root of our server it cannot connect.",
    ),
    "GetInstalledCertificateIds": Call(
        SECURITY, "Read its root certificates", "Of one kind.", effective=("Accepted", "NotFound"), promised=(), before_accepted=True
    ),
    "GetLog": Call(SECURITY, "Fetch a log", "It uploads a file here.", promised=("Accepted", "AcceptedCanceled"), effect_s=3600),
    "InstallCertificate": Call(SECURITY, "Install a root certificate", "It trusts it from then on.", effective=("Accepted",), promised=()),
    "SignedUpdateFirmware": Call(
        SECURITY,
        "Update its firmware (signed)",
        "From a stored image with its manufacturer's signature.",
        promised=("Accepted", "AcceptedCanceled"),
        confirm="It restarts when it installs.",
        effect_s=24 * 3600,
    ),
}
BEFORE_ACCEPTED = tuple(action for action, call in CALLS.items() if call.before_accepted)


def state_of(action: str, response: dict[str, Any]) -> str:
    """What this answer makes of a command: effective, accepted (promised), rejected, or unknown."""
    call = CALLS[action]
    status = response.get("status")
    if isinstance(status, str):
        if status in call.effective:
            return CommandState.EFFECTIVE
        return CommandState.ACCEPTED if status in call.promised else CommandState.REJECTED
    if "status" in _answer_schema(action).get("required", ()):
        return CommandState.UNKNOWN  # what it lacks is the very answer: what becomes of it will show
    return call.without_status if response or call.may_be_empty else CommandState.UNKNOWN


def check(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload as it may be sent, held against the standard's schema. Raises ValidationError with a sentence."""
    if action not in CALLS:
        raise ValidationError(f"OCPP 1.6 has no call {action[:50]} from us.")
    schema = get_validator(MessageType.Call, action, "1.6")
    if error := next(schema.iter_errors(payload), None):
        where = ".".join(str(part) for part in error.absolute_path) or action
        known = ", ".join(schema.schema.get("properties", {})) or "no fields"
        raise ValidationError(f"{where}: {error.message[:200]} ({action} knows: {known})")
    return payload


@cache
def _answer_schema(action: str) -> dict[str, Any]:
    return get_validator(MessageType.CallResult, action, "1.6").schema


@cache
def _function(name: str) -> Callable[[Command, datetime], None]:
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function)


def reachable(charge_point: ChargePoint) -> str:
    """Why nothing can be sent to it now; "" when it can."""
    if charge_point.blocked:
        return "The charger is blocked."
    return "" if charge_point.online else "The charger is not connected: the command waits for it."
