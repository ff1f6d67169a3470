"""The plug is pulled: kill -9 of the server, and of the worker, in the middle of ten sessions that ten riders have paid for.

Chargers do what chargers do: what was not answered they say again on the next line. Afterwards every session has the energy its car
took, every rider is billed once and given back the rest once, every share is paid once, and the books balance.
"""

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from websockets.exceptions import WebSocketException

from tests.simulate_client import ChargerClient, NoAnswer

pytestmark = pytest.mark.e2e
CHARGERS, RUPEES, EVERY_S, POWER_W = 5, 100, 0.25, 144_000
# What each has taken before anything happens (in half a minute, says the clock): enough to be worth a share.
FIRST_WH = 1_000
GONE = (OSError, WebSocketException, NoAnswer)


@dataclass
class Car:
    """One session as it really was: what the car took, and what of that we acknowledged."""

    connector: dict
    began_wh: int
    register_wh: int = 0
    acknowledged_wh: int = 0
    transaction: int = 0
    stopped: bool = False

    @property
    def taken_wh(self) -> int:
        return self.register_wh - self.began_wh


@dataclass
class Charger:
    """A charger with two cars, on a thread of its own: it delivers until it is told to end, whoever listens."""

    client: ChargerClient
    cars: list[Car]
    ends: threading.Event = field(default_factory=threading.Event)
    vanishes: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def begin(self) -> None:
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self) -> None:
        number = 0
        while not self.ends.is_set():
            if self.vanishes.is_set():
                self.client.drop()
                return
            car, number = self.cars[number % len(self.cars)], number + 1
            car.register_wh += round(POWER_W * EVERY_S / 3600)
            wh = car.register_wh
            self._say("meter", number=1 + self.cars.index(car), car=car, wh=wh, at=datetime.now(UTC))
            car.acknowledged_wh = wh
            time.sleep(EVERY_S / 2)
        for car in self.cars:
            self._say("stop", number=0, car=car, wh=car.register_wh, at=datetime.now(UTC))
            car.stopped = True

    def _say(self, what: str, *, number: int, car: Car, wh: int, at: datetime) -> None:
        """Until it is answered."""
        while not self.vanishes.is_set():
            try:
                if not self.client.connected:
                    self.client.connect()
                if what == "meter":
                    self.client.meter(number, car.transaction, register_wh=wh, power_w=POWER_W, at=at)
                else:
                    self.client.stop(car.transaction, meter_wh=wh, at=at)
                return
            except GONE:
                with suppress(*GONE):
                    self.client.drop()
                time.sleep(0.2)


def set_up(stack) -> list[dict]:
    """Five chargers with two connectors each, made by the product's own command, in one process."""
    made = [f"call_command('add_charger', 'PLUG-{n}', '--connectors', '2', *how)" for n in range(CHARGERS)]
    how = ["--franchisee", "Kaveri", "--station", "Kaveri Hub", "--max-kw", "240", "--json"]
    said = stack.manage("shell", "-v0", "-c", "from django.core.management import call_command\n" + f"how = {how!r}\n" + "\n".join(made))
    found, decoder = [], json.JSONDecoder()
    while said := said.lstrip():
        one, end = decoder.raw_decode(said)
        found.append(one)
        said = said[end:]
    return found


def start(stack) -> list[Charger]:
    """Ten riders pay, and ten cars charge."""
    chargers = []
    for charger in set_up(stack):
        client = stack.connect(charger)
        for connector in charger["connectors"]:
            stack.pay(connector["qr_id"], RUPEES, vpa=f"rider{connector['code'].lower()}@okaxis")
        cars = [Car(connector, 10_000, 10_000) for connector in charger["connectors"]]
        for _ in cars:
            order = client.expect("RemoteStartTransaction", timeout_s=20)
            car = cars[order["connectorId"] - 1]
            answer = client.start(order["connectorId"], order["idTag"], meter_wh=car.began_wh)
            assert answer["idTagInfo"]["status"] == "Accepted"
            car.transaction = answer["transactionId"]
        chargers.append(Charger(client, cars))
    stack.pass_time(30)
    for charger in chargers:
        for car in charger.cars:
            car.register_wh += FIRST_WH
        charger.begin()
    return chargers


def heard_again(stack, chargers: list[Charger]) -> None:
    """Each of their cars has had a reading acknowledged since."""
    before = [car.acknowledged_wh for charger in chargers for car in charger.cars]
    now = [car for charger in chargers for car in charger.cars]
    stack.wait(lambda: all(car.acknowledged_wh > was for car, was in zip(now, before, strict=True)), "the chargers to be heard again")


def over(stack, *chargers: Charger) -> None:
    stack.wait(lambda: all(car.stopped for charger in chargers for car in charger.cars), "the stops to be answered")


