"""What holds for any life of a session and any owner of a line, whatever is said, in whatever order: a state machine drawn by chance."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from csms.rules import connection
from csms.rules import meter as meters
from csms.rules.connection import Standing, Takeover
from csms.rules.meter import begin
from csms.rules.session import (
    HELD,
    INTERVALS,
    Asked,
    ConnectorSaid,
    Limits,
    Lost,
    Measured,
    Session,
    State,
    Stopped,
    TimePassed,
    Verdict,
    cap_wh,
    step,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = Limits()
POWER_W = 60_000
STATUSES = [
    "Available",
    "Preparing",
    "Charging",
    "SuspendedEV",
    "SuspendedEVSE",
    "Finishing",
    "Reserved",
    "Unavailable",
    "Faulted",
    "",
    "?",
]
WAYS = {
    State.STARTED: {State.STARTED, State.RUNNING, State.SUSPENDED, State.STOPPED},
    State.RUNNING: {State.RUNNING, State.SUSPENDED, State.STOPPED},
    State.SUSPENDED: {State.SUSPENDED, State.RUNNING, State.STOPPED},
    State.STOPPED: {State.STOPPED},
}
registers = st.one_of(st.none(), st.integers(-5, 2_000), st.integers(90_000, 140_000), st.integers(0, 2**53))
powers = st.one_of(st.none(), st.integers(0, 200_000))
gaps_s = st.one_of(st.integers(0, 120), st.integers(0, 1_200), st.integers(0, 20_000))


class Life(RuleBasedStateMachine):
    """A session that anything may happen to. `true_wh` is what an honest meter would show beside the lies."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.session = Session(
            State.STARTED,
            begin(100_000),
            POWER_W,
            NOON,
            start_time=NOON,
            started_at=NOON,
            metered_at=NOON,
            register_at=NOON,
            limit_wh=20_000,
        )
        self.true_wh = 100_000
        self.ended: Session | None = None

    def said(self, event, gap_s: float) -> None:
        before = self.session
        self.now += timedelta(seconds=gap_s)
        self.session, verdict = step(before, event, self.now, LIMITS)
        self.check(before, event, verdict)

    def check(self, before: Session, event, verdict: Verdict) -> None:
        after = self.session
        assert after.state in WAYS[before.state], (before.state, event, after.state)
        assert before.meter.energy_wh >= 0
        if INTERVALS not in before.flags or INTERVALS in after.flags:
            assert after.meter.energy_wh >= before.meter.energy_wh, "only a register takes energy back, which intervals had said"
        assert before.flags - {INTERVALS} <= after.flags
        assert after.resume_count - before.resume_count in (0, 1)
        if self.ended is not None:
            assert after == self.ended and verdict in (Verdict.LATE, Verdict.ALREADY_ENDED)
        elif not after.live:
            self.ended = after
            assert verdict in (Verdict.ENDED, Verdict.STALE_RECONNECT)
            assert after.ended_at == self.now and after.stop_reason and after.stop_due_at is None
        if before.state == State.SUSPENDED and after.state == State.RUNNING:
            assert (self.now - max(before.last_activity_at, before.suspended_at)).total_seconds() <= LIMITS.max_resume_gap_s
            assert (verdict, after.resumed_at, after.suspended_at, after.idle_status) == (Verdict.RESUMED, self.now, None, "")
        if before.live and isinstance(event, Lost) and after.live:
            assert after.state == State.SUSPENDED and after.disconnects_without_progress < LIMITS.max_disconnects_without_progress
        if isinstance(event, ConnectorSaid) and before.live:
            assert after.live, "a status alone ends nothing"

    @rule(gap_s=gaps_s, share=st.floats(0, 1), clocked=st.booleans(), named=st.booleans())
    def honest_reading(self, gap_s, share, clocked, named):
        self.true_wh += int(POWER_W * share * gap_s / 3600)
        at = self.now + timedelta(seconds=gap_s) if clocked else None
        self.said(Measured(at=at, register_wh=self.true_wh, power_w=int(POWER_W * share), named=named), gap_s)

    @rule(gap_s=gaps_s, register=registers, power=powers, behind_s=st.one_of(st.none(), st.integers(-10_000, 10_000_000)))
    def any_reading(self, gap_s, register, power, behind_s):
        at = None if behind_s is None else self.now - timedelta(seconds=behind_s)
        self.said(Measured(at=at, register_wh=register, power_w=power), gap_s)

    @rule(gap_s=gaps_s, interval=st.integers(0, 5_000))
    def interval(self, gap_s, interval):
        self.said(Measured(at=self.now, interval_wh=interval), gap_s)

    @rule(gap_s=gaps_s, why=st.sampled_from(["disconnected", "booted"]))
    def lost(self, gap_s, why):
        self.said(Lost(why), gap_s)

    @rule(gap_s=gaps_s)
    def asked(self, gap_s):
        self.said(Asked(), gap_s)

    @rule(gap_s=gaps_s, status=st.sampled_from(STATUSES), socket=st.booleans())
    def connector(self, gap_s, status, socket):
        self.said(ConnectorSaid(status, socket), gap_s)

    @rule(gap_s=gaps_s, back=st.booleans())
    def time(self, gap_s, back):
        self.said(TimePassed(back), gap_s)

    @precondition(lambda self: self.session.live)
    @rule(gap_s=gaps_s, register=registers)
    def reading_of_a_stop(self, gap_s, register):
        before = self.session
        self.said(Measured(register_wh=register, power_w=POWER_W, stopping=True), gap_s)
        assert self.session.state == before.state, "what comes with a stop counts, and moves nothing"

    @precondition(lambda self: self.session.live)
    @rule(gap_s=gaps_s, register=registers, inferred=st.booleans())
    def stop(self, gap_s, register, inferred):
        self.said(Stopped(at=self.now, register_wh=register, inferred=inferred), gap_s)

    @invariant()
    def times_and_states_agree(self):
        one = self.session
        assert (one.suspended_at is not None) == (one.state == State.SUSPENDED) or not one.live
        assert one.state == State.SUSPENDED or not one.live or not one.idle_status
        assert one.live == (one.ended_at is None)

    @invariant()
    def what_cannot_be_is_held(self):
        one = self.session
        if not one.live:
            most = cap_wh(one, one.end_time, one.ended_at)
            assert most is not None and (one.meter.energy_wh <= most or HELD in one.flags)
            if one.reported_wh is not None and one.reported_wh > one.meter.energy_wh * 1.1 + 1_001:
                assert HELD in one.flags
            assert one.overrun_wh == max(0, one.meter.energy_wh - one.limit_wh)

    @invariant()
    def at_the_limit_the_stop_is_due(self):
        one = self.session
        if one.state == State.RUNNING and one.meter.energy_wh >= one.limit_wh and one.register_at == one.last_activity_at == self.now:
            assert one.stop_due_at is not None and one.stop_due_at <= self.now


