"""The life of a charging session: STARTED -> RUNNING -> SUSPENDED -> RUNNING -> STOPPED. Pure.

`step(session, event, now)` answers with the session after the event and a verdict. Odd events get a verdict, never an
exception: what really happened at the charger is a fact, and a doubt becomes a flag that a person sees.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from csms.rules import meter as meters
from csms.rules.meter import Meter

# The flag of a session whose energy is counted from intervals; of one that is not billed before a person has looked, or a day has passed.
INTERVALS = "intervals"
HELD = "held"
# A charger's clock is not believed when it speaks of more than a week, nor when it alone says that a car took more than this.
LONGEST_S = 7 * 24 * 3600
MOST_WH = 150_000
# No more is no charging: a meter's own offset, what the charger takes for itself.
IDLE_W = 20


class State(StrEnum):
    STARTED = "STARTED"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    STOPPED = "STOPPED"


class Verdict(StrEnum):
    PROGRESS = "progress"
    RESUMED = "resumed"
    SUSPENDED = "suspended"
    ENDED = "ended"
    STALE_RECONNECT = "stale_reconnect"
    ALREADY_SUSPENDED = "already_suspended"
    ALREADY_ENDED = "already_ended"
    LATE = "late"
    NOT_YET = "not_yet"


@dataclass(frozen=True)
class Limits:
    """The constants of a session's life, in seconds (settings of the same names)."""

    disconnect_timeout_s: int = 180
    max_resume_gap_s: int = 900
    max_disconnects_without_progress: int = 3
    silence_s: int = 3 * 3600
    socket_grace_s: int = 300
    stop_lead_s: float = 2.0


@dataclass(frozen=True)
class Session:
    """What the rule needs to know of a session's row."""

    state: State
    meter: Meter
    max_power_w: int
    last_activity_at: datetime
    # When it began, by the charger's clock and by ours.
    start_time: datetime | None = None
    started_at: datetime | None = None
    metered_at: datetime | None = None
    register_at: datetime | None = None
    # The moment of the odd sample that waits for a second one, by the charger's clock.
    pending_at: datetime | None = None
    suspended_at: datetime | None = None
    # The status that suspended it ("" when a lost line did), and since when a socket has shown Available without a sign of flow.
    idle_status: str = ""
    idle_since: datetime | None = None
    resumed_at: datetime | None = None
    resume_count: int = 0
    disconnects_without_progress: int = 0
    power_w: int | None = None
    soc_pct: int | None = None
    sample_interval_s: int | None = None
    limit_wh: int | None = None
    limit_at: datetime | None = None
    stop_due_at: datetime | None = None
    stop_reason: str = ""
    stop_reason_raw: str = ""
    end_time: datetime | None = None
    ended_at: datetime | None = None
    reported_wh: int | None = None
    overrun_wh: int = 0
    flags: frozenset[str] = field(default_factory=frozenset)

    @property
    def live(self) -> bool:
        return self.state != State.STOPPED


@dataclass(frozen=True)
class Measured:
    """A reading. `at` is the charger's time when it is believable. Not `named`: it speaks of the connector, of no transaction.

    `interval_wh` is what flowed since the reading before, of a charger that shows no register. `stopping`: it came with the stop
    (transactionData): it counts, and resumes nothing.
    """

    at: datetime | None = None
    register_wh: int | None = None
    interval_wh: int | None = None
    power_w: int | None = None
    soc_pct: int | None = None
    named: bool = True
    stopping: bool = False


@dataclass(frozen=True)
class Stopped:
    """The charger says the transaction ended; or we say so for it (`inferred`)."""

    at: datetime
    register_wh: int | None = None
    reason: str = "Local"
    reason_raw: str = ""
    inferred: bool = False


@dataclass(frozen=True)
class Lost:
    """The socket is gone, or the charger says it has just booted."""

    why: str = "disconnected"


@dataclass(frozen=True)
class Asked:
    """The charger asks where this session stood, to go on with it (the GetLastMeterValue convention)."""


