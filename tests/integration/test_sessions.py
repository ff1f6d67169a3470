"""What chargers say becomes sessions: started once, metered, stopped once."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from csms import permits, sessions, stations
from csms.models import ChargePoint, ChargerError, ChargingSession, Command, IdTag, MeterReading, OcppMessage
from csms.timestamps import write
from tests.charger import Charger, later
from tests.factories import make_connector
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


@pytest.fixture
def permit(network, charger):
    return permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=27_785, start_until=later(300)
    )


def test_a_paid_session_from_permit_to_stop(charger, permit, network, django_capture_on_commit_callbacks, bells):
    assert permits.ask_due(clock.now(), 10) == 1
    unique_id, action, payload = charger.command()
    assert (action, payload) == ("RemoteStartTransaction", {"connectorId": 1, "idTag": permit.tag})
    charger.accept(unique_id)
    answer = charger.start(tag=permit.tag.lower(), meter=1_000)
    assert answer == {"transactionId": charger.transaction_id, "idTagInfo": {"status": "Accepted"}}
    session = ChargingSession.objects.get()
    assert (session.state, session.user, session.company, session.limit_wh) == ("STARTED", network.asha, network.kaveri.company, 27_785)
    permit.refresh_from_db()
    assert permit.state == IdTag.State.USED
    assert Command.objects.get(permit=permit).state == "effective"
    charger.charge(1_000, 11_000)
    session.refresh_from_db()
    assert (session.state, session.energy_wh) == ("RUNNING", 10_000)
    with django_capture_on_commit_callbacks(execute=True):
        assert charger.stop(11_020) == {}
    session.refresh_from_db()
    assert (session.state, session.energy_wh, session.stop_reason) == ("STOPPED", 10_020, "Local")
    assert "session.ended" in bells


def test_the_same_start_again_is_the_same_session(charger, permit):
    at = clock.now()
    first = charger.start(tag=permit.tag, meter=5, at=at)
    again = charger.start(tag=permit.tag, meter=5, at=at)
    assert first == again
    assert ChargingSession.objects.count() == 1


def test_a_clock_that_is_set_in_the_middle_does_not_turn_the_readings_of_a_stop_around(charger, permit):
    """It ran an hour fast at its begin; and its stop reads a little lower than its last sample."""
    fast, right = clock.now() + timedelta(hours=1), clock.now() + timedelta(seconds=35)
    charger.start(tag=permit.tag, meter=3_990_832, at=fast)
    clock.shift(35)
    told = [(fast, 3_990_832, "Transaction.Begin"), (right, 3_990_889, "Transaction.End")]
    data = [
        {"timestamp": write(at), "sampledValue": [{"value": str(wh), "context": context, "measurand": "Energy.Active.Import.Register"}]}
        for at, wh, context in told
    ]
    charger.stop(3_990_875, at=right, transactionData=data)
    assert ChargingSession.objects.get().energy_wh == 57


UNSET = "1970-01-01T00:00:07Z"


def test_a_start_said_again_after_a_boot_is_the_same_even_if_no_clock_tells(charger, permit):
    first = charger.start(tag=permit.tag, meter=5, timestamp=UNSET)
    charger.boot()
    assert charger.start(tag=permit.tag, meter=5, timestamp=UNSET) == first
    assert ChargingSession.objects.count() == 1


def test_a_card_may_begin_again_at_a_charger_without_a_clock_when_nothing_flowed(charger, network):
    IdTag.objects.create(tag="CARD0001", kind=IdTag.Kind.RFID, company=network.voltaro)
    first = charger.start(tag="CARD0001", meter=5, timestamp=UNSET)["transactionId"]
    assert charger.start(tag="CARD0001", meter=5, timestamp=UNSET)["transactionId"] == first
    charger.stop(5)
    charger.boot()
    second = charger.start(tag="CARD0001", meter=5, timestamp=UNSET)["transactionId"]
    assert second != first
    assert charger.start(tag="CARD0001", meter=5, timestamp=UNSET)["transactionId"] == second


@pytest.mark.parametrize("boots", [True, False])
def test_a_card_charges_again_at_a_charger_without_a_clock_whose_register_begins_at_0(charger, network, boots):
    """Its starts look alike, every one of them: the second and all that followed were taken for the first, and not counted."""
    IdTag.objects.create(tag="CARD0001", kind=IdTag.Kind.RFID, company=network.voltaro)
    IdTag.objects.create(tag="CARD0002", kind=IdTag.Kind.RFID, company=network.voltaro)
    for number, tag in enumerate(["CARD0001", "CARD0001", "CARD0002", "CARD0001", "CARD0001"], start=1):
        told = [charger.start(tag=tag, meter=0, timestamp=UNSET) for _ in range(2)]
        charger.charge(0, 1_000)
        told.append(charger.start(tag=tag, meter=0, timestamp=UNSET))
        charger.stop(1_000)
        assert told[0] == told[1] == told[2], "said again, while it charges, it is the same"
        assert ChargingSession.objects.count() == number
        if boots:
            charger.boot()
    found = ChargingSession.objects.order_by("pk")
    assert [(one.id_tag, one.state, one.energy_wh) for one in found] == [
        (tag, "STOPPED", 1_000) for tag in ("CARD0001", "CARD0001", "CARD0002", "CARD0001", "CARD0001")
    ]


def test_a_start_out_of_a_queue_without_a_clock_begins_nothing_where_the_register_has_moved_on(charger, network, permit):
    """Nor where another charges, nor a payment's a second time, nor before its stop was told."""
    IdTag.objects.create(tag="CARD0001", kind=IdTag.Kind.RFID, company=network.voltaro)
    first = charger.start(tag="CARD0001", meter=7_000, timestamp=UNSET)["transactionId"]
    charger.charge(7_000, 8_000)
    charger.stop(8_000)
    assert charger.start(tag="CARD0001", meter=7_000, timestamp=UNSET)["transactionId"] == first
    second = charger.start(tag="CARD0001", meter=0, timestamp=UNSET)["transactionId"]
    charger.charge(0, 1_000)
    assert sessions.finalize(ChargingSession.objects.get(transaction_id=second).pk, "OPERATOR")
    assert charger.start(tag="CARD0001", meter=0, timestamp=UNSET)["transactionId"] == second, "we ended it: its stop may be on its way"
    charger.stop(1_000)
    paid = charger.start(tag=permit.tag, meter=0, timestamp=UNSET)["transactionId"]
    assert charger.start(tag="CARD0001", meter=0, timestamp=UNSET)["transactionId"] == second, "somebody charges there"
    charger.transaction_id = paid
    charger.charge(0, 1_000)
    charger.stop(1_000)
    assert charger.start(tag=permit.tag, meter=0, timestamp=UNSET)["transactionId"] == paid
    assert ChargingSession.objects.count() == 3