Life.TestCase.settings = settings(max_examples=250, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase


@given(st.lists(st.tuples(gaps_s, st.floats(0, 1)), max_size=30), st.integers(0, 10**9))
def test_an_honest_session_is_never_held_and_counts_to_the_watt_hour(said, start):
    session, now, register = (
        Session(State.STARTED, begin(start), POWER_W, NOON, start_time=NOON, started_at=NOON, metered_at=NOON),
        NOON,
        start,
    )
    for gap_s, share in said:
        now += timedelta(seconds=gap_s)
        register += int(POWER_W * share * gap_s / 3600)
        session, _ = step(session, Measured(at=now, register_wh=register, power_w=int(POWER_W * share)), now, Limits(silence_s=10**9))
    session, _ = step(session, Stopped(at=now, register_wh=register), now)
    assert (session.meter.energy_wh, session.flags) == (register - start, frozenset())


# -- late stops and doubts ------------------------------------------------------------------------------------------------
@given(st.integers(0, 10**9), st.lists(st.integers(0, 1_000), max_size=10), registers)
def test_a_late_stop_says_what_its_segment_rose_or_nothing(start, steps, register):
    now, last = begin(start), start
    for rise in steps:
        last += rise
        now, _ = meters.advance(now, last, 1_000)
    said = meters.late(now, register)
    assert said is None or (register is not None and said == register - start >= 0)
    assert meters.late(now, last) in (None, sum(steps))
    assert meters.late(now, -1) is None and meters.late(now, None) is None


@given(
    st.integers(50_000, 90_000),
    st.lists(st.integers(1, 500), min_size=1, max_size=10),
    st.lists(st.integers(1, 500), min_size=2, max_size=10),
)
def test_after_a_reset_a_late_stop_is_counted_from_the_reset_on(start, before, after):
    now, register = begin(start), start
    for rise in before:
        register += rise
        now, _ = meters.advance(now, register, 1_000)
    register = 0
    for rise in after:
        register += rise
        now, _ = meters.advance(now, register, 1_000)
    assert meters.late(now, register) == now.energy_wh == sum(before) + register - after[0]
    assert meters.late(now, register + 3) == now.energy_wh + 3


@given(st.integers(0, 10**6), st.one_of(st.none(), st.integers(-(10**6), 10**7)), st.one_of(st.none(), st.integers(0, 10**6)))
def test_what_is_not_doubtful_is_within_the_cap_and_close_to_what_was_reported(energy, reported, cap):
    if not meters.doubtful(energy, reported, cap):
        assert cap is None or energy <= cap
        assert reported is None or reported - energy <= max(meters.REPORTED_BEYOND_WH, energy // 10)
    assert not meters.doubtful(energy, energy, energy) and not meters.doubtful(energy, None, None)


# -- whose line it is ------------------------------------------------------------------------------------------------------
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_of_any_claims_exactly_the_newest_owns(epochs):
    newest = max(epochs)
    owners = {epoch for epoch in epochs if connection.standing(epoch, newest) is Standing.OWNER}
    assert owners == {newest}


@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 100))
def test_who_was_fenced_never_owns_again(mine, newest, later):
    if connection.standing(mine, newest) is Standing.FENCED:
        assert connection.standing(mine, newest + later) is Standing.FENCED


