"""Tables of cases written from the tests that hold them: docs/conformance.md and docs/abuse.md. Both conftests share this one place.

`--write-table` writes the tables whose tests were run. A test bears its case's code in its name; the first line of its docstring
says what is held.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import pytest

ROOT = Path(__file__).resolve().parents[1]
PASSES, FAILS, SKIPPED = "passes", "**fails**", "skipped"
_RESULT = {"passed": PASSES, "failed": FAILS, "skipped": SKIPPED}


@dataclass
class Ran:
    """A test function as it went: the worst of its parameters, and the first line of its docstring."""

    name: str
    words: str
    result: str


_ran: dict[tuple[str, str], Ran] = {}  # (file, function)


# -- what pytest calls (tests/conftest.py names these three) ----------------------------------------------------------
def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write docs/conformance.md and docs/abuse.md from what passed")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" and not report.failed and not report.skipped:
        return
    name = item.name.split("[")[0]
    said = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip().splitlines()
    result, key = _RESULT[report.outcome], (item.path.relative_to(ROOT).as_posix(), name)
    before = _ran.get(key)
    if before is None or before.result == PASSES:
        _ran[key] = Ran(name, said[0] if said else "", result)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--write-table"):
        return
    from tests.abuse import cases
    from tests.conformance import cases as conformance_cases

    tell = session.config.get_terminal_writer().line
    if any(file.startswith("tests/conformance/") for file, _ in _ran):
        if missing := [code for code in conformance_cases.CODES if code not in _codes(_ran)]:
            tell(f"\ndocs/conformance.md was not written: {len(missing)} of its cases were not run, among them {missing[0]}")
        else:
            (ROOT / "docs/conformance.md").write_text(conformance(_ran))
    if any(file.startswith("tests/abuse/") for file, _ in _ran):
        results = {key: ran.result for key, ran in _ran.items()}
        if missing := [f"{held.file}::{held.name}" for held in cases.all_held() if (held.file, held.name) not in results]:
            tell(f"\ndocs/abuse.md was not written: {len(missing)} of its tests were not run, among them {missing[0]}")
        else:
            (ROOT / "docs/abuse.md").write_text(cases.table(results))


# -- docs/conformance.md ----------------------------------------------------------------------------------------------
def _codes(ran: dict[tuple[str, str], Ran]) -> dict[str, list[tuple[str, Ran]]]:
    """Conformance code -> (number of the OCA's test case or "", how it went) of each test that bears it."""
    from tests.conformance.cases import NAME

    found: dict[str, list[tuple[str, Ran]]] = {}
    for (file, name), one in ran.items():
        if file.startswith("tests/conformance/") and (match := NAME.match(name)):
            found.setdefault(match[2], []).append((match[1] or "", one))
    return found


def conformance(ran: dict[tuple[str, str], Ran]) -> str:
    """The document, of a run that had every case."""
    from tests.conformance.cases import CODES, LETTERS

    went = _codes(ran)
    worst = {code: next((bad for bad in (FAILS, SKIPPED) if bad in (one.result for _, one in went[code])), PASSES) for code in CODES}
    passed = sum(result == PASSES for result in worst.values())
    lines = [
        "# Conformance",
        "",
        "What a central system must do for OCPP 1.6J chargers, case by case, over real sockets against a running server. Written by",
        "`bin/test tests/conformance --write-table` from what passed; a test is found by the code in its name.",
        "",
        *wrap("; ".join(f"{letter} {what[0].lower() + what[1:]}" for letter, (what, _) in LETTERS.items()) + ".", 130),
        "",
        f"{passed} of {len(CODES)} cases pass.",
        "",
        "| case | OCA test case | what | result |",
        "| --- | --- | --- | --- |",
    ]
    for code in CODES:
        numbers = ", ".join(f"TC_{number}" for number, _ in went[code] if number)
        words = " ".join(one.words.replace("|", "/") for _, one in went[code])
        lines.append(f"| {code} | {numbers} | {words} | {worst[code]} |")
    return "\n".join(lines) + "\n"
