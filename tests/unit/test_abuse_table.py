"""docs/abuse.md, the list of cases and the tests that hold them agree: no case without a test, no test of a case that is none."""

import re

from tests.abuse import cases

DOCUMENT = cases.ROOT / "docs/abuse.md"
_ROW = re.compile(r"^\| ([A-C]\d\d) \| (.*) \| ([^|]*) \|$", re.MULTILINE)


def test_every_case_of_the_three_lists_is_named():
    wanted = {f"{series}{number:02}" for series, last in {"A": 26, "B": 24, "C": 26}.items() for number in range(1, last + 1)}
    assert set(cases.CASES) == wanted and list(cases.CASES) == sorted(wanted)


def test_every_case_is_held_by_a_test_and_every_test_holds_a_case():
    held = {code for codes in cases.all_held().values() for code in codes}
    assert held == set(cases.CASES)


def test_what_a_test_holds_is_said_in_plain_words():
    for one in cases.all_held():
        assert len(one.words.split()) >= 4 and "|" not in one.words, (one.file, one.name, one.words)


def test_the_document_is_the_one_the_tests_write():
    """As after a run in which each case went as the document says."""
    text = DOCUMENT.read_text()
    results = {}
    for code, _, result in _ROW.findall(text):
        for one in cases.held_by(code):
            known = results.get((one.file, one.name))
            results[one.file, one.name] = result if known in (None, "passes") else known
    assert cases.table(results) == text, f"docs/abuse.md is old: {cases.COMMAND}"


def test_every_case_passes():
    said = {code: result for code, _, result in _ROW.findall(DOCUMENT.read_text())}
    assert said == dict.fromkeys(cases.CASES, "passes")
