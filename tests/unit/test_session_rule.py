"""The life of a session as a pure rule: every event in every state has a verdict, and STOPPED is the end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.rules import session as rule
from csms.rules.meter import begin
from csms.rules.session import Limits, Lost, Measured, Session, State, Stopped, TimePassed, Verdict, step, stop_due_at

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Limits()
STATES = list(State)
POWER_W = 60_000


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_session(state: State = State.RUNNING, **fields) -> Session:
    """A session of a 60 kW connector whose register said 10,000 Wh at the start and was last heard at noon."""
    given = {"meter": begin(10_000), "max_power_w": POWER_W, "last_activity_at": NOON, "register_at": NOON, **fields}
    if state == State.SUSPENDED:
        given.setdefault("suspended_at", NOON)
    if state == State.STOPPED:
        given.setdefault("ended_at", NOON)
    return Session(state=state, **given)


def play(session: Session, *said: tuple[float, rule.Event]) -> tuple[Session, list[Verdict]]:
    """The session after these events, each at its second after noon."""
    verdicts = []
    for seconds, event in said:
        session, verdict = step(session, event, after(seconds), LIMITS)
        verdicts.append(verdict)
    return session, verdicts


# -- every event in every state -------------------------------------------------------------------------------------
EVENTS = [
    Measured(),
    Measured(at=after(9), register_wh=10_100, power_w=50_000, soc_pct=40),
    Measured(register_wh=-5),
    Measured(register_wh=0),
    Measured(register_wh=2**53 - 1, power_w=9_999_999),
    Stopped(at=after(9)),
    Stopped(at=after(9), register_wh=10_100),
    Stopped(at=after(-9_000_000), register_wh=-1, reason="PowerLoss"),
    Stopped(at=after(9), register_wh=0, inferred=True),
    Lost(),
    Lost("booted"),
    TimePassed(),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS, ids=repr)
@pytest.mark.parametrize("seconds", [-3600, 0, 10, 180, 901, 4 * 3600, 400 * 86_400])
def test_every_event_in_every_state_gets_a_verdict(state, event, seconds):
    before = a_session(state, limit_wh=500, limit_at=after(600))
    now, verdict = step(before, event, after(seconds), LIMITS)
    assert isinstance(verdict, Verdict)
    assert now.meter.energy_wh >= before.meter.energy_wh
    assert now.live or (now.ended_at is not None and now.stop_due_at is None)
    if state == State.STOPPED:
        assert now == before and verdict in (Verdict.LATE, Verdict.ALREADY_ENDED)


def test_readings_in_kwh_called_wh_tell_no_energy_but_their_power_tells_when_the_money_is_used_up():
    session = a_session(meter=begin(1_234_000), limit_wh=500, disconnects_without_progress=2)
    now, _ = play(session, (10, Measured(at=after(10), register_wh=1_234, power_w=60_000)))
    assert (now.meter.energy_wh, now.flags, now.disconnects_without_progress) == (0, {"suspect"}, 0)
    assert now.stop_due_at == after(30 - LIMITS.stop_lead_s)
    ended, _ = play(now, (31, Stopped(at=after(31), register_wh=1_234_516)))
    assert ended.meter.energy_wh == 516


def test_the_register_of_the_start_told_with_the_stop_is_no_energy_though_the_clock_was_set_back():
    """The register fell by 13 kWh and the clock by an hour: the start's is higher and later than the last reading."""
    session = a_session(meter=begin(0), start_time=NOON, started_at=NOON, metered_at=NOON)
    hour_s = 3_600
    read = [(20, 6_911_989), (40, 6_912_162), (50 - hour_s, 6_912_162), (60 - hour_s, 6_899_194), (80 - hour_s, 6_899_367)]
    session, _ = play(session, *((at % hour_s, Measured(at=after(at), register_wh=wh, power_w=30_000)) for at, wh in read))
    data = [Measured(at=after(at), register_wh=wh, stopping=True) for at, wh in ((0, 6_911_845), (100 - hour_s, 6_899_540))]
    stop = Stopped(at=after(100 - hour_s), register_wh=6_899_540)
    ended, _ = play(session, *((100, event) for event in (*data, stop)))
    assert ended.meter.energy_wh == 173 + 173 + 173


