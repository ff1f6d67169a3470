"""A scripted charger for tests: says exactly what the test tells it, through the simulator's own socket and frames.

    with ChargerClient(url, "VLT-0001", key) as charger:
        charger.boot()
        charger.status(1, "Available")
        order = charger.expect("RemoteStartTransaction")            # answered {"status": "Accepted"}
        tx = charger.start(1, order["idTag"], meter_wh=1000)["transactionId"]
        charger.meter(1, tx, register_wh=1200, power_w=30_000)
        charger.stop(tx, meter_wh=1400, reason="Remote")

`AsyncChargerClient` is the same with `await`. Calls of the server that nobody expects yet wait in `inbox`, in their order.
An answer may be a payload, a function of the call's payload, or a CallError, which is answered as CALLERROR.

How it dials can be bent: `user=` and a password of bytes for Basic, `headers=`, `tls=` (an SSLContext for wss), and `path=`,
which takes the place of /ocpp/<cp_id> as it stands.
"""

import asyncio
import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Self

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from csms.simulator import link, wire


class CallError(Exception):
    """The server answered a call with CALLERROR; or, given as an answer, what the charger answers."""

    def __init__(self, code: str, description: str = "") -> None:
        super().__init__(f"{code}: {description}")
        self.code, self.description = code, description


Answer = dict[str, Any] | CallError | Callable[[dict[str, Any]], dict[str, Any] | CallError]
ACCEPTED: dict[str, Any] = {"status": "Accepted"}


class NoAnswer(AssertionError):
    """The server did not answer, or did not call, in time."""


