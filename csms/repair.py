"""Payloads as chargers send them, made into payloads as the standard has them. Pure, driven by the library's JSON schemas.

What can be understood is: nulls and empty optionals dropped, numbers in strings and strings in numbers converted,
arrays around single objects, over-long strings clipped, unknown enum values mapped, control characters and unknown
fields removed. What was changed is noted. What is missing all the same is for the reader of that action to live without.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from csms.frames import clean

# What an unknown value of an enum means, by the property's name (lower case).
ENUM_FALLBACK = {
    "errorcode": "OtherError",
    "reason": "Other",
    "phase": None,
    "location": None,
    "context": None,
    "format": None,
    "unit": None,
}
ENUM_ALIASES = {
    "celcius": "Celsius",
    "celsius": "Celsius",
    "hz": "Hertz",
    "%": "Percent",
    "energy": "Energy.Active.Import.Register",
    "energy.active.import": "Energy.Active.Import.Register",
    "power": "Power.Active.Import",
    "power.active": "Power.Active.Import",
    "current": "Current.Import",
    "stateofcharge": "SoC",
}
# Units the standard does not have, as the one it has and a factor (Q114).
UNITS = {
    "MWh": ("Wh", 1e6), "mWh": ("Wh", 1e-3), "MW": ("W", 1e6), "mW": ("W", 1e-3), "ma": ("A", 1e-3), "da": ("A", 0.1), "ka": ("A", 1e3),
    "mv": ("V", 1e-3), "kv": ("V", 1e3), "watt": ("W", 1), "watts": ("W", 1), "amp": ("A", 1), "amps": ("A", 1), "ampere": ("A", 1),
    "volt": ("V", 1), "volts": ("V", 1),
}  # fmt: skip
_PHASE = re.compile(r"[.\-_ ](L[123](?:-N|-L[123])?|N)", re.IGNORECASE)
_MISSING = object()
_QUOTES = " \t\r\n\"'"


@dataclass
class Repaired:
    """A payload after repair. `missing` names required fields that are not there (dotted)."""

    payload: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


Node = Callable[[Any, str, Repaired], Any]
# Before its fields are looked at one by one, because they must be read together.
Before = Callable[[dict[str, Any], str, Repaired], dict[str, Any] | None]


def repair(version: str, action: str, payload: dict[str, Any]) -> Repaired:
    """Normalise the request payload of `action` ("1.6"). Never raises; the input is not changed."""
    out = Repaired({})
    out.payload = _request_schema(version, action)(payload, "", out)
    return out


def actions(version: str) -> frozenset[str]:
    """Every action the version's standard knows."""
    return _actions(version)


@cache
def _actions(version: str) -> frozenset[str]:
    names = (path.name for path in _folder(version).iterdir() if path.name.endswith(".json"))
    return frozenset(name.removesuffix(".json") for name in names if not name.endswith("Response.json"))


def _folder(version: str) -> Any:
    return files({"1.6": "ocpp.v16"}[version]) / "schemas"


@cache
def _request_schema(version: str, action: str) -> Node:
    schema = json.loads((_folder(version) / f"{action}.json").read_text(encoding="utf-8-sig"))
    return _object(_resolved(schema, schema.get("definitions", {})))


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """With what the security extension's schemas only refer to put in its place."""
    if isinstance(schema, list):
        return [_resolved(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _resolved(one, definitions) for name, one in schema.items() if name != "definitions"}


def warm(version: str = "1.6") -> None:
    """Read every schema now, rather than under the first charger's message."""
    for action in actions(version):
        _request_schema(version, action)


def _build(schema: dict[str, Any], name: str) -> Node:
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, _sample if name == "sampledValue" else None)
    if kind == "array":
        return _array(schema, name)
    if kind == "integer":
        return _integer
    if kind == "number":
        return _number
    if kind == "boolean":
        return _boolean
    if "enum" in schema:
        return _enum(schema["enum"], name)
    return _string(schema.get("maxLength"), tag=name in ("idTag", "parentIdTag"))


def _object(schema: dict[str, Any], before: Before | None = None) -> Node:
    properties = {name: _build(sub, name) for name, sub in schema.get("properties", {}).items()}
    by_lower = {name.lower(): name for name in properties}
    required = tuple(schema.get("required", ()))

    def node(value: Any, path: str, out: Repaired) -> Any:
        if not isinstance(value, dict):
            return _MISSING
        if before is not None and (value := before(value, path, out)) is None:
            return _MISSING
        result: dict[str, Any] = {}
        for key, given in value.items():
            sub = properties.get(key)
            if sub is None:
                named = by_lower.get(key.lower()) if isinstance(key, str) else None
                if named is None or named in value:
                    _note(out, path, key, "unknown field removed")
                    continue
                _note(out, path, key, "field name in another case")
                key, sub = named, properties[named]
            if given is None or (given in ("", [], {}) and key not in required):
                _note(out, path, key, "empty")
                continue
            found = sub(given, f"{path}{key}.", out)
            if found is _MISSING:
                _note(out, path, key, "not usable")
            elif found == "" and key not in required:
                _note(out, path, key, "empty")
            else:
                result[key] = found
        for name in required:
            if name not in result:
                out.missing.append(f"{path}{name}")
        return result

    return node