def test_where_the_start_said_nothing_its_register_is_told_with_the_stop():
    session = a_session(meter=begin(0), start_time=NOON, started_at=NOON, metered_at=NOON)
    data = [Measured(at=after(at), register_wh=wh, stopping=True) for at, wh in ((0, 6_911_845), (100, 6_912_400))]
    ended, _ = play(session, *((100, event) for event in (*data, Stopped(at=after(100), register_wh=6_912_400))))
    assert ended.meter.energy_wh == 555


def test_a_false_sample_that_a_charger_sends_twice_is_one_sample():
    """It says the same moment again under a new message id: two samples that agree are two moments."""
    false = Measured(at=after(60), register_wh=0, power_w=7_200)
    session, _ = play(a_session(meter=begin(488)), (60, false), (60.3, false), (120, Measured(at=after(120), register_wh=723)))
    assert (session.meter.energy_wh, session.pending_at) == (235, None)
    session, _ = play(a_session(), (60, false), (60.3, false), (120, replace(false, at=after(120))))
    assert session.meter.segment_start_wh == 0, "another moment confirms it"


moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
maybe_moments = st.one_of(st.none(), moments)
powers = st.one_of(st.none(), st.integers(0, 10_000_000))
any_event = st.one_of(
    st.builds(Measured, maybe_moments, st.one_of(st.none(), st.integers(-10, 2**53)), powers, st.one_of(st.none(), st.integers(0, 100))),
    st.builds(Stopped, moments, st.one_of(st.none(), st.integers(-10, 2**53)), inferred=st.booleans()),
    st.builds(Lost),
    st.builds(TimePassed),
)


@given(st.lists(st.tuples(st.integers(0, 2_000), any_event), max_size=25), st.one_of(st.none(), st.integers(0, 50_000)))
def test_any_life_ends_once_and_counts_no_more_than_can_have_flowed(said, limit_wh):
    session, seconds, ended = a_session(State.STARTED, limit_wh=limit_wh), 0, None
    for gap, event in said:
        seconds += gap
        session, verdict = step(session, event, after(seconds), LIMITS)
        if ended is not None:
            assert session == ended
            assert verdict in (Verdict.LATE, Verdict.ALREADY_ENDED)
        elif not session.live:
            ended = session
            assert verdict in (Verdict.ENDED, Verdict.STALE_RECONNECT)
            assert session.overrun_wh == (max(0, session.meter.energy_wh - limit_wh) if limit_wh is not None else 0)


# -- readings --------------------------------------------------------------------------------------------------------
def test_a_start_runs_with_its_first_reading():
    session, verdicts = play(a_session(State.STARTED), (30, Measured(register_wh=10_400, power_w=50_000)))
    assert verdicts == [Verdict.PROGRESS]
    assert (session.state, session.meter.energy_wh, session.power_w, session.last_activity_at) == (State.RUNNING, 400, 50_000, after(30))


def test_a_charge_of_zero_percent_is_what_chargers_say_who_do_not_know():
    session, _ = play(a_session(), (10, Measured(soc_pct=55)), (20, Measured(soc_pct=0)))
    assert session.soc_pct == 55


def test_Q100_a_dropout_at_full_power_loses_nothing():
    """One sample a minute at 60 kW: after a dropout two minutes' energy arrives in one reading."""
    session, _ = play(a_session(), *((60 * minute, Measured(register_wh=10_000 + 1_000 * minute)) for minute in (1, 2, 3)))
    session, _ = play(session, (240, Measured(register_wh=0)), (300, Measured(register_wh=15_000)), (360, Measured(register_wh=16_000)))
    assert session.meter.energy_wh == 6_000
    assert "suspect" in session.flags


def test_readings_of_power_alone_do_not_make_the_register_implausible():
    """Power every 10 s and the register every 5 minutes, as some chargers have it."""
    session = a_session()
    for seconds in range(10, 1_201, 10):
        register_wh = 10_000 + seconds * POWER_W // 3600 if seconds % 300 == 0 else None
        session, _ = play(session, (seconds, Measured(at=after(seconds), register_wh=register_wh, power_w=POWER_W)))
    assert session.meter.energy_wh == 20_000
    assert not session.flags


def test_a_queue_kept_offline_is_believed_by_the_chargers_clock():
    session = a_session(metered_at=NOON)
    session, _ = play(session, *((600, Measured(at=after(60 * minute), register_wh=10_000 + 900 * minute)) for minute in range(1, 11)))
    assert session.meter.energy_wh == 9_000


