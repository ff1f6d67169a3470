"""The simulated charger fetches and installs firmware, and uploads its diagnostics and logs."""

import base64
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from csms.simulator import firmware
from csms.simulator.times import stamp
from tests.certificates import Authority
from tests.simulated import BEGAN, CALM, World, charging, strange, world

URL = "http://csms/firmware/2.0.0"
PAST = stamp(BEGAN - timedelta(minutes=1))
FILE = b"version: 2.1.7\n" + bytes(5_000)


def update(place: World, **more) -> None:
    assert place.ask("UpdateFirmware", {"location": URL, "retrieveDate": PAST, **more}).payload == {}


def steps(place: World) -> list[str]:
    return [payload["status"] for payload in place.calls("FirmwareStatusNotification")]


def signed_steps(place: World) -> list[tuple[str, int | None]]:
    return [(payload["status"], payload.get("requestId")) for payload in place.calls("SignedFirmwareStatusNotification")]


# -- firmware ------------------------------------------------------------------------------------------------------
def test_firmware_is_fetched_installed_and_named_in_the_next_boot():
    place = world(habits=CALM)
    place.files[URL] = FILE
    update(place)
    place.wait(10)
    assert steps(place) == ["Downloading", "Downloaded", "Installing"]
    assert place.statuses()[-1] == "Unavailable"  # nobody may begin while it installs
    place.reboots()
    assert place.calls("BootNotification")[-1]["firmwareVersion"] == "2.1.7"
    assert steps(place)[-1] == "Installed" and place.statuses()[-1] == "Available"
    assert place.events() == ["FirmwareUpdated"]


@pytest.mark.parametrize(
    ("head", "location", "named"),
    [
        (b"version: 2.1.7\nrest", URL, "2.1.7"),
        (b"Version:  3.0 beta \r\n", URL, "3.0 beta"),
        (b"version: 9", URL, "9"),
        (b"\x7fELF\x02", "http://csms/f/jet%20ev-4.bin?sig=x", "jet ev-4.bin"),
        (b"", "http://csms/", ""),
        (b"version: " + b"9" * 60 + b"\n", URL, "2.0.0"),
    ],
)
def test_a_firmware_is_called_what_it_says_or_what_its_file_is_called(head, location, named):
    assert firmware.version(head, location) == named


def test_it_is_fetched_when_it_was_said_and_not_before():
    place = world(habits=CALM)
    place.files[URL] = FILE
    update(place, retrieveDate=stamp(BEGAN + timedelta(seconds=60)))
    place.wait(50)
    assert steps(place) == []
    place.wait(15)
    assert "Downloading" in steps(place)


def test_a_download_is_tried_as_often_as_was_said():
    place = world(habits=CALM)
    place.files[URL], place.broken[URL] = FILE, 2
    update(place, retries=3, retryInterval=20)
    place.wait(15)
    assert steps(place) == ["Downloading"]
    place.wait(40)
    assert steps(place) == ["Downloading", "Downloading", "Downloading", "Downloaded", "Installing"]


def test_a_file_that_is_not_there_is_a_failed_download():
    place = world(habits=CALM)
    update(place, retries=2, retryInterval=5)
    place.wait(20)
    assert steps(place) == ["Downloading", "Downloading", "DownloadFailed"]
    assert place.charger.firmware == "1.4.2" and place.charger.update is None
    assert any("did not come" in note for note in place.charger.notes)


@pytest.mark.parametrize(("habits", "body"), [(CALM, b""), (strange("bad_flash"), FILE)])
def test_an_installation_may_fail_and_the_charger_goes_on(habits, body):
    place = world(habits=habits)
    place.files[URL] = body
    update(place)
    place.wait(15)
    assert steps(place) == ["Downloading", "Downloaded", "Installing", "InstallationFailed"]
    assert place.statuses()[-1] == "Available"


def test_a_rollback_says_installed_and_boots_the_old_version():
    place = world(habits=strange("rolls_back"))
    place.files[URL] = FILE
    update(place)
    place.wait(10)
    place.reboots()
    assert steps(place)[-1] == "Installed" and place.calls("BootNotification")[-1]["firmwareVersion"] == "1.4.2"


