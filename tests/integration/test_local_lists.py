"""Local lists are kept in step: one step at a time, whatever the charger answers. Cases by their codes."""

import json
from datetime import timedelta

import pytest

from accounts.models import AuditEntry
from csms import local_lists, tags
from csms.models import Alert, ChargePoint, Command, ConfigurationKey, IdTag, LocalList
from tests import factories
from tests.charger import Charger, later
from voltaro import clock

pytestmark = pytest.mark.django_db


class Keeper:
    """A charger with a local list of its own, answering as the standard says unless told otherwise."""

    def __init__(self, charger: Charger, version: int = 0) -> None:
        self.charger, self.version, self.entries = charger, version, {}
        self.heard: list[dict] = []
        self.answers: list[dict | str] = []

    def answer(self) -> str:
        """Answer the next thing we ask of it; its action, or "" when nothing is asked."""
        clock.shift(0.001)
        asked = self.charger.command()
        if asked is None:
            return ""
        unique_id, action, payload = asked
        said = self.answers.pop(0) if self.answers else None
        if isinstance(said, str):
            self.charger.raw(json.dumps([4, unique_id, said, "", {}]))
        else:
            self.charger.accept(unique_id, said if said is not None else self._kindly(action, payload))
        if action == "SendLocalList":
            self.heard.append(payload)
        return action

    def _kindly(self, action: str, payload: dict) -> dict:
        if action == "GetLocalListVersion":
            return {"listVersion": self.version}
        if payload["updateType"] == "Differential" and payload["listVersion"] <= self.version:
            return {"status": "VersionMismatch"}
        if payload["updateType"] == "Full":
            self.entries = {}
        for entry in payload["localAuthorizationList"]:
            if "idTagInfo" in entry:
                self.entries[entry["idTag"]] = entry["idTagInfo"].get("parentIdTag", "")
            else:
                self.entries.pop(entry["idTag"], None)
        self.version = payload["listVersion"]
        return {"status": "Accepted"}


def work() -> int:
    return local_lists.sync_due(clock.now(), 100)


def settle(keeper: Keeper, rounds: int = 30) -> list[str]:
    """Let worker and charger go on until nothing is asked any more; the actions in their order."""
    asked = []
    for _ in range(rounds):
        work()
        if not (action := keeper.answer()):
            return asked
        asked.append(action)
    pytest.fail("it never came to rest")


