"""Who paid? What Razorpay says of a payer is often missing, sometimes a placeholder, and never a proof."""

import re

_MOBILE = re.compile(r"(?:\+?91|0)?([6-9]\d{9})", re.ASCII)
_KNOWN_DUMMIES = {"9876543210", "9123456789", "9123456780"}
_VPA = re.compile(r"[a-z0-9._-]{2,64}@[a-z0-9.-]{2,35}")


def real_phone(contact: object) -> str | None:
    """An Indian mobile number as +91XXXXXXXXXX; None for anything missing, malformed or obviously a placeholder.

    Numbers of one or two different digits (9999999999, 9000090000) are what forms and test data are filled with.
    """
    if not isinstance(contact, str):
        return None
    match = _MOBILE.fullmatch(re.sub(r"[\s()-]", "", contact))
    if match is None or len(set(match[1])) <= 2 or match[1] in _KNOWN_DUMMIES:
        return None
    return "+91" + match[1]


def real_vpa(vpa: object) -> str | None:
    """A UPI id in lower case, as they are compared; None when it is none."""
    if not isinstance(vpa, str):
        return None
    vpa = vpa.strip().lower()
    return vpa if _VPA.fullmatch(vpa) else None


def mask_vpa(vpa: str) -> str:
    """A UPI id as people may see it: `as…@okaxis`. A UPI id is personal, and half of it is enough to recognise one's own."""
    name, at, bank = vpa.partition("@")
    return f"{name[:2]}…{at}{bank}" if at else "…" if vpa else ""