@dataclass(frozen=True)
class ConnectorSaid:
    """The connector's status while a session is open on it. `socket`: an outlet that shows Available while a car draws power."""

    status: str
    socket: bool = False


@dataclass(frozen=True)
class TimePassed:
    """Nobody said anything; the clock did. `back`: its charger is on the line again, or was a moment ago, and nothing it has said since
    the session was suspended (a boot, a status) means that the session is over.
    """

    back: bool = False


Event = Measured | Stopped | Lost | Asked | ConnectorSaid | TimePassed

# What a connector says when nothing can be flowing through it, and what it says when something may.
IDLE = frozenset({"Available", "Faulted", "Unavailable", "Reserved"})
ACTIVE = frozenset({"Charging", "SuspendedEV", "SuspendedEVSE"})


def step(session: Session, event: Event, now: datetime, limits: Limits = Limits()) -> tuple[Session, Verdict]:
    """The session after `event`, and what became of it."""
    match event:
        case Measured():
            return _measured(session, event, now, limits)
        case Stopped():
            return _stopped(session, event, now)
        case Lost():
            return _lost(session, event, now, limits)
        case Asked():
            return _asked(session, now, limits)
        case ConnectorSaid():
            return _connector_said(session, event, now, limits)
        case TimePassed():
            return _time_passed(session, event, now, limits)


def _measured(session: Session, event: Measured, now: datetime, limits: Limits) -> tuple[Session, Verdict]:
    if not session.live:
        return session, Verdict.LATE
    if not event.stopping and _stale(session, now, limits):
        return _end(session, now, "STALE_RECONNECT", inferred=True), Verdict.STALE_RECONNECT
    gap_s = (now - session.last_activity_at).total_seconds()
    register_wh, counts = _register(session, event)
    again = event.at is not None and event.at == session.pending_at
    known, most_wh = _known(session, register_wh if event.register_wh is not None else None, event.at, now)
    meter, said = meters.advance(known, register_wh, most_wh, again=again)
    odd = said in meters.NOT_BELIEVED
    progressed = meter.energy_wh > session.meter.energy_wh
    flows = (event.power_w or 0) > IDLE_W
    in_kwh = said is meters.Verdict.IN_KWH
    flags = counts | ({"suspect"} if odd else set())
    believed = not odd and said is not meters.Verdict.UNKNOWN
    pending_at = None if meter.pending_wh is None else event.at if odd else session.pending_at
    metered_at = (event.at if believed else None) or session.metered_at
    register_at = now if believed else session.register_at
    soc_pct = event.soc_pct or session.soc_pct  # 0 % is what chargers say when they do not know
    if event.stopping:  # `register_at` stays: all of them, and the stop, are heard at one moment
        read = replace(session, meter=meter, pending_at=pending_at, metered_at=metered_at)
        return replace(read, soc_pct=soc_pct, flags=frozenset(flags)), Verdict.PROGRESS
    # Chargers read an idle connector by the clock: that is no sign of a transaction they may long have forgotten.
    idle = not event.named and not progressed and not flows
    if idle and session.state == State.SUSPENDED:
        return session, Verdict.NOT_YET
    resumed = session.state == State.SUSPENDED
    if resumed and session.idle_status and not progressed:
        # Its connector says that it is not charging: only energy says otherwise.
        return replace(session, meter=meter, pending_at=pending_at, flags=frozenset(flags)), Verdict.NOT_YET
    after = replace(
        session,
        state=State.RUNNING,
        meter=meter,
        pending_at=pending_at,
        last_activity_at=session.last_activity_at if idle else now,
        metered_at=metered_at,
        register_at=register_at,
        suspended_at=None,
        idle_status="",
        idle_since=now if session.idle_since and (progressed or flows) else session.idle_since,
        resumed_at=now if resumed else session.resumed_at,
        resume_count=session.resume_count + resumed,
        disconnects_without_progress=0 if progressed or in_kwh else session.disconnects_without_progress,
        power_w=session.power_w if event.power_w is None else event.power_w,
        soc_pct=soc_pct,
        sample_interval_s=min(int(gap_s), 3600) if gap_s >= 1 else session.sample_interval_s,
        flags=frozenset(flags),
    )
    return replace(after, stop_due_at=stop_due_at(after, now, limits)), Verdict.RESUMED if resumed else Verdict.PROGRESS


