"""Firmware updates: what is asked of a charger, what it says, fetches and boots with, and what time makes of it."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from csms import commands, firmware, images
from csms.models import Alert, Command, FirmwareUpdate, OcppMessage
from csms.timestamps import read
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


@pytest.fixture(autouse=True)
def _own_files(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.CHARGER_FILES_URL = "https://csms.example.in"


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    clock.shift(60)
    charger.row.refresh_from_db()
    return charger


@pytest.fixture
def image(network):
    return images.add(
        io.BytesIO(b"firmware of the year"), file_name="acme-2.0.tar.gz", name="Acme Fast", version="2.0", vendor="Acme", model="Fast 60"
    )


@pytest.fixture
def signed_image(network):
    return images.add(
        io.BytesIO(b"signed"), file_name="s.bin", name="Acme", version="2.0", signature="c2ln\nbmF0dXJl", signing_certificate=CERTIFICATE
    )


def say(charger: Charger, *statuses: str) -> None:
    for status in statuses:
        assert charger.call("FirmwareStatusNotification", {"status": status}) == {}


def say_signed(charger: Charger, status: str, **fields) -> str:
    assert charger.call("SignedFirmwareStatusNotification", {"status": status, **fields}) == {}
    return OcppMessage.objects.filter(direction="IN").order_by("-id").first().note


def asked(charger: Charger, answer: dict | None = None, action: str = "UpdateFirmware") -> dict:
    """The charger takes the request and answers it; what it was asked."""
    unique_id, what, payload = charger.command()
    assert what == action
    charger.accept(unique_id, answer if answer is not None else ({} if action == "UpdateFirmware" else {"status": "Accepted"}))
    return payload


def last_note() -> str:
    return OcppMessage.objects.filter(direction="IN").order_by("-id").first().note


def now(row: FirmwareUpdate) -> FirmwareUpdate:
    row.refresh_from_db()
    return row


# -- F: unsigned --------------------------------------------------------------------------------------------------
def test_F01_from_the_asking_to_the_boot(charger, image):
    row = firmware.update(charger.row, image, by="om")
    payload = asked(charger)
    assert payload["location"].startswith("https://csms.example.in/firmware/") and payload["location"].endswith(".tar.gz")
    assert len(payload["location"]) < 100 and "?" not in payload["location"]
    # Q161: a clock that is a little behind does not make it wait.
    assert 50 < (clock.now() - read(payload["retrieveDate"])).total_seconds() < 70
    assert now(row).state == "accepted"
    seen = []
    for status in ("Downloading", "Downloaded", "Installing", "Installed"):
        say(charger, status)
        seen.append((now(row).state, row.reported_status))
    assert seen == [("downloading", "Downloading"), ("downloaded", "Downloaded"), ("installing", "Installing"), ("rebooting", "Installed")]
    charger.boot(firmwareVersion="2.0")
    assert (now(row).state, row.to_version, row.from_version) == ("installed", "2.0", "1.0")
    assert row.finished_at and Command.objects.get(pk=row.command_id).state == "effective"
    told = AuditEntry.objects.filter(target_type="csms.firmwareupdate").order_by("id")
    assert [one.action for one in told] == ["firmware.requested", "firmware.asked", *["firmware.progress"] * 5, "firmware.installed"]
    assert {one.actor for one in told[2:]} == {charger.row.cp_id}
    assert not Alert.objects.exists()


def test_F02_a_failed_download_is_asked_again_three_times_then_a_person_is_told(charger, image):
    row = firmware.update(charger.row, image, by="om")
    first = asked(charger)
    for wait_s in (300, 1800, 7200):
        say(charger, "Downloading", "DownloadFailed")
        assert (now(row).state, row.finished_at) == ("download_failed", None)
        assert firmware.timeout_due(clock.now(), 10) == 0 and charger.command() is None
        clock.shift(wait_s + 1)
        assert firmware.timeout_due(clock.now(), 10) == 1
        assert now(row).state == "requested"
        again = asked(charger)
        assert again["location"] != first["location"]
    say(charger, "DownloadFailed")
    assert (now(row).state, row.attempts, bool(row.finished_at)) == ("download_failed", 4, True)
    assert "Update to 2.0: download failed" in Alert.objects.get(kind="firmware").detail


def test_F03_a_failed_installation_is_the_end(charger, image):
    row = firmware.update(charger.row, image, by="om")
    asked(charger)
    say(charger, "Downloaded", "Installing", "InstallationFailed")
    assert now(row).state == "installation_failed" and row.finished_at
    assert Command.objects.get().state == "expired", "nothing more is waited for"
    assert Alert.objects.get(kind="firmware").detail.endswith("InstallationFailed")


def test_F04_not_a_word_and_the_new_version(charger, image):
    row = firmware.update(charger.row, image, by="om")
    asked(charger)
    charger.drop()
    charger.connect()
    charger.boot(firmwareVersion="2.0")
    assert now(row).state == "installed"


def test_F04_not_a_word_and_the_old_version(charger, image):
    row = firmware.update(charger.row, image, by="om")
    name = asked(charger)["location"].rpartition("/")[2]
    found = firmware.by_name(name, clock.now())
    firmware.fetched(found, whole=False, now=clock.now())
    firmware.fetched(found, whole=True, now=clock.now())
    charger.boot()
    assert (now(row).state, row.to_version) == ("rolled_back", "1.0")
    # A little later it has it after all.
    clock.shift(3600)
    charger.boot(firmwareVersion="2.0")
    assert now(row).state == "installed"
    assert not Alert.objects.filter(cleared_at=None).exists()


def test_F05_storms_and_disorder_are_thanked_for_and_change_nothing(charger, image):
    row = firmware.update(charger.row, image, by="om")
    asked(charger)
    say(charger, "Downloading", "Installing")
    changed_at, entries = now(row).updated_at, AuditEntry.objects.count()
    say(charger, *["Idle"] * 5, *["Downloading"] * 5, "Downloaded", "Installing", "Downloading")
    assert last_note() == "out of order"
    assert charger.call("FirmwareStatusNotification", {"status": "Perplexed"}) == {}
    assert charger.call("FirmwareStatusNotification", {}) == {}
    assert (now(row).state, row.updated_at, AuditEntry.objects.count()) == ("installing", changed_at, entries)


def test_the_last_word_may_come_after_the_boot_that_ended_it(charger, image):
    row = firmware.update(charger.row, image, by="om")
    asked(charger)
    say(charger, "Downloaded", "Installing")
    charger.boot(firmwareVersion="2.0")
    say(charger, "Installed")
    assert (now(row).reported_status, row.state, last_note()) == ("Installed", "installed", "")
    clock.shift(25 * 3600)
    say(charger, "Installed")
    assert last_note() == "no update of ours is open"


def test_a_repeated_downloading_costs_a_few_queries_and_no_row(charger, image):
    firmware.update(charger.row, image, by="om")
    asked(charger)
    say(charger, "Downloading")
    with CaptureQueriesContext(connection) as seen:
        say(charger, "Downloading")
    assert not any('INSERT INTO "accounts_auditentry"' in one["sql"] or "UPDATE" in one["sql"][:6] for one in seen.captured_queries)


def test_C26_installed_though_nobody_asked_is_for_the_log_only(charger):
    say(charger, "Installed")
    assert last_note() == "no update of ours is open"
    assert not FirmwareUpdate.objects.exists()


def test_Q156_a_lost_line_during_the_download_is_no_failure(charger, image):
    row = firmware.update(charger.row, image, by="om")
    asked(charger)
    say(charger, "Downloading")
    charger.drop()
    charger.connect()
    assert now(row).state == "downloading"
    charger.boot()
    assert now(row).state == "downloading"
    say(charger, "Downloaded")
    assert now(row).state == "downloaded"


def test_Q159_an_error_instead_of_an_answer(charger, image):
    row = firmware.update(charger.row, image, by="om")
    unique_id, _, _ = charger.command()
    charger.raw(f'[4,"{unique_id}","NotImplemented","","{{}}"]'.replace('"{}"', "{}"))
    assert (now(row).state, row.error) == ("refused", "NotImplemented: ")
    assert row.finished_at and Alert.objects.filter(kind="firmware").exists()


def test_a_charger_that_never_comes_is_asked_again_and_in_the_end_no_more(charger, image):
    charger.drop()
    row = firmware.update(charger.row, image, by="om")
    for attempt in (1, 2, 3, 4):
        assert now(row).attempts == attempt
        clock.shift(24 * 3600 + 60)
        commands.timeout_due(clock.now(), 10)
        assert now(row).state == "expired" and row.error == "The charger was not there to be asked."
        clock.shift(7201)
        firmware.timeout_due(clock.now(), 10)
    assert now(row).finished_at and row.attempts == 4


def test_it_said_installed_and_its_boot_is_waited_for(charger, image):
    """An accepted charger is never asked to boot (errata 3.40)."""
    row = firmware.update(charger.row, image, by="om")
    asked(charger)
    say(charger, "Downloaded", "Installed")
    clock.shift(1501)
    assert firmware.timeout_due(clock.now(), 10) == 1
    assert now(row).state == "expired"
    assert not Command.objects.filter(action="TriggerMessage").exists()
    charger.boot(firmwareVersion="2.0")
    assert now(row).state == "installed"


@pytest.mark.django_db(transaction=True)
def test_a_charger_that_fetches_while_its_answer_is_worked_on(charger, image):
    """Command before update, as everywhere: the other way round the two would wait for each other, and one would be lost."""
    row = firmware.update(charger.row, image, by="om")

    def fetch():
        try:
            firmware.fetched(FirmwareUpdate.objects.get(pk=row.pk), whole=True, now=clock.now())
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as one:
        with transaction.atomic():  # as the answer does
            Command.objects.select_for_update(no_key=True).get(pk=row.command_id)
            fetching = one.submit(fetch)
            time.sleep(0.5)
            assert not fetching.done()
            FirmwareUpdate.objects.select_for_update(no_key=True, nowait=True).get(pk=row.pk)
        fetching.result(10)
    assert now(row).state == "downloaded"


def test_one_update_is_open_per_charger(charger, image, network):
    firmware.update(charger.row, image, by="om")
    with pytest.raises(ValidationError, match="already on its way"):
        firmware.update(charger.row, image, by="om")
    other = images.add(io.BytesIO(b"any"), file_name="x", name="Any", version="9")
    assert firmware.update(network.ganga_charger, other, by="om").state == "requested"


def test_cancelled_before_it_was_sent_it_is_never_sent(charger, image):
    row = firmware.update(charger.row, image, by="om")
    name = firmware.address(row, clock.now()).rpartition("/")[2]
    assert firmware.by_name(name, clock.now())
    assert firmware.cancel(row, by="om") and not firmware.cancel(row, by="om")
    assert charger.command() is None
    assert (Command.objects.get().state, Command.objects.get().note) == ("expired", "Cancelled. Cancelled by om.")
    assert firmware.by_name(name, clock.now()) is None
    assert now(row).state == "cancelled"
    firmware.update(charger.row, image, by="om")


def test_a_later_time_is_told_and_waited_for(charger, image):
    tomorrow = clock.now() + timedelta(hours=20)
    row = firmware.update(charger.row, image, by="om", retrieve_at=tomorrow)
    payload = asked(charger)
    assert abs((read(payload["retrieveDate"]) - tomorrow).total_seconds()) <= 61
    clock.shift(21 * 3600)
    assert firmware.timeout_due(clock.now(), 10) == 0
    assert firmware.by_name(payload["location"].rpartition("/")[2], clock.now()) == now(row)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"signed": True}, "no signature"),
        ({"install_at": timedelta(hours=1)}, "Only SignedUpdateFirmware"),
        ({"retrieve_at": timedelta(days=90)}, "within 60 days"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(charger, image, how, sentence):
    how = {name: clock.now() + value if isinstance(value, timedelta) else value for name, value in how.items()}
    with pytest.raises(ValidationError, match=sentence):
        firmware.update(charger.row, image, by="om", **how)
    assert not Command.objects.exists() and not FirmwareUpdate.objects.exists()


def test_an_image_goes_to_the_model_it_is_for(charger, network):
    other = images.add(io.BytesIO(b"x"), file_name="x.bin", name="Other", version="2", vendor="acme", model="Slow 7")
    with pytest.raises(ValidationError, match="is for model Slow 7; VLT-0001 says Fast 60"):
        firmware.update(charger.row, other, by="om")
    network.kaveri_charger.blocked = True
    fits = images.add(io.BytesIO(b"y"), file_name="x.bin", name="Fits", version="2", vendor="ACME")
    with pytest.raises(ValidationError, match="is blocked"):
        firmware.update(network.kaveri_charger, fits, by="om")


def test_a_charger_that_knows_only_http_is_given_http(charger, image, settings):
    settings.CHARGER_FILES_URL = "https://csms.example.in:8443"
    charger.row.quirk_settings = {"file_scheme": "http"}
    charger.row.save()
    firmware.update(charger.row, image, by="om")
    assert asked(charger)["location"].startswith("http://csms.example.in/firmware/")


def test_a_charger_whose_profile_forbids_it_is_not_asked(charger, image):
    charger.row.quirk_settings = {"commands_unsupported": ["UpdateFirmware"]}
    with pytest.raises(ValidationError, match="does not take UpdateFirmware"):
        firmware.update(charger.row, image, by="om")


# -- X: signed ------------------------------------------------------------------------------------------------------
def test_X09_signed_with_its_number_and_its_times(charger, signed_image):
    tonight = clock.now() + timedelta(hours=5)
    row = firmware.update(charger.row, signed_image, by="om", signed=True, install_at=tonight)
    payload = asked(charger, action="SignedUpdateFirmware")
    assert payload["requestId"] == row.request_id
    assert payload["firmware"]["signature"] == "c2lnbmF0dXJl"
    assert payload["firmware"]["signingCertificate"] == CERTIFICATE
    assert read(payload["firmware"]["installDateTime"]) == tonight.replace(microsecond=0)
    for status in ("DownloadScheduled", "Downloading", "Downloaded", "SignatureVerified", "InstallScheduled"):
        assert say_signed(charger, status, requestId=row.request_id) == ""
    assert now(row).state == "downloaded"
    assert (
        say_signed(charger, "Installing", requestId=row.request_id + 1)
        == f"speaks of request {row.request_id + 1}, ours is {row.request_id}"
    )
    clock.shift(6 * 3600)
    assert firmware.timeout_due(clock.now(), 10) == 0
    say_signed(charger, "InstallRebooting", requestId=row.request_id)
    charger.boot(firmwareVersion="2.0")
    assert now(row).state == "installed"


def test_X09_an_invalid_signature(charger, signed_image):
    row = firmware.update(charger.row, signed_image, by="om", signed=True)
    asked(charger, action="SignedUpdateFirmware")
    say_signed(charger, "Downloaded", requestId=row.request_id)
    say_signed(charger, "InvalidSignature", requestId=row.request_id)
    assert (now(row).state, row.error) == ("bad_signature", "InvalidSignature")


@pytest.mark.parametrize("status", ["InvalidCertificate", "RevokedCertificate"])
def test_X10_a_certificate_it_does_not_take(charger, signed_image, status):
    row = firmware.update(charger.row, signed_image, by="om", signed=True)
    asked(charger, {"status": status}, "SignedUpdateFirmware")
    assert (now(row).state, row.error) == ("bad_signature", status)
    assert Alert.objects.get(kind="firmware").detail == f"Update to 2.0: signature refused. {status}"


def test_a_signed_request_that_is_asked_again_has_a_new_number(charger, signed_image):
    row = firmware.update(charger.row, signed_image, by="om", signed=True)
    first = asked(charger, action="SignedUpdateFirmware")["requestId"]
    say_signed(charger, "DownloadFailed", requestId=first)
    clock.shift(301)
    firmware.timeout_due(clock.now(), 10)
    second = asked(charger, action="SignedUpdateFirmware")["requestId"]
    assert second != first and now(row).request_id == second


def test_a_charger_that_uses_the_plain_message_is_understood(charger, signed_image):
    row = firmware.update(charger.row, signed_image, by="om", signed=True)
    asked(charger, {"status": "AcceptedCanceled"}, "SignedUpdateFirmware")
    say(charger, "Downloading")
    say_signed(charger, "Downloaded")
    assert now(row).state == "downloaded"


# -- the boot's cost ------------------------------------------------------------------------------------------------
def test_a_boot_goes_the_quick_way_unless_an_update_is_open(charger, image):
    def cost(**fields) -> int:
        clock.shift(3600)  # boots that follow each other closely are looked at
        with CaptureQueriesContext(connection) as seen:
            charger.boot(**fields)
        return len(seen)

    assert cost() == 1
    row = firmware.update(charger.row, image, by="om")
    assert cost() > 1
    firmware.cancel(row, by="om")
    assert cost() == 1


# -- images ---------------------------------------------------------------------------------------------------------
def test_the_same_image_twice_is_one(image, tmp_path):
    with pytest.raises(ValidationError, match="kept already: Acme Fast"):
        images.add(io.BytesIO(b"firmware of the year"), file_name="copy.bin", name="Copy", version="3")
    assert len(list(tmp_path.rglob("*.tar.gz"))) == 1 and not list(tmp_path.rglob("*.bin"))


def test_an_image_that_was_sent_stays_and_another_may_go(charger, image, django_capture_on_commit_callbacks):
    firmware.update(charger.row, image, by="om")
    with pytest.raises(ValidationError, match="it stays"):
        images.remove(image)
    other = images.add(io.BytesIO(b"other"), file_name="x.bin", name="Other", version="3")
    path = Path(other.file.path)
    with django_capture_on_commit_callbacks(execute=True):
        images.remove(other)
    assert not path.exists()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"version": " "}, "A version is needed"),
        ({"signature": "c2ln"}, "belong together"),
        ({"signature": "not base64!", "signing_certificate": CERTIFICATE}, "not Base64"),
        ({"signature": "c2ln", "signing_certificate": "MIIB"}, "not PEM"),
        ({"signature": "A" * 804, "signing_certificate": CERTIFICATE}, "800 characters"),
    ],
)
def test_an_image_that_cannot_be_kept(db, how, sentence):
    with pytest.raises(ValidationError, match=sentence):
        images.add(io.BytesIO(b"x"), **{"file_name": "x.bin", "name": "x", "version": "1", **how})


def test_an_image_beyond_the_limit_or_empty_leaves_nothing(db, settings, tmp_path):
    settings.MAX_FIRMWARE_BYTES = 100_000
    with pytest.raises(ValidationError, match="larger than"):
        images.add(io.BytesIO(b"x" * 100_001), file_name="x.bin", name="x", version="1")
    with pytest.raises(ValidationError, match="empty"):
        images.add(io.BytesIO(b""), file_name="x.bin", name="x", version="1")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
