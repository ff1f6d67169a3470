"""What the documents name exists, and what must be in them is: a table that lies is worse than none."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.core.management import get_commands
from django.urls import Resolver404, resolve

from csms.dispatch import ROUTES
from csms.repair import actions
from tests.conformance import cases
from voltaro.celery import WORKERS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OURS = {"accounts", "csms", "billing", "franchise", "voltaro"}


def text(name: str) -> str:
    return (ROOT / name).read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table that has this line as its heading."""
    lines = text(page).splitlines()
    assert heading in lines, f"{page} has no table {heading}"
    found = []
    for line in lines[lines.index(heading) + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def bare(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_workers_is_the_one_in_the_code():
    shown = {
        bare(name)[0]: (beat, tuple(bare(bells)), bare(function)[0], what)
        for name, beat, bells, function, what in rows("docs/map.md", "| worker | beat | bells | function | what |")
    }
    assert shown == {name: (f"{one.every_s:g} s", one.bells, one.work, one.what) for name, one in WORKERS.items()}


def test_the_constants_and_their_defaults_are_the_ones_in_the_settings():
    shown = {bare(name)[0]: default for name, default, _ in rows("docs/map.md", "| name | default | rule |")}
    assert shown == {
        name: str(eval(value)) for name, value in re.findall(r'env\.int\("([A-Z_]+)", ([\d *_]+)\)', text("voltaro/settings.py"))
    }
    for name in shown:
        assert hasattr(settings, name), name


def test_every_model_is_on_the_map_with_columns_that_exist():
    shown = {
        name: re.findall(r"`(\w+)`", columns)
        for name, columns in re.findall(r"^\| `([a-z]+\.[A-Z]\w+)` \| ([^|]*) \|", text("docs/map.md"), re.MULTILINE)
    }
    ours = {model._meta.label: model for model in apps.get_models() if model._meta.app_label in OURS}
    assert set(shown) == set(ours)
    for label, columns in shown.items():
        for column in columns:
            try:
                ours[label]._meta.get_field(column)
            except FieldDoesNotExist:
                pytest.fail(f"{label} has no column {column}")


def test_the_table_of_commands_names_them_all_and_no_other():
    ours = {name for name, app in get_commands().items() if app in OURS}
    shown = {bare(name)[0].split()[0] for name, _ in rows("README.md", "| `bin/manage ...` | what it does |")}
    assert shown == ours
    for page in PAGES:
        for name in re.findall(r"bin/manage ([a-z_]+)", page.read_text()):
            assert name in get_commands(), f"{page.name}: {name}"
        for name in re.findall(r"sweep ([a-z]+(?:\.[a-z]+)*)", page.read_text()):
            assert name in WORKERS, f"{page.name}: sweep {name}"


def test_the_matrix_of_ocpp_says_what_is_handled():
    shown = {bare(action)[0]: (way, state) for action, way, state, _ in rows("README.md", "| action | way | today | notes |")}
    assert set(shown) == actions("1.6")
    handled = {name for name, (way, state) in shown.items() if way == "charger to us" and state == "handled"}
    assert handled == {name for name in ROUTES["1.6"]}


def test_every_conformance_case_has_its_test_and_its_row():
    held = cases.held()
    assert sorted(held) == sorted(cases.CODES)
    assert not [name for tests in held.values() for name, words in tests if not words], "their first lines are the rows"
    shown = {
        code: (numbers, what, result)
        for code, numbers, what, result in rows("docs/conformance.md", "| case | OCA test case | what | result |")
    }
    assert list(shown) == cases.CODES
    for code, (numbers, what, result) in shown.items():
        assert what == " ".join(words for _, words in held[code]), f"{code}: write the table again"
        assert numbers.replace("TC_", "").split(", ") == [match[1] or "" for name, _ in held[code] if (match := cases.NAME.match(name))]
        assert result == "passes", code


def test_the_addresses_lead_somewhere():
    for address, *_ in rows("README.md", "| address | who | what |"):
        for path in bare(address):
            if path.startswith("/ocpp") or path.startswith("/live"):
                continue
            try:
                resolve(path.replace("<code>", "ABCD2345").replace("<id>", "1"))
            except Resolver404:
                pytest.fail(f"the README names {path}, which leads nowhere")


def test_files_functions_and_links_exist():
    for page in PAGES:
        said = page.read_text()
        for target in re.findall(r"""(?:\]\(|src=")([^)"#:]+)[)"]""", said):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for path in re.findall(
            r"`((?:accounts|billing|bin|csms|deploy|docs|franchise|templates|tests|voltaro)/[\w/.-]+\.(?:py|md|html|json|conf))\b", said
        ):
            assert (ROOT / path).exists(), f"{page.name} names {path}"
        for path, names in re.findall(r"`((?:\w+/)+\w+\.py): (\w+(?:, \w+)*)`", said):
            source = text(path)
            for name in names.split(", "):
                assert re.search(rf"(?:def|class) {name}\b|^{name}\b", source, re.MULTILINE), f"{page.name}: {path} has no {name}"


def test_settings_named_in_the_documents_exist():
    known = set(re.findall(r"^#?([A-Z_]+)=", text(".env.example"), re.MULTILINE)) | {name for name in dir(settings) if name.isupper()}
    for page in PAGES:
        for name in re.findall(
            r"`([A-Z][A-Z_]+_(?:S|DAYS|BYTES|URL|KEY|ENV|HOSTS|TOKEN|SPEED|RETRIES|THREADS|ENABLED|SECRET|PREFIX))`", page.read_text()
        ):
            assert name in known or any(name in path.read_text() for path in ROOT.glob("csms/*.py")), f"{page.name}: {name}"