def _register(session: Session, event: Measured) -> tuple[int | None, frozenset[str]]:
    """The register as the reading shows it, or as its intervals add up to (OCPP 1.6 lets a charger measure nothing else).

    Only where no register was ever seen to rise, and each moment once: a clock-aligned interval beside registers says the same energy.
    """
    of_before = (_is_of_before, _is_told_again, _is_its_beginning)
    if event.register_wh is not None and any(so(session, event) for so in of_before):
        return None, session.flags
    if event.register_wh is not None or event.interval_wh is None:
        return event.register_wh, session.flags - {INTERVALS} if event.register_wh is not None else session.flags
    counting = INTERVALS in session.flags or session.meter.energy_wh == 0
    again = event.at is not None and session.metered_at is not None and event.at <= session.metered_at
    if not counting or again:
        return None, session.flags
    return (session.meter.last_wh or 0) + event.interval_wh, session.flags | {INTERVALS}


def _is_told_again(session: Session, event: Measured) -> bool:
    """Without a time, nothing tells the readings of a stop from those we had: a lower register is one of them."""
    last = session.meter.last_wh
    return event.stopping and event.at is None and event.register_wh is not None and last is not None and event.register_wh < last


def _is_its_beginning(session: Session, event: Measured) -> bool:
    """The register of the start, told once more with the stop: after a later one it tells nothing, whatever the clock was set to since."""
    if not event.stopping or event.at is None or session.start_time is None:
        return False
    return event.at <= session.start_time != session.metered_at


def _known(session: Session, told_wh: int | None, at: datetime | None, now: datetime) -> tuple[Meter, int]:
    """The meter that the next register moves (`told_wh`, when the charger itself tells one), and the most that can have flowed since.

    Where intervals were added up until now, a register that goes on from the one of the start says it better than their sum: a
    clock-aligned interval may hold energy of the car before, and be told twice. (A start of 0 may be a placeholder.)
    """
    meter = session.meter
    if INTERVALS in session.flags and told_wh is not None and meter.start_wh:
        most_wh = cap_wh(session, at, now)
        if most_wh is not None and 0 < told_wh - meter.start_wh <= most_wh:
            return meters.begin(meter.start_wh), most_wh
    return meter, _step_wh(session, at, now)


def _is_of_before(session: Session, event: Measured) -> bool:
    """A lower register of an earlier moment is one we had, or one that was overtaken, said again out of a queue. No register went back.

    (A lower one of a later moment is a meter that was set to zero; a higher one of an earlier moment is a clock that was set right.)
    """
    known, last = session.metered_at, session.meter.last_wh
    assert event.register_wh is not None
    return event.at is not None and known is not None and event.at < known and last is not None and event.register_wh < last


def _step_wh(session: Session, at: datetime | None, now: datetime) -> int:
    """The most that may have flowed since the last register that was believed, which need not be the last reading (one may bring
    only power, or a spike)."""
    heard_s = (now - (session.register_at or session.last_activity_at)).total_seconds()
    said_s = (at - session.metered_at).total_seconds() if at and session.metered_at else 0.0
    return _most_wh(session.max_power_w, heard_s, said_s)


def cap_wh(session: Session, at: datetime | None, now: datetime) -> int | None:
    """The most its connector can have delivered from its start until `at` (the charger's clock), its last reading, or now: the longest."""
    if session.started_at is None:
        return None
    heard_s = (now - session.started_at).total_seconds()
    said = [one for one in (at, session.metered_at) if one is not None]
    said_s = (max(said) - session.start_time).total_seconds() if said and session.start_time else 0.0
    return _most_wh(session.max_power_w, heard_s, said_s)


