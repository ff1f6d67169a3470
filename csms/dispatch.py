"""An OCPP message arrives: parse, repair, find its row in ROUTES, act in one transaction, answer.

Synchronous and alone in knowing nothing of sockets: `answer(raw, context)` is the whole of what a frame does. The
answer is returned only after what it acknowledges is committed. Facts (starts, readings, stops) are never answered with
an error because of our own doubts or troubles; a message that our code stumbles over is kept and thanked for.
"""

import logging
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from accounts import audit
from accounts.actor import acting
from csms import (
    boots,
    bounds,
    commands,
    entrance,
    failures,
    floods,
    frames,
    message_writer,
    outcomes,
    quirks,
    repair,
    rotation,
    routes16,
    stations,
)
from csms.context import Changed, Context, MaySend, Repeat, Reply, Route
from csms.entrance import Entry
from csms.frames import Frame, Unreadable
from csms.models import ChargePoint, Command, Registration
from csms.quick import Arrived
from csms.rules import secrecy
from csms.rules.clock import Offset
from csms.rules.habits import Habits
from csms.stations import Known
from voltaro import clock

log = logging.getLogger(__name__)
ROUTES: dict[str, dict[str, Route]] = {"1.6": routes16.ROUTES}
# Messages with an answer while the database is away: it has PATIENCE_S; one that is only slow, SLOW_S more, where nothing is remembered.
_HURRIED = [f'"{action}"'.encode() for routes in ROUTES.values() for action, route in routes.items() if route.away is not None]
PATIENCE_S, SLOW_S = 1.5, 3.0
# How long, and how many messages long, a charger may take to say a thing again under the same id.
REPEAT_S = 600
REPEATS = 64
# Of so many secrets that went out last on one line an answer may not repeat any.
HUSHED = 16
# What is shorter, or part of a word that answers are made of, cannot be told from what else stands in an answer.
SHORTEST = 4
ANSWERS = ("accepted", "rejected", "rebootrequired", "notsupported", "unknownvendorid", "unknownmessageid", "true", "false", "null")
# What a charger that is not accepted yet may say unasked (1.6 §4.2, errata 3.10).
BEFORE_ACCEPTED = {"BootNotification", "Heartbeat"}


def answer(raw: bytes, context: Context) -> Reply | None:
    """What the charger hears for this frame; None when nothing is due. The frame and its effects are committed first.

    Raises OperationalError or InterfaceError when the database is away: then nothing happened, and the frame is to be held.
    """
    now = clock.now()
    context.effects.clear()
    frame = frames.read(raw)
    if isinstance(frame, Unreadable):
        if frame.code is None:
            return floods.noise(context, raw, frame, now)
        message_writer.received(context, raw, now, frame.correlation_id, frame.type, frame.action, frame.reason)
        return _error(frame.id, frame.code, frame.reason, frame.action, now)
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
        message_writer.received(context, raw, now, frame.correlation_id, frames.CALL, frame.action, code)
        return _error(frame.id, code, "", frame.action, now)
    if (reply := floods.presence(context, raw, frame, now)) is not None:
        return reply
    content = hash(raw)
    if (repeat := _repeated(context, frame, content, route, now)) is not None:
        message_writer.received(context, raw, now, frame.correlation_id, frames.CALL, frame.action, "repeated: the same answer")
        return Reply(repeat.text, frame.correlation_id, frames.CALLRESULT, frame.action, now)
    if _too_early(context, frame.action, route, now):
        note = "not before it is accepted"
        message_writer.received(context, raw, now, frame.correlation_id, frames.CALL, frame.action, note)
        return _error(frame.id, "SecurityError", "", frame.action, now, note)
    fixed = repair.repair(context.version, frame.action, frame.payload)
    notes = [*frame.notes, *fixed.notes]
    if fixed.missing:
        notes.append("missing " + ", ".join(fixed.missing))
        if not (route.fact or route.tolerant):
            message_writer.received(context, raw, now, frame.correlation_id, frames.CALL, frame.action, "; ".join(notes))
            return _error(frame.id, "OccurenceConstraintViolation", notes[-1], frame.action, now)
    said: Any = None
    try:
        read = route.read
        if frame.action == "StopTransaction":
            read = partial(read, raw_reason=frames.clean(str(frame.payload.get("reason") or "")))
        said = read(fixed.payload, now, context.habits)
        payload = None
        if route.quick is not None:
            arrived = Arrived(context.charge_point_pk, context.epoch, frame.correlation_id, frame.action, raw, "; ".join(notes))
            payload = route.quick(context, arrived, said, now)
        if payload is None and route.before is not None:
            _ask_before(route, context, said, now)
        if payload is None:
            with transaction.atomic():
                payload, note = route.act(context, said, now)
                if note:
                    notes.append(note)
                message_writer.received(context, raw, now, frame.correlation_id, frames.CALL, frame.action, "; ".join(notes))
                routes16.seen(context, now)
        if context.triggered or context.awaits:
            _effects_seen(context, frame.action, fixed.payload, now)
    except (OperationalError, InterfaceError):
        context.effects.clear()
        raise
    except Exception as error:
        return _stumbled(raw, frame, context, route, said, error, now)
    text = frames.result(frame.id, payload)
    if not route.anew:
        context.repeats[frame.correlation_id] = Repeat(content, text, now)
        if len(context.repeats) > REPEATS:
            context.repeats.popitem(last=False)
    return Reply(text, frame.correlation_id, frames.CALLRESULT, frame.action, now)


