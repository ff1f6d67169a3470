"""The record of deeds and transitions. Written in the transaction of the deed; never per meter reading."""

from typing import Any

from django.db.models import Model

from accounts import actor as actors
from accounts.models import AuditEntry


def record(
    action: str,
    target: Model,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    trigger: str = "",
    actor: actors.Actor | None = None,
) -> AuditEntry:
    """Write one audit entry about `target`, by the current actor unless another is named.

    `before`/`after` hold plain JSON values: never secrets, phone numbers or UPI ids.
    """
    who = actor or actors.current()
    return AuditEntry.objects.create(
        actor=who.name[:150],
        actor_type=who.kind,
        user=who.user,
        action=action,
        trigger=trigger[:80],
        target_type=target._meta.label_lower,
        target_id=str(target.pk),
        before=before or {},
        after=after or {},
        company_id=getattr(target, "company_id", None),
    )
