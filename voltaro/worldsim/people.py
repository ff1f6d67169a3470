"""The people of a world: riders who pay and plug in (or do not), and the operator, who stops, edits, reassigns and refunds."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from accounts.actor import acting
from billing import qr, razorpay, refunds, tariffs
from billing.models import QRCode, QRPayment, Refund
from billing.sandbox import PayRefused
from csms import doubts, sessions
from csms.models import ChargePoint, ChargingSession, Connector
from csms.simulator.outlet import Outlet
from franchise import franchisees, payouts
from franchise.models import CommissionLedgerEntry, Franchisee
from voltaro.worldsim.chargers import Line
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.process import Process
from voltaro.worldsim.razorpay import Razorpay

MINUTE_S = 60.0
PATIENCE_S = (60.0, 300.0)
CARD = "CARD0001"
PRICES = (1200, 1525, 1850, 2199)


class People:
    """`lines` are the chargers. Nothing here looks at a row before it acts, but to find out where to pay."""

    def __init__(self, clockwork: Clockwork, faults: Faults, process: Process, psp: Razorpay, lines: list[Line]) -> None:
        self.clockwork, self.faults, self.process, self.psp, self.lines = clockwork, faults, process, psp, lines
        self.dice = clockwork.dice("people")
        self.paid: dict[str, float] = {}  # Razorpay's payment ids, and when
        self.calm_paid: set[str] = set()
        self.vpas: set[str] = set()
        self.stickers: dict[tuple[str, int], list[str]] = {}  # the QRs at each outlet, the newest last
        self.bank_accounts: dict[str, list[str]] = {}  # of each franchisee, the newest last
        self.left_at: dict[str, float] = {}  # those that are no more: since when (unix seconds)
        self._looked_at: set[int] = set()  # held sessions: some are released at once, others wait for their day to be over
        self._taken_until: dict[tuple[str, int], float] = {}  # somebody stands there with a telephone in hand

    def begin(self, *, every_s: float, until_s: float, at_most: int | None) -> None:
        """Riders come about every so often until then, `at_most` so many."""
        self.every_s, self.until_s, self.left = every_s, until_s, at_most
        self.clockwork.after(self.dice.uniform(30, 90), self._rider)
        self.clockwork.after(MINUTE_S, self._minute)

    # -- riders ------------------------------------------------------------------------------------------------
    def _rider(self) -> None:
        if self.clockwork.now_s > self.until_s or self.left == 0:
            return
        self.clockwork.after(self.dice.expovariate(1 / self.every_s), self._rider)
        if self.ride() and self.left is not None:
            self.left -= 1

    def ride(self) -> bool:
        """Somebody comes, looks for a free outlet (or does not look), and pays. False: everything is taken."""
        places = [(line, outlet) for line in self.lines for outlet in line.box.outlets]
        now_s = self.clockwork.now_s
        for line, outlet in places:
            if outlet.transaction is not None:
                self._taken_until.pop((line.cp_id, outlet.number), None)
        free = [one for one in places if self._looks_free(*one) and self._taken_until.get((one[0].cp_id, one[1].number), 0.0) < now_s]
        if not free and self.dice.random() < 0.95:
            return False
        line, outlet = self.dice.choice(free if free and self.dice.random() < 0.95 else places)
        codes = self.stickers[line.cp_id, outlet.number]
        code = codes[-1]
        if self.faults.strikes("card", self.dice):
            self._swipe(line, outlet)
            return True
        if len(codes) > 1 and self.faults.strikes("old_sticker", self.dice):
            code = codes[0]
        # Worth so many minutes at this outlet's power, at a price with its tax.
        minutes = self.dice.choice((0.1, 1, 2, 2, 3, 5)) * self.dice.uniform(0.5, 1.5)
        paise = max(100, round(outlet.plug.max_power_w * minutes / 60_000 * 1_800))
        self._taken_until[line.cp_id, outlet.number] = now_s + 320
        self._pay(code, paise, line, outlet, minutes)
        if self.faults.strikes("pays_twice", self.dice):
            self.clockwork.reach("pays_twice")
            self.clockwork.after(self.dice.uniform(0, 20), lambda: self._pay(code, paise, line, outlet, minutes))
        return True

    @staticmethod
    def _looks_free(line: Line, outlet: Outlet) -> bool:
        return outlet.idle and outlet.car is None and line.socket is not None and not line.mute

    def _pay(self, code: str, paise: int, line: Line, outlet: Outlet, minutes: float) -> None:
        vpa = f"canary{self.dice.getrandbits(40):x}@okbank"
        try:
            number = self.psp.sandbox.pay(code, paise, vpa=vpa)
        except PayRefused as why:
            self.clockwork.tell(f"could not pay: {why}")
            return
        self.paid[number] = self.clockwork.now_s
        self.vpas.add(vpa)
        if not self.faults.on:
            self.calm_paid.add(number)
        self.clockwork.tell(f"paid {number} {paise} at {line.cp_id} {outlet.number}")
        self._behaves(line, outlet, minutes * 60)
        if self.faults.strikes("refunded_by_hand", self.dice):
            self.clockwork.after(self.dice.uniform(1, 900), lambda: self.psp.refund_by_hand(number))

    def card_soon(self) -> None:
        """Somebody holds a card to a reader within seconds."""
        places = [(line, outlet) for line in self.lines for outlet in line.box.outlets if self._looks_free(line, outlet)]
        for line, outlet in self.dice.sample(places, min(2, len(places))):
            self.clockwork.after(self.dice.uniform(0, 15), partial(self._swipe, line, outlet))

    def _swipe(self, line: Line, outlet: Outlet) -> None:
        """A card at the reader, and again when it has been enough."""
        tag = self.dice.choice((CARD, CARD, "NOBODYS1"))
        self.clockwork.reach("card", f"{line.cp_id} {tag}")

        def swipe() -> None:
            if outlet.car is None:
                line.box.plug_in(outlet.number, self.clockwork.now())
            line.box.swipe(outlet.number, tag, self.clockwork.now())
            line.flush()

        swipe()
        self.clockwork.after(self.dice.uniform(60, 300), lambda: outlet.transaction and swipe())

    def _behaves(self, line: Line, outlet: Outlet, worth_s: float) -> None:
        """What this rider does besides paying for so many seconds."""
        plans = self.faults.any_of(("never_comes", "comes_late", "unplugs_early", "overstays"), self.dice)
        for name in plans:
            self.clockwork.reach(name)
        if "never_comes" in plans or "comes_late" in plans:
            until_s = self.clockwork.now_s + (900.0 if "never_comes" in plans else self.dice.uniform(100, 330))
            self._keep_away(line, outlet, until_s)
        if "unplugs_early" in plans:
            self._when(line, outlet, 600, lambda: outlet.transaction is not None, self.dice.choice((0.0, 4.0, 30.0)), self._unplug)
        if "overstays" in plans:
            self._when(line, outlet, 1200, lambda: outlet.served and outlet.car is not None, 0.0, self._stay)
        else:
            waits_s = worth_s + self.dice.uniform(*PATIENCE_S)
            self._when(line, outlet, 600, lambda: outlet.transaction is not None, 0.0, partial(self._soon_gone, waits_s))

    def _keep_away(self, line: Line, outlet: Outlet, until_s: float) -> None:
        """The car does not come before then, however often the charger is asked."""
        if outlet.waiting and outlet.arrives_at and self.clockwork.now_s < until_s:
            outlet.arrives_at = self.clockwork.now() + timedelta(seconds=until_s - self.clockwork.now_s)
        if self.clockwork.now_s < until_s:
            self.clockwork.after(2.0, lambda: self._keep_away(line, outlet, until_s))

    def _when(
        self, line: Line, outlet: Outlet, patience_s: float, so: Callable[[], bool], wait_s: float, deed: Callable[[Line, Outlet], None]
    ) -> None:
        """Once it is so, and a little later."""
        if so():
            self.clockwork.after(wait_s, lambda: deed(line, outlet))
        elif patience_s > 0:
            self.clockwork.after(4.0, lambda: self._when(line, outlet, patience_s - 4.0, so, wait_s, deed))

    def _unplug(self, line: Line, outlet: Outlet) -> None:
        line.box.unplug(outlet.number, self.clockwork.now())
        line.flush()

    def _soon_gone(self, after_s: float, line: Line, outlet: Outlet) -> None:
        """Whoever has got what they paid for drives on, whatever the charger makes of its remote stop."""
        mine = outlet.transaction
        self.clockwork.after(after_s, lambda: outlet.transaction is mine and self._unplug(line, outlet))

    def _stay(self, line: Line, outlet: Outlet) -> None:
        outlet.leaves_at = self.clockwork.now() + timedelta(seconds=self.dice.uniform(600, 1500))

    # -- the operator ------------------------------------------------------------------------------------------
    def _minute(self) -> None:
        if not self.faults.on:
            return
        self.clockwork.after(MINUTE_S, self._minute)
        if self.faults.strikes("tariff_edited", self.dice):
            self.edit_tariff(self.dice.choice(PRICES))
        if self.faults.strikes("operator_stops", self.dice):
            self._stop_one()
        if self.faults.strikes("reassigned", self.dice):
            line, owner = self.dice.choice(self.lines), self.dice.choice(("Kaveri", "Ganga"))
            self.clockwork.reach("reassigned", f"{line.cp_id} {owner}")
            self.assign(line.cp_id, owner)
        if self.faults.strikes("account_changed", self.dice):
            self._change_account(self.dice.choice(("Kaveri", "Ganga")))
        if self.faults.strikes("held_payouts", self.dice):
            self._hold(self.dice.choice(("Kaveri", "Ganga")))
        if self.faults.strikes("sticker_replaced", self.dice):
            line = self.dice.choice(self.lines)
            self._new_sticker(line, self.dice.choice(line.box.outlets))

    def edit_tariff(self, rate: int) -> None:
        running = any(outlet.transaction for line in self.lines for outlet in line.box.outlets)
        self.clockwork.reach("tariff_edited_mid_session" if running else "tariff_edited", str(rate))
        fee_bp = self.dice.choice((0, 0, 150))
        self._deed(tariffs.add, "Standard", {}, {"rate_paise_per_kwh": rate, "gst_bp": 1800, "igst": False, "platform_fee_bp": fee_bp})

    def assign(self, cp_id: str, owner: str) -> None:
        def deed() -> None:
            row = ChargePoint.objects.get(cp_id=cp_id)
            franchisees.assign(row, Franchisee.objects.get(company__name=owner))

        self._deed(deed)

    def _stop_one(self) -> None:
        def deed() -> None:
            row = ChargingSession.objects.exclude(state="STOPPED").select_related("charge_point").order_by("pk").first()
            if row is not None:
                self.clockwork.reach("operator_stops", str(row.pk))
                if self.dice.random() < 0.5:
                    sessions.ask_stop(row, trigger="operator", requested_by="om")
                else:
                    sessions.finalize(row.pk, "OPERATOR")

        self._deed(deed)

    def _change_account(self, name: str) -> None:
        self.clockwork.reach("account_changed", name)
        number = bank_account(name, len(self.bank_accounts[name]))
        before = list(self.bank_accounts[name])  # not only the last: that one may never have been set
        self.bank_accounts[name].append(number)  # even if we are told that it was not changed

        def deed() -> bool:
            franchisees.link_account(Franchisee.objects.get(company__name=name), number, activated=True)
            return True

        if self._deed(deed):
            self.left_at |= {one: self.clockwork.now().timestamp() for one in before if one not in self.left_at}

    def _hold(self, name: str) -> None:
        self.clockwork.reach("held_payouts", name)
        self._deed(lambda: franchisees.hold(Franchisee.objects.get(company__name=name), "a look at the papers"))
        self.clockwork.after(self.dice.uniform(60, 1200), lambda: self._release(name))

    def _release(self, name: str) -> None:
        self._deed(lambda: franchisees.release(Franchisee.objects.get(company__name=name)))

    def _new_sticker(self, line: Line, outlet: Outlet) -> None:
        """The sticker of an outlet is replaced; the old one still hangs in somebody's photographs."""

        def deed() -> str:
            connector = Connector.objects.get(charge_point=line.cp_id, connector_id=outlet.number)
            for one in QRCode.objects.filter(connector=connector, status="active").order_by("pk"):
                qr.close(one)
            return qr.ensure_qr(connector).razorpay_id

        made = self._deed(deed)
        if not made:
            self.clockwork.after(20.0, lambda: self._new_sticker(line, outlet))
        elif made not in self.stickers[line.cp_id, outlet.number]:
            self.clockwork.reach("new_sticker", line.cp_id)
            self.stickers[line.cp_id, outlet.number].append(made)

    def tidy_up(self) -> None:
        """After the faults a person looks at what waits for one: failed refunds are asked again, what was given up is paid again."""
        for name in ("Kaveri", "Ganga"):
            self._release(name)
        for line in self.lines:
            for outlet in line.box.outlets:
                if outlet.car is not None and outlet.leaves_at is None:  # enough is enough
                    outlet.leaves_at = self.clockwork.now()
        for pk in list(Refund.objects.filter(state="failed").order_by("pk").values_list("pk", flat=True)):
            if self._deed(refunds.again, pk):
                self.clockwork.reach("refund_again", str(pk))
        held = ChargingSession.objects.filter(state="STOPPED", billed_at=None, flags__contains=[doubts.HELD]).order_by("pk")
        for row in list(held):
            if row.pk not in self._looked_at and self.dice.random() < 0.7 and doubts.billable_wh(row) > 0:
                self._deed(doubts.release, row.pk, doubts.billable_wh(row), "looked at")
                self.clockwork.reach("released", str(row.pk))
            self._looked_at.add(row.pk)
        waiting = QRPayment.objects.filter(state="received").exclude(review="").order_by("pk")
        for pk in list(waiting.values_list("pk", flat=True)):
            self._deed(refunds.give_back, pk)
        for pk in list(CommissionLedgerEntry.objects.filter(status="FAILED").order_by("pk").values_list("pk", flat=True)):
            self._deed(payouts.pay_again, pk, self.clockwork.now())

    def _deed(self, deed: Callable[..., Any], *given: Any) -> Any:
        """Something a person does in the console. An error page means: perhaps, look again."""
        what = getattr(deed, "__qualname__", "deed").split(".")[-1]
        try:
            with acting("user", "om"):
                return self.process.run("web", f"om {what}", deed, *given)[0]
        except (*self.process.away, razorpay.TryAgain, razorpay.Unknown, razorpay.Declined):
            return None


def bank_account(name: str, nth: int) -> str:
    """The id of a franchisee's linked account: their first is 0."""
    return f"acc_{name}{nth:0{14 - len(name)}}"
