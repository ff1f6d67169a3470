"""What a charger says too often: answered as ever, and stored within a budget.

Noise on the line (a modem's chatter, a frame that is none) is ignored up to NOISE an hour; beyond that the line is closed and a
person told. Heartbeats and statuses beyond their budget are answered without a row: of the statuses that are held back, the last
one of each connector is acted on a moment later (`held`). Facts have no budget.
"""

import zlib
from collections.abc import Iterator
from datetime import datetime

from csms import alerts, frames, message_writer, ocpp16
from csms.context import Context, HangUp, Held, Reply
from csms.frames import Frame, Unreadable
from csms.rules.budget import NOISE
from voltaro import clock

# The same noise within so many seconds is counted, not kept again.
SAME_S = 60
_NO_POLICY = 1008


def noise(context: Context, raw: bytes, frame: Unreadable, now: datetime) -> None:
    """Something that is no OCPP and gets no answer."""
    budgets, now_s = context.budgets, clock.elapsed()
    if budgets.ended:
        return
    if not budgets.noise.take(now_s):
        budgets.ended = True
        seen = frames.clean(raw[:60].decode("utf-8", "replace"))
        detail = f"more than {NOISE} frames an hour that are no OCPP; the last: {seen!r}"
        alerts.raise_alert(context.charge_point_pk, "garbage", detail, now)
        message_writer.received(context, raw, now, frame.correlation_id, frame.type, frame.action, f"{frame.reason}: too much of it")
        context.effects.append(HangUp("garbage", _NO_POLICY))
        return
    digest, at_s = budgets.last_noise
    budgets.last_noise = (zlib.crc32(raw), now_s)
    if (digest == budgets.last_noise[0] and now_s - at_s < SAME_S) or not budgets.kept.take(now_s):
        budgets.not_kept += 1
        return
    note = frame.reason + (f"; {budgets.not_kept} more before it that were not kept" if budgets.not_kept else "")
    budgets.not_kept = 0
    message_writer.received(context, raw, now, frame.correlation_id, frame.type, frame.action, note)


def presence(context: Context, raw: bytes, frame: Frame, now: datetime) -> Reply | None:
    """The answer to a heartbeat or status that is one too many, of which nothing is stored now; None: it goes the ordinary way."""
    if frame.action not in ("Heartbeat", "StatusNotification"):
        return None
    number = frame.payload.get("connectorId")
    number = number if isinstance(number, (int, str)) else None
    waits = context.budgets.held
    if context.budgets.presence.take(clock.elapsed()):
        if frame.action == "StatusNotification":
            waits.pop(number, None)  # it is older than this one
        return None
    if frame.action == "Heartbeat":
        payload = ocpp16.write_heartbeat(now)
    else:
        before = waits.get(number, (b"", 0))[1]
        if len(waits) < 64 or before:
            waits[number] = (raw, before + 1)
        context.effects.append(Held())
        payload = ocpp16.write_empty()
    return Reply(frames.result(frame.id, payload), frame.correlation_id, frames.CALLRESULT, frame.action, now, kept=False)


def held(context: Context) -> Iterator[tuple[bytes, str]]:
    """The statuses that were held back, the last of each connector, with a note on each: they count now. One that the database did
    not take (whoever acts on it raises) stays held, with those behind it."""
    waits = context.budgets.held
    while waits:
        number, (raw, count) = next(iter(waits.items()))
        yield raw, f"the last of {count} in a moment; the others were not kept"
        waits.pop(number, None)