def test_a_stop_again_changes_nothing(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 2_000)
    charger.stop(2_000)
    before = ChargingSession.objects.values().get()
    charger.stop(9_000)
    assert ChargingSession.objects.values().get() == before


def test_an_unknown_tag_is_recorded_and_told_to_stop(charger):
    answer = charger.start(tag="STRANGER", meter=0)
    assert answer["idTagInfo"]["status"] == "Invalid" and answer["transactionId"] > 0
    session = ChargingSession.objects.get()
    assert not session.authorized
    assert charger.command()[1] == "RemoteStopTransaction"


def test_a_start_nobody_may_is_told_to_stop_until_it_does(charger):
    """The one stop was lost or refused, and the car charged for nothing as long as it liked."""
    charger.start(tag="STRANGER", meter=0)
    asked = [charger.command()]
    charger.accept(asked[0][0], {"status": "Rejected"})
    for wh in range(1, 9):
        clock.shift(25)
        charger.meter(wh * 100, 20_000)
        sessions.stop_due(clock.now(), 10)
        if command := charger.command():
            asked.append(command)
            charger.accept(command[0], {"status": "Rejected"})
    assert {action for _, action, _ in asked} == {"RemoteStopTransaction"} and len(asked) == 6
    charger.stop(900)
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.overrun_wh) == (900, 900)
    assert "not_stopping" in session.flags


