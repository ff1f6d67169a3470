"""What is nobody's to read: the values of configuration keys that are secrets, in payloads and in frames. Pure.

The value stays with the charger; rows, pages and logs hold MASK in its place. Which names are secrets' is told by their words
(`is_secret`), and, for the rest, by people: `also` are the names, with * for anything, that a charger's habits list (secret_keys).
"""

import json
import re
from fnmatch import fnmatchcase
from typing import Any

MASK = "***"
MAX_NAME = 200
# What could not be read and has more words than this is nothing a person would read either.
MOST_NAMES = 20_000
Also = tuple[str, ...]
# The fields in which a call carries what somebody may say is a secret.
CARRIES = {"ChangeConfiguration": ("value",), "DataTransfer": ("data",)}
# Compared without case, hyphens and the like. Vendors have such keys for modems, Wi-Fi and file servers too.
_WORDS = (
    "authorizationkey", "authkey", "presharedkey", "privatekey", "apikey", "password", "passwd", "passphrase", "passcode", "pincode",
    "secret", "credential", "simpin",
)  # fmt: skip
# WifiKey, AccessToken, WpaPsk, SimPin2, FtpPass: how such names end.
_END = re.compile(r"(?:key|token|pin|psk|pwd|puk|pass)\d*$")
# Names that end so and hold none: what OCPP calls its fields, what everybody may know, and a bypass.
_NONE = re.compile(r"^(?:configuration|unknown)?key\d*$|public|(?:id|group)token\d*$|bypass\d*$")
_PARTS = ("key", "pass", "secret", "token", "pin", "psk", "pwd", "puk", "credential")
_INSIDE = {"pin", "psk", "pwd", "puk"}
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NAMES = re.compile(r"[A-Za-z0-9_.\-]+")
# A frame without any of these (the last: a letter may be written as an escape) has none of them: that is most frames.
_HINTS = (b"key", b"pass", b"secret", b"pin", b"token", b"credential", b"psk", b"pwd", b"puk", b"\\u00")
# Where names stand that only people know to be secrets': in a configuration ("key"), or in a vendor's message.
_HINTS_ALSO = (*_HINTS, b"data")
_NOT_LETTERS = re.compile(r"[^a-z0-9]")
# It always ends, at the latest with the frame: else every quote of a hostile one would be tried again, for minutes.
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_NAMED = {"key", "name", "variable", "id", "messageid"}
_VALUED = {"value", "attributevalue", "data"}
# What may be seen of a frame that could not be read and names a secret.
_HARMLESS = {*_NAMED, *_VALUED, "readonly", "configurationkey", "unknownkey", "changeconfiguration", "getconfiguration", "status", ""}


def is_secret(name: Any, also: Also = ()) -> bool:
    """Whether a configuration key of this name holds a secret."""
    if not isinstance(name, str):
        return False
    plain = _plain(name)
    if also and any(fnmatchcase(plain, _pattern(one)) for one in also):
        return True
    if not any(part in plain for part in _PARTS):  # nearly every name: a frame may have thirty thousand
        return False
    if any(word in plain for word in _WORDS):
        return True
    if _NONE.search(plain):
        return False
    return bool(_END.search(plain)) or not _INSIDE.isdisjoint(word.lower() for word in _CAMEL.findall(name[:MAX_NAME]))


def is_own_key(name: str) -> bool:
    """Whether a configuration key of this name is the charger's key to us, as the standard or a vendor calls it."""
    plain = _plain(name)
    return "authorizationkey" in plain or "basicauth" in plain or plain.endswith("authkey")


def masked(value: Any, also: Also = ()) -> Any:
    """The same JSON value with every secret masked, however deep: `{"key": "AuthorizationKey", "value": ...}` and `{"Password": ...}`."""
    if isinstance(value, list):
        return [masked(one, also) for one in value]
    if isinstance(value, str):
        return _masked_text(value, also)
    if not isinstance(value, dict):
        return value
    named = any(_plain(name) in _NAMED and is_secret(one, also) for name, one in value.items())
    return {
        name: _hidden(one) if is_secret(name, also) or (named and _plain(name) in _VALUED) else masked(one, also)
        for name, one in value.items()
    }


