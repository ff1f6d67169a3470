"""The abuse cases: what somebody may try, in one line each, and the tests that hold what happens then.

A test holds a case by bearing its code in its name (test_A04_...). C counts in the files of BUSINESS only: elsewhere in this folder
a C is a conformance case (tests/conformance). `bin/test tests/abuse tests/integration/test_fuzz.py --write-table` writes
docs/abuse.md; tests/unit/test_abuse_table.py holds that the document, this list and the tests agree.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "bin/test tests/abuse tests/integration/test_fuzz.py --write-table"
FOLDERS = ("tests/abuse/*.py", "tests/integration/test_fuzz.py")
BUSINESS = re.compile(r"tests/abuse/test_business_\w+\.py")
# Tests of other files that hold a C too: the beginning of their names.
ALSO_C = {
    "tests/abuse/test_lines.py": ("test_B17_C16_", "test_C21_"),
    "tests/abuse/test_sockets.py": ("test_C18_a_fact_",),
}
# Of these, what needs TLS or a proxy in front is played through a real nginx with deploy/nginx.conf; skipped where there is none.
THROUGH_NGINX = ("A09", "A10", "A11", "A15", "A23")

CASES = {
    # -- who comes in, and how
    "A01": "Comes as a known charger and shows no key, or nothing that can be read as one.",
    "A02": "Comes as a known charger with a wrong key, and watches how it is refused.",
    "A03": "Comes under a name nobody has, to find out which names exist.",
    "A04": "Guesses one charger's key again and again, or wants it locked out by guessing.",
    "A05": "Tries many names from one address.",
    "A06": "Shows a good key under another user name than the charger in the address.",
    "A07": "Uses one charger's key for another charger.",
    "A08": "A batch of new chargers that all left the factory with the same key.",
    "A09": "Comes without TLS, or without a certificate, as a charger that has used them.",
    "A10": "Asks for an old TLS, or for compression below it.",
    "A11": "Shows a certificate that has run out, was revoked, is another charger's, another operator's or another authority's.",
    "A12": "A second socket with the right key, while the first one lives on and speaks.",
    "A13": "Two boxes with one name push each other out all the time.",
    "A14": "Opens many sockets as one charger at the same moment, to keep an old one beside the new.",
    "A15": "Opens lines and sends its handshake a byte at a time, or never ends it.",
    "A16": "Opens more and more sockets from one address.",
    "A17": "All chargers come back in the same second; or one comes back every moment.",
    "A18": "Floods of pings, pongs nobody asked for, control frames that are too long.",
    "A19": "Comes in with a good key and then says nothing.",
    "A20": "Asks and asks, and never reads an answer.",
    "A21": "Offers no sub-protocol we speak, a thousand of them, or one that is not text.",
    "A22": "Writes its address in odd ways: encoded, too long, with other letters that look alike, leading elsewhere.",
    "A23": "Claims another address, TLS or a certificate in headers that only a proxy may write.",
    "A24": "A web page in the operator's browser opens sockets with the operator's cookies.",
    "A25": "Looks for chargers' names on public pages, to use them at the door.",
    "A26": "Looks for a key, a name or a rider's UPI id in logs, pages, files and the API.",
    # -- what is said
    "B01": "One message of a megabyte.",
    "B02": "One message in a million pieces, or without end.",
    "B03": "A message that is begun and never finished, on a line that is kept open.",
    "B04": "A small compressed message that would unpack to gigabytes.",
    "B05": "JSON nested thousands deep.",
    "B06": "Numbers that are none: NaN, Infinity, 1e999.",
    "B07": "Numbers of 5,000 digits, or just beyond what a database holds.",
    "B08": "One field named twice.",
    "B09": "NUL, half characters, text that turns round, control characters, in every field.",
    "B10": "Bytes that are not text, or text in another encoding.",
    "B11": "Frames of the wrong shape: no list, too short, an unknown type, an id that is none or far too long.",
    "B12": "An action that is no text, that nobody knows, or that is a word of the programming language.",
    "B13": "Fields nobody knows, values of the wrong type, words in the wrong case, in every action.",
    "B14": "Answers to nothing we asked, to what we asked of another charger, too late, or twice.",
    "B15": "An error with a megabyte of description, or with markup in it.",
    "B16": "Whatever makes the making of an error fail, or its text long.",
    "B17": "Hundreds of calls at once, without waiting for an answer.",
    "B18": "The same message again, under the same id.",
    "B19": "Another message under an id that was used.",
    "B20": "Times that are none, of other centuries, other calendars' days, odd zones.",
    "B21": "A message that is kept, and that breaks the pages which list it later.",
    "B22": "Text that would write lines of its own into the log, or colour a terminal.",
    "B23": "Text made to be slow to read.",
    "B24": "A message that makes our own code fail, or wait, while others speak.",
    # -- what chargers do
    "C01": "Ends a charge of another charger.",
    "C02": "Reports energy for a charge of another charger.",
    "C03": "Starts without a payment, under a tag nobody knows.",
    "C04": "Starts again with a tag that was paid once and used.",
    "C05": "Guesses the tag of a rider who has just paid.",
    "C06": "Uses a tag that was paid for one connector at another, or at another charger.",
    "C07": "Sends the same start again under a new message id.",
    "C08": "Starts on a connector where a charge runs.",
    "C09": "Ends a charge twice, with different meter readings.",
    "C10": "Ends what never began, or transaction 0 or -1.",
    "C11": "Its meter goes backwards.",
    "C12": "Its meter runs faster than its connector can deliver.",
    "C13": "Its meter stands still, or counts too little, while power flows.",
    "C14": "Changes from kWh to Wh in the middle of a charge.",
    "C15": "Its clock says 1970, or 2099.",
    "C16": "Was away for eight hours and then sends 5,000 messages at once.",
    "C17": "Starts and never says that it has ended.",
    "C18": "Our database is away while chargers start, charge and stop.",
    "C19": "Says what is true and cannot be: charges that overlap, ends before their start.",
    "C20": "Boots without end; or boots as another box under the same name.",
    "C21": "Sends statuses and heartbeats as fast as it can, to fill the tables.",
    "C22": "Uses DataTransfer to store what it likes, or as much as it likes.",
    "C23": "Accepts the start a rider has paid for, and never starts.",
    "C24": "Says that it is faulty, so that a charge shall cost nothing.",
    "C25": "Is sold to another franchisee in the middle of a charge.",
    "C26": "Reports firmware installed and files sent that nobody asked for.",
}


@dataclass(frozen=True)
class Held:
    """A test that holds a case. `words`: its docstring's first paragraph, else what its name says."""

    file: str
    name: str
    words: str


