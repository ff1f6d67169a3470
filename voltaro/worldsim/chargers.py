"""Simulated chargers on simulated lines, and what the cars really took. Their faults are those of real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from csms.simulator import charger as simulated
from csms.simulator import profiles
from csms.simulator.habits import Habits
from csms.simulator.mailbox import Letter
from csms.simulator.outlet import Outlet, Transaction
from csms.simulator.times import read, stamp
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import OF_THE_CHARGER, Faults
from voltaro.worldsim.speech import Speech

if TYPE_CHECKING:
    from voltaro.worldsim.gateways import Gateway, Socket

TICK_S, IDLE_TICK_S, CALM_TICK_S = 5.0, 15.0, 30.0
# Strange habits that a paid session should survive, and what each makes of the energy we can know of.
STRANGE = (
    "starts_twice", "transaction_zero", "unknown_stop", "never_stops", "app_stop", "kwh_in_wh", "session_register", "local_time",
    "unset_clock", "last_meter_value", "post_boot_state", "session_limit", "string_numbers", "number_values", "objects_for_lists",
    "extra_fields", "control_bytes", "null_payload", "boots_always", "chatty_modem", "last_meter_value", "post_boot_state",
    "never_stops", "never_stops", "last_meter_value", "last_meter_value", "post_boot_state", "post_boot_state", "post_boot_state",
    "post_boot_state",
)  # fmt: skip
# Frames that are facts: once answered, they are in our log for ever.
FACTS = {"StartTransaction", "StopTransaction", "MeterValues"}
MINUTE_S, DAY_S = 60.0, 24 * 3600.0
MUTE_S = 3.2 * 3600  # longer than SESSION_SILENCE_S
METER_FAULTS = ("meter_reset", "meter_back", "meter_jump", "meter_frozen", "meter_unread")


class Line:
    """One charger, its socket while it has one, and what it really delivered."""

    def __init__(self, cp_id: str, plugs: list[tuple[str, int]], clockwork: Clockwork, faults: Faults, gateways: list[Gateway]) -> None:
        self.cp_id, self.clockwork, self.faults, self.gateways = cp_id, clockwork, faults, gateways
        self.dice = clockwork.dice(f"line {cp_id}")
        mine = frozenset(faults.any_of(OF_THE_CHARGER, self.dice))
        picked = self.dice.sample(STRANGE, self.dice.choice((1, 1, 2)))
        if plugs[0][0] == "socket" and self.dice.random() < 0.4:
            picked = ["never_stops"]
        self.strange = frozenset(picked if faults.strikes("strange", self.dice) else ())
        every_s = self.dice.choice((0, 20, 30, 60, 60) if plugs[0][0] != "socket" else (30, 60))
        habits = Habits(
            sample_every_s=300 if faults.strikes("reads_seldom", self.dice) else every_s,
            arrives_after_s=(5, 60),
            leaves_after_s=(5, 45),
            transaction_data=self.dice.random() < 0.3,
            strange=self.strange,
        )
        self.box = simulated.make(
            cp_id, [profiles.plug(*plug) for plug in plugs], seed=clockwork.seed, habits=habits, faults=mine, faults_every_s=300
        )
        for name in sorted(mine | self.strange):
            clockwork.reach(f"charger {name}", cp_id)
        self.socket: Socket | None = None
        self.flaps = 0
        self.mute_until_s = -1.0
        self.speech = Speech(self.box, habits, clockwork, faults, self._taken_wh)
        self.meter_wrong: set[int] = set()  # transactions (by id()) whose registers lied
        self.frozen: set[int] = set()
        self.unread: dict[int, float] = {}  # by outlet: where its register truly stands while it shows 0
        self.taken_wh: dict[int, tuple[Transaction, float]] = {}  # by id(): the transaction, and what the car took
        self.facts: dict[str, str] = {}  # message ids of facts that were sent, by action
        self.acknowledged: list[tuple[str, str]] = []
        self.starts: set[tuple[Any, ...]] = set()  # each start it ever said, however often
        self.stopped_at: dict[str, float] = {}  # message id of a stop: when it truly happened
        self.others: Callable[[], list[Line]] = lambda: []
        for outlet in self.box.outlets:
            outlet.flow = partial(self._flow, outlet)  # type: ignore[method-assign]
        clockwork.after(self.dice.uniform(0, 5), self._tick)
        clockwork.after(self.dice.uniform(0, 10), self.connect)
        clockwork.after(self.dice.uniform(0, MINUTE_S), self._minute)

    # -- what cars take --------------------------------------------------------------------------------------------
    def _flow(self, outlet: Outlet, seconds: float, now: Any) -> None:
        before, tx = outlet.register_wh, outlet.transaction
        Outlet.flow(outlet, seconds, now)
        if tx is not None:
            taken = self.taken_wh.get(id(tx), (tx, 0.0))[1] + outlet.register_wh - before
            self.taken_wh[id(tx)] = (tx, taken)
            if id(tx) in self.frozen:
                outlet.register_wh = before
            elif outlet.number in self.unread:
                self.unread[outlet.number] += outlet.register_wh - before
                outlet.register_wh = before
        else:
            self._read_again(outlet)

    def _taken_wh(self, transaction: Any) -> float:
        """By the number that the charger knows its transaction by."""
        return next((wh for tx, wh in self.taken_wh.values() if tx.id == transaction), 0.0)

    # -- the line's life -------------------------------------------------------------------------------------------
    def connect(self) -> None:
        if self.socket is not None:
            return
        if self.box.away_until is not None and self.clockwork.now() < self.box.away_until:
            self.clockwork.after(5.0, self.connect)
            return
        up = [gateway for gateway in self.gateways if gateway.up]
        socket = self.dice.choice(up).admit(self) if up else None
        if socket is None:
            self.clockwork.after(self.dice.uniform(2, 15), self.connect)
            return
        self.socket = socket
        self.clockwork.tell(f"{self.cp_id} connects to {socket.gateway.address}, epoch {socket.context.epoch}")
        older = [one for gateway in self.gateways for one in gateway.all if one.line is self and one is not socket]
        if older and any(outlet.transaction for outlet in self.box.outlets):
            self.clockwork.reach("takeover_while_charging", self.cp_id)
        self.box.opened(self.clockwork.now())
        self.flush()

    def drop(self, how: str, *, told: bool | None = None) -> None:
        """The charger's end is gone. Our side hears of it now, or believes in its socket for a while."""
        socket, self.socket = self.socket, None
        if socket is None:
            return
        self.box.closed(self.clockwork.now())
        self.clockwork.tell(f"{self.cp_id} line ends: {how}")
        socket.theirs = False
        dead = self.faults.strikes("line_dead", self.dice) if told is None else not told
        if dead:
            self.clockwork.after(self.dice.uniform(30, 150), lambda: socket.close("silent"))
        else:
            socket.close(how)
        self.clockwork.after(self._away_s(), self.connect)

    def leave_for(self, seconds: float) -> None:
        """Away for so long with what runs, in one of three ways: with readings to say, restarted, or with a question first."""
        self.box.away_until = self.clockwork.now() + timedelta(seconds=seconds)
        running = next(outlet for outlet in self.box.outlets if outlet.transaction)
        how = self.dice.choice(("reading", "boot", "question"))
        if how == "boot":
            self.box.restart(self.clockwork.now(), keeps_transactions=True, why="restarts")
            self.box.away_until = self.clockwork.now() + timedelta(seconds=seconds)
        elif how == "question" and running.transaction is not None and running.transaction.id is not None:
            asked = json.dumps({"transactionId": running.transaction.id})
            payload = {"vendorId": "VOLTLYNC", "messageId": "GetLastMeterValue", "data": asked}
            self.box.mailbox.waiting.insert(0, Letter("DataTransfer", payload, kept=True))
        self.drop(f"away for long, comes back with a {how}", told=True)

    def lost(self, socket: Socket, why: str) -> None:
        """Our side has ended the line."""
        if self.socket is socket:
            self.socket = None
            self.box.closed(self.clockwork.now())
            self.clockwork.tell(f"{self.cp_id} line is ended: {why}")
            self.clockwork.after(self.dice.uniform(1, 20), self.connect)

    def _away_s(self) -> float:
        if self.flaps:
            self.flaps -= 1
            self.clockwork.after(self.dice.uniform(8, 14), lambda: self.drop("flaps", told=True))
            return self.dice.uniform(2, 4)
        if self.faults.strikes("flapping", self.dice):
            self.clockwork.reach("flaps", self.cp_id)
            self.flaps = self.dice.randint(3, 5)
        if self.faults.strikes("away_hours", self.dice):
            self.clockwork.reach("away_hours", self.cp_id)
            for outlet in self.box.outlets:  # and the car leaves meanwhile
                if outlet.transaction is not None and outlet.leaves_at is None:
                    outlet.leaves_at = self.clockwork.now() + timedelta(seconds=self.dice.uniform(1, 40))
            return self.dice.uniform(3700, 5400)
        if self.faults.strikes("away_minutes", self.dice):
            self.clockwork.reach("away_minutes", self.cp_id)
            return self.dice.uniform(120, 1000)
        return self.dice.uniform(2, 40)

    # -- time ------------------------------------------------------------------------------------------------------
    @property
    def mute(self) -> bool:
        return self.clockwork.now_s < self.mute_until_s

    @property
    def resting(self) -> bool:
        """Nothing runs, nothing is to be said, nobody is to come or to go, and the line is there."""
        quiet = all(not (one.transaction or one.waiting or one.arrives_at or one.car) for one in self.box.outlets)
        return quiet and self.socket is not None and self.box.mailbox.idle() and not self.box.away_until and not self.mute

    def _tick(self) -> None:
        self.tick()
        busy = any(one.transaction or one.waiting or one.car for one in self.box.outlets) or not self.box.mailbox.idle()
        self.clockwork.after(TICK_S if busy else IDLE_TICK_S if self.faults.on else CALM_TICK_S, self._tick)

    def tick(self) -> None:
        self.box.tick(self.clockwork.now())
        self.box.notes.clear()
        if self.box.away_until is not None and self.socket is not None:
            self.drop("the charger is away")
        self.flush()

    def hear(self, socket: Socket, text: str) -> None:
        """A frame of ours reaches the charger, if it still holds that socket."""
        if self.socket is not socket:
            return
        if text.startswith("[3"):
            uid = json.loads(text)[1]
            if (action := self.facts.pop(uid, None)) is not None:
                self.acknowledged.append((action, uid))
                if uid in self.stopped_at and self.clockwork.now_s - self.stopped_at[uid] > 3600:
                    self.clockwork.reach("stop_after_an_hour", self.cp_id)
        self.box.heard(text, self.clockwork.now())
        self.flush()

    def flush(self) -> None:
        """What the charger has to say goes out, or is lost with its line."""
        if self.socket is None:
            return
        for text in self.box.take():
            if self.socket is None:
                return  # said into a line that has just died
            if self.mute and '"Heartbeat"' not in text and '"BootNotification"' not in text:
                continue
            text = self.speech.bent(text)
            action = self._noted(text)
            if action == "StartTransaction" and self.faults.strikes("away_at_start", self.dice):
                self.clockwork.reach("away_at_start", self.cp_id)
                self.box.away_until = self.clockwork.now() + timedelta(seconds=self.dice.uniform(200, 700))
                self.drop("as a start is said")
                return
            if self.faults.strikes("frame_lost", self.dice):
                self.clockwork.reach("frame_lost", f"{self.cp_id} {action}")
                self.drop("before a frame")
                return
            for _ in range(2 if self.faults.strikes("frame_twice", self.dice) else 1):
                self.socket.carry(text)

    def _noted(self, text: str) -> str:
        """The action, if it is a fact; remembered until it is acknowledged."""
        if not text.startswith("[2,"):
            return ""
        try:
            _, uid, action, payload = json.loads(text)
        except ValueError:
            return ""
        if action in FACTS:
            self.facts[uid] = action
        if action == "StartTransaction":
            self.starts.add(tuple(payload.get(name) for name in ("connectorId", "idTag", "timestamp", "meterStart")))
        if action == "StopTransaction" and not self.strange & {"unset_clock", "local_time"} and not self.speech.skew_s:
            self.stopped_at[uid] = (read(payload["timestamp"]) - self.clockwork.now()).total_seconds() + self.clockwork.now_s
        return str(action)

    # -- what goes wrong by itself -----------------------------------------------------------------------------------
    def _minute(self) -> None:
        self.clockwork.after(MINUTE_S, self._minute)
        self.box.configuration.put("HeartbeatInterval", "120")  # each costs as much as a reading, and says less
        strikes = partial(self.faults.strikes, dice=self.dice)
        for outlet in self.box.outlets:
            if outlet.transaction is not None:
                self._meter(outlet, outlet.transaction)
        running = [outlet for outlet in self.box.outlets if outlet.transaction]
        if strikes("mute") and running:
            self.clockwork.reach("mute", self.cp_id)
            self.mute_until_s = self.clockwork.now_s + MUTE_S
        if strikes("restart") and running and self.socket is not None:
            self.clockwork.reach("restart", self.cp_id)
            self.box.restart(self.clockwork.now(), keeps_transactions=True, why="restarts")
            self.flush()
        if strikes("faulted") and running:
            self.clockwork.reach("faulted", self.cp_id)
            outlet = self.dice.choice(running)
            self._trouble(outlet.number, "GroundFailure")
            self.clockwork.after(self.dice.uniform(30, 240), lambda: self._trouble(outlet.number, "NoError"))
        if strikes("clock_wrong"):
            self.clockwork.reach("clock_wrong", self.cp_id)
            self.speech.set_clock(self.dice.choice((-3600.0, 3600.0, -2.5 * DAY_S, 3.0 * DAY_S, 0.0, 0.0)))
        if self.socket is not None and (text := self.speech.main_meter()):
            self.socket.carry(text)
        if strikes("foreign_stop"):
            self._speak_of_others()
        if strikes("connects_twice") and self.socket is not None:
            self.clockwork.reach("connects_twice", self.cp_id)
            self.drop("it connects again", told=False)
            self.clockwork.after(0.1, self.connect)

    def _trouble(self, number: int, code: str) -> None:
        self.box.trouble(number, code, self.clockwork.now())
        self.flush()

    def _meter(self, outlet: Outlet, tx: Transaction) -> None:
        for name in self.faults.any_of(METER_FAULTS, self.dice):
            self.clockwork.reach(name, f"{self.cp_id} {outlet.number}")
            self.meter_wrong.add(id(tx))
            match name:
                case "meter_reset" if "start_reads_zero" not in self.speech.manner:  # a start at 0 would be true then
                    outlet.register_wh = 0.0
                case "meter_back":
                    outlet.register_wh = max(0.0, outlet.register_wh - self.dice.uniform(100, 20_000))
                case "meter_jump":
                    outlet.register_wh += 10_000_000
                case "meter_frozen":
                    self.frozen.add(id(tx))
                case "meter_unread" if outlet.number not in self.unread:
                    self.unread[outlet.number], outlet.register_wh = outlet.register_wh, 0.0
                    self.clockwork.after(self.dice.uniform(30, 200), partial(self._read_again, outlet))

    def _read_again(self, outlet: Outlet) -> None:
        if outlet.number in self.unread:
            outlet.register_wh = self.unread.pop(outlet.number)

    def _speak_of_others(self) -> None:
        """A stop and a reading of another charger's transaction: its reason is no other stop's in this world."""
        theirs = [one.transaction.id for line in self.others() for one in line.box.outlets if one.transaction and one.transaction.id]
        if not theirs or self.socket is None:
            return
        self.clockwork.reach("foreign_stop", self.cp_id)
        now = stamp(self.clockwork.now())
        number = self.dice.choice(theirs)
        uid = f"foreign{self.dice.getrandbits(60):x}"
        stop = {"transactionId": number, "meterStop": 99_999_999, "timestamp": now, "reason": "EmergencyStop"}
        sampled = [{"value": "11", "measurand": "Power.Active.Import", "unit": "W"}]
        read_ = {"connectorId": 1, "transactionId": number, "meterValue": [{"timestamp": now, "sampledValue": sampled}]}
        self.socket.carry(json.dumps([2, uid + "m", "MeterValues", read_]))
        self.socket.carry(json.dumps([2, uid + "s", "StopTransaction", stop]))