def test_a_clock_of_the_year_its_firmware_was_built_is_not_believed(charger, permit):
    built = datetime(2021, 4, 1, tzinfo=UTC)
    charger.start(tag=permit.tag, meter=0, at=built)
    charger.meter(100, 20_000, at=built + timedelta(seconds=10))
    session, reading = ChargingSession.objects.get(), MeterReading.objects.get()
    assert "clock" in session.flags and session.start_time == session.started_at
    assert reading.at == reading.received_at and reading.late is False
    charger.stop(200, at=built + timedelta(seconds=20))
    session.refresh_from_db()
    assert session.end_time >= session.start_time


def idle(charger, wh: int) -> None:
    """A reading by the clock: of the connector, of no transaction, and nothing flows."""
    value = {"timestamp": write(clock.now()), "sampledValue": [{"value": str(wh), "context": "Sample.Clock"}]}
    charger.call("MeterValues", {"connectorId": 1, "meterValue": [value]})


def test_readings_by_the_clock_do_not_bring_back_what_a_power_cut_ended(charger, permit):
    """The charger forgot its transaction and will never stop it; its idle readings kept the rider's money for ever."""
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 2_000)
    charger.drop()
    charger.connect()
    charger.boot()
    for _ in range(5):
        clock.shift(60)
        idle(charger, 2_000)
    sessions.timeout_due(clock.now(), 10)
    session = ChargingSession.objects.get()
    assert (session.state, session.stop_reason, session.energy_wh) == ("STOPPED", "DISCONNECT_TIMEOUT", 2_000)


def test_readings_by_the_clock_do_not_keep_a_lost_stop_waiting_for_ever(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 2_000)
    for _ in range(13):
        clock.shift(900)
        idle(charger, 2_000)
        sessions.timeout_due(clock.now(), 10)
    assert ChargingSession.objects.get().stop_reason == "SILENCE"


def test_readings_without_a_transaction_move_their_session_while_energy_flows(charger, permit):
    """One model never names its transaction."""
    charger.start(tag=permit.tag, meter=0)
    charger.drop()
    charger.connect()
    for wh in (100, 200, 300):
        clock.shift(60)
        idle(charger, wh)
    assert ChargingSession.objects.values_list("state", "energy_wh").get() == ("RUNNING", 300)