def test_the_plug_is_pulled_twice_and_everything_is_right(stack):
    chargers = start(stack)
    try:
        _pulled(stack, chargers)
    finally:
        for charger in chargers:
            charger.vanishes.set()
        for charger in chargers:
            charger.thread.join(15)
            charger.client.end()


def _pulled(stack, chargers: list[Charger]) -> None:
    ends_while_down, ends_in_the_second, ends_well, ends_too, vanishes = chargers
    heard_again(stack, chargers)

    stack.pull_the_plug("server")
    ends_while_down.ends.set()  # its cars are full while nobody listens
    time.sleep(1)
    stack.start_again("server")
    over(stack, ends_while_down)
    heard_again(stack, chargers[1:])

    vanishes.vanishes.set()
    ends_in_the_second.ends.set()
    time.sleep(0.3)
    stack.pull_the_plug("server", "worker")
    stack.start_again("server", "worker")
    over(stack, ends_in_the_second)
    heard_again(stack, [ends_well, ends_too])

    ends_well.ends.set(), ends_too.ends.set()
    over(stack, ends_well, ends_too)
    stack.pull_the_plug("worker")  # in the middle of bills, refunds and shares
    stack.start_again("worker")

    # The one that never came back: its dead process is found by its lease, its sessions wait, and end without it.
    stack.pass_time(125)
    stack.manage("sweep", "stations.silent")
    stack.pass_time(185)
    stack.manage("sweep", "sessions.timeout")

    payments = stack.wait(lambda: _settled(stack), "every payment to be settled", 60)
    _right(stack, chargers, payments)


def _settled(stack) -> list[dict]:
    rows = stack.rows(
        "select p.*, s.id as session, s.energy_wh, s.stop_reason, s.state as session_state, s.transaction_id "
        "from billing_qrpayment p join csms_connector n on n.id = p.connector_id left join csms_chargingsession s on s.id = p.session_id "
        "where n.charge_point_id like 'PLUG-%%'"
    )
    return rows if len(rows) == 2 * CHARGERS and all(row["state"] == "settled" for row in rows) else []


def _right(stack, chargers: list[Charger], payments: list[dict]) -> None:
    by_transaction = {row["transaction_id"]: row for row in payments}
    assert len(by_transaction) == 2 * CHARGERS
    began = stack.row(
        "select count(*) as n from csms_chargingsession s join csms_chargepoint c on c.id = s.charge_point_id where c.cp_id like 'PLUG-%%'"
    )
    assert began["n"] == 2 * CHARGERS, "no session was made twice"
    for charger in chargers:
        for car in charger.cars:
            row = by_transaction[str(car.transaction)]
            assert row["session_state"] == "STOPPED"
            if car.stopped:
                assert (row["energy_wh"], row["stop_reason"]) == (car.taken_wh, "Local")
            else:
                assert row["stop_reason"] == "DISCONNECT_TIMEOUT"
                assert car.acknowledged_wh - car.began_wh <= row["energy_wh"] <= car.taken_wh, "what was acknowledged is not lost"
            _rightly_paid(stack, row)
    stack.wait(lambda: len(_shares(stack, payments)) == 2 * CHARGERS, "every session to be shared, once")
    stack.manage("sweep", "payouts")
    shares = stack.wait(lambda: _paid_out(stack, payments), "the shares to be paid out", 60)
    assert len(shares) == 2 * CHARGERS
    for payout in {share["payout_id"]: share for share in shares}.values():
        transfer = stack.razorpay(f"/v1/transfers/{payout['razorpay_id']}")
        assert transfer["amount"] == payout["amount_paise"]
    assert json.loads(stack.manage("check_books", "--json"))["problems"] == []


def _rightly_paid(stack, row: dict) -> None:
    """One bill of what was delivered, one refund of the rest, at Razorpay as with us."""
    bill = stack.row("select * from billing_bill where payment_id = %s", row["id"])
    assert bill["delivered_wh"] == row["energy_wh"] and bill["total"] + bill["refund_due"] + bill["remainder"] == RUPEES * 100
    refund = stack.row("select * from billing_refund where payment_id = %s", row["id"])
    assert refund["amount_paise"] == bill["refund_due"] > 0
    theirs = stack.razorpay(f"/v1/payments/{row['razorpay_payment_id']}/refunds")["items"]
    assert [one["amount"] for one in theirs] == [refund["amount_paise"]]


def _shares(stack, payments: list[dict]) -> list[dict]:
    return stack.rows(
        "select e.status, e.payable, e.payout_id, p.razorpay_id, p.amount_paise, p.state from franchise_commissionledgerentry e "
        "left join franchise_payout p on p.id = e.payout_id where e.idempotency_key = any(%s)",
        [f"txn_{row['session']}" for row in payments],
    )


def _paid_out(stack, payments: list[dict]) -> list[dict]:
    rows = _shares(stack, payments)
    return rows if all(row["state"] == "processed" for row in rows) else []