@pytest.fixture
def keeper(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    clock.shift(30)  # it has settled
    return Keeper(charger)


@pytest.fixture
def card(network):
    def card(tag: str, **fields) -> IdTag:
        return IdTag.objects.create(tag=tag, **{"company": network.voltaro, **fields})

    return card


@pytest.fixture
def row(network, keeper):
    """Its list, switched on."""
    assert local_lists.switch_on([network.kaveri_charger]) == 1
    return LocalList.objects.get()


def test_off_until_somebody_switches_it_on(network, keeper, card):
    card("CARD1")
    assert settle(keeper) == []
    assert not LocalList.objects.exists()


def test_L01_an_empty_list_is_filled_in_full(keeper, row, card, network):
    card("CARD1", parent="FAMILY")
    card("CARD2", company=network.kaveri.company)
    card("BLOCKED1", state="blocked")
    card("OLD1", expires_at=clock.now())
    card("GANGAS", company=network.ganga.company)
    card("THEIRS", source="external", external_status="Accepted")
    IdTag.objects.create(tag="PAID", kind="one_time", company=network.kaveri.company)
    assert settle(keeper) == ["GetLocalListVersion", "SendLocalList"]
    assert keeper.entries == {"CARD1": "FAMILY", "CARD2": ""}
    row.refresh_from_db()
    assert (row.state, row.wanted_version, row.reported_version, row.sent_version, row.attempts) == ("in_step", 1, 1, 1, 0)
    assert [c.background for c in Command.objects.all()] == [True, True]
    assert [entry.action for entry in AuditEntry.objects.filter(action__startswith="local_list.").order_by("pk")] == [
        "local_list.on",
        "local_list.in_step",
    ]


def test_L01_version_minus_one_says_that_it_has_no_lists(keeper, row, card):
    card("CARD1")
    keeper.version = -1
    assert settle(keeper) == ["GetLocalListVersion"]
    row.refresh_from_db()
    assert row.state == "unsupported" and "-1" in row.error
    clock.shift(3600)
    assert settle(keeper) == []


@pytest.mark.parametrize("answers", [["NotSupported"], ["NotImplemented"], [None, {"status": "NotSupported"}], [None, "NotImplemented"]])
def test_L02_not_supported_is_learned_and_not_asked_again(keeper, row, card, answers):
    card("CARD1")
    keeper.answers = list(answers)
    assert len(settle(keeper)) == len(answers)
    row.refresh_from_db()
    assert row.state == "unsupported"
    assert not Alert.objects.exists()


def test_L03_failed_is_followed_by_one_full_at_once_and_then_with_patience(keeper, row, card):
    card("CARD1")
    keeper.answers = [None, *[{"status": "Failed"}] * 2]
    assert settle(keeper) == ["GetLocalListVersion", "SendLocalList", "SendLocalList"]
    row.refresh_from_db()
    assert (row.state, row.attempts, row.error) == ("failed", 2, "Failed")
    clock.shift(299)
    assert settle(keeper) == []
    clock.shift(2)
    keeper.answers = [{"status": "Failed"}]
    assert settle(keeper) == ["SendLocalList"]
    assert Alert.objects.get().kind == "local_list"
    clock.shift(1_801)
    assert settle(keeper) == ["SendLocalList"]
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("in_step", 0)
    assert Alert.objects.get().cleared_at is not None


def test_L04_L05_a_full_and_then_differentials_with_growing_versions(keeper, row, card):
    first = card("CARD1")
    settle(keeper)
    card("CARD2")
    local_lists.tags_changed([first.company_id])
    assert settle(keeper) == ["SendLocalList"]
    first.state = "blocked"
    first.save()
    local_lists.tags_changed()
    assert settle(keeper) == ["SendLocalList"]
    assert keeper.entries == {"CARD2": ""}
    assert [(said["updateType"], said["listVersion"]) for said in keeper.heard] == [("Full", 1), ("Differential", 2), ("Differential", 3)]
    assert keeper.heard[-1]["localAuthorizationList"] == [{"idTag": "CARD1"}]


def test_L06_a_version_mismatch_is_followed_by_a_full(keeper, row, card):
    card("CARD1")
    settle(keeper)
    card("CARD2")
    keeper.version = 40  # somebody else has been at it
    local_lists.tags_changed()
    assert settle(keeper) == ["SendLocalList", "GetLocalListVersion", "SendLocalList"]
    assert (keeper.heard[-1]["updateType"], keeper.heard[-1]["listVersion"]) == ("Full", 41)
    assert keeper.entries == {"CARD1": "", "CARD2": ""}


def test_L06_a_long_list_goes_out_in_pieces_it_can_take(keeper, row, card, network):
    for number in range(10):
        card(f"CARD{number:02}")
    ConfigurationKey.objects.create(charge_point=network.kaveri_charger, key="sendLocalListMaxLength", value="4")
    assert settle(keeper) == ["GetLocalListVersion", *["SendLocalList"] * 3]
    assert [(len(s["localAuthorizationList"]), s["updateType"], s["listVersion"]) for s in keeper.heard] == [
        (4, "Full", 1),
        (4, "Differential", 2),
        (2, "Differential", 3),
    ]
    assert len(keeper.entries) == 10
    row.refresh_from_db()
    assert (row.state, row.wanted_version, row.reported_version) == ("in_step", 3, 3)


def test_L06_what_has_no_room_is_left_out_and_said(keeper, row, card, network):
    for number in range(6):
        card(f"CARD{number}")
    ConfigurationKey.objects.create(charge_point=network.kaveri_charger, key="LocalAuthListMaxLength", value="5")
    settle(keeper)
    assert sorted(keeper.entries) == ["CARD1", "CARD2", "CARD3", "CARD4", "CARD5"]
    row.refresh_from_db()
    assert row.state == "in_step" and "at most" in row.error


def test_L07_a_conflict_is_flagged_and_set_right_in_full(keeper, row, card):
    card("CARD1")
    settle(keeper)
    keeper.charger.status("Available", error="LocalListConflict")
    assert Alert.objects.get().detail == "The charger reports LocalListConflict."
    clock.shift(61)
    assert settle(keeper) == ["SendLocalList"]
    assert keeper.heard[-1]["updateType"] == "Full"
    assert Alert.objects.get().cleared_at is not None


def test_after_a_reboot_that_lost_the_list_it_is_sent_again(keeper, row, card):
    card("CARD1")
    settle(keeper)
    clock.shift(1_200)
    keeper.version, keeper.entries = 0, {}
    keeper.charger.drop()
    keeper.charger.connect()
    keeper.charger.boot()
    clock.shift(30)
    assert settle(keeper) == ["GetLocalListVersion", "SendLocalList"]
    assert keeper.heard[-1]["updateType"] == "Full" and keeper.entries == {"CARD1": ""}


def test_after_a_reconnect_with_the_list_intact_nothing_is_sent(keeper, row, card):
    card("CARD1")
    settle(keeper)
    clock.shift(1_200)
    keeper.charger.drop()
    keeper.charger.connect()
    clock.shift(30)
    assert settle(keeper) == ["GetLocalListVersion"]
    # One that comes and goes is not asked each time.
    keeper.charger.drop()
    keeper.charger.connect()
    clock.shift(30)
    assert settle(keeper) == []


def test_a_charger_that_is_away_is_waited_for(keeper, row, card):
    card("CARD1")
    keeper.charger.drop()
    assert work() == 1
    assert not Command.objects.exists()
    keeper.charger.connect()
    clock.shift(30)
    assert settle(keeper) == ["GetLocalListVersion", "SendLocalList"]


def test_no_answer_is_not_taken_for_a_yes(keeper, row, card):
    from csms import commands

    card("CARD1")
    work()
    keeper.answer()
    work()
    assert keeper.charger.command()[1] == "SendLocalList"  # and silence
    clock.shift(40)
    commands.timeout_due(clock.now(), 10)
    row.refresh_from_db()
    assert row.sent_version is None and row.reported_at is None and "no answer" in row.error
    assert settle(keeper) == ["GetLocalListVersion", "SendLocalList"]


def test_one_is_asked_of_a_charger_at_a_time(keeper, row, card):
    card("CARD1")
    work()
    LocalList.objects.update(next_try_at=clock.now())
    work()
    assert Command.objects.count() == 1


def test_a_card_that_expires_leaves_the_list_by_itself(keeper, row, card):
    card("CARD1", expires_at=later(3_600))
    card("CARD2")
    settle(keeper)
    assert set(keeper.entries) == {"CARD1", "CARD2"}
    clock.shift(3_601)
    assert settle(keeper) == ["SendLocalList"]
    assert set(keeper.entries) == {"CARD2"}


def test_a_charger_that_says_tags_its_own_way_gets_them_so(keeper, row, card):
    card("F6CA0CC5")
    ChargePoint.objects.update(quirk_settings={"id_tag_form": "reversed"})
    settle(keeper)
    assert keeper.entries == {"C50CCAF6": ""}


def test_switched_off_the_list_is_emptied_and_left_alone(keeper, row, card, network):
    card("CARD1")
    settle(keeper)
    assert local_lists.switch_off([network.kaveri_charger]) == 1
    assert keeper.answer() == "SendLocalList"
    assert keeper.entries == {}
    card("CARD2")
    local_lists.tags_changed()
    assert settle(keeper) == []
    # On again: the list is compared, and filled.
    local_lists.switch_on([network.kaveri_charger])
    assert settle(keeper) == ["GetLocalListVersion", "SendLocalList"]
    assert set(keeper.entries) == {"CARD1", "CARD2"}


def test_a_list_sent_by_hand_is_known_too(keeper, row, card, network):
    from csms import commands

    card("CARD1")
    settle(keeper)
    payload = {"listVersion": 9, "updateType": "Full", "localAuthorizationList": [{"idTag": "ODD", "idTagInfo": {"status": "Accepted"}}]}
    commands.request(network.kaveri_charger, "SendLocalList", payload, trigger="console")
    keeper.answer()
    assert settle(keeper) == ["SendLocalList"]
    assert keeper.entries == {"CARD1": ""} and keeper.version == 10


def test_chargers_are_asked_in_bounded_numbers(network, bells, card):
    card("CARD1")
    rows = [factories.make_charge_point(f"VLT-{number:04}", network.kaveri.company, online=True) for number in range(100, 130)]
    local_lists.switch_on(rows)
    assert work() == local_lists.SENDS
    assert Command.objects.count() == local_lists.SENDS
    assert work() == 10


def test_only_lists_of_the_tags_own_companies_are_looked_at_again(network, bells, django_capture_on_commit_callbacks):
    for charge_point in (network.kaveri_charger, network.ganga_charger):
        LocalList.objects.create(charge_point=charge_point)
    soon, later_ = clock.now(), clock.now() + timedelta(hours=5)

    def due(*companies) -> set[str]:
        LocalList.objects.update(state="in_step", next_try_at=later_)
        local_lists.tags_changed(companies)
        rows = LocalList.objects.filter(next_try_at__lt=later_ - timedelta(hours=1), next_try_at__gte=soon)
        return set(rows.values_list("charge_point__cp_id", flat=True))

    with django_capture_on_commit_callbacks(execute=True):
        assert due(network.kaveri.company.pk) == {"VLT-0001"}
    assert due(network.voltaro.pk) == {"VLT-0001", "VLT-0002"}
    assert due(None) == {"VLT-0001", "VLT-0002"}
    assert "list.due" in bells


def test_a_blocked_card_is_refused_at_its_start_though_the_list_still_has_it(keeper, row, card):
    """The list is a convenience; the start is judged (R18)."""
    tags.forget()
    one = card("CARD1")
    settle(keeper)
    one.state = "blocked"
    one.save()
    assert keeper.charger.start("CARD1")["idTagInfo"]["status"] == "Blocked"
