"""Tables of cases written from the tests that hold them: docs/conformance.md and docs/abuse.md. Both conftests share this one place.

`--write-table` writes the tables whose tests were run. A test bears its case's code in its name; the first line of its docstring
says what is held.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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

    tell = session.config.get_terminal_writer().line
    if any(file.startswith("tests/conformance/") for file, _ in _ran):
        (ROOT / "docs/conformance.md").write_text(conformance(_ran))
    if any(file.startswith("tests/abuse/") for file, _ in _ran):
        results = {key: ran.result for key, ran in _ran.items()}
        if missing := [f"{held.file}::{held.name}" for held in cases.all_held() if (held.file, held.name) not in results]:
            tell(f"\ndocs/abuse.md was not written: {len(missing)} of its tests were not run, among them {missing[0]}")
        else:
            (ROOT / "docs/abuse.md").write_text(cases.table(results))


# -- docs/conformance.md ----------------------------------------------------------------------------------------------
_CODE = re.compile(r"test_(?:TC_(\d+(?:_\d+)*)_)?([A-Z]\d\d)_")


def conformance(ran: dict[tuple[str, str], Ran]) -> str:
    """The table of the conformance cases that ran."""
    rows: dict[str, tuple[str, str, str]] = {}  # code: (TC, what, result)
    for (file, name), one in ran.items():
        found = _CODE.match(name)
        if not file.startswith("tests/conformance/") or not found:
            continue
        words = one.words or name.removeprefix("test_").split("_", 1)[1].replace("_", " ")
        before = rows.get(found[2])
        if before is None or before[2] == PASSES:
            tc = "TC_" + found[1] if found[1] else ""
            rows[found[2]] = (tc or (before[0] if before else ""), before[1] if before else words, one.result)
    passed = sum(result == PASSES for *_, result in rows.values())
    lines = [
        "# Conformance",
        "",
        "What a central system must do for OCPP 1.6J chargers, case by case, over real sockets against a running server. Written by",
        "`bin/test tests/conformance --write-table` from what passed; a test is found by its code (`tests/conformance/`).",
        "",
        f"{passed} of {len(rows)} cases pass.",
        "",
        "| case | OCA test case | what | result |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {code} | {tc} | {what} | {result} |" for code, (tc, what, result) in sorted(rows.items())]
    return "\n".join(lines) + "\n"
