"""Where chargers fetch and leave files: addresses of our own only, one for each charger, whoever asks and however (abuse case D06)."""

import io
import json
import re
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts import tokens
from csms import batches, commands, files, firmware, images, uploads
from csms.models import ChargerUpload, Command, CommandBatch, FirmwareUpdate
from tests.charger import Charger
from tests.stories import signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db
OURS = re.compile(r"https://csms\.example\.in/(firmware|uploads)/[0-9a-z]+\.[0-9a-z]+\.[A-Za-z0-9_-]{24}(\.tar\.gz)?")
PLACES = [
    "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]/", "http://[::1]:8000/", "http://0/", "http://127.1:6379/",
    "http://localhost/", "http://10.0.0.1/", "http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://rebind.example/",
    "https://csms.example.in@evil.example/", "https://csms.example.in.evil.example/", "https://csms.example.in/uploads/1.2.forged",
    "ftp://user:pass@files.example/up", "sftp://files.example/", "file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "javascript:0",
    "//evil.example/", "", " ", "https://evil.example/\r\nX: y", "data:,x", "\\\\evil.example\\share", "https://csms.example.in/",
]  # fmt: skip
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"
WHEN = "2026-01-02T00:00:00Z"


def naming(place: str) -> dict[str, list[dict[str, Any]]]:
    """Every way a request could name a place of its own."""
    signed = {"location": place, "retrieveDateTime": WHEN, "signingCertificate": "c", "signature": "s"}
    return {
        "GetDiagnostics": [{"location": place}, {"location": place, "retries": 2}],
        "GetLog": [
            {"logType": "SecurityLog", "requestId": 1, "log": {"remoteLocation": place}},
            {"logType": "SecurityLog", "remoteLocation": place},
            {"logType": "DiagnosticsLog", "log": {"remoteLocation": place}},
        ],
        "UpdateFirmware": [{"location": place, "retrieveDate": WHEN}, {"image": 1, "location": place}],
        "SignedUpdateFirmware": [{"requestId": 1, "firmware": signed}, {"image": 1, "firmware": signed}, {"image": 1, "location": place}],
    }


@pytest.fixture(autouse=True)
def _own_files(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.CHARGER_FILES_URL = "https://csms.example.in"


@pytest.fixture
def chargers(network, bells):
    made = [Charger(network.kaveri_charger), Charger(network.ganga_charger)]
    for one in made:
        one.boot()
        one.row.refresh_from_db()
    return made


@pytest.fixture
def image(network):
    return images.add(io.BytesIO(b"firmware"), file_name="acme.tar.gz", name="Acme", version="9", signature="c2ln", signing_certificate=PEM)


def bearer(user) -> dict:
    token = tokens.make(user, "a test")[1]
    return {"HTTP_AUTHORIZATION": f"Bearer {token}", "content_type": "application/json"}


def refused(ask) -> str:
    with pytest.raises(ValidationError) as no:
        ask()
    return no.value.messages[0]


@pytest.mark.parametrize("place", PLACES)
def test_D06_no_place_of_anybody_elses_is_taken(chargers, image, place):
    for action, payloads in naming(place).items():
        for payload in payloads:
            one = [chargers[0].row]
            assert "of our own" in refused(lambda: commands.ask(one[0], action, payload, by="om", trigger="console"))  # noqa: B023
            assert "of our own" in refused(lambda: batches.ask(one, action, payload, by="om", trigger="console"))  # noqa: B023
    assert not Command.objects.filter(action__in=naming(place)).exists() and not CommandBatch.objects.exists()


def test_D06_nor_by_the_api_the_command_line_or_the_pages(chargers, client, network, image):
    row, api, om = chargers[0].row, bearer(network.om), signed_in(network.om)
    for action, payloads in naming("http://169.254.169.254/").items():
        for payload in payloads:
            body = json.dumps({"action": action, "payload": payload})
            answer = client.post(f"/api/v1/charge-points/{row.cp_id}/commands/", body, **api)
            assert answer.status_code == 400 and "of our own" in answer.content.decode()
            fields = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in payload.items()]
            with pytest.raises(CommandError, match="of our own"):
                call_command("ocpp", row.cp_id, action, *fields)
        page = om.get(reverse("csms:ask", args=[row.pk, action])).content.decode()
        assert not re.search(r'name="(location|log|firmware|requestId)"', page)
    # A field that the form does not have is not looked at.
    om.post(reverse("csms:ask", args=[row.pk, "GetDiagnostics"]), {"location": "http://169.254.169.254/"})
    assert OURS.fullmatch(Command.objects.get(action="GetDiagnostics").payload["location"])
    assert Command.objects.filter(action__in=naming("")).count() == 1


