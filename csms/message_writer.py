"""The message log is written here: every frame both ways, as it crossed the wire but for keys (they are nobody's to read)."""

from datetime import datetime
from typing import Any

from django.db import connection

from csms import frames
from csms.context import Context, Reply
from csms.rules.secrecy import masked_frame

_INSERT_IN = """
INSERT INTO csms_ocppmessage (charge_point_id, direction, correlation_id, message_type, action, raw, note, epoch, at, created_at)
VALUES (%s, 'IN', %s, %s, %s, %s, %s, %s, %s, %s)"""
_INSERT_SENT = """
INSERT INTO csms_ocppmessage (charge_point_id, direction, correlation_id, message_type, action, raw, note, duration_ms, epoch, at,
  created_at) VALUES {}"""
_ROW = "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def received(context: Context, raw: bytes, now: datetime, correlation_id: str, kind: int, action: str, note: str) -> None:
    """A frame that came in: in the transaction of what it does."""
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT_IN, [context.charge_point_pk, correlation_id, kind, action, _kept(context, raw), note[:500], context.epoch, now, now]
        )


def sent(replies: list[tuple[Context, Reply, datetime]]) -> None:
    """Frames that went out, written together a moment after they did; before each what it answers, if that is not written yet."""
    rows: list[tuple[Any, ...]] = []
    for context, reply, at in replies:
        pk, ident = context.charge_point_pk, reply.correlation_id
        if reply.heard:
            raw, then = _kept(context, reply.heard), reply.received_at
            rows.append((pk, "IN", ident, frames.CALL, reply.action, raw, reply.note[:500], None, context.epoch, then, at))
        if not reply.text:
            continue
        duration = None if reply.message_type == frames.CALL else max(0, round((at - reply.received_at).total_seconds() * 1000))
        raw = _kept(context, (reply.shown or reply.text).encode())
        rows.append((pk, "OUT", ident, reply.message_type, reply.action, raw, reply.note, duration, context.epoch, at, at))
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(_INSERT_SENT.format(", ".join([_ROW] * len(rows))), [value for row in rows for value in row])


def _kept(context: Context, raw: bytes) -> bytes:
    return masked_frame(raw, context.habits.secret_keys)
