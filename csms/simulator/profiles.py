"""What a kind of outlet is like: its voltage and phases, what it can say, and which cars come to it."""

import random
from dataclasses import dataclass

from csms.simulator.car import Car

MAINS_VOLTS = 230.0
DC_VOLTS = 400.0


@dataclass(frozen=True)
class Plug:
    """A kind of outlet. `max_power_w` is what it offers; AC is per phase at 230 V, DC at the car's own voltage."""

    type: str
    max_power_w: int
    phases: int = 1
    dc: bool = False
    # A 15 A socket does not know that something is plugged in: it never says Preparing, and idles as Available.
    knows_the_car: bool = True
    locks: bool = False

    @property
    def nominal_volts(self) -> float:
        """What limits in amperes are reckoned with."""
        return DC_VOLTS if self.dc else MAINS_VOLTS

    @property
    def watts_per_amp(self) -> float:
        return self.nominal_volts * self.phases

    def volts_and_amps(self, car: Car | None) -> tuple[float, float]:
        power_w = car.power_w if car else 0.0
        volts = car.volts if car and self.dc else 0.0 if self.dc else MAINS_VOLTS
        return volts, power_w / (volts * self.phases) if volts else 0.0


def plug(type: str, max_power_w: int) -> Plug:
    """The outlet of that connector type and power. Raises ValueError for a type nobody has."""
    match type:
        case "socket":
            return Plug(type, min(max_power_w, 3_450), knows_the_car=False)
        case "type2":
            return Plug(type, max_power_w, phases=1 if max_power_w <= 7_400 else 3, locks=True)
        case "ccs2" | "chademo" | "gbt":
            return Plug(type, max_power_w, dc=True)
    raise ValueError(f"no such connector type: {type}")


def some_car(plug: Plug, rng: random.Random) -> Car:
    """A car (or scooter) such as comes to that outlet, with room for a while of charging."""
    charge = rng.uniform(0.12, 0.62)
    if plug.type == "socket":
        return Car(rng.choice([2_900, 3_700, 7_400]), charge, rng.choice([750, 1_500, 3_000]), efficiency=0.88, ramp_w_per_s=400)
    battery_wh = rng.choice([30_200, 40_500, 50_300, 60_480, 72_600])
    if not plug.dc:
        return Car(battery_wh, charge, rng.choice([7_200, 11_000, 22_000]), efficiency=0.91, ramp_w_per_s=1_500)
    return Car(battery_wh, charge, battery_wh * rng.uniform(1.0, 1.6), rng.choice([350.0, 400.0]), efficiency=0.95)
