"""Firmware and chargers' files in the operator's console: who may, what is shown, what a click does, what a page costs."""

import io
import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry
from csms import files, firmware, images, uploads
from csms.models import ChargerUpload, FirmwareImage, FirmwareUpdate
from tests import factories
from tests.charger import Charger
from tests.stories import queries, signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_files(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.row.refresh_from_db()
    return charger


@pytest.fixture
def image(network):
    return images.add(io.BytesIO(b"new"), file_name="acme.tar.gz", name="Acme", version="2.0", vendor="Acme", model="Fast 60")


@pytest.fixture
def om(network):
    return signed_in(network.om)


def page(client: Client, name: str, *args, status: int = 200, **how) -> str:
    answer = client.get(reverse(f"csms:{name}", args=args), **how)
    assert answer.status_code == status
    return answer.content.decode()


def add(client: Client, told: dict, **how):
    """Send the form for an image as the page has it."""
    address = re.search(r'action="(/console/firmware/add/[^"]+)"', page(client, "firmware"))[1]
    return client.post(address, told, **how)


def pages(charger, image, update, upload) -> list[str]:
    one, pk = charger.row.pk, update.pk
    return [
        reverse("csms:firmware"),
        reverse("csms:firmware-image", args=[image.pk]),
        reverse("csms:firmware-update", args=[pk]),
        reverse("csms:firmware-update-live", args=[pk]),
        reverse("csms:charger-firmware", args=[one]),
        reverse("csms:charger-files", args=[one]),
        reverse("csms:charger-files-live", args=[one]),
        reverse("admin:csms_firmwareimage_changelist"),
        reverse("admin:csms_firmwareimage_change", args=[image.pk]),
        reverse("admin:csms_firmwareupdate_changelist"),
        reverse("admin:csms_firmwareupdate_change", args=[pk]),
        reverse("admin:csms_chargerupload_changelist"),
        reverse("admin:csms_chargerupload_change", args=[upload.pk]),
    ]


def test_who_sees_the_pages_and_whose_rows(network, charger, image):
    update = firmware.update(charger.row, image, by="om")
    upload = uploads.ask(charger.row, "diagnostics", by="om")
    support = factories.make_user("support", "support", network.voltaro)
    strangers = factories.make_user("olga", "operator", network.ganga.company)
    for address in pages(charger, image, update, upload):
        assert Client().get(address).status_code == 302
        assert signed_in(network.kaveri_user).get(address).status_code == 403
        assert signed_in(network.om).get(address).status_code == 200, address
        assert signed_in(support).get(address).status_code == 200
        if "image" not in address and address != reverse("csms:firmware") and "changelist" not in address:
            answer = signed_in(strangers).get(address)
            assert answer.status_code in (302, 404) or "VLT-0001" not in answer.content.decode(), address
    assert "VLT-0001" not in page(signed_in(strangers), "firmware")
    assert "VLT-0001" not in page(signed_in(strangers), "firmware-image", image.pk)


def test_who_only_looks_has_no_buttons_and_no_deeds(network, charger, image):
    update = firmware.update(charger.row, image, by="om")
    upload = uploads.ask(charger.row, "diagnostics", by="om")
    uploads.receive(upload.pk, io.BytesIO(b"log"), "a.log", clock.now())
    support = signed_in(factories.make_user("support", "support", network.voltaro))
    for address in pages(charger, image, update, upload)[:7]:
        shown = support.get(address).content.decode().partition('<div class="vt">')[2]
        assert "<form" not in shown and "Download<" not in shown, address
    for name, pk in (
        ("firmware-image", image.pk),
        ("firmware-image-remove", image.pk),
        ("firmware-update-cancel", update.pk),
        ("charger-firmware", charger.row.pk),
        ("charger-files", charger.row.pk),
        ("upload-cancel", upload.pk),
    ):
        assert support.post(reverse(f"csms:{name}", args=[pk])).status_code == 403, name
    name = files.name_of(files.CONSOLE, network.om.pk, clock.now() + timedelta(hours=1))
    assert support.post(reverse("csms:firmware-add", args=[name])).status_code == 403
    assert support.get(reverse("csms:upload-download", args=[upload.pk])).status_code == 403


def test_an_image_is_added_and_sent_to_a_charger(om, charger, network):
    assert "No image is kept yet" in page(om, "firmware")
    told = {"name": "Acme Fast", "version": "2.0", "vendor": "acme", "model": "", "signature": "", "signing_certificate": ""}
    answer = add(om, {**told, "file": SimpleUploadedFile("acme-2.0.zip", b"new firmware")})
    image = FirmwareImage.objects.get()
    assert answer["Location"] == reverse("csms:firmware-image", args=[image.pk])
    assert (image.size_bytes, image.created_by, image.file.read()) == (12, network.om, b"new firmware")
    shown = page(om, "firmware-image", image.pk)
    assert image.sha256 in shown and "VLT-0001" in shown and "VLT-0002" not in shown
    answer = om.post(reverse("csms:firmware-image", args=[image.pk]), {"charger": [charger.row.pk]})
    update = FirmwareUpdate.objects.get()
    assert answer["Location"] == reverse("csms:firmware-update", args=[update.pk])
    assert (update.requested_by, update.command.requested_by) == ("om", "om")
    assert set(AuditEntry.objects.filter(action__in=["firmware.requested", "firmware_image.added"]).values_list("actor", flat=True)) == {
        "om"
    }
    unique_id, _, _ = charger.command()
    charger.accept(unique_id, {})
    charger.call("FirmwareStatusNotification", {"status": "Downloading"})
    charger.call("FirmwareStatusNotification", {"status": "InstallationFailed"})
    shown = page(om, "firmware-update", update.pk)
    for words in ("Asked by om", "Asked of the charger", "Accepted", "Downloading", "Installation failed", "VLT-0001", "1.0 → 2.0"):
        assert words in shown, words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": SimpleUploadedFile("x.bin", b"")}, "The submitted file is empty."),
        ({"version": ""}, "This field is required."),
        ({"signature": "c2ln"}, "A signature and its certificate belong together."),
        ({"file": SimpleUploadedFile("x.bin", b"x" * 2_000_001)}, "The file is larger than 1 MiB."),
    ],
)
def test_an_image_that_cannot_be_kept_is_explained(om, change, words, settings):
    settings.MAX_FIRMWARE_BYTES = 2_000_000
    told = {"name": "x", "version": "1", "file": SimpleUploadedFile("x.bin", b"x"), **change}
    answer = add(om, told)
    assert answer.status_code == 400 and words in answer.content.decode()
    assert not FirmwareImage.objects.exists()


