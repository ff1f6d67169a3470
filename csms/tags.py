"""Tags: what a card or a permit may do. Answered from our own database only; never waits for money, nor for anybody else.

What an external authorizer says of a tag stands in the tag's row (csms/authorizer.py asks it, before and outside of this).
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from accounts import audit
from csms.models import ChargePoint, ChargingSession, IdTag, SessionState
from csms.rules import tag as rule
from csms.rules.habits import STANDARD, Habits
from csms.rules.tag import normal, readings

__all__ = ["TagAnswer", "authorize", "find", "judge", "normal", "readings"]

# One swipe makes some chargers ask ten times in a second (Q79).
STORM_S = 3
# How old an answer may be that stands in for a database that is away (R25: a refusal would stay in the charger's cache).
LAST_S = 24 * 3600
REMEMBERED = 20_000
# For how long a tag nobody remembers waits for a database that is away.
HOLD_S = 1.5
LOCKED_MS = 1_000
# The same refusal is put on record so often.
NOTED_EVERY_S = 60


@dataclass(frozen=True)
class TagAnswer:
    """OCPP 1.6 §7.2 AuthorizationStatus, and the tag's row when there is one."""

    status: str
    permit: IdTag | None = None

    @property
    def accepted(self) -> bool:
        return self.status == "Accepted"

    @property
    def parent(self) -> str:
        """parentIdTag: who may stop each other's sessions."""
        return self.permit.parent if self.permit is not None else ""


def find(tag: str, habits: Habits = STANDARD, *, rows: QuerySet[IdTag] | None = None) -> IdTag | None:
    """The row a charger means by this tag, as its reader says tags; None when we have none. `rows` may lock."""
    wanted = readings(tag, habits.id_tag_form)
    if not wanted:
        return None
    rows = IdTag.objects.all() if rows is None else rows
    found = {row.tag: row for row in rows.select_related("connector").filter(tag__in=wanted)}
    return next((found[one] for one in wanted if one in found), None)


def judge(
    permit: IdTag | None, charge_point_pk: int, connector_no: int | None, now: datetime, *, tag: str = "", habits: Habits = STANDARD
) -> TagAnswer:
    """What this tag may do here and now. A one-time tag is bound to its charger and connector, and to one start.

    `tag` is what the charger said, for one we have no row of. `connector_no` None: before a connector is known; then a tag
    that charges at this very charger is let through, because it may be there to stop.
    """
    unknown = _unknown(tag, habits)
    if permit is None:
        return TagAnswer(rule.judge(None, now, unknown=unknown))
    uses = () if permit.kind == IdTag.Kind.ONE_TIME or permit.concurrent else _uses(permit, charge_point_pk, connector_no)
    facts = rule.Tag(
        state=permit.state,
        expires_at=permit.expires_at,
        elsewhere=_bound_elsewhere(permit, charge_point_pk, connector_no),
        concurrent=permit.concurrent,
        external=permit.source == "external",
        external_status=permit.external_status,
    )
    return TagAnswer(rule.judge(facts, now, uses=uses, gap_s=settings.MAX_RESUME_GAP_S, unknown=unknown), permit)


def authorize(tag: str, charge_point_pk: int, now: datetime, habits: Habits = STANDARD) -> TagAnswer:
    """Authorize.req: the tag alone, before a connector is known. A tag in use here, or one of its group, may be shown to stop."""
    permit = find(tag, habits)
    used_here = permit is not None and permit.state == IdTag.State.USED and permit.charge_point_id == charge_point_pk
    if permit is not None and used_here and permit.sessions.exclude(state=SessionState.STOPPED).exists():
        return TagAnswer("Accepted", permit)
    answer = judge(permit, charge_point_pk, None, now, tag=tag, habits=habits)
    if permit is None or answer.status not in ("Expired", "ConcurrentTx"):
        return answer
    # It may be there to stop: its own session, or, while it is good itself, one of its group.
    may_stop = _charges_here(permit, charge_point_pk, group=answer.status == "ConcurrentTx")
    return replace(answer, status="Accepted") if may_stop else answer