def test_nothing_is_installed_under_a_running_transaction():
    place = world(habits=CALM, connectors=2)
    place.files[URL] = FILE
    charging(place)
    update(place)
    place.wait(60)
    assert steps(place) == ["Downloading", "Downloaded"]
    assert place.statuses(2)[-1] == "Unavailable" and place.statuses(1)[-1] == "Charging"
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(3)
    assert steps(place)[-1] == "Installing"


def test_a_second_firmware_takes_the_place_of_the_first_until_that_is_installed():
    place = world(habits=CALM)
    other = "http://csms/firmware/other.bin"
    place.files |= {URL: FILE, other: b"\x00binary"}
    update(place)
    update(place, location=other)
    place.wait(8)
    assert steps(place)[-1] == "Installing"
    update(place)
    assert place.status_of("Reset", {"type": "Soft"}) == "Rejected"
    place.wait(3)
    place.reboots()
    assert place.calls("BootNotification")[-1]["firmwareVersion"] == "other.bin"


# -- signed firmware -----------------------------------------------------------------------------------------------
def sign(body: bytes, key, pss: bool = False) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        way = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else padding.PKCS1v15()
        return base64.b64encode(key.sign(body, way, hashes.SHA256())).decode()
    return base64.b64encode(key.sign(body, ec.ECDSA(hashes.SHA256()))).decode()


def signed(place: World, certificate: str, signature: str, id: int = 12, **more) -> str:
    image = {"location": URL, "retrieveDateTime": PAST, "signingCertificate": certificate, "signature": signature, **more}
    return place.status_of("SignedUpdateFirmware", {"requestId": id, "firmware": image})


@pytest.mark.parametrize(("algorithm", "pss"), [("ec", False), ("rsa", False), ("rsa", True)])
def test_a_signed_firmware_is_checked_and_installed(algorithm, pss):
    place = world(habits=CALM)
    place.files[URL] = FILE
    maker = Authority("Maker", now=BEGAN)
    certificate, key = maker.issue("Firmware", algorithm=algorithm)
    assert signed(place, certificate, sign(FILE, key, pss)) == "Accepted"
    place.wait(12)
    place.reboots()
    assert signed_steps(place) == [
        (status, 12) for status in ("Downloading", "Downloaded", "SignatureVerified", "Installing", "InstallRebooting", "Installed")
    ]
    assert place.calls("BootNotification")[-1]["firmwareVersion"] == "2.1.7" and not steps(place)


def test_a_signature_over_something_else_is_invalid_and_an_event():
    place = world(habits=CALM)
    place.files[URL] = FILE
    certificate, key = Authority("Maker", now=BEGAN).issue("Firmware")
    for number, signature in enumerate((sign(b"another file", key), "not base64!", sign(FILE, Authority("Other", now=BEGAN).key))):
        assert signed(place, certificate, signature, id=number) == "Accepted"
        place.wait(12)
        assert signed_steps(place)[-1] == ("InvalidSignature", number)
    assert place.events() == ["InvalidFirmwareSignature"] * 3 and place.charger.firmware == "1.4.2"


def test_a_signing_certificate_must_be_one_be_valid_and_come_from_the_manufacturer():
    place = world(habits=CALM)
    maker, stranger = Authority("Maker", now=BEGAN), Authority("Stranger", now=BEGAN)
    expired, key = maker.issue("Firmware", days=-1)
    assert signed(place, "no certificate", "c2ln") == "InvalidCertificate"
    assert signed(place, expired, sign(FILE, key)) == "InvalidCertificate"
    assert place.status_of("InstallCertificate", {"certificateType": "ManufacturerRootCertificate", "certificate": maker.pem}) == "Accepted"
    certificate, key = stranger.issue("Firmware")
    assert signed(place, certificate, sign(FILE, key)) == "InvalidCertificate"
    assert place.events() == ["InvalidFirmwareSigningCertificate"] * 3
    between = Authority("Between", of=maker)
    certificate, key = between.issue("Firmware")
    assert signed(place, certificate + between.pem, sign(FILE, key)) == "Accepted"


