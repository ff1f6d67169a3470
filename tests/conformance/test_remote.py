"""Remote control of OCPP 1.6 (R): what is asked, what is promised, what becomes of it."""

import pytest
from django.core.exceptions import ValidationError

from csms.models import ChargePoint, ChargingSession, Command, Connector
from tests.factories import PASSWORD
from tests.simulate_client import stamp
from voltaro import clock

pytestmark = pytest.mark.e2e


@pytest.fixture
def running(world, charger):
    """A running transaction of CARD1 at connector 1."""
    world.card("CARD1")
    number = charger.start(1, "CARD1", meter_wh=1000)["transactionId"]
    charger.meter(1, number, register_wh=1100, power_w=30_000)
    return number


def stop(world):
    return world.ask("RemoteStopTransaction", {"transactionId": int(world.session().transaction_id)})


# -- starts ----------------------------------------------------------------------------------------------------------------
def test_TC_010_R01_plugged_in_first(world, charger):
    """Plugged in, then started from here: accepted, the start is the one that was asked, the page says charging."""
    world.card("CARD1")
    charger.status(1, "Preparing")
    world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    order = charger.expect("RemoteStartTransaction")
    assert order == {"connectorId": 1, "idTag": "CARD1"}
    world.command("RemoteStartTransaction", "accepted")
    charger.start(1, order["idTag"], meter_wh=0)
    charger.status(1, "Charging")
    row = world.command("RemoteStartTransaction", "effective")
    assert row.session == world.session()
    assert Connector.objects.get(pk=world.network.kaveri_connector.pk).status == "Charging"


def test_TC_011_1_R02_started_first(world, charger):
    """Started from here, then plugged in: the same."""
    world.card("CARD1")
    world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    charger.expect("RemoteStartTransaction")
    world.command("RemoteStartTransaction", "accepted")
    charger.status(1, "Preparing")
    charger.start(1, "CARD1", meter_wh=0)
    assert world.command("RemoteStartTransaction", "effective").session_id


def test_TC_011_2_R03_nobody_plugs_in(world, charger):
    """Accepted, nobody plugs in: it expires, and the connector is free."""
    world.card("CARD1")
    world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    charger.expect("RemoteStartTransaction")
    world.command("RemoteStartTransaction", "accepted")
    world.pass_time(200)
    world.work("commands.timeout")
    world.command("RemoteStartTransaction", "expired")
    assert not ChargingSession.objects.exists()
    world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    charger.expect("RemoteStartTransaction")


def test_TC_026_R04_refused(world, charger):
    """Refused: shown at once."""
    world.card("CARD1")
    world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    charger.expect("RemoteStartTransaction", {"status": "Rejected"})
    assert world.command("RemoteStartTransaction", "rejected").response == {"status": "Rejected"}


def test_R05_started_under_another_tag(world, charger):
    """It starts under a tag of its own: the start is known by its connector and time."""
    world.card("CARD1")
    world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    charger.expect("RemoteStartTransaction")
    started = charger.start(1, "00000000", meter_wh=0)
    assert started["idTagInfo"]["status"] == "Accepted"
    assert world.command("RemoteStartTransaction", "effective").session == world.session()


def test_R06_a_double_click(world, charger):
    """Asked twice at once: one frame goes out."""
    world.card("CARD1")
    first = world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    assert world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"}).pk == first.pk
    charger.expect("RemoteStartTransaction")
    charger.nothing("RemoteStartTransaction", for_s=0.5)


def test_R07_a_charger_that_is_not_there(world):
    """To a charger that is not there it waits, for a time, and says so; then it expires unsent."""
    world.card("CARD1")
    row = world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1"})
    assert row.state == "queued"
    world.pass_time((row.expires_at - clock.now()).total_seconds() + 1)
    world.work("commands.timeout")
    row.refresh_from_db()
    assert (row.state, row.sent_at) == ("expired", None)
    late = world.connect()
    late.nothing("RemoteStartTransaction", for_s=0.5)


def test_R08_the_connector_is_always_named(world, charger):
    """The frame always names a connector from 1 on; a tag of ours has at most 16 hexadecimal digits."""
    world.card("CARD1")
    world.ask("RemoteStartTransaction", {"idTag": "CARD1"})
    assert charger.expect("RemoteStartTransaction")["connectorId"] == 1
    from csms import permits
    from voltaro.clock import now

    connector = world.network.kaveri_connector
    permit = permits.grant(connector=connector, user=None, company=connector.charge_point.company, limit_wh=1000, start_until=now())
    assert len(permit.tag) == 16 and set(permit.tag) <= set("0123456789ABCDEF")