def test_a_queue_that_comes_twice_counts_once():
    """Sent again in its order under new ids, it looks like a register that was set back and rises again; its times say that it was not."""
    queue = [(600, Measured(at=after(60 * minute), register_wh=10_000 + 900 * minute)) for minute in range(1, 11)]
    session, _ = play(a_session(metered_at=NOON), *queue, *queue)
    assert session.meter.energy_wh == 9_000 and not session.flags


def test_a_meter_set_to_zero_and_a_clock_set_right_are_no_queue():
    session = a_session(metered_at=NOON)
    zeroed, _ = play(session, *((60 * n, Measured(at=after(60 * n), register_wh=300 * (n - 1))) for n in range(1, 5)))
    assert zeroed.meter.energy_wh == 900 and "suspect" in zeroed.flags
    set_right, _ = play(session, *((60 * n, Measured(at=after(60 * n - 20_000), register_wh=10_000 + 300 * n)) for n in range(1, 5)))
    assert set_right.meter.energy_wh == 1_200 and not set_right.flags


def test_Q101_readings_after_the_end_are_late_and_count_nothing():
    ended, _ = play(a_session(), (10, Stopped(at=after(10), register_wh=10_100)))
    session, verdicts = play(ended, (20, Measured(register_wh=10_400)))
    assert (session, verdicts) == (ended, [Verdict.LATE])


# -- lost and found ---------------------------------------------------------------------------------------------------
def test_a_lost_session_resumes_with_its_next_reading():
    session, verdicts = play(a_session(), (10, Lost()), (100, Measured(register_wh=11_000)))
    assert verdicts == [Verdict.SUSPENDED, Verdict.RESUMED]
    assert (session.state, session.resume_count, session.resumed_at, session.suspended_at) == (State.RUNNING, 1, after(100), None)
    assert session.disconnects_without_progress == 0


def test_losing_it_twice_counts_once():
    session, verdicts = play(a_session(), (10, Lost()), (11, Lost("booted")))
    assert verdicts == [Verdict.SUSPENDED, Verdict.ALREADY_SUSPENDED]
    assert (session.disconnects_without_progress, session.suspended_at) == (1, after(10))


def test_a_gap_of_exactly_the_limit_resumes_and_a_second_more_does_not():
    lost, _ = play(a_session(), (1, Lost()))
    resumed, verdicts = play(lost, (1 + LIMITS.max_resume_gap_s, Measured(register_wh=10_500)))
    assert verdicts == [Verdict.RESUMED] and resumed.live
    stale, verdicts = play(lost, (2 + LIMITS.max_resume_gap_s, Measured(register_wh=10_500)))
    assert verdicts == [Verdict.STALE_RECONNECT]
    assert (stale.stop_reason, stale.meter.energy_wh, stale.end_time, "inferred" in stale.flags) == ("STALE_RECONNECT", 0, NOON, True)


@pytest.mark.parametrize("lost_after_s", [5, 890])
def test_the_gap_is_what_was_not_heard_and_not_what_was_not_said(lost_after_s):
    """A charger that reads every quarter of an hour: its line blinks, and its next reading is in time."""
    session, verdicts = play(a_session(), (lost_after_s, Lost()), (901, Measured(register_wh=20_000)))
    assert verdicts == [Verdict.SUSPENDED, Verdict.RESUMED] and session.meter.energy_wh == 10_000


def test_the_stop_ahead_of_the_limit_stays_due_when_the_line_blinks_but_not_when_the_charger_boots():
    session, _ = play(a_session(limit_wh=1_000), (10, Measured(register_wh=10_500, power_w=60_000)))
    due_at = session.stop_due_at
    assert due_at == after(40 - LIMITS.stop_lead_s)
    assert play(session, (15, Lost()))[0].stop_due_at == due_at
    assert play(session, (15, Lost("booted")))[0].stop_due_at is None


def test_flapping_without_progress_ends_the_session():
    session, register = a_session(), Measured(register_wh=10_000)
    for turn in range(LIMITS.max_disconnects_without_progress - 1):
        session, verdicts = play(session, (20 * turn, Lost()), (20 * turn + 10, register))
        assert verdicts == [Verdict.SUSPENDED, Verdict.RESUMED]
    session, verdicts = play(session, (100, Lost()))
    assert (verdicts, session.stop_reason) == ([Verdict.ENDED], "FLAPPING")


