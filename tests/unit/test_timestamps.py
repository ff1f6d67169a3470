"""Charger clocks: a table of what they write (B20), and what we answer."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms import timestamps
from csms.timestamps import plausible, read, write

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-03-01T11:59:07Z", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01t11:59:07z", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01 11:59:07", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T11:59:07", utc(2026, 3, 1, 11, 59, 7)),
        ("  2026-03-01T11:59:07Z  ", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T11:59Z", utc(2026, 3, 1, 11, 59)),
        ("2026-3-1T1:59:07Z", utc(2026, 3, 1, 1, 59, 7)),
        ("2026-03-01T11:59:07.5Z", utc(2026, 3, 1, 11, 59, 7, 500_000)),
        ("2026-03-01T11:59:07,25Z", utc(2026, 3, 1, 11, 59, 7, 250_000)),
        ("2026-03-01T11:59:07.123456Z", utc(2026, 3, 1, 11, 59, 7, 123_456)),
        ("2026-03-01T11:59:07.123456789Z", utc(2026, 3, 1, 11, 59, 7, 123_456)),
        ("2026-03-01T11:59:07.1234567890123+05:30", utc(2026, 3, 1, 6, 29, 7, 123_456)),
        ("2026-03-01T11:59:07.000+00:00", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T17:29:07+05:30", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T17:29:07+0530", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T17:29:07 +05:30", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T16:59:07+05", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T08:29:07-03:30", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T00:10:00+05:30", utc(2026, 2, 28, 18, 40)),
        ("2026-03-01T11:59:07-00:00", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T11:59:07+23:59", utc(2026, 2, 28, 12, 0, 7)),
        ("2026-03-01T11:59:60Z", utc(2026, 3, 1, 11, 59, 59)),  # a leap second
        ("2026-03-01T11:59:99Z", utc(2026, 3, 1, 11, 59, 59)),
        ("2024-02-29T00:00:00Z", utc(2024, 2, 29)),
        ("1970-01-01T00:00:00Z", utc(1970, 1, 1)),
        ("2000-01-01T00:00:00.000Z", utc(2000, 1, 1)),
        ("0001-01-01T00:00:00Z", utc(1, 1, 1)),
        ("9999-12-31T23:59:59Z", utc(9999, 12, 31, 23, 59, 59)),
        ("2026-03-01T11:59:07Z[Asia/Kolkata]", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T11:59:07.Z", utc(2026, 3, 1, 11, 59, 7)),
        ("2026-03-01T11:59:07ZZ", utc(2026, 3, 1, 11, 59, 7)),
    ],
)
def test_what_is_a_time_is_read(text, at):
    assert read(text) == at


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "now",
        "null",
        "0",
        "1772366347",
        "1772366347000",
        "2026-03-01",
        "11:59:07Z",
        "01.03.2026 11:59:07",
        "03/01/2026 11:59",
        "20260301T115907Z",
        "2026-060T11:59:07Z",
        "2026-W09-7T11:59:07Z",
        "222222017-01-01T00:00:00Z",
        "26-03-01T11:59:07Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-32T00:00:00Z",
        "0000-00-00T00:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T25:00:00Z",
        "2026-03-01T11:60:00Z",
        "2026-03-01T",
        "2026-03-01T11",
        "-2026-03-01T11:59:07Z",
        "+2026-03-01T11:59:07Z",
        "２０２６-03-01T11:59:07Z",
        "2026‑03‑01T11:59:07Z",
        "2026-03-01\x0011:59:07Z",
        "0001-01-01T00:00:00+05:30",
        "9999-12-31T23:59:59-05:30",
        "2026-03-01T11:59:07Z" + "x" * 64,
        "9" * 10_000,
    ],
)
def test_what_is_no_time_is_none(text):
    assert read(text) is None


@given(st.text(max_size=70))
def test_any_text_is_read(text):
    assert read(text) is None or read(text).tzinfo is UTC


@given(st.from_regex(timestamps._FORM, fullmatch=True))
def test_any_text_of_the_form_is_read(text):
    at = read(text)
    assert at is None or plausible(at, NOW) in (True, False)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)), st.integers(-14 * 4, 14 * 4))
def test_what_we_write_is_read_back_to_the_second(at, quarters):
    there = at.replace(tzinfo=timezone(timedelta(minutes=15 * quarters)))
    assert read(write(there)) == there.replace(microsecond=0)


def test_we_answer_in_utc_without_fraction_or_offset():
    assert write(utc(2026, 3, 1, 11, 59, 7, 999_999)) == "2026-03-01T11:59:07Z"
    assert write(datetime(2026, 3, 1, 17, 29, 7, tzinfo=timezone(timedelta(hours=5.5)))) == "2026-03-01T11:59:07Z"


@pytest.mark.parametrize(
    ("at", "believed"),
    [
        (None, False),
        (utc(1970, 1, 1), False),
        (utc(2020, 1, 1), False),
        (NOW - timedelta(days=365), False),  # a clock that begins at its firmware's build
        (NOW - timedelta(days=60, seconds=1), False),
        (NOW - timedelta(days=60), True),  # a queue kept offline
        (NOW - timedelta(days=30), True),
        (NOW, True),
        (NOW + timedelta(seconds=300), True),
        (NOW + timedelta(seconds=301), False),
        (utc(2036, 2, 7, 6, 28, 16), False),
        (utc(9999, 12, 31), False),
    ],
)
def test_a_clock_that_is_not_set_or_ahead_is_not_believed(at, believed):
    assert plausible(at, NOW) is believed
