"""What a charger is told when it boots, and what its boots and times tell a person."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from csms import boots, commands, configuration, dispatch, quirks, stations, timestamps
from csms.models import Alert, ChargePoint, ChargingSession, Command, Connector, OcppMessage, QuirkProfile
from tests.charger import Charger
from tests.configured import Box
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _profiles():
    quirks.forget()
    yield
    quirks.forget()


@pytest.fixture
def charger(network, bells):
    return Charger(network.kaveri_charger)


def profile(**settings) -> QuirkProfile:
    row, _ = QuirkProfile.objects.update_or_create(name="Acme", defaults={"vendor": "acme", "settings": settings})
    quirks.forget()
    return row


def own(charger: Charger, **settings) -> None:
    ChargePoint.objects.filter(pk=charger.row.pk).update(quirk_settings=settings)
    charger.connect()


def alerts(kind: str) -> list[Alert]:
    return list(Alert.objects.filter(kind=kind, cleared_at=None))


def ask(charger: Charger, action: str = "ClearCache", payload: dict | None = None, **more) -> Command:
    return commands.request(ChargePoint(pk=charger.row.pk), action, payload or {}, trigger="test", **more)


# -- the answer --------------------------------------------------------------------------------------------------------
def test_B01_a_boot_is_accepted_with_the_time_in_utc_and_an_interval(charger):
    answer = charger.boot()
    assert (answer["status"], answer["interval"]) == ("Accepted", 40)
    assert answer["currentTime"].endswith("Z") and abs(timestamps.read(answer["currentTime"]) - clock.now()) < timedelta(seconds=2)
    assert charger.status("Available") == {}


def test_Q50_Q51_the_interval_follows_from_the_silence_its_profile_allows(charger):
    profile(heartbeat_timeout_s=900)
    assert charger.boot()["interval"] == 300  # its maker is known with this very boot
    assert charger.context.heartbeat_s == 300
    profile(heartbeat_timeout_s=6)
    assert charger.boot(firmwareVersion="2")["interval"] == 10  # never a flood


def test_B03_a_rejected_charger_is_told_to_wait_and_asked_nothing(charger):
    charger.boot()
    ask(charger)
    ChargePoint.objects.filter(pk=charger.row.pk).update(registration="Rejected")
    answer = charger.boot()
    assert (answer["status"], answer["interval"]) == ("Rejected", 300)
    assert charger.command() is None


def test_B04_before_it_is_accepted_it_may_say_only_what_it_was_asked(charger):
    ChargePoint.objects.filter(pk=charger.row.pk).update(registration="Pending")
    charger.connect()
    assert charger.boot()["status"] == "Pending"
    frame = '[2,"x1","StatusNotification",{"connectorId":1,"errorCode":"NoError","status":"Available"}]'
    assert charger.raw(frame)[2] == "SecurityError"
    ask(charger, "TriggerMessage", {"requestedMessage": "StatusNotification"})
    ident, _, _ = charger.command()
    charger.accept(ident)
    assert charger.raw(frame.replace("x1", "x2"))[0] == 3


def test_B02_a_pending_charger_is_asked_its_configuration_and_to_start_nothing(charger):
    ChargePoint.objects.filter(pk=charger.row.pk).update(registration="Pending")
    charger.connect()
    assert charger.boot()["interval"] == 30
    ask(charger, "RemoteStartTransaction", {"idTag": "A", "connectorId": 1})
    asked = ask(charger, "GetConfiguration")
    assert charger.command()[0] == asked.unique_id
    assert charger.call("Heartbeat")["currentTime"]


def test_B05_Q44_a_charger_accepted_before_is_served_without_a_boot(charger):
    charger.boot()
    charger.connect()
    assert charger.call("Heartbeat")["currentTime"] and charger.status("Available") == {}
    ask(charger)
    assert charger.command()[1] == "ClearCache"


def test_B06_Q33_odd_fields_of_a_boot_are_taken_and_the_frame_is_kept(charger):
    answer = charger.boot(chargePointVendor="", chargePointSerialNumber="S" * 40, odd={"a": 1}, iccid="-67", meterType="SW")
    assert answer["status"] == "Accepted"
    row = ChargePoint.objects.get(pk=charger.row.pk)
    assert (row.vendor, row.serial_number) == ("unknown", "S" * 25)
    kept = OcppMessage.objects.filter(action="BootNotification").latest("pk")
    assert b"S" * 40 in bytes(kept.raw) and "clipped" in kept.note


def test_B08_a_boot_in_the_middle_of_a_session_does_not_end_it(charger):
    charger.boot()
    charger.start(tag="CARD", meter=0)
    charger.boot()
    assert ChargingSession.objects.get().state == "SUSPENDED"


def test_B10_after_our_restart_nothing_is_there_twice(charger):
    charger.boot()
    charger.status("Charging")
    before = ChargePoint.objects.count(), Connector.objects.count()
    charger.connect()
    charger.boot()
    assert (ChargePoint.objects.count(), Connector.objects.count()) == before
    assert Connector.objects.get(charge_point=charger.row.cp_id).status == "Charging"


def test_B11_a_heartbeat_tells_the_time(charger):
    assert abs(timestamps.read(charger.call("Heartbeat")["currentTime"]) - clock.now()) < timedelta(seconds=2)


def test_Q46_a_quiet_time_after_a_connect_without_a_boot(charger):
    charger.boot()
    own(charger, quiet_s=30)
    ask(charger)
    assert charger.command() is None
    clock.shift(31)
    assert charger.command()[1] == "ClearCache"


def test_Q48_what_nobody_waits_for_waits_until_it_has_settled(charger):
    profile(settle_s=30)
    charger.boot()
    ask(charger, background=True, expires_in_s=600)
    assert charger.command() is None
    clock.shift(29)
    charger.boot()  # again: from here it counts anew
    clock.shift(29)
    assert charger.command() is None
    clock.shift(32)
    assert charger.command()[1] == "ClearCache"


# -- asked to boot -----------------------------------------------------------------------------------------------------
def test_Q44_one_that_never_boots_is_asked_once_in_its_life(charger):
    own(charger, boot_trigger=True)
    assert charger.command() is None
    ask(charger, expires_in_s=600)
    clock.shift(16)
    ident, action, payload = charger.command()
    assert (action, payload) == ("TriggerMessage", {"requestedMessage": "BootNotification"})
    charger.accept(ident)
    assert charger.boot()["status"] == "Accepted"
    assert charger.command()[1] == "ClearCache"
    charger.connect()
    clock.shift(100)
    assert Command.objects.filter(action="TriggerMessage").count() == 1


def test_Q44_one_that_does_not_boot_even_then_is_served_all_the_same(charger):
    own(charger, boot_trigger=True)
    ask(charger, expires_in_s=600)
    clock.shift(16)
    ident, *_ = charger.command()
    charger.accept(ident, {"status": "Rejected"})
    assert charger.command() is None
    clock.shift(45)
    assert charger.command()[1] == "ClearCache"
    charger.connect()
    clock.shift(20)
    assert Command.objects.filter(action="TriggerMessage").count() == 1


def test_B09_Q45_without_that_habit_or_once_accepted_nobody_is_asked_to_boot(charger):
    charger.connect()
    clock.shift(100)
    assert charger.command() is None
    charger.boot()
    own(charger, boot_trigger=True)
    clock.shift(100)
    assert charger.command() is None and not Command.objects.exists()


# -- Pending first -----------------------------------------------------------------------------------------------------
def test_Q49_one_that_wants_its_configuration_first_is_told_pending_until_it_has_it(charger):
    profile(pending_first=True, settle_s=0, configuration={"HeartbeatInterval": "60"})
    box = Box(charger, {"HeartbeatInterval": "0"})
    assert charger.boot()["status"] == "Pending"
    assert charger.boot()["status"] == "Pending"  # nothing has been asked yet
    box.work()
    assert box.keys == {"HeartbeatInterval": "60"}
    assert {action for action, _ in box.asked} <= {"GetConfiguration", "ChangeConfiguration"}
    assert charger.boot()["status"] == "Accepted"
    assert ChargePoint.objects.get(pk=charger.row.pk).registration == "Accepted"
    assert AuditEntry.objects.filter(action="charge_point.accepted").count() == 1
    clock.shift(700)
    charger.connect()
    assert charger.boot()["status"] == "Accepted"
    assert charger.boot(firmwareVersion="2.0")["status"] == "Pending"


def test_Q49_it_does_not_wait_for_ever(charger):
    profile(pending_first=True, configuration={"HeartbeatInterval": "60"})
    told = [charger.boot()["status"] for _ in range(6)]
    assert told == ["Pending"] * boots.PENDING_AT_MOST + ["Accepted"] * 2


def test_Q49_what_it_charged_meanwhile_is_taken(charger):
    profile(pending_first=True)
    charger.boot()
    charger.start(tag="CARD", meter=0)
    assert ChargingSession.objects.count() == 1


def test_an_operators_pending_is_not_lifted_by_us(charger):
    ChargePoint.objects.filter(pk=charger.row.pk).update(registration="Pending")
    profile(pending_first=True)
    assert {charger.boot()["status"] for _ in range(6)} == {"Pending"}


# -- loops and boxes ---------------------------------------------------------------------------------------------------
def test_B07_Q47_boots_in_circles_are_answered_and_told_once_and_not_followed_by_commands(charger):
    profile(configuration={"HeartbeatInterval": "60"})
    box = Box(charger, {"HeartbeatInterval": "0"})
    for number in range(12):
        if number % 3 == 2:
            charger.connect()
        assert charger.boot()["status"] == "Accepted"
        configuration.apply_due(clock.now(), 100)
        box.answer()
        clock.shift(8)
    assert box.asked == []
    (alert,) = alerts("boot_loop")
    assert "12 times" not in alert.detail or alert.count > 1
    assert AuditEntry.objects.filter(action="alert.raised").count() == 1
    assert boots.calm_due(clock.now(), 10) == 0
    clock.shift(1801)
    assert boots.calm_due(clock.now(), 10) == 1
    assert alerts("boot_loop") == []


def test_a_boot_soon_after_another_goes_the_quick_way_and_is_counted_all_the_same(charger):
    charger.boot()
    for number in range(1, 9):
        clock.shift(20)
        charger.connect()
        with CaptureQueriesContext(connection) as asked:
            charger.boot()
        assert (len(asked) == 1) == (number < 5), (number, len(asked))
        assert bool(alerts("boot_loop")) == (number >= 5)
    (alert,) = alerts("boot_loop")
    assert "9 times" in alert.detail


@pytest.mark.parametrize("before", [{"registration": "Pending"}, {"unclaimed": True, "registration": "Pending"}])
def test_a_boot_after_it_was_accepted_meanwhile_opens_the_line_it_came_on(charger, before):
    """The line was opened while it was not accepted: told Accepted, it must be heard from then on."""
    charger.boot()
    clock.shift(3600)
    ChargePoint.objects.filter(pk=charger.row.pk).update(**before)
    charger.connect()
    ChargePoint.objects.filter(pk=charger.row.pk).update(registration="Accepted", unclaimed=False)
    assert charger.boot()["status"] == "Accepted"
    assert (charger.context.registration, charger.context.unclaimed) == ("Accepted", False)
    assert charger.status("Available") == {}


def test_a_few_boots_or_many_far_apart_are_no_loop(charger):
    for _ in range(5):
        charger.boot()
        clock.shift(5)
    assert alerts("boot_loop") == []
    clock.shift(700)
    for _ in range(20):
        clock.shift(180)
        charger.boot()
    assert alerts("boot_loop") == []


def test_C20_another_serial_number_is_told_and_put_away_when_it_is_the_same_again(charger):
    charger.boot(chargePointSerialNumber="A-1")
    charger.boot(chargePointSerialNumber="B-2")
    (alert,) = alerts("serial")
    assert "B-2" in alert.detail and "A-1" in alert.detail
    row = ChargePoint.objects.get(pk=charger.row.pk)
    assert (row.serial_number, row.reported_serial) == ("A-1", "B-2")
    clock.shift(700)
    charger.boot(chargePointSerialNumber="B-2")
    assert alerts("serial")[0].count == 2
    charger.boot(chargePointSerialNumber="A-1")
    assert alerts("serial") == []


def test_Q58_no_serial_number_or_everybodys_is_no_trouble(charger, network):
    charger.boot(chargePointSerialNumber="0000")
    ganga = Charger(network.ganga_charger)
    ganga.boot(chargePointSerialNumber="0000")
    charger.boot()
    assert not Alert.objects.exists()


def test_C20_an_operator_who_writes_the_new_serial_down_ends_it(charger):
    charger.boot(chargePointSerialNumber="A-1")
    charger.boot(chargePointSerialNumber="B-2")
    ChargePoint.objects.filter(pk=charger.row.pk).update(serial_number="B-2")
    assert boots.calm_due(clock.now(), 10) == 1 and alerts("serial") == []


# -- clocks ------------------------------------------------------------------------------------------------------------
def says(charger: Charger, offset: timedelta, form: str = "%Y-%m-%dT%H:%M:%SZ", connector: int = 1) -> None:
    charger.status("Available", connector=connector, timestamp=(clock.now() + offset).strftime(form))


def offset(charger: Charger) -> int | None:
    return ChargePoint.objects.get(pk=charger.row.pk).clock_offset_s


def test_Q55_a_clock_that_is_ahead_is_shown_and_told_and_changes_nothing(charger):
    charger.boot()
    says(charger, timedelta(hours=5, minutes=30))
    assert abs(offset(charger) - 19_800) <= 2
    (alert,) = alerts("clock")
    assert "5 h 30 min ahead" in alert.detail and "local time" in alert.detail
    assert Connector.objects.get(charge_point=charger.row.cp_id).last_updated <= clock.now()
    clock.shift(60)
    says(charger, timedelta(0))
    assert abs(offset(charger)) <= 2 and alerts("clock") == []


def test_Q55_what_comes_out_of_a_queue_is_no_clock_that_is_behind(charger):
    charger.boot()
    for minutes in (180, 120, 61, 61, 60, 60):
        says(charger, -timedelta(minutes=minutes))
    assert offset(charger) is None and alerts("clock") == []
    clock.shift(300)
    says(charger, timedelta(seconds=-2))
    assert offset(charger) in (-3, -2)


def test_Q54_a_clock_that_was_never_set_is_told_when_it_says_so_twice(charger):
    charger.boot()
    for _ in range(2):
        says(charger, timedelta(days=-365 * 56))
        clock.shift(30)
    assert offset(charger) < -(10**9)
    assert "not set" in alerts("clock")[0].detail


def test_a_right_clock_costs_one_write_in_its_life(charger):
    charger.boot()
    says(charger, timedelta(0))
    assert offset(charger) in (-1, 0)  # what is written has no fractions
    charger.connect()
    with CaptureQueriesContext(connection) as seen:
        says(charger, timedelta(seconds=3))
    assert not any("clock_offset_s" in query["sql"] or "FOR NO KEY UPDATE" in query["sql"] for query in seen)


def test_Q53_Q97_times_without_a_zone_are_the_stations_own_once_that_is_seen(charger):
    charger.boot()
    naive, kolkata = "%Y-%m-%dT%H:%M:%S", timedelta(hours=5, minutes=30)
    says(charger, kolkata, naive)
    assert alerts("clock") == [] and abs(offset(charger)) <= 2
    assert ChargePoint.objects.get(pk=charger.row.pk).learned["naive_time"] == "local"
    # Out of its queue: as UTC it would be half an hour ago, and was six hours ago.
    began = clock.now() - timedelta(hours=6)
    charger.connect()
    charger.boot(firmwareVersion="1.1")
    charger.call("StartTransaction", {"connectorId": 1, "idTag": "CARD", "meterStart": 0, "timestamp": (began + kolkata).strftime(naive)})
    assert abs(ChargingSession.objects.get().start_time - began) <= timedelta(seconds=1)


def test_Q53_a_firmware_that_has_learned_utc_is_believed_again(charger):
    charger.boot()
    naive = "%Y-%m-%dT%H:%M:%S"
    says(charger, timedelta(hours=5, minutes=30), naive)
    charger.connect()
    says(charger, timedelta(0), naive)
    assert ChargePoint.objects.get(pk=charger.row.pk).learned["naive_time"] == "UTC"
    assert abs(offset(charger)) <= 2 and alerts("clock") == [] and charger.context.habits.naive_time == "UTC"


def test_Q53_what_its_profile_says_of_its_times_counts(charger):
    profile(naive_time="UTC")
    charger.boot()
    says(charger, timedelta(hours=5, minutes=30), "%Y-%m-%dT%H:%M:%S")
    assert "naive_time" not in ChargePoint.objects.get(pk=charger.row.pk).learned
    assert len(alerts("clock")) == 1


@pytest.mark.parametrize("text", ["2026-03-01T10:00:00", "+02", ".123456Z", "1970-01-01T00:00:00Z", "tomorrow", ""])
def test_B13_any_timestamp_gets_its_answer(charger, text):
    now = clock.now()
    text = {"+02": f"{now + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02", ".123456Z": f"{now:%Y-%m-%dT%H:%M:%S}.123456Z"}.get(text, text)
    text = f"{now + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}" if text == "tomorrow" else text
    charger.boot()
    assert charger.status("Available", timestamp=text) == {}
    answer = charger.call("StartTransaction", {"connectorId": 1, "idTag": "CARD", "meterStart": 0, "timestamp": text})
    assert answer["transactionId"] > 0
    session = ChargingSession.objects.get()
    assert session.start_time <= clock.now() + timedelta(minutes=5)


def test_a_replaced_socket_is_not_believed_about_its_clock(charger):
    charger.boot()
    old = charger.context
    charger.connect()
    charger.context = old
    says(charger, timedelta(hours=3))
    assert offset(charger) is None and alerts("clock") == []


def test_units_of_a_profile_reach_the_meter(charger):
    profile(energy_unit="kWh", power_unit="kW")
    charger.boot()
    charger.start(tag="CARD", meter=0)
    clock.shift(600)
    frame = [2, "kw1", "MeterValues", {"connectorId": 1, "transactionId": charger.transaction_id, "meterValue": [
        {"timestamp": timestamps.write(clock.now()), "sampledValue": [
            {"value": "5.5"}, {"value": "33", "measurand": "Power.Active.Import", "unit": "W"}]}]}]  # fmt: skip
    assert dispatch.answer(json.dumps(frame).encode(), charger.context)
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.last_power_w) == (5500, 33_000)


def test_the_door_knows_what_was_learned(charger):
    quirks.learn(charger.row.pk, naive_time="local")
    quirks.learn(charger.row.pk, other=1)
    known = stations.find(charger.row.cp_id)
    assert known.learned == {"naive_time": "local", "other": 1}
    assert dispatch.habits_of(known).naive_time == "local"


# -- a box that speaks of its one connector as 0 -----------------------------------------------------------------------
def test_Q60_one_connector_spoken_of_as_0_is_that_connector(charger, network):
    charger.boot()
    charger.status("Available", connector=0)
    assert Connector.objects.get(charge_point=charger.row.cp_id).status == "Available"  # as before: this is the charger's own
    Connector.objects.filter(charge_point=charger.row.cp_id).update(status="Unknown")
    charger.status("Preparing", connector=0)
    assert Connector.objects.get(charge_point=charger.row.cp_id).status == "Preparing"
    charger.connect()
    charger.status("Available", connector=0)
    assert Connector.objects.get(charge_point=charger.row.cp_id).status == "Available"


def test_Q60_of_two_connectors_0_is_neither(charger):
    charger.boot()
    charger.status("Available", connector=2)
    charger.status("Charging", connector=0)
    assert {one.status for one in Connector.objects.filter(charge_point=charger.row.cp_id)} == {"Available"}