def _effects_seen(context: Context, action: str, payload: dict[str, Any], now: datetime) -> None:
    """The message may be what a command of ours waits for. It is true and kept whatever becomes of that."""
    try:
        outcomes.seen(context, action, payload, now)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("the effect of a command was not understood by our code")


def _ask_before(route: Route, context: Context, said: Any, now: datetime) -> None:
    """What others are asked first. Whatever becomes of that, the message goes on."""
    assert route.before is not None
    try:
        route.before(context, said, now)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("asking others before a message failed in our own code")


def may_not_wait(raw: bytes, context: Context) -> bool:
    """Whether this is one of the few messages with an answer while our database is away (`answer_away`, soon or at once)."""
    if not any(name in raw[:200] for name in _HURRIED):  # nearly every frame
        return False
    frame = frames.read(raw)
    route = None if isinstance(frame, Unreadable) or frame.type != frames.CALL else ROUTES[context.version].get(frame.action)
    return route is not None and route.away is not None and not _too_early(context, frame.action, route, clock.now())


def patience_s() -> float:
    """How long the database, and whoever is asked before it, may take over a message that may not wait."""
    return PATIENCE_S + (settings.AUTHORIZER_TIMEOUT_S if settings.AUTHORIZER_URL else 0)


def answer_away(raw: bytes, context: Context, waited_s: float = 0.0) -> Reply | None:
    """What a charger hears while our database is away, for the few messages that must not wait: from memory, without it.

    None: wait a little longer. Nothing is stored by this; never use it for a fact.
    """
    frame = frames.read(raw)
    if isinstance(frame, Unreadable) or not may_not_wait(raw, context):
        return None
    route = ROUTES[context.version][frame.action]
    assert route.away is not None
    now = clock.now()
    said = route.read(repair.repair(context.version, frame.action, frame.payload).payload, now, context.habits)
    payload = route.away(context, said, now, waited_s)
    if payload is None:
        return None
    note = "answered from memory: the database was away"
    return Reply(frames.result(frame.id, payload), frame.correlation_id, frames.CALLRESULT, frame.action, now, note)


def _repeated(context: Context, frame: Frame, content: int, route: Route, now: datetime) -> Repeat | None:
    """The answer to the very same message, when it was given on this line a moment ago (J1.6 errata: a retry may keep its id).

    On another line, or under another id, the rows' own keys make the repeat harmless.
    """
    known = context.repeats.get(frame.correlation_id) if not route.anew else None
    if known is None or known.content != content or (now - known.at).total_seconds() > REPEAT_S:
        return None
    return known