def _most_wh(max_power_w: int, heard_s: float, said_s: float) -> int:
    """By our clock, or by the charger's where that is longer: a queue kept offline arrives all at once.

    The charger's alone is worth one large car: set right after the start, it makes a jump of the register look like days of charging.
    """
    by_its_own = min(meters.plausible_wh(max_power_w, min(said_s, LONGEST_S)), MOST_WH)
    return max(meters.plausible_wh(max_power_w, heard_s), by_its_own)


def stop_due_at(session: Session, now: datetime, limits: Limits = Limits()) -> datetime | None:
    """When the stop must be sent so that, at the power now flowing, the limit is not passed before the next reading.

    `stop_lead_s` is what a stop takes to reach the charger and to be obeyed.
    """
    due: list[datetime] = [session.limit_at] if session.limit_at else []
    if session.limit_wh is not None:
        left_s = meters.seconds_to_limit(session.meter.energy_wh, session.limit_wh, session.power_w)
        if left_s is not None and left_s < LONGEST_S:
            # A reading without a register says nothing of what flowed since the last one.
            known_at = max(session.register_at or now, session.resumed_at or session.register_at or now)
            due.append(max(now, known_at + timedelta(seconds=left_s - limits.stop_lead_s)))
    return min(due, default=None)


def _stopped(session: Session, event: Stopped, now: datetime) -> tuple[Session, Verdict]:
    if not session.live:
        return session, Verdict.ALREADY_ENDED
    known, most_wh = _known(session, event.register_wh, event.at, now)
    meter, said = meters.finish(known, event.register_wh, most_wh)
    flags = session.flags - ({INTERVALS} if known is not session.meter else set())
    flags |= {"suspect"} if said in meters.NOT_BELIEVED else set()
    told = event.register_wh is not None and event.register_wh > 0
    reported = meters.reported(meter, event.register_wh) if told else None
    ended = replace(session, meter=meter, flags=frozenset(flags), reported_wh=reported)
    return _end(ended, now, event.reason, reason_raw=event.reason_raw, at=event.at, inferred=event.inferred), Verdict.ENDED


def _stale(session: Session, now: datetime, limits: Limits) -> bool:
    """Whether too much time has passed since it could last be heard of to go on with it: asked at each of the points where it may resume.

    Not since it last spoke: a charger that reads every quarter of an hour is as good as one that reads every minute.
    """
    heard_until = max(session.last_activity_at, session.suspended_at or session.last_activity_at)
    gap_s = (now - heard_until).total_seconds()
    return session.state == State.SUSPENDED and gap_s > limits.max_resume_gap_s


def _asked(session: Session, now: datetime, limits: Limits) -> tuple[Session, Verdict]:
    if not session.live:
        return session, Verdict.ALREADY_ENDED
    if _stale(session, now, limits):
        return _end(session, now, "STALE_RECONNECT", inferred=True), Verdict.STALE_RECONNECT
    if session.state != State.SUSPENDED:
        return session, Verdict.NOT_YET
    return _resumed(session, now, limits), Verdict.RESUMED


def _resumed(session: Session, now: datetime, limits: Limits) -> Session:
    """Running again, by somebody's word rather than by a reading."""
    resumed = replace(
        session,
        state=State.RUNNING,
        suspended_at=None,
        idle_status="",
        idle_since=None,
        resumed_at=now,
        resume_count=session.resume_count + 1,
        last_activity_at=now,
    )
    return replace(resumed, stop_due_at=stop_due_at(resumed, now, limits))


