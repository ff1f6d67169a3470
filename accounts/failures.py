"""How charging goes wrong: ONE table of the ways we know (failure modes), and how one is put on record.

Each is an audit entry `failure.<mode>`, written in the transaction of what happened, so that it is counted once whatever
process saw it; the same is logged as one structured line after the commit. Counts for pages and metrics are read from these
entries (`counts`), those that `stand` from the rows that are stuck at this moment (voltaro/failure_pages.py).
"""

import logging
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import CharField, Count, Exists, Model, OuterRef, Q, QuerySet
from django.db.models.functions import Cast

from accounts import audit
from accounts.models import AuditEntry
from voltaro import clock

log = logging.getLogger("voltaro.failures")
PREFIX = "failure."
# What a person writes about an entry that wants nothing more of anybody: an audit entry about that audit entry.
PUT_AWAY = "kept.put_away"
_WORD = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
# How far back people and metrics look: no count reads more than this.
WINDOW = timedelta(days=7)
LINE, START, MONEY, ORPHAN = "The line", "Start and stop", "Money", "Kept for a person"


@dataclass(frozen=True)
class Mode:
    """One way. `runbook` is a file of docs/runbooks without its .md; `standing`: counted as it is now, not as it happened."""

    family: str
    words: str
    runbook: str
    grave: bool = False
    standing: bool = False


MODES: dict[str, Mode] = {
    "disconnect_suspended": Mode(LINE, "A session waits: its charger's line is gone", "charger-away"),
    "boot_suspended": Mode(LINE, "A session waits: its charger restarted in the middle", "charger-away"),
    "disconnect_stopped": Mode(LINE, "A session was ended: its charger did not come back in time", "charger-away"),
    "stale_suspended_swept": Mode(LINE, "A session was ended late: nobody of ours looked in time", "charger-away", grave=True),
    "stale_reconnect": Mode(LINE, "A session was ended: its charger came back after too long", "charger-away"),
    "flapping_stopped": Mode(LINE, "A session was ended: its line broke again and again, and no energy flowed", "charger-away"),
    "silence_stopped": Mode(LINE, "A session was ended: nothing was heard of it for hours", "session-silent"),
    "no_stop": Mode(START, "A session was ended: its connector is free, and no stop came", "session-silent"),
    "superseded": Mode(START, "A session was ended: the next one began, and no stop came", "session-silent"),
    "charger_has_none": Mode(START, "A session was ended: its charger says that it knows of none", "session-silent"),
    "late_stop": Mode(START, "The real stop came after we had ended the session", "session-silent"),
    "zero_energy_stopped": Mode(START, "A session ended without any energy", "zero-energy"),
    "start_timeout_refunded": Mode(START, "Paid, not started in time: refunded", "start-lost"),
    "start_after_refund": Mode(START, "A start came after its money was on its way back: stopped", "start-lost"),
    "remote_stop_not_obeyed": Mode(START, "A charger was told to stop, and charged on", "stop-not-obeyed", grave=True),
    "charges_on": Mode(START, "A charger charged on with a session that we had ended: told to stop", "stop-not-obeyed", grave=True),
    "billing_failed": Mode(MONEY, "A session could not be billed", "billing-failed", grave=True),
    "held_for_review": Mode(MONEY, "A session's energy is not plausible: its bill waits for a person", "billing-failed"),
    "refund_stuck": Mode(MONEY, "Refunds that failed, or have been on their way for too long", "refund-failed", grave=True, standing=True),
    "payout_stuck": Mode(MONEY, "Payouts that failed, or have been on their way for too long", "payout-held", grave=True, standing=True),
    "phantom_start": Mode(ORPHAN, "A start that nobody paid or was known for", "orphans"),
    "phantom_flow": Mode(ORPHAN, "Energy flows where no session is", "orphans", grave=True),
    "orphan_stop": Mode(ORPHAN, "A stop of a transaction we never heard of", "orphans"),
    "message_quarantined": Mode(ORPHAN, "A message that our own code stumbled over", "orphans", grave=True),
}


