"""The message log, read: frames of a stretch of time, each with its answer or its request. The table may hold a hundred million.

Its two useful orders are by id and by charger and id. So a stretch of time is first made a stretch of ids (csms/by_time.py),
and nothing outside it is touched.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import OperationalError, connection, transaction
from django.db.models import BinaryField, BooleanField, F, Func, QuerySet, Value
from django.db.models.functions import Length

from csms.by_time import between, ids_near
from csms.message_search import KINDS, Search
from csms.models import Command, Direction, OcppMessage

PAGE = 100
LIST_S = 6
CALLS, ANSWERS = (2, 0), (3, 4)
COLUMNS = (
    "direction", "correlation_id", "message_type", "action", "note", "duration_ms", "epoch", "at", "charge_point",
    "charge_point__cp_id",
)  # fmt: skip


class TooMuch(Exception):
    """The database was stopped looking: the stretch is too long for what is looked for in it."""


@dataclass(frozen=True)
class Exchange:
    """A request and its answer; either may be missing. `frame` is the one that stands for it in a list."""

    frame: OcppMessage
    request: OcppMessage | None
    answer: OcppMessage | None

    @property
    def asked_by_us(self) -> bool:
        """Whoever sent the request; of an answer alone, the other side."""
        return (self.request.direction if self.request else _other(self.frame.direction)) == Direction.OUT

    @property
    def took_ms(self) -> int | None:
        if self.answer is None:
            return None
        if self.answer.duration_ms is not None or self.request is None:
            return self.answer.duration_ms
        return max(0, round((self.answer.at - self.request.at).total_seconds() * 1000))

    @property
    def action(self) -> str:
        return self.frame.action or (self.answer.action if self.answer else "")

    @property
    def failed(self) -> bool:
        return self.answer is not None and self.answer.message_type == 4

    @property
    def unreadable(self) -> bool:
        return self.request is not None and self.request.message_type == 0

    @property
    def notes(self) -> list[str]:
        return [frame.note for frame in (self.request, self.answer) if frame and frame.note]


@dataclass(frozen=True)
class Page:
    """A hundred frames as exchanges, the newest first; `older`, `newer`: the id to go on from, if there is more."""

    exchanges: list[Exchange]
    older: int | None = None
    newer: int | None = None


def page(search: Search, user: Any, *, before: int | None = None, after: int | None = None) -> Page:
    """The newest frames of a search, or those older than id `before`, or newer than id `after`. Raises TooMuch."""
    with bounded(LIST_S):
        rows = selected(search, user)
        listed = light(rows.filter(pk__gt=after).order_by("pk") if after else rows.order_by("-pk"))
        listed = listed.filter(pk__lt=before) if before else listed
        found = list(listed[: PAGE + 1])
        more, found = len(found) > PAGE, found[:PAGE]
        if after:
            found.reverse()
        exchanges = list(_told_once(found, rows))
    if not found:
        return Page([])
    older = found[-1].pk if more or after else None
    newer = found[0].pk if before or (after and more) else None
    return Page(exchanges, older, newer)


def exchange(frame: OcppMessage) -> Exchange:
    """The one that this frame belongs to."""
    return exchanges_of([frame])[frame.pk]


def exchanges_of(found: list[OcppMessage]) -> dict[int, Exchange]:
    """By each frame's id, the exchange it belongs to; three queries however many there are."""
    partner_of = _partners(found)
    known = {frame.pk: frame for frame in found}
    missing = set(partner_of.values()) - set(known)
    known |= {frame.pk: frame for frame in light(OcppMessage.objects.filter(pk__in=missing))} if missing else {}
    told = {}
    for frame in found:
        partner = known.get(partner_of.get(frame.pk, 0))
        request, answer = (frame, partner) if frame.message_type in CALLS else (partner, frame)
        told[frame.pk] = Exchange(frame, request, answer)
    return told


def selected(search: Search, user: Any) -> QuerySet[OcppMessage]:
    """The frames of a search that this person may see; asks for the bounds first."""
    rows = between(OcppMessage.objects.visible_to(user), search.since, search.until)
    if search.charge_point:
        rows = rows.filter(charge_point=search.charge_point)
    for name in ("action", "direction", "correlation_id"):
        if value := getattr(search, name):
            rows = rows.filter(**{name: value})
    if search.kind:
        rows = rows.filter(message_type=KINDS[search.kind][0])
    if search.notes:
        rows = rows.exclude(note="")
    if search.text:
        rows = rows.filter(_Contains(Value(search.text.encode(), output_field=BinaryField()), F("raw")))
        if not search.tags:
            rows = rows.exclude(_BearsTag(F("raw")))
    return rows


def light(rows: QuerySet[OcppMessage]) -> QuerySet[OcppMessage]:
    """Everything of a frame but its bytes, of which only the size: fifty may be megabytes."""
    return rows.select_related("charge_point").only(*COLUMNS).annotate(size=Length("raw"))


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """What is asked inside may take so long each, and walks no whole table. Raises TooMuch when it takes longer."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                # Where one charger said much of what a window holds, reading everything looks cheaper, and grows with history.
                cursor.execute(
                    "SELECT set_config('statement_timeout', %s, true), set_config('enable_seqscan', 'off', true)",
                    [f"{round(seconds * 1000)}ms"],
                )
            yield
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise TooMuch from error
        raise


class _Contains(Func):
    """Whether the second, a frame's bytes, holds the first."""

    template, arg_joiner, output_field = "(position(%(expressions)s) > 0)", "::bytea in ", BooleanField()


