"""Seeded worlds (voltaro/worldsim): hundreds of sessions under thousands of faults, and every promise kept."""

import os
import re
import subprocess
import sys

import pytest
from django.conf import settings

from csms.models import ChargingSession
from voltaro.worldsim import coverage, faults
from voltaro.worldsim.simulation import Plan, Simulation
from voltaro.worldsim.tape import Tape, read

SEEDS = os.environ.get("WORLDSIM_SEEDS", "1..14")
LEAST_SESSIONS, LEAST_FAULTS = 500, 1_500
SMALL = Plan(chargers=2, riders=4, busy_s=600)


def worldsim(*said, hash_seed="0"):
    """The command, in a process of its own."""
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run([sys.executable, "manage.py", "worldsim", *said], cwd=settings.BASE_DIR, env=env, capture_output=True, text=True)


def test_worlds_keep_their_promises(tmp_path):
    done = worldsim("run", "--seeds", SEEDS, "--jobs", "2", "--log", str(tmp_path / "log"))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    sessions, struck, violations = map(
        int, re.search(r"(\d+) sessions, (\d+) faults, (\d+) violations", done.stdout.splitlines()[-1]).groups()
    )
    assert violations == 0
    assert sessions >= LEAST_SESSIONS and struck >= LEAST_FAULTS, done.stdout.splitlines()[-1]
    again = worldsim("run", "--seeds", SEEDS, "--log", str(tmp_path / "log"))
    assert again.stdout.splitlines()[-1].startswith("0 sessions"), "what stands in the log is not lived again"
    assert f"{sessions} sessions" in re.sub(" +", " ", worldsim("summary", "--log", str(tmp_path / "log")).stdout)


def test_a_seed_is_the_same_world_in_any_process():
    hashes = [worldsim("replay", "--seed", "5", "--until", "900", "--hash", hash_seed=one).stdout.split()[-1] for one in ("1", "2")]
    assert hashes[0] == hashes[1]


@pytest.mark.django_db(transaction=True)
def test_a_tape_is_lived_again_to_the_letter(tmp_path):
    once = Simulation(11, plan=SMALL).live()
    assert once.struck, "the tape shall hold something"
    Tape(11, SMALL, tuple(once.struck), "nothing").write(tmp_path / "tape")
    again = read(tmp_path / "tape").live()
    assert (again.digest, again.struck) == (once.digest, once.struck)
    without = Simulation(11, plan=SMALL, tape=frozenset()).live()
    assert not without.struck and not without.broken


@pytest.mark.django_db(transaction=True)
def test_the_auditor_sees_what_was_taken_away(monkeypatch):
    """An auditor that never finds anything proves nothing: here somebody loses a bill."""
    monkeypatch.setattr("billing.bills.due", lambda now: ChargingSession.objects.filter(pk=-1))
    verdict = Simulation(12, plan=SMALL, only=frozenset()).live()
    assert any(one.startswith("I5") for one in verdict.broken), verdict.broken


def test_every_fault_has_a_chance_and_words():
    assert all(0 < chance <= 1 and what for chance, what in faults.CATALOGUE.values())
    assert all(coverage.WANTED.values())


def test_the_page_names_every_fault_and_every_state():
    page = (settings.BASE_DIR / "docs" / "simulation.md").read_text()
    assert faults_table() in page, "write it again: python -c 'from tests.simulation.test_worldsim import faults_table as t; print(t())'"
    for what in coverage.WANTED.values():
        assert f"| {what} |" in page, what


def faults_table():
    return "\n".join(["| fault | what happens |", "|---|---|", *(f"| `{name}` | {what} |" for name, (_, what) in faults.CATALOGUE.items())])
