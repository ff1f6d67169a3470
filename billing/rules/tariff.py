"""What energy costs, and how much energy a sum of money buys. Energy in Wh, money in paise, rates in paise per kWh.

A snapshot is `Tariff.snapshot()`: the price as plain data, frozen onto the payment.
"""

from dataclasses import dataclass
from typing import Any

from billing.rules.money import half_up, percent

# What a free tariff "buys": more than any vehicle takes, small enough for every column and charger.
FREE_WH = 1_000_000


@dataclass(frozen=True)
class Price:
    """One session's energy, in paise. Each part is rounded once; the total is their sum."""

    energy_charge: int
    cgst: int
    sgst: int
    igst: int

    @property
    def gst(self) -> int:
        return self.cgst + self.sgst + self.igst

    @property
    def total(self) -> int:
        return self.energy_charge + self.gst


def price(wh: int, snapshot: dict[str, Any]) -> Price:
    """The price of `wh`: the energy charge half up, then GST on it (CGST once, SGST its equal; IGST whole)."""
    assert wh >= 0, wh
    energy_charge = half_up(wh * snapshot["rate_paise_per_kwh"], 1000)
    gst_bp = snapshot["gst_bp"]
    if snapshot["igst"]:
        return Price(energy_charge, 0, 0, percent(energy_charge, gst_bp))
    cgst = half_up(energy_charge * gst_bp, 20_000)
    return Price(energy_charge, cgst, cgst, 0)


def affordable_wh(budget_paise: int, snapshot: dict[str, Any]) -> int:
    """The largest energy in Wh whose price with GST is within `budget_paise`; 0 when there is no budget."""
    rate = snapshot["rate_paise_per_kwh"]
    if budget_paise <= 0:
        return 0
    if rate == 0:
        return FREE_WH
    # The charge alone may not pass budget + 1/2 paisa: beyond that nothing can fit. The price never falls with energy.
    fits, fits_not = 0, (2 * budget_paise + 1) * 1000 // (2 * rate) + 1
    while fits_not - fits > 1:
        middle = (fits + fits_not) // 2
        if price(middle, snapshot).total <= budget_paise:
            fits = middle
        else:
            fits_not = middle
    return fits


def platform_fee(amount_paid: int, snapshot: dict[str, Any]) -> int:
    """What the rider pays for the service, out of the amount paid."""
    return percent(amount_paid, snapshot["platform_fee_bp"])
