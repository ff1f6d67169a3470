"""Frames no charger should send, and some that chargers do: made from the standard's schemas, then bent. Seeded.

for raw in frames(seed=1, count=10_000): ...
"""

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any

ACTIONS = (
    "Authorize", "BootNotification", "DataTransfer", "DiagnosticsStatusNotification", "FirmwareStatusNotification", "Heartbeat",
    "LogStatusNotification", "MeterValues", "SecurityEventNotification", "SignCertificate", "SignedFirmwareStatusNotification",
    "StartTransaction", "StatusNotification", "StopTransaction",
)  # fmt: skip
# What the server itself may ask: a charger that sends them is mistaken, and still gets an answer.
STRANGE_ACTIONS = ("RemoteStartTransaction", "GetConfiguration", "FooBar", "__class__", "", "heartbeat", "Boot\x00Notification", "Ж" * 60)
TEXTS = (
    "", " ", "0", "-1", "Available", "charging", "NoError", "Wh", "kWh", "\x00", "\u202e", "\ud800", "é" * 30, "A" * 300,
    "<script>alert(1)</script>",
    "'; DROP TABLE x;--", "=1+1", "%s%n", "\r\nfake log line", "😀" * 10, "Transaction.Begin", "Energy.Active.Import.Register", "NaN",
    "1e999",
    "12,5", "   3.2", "2026-11-21T10:00:00Z", "222222017-01-01T00:00:00Z", "2026-00-10T00:00:00Z", "9999-12-31T23:59:59+14:00",
    "0001-01-01T00:00:00-14:00", "1970-01-01T00:00:00Z", "2026-11-21 10:00", "2026-02-30T00:00:00Z",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 7, 20, 21, 255, 2**31 - 1, 2**31, 2**53, 2**63, -(2**63), 10**30, 0.5, 1.0, -0.0, 1e15, 1e300)
RAW_VALUES = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "9" * 5000, "0x10", "tru", '"\\ud800"', '"\\u0000"', "01", ".5", "'x'")


def frames(seed: int, count: int) -> Iterator[bytes]:
    """`count` frames: about a third are right, a third are bent as JSON, a third are bent as bytes."""
    dice = random.Random(seed)
    for number in range(count):
        yield _frame(dice, number)


def _frame(dice: random.Random, number: int) -> bytes:
    action = dice.choice(ACTIONS) if dice.random() < 0.95 else dice.choice(STRANGE_ACTIONS)
    payload: Any = make(dice, _schema(action)) if action in ACTIONS else {}
    for _ in range(dice.choice((0, 0, 1, 1, 2, 4))):
        payload = _bend(dice, payload)
    frame: list[Any] = [2, _ident(dice, number), action, payload]
    if dice.random() < 0.08:
        frame = dice.choice(STRANGE_FRAMES)(dice, frame)
    text = json.dumps(frame, ensure_ascii=dice.random() < 0.8)
    raw = text.encode("utf-8", "surrogatepass")
    return _bend_bytes(dice, raw) if dice.random() < 0.3 else raw


def _ident(dice: random.Random, number: int) -> Any:
    if dice.random() < 0.9:
        return f"f{number}"
    return dice.choice((number, None, True, "", "x" * 37, "x" * 300, 1.5, "\x00id", [1], {"a": 1}, -1, "1000000", "<b>"))


STRANGE_FRAMES: tuple[Callable[[random.Random, list[Any]], list[Any]], ...] = (
    lambda dice, frame: frame[: dice.randrange(4)],
    lambda dice, frame: [dice.choice(("2", 1, 5, 6, 99, None, True, [2], "x", 2.0)), *frame[1:]],
    lambda dice, frame: [3, frame[1], frame[3]],
    lambda dice, frame: [3, frame[1]],
    lambda dice, frame: [4, frame[1], dice.choice(("InternalError", "Nonsense", None, 7)), dice.choice(("", "x" * 5000, None)), {}],
    lambda dice, frame: [4, frame[1], "GenericError"],
    lambda dice, frame: [4, frame[1]],
    lambda dice, frame: [*frame, "more"],
    lambda dice, frame: [frame[0], frame[1], dice.choice(([], {}, 5, None, ["Heartbeat"])), frame[3]],
    lambda dice, frame: [frame],
)


