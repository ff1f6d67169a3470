"""However a session ends, it ends once: one finalizer, and after it bill, refund, share, each once and in this order."""

import json

import pytest
from django.test import Client

from accounts.models import AuditEntry
from billing import bills, budgets, corrections, payments, refunds
from billing.models import Bill, JournalEntry, Refund
from csms import sessions, stations
from csms.models import ChargePoint, ChargingSession, Connector
from franchise import books, settlements
from franchise.models import CommissionLedgerEntry
from tests import money
from tests.charger import Charger
from tests.factories import PASSWORD
from voltaro import clock

pytestmark = pytest.mark.django_db
PAID = 50_000


@pytest.fixture
def charger(network, kaveri_qr):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


def timeouts() -> None:
    sessions.timeout_due(clock.now(), 10)


def stop(charger):
    charger.stop(105_000)


def disconnect(charger):
    charger.drop()
    clock.shift(180)
    timeouts()


def boot(charger):
    charger.boot()
    clock.shift(180)
    timeouts()


def died(charger):
    """The process that held its socket was killed; the sweep finds the lease that ran out."""
    clock.shift(121)
    stations.silent_due(clock.now(), 10)
    clock.shift(180)
    timeouts()


def suspended(charger):
    charger.drop()
    charger.connect()
    clock.shift(901)


def reading_too_late(charger):
    suspended(charger)
    charger.meter(105_000, 60_000)


def boot_too_late(charger):
    suspended(charger)
    charger.boot()


def asked_too_late(charger):
    suspended(charger)
    data = json.dumps({"transactionId": charger.transaction_id})
    answer = charger.call("DataTransfer", {"vendorId": "VoltLync", "messageId": "GetLastMeterValue", "data": data})
    assert answer["status"] == "Rejected"


def silence(charger):
    clock.shift(3 * 3600)
    timeouts()


def superseded(charger):
    charger.start("SOMEBODY", meter=105_000)


def flapping(charger):
    for _ in range(3):
        charger.drop()
        charger.connect()
        clock.shift(5)
        charger.meter(105_000, 0)


def idle(charger):
    charger.status("Available")
    clock.shift(180)
    timeouts()


def idle_socket(charger):
    Connector.objects.filter(charge_point=charger.row.cp_id).update(type="socket")
    charger.status("Available")
    clock.shift(300)
    timeouts()


def operator(charger):
    client = Client()
    assert client.login(username="om", password=PASSWORD)
    address = f"/console/sessions/{ChargingSession.objects.order_by('pk').first().pk}/end/"
    assert client.post(address, {"why": ""}).status_code == 302 and ChargingSession.objects.get().live
    assert client.post(address, {"why": "the charger burnt"}).status_code == 302


TRIGGERS = {
    "Local": stop,
    "DISCONNECT_TIMEOUT": disconnect,
    "DISCONNECT_TIMEOUT after a boot": boot,
    "DISCONNECT_TIMEOUT after a kill": died,
    "STALE_RECONNECT by a reading": reading_too_late,
    "STALE_RECONNECT by a boot": boot_too_late,
    "STALE_RECONNECT by GetLastMeterValue": asked_too_late,
    "SILENCE": silence,
    "SUPERSEDED": superseded,
    "FLAPPING": flapping,
    "NO_STOP": idle,
    "NO_STOP of a socket": idle_socket,
    "OPERATOR": operator,
}


def work() -> None:
    for _ in range(3):
        now = clock.now()
        payments.link_due(now, 10), bills.work_due(now, 10), corrections.work_due(now, 10), refunds.work_due(now, 10)
        settlements.work_due(now, 10)


@pytest.mark.parametrize("name", TRIGGERS)
def test_every_end_is_the_same_end_once(charger, sandbox, kaveri_qr, network, name, bells, django_capture_on_commit_callbacks):
    payment = money.pay(sandbox, kaveri_qr, PAID)
    payments.learn_fee(payment.pk, {"fee": 0, "tax": 0}, "api")
    charger.start(payment.permit.tag, meter=100_000)
    session = ChargingSession.objects.get()
    payments.link_due(clock.now(), 10)
    charger.charge(100_000, 105_000, step_s=60)
    budgets.put(session.pk, payment)
    bells.clear()
    with django_capture_on_commit_callbacks(execute=True):
        TRIGGERS[name](charger)
    session.refresh_from_db()
    assert (session.state, session.stop_reason, session.energy_wh) == ("STOPPED", name.split()[0], 5_000)
    assert bells.count("session.ended") == 1 and session.stop_due_at is None
    assert ("inferred" in session.flags) == (name != "Local")

    # Nothing ends it again, and nothing follows twice.
    before = ChargingSession.objects.values().get(pk=session.pk)
    assert not sessions.finalize(session.pk, "AGAIN")
    sessions.suspend_live(charger.row.pk, "disconnected", clock.now())
    if name != "SUPERSEDED":
        clock.shift(4 * 3600)
        timeouts()
        charger.row = ChargePoint.objects.get(pk=charger.row.pk)
        charger.connect(), charger.boot(), charger.meter(106_000, 10_000), charger.status("Available")
    assert ChargingSession.objects.values().get(pk=session.pk) == before
    with django_capture_on_commit_callbacks(execute=True):
        work()
    assert bills.bill(session.pk) is False and sum(one.billed_wh for one in Bill.objects.filter(payment=payment)) == 5_000
    told = AuditEntry.objects.exclude(action__startswith="failure").order_by("id").values_list("action", "target_type", "target_id")
    ours = [action for action, kind, pk in told if (kind, pk) == ("csms.chargingsession", str(session.pk))]
    ends = [action for action in ours if action in ("session.ended", "session.stale_reconnect")]
    assert len(ends) == 1
    what_follows = ["session.billed", "refund.due", "refund.processed", "payment.settled", "commission.shared"]
    order = [action for action, *_ in told if action in (*ends, *what_follows)]
    assert sorted(order) == sorted([*ends, *what_follows]) and order[0] == ends[0]
    assert order.index("session.billed") < order.index("refund.due") < order.index("refund.processed") < order.index("payment.settled")
    assert order.index("session.billed") < order.index("commission.shared")
    assert (Bill.objects.filter(payment=payment).count(), Refund.objects.count(), CommissionLedgerEntry.objects.count()) == (1, 1, 1)
    for key in (f"bill:session:{session.pk}", f"share:{session.pk}", f"refund:{Refund.objects.get().pk}:done"):
        assert JournalEntry.objects.filter(key=key).count() == 1
    assert money.books_are_right() and books.check() == []
    from django.core.cache import cache

    assert cache.get(f"budget:session:{session.pk}") is None


def test_there_is_one_finalizer():
    """No line of ours writes the end of a session but the finalizer's, and what it calls."""
    import ast
    from pathlib import Path

    import csms

    writers = []
    for path in Path(csms.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                called = {one.func.id for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
                if "_finalize" in called:
                    writers.append(f"{path.name}: {node.name}")
    assert writers == ["sessions.py: apply"]
