"""Firmware and diagnostics of OCPP 1.6 (F), and the security extension's logs and signed firmware (X08 to X10)."""

import io
import re
from datetime import timedelta

import httpx
import pytest

from csms import firmware, images, uploads
from csms.models import Alert, ChargePoint, ChargerUpload, Command, FirmwareUpdate
from csms.timestamps import read
from tests.simulate_client import CallError
from voltaro import clock

pytestmark = pytest.mark.e2e
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
IMAGE = b"the firmware of the year"


@pytest.fixture
def http(world, settings):
    """What a charger fetches and sends files with, at the very addresses it is given."""
    settings.CHARGER_FILES_URL = f"http://127.0.0.1:{world.server.port}"
    with httpx.Client(trust_env=False, timeout=10) as found:
        yield found


@pytest.fixture
def charger(world):
    charger = world.connect(boot=False)
    assert charger.boot(firmwareVersion="1.0")["status"] == "Accepted"
    return charger


def image(**signed):
    return images.add(io.BytesIO(IMAGE), file_name="acme-2.0.tar.gz", name="Acme", version="2.0", **signed)


def update(**how):
    fields = {"signature": "c2lnbmF0dXJl", "signing_certificate": CERTIFICATE} if how.get("signed") else {}
    firmware.update(ChargePoint.objects.get(cp_id="VLT-0001"), image(**fields), by="om", **how)


def now():
    return FirmwareUpdate.objects.get()


def say(charger, *statuses, **fields):
    """What the update is after each of these."""
    seen = []
    for status in statuses:
        assert charger.firmware_status(status, **fields) == {}
        seen.append(now().state)
    return seen


def wait(world, charger, seconds):
    """Time passes; the charger sends its heartbeats."""
    while seconds > 0:
        world.pass_time(min(seconds, 110))
        seconds -= 110
        charger.heartbeat()


# -- firmware ----------------------------------------------------------------------------------------------------------
def test_TC_044_1_F01_an_update(world, charger, http):
    """Downloading, Downloaded, Installing, Installed and a boot with the new version: an update that was asked, fetched and done."""
    update()
    asked = charger.expect("UpdateFirmware", {})
    assert timedelta(0) < clock.now() - read(asked["retrieveDate"]) < timedelta(minutes=5)
    assert say(charger, "Downloading") == ["downloading"]
    assert http.get(asked["location"]).content == IMAGE
    assert say(charger, "Downloaded", "Installing", "Installed") == ["downloaded", "installing", "rebooting"]
    charger.drop()
    back = world.connect(boot=False)
    back.boot(firmwareVersion="2.0")
    row = now()
    assert (row.state, row.from_version, row.to_version, row.fetch_count) == ("installed", "1.0", "2.0", 1)
    world.command("UpdateFirmware", "effective")
    assert http.get(asked["location"]).status_code == 404  # nobody fetches it any more


def test_TC_044_2_F02_a_download_that_failed(world, charger):
    """DownloadFailed: shown, asked for again with a new address, ever later, and then a person is told."""
    update()
    addresses = [charger.expect("UpdateFirmware", {})["location"]]
    for wait_s in (300, 1800, 7200):
        assert say(charger, "Downloading", "DownloadFailed") == ["downloading", "download_failed"]
        assert now().finished_at is None and world.work("firmware") == 0
        wait(world, charger, wait_s + 1)
        assert world.work("firmware") == 1
        addresses.append(charger.expect("UpdateFirmware", {})["location"])
    assert say(charger, "DownloadFailed") == ["download_failed"] and now().finished_at
    assert len(set(addresses)) == 4
    assert "download failed" in Alert.objects.get(kind="firmware").detail


