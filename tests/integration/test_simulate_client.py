"""The scripted charger of the tests says exactly what it is told, and dials as it is told."""

import asyncio
import base64
import json
import ssl
import threading

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.certificates import Authority, key_pem
from tests.simulate_client import AsyncChargerClient, CallError, ChargerClient, NoAnswer


class Server:
    """Echoes every call's payload back, but refuses Heartbeat; remembers requests and answers."""

    def __init__(self) -> None:
        self.requests: list = []
        self.answers: list = []
        self.socket: ServerConnection | None = None

    async def talk(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.requests.append(socket.request)
        async for text in socket:
            match json.loads(text):
                case [2, uid, "Heartbeat", _]:
                    await socket.send(json.dumps([4, uid, "NotSupported", "not today", {}]))
                case [2, uid, action, payload]:
                    await socket.send(json.dumps([3, uid, {"idTagInfo": action, **payload}]))
                case answer:
                    self.answers.append(answer)


@pytest.fixture
async def server():
    made = Server()
    async with serve(made.talk, "127.0.0.1", 0, subprotocols=["ocpp1.6"]) as door:
        made.url = f"ws://127.0.0.1:{door.sockets[0].getsockname()[1]}"
        yield made


def basic(request) -> bytes:
    return base64.b64decode(request.headers["Authorization"].removeprefix("Basic "))


async def test_it_dials_as_it_is_told(server):
    await (await AsyncChargerClient(server.url, "A 1", "key").connect()).close()
    how = {"user": "b", "headers": {"X-Forwarded-For": "10.0.0.9"}, "path": "///other/A?x=1"}
    await (await AsyncChargerClient(server.url, "A", b"\xff:\x00", **how).connect()).close()
    plain, bent = server.requests
    assert (plain.path, basic(plain)) == ("/ocpp/A%201", b"A 1:key")
    assert (bent.path, basic(bent), bent.headers["X-Forwarded-For"]) == ("///other/A?x=1", b"b:\xff:\x00", "10.0.0.9")


async def test_it_speaks_tls_when_it_is_given_a_context(tmp_path):
    root, made = Authority("Voltaro"), Server()
    certificate, key = root.issue("127.0.0.1", address="127.0.0.1")
    (tmp_path / "server.pem").write_text(key_pem(key) + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    async with serve(made.talk, "127.0.0.1", 0, subprotocols=["ocpp1.6"], ssl=context) as door:
        url = f"wss://127.0.0.1:{door.sockets[0].getsockname()[1]}"
        with pytest.raises(ssl.SSLCertVerificationError):
            await AsyncChargerClient(url, "A").connect()
        charger = await AsyncChargerClient(url, "A", tls=ssl.create_default_context(cadata=root.pem)).connect()
        assert charger.connected
        await charger.close()


async def test_what_chargers_say_has_a_word_each(server):
    charger = await AsyncChargerClient(server.url, "A").connect()
    assert await charger.authorize("04AA") == "Authorize"
    assert await charger.data_transfer("Acme", "M", {"rssi": 22}) == {
        "idTagInfo": "DataTransfer", "vendorId": "Acme", "messageId": "M", "data": '{"rssi": 22}',
    }  # fmt: skip
    assert await charger.firmware_status("Idle") == {"idTagInfo": "FirmwareStatusNotification", "status": "Idle"}
    assert (await charger.firmware_status("Idle", request_id=4))["idTagInfo"] == "SignedFirmwareStatusNotification"
    assert (await charger.diagnostics_status("Uploading"))["status"] == "Uploading"
    assert (await charger.log_status("Uploading", request_id=4))["requestId"] == 4
    assert (await charger.security_event("TamperDetectionActivated", "door"))["techInfo"] == "door"
    assert (await charger.sign_certificate("csr"))["csr"] == "csr"
    with pytest.raises(CallError, match="NotSupported: not today"):
        await charger.heartbeat()
    await charger.close()


async def test_it_answers_as_it_is_told(server):
    charger = await AsyncChargerClient(server.url, "A").connect()
    charger.automatic["ClearCache"] = lambda payload: CallError("NotSupported", f"not {payload['x']}")
    for uid, action in enumerate(("ClearCache", "Reset", "GetLog", "GetDiagnostics")):
        await server.socket.send(json.dumps([2, str(uid), action, {"x": action}]))
    assert await charger.expect("Reset") == {"x": "Reset"}
    await charger.expect("GetLog", CallError("InternalError"))
    await charger.expect("GetDiagnostics", None)
    await charger.nothing("Reset", for_s=0.05)
    with pytest.raises(NoAnswer, match="did not call Reset"):
        await charger.expect("Reset", timeout_s=0.05)
    await charger.close()
    assert server.answers == [
        [4, "0", "NotSupported", "not ClearCache", {}],
        [3, "1", {"status": "Accepted"}],
        [4, "2", "InternalError", "", {}],
    ]


def test_the_plain_one_is_the_same_without_await():
    made, ready, done = Server(), threading.Event(), threading.Event()

    async def run() -> None:
        async with serve(made.talk, "127.0.0.1", 0, subprotocols=["ocpp1.6"]) as door:
            made.url = f"ws://127.0.0.1:{door.sockets[0].getsockname()[1]}"
            ready.set()
            await asyncio.to_thread(done.wait, 20)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(10)
        with ChargerClient(made.url, "A", b"k", user="u", path="/x/y") as charger:
            assert charger.authorize("04AA") == "Authorize"
        assert (made.requests[0].path, basic(made.requests[0])) == ("/x/y", b"u:k")
    finally:
        done.set()
        thread.join(10)