def test_a_socket_remembers_no_more_sessions_than_a_charger_has_connectors(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    for number in range(1, 60):
        charger.meter(number, 3_000, connector=number)
    assert len(charger.context.remembered) <= stations.MAX_CONNECTORS


def test_a_charger_that_would_not_stop_is_asked_again_now_and_then(charger, permit):
    """After a reboot it may listen; what flows meanwhile is ours."""
    charger.start(tag=permit.tag, meter=0)
    ChargingSession.objects.update(limit_wh=100)
    charger.charge(0, 1_000, step_s=30)
    for _ in range(sessions.STOP_ATTEMPTS + 2):
        sessions.stop_due(clock.now(), 10)
        clock.shift(sessions.STOP_AGAIN_S + 1)
    assert Command.objects.filter(trigger="limit").count() == sessions.STOP_ATTEMPTS
    clock.shift(sessions.STOP_RARELY_S)
    charger.meter(1_100, 20_000)
    sessions.stop_due(clock.now(), 10)
    sessions.stop_due(clock.now(), 10)
    assert Command.objects.filter(trigger="limit").count() == sessions.STOP_ATTEMPTS + 1


def test_a_permit_is_worth_nothing_at_another_charger(charger, permit, network):
    ganga = Charger(network.ganga_charger)
    ganga.boot()
    assert ganga.start(tag=permit.tag)["idTagInfo"]["status"] == "Invalid"
    permit.refresh_from_db()
    assert permit.state == IdTag.State.READY


def test_a_start_after_the_refund_was_asked_is_not_accepted(charger, permit):
    assert permits.revoke(permit.pk, "not_started")
    assert charger.start(tag=permit.tag)["idTagInfo"]["status"] == "Invalid"


def test_a_refund_after_the_start_is_not_granted(charger, permit):
    charger.start(tag=permit.tag)
    assert not permits.revoke(permit.pk, "not_started")


def test_the_charger_may_start_under_a_tag_of_its_own_after_our_request(charger, permit):
    permits.ask_due(clock.now(), 10)
    charger.accept(charger.command()[0])
    assert charger.start(tag="00000000")["idTagInfo"]["status"] == "Accepted"
    session = ChargingSession.objects.get()
    assert session.permit == permit and session.flags == ["tag_changed"]


def test_plugging_in_asks_again_but_not_twice_while_the_charger_holds_our_request(charger, permit):
    permits.ask_due(clock.now(), 10)
    charger.raw(json.dumps([3, charger.command()[0], {"status": "Rejected"}]))
    charger.status("Preparing")
    assert permits.ask_due(clock.now(), 10) == 1  # it had refused: asked at once
    charger.accept(charger.command()[0])
    charger.status("Preparing")
    assert permits.ask_due(clock.now(), 10) == 0  # it accepted: it starts by itself in a moment
    clock.shift(11)
    assert permits.ask_due(clock.now(), 10) == 1
    assert charger.command()[1] == "RemoteStartTransaction"


def test_one_charger_cannot_stop_another_ones_session(charger, permit, network):
    charger.start(tag=permit.tag, meter=0)
    ganga = Charger(network.ganga_charger)
    ganga.transaction_id = charger.transaction_id
    assert ganga.stop(50) == {}
    assert ChargingSession.objects.get().live


def test_a_stop_that_lost_its_id_means_the_open_session(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.transaction_id = -1
    charger.stop(100)
    assert ChargingSession.objects.get().state == "STOPPED"


@pytest.mark.parametrize("ended_by", ["its stop", "us", "us, and its late stop"])
def test_a_stop_without_a_number_that_is_told_again_ends_nobody_elses_session(network, ended_by):
    """Two outlets; the answer to the stop of one was lost with the line."""
    make_connector(network.kaveri_charger, 2)
    for tag in ("CARD1", "CARD2"):
        IdTag.objects.create(tag=tag, company=network.kaveri.company)
    charger = Charger(network.kaveri_charger)
    charger.boot()
    first = charger.start("CARD1", meter=1_000, connector=1)["transactionId"]
    charger.start("CARD2", meter=1_000, connector=2)
    clock.shift(60)
    at = clock.now()
    if ended_by == "its stop":
        charger.call("StopTransaction", stop_without_number(1_500, at, "CARD1"))
    else:
        sessions.finalize(ChargingSession.objects.get(transaction_id=str(first)).pk, "NO_STOP")
    if "late" in ended_by:
        charger.call("StopTransaction", stop_without_number(1_500, at, "CARD1"))
    charger.drop()
    charger.connect()
    charger.call("StopTransaction", stop_without_number(1_500, at, "CARD1"))
    ended, other = ChargingSession.objects.order_by("pk")
    assert (ended.transaction_id, ended.live, ended.reported_wh) == (str(first), False, 500)
    assert other.live and other.energy_wh == 0
    charger.call("StopTransaction", stop_without_number(1_900, clock.now(), "CARD2"))
    other.refresh_from_db()
    assert (other.live, other.energy_wh) == (False, 900)


def stop_without_number(wh, at, tag):
    return {"transactionId": -1, "meterStop": wh, "timestamp": write(at), "idTag": tag}


def test_a_stop_that_became_due_while_the_line_was_away_is_sent_when_it_is_back(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    clock.shift(5)
    charger.meter(100, 60_000)
    due_at = ChargingSession.objects.get().stop_due_at
    charger.drop()
    clock.shift((due_at - clock.now()).total_seconds() + 1)
    assert sessions.stop_due(clock.now(), 10) == 0, "nobody is there to be told"
    charger.connect()
    assert sessions.stop_due(clock.now(), 10) == 1
    assert charger.asked("RemoteStopTransaction")[2] == {"transactionId": charger.transaction_id}


def test_an_invalid_stop_reason_becomes_other_and_is_kept(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.stop(0, reason="AppStop")
    session = ChargingSession.objects.get()
    assert (session.stop_reason, session.stop_reason_raw) == ("Other", "AppStop")


def test_a_disconnect_suspends_and_readings_resume(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 1_000)
    charger.drop()
    session = ChargingSession.objects.get()
    assert session.state == "SUSPENDED"
    clock.shift(60)
    charger.connect()
    charger.meter(1_500, 60_000)
    session.refresh_from_db()
    assert (session.state, session.resume_count, session.energy_wh) == ("RUNNING", 1, 1_500)


@pytest.mark.parametrize("known", [False, True])
def test_what_was_paid_for_did_not_begin_before(charger, permit, known):
    """Its clock was three days behind at the start, and was set then: no three days of charging, and the session bears our time."""
    if known:
        ChargePoint.objects.filter(pk=charger.row.pk).update(clock_offset_s=-3 * 86_400)
    charger.start(tag=permit.tag, meter=0, at=later(-3 * 86_400))
    session = ChargingSession.objects.get()
    assert abs((session.start_time - clock.now()).total_seconds()) < 5 and session.flags == ["clock"]
    clock.shift(30)
    charger.meter(90_000, 60_000)
    session.refresh_from_db()
    assert (session.energy_wh, session.pending_wh) == (0, 90_000)


def test_a_charger_that_is_back_at_once_may_take_its_time_to_read(charger, permit):
    """Sampled every five minutes, and our own restart closed its line for a second: nothing ends."""
    charger.status("Charging")
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 1_000)
    charger.drop()
    charger.connect()
    clock.shift(240)
    assert sessions.timeout_due(clock.now(), 10) == 0
    charger.meter(5_000, 60_000)
    session = ChargingSession.objects.get()
    assert (session.state, session.energy_wh) == ("RUNNING", 5_000)
    charger.drop()
    charger.connect()
    clock.shift(899)
    assert sessions.timeout_due(clock.now(), 10) == 0
    clock.shift(1)
    assert sessions.timeout_due(clock.now(), 10) == 1
    session.refresh_from_db()
    assert session.stop_reason == "DISCONNECT_TIMEOUT"
    assert AuditEntry.objects.filter(action="failure.disconnect_stopped").exists()
    assert not AuditEntry.objects.filter(action="failure.stale_suspended_swept").exists()


def test_a_line_that_blinks_again_while_it_waits_ends_nothing(charger, permit):
    charger.status("Charging")
    charger.start(tag=permit.tag, meter=0)
    charger.drop()
    clock.shift(1)
    charger.connect()
    clock.shift(170)
    charger.call("Heartbeat")
    clock.shift(60)
    charger.drop()
    assert sessions.timeout_due(clock.now(), 10) == 0
    clock.shift(180)
    assert sessions.timeout_due(clock.now(), 10) == 1


def test_an_idle_socket_is_not_waited_for_longer_because_its_line_blinked(charger, permit, network):
    """Its time at Available had begun: the line that is back says nothing of a car."""
    type(network.kaveri_connector).objects.filter(pk=network.kaveri_connector.pk).update(type="socket")
    charger.start(tag=permit.tag, meter=0)
    charger.status("Available")
    charger.drop()
    charger.connect()
    clock.shift(180)
    assert sessions.timeout_due(clock.now(), 10) == 1


@pytest.mark.parametrize("sign", ["boot", "idle"])
def test_back_with_a_boot_or_an_idle_connector_it_is_waited_for_three_minutes(charger, permit, sign):
    charger.status("Charging")
    charger.start(tag=permit.tag, meter=0)
    charger.drop()
    charger.connect()
    charger.boot() if sign == "boot" else charger.status("Available")
    clock.shift(179)
    assert sessions.timeout_due(clock.now(), 10) == 0
    clock.shift(1)
    assert sessions.timeout_due(clock.now(), 10) == 1


def test_a_stop_with_its_readings_after_a_long_silence_ends_as_it_says(charger, permit):
    """It tells its readings with the stop only (transactionData), and its line was lost for seconds after 20 minutes."""
    charger.start(tag=permit.tag, meter=0)
    clock.shift(1_200)
    charger.drop()
    charger.connect()
    told = [{"timestamp": write(later(-90)), "sampledValue": [{"value": "9000"}]}]
    charger.stop(10_000, transactionData=told)
    session = ChargingSession.objects.get()
    assert (session.stop_reason, session.energy_wh, session.reported_wh) == ("Local", 10_000, 10_000)


@pytest.mark.parametrize("live", [False, True])
def test_readings_of_a_stop_without_a_clock_count_once_and_leave_the_stop_its_time(charger, permit, live):
    """Its clock was never set: nothing tells the samples of transactionData from those that were told while it charged."""
    charger.start(tag=permit.tag, meter=0, at=datetime(1970, 1, 1, tzinfo=UTC))
    steps = range(200, 7_001, 200)
    for wh in steps:
        clock.shift(30)
        if live:
            charger.meter(wh, 25_000, at=datetime(1970, 1, 1, tzinfo=UTC))
    told = [{"timestamp": "1970-01-01T00:00:00Z", "sampledValue": [{"value": str(wh)}]} for wh in ((0, *steps) if live else (0,))]
    charger.stop(7_000, at=datetime(1970, 1, 1, tzinfo=UTC), transactionData=told)
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.reported_wh) == (7_000, 7_000) and "held" not in session.flags


def test_the_main_meter_moves_no_session_of_the_one_connector(charger, permit):
    charger.start(tag=permit.tag, meter=1_000)
    charger.meter(1_100, 60_000)
    for wh in (1_300, 1_350, 1_400):
        clock.shift(30)
        charger.call(
            "MeterValues", {"connectorId": 0, "meterValue": [{"timestamp": write(clock.now()), "sampledValue": [{"value": str(wh)}]}]}
        )
    charger.meter(1_200, 60_000)
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.flags) == (200, [])
    assert session.readings.count() == 2


def test_a_charger_that_stays_away_ends_its_session_once(charger, permit, django_capture_on_commit_callbacks, bells):
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 1_000)
    charger.drop()
    assert sessions.timeout_due(clock.now(), 10) == 0
    clock.shift(181)
    with django_capture_on_commit_callbacks(execute=True):
        assert sessions.timeout_due(clock.now(), 10) == 1
    assert sessions.timeout_due(clock.now(), 10) == 0
    session = ChargingSession.objects.get()
    assert (session.state, session.stop_reason, session.energy_wh) == ("STOPPED", "DISCONNECT_TIMEOUT", 1_000)
    assert bells.count("session.ended") == 1
    # The real stop, when it comes, is recorded and bills nothing.
    charger.connect()
    charger.stop(1_400)
    session.refresh_from_db()
    assert (session.energy_wh, session.reported_wh, "late" in session.flags) == (1_000, 1_400, True)


