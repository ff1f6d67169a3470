"""What fills tables, boots in circles, and reports deeds nobody asked for (C20 to C22, C26)."""

import io
import json

import pytest

from accounts.models import AuditEntry
from csms import firmware, images, uploads
from csms.models import (
    Alert,
    ChargePoint,
    ChargerError,
    ChargerUpload,
    Command,
    Connector,
    FirmwareUpdate,
    OcppMessage,
    SecurityEvent,
    SignalQuality,
)
from csms.rules.budget import PRESENCE
from csms.security_events import ROWS
from csms.stations import MAX_CONNECTORS
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db
PEM = "-----BEGIN CERTIFICATE-----\nTUlJQg==\n-----END CERTIFICATE-----"


@pytest.fixture
def kaveri(network, bells):
    """Her charger, without a wire."""
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.status("Available")
    return charger


# -- boots ------------------------------------------------------------------------------------------------------------------
def test_C20_boots_without_end_are_answered_and_are_one_alert(kaveri):
    """Each of a hundred is Accepted; one alert counts them, one row stands for the charger, nothing is sent to it meanwhile."""
    for _ in range(100):
        clock.shift(2)
        assert kaveri.boot()["status"] == "Accepted"
    alert = Alert.objects.get(kind="boot_loop")
    assert alert.count > 90 and alert.cleared_at is None
    row = ChargePoint.objects.get(pk=kaveri.row.pk)
    assert row.boot_count == 101 and len(json.dumps(row.learned)) < 2_000
    assert Command.objects.count() < 5 and AuditEntry.objects.filter(action="charge_point.booted").count() <= 1


def test_C20_another_box_under_the_same_name_is_noticed(kaveri):
    """Its serial number is kept as reported, ours stays; a person is told, and the charger is served meanwhile."""
    kaveri.boot(chargePointSerialNumber="SN-1")
    kaveri.drop()
    kaveri.connect()
    assert kaveri.boot(chargePointSerialNumber="SN-2", chargePointModel="Another")["status"] == "Accepted"
    row = ChargePoint.objects.get(pk=kaveri.row.pk)
    assert (row.serial_number, row.reported_serial) == ("SN-1", "SN-2")
    assert "SN-2" in Alert.objects.get(kind="serial").detail
    assert AuditEntry.objects.filter(action="charge_point.booted", after__serial="SN-2").count() == 1


# -- floods -----------------------------------------------------------------------------------------------------------------
def test_C21_what_a_flood_leaves_behind_is_bounded(kaveri):
    """Faults, connectors, security events and frames of a flood stop growing; every message is answered."""
    before = OcppMessage.objects.count()
    for number in range(500):
        faulty = number % 2
        kaveri.status("Faulted" if faulty else "Available", error="OtherError" if faulty else "NoError", vendorErrorCode=str(number))
    assert OcppMessage.objects.count() - before <= PRESENCE + 1
    assert ChargerError.objects.count() <= PRESENCE / 2 + 1
    for number in range(3, 2**31, 2**31 // 40):
        kaveri.call("MeterValues", {"connectorId": number, "meterValue": [{"timestamp": "x", "sampledValue": [{"value": "1"}]}]})
        kaveri.start("CARD", number, connector=number)
    assert Connector.objects.filter(charge_point=kaveri.row.cp_id).count() <= MAX_CONNECTORS
    for number in range(200):
        kaveri.call("SecurityEventNotification", {"type": f"Event{number}", "timestamp": "x", "techInfo": "y" * 255})
    assert SecurityEvent.objects.count() <= ROWS + 1
    assert SecurityEvent.objects.get(type="Others").count == 200 - ROWS


def test_C22_data_transfer_stores_nothing_but_what_is_known_and_true(kaveri):
    """Unknown vendors get a word, too much data is Rejected, a signal that cannot be is refused; the frame in the log is all that stays."""
    learned = ChargePoint.objects.get(pk=kaveri.row.pk).learned
    say = lambda **told: kaveri.call("DataTransfer", {"vendorId": "v", **told})["status"]  # noqa: E731
    assert say(data="x" * 200_000) == "Rejected"
    assert say(data="x" * 1_000) == say(messageId="m", data={"any": ["thing"]}) == say(vendorId="../../etc/passwd") == "UnknownVendorId"
    assert say(vendorId="VoltLync", messageId="Nonsense", data="{}") == "UnknownMessageId"
    for data in ('{"rssi": 500, "ber": 0}', '{"rssi": -1}', '{"rssi": NaN}', "[" * 500, "9" * 5_000, '"' + "\\u0000" * 100 + '"', ""):
        assert say(vendorId="VoltLync", messageId="SignalQuality", data=data) == "Rejected"
    assert not SignalQuality.objects.exists() and not Command.objects.exists()
    assert ChargePoint.objects.get(pk=kaveri.row.pk).learned == learned
    assert say(vendorId="VoltLync", messageId="SignalQuality", data='{"rssi": 20, "ber": 1}') == "Accepted"


# -- deeds nobody asked for ---------------------------------------------------------------------------------------------------
STATUSES = ("Downloading", "Downloaded", "Installing", "Installed", "InstallationFailed", "DownloadFailed", "Idle", "Hacked")


def test_C26_firmware_and_files_nobody_asked_for_change_nothing(kaveri, tmp_path, settings):
    """Every status is answered and only logged: no row, no version, no file; nor does a stranger's number move an open update."""
    settings.MEDIA_ROOT = tmp_path
    version = ChargePoint.objects.get(pk=kaveri.row.pk).firmware_version
    for status in STATUSES:
        assert kaveri.call("FirmwareStatusNotification", {"status": status}) == {}
        assert kaveri.call("SignedFirmwareStatusNotification", {"status": status, "requestId": 7}) == {}
    for status in ("Uploaded", "Uploading", "UploadFailed", "Idle", "Hacked"):
        assert kaveri.call("DiagnosticsStatusNotification", {"status": status}) == {}
        assert kaveri.call("LogStatusNotification", {"status": status, "requestId": 7}) == {}
    assert not FirmwareUpdate.objects.exists() and not ChargerUpload.objects.exists() and not Command.objects.exists()
    assert ChargePoint.objects.get(pk=kaveri.row.pk).firmware_version == version

    image = images.add(io.BytesIO(b"firmware"), file_name="acme.bin", name="Acme", version="9.9", signature="c2ln", signing_certificate=PEM)
    update = firmware.update(kaveri.row, image, by="om", signed=True)
    upload = uploads.ask(kaveri.row, "SecurityLog", by="om")
    kaveri.call("SignedFirmwareStatusNotification", {"status": "Installed", "requestId": update.request_id + 1})
    kaveri.call("LogStatusNotification", {"status": "Uploaded", "requestId": upload.request_id + 1})
    update.refresh_from_db(), upload.refresh_from_db()
    assert (update.finished_at, upload.file.name, upload.received_at) == (None, "", None)
    assert ChargePoint.objects.get(pk=kaveri.row.pk).firmware_version == version
