"""RFID tags as people keep them: added, changed, blocked, brought in from a file. One-time permits are none of these.

Every deed is put on record, by its fields and never by a tag's number, and local lists that hold the tag are looked at again.
"""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from csms import local_lists
from csms.models import IdTag

State = IdTag.State
# What a person may say of a tag.
FIELDS = ("tag", "note", "parent", "expires_at", "company_id", "user_id", "concurrent")


def cards() -> QuerySet[IdTag]:
    return IdTag.objects.filter(kind=IdTag.Kind.RFID)


@transaction.atomic
def keep(row: IdTag, *, trigger: str = "console") -> IdTag:
    """Save a new tag, or what was changed of one; nothing changed is nothing done. `row` has been validated."""
    before = cards().select_for_update(no_key=True, of=("self",)).filter(pk=row.pk).first() if row.pk else None
    changed = [name for name in FIELDS if before is None or getattr(row, name) != getattr(before, name)]
    if before is not None and not changed:
        return row
    if before is not None:
        row.save(update_fields=changed)
    else:
        row.save(force_insert=True)
    audit.record("tag.changed" if before else "tag.added", row, trigger=trigger, after={"fields": changed} if before else {})
    local_lists.tags_changed({row.company_id, before.company_id} if before else {row.company_id})
    return row


@transaction.atomic
def block(pks: Iterable[int], *, unblock: bool = False, trigger: str = "console") -> int:
    """Block these tags, or let them charge again; how many changed. A session that runs goes on: stop it where it runs."""
    source, target = (State.BLOCKED, State.READY) if unblock else (State.READY, State.BLOCKED)
    rows = list(cards().select_for_update(no_key=True, of=("self",)).filter(pk__in=list(pks), state=source).order_by("pk"))
    for row in rows:
        row.state = target
        row.save(update_fields=["state"])
        audit.record("tag.unblocked" if unblock else "tag.blocked", row, trigger=trigger, before={"state": source}, after={"state": target})
    if rows:
        local_lists.tags_changed({row.company_id for row in rows})
    return len(rows)
