"""One world from its seed to its verdict."""

import gc
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

from django.core.management.color import no_style
from django.db import connection
from django.test import override_settings

from accounts.models import Company
from billing import qr, tariffs
from csms import stations
from csms.models import ChargePoint, Connector, IdTag
from franchise import franchisees
from franchise.models import Contract, Franchisee, LinkedAccount
from voltaro.worldsim import coverage, tables
from voltaro.worldsim.auditor import Auditor
from voltaro.worldsim.chargers import Line
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.gateways import Gateway
from voltaro.worldsim.people import CARD, People, bank_account
from voltaro.worldsim.process import Process
from voltaro.worldsim.razorpay import SETTINGS, Razorpay
from voltaro.worldsim.workers import Workers

# Cars come for so long; then the faults end, and the world has so long to come to rest.
BUSY_S, CALM_S = 40 * 60, 36 * 3600
LOOK_EVERY_S, STEP_S, LONGEST_JUMP_S = 600.0, 60.0, 7200.0
CALM_RIDERS = 1
RIDE_S = 420.0
TIDY_EVERY_S = 480.0
KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission"}
SIZES = [
    [("ccs2", 60_000)],
    [("ccs2", 30_000), ("ccs2", 30_000)],
    [("type2", 22_000)],
    [("type2", 7_400), ("type2", 7_400)],
    [("socket", 3_300)],
]


@dataclass(frozen=True)
class Plan:
    """How large a world is. None: as its seed says."""

    chargers: int | None = None
    riders: int | None = None  # at most
    busy_s: float = BUSY_S


@dataclass
class Verdict:
    seed: int
    sessions: int = 0
    payments: int = 0
    faults: int = 0
    broken: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    trace: list[str] = field(default_factory=list)
    struck: list[tuple[str, int]] = field(default_factory=list)


