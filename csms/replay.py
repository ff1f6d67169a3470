"""A session told again, frame by frame: what its charger and we said, and what became of the session after each.

Nothing is worked out anew: registers are those of the readings kept with the frame, states those of the audit entries.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.db.models import BinaryField, Func

from accounts import failures
from accounts.models import AuditEntry
from csms import message_text, quirks
from csms.by_time import between
from csms.message_log import CALLS, bounded, light
from csms.models import ChargingSession, Direction, MeterReading, OcppMessage, SessionState
from csms.rules.secrecy import Also

MOST_FRAMES, MOST_DEEDS, SECONDS = 2_000, 500, 10
AROUND = timedelta(minutes=1)
# What says where a frame belongs stands near its beginning or its end; of a frame of 250 kB no more is read.
_END = 4_096
_CONNECTOR = re.compile(rb'"connectorId"\s*:\s*"?(\d{1,9})', re.IGNORECASE)
_TRANSACTION = re.compile(rb'"transactionId"\s*:\s*"?([^",}\]\s]{1,64})', re.IGNORECASE)
# What chargers say of a transaction whose number they never got, or lost.
_LOST = {"0", "-1", "null"}


@dataclass(frozen=True)
class Moment:
    """One line: a frame, several heartbeats (`beats`, the last at `until`), or a deed of ours. `state`: the session's after it."""

    at: datetime
    frame: OcppMessage | None = None
    beats: int = 0
    until: datetime | None = None
    deed: str = ""
    words: str = ""
    reading: MeterReading | None = None
    state: str = ""
    energy_wh: int | None = None
    offset: str = ""


@dataclass
class Replay:
    """The lines of one page; `after`: the frame's id to go on from; `left_out`: frames of other connectors and transactions."""

    moments: list[Moment] = field(default_factory=list)
    after: int | None = None
    left_out: int = 0


def of(session: ChargingSession, now: datetime, *, after: int | None = None, tags: bool = False) -> Replay:
    """From a minute before the session to a minute after it, 2,000 frames at a time. Raises message_log.TooMuch."""
    since, until = session.started_at - AROUND, (session.ended_at or now) + AROUND
    also = quirks.of(session.charge_point).secret_keys
    with bounded(SECONDS):
        rows = between(OcppMessage.objects.filter(charge_point=session.charge_point_id), since, until)
        rows = rows.filter(pk__gt=after) if after else rows
        found = list(light(rows).annotate(head=_Head("raw")).order_by("pk")[: MOST_FRAMES + 1])
        follows, found = found[MOST_FRAMES:], found[:MOST_FRAMES]
        found.sort(key=lambda frame: (frame.at, frame.pk))
        # What was done between two pages was brought about by the earlier one.
        since = found[0].at if after and found else since
        until = follows[0].at if follows else until
        ours = _ours(found, session)
        before, deeds = _deeds(session, since, until)
        moments = _beats_together([_line(frame, tags, also) for frame in ours]) + deeds
        moments.sort(key=lambda moment: moment.at)
        readings = _readings(session, since, until)
        state = _state_before(session, before, since if after else None)
    last = max((frame.pk for frame in found), default=0)
    return Replay(_with_states(moments, readings, state, session.started_at), last if follows else None, len(found) - len(ours))


def _ours(found: list[OcppMessage], session: ChargingSession) -> list[OcppMessage]:
    """Frames about this session's connector or about the charger; an answer goes where its request went."""
    commands = {f.correlation_id: _about(f, session) for f in found if f.direction == Direction.OUT and f.message_type in CALLS}
    # In order, for some chargers give all their messages one id.
    asked: dict[str, bool] = {}
    ours = []
    for frame in found:
        if frame.message_type not in CALLS:
            mine = (commands if frame.direction == Direction.IN else asked).get(frame.correlation_id, True)
        else:
            mine = _about(frame, session)
            if frame.direction == Direction.IN:
                asked[frame.correlation_id] = mine
        if mine:
            ours.append(frame)
    return ours


def _about(frame: OcppMessage, session: ChargingSession) -> bool:
    head = bytes(frame.head)
    transaction = _TRANSACTION.search(head)
    named = transaction[1].decode("latin-1") if transaction else ""
    if named == session.transaction_id:
        return True
    connector = _CONNECTOR.search(head)
    if connector:
        return int(connector[1]) in (0, session.connector.connector_id)
    return not named or named in _LOST


