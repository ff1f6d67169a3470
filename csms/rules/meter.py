"""Energy from registers that lie: segments, confirmation, plausibility. Whole Wh; pure.

A register may start anywhere, reset to zero on a power cut, drop out for one sample, or jump to the lifetime odometer
after a placeholder. Energy is the sum of segments in which it rose plausibly; one odd sample waits for a second that
agrees with it before it is believed, and a jump never becomes energy.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

# Registers wobble by a few Wh between a sample and a stop.
WOBBLE_WH = 10
# A register of so much, in kWh, is told from one that was set to zero.
IN_KWH_FROM_WH = 100_000
# So much may have flowed after what we had counted, before the real stop of a session that we ended: one large car.
LATE_WH = 150_000
# What a charger may report beyond what was counted before a person must look: the larger of this and a tenth.
REPORTED_BEYOND_WH = 1_000


class Verdict(StrEnum):
    FIRST = "first"
    ROSE = "rose"
    SAME = "same"
    WOBBLED = "wobbled"
    WENT_BACK = "went_back"  # waits for a second sample
    JUMPED = "jumped"  # waits for a second sample
    NEW_SEGMENT = "new_segment"
    CAME_BACK = "came_back"  # to where the register stood before it dropped out
    IN_KWH = "in_kwh"  # the same register, in another unit than the one before
    UNKNOWN = "unknown"


# A register that cannot be where it says: no energy by itself, and a person should see that it was said.
NOT_BELIEVED = frozenset({Verdict.WENT_BACK, Verdict.JUMPED, Verdict.IN_KWH})


@dataclass(frozen=True)
class Meter:
    """A session's meter. `energy_wh` is what was delivered as far as it can be believed."""

    start_wh: int | None = None
    last_wh: int | None = None
    segment_start_wh: int | None = None
    segments_wh: int = 0
    pending_wh: int | None = None

    @property
    def energy_wh(self) -> int:
        if self.last_wh is None or self.segment_start_wh is None:
            return self.segments_wh
        return self.segments_wh + self.last_wh - self.segment_start_wh


def begin(register_wh: int | None) -> Meter:
    """A session's meter at its start; an unknown start is taken from the first sample."""
    if register_wh is None or register_wh < 0:
        return Meter()
    return Meter(start_wh=register_wh, last_wh=register_wh, segment_start_wh=register_wh)


def plausible_wh(max_power_w: int, elapsed_s: float) -> int:
    """The most a connector can have delivered in `elapsed_s`: its power and 10 %, with half a minute of slack for clocks."""
    return max_power_w * 11 * (int(max(elapsed_s, 0)) + 30) // 36_000 + 100


def advance(meter: Meter, register_wh: int | None, cap_wh: int, *, again: bool = False) -> tuple[Meter, Verdict]:
    """One more reading. `cap_wh` is what can have been delivered since the last believed one (`plausible_wh`).

    `again`: it is the odd sample that waits for a second one, said once more; it does not agree with itself.
    """
    if register_wh is None or register_wh < 0:
        return meter, Verdict.UNKNOWN
    if meter.last_wh is None:
        return replace(begin(register_wh), segments_wh=meter.segments_wh), Verdict.FIRST
    if meter.last_wh >= IN_KWH_FROM_WH and _in_kwh(meter.last_wh, register_wh, cap_wh):
        return replace(meter, pending_wh=None), Verdict.IN_KWH
    if (continued := _continued(meter, register_wh, cap_wh)) is not None:
        return continued, Verdict.CAME_BACK
    rise = register_wh - meter.last_wh
    if 0 <= rise <= cap_wh:
        return replace(meter, last_wh=register_wh, pending_wh=None), Verdict.ROSE if rise else Verdict.SAME
    if -WOBBLE_WH <= rise < 0:
        return meter, Verdict.WOBBLED
    if not again and meter.pending_wh is not None and 0 <= register_wh - meter.pending_wh <= cap_wh:
        # Two samples agree: the register moved. What the jump itself says is not energy.
        return (
            Meter(
                start_wh=meter.start_wh,
                last_wh=register_wh,
                segment_start_wh=meter.pending_wh,
                segments_wh=meter.energy_wh,
            ),
            Verdict.NEW_SEGMENT,
        )
    return replace(meter, pending_wh=register_wh), Verdict.WENT_BACK if rise < 0 else Verdict.JUMPED


