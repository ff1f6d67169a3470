"""Firmware, diagnostics and logs of OCPP 1.6 and its security extension (F, X08 to X10): asked for, fetched and sent by HTTP, told."""

import io
import re

import httpx
import pytest

from csms import firmware, images, uploads
from csms.models import Alert, ChargerUpload, FirmwareUpdate
from csms.timestamps import read
from tests.simulate_client import CallError
from voltaro import clock

pytestmark = pytest.mark.e2e
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
IMAGE = b"version 2.0" * 10_000


@pytest.fixture(autouse=True)
def _on_this_server(world, settings):
    settings.CHARGER_FILES_URL = f"http://127.0.0.1:{world.server.port}"


@pytest.fixture
def row(world):
    """Kaveri's charger, which runs 1.0."""
    found = world.network.kaveri_charger
    found.refresh_from_db()
    return found


@pytest.fixture
def charger(world):
    client = world.connect(boot=False)
    client.boot(firmwareVersion="1.0")
    return client


@pytest.fixture
def image(db):
    return images.add(
        io.BytesIO(IMAGE), file_name="acme.bin", name="Acme", version="2.0", signature="c2ln", signing_certificate=CERTIFICATE
    )


def is_now(world, update, state):
    world.until(lambda: FirmwareUpdate.objects.get(pk=update.pk).state == state, f"the update to be {state}")


def came(world, upload, state):
    world.until(lambda: ChargerUpload.objects.get(pk=upload.pk).state == state, f"the file to be {state}")
    upload.refresh_from_db()


def say(charger, *statuses):
    for status in statuses:
        assert charger.call("FirmwareStatusNotification", {"status": status}) == {}


def fetch(address):
    with httpx.Client(trust_env=False) as http:
        return http.get(address)


def put(address, body):
    with httpx.Client(trust_env=False) as http:
        return http.put(address, content=body).status_code


def reboots(world, charger, version):
    charger.drop()
    back = world.connect(boot=False)
    back.boot(firmwareVersion=version)
    return back


# -- firmware ---------------------------------------------------------------------------------------------------------
def test_TC_044_1_F01_downloaded_and_installed(world, charger, row, image):
    update = firmware.update(row, image, by="om")
    asked = charger.expect("UpdateFirmware", {})
    assert set(asked) == {"location", "retrieveDate"} and read(asked["retrieveDate"]) < clock.now()
    say(charger, "Downloading")
    assert fetch(asked["location"]).content == IMAGE
    say(charger, "Downloaded", "Installing")
    is_now(world, update, "installing")
    back = reboots(world, charger, "2.0")
    say(back, "Installed")
    update.refresh_from_db()
    assert (update.state, update.to_version, update.reported_status) == ("installed", "2.0", "Installed")
    world.command("UpdateFirmware", "effective")
    assert fetch(asked["location"]).status_code == 404, "it is over"


def test_TC_044_2_F02_the_download_fails(world, charger, row, image):
    update = firmware.update(row, image, by="om")
    charger.expect("UpdateFirmware", {})
    say(charger, "Downloading", "DownloadFailed")
    is_now(world, update, "download_failed")
    for wait_s in (301, 1801, 7201):
        world.pass_time(wait_s)
        charger.call("Heartbeat")
        world.work("firmware")
        charger.expect("UpdateFirmware", {}, timeout_s=20)
        world.command("UpdateFirmware", "accepted")
        say(charger, "DownloadFailed")
    update.refresh_from_db()
    assert update.finished_at and update.attempts == 4
    assert "download failed" in Alert.objects.get(kind="firmware").detail


def test_TC_044_3_F03_the_installation_fails(world, charger, row, image):
    update = firmware.update(row, image, by="om")
    charger.expect("UpdateFirmware", {})
    say(charger, "Downloading", "Downloaded", "Installing", "InstallationFailed")
    is_now(world, update, "installation_failed")
    world.pass_time(8000)
    assert world.work("firmware") == 0, "it is not flashed again by itself"


@pytest.mark.parametrize(("version", "state"), [("2.0", "installed"), ("1.0", "rolled_back")])
def test_F04_no_status_the_boot_tells(world, charger, row, image, version, state):
    update = firmware.update(row, image, by="om")
    asked = charger.expect("UpdateFirmware", {})
    assert fetch(asked["location"]).status_code == 200
    is_now(world, update, "downloaded")
    reboots(world, charger, version)
    is_now(world, update, state)