def test_flapping_with_progress_goes_on():
    session = a_session()
    for turn in range(1, 10):
        session, _ = play(session, (20 * turn, Lost()), (20 * turn + 10, Measured(register_wh=10_000 + 100 * turn)))
    assert session.live and session.resume_count == 9


# -- the clock ---------------------------------------------------------------------------------------------------------
def test_suspended_too_long_ends_and_not_a_second_sooner():
    lost, _ = play(a_session(), (0, Lost()))
    assert play(lost, (LIMITS.disconnect_timeout_s - 1, TimePassed()))[1] == [Verdict.NOT_YET]
    session, verdicts = play(lost, (LIMITS.disconnect_timeout_s, TimePassed()))
    assert (verdicts, session.stop_reason) == ([Verdict.ENDED], "DISCONNECT_TIMEOUT")


def test_back_on_the_line_it_is_waited_for_as_long_as_a_reading_may_resume_it():
    lost = a_session(State.SUSPENDED)
    ended, verdicts = play(lost, (180, TimePassed(back=True)), (899, TimePassed(back=True)), (900, TimePassed(back=True)))
    assert verdicts == [Verdict.NOT_YET, Verdict.NOT_YET, Verdict.ENDED] and ended.stop_reason == "DISCONNECT_TIMEOUT"
    idle, verdicts = play(replace(lost, idle_status="Available"), (180, TimePassed(back=True)))
    assert verdicts == [Verdict.ENDED] and idle.stop_reason == "NO_STOP"


def test_readings_that_come_with_a_stop_count_and_resume_nothing():
    """A charger that tells its readings with the stop only, and was suspended long before it (a boot, a lost line)."""
    lost = a_session(State.SUSPENDED)
    told = Measured(at=after(1_000), register_wh=12_000, power_w=60_000, stopping=True)
    ended, verdicts = play(lost, (1_200, told), (1_200, Stopped(at=after(1_200), register_wh=14_000)))
    assert verdicts == [Verdict.PROGRESS, Verdict.ENDED]
    assert (ended.stop_reason, ended.meter.energy_wh, ended.reported_wh, ended.resume_count) == ("Local", 4_000, 4_000, 0)
    assert step(lost, replace(told, stopping=False), after(1_200))[1] is Verdict.STALE_RECONNECT


def test_what_a_charger_takes_for_itself_is_no_charging():
    """3 W for ever after a plain socket has said Available: its time runs out. A car that takes little is seen by its energy."""
    idle = rule.ConnectorSaid("Available", socket=True)
    session, _ = play(a_session(max_power_w=3_300), (60, idle))
    for seconds in range(90, 360, 30):
        session, _ = step(session, Measured(register_wh=10_000, power_w=3), after(seconds))
    session, verdict = step(session, TimePassed(), after(360))
    assert verdict is Verdict.ENDED and session.stop_reason == "NO_STOP"
    unnamed, verdict = step(a_session(State.SUSPENDED), Measured(register_wh=10_000, power_w=3, named=False), after(60))
    assert verdict is Verdict.NOT_YET and unnamed.state == State.SUSPENDED
    for sign in (Measured(register_wh=10_000, power_w=100), Measured(register_wh=10_001, power_w=3)):
        session, _ = play(a_session(max_power_w=3_300), (60, idle), (300, sign))
        assert step(session, TimePassed(), after(400))[1] is Verdict.NOT_YET


def test_a_clock_set_days_ahead_after_the_start_makes_no_jump_energy():
    """The start bore the charger's time of three days ago and a placeholder; then its clock is set, and its odometer appears."""
    began = a_session(meter=begin(0), start_time=after(-3 * 86_400), started_at=NOON, metered_at=after(-3 * 86_400))
    session, _ = play(began, (30, Measured(at=after(30), register_wh=900_000, power_w=60_000)))
    assert (session.meter.energy_wh, session.meter.pending_wh) == (0, 900_000)
    ended, _ = play(session, (60, Measured(at=after(60), register_wh=900_500)), (90, Stopped(at=after(90), register_wh=901_000)))
    assert ended.meter.energy_wh == 1_000 and rule.HELD in ended.flags
    # Hours in a queue, by the charger's clock alone, are believed up to what a large car takes.
    ended, _ = play(began, (30, Stopped(at=after(-2 * 86_400), register_wh=90_000)))
    assert ended.meter.energy_wh == 90_000 and rule.HELD not in ended.flags