_CODE = re.compile(r"(?<![A-Za-z0-9])([A-C]\d\d)(?=_)")


@cache
def all_held() -> dict[Held, tuple[str, ...]]:
    """Every test of an abuse case, with its codes, in the order of the files."""
    found: dict[Held, tuple[str, ...]] = {}
    for path in sorted(one for pattern in FOLDERS for one in ROOT.glob(pattern)):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            codes = tuple(code for code in _CODE.findall(node.name) if code[0] != "C" or _is_business(file, node.name))
            if codes:
                found[Held(file, node.name, _words(node))] = codes
    return found


def held_by(code: str) -> list[Held]:
    """The tests that hold this case."""
    return [held for held, codes in all_held().items() if code in codes]


def _is_business(file: str, name: str) -> bool:
    return bool(BUSINESS.fullmatch(file)) or name.startswith(ALSO_C.get(file, ("-",)))


def _words(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Its docstring's first paragraph."""
    said = (ast.get_docstring(node) or "").strip().partition("\n\n")[0]
    words = " ".join((said or _CODE.sub("", node.name.removeprefix("test_")).replace("_", " ")).split())
    return words[:1].upper() + words[1:].rstrip(".") + "."


# -- docs/abuse.md ------------------------------------------------------------------------------------------------------
def table(results: dict[tuple[str, str], str]) -> str:
    """The document; `results` are those of each test, by file and function."""
    rows = [row(code, results) for code in CASES]
    passed = sum(one.endswith("| passes |") for one in rows)
    lines = [
        "# Abuse",
        "",
        "What chargers, and those who would like to be one, may try, and what happens then. Every case is a test, most of them over real",
        f"sockets against a running server. Written by `{COMMAND}`",
        "from what passed; a test is found by the code in its name.",
        "",
        f"{', '.join(THROUGH_NGINX)} need TLS or a proxy in front: they are played through a real nginx with `deploy/nginx.conf`, and",
        "skipped with a word where none is installed.",
        "",
        f"{passed} of {len(CASES)} cases pass.",
        "",
        "| case | attack | what happens | result |",
        "| --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def row(code: str, results: dict[tuple[str, str], str]) -> str:
    """One line of it. A case passes when all its tests do."""
    held = held_by(code)
    mine = [results[one.file, one.name] for one in held]
    worst = next((said for said in ("**fails**", "skipped") if said in mine), "passes" if mine else "no test")
    return f"| {code} | {CASES[code]} | {' '.join(one.words for one in held).replace('|', '/')} | {worst} |"
