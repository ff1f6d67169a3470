"""Boots, heartbeats and time of OCPP 1.6 (B): what a charger is told when it comes, and what is never asked of it."""

import json
import os
import signal
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from websockets.exceptions import InvalidStatus

from accounts import tokens
from csms import commands, firmware, onboarding, timestamps
from csms.models import (
    Alert,
    ChargePoint,
    ChargingSession,
    Command,
    Connection,
    Connector,
    FirmwareImage,
    FirmwareUpdate,
    MeterReading,
    OcppMessage,
)
from tests.conformance.conftest import KEY
from tests.server import serving
from tests.simulate_client import CallError, ChargerClient, stamp
from voltaro import clock

pytestmark = pytest.mark.e2e


def row(cp_id="VLT-0001"):
    return ChargePoint.objects.get(cp_id=cp_id)


def registered(status, cp_id="VLT-0001"):
    ChargePoint.objects.filter(cp_id=cp_id).update(registration=status)


def calls_heard(charger):
    """What the server has asked this charger, in order."""
    return [json.loads(text)[2] for way, text in charger.frames if way == "IN" and json.loads(text)[0] == 2]


# -- registration ------------------------------------------------------------------------------------------------------
def test_TC_001_B01_a_cold_boot(world):
    """Boot: Accepted, the time in UTC with Z, an interval above 0; the statuses that follow are answered."""
    charger = world.connect(boot=False)
    told = charger.boot()
    assert told["status"] == "Accepted" and told["interval"] > 0
    assert told["currentTime"].endswith("Z")
    assert abs((timestamps.read(told["currentTime"]) - clock.now()).total_seconds()) < 2
    assert charger.status(0, "Available") == charger.status(1, "Available") == {}
    assert (row().registration, row().vendor, row().model) == ("Accepted", "Voltaro", "Scripted")


def test_B02_a_new_charger_in_the_onboarding_window(world, client):
    """A new charger while the window is open: Pending; its configuration can be read, no session started; claimed, it is Accepted."""
    onboarding.open_window(world.network.voltaro, world.network.om, minutes=10, now=clock.now())
    charger = world.connect("NEW-0001", boot=False)
    told = charger.boot()
    assert told["status"] == "Pending" and told["interval"] > 0
    assert (row("NEW-0001").registration, row("NEW-0001").unclaimed) == ("Pending", True)
    world.ask("GetConfiguration", cp_id="NEW-0001")
    charger.expect("GetConfiguration", {"configurationKey": [{"key": "NumberOfConnectors", "value": "1", "readonly": True}]})
    world.command("GetConfiguration", "effective")
    start = {"action": "RemoteStartTransaction", "payload": {"connectorId": 1, "idTag": "CARD1"}}
    world.card("CARD1")
    token = tokens.make(world.network.om, "a program")[1]
    answer = client.post(
        "/api/v1/charge-points/NEW-0001/commands/", json.dumps(start), "application/json", HTTP_AUTHORIZATION=f"Bearer {token}"
    )
    assert answer.status_code == 404  # it is in the inbox, and nowhere else
    with pytest.raises(ValidationError, match="not claimed yet"):
        world.ask("RemoteStartTransaction", start["payload"], "NEW-0001")
    with pytest.raises(CallError) as refused:
        charger.start(1, "CARD1")
    assert refused.value.code == "SecurityError" and not ChargingSession.objects.exists()
    onboarding.claimed(row("NEW-0001"), identity="NEW-0001")
    assert charger.boot()["status"] == "Accepted"


def test_B03_a_rejected_charger(world, charger):
    """A rejected charger's boot: Rejected with an interval, nothing is asked of it; and it does not come in again."""
    registered("Rejected")
    told = charger.boot()
    assert told["status"] == "Rejected" and told["interval"] > 0
    with pytest.raises(ValidationError, match="rejected"):
        world.ask("GetConfiguration")
    commands.request(row(), "GetConfiguration", {}, trigger="test")
    charger.nothing("GetConfiguration", for_s=2.5)
    assert calls_heard(charger) == []
    charger.end()
    with pytest.raises(InvalidStatus):
        world.connect(boot=False)


def test_B04_a_pending_charger_speaks_out_of_turn(world, charger):
    """While Pending an unasked status is a SecurityError; one that was asked for is answered."""
    registered("Pending")
    assert charger.boot()["status"] == "Pending"
    with pytest.raises(CallError) as refused:
        charger.status(1, "Finishing")
    assert refused.value.code == "SecurityError"
    world.ask("TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": 1})
    charger.expect("TriggerMessage")
    assert charger.status(1, "Finishing") == {}
    assert Connector.objects.get(pk=world.network.kaveri_connector.pk).status == "Finishing"
    with pytest.raises(CallError):
        charger.status(1, "Available")