# -- stops -----------------------------------------------------------------------------------------------------------------
def test_TC_012_R09_stopped_from_here(world, charger, running):
    """Stopped from here: accepted, the stop comes, it is over."""
    stop(world)
    assert charger.expect("RemoteStopTransaction") == {"transactionId": running}
    charger.stop(running, meter_wh=1500, reason="Remote")
    assert world.command("RemoteStopTransaction", "effective")
    assert (world.session().state, world.session().stop_reason) == ("STOPPED", "Remote")


def test_TC_028_R10_a_stop_that_is_refused(world, charger, running):
    """Refused: shown; tried once more under the number the charger itself last used."""
    charger.call(
        "MeterValues",
        {"connectorId": 1, "transactionId": 7, "meterValue": [{"timestamp": stamp(), "sampledValue": [{"value": "1200"}]}]},
    )
    stop(world)
    charger.expect("RemoteStopTransaction", {"status": "Rejected"})
    assert charger.expect("RemoteStopTransaction")["transactionId"] == 7
    assert Command.objects.filter(action="RemoteStopTransaction", state="rejected").exists()


def test_R11_a_stop_that_is_not_obeyed(world, charger, running):
    """Accepted and still charging: asked again, then a person is told."""
    stop(world)
    charger.expect("RemoteStopTransaction")
    world.command("RemoteStopTransaction", "accepted")
    from csms.models import Alert

    for minute in range(1, 8):
        world.pass_time(70)
        charger.meter(1, running, register_wh=1100 + minute * 100, power_w=30_000, at=clock.now())
        world.work("commands.timeout", "sessions.stop")
        if Alert.objects.filter(kind="not_obeying").exists():
            break
        charger.automatic["RemoteStopTransaction"] = {"status": "Accepted"}
        world.until(lambda: not Command.objects.filter(action="RemoteStopTransaction", state__in=("queued", "sent")).exists())
    assert Command.objects.filter(action="RemoteStopTransaction").count() > 1
    assert Alert.objects.filter(kind="not_obeying", cleared_at__isnull=True).exists()


def test_R12_a_stop_nobody_answers(world, charger, running):
    """No answer: the outcome is unknown until the stop comes."""
    stop(world)
    charger.expect("RemoteStopTransaction", None)
    world.pass_time(35)
    world.work("commands.timeout")
    world.command("RemoteStopTransaction", "timeout")
    charger.stop(running, meter_wh=1400, reason="Remote")
    world.command("RemoteStopTransaction", "effective")


def test_TC_059_R13_a_start_with_a_profile(world, charger):
    """A start with a charging profile: a TxProfile without a transaction."""
    world.card("CARD1")
    schedule = {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 7000.0}]}
    profile = {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": schedule,
    }
    world.ask("RemoteStartTransaction", {"connectorId": 1, "idTag": "CARD1", "chargingProfile": profile})
    sent = charger.expect("RemoteStartTransaction")["chargingProfile"]
    assert sent["chargingProfilePurpose"] == "TxProfile" and "transactionId" not in sent


# -- unlocking ---------------------------------------------------------------------------------------------------------------
def test_TC_017_1_R14_unlocking(world, charger, running):
    """Unlocked with a transaction running: its stop with UnlockCommand ends it."""
    world.ask("UnlockConnector", {"connectorId": 1})
    charger.expect("UnlockConnector", {"status": "Unlocked"})
    charger.stop(running, meter_wh=1300, reason="UnlockCommand")
    world.command("UnlockConnector", "effective")
    assert world.session().stop_reason == "UnlockCommand"


@pytest.mark.parametrize("status", ["UnlockFailed", "NotSupported"])
def test_TC_030_R15_what_cannot_be_unlocked(world, charger, status):
    """UnlockFailed and NotSupported are shown; a connector it does not have is refused here."""
    world.ask("UnlockConnector", {"connectorId": 1})
    charger.expect("UnlockConnector", {"status": status})
    assert world.command("UnlockConnector", "rejected").response == {"status": status}
    with pytest.raises(ValidationError):
        world.ask("UnlockConnector", {"connectorId": 9})


# -- resets ------------------------------------------------------------------------------------------------------------------
def test_TC_013_R16_a_hard_reset(world, charger, running):
    """Hard: accepted, its stop is kept though the line tears, and the boot is its effect."""
    world.ask("Reset", {"type": "Hard"})
    charger.expect("Reset")
    payload = f'{{"transactionId":{running},"meterStop":1700,"timestamp":"{stamp()}","reason":"HardReset"}}'
    charger.send(f'[2,"last","StopTransaction",{payload}]')
    charger.drop()
    world.until(lambda: world.session().state == "STOPPED")
    world.connect()
    world.command("Reset", "effective")
    assert (world.session().energy_wh, world.session().stop_reason) == (700, "HardReset")


