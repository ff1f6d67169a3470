"""A charger's configuration in a test: answers what it is asked, as a real one would, and as odd ones do.

box = Box(charger, {"MeterValueSampleInterval": "900"}, reject={"HeartbeatInterval"})
box.work()      # the worker asks, the charger answers, until nothing is left
"""

from collections.abc import Iterable
from typing import Any

from csms import configuration
from tests.charger import Charger
from voltaro import clock


class Box:
    def __init__(self, charger: Charger, keys: dict[str, str], *, readonly: Iterable[str] = (), **odd: Any) -> None:
        self.charger, self.keys, self.readonly = charger, dict(keys), set(readonly)
        self.reject: set[str] = set(odd.get("reject", ()))
        self.reboot: set[str] = set(odd.get("reboot", ()))
        self.forgets: set[str] = set(odd.get("forgets", ()))  # says Accepted, and does nothing
        self.measurands: set[str] | None = odd.get("measurands")
        self.silent: set[str] = set(odd.get("silent", ()))  # calls it does not answer
        self.errors: dict[str, str] = odd.get("errors", {})
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def work(self, rounds: int = 20) -> list[tuple[str, dict[str, Any]]]:
        """Let the worker ask and the charger answer until neither has anything to do; what was asked."""
        before = len(self.asked)
        for _ in range(rounds):
            worked = configuration.apply_due(clock.now(), 100)
            if not self.answer() and not worked:
                break
            clock.shift(31)
        return self.asked[before:]

    def answer(self) -> int:
        """Answer every command that waits; how many."""
        done = 0
        while (asked := self.charger.command()) is not None:
            ident, action, payload = asked
            self.asked.append((action, payload))
            done += 1
            if action in self.silent:
                continue
            if action in self.errors:
                self.charger.raw(f'[4,"{ident}","{self.errors[action]}","",{{}}]')
            else:
                self.charger.accept(ident, self._read(payload) if action == "GetConfiguration" else self._change(payload))
        return done

    def _read(self, payload: dict[str, Any]) -> dict[str, Any]:
        names = {key.lower(): key for key in self.keys}
        asked = payload.get("key") or list(self.keys)
        known = [names[key.lower()] for key in asked if key.lower() in names]
        return {
            "configurationKey": [{"key": key, "readonly": key in self.readonly, "value": self.keys[key]} for key in known],
            "unknownKey": [key for key in asked if key.lower() not in names],
        }

    def _change(self, payload: dict[str, Any]) -> dict[str, str]:
        key, value = payload["key"], payload["value"]
        if key not in self.keys:
            return {"status": "NotSupported"}
        if key in self.reject or key in self.readonly:
            return {"status": "Rejected"}
        if self.measurands is not None and "Data" in key and set(value.split(",")) - self.measurands:
            return {"status": "Rejected"}
        if key not in self.forgets:
            self.keys[key] = value
        return {"status": "RebootRequired" if key in self.reboot else "Accepted"}