def test_the_form_is_one_persons_and_for_a_while(om, network, settings):
    told = {"name": "x", "version": "1", "file": SimpleUploadedFile("x.bin", b"x")}
    clock.shift(13 * 3600)
    own = reverse("csms:firmware-add", args=[files.name_of(files.CONSOLE, network.om.pk, clock.now() - timedelta(hours=1))])
    others = reverse("csms:firmware-add", args=[files.name_of(files.CONSOLE, network.admin.pk, clock.now() + timedelta(hours=1))])
    for address in (own, others, "/console/firmware/add/forged/"):
        assert "That form was too old" in om.post(address, told, follow=True).content.decode(), address
    assert not FirmwareImage.objects.exists()
    assert files.most_bytes(own) == files.most_bytes("/console/firmware/add/forged/") == files.most_bytes("/console/firmware/") == 0
    assert files.most_bytes(others) == settings.MAX_FIRMWARE_BYTES, "a large body is let in; what becomes of it is the view's"


def test_of_several_chargers_each_has_its_own_update_or_reason(om, network, charger, image):
    second = factories.make_charge_point("VLT-0003", network.kaveri.company, vendor="ACME", model="fast 60", firmware_version="1.5")
    busy = factories.make_charge_point("VLT-0004", network.kaveri.company, vendor="Acme", model="Fast 60")
    firmware.update(busy, image, by="om")
    answer = om.post(reverse("csms:firmware-image", args=[image.pk]), {"charger": [charger.row.pk, second.pk, busy.pk]}, follow=True)
    shown = answer.content.decode()
    assert "Asked 2 chargers" in shown and "An update of VLT-0004 is already on its way." in shown
    assert FirmwareUpdate.objects.count() == 3
    answer = om.post(reverse("csms:firmware-image", args=[image.pk]), {"charger": [busy.pk]})
    assert answer.status_code == 400 and "already on its way" in answer.content.decode()
    for chosen, words in (([], "Choose at least one"), (range(1, 30), "At most 20 chargers")):
        answer = om.post(reverse("csms:firmware-image", args=[image.pk]), {"charger": list(chosen)})
        assert answer.status_code == 400 and words in answer.content.decode()


