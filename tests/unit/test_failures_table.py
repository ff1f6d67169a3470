"""The one table of failure modes: each has its runbook, and is put on record somewhere in the product's code."""

import ast
import re
from pathlib import Path

import pytest

from accounts.failures import MODES
from csms.failures import ENDS
from csms.rules import exposure
from csms.rules.exposure import Unheard
from voltaro import failure_pages, runbooks

ROOT = Path(__file__).resolve().parents[2]
MARKS = {"h2", "p", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "div", "code", "b", "a", "pre"}
SECTIONS = ["What it means", "What to look at", "What to do"]


@pytest.mark.parametrize("name", MODES)
def test_it_has_a_runbook_that_names_it_and_says_what_to_do(name):
    text = (ROOT / "docs" / "runbooks" / f"{MODES[name].runbook}.md").read_text()
    headings = re.findall(r"(?m)^## (.+)$", text)
    assert [one for one in headings if one in SECTIONS] == SECTIONS, headings
    assert f"`{name}`" in text
    assert MODES[name].words[0].isupper() and len(name) <= 70 and re.fullmatch(r"[a-z_]+", name)


def noted() -> set[str]:
    """The modes that are put on record, read from the source: `failures.note("...")`, by whatever name it is called."""
    found = set(ENDS.values()) | {"disconnect_suspended", "boot_suspended", "stale_suspended_swept"}  # csms/failures.py names these
    for path in (path for place in ("csms", "billing", "franchise") for path in (ROOT / place).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "failures.note" and isinstance(node.args[0], ast.Constant):
                found.add(node.args[0].value)
    return found


def test_every_mode_is_put_on_record_or_counted_as_it_stands():
    assert noted() == {name for name, mode in MODES.items() if not mode.standing}
    assert set(failure_pages.STANDING) == {name for name, mode in MODES.items() if mode.standing}


# -- runbooks as pages ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(runbooks.names()))
def test_a_runbook_is_a_page(name):
    title, body = runbooks.rendered((runbooks.FOLDER / f"{name}.md").read_text())
    assert title != "Runbook"
    bare = re.sub(r"<pre>.*?</pre>", "", body, flags=re.DOTALL)
    assert "**" not in bare and "](" not in bare and "|---|" not in bare and "\n## " not in bare
    assert set(re.findall(r"<(\w+)", body)) <= MARKS


def test_what_a_runbook_says_is_never_markup():
    _, body = runbooks.rendered("# T\n\n<script>alert(1)</script> `<b>` and [x](javascript:alert(1)) and [y](../map.md)")
    assert "<script" not in body and "<code>&lt;b&gt;</code>" in body and "href" not in body


# -- exposure -------------------------------------------------------------------------------------------------------------
def unheard(**facts) -> Unheard:
    return Unheard(**{"energy_wh": 1_000, "limit_wh": 5_000, "peak_power_w": 30_000, "max_power_w": 60_000, "silent_s": 60, **facts})


def test_what_may_flow_is_the_most_it_has_drawn_for_as_long_as_nobody_heard():
    assert exposure.delivered_wh(unheard()) == 1_500 and exposure.exposed_wh(unheard()) == 0
    assert exposure.within_s(unheard()) == 420
    assert exposure.exposed_wh(unheard(silent_s=600)) == 1_000
    assert exposure.within_s(unheard(silent_s=600)) is None


def test_nothing_seen_yet_means_all_that_the_outlet_has_and_a_spike_is_no_more_than_that():
    assert exposure.power_w(unheard(peak_power_w=0)) == exposure.power_w(unheard(peak_power_w=900_000)) == 60_000


def test_a_charger_that_keeps_to_a_limit_stops_there():
    assert exposure.exposed_wh(unheard(silent_s=36_000, bounded_wh=5_000)) == 0
    assert exposure.within_s(unheard(bounded_wh=5_000)) is None
    assert exposure.exposed_wh(unheard(silent_s=36_000, bounded_wh=6_000)) == 1_000
    assert exposure.delivered_wh(unheard(energy_wh=7_000, bounded_wh=5_000)) == 7_000


def test_a_profile_that_ends_bounds_how_long_it_may_flow():
    assert exposure.delivered_wh(unheard(silent_s=36_000, flows_s=60)) == 1_500
    assert exposure.within_s(unheard(flows_s=400)) is None and exposure.within_s(unheard(flows_s=900)) == 420


def test_of_a_session_we_have_ended_everything_more_is_unpaid():
    assert exposure.exposed_wh(unheard(live=False)) == 500


def test_no_car_takes_more_than_fits():
    assert exposure.exposed_wh(unheard(silent_s=7 * 86_400)) == exposure.MOST_WH - 4_000
