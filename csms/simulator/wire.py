"""OCPP-J frames, as a charger writes and reads them (JSON arrays; OCPP-J 1.6 section 4.2)."""

import json
from dataclasses import dataclass, field
from typing import Any

CALL, RESULT, ERROR = 2, 3, 4


class Unreadable(ValueError):
    """What arrived is not an OCPP frame."""


@dataclass(frozen=True)
class Frame:
    """One frame: `action` only on a CALL, `code` and `description` only on a CALLERROR."""

    kind: int
    uid: str
    payload: dict[str, Any] = field(default_factory=dict)
    action: str = ""
    code: str = ""
    description: str = ""


def call(uid: str, action: str, payload: dict[str, Any]) -> str:
    return json.dumps([CALL, uid, action, payload], separators=(",", ":"))


def result(uid: str, payload: dict[str, Any]) -> str:
    return json.dumps([RESULT, uid, payload], separators=(",", ":"))


def error(uid: str, code: str, description: str = "") -> str:
    return json.dumps([ERROR, uid, code, description, {}], separators=(",", ":"))


def read(text: str | bytes) -> Frame:
    """The frame in `text`; raises Unreadable when there is none."""
    try:
        match json.loads(text):
            case [2, str(uid), str(action), dict(payload)]:
                return Frame(CALL, uid, payload, action=action)
            case [3, str(uid), dict(payload)]:
                return Frame(RESULT, uid, payload)
            case [4, str(uid), str(code), *rest]:
                return Frame(ERROR, uid, code=code, description=str(rest[0]) if rest else "")
    except ValueError as reason:
        raise Unreadable(str(reason)) from None
    raise Unreadable("not a CALL, CALLRESULT or CALLERROR")