def note(mode: str, target: Model, *, once_s: float = 0, **detail: Any) -> bool:
    """Put it on record, about this row; False when that was done within `once_s`. `detail` holds plain JSON values, no secrets."""
    known = MODES[mode]
    assert not known.standing, mode
    if once_s and _noted(mode, target, clock.now() - timedelta(seconds=once_s)):
        return False
    entry = audit.record(PREFIX + mode, target, after=detail)
    transaction.on_commit(partial(_log, mode, known.runbook, entry))
    return True


def _noted(mode: str, target: Model, since: datetime) -> bool:
    mine = AuditEntry.objects.filter(target_type=target._meta.label_lower, target_id=str(target.pk))
    return mine.filter(action=PREFIX + mode, at__gt=since).exists()


def _log(mode: str, runbook: str, entry: AuditEntry) -> None:
    """One line of words and values that a log collector takes apart; `extra` for those that read records."""
    detail = " ".join(f"{name}={_plain(value)}" for name, value in entry.after.items() if value not in (None, ""))
    facts = {"failure_mode": mode, "target_type": entry.target_type, "target_id": entry.target_id, "runbook": f"docs/runbooks/{runbook}.md"}
    target = f"{entry.target_type}:{entry.target_id}"
    log.warning("failure mode=%s target=%s runbook=%s %s", mode, target, facts["runbook"], detail, extra=facts)


def _plain(value: Any) -> str:
    """A number or one plain word; a longer text may be a charger's, with a line in it that looks like ours: it is in the audit entry."""
    return text if _WORD.fullmatch(text := str(value)) else "(text)"


def entries(now: datetime, rows: QuerySet[AuditEntry] | None = None) -> QuerySet[AuditEntry]:
    """What was put on record within WINDOW (`rows`: of those this person may see): an index of its own finds them."""
    found = AuditEntry.objects.all() if rows is None else rows
    return found.filter(action__startswith=PREFIX, at__gte=now - WINDOW)


# -- kept for a person ------------------------------------------------------------------------------------------------
def kept(now: datetime, rows: QuerySet[AuditEntry], *, away: bool) -> QuerySet[AuditEntry]:
    """What fits nowhere, of `rows`, within WINDOW: what still waits for a person, or what was put away. The newest first."""
    done = Exists(_words().filter(target_id=Cast(OuterRef("pk"), CharField())))
    return kept_at_all(entries(now, rows)).filter(done if away else ~done).order_by("-at")


def kept_at_all(rows: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
    """Those of `rows` that are of the family, put away or not."""
    return rows.filter(action__in=[PREFIX + name for name, mode in MODES.items() if mode.family == ORPHAN])


def put_away(entry: AuditEntry, note: str) -> bool:
    """A person has looked at it: it leaves the list, with a word. Nothing of it is changed. False when that was done before."""
    with transaction.atomic():
        AuditEntry.objects.select_for_update(no_key=True).get(pk=entry.pk)  # two people, one word
        if _words().filter(target_id=str(entry.pk)).exists():
            return False
        audit.record(PUT_AWAY, entry, trigger="console", after={"note": note})
        return True


def words_about(found: list[AuditEntry]) -> dict[int, AuditEntry]:
    """Who put these away, and with which word; one query."""
    return {int(one.target_id): one for one in _words().filter(target_id__in=[str(entry.pk) for entry in found])}


def _words() -> QuerySet[AuditEntry]:
    return AuditEntry.objects.filter(target_type=AuditEntry._meta.label_lower, action=PUT_AWAY).order_by()


@dataclass(frozen=True)
class Counted:
    """How often a mode happened within the last hour, day and seven days."""

    hour: int = 0
    day: int = 0
    week: int = 0


def counts(now: datetime, rows: QuerySet[AuditEntry] | None = None) -> dict[str, Counted]:
    """Of every mode that happens; one query, over no more than WINDOW."""
    found = (
        entries(now, rows)
        .order_by()
        .values_list("action")
        .annotate(
            hour=Count("pk", filter=Q(at__gte=now - timedelta(hours=1))),
            day=Count("pk", filter=Q(at__gte=now - timedelta(days=1))),
            week=Count("pk"),
        )
    )
    seen = {action.removeprefix(PREFIX): Counted(*numbers) for action, *numbers in found}
    return {name: seen.get(name, Counted()) for name, mode in MODES.items() if not mode.standing}