@given(st.integers(12, 7_200), st.floats(0, 10**6), st.floats(0, 10**6), st.one_of(st.none(), st.floats(0, 10**6)), st.booleans())
def test_a_line_that_speaks_in_time_is_never_given_up_and_a_silent_one_always_is(silence_s, now_s, sign_s, heard_s, booted):
    timers = connection.timers(silence_s)
    sign_s, heard_s = min(sign_s, now_s), None if heard_s is None else min(heard_s, now_s)
    said = connection.gone(timers, now_s, opened_s=0, heard_s=heard_s, sign_s=sign_s, booted=booted)
    spoke_s = heard_s or 0.0
    if now_s - spoke_s <= min(timers.heartbeat_s, timers.first_frame_s):
        assert said == ""
    if now_s - max(spoke_s, sign_s) > timers.silence_s:
        assert said != ""
    # Giving up is for good: later, with nothing new, it is still given up.
    if said:
        assert connection.gone(timers, now_s + 1, opened_s=0, heard_s=heard_s, sign_s=sign_s, booted=booted)


@given(
    st.lists(st.tuples(st.integers(0, 900), st.sampled_from(["10.0.0.1", "10.0.0.2", ""])), max_size=12), st.sampled_from(["10.0.0.1", ""])
)
def test_flapping_is_three_within_five_minutes_in_any_order(ages, address):
    takeovers = [Takeover(NOON - timedelta(seconds=age_s), where) for age_s, where in ages]
    recent = [one for one in takeovers if NOON - one.at <= timedelta(seconds=300)]
    said = connection.flapping(takeovers, address, NOON)
    assert said == connection.flapping(takeovers[::-1], address, NOON)
    assert (said is not None) == (len(recent) >= 3)
    assert said is None or (said[0] == len(recent) and "" not in said[1] and said[1] == sorted(set(said[1])))


def test_the_machine_can_fail():
    """The checks above bite: a rule that revives a session, or one that lets energy fall, is found."""
    life = Life()
    life.said(Stopped(at=NOON, register_wh=100_500), 60)
    life.session = replace(life.session, state=State.RUNNING)
    for broken in (lambda: life.said(Measured(register_wh=100_600), 5), lambda: life.check(life.ended, Asked(), Verdict.RESUMED)):
        try:
            broken()
        except AssertionError:
            continue
        raise RuntimeError("a revived session was not noticed")
