"""One world from its seed to its verdict."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest import mock

from django.core.management.color import no_style
from django.db import InterfaceError, OperationalError, connection

from accounts.models import Company
from billing import qr, tariffs
from billing.sandbox import PayRefused
from csms import stations
from csms.models import Connector
from voltaro.celery import BATCH, WORKERS
from voltaro.worldsim import auditor
from voltaro.worldsim.chargers import Line
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.process import Process
from voltaro.worldsim.razorpay import Razorpay

# Cars come for so long; then the faults end, and the world has so long to come to rest.
BUSY_S, CALM_S = 45 * 60, 6 * 3600
# Beats that come oftener find little more, and take the time of many worlds.
LEAST_BEAT_S = 20
LEASE_S = 15.0
# Not part of a day's life, and slow.
LEFT_OUT = {"reconcile", "retention.frames", "retention.readings", "qr.poll"}
KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission", "csms_quirkprofile"}
SIZES = [[("ccs2", 60_000)], [("ccs2", 30_000), ("ccs2", 30_000)], [("type2", 22_000)], [("socket", 3_300)]]


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


class Simulation:
    """Two to three chargers, their riders, Razorpay, our workers. `only`: these faults and no others."""

    def __init__(self, seed: int, only: frozenset[str] | None = None) -> None:
        self.clockwork = Clockwork(seed)
        self.faults = Faults(self.clockwork.dice("faults"), only)
        self.dice = self.clockwork.dice("people")
        self.process = Process(self.clockwork, self.faults, self._ring)
        self.razorpay = Razorpay(self.clockwork, self.faults)
        self.razorpay.process = self.process
        self.lines: list[Line] = []
        self.bells = self.clockwork.dice("bells")
        self.paid = 0

    def live(self) -> Verdict:
        verdict = Verdict(self.clockwork.seed)
        _empty()
        with ExitStack() as stack:
            stack.callback(self.razorpay.stop)
            for name, stand_in in self.razorpay.installed().items():
                stack.enter_context(mock.patch(name, stand_in))
            stack.enter_context(self.process.world())
            self._set_up()
            self.clockwork.run_until(BUSY_S)
            verdict.broken += auditor.safety(self.razorpay.sandbox, self.lines)
            self.faults.on = False
            self.clockwork.tell("calm")
            for _ in range(12):
                self.clockwork.run_until(self.clockwork.now_s + CALM_S / 12)
                if not auditor.liveness(self.razorpay.sandbox):
                    break
            verdict.broken += [*auditor.safety(self.razorpay.sandbox, self.lines), *auditor.liveness(self.razorpay.sandbox)]
            self._count(verdict)
        return verdict

    # -- the world's beginning -----------------------------------------------------------------------------------
    def _set_up(self) -> None:
        company = Company.objects.create(name="Voltaro Networks", state="Karnataka")
        tariffs.add("Standard", {}, {"rate_paise_per_kwh": 1525, "gst_bp": 1800, "igst": False, "platform_fee_bp": 0})
        for number in range(self.dice.choice((2, 3))):
            plugs, cp_id = self.dice.choice(SIZES), f"SIM-{number + 1}"
            stations.add_charge_point(
                cp_id, company=company, connectors=len(plugs), type=plugs[0][0], max_power_w=plugs[0][1], no_auth=True
            )
            for connector in Connector.objects.filter(charge_point=cp_id).order_by("connector_id"):
                on, self.faults.on = self.faults.on, False
                qr.ensure_qr(connector)
                self.faults.on = on
            self.lines.append(Line(cp_id, plugs, self.clockwork, self.faults, self.process))
        for name in sorted(set(WORKERS) - LEFT_OUT):
            self.clockwork.after(self.bells.uniform(0, WORKERS[name].every_s), lambda name=name: self._beat(name))
        self.clockwork.after(1.0, self._psp_works)
        self.clockwork.after(LEASE_S, self._leases)
        self.clockwork.after(self.dice.uniform(60, 180), self._rider)

    # -- riders ------------------------------------------------------------------------------------------------
    def _rider(self) -> None:
        if self.clockwork.now_s > BUSY_S - 300:
            return
        places = list(Connector.objects.order_by("charge_point", "connector_id"))
        free = [one for one in places if one.status in ("Available", "Preparing", "Unknown")]
        connector = self.dice.choice(free if free and self.dice.random() < 0.8 else places)
        code = connector.qr_codes.filter(status="active").first()
        # Worth so many minutes at this connector's power, at the tariff with its tax.
        minutes = self.dice.uniform(1, 8)
        paise = max(200, round(connector.max_power_w * minutes / 60_000 * 1_800))
        for _ in range(2 if self.faults.strikes("pays_twice", self.dice) else 1):
            try:
                number = self.razorpay.sandbox.pay(code.razorpay_id, paise, vpa=f"rider{self.paid}@okbank")
            except PayRefused as why:
                self.clockwork.tell(f"could not pay: {why}")
                continue
            self.paid += 1
            self.clockwork.tell(f"paid {number} at {connector}")
        self.clockwork.after(self.dice.uniform(30, 240), self._rider)

    def _psp_works(self) -> None:
        self.razorpay.work()
        self.clockwork.after(1.0 if self.faults.on else 5.0, self._psp_works)

    def _leases(self) -> None:
        """The process lives, and holds these lines (those too that have died without a word)."""
        held = [context.charge_point_pk for line in self.lines for context in (line.context, *line.half_open) if context is not None]
        try:
            self.process.run("leases", stations.renew_leases, "sim", self.clockwork.now(), held)
        except (OperationalError, InterfaceError):
            self.clockwork.tell("leases were not renewed")
        self.clockwork.after(LEASE_S, self._leases)

    # -- our workers ---------------------------------------------------------------------------------------------
    def _beat(self, name: str) -> None:
        self._work(name)
        late_s = 60.0 if self.faults.strikes("worker_late", self.bells) else 0.0
        every_s = max(WORKERS[name].every_s, LEAST_BEAT_S)
        self.clockwork.after(every_s + late_s, lambda: self._beat(name))

    def _ring(self, bell: str) -> None:
        if self.faults.strikes("bell_lost", self.bells):
            return
        for _ in range(2 if self.faults.strikes("bell_twice", self.bells) else 1):
            for name in sorted(WORKERS):
                if bell in WORKERS[name].bells and name not in LEFT_OUT:
                    self.clockwork.after(self.bells.uniform(0.05, 2.0), lambda name=name: self._work(name))

    def _work(self, name: str) -> None:
        try:
            done, lived = self.process.run(f"worker {name}", WORKERS[name].function("work"), self.clockwork.now(), BATCH)
        except (OperationalError, InterfaceError):
            return
        if lived and done:
            self.clockwork.tell(f"worker {name}: {done}")

    # -- the end ---------------------------------------------------------------------------------------------------
    def _count(self, verdict: Verdict) -> None:
        clockwork = self.clockwork
        ends = auditor.rows("SELECT stop_reason, flags, resume_count, energy_wh FROM csms_chargingsession ORDER BY id")
        for end in ends:
            clockwork.reach(f"end {end['stop_reason']}")
            for flag in sorted(end["flags"]):
                clockwork.reach(f"flag {flag}")
            if end["resume_count"]:
                clockwork.reach("resumed")
        for refund in auditor.rows("SELECT reason, state FROM billing_refund ORDER BY id"):
            clockwork.reach(f"refund {refund['reason']} {refund['state']}")
        verdict.sessions, verdict.payments, verdict.faults = len(ends), self.paid, self.faults.struck
        verdict.reached, verdict.digest, verdict.trace = clockwork.reached, clockwork.digest, clockwork.trace
        verdict.broken = list(dict.fromkeys(verdict.broken))


def _empty() -> None:
    """The tables of a world that is over. Never a database with anything else in it (the command sees to that)."""
    tables = [name for name in connection.introspection.table_names() if name not in KEPT_TABLES]
    with connection.cursor() as cursor:
        cursor.execute("SET voltaro.allow_truncate = on")
        for sql in connection.ops.sql_flush(no_style(), tables, reset_sequences=True, allow_cascade=True):
            cursor.execute(sql)
        cursor.execute("ALTER SEQUENCE csms_transaction_id RESTART; ALTER SEQUENCE csms_request_id RESTART")
