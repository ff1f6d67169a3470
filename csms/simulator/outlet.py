"""One outlet of a charger: its meter, what is plugged in, and the transaction that runs there."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from csms.simulator.car import Car
from csms.simulator.profiles import Plug

# With the start unanswered for this long, a charger stops waiting and lets the current flow.
IMPATIENT_S = 5


@dataclass
class Transaction:
    """One transaction as the charger keeps it; `id` is None until the server has answered the start.

    `most_wh` and `until` are limits it was given (then it ends with `limit_reason`); `asleep` is one that waits after a
    restart to hear whether it goes on.
    """

    id_tag: str
    started_at: datetime
    meter_start_wh: int
    id: int | None = None
    parent: str = ""
    sampled_at: datetime | None = None
    stop_at: datetime | None = None
    stop_reason: str = ""
    deaf: bool = False  # accepted a remote stop and does nothing
    asleep: bool = False
    most_wh: int | None = None
    until: datetime | None = None
    limit_reason: str = ""
    begin: list[dict[str, Any]] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)  # for the stop's transactionData


@dataclass
class Waiting:
    """A start that was granted and waits for the car, until then."""

    id_tag: str
    until: datetime
    parent: str = ""
    profile: dict[str, Any] | None = None


@dataclass(frozen=True)
class Reservation:
    """`connector` 0: any one of the charger's."""

    id: int
    connector: int
    id_tag: str
    until: datetime
    parent: str = ""


@dataclass(frozen=True)
class Trouble:
    """What a StatusNotification says about an error. A `warning` is told without the status Faulted."""

    code: str = "NoError"
    vendor_code: str = ""
    info: str = ""
    warning: bool = False

    @property
    def faulted(self) -> bool:
        return self.code != "NoError" and not self.warning


NO_TROUBLE = Trouble()


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
    updating: bool = False  # kept free for a firmware that waits to be installed
    trouble: Trouble = NO_TROUBLE
    lock_broken: bool = False
    limit_w: float | None = None  # what the charging profiles allow now
    reserved: Reservation | None = None
    served: bool = False  # the car plugged in now has already charged
    arrives_at: datetime | None = None
    leaves_at: datetime | None = None
    told: str = ""  # what the server last heard of its status
    seen: str = ""  # and what it is now, since when
    seen_at: datetime | None = None

    @property
    def faulted(self) -> bool:
        return self.trouble.faulted

    @property
    def power_w(self) -> float:
        return self.car.power_w if self.car else 0.0

    @property
    def meter_wh(self) -> int:
        return int(self.register_wh)

    @property
    def idle(self) -> bool:
        """Whether a start may be granted here now, reservations aside."""
        busy = self.transaction or self.waiting or self.faulted or not self.operative or self.inoperative_later or self.updating
        return not busy

    @property
    def offered_w(self) -> float:
        return self.plug.max_power_w if self.limit_w is None else min(self.plug.max_power_w, self.limit_w)

    def flow(self, seconds: float, now: datetime) -> None:
        """Let the current flow for `seconds`, where a transaction runs."""
        if self.car is None:
            return
        tx = self.transaction
        patient = tx is not None and tx.id is None and now - tx.started_at < timedelta(seconds=IMPATIENT_S)
        closed = tx is not None and not tx.asleep and not patient and not self.faulted
        taken_wh = self.car.take(seconds, self.offered_w if closed else 0.0)
        if tx is not None and tx.most_wh is not None:
            taken_wh = min(taken_wh, max(0.0, tx.meter_start_wh + tx.most_wh - self.register_wh))
        self.register_wh += taken_wh

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
            return "SuspendedEV" if self.car is None or self.car.full else "Charging"
        if not self.operative or self.updating:
            return "Unavailable"
        if self.plug.knows_the_car and (self.car or self.waiting):
            return "Finishing" if self.served else "Preparing"
        return "Reserved" if self.reserved else "Available"

    def samples(self, context: str, measurands: str, register_wh: int | None = None) -> list[dict[str, Any]]:
        """The sampledValue list of this moment, of the `measurands` configured (a comma-separated list)."""
        volts, amps = self.plug.volts_and_amps(self.car)
        offered_w = self.offered_w if self.transaction else 0.0
        all_of_them = {
            "Energy.Active.Import.Register": (str(self.meter_wh if register_wh is None else register_wh), "Wh", "Outlet"),
            "Power.Active.Import": (f"{self.power_w:.0f}", "W", "Outlet"),
            "Current.Import": (f"{amps:.1f}", "A", "Outlet"),
            "Voltage": (f"{volts:.1f}", "V", "Outlet"),
            "Power.Offered": (f"{offered_w:.0f}", "W", "Outlet"),
            "Current.Offered": (f"{offered_w / self.plug.watts_per_amp:.1f}", "A", "Outlet"),
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
