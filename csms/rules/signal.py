"""What a modem's signal report may say (3GPP TS 27.007 §8.5, +CSQ). Pure."""

from dataclasses import dataclass
from typing import Any

UNKNOWN = 99


@dataclass(frozen=True)
class Signal:
    """`rssi` 0-31, `ber` 0-7; None where the modem does not know (99) or the charger did not say. Temperature in °C."""

    rssi: int | None
    ber: int | None = None
    temperature_c: int | None = None


def read(data: Any) -> tuple[Signal | None, str]:
    """The report in this data, or why it is refused. A temperature that is none is left out; a signal that is none is refused."""
    if not isinstance(data, dict):
        return None, "the data is not an object"
    if "rssi" not in data and "ber" not in data:
        return None, "neither rssi nor ber"
    values: dict[str, int | None] = {}
    for name, highest in (("rssi", 31), ("ber", 7)):
        number = _whole(data.get(name, UNKNOWN))
        if number is None or not (0 <= number <= highest or number == UNKNOWN):
            return None, f"{name} must be 0 to {highest}, or {UNKNOWN} for unknown"
        values[name] = None if number == UNKNOWN else number
    temperature = data.get("temperature")
    usable = isinstance(temperature, (int, float)) and not isinstance(temperature, bool) and -60 <= temperature <= 150
    return Signal(values["rssi"], values["ber"], round(temperature) if usable else None), ""


def dbm(rssi: int) -> int:
    """The signal in dBm; 0 stands for -113 or less, 31 for -51 or more."""
    return -113 + 2 * rssi


def level(rssi: int | None) -> str:
    """good from -85 dBm, warn from -97, bad below; "" when unknown."""
    if rssi is None:
        return ""
    return "good" if rssi >= 14 else "warn" if rssi >= 8 else "bad"


def _whole(value: Any) -> int | None:
    if isinstance(value, str):
        digits = value.strip().removeprefix("-")  # one sign: "--5" is no number
        return int(value) if digits.isascii() and digits.isdigit() and len(value) < 6 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) > 1000:
        return None
    return int(value) if value == int(value) else None