def test_signed_firmware_is_scheduled_cancelled_and_refused_while_another_installs():
    place = world(habits=CALM)
    place.files[URL] = FILE
    certificate, key = Authority("Maker", now=BEGAN).issue("Firmware")
    good = sign(FILE, key)
    later, install = stamp(BEGAN + timedelta(seconds=30)), stamp(BEGAN + timedelta(seconds=60))
    assert signed(place, certificate, good, id=1, retrieveDateTime=later) == "Accepted"
    place.wait(5)
    assert signed_steps(place) == [("DownloadScheduled", 1)]
    assert signed(place, certificate, good, id=2, installDateTime=install) == "AcceptedCanceled"
    place.wait(20)
    assert [status for status, _ in signed_steps(place)][1:] == ["Downloading", "Downloaded", "SignatureVerified", "InstallScheduled"]
    place.wait(36)
    assert signed_steps(place)[-1] == ("Installing", 2)
    assert signed(place, certificate, good, id=3) == "Rejected"


# -- diagnostics and logs ------------------------------------------------------------------------------------------
def test_diagnostics_are_uploaded_with_what_happened():
    place = world(habits=CALM)
    charging(place)
    answer = place.ask("GetDiagnostics", {"location": "http://csms/up/"}).payload
    assert answer["fileName"].startswith("VLT-0001-diagnostics-")
    place.wait(5)
    assert [one["status"] for one in place.calls("DiagnosticsStatusNotification")] == ["Uploading", "Uploaded"]
    body = place.stored[f"http://csms/up/{answer['fileName']}"].decode()
    assert "firmware 1.4.2" in body and "transaction 7 started" in body and "the server asked RemoteStartTransaction" in body


def test_of_a_time_of_which_nothing_is_known_there_is_no_file():
    place = world(habits=CALM)
    charging(place)
    long_ago = {"startTime": stamp(BEGAN - timedelta(days=2)), "stopTime": stamp(BEGAN - timedelta(days=1))}
    assert place.ask("GetDiagnostics", {"location": "http://csms/up", **long_ago}).payload == {}
    place.wait(5)
    assert not place.stored


@pytest.mark.parametrize(("broken", "last"), [(2, "Uploaded"), (3, "UploadFailed")])
def test_an_upload_is_tried_as_often_as_was_said(broken, last):
    place = world(habits=CALM)
    charging(place)
    place.broken["http://csms/up"] = broken
    place.ask("GetDiagnostics", {"location": "http://csms/up", "retries": 3, "retryInterval": 5})
    place.wait(30)
    assert [one["status"] for one in place.calls("DiagnosticsStatusNotification")] == ["Uploading"] * 3 + [last]


@pytest.mark.parametrize("kind", ["SecurityLog", "DiagnosticsLog"])
def test_a_log_is_uploaded_under_its_request(kind):
    place = world(habits=CALM)
    charging(place)
    place.charger.event("TamperDetectionActivated", "door", place.now)
    answer = place.ask("GetLog", {"logType": kind, "requestId": 5, "log": {"remoteLocation": "http://csms/log/5"}}).payload
    assert answer["status"] == "Accepted" and kind in answer["filename"]
    place.wait(5)
    assert place.calls("LogStatusNotification") == [{"status": "Uploading", "requestId": 5}, {"status": "Uploaded", "requestId": 5}]
    body = place.stored["http://csms/log/5"].decode()
    assert ("CRITICAL TamperDetectionActivated door" in body) is (kind == "SecurityLog")
    assert ("transaction 7 started" in body) is (kind == "DiagnosticsLog")


def test_a_second_log_cancels_the_first_and_a_failed_one_says_so():
    place = world(habits=CALM)
    place.broken["http://csms/log/2"] = 9
    ask = {"logType": "SecurityLog", "requestId": 1, "log": {"remoteLocation": "http://csms/log/1"}}
    assert place.status_of("GetLog", ask) == "Accepted"
    assert place.status_of("GetLog", ask | {"requestId": 2, "log": {"remoteLocation": "http://csms/log/2"}}) == "AcceptedCanceled"
    place.wait(5)
    assert place.calls("LogStatusNotification") == [{"status": "Uploading", "requestId": 2}, {"status": "UploadFailure", "requestId": 2}]
    assert not place.stored