def test_somebody_elses_charger_is_not_updated(network, image, charger):
    olga = signed_in(factories.make_user("olga", "operator", network.ganga.company))
    olga.post(reverse("csms:firmware-image", args=[image.pk]), {"charger": [charger.row.pk]})
    assert olga.post(reverse("csms:charger-firmware", args=[charger.row.pk]), {"image": image.pk}).status_code == 404
    assert olga.post(reverse("csms:charger-files", args=[charger.row.pk]), {"kind": "diagnostics"}).status_code == 404
    assert not FirmwareUpdate.objects.exists() and not ChargerUpload.objects.exists()


def test_an_update_is_started_from_the_chargers_page_and_cancelled(om, charger, image):
    assert reverse("csms:charger-firmware", args=[charger.row.pk]) in page(om, "charger", charger.row.pk)
    answer = om.post(reverse("csms:charger-firmware", args=[charger.row.pk]), {"image": image.pk, "retrieve_at": "2020-01-01T00:00"})
    assert answer.status_code == 400 and "may begin within" in answer.content.decode()
    om.post(reverse("csms:charger-firmware", args=[charger.row.pk]), {"image": image.pk})
    update = FirmwareUpdate.objects.get()
    om.post(reverse("csms:firmware-update-cancel", args=[update.pk]))
    update.refresh_from_db()
    assert (update.state, update.error) == ("cancelled", "Cancelled by om.")
    assert "It was over already" in om.post(reverse("csms:firmware-update-cancel", args=[update.pk]), follow=True).content.decode()


def test_an_image_never_sent_may_be_deleted(om, charger, image):
    other = images.add(io.BytesIO(b"other"), file_name="x", name="Other", version="3")
    om.post(reverse("csms:firmware-image-remove", args=[other.pk]))
    firmware.update(charger.row, image, by="om")
    assert "it stays" in om.post(reverse("csms:firmware-image-remove", args=[image.pk]), follow=True).content.decode()
    assert list(FirmwareImage.objects.all()) == [image]


def test_a_file_is_asked_for_shown_and_taken_away(om, charger):
    assert reverse("csms:charger-files", args=[charger.row.pk]) in page(om, "charger", charger.row.pk)
    assert "No file has been asked for yet" in page(om, "charger-files", charger.row.pk)
    told = {"kind": "SecurityLog", "from_at": "2026-11-01T10:00", "retries": "2"}
    assert om.post(reverse("csms:charger-files", args=[charger.row.pk]), told).status_code == 302
    upload = ChargerUpload.objects.get()
    assert (upload.kind, upload.requested_by, upload.from_at.isoformat()) == ("SecurityLog", "om", "2026-11-01T04:30:00+00:00")
    evil = '"><script>alert(1)</script>\r\nX: y/../../x.html'
    uploads.receive(upload.pk, io.BytesIO(b"<script>alert(1)</script>"), evil, clock.now())
    shown = page(om, "charger-files", charger.row.pk)
    assert "Uploaded" in shown and "25" in shown and "<script>alert" not in shown
    answer = om.get(reverse("csms:upload-download", args=[upload.pk]))
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"].startswith('attachment; filename="VLT-0001-20')
    assert answer["Content-Disposition"].endswith('-x.html"') and answer["Content-Disposition"].count('"') == 2
    assert AuditEntry.objects.get(action="upload.downloaded").actor == "om"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"kind": "everything"}, "Select a valid choice"),
        ({"kind": "diagnostics", "from_at": "2026-11-02T10:00", "to_at": "2026-11-01T10:00"}, "ends before it begins"),
        ({"kind": "diagnostics", "retries": "500"}, "less than or equal to 10"),
    ],
)
def test_what_cannot_be_asked_is_explained(om, charger, told, words):
    answer = om.post(reverse("csms:charger-files", args=[charger.row.pk]), told)
    assert answer.status_code == 400 and words in answer.content.decode()


def test_the_pages_cost_the_same_whatever_the_tables_hold(om, network, charger, image):
    def fill(number: int) -> None:
        row = factories.make_charge_point(f"VLT-1{number:03d}", network.kaveri.company, vendor="Acme", model="Fast 60")
        firmware.update(row, image, by="om")
        upload = uploads.ask(charger.row, "diagnostics", by="om")
        ChargerUpload.objects.filter(pk=upload.pk).update(state="failed")
        images.add(io.BytesIO(b"%d" % number), file_name="x", name="More", version=str(number))

    fill(0)
    update = firmware.update(charger.row, image, by="om")
    addresses = pages(charger, image, update, ChargerUpload.objects.first())
    for address in addresses:
        om.get(address)
    before = {address: queries(om, address) for address in addresses}
    for number in range(1, 15):
        fill(number)
    after = {address: queries(om, address) for address in addresses}
    assert after == before
    assert max(before.values()) < 20
