"""Frames as a CSV file (RFC 4180), streamed: read in bounded pieces, one after another, safe to open in a spreadsheet."""

import csv
from collections.abc import AsyncIterator
from datetime import datetime
from io import StringIO

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import StreamingHttpResponse
from django.utils import timezone

from csms import message_text, quirks
from csms.message_log import TooMuch, bounded
from csms.message_search import KINDS, Search
from csms.models import ChargePoint, OcppMessage
from csms.rules.secrecy import Also

MOST_ROWS = 1_000_000
ROWS, BYTES, PIECE_S = 1_000, 4_000_000, 60
COLUMNS = ["id", "at", "charger", "direction", "kind", "action", "correlation id", "duration ms", "note", "epoch", "frame"]
_KIND = {number: name for name, (number, _) in KINDS.items()}
_ENDS = f"The file ends here: it holds {MOST_ROWS} frames at most. Choose a shorter time for the rest."
_STOPPED = "The file ends here: looking any further took too long. Choose a shorter time."


def download(rows: QuerySet[OcppMessage], search: Search) -> StreamingHttpResponse:
    """The frames, oldest first, as a file."""
    response = StreamingHttpResponse(_stream(rows, tags=search.tags), content_type="text/csv; charset=utf-8")
    whose = "".join(c if c.isalnum() or c in "-_." else "_" for c in search.charge_point.cp_id) if search.charge_point else "all"
    name = f"frames-{whose}-{timezone.localtime(search.since):%Y-%m-%d-%H%M}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


async def _stream(rows: QuerySet[OcppMessage], *, tags: bool) -> AsyncIterator[str]:
    # Asynchronous: of a plain iterator Django would gather the whole file before the first byte leaves.
    yield _lines([COLUMNS])
    last, written = 0, 0
    try:
        while keys := await sync_to_async(_keys)(rows, last, min(ROWS, MOST_ROWS - written)):
            for piece in _pieces(keys):
                yield await sync_to_async(_piece)(piece, tags)
            last, written = keys[-1][0], written + len(keys)
            if written >= MOST_ROWS:
                yield _lines([[_ENDS]])
                return
    except TooMuch:
        yield _lines([[_STOPPED]])


def _keys(rows: QuerySet[OcppMessage], last: int, most: int) -> list[tuple[int, int]]:
    """The next frames' ids and sizes."""
    try:
        with bounded(PIECE_S):
            return list(rows.filter(pk__gt=last).order_by("pk").annotate(size=Length("raw")).values_list("pk", "size")[:most])
    finally:
        _let_go()


def _pieces(keys: list[tuple[int, int]]) -> list[list[int]]:
    """Ids in groups whose frames together are no more than BYTES: a thousand frames may be 300 kB or 250 MB."""
    pieces: list[list[int]] = [[]]
    held = 0
    for key, size in keys:
        if pieces[-1] and held + size > BYTES:
            pieces.append([])
            held = 0
        pieces[-1].append(key)
        held += size
    return pieces


def _piece(keys: list[int], tags: bool) -> str:
    try:
        mine = OcppMessage.objects.filter(pk__in=keys)
        also = quirks.secret_keys_of(ChargePoint.objects.filter(pk__in=mine.order_by().values("charge_point")))
        return _lines([_row(tags, also, *frame) for frame in mine.order_by("pk").values_list(*_READ)])
    finally:
        _let_go()


def _let_go() -> None:
    """A slow reader keeps no connection for as long as the file takes: chargers need them."""
    if not connection.in_atomic_block:
        connection.close()


# In the order of COLUMNS.
_READ = (
    "pk", "at", "charge_point__cp_id", "direction", "message_type", "action", "correlation_id", "duration_ms", "note", "epoch", "raw",
)  # fmt: skip


def _row(
    tags: bool, also: dict[str, Also], pk: int, at: datetime, charger: str, direction: str, kind: int, action: str, ident: str,
    took_ms: int | None, note: str, epoch: int, raw: bytes,
) -> list[str]:  # fmt: skip
    return [
        str(pk),
        timezone.localtime(at).isoformat(timespec="milliseconds"),
        safe(charger),
        direction,
        _KIND.get(kind, str(kind)),
        safe(action),
        safe(ident),
        "" if took_ms is None else str(took_ms),
        safe(note),
        str(epoch),
        safe(message_text.shown(raw, tags=tags, indent=None, also=also.get(charger, ()))),
    ]


def safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip()[:1] in {"=", "+", "-", "@"} or text[:1] in {"\t", "\r", "\n"} else text


def _lines(rows: list[list[str]]) -> str:
    out = StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
