"""A rider pays a QR, charges, is refunded; the franchisee is paid; the books balance. Real processes, sockets and HTTP."""

import hashlib
import hmac
import json
import time

import httpx
import pytest

pytestmark = pytest.mark.e2e
PAYMENT = "select p.*, s.state as session_state, s.energy_wh, s.overrun_wh, s.stop_reason from billing_qrpayment p left join csms_chargingsession s on s.id = p.session_id where p.qr_id = (select id from billing_qrcode where razorpay_id = %s) order by p.id desc limit 1"  # noqa: E501


@pytest.fixture
def make_charger(stack):
    made = []

    def make(cp_id, *options, kw="240"):
        charger = stack.add_charger(cp_id, "--franchisee", "Kaveri", "--station", "Kaveri Hub", "--max-kw", kw, *options)
        client = stack.connect(charger)
        made.append(client)
        return charger, client, charger["connectors"][0]

    yield make
    for client in made:
        client.end()


def deliver(client, transaction, wh, power_w, until_wh, every_s=0.5):
    """Readings as the energy flows, in real time, until a stop is asked or `until_wh` is reached; the register at the end."""
    while wh < until_wh:
        time.sleep(every_s)
        wh += round(power_w * every_s / 3600)
        client.meter(1, transaction, register_wh=wh, power_w=power_w)
        if any(frame.action == "RemoteStopTransaction" for frame in client.inbox):
            break
    return wh


def begin(stack, client, connector, rupees):
    stack.pay(connector["qr_id"], rupees)
    order = client.expect("RemoteStartTransaction", timeout_s=20)
    assert order["connectorId"] == connector["connector_id"] and len(order["idTag"]) == 16
    client.status(1, "Preparing")
    answer = client.start(1, order["idTag"], meter_wh=100_000)
    assert answer["idTagInfo"]["status"] == "Accepted"
    client.status(1, "Charging")
    return answer["transactionId"]


def settled(stack, connector):
    def look():
        rows = stack.rows(PAYMENT, connector["qr_id"])
        return rows[0] if rows and rows[0]["state"] == "settled" else None

    return stack.wait(look, "the payment to be settled", 60)


def check_books(stack):
    assert json.loads(stack.manage("check_books", "--json"))["problems"] == []


def test_the_charger_is_stopped_when_the_money_is_used_up(stack, make_charger):
    _, client, connector = make_charger("E2E-LIMIT")
    transaction = begin(stack, client, connector, 20)  # 1,111 Wh at Rs 17.995 with GST; 240 kW deliver them in 17 s
    register = deliver(client, transaction, 100_000, 240_000, 103_000)
    assert client.expect("RemoteStopTransaction") == {"transactionId": transaction}
    time.sleep(1)
    client.stop(transaction, meter_wh=register + 67, reason="Remote")
    payment = settled(stack, connector)
    assert payment["stop_reason"] == "Remote" and payment["overrun_wh"] == 0
    assert 950 <= payment["energy_wh"] <= 1_111
    bill = stack.row("select * from billing_bill where payment_id = %s", payment["id"])
    assert bill["total"] + bill["refund_due"] + bill["remainder"] == 2_000
    assert bill["cgst"] == bill["sgst"] and bill["energy_charge"] == round(payment["energy_wh"] * 1525 / 1000)
    check_books(stack)


def test_the_unused_rest_goes_back_and_the_franchisee_is_paid(stack, make_charger):
    charger, client, connector = make_charger("E2E-REST")
    transaction = begin(stack, client, connector, 50)
    register = deliver(client, transaction, 100_000, 240_000, 100_200)
    page = httpx.get(f"{stack.url}/c/{connector['code']}/").text
    assert "kWh" in page and charger["cp_id"] not in page
    client.stop(transaction, meter_wh=register, reason="Local")
    payment = settled(stack, connector)
    bill = stack.row("select * from billing_bill where payment_id = %s", payment["id"])
    refund = stack.row("select * from billing_refund where payment_id = %s", payment["id"])
    assert refund["amount_paise"] == bill["refund_due"] == 5_000 - bill["total"]
    theirs = stack.razorpay(f"/v1/payments/{payment['razorpay_payment_id']}/refunds")["items"]
    assert [one["amount"] for one in theirs] == [refund["amount_paise"]]
    entry = stack.wait(
        lambda: stack.rows("select * from franchise_commissionledgerentry where idempotency_key = %s", f"txn_{payment['session_id']}"),
        "the franchisee's share",
    )[0]
    assert entry["net_excl_gst"] == entry["gross"] - entry["refund"] - entry["pg_fee"] - entry["gst_collected"]
    assert entry["net_excl_gst"] == bill["energy_charge"] - entry["pg_fee"]
    paid = stack.wait(
        lambda: stack.rows(
            "select p.* from franchise_payout p join franchise_commissionledgerentry e on e.payout_id = p.id "
            "where e.id = %s and p.state = 'processed'",
            entry["id"],
        ),
        "the transfer",
        90,
    )[0]
    transfer = stack.razorpay(f"/v1/transfers/{paid['razorpay_id']}")
    assert transfer["recipient"] == "acc_Kaveri00000001" and transfer["amount"] == paid["amount_paise"]
    check_books(stack)