def test_B05_a_reconnect_without_a_boot(world, charger):
    """Accepted before, back without a boot: its heartbeats and readings are served, and it may be asked."""
    world.card("CARD1")
    number = charger.start(1, "CARD1", meter_wh=100)["transactionId"]
    charger.drop()
    back = world.connect(boot=False)
    assert back.call("Heartbeat")["currentTime"]
    assert back.meter(1, number, register_wh=300, power_w=30_000) == {}
    assert (world.session().state, world.session().energy_wh) == ("RUNNING", 200)
    world.ask("GetLocalListVersion")
    back.expect("GetLocalListVersion", {"listVersion": 0})


def test_B06_a_boot_that_is_not_the_standards(world):
    """An empty vendor, a serial number of 40 characters, unknown fields: Accepted, clipped, the bytes kept."""
    charger = world.connect(boot=False)
    serial = "SN" + "0123456789" * 4
    said = {"chargePointVendor": "", "chargePointModel": "M" * 60, "chargePointSerialNumber": serial[:40], "mood": {"deep": [1]}}
    assert charger.call("BootNotification", said)["status"] == "Accepted"
    now = row()
    assert (now.vendor, now.model) == ("unknown", "M" * 20)
    assert now.reported_serial == serial[:25]
    kept = OcppMessage.objects.get(action="BootNotification", direction="IN")
    assert json.loads(kept.text)[3] == said
    assert "chargePointSerialNumber" in kept.note and "mood" in kept.note


def test_B07_a_boot_every_ten_seconds(world, charger):
    """Boots in a loop: each is answered, one alert is raised, and the charger is asked nothing by us."""
    for _ in range(12):
        world.pass_time(10)
        assert charger.boot()["status"] == "Accepted"
        world.work("configuration.apply", "local_lists.sync", "availability.assert")
    alert = Alert.objects.get(kind="boot_loop")
    assert alert.cleared_at is None and alert.count > 1
    charger.nothing("GetConfiguration", for_s=0.5)
    assert calls_heard(charger) == []


def test_B08_a_boot_in_the_middle_of_a_transaction(world, charger):
    """A watchdog's boot while charging: the transaction is interrupted, not ended, and goes on with its next reading."""
    world.card("CARD1")
    number = charger.start(1, "CARD1", meter_wh=1000)["transactionId"]
    charger.meter(1, number, register_wh=1200, power_w=30_000)
    assert charger.boot()["status"] == "Accepted"
    assert (world.session().state, world.session().end_time) == ("SUSPENDED", None)
    charger.meter(1, number, register_wh=1500, power_w=30_000)
    assert (world.session().state, world.session().energy_wh) == ("RUNNING", 500)
    charger.stop(number, meter_wh=1600)
    assert world.session().energy_wh == 600


def test_B09_an_accepted_charger_is_not_asked_to_boot(world, charger):
    """Once accepted it is never asked for a BootNotification: not by a person, not by its habits, not after an update."""
    with pytest.raises(ValidationError, match=r"3\.40"):
        world.ask("TriggerMessage", {"requestedMessage": "BootNotification"})
    ChargePoint.objects.filter(cp_id="VLT-0001").update(quirk_settings={"boot_trigger": True}, firmware_version="1.0")
    charger.drop()
    back = world.connect(boot=False)
    image = FirmwareImage.objects.create(name="Acme", version="2.0", file="firmware/acme.bin", sha256="0" * 64, size_bytes=1)
    firmware.update(row(), image, by="om")
    back.expect("UpdateFirmware", {})
    for status in ("Downloading", "Downloaded", "Installing", "Installed"):
        back.firmware_status(status)
    for _ in range(20):  # more than the time its boot is waited for
        world.pass_time(100)
        back.heartbeat()
        world.work("commands.timeout")
        firmware.timeout_due(clock.now(), 10)
    assert FirmwareUpdate.objects.get().state == "expired"
    back.nothing("TriggerMessage", for_s=2.5)
    assert "TriggerMessage" not in calls_heard(back)


