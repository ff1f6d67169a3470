"""Bugs planted in our own code die: some of them here, all of them by `manage.py worldsim mutants` (docs/mutants.md)."""

import logging
import re

import pytest

from tests.simulation import test_interleavings as races
from tests.simulation.deeds import HANDLERS
from tests.simulation.interleave import Explorer
from tests.simulation.invariants import broken
from tests.simulation.scene import stage
from tests.simulation.test_kill_sweep import lived
from tests.simulation.test_worldsim import worldsim
from voltaro.worldsim import mutants
from voltaro.worldsim.planted import MUTANTS, SIMULATION

BY_NAME = {one.name: one for one in MUTANTS}
# Those whose first broken world is lived within seconds.
QUICK = (
    *("refund_of_the_whole", "start_without_key", "payer_in_the_log", "gst_drifts"),
    *("remainder_forgotten", "command_marked_late", "limit_ignored", "transaction_of_anybody"),
)
SEEDS = range(1, 41)
SOUND: dict[tuple[int, str], bool] = {}
RACED = [one for one in MUTANTS if one.by.startswith("interleavings")]
SWEPT = [one for one in MUTANTS if one.by.startswith("kill sweep")]


@pytest.fixture
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_killed_by_a_world(name, quiet):
    assert mutants.killed(BY_NAME[name], SEEDS, SOUND), f"{name} survived {len(SEEDS)} worlds"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mutant", RACED, ids=lambda one: one.name)
def test_what_no_single_world_shows_is_killed_by_a_race(mutant, settings, quiet):
    story = {one.__name__: one for one in races.SCENARIOS}[mutant.by.partition(": ")[2]]
    with stage(settings) as on, mutants.planted(mutant):
        for seed in SEEDS:
            race = Explorer(seed)
            on.gap = race.gap
            try:
                story(on, race)
                assert broken(on.sandbox) == []
            except Exception:
                return
    raise AssertionError(f"{mutant.name} survived {len(SEEDS)} orders of {story.__name__}")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mutant", SWEPT, ids=lambda one: one.name)
def test_what_only_a_death_at_the_one_moment_shows_is_killed_by_the_sweep(mutant, settings, quiet):
    make = {one.__name__: one for one in HANDLERS}[mutant.by.partition(": ")[2]]
    with stage(settings) as on:
        undisturbed, _ = lived(on, make)
        with mutants.planted(mutant):
            alive, killer = lived(on, make)
            assert alive == undisturbed, "this one needs no death to be seen"
            for at in range(1, len(killer.passed) + 1):
                try:
                    found, _ = lived(on, make, at)
                    assert found == undisturbed and broken(on.sandbox) == []
                except Exception:
                    return
    raise AssertionError(f"{mutant.name} survived {len(killer.passed)} deaths in {make.__name__}")


def test_the_command_tells_what_killed_it():
    done = worldsim("mutants", "--name", "remainder_forgotten", "--name", "refund_outside", "--seeds", "1..5", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^remainder_forgotten: killed \(seed \d+: I3 ", done.stdout, re.MULTILINE), done.stdout
    assert "refund_outside: not by worlds (kill sweep: the_worker_of_bills)" in done.stdout


def test_a_bug_that_no_longer_fits_its_code_is_told():
    odd = mutants.Mutant("odd", "It does not fit.", (("csms.starts.start", "this stands nowhere", ""),), by=SIMULATION)
    with pytest.raises(mutants.DoesNotFit), mutants.planted(odd):
        raise AssertionError("unreachable")
