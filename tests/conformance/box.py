"""What a charger on a real line holds, and answers with: configuration keys, a local list."""

from collections.abc import Callable, Iterable
from typing import Any

from csms.models import Command
from tests.conformance.conftest import World
from tests.simulate_client import CallError, ChargerClient


class Box:
    """A charger's configuration. It answers GetConfiguration and ChangeConfiguration by itself; `heard` is what it was asked."""

    def __init__(self, charger: ChargerClient, keys: dict[str, str], *, change: Callable[[str, str], str] | None = None) -> None:
        self.charger, self.keys, self.change = charger, dict(keys), change
        self.heard: list[tuple[str, dict[str, Any]]] = []
        charger.automatic["GetConfiguration"] = self._read
        charger.automatic["ChangeConfiguration"] = self._write

    def _read(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.heard.append(("GetConfiguration", payload))
        asked = payload.get("key") or list(self.keys)
        known = [{"key": key, "readonly": False, "value": self.keys[key]} for key in asked if key in self.keys]
        return {"configurationKey": known, "unknownKey": [key for key in asked if key not in self.keys]}

    def _write(self, payload: dict[str, Any]) -> dict[str, Any]:
        self.heard.append(("ChangeConfiguration", payload))
        key, value = payload["key"], payload["value"]
        status = self.change(key, value) if self.change else "Accepted" if key in self.keys else "NotSupported"
        if status in ("Accepted", "RebootRequired"):
            self.keys[key] = value
        return {"status": status}


class Keeper:
    """A charger's local list. `answers` are given first, one after the other; `heard` are the lists it was sent."""

    def __init__(self, charger: ChargerClient, version: int = 0, answers: Iterable[Any] = ()) -> None:
        self.version, self.answers = version, list(answers)
        self.entries: dict[str, dict[str, Any]] = {}
        self.heard: list[dict[str, Any]] = []
        self.versions_asked = 0
        charger.automatic["GetLocalListVersion"] = self._version
        charger.automatic["SendLocalList"] = self._take

    def _version(self, payload: dict[str, Any]) -> dict[str, Any] | CallError:
        self.versions_asked += 1
        return {"listVersion": self.version}

    def _take(self, payload: dict[str, Any]) -> dict[str, Any] | CallError:
        self.heard.append(payload)
        if self.answers:
            said = self.answers.pop(0)
            return said if isinstance(said, CallError) else {"status": said}
        if payload["updateType"] == "Full":
            self.entries = {}
        for entry in payload["localAuthorizationList"]:
            if "idTagInfo" in entry:
                self.entries[entry["idTag"]] = entry["idTagInfo"]
            else:
                self.entries.pop(entry["idTag"], None)
        self.version = payload["listVersion"]
        return {"status": "Accepted"}


def at_rest(world: World, worker: str, *, rounds: int = 30) -> None:
    """Run that worker, and let chargers answer what it asks, until it has nothing to do."""
    for _ in range(rounds):
        worked = world.work(worker)
        world.until(lambda: not Command.objects.filter(state__in=("queued", "sent")).exists(), "its chargers to answer", 10)
        if not worked:
            return
    raise AssertionError(f"{worker} never came to rest")