def _in_kwh(last_wh: int, register_wh: int, cap_wh: int) -> bool:
    """Whether this is the last register and at most `cap_wh` more, said in kWh as if it were Wh (Q98): a thousandth tells no energy."""
    return last_wh // 1_000 - 1 <= register_wh <= (last_wh + cap_wh) // 1_000 + 1


def _continued(meter: Meter, register_wh: int, cap_wh: int) -> Meter | None:
    """The meter, if its register dropped out for several samples and is back: nothing rose in between, and it goes on from before.

    Only where the register had fallen. Then this counts less than a reset would, whose first step would be all that stood there before.
    """
    if meter.last_wh is None or meter.segment_start_wh is None or meter.start_wh is None:
        return None
    before_wh = meter.start_wh + meter.segments_wh
    if meter.last_wh - meter.segment_start_wh > WOBBLE_WH or meter.last_wh >= before_wh or not 0 <= register_wh - before_wh <= cap_wh:
        return None
    return Meter(start_wh=meter.start_wh, last_wh=register_wh, segment_start_wh=meter.start_wh)


def finish(meter: Meter, register_wh: int | None, cap_wh: int) -> tuple[Meter, Verdict]:
    """The last register of a session (meterStop). 0 and negative mean unknown once energy was seen; an odd one is not believed."""
    if register_wh is not None and register_wh <= 0 and (meter.last_wh or 0) > 0:
        return meter, Verdict.UNKNOWN
    after, verdict = advance(meter, register_wh, cap_wh)
    if verdict in NOT_BELIEVED:
        return meter, verdict
    return after, verdict


def late(meter: Meter, register_wh: int | None) -> int | None:
    """The energy that a stop says which came after we had ended the session ourselves; None when it says nothing comparable.

    Compared is the last segment: a register below its beginning was set back since. What is the last register in kWh is no register.
    """
    if register_wh is None or meter.segment_start_wh is None or register_wh < max(meter.segment_start_wh, 0):
        return None
    last_wh = meter.last_wh or 0
    if last_wh > 0 and (register_wh == 0 or (last_wh >= 1_000 and _in_kwh(last_wh, register_wh, LATE_WH))):
        return None
    return meter.segments_wh + register_wh - meter.segment_start_wh


def reported(meter: Meter, register_wh: int | None) -> int | None:
    """The plain difference of the registers at both ends (without a last one: as far as it was read); None when one is not known."""
    last_wh = register_wh if register_wh is not None and register_wh > 0 else meter.last_wh
    return None if last_wh is None or meter.start_wh is None else last_wh - meter.start_wh


def doubtful(energy_wh: int, reported_wh: int | None, cap_wh: int | None) -> bool:
    """Whether a person must look before this is billed.

    More was counted than the connector can have delivered in the whole time (many small steps, each plausible, add up to what is
    not), or the registers at both ends say much more than was counted: a jump that stayed, which is a lie, a placeholder, or energy.
    """
    if cap_wh is not None and energy_wh > cap_wh:
        return True
    return reported_wh is not None and reported_wh - energy_wh > max(REPORTED_BEYOND_WH, energy_wh // 10)


def seconds_to_limit(energy_wh: int, limit_wh: int, power_w: int | None) -> float | None:
    """How long until `limit_wh` is reached at the power now flowing; 0 when it is reached; None when nothing flows."""
    left_wh = limit_wh - energy_wh
    if left_wh <= 0:
        return 0.0
    if not power_w or power_w <= 0:
        return None
    return left_wh * 3600 / power_w


def undercounts(power_wh: int, energy_wh: int) -> bool:
    """Whether what the power adds up to cannot be the energy that was counted: twice as much, and more than a few minutes' worth."""
    return power_wh >= 2_000 and power_wh > 2 * energy_wh
