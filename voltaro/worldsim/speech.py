"""What one charger tells of itself and its meter otherwise than others do: for as long as a world lasts."""

import json
import random
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from csms.simulator import charger as simulated
from csms.simulator.habits import Habits
from csms.simulator.times import read, stamp
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import OF_THE_METER, Faults

REGISTER, POWER = "Energy.Active.Import.Register", "Power.Active.Import"
STAMP = re.compile(r'("timestamp": ?")([^"]+)')
# A building's meter, which hangs on the same charger.
MAIN_WH, MAIN_W = 5_000_000.0, 18_000
# Where a start says 0, the register is at least this: a start of 0 is never true.
FIRST_WH = 1_000_000.0


class Speech:
    """`manner` are names of faults.OF_THE_METER that this charger has; `taken_wh` says what the car of a transaction took."""

    def __init__(
        self, box: simulated.Charger, habits: Habits, clockwork: Clockwork, faults: Faults, taken_wh: Callable[[int], float]
    ) -> None:
        self.box, self.clockwork, self.taken_wh = box, clockwork, taken_wh
        self.dice: random.Random = clockwork.dice(f"speech {box.cp_id}")
        self.own_tag, self.same_serial = faults.strikes("own_tag", self.dice), faults.strikes("same_serial", self.dice)
        self.manner = self._picked(habits, faults)
        for name in sorted(self.manner):
            clockwork.reach(name, box.cp_id)
        if "reads_at_stop" in self.manner:
            box.configuration.put("MeterValuesSampledData", "")
            box.configuration.put("StopTxnSampledData", f"{REGISTER},{POWER}")
        if "start_reads_zero" in self.manner:
            for outlet in box.outlets:
                outlet.register_wh += FIRST_WH
        self._last_wh: dict[int, float] = {}  # by connector: the register that the next interval begins at
        self._intervals: dict[tuple[int, str], str] = {}  # by connector and moment: one reading is told in the same words again
        self._main_wh = MAIN_WH
        self.tells_the_time = not habits.strange & {"unset_clock", "local_time"}
        self.skew_s = 0.0  # how far its clock is ahead
        self._told_as: dict[str, str] = {}  # what was told, or made to be told, keeps its time when the clock is set again

    def _picked(self, habits: Habits, faults: Faults) -> frozenset[str]:
        """Not all of them go together: an interval of a lying register, or one that nobody can tell the time of, says nothing."""
        struck = set(faults.any_of(OF_THE_METER, self.dice))
        if "wrong_meter" in self.box.faults or habits.strange & {"kwh_in_wh", "unset_clock", "local_time"}:
            struck -= {"tells_intervals"}
        if habits.strange & {"session_register", "kwh_in_wh"} or "wrong_meter" in self.box.faults:
            struck -= {"start_reads_zero"}
        return frozenset(struck)

    def set_clock(self, skew_s: float) -> None:
        """So many seconds ahead of the true time. What waits to be said was written down by the clock as it was."""
        for letter in self.box.mailbox.waiting:
            self._dated(json.dumps(letter.payload))
        for outlet in self.box.outlets:
            if outlet.transaction is not None:
                self._dated(json.dumps(outlet.transaction.data))
        self.skew_s = skew_s

    def _dated(self, text: str) -> str:
        """With the times of this charger's clock."""

        def told(found: re.Match[str]) -> str:
            true = found[2]
            if true not in self._told_as:
                self._told_as[true] = stamp(read(true) + timedelta(seconds=self.skew_s))
            return f"{found[1]}{self._told_as[true]}"

        return STAMP.sub(told, text)

    def main_meter(self) -> str:
        """What it reads at connector 0, of everything behind its cable; "" when it has no such meter."""
        if "main_meter" not in self.manner:
            return ""
        self._main_wh += MAIN_W / 60
        sampled = [
            {"value": f"{self._main_wh:.0f}", "measurand": REGISTER, "unit": "Wh", "context": "Sample.Clock"},
            {"value": str(MAIN_W), "measurand": POWER, "unit": "W", "context": "Sample.Clock"},
        ]
        reading = {"connectorId": 0, "meterValue": [{"timestamp": stamp(self.clockwork.now()), "sampledValue": sampled}]}
        return json.dumps([2, f"main{self.dice.getrandbits(60):x}", "MeterValues", reading])

    def bent(self, text: str) -> str:
        """A frame as this charger says it."""
        if self.tells_the_time and text.startswith("[2,"):
            text = self._dated(text)
        if self.own_tag and '"StartTransaction"' in text:
            text = re.sub(r'"idTag":"[^"]*"', '"idTag":"LOCAL01"', text)
        if self.same_serial and '"BootNotification"' in text:
            text = text.replace(f"SIM-{self.box.cp_id}", "SIM-SIM-1")
        for name, action, bend in (
            ("stop_reads_low", "StopTransaction", self._stop_reads_low),
            ("tells_intervals", "StartTransaction", self._interval_begins),
            ("tells_intervals", "MeterValues", self._tells_intervals),
            ("idle_draw", "MeterValues", self._idle_draw),
            ("start_reads_zero", "StartTransaction", self._start_reads_zero),
        ):
            if name in self.manner and f'"{action}"' in text:
                try:
                    message = json.loads(text)
                except ValueError:
                    return text
                if message[0] == 2 and message[2] == action:
                    bend(message[3])
                    text = json.dumps(message)
        return text

    def _stop_reads_low(self, payload: dict[str, Any]) -> None:
        payload["meterStop"] = max(0, int(payload["meterStop"]) - round(self.taken_wh(payload["transactionId"]) / 4))

    def _start_reads_zero(self, payload: dict[str, Any]) -> None:
        payload["meterStart"] = 0

    def _interval_begins(self, payload: dict[str, Any]) -> None:
        self._last_wh[payload["connectorId"]] = float(payload["meterStart"])

    def _tells_intervals(self, payload: dict[str, Any]) -> None:
        number = int(payload["connectorId"])
        for at, sample in _samples(payload):
            if sample.get("measurand") != REGISTER or sample.get("context") != "Sample.Periodic":
                continue
            if (number, at) not in self._intervals:
                register_wh = float(sample["value"])
                flowed_wh = max(0.0, register_wh - self._last_wh.get(number, register_wh))
                self._last_wh[number] = register_wh
                self._intervals[number, at] = f"{flowed_wh:.0f}"
            sample["measurand"], sample["value"] = "Energy.Active.Import.Interval", self._intervals[number, at]

    def _idle_draw(self, payload: dict[str, Any]) -> None:
        for _, sample in _samples(payload):
            if sample.get("measurand") == POWER and not float(sample["value"]):
                sample["value"] = str(self.dice.randint(3, 15))


def _samples(payload: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every sampled value and the moment it is of, whether in lists or (as some chargers write it) by itself."""
    found = []
    for one in _listed(payload.get("meterValue")):
        found += [(str(one.get("timestamp")), sample) for sample in _listed(one.get("sampledValue"))]
    return found


def _listed(said: Any) -> list[dict[str, Any]]:
    return said if isinstance(said, list) else [said] if isinstance(said, dict) else []
