"""Arithmetic on whole paise: where a fraction is rounded, and how a sum is parted without losing one."""

from collections.abc import Sequence


def half_up(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest whole number, a half away from zero. No float on the way."""
    assert denominator > 0, denominator
    sign = -1 if numerator < 0 else 1
    return sign * ((2 * abs(numerator) + denominator) // (2 * denominator))


def percent(amount: int, bp: int) -> int:
    """`bp` basis points (1/100 of a percent) of an amount in paise, half up."""
    return half_up(amount * bp, 10_000)


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """Part `total` paise by `weights` so that the parts sum to it exactly.

    Every part is its exact share rounded down, or one paisa more; the spare paise go to the largest fractions, the
    earlier part first among equals. All weights zero: everything goes to the first part.
    """
    assert weights and total >= 0 and all(weight >= 0 for weight in weights), (total, weights)
    whole = sum(weights)
    if whole == 0:
        return [total, *[0] * (len(weights) - 1)]
    parts = [total * weight // whole for weight in weights]
    by_fraction = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in by_fraction[: total - sum(parts)]:
        parts[i] += 1
    return parts
