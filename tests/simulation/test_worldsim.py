"""Seeded worlds (voltaro/worldsim): a failing seed prints itself."""

import logging
import os

import pytest

from voltaro.worldsim.simulation import Simulation

SEEDS = os.environ.get("WORLDSIM_SEEDS", "1..3")


def seeds():
    first, _, last = SEEDS.partition("..")
    return range(int(first), int(last or first) + 1)


@pytest.fixture(autouse=True)
def quiet():
    """Our code warns of every fault it meets; here that is the plan."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", seeds())
def test_a_world_keeps_its_promises(seed):
    verdict = Simulation(seed).live()
    if os.environ.get("WORLDSIM_TRACE"):
        with open(os.environ["WORLDSIM_TRACE"] + f"-{seed}", "w") as out:
            out.write("\n".join(verdict.trace))
        print(seed, verdict.sessions, verdict.payments, verdict.faults, dict(verdict.reached), verdict.broken)
    assert not verdict.broken, f"seed {seed} ({verdict.digest}):\n" + "\n".join([*verdict.broken, *verdict.trace[-40:]])
