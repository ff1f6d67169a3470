"""What energy costs and what money buys are the same curve, read from two sides."""

from hypothesis import given
from hypothesis import strategies as st

from billing.rules.tariff import FREE_WH, affordable_wh, platform_fee, price

STANDARD = {"rate_paise_per_kwh": 1525, "gst_bp": 1800, "igst": False, "platform_fee_bp": 200}
snapshots = st.fixed_dictionaries(
    {
        "rate_paise_per_kwh": st.integers(1, 20_000),
        "gst_bp": st.integers(0, 2800),
        "igst": st.booleans(),
        "platform_fee_bp": st.integers(0, 1000),
    }
)
energies = st.integers(0, 2_000_000)


def test_twenty_units_at_the_standard_rate():
    bill = price(20_000, STANDARD)
    assert (bill.energy_charge, bill.cgst, bill.sgst, bill.igst) == (30_500, 2_745, 2_745, 0)
    assert bill.total == 35_990


def test_between_states_the_tax_is_one_amount():
    bill = price(20_000, {**STANDARD, "igst": True})
    assert (bill.cgst, bill.sgst, bill.igst, bill.total) == (0, 0, 5_490, 35_990)


@given(energies, snapshots)
def test_the_halves_are_equal_and_the_parts_sum(wh, snapshot):
    bill = price(wh, snapshot)
    assert bill.cgst == bill.sgst
    assert bill.total == bill.energy_charge + bill.cgst + bill.sgst + bill.igst
    assert (bill.igst == 0) or (bill.cgst == 0)


@given(energies, energies, snapshots)
def test_more_energy_never_costs_less(one, other, snapshot):
    less, more = sorted((one, other))
    assert price(less, snapshot).total <= price(more, snapshot).total


@given(st.integers(1, 10_000_000), snapshots)
def test_what_the_money_buys_is_exact(budget, snapshot):
    wh = affordable_wh(budget, snapshot)
    assert price(wh, snapshot).total <= budget < price(wh + 1, snapshot).total


def test_no_money_buys_nothing_and_a_free_tariff_has_an_end():
    assert affordable_wh(0, STANDARD) == affordable_wh(-5, STANDARD) == 0
    assert affordable_wh(1, {**STANDARD, "rate_paise_per_kwh": 0}) == FREE_WH


def test_the_platform_fee_is_taken_from_the_amount_paid():
    assert platform_fee(50_000, STANDARD) == 1_000
    assert platform_fee(125, STANDARD) == 3  # 2.5 paise: half up
