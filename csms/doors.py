"""Who was refused at the chargers' door, kept for the operator without letting a stranger fill the table."""

import logging

from django.core.cache import cache

from accounts.actor import Actor
from accounts.models import AuditEntry
from csms.frames import clean

log = logging.getLogger(__name__)
# At most one record a minute per identity and address, and this many a minute in all.
RECORDS_A_MINUTE = 60


def refused(identity: str, address: str, why: str) -> None:
    """Record that a socket was turned away: `why` is one of unknown, wrong_key, blocked, no_identity, subprotocol."""
    identity = clean(identity)[:48]
    try:
        if not cache.add(f"refused:{address}:{identity}:{why}"[:200].replace(" ", "_"), 1, 60):
            return
        cache.add("refused:minute", 0, 60)
        if cache.incr("refused:minute") > RECORDS_A_MINUTE:
            return
    except Exception as error:  # without Redis the record is still better than none
        log.warning("refusals are not rate limited just now (%s)", type(error).__name__)
    AuditEntry.objects.create(
        actor=address[:150] or "unknown",
        actor_type=Actor("charger", "").kind,
        action="connection.refused",
        trigger=why,
        target_type="csms.chargepoint",
        target_id=identity or "-",
        after={"address": address},
    )