def _array(schema: dict[str, Any], name: str) -> Node:
    item = _build(schema.get("items", {}), name)
    fewest = schema.get("minItems", 0)

    def node(value: Any, path: str, out: Repaired) -> Any:
        if not isinstance(value, list):
            _note(out, path, "", "single value where a list is due")
            value = [value]
        found = [one for given in value if (one := item(given, path, out)) is not _MISSING]
        return found if len(found) >= fewest and (found or not value) else _MISSING

    return node


def _integer(value: Any, path: str, out: Repaired) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 2**63 else _MISSING
    number = _as_number(value)
    if number is None or abs(number) >= 2**63:
        return _MISSING
    _note(out, path, "", "not an integer")
    return math.floor(number)


def _number(value: Any, path: str, out: Repaired) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    number = _as_number(value)
    if number is None:
        return _MISSING
    _note(out, path, "", "number in a string")
    return number


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str) and len(value) < 40:
        try:
            number = float(value.strip().replace(",", "."))
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


def _boolean(value: Any, path: str, out: Repaired) -> Any:
    if isinstance(value, bool):
        return value
    _note(out, path, "", "not a boolean")
    return str(value).strip().lower() in ("true", "1", "yes")


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(value) if isinstance(value, (dict, list)) else None


def _string(longest: int | None, *, tag: bool = False) -> Node:
    def node(value: Any, path: str, out: Repaired) -> Any:
        text = _text(value)
        if text is None:
            return _MISSING
        if text is not value:
            _note(out, path, "", "not a string")
        if not text.isascii() or not text.isprintable():
            cleaned = clean(text)
            if cleaned != text:
                _note(out, path, "", "control characters removed")
                text = cleaned
        if tag and longest is not None and len(text) > longest:
            # ` 04:A2:B3:C4:D5:E6:F7;500`: too long only by what is no part of it (Q71, Q72).
            text = "".join(char for char in text.partition(";")[0] if char.isalnum())
            _note(out, path, "", "a tag's separators removed")
        if longest is not None and len(text) > longest:
            _note(out, path, "", f"clipped from {len(text)} to {longest}")
            text = text[:longest]
        return text

    return node


def _enum(values: list[str], name: str) -> Node:
    allowed = frozenset(values)
    by_lower = {value.lower(): value for value in values} | {k: v for k, v in ENUM_ALIASES.items() if v in allowed}
    fallback = ENUM_FALLBACK.get(name.lower(), _MISSING)

    def node(value: Any, path: str, out: Repaired) -> Any:
        if isinstance(value, str) and value in allowed:
            return value
        text = (_text(value) or "").strip(_QUOTES)
        if (found := by_lower.get(text.lower())) is not None:
            _note(out, path, "", f"{text[:30]!r} read as {found}")
            return found
        _note(out, path, "", f"{text[:40]!r} is not in the standard")
        return fallback if fallback is not None else _MISSING

    return node


def _sample(value: dict[str, Any], path: str, out: Repaired) -> dict[str, Any] | None:
    """One sampledValue: a phase in the measurand's name, a unit that must be converted. None: it measures what nobody knows."""
    measurand, unit = value.get("measurand"), value.get("unit")
    if isinstance(measurand, str) and measurand not in _measurands():
        text = measurand.strip(_QUOTES)
        if (phase := _PHASE.search(text)) and phase.end() == len(text):  # `Power.Active.Import.L1` (Q34, Q111)
            _note(out, path, "measurand", f"{text[:40]!r}: the phase taken out")
            text = text[: phase.start()]
            value = {**value, "measurand": text, "phase": value.get("phase") or phase[1].upper()}
        if text.lower() not in _measurands_in_any_case():
            # Without its measurand it would be read as the register (Q110), which it is not.
            _note(out, path, "measurand", f"{text[:40]!r} is not in the standard: left out")
            return None
    if isinstance(unit, str) and (known := UNITS.get(unit.strip(_QUOTES)) or UNITS.get(unit.strip(_QUOTES).lower())):
        number = _as_number(value.get("value"))
        if number is not None:
            _note(out, path, "unit", f"{unit[:20]} read as {known[0]}")
            value = {**value, "unit": known[0], "value": repr(round(number * known[1], 6)).removesuffix(".0")}
    return value


@cache
def _measurands() -> frozenset[str]:
    meter_value = json.loads((_folder("1.6") / "MeterValues.json").read_text(encoding="utf-8-sig"))["properties"]["meterValue"]["items"]
    return frozenset(meter_value["properties"]["sampledValue"]["items"]["properties"]["measurand"]["enum"])


@cache
def _measurands_in_any_case() -> frozenset[str]:
    known = _measurands()
    return frozenset(one.lower() for one in known) | {alias for alias, meant in ENUM_ALIASES.items() if meant in known}


def _note(out: Repaired, path: str, key: Any, what: str) -> None:
    if len(out.notes) < 12:
        out.notes.append(f"{path}{clean(str(key)[:40])}".rstrip(".") + f": {what}")
