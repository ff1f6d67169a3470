"""A paid start on a real line: under a tag the charger made of ours, and bounded while nobody hears it."""

import json

import pytest

pytestmark = pytest.mark.e2e
SETTINGS = {"session_limit": True, "post_boot_state": True, "vendor_id": "Acme"}


def told(client, message):
    payload = client.expect("DataTransfer", timeout_s=20)
    assert (payload["vendorId"], payload["messageId"]) == ("Acme", message)
    return json.loads(payload["data"])


def test_a_tag_cut_short_is_the_payments_and_the_charger_keeps_to_its_limit(stack):
    charger = stack.add_charger("E2E-TAG", "--franchisee", "Kaveri", "--station", "Kaveri Hub", "--max-kw", "240")
    stack.rows("update csms_chargepoint set quirk_settings = %s where cp_id = 'E2E-TAG' returning id", json.dumps(SETTINGS))
    client, connector = stack.connect(charger), charger["connectors"][0]
    try:
        assert told(client, "PostBootState") == {"hasPendingTransaction": False, "lastMeterValueWh": 0}
        stack.pay(connector["qr_id"], 50)
        order = client.expect("RemoteStartTransaction", timeout_s=20)
        answer = client.start(1, order["idTag"][:8].lower(), meter_wh=1_000)
        number = answer["transactionId"]
        assert answer["idTagInfo"]["status"] == "Accepted"
        limit, mine = told(client, "SessionLimit"), "select * from csms_chargingsession where transaction_id = %s"
        limit_wh = stack.row(mine, str(number))["limit_wh"]
        assert (limit["transactionId"], limit["maxEnergy"]) == (number, limit_wh) and 2_700 < limit_wh < 2_800
        stack.wait(lambda: stack.row(mine, str(number))["bounded_wh"] == limit_wh, "its promise to be kept on record")
        client.meter(1, number, register_wh=1_010, power_w=200_000)

        client.drop()
        client.connect()
        assert told(client, "SessionLimit")["maxEnergy"] == limit_wh, "said again on the new line"
        client.boot()
        state = told(client, "PostBootState")
        assert (state["hasPendingTransaction"], state["transactionId"], state["energyConsumedWh"]) == (True, number, 10)
        told(client, "SessionLimit")
        stack.wait(lambda: stack.row(mine, str(number))["state"] == "RUNNING", "the session to run on")
        client.stop(number, meter_wh=1_030)
        stack.wait(lambda: stack.row(mine, str(number))["billed_at"], "the bill")
        session = stack.row(mine, str(number))
        assert (session["energy_wh"], session["overrun_wh"], session["id_tag"]) == (30, 0, order["idTag"][:8].lower())
        payment = stack.row("select * from billing_qrpayment where session_id = %s", session["id"])
        assert payment["amount_paid"] == 5_000
    finally:
        client.end()
