"""The load: N chargers on real sockets, each waiting for its answer before it goes on. Prints one JSON line.

    python tests/bench/load.py meter ws://127.0.0.1:9000 keys.json --seconds 8
    python tests/bench/load.py storm ws://127.0.0.1:9000 keys.json
    python tests/bench/load.py start ws://127.0.0.1:9000 keys.json

Only addresses of this machine are accepted; the work is bounded in number and time.
"""

import argparse
import asyncio
import base64
import json
import os
import time
from urllib.parse import urlsplit

BOOT = '{"chargePointVendor":"Bench","chargePointModel":"B","firmwareVersion":"1"}'
STATUS = '{"connectorId":1,"errorCode":"NoError","status":"Available"}'
NOW = "2026-01-01T00:00:%02dZ"


class Line:
    """A WebSocket client as small as one can be, so that the load takes little of the machine it shares with the server."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, text):
        raw = text.encode()
        length = bytes([0x80 | len(raw)]) if len(raw) < 126 else bytes([0x80 | 126]) + len(raw).to_bytes(2)
        self.writer.write(b"\x81" + length + b"\0\0\0\0" + raw)  # masked, as clients must, with a mask of zeros

    async def recv(self):
        while True:
            head = await self.reader.readexactly(2)
            length = head[1] & 0x7F
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2))
            payload = await self.reader.readexactly(length)
            if head[0] & 0x0F == 1:
                return payload.decode()
            if head[0] & 0x0F == 8:
                raise ConnectionError(f"closed: {payload!r}")

    async def close(self):
        self.writer.write(b"\x88\x82\0\0\0\0" + (1000).to_bytes(2))
        self.writer.close()


async def connect(url, cp_id, key):
    token = base64.b64encode(f"{cp_id}:{key}".encode()).decode()
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    lines = [
        f"GET /ocpp/{cp_id} HTTP/1.1",
        f"Host: {address.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: ocpp1.6",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        f"Authorization: Basic {token}",
    ]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return Line(reader, writer)


async def call(ws, ident, action, payload):
    await ws.send(f'[2,"{ident}","{action}",{payload}]')
    while True:
        answer = await ws.recv()
        if answer.startswith(f'[3,"{ident}"'):
            return json.loads(answer)[2]
        if answer.startswith("[4"):
            raise AssertionError(answer)


def six_samples(transaction, wh, n):
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{n % 1000:03d}Z"

    def sample(value, measurand, unit):
        return {"value": value, "context": "Sample.Periodic", "measurand": measurand, "unit": unit}

    samples = [
        sample(str(wh), "Energy.Active.Import.Register", "Wh"),
        sample("50000", "Power.Active.Import", "W"),
        sample("125.0", "Current.Import", "A"),
        sample("400.0", "Voltage", "V"),
        sample("45", "SoC", "Percent"),
        sample("35", "Temperature", "Celsius"),
    ]
    value = {"timestamp": stamp, "sampledValue": samples}
    return json.dumps({"connectorId": 1, "transactionId": transaction, "meterValue": [value]}, separators=(",", ":"))


def start_payload(tag):
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f'{{"connectorId":1,"idTag":"{tag}","meterStart":0,"timestamp":"{stamp}"}}'


async def meter(url, keys, seconds):
    sockets = await asyncio.gather(*(connect(url, cp_id, key) for cp_id, key in keys.items()))
    ids = []
    for ws in sockets:
        await call(ws, "boot", "BootNotification", BOOT)
        ids.append((await call(ws, "start", "StartTransaction", start_payload("BENCH")))["transactionId"])
    waits, until = [], time.perf_counter() + seconds

    async def one(ws, transaction):
        n = 0
        while (before := time.perf_counter()) < until:
            n += 1
            await call(ws, f"m{n}", "MeterValues", six_samples(transaction, n, n))
            waits.append(time.perf_counter() - before)

    began = time.perf_counter()
    await asyncio.gather(*(one(ws, transaction) for ws, transaction in zip(sockets, ids, strict=True)))
    took = time.perf_counter() - began
    waits.sort()
    await asyncio.gather(*(ws.close() for ws in sockets))
    middle, late = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    return {"messages": len(waits), "per_second": len(waits) / took, "p50_ms": middle * 1e3, "p99_ms": late * 1e3}


async def storm(url, keys, seconds):
    async def one(cp_id, key):
        ws = await connect(url, cp_id, key)
        await call(ws, "b", "BootNotification", BOOT)
        await call(ws, "s", "StatusNotification", STATUS)
        return ws

    began = time.perf_counter()
    sockets = await asyncio.gather(*(one(cp_id, key) for cp_id, key in keys.items()))
    took = time.perf_counter() - began
    await asyncio.gather(*(ws.close() for ws in sockets))
    return {"chargers": len(sockets), "per_second": len(sockets) / took, "took_s": took}


async def start(url, keys, seconds):
    sockets = await asyncio.gather(*(connect(url, cp_id, key) for cp_id, key in keys.items()))
    await asyncio.gather(*(call(ws, "b", "BootNotification", BOOT) for ws in sockets))

    async def one(ws):
        before = time.perf_counter()
        answer = await call(ws, "s", "StartTransaction", start_payload("BENCH"))
        return time.perf_counter() - before, answer["transactionId"]

    began = time.perf_counter()
    answers = await asyncio.gather(*(one(ws) for ws in sockets))
    took = time.perf_counter() - began
    await asyncio.gather(*(ws.close() for ws in sockets))
    slowest = max(waited for waited, _ in answers)
    return {"starts": len(answers), "different": len({ident for _, ident in answers}), "took_s": took, "slowest_ms": slowest * 1e3}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["meter", "storm", "start"])
    parser.add_argument("url")
    parser.add_argument("keys")
    parser.add_argument("--seconds", type=float, default=8)
    given = parser.parse_args()
    if urlsplit(given.url).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise SystemExit("The load goes to this machine only.")
    with open(given.keys) as f:
        chargers = json.load(f)
    deed = {"meter": meter, "storm": storm, "start": start}[given.what]
    work = asyncio.wait_for(deed(given.url, chargers, min(given.seconds, 60)), 150)
    print(json.dumps(asyncio.run(work)))
