"""OCPP-J frames: bytes to a Frame and back, tolerant of what real chargers send. Pure.

OCPP-J 1.6 §4: [2, id, action, payload], [3, id, payload], [4, id, code, description, details].
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CALL, CALLRESULT, CALLERROR = 2, 3, 4
MAX_DEPTH = 16
_ID = re.compile(r'^\s*\[\s*"?[2-4]"?\s*,\s*("(?:[^"\\]{0,36})"|-?\d{1,19})')
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Where one frame may end and the next begin: no JSON has this outside a text.
_NEXT_FRAME = re.compile(rb"\]\s*\[\s*[\"']?[2-4]")
_LIST_OF_FRAMES = re.compile(rb"\s*\[\s*\[\s*[\"']?[2-4]")
FRAMES_AT_ONCE = 50
_BETWEEN = " \t\r\n\x00,;"
# A JSON string; the last of a torn frame ends with it (else every quote in it would be tried again).
_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Frame:
    """A frame that could be read. `id` is what is echoed, exactly as it came (its JSON type too)."""

    type: int
    id: Any
    action: str
    payload: dict[str, Any]
    code: str = ""
    description: str = ""
    notes: tuple[str, ...] = ()

    @property
    def correlation_id(self) -> str:
        return clean(str(self.id))[:64]


@dataclass(frozen=True)
class Unreadable:
    """A frame that could not be read: why, what can be answered (None: nothing), and the id if one was seen."""

    reason: str
    code: str | None
    id: Any = "-1"
    type: int = 0
    action: str = ""

    @property
    def correlation_id(self) -> str:
        return clean(str(self.id))[:64]


def clean(text: str) -> str:
    """Without control characters and lone surrogates: what a database and a page can hold."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))


