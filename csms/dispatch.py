"""An OCPP message arrives: parse, repair, find its row in ROUTES, act in one transaction, answer.

Synchronous and alone in knowing nothing of sockets: `answer(raw, context)` is the whole of what a frame does. The
answer is returned only after what it acknowledges is committed. Facts (starts, readings, stops) are never answered with
an error because of our own doubts or troubles; a message that our code stumbles over is kept and thanked for.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from accounts import audit
from accounts.actor import acting
from csms import commands, frames, metering, ocpp16, permits, quick, repair, starts, stations, tags
from csms.frames import Frame, Unreadable
from csms.metering import Moved, Place
from csms.models import ChargePoint, ChargingSession
from csms.quick import Arrived
from csms.stations import Known
from voltaro import clock

log = logging.getLogger(__name__)
SEEN_EVERY_S = 20


@dataclass
class Context:
    """What a socket knows of its charger; used by one message at a time. `effects` is what the socket must do after."""

    charge_point_pk: int
    cp_id: str
    epoch: int
    version: str = "1.6"
    heartbeat_s: int = 30
    booted: bool = False
    places: dict[UUID, Place] = field(default_factory=dict)
    # The session each connector moved last, as this socket wrote it (csms/quick.py).
    remembered: dict[int, ChargingSession] = field(default_factory=dict)
    seen_at: datetime | None = None
    heartbeat_at: datetime | None = None
    effects: list["Effect"] = field(default_factory=list)


@dataclass(frozen=True)
class Changed:
    """The pages of this connector should look again."""

    connector_code: str


@dataclass(frozen=True)
class StopPlanned:
    """Unless a newer reading says otherwise, this session's stop is due then (None: no stop is due)."""

    session_id: int
    at: datetime | None


@dataclass(frozen=True)
class MaySend:
    """Nothing of ours is in flight any more: the next command may go out."""


Effect = Changed | StopPlanned | MaySend


@dataclass(frozen=True)
class Reply:
    """What goes back, and what the log needs to know of it."""

    text: str
    correlation_id: str
    message_type: int
    action: str
    received_at: datetime
    note: str = ""


@dataclass(frozen=True)
class Route:
    """One action: payload -> event -> deed -> answer. `fact`: the charger drops what we refuse, so we never refuse it.

    `quick` is the deed in one statement, frame included, where nothing out of the ordinary is told; None: it was.
    """

    read: Callable[..., Any]
    act: Callable[[Context, Any, datetime], tuple[dict[str, Any], str]]
    fact: bool = False
    fallback: Callable[[], dict[str, Any]] | None = None
    quick: Callable[[Context, Arrived, Any, datetime], dict[str, Any] | None] | None = None


def answer(raw: bytes, context: Context) -> Reply | None:
    """What the charger hears for this frame; None when nothing is due. The frame and its effects are committed first.

    Raises OperationalError or InterfaceError when the database is away: then nothing happened, and the frame is to be held.
    """
    now = clock.now()
    context.effects.clear()
    frame = frames.read(raw)
    if isinstance(frame, Unreadable):
        _log_in(context, raw, now, frame.correlation_id, frame.type, frame.action, frame.reason)
        return _error(frame.id, frame.code, frame.reason, frame.action, now) if frame.code else None
    with acting("charger", context.cp_id):
        if frame.type == frames.CALL:
            return _answer_call(raw, frame, context, now)
        _settle(raw, frame, context, now)
        return None


