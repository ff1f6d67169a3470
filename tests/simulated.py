"""A simulated charger on a wire of the test's own, with a clock that the test moves, and a server that smiles.

place = world()
remote_start(place)
place.wait(30)
assert place.calls("StartTransaction")
"""

import hashlib
import importlib.resources
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

from jsonschema import Draft4Validator

from csms.simulator import profiles, wire
from csms.simulator.charger import Charger, make
from csms.simulator.habits import Habits
from csms.simulator.orders import HEAD_BYTES, Download, Failed, Fetched, Order, Outcome, Stored

BEGAN = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
CALM = Habits(arrives_after_s=None, leaves_after_s=None)


class World:
    """A charger, a server that answers everything with a smile, and the time. `said` is all the charger's calls, in order.

    `raw` is every text it sent. What it says must fit the standard's schemas, unless it has strange habits. `files` are
    what can be fetched, `stored` what it has uploaded; an address in `broken` fails so often.
    """

    def __init__(self, charger: Charger) -> None:
        self.charger, self.now = charger, BEGAN
        self.said: list[tuple[str, dict]] = []
        self.raw: list[str] = []
        self.answers: list[wire.Frame] = []
        self.silent: set[str] = set()  # actions that get no answer
        self.refused: set[str] = set()  # and those that get a CALLERROR
        self.tags: dict[str, dict] = {}  # what the server says of a tag; else Accepted
        self.replies: dict[str, dict] = {}  # what it answers to an action, instead of its smile
        self.files: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.stored: dict[str, bytes] = {}
        self.next_id = 7
        self.given: dict[str, int] = {}
        self.asked: dict[str, str] = {}

    def connect(self) -> "World":
        self.charger.opened(self.now)
        self._carry()
        return self

    def disconnect(self) -> None:
        self.charger.closed(self.now)

    def wait(self, seconds: float, step_s: float = 0.5) -> None:
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now += timedelta(seconds=step_s)
            self.charger.tick(self.now)
            self._carry()

    def reboots(self) -> None:
        """It goes away to restart, and is back."""
        assert self.charger.away_until, "it is not about to restart"
        self.disconnect()
        self.wait(10)
        self.connect()
        self.wait(1)

    def ask(self, action: str, payload: dict | None = None) -> wire.Frame:
        uid = f"ask-{len(self.answers)}"
        self.asked[uid] = action
        self.charger.heard(wire.call(uid, action, payload or {}), self.now)
        self._carry()
        return self.answers[-1]

    def status_of(self, action: str, payload: dict | None = None) -> str:
        """The status it answers."""
        answer = self.ask(action, payload)
        assert answer.kind == wire.RESULT, answer
        return answer.payload["status"]

    def calls(self, action: str) -> list[dict]:
        return [payload for name, payload in self.said if name == action]

    def statuses(self, connector: int = 1) -> list[str]:
        return [payload["status"] for payload in self.calls("StatusNotification") if payload["connectorId"] == connector]

    def sent(self, message: str) -> list[dict]:
        """The vendor's messages of that name, by DataTransfer."""
        return [json.loads(payload["data"]) for payload in self.calls("DataTransfer") if payload.get("messageId") == message]

    def events(self) -> list[str]:
        return [payload["type"] for payload in self.calls("SecurityEventNotification")]

    def _carry(self) -> None:
        while True:
            frames, orders = self.charger.take(), self.charger.take_orders()
            if not frames and not orders:
                return
            for text in frames:
                self._hear(text)
            for order in orders:
                self.charger.carried_out(order, self._do(order), self.now)

    def _hear(self, text: str) -> None:
        self.raw.append(text)
        try:
            frame = wire.read(text)
        except wire.Unreadable:
            assert self.charger.habits.strange, text
            return
        if not self.charger.habits.strange:
            fits(text, self.asked)
        if frame.kind != wire.CALL:
            self.answers.append(frame)
            return
        self.said.append((frame.action, frame.payload))
        if frame.action in self.refused:
            self.charger.heard(wire.error(frame.uid, "InternalError", "no"), self.now)
        elif frame.action not in self.silent:
            self.charger.heard(wire.result(frame.uid, self._reply(frame)), self.now)

    def _reply(self, frame: wire.Frame) -> dict:
        if frame.action in self.replies:
            return self.replies[frame.action]
        tag = self.tags.get(str(frame.payload.get("idTag")), {"status": "Accepted"})
        if frame.action == "BootNotification":
            return {"status": "Accepted", "currentTime": "2026-11-21T09:00:00Z", "interval": 60}
        if frame.action == "StartTransaction":
            key = json.dumps(frame.payload, sort_keys=True)
            if key not in self.given:
                self.given[key], self.next_id = self.next_id, self.next_id + 1
            return {"transactionId": self.given[key], "idTagInfo": tag}
        if frame.action == "Authorize":
            return {"idTagInfo": tag}
        return {}

    def _do(self, order: Order) -> Outcome:
        if self.broken.get(order.url, 0):
            self.broken[order.url] -= 1
            return Failed("HTTP 503")
        if isinstance(order, Download):
            if order.url not in self.files:
                return Failed("HTTP 404")
            body = self.files[order.url]
            return Fetched(body[:HEAD_BYTES], hashlib.sha256(body).digest(), len(body))
        self.stored[order.url] = order.body
        return Stored()


@cache
def _schema(name: str) -> Draft4Validator:
    text = (importlib.resources.files("ocpp") / "v16" / "schemas" / f"{name}.json").read_text("utf-8-sig")
    return Draft4Validator(json.loads(text, parse_float=Decimal))  # a limit of 6.1 is a multiple of 0.1 in decimals only


def fits(text: str, asked: dict[str, str]) -> None:
    """Hold that a frame of the charger's fits the standard's schema."""
    match json.loads(text, parse_float=Decimal):
        case [2, str(), action, payload]:
            _schema(action).validate(payload)
        case [3, uid, payload]:
            _schema(f"{asked[uid]}Response").validate(payload)


def world(type: str = "ccs2", kw: int = 60, *, habits: Habits | None = None, connectors: int = 1, **how: Any) -> World:
    plugs = [profiles.plug(type, kw * 1000)] * connectors
    return World(make("VLT-0001", plugs, seed=4, habits=habits or Habits(), **how)).connect()


def strange(*names: str, **how: Any) -> Habits:
    """Calm people, a strange charger."""
    return Habits(arrives_after_s=None, leaves_after_s=None, strange=frozenset(names), **how)


def remote_start(place: World, tag: str = "A1B2C3D4E5F60718", connector: int = 1) -> wire.Frame:
    return place.ask("RemoteStartTransaction", {"connectorId": connector, "idTag": tag})


def charging(place: World, tag: str = "A1B2C3D4E5F60718", connector: int = 1) -> int:
    """Somebody charges there; the transaction's id."""
    place.charger.plug_in(connector, place.now)
    remote_start(place, tag, connector)
    place.wait(2)
    outlet = place.charger.outlet(connector)
    assert outlet and outlet.transaction and outlet.transaction.id
    return outlet.transaction.id


def register_wh(reading: dict) -> int:
    return int(next(s["value"] for s in reading["meterValue"][0]["sampledValue"] if s["measurand"] == "Energy.Active.Import.Register"))