def _lost(session: Session, event: Lost, now: datetime, limits: Limits) -> tuple[Session, Verdict]:
    if not session.live:
        return session, Verdict.ALREADY_ENDED
    if event.why == "booted" and _stale(session, now, limits):
        return _end(session, now, "STALE_RECONNECT", inferred=True), Verdict.STALE_RECONNECT
    if session.state == State.SUSPENDED:
        return session, Verdict.ALREADY_SUSPENDED
    count = session.disconnects_without_progress + 1
    if count >= limits.max_disconnects_without_progress:
        return _end(session, now, "FLAPPING", inferred=True), Verdict.ENDED
    # Without a word of the charger's own it most likely charges on: its stop stays due, and is sent when it is back.
    due_at = session.limit_at if event.why == "booted" else session.stop_due_at
    suspended = replace(session, state=State.SUSPENDED, suspended_at=now, disconnects_without_progress=count, stop_due_at=due_at)
    return suspended, Verdict.SUSPENDED


def should_use_grace_period(status: str, socket: bool) -> bool:
    """The one word on it: a plain socket says Available while the car still draws; any other status, and any other outlet, means it."""
    return socket and status == "Available"


def _connector_said(session: Session, event: ConnectorSaid, now: datetime, limits: Limits) -> tuple[Session, Verdict]:
    """A status alone never ends a session: it suspends it, or begins the time in which the meter must speak."""
    if not session.live:
        return session, Verdict.ALREADY_ENDED
    if event.status in ACTIVE:
        # After too long it is no longer known to be the same charge; a status alone never ends one: time, or its reading, will.
        if session.state == State.SUSPENDED and session.idle_status and not _stale(session, now, limits):
            return _resumed(session, now, limits), Verdict.RESUMED
        return (replace(session, idle_since=None) if session.idle_since else session), Verdict.NOT_YET
    if event.status not in IDLE:
        return session, Verdict.NOT_YET
    if should_use_grace_period(event.status, event.socket):
        return (session if session.idle_since else replace(session, idle_since=now)), Verdict.NOT_YET
    if session.state == State.SUSPENDED:
        return session, Verdict.ALREADY_SUSPENDED
    suspended = replace(session, state=State.SUSPENDED, suspended_at=now, idle_status=event.status, stop_due_at=session.limit_at)
    return suspended, Verdict.SUSPENDED


def _time_passed(session: Session, event: TimePassed, now: datetime, limits: Limits) -> tuple[Session, Verdict]:
    if not session.live:
        return session, Verdict.ALREADY_ENDED
    if session.state == State.SUSPENDED and session.suspended_at:
        # Back on the line, it most likely charges on: its next reading is waited for, as long as that may resume it.
        back = event.back and not session.idle_status and session.idle_since is None
        waits_s = limits.max_resume_gap_s if back else limits.disconnect_timeout_s
        if (now - session.suspended_at).total_seconds() >= waits_s:
            return _end(session, now, "NO_STOP" if session.idle_status else "DISCONNECT_TIMEOUT", inferred=True), Verdict.ENDED
    elif session.idle_since and (now - session.idle_since).total_seconds() >= limits.socket_grace_s:
        return _end(session, now, "NO_STOP", inferred=True), Verdict.ENDED
    elif (now - session.last_activity_at).total_seconds() >= limits.silence_s:
        return _end(session, now, "SILENCE", inferred=True), Verdict.ENDED
    return session, Verdict.NOT_YET


def _end(
    session: Session, now: datetime, reason: str, *, reason_raw: str = "", at: datetime | None = None, inferred: bool = False
) -> Session:
    energy_wh = session.meter.energy_wh
    flags = session.flags | {"inferred"} if inferred else session.flags
    reported_wh = session.reported_wh if session.reported_wh is not None else meters.reported(session.meter, None)
    # Intervals were added up without a register: there is nothing to compare them with but a register the charger tells itself.
    compared_wh = session.reported_wh if INTERVALS in flags else reported_wh
    if meters.doubtful(energy_wh, compared_wh, cap_wh(session, at, now)):
        flags = flags | {HELD, "suspect"}
    return replace(
        session,
        state=State.STOPPED,
        stop_due_at=None,
        power_w=0,
        stop_reason=reason,
        stop_reason_raw=reason_raw,
        end_time=at or session.last_activity_at,
        ended_at=now,
        overrun_wh=max(0, energy_wh - session.limit_wh) if session.limit_wh is not None else 0,
        flags=flags,
    )