def test_TC_044_3_F03_an_installation_that_failed(world, charger):
    """InstallationFailed: it is over, a person is told, and nobody flashes it again by himself."""
    update()
    charger.expect("UpdateFirmware", {})
    assert say(charger, "Downloading", "Downloaded", "Installing", "InstallationFailed")[-1] == "installation_failed"
    assert now().finished_at and Alert.objects.get(kind="firmware").detail.endswith("InstallationFailed")
    wait(world, charger, 600)
    world.work("firmware")
    charger.nothing("UpdateFirmware", for_s=0.5)


@pytest.mark.parametrize(("version", "state"), [("2.0", "installed"), ("1.0", "rolled_back")])
def test_F04_no_word_but_a_boot(world, charger, http, version, state):
    """Without any status the boot decides: the new version is success, the old one a rollback."""
    update()
    assert http.get(charger.expect("UpdateFirmware", {})["location"]).content == IMAGE
    world.until(lambda: now().state == "downloaded", "the file to be fetched")
    charger.drop()
    back = world.connect(boot=False)
    assert back.boot(firmwareVersion=version)["status"] == "Accepted"
    assert (now().state, now().to_version) == (state, version)
    assert Alert.objects.filter(kind="firmware").exists() == (state == "rolled_back")


def test_F05_statuses_in_any_order(charger):
    """Repeated, out of order, Idle, unknown: all are answered; the update only goes forward."""
    update()
    charger.expect("UpdateFirmware", {})
    assert say(charger, "Downloading", "Downloading", "Idle", "Installing") == ["downloading"] * 3 + ["installing"]
    assert say(charger, "Downloaded", "Downloading", "Idle", "Perplexed", "Installing") == ["installing"] * 5
    assert charger.call("FirmwareStatusNotification", {}) == {}
    assert say(charger, "Installed", "Installing") == ["rebooting"] * 2
    charger.boot(firmwareVersion="2.0")
    assert say(charger, "Installed", "Downloading") == ["installed"] * 2


# -- diagnostics -------------------------------------------------------------------------------------------------------
def ask(kind="diagnostics", **how):
    return uploads.ask(ChargePoint.objects.get(cp_id="VLT-0001"), kind, by="om", **how)


def test_TC_045_1_F06_diagnostics(world, charger, http):
    """GetDiagnostics: it names a file, uploads it to the address it was given, says Uploaded; the file is kept as it came."""
    ask(from_at=clock.now() - timedelta(days=1), to_at=clock.now())
    asked = charger.expect("GetDiagnostics", {"fileName": "diag.tar.gz"})
    assert read(asked["startTime"]) < read(asked["stopTime"])
    assert charger.diagnostics_status("Uploading") == {}
    assert ChargerUpload.objects.get().state == "uploading"
    assert http.put(asked["location"] + "/diag.tar.gz", content=b"\x00\xff what happened").status_code in (200, 201, 204)
    assert charger.diagnostics_status("Uploaded") == {}
    row = ChargerUpload.objects.get()
    assert (row.state, row.reported_status, row.reported_name) == ("uploaded", "Uploaded", "diag.tar.gz")
    with row.file.open("rb") as stored:
        assert stored.read() == b"\x00\xff what happened"
    world.command("GetDiagnostics", "effective")


def test_TC_045_2_F07_diagnostics_that_fail(charger, http):
    """UploadFailed is shown; how often the charger tries is told it, and a file of a later try is taken."""
    ask(retries=2, retry_interval_s=60)
    asked = charger.expect("GetDiagnostics", {"fileName": "diag.tar.gz"})
    assert (asked["retries"], asked["retryInterval"]) == (2, 60)
    for status, state in (("Uploading", "uploading"), ("UploadFailed", "failed"), ("Uploading", "uploading"), ("UploadFailed", "failed")):
        assert charger.diagnostics_status(status) == {}
        row = ChargerUpload.objects.get()
        assert (row.state, row.reported_status) == (state, status)
    assert row.error == "UploadFailed"
    assert http.put(asked["location"], content=b"at last").status_code in (200, 201, 204)
    assert ChargerUpload.objects.get().state == "uploaded"


