"""The simulated fleet fetches and stores files over HTTP, and goes over to TLS when the server says so."""

import asyncio
import base64
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from websockets.asyncio.server import serve

from csms.simulator import profiles, transfer
from csms.simulator.charger import make
from csms.simulator.client import Line
from csms.simulator.habits import Habits
from csms.simulator.orders import Download, Failed, Fetched, Stored, Upload
from tests.certificates import Authority, key_pem
from tests.integration.test_fleet import KEY, Server, running, until
from voltaro import clock

FILE = b"version: 2.1.7\n" + bytes(300_000)
ROOT = "CentralSystemRootCertificate"


class Files(BaseHTTPRequestHandler):
    """GET of what is there, PUT unless it is under /post, POST everywhere but under /closed; /moved leads elsewhere."""

    there = {"/firmware/jet": FILE}
    stored: dict[str, tuple[str, bytes]] = {}

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/firmware/jet")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.there.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_PUT(self) -> None:
        self._store("PUT", 405 if self.path.startswith("/post") else 403 if self.path.startswith("/closed") else 201)

    def do_POST(self) -> None:
        self._store("POST", 201)

    def _store(self, method: str, status: int) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if status == 201:
            self.stored[self.path] = (method, body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet: what it was asked stands in `stored`."""


@pytest.fixture
def http(monkeypatch):
    monkeypatch.setattr(Files, "stored", {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# -- transfers -----------------------------------------------------------------------------------------------------
async def test_a_file_is_fetched_and_only_its_beginning_is_kept(http):
    outcome = await transfer.carry(Download(f"{http}/firmware/jet"))
    assert isinstance(outcome, Fetched)
    assert (outcome.size, len(outcome.head), outcome.head[:14]) == (len(FILE), 4_096, b"version: 2.1.7")


@pytest.mark.parametrize(
    ("url", "why", "status"),
    [
        ("{http}/nothing", "HTTP 404", "UploadFailure"),
        ("{http}/moved", "HTTP 302", "UploadFailure"),
        ("ftp://127.0.0.1/x", "cannot speak ftp", "NotSupportedOperation"),
        ("no address", "cannot speak nothing", "BadMessage"),
        ("http:///x", "no host", "BadMessage"),
        ("http://[::1", "no address", "BadMessage"),
        ("http://127.0.0.1:9/x", "ConnectError", "UploadFailure"),
    ],
)
async def test_what_cannot_be_fetched_says_why(http, url, why, status):
    outcome = await transfer.carry(Download(url.format(http=http)))
    assert isinstance(outcome, Failed) and why in outcome.why and outcome.status == status


async def test_a_file_that_is_too_large_is_not_fetched_to_its_end(http, monkeypatch):
    monkeypatch.setattr(transfer, "MOST_BYTES", 100_000)
    outcome = await transfer.carry(Download(f"{http}/firmware/jet"))
    assert isinstance(outcome, Failed) and "larger" in outcome.why


async def test_a_log_is_put_or_else_posted_or_refused(http):
    assert isinstance(await transfer.carry(Upload(f"{http}/put/a", b"one")), Stored)
    assert isinstance(await transfer.carry(Upload(f"{http}/post/b", b"two")), Stored)
    refused = await transfer.carry(Upload(f"{http}/closed/c", b"three"))
    assert Files.stored == {"/put/a": ("PUT", b"one"), "/post/b": ("POST", b"two")}
    assert isinstance(refused, Failed) and refused.status == "PermissionDenied"


# -- over the line -------------------------------------------------------------------------------------------------
async def test_a_charger_on_a_line_fetches_installs_and_boots_its_firmware(http):
    server = Server()
    async with running(server, "A"):
        await until(lambda: server.calls("A", "StatusNotification"))
        await server.ask("A", "UpdateFirmware", {"location": f"{http}/firmware/jet", "retrieveDate": "2026-01-01T00:00:00Z"})
        await until(lambda: len(server.calls("A", "FirmwareStatusNotification")) == 4)
        steps = [payload["status"] for payload in server.calls("A", "FirmwareStatusNotification")]
        assert steps == ["Downloading", "Downloaded", "Installing", "Installed"]
        assert server.calls("A", "BootNotification")[-1]["firmwareVersion"] == "2.1.7"


async def test_a_charger_on_a_line_uploads_its_diagnostics_and_its_security_log(http):
    server = Server()
    async with running(server, "A"):
        await until(lambda: server.calls("A", "StatusNotification"))
        await server.ask("A", "RemoteStartTransaction", {"connectorId": 1, "idTag": "T1"})
        await until(lambda: server.calls("A", "MeterValues"))
        await server.ask("A", "GetDiagnostics", {"location": f"{http}/put/"})
        log = {"logType": "SecurityLog", "requestId": 3, "log": {"remoteLocation": f"{http}/closed/log"}}
        await server.ask("A", "GetLog", log)
        await until(lambda: len(server.calls("A", "DiagnosticsStatusNotification")) == 2)
        await until(lambda: len(server.calls("A", "LogStatusNotification")) == 2)
        assert server.calls("A", "LogStatusNotification")[-1] == {"status": "PermissionDenied", "requestId": 3}
    [(path, (method, body))] = Files.stored.items()
    assert path.startswith("/put/A-diagnostics-") and method == "PUT" and b"transaction 1 started" in body


# -- keys and TLS --------------------------------------------------------------------------------------------------
def basic(header: str) -> bytes:
    return base64.b64decode(header.removeprefix("Basic "))


@pytest.mark.parametrize(("strange", "password"), [((), b"6b" * 10), (("key_as_bytes",), b"k" * 10)])
async def test_a_hexadecimal_key_may_be_sent_as_the_bytes_it_spells(strange, password):
    server = Server()
    async with serve(server.talk, "127.0.0.1", 0, process_request=server.door) as door:
        await _one_line(server, f"ws://127.0.0.1:{door.sockets[0].getsockname()[1]}", "6b" * 10, strange)
    assert basic(server.passwords[0]) == b"A:" + password


async def test_some_ask_for_no_sub_protocol():
    server = Server()
    async with serve(server.talk, "127.0.0.1", 0, process_request=server.door) as door:
        await _one_line(server, f"ws://127.0.0.1:{door.sockets[0].getsockname()[1]}", KEY, ("no_subprotocol",))
        assert "Sec-WebSocket-Protocol" not in server.sockets["A"].request.headers
        await _one_line(server, f"ws://127.0.0.1:{door.sockets[0].getsockname()[1]}", KEY, ())
        assert server.sockets["A"].request.headers["Sec-WebSocket-Protocol"] == "ocpp1.6"


async def _one_line(server: Server, url: str, key: str, strange: tuple[str, ...]) -> None:
    before = len(server.calls("A", "BootNotification"))
    charger = make("A", [profiles.plug("ccs2", 60_000)], habits=Habits(strange=frozenset(strange)))
    stop = asyncio.Event()
    task = asyncio.create_task(Line(charger, url, key, clock=clock.now, tell=lambda note: None, tick_s=0.05).run(stop))
    await until(lambda: len(server.calls("A", "BootNotification")) > before)
    stop.set()
    await task


def tls(root: Authority, tmp_path) -> ssl.SSLContext:
    """A server's side of TLS that asks for a client's certificate and takes it or leaves it."""
    certificate, key = root.issue("127.0.0.1", address="127.0.0.1")
    (tmp_path / "server.pem").write_text(key_pem(key) + certificate)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(tmp_path / "server.pem")
    made.verify_mode = ssl.CERT_OPTIONAL
    made.load_verify_locations(cadata=root.pem)
    return made


def shown(server: Server) -> dict | None:
    """The certificate that the charger showed."""
    return server.sockets["A"].transport.get_extra_info("peercert")


async def test_a_charger_goes_over_to_tls_and_then_to_its_own_certificate(tmp_path):
    root, server = Authority("Voltaro"), Server()
    async with (
        serve(server.talk, "127.0.0.1", 0, subprotocols=["ocpp1.6"], process_request=server.door, ssl=tls(root, tmp_path)) as safe,
        running(server, "A") as herd,
    ):
        herd.lines["A"].secure_url = f"wss://127.0.0.1:{safe.sockets[0].getsockname()[1]}"
        await until(lambda: server.calls("A", "StatusNotification"))
        await server.ask("A", "InstallCertificate", {"certificateType": ROOT, "certificate": root.pem})
        await server.ask("A", "ChangeConfiguration", {"key": "SecurityProfile", "value": "2"})
        await until(lambda: len(server.passwords) == 2)
        await until(lambda: server.sockets["A"].transport.get_extra_info("ssl_object") is not None)
        assert server.passwords[0] == server.passwords[1] and not shown(server)
        await server.ask("A", "ExtendedTriggerMessage", {"requestedMessage": "SignChargePointCertificate"})
        await until(lambda: server.calls("A", "SignCertificate"))
        await server.ask("A", "CertificateSigned", {"certificateChain": root.sign(server.calls("A", "SignCertificate")[0]["csr"])})
        await server.ask("A", "ChangeConfiguration", {"key": "SecurityProfile", "value": "3"})
        await until(lambda: len(server.passwords) == 3 and shown(server))
        assert server.passwords[2] == ""
        assert (("commonName", "A"),) in shown(server)["subject"]


async def test_a_profile_that_does_not_work_is_given_up(monkeypatch):
    monkeypatch.setattr("csms.simulator.client.BACK_OFF_FIRST_S", 0.05)
    monkeypatch.setattr("csms.simulator.client.BACK_OFF_LONGEST_S", 0.1)
    server = Server()
    async with running(server, "A") as herd:
        herd.lines["A"].secure_url = "wss://127.0.0.1:9"
        await until(lambda: server.calls("A", "StatusNotification"))
        await server.ask("A", "InstallCertificate", {"certificateType": ROOT, "certificate": Authority("Voltaro").pem})
        await server.ask("A", "ChangeConfiguration", {"key": "SecurityProfile", "value": "2"})
        await until(lambda: len(server.passwords) == 2)
        assert herd.chargers["A"].configuration["SecurityProfile"] == "1"
        assert any("security profile 2 does not work" in note for note in herd.notes)


async def test_a_server_that_turns_the_charger_away_is_told_about_it_later(monkeypatch):
    monkeypatch.setattr("csms.simulator.client.BACK_OFF_FIRST_S", 0.05)
    monkeypatch.setattr("csms.simulator.client.BACK_OFF_LONGEST_S", 0.1)
    server = Server()
    server.turn_away = 2
    async with running(server, "A"):
        await until(lambda: server.calls("A", "SecurityEventNotification"))
    assert [one["type"] for one in server.calls("A", "SecurityEventNotification")] == ["FailedToAuthenticateAtCentralSystem"]
