"""A charger that speaks OCPP 1.6J, without a wire and without a clock.

    charger.opened(now); charger.heard(text, now); charger.tick(now); charger.closed(now)
    for frame in charger.take(): ...          # what it says
    for order in charger.take_orders(): ...   # files it wants fetched or stored: charger.carried_out(order, outcome, now)
    if charger.away_until: ...                # it hangs up and comes back then

`plug_in`, `unplug` and `swipe` are what the person at the charger does. Notes for people gather in `notes`.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from csms.simulator import answers, habits, people, permission, shaping, statuses, transactions, vendor, wire
from csms.simulator.car import Car
from csms.simulator.configuration import Configuration
from csms.simulator.faults import Faults
from csms.simulator.firmware import Update
from csms.simulator.habits import Habits
from csms.simulator.journal import Journal
from csms.simulator.keys import CENTRAL, Keys
from csms.simulator.limits import Profiles
from csms.simulator.mailbox import Letter, Mailbox, new_uid
from csms.simulator.orders import Order, Outcome
from csms.simulator.outlet import NO_TROUBLE, Outlet, Reservation, Trouble
from csms.simulator.profiles import Plug
from csms.simulator.tags import Info, Tags
from csms.simulator.times import stamp
from csms.simulator.uploads import Sending

# A gap longer than this is a machine that slept: the meter did not run meanwhile.
LONGEST_TICK_S = 30


@dataclass
class Charger:
    cp_id: str
    outlets: list[Outlet]
    rng: random.Random
    habits: Habits = field(default_factory=Habits)
    faults: Faults = None  # type: ignore[assignment]
    online: bool = False
    registered: bool = False
    boot_again_at: datetime | None = None
    up_since: datetime | None = None
    away_until: datetime | None = None
    reset_reason: str = ""
    reset_by: datetime | None = None
    firmware: str = ""
    operative: bool = True  # connector 0
    error: Trouble = NO_TROUBLE  # of connector 0
    told: str = ""  # what the server last heard of connector 0
    reserved_any: list[Reservation] = field(default_factory=list)  # for connector 0
    tags: Tags = field(default_factory=Tags)
    profiles: Profiles = field(default_factory=Profiles)
    keys: Keys = field(default_factory=Keys)
    journal: Journal = field(default_factory=Journal)
    update: Update | None = None
    diagnostics: Sending | None = None
    log: Sending | None = None
    signal_at: datetime | None = None  # the next SignalQuality
    ask_at: datetime | None = None  # when to ask what became of a transaction
    renew_line: bool = False  # its own certificate has changed
    knows_a_root: bool = False  # its line believes one without having been given it
    forced: dict[str, str] = field(default_factory=dict)  # action: what it answers next time, whatever it thinks
    orders: list[Order] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults = self.faults or Faults(self.rng)
        self.firmware = self.firmware or self.habits.firmware
        self.configuration = Configuration(
            NumberOfConnectors=str(len(self.outlets)), MeterValueSampleInterval=str(self.habits.sample_every_s)
        )
        self.configuration.key_after_reboot = "key_after_reboot" in self.habits.strange
        self.configuration.may_raise = self._may_raise
        self.mailbox = Mailbox(self.rng)
        self._out: list[str] = []
        self._now: datetime | None = None
        self._ticked_at: datetime | None = None
        self._heartbeat_at: datetime | None = None
        self._lost = 0
        self._slot: int | None = None  # of the clock-aligned readings
        self._triggered = False

    # -- the line --------------------------------------------------------------------------------------------
    def opened(self, now: datetime) -> None:
        """The socket is open. Only a charger that has (re)started boots; after a mere disconnect it carries on."""
        self._now, self.online, self.away_until = now, True, None
        self._heartbeat_at = None
        self._write("connected")
        if "never_boots" in self.habits.strange and not self.registered:
            self._begin(now)
        elif self.registered and "boots_always" not in self.habits.strange:
            statuses.tell_changes(self, now)
            self._send_events()
        else:
            self.boot(now)
        self._pump(now)

    def closed(self, now: datetime) -> None:
        if self.online:
            self._write("disconnected")
        self._now, self.online = now, False
        self.mailbox.cut()
        self._out.clear()

    def heard(self, text: str | bytes, now: datetime) -> None:
        """A frame of the server's. What is no frame is ignored, as chargers do."""
        self._now = now
        try:
            frame = wire.read(text)
        except wire.Unreadable as why:
            self.note(f"heard no OCPP: {why}")
            return
        if frame.kind == wire.CALL:
            if (said := answers.answer(self, frame, now)) is not None:
                self._out.append(said)
            self._write(f"the server asked {frame.action}")
        elif frame.kind == wire.RESULT:
            self.mailbox.answered(frame.uid, frame.payload, now)
        else:
            if self.mailbox.in_flight is not None and frame.uid == self.mailbox.uid:
                self.note(f"{self.mailbox.in_flight.action} was refused: {frame.code} {frame.description}")
            self.mailbox.refused(frame.uid, now)
        statuses.tell_changes(self, now)
        self._pump(now)

    def take(self) -> list[str]:
        """The frames to send now, in order."""
        frames, self._out = self._out, []
        if self.habits.strange:
            return [said for frame in frames for said in habits.bent(frame, self.habits.strange, self.rng)]
        return frames

    def take_orders(self) -> list[Order]:
        """What to fetch or to store now."""
        orders, self.orders = self.orders, []
        return orders

    def carried_out(self, order: Order, outcome: Outcome, now: datetime) -> None:
        """How an order went; one that has been overtaken is nobody's."""
        self._now = now
        if self.update and self.update.order is order:
            self.update.came(self, outcome, now)
        elif self.diagnostics and self.diagnostics.order is order:
            self.diagnostics = None if self.diagnostics.came(self, outcome, now) else self.diagnostics
        elif self.log and self.log.order is order:
            self.log = None if self.log.came(self, outcome, now) else self.log
        self._pump(now)

    # -- time ------------------------------------------------------------------------------------------------
    def tick(self, now: datetime) -> None:
        """Time has passed: currents flow, cars come and go, samples are due."""
        seconds = min((now - self._ticked_at).total_seconds(), LONGEST_TICK_S) if self._ticked_at else 0.0
        self._now = self._ticked_at = now
        self.up_since = self.up_since or now
        shaping.shape(self, now)
        for outlet in self.outlets:
            if seconds > 0:
                outlet.flow(seconds, now)
            people.live(self, outlet, now)
            if outlet.transaction:
                transactions.live(self, outlet, outlet.transaction, now)
        self._reservations(now)
        self._clock_aligned(now)
        self._maintain(now)
        if self.online and self.registered:
            self._heartbeat(now)
            vendor.tick(self, now)
            self._strike(now)
        elif self.online and self.boot_again_at and now >= self.boot_again_at:
            self.boot(now)
        statuses.tell_changes(self, now)
        self._pump(now)

    def _reservations(self, now: datetime) -> None:
        for one in [*self.reserved_any, *(outlet.reserved for outlet in self.outlets if outlet.reserved)]:
            if now >= one.until:
                self.note(f"reservation {one.id} has expired")
                self.end_reservation(one.id)

    def _clock_aligned(self, now: datetime) -> None:
        every_s = self.configuration.number("ClockAlignedDataInterval")
        slot = int(now.timestamp()) // every_s if every_s else None
        if slot is not None and self._slot is not None and slot > self._slot:
            for outlet in self.outlets:
                transactions.aligned(self, outlet, now)
        self._slot = slot

    def _heartbeat(self, now: datetime) -> None:
        every = timedelta(seconds=max(1, self.configuration.number("HeartbeatInterval")))
        if self._heartbeat_at is None:  # not all chargers of a network in the same second
            self._heartbeat_at = now - every * self.rng.random()
        if now - self._heartbeat_at >= every:
            self._heartbeat_at = now
            self.say("Heartbeat", {})

    def _strike(self, now: datetime) -> None:
        busy = any(outlet.transaction for outlet in self.outlets)
        if busy and self.faults.due("drop", now):
            self.hang_up(now, self.rng.uniform(3, 20), "the line drops")
        elif busy and self.faults.due("reboot", now):
            self.restart(now, keeps_transactions=self.rng.random() < 0.5, why="restarts by itself")

    def _maintain(self, now: datetime) -> None:
        """A reset that was asked for (after what must still be said), and the steps of firmware and uploads."""
        if self.reset_reason and (self.mailbox.idle() or (self.reset_by and now >= self.reset_by)):
            self.restart(now, keeps_transactions=False, why="resets", reason=self.reset_reason)
        if self.online and self.registered and not self.away_until:
            for work in (self.update, self.diagnostics, self.log):
                if work is not None:
                    work.step(self, now)

    # -- the person at the charger (see `people`) ------------------------------------------------------------
    def outlet(self, number: int) -> Outlet | None:
        return next((one for one in self.outlets if one.number == number), None)

    def plug_in(self, number: int, now: datetime, car: Car | None = None) -> None:
        people.plug_in(self, self.known(number), now, car)

    def unplug(self, number: int, now: datetime) -> None:
        people.unplug(self, self.known(number), now)

    def swipe(self, number: int, id_tag: str, now: datetime) -> None:
        permission.swipe(self, self.known(number), id_tag, now)

    def stop(self, outlet: Outlet, reason: str, now: datetime) -> None:
        transactions.stop(self, outlet, reason, now)

    def remote_stop(self, outlet: Outlet, now: datetime) -> None:
        transactions.remote_stop(self, outlet, now)

    def trouble(self, number: int, code: str, now: datetime, *, vendor_code: str = "", info: str = "", warning: bool = False) -> None:
        """An error begins at that connector (0: the charger); NoError ends it."""
        said = NO_TROUBLE if code == "NoError" else Trouble(code, vendor_code, info, warning)
        if number == 0:
            self.error = said
        else:
            self.known(number).trouble = said
        statuses.tell_changes(self, now)

    def event(self, type: str, info: str, now: datetime) -> None:
        """A security event: logged, and told now or when the line is back (security white paper, A04)."""
        one = (now, type, info[:255])
        self.journal.events.append(one)
        self.journal.unsent.append(one)
        self._send_events()

    def end_reservation(self, id: int) -> bool:
        """Whether there was one of that number."""
        before = len(self.reserved_any)
        self.reserved_any = [one for one in self.reserved_any if one.id != id]
        for outlet in self.outlets:
            if outlet.reserved and outlet.reserved.id == id:
                outlet.reserved = None
                return True
        return len(self.reserved_any) < before

    def begin_update(self, update: Update) -> None:
        """It takes the place of the one that was fetched."""
        self.update = update
        for outlet in self.outlets:
            outlet.updating = False

    def ask_for_certificate(self) -> None:
        """SignCertificate; the answer only says that the server will see to it."""
        self.say("SignCertificate", {"csr": self.keys.ask(self.cp_id, self.configuration["CpoName"])})

    def learn(self, id_tag: str, answer: dict[str, Any], now: datetime) -> Info:
        """Remember what an answer says of a tag; where the local list says otherwise, tell (OCPP 1.6 section 3.5.3)."""
        info: Info = answer.get("idTagInfo") or {}
        if info.get("status") and self.tags.learn(id_tag, info) and self.configuration.on("LocalAuthListEnabled"):
            statuses.tell_conflict(self, id_tag, info["status"], now)
        return info

    # -- restarts and absences -------------------------------------------------------------------------------
    def hang_up(self, now: datetime, for_s: float, why: str) -> None:
        self.note(f"{why} for {for_s:.0f} s")
        self.away_until = now + timedelta(seconds=for_s)

    def restart(self, now: datetime, *, keeps_transactions: bool, why: str, reason: str = "PowerLoss") -> None:
        """Restart now: what runs goes on afterwards, or ends with `reason`. What was not yet said is said after the boot."""
        self.registered, self.boot_again_at, self.reset_reason, self.reset_by = False, None, "", None
        self.up_since = now
        self.configuration.rebooted()
        self.mailbox.cut()
        for outlet in self.outlets:
            outlet.waiting = outlet.arrives_at = None
            outlet.updating = False
            if not keeps_transactions:
                self.stop(outlet, reason, now)
            elif outlet.transaction:
                outlet.transaction.asleep = bool(self.habits.strange & {"last_meter_value", "post_boot_state"})
        if self.habits.security_events:
            self.event("ResetOrReboot", why, now)
        self.hang_up(now, self.rng.uniform(*self.habits.boots_in_s), why)

    # -- words -----------------------------------------------------------------------------------------------
    def boot(self, now: datetime) -> None:
        self.boot_again_at = now + timedelta(seconds=45)
        payload = {
            "chargePointVendor": self.habits.vendor,
            "chargePointModel": self.habits.model,
            "chargePointSerialNumber": f"SIM-{self.cp_id}"[:25],
            "firmwareVersion": self.firmware,
        }
        self.mailbox.add(Letter("BootNotification", payload, on_answer=self._booted, triggered=True))

    def _booted(self, answer: dict[str, Any], now: datetime) -> None:
        interval_s = answer.get("interval", 0)
        if answer.get("status") != "Accepted":
            self.registered, self.boot_again_at = False, now + timedelta(seconds=interval_s or 30)
            self.note(f"boot: {answer.get('status')}")
            return
        if interval_s > 0:
            self.configuration.put("HeartbeatInterval", str(interval_s))
        self._begin(now)

    def _begin(self, now: datetime) -> None:
        """Registered: from now on it says what it has to say."""
        self.registered, self.boot_again_at = True, None
        statuses.forget(self)
        statuses.tell_changes(self, now)
        if self.habits.security_events:
            self.event("StartupOfTheDevice", f"firmware {self.firmware}", now)
        self._send_events()
        vendor.after_boot(self, now)

    def _send_events(self) -> None:
        while self.online and self.registered and self.journal.unsent:
            at, type, info = self.journal.unsent.popleft()
            self.say("SecurityEventNotification", {"type": type, "timestamp": stamp(at)} | ({"techInfo": info} if info else {}))

    def say(self, action: str, payload: dict[str, Any], on_answer: Any = None) -> None:
        """Something only worth saying now."""
        if self.online:
            self.mailbox.add(Letter(action, payload, on_answer=on_answer, triggered=self._triggered))

    @contextmanager
    def triggered(self) -> Iterator[None]:
        """What is said in here the server has asked for: it may hear it before it has accepted the boot."""
        self._triggered = True
        try:
            yield
        finally:
            self._triggered = False

    def _pump(self, now: datetime) -> None:
        if not self.online or self.away_until:
            return
        self.mailbox.attempts = self.configuration.number("TransactionMessageAttempts")
        self.mailbox.retry_s = self.configuration.number("TransactionMessageRetryInterval")
        frame = self.mailbox.next(now, only_triggered=not self.registered)
        if self.mailbox.lost > self._lost:
            self._lost = self.mailbox.lost
            self.note("gave up on a message about a transaction")
        if frame is None:
            return
        self._out.append(frame)
        letter = self.mailbox.in_flight
        if "duplicate" in self.faults and letter and letter.kept and self.rng.random() < 0.5:
            self._out.append(frame if self.rng.random() < 0.5 else wire.call(new_uid(self.rng), letter.action, letter.body()))

    # -- helpers ---------------------------------------------------------------------------------------------
    def note(self, text: str) -> None:
        """A line for people, and for its diagnostics."""
        self.notes.append(text)
        self._write(text)

    def _write(self, text: str) -> None:
        if self._now is not None:
            self.journal.lines.append((self._now, text))

    def known(self, number: int) -> Outlet:
        outlet = self.outlet(number)
        if outlet is None:
            raise ValueError(f"{self.cp_id} has no connector {number}")
        return outlet

    def soon(self, within_s: tuple[float, float] | None, now: datetime) -> datetime | None:
        return now + timedelta(seconds=self.rng.uniform(*within_s)) if within_s else None

    def _may_raise(self, profile: int) -> bool:
        """TLS needs a root to believe, and its own certificate for profile 3 (security white paper, A05)."""
        return (profile < 2 or self.knows_a_root or bool(self.keys.roots[CENTRAL])) and (profile < 3 or bool(self.keys.chain))


def make(
    cp_id: str,
    plugs: list[Plug],
    *,
    seed: int = 0,
    habits: Habits | None = None,
    faults: frozenset[str] = frozenset(),
    faults_every_s: float = 60.0,
) -> Charger:
    """A charger with one outlet per plug; the same seed lives the same life."""
    rng = random.Random(f"{seed}-{cp_id}")  # noqa: S311 - a toy's dice, not a secret
    outlets = [Outlet(number, plug, register_wh=rng.randrange(50_000, 9_000_000)) for number, plug in enumerate(plugs, start=1)]
    return Charger(cp_id, outlets, rng, habits or Habits(), Faults(rng, faults, faults_every_s))
