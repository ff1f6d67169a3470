"""A battery on wheels: how much power it takes, and how that changes on the way to full."""

from dataclasses import dataclass

TAPER_FROM = 0.80  # state of charge above which the battery asks for less and less
TAPER_TO = 0.08  # of its power at full
FULL = 0.999


@dataclass
class Car:
    """Energy in Wh, power in W. `charge` goes from 0 to 1; `stored_wh` follows it.

    `efficiency` is what of the metered energy reaches the battery; `ramp_w_per_s` is how fast the power may rise.
    """

    battery_wh: float
    charge: float
    max_power_w: float
    pack_volts: float = 400.0
    efficiency: float = 0.93
    ramp_w_per_s: float = 5_000.0
    power_w: float = 0.0
    celsius: float = 28.0

    @property
    def full(self) -> bool:
        return self.charge >= FULL

    @property
    def soc_pct(self) -> int:
        return min(100, int(self.charge * 100 + 0.5))

    @property
    def volts(self) -> float:
        """The pack's voltage rises with its charge (DC only sees it)."""
        return self.pack_volts * (0.88 + 0.17 * self.charge)

    def asks_for_w(self, offered_w: float) -> float:
        """What it would take of `offered_w` in the long run, at its present charge."""
        if self.full:
            return 0.0
        own = self.max_power_w
        if self.charge > TAPER_FROM:
            own *= max(TAPER_TO, 1 - (1 - TAPER_TO) * (self.charge - TAPER_FROM) / (1 - TAPER_FROM))
        return min(offered_w, own)

    def take(self, seconds: float, offered_w: float) -> float:
        """Charge for `seconds` at no more than `offered_w`; the metered energy in Wh. Power rises slowly and falls at once."""
        before = self.power_w
        self.power_w = min(self.asks_for_w(offered_w), before + self.ramp_w_per_s * seconds)
        metered_wh = (min(before, self.power_w) + self.power_w) / 2 * seconds / 3600
        room_wh = (1 - self.charge) * self.battery_wh / self.efficiency
        metered_wh = min(metered_wh, room_wh)
        self.charge = min(1.0, self.charge + metered_wh * self.efficiency / self.battery_wh)
        if self.full:
            self.power_w = 0.0
        self.celsius += (28 + 14 * self.power_w / self.max_power_w - self.celsius) * min(1.0, seconds / 300)
        return metered_wh