def test_a_replaced_socket_is_fenced_but_its_facts_count(charger, permit, network):
    old = charger.context
    charger.connect()
    new = charger.context
    assert new.epoch == old.epoch + 1
    charger.context = old
    charger.status("Faulted", error="GroundFailure")
    network.kaveri_connector.refresh_from_db()
    assert network.kaveri_connector.status == "Available"
    charger.start(tag=permit.tag, meter=0)
    assert ChargingSession.objects.count() == 1
    assert charger.command() is None
    charger.drop()  # the old socket's end takes nothing offline
    network.kaveri_charger.refresh_from_db()
    assert network.kaveri_charger.online
    assert ChargingSession.objects.get().live


def test_the_stop_is_planned_ahead_of_the_limit_from_the_power_now_flowing(charger, permit):
    IdTag.objects.filter(pk=permit.pk).update(limit_wh=1_000)
    charger.start(tag=permit.tag, meter=0)
    clock.shift(30)
    charger.meter(400, 60_000)
    session = ChargingSession.objects.get()
    # 600 Wh at 60 kW take 36 s; the stop takes 2.
    assert abs((session.stop_due_at - clock.now()).total_seconds() - 34) < 1
    assert not sessions.stop_if_due(session.pk, clock.now())
    clock.shift(34.5)
    assert sessions.stop_if_due(session.pk, clock.now())
    assert charger.command()[1:] == ("RemoteStopTransaction", {"transactionId": charger.transaction_id})
    charger.stop(1_040)
    session.refresh_from_db()
    assert (session.energy_wh, session.overrun_wh) == (1_040, 40)


