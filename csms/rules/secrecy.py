"""What is nobody's to read: the values of configuration keys that are secrets, in payloads and in frames. Pure.

The value stays with the charger; rows, pages and logs hold MASK in its place.
"""

import json
import re
from typing import Any

MASK = "***"
# Compared without case, hyphens and the like. Vendors have such keys for modems, Wi-Fi and file servers too.
_WORDS = ("authorizationkey", "authkey", "presharedkey", "privatekey", "apikey", "password", "passwd", "passphrase", "secret", "simpin")
# A frame without any of these (the last: a letter may be written as an escape) has none of them: that is most frames.
_HINTS = (b"key", b"pass", b"secret", b"pin", b"\\u00")
_NOT_LETTERS = re.compile(r"[^a-z0-9]")
# It always ends, at the latest with the frame: else every quote of a hostile one would be tried again, for minutes.
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_NAMED = {"key", "name", "variable", "id", "messageid"}
_VALUED = {"value", "attributevalue", "data"}
# What may be seen of a frame that could not be read and names a secret.
_HARMLESS = {*_NAMED, *_VALUED, "readonly", "configurationkey", "unknownkey", "changeconfiguration", "getconfiguration", "status", ""}


def is_secret(name: Any) -> bool:
    """Whether a configuration key of this name holds a secret."""
    return isinstance(name, str) and any(word in _plain(name) for word in _WORDS)


def masked(value: Any) -> Any:
    """The same JSON value with every secret masked, however deep: `{"key": "AuthorizationKey", "value": ...}` and `{"Password": ...}`."""
    if isinstance(value, list):
        return [masked(one) for one in value]
    if isinstance(value, str):
        return _masked_text(value)
    if not isinstance(value, dict):
        return value
    named = any(_plain(name) in _NAMED and is_secret(one) for name, one in value.items())
    return {name: _hidden(one) if is_secret(name) or (named and _plain(name) in _VALUED) else masked(one) for name, one in value.items()}


def masked_frame(raw: bytes) -> bytes:
    """A frame with its secrets masked; byte for byte as it came when it has none."""
    lower = raw.lower()
    if not any(hint in lower for hint in _HINTS):
        return raw
    try:
        frame = json.loads(raw, object_pairs_hook=_once)
        without = masked(frame)
    except (ValueError, RecursionError):
        return _masked_torn(raw)
    return raw if without == frame else json.dumps(without, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def without(raw: bytes, secret: str) -> bytes:
    """A frame without this very secret, wherever in it a charger may have put it, in either case."""
    return re.sub(re.escape(secret.encode()), MASK.encode(), raw, flags=re.IGNORECASE) if secret else raw


def scrubbed(value: Any, secret: str) -> Any:
    """The same JSON value without this very secret."""
    return json.loads(without(json.dumps(value).encode(), secret)) if secret else value


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _hidden(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one) for one in value]
    return value if value is None or value == "" or isinstance(value, bool) else MASK


def _masked_text(text: str) -> str:
    """A text that is JSON itself, as DataTransfer has it."""
    if text[:1] not in ("{", "[") or not any(word in _plain(text) for word in _WORDS):
        return text
    try:
        inner = json.loads(text, object_pairs_hook=_once)
        without = masked(inner)
    except (ValueError, RecursionError):
        return MASK
    return text if without == inner else json.dumps(without, ensure_ascii=False, separators=(",", ":"))


def _masked_torn(raw: bytes) -> bytes:
    """A frame that could not be read, or that names a field twice: when a secret is named in it, only the names are kept."""
    seen = raw.decode("utf-8", "replace")
    if not is_secret(seen):
        return raw
    kept = _TEXT.sub(lambda found: found[0] if _may_be_seen(found[0].decode("utf-8", "replace")) else b'"***"', raw)
    texts = _TEXT.findall(raw)
    return kept if any(is_secret(text.decode("utf-8", "replace")) for text in texts) else MASK.encode()


def _may_be_seen(text: str) -> bool:
    return _plain(text) in _HARMLESS or (is_secret(text) and len(text) <= 52)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a field that is named twice: the first of them would be hidden from us, not from a reader."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("named twice")
    return found


def _plain(name: str) -> str:
    return _NOT_LETTERS.sub("", name.casefold())
