"""What may stand in a call and in its answer: the standard's own schemas, and our words where they are not what people may say.

Addresses and numbers of file calls are ours: nobody names a place that a charger fetches from or sends to (`OURS`). What people,
programs and command lines ask is held against `check`; what comes back, against `odd` and `status_of`.
"""

import json
from decimal import Decimal
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError
from jsonschema import Draft4Validator
from ocpp.messages import MessageType, get_validator

_MOMENT = {"type": "string", "format": "date-time"}
_TRIES = {"retries": {"type": "integer", "minimum": 0, "maximum": 10}, "retryInterval": {"type": "integer", "minimum": 10, "maximum": 3600}}
_IMAGE = {"type": "integer", "minimum": 1, "maximum": 2**53}
# The standard's fields less those that are ours to fill in (csms/firmware.py, csms/uploads.py make the calls themselves).
OURS: dict[str, dict[str, Any]] = {
    "GetDiagnostics": {"properties": {"startTime": _MOMENT, "stopTime": _MOMENT, **_TRIES}},
    "GetLog": {
        "properties": {
            "logType": {"type": "string", "enum": ["DiagnosticsLog", "SecurityLog"]},
            "oldestTimestamp": _MOMENT,
            "latestTimestamp": _MOMENT,
            **_TRIES,
        },
        "required": ["logType"],
    },
    "UpdateFirmware": {"properties": {"image": _IMAGE, "retrieveDate": _MOMENT}, "required": ["image"]},
    "SignedUpdateFirmware": {
        "properties": {"image": _IMAGE, "retrieveDateTime": _MOMENT, "installDateTime": _MOMENT},
        "required": ["image"],
    },
}
_NOT_YOURS = {"location", "remoteLocation", "log", "firmware", "requestId", "signature", "signingCertificate"}


def check(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """What somebody asks, as it may be asked. Raises ValidationError with a sentence (`address`: it names a place of its own)."""
    if action in OURS and (named := sorted(_NOT_YOURS & set(payload))):
        instead = "Name the image (its number under Firmware) instead." if "image" in OURS[action]["properties"] else "Leave it out."
        raise ValidationError(
            f"{named[0]}: {action} is sent with an address and a number of our own, signed for this charger alone, that expires; "
            f"no other is taken. {instead}",
            "address",
        )
    # Decimal on both sides: in floats 8.1 is no multiple of 0.1.
    schema = _asks(action)
    if error := next(schema.iter_errors(json.loads(json.dumps(payload), parse_float=Decimal)), None):
        where = ".".join(str(part) for part in error.absolute_path) or action
        known = ", ".join(schema.schema.get("properties", {})) or "no fields"
        raise ValidationError(f"{where}: {error.message[:200]} ({action} knows: {known})")
    return payload


def properties(action: str) -> dict[str, Any]:
    """The fields of a call that somebody may name: the schema of each."""
    schema = _asks(action).schema
    return {name: _resolved(schema, one) for name, one in schema.get("properties", {}).items()}


def required(action: str) -> set[str]:
    """The fields it cannot go without."""
    return set(_asks(action).schema.get("required", ()))


def of_answer(action: str) -> dict[str, Any]:
    """The fields of its answer, as the standard has them."""
    return dict(_answers(action).schema.get("properties", {}))


def status_of(action: str, response: dict[str, Any] | None) -> str:
    """The status of an answer in the standard's own spelling; "" when it has none that the standard knows."""
    said = (response or {}).get("status")
    schema = _answers(action).schema
    known = _resolved(schema, of_answer(action).get("status", {})).get("enum", [])
    return next((one for one in known if isinstance(said, str) and one.casefold() == said.strip().casefold()), "")


def odd(action: str, response: dict[str, Any]) -> str:
    """What is not as the standard has it in this answer, in words; "" when nothing is."""
    found = []
    for error in islice(_answers(action).iter_errors(response), 3):
        where = ".".join(str(part) for part in error.absolute_path)
        if error.validator == "required":
            found.append(f"{error.message.split(' ')[0]} is missing{f' in {where}' if where else ''}")
        elif error.validator == "additionalProperties":
            extra = sorted(set(error.instance) - set(error.schema.get("properties", {})))
            found.append(f"unknown field {', '.join(extra)[:60]}")
        else:
            found.append(f"{where or 'it'} is not as the standard has it")
    return "; ".join(dict.fromkeys(found))


def _resolved(schema: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    return schema["definitions"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one


@cache
def _asks(action: str) -> Draft4Validator:
    if action in OURS:
        return Draft4Validator({"type": "object", "additionalProperties": False, **OURS[action]})
    text = (files("ocpp.v16") / "schemas" / f"{action}.json").read_text(encoding="utf-8-sig")
    return Draft4Validator(json.loads(text, parse_float=Decimal))


@cache
def _answers(action: str) -> Any:
    return get_validator(MessageType.CallResult, action, "1.6")
