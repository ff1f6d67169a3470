"""The two addresses for files, against a running server: forged names, parts, sizes, slow readers (reliability D6, D7)."""

import hashlib
import io
import random
import re
import socket
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from django.conf import settings
from django.core.signing import Signer, TimestampSigner

from accounts.models import AuditEntry
from csms import files, firmware, images, uploads
from csms.models import ChargerUpload, FirmwareUpdate
from tests.server import Server, serving
from voltaro import clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
FIRMWARE = random.Random(7).randbytes(3_000_017)


@pytest.fixture
def http(server: Server):
    server.forgive()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=30) as client:
        yield client
    assert server.alive and not server.mistakes


@pytest.fixture
def update(network, bells) -> FirmwareUpdate:
    image = images.add(io.BytesIO(FIRMWARE), file_name="acme.bin", name="Acme", version="2.0")
    return firmware.update(network.kaveri_charger, image, by="om")


@pytest.fixture
def upload(network, bells) -> ChargerUpload:
    return uploads.ask(network.kaveri_charger, "diagnostics", by="om")


def path_of(address: str) -> str:
    return re.sub(r"^https?://[^/]+", "", address)


def fetch_path(update: FirmwareUpdate) -> str:
    return path_of(firmware.address(update, clock.now()))


def put_path(upload: ChargerUpload) -> str:
    return path_of(uploads.address(upload))


def stored() -> list[Path]:
    return [path for path in (Path(settings.MEDIA_ROOT) / "uploads").glob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def _tidy():
    for path in stored():
        path.unlink()
    yield


# -- downloads --------------------------------------------------------------------------------------------------------
def test_a_charger_fetches_its_firmware_whole(http, update):
    answer = http.get(fetch_path(update))
    assert answer.status_code == 200
    assert answer.content == FIRMWARE
    assert answer.headers["content-length"] == str(len(FIRMWARE))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["etag"] == f'"{hashlib.sha256(FIRMWARE).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers
    _wait(lambda: FirmwareUpdate.objects.get(pk=update.pk).fetched_whole_at)
    update.refresh_from_db()
    assert (update.state, update.fetch_count) == ("downloaded", 1)


def test_it_is_counted_at_every_request_and_audited_once(http, update):
    path = fetch_path(update)
    for first in range(0, len(FIRMWARE), 1_000_000):
        part = http.get(path, headers={"Range": f"bytes={first}-{first + 999_999}"})
        assert part.status_code == 206 and part.content == FIRMWARE[first : first + 1_000_000]
    _wait(lambda: FirmwareUpdate.objects.get(pk=update.pk).fetched_whole_at)
    update.refresh_from_db()
    assert update.fetch_count == 4
    entries = AuditEntry.objects.filter(target_type="csms.firmwareupdate", action__startswith="firmware.fetched")
    assert sorted(entries.values_list("action", "actor")) == [("firmware.fetched", "VLT-0001"), ("firmware.fetched_whole", "VLT-0001")]


@pytest.mark.parametrize(
    ("headers", "status", "part", "told"),
    [
        ({"Range": "bytes=0-9"}, 206, slice(0, 10), "bytes 0-9/3000017"),
        ({"Range": "bytes=3000000-"}, 206, slice(3_000_000, None), "bytes 3000000-3000016/3000017"),
        ({"Range": "bytes=-17"}, 206, slice(-17, None), "bytes 3000000-3000016/3000017"),
        ({"Range": "bytes=3000017-"}, 416, slice(0, 0), "bytes */3000017"),
        ({"Range": "bytes=0-1,5-6"}, 200, slice(None), None),
        ({"Range": "pages=1"}, 200, slice(None), None),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, 200, slice(None), None),
    ],
)
def test_a_modem_goes_on_where_it_was_cut_off(http, update, headers, status, part, told):
    answer = http.get(fetch_path(update), headers=headers)
    assert (answer.status_code, answer.headers.get("content-range")) == (status, told)
    assert answer.content == (b"" if status == 416 else FIRMWARE[part])
    same = {"Range": "bytes=0-9", "If-Range": f'"{update.image.sha256}"'}
    assert http.get(fetch_path(update), headers=same).status_code == 206


def test_a_head_tells_the_size_and_counts_for_nothing(http, update):
    answer = http.head(fetch_path(update))
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(len(FIRMWARE)), b"")
    update.refresh_from_db()
    assert (update.fetch_count, update.state) == (0, "requested")


