"""When a line is dead, when its owners change too often, what one line may cost: pure."""

from datetime import UTC, datetime, timedelta

import pytest

from csms.rules import connection as rule
from csms.rules.budget import Budget, Counts
from csms.rules.connection import Takeover, Timers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def gone(now_s: float, *, heard_s: float | None = 0, sign_s: float = 0, booted: bool = True) -> str:
    return rule.gone(rule.timers(120), now_s, opened_s=0, heard_s=heard_s, sign_s=sign_s, booted=booted)


@pytest.mark.parametrize(
    ("silence_s", "timers"),
    [(120, Timers(120, 40, 25, 60)), (900, Timers(900, 300, 25, 450)), (60, Timers(60, 20, 15, 30)), (12, Timers(12, 10, 5, 15))],
)
def test_all_timers_come_from_one_number(silence_s, timers):
    assert rule.timers(silence_s) == timers


def test_two_heartbeats_may_be_lost_before_a_charger_is_silent():
    for silence_s in range(30, 2_000, 7):
        timers = rule.timers(silence_s)
        assert 3 * timers.heartbeat_s <= silence_s and timers.first_frame_s > timers.heartbeat_s
        assert timers.ping_s < silence_s / 3


def test_silence_is_counted_from_the_last_frame_or_pong():
    assert [gone(120), gone(121)] == ["", "silent"]
    assert [gone(200, sign_s=80), gone(201, sign_s=80)] == ["", "silent"]
    assert gone(200, heard_s=100, sign_s=0) == ""


def test_who_was_never_accepted_must_say_something_soon_pongs_or_not():
    assert [gone(60, heard_s=None, sign_s=60, booted=False), gone(61, heard_s=None, sign_s=60, booted=False)] == ["", "said nothing"]
    assert gone(61, heard_s=1, sign_s=60, booted=False) == ""  # it spoke: its boot may have been answered Pending


def test_a_charger_we_know_may_keep_its_own_hours_while_it_answers_pings_but_not_for_ever():
    assert gone(3_600, heard_s=None, sign_s=3_590) == ""
    assert gone(24 * 3_600, sign_s=24 * 3_600 - 10) == ""
    assert gone(26 * 3_600, sign_s=26 * 3_600 - 10) == "silent"
    assert gone(26 * 3_600, heard_s=None, sign_s=26 * 3_600 - 10) == "silent"


def test_three_takeovers_within_five_minutes_are_flapping_and_two_addresses_are_named():
    takeovers = [Takeover(NOW - timedelta(seconds=age_s), "10.0.0.1") for age_s in (10, 100, 300, 301)]
    assert rule.flapping(takeovers[:2], "10.0.0.1", NOW) is None
    assert rule.flapping(takeovers, "10.0.0.1", NOW) == (3, ["10.0.0.1"])
    assert rule.flapping(takeovers, "10.0.0.2", NOW) == (3, ["10.0.0.1", "10.0.0.2"])
    assert rule.flapping(takeovers, "", NOW) == (3, ["10.0.0.1"])


def test_a_budget_is_a_burst_that_fills_again():
    budget = Budget(3, 0.5)
    assert [budget.take(0) for _ in range(4)] == [True, True, True, False]
    assert [budget.take(1.9), budget.take(2.1), budget.take(2.2)] == [False, True, False]
    assert [budget.take(1_000) for _ in range(4)] == [True, True, True, False]
    assert [budget.take(at_s) for at_s in (1_000, 1_004, 500, 502)] == [False, True, True, True]  # a clock put back is no debt


def test_counts_forget_after_their_window_and_are_bounded():
    counts = Counts(10, keys=2)
    assert [counts.add("a", at_s) for at_s in (0, 5, 9.9, 10)] == [1, 2, 3, 1]
    for key in ("b", "c"):
        counts.add(key, 11)
    assert counts.add("a", 12) == 1  # pushed out by newer ones
