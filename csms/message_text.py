"""A frame for people's eyes: indented when it is JSON, as it came when it is not, and what our repair made of it. Pure.

A one-time idTag opens a charger until it is used, a card's for as long as it lives: who may not command chargers
sees the end of a tag only.
"""

import json
import logging
import re
from typing import Any

from csms import frames, repair
from csms.rules.secrecy import Also, masked_frame

log = logging.getLogger(__name__)
TAG_KEYS = {"idtag", "parentidtag", "idtoken"}
# In what is no JSON, or torn: the key, whatever quotes it has or lacks, then the value up to where it must end.
_TAG = re.compile(r"""(id_?(?:tag|token)["']?\s*[:=]\s*["']?)((?:\\.|[^"'{}\[\],\s\\])+)""", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_GIST, _SHORT, _DEEPEST = 160, 8_193, 64


def plain(raw: bytes) -> str:
    """The frame as it came; what is not UTF-8, and control characters, escaped."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", bytes(raw).decode("utf-8", "backslashreplace"))


def shown(raw: bytes, *, tags: bool, indent: int | None = 2, also: Also = ()) -> str:
    """The frame to be read: indented (`indent=None`: on one line as it came). `tags`: whether idTags may be seen whole.

    `also`, here and below: names that its charger's habits know to be secrets', perhaps only since the frame was written.
    """
    raw = masked_frame(bytes(raw), also)
    text = plain(raw)
    if tags and indent is None:
        return text
    try:
        data = _loads(raw)
        if data is not None:
            hidden = data if tags else without_tags(data)
            return text if indent is None and hidden == data else _dumps(hidden, indent)
    except RecursionError:  # nested a thousand deep: writing it gives up before reading it does
        log.info("a frame is nested too deep to be indented")
    return text if tags else _TAG.sub(lambda found: found[1] + masked(found[2]), text)


def understood(raw: bytes, *, tags: bool, version: str = "1.6", also: Also = ()) -> tuple[str, list[str]]:
    """A request's payload as our repair makes it, indented, and what it changed; ("", []) when it changes nothing."""
    frame = frames.read(masked_frame(bytes(raw), also))
    if not isinstance(frame, frames.Frame) or frame.type != frames.CALL or frame.action not in repair.actions(version):
        return "", []
    fixed = repair.repair(version, frame.action, frame.payload)
    notes = [*frame.notes, *fixed.notes]
    if not notes and fixed.payload == frame.payload:
        return "", []
    payload = fixed.payload if tags else without_tags(fixed.payload)
    return _dumps(payload, 2), notes


def gist(raw: bytes, *, tags: bool, also: Also = ()) -> str:
    """A frame's plain values in one short line: "connectorId 1 · status Charging"; "" when there are none, or it is no JSON."""
    data = _loads(masked_frame(bytes(raw), also)) if len(raw) < _SHORT else None
    if not isinstance(data, list) or len(data) < 3:
        return ""
    if data[0] == frames.CALLERROR:
        return _printable(" · ".join(str(part) for part in data[2:4] if part)[:_GIST])
    payload = data[-1] if isinstance(data[-1], dict) else {}
    payload = payload if tags else without_tags(payload)
    said = []
    for key, value in payload.items():
        if isinstance(value, dict):
            said += [f"{name} {inner}" for name, inner in value.items() if _plain_value(inner)]
        elif _plain_value(value) and key != "timestamp":
            said.append(f"{key} {value}")
    return _printable(" · ".join(said)[:_GIST])


def without_tags(value: Any, deep: int = 0) -> Any:
    """A JSON value in which every idTag shows its end only; what is nested deeper than any message is left out."""
    if isinstance(value, (list, dict)) and deep > _DEEPEST:
        return "…"
    if isinstance(value, list):
        return [without_tags(one, deep + 1) for one in value]
    if isinstance(value, dict):
        return {
            key: masked(str(one)) if key.lower() in TAG_KEYS and isinstance(one, (str, int, float)) else without_tags(one, deep + 1)
            for key, one in value.items()
        }
    return value


def masked(tag: str) -> str:
    """The end of it, when that leaves enough unsaid."""
    return "…" + tag[-4:] if len(tag) >= 8 else "…"


def _plain_value(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and value != ""


def _dumps(value: Any, indent: int | None) -> str:
    return _printable(json.dumps(value, indent=indent, ensure_ascii=False))


def _printable(text: str) -> str:
    """Half a character, which JSON can write and UTF-8 cannot, as it was written."""
    return text.encode("utf-8", "backslashreplace").decode()


def _loads(raw: bytes) -> Any:
    try:
        return json.loads(bytes(raw))
    except (ValueError, RecursionError):
        return None
