"""Local authorization lists of OCPP 1.6 (L): kept in step with our tags, whatever a charger makes of them."""

import pytest

from csms import local_lists
from csms.models import Alert, Command, ConfigurationKey, LocalList
from tests.conformance.box import Keeper, at_rest
from tests.simulate_client import CallError

pytestmark = pytest.mark.e2e


@pytest.fixture
def settled(world, charger):
    """Long enough on its line to be asked what nobody waits for; its list is to be kept in step."""
    world.card("CARD1")
    world.pass_time(30)
    local_lists.switch_on([world.network.kaveri_charger])
    return charger


def step(world):
    at_rest(world, "local_lists.sync")
    return LocalList.objects.get()


def sent(keeper):
    return [(one["updateType"], one["listVersion"]) for one in keeper.heard]


@pytest.mark.parametrize(("version", "state"), [(-1, "unsupported"), (0, "in_step")])
def test_TC_042_1_L01_the_version_of_a_list(world, settled, version, state):
    """Version -1: it has no lists, nothing is sent. Version 0: its list is empty, a Full one is sent."""
    keeper = Keeper(settled, version)
    row = step(world)
    assert row.state == state and keeper.versions_asked == 1
    if version == -1:
        assert keeper.heard == [] and "-1" in row.error
    else:
        assert sent(keeper) == [("Full", 1)] and row.reported_version == 1


@pytest.mark.parametrize("answer", ["NotSupported", CallError("NotSupported"), CallError("NotImplemented")])
def test_TC_043_1_L02_lists_are_not_supported(world, settled, answer):
    """NotSupported, as status or as error: remembered, and not asked again."""
    keeper = Keeper(settled, answers=[answer])
    assert step(world).state == "unsupported"
    world.pass_time(60)
    step(world)
    assert len(keeper.heard) == 1 and not Alert.objects.exists()


def test_TC_043_3_L03_a_list_that_failed(world, settled):
    """Failed: one Full list at once, and then with patience."""
    keeper = Keeper(settled, answers=["Failed", "Failed"])
    row = step(world)
    assert sent(keeper) == [("Full", 1), ("Full", 1)]
    assert (row.state, row.error) == ("failed", "Failed")
    world.pass_time(60)
    step(world)
    assert len(keeper.heard) == 2
    for _ in range(4):
        world.pass_time(70)
        settled.heartbeat()
    assert step(world).state == "in_step"
    assert len(keeper.heard) == 3


def test_TC_043_4_L04_a_full_list(world, settled):
    """A Full list: every tag that may charge there, with its group, and no other."""
    world.card("CARD2", parent="FAMILY")
    world.card("BLOCKED1", state="blocked")
    keeper = Keeper(settled)
    row = step(world)
    assert sent(keeper) == [("Full", 1)]
    assert keeper.entries == {"CARD1": {"status": "Accepted"}, "CARD2": {"status": "Accepted", "parentIdTag": "FAMILY"}}
    assert (row.state, row.wanted_version, row.reported_version) == ("in_step", 1, 1)


def test_TC_043_5_L05_a_differential_list(world, settled):
    """What changed goes out as Differential, each with the next version; a tag that may no longer charge is taken off."""
    keeper = Keeper(settled)
    step(world)
    second = world.card("CARD2")
    local_lists.tags_changed()
    step(world)
    second.state = "blocked"
    second.save()
    local_lists.tags_changed()
    step(world)
    assert sent(keeper) == [("Full", 1), ("Differential", 2), ("Differential", 3)]
    assert keeper.heard[-1]["localAuthorizationList"] == [{"idTag": "CARD2"}]
    assert set(keeper.entries) == {"CARD1"} and LocalList.objects.get().reported_version == 3


def test_L06_a_version_mismatch_and_a_list_that_is_long(world, settled):
    """VersionMismatch: its version is read and a Full list sent. More tags than it takes at once: in pieces, versions from 1 on."""
    for number in range(10):
        world.card(f"MORE{number:02}")
    ConfigurationKey.objects.create(charge_point=world.network.kaveri_charger, key="SendLocalListMaxLength", value="4")
    keeper = Keeper(settled)
    step(world)
    assert sent(keeper) == [("Full", 1), ("Differential", 2), ("Differential", 3)]
    assert [len(one["localAuthorizationList"]) for one in keeper.heard] == [4, 4, 3] and len(keeper.entries) == 11
    keeper.version, keeper.answers = 40, ["VersionMismatch"]  # somebody else has been at it
    world.card("ONEMORE")
    local_lists.tags_changed()
    step(world)
    assert sent(keeper)[3:] == [("Differential", 4), ("Full", 41), ("Differential", 42), ("Differential", 43)]
    assert len(keeper.entries) == 12 and keeper.versions_asked == 2
    assert all(one["listVersion"] >= 1 for one in keeper.heard)


def test_L07_a_conflict(world, settled):
    """LocalListConflict in a status: a person is told, and a Full list sets it right."""
    keeper = Keeper(settled)
    step(world)
    settled.status(1, "Available", "LocalListConflict")
    alert = Alert.objects.get(kind="local_list")
    assert alert.cleared_at is None
    world.pass_time(61)
    step(world)
    assert sent(keeper) == [("Full", 1), ("Full", 2)]
    alert.refresh_from_db()
    assert alert.cleared_at is not None
    assert not Command.objects.filter(state__in=("error", "rejected", "unknown")).exists()