def concealed(action: str, payload: dict[str, Any], also: Also = (), *, secret: bool = False) -> dict[str, Any]:
    """What may be kept of a call to a charger. `secret`: somebody says that its value is one, whatever its name."""
    kept: dict[str, Any] = masked(payload, also)
    if secret:
        kept |= {name: MASK for name in CARRIES.get(action, ()) if name in kept}
    return kept


def masked_frame(raw: bytes, also: Also = ()) -> bytes:
    """A frame with its secrets masked; byte for byte as it came when it has none."""
    lower = raw.lower()
    if not any(hint in lower for hint in (_HINTS_ALSO if also else _HINTS)):
        return raw
    try:
        frame = json.loads(raw, object_pairs_hook=_once)
        without = masked(frame, also)
    except (ValueError, RecursionError):
        return _masked_torn(raw, also)
    return raw if without == frame else json.dumps(without, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def without(raw: bytes, secret: str) -> bytes:
    """A frame without this very secret, wherever in it a charger may have put it, in either case."""
    return re.sub(re.escape(secret.encode()), MASK.encode(), raw, flags=re.IGNORECASE) if secret else raw


def scrubbed(value: Any, secret: str) -> Any:
    """The same JSON value without this very secret."""
    return json.loads(without(json.dumps(value).encode(), secret)) if secret else value


def hushed_frame(raw: bytes, secret: str) -> bytes:
    """A frame without this text, wherever in it, but for its type and id; as it came when it is not there."""
    try:
        frame = json.loads(raw)
        without_it = [*frame[:2], *hushed(frame[2:], secret)]
    except (ValueError, TypeError, RecursionError):
        return without(without(raw, secret), json.dumps(secret)[1:-1])
    if without_it == frame:
        return raw
    return json.dumps(without_it, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def hushed(value: Any, secret: str) -> Any:
    """The same JSON value without this text, in either case."""
    if isinstance(value, dict):
        return {name: hushed(one, secret) for name, one in value.items()}
    if isinstance(value, list):
        return [hushed(one, secret) for one in value]
    if isinstance(value, str):
        return re.sub(re.escape(secret), MASK, value, flags=re.IGNORECASE)
    return MASK if isinstance(value, (int, float)) and not isinstance(value, bool) and str(value) == secret else value


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _hidden(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one) for one in value]
    return value if value is None or value == "" or isinstance(value, bool) else MASK


def _masked_text(text: str, also: Also) -> str:
    """A text that is JSON itself, as DataTransfer has it."""
    if text[:1] not in ("{", "[") or not _names_one(text, also):
        return text
    try:
        inner = json.loads(text, object_pairs_hook=_once)
        without = masked(inner, also)
    except (ValueError, RecursionError):
        return MASK
    return text if without == inner else json.dumps(without, ensure_ascii=False, separators=(",", ":"))


def _names_one(text: str, also: Also) -> bool:
    """Whether a text, whatever it is, names a secret."""
    plain = _plain(text)
    if any(word in plain for word in _WORDS):
        return True
    names = {*_NAMES.findall(text)}
    return len(names) > MOST_NAMES or any(is_secret(one, also) for one in names if len(one) <= MAX_NAME)


def _masked_torn(raw: bytes, also: Also) -> bytes:
    """A frame that could not be read, or that names a field twice: when a secret is named in it, only the names are kept."""
    seen = raw.decode("utf-8", "replace")
    if not _names_one(seen, also):
        return raw
    kept = _TEXT.sub(lambda found: found[0] if _may_be_seen(found[0].decode("utf-8", "replace")) else b'"***"', raw)
    texts = _TEXT.findall(raw)
    return kept if any(_names_one(text.decode("utf-8", "replace"), also) for text in texts) else MASK.encode()


def _may_be_seen(text: str) -> bool:
    return _plain(text) in _HARMLESS or (any(word in _plain(text) for word in _WORDS) and len(text) <= 52)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a field that is named twice: the first of them would be hidden from us, not from a reader."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("named twice")
    return found


def _pattern(name: str) -> str:
    return "*".join(_plain(part) for part in name.split("*"))


def _plain(name: str) -> str:
    return _NOT_LETTERS.sub("", name.casefold())