def _too_early(context: Context, action: str, route: Route, now: datetime) -> bool:
    """A charger that is not accepted may boot, and say what it was asked for. A charger once accepted keeps its facts."""
    if context.registration == Registration.ACCEPTED or action in BEFORE_ACCEPTED:
        return False
    if context.unclaimed:
        return True
    if (asked := context.triggered.get(action)) is not None and now < asked.until:
        return False
    return not route.fact


def _stumbled(raw: bytes, frame: Frame, context: Context, route: Route, said: Any, error: Exception, now: datetime) -> Reply:
    """Our own mistake. The frame is kept; a fact is thanked for (refused, the charger would drop it) and shown to a person."""
    with transaction.atomic():
        note = _quarantine(raw, frame, context, error, now)
        payload = route.fallback() if route.fact and route.fallback else None
        if payload is None and route.away is not None and said is not None:
            payload = route.away(context, said, now, 0.0)
    if payload is None:
        return _error(frame.id, "InternalError", "", frame.action, now, note)
    return Reply(frames.result(frame.id, payload), frame.correlation_id, frames.CALLRESULT, frame.action, now, note)


def _quarantine(raw: bytes, frame: Frame, context: Context, error: Exception, now: datetime) -> str:
    log.exception("%s of a charger was not understood by our code", frame.action or "an answer")
    context.effects.clear()
    note = f"kept for a person: our code failed with {type(error).__name__}"
    message_writer.received(context, raw, now, frame.correlation_id, frame.type, frame.action, note)
    seen = {"action": frame.action, "error": type(error).__name__}
    audit.record("message.quarantined", ChargePoint(pk=context.charge_point_pk), after=seen)
    failures.quarantined(context.charge_point_pk, **seen)
    return note


def _settle(raw: bytes, frame: Frame, context: Context, now: datetime) -> None:
    """An answer to a command of ours. The next one may go out, whatever became of this."""
    raw, frame = rotation.without_key(raw, frame, context.charge_point_pk, context.cp_id)
    # It stays known: the database may be away just now, and the frame be held; or the charger says it twice.
    if secret := context.hushed.get(frame.correlation_id, ""):
        payload, said = secrecy.hushed(frame.payload, secret), secrecy.hushed(frame.description, secret)
        raw, frame = secrecy.hushed_frame(raw, secret), replace(frame, payload=payload, description=said)
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
            also=context.habits.secret_keys,
        )
        context.effects += [Changed(place.code) for place in context.places.values()]
        note = "" if command else "answers nothing we asked"
        message_writer.received(context, raw, now, frame.correlation_id, frame.type, command.action if command else "", note)


def _error(ident: Any, code: str, description: str, action: str, now: datetime, note: str = "") -> Reply:
    return Reply(frames.error(ident, code, description), frames.clean(str(ident))[:64], frames.CALLERROR, action, now, note)


# -- the socket's beginning and end, and its commands ------------------------------------------------------------------
def opened(
    known: Known, *, process: str, channel: str, remote_address: str, subprotocol: str, entry: Entry | None = None
) -> tuple[Context, str]:
    """A socket that may speak for this charger takes it: its context, and the channel of the socket it replaces.

    What its entry proves (a new key, a higher profile) is written with the claim. Raises entrance.Withdrawn when a person has
    taken it back meanwhile: then nothing was claimed.
    """
    now = clock.now()
    claim = partial(
        stations.claim, known.pk, process=process, channel=channel, remote_address=remote_address, subprotocol=subprotocol, now=now
    )
    with acting("charger", known.cp_id):
        if entry is None:
            epoch, replaced = claim()
        elif not entry.proves:
            epoch, replaced = claim(security_profile=entry.verdict.profile)
        else:
            with transaction.atomic():
                entrance.prove(known, entry, now)
                epoch, replaced = claim(security_profile=entry.verdict.profile)
    habits = habits_of(known)
    context = Context(
        charge_point_pk=known.pk,
        cp_id=known.cp_id,
        epoch=epoch,
        version=subprotocol.removeprefix("ocpp"),
        heartbeat_s=quirks.heartbeat_s(habits),
        habits=habits,
        registration=known.registration,
        unclaimed=known.unclaimed,
        serial_proven=entry.serial if entry is not None else "",
        quirk_profile_pk=known.quirk_profile_pk,
        quirk_settings=known.quirk_settings,
        kind=(known.vendor, known.model, known.firmware_version),
        learned=known.learned,
        clock=Offset(known.clock_offset_s),
        opened_at=now,
        settles_at=boots.settles_at(habits, now),
        # A charger need not boot again after a mere reconnect (§4.2): what we accepted once stays accepted.
        booted=known.booted and known.registration == "Accepted",
        places=known.places,
        seen_at=now,
    )
    bounds.tell_again(known.pk, habits, now)
    if habits.boot_trigger and not known.booted and known.registration == "Accepted":
        boots.ask(known.pk, now)
    return context, replaced


