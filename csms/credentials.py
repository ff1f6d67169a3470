"""The keys of chargers: made with 160 bits, shown once, stored as keyed hashes.

A slow password hash costs 0.2 s of processor a connect: ten thousand chargers coming back after an outage would need
18 minutes. A random key of 160 bits needs no slow hash (docs/decisions/0005-charger-keys.md).
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets

from django.conf import settings

from csms.rules.security import Key

_HEX40 = re.compile(rb"[0-9a-fA-F]{40}")


def new_key() -> str:
    """A new AuthorizationKey: 20 random bytes as 40 hex digits (OCPP 1.6 security whitepaper, A01)."""
    return secrets.token_hex(20)


def hashed(cp_id: str, key: str | bytes) -> str:
    """What is stored. Bound to the charger: the same key on two chargers has two hashes."""
    raw = key.encode() if isinstance(key, str) else key
    if _HEX40.fullmatch(raw):
        raw = raw.lower()
    return hmac.new(settings.CHARGER_KEY_PEPPER.encode(), cp_id.encode() + b"\0" + raw, hashlib.sha256).hexdigest()


def which(cp_id: str, stored: tuple[str, str], password: bytes) -> Key:
    """Which of a charger's keys (current, pending) this password is: as text, or as the bytes its hex digits stand for.

    The work is the same whatever is stored, and whatever of it matches.
    """
    shown = [hashed(cp_id, password), hashed(cp_id, password.hex()) if len(password) == 20 else ""]
    found = Key.NONE
    for key, kept in ((Key.PENDING, stored[1]), (Key.CURRENT, stored[0])):
        if any([hmac.compare_digest(one, kept) for one in shown]) and kept:
            found = key
    return found


def matches(cp_id: str, stored: str, password: bytes) -> bool:
    """Whether this password is the key that is stored so."""
    return which(cp_id, (stored, ""), password) is Key.CURRENT


def new_nonce() -> str:
    """What a key that we send is made of: kept instead of the key, and worth nothing without the pepper."""
    return secrets.token_hex(32)


def derived_key(cp_id: str, nonce: str) -> str:
    """The key of that charger and nonce: 160 bits, as 40 hex digits. Made anew whenever it must be sent, and kept nowhere."""
    message = b"\0key\0" + cp_id.encode() + b"\0" + nonce.encode()  # no identity begins with \0: never what `hashed` has hashed
    return hmac.new(settings.CHARGER_KEY_PEPPER.encode(), message, hashlib.sha256).hexdigest()[:40]


def read_basic(header: bytes | None) -> tuple[str, bytes] | None:
    """User and password of an `Authorization: Basic` header; None when there is none or it cannot be read."""
    if not header:
        return None
    scheme, _, encoded = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user.decode("utf-8", "replace"), password) if colon else None
