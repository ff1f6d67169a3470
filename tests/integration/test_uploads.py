"""Diagnostics and logs: asked for, answered, reported, and what truly arrived."""

import io
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from accounts.models import AuditEntry
from csms import commands, files, uploads
from csms.models import ChargerUpload, Command, OcppMessage
from csms.timestamps import read
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_files(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.CHARGER_FILES_URL = "http://testserver"


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    clock.shift(60)
    charger.row.refresh_from_db()
    return charger


def asked(charger: Charger, answer: dict, action: str) -> dict:
    unique_id, what, payload = charger.command()
    assert what == action
    charger.accept(unique_id, answer)
    return payload


def say(charger: Charger, status: str) -> str:
    assert charger.call("DiagnosticsStatusNotification", {"status": status}) == {}
    return OcppMessage.objects.filter(direction="IN").order_by("-id").first().note


def say_log(charger: Charger, status: str, **fields) -> str:
    assert charger.call("LogStatusNotification", {"status": status, **fields}) == {}
    return OcppMessage.objects.filter(direction="IN").order_by("-id").first().note


def put(address: str, body: bytes = b"log line\n", method: str = "put", content_type: str = "application/octet-stream", **how) -> int:
    path = address.removeprefix("http://testserver")
    return Client(enforce_csrf_checks=True).generic(method.upper(), path, body, content_type, **how).status_code


def now(row: ChargerUpload) -> ChargerUpload:
    row.refresh_from_db()
    return row


def kept(tmp_path) -> list[bytes]:
    return [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]


def test_F06_asked_uploading_uploaded(charger, tmp_path):
    since = clock.now() - timedelta(days=2)
    row = uploads.ask(charger.row, "diagnostics", by="om", from_at=since, to_at=clock.now(), retries=2, retry_interval_s=60)
    payload = asked(charger, {"fileName": "diag-1.zip"}, "GetDiagnostics")
    assert (payload["retries"], payload["retryInterval"]) == (2, 60)
    assert read(payload["startTime"]) == since.replace(microsecond=0) and "stopTime" in payload
    assert now(row).state == "requested"
    say(charger, "Uploading")
    assert now(row).state == "uploading"
    assert put(payload["location"] + "/diag-1.zip") == 200
    say(charger, "Uploaded")
    assert (now(row).state, row.size_bytes, row.reported_name, row.reported_status) == ("uploaded", 9, "diag-1.zip", "Uploaded")
    assert kept(tmp_path) == [b"log line\n"] and "diag" not in row.file.name
    assert Command.objects.get().state == "effective"
    told = AuditEntry.objects.filter(target_type="csms.chargerupload").order_by("id").values_list("action", "actor")
    assert list(told) == [("upload.requested", "system"), ("upload.uploading", "VLT-0001"), ("upload.uploaded", "VLT-0001")]


def test_F07_failed_and_tried_again(charger):
    row = uploads.ask(charger.row, "diagnostics", by="om", retries=1)
    payload = asked(charger, {"fileName": "d.zip"}, "GetDiagnostics")
    say(charger, "Uploading")
    say(charger, "UploadFailed")
    assert (now(row).state, row.error) == ("failed", "UploadFailed")
    assert say(charger, "UploadFailed") == "duplicate"
    say(charger, "Uploading")
    assert (now(row).state, row.error) == ("uploading", "")
    assert put(payload["location"]) == 200
    assert now(row).state == "uploaded"
    say(charger, "UploadFailed")
    assert now(row).state == "uploaded", "the file is here, whatever it says"


@pytest.mark.parametrize("answer", [{}, {"fileName": ""}, {"fileName": None}])
def test_F08_no_file_name_is_nothing(charger, answer):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    payload = asked(charger, answer, "GetDiagnostics")
    assert (now(row).state, row.error) == ("nothing", "It gave no file name.")
    assert put(payload["location"]) == 200, "some send one all the same"
    assert now(row).state == "uploaded"


def test_what_arrived_is_the_truth_though_nothing_was_said(charger):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    unique_id, _, payload = charger.command()
    assert put(payload["location"]) == 200
    charger.accept(unique_id, {"fileName": "late.zip"})
    assert (now(row).state, row.reported_name) == ("uploaded", "late.zip")


def test_uploaded_was_said_and_nothing_came(charger):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    payload = asked(charger, {"fileName": "d.zip"}, "GetDiagnostics")
    say(charger, "Uploaded")
    assert now(row).state == "uploading"
    clock.shift(6 * 3600 + 61)
    assert uploads.expire_due(clock.now(), 10) == 1
    assert (now(row).state, row.error) == ("expired", "It said Uploaded; nothing came.")
    assert put(payload["location"]) == 410


def test_nobody_answered(charger):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    charger.command()
    clock.shift(31)
    commands.timeout_due(clock.now(), 10)
    assert now(row).state == "requested", "it may have obeyed"
    clock.shift(7 * 3600)
    uploads.expire_due(clock.now(), 10)
    assert (now(row).state, row.error) == ("expired", "Nothing came.")


def test_a_charger_that_is_away_is_not_waited_for_longer_than_the_question(charger):
    charger.drop()
    row = uploads.ask(charger.row, "diagnostics", by="om")
    clock.shift(3601)
    commands.timeout_due(clock.now(), 10)
    assert (now(row).state, row.error) == ("expired", "The charger was not there to be asked.")


def test_Q160_idle_and_a_flood_of_uploading_write_nothing(charger):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    asked(charger, {"fileName": "d"}, "GetDiagnostics")
    say(charger, "Uploading")
    changed_at = now(row).updated_at
    for _ in range(5):
        assert say(charger, "Uploading") == "duplicate"
        assert say(charger, "Idle") == ""
    assert now(row).updated_at == changed_at


def test_Q160_asked_again_the_first_is_cancelled(charger):
    first = uploads.ask(charger.row, "diagnostics", by="om")
    assert uploads.ask(charger.row, "diagnostics", by="om").pk == first.pk, "a double click"
    clock.shift(31)
    second = uploads.ask(charger.row, "diagnostics", by="om")
    assert (now(first).state, first.error) == ("cancelled", "Asked for anew.")
    assert put(uploads.address(first)) == 410 and put(uploads.address(second)) == 200


def test_C26_a_status_nobody_waits_for_is_for_the_log_only(charger):
    assert say(charger, "Uploaded") == "no file of ours is awaited"
    assert say_log(charger, "Uploaded", requestId=7) == "no file of ours is awaited"
    assert not ChargerUpload.objects.exists()


@pytest.mark.parametrize("status", ["Rejected", "Perplexed"])
def test_a_log_it_does_not_give(charger, status):
    row = uploads.ask(charger.row, "SecurityLog", by="om")
    asked(charger, {"status": status}, "GetLog")
    assert (now(row).state, row.error) == ("refused", status)
    assert put(uploads.address(row)) == 410


def test_a_charger_that_knows_no_logs(charger):
    row = uploads.ask(charger.row, "SecurityLog", by="om")
    unique_id, _, _ = charger.command()
    charger.raw(f'[4,"{unique_id}","NotImplemented","",{{}}]')
    assert (now(row).state, row.error) == ("refused", "NotImplemented: ")


def test_X08_a_security_log_by_its_number(charger):
    other = uploads.ask(charger.row, "DiagnosticsLog", by="om")
    asked(charger, {"status": "Accepted", "filename": "a.log"}, "GetLog")
    row = uploads.ask(charger.row, "SecurityLog", by="om", from_at=clock.now() - timedelta(days=1))
    payload = asked(charger, {"status": "Accepted", "filename": "security.log"}, "GetLog")
    assert (payload["logType"], payload["requestId"]) == ("SecurityLog", row.request_id)
    assert set(payload["log"]) == {"remoteLocation", "oldestTimestamp"}
    say_log(charger, "Uploading", requestId=row.request_id)
    assert put(payload["log"]["remoteLocation"] + "security.log") == 200, "appended without a slash"
    say_log(charger, "Uploaded", requestId=row.request_id)
    assert (now(row).state, now(other).state) == ("uploaded", "requested")
    say_log(charger, "PermissionDenied", requestId=other.request_id)
    assert (now(other).state, other.error) == ("failed", "PermissionDenied")


def test_accepted_and_the_earlier_one_cancelled(charger):
    first = uploads.ask(charger.row, "DiagnosticsLog", by="om")
    asked(charger, {"status": "Accepted", "filename": "a.log"}, "GetLog")
    second = uploads.ask(charger.row, "SecurityLog", by="om")
    asked(charger, {"status": "AcceptedCanceled", "filename": "b.log"}, "GetLog")
    assert (now(first).state, now(second).state) == ("cancelled", "requested")


def test_a_file_sent_twice_is_kept_once(charger, tmp_path, django_capture_on_commit_callbacks):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    with django_capture_on_commit_callbacks(execute=True):
        assert put(uploads.address(row), b"half") == 200
    with django_capture_on_commit_callbacks(execute=True):
        assert put(uploads.address(row), b"half and half", "post") == 200
    assert kept(tmp_path) == [b"half and half"]
    assert now(row).size_bytes == 13


def test_the_newest_twenty_stay_and_the_old_go(charger, tmp_path, django_capture_on_commit_callbacks, settings):
    settings.UPLOAD_RETENTION_DAYS = 5
    for number in range(23):
        clock.shift(31)
        row = uploads.ask(charger.row, "diagnostics", by="om")
        with django_capture_on_commit_callbacks(execute=True):
            assert put(uploads.address(row), b"%d" % number) == 200
    assert sorted(map(int, kept(tmp_path))) == list(range(3, 23))
    assert ChargerUpload.objects.count() == 23, "that they came is not forgotten"
    assert uploads.files_due(clock.now(), 100) == 0
    clock.shift(5 * 24 * 3600)
    with django_capture_on_commit_callbacks(execute=True):
        assert uploads.files_due(clock.now(), 100) == 20
    assert kept(tmp_path) == []
    assert AuditEntry.objects.filter(action="upload.deleted", trigger="retention").count() == 20


def test_what_a_killed_process_left_half_written_goes_a_day_later(charger, tmp_path):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    assert put(uploads.address(row)) == 200
    for folder in ("uploads", "firmware"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "half").write_bytes(b"ha")
    uploads.files_due(clock.now(), 100)
    assert sorted(kept(tmp_path)) == [b"ha", b"ha", b"log line\n"]
    clock.shift(25 * 3600)
    uploads.files_due(clock.now(), 100)
    assert kept(tmp_path) == [b"log line\n"]


def test_a_full_disk_is_said_and_nothing_is_kept(charger, tmp_path, monkeypatch):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    monkeypatch.setattr(files, "free_bytes", lambda: 10)
    assert put(uploads.address(row)) == 507
    assert now(row).state == "requested" and kept(tmp_path) == []


def test_more_than_may_be_kept_leaves_nothing_behind(charger, tmp_path, settings):
    settings.MAX_UPLOAD_BYTES = 200_000
    row = uploads.ask(charger.row, "diagnostics", by="om")
    assert put(uploads.address(row), b"x" * 200_001) == 413
    assert (now(row).state, row.file.name) == ("failed", "") and kept(tmp_path) == []
    assert put(uploads.address(row), b"x" * 200_000) == 200
    assert now(row).state == "uploaded"


def test_a_form_with_a_file_is_taken_too(charger, tmp_path):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    file = io.BytesIO(b"in a form")
    file.name = "../../etc/passwd"
    answer = Client(enforce_csrf_checks=True).post(uploads.address(row).removeprefix("http://testserver"), {"file": file, "more": "words"})
    assert answer.status_code == 200
    assert kept(tmp_path) == [b"in a form"] and now(row).reported_name == "passwd"


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"body": b""}, 400),
        ({"body": b"--x--", "content_type": "multipart/form-data; boundary=x"}, 400),
        ({"body": b"words", "content_type": "multipart/form-data"}, 400),
        ({"headers": {"Content-Range": "bytes 0-3/10"}}, 400),
        ({"method": "get"}, 405),
        ({"method": "delete"}, 405),
    ],
)
def test_what_is_no_file_is_refused(charger, tmp_path, how, status):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    assert put(uploads.address(row), **how) == status
    assert (now(row).state, kept(tmp_path)) == ("requested", [])


