"""Status of OCPP 1.6 (S)."""

from datetime import timedelta
from itertools import islice

import pytest

from csms.models import ChargePoint, ChargerError, Connector
from tests.simulate_client import stamp
from voltaro import clock

pytestmark = pytest.mark.e2e
STATUSES = ("Available", "Preparing", "Charging", "SuspendedEVSE", "SuspendedEV", "Finishing", "Reserved", "Unavailable", "Faulted")
CODES = (
    "ConnectorLockFailure", "EVCommunicationError", "GroundFailure", "HighTemperature", "InternalError", "LocalListConflict", "NoError",
    "OtherError", "OverCurrentFailure", "OverVoltage", "PowerMeterFailure", "PowerSwitchFailure", "ReaderFailure", "ResetFailure",
    "UnderVoltage", "WeakSignal",
)  # fmt: skip


def connector(world):
    return Connector.objects.get(pk=world.network.kaveri_connector.pk)


def test_S01_every_status_with_every_code(world, charger):
    """Each of the nine statuses with each error code is answered and shown."""
    for status in STATUSES:
        for code in CODES:
            world.pass_time(3)  # a charger that says so much at once is answered, and written less often
            assert charger.status(1, status, code, timestamp=stamp(clock.now())) == {}
            shown = connector(world)
            assert (shown.status, shown.error_code) == (status, code)
    world.pass_time(3)
    charger.status(1, "Available", timestamp=stamp(clock.now()))
    assert not ChargerError.objects.filter(resolved_at__isnull=True).exists()
    assert ChargerError.objects.filter(connector_no=1).values("error_code").distinct().count() >= len(CODES) - 1


def test_S02_the_charger_itself(world, charger):
    """Connector 0 is the charger: it becomes unavailable, its connectors keep their own status."""
    assert charger.status(0, "Unavailable") == {}
    assert ChargePoint.objects.get(cp_id="VLT-0001").status == "Unavailable"
    assert connector(world).status == "Available"


def test_S03_words_nobody_knows(world, charger):
    """An unknown error code, an unknown status and an info of 200 characters are answered and mapped."""
    assert charger.status(1, "Faulted", "Error", info="x" * 200, vendorErrorCode="0xE017") == {}
    shown = connector(world)
    assert (shown.status, shown.error_code, shown.vendor_error_code) == ("Faulted", "OtherError", "0xE017")
    assert charger.status(1, "Dancing") == {}
    assert connector(world).status in ("Faulted", "Unknown")


def test_S04_an_older_status(world, charger):
    """A status older than the one we hold changes nothing that is shown; it stands in the log."""
    charger.status(1, "Charging")
    old = stamp(clock.now() - timedelta(minutes=10))
    assert charger.call("StatusNotification", {"connectorId": 1, "status": "Available", "errorCode": "NoError", "timestamp": old}) == {}
    assert connector(world).status == "Charging"
    newest = world.frames(world.network.kaveri_charger, "StatusNotification", "IN")[-1]
    assert old in newest.text and "older" in newest.note


def test_S05_faulted_while_charging(world, charger):
    """Faulted during a transaction: it stays."""
    world.card("CARD1")
    number = charger.start(1, "CARD1", meter_wh=0)["transactionId"]
    charger.status(1, "Faulted", "HighTemperature")
    assert world.session().live
    charger.status(1, "Charging")
    charger.stop(number, meter_wh=100)
    assert world.session().energy_wh == 100


def test_S06_a_connector_nobody_knew(world, charger):
    """A connector we did not know appears with its first status; a number no charger has does not."""
    assert charger.status(2, "Available") == {}
    assert Connector.objects.filter(charge_point="VLT-0001", connector_id=2, status="Available").exists()
    assert charger.status(4_000_000, "Available") == {}
    assert Connector.objects.filter(charge_point="VLT-0001").count() == 2


def test_S07_twenty_times_a_minute(world, charger):
    """Flapping: every status is answered, the last one is shown, and the fault is one row a time."""
    for number in range(20):
        assert charger.status(1, "Faulted" if number % 2 else "Available", "OverVoltage" if number % 2 else "NoError") == {}
    assert connector(world).status == "Faulted"
    assert len(list(islice(ChargerError.objects.filter(resolved_at__isnull=True), 5))) == 1
