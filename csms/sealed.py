"""What must be kept until it is sent, and is nobody's to read meanwhile: sealed with a key made of CHARGER_KEY_PEPPER."""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings


def seal(payload: dict[str, Any]) -> str:
    """The payload as a text that says nothing without the pepper."""
    return _fernet().encrypt(json.dumps(payload).encode()).decode()


def opened(text: str) -> dict[str, Any] | None:
    """What was sealed; None when the pepper is another one now, or somebody changed the text."""
    try:
        payload: dict[str, Any] = json.loads(_fernet().decrypt(text.encode()))
    except InvalidToken:
        return None
    return payload


def _fernet() -> Fernet:
    key = hmac.new(settings.CHARGER_KEY_PEPPER.encode(), b"\0sealed\0", hashlib.sha256).digest()
    return Fernet(base64.urlsafe_b64encode(key))
