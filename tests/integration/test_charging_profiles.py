"""Limits on power: wanted, sent, taken or refused, cleared; and the page where people set them."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from csms import charging_profiles
from csms.models import ChargingProfile, ChargingSession, Command, ConfigurationKey, IdTag
from csms.rules.profile import Step
from tests.charger import Charger
from tests.factories import PASSWORD
from voltaro import clock

pytestmark = pytest.mark.django_db
MAX, DEFAULT, TX = "ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"


@pytest.fixture
def charger(network):
    found = Charger(network.kaveri_charger)
    found.boot()
    found.status("Available")
    found.row.refresh_from_db()
    return found


def want(charger, limit=7000, purpose=DEFAULT, connector_no=0, **fields):
    return charging_profiles.want(
        charger.row, purpose=purpose, connector_no=connector_no, steps=(Step(0, Decimal(limit)),), unit="W", by="om", **fields
    )


def send():
    return charging_profiles.send_due(clock.now(), 100)


def said(row):
    row.refresh_from_db()
    return row.state, row.error


def running(charger, network):
    IdTag.objects.create(tag="CARD1", company=network.kaveri.company)
    charger.start("CARD1", meter=1000)
    return ChargingSession.objects.get()


def test_TC_056_P01_a_limit_for_every_new_session_is_sent_and_taken(charger):
    row = want(charger)
    send()
    uid, action, payload = charger.command()
    assert action == "SetChargingProfile"
    profile = payload["csChargingProfiles"]
    assert (profile["chargingProfileId"], profile["chargingProfilePurpose"]) == (row.profile_id, DEFAULT)
    assert profile["chargingSchedule"]["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 7000}]
    charger.accept(uid)
    assert said(row) == ("active", "")


def test_TC_057_P02_a_limit_of_a_running_session_names_its_transaction_and_ends_with_it(charger, network):
    session = running(charger, network)
    row = want(charger, purpose=TX, connector_no=1, session=session)
    send()
    uid, _, payload = charger.command()
    assert payload["connectorId"] == 1
    assert payload["csChargingProfiles"]["transactionId"] == int(session.transaction_id)
    charger.accept(uid)
    charger.stop(1500)
    charging_profiles.end_due(clock.now(), 100)
    assert said(row)[0] == "ended"


def test_P04_clearing_what_is_not_there_is_the_same_as_clearing(charger):
    from csms import commands

    row = want(charger)
    send()
    charger.accept(charger.command()[0])
    commands.ask(charger.row, "ClearChargingProfile", {"id": row.profile_id}, by="om", trigger="console")
    uid, action, payload = charger.command()
    assert (action, payload) == ("ClearChargingProfile", {"id": row.profile_id})
    charger.accept(uid, {"status": "Unknown"})
    assert said(row)[0] == "cleared"
    assert Command.objects.get(action="ClearChargingProfile").state == "effective"


def test_only_what_fits_everything_named_is_cleared(charger):
    from csms import commands

    one, other = want(charger), want(charger, purpose=MAX)
    commands.ask(charger.row, "ClearChargingProfile", {"chargingProfilePurpose": MAX, "connectorId": 0}, by="om", trigger="console")
    charger.accept(charger.command()[0])
    assert (said(one)[0], said(other)[0]) == ("wanted", "cleared")


def test_P06_a_form_that_is_refused_is_followed_by_the_next_and_what_is_taken_is_remembered(charger):
    row = want(charger)
    forms = []
    for status in ("Rejected", "Accepted"):
        clock.shift(20)
        send()
        uid, _, payload = charger.command()
        profile = payload["csChargingProfiles"]
        forms.append((profile["chargingProfileKind"], profile["chargingSchedule"]["chargingRateUnit"]))
        charger.accept(uid, {"status": status})
    assert said(row)[0] == "active"
    assert forms == [("Absolute", "W"), ("Relative", "W")]
    clock.shift(20)
    want(charger, 9000)
    send()
    assert charger.command()[2]["csChargingProfiles"]["chargingProfileKind"] == "Relative"


def test_P06_one_that_takes_no_form_is_asked_no_more(charger):
    row = want(charger)
    for _ in range(10):
        clock.shift(20)
        send()
        command = charger.command()
        if command is None:
            break
        charger.accept(command[0], {"status": "Rejected"})
    assert said(row)[0] == "rejected"
    clock.shift(600)
    assert send() == 0


def test_one_that_knows_no_profiles_is_not_asked_in_another_form(charger):
    row = want(charger)
    send()
    charger.accept(charger.command()[0], {"status": "NotSupported"})
    assert said(row) == ("unsupported", "the charger knows no charging profiles")


def test_P07_a_session_whose_start_comes_out_of_a_queue_gets_no_profile(charger, network):
    session = running(charger, network)
    ChargingSession.objects.filter(pk=session.pk).update(start_time=clock.now() - charging_profiles.timedelta(seconds=900))
    session.refresh_from_db()
    row = want(charger, purpose=TX, connector_no=1, session=session)
    send()
    assert charger.command() is None
    assert said(row)[0] == "ended"


def test_P08_ten_changes_within_five_seconds_are_one_frame(charger):
    rows = [want(charger, 1000 * number) for number in range(1, 11)]
    send()
    uid, _, payload = charger.command()
    assert payload["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"] == 10_000
    charger.accept(uid)
    assert charger.command() is None
    assert [said(row)[0] for row in rows] == ["replaced"] * 9 + ["active"]


def test_Q176_profiles_come_one_by_one_and_not_too_often(charger):
    want(charger, purpose=MAX)
    want(charger, purpose=DEFAULT)
    send()
    charger.accept(charger.command()[0])
    send()
    assert charger.command() is None
    clock.shift(11)
    send()
    assert charger.command() is not None


def test_a_newer_limit_for_the_same_place_replaces_the_one_that_stands(charger):
    old = want(charger)
    send()
    charger.accept(charger.command()[0])
    clock.shift(20)
    new = want(charger, 5000)
    send()
    charger.accept(charger.command()[0])
    assert (said(old)[0], said(new)[0]) == ("replaced", "active")


def test_Q171_a_reboot_that_forgets_the_limit_of_a_session_gets_it_again(charger, network):
    session = running(charger, network)
    row = want(charger, purpose=TX, connector_no=1, session=session)
    send()
    charger.accept(charger.command()[0])
    charger.boot()
    assert said(row)[0] == "wanted"


def test_the_units_of_its_configuration_are_used(charger):
    ConfigurationKey.objects.create(charge_point=charger.row, key="ChargingScheduleAllowedChargingRateUnit", value="Current")
    want(charger, 11_500)
    send()
    schedule = charger.command()[2]["csChargingProfiles"]["chargingSchedule"]
    assert (schedule["chargingRateUnit"], schedule["chargingSchedulePeriod"][0]["limit"]) == ("A", 50)


def test_no_answer_is_asked_again_a_few_times(charger):
    from csms import commands

    row = want(charger)
    for _ in range(3):
        clock.shift(20)
        send()
        assert charger.command() is not None
        clock.shift(40)
        commands.timeout_due(clock.now(), 100)
    assert said(row) == ("rejected", "the charger did not answer")


@pytest.mark.parametrize(
    "fields",
    [{"purpose": "Nonsense"}, {"purpose": MAX, "connector_no": 1}, {"purpose": TX}, {"connector_no": 9}, {"limit": -1}, {"limit": 10**9}],
)
def test_what_makes_no_sense_is_told_and_not_wanted(charger, fields):
    with pytest.raises(ValidationError):
        want(charger, **fields)
    assert not ChargingProfile.objects.exists()


def test_an_offline_charger_gets_it_when_it_is_back(charger):
    charger.drop()
    row = want(charger)
    assert send() == 0
    charger.connect()
    charger.boot()
    assert send() == 1
    charger.accept(charger.command()[0])
    assert said(row)[0] == "active"


# -- the page ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def om(client, network):
    client.login(username="om", password=PASSWORD)
    return client


def page(charger):
    return f"/console/chargers/{charger.row.pk}/charging/"


def test_om_sets_a_limit_and_sees_what_became_of_it(om, charger):
    body = {"what": "TxDefaultProfile:0", "limit": "00:00 22000\n18:00 7000", "unit": "W", "phases": "0", "daily": "on", "hours": ""}
    assert om.post(page(charger), body).status_code == 302
    row = ChargingProfile.objects.get()
    assert row.schedule["steps"] == [[0, "22000"], [64_800, "7000"]]
    assert row.requested_by == "om"
    send()
    uid, _, payload = charger.command()
    assert payload["csChargingProfiles"]["recurrencyKind"] == "Daily"
    charger.accept(uid)
    shown = om.get(page(charger)).content.decode()
    assert "Accepted" in shown and "22000 W" in shown
    assert om.post(page(charger) + "clear/", {"profile": row.profile_id}).status_code == 302
    charger.accept(charger.command()[0])
    assert said(row)[0] == "cleared"


@pytest.mark.parametrize("limit", ["", "much", "5 10", "0 1\n0 2"])
def test_a_limit_that_is_none_is_told(om, charger, limit):
    answer = om.post(page(charger), {"what": "TxDefaultProfile:0", "limit": limit, "unit": "W", "phases": "0"})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert not ChargingProfile.objects.exists()


def test_TC_066_P03_the_composite_schedule_is_asked_and_drawn(om, charger):
    assert om.post(page(charger) + "schedule/", {"connector": "1"}).status_code == 302
    uid, action, payload = charger.command()
    assert (action, payload) == ("GetCompositeSchedule", {"connectorId": 1, "duration": 86_400})
    steps = [{"startPeriod": 0, "limit": 22_000}, {"startPeriod": 3600, "limit": 7_000.0}, {"startPeriod": "x"}]
    schedule = {"duration": 86_400, "chargingRateUnit": "W", "chargingSchedulePeriod": steps}
    charger.accept(uid, {"status": "Accepted", "connectorId": 1, "chargingSchedule": schedule})
    shown = om.get(page(charger)).content.decode()
    assert shown.count("<rect") >= 2 and "22000 W" in shown
    om.post(page(charger) + "schedule/")
    charger.accept(charger.command()[0], {"status": "Rejected"})
    assert "Rejected" in om.get(page(charger)).content.decode()


def test_who_only_looks_sees_no_form_and_nobody_touches_somebody_elses(client, charger, network):
    from accounts.roles import Role
    from tests.factories import make_user

    make_user("sita", Role.SUPPORT, network.voltaro)
    client.login(username="sita", password=PASSWORD)
    assert "Set a limit" not in client.get(page(charger)).content.decode()
    assert client.post(page(charger), {"what": "TxDefaultProfile:0", "limit": "1", "unit": "W"}).status_code == 403
    make_user("ravi", Role.OPERATOR, network.ganga.company)
    client.login(username="ravi", password=PASSWORD)
    for path in (page(charger), page(charger) + "clear/", page(charger) + "schedule/"):
        assert client.post(path, {}).status_code == 404
    assert not ChargingProfile.objects.exists() and not Command.objects.exists()
