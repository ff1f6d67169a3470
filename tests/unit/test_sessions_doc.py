"""docs/sessions.md shows the transitions that the rule has. To write them again: bin/test tests/unit/test_sessions_doc.py --write-table."""

import re
from pathlib import Path

import pytest

from csms.rules import session as rule
from csms.rules import transitions

PAGE = Path(__file__).resolve().parents[2] / "docs/sessions.md"
BEGIN, END = "<!-- transitions: written by the test -->", "<!-- end of transitions -->"


@pytest.fixture
def written(request) -> str:
    """The part of the page between the marks; written first when --write-table asks for it."""
    said = PAGE.read_text()
    before, rest = said.split(BEGIN)
    table, after = rest.split(END)
    if request.config.getoption("--write-table"):
        table = "\n" + "\n".join(transitions.table()) + "\n"
        PAGE.write_text(before + BEGIN + table + END + after)
    return table


def test_the_table_of_the_document_is_the_rules_own(written):
    assert written.strip().splitlines() == transitions.table(), "write it again: bin/test tests/unit/test_sessions_doc.py --write-table"


def test_it_walks_every_event_every_state_and_every_reason_to_end():
    assert {type(event) for _, event, *_ in transitions.SAID} == set(rule.Event.__args__)
    assert {one.state for one in transitions.SESSIONS.values()} == set(rule.State)
    source = Path(rule.__file__).read_text()
    reasons = {reason for reason in re.findall(r'"([A-Z_]{5,})"', source)} - {one.value for one in rule.State} - {"INTERVALS"}
    shown = {match for line in transitions.table() for match in re.findall(r"STOPPED: (\w+)", line)}
    assert shown == {*reasons, "Local"}


def test_nothing_leaves_stopped_and_the_constants_are_the_settings():
    assert all(line.rstrip(" |").endswith("–") for line in transitions.table()[2:])
    said, defaults = PAGE.read_text(), rule.Limits()
    for name, value in (
        ("DISCONNECT_TIMEOUT_S", defaults.disconnect_timeout_s),
        ("MAX_RESUME_GAP_S", defaults.max_resume_gap_s),
        ("SOCKET_GRACE_S", defaults.socket_grace_s),
        ("MAX_DISCONNECTS_WITHOUT_PROGRESS", defaults.max_disconnects_without_progress),
        ("SESSION_SILENCE_S", defaults.silence_s),
    ):
        assert f"| `{name}` | {value} |" in said