def test_silence_ends_what_runs_on_paper_only():
    assert play(a_session(), (LIMITS.silence_s - 1, TimePassed()))[1] == [Verdict.NOT_YET]
    session, verdicts = play(a_session(), (LIMITS.silence_s, TimePassed()))
    assert (verdicts, session.stop_reason, session.end_time) == ([Verdict.ENDED], "SILENCE", NOON)


# -- the stop ---------------------------------------------------------------------------------------------------------
def test_a_stop_says_what_was_reported_and_what_counts():
    session, _ = play(a_session(limit_wh=300), (20, Stopped(at=after(18), register_wh=10_320, reason="Remote")))
    assert (session.meter.energy_wh, session.reported_wh, session.overrun_wh, session.end_time) == (320, 320, 20, after(18))
    assert (session.state, session.stop_reason, session.power_w, session.stop_due_at) == (State.STOPPED, "Remote", 0, None)


def test_Q95_a_stop_below_the_start_charges_nothing_and_is_suspect():
    session, _ = play(a_session(), (20, Stopped(at=after(18), register_wh=50)))
    assert (session.meter.energy_wh, session.reported_wh, session.flags) == (0, -9_950, {"suspect"})


def test_a_session_without_one_reading_is_counted_from_start_and_stop():
    session, _ = play(a_session(State.STARTED), (1_800, Stopped(at=after(1_800), register_wh=38_000)))
    assert (session.meter.energy_wh, session.flags) == (28_000, frozenset())


# -- ahead of the limit ------------------------------------------------------------------------------------------------
def test_the_stop_is_due_ahead_of_the_limit_by_the_lead():
    session, _ = play(a_session(limit_wh=1_000), (30, Measured(register_wh=10_400, power_w=60_000)))
    assert session.stop_due_at == after(30 + 36 - LIMITS.stop_lead_s)


def test_a_reading_of_power_alone_does_not_put_the_stop_off():
    session, _ = play(a_session(limit_wh=1_000), (30, Measured(register_wh=10_400, power_w=60_000)))
    again, _ = play(session, (50, Measured(power_w=60_000)))
    assert again.stop_due_at == session.stop_due_at
    faster, _ = play(session, (50, Measured(power_w=120_000)))
    assert faster.stop_due_at == after(50)  # 600 Wh at 120 kW since the register was read: it is time


def test_the_time_a_session_was_away_is_not_counted_as_charging():
    session, _ = play(a_session(limit_wh=1_000), (30, Measured(register_wh=10_400, power_w=60_000)), (40, Lost()))
    session, _ = play(session, (200, Measured(power_w=60_000)))
    assert session.stop_due_at == after(200 + 36 - LIMITS.stop_lead_s)


def test_at_the_limit_the_stop_is_due_now_and_without_power_never():
    session, _ = play(a_session(limit_wh=400), (30, Measured(register_wh=10_400, power_w=60_000)))
    assert session.stop_due_at == after(30)
    idle, _ = play(a_session(limit_wh=400), (30, Measured(register_wh=10_100, power_w=0)))
    assert idle.stop_due_at is None


def test_the_earlier_of_both_limits_counts():
    session = replace(a_session(limit_wh=1_000, limit_at=after(20)), power_w=60_000)
    assert stop_due_at(session, NOON, LIMITS) == after(20)
    assert stop_due_at(replace(session, limit_wh=10), NOON, LIMITS) == NOON
    assert stop_due_at(replace(session, limit_wh=None, limit_at=None), NOON, LIMITS) is None


# -- what the connector says -------------------------------------------------------------------------------------------
def test_only_a_socket_that_says_Available_is_given_time():
    for status in ("Available", "Faulted", "Unavailable", "Reserved", "Charging", "Finishing"):
        assert rule.should_use_grace_period(status, True) == (status == "Available")
        assert not rule.should_use_grace_period(status, False)


