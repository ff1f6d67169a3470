"""API tokens: made with 256 bits, shown once, kept as digests; each acts as its person."""

import hashlib
import secrets
from datetime import datetime, timedelta

from accounts import audit
from accounts.models import ApiToken, User
from voltaro import clock

PREFIX = "vlt_"
# `last_used_at` is written at most this often.
USED_EVERY = timedelta(seconds=60)


def make(user: User, name: str, expires_at: datetime | None = None) -> tuple[ApiToken, str]:
    """A new token of this person: its row, and the token itself, which cannot be read again."""
    text = PREFIX + secrets.token_urlsafe(32)
    row = ApiToken.objects.create(user=user, name=name, digest=digest(text), beginning=text[:12], expires_at=expires_at)
    audit.record("api_token.made", row, after={"user": user.get_username(), "name": name})
    return row, text


def revoke(row: ApiToken) -> bool:
    """From now on it opens nothing; True when it did until now."""
    if row.revoked_at is not None:
        return False
    row.revoked_at = clock.now()
    row.save(update_fields=["revoked_at"])
    audit.record("api_token.revoked", row, after={"user": row.user.get_username(), "name": row.name})
    return True


def find(text: str) -> ApiToken | None:
    """The token this text is, if it opens anything now."""
    if not text.startswith(PREFIX) or len(text) > 100:
        return None
    row = ApiToken.objects.select_related("user").filter(digest=digest(text), revoked_at__isnull=True).first()
    now = clock.now()
    if row is None or not row.user.is_active or (row.expires_at is not None and row.expires_at <= now):
        return None
    if row.last_used_at is None or now - row.last_used_at > USED_EVERY:
        ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
    return row


def digest(text: str) -> str:
    # 256 random bits need no slow hash.
    return hashlib.sha256(text.encode()).hexdigest()
