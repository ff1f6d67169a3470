"""Whose payment is it? A verified phone, then a UPI id, else a guest made for it."""

import hashlib
from typing import Any

from accounts.models import Provider, User
from billing.rules.payer import real_phone, real_vpa


def of(entity: dict[str, Any]) -> tuple[User, str]:
    """(the payer, their UPI id or "") of a Razorpay payment. Contact, VPA and e-mail may all be missing.

    A phone counts only when it is a real number that its owner has verified here; an e-mail never does.
    """
    upi = entity.get("upi")
    vpa = real_vpa(entity.get("vpa")) or real_vpa(upi.get("vpa") if isinstance(upi, dict) else None) or ""
    phone = real_phone(entity.get("contact"))
    if phone:
        verified = User.objects.filter(phone=phone, phone_verified_at__isnull=False, is_active=True).first()
        if verified:
            return verified, vpa
    if vpa:
        known = User.objects.filter(vpa=vpa).first()
        if known:
            return known, vpa
    return _guest(vpa, str(entity["id"])), vpa


def _guest(vpa: str, payment_id: str) -> User:
    """A rider who never signed up. The name derives from the UPI id (or the payment), so that two workers make one guest."""
    seed = hashlib.sha256((vpa or payment_id).encode()).hexdigest()[:16]
    # "!" in front: a password that no sign-in can match.
    guest, _ = User.objects.get_or_create(
        username=f"upi-{seed}", defaults={"provider": Provider.UPI_GUEST, "vpa": vpa, "password": f"!{seed}"}
    )
    return guest