def test_an_odometer_after_a_placeholder_is_never_energy(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    for wh in (910_000, 910_100, 910_200):
        clock.shift(10)
        charger.meter(wh, 40_000)
    charger.stop(910_200)
    session = ChargingSession.objects.get()
    assert session.energy_wh == 200
    assert "suspect" in session.flags


def test_a_queue_kept_offline_arrives_at_once_and_counts(charger, permit):
    began = clock.now()
    charger.start(tag=permit.tag, meter=0, at=began)
    clock.shift(600)
    for minute in range(1, 10):
        charger.meter(minute * 900, 54_000, at=began + timedelta(minutes=minute))
    charger.stop(9_000, at=began + timedelta(minutes=10))
    assert ChargingSession.objects.get().energy_wh == 9_000


def test_a_new_start_supersedes_what_was_open(charger, network):
    charger.start(tag="A", meter=0)
    clock.shift(5)
    charger.start(tag="B", meter=10)
    old, new = ChargingSession.objects.order_by("pk")
    assert (old.state, old.stop_reason, new.live) == ("STOPPED", "SUPERSEDED", True)


def test_readings_after_the_end_are_kept_as_late(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.stop(10)
    charger.meter(20)
    assert MeterReading.objects.get().late
    assert ChargingSession.objects.get().energy_wh == 10


def _asked(deed):
    with CaptureQueriesContext(connection) as seen:
        deed()
    # Not counted: a test's own savepoints, and the sign of life that a charger leaves every 20 seconds.
    mine = [query["sql"] for query in seen if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    return [sql for sql in mine if '"last_seen"' not in sql]


def test_a_reading_costs_at_most_six_queries_whatever_the_history(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 20_000)
    charger.context.remembered.clear()  # as after a reconnect: the ordinary way
    for wh, most in ((20_100, 6), (20_200, 1), (20_300, 1)):
        clock.shift(10)
        asked = _asked(lambda wh=wh: charger.meter(wh, 60_000))
        assert len(asked) <= most, asked
    assert ChargingSession.objects.get().energy_wh == 20_300


def test_the_quick_way_stores_the_frame_the_reading_and_the_session_or_nothing(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 1_000)
    before = MeterReading.objects.count(), OcppMessage.objects.count()
    # Somebody else touched the session: what this socket remembers is old, and the ordinary way finds what is true.
    ChargingSession.objects.update(updated_at=clock.now(), flags=["not_stopping"], last_power_w=7)
    clock.shift(10)
    assert len(_asked(lambda: charger.meter(1_100, 60_000))) > 1
    session = ChargingSession.objects.get()
    assert (session.energy_wh, session.flags, session.last_power_w) == (1_100, ["not_stopping"], 60_000)
    clock.shift(10)
    assert len(_asked(lambda: charger.meter(1_200, 60_000))) == 1
    assert (MeterReading.objects.count(), OcppMessage.objects.count()) == (before[0] + 2, before[1] + 2)
    kept = MeterReading.objects.latest("pk")
    assert (kept.session, kept.energy_wh, kept.power_w, kept.late) == (session, 1_200, 60_000, False)


def test_the_quick_way_never_revives_an_ended_session(charger, permit):
    charger.start(tag=permit.tag, meter=0)
    charger.charge(0, 1_000)
    assert sessions.finalize(ChargingSession.objects.get().pk, "OPERATOR")
    clock.shift(10)
    charger.meter(1_100, 60_000)
    session = ChargingSession.objects.get()
    assert (session.state, session.energy_wh) == ("STOPPED", 1_000)
    assert MeterReading.objects.latest("pk").late


def test_a_boot_and_a_status_that_tell_nothing_new_are_one_statement_each(charger, network):
    charger.status("Available")
    clock.shift(601)  # boots that follow each other sooner are counted
    boots = ChargePoint.objects.get(pk=charger.row.pk).boot_count
    before = OcppMessage.objects.count()
    for deed in (charger.boot, lambda: charger.status("Finishing")):
        assert len(_asked(deed)) == 1
    network.kaveri_connector.refresh_from_db()
    assert network.kaveri_connector.status == "Finishing"
    assert ChargePoint.objects.get(pk=charger.row.pk).boot_count == boots + 1
    assert OcppMessage.objects.count() == before + 2


def test_a_boot_that_tells_something_new_goes_the_ordinary_way(charger, permit):
    charger.boot(firmwareVersion="2.0")
    assert AuditEntry.objects.filter(action="charge_point.booted").latest("pk").after["firmware"] == "2.0"
    charger.start(tag=permit.tag, meter=0)
    charger.boot(firmwareVersion="2.0")
    assert ChargingSession.objects.get().state == "SUSPENDED"


def test_a_fault_and_its_end_go_the_ordinary_way(charger):
    charger.status("Faulted", error="GroundFailure")
    assert ChargerError.objects.get().resolved_at is None
    charger.status("Available")
    assert ChargerError.objects.get().resolved_at is not None


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        ('[2,"1","Heartbeat",null]', 3),
        ('[2,"1","Heartbeat"]', 3),
        ('["2","1","Heartbeat",{}]', 3),
        ('[2,7,"Heartbeat",{}]', 3),
        ('[2,"1","FooBar",{}]', "NotImplemented"),
        ('[2,"1","RemoteStartTransaction",{"idTag":"A"}]', "NotSupported"),
        ('[2,"1","StatusNotif', "FormationViolation"),
        ('[2,"1",{},{}]', "FormationViolation"),
        ("[" * 9_000, "FormationViolation"),
        ('[2,"1","MeterValues",{"connectorId":1,"transactionId":,"meterValue":[]}]', 3),
        ('[2,"1","MeterValues",{"connectorId":"1","meterValue":{"timestamp":"x","sampledValue":{"value":" 3,2"}}}]', 3),
        ('[2,"1","StopTransaction",{}]', 3),
        ('[2,"1","StartTransaction",{"connectorId":99999999999999999999}]', 3),
        ("AT+CSQ", None),
        ('[9,"1","x"]', None),
        ("{}", None),
        (b"\xff\xfe\x00", None),
        ('[3,"nobody asked",{}]', None),
    ],
)
def test_odd_frames_get_their_answer_and_are_kept(charger, frame, answer):
    before = OcppMessage.objects.count()
    said = charger.raw(frame)
    if answer is None:
        assert said is None
    elif answer == 3:
        assert said[0] == 3
    else:
        assert (said[0], said[2]) == (4, answer)
    kept = OcppMessage.objects.filter(direction="IN").latest("pk")
    assert OcppMessage.objects.count() == before + 1
    assert bytes(kept.raw) == (frame.encode() if isinstance(frame, str) else frame)


def test_our_own_mistake_never_reaches_the_charger_as_an_error(charger, permit, monkeypatch):
    charger.start(tag=permit.tag, meter=0)
    monkeypatch.setattr("csms.metering.sessions.apply", lambda *a, **k: 1 / 0)
    assert charger.stop(10) == {}
    kept = OcppMessage.objects.filter(action="StopTransaction").get()
    assert "ZeroDivisionError" in kept.note


def test_control_bytes_and_lengths_are_no_trouble(charger):
    answer = charger.boot(chargePointVendor="Ac\u0000me" * 20, chargePointSerialNumber="S" * 60, vendorField=1, iccid=None)
    assert answer["status"] == "Accepted"
    row = charger.row
    row.refresh_from_db()
    assert row.vendor.startswith("AcmeAcme") and row.serial_number == "S" * 25


def test_a_lease_that_ran_out_takes_the_charger_offline(charger, network):
    clock.shift(200)
    assert stations.silent_due(clock.now(), 10) == 1
    network.kaveri_charger.refresh_from_db()
    assert not network.kaveri_charger.online


def test_one_command_is_in_flight_and_answers_settle_it(charger, network):
    from csms import commands

    for key in ("a", "b"):
        commands.request(network.kaveri_charger, "ClearCache", {}, trigger="test", dedupe_key=key)
    commands.request(network.kaveri_charger, "ClearCache", {}, trigger="test", dedupe_key="a")
    assert Command.objects.count() == 2
    first = charger.command()
    assert charger.command() is None
    charger.raw(json.dumps([4, first[0], "NotSupported", "no", {}]))
    assert Command.objects.get(unique_id=first[0]).state == "error"
    second = charger.command()
    charger.drop()
    assert Command.objects.get(unique_id=second[0]).state == "unknown"


def test_a_clock_set_back_in_the_middle_ends_no_session_before_its_start(charger, permit):
    charger.start(tag=permit.tag, meter=1_000)
    charger.charge(1_000, 3_000)
    assert charger.stop(3_000, at=clock.now() - timedelta(minutes=50)) == {}
    session = ChargingSession.objects.get()
    assert session.end_time >= session.start_time and "clock" in session.flags
    assert (session.state, session.energy_wh, session.stop_reason) == ("STOPPED", 2_000, "Local")
