"""Our end of the chargers' lines: processes that hold sockets, as csms/gateway.py and csms/consumers.py do, without their event loop.

What those two do is done here in the same order with the same services: the inbox of a socket, frames held while the database is
away, answers from memory, planned stops, commands one at a time, leases, wakes, sockets that were replaced and do not know it yet.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from accounts.actor import acting
from csms import commands, dispatch, doors, lines, live, message_writer, sessions, stations
from csms.consumers import HELD_S, HOLD_S, STOP_EVERY_S
from csms.context import Context, HangUp, Held, MaySend, Reply, StopPlanned
from csms.doors import Knock, Opened
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.process import Process

if TYPE_CHECKING:
    from voltaro.worldsim.chargers import Line

LATENCY_S = (0.02, 0.3)
LEASE_EVERY_S = 45.0
WRITE_EVERY_S = 10.0
PRESENCE = {"StatusNotification", "Heartbeat", "BootNotification"}


class Gateway:
    """One server process. `sockets` holds, by charger, the newest socket it knows of."""

    def __init__(self, name: str, clockwork: Clockwork, faults: Faults, process: Process) -> None:
        self.name, self.clockwork, self.faults, self.process = name, clockwork, faults, process
        self.dice = clockwork.dice(name)
        self.lives, self.up = 1, True
        self.sockets: dict[int, Socket] = {}
        self.all: list[Socket] = []
        self._sent: list[tuple[Context, Reply, Any]] = []
        process.deaths[name] = self.die
        clockwork.after(LEASE_EVERY_S * self.dice.random(), self._leases)

    @property
    def address(self) -> str:
        """Its channel, and its process in the rows of connections: a new one with every life."""
        return f"{self.name}#{self.lives}"

    def ours(self, what: str, deed: Any, *given: Any) -> tuple[Any, bool]:
        """A deed of this process that nobody waits for: an error of the database is as good as nothing done."""
        try:
            return self.process.run(self.name, what, deed, *given)
        except self.process.away:
            return None, False

    def admit(self, line: Line) -> Socket | None:
        """A charger knocks."""
        knock = Knock(line.cp_id, "192.0.2.1", f"/ocpp/{line.cp_id}", offered=("ocpp1.6",))
        opened, lived = self.ours(f"{line.cp_id} connects", doors.admit, knock, self.address, self.address)
        if not lived or not isinstance(opened, Opened):
            return None
        socket = Socket(line, self, opened.context)
        if opened.replaced:
            if opened.replaced != self.address:
                told = {"type": "socket.replaced", "charge_point": socket.pk, "epoch": socket.context.epoch}
                live.send(opened.replaced, told)
            self.ours(f"{line.cp_id} replaced", lines.replaced, socket.pk, "192.0.2.1", self.clockwork.now())
        older = self.sockets.get(socket.pk)
        self.sockets[socket.pk] = socket
        self.all.append(socket)
        if older is not None:
            older.close("replaced")
        return socket if self.up else None

    def hear(self, message: dict[str, Any]) -> None:
        """Another process tells us something of a charger of ours."""
        socket = self.sockets.get(message["charge_point"])
        if not self.up or socket is None:
            return
        if message["type"] == "command.waiting":
            socket.send_next()
        elif message["epoch"] > socket.context.epoch:
            socket.close("replaced")

    def poll(self) -> None:
        """Wakes may be lost: one question for all chargers of this process."""
        if self.up and self.sockets:
            found, _ = self.ours("poll", commands.waiting, list(self.sockets), self.clockwork.now())
            for pk in sorted(found or ()):
                if pk in self.sockets:
                    self.sockets[pk].send_next()

    def sent(self, context: Context, reply: Reply) -> None:
        """The log is written a moment later, many frames at once."""
        if not self._sent:
            self.clockwork.after(WRITE_EVERY_S, self._write)
        self._sent.append((context, reply, self.clockwork.now()))

    def _write(self) -> None:
        batch, self._sent = self._sent, []
        if batch and self.up:
            _, lived = self.ours("log", message_writer.sent, batch)
            if not lived and self.up:
                self._sent = [*batch, *self._sent]
                self.clockwork.after(WRITE_EVERY_S, self._write)

    def _leases(self) -> None:
        self.clockwork.after(LEASE_EVERY_S, self._leases)
        self.renew()

    def renew(self) -> None:
        """This process lives, and holds these lines; sockets that were replaced and never heard of it go now."""
        if not self.up:
            return
        held, now = sorted(self.sockets), self.clockwork.now()
        if held:
            self.ours("leases", stations.renew_leases, self.address, now, held)
            fenced, _ = self.ours("fenced", stations.fenced, self.address)
            for pk, epoch in fenced or ():
                if pk in self.sockets and self.sockets[pk].context.epoch == epoch:
                    self.sockets[pk].close("replaced")
            lapsed, _ = self.ours("lapsed", stations.lapsed, self.address, held)
            for pk, epoch in lapsed or ():
                if pk in self.sockets and self.sockets[pk].context.epoch == epoch:
                    self.sockets[pk].close("lease ran out", hang_up=True)

    def die(self) -> None:
        """Killed: nobody says goodbye, what was not written is lost, chargers find their lines ended. Then it is started again."""
        self.up = False
        self._sent.clear()
        if any(outlet.transaction for socket in self.all for outlet in socket.line.box.outlets):
            self.clockwork.reach("killed_while_charging", self.name)
        sockets, self.all = self.all, []
        self.sockets.clear()
        for socket in sockets:
            socket.dead()
        self.clockwork.after(self.dice.uniform(2, 20), self._start)

    def _start(self) -> None:
        self.up = True
        self.lives += 1


class Socket:
    """One line. `theirs`: the charger holds its end; `ours`: we hold ours. They may disagree for minutes."""

    def __init__(self, line: Line, gateway: Gateway, context: Context) -> None:
        self.line, self.gateway, self.context = line, gateway, context
        self.clockwork, self.faults, self.dice = gateway.clockwork, gateway.faults, line.dice
        self.theirs = self.ours = True
        self.pk = context.charge_point_pk
        self._inbox: deque[str] = deque()
        self._busy = False
        self._due_s = 0.0
        self._timers: dict[int, int] = {}
        self._tried: dict[int, float] = {}
        self._looks = False  # whether a look at the statuses that are held back is planned

    # -- frames in -------------------------------------------------------------------------------------------------
    def carry(self, text: str) -> None:
        """The charger sends this: it arrives a moment later, in order, even when the charger's end is gone by then."""
        self._due_s = max(self._due_s, self.clockwork.now_s) + self.dice.uniform(*LATENCY_S)
        self.clockwork.after(self._due_s - self.clockwork.now_s, partial(self._arrive, text))

    def _arrive(self, text: str) -> None:
        if self.ours:
            self._inbox.append(text)
            self._work()

    def _work(self) -> None:
        while self._inbox and not self._busy and self.ours:
            self._busy = True
            self._one(self._inbox[0], 0.0)

    def _one(self, text: str, held_s: float) -> None:
        """Work on the first frame of the inbox. While the database is away it is held, and tried again."""
        if not self.ours:
            return
        try:
            if text:
                answered = self._frame(text, held_s)
            else:
                self.gateway.process.run(self.gateway.name, f"{self.line.cp_id} held", dispatch.settle_held, self.context)
                answered = True
        except self.gateway.process.away:
            answered = False
        if answered:
            self._inbox.popleft()
            self._busy = False
            self._work()
        elif not self.ours:
            return
        elif held_s >= HOLD_S:
            self.close("the database is away", hang_up=True)
        else:
            if not held_s and self.gateway.process.database_away and _name(text) == "StopTransaction":
                self.clockwork.reach("database_away_over_a_stop", self.line.cp_id)
            self.clockwork.after(2.0, lambda: self._one(text, held_s + 2.0))

    def _frame(self, text: str, held_s: float) -> bool:
        """Whether it is done with. Raises when the database is away."""
        raw, name = text.encode(), _name(text)
        what = f"{self.line.cp_id} {name}"
        context, old = self.context, not self.theirs
        try:
            reply, lived = self.gateway.process.run(self.gateway.name, what, dispatch.answer, raw, context)
        except self.gateway.process.away:
            if not dispatch.may_not_wait(raw, context) or (reply := dispatch.answer_away(raw, context, held_s)) is None:
                raise
            self.clockwork.reach("answered_from_memory", what)
            lived = True
        if not lived:
            return False
        if old:
            self.clockwork.reach("frame_of_old_socket", what)
        effects = list(context.effects)
        if reply is not None:
            self.clockwork.tell(f"{what} -> {reply.text[:160]}")
            if reply.kept:
                self.gateway.sent(context, reply)
            self._answer(name, reply.text)
        self._carry_out(effects)
        return True

    def _answer(self, name: str, text: str) -> None:
        if self.theirs and self.faults.strikes("answer_lost", self.dice):
            self.clockwork.reach("answer_lost", f"{self.line.cp_id} {name}")
            self.line.drop("before an answer")
        self.say(text)

    def say(self, text: str) -> None:
        if self.theirs:
            self.clockwork.after(self.dice.uniform(*LATENCY_S), lambda: self.line.hear(self, text))

    def _carry_out(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case StopPlanned(session_id=session_id, at=at):
                    self._plan_stop(session_id, at)
                case MaySend():
                    self.send_next()
                case Held() if not self._looks:
                    self._looks = True
                    self.clockwork.after(HELD_S, self._look_at_held)
                case HangUp(reason=reason):
                    self.close(reason, hang_up=True)

    def _look_at_held(self) -> None:
        self._looks = False
        self._arrive("")

    # -- stops and commands ----------------------------------------------------------------------------------------
    def _plan_stop(self, session_id: int, at: Any) -> None:
        number = self._timers[session_id] = self._timers.get(session_id, 0) + 1
        if at is None:
            return
        tried_s = self._tried.get(session_id, -STOP_EVERY_S) + STOP_EVERY_S - self.clockwork.now_s
        wait_s = max(0.0, (at - self.clockwork.now()).total_seconds(), tried_s) + 0.02
        if wait_s < 3600:
            self.clockwork.after(wait_s, lambda: self._stop(session_id, number))

    def _stop(self, session_id: int, number: int) -> None:
        if self.ours and self._timers.get(session_id) == number:
            self._tried[session_id] = self.clockwork.now_s
            self.gateway.ours("limit timer", _stop_if_due, session_id, self.clockwork)

    def send_next(self) -> None:
        """The next command, if this charger may be asked now."""
        if not self.ours or not self.context.may_send(self.clockwork.now()):
            return
        command, lived = self.gateway.ours(f"{self.line.cp_id} send", dispatch.next_command, self.context)
        if lived and command is not None and self.ours:
            self.clockwork.tell(f"{self.line.cp_id} <- {command.text[:160]}")
            self.gateway.sent(self.context, command)
            self.say(command.text)

    # -- ends ------------------------------------------------------------------------------------------------------
    def close(self, reason: str, *, hang_up: bool = False) -> None:
        """We put our end away. `hang_up`: the charger, if it is still there, hears of it now; else its line is dead already or replaced."""
        if not self.ours:
            return
        self.ours = False
        if self.gateway.sockets.get(self.pk) is self:
            del self.gateway.sockets[self.pk]
        if self in self.gateway.all:
            self.gateway.all.remove(self)
        self.clockwork.tell(f"{self.line.cp_id} socket {self.context.epoch} is put away: {reason}")
        if self.theirs:
            self.theirs = False
            self.line.lost(self, reason)
        if self.context.budgets.held:
            self.gateway.ours(f"{self.line.cp_id} held", dispatch.settle_held, self.context)
        if self.gateway.up:
            self.gateway.ours(f"{self.line.cp_id} close", dispatch.closed, self.context, 1001 if hang_up else 1006, reason)

    def dead(self) -> None:
        """Our process is gone, and its end of the line with it."""
        self.ours = False
        if self.theirs:
            self.theirs = False
            self.line.lost(self, "our process died")


def _stop_if_due(session_id: int, clockwork: Clockwork) -> None:
    with acting("worker", "limit timer"):
        sessions.stop_if_due(session_id, clockwork.now())


def _name(text: str) -> str:
    parts = text.split('"', 4)
    return parts[3] if text.startswith("[2,") and len(parts) > 3 else "answer"
