"""Many chargers on real lines in one process, the riders who pay at them, and the script of what else happens."""

import asyncio
import json
import random
import string
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from csms.simulator import memory, script
from csms.simulator.charger import Charger
from csms.simulator.client import Clock, Line, Tell

DEFAULT_PLUG = {"type": "ccs2", "max_power_w": 60_000}


@dataclass
class Member:
    """One charger of the fleet file: its key, its connectors as [{type, max_power_w, qr_id}], and whether riders leave it alone."""

    cp_id: str
    key: str | None = None
    connectors: list[dict[str, Any]] = field(default_factory=lambda: [dict(DEFAULT_PLUG)])
    reserved: bool = False


def read_file(path: Path) -> dict[str, Member]:
    """The fleet file: {cp_id: key} or {cp_id: {"key", "connectors", "reserved"}}. Raises ValueError when it is neither."""
    try:
        document = json.loads(path.read_text())
        members = {}
        for cp_id, said in document.items():
            members[cp_id] = Member(cp_id, said) if isinstance(said, str | None) else Member(cp_id, **said)
    except (ValueError, TypeError, AttributeError) as reason:
        raise ValueError(f"{path} is not a fleet file: {reason}") from None
    return members


def write_key(path: Path, cp_id: str, key: str) -> None:
    """Keep the key the server gave a charger, for the next start. The file stays readable by its owner only."""
    document = json.loads(path.read_text())
    if isinstance(document.get(cp_id), dict):
        document[cp_id]["key"] = key
    else:
        document[cp_id] = key
    write_file(path, document)


def write_file(path: Path, document: dict[str, Any]) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as new:  # made 0600
        json.dump(document, new, indent=1)
    Path(new.name).replace(path)


class Fleet:
    """Runs until `stop` is set: one Line per charger."""

    def __init__(self, lines: dict[str, Line], *, clock: Clock, tell: Tell) -> None:
        self.lines, self.clock, self.tell = lines, clock, tell
        self.stop = asyncio.Event()

    @property
    def chargers(self) -> dict[str, Charger]:
        return {cp_id: line.charger for cp_id, line in self.lines.items()}

    async def run(self, *jobs: Callable[["Fleet"], Any]) -> None:
        """All lines, and the jobs (riders, script) beside them; a job that fails ends the run."""
        async with asyncio.TaskGroup() as group:
            for number, line in enumerate(self.lines.values()):
                group.create_task(self._later(line, min(number * 0.01, 3.0)))
            for job in jobs:
                group.create_task(job(self))

    async def _later(self, line: Line, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await line.run(self.stop)

    async def pause(self, seconds: float) -> bool:
        """Wait; False when it is time to stop."""
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return True
        return False


# -- what the chargers remember ------------------------------------------------------------------------------------
REMEMBER_EVERY_S = 5


def recall(path: Path, chargers: dict[str, Charger], now: datetime) -> None:
    """Give the chargers back what they knew when they were last switched off. A file that cannot be read is no file."""
    try:
        kept = json.loads(path.read_text())
        for cp_id, charger in chargers.items():
            if cp_id in kept:
                memory.load(charger, kept[cp_id], now)
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError) as reason:
        raise ValueError(f"{path} is not a memory of chargers: {reason!r}; delete it to begin anew") from None


def remember(path: Path) -> Callable[[Fleet], Any]:
    """A job: write down what the chargers know, every few seconds and at the end."""

    async def job(fleet: Fleet) -> None:
        going_on = True
        while going_on:
            going_on = await fleet.pause(REMEMBER_EVERY_S)
            write_file(path, {cp_id: memory.dump(charger) for cp_id, charger in fleet.chargers.items()})

    return job


# -- the script ----------------------------------------------------------------------------------------------------
def follow(deeds: list[script.Deed]) -> Callable[[Fleet], Any]:
    """A job: do each deed at its time, then let things run on (`quit` ends them)."""

    async def job(fleet: Fleet) -> None:
        at_s = 0.0
        for deed in deeds:
            if not await fleet.pause(max(0.0, deed.at_s - at_s)):
                return
            at_s = deed.at_s
            if deed.name == "quit":
                fleet.stop.set()
                return
            for charger in [fleet.chargers[deed.cp_id]] if deed.cp_id != "*" else fleet.chargers.values():
                script.play(deed, charger, fleet.clock())

    return job


# -- riders --------------------------------------------------------------------------------------------------------
NAMES = ("asha", "bilal", "chitra", "dev", "esha", "farhan", "gauri", "hari", "indu", "jai", "kiran", "lata", "meera", "nikhil")
BANKS = ("okaxis", "ybl", "oksbi", "paytm", "upi")


def ride(sandbox: str, members: dict[str, Member], *, at_once: int, rng: random.Random) -> Callable[[Fleet], Any]:
    """A job: now and then somebody pays Rs 10-60 at a free connector; at most `at_once` of them charge at one time.

    Connectors of reserved chargers are left to real people; so is the last charger when none is marked.
    """
    places = [
        (cp_id, number, connector["qr_id"], connector["max_power_w"])
        for cp_id, member in members.items()
        if not member.reserved
        for number, connector in enumerate(member.connectors, start=1)
        if connector.get("qr_id")
    ]
    if places and not any(member.reserved for member in members.values()) and len({cp_id for cp_id, *_ in places}) > 1:
        last = places[-1][0]
        places = [place for place in places if place[0] != last]

    async def job(fleet: Fleet) -> None:
        if not places:
            fleet.tell("riders stay at home: no connector they may use has a QR")
            return
        paid_at: dict[tuple[str, int], float] = {}
        clock = asyncio.get_running_loop().time
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            while await fleet.pause(rng.uniform(6, 20)):
                busy = sum(1 for charger in fleet.chargers.values() for outlet in charger.outlets if outlet.transaction)
                # Somebody who has just paid is on the way to the cable.
                waiting = {place for place, at in paid_at.items() if clock() - at < 20}
                free = [place for place in places if place[:2] not in waiting and _free(fleet, *place[:2])]
                if not free or busy + len(waiting) >= at_once:
                    continue
                # Fast chargers are sought after, and soon free again.
                [(cp_id, number, qr_id, _)] = rng.choices(free, weights=[place[3] for place in free])
                paid_at[cp_id, number] = clock()
                await _pay(http, sandbox, qr_id, f"{cp_id}/{number}", fleet.tell, rng)

    return job


def _free(fleet: Fleet, cp_id: str, number: int) -> bool:
    charger = fleet.chargers.get(cp_id)
    outlet = charger.outlet(number) if charger else None
    if charger is None or outlet is None or not (charger.online and charger.registered):
        return False
    return outlet.status() == "Available" and outlet.transaction is None and outlet.waiting is None


async def _pay(http: httpx.AsyncClient, sandbox: str, qr_id: str, where: str, tell: Tell, rng: random.Random) -> None:
    amount = rng.choice([10, 15, 20, 20, 25, 30, 40, 50, 60])
    name = rng.choice(NAMES)
    rider = {
        "amount": amount,
        "vpa": f"{name}.{rng.randrange(100)}@{rng.choice(BANKS)}",
        "contact": rng.choice("6789") + "".join(rng.choices(string.digits, k=9)),
    }
    try:
        answer = await http.post(f"{sandbox.rstrip('/')}/pay/{qr_id}", json=rider)
    except httpx.HTTPError as reason:
        tell(f"{where}: {name} could not pay ({type(reason).__name__})")
        return
    if answer.is_success:
        tell(f"{where}: {name} paid Rs {amount}")
    else:
        tell(f"{where}: {name} could not pay ({answer.status_code} {answer.text[:80]})")