class Simulation:
    """Some chargers, their riders, Razorpay, our processes. `only`, `chances`: these faults and no others (faults.py)."""

    def __init__(
        self,
        seed: int,
        only: frozenset[str] | None = None,
        *,
        plan: Plan = Plan(),
        without: frozenset[tuple[str, int]] = frozenset(),
        tape: frozenset[tuple[str, int]] | None = None,
        chances: dict[str, float] | None = None,
        until_s: float | None = None,
    ) -> None:
        self.plan = plan
        self.clockwork = Clockwork(seed)
        if until_s is not None:
            self.clockwork.end_s = until_s
        self.faults = Faults(self.clockwork.dice("faults"), only, without, tape, chances)
        self.dice = self.clockwork.dice("world")
        self.process = Process(self.clockwork, self.faults)
        self.gateways = [Gateway(name, self.clockwork, self.faults, self.process) for name in ("gate-1", "gate-2")]
        self.lines: list[Line] = []

    def live(self) -> Verdict:
        verdict = Verdict(self.clockwork.seed)
        with ExitStack() as stack:
            gc.disable()  # a world is small, and is thrown away as a whole
            stack.callback(gc.enable)
            stack.enter_context(override_settings(**SETTINGS))
            empty()
            self.razorpay = Razorpay(self.clockwork, self.faults, self.process)
            stack.callback(self.razorpay.stop)
            for name, stand_in in self.razorpay.installed().items():
                stack.enter_context(mock.patch(name, stand_in))
            stack.enter_context(self.process.world())
            self._set_up()
            auditing = Auditor(self.razorpay, self.lines, self.people, self.process)
            self._live(auditing, verdict)
            coverage.count(self.clockwork)
            self._count(verdict)
        return verdict

    def _live(self, auditing: Auditor, verdict: Verdict) -> None:
        """Faults first: what may never be is looked for now and then, and at the end. Then calm: everything must come to its end."""
        while self.clockwork.now_s < self.plan.busy_s and not verdict.broken:
            self.clockwork.run_until(min(self.clockwork.now_s + LOOK_EVERY_S, self.plan.busy_s))
            verdict.broken += auditing.safety()
            if self.clockwork.now_s >= self.clockwork.end_s:
                return
        if verdict.broken:
            return
        self._grow_calm()
        asked_s = self.clockwork.now_s
        while self.clockwork.now_s < asked_s + CALM_S:
            self._step()
            if self.clockwork.now_s >= self.clockwork.end_s:
                return
            if self._rested() and not auditing.liveness():
                break
        verdict.broken += [*auditing.safety(), *auditing.liveness(), *auditing.end()]

    def _grow_calm(self) -> None:
        self.faults.on = False
        self.process.database_away_until_s = self.process.redis_away_until_s = self.workers.away_until_s = -1.0
        self.clockwork.tell("calm")
        for line in self.lines:
            line.flaps = 0
        self._tidy_s, self._jump_s = self.clockwork.now_s + TIDY_EVERY_S, STEP_S
        self._calm_riders, self._awake_s = CALM_RIDERS, 0.0

    def _step(self) -> None:
        """A minute of the calm: as it is while something is going on; in leaps, ever longer ones, when only time must pass."""
        if self._rested():
            self._jump_s = min(self._jump_s * 1.5, LONGEST_JUMP_S)
            self.clockwork.leap(self._jump_s)
            for gateway in self.gateways:
                gateway.renew()
        else:
            self._jump_s = STEP_S
            self.clockwork.run_until(self.clockwork.now_s + STEP_S)
        self.razorpay.work()
        self.workers.beat()
        if self.clockwork.now_s >= self._tidy_s:
            self._tidy_s = self.clockwork.now_s + TIDY_EVERY_S
            self.razorpay.finish()
            self.people.tidy_up()
            if self._calm_riders and all(line.socket for line in self.lines):
                self._calm_riders -= 1
                if self.people.ride():
                    self._awake_s = self.clockwork.now_s + RIDE_S

    def _rested(self) -> bool:
        return self._calm_riders == 0 and self.clockwork.now_s > self._awake_s and all(line.resting for line in self.lines)

    # -- the world's beginning -----------------------------------------------------------------------------------
    def _set_up(self) -> None:
        network = Company.objects.create(name="Voltaro Networks", state="Karnataka")
        accounts: dict[str, list[str]] = {}
        for name, borne in (("Kaveri", "platform"), ("Ganga", "franchisee")):
            company = Company.objects.create(name=name, parent=network, state="Karnataka")
            row = Franchisee.objects.create(company=company, contact_name=name, email=f"{name.lower()}@example.in")
            Contract.objects.create(franchisee=row, share_bp=7000, tds_bp=10, fee_borne_by=borne)
            account = bank_account(name, 0)
            LinkedAccount.objects.create(franchisee=row, razorpay_id=account, status="activated")
            accounts[name] = [account]
        IdTag.objects.create(tag=CARD, kind=IdTag.Kind.RFID, company=network)
        tariffs.add("Standard", {}, {"rate_paise_per_kwh": 1525, "gst_bp": 1800, "igst": False, "platform_fee_bp": 0})
        self.faults.on = False
        self.people = People(self.clockwork, self.faults, self.process, self.razorpay, self.lines)
        self.people.bank_accounts = accounts
        number = self.plan.chargers or self.dice.choice((5, 6, 7))
        made = [(f"SIM-{place + 1}", self.dice.choice(SIZES)) for place in range(number)]
        for cp_id, plugs in made:
            self._charger(cp_id, plugs, network)
        self.faults.on = True
        for cp_id, plugs in made:
            line = Line(cp_id, plugs, self.clockwork, self.faults, self.gateways)
            line.others = lambda me=line: [one for one in self.lines if one is not me]
            self.lines.append(line)
        for line in self.lines:
            if (knows := {name: True for name in ("post_boot_state", "session_limit") if name in line.strange}) or self.dice.random() < 0.2:
                ChargePoint.objects.filter(cp_id=line.cp_id).update(quirk_settings=knows or {"post_boot_state": True})
        self.workers = Workers(self.clockwork, self.faults, self.process, self._poll)
        self.process.wake = self._wake
        self.process.heard = coverage.Listener(self.clockwork, self.process).heard
        outlets = sum(len(plugs) for _, plugs in made)
        self.people.begin(every_s=140 / outlets, until_s=self.plan.busy_s - 120, at_most=self.plan.riders)
        self.clockwork.after(1.0, self._psp_works)
        self.clockwork.after(60.0, self._minute)

    def _charger(self, cp_id: str, plugs: list[tuple[str, int]], network: Company) -> None:
        row, _, _ = stations.add_charge_point(
            cp_id, company=network, connectors=len(plugs), type=plugs[0][0], max_power_w=plugs[0][1], no_auth=True
        )
        if (owner := self.dice.choice(("Kaveri", "Ganga", ""))) != "":
            franchisees.assign(row, Franchisee.objects.get(company__name=owner))
        for connector in Connector.objects.filter(charge_point=cp_id).order_by("connector_id"):
            self.people.stickers[cp_id, connector.connector_id] = [qr.ensure_qr(connector).razorpay_id]

    # -- what passes between our processes, and what takes them all ------------------------------------------------
    def _wake(self, channel: str, message: dict[str, Any]) -> None:
        if self.process.redis_away or self.faults.strikes("wake_lost", self.dice):
            return
        for gateway in self.gateways:
            if gateway.address == channel:
                self.clockwork.after(self.dice.uniform(0.01, 0.2), partial(gateway.hear, message))
                return

    def _poll(self) -> None:
        for gateway in self.gateways:
            gateway.poll()

    def _psp_works(self) -> None:
        self.razorpay.work()
        self.clockwork.after(2.0 if self.faults.on else 5.0, self._psp_works)

    def _minute(self) -> None:
        self.clockwork.after(60.0, self._minute)
        now_s, dice = self.clockwork.now_s, self.dice
        if self.faults.strikes("database_away", dice):
            self.clockwork.reach("database_away")
            self.process.database_away_until_s = now_s + dice.choice((2, 10, 35, 120, 600)) * dice.uniform(0.5, 1)
            self.people.card_soon()
        if self.faults.strikes("redis_away", dice):
            self.clockwork.reach("redis_away")
            self.process.redis_away_until_s = now_s + dice.uniform(60, 600)
        if self.faults.strikes("workers_away", dice):
            self.clockwork.reach("workers_away")
            away_s = dice.choice((300, 1100, 1100)) * dice.uniform(1, 1.5)
            self.workers.away_until_s = now_s + away_s
            running = [line for line in self.lines if line.socket and any(one.transaction for one in line.box.outlets)]
            for line in dice.sample(running, min(2, len(running))):
                line.leave_for(dice.uniform(905, max(910, away_s - 60)))
        if self.faults.strikes("storm", dice):
            self.clockwork.reach("storm")
            for line in self.lines:
                line.drop("the mobile network is gone", told=False)

    # -- the end ---------------------------------------------------------------------------------------------------
    def _count(self, verdict: Verdict) -> None:
        [[verdict.sessions]] = tables.values("SELECT count(*) FROM csms_chargingsession")
        verdict.payments, verdict.faults = len(self.people.paid), len(self.faults.struck)
        verdict.reached, verdict.digest, verdict.trace = self.clockwork.reached, self.clockwork.digest, self.clockwork.trace
        verdict.struck = list(self.faults.struck)
        verdict.broken = list(dict.fromkeys(verdict.broken))


def empty() -> None:
    """The tables of a world that is over. Never a database with anything else in it: voltaro/worldsim/arena.py makes one."""
    if not str(connection.settings_dict["NAME"]).startswith(("worldsim_", "test_")):
        raise RuntimeError(f"{connection.settings_dict['NAME']} is no database of worlds: it stays as it is.")
    tables = [name for name in connection.introspection.table_names() if name not in KEPT_TABLES]
    with connection.cursor() as cursor:
        cursor.execute("SET voltaro.allow_truncate = on; SET synchronous_commit = off")
        for sql in connection.ops.sql_flush(no_style(), tables, reset_sequences=True, allow_cascade=True):
            cursor.execute(sql)
        cursor.execute("ALTER SEQUENCE csms_transaction_id RESTART; ALTER SEQUENCE csms_request_id RESTART")