@pytest.mark.parametrize("status", ["Available", "Faulted", "Unavailable", "Reserved"])
def test_a_status_suspends_and_only_energy_or_charging_resumes(status):
    running_, _ = rule.step(a_session(), rule.Measured(register_wh=10_500), NOON)
    suspended, verdict = rule.step(running_, rule.ConnectorSaid(status), NOON)
    assert (verdict, suspended.state, suspended.idle_status) == (rule.Verdict.SUSPENDED, rule.State.SUSPENDED, status)
    same, verdict = rule.step(suspended, rule.Measured(register_wh=10_500), NOON + timedelta(seconds=30))
    assert (verdict, same.state) == (rule.Verdict.NOT_YET, rule.State.SUSPENDED)
    resumed, verdict = rule.step(same, rule.Measured(register_wh=10_700), NOON + timedelta(seconds=60))
    assert (verdict, resumed.state, resumed.idle_status) == (rule.Verdict.RESUMED, rule.State.RUNNING, "")
    charging, verdict = rule.step(suspended, rule.ConnectorSaid("Charging"), NOON + timedelta(seconds=20))
    assert (verdict, charging.state) == (rule.Verdict.RESUMED, rule.State.RUNNING)
    ended, verdict = rule.step(suspended, rule.TimePassed(), NOON + timedelta(seconds=180))
    assert (verdict, ended.stop_reason, ended.disconnects_without_progress) == (rule.Verdict.ENDED, "NO_STOP", 0)


def test_a_socket_at_Available_lives_as_long_as_its_meter_runs():
    running_, _ = rule.step(a_session(), rule.Measured(register_wh=10_500), NOON)
    idle, verdict = rule.step(running_, rule.ConnectorSaid("Available", socket=True), NOON)
    assert (verdict, idle.state) == (rule.Verdict.NOT_YET, rule.State.RUNNING)
    at, one = NOON, idle
    for register in (11_600, 11_700, 11_800):
        at += timedelta(seconds=290)
        one, verdict = rule.step(one, rule.TimePassed(), at)
        assert verdict is rule.Verdict.NOT_YET
        one, verdict = rule.step(one, rule.Measured(register_wh=register), at)
        assert verdict is rule.Verdict.PROGRESS
    still, _ = rule.step(one, rule.Measured(register_wh=11_800), at + timedelta(seconds=200))
    ended, verdict = rule.step(still, rule.TimePassed(), at + timedelta(seconds=300))
    assert (verdict, ended.stop_reason) == (rule.Verdict.ENDED, "NO_STOP")
    back, _ = rule.step(idle, rule.ConnectorSaid("Charging", socket=True), NOON + timedelta(seconds=5))
    assert back.idle_since is None


def test_other_statuses_change_nothing():
    for status in ("Preparing", "Finishing", "Unknown", ""):
        same, verdict = rule.step(a_session(), rule.ConnectorSaid(status), NOON)
        assert (verdict, same) == (rule.Verdict.NOT_YET, a_session())


# -- where a session may resume, and when it is too late -----------------------------------------------------------------
def test_a_charger_that_asks_where_it_stood_goes_on():
    suspended = a_session(State.SUSPENDED, suspended_at=NOON, resume_count=1)
    resumed, verdict = step(suspended, rule.Asked(), after(60), LIMITS)
    assert (verdict, resumed.state, resumed.resume_count, resumed.suspended_at) == (Verdict.RESUMED, State.RUNNING, 2, None)
    same, verdict = step(a_session(), rule.Asked(), after(60), LIMITS)
    assert (verdict, same) == (Verdict.NOT_YET, a_session())


@pytest.mark.parametrize("event", [rule.Asked(), Measured(register_wh=10_100), Lost("booted")])
def test_at_every_point_of_resuming_900_seconds_are_enough_and_901_too_many(event):
    suspended = a_session(State.SUSPENDED, suspended_at=NOON)
    kept, _ = step(suspended, event, after(900), LIMITS)
    assert kept.live
    ended, verdict = step(suspended, event, after(901), LIMITS)
    assert (verdict, ended.stop_reason, "inferred" in ended.flags) == (Verdict.STALE_RECONNECT, "STALE_RECONNECT", True)


def test_a_line_that_is_lost_again_is_no_point_of_resuming():
    suspended = a_session(State.SUSPENDED, suspended_at=NOON)
    same, verdict = step(suspended, Lost("disconnected"), after(5000), LIMITS)
    assert (verdict, same) == (Verdict.ALREADY_SUSPENDED, suspended)