def test_F08_no_diagnostics_to_send(world, charger):
    """An answer without a file name: there is nothing to upload, and that is shown."""
    ask()
    charger.expect("GetDiagnostics", {})
    world.until(lambda: ChargerUpload.objects.get().state == "nothing", "the answer")
    assert ChargerUpload.objects.get().get_state_display() == "Nothing to upload"
    assert Command.objects.get(action="GetDiagnostics").response == {}


# -- the security extension --------------------------------------------------------------------------------------------
def test_TC_079_X08_the_security_log(world, charger, http):
    """GetLog SecurityLog: LogStatusNotification with its request's number, Uploading and Uploaded; another number is not believed."""
    row = ask("SecurityLog")
    asked = charger.expect("GetLog", {"status": "Accepted", "filename": "security.log"})
    assert (asked["logType"], asked["requestId"]) == ("SecurityLog", row.request_id)
    assert charger.log_status("Uploading", request_id=row.request_id + 1) == {}
    assert ChargerUpload.objects.get().state == "requested"
    assert charger.log_status("Uploading", request_id=row.request_id) == {}
    assert ChargerUpload.objects.get().state == "uploading"
    assert http.put(asked["log"]["remoteLocation"], content=b"who was here").status_code in (200, 201, 204)
    assert charger.log_status("Uploaded", request_id=row.request_id) == {}
    row.refresh_from_db()
    assert (row.state, row.reported_status, row.size_bytes) == ("uploaded", "Uploaded", 12)
    world.command("GetLog", "effective")


@pytest.mark.parametrize(("last", "state"), [("Installed", "installed"), ("InvalidSignature", "bad_signature")], ids=["TC_080", "TC_081"])
def test_TC_080_X09_signed_firmware(world, charger, http, last, state):
    """SignedUpdateFirmware: with signature and certificate, each status with its number; InvalidSignature ends it and alerts."""
    update(signed=True)
    asked = charger.expect("SignedUpdateFirmware")
    told, number = asked["firmware"], asked["requestId"]
    assert (told["signature"], told["signingCertificate"], number) == ("c2lnbmF0dXJl", CERTIFICATE, now().request_id)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/firmware/\S{30,50}\.tar\.gz", told["location"])
    assert http.get(told["location"]).content == IMAGE
    say(charger, "Downloading", "Downloaded", request_id=number)
    if last == "Installed":
        assert say(charger, "SignatureVerified", "Installing", request_id=number + 1)[-1] == "downloaded"  # another's
        say(charger, "SignatureVerified", "Installing", "InstallRebooting", request_id=number)
        charger.boot(firmwareVersion="2.0")
    assert say(charger, last, request_id=number) == [state]
    assert now().finished_at and now().reported_status == last
    assert Alert.objects.filter(kind="firmware", cleared_at=None).exists() == (last == "InvalidSignature")
    world.command("SignedUpdateFirmware", "effective" if last == "Installed" else "expired")


@pytest.mark.parametrize("status", ["RevokedCertificate", "InvalidCertificate"])
def test_X10_a_signing_certificate_that_is_no_good(world, charger, status):
    """RevokedCertificate or InvalidCertificate in the answer: it is over, shown as it is, and a person is told."""
    update(signed=True)
    charger.expect("SignedUpdateFirmware", {"status": status})
    assert world.command("SignedUpdateFirmware", "rejected").response == {"status": status}
    row = now()
    assert (row.state, row.error) == ("bad_signature", status) and row.finished_at
    assert status in Alert.objects.get(kind="firmware").detail
    world.work("firmware")
    charger.nothing("SignedUpdateFirmware", for_s=0.5)


def test_a_charger_that_knows_no_logs(world, charger):
    ask("DiagnosticsLog")
    charger.expect("GetLog", CallError("NotImplemented"))
    world.until(lambda: ChargerUpload.objects.get().state == "refused", "the answer")
