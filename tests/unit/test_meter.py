"""Energy from registers that lie: properties that hold for any register, and the lies met in the field by name (Q95-Q102)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.rules import meter
from csms.rules.meter import Meter, Verdict, advance, begin, finish, plausible_wh, seconds_to_limit

registers = st.one_of(st.none(), st.integers(-1_000, 2_000_000), st.integers(0, 2**53))
caps_wh = st.integers(0, 100_000)
samples = st.lists(st.tuples(registers, caps_wh), max_size=40)
steps_wh = st.lists(st.integers(0, 1_000), min_size=1, max_size=30)
CAP_WH = 1_000


def read(meter: Meter, *registers_wh: int | None, cap_wh: int = CAP_WH) -> Meter:
    for register_wh in registers_wh:
        meter, _ = advance(meter, register_wh, cap_wh)
    return meter


def ramp(start_wh: int, steps: list[int]) -> list[int]:
    """An honest register: each reading higher than the last by its step."""
    found = []
    for step in steps:
        start_wh += step
        found.append(start_wh)
    return found


# -- whatever is read -----------------------------------------------------------------------------------------------
@given(registers, samples, registers, caps_wh)
def test_energy_is_never_negative_never_falls_and_never_exceeds_what_can_have_flowed(start, seen, stop, last_cap):
    now, room_wh = begin(start), 0
    for register, cap in seen:
        before = now.energy_wh
        now, _ = advance(now, register, cap)
        room_wh += cap
        assert 0 <= before <= now.energy_wh <= room_wh
    ended, _ = finish(now, stop, last_cap)
    assert now.energy_wh <= ended.energy_wh <= room_wh + last_cap


@given(st.integers(0, 10**9), steps_wh)
def test_an_honest_register_counts_to_the_watt_hour(start, steps):
    ended, verdict = finish(read(begin(start), *ramp(start, steps)), start + sum(steps), CAP_WH)
    assert ended.energy_wh == sum(steps)
    assert verdict in (Verdict.SAME, Verdict.UNKNOWN)  # 0 at the end of nothing is no register


@given(st.integers(5_000, 10**6), steps_wh, st.data())
def test_one_odd_sample_changes_nothing(start, steps, data):
    honest = ramp(start, steps)
    where = data.draw(st.integers(0, len(honest) - 1))
    odd = data.draw(st.one_of(st.just(0), st.none(), st.integers(0, start - 20), st.integers(honest[-1] + 10 * CAP_WH, 2**53)))
    disturbed = [*honest[:where], odd, *honest[where:]]
    assert finish(read(begin(start), *disturbed), honest[-1], CAP_WH)[0].energy_wh == sum(steps)


@given(st.integers(50_000, meter.IN_KWH_FROM_WH - 30_001), steps_wh, st.lists(st.integers(0, 500), min_size=2, max_size=20))
def test_a_reset_keeps_what_was_counted_before_it(start, before, after):
    reset = ramp(0, after)
    ended = read(begin(start), *ramp(start, before), *reset)
    # Only what flowed before the first reading after the reset is not known.
    assert ended.energy_wh == sum(before) + reset[-1] - reset[0]


@given(
    st.integers(1, 10**6),
    steps_wh,
    st.lists(st.tuples(st.integers(0, 29), st.integers(1, 4)), max_size=3),
    st.lists(st.booleans(), max_size=40),
)
def test_a_register_that_drops_out_for_any_number_of_samples_makes_no_energy(start, steps, gaps, doubled):
    honest = ramp(start, steps)
    seen = list(honest)
    for where, samples_missing in gaps:
        seen[min(where, len(seen)) : min(where, len(seen))] = [0] * samples_missing
    now = begin(start)
    for place, register in enumerate(seen):
        now, verdict = advance(now, register, CAP_WH)
        odd = verdict in (Verdict.WENT_BACK, Verdict.JUMPED)
        if place < len(doubled) and doubled[place]:
            now, _ = advance(now, register, CAP_WH, again=odd)
    assert finish(now, honest[-1], CAP_WH)[0].energy_wh <= sum(steps)


@given(samples)
def test_reading_the_same_value_again_is_nothing(seen):
    now = begin(1_000)
    for register, cap in seen:
        now, _ = advance(now, register, cap)
    assert read(now, now.last_wh) == Meter(**{**vars(now), "pending_wh": None})


@given(st.integers(0, 500_000), st.floats(0, 10**6))
def test_what_is_plausible_grows_with_time_and_allows_full_power(power_w, elapsed_s):
    assert plausible_wh(power_w, elapsed_s) >= power_w * int(elapsed_s) // 3600
    assert plausible_wh(power_w, elapsed_s + 60) >= plausible_wh(power_w, elapsed_s) >= 100


# -- by name -------------------------------------------------------------------------------------------------------
def test_Q95_a_stop_below_the_start_is_never_negative():
    ended, verdict = finish(begin(8_000), 300, CAP_WH)
    assert (ended.energy_wh, verdict) == (0, Verdict.WENT_BACK)


def test_Q96_a_stop_of_minus_one_or_zero_means_unknown():
    charged = read(begin(0), 500, 900)
    for unknown in (-1, 0, None):
        ended, verdict = finish(charged, unknown, CAP_WH)
        assert (ended.energy_wh, verdict) == (900, Verdict.UNKNOWN)


def test_Q97_a_start_of_zero_and_then_the_lifetime_register():
    now = read(begin(0), 910_000)
    assert now.energy_wh == 0
    assert finish(read(now, 910_400, 910_900), 911_000, CAP_WH)[0].energy_wh == 1_000


def test_Q97_no_start_at_all_counts_from_the_first_sample():
    now, verdict = advance(begin(None), 5_000, CAP_WH)
    assert verdict == Verdict.FIRST
    assert read(now, 5_700).energy_wh == 700


def test_Q98_kilowatt_hours_called_watt_hours_never_make_energy_from_nothing():
    # Starts in Wh, samples in kWh: 1,234,000 Wh, then 1,234 and 1,235 "Wh".
    now, verdict = advance(read(begin(1_234_000), 1_234), 1_235, CAP_WH)
    assert (verdict, now.energy_wh) == (Verdict.IN_KWH, 0)
    assert finish(now, 1_234_800, CAP_WH)[0].energy_wh == 800
    assert finish(now, 1_234, CAP_WH) == (now, Verdict.IN_KWH)


def test_Q98_a_spike_between_kilowatt_hours_called_watt_hours_is_no_energy():
    # A spike of 500 kWh is one of 500 "Wh", which may well have flowed.
    spiked = read(begin(2_605_098), 2_605, 2_605, 3_105, 2_605, 2_606, 3_106, 2_606)
    assert spiked.energy_wh == 0
    assert finish(spiked, 2_587_161, CAP_WH)[0].energy_wh == 0  # a register that went back, in the unit of the start


def test_a_register_that_was_set_to_zero_passes_where_the_one_before_would_be_in_kilowatt_hours():
    assert read(begin(1_234_000), 0, 700, 1_234, 1_900).energy_wh == 1_900


@pytest.mark.parametrize(("told_wh", "energy_wh"), [(12_900, 12_900), (12, None), (20, None), (163, None), (5_000, 5_000), (0, None)])
def test_Q98_a_late_stop_in_kilowatt_hours_says_nothing(told_wh, energy_wh):
    """12 kWh were counted from 0; it charged on while it was away, and its stop is in kWh."""
    assert meter.late(read(begin(0), 6_000, 12_000, cap_wh=7_000), told_wh) == energy_wh


def test_Q99_a_reset_in_the_middle_is_a_new_segment():
    now = read(begin(40_000), 40_800, 41_500)
    now, first = advance(now, 100, CAP_WH)
    now, second = advance(now, 700, CAP_WH)
    assert (first, second, now.energy_wh) == (Verdict.WENT_BACK, Verdict.NEW_SEGMENT, 2_100)


def test_Q100_a_register_that_drops_out_for_one_sample_is_no_reset():
    assert read(begin(40_000), 40_800, 0, 41_500).energy_wh == 1_500


def test_Q100_a_register_that_drops_out_for_several_samples_goes_on_from_before():
    now = read(begin(488), 488, 0, 0, 0)
    now, verdict = advance(now, 723, CAP_WH)
    assert (verdict, now.energy_wh) == (Verdict.CAME_BACK, 235)
    assert read(now, 843).energy_wh == 355


def test_an_odd_sample_said_twice_does_not_confirm_itself():
    once, verdict = advance(begin(488), 0, CAP_WH)
    twice, same = advance(once, 0, CAP_WH, again=True)
    assert (verdict, same, twice) == (Verdict.WENT_BACK, Verdict.WENT_BACK, once)


def test_Q101_rising_after_the_end_is_the_sessions_matter_not_the_meters():
    # The meter would count on; the session's rule calls these late and does not ask (test_session_rule).
    assert read(begin(0), 500, 900).energy_wh == 900


def test_Q102_the_odometer_after_a_placeholder_is_never_energy():
    ended, verdict = finish(begin(0), 910_000, plausible_wh(22_000, 3_600))
    assert (ended.energy_wh, verdict) == (0, Verdict.JUMPED)


def test_two_spikes_apart_from_each_other_never_agree():
    assert read(begin(0), 500, 900_000, 50_000_000, 7_000_000).energy_wh == 500


def test_a_wobble_of_a_few_watt_hours_is_no_reset():
    now, verdict = advance(read(begin(0), 500), 495, CAP_WH)
    assert (now.energy_wh, verdict) == (500, Verdict.WOBBLED)
    assert read(now, 520).energy_wh == 520


def test_seconds_to_the_limit():
    assert seconds_to_limit(400, 1_000, 60_000) == 36
    assert seconds_to_limit(1_000, 1_000, 60_000) == 0
    assert seconds_to_limit(0, 1_000, 0) is None
    assert seconds_to_limit(0, 1_000, None) is None
    assert meter.seconds_to_limit(0, 1_000, -5) is None
