"""One session's money, shared to the paisa: examples worked by hand, and what holds for every amount."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules import payment, tariff
from franchise.rules import gate
from franchise.rules.share import Share, Terms, split

KAVERI = Terms(share_bp=7000, tds_bp=10, fee_borne_by_franchisee=True)
SNAPSHOT = {"rate_paise_per_kwh": 1525, "gst_bp": 1800, "igst": False, "platform_fee_bp": 0}


def of_bill(amount_paid: int, wh: int, snapshot: dict, razorpay_fee: int | None, terms: Terms) -> tuple[Share, payment.Settlement]:
    """A payment billed as billing bills it, then shared."""
    bill = payment.settle(amount_paid, tariff.platform_fee(amount_paid, snapshot), wh, snapshot)
    share = split(
        amount_paid=amount_paid,
        platform_fee=bill.platform_fee,
        refund=bill.refund_due + bill.remainder,
        gst=bill.gst,
        energy_charge=bill.energy_charge,
        razorpay_fee=razorpay_fee,
        terms=terms,
    )
    return share, bill


def test_five_hundred_rupees_and_twenty_units():
    """Rs 500 paid, 20.000 kWh at Rs 15.25 + 18 %: Rs 305 of energy, 54.90 GST; Razorpay took Rs 11.80."""
    share, _ = of_bill(500_00, 20_000, SNAPSHOT, 11_80, KAVERI)
    assert (share.gross, share.refund, share.gst_collected, share.pg_fee) == (500_00, 140_10, 54_90, 11_80)
    assert share.net_excl_gst == 305_00 - 11_80
    assert share.share == 205_24  # 70 % of 293.20
    assert share.platform_commission == 87_96
    assert share.tds == 21  # 0.1 % of 205.24, half up
    assert share.payable == 205_03


def test_the_platform_bears_the_fee_when_the_contract_says_so():
    terms = Terms(share_bp=7000, tds_bp=10, fee_borne_by_franchisee=False)
    known, _ = of_bill(500_00, 20_000, SNAPSHOT, 11_80, terms)
    unknown, _ = of_bill(500_00, 20_000, SNAPSHOT, None, terms)
    assert known == unknown and known.final
    assert (known.pg_fee, known.net_excl_gst, known.share) == (0, 305_00, 213_50)


def test_an_unknown_fee_is_not_a_fee_of_zero():
    waiting, _ = of_bill(500_00, 20_000, SNAPSHOT, None, KAVERI)
    free, _ = of_bill(500_00, 20_000, SNAPSHOT, 0, KAVERI)
    assert not waiting.final and free.final
    assert waiting.payable == free.payable


def test_a_fee_larger_than_the_energy_is_the_platforms_loss():
    """Rs 500 paid, 40 Wh taken (61 paise): the fee of Rs 11.80 is not the franchisee's debt."""
    share, bill = of_bill(500_00, 40, SNAPSHOT, 11_80, KAVERI)
    assert bill.energy_charge == 61
    assert share.net_excl_gst == 61 - 11_80
    assert (share.share, share.tds, share.payable) == (0, 0, 0)
    assert share.platform_commission == share.net_excl_gst and share.loss == 11_19


def test_no_energy_shares_nothing():
    share, bill = of_bill(500_00, 0, SNAPSHOT, 0, KAVERI)
    assert bill.refund_due == 500_00 and share.gross == share.refund == 500_00
    assert share.net_excl_gst == share.payable == share.loss == 0


def test_a_bill_that_does_not_explain_the_payment_is_refused():
    with pytest.raises(ValueError, match="does not explain"):
        split(amount_paid=500_00, platform_fee=0, refund=140_10, gst=54_90, energy_charge=304_99, razorpay_fee=0, terms=KAVERI)


bp = st.integers(0, 10_000)
snapshots = st.fixed_dictionaries(
    {
        "rate_paise_per_kwh": st.integers(1, 5_000),
        "gst_bp": st.sampled_from([0, 500, 1800, 2800]),
        "igst": st.booleans(),
        "platform_fee_bp": st.integers(0, 2_000),
    }
)


@given(
    amount_paid=st.integers(100, 1_00_000_00),
    wh=st.integers(0, 200_000),
    snapshot=snapshots,
    fee=st.none() | st.integers(0, 5_000_00),
    share_bp=bp,
    tds_bp=st.integers(0, 2_000),
    borne=st.booleans(),
)
def test_every_paisa_has_one_place(amount_paid, wh, snapshot, fee, share_bp, tds_bp, borne):
    share, bill = of_bill(amount_paid, wh, snapshot, fee, Terms(share_bp, tds_bp, borne))
    # The rider's money: energy, GST, platform fee, what was not used.
    assert share.gross + bill.platform_fee == amount_paid
    assert share.net_excl_gst == bill.energy_charge - share.pg_fee
    # The net parts without a rest, and the share never passes it.
    assert share.platform_commission + share.tds + share.payable == share.net_excl_gst
    assert 0 <= share.payable <= share.share <= max(0, share.net_excl_gst)
    assert share.tds <= share.share
    assert share.loss == (share.pg_fee - bill.energy_charge if share.pg_fee > bill.energy_charge else 0)
    # Rounding moves less than a paisa.
    if share.net_excl_gst > 0:
        assert abs(share.share * 10_000 - share.net_excl_gst * share_bp) <= 5_000
        assert abs(share.tds * 10_000 - share.share * tds_bp) <= 5_000
    if not borne:
        assert share.pg_fee == 0 and share.final


@given(net=st.lists(st.integers(1, 10_000), min_size=1, max_size=60), share_bp=bp)
def test_rounding_does_not_add_up_to_a_salami(net, share_bp):
    """Over many small sessions the two sides still sum to the whole."""
    terms = Terms(share_bp, 0, False)
    shares = [split(amount_paid=n, platform_fee=0, refund=0, gst=0, energy_charge=n, razorpay_fee=None, terms=terms) for n in net]
    assert sum(s.payable + s.platform_commission for s in shares) == sum(net)


def test_gates_are_named_in_the_order_they_matter():
    now = datetime(2026, 1, 5, tzinfo=UTC)
    open_ = {"transfers_on": True, "held": False, "account_status": "activated", "usable_from": None, "now": now}
    assert gate.closed(**open_) == ""
    assert gate.closed(**{**open_, "usable_from": now}) == ""
    assert gate.closed(**{**open_, "usable_from": now + timedelta(seconds=1)}) == gate.COOLING
    assert gate.closed(**{**open_, "account_status": "under_review"}) == gate.NOT_ACTIVATED
    assert gate.closed(**{**open_, "account_status": None}) == gate.NO_ACCOUNT
    assert gate.closed(**{**open_, "account_status": None, "held": True}) == gate.HELD
    assert gate.closed(**{**open_, "transfers_on": False}) == gate.TRANSFERS_OFF