def test_no_energy_gives_everything_back(stack, make_charger):
    _, client, connector = make_charger("E2E-ZERO")
    transaction = begin(stack, client, connector, 30)
    client.stop(transaction, meter_wh=100_000, reason="EVDisconnected")
    payment = settled(stack, connector)
    assert stack.row("select amount_paise from billing_refund where payment_id = %s", payment["id"])["amount_paise"] == 3_000
    check_books(stack)


def test_paid_but_not_started_goes_back_and_the_charger_was_asked_again(stack, make_charger):
    _, client, connector = make_charger("E2E-NOSTART")
    stack.pay(connector["qr_id"], 40)
    first = client.expect("RemoteStartTransaction", timeout_s=20)
    client.status(1, "Preparing")  # plugged in after the request: asked at once again
    assert client.expect("RemoteStartTransaction", timeout_s=20)["idTag"] == first["idTag"]
    stack.pass_time(320)
    client.boot()
    payment = settled(stack, connector)
    assert payment["refund_reason"] == "not_started" and payment["session_id"] is None
    late = client.start(1, first["idTag"], meter_wh=0)
    assert late["idTagInfo"]["status"] == "Invalid"
    assert client.expect("RemoteStopTransaction", timeout_s=20)["transactionId"] == late["transactionId"]
    client.stop(late["transactionId"], meter_wh=0, reason="DeAuthorized")
    check_books(stack)


def test_a_charger_offline_for_seconds_is_waited_for(stack, make_charger):
    _, client, connector = make_charger("E2E-AWAY")
    client.drop()
    stack.wait(
        lambda: not stack.row("select online from csms_chargepoint where cp_id = 'E2E-AWAY'")["online"], "the charger to be seen offline"
    )
    stack.pay(connector["qr_id"], 20)
    stack.wait(lambda: [p for p in stack.rows(PAYMENT, connector["qr_id"]) if p["state"] == "starting"], "the payment to wait")
    client.connect()
    client.boot()
    assert client.expect("RemoteStartTransaction", timeout_s=30)
    stack.pass_time(320)
    assert settled(stack, connector)["refund_reason"] == "not_started"


def test_a_second_rider_on_a_busy_connector_is_refunded(stack, make_charger):
    _, client, connector = make_charger("E2E-BUSY")
    transaction = begin(stack, client, connector, 20)
    stack.pay(connector["qr_id"], 35, vpa="second@okaxis")
    stack.wait(
        lambda: [p for p in stack.rows(PAYMENT, connector["qr_id"]) if p["amount_paid"] == 3_500 and p["state"] == "settled"], "the refund"
    )
    client.stop(transaction, meter_wh=100_000)


def _webhook(stack, body, event_id, secret="sandbox-webhook-secret"):
    raw = json.dumps(body).encode()
    signature = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    headers = {"X-Razorpay-Signature": signature, "x-razorpay-event-id": event_id, "Content-Type": "application/json"}
    return httpx.post(f"{stack.url}/webhooks/razorpay/", content=raw, headers=headers)


def test_a_qr_we_do_not_know_is_stored_shown_and_never_acted_upon(stack):
    entity = {
        "id": "pay_Stranger000001",
        "amount": 10_000,
        "currency": "INR",
        "status": "captured",
        "method": "upi",
        "vpa": None,
        "contact": None,
    }
    qr = {"id": "qr_Stranger0000001", "status": "active"}
    event = {"entity": "event", "event": "qr_code.credited", "payload": {"payment": {"entity": entity}, "qr_code": {"entity": qr}}}
    assert _webhook(stack, event, "evt_stranger").status_code == 200
    assert _webhook(stack, event, "evt_stranger").status_code == 200
    stack.wait(
        lambda: stack.rows("select 1 from billing_webhookevent where event_id = 'evt_stranger' and state = 'ignored'"),
        "the event to be seen",
    )
    assert stack.rows("select 1 from billing_qrpayment where razorpay_payment_id = 'pay_Stranger000001'") == []
    assert _webhook(stack, event, "evt_forged", secret="guess").status_code == 400
    assert stack.rows("select 1 from billing_webhookevent where event_id = 'evt_forged'") == []


def test_a_command_from_the_command_line_reaches_the_charger(stack, make_charger):
    _, client, _ = make_charger("E2E-CMD")
    client.automatic["ClearCache"] = {"status": "Accepted"}
    said = json.loads(stack.manage("ocpp", "E2E-CMD", "ClearCache", "--json"))
    assert said["state"] in ("accepted", "effective")
    client.automatic["ClearCache"] = {"status": "Rejected"}
    assert stack.try_manage("ocpp", "E2E-CMD", "ClearCache", "--json").returncode == 1