def clean_json(value: Any) -> Any:
    """A JSON value with every text and key of it made `clean`."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_json(one) for one in value]
    if isinstance(value, dict):
        return {clean(key): clean_json(one) for key, one in value.items()}
    return value


def split(raw: bytes) -> list[bytes]:
    """The frames in one WebSocket message: nearly always that one; some firmware writes several into it, or a list of them (Q40)."""
    if _NEXT_FRAME.search(raw):
        found: list[bytes] = []
        rest = raw.decode("utf-8-sig", "surrogateescape").lstrip()
        while rest and len(found) < FRAMES_AT_ONCE:
            try:
                value, end = _DECODER.raw_decode(rest)
            except (ValueError, RecursionError):
                value, end = [], len(rest)  # the last one is torn: it is answered as such
            if not isinstance(value, list):
                return [raw]
            found.append(rest[:end].encode("utf-8", "surrogateescape"))
            rest = rest[end:].lstrip(_BETWEEN)
        return [*found, *([rest.encode("utf-8", "surrogateescape")] if rest else [])] if len(found) > 1 else [raw]
    if _LIST_OF_FRAMES.match(raw) and not _too_deep(text := raw.decode("utf-8-sig", "replace")):
        value = _loads(text, [])
        if isinstance(value, list) and len(value) <= FRAMES_AT_ONCE and all(isinstance(one, list) for one in value):
            return [json.dumps(one).encode() for one in value]
    return [raw]


def torn(raw: bytes) -> bool:
    """Whether this looks like the first part of a frame whose rest comes in another WebSocket message (Q40)."""
    text = raw.strip(_BETWEEN.encode())
    return text.startswith(b"[") and not text.endswith(b"]")


def read(raw: bytes) -> Frame | Unreadable:
    """Parse one frame, repairing what can be repaired; never raises."""
    notes: list[str] = []
    try:
        text = raw.decode("utf-8-sig")  # a byte order mark is no reason
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        notes.append("not UTF-8")
    if text.count("[") + text.count("{") > 20_000 or _too_deep(text):
        return Unreadable("nested too deep", "FormationViolation", _seen_id(text))
    data = _loads(text, notes)
    if data is None:
        # A modem's chatter or a torn frame: a CALL gets an error under its id, noise gets nothing.
        looks_ocpp = text.lstrip().startswith("[")
        return Unreadable("not JSON", "FormationViolation" if looks_ocpp else None, _seen_id(text))
    if not isinstance(data, list) or len(data) < 2:
        return Unreadable("not an OCPP frame", "FormationViolation" if isinstance(data, list) else None)
    kind = _int(data[0])
    if kind not in (CALL, CALLRESULT, CALLERROR):
        return Unreadable(f"message type {str(data[0])[:20]!r}", None)
    if isinstance(data[0], str):
        notes.append("message type was a string")
    ident = data[1]
    if isinstance(ident, (dict, list, float)) or (isinstance(ident, str) and _too_long(ident)):
        return Unreadable("message id is not a string", "FormationViolation" if kind == CALL else None)
    if kind == CALL:
        return _call(data, ident, notes)
    if kind == CALLRESULT:
        payload = data[2] if len(data) > 2 and isinstance(data[2], dict) else {}
        return Frame(kind, ident, "", payload, notes=tuple(notes))
    parts = [clean(str(part)) if part is not None else "" for part in data[2:4]] + ["", ""]
    return Frame(kind, ident, "", {}, code=parts[0][:50] or "GenericError", description=parts[1][:255], notes=tuple(notes))


def _call(data: list[Any], ident: Any, notes: list[str]) -> Frame | Unreadable:
    if len(data) < 3 or not isinstance(data[2], str):
        return Unreadable("action is not a string", "FormationViolation", ident, CALL)
    action = clean(data[2]).strip()[:50]
    payload = data[3] if len(data) > 3 else None
    if payload is None:
        payload = {}
        notes.append("payload was missing")
    if not isinstance(payload, dict):
        return Unreadable("payload is not an object", "FormationViolation", ident, CALL, action)
    if len(data) > 4:
        notes.append("extra elements")
    return Frame(CALL, ident, action, payload, notes=tuple(notes))


def result(ident: Any, payload: dict[str, Any]) -> str:
    """A CALLRESULT under the id as it came."""
    return json.dumps([CALLRESULT, ident, payload], separators=(",", ":"))


def error(ident: Any, code: str, description: str = "") -> str:
    """A CALLERROR. Says nothing of our inside."""
    return json.dumps([CALLERROR, ident, code, description[:255], {}], separators=(",", ":"))


def call(unique_id: str, action: str, payload: dict[str, Any]) -> str:
    return json.dumps([CALL, unique_id, action, payload], separators=(",", ":"))


def _loads(text: str, notes: list[str]) -> Any:
    """The JSON value, as it is or as it must have been meant; None when neither can be seen."""
    for repair, note in _REPAIRS:
        try:
            loaded = _DECODER.decode(repair(text) if repair else text)
        except (ValueError, RecursionError):
            continue
        if note:
            notes.append(note)
        return loaded
    return None


def _fill_blanks(text: str) -> str:
    """`"transactionId":,` in every MeterValues of one model; a comma too many before a bracket."""
    return re.sub(r",(?=\s*[}\]])", "", re.sub(r":\s*(?=[,}\]])", ":null", text))


def _first_value(text: str) -> str:
    """What stands behind a whole frame (a NUL, a bracket too many) is none of it."""
    start = len(text) - len(text.lstrip())
    return text[start : _DECODER.raw_decode(text, start)[1]]


def _close_brackets(text: str) -> str:
    """Frames cut off by a charger short of memory: close what is open, outside strings."""
    stack: list[str] = []
    inside = escaped = False
    for char in text:
        if inside:
            inside, escaped = not (char == '"' and not escaped), char == "\\" and not escaped
        elif char == '"':
            inside = True
        elif char in "[{":
            stack.append("]" if char == "[" else "}")
        elif char in "]}" and stack:
            stack.pop()
    if inside or not stack:
        raise ValueError("not repairable")
    return _fill_blanks(text.rstrip().rstrip(",:") + "".join(reversed(stack)))


def _too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for char in _STRING.sub("", text):
        if char in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif char in "]}":
            depth -= 1
    return False


def _too_long(ident: str) -> bool:
    """Whether an id is longer than any charger's; it is echoed, and as JSON one character may be twelve."""
    return len(ident) > 255 or (not ident.isascii() and len(json.dumps(ident)) > 1600)


def _bounded_int(text: str) -> int | None:
    return int(text) if len(text) <= 20 else None


def _bounded_float(text: str) -> float | None:
    value = float(text)
    return value if abs(value) < 1e300 else None


# Control characters inside texts are taken (and removed by `clean`): firmware in C leaves them there.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_int=_bounded_int, parse_float=_bounded_float, strict=False)
_REPAIRS: tuple[tuple[Callable[[str], str] | None, str], ...] = (
    (None, ""),
    (_first_value, "more after its end"),
    (_fill_blanks, "a value was missing"),
    (_close_brackets, "brackets were missing"),
)


def _int(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _seen_id(text: str) -> Any:
    match = _ID.match(text)
    if not match:
        return "-1"
    seen = match.group(1)
    return seen[1:-1] if seen.startswith('"') else int(seen)
