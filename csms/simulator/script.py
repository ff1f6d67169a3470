"""What people do at the chargers, written down: one line each, `SECONDS CP_ID DEED [ARGUMENTS]`, `#` begins a comment.

5   VLT-0001 plug 1
8   VLT-0001 swipe 1 04A1B2C3
60  VLT-0001 drop 15           # seconds without a line
90  VLT-0001 fault 1 GroundFailure
100 VLT-0001 clear 1
120 VLT-0001 reboot
130 VLT-0001 unplug 1
150 *        quit
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from csms.simulator.charger import Charger


@dataclass(frozen=True)
class Deed:
    at_s: float
    cp_id: str
    name: str
    arguments: tuple[str, ...] = ()


DEEDS: dict[str, tuple[int, Callable[..., None]]] = {
    "plug": (1, lambda charger, now, number: charger.plug_in(int(number), now)),
    "unplug": (1, lambda charger, now, number: charger.unplug(int(number), now)),
    "swipe": (2, lambda charger, now, number, tag: charger.swipe(int(number), tag, now)),
    "drop": (1, lambda charger, now, seconds: charger.hang_up(now, float(seconds), "the line drops")),
    "reboot": (0, lambda charger, now: charger.restart(now, keeps_transactions=False, why="restarts")),
    "fault": (2, lambda charger, now, number, code: _fault(charger, int(number), code)),
    "clear": (1, lambda charger, now, number: _fault(charger, int(number), "NoError")),
    "quit": (0, lambda charger, now: None),
}


def read(text: str) -> list[Deed]:
    """The deeds of a script, in their order. Raises ValueError that names the line."""
    deeds = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        try:
            at_s, cp_id, name, *arguments = words
            if len(arguments) != DEEDS[name][0]:
                raise ValueError(f"{name} takes {DEEDS[name][0]} arguments")
            deeds.append(Deed(float(at_s), cp_id, name, tuple(arguments)))
        except KeyError:
            raise ValueError(f"line {number}: no such deed: {words[2]} (there are: {', '.join(DEEDS)})") from None
        except ValueError as reason:
            raise ValueError(f"line {number}: {reason}") from None
    return sorted(deeds, key=lambda deed: deed.at_s)


def play(deed: Deed, charger: Charger, now: datetime) -> None:
    DEEDS[deed.name][1](charger, now, *deed.arguments)


def _fault(charger: Charger, number: int, code: str) -> None:
    outlet = charger.outlet(number)
    if outlet is None:
        raise ValueError(f"{charger.cp_id} has no connector {number}")
    outlet.error_code = code