class _BearsTag(Func):
    """Whether a frame names a tag, however it is written."""

    output_field = BooleanField()
    template = r"""(encode(%(expressions)s, 'escape') ~* 'id_?(tag|token)["'']?\s*[:=]|\\u00')"""


# An answer follows its request, but for two: what we ask is written a moment after it left, so that a quick charger's answer may
# stand before it; and what was answered from memory while the database was away may be written down after its answer. We say how
# long our answers took: of a request that came twice, each has its own.
_PARTNERS = """
SELECT f.id, m.id FROM unnest(%s::bigint[]) AS asked(id) JOIN csms_ocppmessage f ON f.id = asked.id
CROSS JOIN LATERAL (
  SELECT near.id FROM (
    (SELECT id, direction, correlation_id, message_type, duration_ms, at FROM csms_ocppmessage
     WHERE charge_point_id = f.charge_point_id AND id < f.id ORDER BY id DESC
     LIMIT CASE WHEN f.message_type IN (3, 4) THEN 300 ELSE 20 END)
    UNION ALL
    (SELECT id, direction, correlation_id, message_type, duration_ms, at FROM csms_ocppmessage
     WHERE charge_point_id = f.charge_point_id AND id > f.id ORDER BY id
     LIMIT CASE WHEN f.message_type IN (2, 0) THEN 300 ELSE 20 END)
  ) near
  CROSS JOIN LATERAL (
    SELECT CASE WHEN f.message_type IN (3, 4) THEN f.at - near.at ELSE near.at - f.at END AS took,
      CASE WHEN f.direction = 'OUT' AND f.message_type IN (3, 4) THEN f.duration_ms
           WHEN near.direction = 'OUT' AND near.message_type IN (3, 4) THEN near.duration_ms END AS said_ms
  ) t
  WHERE near.correlation_id = f.correlation_id AND near.direction <> f.direction
    AND (near.message_type IN (3, 4)) <> (f.message_type IN (3, 4))
    AND (t.said_ms IS NULL OR abs(extract(epoch FROM t.took) * 1000 - t.said_ms) <= 5)
  LIMIT 1
) m"""


_FAR = """
SELECT f.id, m.id FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS asked(id, first, beyond)
JOIN csms_ocppmessage f ON f.id = asked.id
CROSS JOIN LATERAL (
  SELECT near.id FROM (
    SELECT id, direction, correlation_id FROM csms_ocppmessage
    WHERE charge_point_id = f.charge_point_id AND id >= asked.first AND id < asked.beyond ORDER BY id LIMIT 5000
  ) near
  WHERE near.correlation_id = f.correlation_id AND near.direction <> f.direction
  LIMIT 1
) m"""


def _partners(found: list[OcppMessage]) -> dict[int, int]:
    """By a frame's id the id of the frame that answers it, or that it answers; a bounded look around each."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTNERS, [[frame.pk for frame in found]])
        partner_of = dict(cursor.fetchall())
    # What we asked may be answered much later, behind hundreds of frames: its command says when.
    far = [one for one in found if one.pk not in partner_of and (one.direction == Direction.OUT) == (one.message_type in CALLS)]
    return partner_of | (_far_partners(far) if far else {})


def _far_partners(found: list[OcppMessage]) -> dict[int, int]:
    """The same for our calls and their answers, by their commands' own moments: three queries, each by an index."""
    asked = Command.objects.filter(unique_id__in={one.correlation_id for one in found}, answered_at__isnull=False, sent_at__isnull=False)
    known = {(row.charge_point_id, row.unique_id): row for row in asked.only("charge_point", "unique_id", "sent_at", "answered_at")}
    wanted = []
    for frame in found:
        if (row := known.get((frame.charge_point_id, frame.correlation_id))) is not None:
            wanted.append((frame, row.answered_at if frame.direction == Direction.OUT else row.sent_at))
    if not wanted:
        return {}
    near = ids_near(OcppMessage, [at for _, at in wanted])
    told = [[frame.pk for frame, _ in wanted], [first for first, _ in near], [beyond for _, beyond in near]]
    with connection.cursor() as cursor:
        cursor.execute(_FAR, told)
        return dict(cursor.fetchall())


def _told_once(found: Iterable[OcppMessage], rows: QuerySet[OcppMessage]) -> Iterator[Exchange]:
    """Each exchange where its request stands, if that is among what is looked for; else where its answer stands."""
    told = exchanges_of(list(found))
    here = set(told)
    asked = {one.request.pk for one in told.values() if one.request and one.request is not one.frame}
    elsewhere = set(rows.filter(pk__in=asked - here).values_list("pk", flat=True)) if asked - here else set()
    for frame in found:
        one = told[frame.pk]
        if one.request is None or one.request is one.frame or one.request.pk not in here | elsewhere:
            yield one


def _other(direction: str) -> str:
    return Direction.OUT if direction == Direction.IN else Direction.IN
