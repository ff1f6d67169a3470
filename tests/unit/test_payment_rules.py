"""The verdict on a payment, and where every paisa of it ends."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rules.payer import mask_vpa, real_phone, real_vpa
from billing.rules.payment import NOT_CHARGED, REFUND_REASONS, Deed, Facts, Verdict, decide, settle
from billing.rules.tariff import affordable_wh, platform_fee, price
from tests.unit.test_tariff import STANDARD, snapshots

GOOD = Facts(
    amount_paise=50_000,
    amount_refunded=0,
    qr_active=True,
    age_s=2,
    waited_s=1,
    busy=False,
    reachable=True,
    limit_wh=27_000,
)
LIMITS = {"stale_s": 300, "start_timeout_s": 300}


def test_a_fresh_payment_at_a_free_connector_starts():
    assert decide(GOOD, **LIMITS) == Verdict(Deed.START)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"qr_active": False}, "qr_closed"),
        ({"age_s": 301}, "stale"),
        ({"waited_s": 300}, "not_started"),
        ({"in_service": False}, "out_of_service"),
        ({"busy": True}, "busy"),
        ({"reachable": False}, "unreachable"),
        ({"limit_wh": None}, "no_tariff"),
        ({"limit_wh": 0}, "too_little"),
    ],
)
def test_what_cannot_start_goes_back(change, reason):
    assert decide(replace(GOOD, **change), **LIMITS) == Verdict(Deed.REFUND, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"amount_refunded": 1}, "refunded_elsewhere"), ({"amount_paise": 99}, "under_a_rupee")],
)
def test_what_a_machine_should_not_touch_waits_for_a_person(change, reason):
    assert decide(replace(GOOD, **change, busy=True), **LIMITS) == Verdict(Deed.REVIEW, reason)


@given(
    facts=st.builds(
        Facts,
        amount_paise=st.integers(1, 200),
        amount_refunded=st.sampled_from([0, 1]),
        qr_active=st.booleans(),
        age_s=st.floats(0, 400),
        waited_s=st.floats(0, 400),
        busy=st.booleans(),
        reachable=st.booleans(),
        limit_wh=st.sampled_from([None, 0, 27_000]),
        reserved=st.booleans(),
        in_service=st.booleans(),
    )
)
def test_whatever_is_decided_has_words_for_the_payer_and_a_place_in_the_filters(facts):
    verdict = decide(facts, **LIMITS)
    if verdict.deed is Deed.REFUND:
        assert verdict.reason in NOT_CHARGED and verdict.reason in REFUND_REASONS
    elif verdict.deed is Deed.REVIEW:
        assert verdict.reason in (*REFUND_REASONS, "refunded_elsewhere")


def test_five_minutes_to_the_second_are_not_stale():
    assert decide(replace(GOOD, age_s=300), **LIMITS).deed is Deed.START


def test_five_hundred_rupees_and_twenty_units():
    end = settle(50_000, 1_000, 20_000, STANDARD)
    assert (end.energy_charge, end.cgst, end.sgst, end.platform_fee, end.refund_due) == (30_500, 2_745, 2_745, 1_000, 13_010)
    assert (end.remainder, end.overrun_wh, end.overrun_paise) == (0, 0, 0)


def test_no_energy_gives_everything_back_the_platform_fee_too():
    end = settle(50_000, 1_000, 0, STANDARD)
    assert (end.total, end.refund_due) == (0, 50_000)


def test_less_than_a_rupee_is_a_remainder():
    wh = affordable_wh(49_000, STANDARD)
    end = settle(50_000, 1_000, wh, STANDARD)
    assert end.refund_due == 0
    assert 0 <= end.remainder < 100


def test_the_rider_never_pays_for_the_overrun():
    limit = affordable_wh(49_000, STANDARD)
    end, exact = settle(50_000, 1_000, limit + 400, STANDARD), settle(50_000, 1_000, limit, STANDARD)
    assert (end.total, end.billed_wh, end.overrun_wh) == (exact.total, limit, 400)
    assert end.overrun_paise == price(limit + 400, STANDARD).energy_charge - price(limit, STANDARD).energy_charge > 0


@given(st.integers(1, 10_000_000), st.integers(0, 500_000), snapshots)
def test_every_paisa_has_one_place(amount, wh, snapshot):
    end = settle(amount, platform_fee(amount, snapshot), wh, snapshot)
    parts = (end.energy_charge, end.cgst, end.sgst, end.igst, end.platform_fee, end.refund_due, end.remainder)
    assert sum(parts) == amount
    assert all(part >= 0 for part in parts)
    assert end.cgst == end.sgst
    assert end.remainder < 100 and (end.refund_due == 0 or end.refund_due >= 100)
    assert end.billed_wh + end.overrun_wh == wh
    assert end.overrun_paise >= 0


@given(st.integers(100, 10_000_000), st.integers(0, 500_000), st.integers(0, 500_000), snapshots)
def test_more_energy_never_gives_more_back(amount, one, other, snapshot):
    less, more = sorted((one, other))
    fee = platform_fee(amount, snapshot)
    first, second = settle(amount, fee, less, snapshot), settle(amount, fee, more, snapshot)
    assert first.refund_due + first.remainder >= second.refund_due + second.remainder


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ("+919845012345", "+919845012345"),
        ("9845012345", "+919845012345"),
        ("098450 12345", "+919845012345"),
        ("+919999999999", None),
        ("+910000000000", None),
        ("+919000090000", None),
        ("+919876543210", None),
        ("+14155550123", None),
        ("", None),
        (None, None),
        (9845012345, None),
        ("९८४५०१२३४५", None),
    ],
)
def test_a_phone_is_a_real_indian_mobile_or_nothing(contact, expected):
    assert real_phone(contact) == expected


def test_a_upi_id_is_compared_in_lower_case_and_shown_in_half():
    assert real_vpa(" Asha.Rao@OkAxis ") == "asha.rao@okaxis"
    assert [real_vpa(odd) for odd in (None, "", "asha", "@bank", 7, "a b@bank")] == [None] * 6
    assert (mask_vpa("asha.rao@okaxis"), mask_vpa(""), mask_vpa("odd")) == ("as…@okaxis", "", "…")