def test_one_address_is_not_used_without_end(charger, tmp_path):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    assert [put(uploads.address(row), b"%d" % number) for number in range(22)] == [200] * 20 + [429] * 2


def test_what_cannot_be_asked_is_said_in_a_sentence(charger):
    with pytest.raises(ValidationError, match="no such file"):
        uploads.ask(charger.row, "everything", by="om")
    with pytest.raises(ValidationError, match="ends before it begins"):
        uploads.ask(charger.row, "SecurityLog", by="om", from_at=clock.now(), to_at=clock.now() - timedelta(hours=1))
    charger.row.blocked = True
    with pytest.raises(ValidationError, match="is blocked"):
        uploads.ask(charger.row, "SecurityLog", by="om")
    assert not ChargerUpload.objects.exists()


def test_cancelled_the_address_is_closed_and_the_question_not_sent(charger):
    row = uploads.ask(charger.row, "diagnostics", by="om")
    assert uploads.cancel(row, by="om") and not uploads.cancel(row, by="om")
    assert charger.command() is None and put(uploads.address(row)) == 410


def test_asked_for_anew_while_the_charger_is_away_it_is_asked_once(charger):
    """The first address is closed: sent there, the file would be lost."""
    charger.drop()
    first = uploads.ask(charger.row, "diagnostics", by="om")
    clock.shift(60)
    second = uploads.ask(charger.row, "diagnostics", by="om")
    assert (now(first).state, first.command.state) == ("cancelled", "expired")
    charger.connect()
    charger.boot()
    assert charger.asked("GetDiagnostics")[2]["location"] == uploads.address(second)
    assert charger.asked("GetDiagnostics") is None
