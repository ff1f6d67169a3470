"""How a charger differs from the standard, and what follows for us. Pure.

A quirk profile (csms/models/station.py: QuirkProfile) names some of these settings for a vendor, a model, a firmware;
a charger may have its own. Whatever nobody names is as here: the standard's way.
"""

from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, get_args, get_type_hints

from csms.rules.configuration import MAX_KEY, MAX_VALUE
from csms.rules.secrecy import is_secret


@dataclass(frozen=True)
class Habits:
    """The settings and their defaults. Times in seconds. `help` of each is in HELP."""

    # the line
    subprotocols: tuple[str, ...] = ("ocpp1.6",)
    without_subprotocol: bool = False
    heartbeat_timeout_s: int = 0
    pings: bool = True
    quiet_s: int = 0
    settle_s: int = 10
    boot_trigger: bool = False
    pending_first: bool = False
    # tags
    id_tag_form: str = "as_is"
    anonymous_tag: str = ""
    # meters and clock
    energy_unit: str = ""
    power_unit: str = ""
    register_unit: str = ""
    start_register: bool = True
    naive_time: str = ""
    # configuration
    configuration: tuple[tuple[str, str], ...] = ()
    configuration_chunk: int = 10
    read_back: bool = True
    secret_keys: tuple[str, ...] = ()
    # commands
    commands_unsupported: tuple[str, ...] = ()
    command_interval_s: int = 0
    availability_zero: bool = True
    max_frame_bytes: int = 0
    local_list_chunk: int = 40
    # smart charging
    stack_level: int = 0
    profile_kind: str = "Absolute"
    rate_unit: str = ""
    number_phases: int = 0
    least_current_a: int = 0
    profile_interval_s: int = 10
    # files
    file_scheme: str = ""
    # vendor messages
    data_transfer: str = "known"
    vendor_id: str = "VOLTLYNC"
    post_boot_state: bool = False
    session_limit: bool = False
    session_profile: bool = False


HELP: dict[str, str] = {
    "subprotocols": "Sub-protocols it may speak, ours first.",
    "without_subprotocol": "Names no sub-protocol: taken as OCPP 1.6.",
    "heartbeat_timeout_s": "Silence after which it counts as gone; 0: HEARTBEAT_TIMEOUT_S. Its heartbeat interval is a third of it.",
    "pings": "Gets WebSocket pings; false for one that drops the line on a ping.",
    "quiet_s": "After a connect without a boot nothing at all is sent for so long.",
    "settle_s": "After a connect nothing automatic is sent for so long (and up to as long again, by chance).",
    "boot_trigger": "Never boots by itself: asked once for a BootNotification.",
    "pending_first": "Wants Pending and its configuration first, then Accepted.",
    "id_tag_form": "as_is, reversed (byte order of its reader) or decimal.",
    "anonymous_tag": "The tag it starts with when charging is free to all.",
    "energy_unit": "Wh or kWh, whatever it says it measures in.",
    "power_unit": "W or kW, whatever it says it measures in.",
    "register_unit": "Wh or kWh: what meterStart and meterStop are in.",
    "start_register": "Its meterStart is a register; false for one that sends a placeholder: counted from its first reading.",
    "naive_time": "Times it writes without a zone: local (India's) or UTC; empty: UTC, unless that lies ahead of us.",
    "configuration": "Keys that are to be set, and their values.",
    "configuration_chunk": "So many keys are asked for at once.",
    "read_back": "Keys are read again after they were set.",
    "secret_keys": "Names of keys, or of a vendor's fields, whose values are secrets; * for anything. Masked wherever they are kept.",
    "commands_unsupported": "Calls it does not know, or that harm it: refused here.",
    "command_interval_s": "The least time between two of our calls.",
    "availability_zero": "Takes ChangeAvailability for connector 0.",
    "max_frame_bytes": "Longer frames are not sent to it; 0: no limit.",
    "local_list_chunk": "So many tags in one SendLocalList.",
    "stack_level": "The stackLevel of our charging profiles.",
    "profile_kind": "Absolute or Relative.",
    "rate_unit": "W or A; empty: as its configuration says.",
    "number_phases": "Of its charging profiles; 0: not said.",
    "least_current_a": "Below that (but for 0) a limit ends its session: not asked of it; 0: not known.",
    "profile_interval_s": "The least time between two charging profiles.",
    "file_scheme": "http or https for files; empty: as our address.",
    "data_transfer": "known (vendors we know), accept (everything), refuse.",
    "vendor_id": "The vendorId it listens to in PostBootState and SessionLimit.",
    "post_boot_state": "After a boot it is told what was running (DataTransfer PostBootState), and goes on with it.",
    "session_limit": "Keeps to a limit on the energy of a session by itself (DataTransfer SessionLimit), even without a line.",
    "session_profile": "Each session gets a charging profile that ends when, at full power, its money is used up; renewed while heard.",
}
CHOICES: dict[str, tuple[str, ...]] = {
    "id_tag_form": ("as_is", "reversed", "decimal"),
    "energy_unit": ("", "Wh", "kWh"),
    "power_unit": ("", "W", "kW"),
    "register_unit": ("", "Wh", "kWh"),
    "naive_time": ("", "UTC", "local"),
    "profile_kind": ("Absolute", "Relative"),
    "rate_unit": ("", "W", "A"),
    "file_scheme": ("", "http", "https"),
    "data_transfer": ("known", "accept", "refuse"),
}
# As they stand in a form.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "The line",
        (
            "subprotocols",
            "without_subprotocol",
            "heartbeat_timeout_s",
            "pings",
            "quiet_s",
            "settle_s",
            "boot_trigger",
            "pending_first",
            "max_frame_bytes",
        ),
    ),
    ("Tags", ("id_tag_form", "anonymous_tag", "local_list_chunk")),
    ("Meters and clock", ("energy_unit", "power_unit", "register_unit", "start_register", "naive_time")),
    ("Configuration", ("configuration", "configuration_chunk", "read_back", "secret_keys")),
    ("Commands", ("commands_unsupported", "command_interval_s", "availability_zero")),
    (
        "Smart charging",
        ("stack_level", "profile_kind", "rate_unit", "number_phases", "least_current_a", "profile_interval_s", "session_profile"),
    ),
    ("Files and vendor messages", ("file_scheme", "data_transfer", "vendor_id", "post_boot_state", "session_limit")),
)
SUBPROTOCOLS = ("ocpp1.6",)
STANDARD = Habits()
_TYPES = get_type_hints(Habits)


