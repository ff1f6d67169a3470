"""A charger that speaks OCPP 1.6J, without a wire and without a clock.

    charger.opened(now); charger.heard(text, now); charger.tick(now); charger.closed(now)
    for frame in charger.take(): ...          # what it says
    if charger.away_until: ...                # it hangs up and comes back then

`plug_in`, `unplug` and `swipe` are what the person at the charger does. Notes for people gather in `notes`.
"""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from csms.simulator import answers, wire
from csms.simulator.car import Car
from csms.simulator.configuration import Configuration
from csms.simulator.faults import Faults
from csms.simulator.mailbox import Letter, Mailbox, new_uid
from csms.simulator.outlet import Outlet, Transaction, Waiting, stamp
from csms.simulator.profiles import Plug, some_car

# A gap longer than this is a machine that slept: the meter did not run meanwhile.
LONGEST_TICK_S = 30


@dataclass
class Habits:
    """What this charger and the people around it do by themselves. Seconds; a pair is a range to choose from."""

    sample_every_s: int = 2
    arrives_after_s: tuple[float, float] | None = (1.5, 4.0)  # a driver comes after a remote start; None: nobody does
    leaves_after_s: tuple[float, float] | None = (3.0, 8.0)  # and goes after the end, or when the car is full
    boots_in_s: tuple[float, float] = (3.0, 6.0)
    transaction_data: bool = False
    vendor: str = "Voltaro"
    model: str = "Simulated"
    firmware: str = "1.4.2"


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
    away_until: datetime | None = None
    reset_reason: str = ""
    reset_by: datetime | None = None
    firmware: str = ""
    firmware_waiting: str = ""
    jobs: list[tuple[datetime, str]] = field(default_factory=list)  # firmware and diagnostics: (when, status to report)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults = self.faults or Faults(self.rng)
        self.firmware = self.firmware or self.habits.firmware
        self.configuration = Configuration(
            NumberOfConnectors=str(len(self.outlets)), MeterValueSampleInterval=str(self.habits.sample_every_s)
        )
        self.mailbox = Mailbox(self.rng)
        self._out: list[str] = []
        self._ticked_at: datetime | None = None
        self._heartbeat_at: datetime | None = None
        self._lost = 0

    # -- the line --------------------------------------------------------------------------------------------
    def opened(self, now: datetime) -> None:
        """The socket is open. Only a charger that has (re)started boots; after a mere disconnect it carries on."""
        self.online, self.away_until = True, None
        self._heartbeat_at = None
        if self.registered:
            self._tell_statuses(now)
        else:
            self.boot(now)
        self._pump(now)

    def closed(self, now: datetime) -> None:
        self.online = False
        self.mailbox.cut()
        self._out.clear()

    def heard(self, text: str | bytes, now: datetime) -> None:
        """A frame of the server's. What is no frame is ignored, as chargers do."""
        try:
            frame = wire.read(text)
        except wire.Unreadable as why:
            self.notes.append(f"heard no OCPP: {why}")
            return
        if frame.kind == wire.CALL:
            self._out.append(answers.answer(self, frame, now))
        elif frame.kind == wire.RESULT:
            self.mailbox.answered(frame.uid, frame.payload, now)
        else:
            if self.mailbox.in_flight is not None and frame.uid == self.mailbox.uid:
                self.notes.append(f"{self.mailbox.in_flight.action} was refused: {frame.code} {frame.description}")
            self.mailbox.refused(frame.uid, now)
        self._tell_statuses(now)
        self._pump(now)

    def take(self) -> list[str]:
        """The frames to send now, in order."""
        frames, self._out = self._out, []
        return frames

    # -- time ------------------------------------------------------------------------------------------------
    def tick(self, now: datetime) -> None:
        """Time has passed: currents flow, cars come and go, samples are due."""
        seconds = min((now - self._ticked_at).total_seconds(), LONGEST_TICK_S) if self._ticked_at else 0.0
        self._ticked_at = now
        for outlet in self.outlets:
            if seconds > 0:
                outlet.flow(seconds, now)
            self._live(outlet, now)
        self._maintain(now)
        if self.online and self.registered:
            self._heartbeat(now)
            self._strike(now)
        elif self.online and self.boot_again_at and now >= self.boot_again_at:
            self.boot(now)
        self._tell_statuses(now)
        self._pump(now)

    def _live(self, outlet: Outlet, now: datetime) -> None:
        if outlet.reserved and now >= outlet.reserved[2]:
            outlet.reserved = None
        if outlet.arrives_at and now >= outlet.arrives_at:
            outlet.arrives_at = None
            if outlet.car is None:
                self.plug_in(outlet.number, now)
        if outlet.leaves_at and now >= outlet.leaves_at:
            self.unplug(outlet.number, now)
        if outlet.waiting and now >= outlet.waiting.until:
            self.notes.append(f"{outlet.number}: nobody plugged in, the start is forgotten")
            outlet.waiting = outlet.arrives_at = None
        tx = outlet.transaction
        if tx is None:
            return
        if tx.stop_at and now >= tx.stop_at:
            self.stop(outlet, tx.stop_reason, now)
            return
        every = timedelta(seconds=self.configuration.number("MeterValueSampleInterval"))
        if every and now - (tx.sampled_at or tx.started_at) >= every:
            tx.sampled_at = now
            self.sample(outlet, tx, now)
        if outlet.car and outlet.car.full and outlet.leaves_at is None:
            outlet.leaves_at = self._soon(self.habits.leaves_after_s, now)

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

    # -- the person at the charger ---------------------------------------------------------------------------
    def outlet(self, number: int) -> Outlet | None:
        return next((one for one in self.outlets if one.number == number), None)

    def plug_in(self, number: int, now: datetime, car: Car | None = None) -> None:
        outlet = self._known(number)
        outlet.car, outlet.served, outlet.leaves_at = car or some_car(outlet.plug, self.rng), False, None
        if outlet.waiting and not outlet.faulted:
            self._tell_statuses(now)  # Preparing comes before the start
            granted, outlet.waiting = outlet.waiting, None
            self._start(outlet, granted.id_tag, now)
        elif self.habits.leaves_after_s:
            outlet.leaves_at = now + timedelta(seconds=self.configuration.number("ConnectionTimeOut") * 3)

    def unplug(self, number: int, now: datetime) -> None:
        outlet = self._known(number)
        if outlet.transaction:
            self.stop(outlet, "EVDisconnected", now)
        outlet.car = outlet.leaves_at = None
        outlet.served = False

    def swipe(self, number: int, id_tag: str, now: datetime) -> None:
        """A card at the reader: ends the transaction it began, or asks the server for a new one."""
        outlet = self._known(number)
        if outlet.transaction:
            if outlet.transaction.id_tag == id_tag:
                self.stop(outlet, "Local", now)
            return
        self._authorize(outlet, id_tag, now)

    # -- transactions ----------------------------------------------------------------------------------------
    def remote_start(self, outlet: Outlet, id_tag: str, now: datetime) -> None:
        """A remote start that was accepted: with the car there it starts, otherwise it waits for one."""
        if self.configuration.on("AuthorizeRemoteTxRequests"):
            self._authorize(outlet, id_tag, now)
        else:
            self._granted(outlet, id_tag, now)

    def _authorize(self, outlet: Outlet, id_tag: str, now: datetime) -> None:
        def heard(answer: dict[str, Any], at: datetime) -> None:
            if answer.get("idTagInfo", {}).get("status") == "Accepted" and outlet.transaction is None:
                self._granted(outlet, id_tag, at)
            else:
                self.notes.append(f"{outlet.number}: the tag was not accepted")

        self.say("Authorize", {"idTag": id_tag}, on_answer=heard)

    def _granted(self, outlet: Outlet, id_tag: str, now: datetime) -> None:
        if outlet.car is not None:
            outlet.leaves_at = None
            self._start(outlet, id_tag, now)
            return
        outlet.waiting = Waiting(id_tag, now + timedelta(seconds=self.configuration.number("ConnectionTimeOut")))
        outlet.arrives_at = self._soon(self.habits.arrives_after_s, now)

    def _start(self, outlet: Outlet, id_tag: str, now: datetime) -> None:
        tx = outlet.transaction = Transaction(id_tag, now, outlet.meter_wh)
        payload: dict[str, Any] = {
            "connectorId": outlet.number,
            "idTag": id_tag,
            "meterStart": tx.meter_start_wh,
            "timestamp": stamp(now),
        }
        if outlet.reserved:
            payload["reservationId"] = outlet.reserved[0]
            outlet.reserved = None
        tx.begin = outlet.samples("Transaction.Begin", "Energy.Active.Import.Register")
        self.say_start(tx, payload)

    def say_start(self, tx: Transaction, payload: dict[str, Any]) -> None:
        outlet = self._known(payload["connectorId"])

        def heard(answer: dict[str, Any], at: datetime) -> None:
            tx.id = answer.get("transactionId")
            status = answer.get("idTagInfo", {}).get("status")
            self.notes.append(f"{outlet.number}: transaction {tx.id} started ({status})")
            if status != "Accepted" and self.configuration.on("StopTransactionOnInvalidId") and outlet.transaction is tx:
                self.stop(outlet, "DeAuthorized", at)

        self._keep("StartTransaction", payload, tx, heard)

    def sample(self, outlet: Outlet, tx: Transaction, now: datetime) -> None:
        measurands = self.configuration["MeterValuesSampledData"]
        samples = outlet.samples("Sample.Periodic", measurands, self.faults.register_wh(outlet.meter_wh))
        self._keep("MeterValues", {"connectorId": outlet.number, "meterValue": [{"timestamp": stamp(now), "sampledValue": samples}]}, tx)

    def stop(self, outlet: Outlet, reason: str, now: datetime) -> None:
        """End the transaction there; the current stops at once."""
        tx, outlet.transaction = outlet.transaction, None
        if tx is None:
            return
        outlet.served, outlet.leaves_at, outlet.limit_w = True, self._soon(self.habits.leaves_after_s, now), None
        if not outlet.plug.knows_the_car and outlet.leaves_at is None:
            outlet.car = None
        payload: dict[str, Any] = {"meterStop": outlet.meter_wh, "timestamp": stamp(now), "reason": reason}
        if reason in ("Local", "Remote", "EVDisconnected"):
            payload["idTag"] = tx.id_tag
        if self.habits.transaction_data:
            end = outlet.samples("Transaction.End", "Energy.Active.Import.Register")
            payload["transactionData"] = [
                {"timestamp": stamp(tx.started_at), "sampledValue": tx.begin},
                {"timestamp": stamp(now), "sampledValue": end},
            ]
        if outlet.inoperative_later:
            outlet.operative, outlet.inoperative_later = False, False
        taken_wh = outlet.meter_wh - tx.meter_start_wh
        self.notes.append(f"{outlet.number}: transaction {tx.id} stopped after {taken_wh / 1000:.3f} kWh ({reason})")
        self._keep("StopTransaction", payload, tx)

    def remote_stop(self, outlet: Outlet, now: datetime) -> None:
        tx = outlet.transaction
        if tx is None or tx.deaf:
            return
        if "ignore_remote_stop" in self.faults:
            tx.deaf = True
            return
        wait_s = self.rng.uniform(15, 30) if "late_stop" in self.faults else self.rng.uniform(0.2, 0.8)
        tx.stop_at, tx.stop_reason = now + timedelta(seconds=wait_s), "Remote"

    # -- restarts and absences -------------------------------------------------------------------------------
    def hang_up(self, now: datetime, for_s: float, why: str) -> None:
        self.notes.append(f"{why} for {for_s:.0f} s")
        self.away_until = now + timedelta(seconds=for_s)

    def restart(self, now: datetime, *, keeps_transactions: bool, why: str, reason: str = "PowerLoss") -> None:
        """Restart now: what runs goes on afterwards, or ends with `reason`. What was not yet said is said after the boot."""
        self.registered, self.boot_again_at, self.reset_reason, self.reset_by = False, None, "", None
        self.mailbox.cut()
        for outlet in self.outlets:
            outlet.waiting = outlet.arrives_at = None
            outlet.told = ""
            if not keeps_transactions:
                self.stop(outlet, reason, now)
        self.hang_up(now, self.rng.uniform(*self.habits.boots_in_s), why)

    def _maintain(self, now: datetime) -> None:
        """A reset that was asked for (after what must still be said), and the steps of firmware and diagnostics."""
        if self.reset_reason and (self.mailbox.idle() or (self.reset_by and now >= self.reset_by)):
            self.restart(now, keeps_transactions=False, why="resets", reason=self.reset_reason)
        while self.jobs and self.jobs[0][0] <= now and self.registered:
            answers.do_job(self, self.jobs.pop(0)[1], now)

    # -- words -----------------------------------------------------------------------------------------------
    def boot(self, now: datetime) -> None:
        self.boot_again_at = now + timedelta(seconds=45)
        payload = {
            "chargePointVendor": self.habits.vendor,
            "chargePointModel": self.habits.model,
            "chargePointSerialNumber": f"SIM-{self.cp_id}"[:25],
            "firmwareVersion": self.firmware,
        }
        self.mailbox.add(Letter("BootNotification", payload, on_answer=self._booted))

    def _booted(self, answer: dict[str, Any], now: datetime) -> None:
        interval_s = answer.get("interval", 0)
        if answer.get("status") != "Accepted":
            self.boot_again_at = now + timedelta(seconds=interval_s or 30)
            self.notes.append(f"boot: {answer.get('status')}")
            return
        self.registered, self.boot_again_at = True, None
        if interval_s > 0:
            self.configuration.change("HeartbeatInterval", str(interval_s))
        self.say("StatusNotification", {"connectorId": 0, "status": "Available", "errorCode": "NoError", "timestamp": stamp(now)})
        for outlet in self.outlets:
            outlet.told = ""
        self._tell_statuses(now)

    def _tell_statuses(self, now: datetime) -> None:
        if not (self.online and self.registered):
            return
        for outlet in self.outlets:
            if outlet.status() != outlet.told:
                self.tell_status(outlet, now)

    def tell_status(self, outlet: Outlet, now: datetime) -> None:
        outlet.told = outlet.status()
        self.say(
            "StatusNotification",
            {"connectorId": outlet.number, "status": outlet.told, "errorCode": outlet.error_code, "timestamp": stamp(now)},
        )

    def say(self, action: str, payload: dict[str, Any], on_answer: Any = None) -> None:
        """Something only worth saying now."""
        if self.online:
            self.mailbox.add(Letter(action, payload, on_answer=on_answer))

    def _keep(self, action: str, payload: dict[str, Any], tx: Transaction, on_answer: Any = None) -> None:
        self.mailbox.add(Letter(action, payload, kept=True, transaction=tx, on_answer=on_answer))

    def _pump(self, now: datetime) -> None:
        if not self.online or self.away_until:
            return
        self.mailbox.attempts = self.configuration.number("TransactionMessageAttempts")
        self.mailbox.retry_s = self.configuration.number("TransactionMessageRetryInterval")
        frame = self.mailbox.next(now, only="" if self.registered else "BootNotification")
        if self.mailbox.lost > self._lost:
            self._lost = self.mailbox.lost
            self.notes.append("gave up on a message about a transaction")
        if frame is None:
            return
        self._out.append(frame)
        letter = self.mailbox.in_flight
        if "duplicate" in self.faults and letter and letter.kept and self.rng.random() < 0.5:
            self._out.append(frame if self.rng.random() < 0.5 else wire.call(new_uid(self.rng), letter.action, letter.body()))

    # -- helpers ---------------------------------------------------------------------------------------------
    def _known(self, number: int) -> Outlet:
        outlet = self.outlet(number)
        if outlet is None:
            raise ValueError(f"{self.cp_id} has no connector {number}")
        return outlet

    def _soon(self, within_s: tuple[float, float] | None, now: datetime) -> datetime | None:
        return now + timedelta(seconds=self.rng.uniform(*within_s)) if within_s else None


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