def test_each_way_makes_the_same_row_with_an_address_of_ours(chargers, client, network, image):
    row, other = (one.row for one in chargers)
    answer = client.post(
        f"/api/v1/charge-points/{row.cp_id}/commands/",
        json.dumps({"action": "UpdateFirmware", "payload": {"image": image.pk}}),
        **bearer(network.om),
    )
    assert answer.status_code == 202, answer.content
    update = FirmwareUpdate.objects.get(charge_point=row)
    assert (update.command_id, update.requested_by, update.command.trigger) == (answer.json()["id"], "om", "api")
    assert OURS.fullmatch(update.command.payload["location"])
    assert firmware.by_name(update.command.payload["location"].rpartition("/")[2], clock.now()) == update
    with pytest.raises(CommandError):  # nobody is there to answer
        call_command("ocpp", other.cp_id, "GetLog", "logType=SecurityLog", f"oldestTimestamp={WHEN}", "--wait", "0.2")
    upload = ChargerUpload.objects.get(charge_point=other)
    assert (upload.kind, upload.command.trigger) == ("SecurityLog", "manage.py ocpp")
    log = upload.command.payload["log"]
    assert (
        OURS.fullmatch(log["remoteLocation"])
        and log["oldestTimestamp"] == WHEN
        and upload.command.payload["requestId"] == upload.request_id
    )
    firmware.cancel(update, by="om")
    answer = signed_in(network.om).post(reverse("csms:ask", args=[row.pk, "SignedUpdateFirmware"]), {"image": image.pk, "wait": "3600"})
    assert answer.status_code == 302
    signed = FirmwareUpdate.objects.get(charge_point=row, signed=True)
    assert OURS.fullmatch(signed.command.payload["firmware"]["location"]) and signed.command.trigger == "console"


def test_a_batch_makes_one_address_for_each_charger(chargers, network, image):
    rows = [one.row for one in chargers]
    addresses = set()
    for action, payload, where in (
        ("GetDiagnostics", {}, lambda said: said["location"]),
        ("GetLog", {"logType": "DiagnosticsLog"}, lambda said: said["log"]["remoteLocation"]),
        ("UpdateFirmware", {"image": image.pk}, lambda said: said["location"]),
    ):
        batch = batches.ask(rows, action, payload, by="om", trigger="console", spread_s=30)
        made = list(Command.objects.filter(batch=batch))
        assert len(made) == 2 and not batch.refused and all(one.send_after for one in made)
        addresses |= {where(one.payload) for one in made}
    assert len(addresses) == 6 and all(OURS.fullmatch(one) for one in addresses)
    batch = batches.ask(rows, "UpdateFirmware", {"image": image.pk}, by="om", trigger="console")
    assert len(batch.refused) == 2 and "already on its way" in str(batch.refused)
    assert "1 to 20 chargers" in refused(lambda: batches.ask(rows * 11, "UpdateFirmware", {"image": image.pk}, by="om", trigger="console"))


def test_a_batch_of_them_is_asked_in_the_console(chargers, network, image):
    om, pks = signed_in(network.om), [one.row.pk for one in chargers]
    page = om.get(reverse("csms:batch-new"), {"pk": pks, "action": "UpdateFirmware"}).content.decode()
    assert f'<option value="{image.pk}">' in page
    om.post(reverse("csms:batch-new"), {"pk": pks, "action": "UpdateFirmware", "image": image.pk, "spread": "on", "send": "1"})
    assert FirmwareUpdate.objects.filter(charge_point__in=pks).count() == 2
    assert om.get(reverse("csms:batch", args=[CommandBatch.objects.get().pk])).status_code == 200


def test_asked_twice_under_one_key_is_one_address(chargers, image):
    row = chargers[0].row
    for action, payload in (("GetDiagnostics", {}), ("UpdateFirmware", {"image": image.pk})):
        first = commands.ask(row, action, payload, by="om", trigger="api", idempotency_key="k" + action)
        clock.shift(600)
        assert commands.ask(row, action, payload, by="om", trigger="api", idempotency_key="k" + action) == first
        with pytest.raises(ValidationError, match="used for another"):
            commands.ask(row, action, {**payload, "startTime": WHEN}, by="om", trigger="api", idempotency_key="k" + action)
    assert ChargerUpload.objects.count() == FirmwareUpdate.objects.count() == 1


def test_the_address_outlives_the_wait_for_the_charger(chargers):
    command = commands.ask(chargers[0].row, "GetDiagnostics", {}, by="om", trigger="api", expires_in_s=86_400)
    named = files.read_name(files.UPLOADS, command.payload["location"].rpartition("/")[2])
    assert named.expires_at >= command.expires_at + uploads.GOOD_FOR - uploads.GOOD_FOR / 4


@pytest.mark.parametrize(
    ("action", "payload", "words"),
    [
        ("UpdateFirmware", {"image": 10**9}, "There is no firmware image"),
        ("UpdateFirmware", {}, "is a required property"),
        ("UpdateFirmware", {"image": True}, "is not of type"),
        ("GetLog", {"logType": "Everything"}, "is not one of"),
        ("GetDiagnostics", {"startTime": "yesterday"}, "is no time"),
        ("GetDiagnostics", {"startTime": WHEN, "stopTime": WHEN}, "ends before it begins"),
    ],
)
def test_what_cannot_be_asked_is_said(chargers, image, action, payload, words):
    assert words in refused(lambda: commands.ask(chargers[0].row, action, payload, by="om", trigger="api"))
    assert not Command.objects.filter(action=action).exists()
