"""One outlet of a charger: its meter, what is plugged in, and the transaction that runs there."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from csms.simulator.car import Car
from csms.simulator.profiles import Plug

# With the start unanswered for this long, a charger stops waiting and lets the current flow.
IMPATIENT_S = 5


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Transaction:
    """One transaction as the charger keeps it; `id` is None until the server has answered the start."""

    id_tag: str
    started_at: datetime
    meter_start_wh: int
    id: int | None = None
    sampled_at: datetime | None = None
    stop_at: datetime | None = None
    stop_reason: str = ""
    deaf: bool = False  # accepted a remote stop and does nothing
    begin: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Waiting:
    """A start that was granted and waits for the car, until then."""

    id_tag: str
    until: datetime


@dataclass
class Outlet:
    """Register in Wh (a float inside, whole on the wire)."""

    number: int
    plug: Plug
    register_wh: float = 0.0
    car: Car | None = None
    transaction: Transaction | None = None
    waiting: Waiting | None = None
    operative: bool = True
    inoperative_later: bool = False
    error_code: str = "NoError"
    limit_w: float | None = None
    reserved: tuple[int, str, datetime] | None = None  # reservation id, tag, until
    served: bool = False  # the car plugged in now has already charged
    arrives_at: datetime | None = None
    leaves_at: datetime | None = None
    told: str = ""  # the status the server last heard

    @property
    def faulted(self) -> bool:
        return self.error_code != "NoError"

    @property
    def power_w(self) -> float:
        return self.car.power_w if self.car else 0.0

    @property
    def meter_wh(self) -> int:
        return int(self.register_wh)

    def free_for(self, id_tag: str) -> bool:
        """Whether a start with this tag may be granted now."""
        if self.transaction or self.waiting or self.faulted or not self.operative or self.inoperative_later:
            return False
        return self.reserved is None or self.reserved[1].upper() == id_tag.upper()

    def flow(self, seconds: float, now: datetime) -> None:
        """Let the current flow for `seconds`, where a transaction runs."""
        if self.car is None:
            return
        tx = self.transaction
        patient = tx is not None and tx.id is None and now - tx.started_at < timedelta(seconds=IMPATIENT_S)
        closed = tx is not None and not patient and not self.faulted
        offered_w = self.plug.max_power_w if self.limit_w is None else min(self.plug.max_power_w, self.limit_w)
        self.register_wh += self.car.take(seconds, offered_w if closed else 0.0)

    def status(self) -> str:
        if self.faulted:
            return "Faulted"
        if self.transaction:
            if self.power_w > 0:
                return "Charging"
            if not self.plug.knows_the_car:
                return "Available"
            if self.limit_w is not None and self.limit_w <= 0:
                return "SuspendedEVSE"
            return "SuspendedEV" if self.car and self.car.full else "Charging"
        if not self.operative:
            return "Unavailable"
        if self.plug.knows_the_car and (self.car or self.waiting):
            return "Finishing" if self.served else "Preparing"
        return "Reserved" if self.reserved else "Available"

    def samples(self, context: str, measurands: str, register_wh: int | None = None) -> list[dict[str, Any]]:
        """The sampledValue list of this moment, of the `measurands` configured (a comma-separated list)."""
        volts, amps = self.plug.volts_and_amps(self.car)
        all_of_them = {
            "Energy.Active.Import.Register": (str(self.meter_wh if register_wh is None else register_wh), "Wh", "Outlet"),
            "Power.Active.Import": (f"{self.power_w:.0f}", "W", "Outlet"),
            "Current.Import": (f"{amps:.1f}", "A", "Outlet"),
            "Voltage": (f"{volts:.1f}", "V", "Outlet"),
        }
        if self.car and self.plug.dc:
            all_of_them["SoC"] = (str(self.car.soc_pct), "Percent", "EV")
        all_of_them["Temperature"] = (f"{self.car.celsius if self.car else 28.0:.1f}", "Celsius", "Body")
        wanted = [name.strip() for name in measurands.split(",")]
        return [
            {"value": value, "context": context, "measurand": name, "location": location, "unit": unit}
            for name, (value, unit, location) in all_of_them.items()
            if name in wanted
        ]
