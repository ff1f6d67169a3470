"""The conformance cases: what a central system must do for OCPP 1.6J chargers, by letter and number, and the tests that hold them.

A test holds a case by bearing its code in its name, and the number of the OCA's test case where there is one:
`test_C18_...`, `test_TC_019_1_G01_...`. The first line of its docstring is the case's row in docs/conformance.md.
"""

import ast
import re
from pathlib import Path

# What the letters stand for, and how many cases each has.
LETTERS = {
    "C": ("Connections and framing", 43),
    "B": ("Boots, heartbeats, time", 13),
    "A": ("Authorize", 10),
    "T": ("Transactions", 36),
    "M": ("Meter values", 17),
    "S": ("Status", 7),
    "R": ("Remote control", 25),
    "G": ("Configuration", 7),
    "L": ("Local lists", 7),
    "V": ("Reservations", 7),
    "P": ("Smart charging", 8),
    "F": ("Firmware and diagnostics", 8),
    "D": ("Vendors' data", 3),
    "X": ("The security extension", 12),
}
CODES = [f"{letter}{number:02}" for letter, (_, count) in LETTERS.items() for number in range(1, count + 1)]
NAME = re.compile(r"test_(?:TC_(\d+(?:_\d+)*)_)?([A-Z]\d\d)_")


def held() -> dict[str, list[tuple[str, str]]]:
    """Code -> (function, first line of its docstring) of every test that bears one."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (match := NAME.match(node.name)):
                words = (ast.get_docstring(node) or "").partition("\n")[0]
                found.setdefault(match[2], []).append((node.name, words))
    return found