def test_F05_statuses_twice_out_of_order_and_idle(world, charger, row, image):
    update = firmware.update(row, image, by="om")
    charger.expect("UpdateFirmware", {})
    world.command("UpdateFirmware", "accepted")
    say(charger, "Idle", "Downloading", "Downloading", "Installing", "Downloaded", "Idle", "Downloading", "Installing")
    assert charger.call("FirmwareStatusNotification", {"status": "Perplexed"}) == {}
    assert charger.call("FirmwareStatusNotification", {}) == {}
    update.refresh_from_db()
    assert update.state == "installing"


# -- diagnostics ------------------------------------------------------------------------------------------------------
def test_TC_045_1_F06_diagnostics_uploaded(world, charger, row):
    upload = uploads.ask(row, "diagnostics", by="om")
    asked = charger.expect("GetDiagnostics", {"fileName": "diag.zip"})
    charger.call("DiagnosticsStatusNotification", {"status": "Uploading"})
    came(world, upload, "uploading")
    assert put(asked["location"] + "/diag.zip", b"everything") == 200
    charger.call("DiagnosticsStatusNotification", {"status": "Uploaded"})
    came(world, upload, "uploaded")
    assert (upload.size_bytes, upload.reported_name, upload.reported_status) == (10, "diag.zip", "Uploaded")
    world.command("GetDiagnostics", "effective")


def test_TC_045_2_F07_the_upload_fails_and_is_tried_again(world, charger, row):
    upload = uploads.ask(row, "diagnostics", by="om", retries=2, retry_interval_s=10)
    asked = charger.expect("GetDiagnostics", {"fileName": "diag.zip"})
    assert (asked["retries"], asked["retryInterval"]) == (2, 10)
    for status in ("Uploading", "UploadFailed"):
        charger.call("DiagnosticsStatusNotification", {"status": status})
    came(world, upload, "failed")
    charger.call("DiagnosticsStatusNotification", {"status": "Uploading"})
    assert put(asked["location"], b"at last") == 200
    came(world, upload, "uploaded")


def test_F08_no_file_name_means_nothing(world, charger, row):
    upload = uploads.ask(row, "diagnostics", by="om")
    charger.expect("GetDiagnostics", {})
    came(world, upload, "nothing")


# -- the security extension -------------------------------------------------------------------------------------------
def test_TC_079_X08_the_security_log(world, charger, row):
    upload = uploads.ask(row, "SecurityLog", by="om")
    asked = charger.expect("GetLog", {"status": "Accepted", "filename": "security.log"})
    assert (asked["logType"], asked["requestId"]) == ("SecurityLog", upload.request_id)
    for status in ("Uploading", "Uploaded"):
        if status == "Uploaded":
            assert put(asked["log"]["remoteLocation"], b"events") == 200
        assert charger.call("LogStatusNotification", {"status": status, "requestId": asked["requestId"]}) == {}
    came(world, upload, "uploaded")
    assert (upload.reported_status, upload.reported_name) == ("Uploaded", "security.log")


def test_TC_080_X09_signed_and_installed(world, charger, row, image):
    update = firmware.update(row, image, by="om", signed=True)
    asked = charger.expect("SignedUpdateFirmware", {"status": "Accepted"})
    assert asked["requestId"] == update.request_id
    assert asked["firmware"]["signature"] == "c2ln" and asked["firmware"]["signingCertificate"] == CERTIFICATE
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/firmware/\S{30,50}\.bin", asked["firmware"]["location"])
    for status in ("Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting"):
        assert charger.call("SignedFirmwareStatusNotification", {"status": status, "requestId": update.request_id}) == {}
    back = reboots(world, charger, "2.0")
    back.call("SignedFirmwareStatusNotification", {"status": "Installed", "requestId": update.request_id})
    is_now(world, update, "installed")


def test_TC_081_X09_an_invalid_signature(world, charger, row, image):
    update = firmware.update(row, image, by="om", signed=True)
    charger.expect("SignedUpdateFirmware", {"status": "Accepted"})
    for status in ("Downloading", "Downloaded", "InvalidSignature"):
        charger.call("SignedFirmwareStatusNotification", {"status": status, "requestId": update.request_id})
    is_now(world, update, "bad_signature")
    assert Alert.objects.filter(kind="firmware", cleared_at=None).exists()


@pytest.mark.parametrize("status", ["RevokedCertificate", "InvalidCertificate"])
def test_X10_the_certificate_is_refused_at_once(world, charger, row, image, status):
    update = firmware.update(row, image, by="om", signed=True)
    charger.expect("SignedUpdateFirmware", {"status": status})
    is_now(world, update, "bad_signature")
    update.refresh_from_db()
    assert update.error == status
    world.command("SignedUpdateFirmware", "rejected")


def test_X08_a_charger_that_knows_no_logs(world, charger, row):
    upload = uploads.ask(row, "DiagnosticsLog", by="om")
    charger.expect("GetLog", CallError("NotImplemented"))
    came(world, upload, "refused")