def test_TC_014_R17_a_soft_reset(world, charger, running):
    """Soft: its stop, then its boot."""
    world.ask("Reset", {"type": "Soft"})
    charger.expect("Reset")
    charger.stop(running, meter_wh=1200, reason="SoftReset")
    charger.boot()
    world.command("Reset", "effective")


def test_R18_a_reset_without_an_answer(world, charger):
    """No answer, but it comes back: the reset had its effect."""
    world.ask("Reset", {"type": "Soft"})
    charger.expect("Reset", None)
    charger.drop()
    world.connect()
    world.command("Reset", "effective")


def test_R19_a_reset_that_is_refused(world, charger):
    """Refused: shown, and not asked again by itself."""
    world.ask("Reset", {"type": "Soft"})
    charger.expect("Reset", {"status": "Rejected"})
    world.command("Reset", "rejected")
    charger.nothing("Reset", for_s=0.5)


# -- availability --------------------------------------------------------------------------------------------------------------
def test_R20_out_of_and_into_service(world, charger):
    """Out of service: accepted, its status says so; and back. What is wanted and what is so stand apart."""
    for kind, status in (("Inoperative", "Unavailable"), ("Operative", "Available")):
        world.ask("ChangeAvailability", {"connectorId": 1, "type": kind})
        assert charger.expect("ChangeAvailability") == {"connectorId": 1, "type": kind}
        connector = Connector.objects.get(pk=world.network.kaveri_connector.pk)
        assert connector.availability_wanted == kind and connector.status != status
        charger.status(1, status)
        world.until(lambda kind=kind: Command.objects.filter(payload__type=kind, state="effective").exists())


def test_R21_out_of_service_while_charging(world, charger, running):
    """While charging it is Scheduled, which is a promise; after the stop it is so."""
    world.ask("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"})
    charger.expect("ChangeAvailability", {"status": "Scheduled"})
    world.command("ChangeAvailability", "accepted")
    charger.stop(running, meter_wh=1200)
    charger.status(1, "Unavailable")
    world.command("ChangeAvailability", "effective")


def test_R22_a_charger_that_knows_no_connector_0(world):
    """The whole charger is refused: asked connector by connector."""
    world.set_up("VLT-0003", connectors=2)
    charger = world.connect("VLT-0003")
    world.ask("ChangeAvailability", {"connectorId": 0, "type": "Inoperative"}, cp_id="VLT-0003")
    assert charger.expect("ChangeAvailability", {"status": "Rejected"})["connectorId"] == 0
    asked = {charger.expect("ChangeAvailability")["connectorId"] for _ in range(2)}
    assert asked == {1, 2}


def test_R23_what_is_wanted_outlives_a_reboot(world, charger):
    """A boot that forgot it: it is asked again."""
    world.ask("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"})
    charger.expect("ChangeAvailability")
    charger.status(1, "Unavailable")
    world.command("ChangeAvailability", "effective")
    charger.drop()
    world.pass_time(610)  # it is asked again at most every ten minutes
    back = world.connect(status=False)
    back.status(1, "Available", timestamp=stamp(clock.now()))
    world.pass_time(30)
    world.work("availability.assert")
    assert back.expect("ChangeAvailability")["type"] == "Inoperative"


# -- messages on request ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "message", ["StatusNotification", "MeterValues", "Heartbeat", "DiagnosticsStatusNotification", "FirmwareStatusNotification"]
)
def test_TC_054_R24_a_message_on_request(world, charger, message):
    """Asked for a message: accepted, the message comes and is answered: that is the effect."""
    world.ask("TriggerMessage", {"requestedMessage": message})
    assert charger.expect("TriggerMessage")["requestedMessage"] == message
    world.command("TriggerMessage", "accepted")
    payload = {
        "StatusNotification": {"connectorId": 1, "status": "Available", "errorCode": "NoError"},
        "MeterValues": {"connectorId": 1, "meterValue": [{"timestamp": stamp(), "sampledValue": [{"value": "1"}]}]},
        "Heartbeat": {},
    }.get(message, {"status": "Idle"})
    charger.call(message, payload)
    world.command("TriggerMessage", "effective")


@pytest.mark.parametrize("status", ["Rejected", "NotImplemented"])
def test_TC_055_R25_a_message_it_cannot_send(world, charger, status, client):
    """Rejected or NotImplemented: shown; that it is not implemented is remembered for its firmware."""
    world.ask("TriggerMessage", {"requestedMessage": "MeterValues"})
    charger.expect("TriggerMessage", {"status": status})
    row = world.command("TriggerMessage", "rejected")
    learned = ChargePoint.objects.get(cp_id="VLT-0001").learned
    assert ("NotImplemented" in str(learned)) == (status == "NotImplemented")
    client.login(username="om", password=PASSWORD)
    assert status in client.get(f"/admin/csms/command/{row.pk}/change/").content.decode()