def test_forged_names_open_nothing(http, update, upload):
    path = fetch_path(update)
    name = path.rpartition("/")[2]
    row, minutes, signature = name.removesuffix(".bin").split(".")
    other = f"{update.pk + 1:x}"
    of_an_upload = f"{row}.{minutes}.{Signer(salt='csms.files.uploads').signature(f'{row}.{minutes}')[:24]}"
    own = put_path(upload).rpartition("/")[2]
    forged = [
        name.removesuffix(".bin"),
        name + "x",
        name + "/",
        name + "/%2e%2e/" + name,
        name.replace(".bin", ".exe"),
        name.upper(),
        f"{other}.{minutes}.{signature}.bin",
        f"{row}.{'z' * len(minutes)}.{signature}.bin",
        f"{row}.{minutes}.{'A' * 24}.bin",
        f"{row}.{minutes}.{signature[::-1]}.bin",
        f"{row}.{minutes}.{signature[:-1]}.bin",
        f"0{row}.{minutes}.{signature}.bin",
        f"{row}.{minutes}..bin",
        f"-{row}.{minutes}.{signature}.bin",
        of_an_upload + ".bin",
        f"{row}.{minutes}.{Signer().signature(f'{row}.{minutes}')[:24]}.bin",
        f"{row}.{minutes}.{Signer(key='another', salt='csms.files.firmware').signature(f'{row}.{minutes}')[:24]}.bin",
        TimestampSigner().sign(str(update.pk)),
        own + ".bin",
        files.name_of(files.FIRMWARE, update.pk, clock.now() - timedelta(minutes=2)) + ".bin",
        files.name_of(files.FIRMWARE, update.pk + 5, clock.now() + timedelta(days=1)) + ".bin",
        "",
        ".",
        "%2e%2e",
        "%2e%2e%2fsettings.py",
        "..%2f..%2fetc%2fpasswd",
        update.image.file.name.rpartition("/")[2],
        "%00" + name,
        name + "%00",
        "a" * 5000,
        "9" * 400 + "." + minutes + "." + signature + ".bin",
    ]
    # Every character of the signature counts, and every one of what is signed.
    told = name.removesuffix(".bin")
    for place in range(len(told)):
        if told[place] != ".":
            forged.append(told[:place] + ("b" if told[place] != "b" else "c") + told[place + 1 :] + ".bin")
    statuses = {one: http.get(f"/firmware/{one}").status_code for one in forged}
    assert set(statuses.values()) == {404}, {one: status for one, status in statuses.items() if status != 404}
    for one in forged:
        if not one.startswith((own, of_an_upload)):  # what follows a good name is the name of the file
            assert http.put(f"/uploads/{one}", content=b"x").status_code in (404, 410), one
    assert http.get(path).status_code == 200
    assert not stored()


def test_a_name_closes_with_its_update_and_is_nobody_elses(http, update, network, bells):
    path = fetch_path(update)
    other = firmware.update(network.ganga_charger, images.add(io.BytesIO(b"ganga's"), file_name="g.bin", name="G", version="1"), by="om")
    assert http.get(fetch_path(other)).content == b"ganga's"
    firmware.cancel(update, by="om")
    assert http.get(path).status_code == 404
    assert http.get(fetch_path(other)).status_code == 200
    assert http.post(fetch_path(other)).status_code in (403, 405)


def test_a_stored_file_that_is_gone_is_a_404_and_no_mistake(http, update):
    Path(update.image.file.path).unlink()
    assert http.get(fetch_path(update)).status_code == 404


