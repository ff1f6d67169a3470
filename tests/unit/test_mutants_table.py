"""The table of planted bugs is what the code has, and every bug of it is dead."""

import re

import pytest
from django.conf import settings

from voltaro.worldsim import mutants
from voltaro.worldsim.planted import MUTANTS, SIMULATION

ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_it_can_still_be_planted(mutant):
    with mutants.planted(mutant):
        pass


def test_the_document_names_exactly_the_planted_bugs_and_all_are_killed():
    told = ROW.findall((settings.BASE_DIR / mutants.DOCUMENT).read_text())
    assert [(name, says) for name, says, _ in told] == [(one.name, one.says) for one in MUTANTS]
    for mutant, (name, _, how) in zip(MUTANTS, told, strict=True):
        if mutant.by == SIMULATION:
            assert re.match(r"seed \d+: \S", how), f"{name}: {how}"
        else:
            assert how == mutant.by


def test_there_are_enough_of_them_and_the_simulation_kills_most():
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 40
    assert sum(one.by == SIMULATION for one in MUTANTS) >= 34
    assert all(one.says[0].isupper() and one.says.endswith(".") for one in MUTANTS)


def test_a_bug_is_gone_when_it_was_tried():
    from csms import starts

    before = starts.start
    with mutants.planted(next(one for one in MUTANTS if one.name == "start_twice")):
        assert starts.start is not before
    assert starts.start is before