def _line(frame: OcppMessage, tags: bool, also: Also) -> Moment:
    return Moment(frame.at, frame=frame, words=message_text.gist(frame.head, tags=tags, also=also))


def _beats_together(lines: list[Moment]) -> list[Moment]:
    """Heartbeats with nothing said between them, and their answers, as one line."""
    together: list[Moment] = []
    for line in lines:
        if line.frame is None or line.frame.action != "Heartbeat":
            together.append(line)
            continue
        beat = int(line.frame.direction == Direction.IN)
        if together and together[-1].until:
            together[-1] = replace(together[-1], beats=together[-1].beats + beat, until=line.at)
        else:
            together.append(Moment(line.at, frame=line.frame, beats=beat, until=line.at))
    return together


def _deeds(session: ChargingSession, since: datetime, until: datetime) -> tuple[list[Moment], list[Moment]]:
    """What was decided about the session: before `since`, and from then until `until`."""
    # A failure mode is put on record beside the deed it counts (accounts/failures.py): told once.
    mine = AuditEntry.objects.filter(target_type=session._meta.label_lower, target_id=str(session.pk))
    entries = mine.exclude(action__startswith=failures.PREFIX).order_by("id")[:MOST_DEEDS]
    deeds = [
        Moment(
            entry.at,
            deed=entry.action,
            words=f"by {entry.actor}{f' ({entry.trigger})' if entry.trigger else ''}",
            state=_state(entry),
            energy_wh=entry.after.get("energy_wh") if isinstance(entry.after, dict) else None,
        )
        for entry in entries
    ]
    return [deed for deed in deeds if deed.at < since], [deed for deed in deeds if since <= deed.at < until]


def _state(entry: AuditEntry) -> str:
    if entry.action == "session.started":
        return SessionState.STARTED
    said = entry.after.get("state") if isinstance(entry.after, dict) else None
    return said if said in SessionState.values else ""


def _readings(session: ChargingSession, since: datetime, until: datetime) -> dict[datetime, MeterReading]:
    """By the time of the frame that brought it, the last reading in it: frame and reading are written with the same time."""
    kept = MeterReading.objects.filter(session=session, received_at__gte=since, received_at__lt=until)
    kept = kept.only("received_at", "energy_wh", "power_w", "soc_pct", "late").order_by("at", "pk")
    return {reading.received_at: reading for reading in kept}


def _state_before(session: ChargingSession, before: list[Moment], since: datetime | None) -> str:
    state = next((deed.state for deed in reversed(before) if deed.state), "")
    if state == SessionState.STARTED and since and MeterReading.objects.filter(session=session, received_at__lt=since).exists():
        return SessionState.RUNNING
    return state


def _with_states(moments: list[Moment], readings: dict[datetime, MeterReading], state: str, began: datetime) -> list[Moment]:
    """Each line with the state it left the session in. What a frame brought about is audited just after the frame's own time."""
    told: list[Moment] = []
    for place, moment in enumerate(moments):
        reading = readings.get(moment.at) if moment.frame and moment.frame.message_type in CALLS else None
        if reading and state == SessionState.STARTED and not reading.late:
            state = SessionState.RUNNING  # the one change that is not audited: the first reading
        state = moment.state or state
        after, follows = state, place + 1
        while moment.frame and follows < len(moments) and not moments[follows].frame:
            after = moments[follows].state or after
            follows += 1
        told.append(replace(moment, reading=reading, state=after, offset=_offset(moment.at - began)))
    return told


def _offset(delta: timedelta) -> str:
    """+m:ss.mmm from the session's start; with hours when there are any."""
    ms = round(delta.total_seconds() * 1000)
    sign, ms = ("-", -ms) if ms < 0 else ("+", ms)
    minutes, rest = divmod(ms, 60_000)
    clock = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else str(minutes)
    return f"{sign}{clock}:{rest // 1000:02d}.{rest % 1000:03d}"


class _Head(Func):
    """A frame's bytes; of a long one the beginning and the end."""

    output_field = BinaryField()
    template = (
        f"CASE WHEN length(%(expressions)s) <= {2 * _END} THEN %(expressions)s "
        f"ELSE substring(%(expressions)s for {_END}) || substring(%(expressions)s from length(%(expressions)s) - {_END}) END"
    )
