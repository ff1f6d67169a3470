"""docs/one-rupee.md is played, frame by frame and call by call: its numbers are the product's own, or this fails."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from billing import bills, payments, refunds
from billing.models import Bill, JournalEntry
from csms import dispatch, permits, stations
from csms.models import ChargingSession, Command
from franchise import payouts, settlements
from franchise.models import CommissionLedgerEntry, Payout
from tests import money
from voltaro import clock

DOC = Path(__file__).resolve().parents[2] / "docs" / "one-rupee.md"


@pytest.fixture
def charger(network, kaveri_qr):
    """VLT-0001 on a socket of its own, as dispatch sees it."""
    network.kaveri_charger.security_profile = 0
    network.kaveri_charger.save()
    context, _ = dispatch.opened(
        stations.find("VLT-0001"), process="test:1", channel="specific.1", remote_address="127.0.0.1", subprotocol="ocpp1.6"
    )
    say(context, "BootNotification", chargePointVendor="Exicom", chargePointModel="Spin")
    say(context, "StatusNotification", connectorId=1, status="Available", errorCode="NoError")
    return context


def say(context, action, **payload):
    reply = dispatch.answer(json.dumps([2, f"m{say.count}", action, payload]).encode(), context)
    say.count += 1
    return json.loads(reply.text)[2]


say.count = 1


def reading(context, transaction, wh):
    samples = [
        {"value": str(wh), "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
        {"value": "60000", "measurand": "Power.Active.Import", "unit": "W"},
    ]
    say(
        context,
        "MeterValues",
        connectorId=1,
        transactionId=transaction,
        meterValue=[{"timestamp": clock.now().isoformat(), "sampledValue": samples}],
    )


def test_the_worked_example_of_the_documents(sandbox, network, charger, kaveri_qr):
    sandbox.moods.payment_fee = 1_180
    payment = money.pay(sandbox, kaveri_qr, 50_000, vpa="asha@okaxis")
    assert (payment.state, payment.fee, payment.permit.limit_wh) == ("starting", 1_180, 27_785)
    permits.ask_due(clock.now(), 10)
    assert Command.objects.get().payload == {"connectorId": 1, "idTag": payment.permit.tag}
    order = json.loads(dispatch.next_command(charger).text)
    dispatch.answer(json.dumps([3, order[1], {"status": "Accepted"}]).encode(), charger)
    started = say(
        charger, "StartTransaction", connectorId=1, idTag=payment.permit.tag, meterStart=100_000, timestamp=clock.now().isoformat()
    )
    assert started["idTagInfo"]["status"] == "Accepted"
    assert payments.link_due(clock.now(), 10) == 1

    clock.shift(600)  # 60 kW deliver 10 kWh in ten minutes
    reading(charger, started["transactionId"], 110_000)
    session = ChargingSession.objects.get()
    until_the_stop = session.stop_due_at - session.last_activity_at
    assert (session.energy_wh, until_the_stop) == (10_000, timedelta(seconds=17_785 * 3600 / 60_000 - 2))
    clock.shift(600)
    say(
        charger,
        "StopTransaction",
        transactionId=started["transactionId"],
        meterStop=120_000,
        timestamp=clock.now().isoformat(),
        reason="EVDisconnected",
    )

    assert bills.work_due(clock.now(), 10) == 1
    bill = Bill.objects.get()
    assert refunds.work_due(clock.now(), 10) == 1
    refund = payment.refunds.get()
    assert (refund.state, refund.key) == ("processed", f"{payment.razorpay_payment_id}-surplus")
    settlements.work_due(clock.now(), 10)
    entry = CommissionLedgerEntry.objects.get()
    payouts.work_due(clock.now(), 10)
    payout = Payout.objects.get()
    payment.refresh_from_db(), entry.refresh_from_db()
    assert (payment.state, entry.status, payout.state) == ("settled", "TRANSFERRED", "processed")
    assert money.books_are_right()

    names = {
        payment.razorpay_payment_id: "pay_X",
        f"session:{bill.session_id}": "session:42",
        f"share:{bill.session_id}": "share:42",
        f"refund:{refund.pk}:": "refund:7:",
        f"payout:{payout.pk}:": "payout:9:",
    }
    booked = [line(one, names) for one in JournalEntry.objects.order_by("pk")]
    text = DOC.read_text()
    assert re.findall(r"^\| `[a-z]+:.*$", text, re.MULTILINE) == booked

    figures = {
        "paid": payment.amount_paid,
        "limit": payment.permit.limit_wh,
        "energy": bill.energy_charge,
        "half of the GST": bill.cgst,
        "GST": bill.gst,
        "total": bill.total,
        "refund": bill.refund_due,
        "gross": entry.gross,
        "net": entry.net_excl_gst,
        "commission": entry.platform_commission,
        "TDS": entry.tds,
        "payable": entry.payable,
        "fee of the transfer": payout.fees,
    }
    for what, amount in figures.items():
        assert f"{amount:,}" in text, (what, amount)


def line(entry, names):
    """A journal entry as a line of the document's table."""
    key = entry.key
    for real, shown in names.items():
        key = key.replace(real, shown)
    postings = ", ".join(f"`{one.account}` {one.amount_paise:+,}" for one in entry.postings.order_by("pk"))
    return f"| `{key}` | {postings} |"