@dataclass(frozen=True)
class Known:
    """A quirk profile as the rule sees it."""

    name: str
    vendor: str
    model: str
    firmware: str
    settings: dict[str, Any]


def kind(name: str) -> Any:
    """The type of a setting."""
    return _TYPES[name]


def check(settings: Any) -> list[str]:
    """What is wrong with these settings, in words; empty when nothing is."""
    if not isinstance(settings, dict):
        return ["Settings are an object of names and values."]
    return [wrong for name, value in settings.items() if (wrong := _wrong(name, value))]


def _wrong(name: str, value: Any) -> str:
    kind = _TYPES.get(name)
    if kind is None:
        return f"There is no setting {name!r}."
    if name == "configuration":
        good = isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)
        if not good:
            return "configuration is an object of keys and texts."
        if any(not 0 < len(key) <= MAX_KEY or len(text) > MAX_VALUE for key, text in value.items()):
            return f"configuration: a key has 1 to {MAX_KEY} characters, a value {MAX_VALUE} at most."
        hidden = [key for key in value if is_secret(key) or key.lower() == "securityprofile"]
        return f"configuration: {hidden[0]} is a secret, or a charger's own door: it is set for each by itself." if hidden else ""
    if kind is bool:
        return "" if isinstance(value, bool) else f"{name} is true or false."
    if kind is int:
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000
        return "" if good else f"{name} is a whole number from 0."
    if get_args(kind):
        good = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
        if good and name == "subprotocols":
            good = bool(value) and all(one in SUBPROTOCOLS for one in value)
        if good and name == "secret_keys" and not all(one.strip("* ") and len(one) <= MAX_KEY for one in value):
            return f"secret_keys: a name has 1 to {MAX_KEY} characters, and more than asterisks."
        return "" if good else f"{name} is a list of texts" + (f" out of {', '.join(SUBPROTOCOLS)}." if name == "subprotocols" else ".")
    if not isinstance(value, str):
        return f"{name} is a text."
    allowed = CHOICES.get(name)
    return f"{name} is one of {', '.join(repr(one) for one in allowed)}." if allowed and value not in allowed else ""


def matching(profiles: list[Known], vendor: str, model: str, firmware: str) -> list[Known]:
    """Those that speak of this charger, the most general first: each may overrule those before it."""
    found = [one for one in profiles if _fits(one.vendor, vendor) and _fits(one.model, model) and _fits(one.firmware, firmware)]
    return sorted(found, key=lambda one: (bool(one.vendor) + bool(one.model) + bool(one.firmware), one.name))


def _fits(pattern: str, value: str) -> bool:
    return not pattern or fnmatchcase(value.strip().casefold(), pattern.strip().casefold())


# Whose a charger's own settings are, beside the names of profiles.
OWN = "its own settings"


@dataclass(frozen=True)
class Told:
    """One setting as somebody gave it. `by` names the profile, or OWN."""

    value: Any
    by: str


def sources(profiles: list[Known], own: dict[str, Any]) -> tuple[dict[str, Told], dict[str, Told]]:
    """Every setting that is not the standard's, and every key to be configured: what it is and who says so."""
    told: dict[str, Told] = {}
    configuration: dict[str, Told] = {}
    for by, settings in [*((one.name, one.settings) for one in profiles), (OWN, own)]:
        for name, value in settings.items() if isinstance(settings, dict) else ():
            if name == "configuration" and isinstance(value, dict):  # a name may have become a secret's since: the others still count
                value = {key: wanted for key, wanted in value.items() if not is_secret(key)}
            if _wrong(name, value):
                continue
            if name == "configuration":
                configuration |= {key: Told(wanted, by) for key, wanted in value.items()}
            elif name == "secret_keys" and name in told:
                told[name] = Told(tuple(dict.fromkeys((*told[name].value, *value))), f"{told[name].by}, {by}")
            else:
                told[name] = Told(tuple(value) if isinstance(value, list) else value, by)
    return told, configuration


def resolve(profiles: list[Known], own: dict[str, Any]) -> Habits:
    """The habits these profiles make, in their order, and the charger's own settings over them. What is wrong is left out.

    Keys to be configured add up, and so do secret ones; every other setting is overruled.
    """
    told, configuration = sources(profiles, own)
    settings = {name: one.value for name, one in told.items()}
    if configuration:
        settings["configuration"] = tuple(sorted((key, one.value) for key, one in configuration.items()))
    return replace(STANDARD, **settings)


def table() -> list[tuple[str, str, str]]:
    """(name, default, help) of every setting, for the documents and the console."""
    return [(one.name, repr(getattr(STANDARD, one.name)), HELP[one.name]) for one in fields(Habits)]
