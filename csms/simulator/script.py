"""What people do at the chargers, written down: one line each, `SECONDS CP_ID DEED [ARGUMENTS]`, `#` begins a comment.

5   VLT-0001 plug 1
8   VLT-0001 swipe 1 04A1B2C3
60  VLT-0001 drop 15                          # seconds without a line
90  VLT-0001 fault 1 GroundFailure E12 earth  # connector (0: the charger), error, vendor's code and words
100 VLT-0001 clear 1
110 VLT-0001 warn 1 HighTemperature           # an error without the status Faulted
120 VLT-0001 reboot
121 VLT-0001 blink                            # a restart that ends no transaction
122 VLT-0001 lock 1 broken                    # or: works
130 VLT-0001 unplug 1
140 VLT-0001 event TamperDetectionActivated door open
141 VLT-0001 signal 21 99                     # RSSI and BER, by DataTransfer
142 VLT-0001 certificate                      # SignCertificate
143 VLT-0001 answer UnlockConnector UnlockFailed   # its next answer: a status, a CALLERROR's code, or silence
144 VLT-0001 say DataTransfer {"vendorId": "Acme", "data": "x"}
150 *        quit
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from csms.simulator import vendor
from csms.simulator.charger import Charger


@dataclass(frozen=True)
class Deed:
    at_s: float
    cp_id: str
    name: str
    arguments: tuple[str, ...] = ()


# name: (arguments it needs, arguments it may have, what it does); the last one may be more than one word.
DEEDS: dict[str, tuple[int, int, Callable[..., None]]] = {
    "plug": (1, 1, lambda charger, now, number: charger.plug_in(int(number), now)),
    "unplug": (1, 1, lambda charger, now, number: charger.unplug(int(number), now)),
    "swipe": (2, 2, lambda charger, now, number, tag: charger.swipe(int(number), tag, now)),
    "drop": (1, 1, lambda charger, now, seconds: charger.hang_up(now, float(seconds), "the line drops")),
    "reboot": (0, 0, lambda charger, now: charger.restart(now, keeps_transactions=False, why="restarts")),
    "blink": (0, 0, lambda charger, now: charger.restart(now, keeps_transactions=True, why="restarts in the middle")),
    "fault": (2, 4, lambda charger, now, number, code, *more: _trouble(charger, now, number, code, *more)),
    "warn": (2, 4, lambda charger, now, number, code, *more: _trouble(charger, now, number, code, *more, warning=True)),
    "clear": (1, 1, lambda charger, now, number: charger.trouble(int(number), "NoError", now)),
    "lock": (2, 2, lambda charger, now, number, state: _lock(charger, number, state)),
    "event": (1, 2, lambda charger, now, type, info="": charger.event(type, info, now)),
    "signal": (1, 2, lambda charger, now, rssi, ber="99": vendor.signal(charger, now, int(rssi), int(ber))),
    "certificate": (0, 0, lambda charger, now: charger.ask_for_certificate()),
    "answer": (2, 2, lambda charger, now, action, word: charger.forced.__setitem__(action, word)),
    "say": (1, 2, lambda charger, now, action, payload="{}": charger.say(action, json.loads(payload))),
    "quit": (0, 0, lambda charger, now: None),
}
COMMENT = re.compile(r"(^|\s)#.*")
WORDY = {"fault", "warn", "event", "say"}


def read(text: str) -> list[Deed]:
    """The deeds of a script, in their order. Raises ValueError that names the line."""
    deeds = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = COMMENT.sub("", line).split()
        if not words:
            continue
        try:
            at_s, cp_id, name, *arguments = words
            least, most, _ = DEEDS[name]
            if name in WORDY and len(arguments) > most:
                arguments = [*arguments[: most - 1], " ".join(arguments[most - 1 :])]
            if not least <= len(arguments) <= most:
                raise ValueError(f"{name} takes {least if least == most else f'{least} to {most}'} arguments")
            if name == "say":
                json.loads(arguments[-1] if len(arguments) > 1 else "{}")
            deeds.append(Deed(float(at_s), cp_id, name, tuple(arguments)))
        except KeyError:
            raise ValueError(f"line {number}: no such deed: {words[2]} (there are: {', '.join(DEEDS)})") from None
        except ValueError as reason:
            raise ValueError(f"line {number}: {reason}") from None
    return sorted(deeds, key=lambda deed: deed.at_s)


def play(deed: Deed, charger: Charger, now: datetime) -> None:
    DEEDS[deed.name][2](charger, now, *deed.arguments)


def _trouble(charger: Charger, now: datetime, number: str, code: str, vendor_code: str = "", info: str = "", warning: bool = False) -> None:
    charger.trouble(int(number), code, now, vendor_code=vendor_code, info=info, warning=warning)


def _lock(charger: Charger, number: str, state: str) -> None:
    charger.known(int(number)).lock_broken = state == "broken"