def make(dice: random.Random, schema: dict[str, Any]) -> Any:
    """A value the schema allows, more or less."""
    kind = schema.get("type")
    if kind == "object":
        required = set(schema.get("required", ()))
        names = [name for name in schema.get("properties", {}) if name in required or dice.random() < 0.6]
        return {name: make(dice, schema["properties"][name]) for name in names}
    if kind == "array":
        return [make(dice, schema.get("items", {})) for _ in range(dice.choice((1, 1, 2, 5)))]
    if kind == "integer":
        return dice.choice((0, 1, 2, dice.randrange(10_000), dice.randrange(2**31)))
    if kind == "number":
        return round(dice.uniform(-10, 100_000), 1)
    if kind == "boolean":
        return dice.random() < 0.5
    if "enum" in schema:
        return dice.choice(schema["enum"])
    if schema.get("format") == "date-time":
        return f"2026-11-{dice.randrange(1, 29):02d}T{dice.randrange(24):02d}:{dice.randrange(60):02d}:00Z"
    return dice.choice((str(dice.randrange(100_000)), "CARD1", "x" * dice.randrange(1, 20)))


def _bend(dice: random.Random, value: Any) -> Any:
    """Change one thing somewhere inside."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        name = dice.choice(list(value))
        return {**value, name: _bend(dice, value[name])} if dice.random() < 0.7 else _bend_object(dice, dict(value), name)
    if isinstance(value, list) and value and dice.random() < 0.8:
        at = dice.randrange(len(value))
        return [*value[:at], _bend(dice, value[at]), *value[at + 1 :]]
    return dice.choice(
        (
            lambda: None,
            lambda: dice.choice(TEXTS),
            lambda: dice.choice(NUMBERS),
            lambda: [value],
            lambda: {"value": value},
            lambda: [],
            lambda: {},
            lambda: dice.random() < 0.5,
            lambda: str(value),
            lambda: [value] * dice.choice((2, 50)),
        )
    )()


def _bend_object(dice: random.Random, value: dict[str, Any], name: str) -> dict[str, Any]:
    deed = dice.randrange(4)
    if deed == 0:
        del value[name]
    elif deed == 1:
        value[dice.choice(("extra", "__proto__", "x" * 100, name.upper(), name + "\x00"))] = dice.choice(TEXTS)
    elif deed == 2:
        value[dice.choice((name.lower(), name.capitalize()))] = value.pop(name)
    else:
        value[name] = _deep(dice.choice((3, 15, 40)))
    return value


def _deep(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


def _bend_bytes(dice: random.Random, raw: bytes) -> bytes:
    at = dice.randrange(len(raw))
    deed = dice.randrange(8)
    if deed == 0:
        return raw[:at]
    if deed == 1:
        return raw[:at] + bytes([dice.randrange(256)]) + raw[at + 1 :]
    if deed == 2:
        return raw[:at] + raw[at + dice.randrange(5) :]
    if deed == 3:
        return raw[:at] + raw[dice.randrange(len(raw)) :]
    if deed == 4:
        return raw + dice.choice((b"\x00", b"AT+CSQ\r\n", raw, b"]", b'"', b"\xff\xfe"))
    if deed == 5:
        return b"\xef\xbb\xbf" + raw
    if deed == 6:
        return raw.replace(b": ", b": " + dice.choice(RAW_VALUES).encode() + b", ", 1) if dice.random() < 0.5 else raw.replace(b'"', b"'")
    return raw.replace(b": ", b":,", 1)


@cache
def _schema(action: str) -> dict[str, Any]:
    text = (files("ocpp.v16") / "schemas" / f"{action}.json").read_text(encoding="utf-8-sig")
    return json.loads(text)