def wait_shortly() -> None:
    """In this transaction nobody's lock is waited for longer than LOCKED_MS: a card's holder waits for the answer (Q80)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCKED_MS}ms"])


def refused(answer: TagAnswer, tag: str, charge_point_pk: int, now: datetime) -> None:
    """Put a refusal on record, for whoever looks for why a card does not work; the same one once a minute."""
    if answer.accepted or not _memory.may_note((charge_point_pk, normal(tag)), now):
        return
    if answer.permit is not None:
        after = {"status": answer.status, "charge_point": charge_point_pk}
        audit.record("tag.refused", answer.permit, trigger=answer.status, after=after)
    else:
        row = ChargePoint.objects.only("pk", "company_id").get(pk=charge_point_pk)
        audit.record("tag.unknown", row, trigger=answer.status, after={"tag": normal(tag)})


def _bound_elsewhere(permit: IdTag, charge_point_pk: int, connector_no: int | None) -> bool:
    if permit.charge_point_id is not None and permit.charge_point_id != charge_point_pk:
        return True
    return permit.connector_id is not None and connector_no is not None and permit.connector.connector_id != connector_no


def _unknown(tag: str, habits: Habits) -> str:
    """What a tag without a row, or without its authorizer's answer, is told."""
    said = normal(tag)
    if said and said == normal(habits.anonymous_tag):
        return "Accepted"  # charging is free to all there (Q74)
    return settings.AUTHORIZER_FALLBACK if settings.AUTHORIZER_URL and said else "Invalid"


def _live(permit: IdTag) -> QuerySet[ChargingSession]:
    return ChargingSession.objects.filter(card=permit, authorized=True).exclude(state=SessionState.STOPPED).order_by()


def _uses(permit: IdTag, charge_point_pk: int, connector_no: int | None) -> tuple[rule.Use, ...]:
    """Its live sessions elsewhere: at other chargers, and, when the connector is known, at this one's other connectors."""
    rows = _live(permit)
    if connector_no is None:
        rows = rows.exclude(charge_point=charge_point_pk)
    else:
        rows = rows.exclude(charge_point=charge_point_pk, connector__connector_id=connector_no)
    return tuple(rule.Use(*row) for row in rows.values_list("state", "last_activity_at", "sample_interval_s", "charge_point__online")[:20])


def _charges_here(permit: IdTag, charge_point_pk: int, *, group: bool) -> bool:
    """Whether it, or another of its group, charges at this charger."""
    here = ChargingSession.objects.filter(charge_point=charge_point_pk).exclude(state=SessionState.STOPPED)
    if here.filter(card=permit).exists():
        return True
    return group and bool(permit.parent) and here.filter(card__parent=permit.parent).exists()


# -- a short memory ---------------------------------------------------------------------------------------------------
@dataclass
class Remembered:
    """What a charger was last told of a tag by this process."""

    status: str
    parent: str
    at: datetime
    noted_at: datetime | None = None


class _Memory:
    """The last answers of this process, by charger and tag; the oldest make room. Safe across threads."""

    def __init__(self) -> None:
        self._rows: OrderedDict[tuple[int, str], Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, str]) -> Remembered | None:
        with self._lock:
            return self._rows.get(key)

    def put(self, key: tuple[int, str], answer: TagAnswer, now: datetime) -> None:
        with self._lock:
            before = self._rows.pop(key, None)
            self._rows[key] = Remembered(answer.status, answer.parent, now, before.noted_at if before else None)
            if len(self._rows) > REMEMBERED:
                self._rows.popitem(last=False)

    def may_note(self, key: tuple[int, str], now: datetime) -> bool:
        with self._lock:
            row = self._rows.setdefault(key, Remembered("Invalid", "", now - timedelta(seconds=LAST_S)))
            if row.noted_at is not None and abs((now - row.noted_at).total_seconds()) < NOTED_EVERY_S:
                return False
            row.noted_at = now
            return True

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()


_memory = _Memory()
forget = _memory.clear


def remember(charge_point_pk: int, tag: str, answer: TagAnswer, now: datetime) -> None:
    """What the charger is told of this tag now."""
    _memory.put((charge_point_pk, normal(tag)), answer, now)


def remembered(charge_point_pk: int, tag: str, now: datetime, within_s: float = STORM_S) -> Remembered | None:
    """What it was told within `within_s`."""
    row = _memory.get((charge_point_pk, normal(tag)))
    return row if row is not None and 0 <= (now - row.at).total_seconds() < within_s else None


def while_away(charge_point_pk: int, tag: str, habits: Habits, now: datetime, held_s: float) -> Remembered | None:
    """What to tell of a tag while our own database is away: what was last told of it here, else, after HOLD_S, the fallback.

    None: wait a little longer. A refusal that is not meant stays in the charger's cache (R25), so it comes last.
    """
    if (told := remembered(charge_point_pk, tag, now, LAST_S)) is not None:
        return told
    if held_s < HOLD_S:
        return None
    free = normal(tag) and normal(tag) == normal(habits.anonymous_tag)
    return Remembered("Accepted" if free else settings.AUTHORIZER_FALLBACK, "", now)