def _answer_call(raw: bytes, frame: Frame, context: Context, now: datetime) -> Reply:
    route = ROUTES[context.version].get(frame.action)
    if route is None:
        known = frame.action in repair.actions(context.version)
        code = "NotSupported" if known else "NotImplemented"
        _log_in(context, raw, now, frame.correlation_id, frames.CALL, frame.action, code)
        return _error(frame.id, code, "", frame.action, now)
    fixed = repair.repair(context.version, frame.action, frame.payload)
    notes = [*frame.notes, *fixed.notes]
    if fixed.missing and not route.fact:
        notes.append("missing " + ", ".join(fixed.missing))
        if frame.action not in TOLERANT:
            _log_in(context, raw, now, frame.correlation_id, frames.CALL, frame.action, "; ".join(notes))
            return _error(frame.id, "OccurenceConstraintViolation", notes[-1], frame.action, now)
    elif fixed.missing:
        notes.append("missing " + ", ".join(fixed.missing))
    try:
        read = route.read
        if frame.action == "StopTransaction":
            read = partial(read, raw_reason=frames.clean(str(frame.payload.get("reason") or "")))
        said = read(fixed.payload, now)
        payload = None
        if route.quick is not None:
            arrived = Arrived(context.charge_point_pk, context.epoch, frame.correlation_id, frame.action, raw, "; ".join(notes))
            payload = route.quick(context, arrived, said, now)
        if payload is None:
            with transaction.atomic():
                payload, note = route.act(context, said, now)
                if note:
                    notes.append(note)
                _log_in(context, raw, now, frame.correlation_id, frames.CALL, frame.action, "; ".join(notes))
                _seen(context, now)
    except (OperationalError, InterfaceError):
        context.effects.clear()
        raise
    except Exception as error:
        return _stumbled(raw, frame, context, route, error, now)
    text = frames.result(frame.id, payload)
    return Reply(text, frame.correlation_id, frames.CALLRESULT, frame.action, now)


def _stumbled(raw: bytes, frame: Frame, context: Context, route: Route, error: Exception, now: datetime) -> Reply:
    """Our own mistake. The frame is kept; a fact is thanked for (refused, the charger would drop it) and shown to a person."""
    with transaction.atomic():
        note = _quarantine(raw, frame, context, error, now)
        payload = route.fallback() if route.fact and route.fallback else None
    if payload is None:
        return _error(frame.id, "InternalError", "", frame.action, now, note)
    return Reply(frames.result(frame.id, payload), frame.correlation_id, frames.CALLRESULT, frame.action, now, note)


def _quarantine(raw: bytes, frame: Frame, context: Context, error: Exception, now: datetime) -> str:
    log.exception("%s of a charger was not understood by our code", frame.action or "an answer")
    context.effects.clear()
    note = f"kept for a person: our code failed with {type(error).__name__}"
    _log_in(context, raw, now, frame.correlation_id, frame.type, frame.action, note)
    seen = {"action": frame.action, "error": type(error).__name__}
    audit.record("message.quarantined", ChargePoint(pk=context.charge_point_pk), after=seen)
    return note


def _settle(raw: bytes, frame: Frame, context: Context, now: datetime) -> None:
    """An answer to a command of ours. The next one may go out, whatever became of this."""
    try:
        _settled(raw, frame, context, now)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        with transaction.atomic():
            _quarantine(raw, frame, context, error, now)
    context.effects.append(MaySend())


def _settled(raw: bytes, frame: Frame, context: Context, now: datetime) -> None:
    failed = frame.type == frames.CALLERROR
    with transaction.atomic():
        command = commands.settle(
            context.charge_point_pk,
            frame.correlation_id,
            response=None if failed else frame.payload,
            error=f"{frame.code}: {frame.description}" if failed else "",
            now=now,
        )
        note = "" if command else "answers nothing we asked"
        _log_in(context, raw, now, frame.correlation_id, frame.type, command.action if command else "", note)


def _error(ident: Any, code: str, description: str, action: str, now: datetime, note: str = "") -> Reply:
    return Reply(frames.error(ident, code, description), frames.clean(str(ident))[:64], frames.CALLERROR, action, now, note)


def _log_in(context: Context, raw: bytes, now: datetime, correlation_id: str, kind: int, action: str, note: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_IN, [context.charge_point_pk, correlation_id, kind, action, raw, note[:500], context.epoch, now, now])


_INSERT_IN = """
INSERT INTO csms_ocppmessage (charge_point_id, direction, correlation_id, message_type, action, raw, note, epoch, at, created_at)
VALUES (%s, 'IN', %s, %s, %s, %s, %s, %s, %s, %s)"""


def _seen(context: Context, now: datetime) -> None:
    """Any frame is a sign of life; written at most every SEEN_EVERY_S."""
    if context.seen_at is None or (now - context.seen_at).total_seconds() >= SEEN_EVERY_S:
        ChargePoint.objects.filter(pk=context.charge_point_pk, epoch=context.epoch).update(last_seen=now)
        context.seen_at = now


