"""The transitions of a session as a table, walked through the rule itself: every state, every thing that may be said. Pure.

docs/sessions.md shows it; tests/unit/test_sessions_doc.py holds the two equal.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from csms.rules.meter import begin
from csms.rules.session import (
    Asked,
    ConnectorSaid,
    Event,
    Limits,
    Lost,
    Measured,
    Session,
    State,
    Stopped,
    TimePassed,
    step,
)

_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_LIMITS = Limits()
_SOON = 60
_ENERGY = Measured(register_wh=10_500, power_w=30_000)
_TOO_LATE_S = _LIMITS.max_resume_gap_s + 1
_ALMOST = _LIMITS.max_disconnects_without_progress - 1

# What is said, how many seconds after the last sign of the session, and what holds besides.
SAID: list[tuple[str, Event, float, dict[str, object]]] = [
    ("A reading that shows energy", _ENERGY, _SOON, {}),
    ("A reading of this transaction that shows none", Measured(register_wh=10_000), _SOON, {}),
    ("A reading of the connector, without transaction, energy or power", Measured(register_wh=10_000, named=False), _SOON, {}),
    (f"A reading that shows energy, after {_TOO_LATE_S} s", _ENERGY, _TOO_LATE_S, {}),
    (f"A reading that came with the stop, after {_TOO_LATE_S} s", replace(_ENERGY, stopping=True), _TOO_LATE_S, {}),
    ("StopTransaction", Stopped(at=_NOON + timedelta(seconds=_SOON), register_wh=10_500), _SOON, {}),
    ("The line is lost", Lost(), _SOON, {}),
    (f"The line is lost for the {_ALMOST + 1}rd time without energy between", Lost(), _SOON, {"disconnects_without_progress": _ALMOST}),
    ("BootNotification", Lost("booted"), _SOON, {}),
    (f"BootNotification, after {_TOO_LATE_S} s", Lost("booted"), _TOO_LATE_S, {}),
    ("The charger asks where it stood (GetLastMeterValue, PostBootState)", Asked(), _SOON, {}),
    (f"The same, after {_TOO_LATE_S} s", Asked(), _TOO_LATE_S, {}),
    ("The connector says Charging, SuspendedEV or SuspendedEVSE", ConnectorSaid("Charging"), _SOON, {}),
    (f"The same, after {_TOO_LATE_S} s", ConnectorSaid("Charging"), _TOO_LATE_S, {}),
    ("It says Available, Faulted, Unavailable or Reserved", ConnectorSaid("Faulted"), _SOON, {}),
    ("A plain socket says Available", ConnectorSaid("Available", socket=True), _SOON, {}),
    ("It says anything else", ConnectorSaid("Finishing"), _SOON, {}),
    (f"{_LIMITS.disconnect_timeout_s} s pass", TimePassed(), _LIMITS.disconnect_timeout_s, {}),
    ("The same, and the charger is back on the line", TimePassed(back=True), _LIMITS.disconnect_timeout_s, {}),
    (f"{_LIMITS.max_resume_gap_s} s pass, and it is back", TimePassed(back=True), _LIMITS.max_resume_gap_s, {}),
    (f"{_LIMITS.socket_grace_s} s pass after a plain socket's Available", TimePassed(), _LIMITS.socket_grace_s, {"idle_since": _NOON}),
    (f"{_LIMITS.silence_s // 3600} hours pass", TimePassed(), _LIMITS.silence_s, {}),
]
# The columns: a session in each state. What suspended it makes two of one.
SESSIONS: dict[str, Session] = {
    "STARTED": Session(State.STARTED, begin(10_000), 60_000, _NOON),
    "RUNNING": Session(State.RUNNING, begin(10_000), 60_000, _NOON),
    "SUSPENDED, the line lost": Session(State.SUSPENDED, begin(10_000), 60_000, _NOON, suspended_at=_NOON),
    "SUSPENDED by its connector": Session(State.SUSPENDED, begin(10_000), 60_000, _NOON, suspended_at=_NOON, idle_status="Available"),
    "STOPPED": Session(State.STOPPED, begin(10_000), 60_000, _NOON, ended_at=_NOON),
}


def table() -> list[str]:
    """The lines of the table, in Markdown. A cell: the state after it and, for an end, its reason; a dash where nothing changes."""
    lines = [f"| what is said | {' | '.join(SESSIONS)} |", "|---" * (len(SESSIONS) + 1) + "|"]
    for words, event, after_s, besides in SAID:
        cells = [_cell(replace(one, **besides) if one.live else one, event, after_s) for one in SESSIONS.values()]  # type: ignore[arg-type]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def _cell(before: Session, event: Event, after_s: float) -> str:
    after, _ = step(before, event, _NOON + timedelta(seconds=after_s), _LIMITS)
    if before.live and not after.live:
        return f"STOPPED: {after.stop_reason}"
    if after.state != before.state:
        return str(after.state)
    if after.idle_since != before.idle_since:
        return f"{after.state}, given {_LIMITS.socket_grace_s} s"
    if after.meter.energy_wh != before.meter.energy_wh:
        return f"{after.state}, counted"
    return "–"
