"""The races of a charging network, driven statement by statement through our own handlers: in every order, one truth.

INTERLEAVE=200 lives 200 orders of each (default: a few); INTERLEAVE=17..17 lives that one again and prints its statements.
"""

import logging
import os
from functools import partial

import pytest
from django.db import transaction

from accounts.models import Company
from billing import ledger
from csms.models import Station
from tests.simulation import races_of_charging, races_of_money
from tests.simulation.interleave import Explorer
from tests.simulation.invariants import broken
from tests.simulation.scene import stage

SEEDS = os.environ.get("INTERLEAVE", "10")
SCENARIOS = [*races_of_money.RACES, *races_of_charging.RACES]


def seeds() -> range:
    first, _, last = SEEDS.partition("..")
    return range(int(first), int(last) + 1) if last else range(int(first))


# -- the proof --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def quiet():
    """Deadlocks and refusals are told by our code; here they are the plan."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("story", SCENARIOS, ids=lambda story: story.__name__)
def test_in_every_order_one_truth(story, settings, quiet):
    orders, again, circles = set(), 0, 0
    with stage(settings) as on:
        for seed in seeds():
            race = Explorer(f"{story.__name__} {seed}")
            on.gap = race.gap
            try:
                story(on, race)
                assert broken(on.sandbox) == []
            except BaseException as error:
                error.add_note(f"INTERLEAVE={seed}..{seed}, the order of the statements:\n" + "\n".join(race.trace))
                raise
            finally:
                on.gap = lambda what: None
            orders.add(tuple(race.trace))
            again, circles = again + race.retries, circles + race.circles
            if ".." in SEEDS:
                print("\n".join(race.trace))
        assert ledger.check() == []
    print(f"{story.__name__}: {len(seeds())} seeds, {len(orders)} orders, {again} tried again, {circles} deadlocks")
    assert len(orders) > 2 or len(seeds()) < 10, "the dice do not explore"


# -- the explorer itself can fail ----------------------------------------------------------------------------------------
def naively(number: int) -> None:
    """A check, then an insert, and nothing that holds them together: what our code never does."""
    name = f"Check Then Insert {number}"
    if not Station.objects.filter(name=name).exists():
        Station.objects.create(name=name, company=Company.objects.get(name="The One"))


def carefully(number: int) -> None:
    with transaction.atomic():
        Company.objects.select_for_update().get(name="The One")
        naively(number)


@pytest.mark.django_db(transaction=True)
def test_the_explorer_finds_a_naive_check_then_insert():
    Company.objects.create(name="The One")
    wrong = {naively: 0, carefully: 0}
    for deed in wrong:
        for seed in range(40):
            number = seed + 100 * (deed is carefully)
            once = partial(deed, number)
            Explorer(seed).run(one=once, two=once)
            wrong[deed] += Station.objects.filter(name=f"Check Then Insert {number}").count() > 1
    assert wrong[naively] >= 5, "of 40 orders some must be wrong"
    assert wrong[carefully] == 0


@pytest.mark.django_db(transaction=True)
def test_one_seed_is_one_order():
    def lived(seed):
        with transaction.atomic():
            Station.objects.all().delete()
            Company.objects.get_or_create(name="The One")
        return Explorer(seed).run(one=lambda: carefully(1), two=lambda: carefully(1), three=lambda: carefully(1)).trace

    for seed in range(5):
        assert lived(seed) == lived(seed)


@pytest.mark.django_db(transaction=True)
def test_a_circle_of_locks_is_broken_and_tried_again():
    for name in ("A", "B"):
        Company.objects.create(name=name)

    def both(first, second):
        with transaction.atomic():
            Company.objects.select_for_update().get(name=first)
            Company.objects.select_for_update().get(name=second)

    found = [Explorer(seed).run(one=lambda: both("A", "B"), two=lambda: both("B", "A")) for seed in range(12)]
    assert sum(race.circles for race in found) >= 1
    assert all(race.retries == race.circles for race in found)
