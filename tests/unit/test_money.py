"""Whole paise: one place rounds, and parts always make the whole."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.money import half_up, largest_remainder, percent

paise = st.integers(0, 10**12)


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"), [(0, 7, 0), (1, 2, 1), (3, 2, 2), (5, 4, 1), (7, 4, 2), (-1, 2, -1), (-5, 4, -1)]
)
def test_half_goes_up(numerator, denominator, expected):
    assert half_up(numerator, denominator) == expected


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6))
def test_half_up_is_never_more_than_half_away(numerator, denominator):
    off = abs(Fraction(half_up(numerator, denominator)) - Fraction(numerator, denominator))
    assert off <= Fraction(1, 2)
    assert half_up(-numerator, denominator) == -half_up(numerator, denominator)


@given(paise, st.integers(0, 10_000))
def test_a_percentage_of_an_amount_is_within_it(amount, bp):
    assert 0 <= percent(amount, bp) <= amount


@given(paise, st.lists(st.integers(0, 10**9), min_size=1, max_size=12))
def test_parts_make_the_whole_and_are_fair(total, weights):
    parts = largest_remainder(total, weights)
    assert sum(parts) == total
    if whole := sum(weights):
        for part, weight in zip(parts, weights, strict=True):
            assert abs(Fraction(part) - Fraction(total * weight, whole)) < 1


def test_the_spare_paisa_goes_to_the_largest_fraction():
    assert largest_remainder(100, [1, 1, 1]) == [34, 33, 33]
    assert largest_remainder(10, [0, 3, 4]) == [0, 4, 6]
    assert largest_remainder(7, [0, 0]) == [7, 0]