# -- what each action does ------------------------------------------------------------------------------------------
def _boot(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    status = stations.booted(context.charge_point_pk, context.epoch, said, now)
    if status is None:
        return ocpp16.write_boot_notification("Accepted", now, context.heartbeat_s), stations.REPLACED
    context.booted, context.seen_at = status == "Accepted", now
    context.effects += [Changed(place.code) for place in context.places.values()]
    return ocpp16.write_boot_notification(status, now, context.heartbeat_s), ""


def _quick_boot(context: Context, arrived: Arrived, said: Any, now: datetime) -> dict[str, Any] | None:
    if not quick.booted(arrived, said, now):
        return None
    context.booted, context.seen_at = True, now
    context.effects += [Changed(place.code) for place in context.places.values()]
    return ocpp16.write_boot_notification("Accepted", now, context.heartbeat_s)


def _quick_status(context: Context, arrived: Arrived, said: Any, now: datetime) -> dict[str, Any] | None:
    for pk, place in context.places.items():
        if place.connector_no == said.connector_no and quick.status(arrived, pk, said, now):
            context.effects.append(Changed(place.code))
            _seen(context, now)
            return ocpp16.write_empty()
    return None


def _heartbeat(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    if context.heartbeat_at is None or (now - context.heartbeat_at).total_seconds() >= SEEN_EVERY_S:
        written = ChargePoint.objects.filter(pk=context.charge_point_pk, epoch=context.epoch)
        if not written.update(last_heartbeat=now, last_seen=now):
            return ocpp16.write_heartbeat(now), stations.REPLACED
        context.seen_at = context.heartbeat_at = now
    return ocpp16.write_heartbeat(now), ""


def _status(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    code, note = stations.status(context.charge_point_pk, context.cp_id, context.epoch, said, now)
    if code:
        if not any(place.code == code for place in context.places.values()):
            context.places = metering.places(context.cp_id)
        if said.status == "Preparing":
            permits.wake([pk for pk, place in context.places.items() if place.code == code], "plugged in")
        context.effects.append(Changed(code))
    return ocpp16.write_empty(), note


def _authorize(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    judged = tags.authorize(said.tag, context.charge_point_pk, now)
    return ocpp16.write_authorize(judged.status, judged.permit.parent if judged.permit else ""), ""


def _start(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    started = starts.start(context.charge_point_pk, said, now)
    if started.session.connector_id not in context.places:
        context.places = metering.places(context.cp_id)
    note = "" if started.new else "repeated: the same session"
    return ocpp16.write_start_transaction(started.transaction_id, started.status, started.parent), note


def _start_fallback() -> dict[str, Any]:
    return ocpp16.write_start_transaction(starts.next_transaction_id(), "Invalid")


def _meter_values(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    moved = metering.metered(context.charge_point_pk, context.places, said, now)
    if moved.row is not None and moved.live and said.connector_no <= stations.MAX_CONNECTORS:
        context.remembered[said.connector_no] = moved.row
    else:
        context.remembered.pop(said.connector_no, None)
    _moved(context, moved)
    return ocpp16.write_empty(), moved.note


def _quick_meter_values(context: Context, arrived: Arrived, said: Any, now: datetime) -> dict[str, Any] | None:
    """One more reading of what this connector is doing anyway."""
    remembered = context.remembered.get(said.connector_no)
    place = context.places.get(remembered.connector_id) if remembered is not None else None
    if remembered is None or place is None:
        return None
    moved = quick.metered(arrived, remembered, place, said, now)
    if moved is None:
        return None
    _moved(context, moved)
    _seen(context, now)
    return ocpp16.write_empty()


def _moved(context: Context, moved: Moved) -> None:
    if moved.session_id is not None and moved.place is not None:
        context.effects.append(Changed(moved.place.code))
        if moved.live:
            context.effects.append(StopPlanned(moved.session_id, moved.stop_due_at))


def _stop(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    moved, status = metering.stopped(context.charge_point_pk, context.places, said, now)
    if moved.session_id is not None:
        context.effects.append(StopPlanned(moved.session_id, None))
    return ocpp16.write_stop_transaction(status), moved.note


def _data_transfer(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    # §4.3: no vendor is known yet, and an unknown one gets no data.
    return ocpp16.write_data_transfer("UnknownVendorId"), ""


# What these lack is not worth a refusal: the boot of a box that names no vendor is still a boot.
TOLERANT = {"BootNotification", "StatusNotification", "Authorize", "DataTransfer"}

ROUTES: dict[str, dict[str, Route]] = {
    "1.6": {
        "Authorize": Route(ocpp16.read_authorize, _authorize),
        "BootNotification": Route(ocpp16.read_boot_notification, _boot, quick=_quick_boot),
        "DataTransfer": Route(ocpp16.read_data_transfer, _data_transfer),
        "Heartbeat": Route(ocpp16.read_heartbeat, _heartbeat),
        "MeterValues": Route(ocpp16.read_meter_values, _meter_values, fact=True, fallback=ocpp16.write_empty, quick=_quick_meter_values),
        "StartTransaction": Route(ocpp16.read_start_transaction, _start, fact=True, fallback=_start_fallback),
        "StatusNotification": Route(ocpp16.read_status_notification, _status, quick=_quick_status),
        "StopTransaction": Route(ocpp16.read_stop_transaction, _stop, fact=True, fallback=ocpp16.write_stop_transaction),
    }
}


# -- the socket's beginning and end, and its commands ------------------------------------------------------------------
def opened(known: Known, *, process: str, channel: str, remote_address: str, subprotocol: str) -> tuple[Context, str]:
    """A socket that may speak for this charger takes it: its context, and the channel of the socket it replaces."""
    now = clock.now()
    with acting("charger", known.cp_id):
        epoch, replaced = stations.claim(
            known.pk, process=process, channel=channel, remote_address=remote_address, subprotocol=subprotocol, now=now
        )
    context = Context(
        charge_point_pk=known.pk,
        cp_id=known.cp_id,
        epoch=epoch,
        version=subprotocol.removeprefix("ocpp"),
        heartbeat_s=heartbeat_s(),
        # A charger need not boot again after a mere reconnect (§4.2): what we accepted once stays accepted.
        booted=known.booted and known.registration == "Accepted",
        places=known.places,
        seen_at=now,
    )
    return context, replaced


def heartbeat_s() -> int:
    """One constant rules all timers: two heartbeats may be lost before HEARTBEAT_TIMEOUT_S calls a charger silent."""
    return max(10, settings.HEARTBEAT_TIMEOUT_S // 3)


def closed(context: Context, close_code: int | None, reason: str) -> bool:
    """The socket is gone: what was in flight is unknown, what was charging is suspended (by the newest socket only: then True)."""
    with acting("charger", context.cp_id):
        return stations.release(context.charge_point_pk, context.epoch, close_code=close_code, reason=reason, now=clock.now())


def next_command(context: Context) -> Reply | None:
    """The next command for this charger as a frame to send, already marked as sent; None when there is none."""
    now = clock.now()
    command = commands.next_to_send(context.charge_point_pk, context.epoch, now)
    if command is None:
        return None
    text = frames.call(command.unique_id, command.action, command.payload)
    return Reply(text, command.unique_id, frames.CALL, command.action, now)


_INSERT_OUT = """
INSERT INTO csms_ocppmessage (charge_point_id, direction, correlation_id, message_type, action, raw, note, duration_ms, epoch, at,
  created_at) VALUES {}"""
_OUT = "(%s, 'OUT', %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def record_sent(sent: list[tuple[Context, Reply, datetime]]) -> None:
    """Frames that went out, written together a moment after they did."""
    told: list[Any] = []
    for context, reply, at in sent:
        duration = None if reply.message_type == frames.CALL else max(0, round((at - reply.received_at).total_seconds() * 1000))
        told += (
            context.charge_point_pk, reply.correlation_id, reply.message_type, reply.action, reply.text.encode(), reply.note, duration,
            context.epoch, at, at,
        )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_OUT.format(", ".join([_OUT] * len(sent))), told)