# -- the server goes and comes -----------------------------------------------------------------------------------------
def test_B10_a_server_that_dies_and_another_in_its_place(world, tmp_path):
    """kill -9 under a charger that charges: it goes on at the next server without a boot; no second charger, statuses kept."""
    world.card("CARD1")
    how = {"VOLTARO_CLOCK_FILE": str(world.clock_file)}
    with serving(tmp_path, alone=False, **how) as dying:
        first = ChargerClient(dying.url, "VLT-0001", KEY).connect()
        world.clients.append(first)
        first.boot(firmwareVersion="1.0")
        first.status(1, "Available")
        number = first.start(1, "CARD1", meter_wh=1000)["transactionId"]
        first.status(1, "Charging")
        first.meter(1, number, register_wh=1100, power_w=30_000)
        before = ChargePoint.objects.count(), Connector.objects.count()
        os.kill(dying.process.pid, signal.SIGKILL)
        dying.process.wait(10)
        assert first.wait_closed(5) == 1006
    back = world.connect(boot=False)
    assert back.call("Heartbeat")
    assert (ChargePoint.objects.count(), Connector.objects.count()) == before
    assert Connector.objects.get(pk=world.network.kaveri_connector.pk).status == "Charging"
    assert (row().registration, row().firmware_version, row().online) == ("Accepted", "1.0", True)
    back.meter(1, number, register_wh=1300, power_w=30_000)
    back.stop(number, meter_wh=1400)
    session = world.session()
    assert (session.state, session.energy_wh, session.stop_reason) == ("STOPPED", 400, "Local")
    assert Connection.objects.filter(charge_point=row(), closed_at=None).count() == 1


# -- time --------------------------------------------------------------------------------------------------------------
def test_B11_a_heartbeat_tells_the_time(world, charger):
    """Heartbeat: the server's time, to the second; also when its clock is another day's."""
    for seconds in (0, 86_400):
        world.pass_time(seconds)
        said = timestamps.read(charger.call("Heartbeat")["currentTime"])
        assert 0 <= (clock.now() - said).total_seconds() < 1.5  # it is said without its fraction
    world.until(lambda: row().last_heartbeat is not None and clock.now() - row().last_heartbeat < timedelta(seconds=30))


def test_B12_nothing_is_asked_before_the_first_boot(world):
    """Between the opening of the line and the answer to its first boot a charger hears no call, whatever waits for it."""
    world.set_up("VLT-0003")
    world.ask("GetConfiguration", cp_id="VLT-0003")
    world.ask("ClearCache", cp_id="VLT-0003")
    charger = world.connect("VLT-0003", boot=False)
    charger.nothing("GetConfiguration", for_s=2.5)  # longer than the poll for waiting commands
    assert charger.frames == []
    charger.boot()
    charger.expect("GetConfiguration", {"configurationKey": []})
    charger.expect("ClearCache")
    kinds = [json.loads(text)[0] for way, text in charger.frames if way == "IN"]
    assert kinds[0] == 3  # the boot's answer came first
    world.until(lambda: Command.objects.filter(charge_point__cp_id="VLT-0003", state="effective").count() == 2)


ODD_TIMES = {
    "none": None,
    "without a zone": "{now:%Y-%m-%dT%H:%M:%S}",
    "plus two": "{plus_two:%Y-%m-%dT%H:%M:%S}+02:00",
    "fractions": "{now:%Y-%m-%dT%H:%M:%S}.123456789Z",
    "1970": "1970-01-01T00:00:07Z",
    "tomorrow": "{tomorrow:%Y-%m-%dT%H:%M:%SZ}",
    "no time": "half past nine",
}


@pytest.mark.parametrize("what", ODD_TIMES)
def test_B13_times_as_chargers_write_them(world, what):
    """No zone, +02:00, fractions, 1970, tomorrow, none, the same twice: answered; what cannot be true is replaced by when it came."""
    world.card("CARD1")
    charger = world.connect(status=False)
    now = clock.now()
    text = ODD_TIMES[what] and ODD_TIMES[what].format(now=now, plus_two=now + timedelta(hours=2), tomorrow=now + timedelta(days=1))
    timed = {} if text is None else {"timestamp": text}
    assert charger.call("StatusNotification", {"connectorId": 1, "status": "Preparing", "errorCode": "NoError", **timed}) == {}
    number = charger.call("StartTransaction", {"connectorId": 1, "idTag": "CARD1", "meterStart": 0, **timed})["transactionId"]
    for value in ("10", "20"):  # the same time twice
        sample = {**timed, "sampledValue": [{"value": value}]}
        assert charger.call("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": [sample]}) == {}
    assert charger.call("StopTransaction", {"transactionId": number, "meterStop": 30, **timed}) == {}
    session = world.session()
    assert (session.state, session.energy_wh) == ("STOPPED", 30)
    for at in (session.start_time, session.end_time, *MeterReading.objects.values_list("at", flat=True)):
        assert abs((at - now).total_seconds()) < 5, what
    assert MeterReading.objects.count() == 2
    assert Connector.objects.get(pk=world.network.kaveri_connector.pk).status == "Preparing"
    assert stamp(now)[:10] in charger.call("Heartbeat")["currentTime"]