def habits_of(known: Known) -> Habits:
    row = known
    return quirks.habits_of(
        row.vendor, row.model, row.firmware_version, profile_pk=row.quirk_profile_pk, own=row.quirk_settings, learned=row.learned
    )


def closed(context: Context, close_code: int | None, reason: str) -> bool:
    """The socket is gone: what was in flight is unknown, what was charging is suspended (by the newest socket only: then True)."""
    with acting("charger", context.cp_id):
        return stations.release(context.charge_point_pk, context.epoch, close_code=close_code, reason=reason, now=clock.now())


def settle_held(context: Context) -> None:
    """Act on the statuses that were held back because there were too many: they were answered already."""
    now = clock.now()
    context.effects.clear()
    with acting("charger", context.cp_id):
        for raw, note in floods.held(context):
            _act_on_held(context, raw, note, now)


def _act_on_held(context: Context, raw: bytes, note: str, now: datetime) -> None:
    frame = frames.read(raw)
    assert isinstance(frame, Frame)
    route = ROUTES[context.version][frame.action]
    try:
        fixed = repair.repair(context.version, frame.action, frame.payload)
        with transaction.atomic():
            found = "not before it is accepted"
            if not _too_early(context, frame.action, route, now):
                _, found = route.act(context, route.read(fixed.payload, now, context.habits), now)
            noted = "; ".join(filter(None, (*frame.notes, *fixed.notes, found, note)))
            message_writer.received(context, raw, now, frame.correlation_id, frames.CALL, frame.action, noted)
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:  # it was answered, and the others still count
        with transaction.atomic():
            _quarantine(raw, frame, context, error, now)


def next_command(context: Context) -> Reply | None:
    """The next command for this charger as a frame to send, already marked as sent; None when there is none."""
    now = clock.now()
    interval_s = context.habits.command_interval_s
    if not context.may_send(now) or (interval_s and context.sent_at and (now - context.sent_at).total_seconds() < interval_s):
        return None
    only = boots.only(context, now)
    command = commands.next_to_send(context.charge_point_pk, context.epoch, now, settled=context.settled(now), only=only)
    if command is None:
        return None
    context.sent_at = now
    outcomes.sent(context, command, now)
    text = frames.call(command.unique_id, command.action, rotation.payload_of(command, context.cp_id))
    if command.secret_payload is None:
        return Reply(text, command.unique_id, frames.CALL, command.action, now)
    hush(context, command)
    shown = frames.call(command.unique_id, command.action, command.payload)
    return Reply(text, command.unique_id, frames.CALL, command.action, now, shown=shown)


def hush(context: Context, command: Command) -> None:
    """A secret goes out: its answer must not repeat it, nor may what is read of that key from now on be kept."""
    for name in secrecy.CARRIES.get(command.action, ()):
        said = (command.secret_payload or {}).get(name)
        if isinstance(said, str) and len(said) >= SHORTEST and not any(said.casefold() in word for word in ANSWERS):
            context.hushed[command.unique_id] = said
    while len(context.hushed) > HUSHED:
        del context.hushed[next(iter(context.hushed))]
    key = command.payload.get("key")
    if isinstance(key, str) and not secrecy.is_secret(key, context.habits.secret_keys):
        context.habits = replace(context.habits, secret_keys=(*context.habits.secret_keys, key))
