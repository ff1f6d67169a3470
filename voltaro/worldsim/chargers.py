"""Simulated chargers on a simulated line: frames arrive late, twice, or never, and lines die in their own ways."""

import json
from typing import Any

from django.db import InterfaceError, OperationalError

from csms import commands, dispatch, message_writer, sessions, stations
from csms.context import Context, HangUp, Held, MaySend, StopPlanned
from csms.simulator import charger as simulated
from csms.simulator import profiles
from csms.simulator.charger import Habits
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import OF_THE_CHARGER, Faults
from voltaro.worldsim.process import Process

TICK_S = 5.0
POLL_S = 5.0
HOLD_S = 30.0
LATENCY_S = (0.02, 0.4)


class Line:
    """One charger, its socket while it has one, and what it really delivered."""

    def __init__(self, cp_id: str, plugs: list[tuple[str, int]], clockwork: Clockwork, faults: Faults, process: Process) -> None:
        self.cp_id, self.clockwork, self.faults, self.process = cp_id, clockwork, faults, process
        self.dice = clockwork.dice(f"line {cp_id}")
        mine = frozenset(name for name in OF_THE_CHARGER if faults.strikes(name, self.dice))
        self.never_plugs = self.dice.random() < 0.3 and faults.strikes("never_plugs_in", self.dice)
        habits = Habits(
            sample_every_s=self.dice.choice((10, 30, 60)),
            arrives_after_s=None if self.never_plugs else (5, 90),
            leaves_after_s=(5, 60),
            transaction_data=self.dice.random() < 0.3,
        )
        self.box = simulated.make(
            cp_id, [profiles.plug(*plug) for plug in plugs], seed=clockwork.seed, habits=habits, faults=mine, faults_every_s=240
        )
        for name in sorted(mine):
            clockwork.reach(name, cp_id)
        self.context: Context | None = None
        self.half_open: list[Context] = []
        self.generation = 0
        self.delivered_wh: dict[int, tuple[Any, int]] = {}  # by transaction object: it, and what the car took
        self.stops: dict[int, int] = {}
        process.kills.append(self._process_died)
        clockwork.after(self.dice.uniform(0, 5), self._tick)
        clockwork.after(self.dice.uniform(0, 5), self._connect)
        clockwork.after(POLL_S, self._poll)

    # -- the line's life ---------------------------------------------------------------------------------------
    def _connect(self) -> None:
        if self.context is not None:
            return
        known, lived = self._ours("connect", stations.find, self.cp_id)
        if lived and known is not None:
            how = {"process": "sim", "channel": "", "remote_address": "192.0.2.1", "subprotocol": "ocpp1.6"}
            opened, lived = self._ours("connect", lambda: dispatch.opened(known, **how))
            if lived and opened is not None:
                self.context = opened[0]
                self.generation += 1
                self.clockwork.tell(f"{self.cp_id} connects, epoch {self.context.epoch}")
                if self.half_open:
                    self.clockwork.reach("takeover", self.cp_id)
                self.box.opened(self.clockwork.now())
                self._flush()
                return
        self.clockwork.after(self.dice.uniform(2, 10), self._connect)

    def _end(self, how: str, *, told: bool) -> None:
        """The line is gone. `told`: our side hears of it now; else it believes in the socket for a while."""
        context, self.context = self.context, None
        self.box.closed(self.clockwork.now())
        self.clockwork.tell(f"{self.cp_id} line ends: {how}")
        if context is not None and told:
            self._ours("close", dispatch.closed, context, 1006, how)
        elif context is not None:
            self.half_open.append(context)
            self.clockwork.after(self.dice.uniform(30, 150), lambda: self._noticed(context))
        away_s = self.dice.uniform(120, 1500) if self.faults.strikes("away_long", self.dice) else self.dice.uniform(2, 40)
        if self.box.away_until is not None:
            away_s = max(1.0, (self.box.away_until - self.clockwork.now()).total_seconds())
        self.clockwork.after(away_s, self._connect)

    def _noticed(self, context: Context) -> None:
        if context in self.half_open:
            self.half_open.remove(context)
            self._ours("close", dispatch.closed, context, None, "silent")

    def _process_died(self) -> None:
        """Our process is gone: nobody says goodbye, chargers find their line ended."""
        self.half_open.clear()
        if self.context is not None:
            self.context = None
            self.box.closed(self.clockwork.now())
            self.clockwork.after(self.dice.uniform(1, 20), self._connect)

    # -- time --------------------------------------------------------------------------------------------------
    def _tick(self) -> None:
        running = [(outlet, outlet.transaction) for outlet in self.box.outlets if outlet.transaction is not None]
        self.box.tick(self.clockwork.now())
        for outlet, tx in running:
            # A tick may end a transaction, and begin the next one from where that ended.
            end_wh = outlet.meter_wh if outlet.transaction in (tx, None) else outlet.transaction.meter_start_wh
            self.delivered_wh[id(tx)] = (tx, end_wh - tx.meter_start_wh)
        if self.box.away_until is not None and self.context is not None:
            self._end("the charger is away", told=self.dice.random() < 0.5)
        self._flush()
        self.clockwork.after(TICK_S, self._tick)

    def _flush(self) -> None:
        if self.context is None:
            return
        for text in self.box.take():
            if self.faults.strikes("frame_lost", self.dice):
                self.clockwork.reach("frame_lost", self.cp_id)
                self._end("before a frame", told=not self.faults.strikes("line_dead", self.dice))
                return
            generation = self.generation
            for _ in range(2 if self.faults.strikes("frame_twice", self.dice) else 1):
                wait_s = self.dice.uniform(*LATENCY_S)
                self.clockwork.after(wait_s, lambda text=text, generation=generation: self._arrive(text, generation))

    # -- our side ----------------------------------------------------------------------------------------------
    def _arrive(self, text: str, generation: int, held_s: float = 0.0) -> None:
        if self.context is None or generation != self.generation:
            return
        context = self.context
        frame = json.loads(text)
        name = frame[2] if frame[0] == 2 else "answer"
        try:
            reply, lived = self.process.run(f"{self.cp_id} {name}", dispatch.answer, text.encode(), context)
        except (OperationalError, InterfaceError):
            if held_s < HOLD_S:
                self.clockwork.after(1.0, lambda: self._arrive(text, generation, held_s + 1.0))
            else:
                self._end("the database is away", told=True)
            return
        if not lived:
            return
        effects = list(context.effects)
        if reply is not None:
            self.clockwork.tell(f"{self.cp_id} {name} -> {reply.text[:160]}")
            if reply.kept:
                self._ours("log", message_writer.sent, [(context, reply, self.clockwork.now())])
            if self.faults.strikes("answer_lost", self.dice):
                self.clockwork.reach("answer_lost", f"{self.cp_id} {name}")
                self._end("before an answer", told=True)
                return
            self.clockwork.after(self.dice.uniform(*LATENCY_S), lambda: self._hear(reply.text, generation))
        for effect in effects:
            match effect:
                case StopPlanned(session_id=session_id, at=at):
                    self._plan_stop(session_id, at)
                case MaySend():
                    self._send()
                case Held():
                    self._ours("held", dispatch.settle_held, context)
                case HangUp(reason=reason):
                    self._end(reason, told=True)
                    return

    def _hear(self, text: str, generation: int) -> None:
        if self.context is None or generation != self.generation:
            return
        self.box.heard(text, self.clockwork.now())
        self._flush()

    def _plan_stop(self, session_id: int, at: Any) -> None:
        number = self.stops[session_id] = self.stops.get(session_id, 0) + 1
        if at is not None:
            wait_s = (at - self.clockwork.now()).total_seconds()
            if wait_s < 3600:
                self.clockwork.after(wait_s + 0.02, lambda: self._stop(session_id, number))

    def _stop(self, session_id: int, number: int) -> None:
        if self.stops.get(session_id) == number and self.context is not None:
            self._ours("limit timer", sessions.stop_if_due, session_id, self.clockwork.now())
            self._send()

    def _poll(self) -> None:
        if self.context is not None:
            found, _ = self._ours("poll", commands.waiting, [self.context.charge_point_pk], self.clockwork.now())
            if found:
                self._send()
        self.clockwork.after(POLL_S, self._poll)

    def _send(self) -> None:
        if self.context is None or not self.context.may_send(self.clockwork.now()):
            return
        context, generation = self.context, self.generation
        command, lived = self._ours("send", dispatch.next_command, context)
        if lived and command is not None and self.context is context:
            self.clockwork.tell(f"{self.cp_id} <- {command.text[:160]}")
            self._ours("log", message_writer.sent, [(context, command, self.clockwork.now())])
            self.clockwork.after(self.dice.uniform(*LATENCY_S), lambda: self._hear(command.text, generation))

    def _ours(self, what: str, deed: Any, *given: Any) -> tuple[Any, bool]:
        """A deed of our process that nobody waits for: an error of the database is as good as nothing done."""
        try:
            return self.process.run(f"{self.cp_id} {what}", deed, *given)
        except (OperationalError, InterfaceError):
            return None, False
