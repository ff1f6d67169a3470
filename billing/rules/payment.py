"""A payment came in: does it start a charge, go back, or wait for a person? And, at the end, who gets which paisa?"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from billing.rules.tariff import affordable_wh, price

# Razorpay refunds one rupee at least; what is less goes to a named account.
SMALLEST_REFUND_PAISE = 100

# Why a payment came back although nobody charged with it, as its payer is told.
NOT_CHARGED = {
    "not_started": "the charger did not start in time",
    "out_of_service": "the charger is out of service just now",
    "busy": "somebody else was charging here",
    "reserved": "it was reserved for somebody else",
    "unreachable": "the charger could not be reached",
    "qr_closed": "this QR code is no longer in use",
    "stale": "we heard of the payment too late to start with it",
    "too_little": "the amount was too small to charge with",
    "no_tariff": "no price was set for this charger",
    "zero_energy": "no energy was delivered",
    "under_a_rupee": "less than one rupee can neither charge nor be sent back",
}
# Every reason of a refund: also what was not used up, what a person sent back, and what a corrected bill gives back.
REFUND_REASONS = (*NOT_CHARGED, "surplus", "by_hand", "late_stop")


class Deed(StrEnum):
    START = "start"
    REFUND = "refund"
    REVIEW = "review"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a payment; `reason` is one word for people and for the refund's key."""

    deed: Deed
    reason: str = ""


@dataclass(frozen=True)
class Facts:
    """All that the verdict on a new payment rests on.

    `age_s` runs from the payment to our first hearing of it (a slow worker of ours is not the rider's staleness),
    `waited_s` from that hearing to now. `limit_wh` is what the money buys; None when no tariff applies.
    """

    amount_paise: int
    amount_refunded: int
    qr_active: bool
    age_s: float
    waited_s: float
    busy: bool
    reachable: bool
    limit_wh: int | None
    reserved: bool = False
    in_service: bool = True


def decide(facts: Facts, *, stale_s: int, start_timeout_s: int) -> Verdict:
    """Start, refund in full, or show it to a person: what cannot be refunded, or already was by other hands."""
    if facts.amount_refunded > 0:
        return Verdict(Deed.REVIEW, "refunded_elsewhere")
    if facts.amount_paise < SMALLEST_REFUND_PAISE:
        return Verdict(Deed.REVIEW, "under_a_rupee")
    why_not = (
        (not facts.qr_active, "qr_closed"),
        (facts.age_s > stale_s, "stale"),
        (facts.waited_s >= start_timeout_s, "not_started"),
        (not facts.in_service, "out_of_service"),
        (facts.busy, "busy"),
        (facts.reserved, "reserved"),
        (not facts.reachable, "unreachable"),
        (facts.limit_wh is None, "no_tariff"),
        (facts.limit_wh == 0, "too_little"),
    )
    for stands, reason in why_not:
        if stands:
            return Verdict(Deed.REFUND, reason)
    return Verdict(Deed.START)


@dataclass(frozen=True)
class Parts:
    """A bill's parts and what was not billed, in paise and Wh. `overrun_*` is what was delivered beyond the money: never the rider's."""

    billed_wh: int
    energy_charge: int
    cgst: int
    sgst: int
    igst: int
    platform_fee: int
    remainder: int
    overrun_wh: int
    overrun_paise: int

    @property
    def gst(self) -> int:
        return self.cgst + self.sgst + self.igst

    @property
    def total(self) -> int:
        return self.energy_charge + self.gst + self.platform_fee


@dataclass(frozen=True)
class Settlement(Parts):
    """Every paisa of a payment: energy_charge + cgst + sgst + igst + platform_fee + refund_due + remainder = amount_paid.

    The overrun is outside that sum.
    """

    refund_due: int


def settle(amount_paid: int, platform_fee: int, wh: int, snapshot: dict[str, Any]) -> Settlement:
    """Part `amount_paid` after a session of `wh`. No energy: everything goes back, the platform fee too.

    The rest is derived by subtraction. One rupee or more is refunded; 1-99 paise are a remainder.
    """
    assert 0 <= platform_fee <= amount_paid and wh >= 0, (amount_paid, platform_fee, wh)
    billed_wh = min(wh, affordable_wh(amount_paid - platform_fee, snapshot))
    billed = price(billed_wh, snapshot)
    fee = platform_fee if billed_wh else 0
    rest = amount_paid - billed.total - fee
    assert rest >= 0, (amount_paid, fee, billed)
    refundable = rest >= SMALLEST_REFUND_PAISE
    return Settlement(
        billed_wh=billed_wh,
        energy_charge=billed.energy_charge,
        cgst=billed.cgst,
        sgst=billed.sgst,
        igst=billed.igst,
        platform_fee=fee,
        refund_due=rest if refundable else 0,
        remainder=0 if refundable else rest,
        overrun_wh=wh - billed_wh,
        overrun_paise=price(wh, snapshot).energy_charge - billed.energy_charge,
    )


@dataclass(frozen=True)
class Credit(Parts):
    """What less energy takes off a settlement: each part of the bill, and what of it goes back. Never negative but for `remainder`.

    `remainder` is how the remainder changes: what cannot be refunded joins it, and together with it a rupee may be.
    """

    given_back: int


def credit(before: Settlement, amount_paid: int, platform_fee: int, wh: int, snapshot: dict[str, Any]) -> Credit:
    """Part the same payment once more, for less energy: what is taken off, part by part, so that GST is reversed to the paisa.

    credit.total + before.remainder = given_back + the new remainder.
    """
    after = settle(amount_paid, platform_fee, wh, snapshot)
    assert wh <= before.billed_wh + before.overrun_wh, (wh, before)
    total = before.total - after.total
    rest = total + before.remainder
    given_back = rest if total and rest >= SMALLEST_REFUND_PAISE else 0
    return Credit(
        billed_wh=before.billed_wh - after.billed_wh,
        energy_charge=before.energy_charge - after.energy_charge,
        cgst=before.cgst - after.cgst,
        sgst=before.sgst - after.sgst,
        igst=before.igst - after.igst,
        platform_fee=before.platform_fee - after.platform_fee,
        given_back=given_back,
        remainder=rest - given_back - before.remainder,
        overrun_wh=before.overrun_wh - after.overrun_wh,
        overrun_paise=before.overrun_paise - after.overrun_paise,
    )
