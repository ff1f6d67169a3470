"""Tags as the rule sees them: how they are compared, what one may do, and what goes onto a local list."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.rules import local_list, tag
from csms.rules.tag import Tag, Use

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


# -- forms ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("aBcD", "ABCD"),
        (" F6 CA 0C C5", "F6CA0CC5"),
        ("04:A2:B3:C4:D5:E6:F7", "04A2B3C4D5E6F7"),
        ("04-a2-b3-c4", "04A2B3C4"),
        ("04A2B3C4;500;INR", "04A2B3C4"),
        ("\x0004A2\x07B3C4\x7f", "04A2B3C4"),
        ("१२३४", ""),
        ("  ", ""),
        ("A" * 25, "A" * 20),
    ],
)
def test_tags_are_compared_in_one_form(said, means):
    assert tag.normal(said) == means


@given(st.text(max_size=60))
def test_the_form_of_a_form_is_itself(said):
    once = tag.normal(said)
    assert tag.normal(once) == once and len(once) <= 20


def test_a_reader_that_turns_the_bytes_round_is_understood():
    assert tag.readings("C50CCAF6", "reversed") == ("F6CA0CC5", "C50CCAF6")
    assert tag.readings("PAID", "reversed") == ("PAID",)
    assert tag.spoken("F6CA0CC5", "reversed") == "C50CCAF6"


def test_a_reader_that_counts_in_decimal_is_understood():
    assert "00F6CA0C" in tag.readings("16173580", "decimal")
    assert "04A2B3C4D5E6F7" in tag.readings(str(0x04A2B3C4D5E6F7), "decimal")
    assert tag.spoken("00F6CA0C", "decimal") == "16173580"
    assert tag.spoken("CARD", "decimal") == "CARD"


@given(st.binary(min_size=4, max_size=10).map(lambda raw: raw.hex().upper()), st.sampled_from(["as_is", "reversed", "decimal"]))
def test_what_we_send_a_charger_we_understand_when_it_says_it_back(ours, form):
    if form == "decimal" and len(ours) not in (8, 14, 20):
        return  # no card has such a number
    assert ours in tag.readings(tag.spoken(ours, form), form)


# -- what a tag may do ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("row", "status"),
    [
        (Tag(), "Accepted"),
        (None, "Invalid"),
        (Tag(state="blocked"), "Blocked"),
        (Tag(state="revoked"), "Invalid"),
        (Tag(state="used"), "Invalid"),
        (Tag(expires_at=NOW), "Expired"),
        (Tag(expires_at=NOW + timedelta(seconds=1)), "Accepted"),
        (Tag(state="blocked", expires_at=NOW), "Blocked"),
        (Tag(elsewhere=True), "Invalid"),
        (Tag(external=True, external_status="Accepted"), "Accepted"),
        (Tag(external=True, external_status="Blocked"), "Blocked"),
        (Tag(external=True, external_status="ConcurrentTx"), "ConcurrentTx"),
        (Tag(external=True, external_status=""), "Invalid"),
        (Tag(external=True, external_status="Accepted", state="blocked"), "Blocked"),
        (Tag(external=True, external_status="Accepted", expires_at=NOW), "Expired"),
    ],
)
def test_what_a_tag_may_do(row, status):
    assert tag.judge(row, NOW) == status


def test_what_nobody_could_tell_is_for_the_fallback():
    assert tag.judge(None, NOW, unknown="Accepted") == "Accepted"
    assert tag.judge(Tag(external=True), NOW, unknown="Accepted") == "Accepted"
    assert tag.judge(Tag(external=True, external_status="Invalid"), NOW, unknown="Accepted") == "Invalid"
    assert tag.judge(Tag(state="blocked"), NOW, unknown="Accepted") == "Blocked"


def use(state="RUNNING", ago_s=60, sample_s=None, online=True) -> Use:
    return Use(state, NOW - timedelta(seconds=ago_s), sample_s, online)


@pytest.mark.parametrize(
    ("one", "status"),
    [
        (use(), "ConcurrentTx"),
        (use("STARTED"), "ConcurrentTx"),
        (use("SUSPENDED"), "Accepted"),
        (use(online=False), "Accepted"),
        (use(ago_s=901), "Accepted"),
        (use(ago_s=1700, sample_s=900), "ConcurrentTx"),
        (use(ago_s=1801, sample_s=900), "Accepted"),
    ],
)
def test_only_a_session_that_goes_on_holds_its_tag(one, status):
    assert tag.judge(Tag(), NOW, uses=(one,)) == status
    assert tag.judge(Tag(concurrent=True), NOW, uses=(one,)) == "Accepted"
    assert tag.judge(Tag(state="blocked"), NOW, uses=(one,)) == "Blocked"


# -- local lists ------------------------------------------------------------------------------------------------------
ENTRIES = st.dictionaries(st.text("0123456789ABCDEF", min_size=4, max_size=8), st.sampled_from(["", "FAMILY"]), max_size=40)


@given(wanted=ENTRIES, sent=ENTRIES, most=st.integers(1, 15), version=st.integers(1, 500), reported=st.integers(0, 500))
def test_piece_by_piece_every_list_comes_in_step_with_versions_that_only_grow(wanted, sent, most, version, reported):
    """Whatever the charger held and says it holds; a Differential only ever on what it accepted."""
    held, held_version = dict(sent), version
    for _ in range(200):
        update = local_list.next_update(wanted, sent=held, sent_version=held_version, reported=reported, most=most)
        if update is None:
            break
        assert update.version > reported and update.version >= 1 and len(update.entries) <= most
        assert update.full or reported == held_version
        assert not update.full or None not in update.entries.values()
        assert update.in_step_at >= update.version
        held = local_list.after(update.payload, held)
        held_version = reported = update.version
    else:
        pytest.fail("it never came in step")
    assert held == wanted or (not wanted and reported == 0)


def test_a_long_list_is_one_full_and_then_differentials():
    wanted = {f"CARD{number:02}": "" for number in range(10)}
    first = local_list.next_update(wanted, sent={}, sent_version=None, reported=7, most=4)
    assert (first.full, first.version, len(first.entries), first.in_step_at) == (True, 8, 4, 10)
    assert first.payload["localAuthorizationList"][0] == {"idTag": "CARD00", "idTagInfo": {"status": "Accepted"}}
    held = local_list.after(first.payload, {})
    second = local_list.next_update(wanted, sent=held, sent_version=8, reported=8, most=4)
    assert (second.full, second.version, second.in_step_at) == (False, 9, 10)


def test_what_is_taken_off_goes_first_and_without_its_info():
    update = local_list.next_update({"B": "FAMILY"}, sent={"A": "", "B": ""}, sent_version=3, reported=3, most=40)
    assert update.payload == {
        "listVersion": 4,
        "updateType": "Differential",
        "localAuthorizationList": [{"idTag": "A"}, {"idTag": "B", "idTagInfo": {"status": "Accepted", "parentIdTag": "FAMILY"}}],
    }


def test_an_empty_list_that_should_be_empty_is_in_step():
    assert local_list.next_update({}, sent={}, sent_version=None, reported=0, most=40) is None
    assert local_list.next_update({}, sent={}, sent_version=None, reported=3, most=40).payload == {
        "listVersion": 4,
        "updateType": "Full",
        "localAuthorizationList": [],
    }


def test_failures_are_followed_ever_less_often_and_by_smaller_pieces():
    assert [local_list.back_off_s(attempts) for attempts in range(1, 7)] == [0, 300, 1800, 7200, 86_400, 86_400]
    assert [local_list.fewer(40, attempts) for attempts in range(7)] == [40, 40, 20, 10, 5, 5, 5]
    assert local_list.fewer(3, 9) == 3