# -- uploads ------------------------------------------------------------------------------------------------------------
def test_a_charger_sends_its_log_by_put_by_post_and_in_a_form(http, upload):
    body = random.Random(3).randbytes(2_000_003)
    for number, how in enumerate(
        [
            {"method": "PUT", "content": body},
            {"method": "POST", "content": body[:-1]},
            {"method": "POST", "files": {"file": ("log.zip", body[:-2])}},
            {"method": "PUT", "content": (body[:-3][at : at + 1000] for at in range(0, len(body) - 3, 1000))},
            {"method": "POST", "content": body[:-4], "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            {"method": "POST", "content": body[:-5], "headers": {"Expect": "100-continue", "Content-Type": "text/plain"}},
        ]
    ):
        answer = http.request(url=put_path(upload) + "/VLT-0001/log.zip", **how)
        assert (answer.status_code, answer.text) == (200, "Thank you.\n"), how["method"]
        upload.refresh_from_db()
        assert (upload.state, upload.size_bytes) == ("uploaded", len(body) - number)
        assert upload.sha256 == hashlib.sha256(body[: len(body) - number]).hexdigest()
        assert [path.stat().st_size for path in stored()] == [len(body) - number]


@pytest.mark.parametrize(
    "body",
    [
        b"<html><script>alert(1)</script>",
        b"PK\x03\x04" + b"\x00" * 1000,  # a zip that would be large
        b"MZ\x90\x00",
        b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
        b"\x7fELF",
        b"#!/bin/sh\nrm -rf /",
    ],
)
def test_D7_what_a_charger_sends_is_kept_as_it_is_and_comes_back_as_a_download_only(http, upload, network, body, client):
    for name in ("/x.html", "/../../x.py", "/%2e%2e/%2e%2e/x.py", "/..%5c..%5cx.exe", "/" + "x" * 3000):
        assert http.put(put_path(upload) + name, content=body).status_code in (200, 404)
    assert http.put(put_path(upload), content=body).status_code == 200
    (path,) = stored()
    assert path.read_bytes() == body and re.fullmatch(r"[0-9a-f]{32}", path.name)
    assert path.stat().st_mode & 0o777 == 0o600
    for address in (f"/uploads/{path.name}", f"/media/uploads/{path.name}", f"/static/uploads/{path.name}", f"/{path.name}"):
        assert http.get(address).status_code == 404
    assert http.get(put_path(upload)).status_code == 405


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(http, server, upload):
    most = settings.MAX_UPLOAD_BYTES
    for path, declared in (
        (put_path(upload), most + 100_000),
        ("/uploads/forged", 5_000_000),
        ("/console/firmware/add/forged/", 5_000_000),
        ("/sign-in/", 5_000_000),
        ("/", 10**13),
    ):
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as line:
            line.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {declared}\r\n\r\nsome".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 413 "), path
    assert not stored()


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(http, server, upload):
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    began = time.monotonic()
    for path, most in (("/uploads/forged", 4 * 1024 * 1024), (put_path(upload), settings.MAX_UPLOAD_BYTES)):
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as line:
            line.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            sent = 0
            try:
                while sent < 10 * most:
                    line.sendall(piece)
                    sent += 65_536
            except OSError:  # it hung up, as it must
                pass
            assert most <= sent < most + 20 * 1024 * 1024
    assert time.monotonic() - began < 60
    assert not stored()


def test_large_bodies_and_slow_readers_cost_the_server_no_memory(http, server, update, upload, network):
    process = psutil.Process(server.process.pid)
    Path(update.image.file.path).write_bytes(b"f" * 120_000_000)
    http.get("/healthz")
    before = process.memory_info().rss
    peak = _Peak(process)
    body = b"x" * 49_000_000
    with peak:
        for _ in range(2):
            assert http.put(put_path(upload), content=body).status_code == 200
            assert http.post(put_path(upload), files={"file": ("log", body)}).status_code == 200
        slow = []
        for _ in range(4):  # they ask for 120 MB each and read nothing
            line = socket.create_connection(("127.0.0.1", server.port), timeout=10)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            line.sendall(f"GET {fetch_path(update)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            slow.append(line)
        time.sleep(2)
        assert http.get("/healthz").status_code == 200, "nobody else waits for them"
        for line in slow:
            line.close()
    assert peak.rss - before < 40_000_000, f"{(peak.rss - before) / 1e6:.0f} MB"
    assert FirmwareUpdate.objects.get(pk=update.pk).fetched_whole_at is None, "nobody read it to the end"


def test_under_uvicorn_too_a_body_has_its_limit(tmp_path, upload, update):
    with serving(tmp_path, under="uvicorn", alone=False) as server:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=30) as http:
            assert http.put("/uploads/forged", content=b"x" * 5_000_000).status_code == 413
            assert http.put("/uploads/forged", content=(b"x" * 100_000 for _ in range(50))).status_code == 413
            assert http.put(put_path(upload), content=(b"x" * 100_000 for _ in range(50))).status_code == 200
            assert http.get(fetch_path(update)).content == FIRMWARE
        assert not server.mistakes


class _Peak:
    """The most memory a process had while this was open."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.rss, self.over = process, 0, threading.Event()

    def __enter__(self) -> None:
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.over.wait(0.01):
            self.rss = max(self.rss, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def _wait(look, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)