def stamp(at: datetime | None = None) -> str:
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class AsyncChargerClient:
    """One charger on one socket. `automatic[action] = answer` answers that call of the server without being asked."""

    def __init__(
        self,
        url: str,
        cp_id: str,
        key: str | bytes | None = None,
        *,
        subprotocols: list[str] | None = None,
        user: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        path: str | None = None,
    ) -> None:
        self.url, self.cp_id, self.key = url, cp_id, key
        self.how: dict[str, Any] = {"subprotocols": subprotocols, "user": user, "headers": headers, "tls": tls, "path": path}
        self.inbox: list[wire.Frame] = []
        self.frames: list[tuple[str, str]] = []  # ("IN" | "OUT", text): everything that crossed the wire, as the charger sees it
        self.automatic: dict[str, Answer] = {}
        self.socket: ClientConnection | None = None
        self._answers: dict[str, wire.Frame] = {}
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    # -- the line --------------------------------------------------------------------------------------------
    async def connect(self) -> Self:
        self.socket = await link.dial(self.url, self.cp_id, self.key, open_timeout_s=10, **self.how)
        self._reader = asyncio.create_task(self._read(self.socket))
        return self

    async def close(self) -> None:
        """Say goodbye properly."""
        if self.socket is not None:
            await self.socket.close()
            await self._ended()

    async def drop(self) -> None:
        """Vanish without a close frame."""
        if self.socket is not None:
            link.tear(self.socket)
            await self._ended()

    async def wait_closed(self, timeout_s: float = 10) -> int | None:
        """Wait until the server ends the line; its close code (1006 when it said none)."""
        assert self.socket is not None, "not connected"
        try:
            await asyncio.wait_for(self.socket.wait_closed(), timeout_s)
        except TimeoutError:
            raise NoAnswer(f"{self.cp_id}: the server kept the line open for {timeout_s:g} s") from None
        return self.socket.close_code

    @property
    def connected(self) -> bool:
        return self.socket is not None and self._reader is not None and not self._reader.done()

    # -- frames ----------------------------------------------------------------------------------------------
    async def send(self, raw: str | bytes) -> None:
        """Send anything at all, also what is no OCPP."""
        assert self.socket is not None, "not connected"
        self.frames.append(("OUT", raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")))
        await self.socket.send(raw)

    async def call(self, action: str, payload: dict[str, Any] | None = None, *, uid: str = "", timeout_s: float = 10) -> dict[str, Any]:
        """Call the server and return its answer; CallError when it answers with one, NoAnswer when it does not."""
        uid = uid or str(uuid.uuid4())
        await self.send(wire.call(uid, action, payload or {}))
        return await self.answer(uid, timeout_s=timeout_s)

    async def answer(self, uid: str, *, timeout_s: float = 10) -> dict[str, Any]:
        """The server's answer to the message of this id, however it was sent; CallError, NoAnswer as for `call`."""
        frame = await self._wait(lambda: self._answers.pop(uid, None), timeout_s, f"no answer to {uid}")
        if frame.kind == wire.ERROR:
            raise CallError(frame.code, frame.description)
        return frame.payload

    async def expect(self, action: str, answer: Answer | None = ACCEPTED, *, timeout_s: float = 10) -> dict[str, Any]:
        """Wait for the server's call `action`, answer it (None: do not), and return its payload."""
        frame = await self._wait(lambda: self._take(action), timeout_s, f"the server did not call {action}")
        if answer is not None:
            await self._reply(frame, answer)
        return frame.payload

    async def nothing(self, action: str, *, for_s: float) -> None:
        """Hold that the server does not call `action` for that long."""
        try:
            await self._wait(lambda: self._take(action), for_s, "")
        except NoAnswer:
            return
        raise AssertionError(f"{self.cp_id}: the server called {action}")

    # -- what chargers usually say ---------------------------------------------------------------------------
    async def boot(self, **fields: Any) -> dict[str, Any]:
        return await self.call("BootNotification", {"chargePointVendor": "Voltaro", "chargePointModel": "Scripted", **fields})

    async def status(self, connector: int, status: str, error_code: str = "NoError", **fields: Any) -> dict[str, Any]:
        return await self.call(
            "StatusNotification",
            {"connectorId": connector, "status": status, "errorCode": error_code, "timestamp": stamp(), **fields},
        )

    async def start(self, connector: int, id_tag: str, *, meter_wh: int = 0, at: datetime | None = None) -> dict[str, Any]:
        return await self.call(
            "StartTransaction", {"connectorId": connector, "idTag": id_tag, "meterStart": meter_wh, "timestamp": stamp(at)}
        )

    async def meter(
        self,
        connector: int,
        transaction_id: int | None,
        *,
        register_wh: int,
        power_w: int | None = None,
        soc_pct: int | None = None,
        at: datetime | None = None,
    ) -> dict[str, Any]:
        samples = [{"value": str(register_wh), "measurand": "Energy.Active.Import.Register", "unit": "Wh"}]
        if power_w is not None:
            samples.append({"value": str(power_w), "measurand": "Power.Active.Import", "unit": "W"})
        if soc_pct is not None:
            samples.append({"value": str(soc_pct), "measurand": "SoC", "unit": "Percent", "location": "EV"})
        payload: dict[str, Any] = {"connectorId": connector, "meterValue": [{"timestamp": stamp(at), "sampledValue": samples}]}
        if transaction_id is not None:
            payload["transactionId"] = transaction_id
        return await self.call("MeterValues", payload)

    async def stop(
        self, transaction_id: int, *, meter_wh: int, reason: str = "Local", at: datetime | None = None, **fields: Any
    ) -> dict[str, Any]:
        return await self.call(
            "StopTransaction",
            {"transactionId": transaction_id, "meterStop": meter_wh, "timestamp": stamp(at), "reason": reason, **fields},
        )

    async def heartbeat(self) -> dict[str, Any]:
        return await self.call("Heartbeat")

    async def authorize(self, id_tag: str) -> dict[str, Any]:
        """The idTagInfo of the answer."""
        return (await self.call("Authorize", {"idTag": id_tag}))["idTagInfo"]

    async def data_transfer(self, vendor_id: str, message_id: str | None = None, data: Any = None) -> dict[str, Any]:
        """`data` goes as JSON text, as chargers write it, unless it is text already."""
        payload: dict[str, Any] = {"vendorId": vendor_id}
        if message_id is not None:
            payload["messageId"] = message_id
        if data is not None:
            payload["data"] = data if isinstance(data, str) else json.dumps(data)
        return await self.call("DataTransfer", payload)

    async def firmware_status(self, status: str, *, request_id: int | None = None) -> dict[str, Any]:
        """With a request id it is the signed one."""
        if request_id is None:
            return await self.call("FirmwareStatusNotification", {"status": status})
        return await self.call("SignedFirmwareStatusNotification", {"status": status, "requestId": request_id})

    async def diagnostics_status(self, status: str) -> dict[str, Any]:
        return await self.call("DiagnosticsStatusNotification", {"status": status})

    async def log_status(self, status: str, *, request_id: int | None = None) -> dict[str, Any]:
        return await self.call("LogStatusNotification", {"status": status} | ({} if request_id is None else {"requestId": request_id}))

    async def security_event(self, type: str, info: str = "", *, at: datetime | None = None) -> dict[str, Any]:
        payload = {"type": type, "timestamp": stamp(at)} | ({"techInfo": info} if info else {})
        return await self.call("SecurityEventNotification", payload)

    async def sign_certificate(self, csr: str) -> dict[str, Any]:
        return await self.call("SignCertificate", {"csr": csr})

    # -- below -----------------------------------------------------------------------------------------------
    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for raw in socket:
                text = raw if isinstance(raw, str) else raw.decode()
                self.frames.append(("IN", text))
                await self._heard(wire.read(text))
        except ConnectionClosed:
            return
        finally:
            async with self._news:
                self._news.notify_all()

    async def _heard(self, frame: wire.Frame) -> None:
        if frame.kind == wire.CALL and frame.action in self.automatic:
            await self._reply(frame, self.automatic[frame.action])
            return
        async with self._news:
            if frame.kind == wire.CALL:
                self.inbox.append(frame)
            else:
                self._answers[frame.uid] = frame
            self._news.notify_all()

    async def _reply(self, frame: wire.Frame, answer: Answer) -> None:
        said = answer(frame.payload) if callable(answer) else answer
        if isinstance(said, CallError):
            await self.send(wire.error(frame.uid, said.code, said.description))
        else:
            await self.send(wire.result(frame.uid, said))

    def _take(self, action: str) -> wire.Frame | None:
        for frame in self.inbox:
            if frame.action == action:
                self.inbox.remove(frame)
                return frame
        return None

    async def _wait(self, look: Callable[[], wire.Frame | None], timeout_s: float, complaint: str) -> wire.Frame:
        deadline = time.monotonic() + timeout_s
        async with self._news:
            while (found := look()) is None:
                left = deadline - time.monotonic()
                if not self.connected:
                    raise NoAnswer(f"{self.cp_id}: {complaint}: the line has ended")
                if left <= 0:
                    raise NoAnswer(f"{self.cp_id}: {complaint} in {timeout_s:g} s; heard: {self._summary()}")
                try:
                    await asyncio.wait_for(self._news.wait(), left)
                except TimeoutError:
                    continue
        return found

    def _summary(self) -> str:
        heard = [json.loads(text) for way, text in self.frames if way == "IN"]
        return ", ".join(str(frame[2] if frame[0] == wire.CALL else frame[0]) for frame in heard[-8:]) or "nothing"

    async def _ended(self) -> None:
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=5)


class ChargerClient:
    """The same for plain tests: every method of AsyncChargerClient, without `await`."""

    def __init__(self, url: str, cp_id: str, key: str | bytes | None = None, **how: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name=f"charger {cp_id}")
        self._thread.start()
        self._client: AsyncChargerClient = self._run(self._make(url, cp_id, key, how))

    @staticmethod
    async def _make(url: str, cp_id: str, key: str | bytes | None, how: dict[str, Any]) -> AsyncChargerClient:
        return AsyncChargerClient(url, cp_id, key, **how)

    def _run(self, deed: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(deed, self._loop).result(90)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return (lambda *args, **fields: self._run(found(*args, **fields))) if asyncio.iscoroutinefunction(found) else found

    def connect(self) -> Self:
        self._run(self._client.connect())
        return self

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: Any) -> None:
        self.end()

    def end(self) -> None:
        """Close the line, if it is open, and this client's thread."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._client.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()
