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

from csms import schemas
from csms.models import ChargePoint, Command, CommandState


@dataclass(frozen=True)
class Call:
    """One call. `answered` and `ended` are dotted names of functions (command, now) -> None, called in the transaction that
    settles the command: `answered` with the charger's answer in `command.response` (whatever it says; `command.error` for a
    CALLERROR), `ended` when time settles it: it was not answered (TIMEOUT), or nothing came of it or it was never sent (EXPIRED).
    Several names are separated by blanks: each is told, and looks whether the command is one of its own.

    `intent` is the dotted name of a function (charge_point, payload, now) -> payloads, called when somebody asks for it: it
    writes down what is wanted, and may say that the deed takes other calls than the one asked for.
    """

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
    queue_s: int = 300  # how long it waits for a charger that is not there
    answered: str = ""
    ended: str = ""
    intent: str = ""
    one_by_one: str = ""  # why it is not asked of many chargers at once
    many: int = 500  # of so many chargers at once, at most
    own_numbers: bool = False  # it carries numbers or addresses made for it alone: not asked again as it was
    maker: str = ""  # the dotted name of the function that makes it, with its address (see `make`)
    page: str = ""  # the name of the page, about one charger, where it is better asked

    def tell(self, which: str, command: Command, now: datetime) -> None:
        """Tell whoever listens for `answered` or `ended`."""
        for name in getattr(self, which).split():
            _function(name)(command, now)

    def wanted(self, charge_point: ChargePoint, payload: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
        """Write down what is wanted; the payloads to send for it."""
        return list(_function(self.intent)(charge_point, payload, now)) if self.intent else [payload]

    def make(self, charge_point: ChargePoint, action: str, said: dict[str, Any], *, by: str, way: Any) -> Command:
        """The command of a call whose address and numbers are ours, with the row that it belongs to (`way`: commands.Way)."""
        made: Command = _function(self.maker)(charge_point, action, said, by=by, way=way)
        return made


CORE, FIRMWARE, LISTS, RESERVATION, SMART, TRIGGER, SECURITY = (
    "Core",
    "FirmwareManagement",
    "LocalAuthListManagement",
    "Reservation",
    "SmartCharging",
    "RemoteTrigger",
    "Security",
)

# Of one image at once; whole fleets are for campaigns, which go step by step.
FIRMWARE_AT_ONCE = 20

CALLS: dict[str, Call] = {
    "ChangeAvailability": Call(
        CORE,
        "Take out of or into service",
        "For maintenance, or to open it again. While a car charges it is scheduled for the end of its session.",
        promised=("Accepted", "Scheduled"),
        effect_s=24 * 3600,
        queue_s=24 * 3600,
        intent="csms.availability.asked",
        answered="csms.availability.answered",
    ),
    "ChangeConfiguration": Call(
        CORE,
        "Set a configuration key",
        "What it answers is read back.",
        effective=("Accepted",),
        promised=("RebootRequired",),
        before_accepted=True,
        answered="csms.wishes.change_answered csms.rotation.answered csms.security_profiles.answered",
        ended="csms.wishes.change_ended csms.rotation.ended csms.security_profiles.ended",
    ),
    "ClearCache": Call(
        CORE, "Clear its authorization cache", "Tags it remembers are asked for again.", effective=("Accepted",), promised=()
    ),
    "DataTransfer": Call(
        CORE,
        "Send a vendor's message",
        "As the vendor's documents say.",
        effective=("Accepted",),
        promised=(),
        before_accepted=True,
        answered="csms.bounds.answered csms.resume.answered",
        ended="csms.bounds.ended",
    ),
    "GetConfiguration": Call(
        CORE,
        "Read its configuration",
        "All keys, or those named.",
        before_accepted=True,
        intent="csms.configuration.asked",
        answered="csms.configuration.read_answered",
        ended="csms.configuration.read_ended",
    ),
    "RemoteStartTransaction": Call(
        CORE,
        "Start a session",
        "For a tag, at a connector.",
        queue_s=60,
        one_by_one="A tag charges one car.",
    ),
    "RemoteStopTransaction": Call(
        CORE,
        "Stop a session",
        "By its transaction.",
        confirm="The session ends; what is left of its money is refunded.",
        effect_s=60,
        queue_s=120,
        answered="csms.outcomes.stop_answered",
        ended="csms.outcomes.stop_ended",
        one_by_one="A transaction is of one charger.",
    ),
    "Reset": Call(
        CORE,
        "Restart",
        "Soft ends its sessions and restarts; Hard does not wait for anything.",
        confirm="Running sessions on it end.",
        before_accepted=True,
        effect_s=600,
    ),
    "UnlockConnector": Call(
        CORE, "Unlock a connector", "Releases a stuck plug.", effective=("Unlocked",), promised=(), confirm="A running session on it ends."
    ),
    "GetDiagnostics": Call(
        FIRMWARE,
        "Fetch its diagnostics",
        "It uploads a file here.",
        without_status=CommandState.ACCEPTED,
        may_be_empty=True,
        effect_s=6 * 3600,
        queue_s=3600,
        answered="csms.uploads.answered",
        ended="csms.uploads.ended",
        page="csms:charger-files",
        own_numbers=True,
        maker="csms.uploads.asked",
    ),
    "UpdateFirmware": Call(
        FIRMWARE,
        "Update its firmware",
        "From a stored image, which each charger fetches from an address of its own.",
        without_status=CommandState.ACCEPTED,
        may_be_empty=True,
        confirm="It restarts when it installs.",
        effect_s=3 * 24 * 3600,
        queue_s=24 * 3600,
        answered="csms.firmware.answered",
        ended="csms.firmware.ended",
        page="csms:charger-firmware",
        own_numbers=True,
        many=FIRMWARE_AT_ONCE,
        maker="csms.firmware.asked",
    ),
    "GetLocalListVersion": Call(
        LISTS,
        "Read its local list's version",
        "-1: it has no lists; 0: the list is empty.",
        answered="csms.local_lists.version_answered",
        ended="csms.local_lists.ended",
    ),
    "SendLocalList": Call(
        LISTS,
        "Send its local list",
        "The tags it may start without asking us.",
        effective=("Accepted",),
        promised=(),
        answered="csms.local_lists.sent_answered",
        ended="csms.local_lists.ended",
        page="csms:local-list",
        own_numbers=True,
        one_by_one="Each charger's list is kept by itself.",
    ),
    "CancelReservation": Call(
        RESERVATION,
        "Cancel a reservation",
        "By its number.",
        effective=("Accepted",),
        promised=(),
        one_by_one="A reservation is of one charger.",
        answered="csms.reservations.cancel_answered",
        ended="csms.reservations.cancel_ended",
    ),
    "ReserveNow": Call(
        RESERVATION,
        "Keep a connector for a tag",
        "Until a time; connectorId 0 is any.",
        effective=("Accepted",),
        promised=(),
        one_by_one="A reservation is of one charger.",
        answered="csms.reservations.answered",
        ended="csms.reservations.ended",
        page="csms:reserve",
        own_numbers=True,
    ),
    "ClearChargingProfile": Call(
        SMART,
        "Clear charging profiles",
        "Those that fit all that is named.",
        effective=("Accepted", "Unknown"),
        promised=(),
        answered="csms.charging_profiles.cleared csms.time_bounds.cleared",
        page="csms:charging",
    ),
    "GetCompositeSchedule": Call(
        SMART, "Read its schedule", "What all its profiles come to.", effective=("Accepted",), promised=(), page="csms:charging"
    ),
    "SetChargingProfile": Call(
        SMART,
        "Set a charging profile",
        "A limit on its power.",
        effective=("Accepted",),
        promised=(),
        answered="csms.charging_profiles.answered csms.time_bounds.answered",
        ended="csms.charging_profiles.unanswered",
        own_numbers=True,
        one_by_one="Each profile has a number of its own.",
        page="csms:charging",
    ),
    "TriggerMessage": Call(TRIGGER, "Ask for a message", "It sends that message now.", before_accepted=True, effect_s=60),
    "ExtendedTriggerMessage": Call(
        SECURITY, "Ask for a message (security)", "It sends that message now.", before_accepted=True, effect_s=60
    ),
    "CertificateSigned": Call(
        SECURITY,
        "Give it its certificate",
        "In answer to SignCertificate.",
        effective=("Accepted",),
        promised=(),
        answered="csms.certificates.answered",
        ended="csms.certificates.ended",
        page="csms:charger-security",
        own_numbers=True,
        one_by_one="A certificate is one charger's.",
    ),
    "DeleteCertificate": Call(
        SECURITY,
        "Delete a root certificate",
        "By its hashes.",
        effective=("Accepted",),
        promised=(),
        confirm="Without the root of our server it cannot connect.",
        intent="csms.roots.may_delete",
        answered="csms.roots.deleted",
    ),
    "GetInstalledCertificateIds": Call(
        SECURITY,
        "Read its root certificates",
        "Of one kind.",
        effective=("Accepted", "NotFound"),
        promised=(),
        before_accepted=True,
        answered="csms.roots.listed",
    ),
    "GetLog": Call(
        SECURITY,
        "Fetch a log",
        "It uploads a file here.",
        promised=("Accepted", "AcceptedCanceled"),
        effect_s=6 * 3600,
        queue_s=3600,
        answered="csms.uploads.answered",
        ended="csms.uploads.ended",
        page="csms:charger-files",
        own_numbers=True,
        maker="csms.uploads.asked",
    ),
    "InstallCertificate": Call(
        SECURITY,
        "Install a root certificate",
        "It trusts it from then on.",
        effective=("Accepted",),
        promised=(),
        answered="csms.roots.installed",
    ),
    "SignedUpdateFirmware": Call(
        SECURITY,
        "Update its firmware (signed)",
        "From a stored image with its manufacturer's signature.",
        promised=("Accepted", "AcceptedCanceled"),
        confirm="It restarts when it installs.",
        effect_s=3 * 24 * 3600,
        queue_s=24 * 3600,
        answered="csms.firmware.answered",
        ended="csms.firmware.ended",
        page="csms:charger-firmware",
        own_numbers=True,
        many=FIRMWARE_AT_ONCE,
        maker="csms.firmware.asked",
    ),
}
BEFORE_ACCEPTED = tuple(action for action, call in CALLS.items() if call.before_accepted)


# What people ask most, in the order of its buttons and in fewer words.
OFTEN = {
    "RemoteStartTransaction": "Start",
    "RemoteStopTransaction": "Stop",
    "Reset": "Restart",
    "ChangeAvailability": "In or out of service",
    "UnlockConnector": "Unlock",
    "TriggerMessage": "Ask for a message",
    "GetConfiguration": "Read configuration",
}
PROFILES = {
    CORE: "Core",
    FIRMWARE: "Firmware and diagnostics",
    LISTS: "Local list",
    RESERVATION: "Reservations",
    SMART: "Smart charging",
    TRIGGER: "Messages",
    SECURITY: "Security",
}


def groups(*, for_many: bool = False) -> list[tuple[str, list[tuple[str, Call]]]]:
    """All calls as people look for them: (profile, its calls). `for_many`: only those that may be asked of many chargers at once."""
    rows = [(action, call) for action, call in CALLS.items() if not (for_many and call.one_by_one)]
    found = [(title, [row for row in rows if row[1].profile == profile]) for profile, title in PROFILES.items()]
    return [(title, its) for title, its in found if its]


def state_of(action: str, response: dict[str, Any]) -> str:
    """What this answer makes of a command: effective, accepted (promised), rejected, or unknown."""
    call = CALLS[action]
    if status := schemas.status_of(action, response):
        if status in call.effective:
            return CommandState.EFFECTIVE
        return CommandState.ACCEPTED if status in call.promised else CommandState.REJECTED
    if "status" in schemas.of_answer(action):
        return CommandState.UNKNOWN  # what it lacks is the very answer: what becomes of it will show
    return call.without_status if response or call.may_be_empty else CommandState.UNKNOWN


def check(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """What somebody asks, held against its schema (csms/schemas.py). Raises ValidationError with a sentence."""
    if action not in CALLS:
        raise ValidationError(f"OCPP 1.6 has no call {action[:50]} from us.")
    return schemas.check(action, payload)


@cache
def _function(name: str) -> Callable[[Command, datetime], None]:
    module, _, function = name.rpartition(".")
    return getattr(import_module(module), function)


def reachable(charge_point: ChargePoint) -> str:
    """Why nothing can be sent to it now; "" when it can."""
    if charge_point.blocked:
        return "The charger is blocked."
    return "" if charge_point.online else "The charger is not connected: the command waits for it."
