"""Charging profiles: what is sent for what is wanted."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms import calls
from csms.rules import profile as rule
from csms.rules.habits import STANDARD, Habits
from csms.rules.profile import Step, Way, Wish

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
BEGAN = datetime(2026, 11, 21, 9, 59, tzinfo=UTC)
MAX, DEFAULT, TX = "ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"


def wish(limit="7000", unit="W", purpose=DEFAULT, **fields):
    return Wish(purpose, (Step(0, Decimal(limit)),), unit, **fields)


WATTS = Way("Absolute", "W", 0)


def sent(wanted, way=WATTS, phases=1, **fields):
    given_ = {"profile_id": 7, "connector_no": 1, "transaction_id": None, "phases": phases, "began": BEGAN, **fields}
    payload = rule.payload(wanted, way, **given_)
    return calls.check("SetChargingProfile", payload)["csChargingProfiles"]


@pytest.mark.parametrize(("limit", "number"), [("6.25", 6.2), ("6.29", 6.2), ("6", 6), ("16.0", 16), ("0.09", 0), ("31.99", 31.9)])
def test_P05_a_limit_is_cut_to_one_decimal_and_never_rounded_up(limit, number):
    assert sent(wish(limit, "A"), Way("Absolute", "A", 0))["chargingSchedule"]["chargingSchedulePeriod"] == [
        {"startPeriod": 0, "limit": number}
    ]


@given(st.decimals(0, 100_000, places=3), st.sampled_from("WA"), st.sampled_from("WA"), st.sampled_from([0, 1, 3]))
def test_what_is_sent_never_allows_more_than_what_is_wanted(limit, unit, into, phases):
    period = sent(wish(str(limit), unit), Way("Absolute", into, 0), phases)["chargingSchedule"]["chargingSchedulePeriod"][0]
    back = rule.converted(Decimal(str(period["limit"])), into, unit, phases)
    assert back <= limit + Decimal("0.0001")


def test_watts_are_for_all_phases_and_amperes_for_each():
    assert rule.converted(Decimal(11_040), "W", "A", 3) == 16
    assert rule.converted(Decimal(16), "A", "W", 1) == 3_680
    assert rule.converted(Decimal(2_300), "W", "A", 0) == 10


def test_the_unit_is_the_one_the_charger_names():
    first = next(rule.ways(wish(), STANDARD, frozenset({"A"}), None))
    assert first.unit == "A"
    assert next(rule.ways(wish(), STANDARD, frozenset({"A", "W"}), None)).unit == "W"
    assert next(rule.ways(wish(), Habits(rate_unit="A"), frozenset({"W"}), None)).unit == "A"


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ("Current", {"A"}),
        ("Power", {"W"}),
        ("Current,Power", {"A", "W"}),
        ("W", {"W"}),
        ('"Watt" ; A', {"A", "W"}),
        ("", set()),
        ("?", set()),
    ],
)
def test_Q140_how_chargers_write_their_units(said, units):
    assert rule.units_of(said) == units


def test_Q166_the_stack_level_is_never_above_what_the_charger_allows():
    assert next(rule.ways(wish(), Habits(stack_level=5), frozenset(), 3)).stack_level == 3
    assert next(rule.ways(wish(), Habits(stack_level=5), frozenset(), None)).stack_level == 5


def test_Q167_a_kind_that_is_refused_is_followed_by_the_other_but_the_whole_charger_is_never_relative():
    kinds = [way.kind for way in rule.ways(wish(), STANDARD, frozenset(), None)]
    assert kinds[:2] == ["Absolute", "Relative"]
    assert {way.kind for way in rule.ways(wish(purpose=MAX), Habits(profile_kind="Relative"), frozenset(), None)} == {"Absolute"}
    assert {way.kind for way in rule.ways(wish(daily=True), STANDARD, frozenset(), None)} == {"Recurring"}


def test_no_form_is_tried_twice():
    found = list(rule.ways(wish(), Habits(stack_level=2), frozenset({"A", "W"}), None))
    assert len(found) == len(set(found)) > 3


def test_Q175_an_absolute_one_began_a_moment_ago_and_a_relative_one_names_no_beginning():
    assert sent(wish())["chargingSchedule"]["startSchedule"] == "2026-11-21T09:59:00Z"
    assert "startSchedule" not in sent(wish(), Way("Relative", "W", 0))["chargingSchedule"]


def test_R29_only_a_limit_of_one_transaction_names_it():
    assert sent(wish(purpose=TX), transaction_id=42)["transactionId"] == 42
    assert "transactionId" not in sent(wish(purpose=DEFAULT), transaction_id=42)


def test_a_daily_one_repeats_and_begins_at_midnight():
    midnight = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
    assert rule.begins(wish(daily=True), NOW, midnight) == midnight
    assert sent(wish(daily=True), Way("Recurring", "W", 0))["recurrencyKind"] == "Daily"


def test_steps_as_people_write_them():
    assert rule.steps_of("22000", daily=False) == (Step(0, Decimal(22_000)),)
    assert rule.steps_of("30 11000\n0 22000\n", daily=False) == (Step(0, Decimal(22_000)), Step(1800, Decimal(11_000)))
    assert rule.steps_of("00:00 22000\n18:30 7000.5", daily=True) == (Step(0, Decimal(22_000)), Step(66_600, Decimal("7000.5")))


@pytest.mark.parametrize(
    ("text", "daily"),
    [
        ("", False),
        ("x", False),
        ("-5", False),
        ("5 10", False),
        ("0 1\n0 2", False),
        ("1 2 3", False),
        ("25:00 7", True),
        ("18 7", True),
        ("18:00 7", True),
    ],
)
def test_steps_that_are_none_are_told(text, daily):
    with pytest.raises(ValueError, match=r"\."):
        rule.steps_of(text, daily=daily)
