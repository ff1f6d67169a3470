"""The local Razorpay, over real HTTP: what it promises to those who build against it."""

import base64
import hashlib
import hmac
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from billing import sandbox as razorpay_sandbox

KEY = ("rzp_test_sandbox00000000", "sandbox-key-secret")
SECRET = b"sandbox-webhook-secret"
KAVERI_BANK = "acc_KaveriPower001"


class Receiver:
    """Stands where the product would: keeps what arrives, answers as it is told (200 when it is not)."""

    def __init__(self):
        self.heard: list[tuple[dict, bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.heard.append(({name.lower(): value for name, value in self.headers.items()}, raw))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/webhooks/razorpay/"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def events(self, name=None) -> list[dict]:
        read = [json.loads(raw) for _, raw in list(self.heard)]
        return [event for event in read if name in (None, event["event"])]

    def wait_for(self, name, times=1) -> list[dict]:
        until(lambda: len(self.events(name)) >= times, f"{times} x {name}, heard {[e['event'] for e in self.events()]}")
        return self.events(name)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def until(fact, what, within_s=5):
    end = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


@pytest.fixture
def receiver():
    it = Receiver()
    yield it
    it.close()


@pytest.fixture
def sandbox(receiver):
    asked = {"port": 0, "webhook_url": receiver.url, "refund_delay_s": 0.05, "transfer_delay_s": 0.05, "activation_delay_s": 0.05}
    with razorpay_sandbox.start(**asked, settle_after_s=None, retry_scale=0.002) as it:
        yield it


@pytest.fixture
def api(sandbox):
    with httpx.Client(base_url=sandbox.url, auth=KEY, timeout=5) as client:
        yield client


def make_qr(api, **more) -> dict:
    body = {"type": "upi_qr", "usage": "multiple_use", "fixed_amount": False, "name": "Kaveri Plaza KP-1", "notes": {"code": "kp1"}, **more}
    answer = api.post("/v1/payments/qr_codes", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refund(api, payment_id, key="vt-dev-refund-1", **body):
    headers = {"X-Refund-Idempotency": key} if key else {}
    return api.post(f"/v1/payments/{payment_id}/refund", json=body, headers=headers)


def transfer(api, key="payout-9-1", **body):
    body = {"account": KAVERI_BANK, "amount": 20_000, "currency": "INR", **body}
    return api.post("/v1/transfers", json=body, headers={"X-Transfer-Idempotency": key} if key else {})


def refused(answer, status, description):
    assert answer.status_code == status, answer.text
    assert description in answer.json()["error"]["description"]
    return answer.json()["error"]


# -- who may ask, and what the answer looks like -------------------------------------------------------------


def test_without_the_key_nothing_is_told(sandbox):
    stranger = httpx.Client(base_url=sandbox.url)
    refused(stranger.get("/v1/payments/qr_codes"), 401, "Authentication failed")
    refused(stranger.get("/v1/payments/qr_codes", auth=(KEY[0], "wrong")), 401, "Authentication failed")
    refused(stranger.get("/v1/payments/qr_codes", auth=("rzp_test_other", KEY[1])), 401, "The api key provided is invalid")
    token = base64.b64encode(":".join(KEY).encode()).decode()
    assert stranger.get("/v1/payments/qr_codes", headers={"Authorization": f"Basic {token}"}).status_code == 200
    assert stranger.get("/v1/payments/qr_codes", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_a_wrong_address_and_a_feature_that_is_off_look_the_same(sandbox, api):
    nowhere = api.get("/v1/qr_codes").json()
    assert nowhere["error"]["description"] == "The requested URL was not found on the server."
    assert set(nowhere["error"]) == {"code", "description", "source", "step", "reason", "metadata"}
    sandbox.moods.features_off = ["qr", "direct_transfer"]
    assert api.get("/v1/payments/qr_codes").json() == nowhere == transfer(api).json()


def test_unknown_fields_are_refused_by_name(api):
    answer = api.post("/v1/payments/qr_codes", json={"type": "upi_qr", "usage": "multiple_use", "colour": "green"})
    error = refused(answer, 400, "colour is/are not required and should not be sent")
    assert error["code"] == "BAD_REQUEST_ERROR" and error["field"] == "colour"


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"[1]", b'"x"', b"[" * 50_000, b'{"amount": 1e999}', b'{"amount": ' + b"9" * 40 + b"}"])
def test_nonsense_is_refused_and_changes_nothing(sandbox, api, raw):
    payment_id, before = sandbox.pay(make_qr(api)["id"], 50_000), sandbox.balance
    for path in (f"/v1/payments/{payment_id}/refund", "/v1/payments/qr_codes", "/v1/transfers", "/v2/accounts", "/v1/orders"):
        assert api.post(path, content=raw, headers={"Content-Type": "application/json"}).status_code == 400, path
    assert sandbox.balance == before and api.get(f"/v1/payments/{payment_id}").json()["amount_refunded"] == 0
    assert api.post("/v1/orders", content=b"x" * 1_000_001).status_code == 413


# -- QR codes ------------------------------------------------------------------------------------------------


def test_a_qr_lives_and_is_closed(receiver, sandbox, api):
    qr = make_qr(api, description="Charge")
    assert qr["id"].startswith("qr_") and len(qr["id"]) == 17 and qr["status"] == "active" and qr["payment_amount"] is None
    assert qr["image_content"].startswith("upi://pay?pa=") and "cu=INR" in qr["image_content"] and "&am=" not in qr["image_content"]
    assert httpx.get(qr["image_url"]).headers["content-type"] == "image/svg+xml"
    assert api.get(f"/v1/payments/qr_codes/{qr['id']}").json()["closed_at"] is None
    assert [item["id"] for item in api.get("/v1/payments/qr_codes").json()["items"]] == [qr["id"]]
    bare = make_qr(api, notes={})
    assert bare["notes"] == []
    closed = api.post(f"/v1/payments/qr_codes/{qr['id']}/close").json()
    assert closed["status"] == "closed" and closed["close_reason"] == "on_demand"
    assert receiver.wait_for("qr_code.closed")[0]["payload"]["qr_code"]["entity"]["id"] == qr["id"]
    with pytest.raises(razorpay_sandbox.PayRefused):
        sandbox.pay(qr["id"], 5_000)


def test_the_rules_of_a_single_use_qr(receiver, sandbox, api):
    ask = {"type": "upi_qr", "usage": "single_use", "fixed_amount": True, "payment_amount": 20_000}
    now = int(time.time())
    path = "/v1/payments/qr_codes"
    refused(api.post(path, json={**ask, "fixed_amount": False, "payment_amount": None}), 400, "fixed amount")
    refused(api.post(path, json={**ask, "usage": "multiple_use", "close_by": now + 600}), 400, "close by")
    refused(api.post(path, json={**ask, "close_by": now + 30}), 400, "2 minutes")
    refused(api.post(path, json={**ask, "close_by": 5}), 400, "close_by must be between 946684800 and 4765046400")
    assert abs(api.post(path, json={**ask, "close_by": now + 90_000}).json()["close_by"] - now - 7200) <= 2
    qr = make_qr(api, **ask)
    assert "am=200.00" in qr["image_content"]
    created = receiver.wait_for("qr_code.created", 2)[-1]["payload"]["qr_code"]["entity"]
    assert created["close_by"] == str(qr["close_by"])
    with pytest.raises(razorpay_sandbox.PayRefused):
        sandbox.pay(qr["id"], 19_900)
    sandbox.pay(qr["id"], 20_000)
    paid = api.get(f"{path}/{qr['id']}").json()
    assert paid["status"] == "closed" and paid["close_reason"] == "paid"
    with pytest.raises(razorpay_sandbox.PayRefused):
        sandbox.pay(qr["id"], 20_000)
    sandbox.moods.late_payments = True
    assert sandbox.pay(qr["id"], 20_000)


def test_a_qr_past_its_time_closes_without_a_word(receiver):
    hour = [1_800_000_000.0]
    with razorpay_sandbox.start(port=0, webhook_url=receiver.url, background=False, now=lambda: hour[0]) as still:
        api = httpx.Client(base_url=still.url, auth=KEY)
        qr = make_qr(api, usage="single_use", fixed_amount=True, payment_amount=20_000)
        hour[0] += 7201
        assert api.get(f"/v1/payments/qr_codes/{qr['id']}").json()["status"] == "closed"
        still.work()
        assert [event["event"] for event in receiver.events()] == ["qr_code.created"]


# -- a payment and its webhooks ------------------------------------------------------------------------------


def test_asha_pays_and_both_events_arrive_signed(receiver, sandbox, api):
    qr = make_qr(api)
    payment_id = sandbox.pay(qr["id"], 50_000, vpa="asha@okbank", contact="+919800000001")
    credited = receiver.wait_for("qr_code.credited")[0]["payload"]
    receiver.wait_for("payment.captured")
    for headers, raw in receiver.heard:
        assert headers["x-razorpay-signature"] == hmac.new(SECRET, raw, hashlib.sha256).hexdigest()
        assert headers["x-razorpay-event-id"]
    raw = next(raw for _, raw in receiver.heard if b"qr_code.credited" in raw)
    assert b"http:\\/\\/127.0.0.1" in raw  # who serialises it again gets other bytes
    assert json.dumps(json.loads(raw), separators=(",", ":")).encode() != raw
    entity = credited["payment"]["entity"]
    assert (entity["id"], entity["amount"], entity["vpa"], entity["status"]) == (payment_id, 50_000, "asha@okbank", "captured")
    assert entity["notes"] == {"code": "kp1"} and len(entity["acquirer_data"]["rrn"]) == 12
    assert credited["qr_code"]["entity"]["id"] == qr["id"] and credited["qr_code"]["entity"]["payments_count_received"] == 0
    fetched = api.get(f"/v1/payments/{payment_id}").json()
    assert fetched["captured"] is True and fetched["fee"] == 0 and fetched["notes"] == [] and fetched["order_id"] is None
    assert api.get(f"/v1/payments/qr_codes/{qr['id']}").json()["payments_amount_received"] == 50_000
    assert api.get(f"/v1/payments/qr_codes/{qr['id']}/payments").json()["items"][0]["id"] == payment_id
    assert api.get("/v1/payments/qr_codes", params={"payment_id": payment_id}).json()["items"][0]["id"] == qr["id"]


def test_the_two_events_come_in_either_order():
    firsts = set()
    with razorpay_sandbox.start(port=0, webhook_url="", seed=7) as still:
        api = httpx.Client(base_url=still.url, auth=KEY)
        for _ in range(12):
            qr = make_qr(api)
            still.pay(qr["id"], 1_000)
            firsts.add(still.events()[-2]["event"])
    assert firsts == {"payment.captured", "qr_code.credited"}


def test_a_fee_may_be_null_zero_or_a_number(sandbox, api):
    qr = make_qr(api)
    sandbox.moods.payment_fee = "null"
    assert api.get(f"/v1/payments/{sandbox.pay(qr['id'], 10_000)}").json()["fee"] is None
    sandbox.moods.payment_fee = 236
    known = api.get(f"/v1/payments/{sandbox.pay(qr['id'], 10_000)}").json()
    assert (known["fee"], known["tax"]) == (236, 36)
    sandbox.moods.payment_fee = None
    credit = api.get(f"/v1/payments/{sandbox.pay(qr['id'], 1_000, account='credit_card')}").json()
    assert (credit["fee"], credit["tax"], credit["upi"]["payer_account_type"]) == (24, 4, "credit_card")
    sandbox.moods.payment_bare = True
    bare = api.get(f"/v1/payments/{sandbox.pay(qr['id'], 1_000)}").json()
    assert bare["vpa"] is bare["contact"] is None and bare["acquirer_data"] == {} and "upi" not in bare


def test_an_event_is_sent_again_until_it_is_taken(receiver, sandbox, api):
    receiver.answers = [500, 301, 200]
    make_qr(api)
    until(lambda: sandbox.events()[0]["state"] == "delivered", "the third attempt")
    assert sandbox.events()[0]["attempts"] == 3
    assert len({headers["x-razorpay-event-id"] for headers, _ in receiver.heard}) == 1
    assert len({raw for _, raw in receiver.heard}) == 1


def test_after_24_hours_of_failures_the_webhook_is_switched_off(receiver):
    hour = [1_800_000_000.0]
    with razorpay_sandbox.start(port=0, webhook_url=receiver.url, background=False, now=lambda: hour[0]) as still:
        receiver.answers = [503] * 100
        api = httpx.Client(base_url=still.url, auth=KEY)
        make_qr(api)
        for _ in range(30):
            still.work()
            hour[0] += 3600
        assert still.events()[0]["state"] == "given_up" and 10 < len(receiver.heard) <= 34
        assert still.moods.webhook_disabled is True
        make_qr(api)
        assert still.events()[1]["state"] == "disabled"


def test_webhooks_on_bad_days(receiver, sandbox, api):
    sandbox.moods.set(webhook_duplicates=2, webhook_secret="wrong", webhook_drop=["payment.captured"])
    qr = make_qr(api)
    receiver.wait_for("qr_code.created", 3)
    headers, raw = receiver.heard[0]
    assert headers["x-razorpay-signature"] != hmac.new(SECRET, raw, hashlib.sha256).hexdigest()
    assert len({headers["x-razorpay-event-id"] for headers, _ in receiver.heard}) == 1
    sandbox.pay(qr["id"], 5_000)
    receiver.wait_for("qr_code.credited", 3)
    assert receiver.events("payment.captured") == []
    sandbox.moods.clear()
    sandbox.moods.webhook_delay_s = 60
    sandbox.pay(qr["id"], 5_000)
    assert {event["state"] for event in sandbox.events()[-2:]} == {"waiting"}


def test_an_old_event_stays_signed_with_the_old_secret(receiver):
    hour = [1_800_000_000.0]
    common = {"port": 0, "webhook_url": receiver.url, "background": False, "now": lambda: hour[0]}
    with razorpay_sandbox.start(**common, webhook_secret="new-one,old-one") as still:
        still.moods.webhook_secret = "old"
        make_qr(httpx.Client(base_url=still.url, auth=KEY))
        still.work()
    headers, raw = receiver.heard[0]
    assert headers["x-razorpay-signature"] == hmac.new(b"old-one", raw, hashlib.sha256).hexdigest()


# -- refunds -------------------------------------------------------------------------------------------------


def test_a_refund_is_pending_then_processed(receiver, sandbox, api):
    payment_id, before = sandbox.pay(make_qr(api)["id"], 50_000), sandbox.balance
    made = refund(api, payment_id, amount=12_300, speed="optimum", notes={"session": "42"}).json()
    assert made["status"] == "pending" and made["amount"] == 12_300 and made["id"].startswith("rfnd_")
    processed = receiver.wait_for("refund.processed")[0]["payload"]
    assert processed["refund"]["entity"]["status"] == "processed" and processed["refund"]["entity"]["speed_processed"] == "instant"
    assert processed["payment"]["entity"]["amount_refunded"] == 12_300
    assert receiver.wait_for("refund.created")
    assert api.get(f"/v1/refunds/{made['id']}").json()["acquirer_data"]["rrn"]
    assert [item["id"] for item in api.get(f"/v1/payments/{payment_id}/refunds").json()["items"]] == [made["id"]]
    assert api.get(f"/v1/payments/{payment_id}").json()["refund_status"] == "partial"
    assert sandbox.balance == before - 12_300
    rest = refund(api, payment_id, key="vt-dev-refund-2", amount=37_700)
    assert rest.status_code == 200
    assert api.get(f"/v1/payments/{payment_id}").json()["status"] == "refunded"
    refused(refund(api, payment_id, key="vt-dev-refund-3", amount=100), 400, "The payment has been fully refunded already.")


def test_the_same_key_is_the_same_refund(sandbox, api):
    payment_id = sandbox.pay(make_qr(api)["id"], 50_000)
    first = refund(api, payment_id, amount=10_000).json()
    until(lambda: api.get(f"/v1/refunds/{first['id']}").json()["status"] == "processed", "the refund")
    assert refund(api, payment_id, amount=10_000).json() == first  # the answer of then, not of now
    other = refund(api, payment_id, amount=10_001)
    refused(other, 409, "Different request with the same idempotency key has already been processed.")
    refused(refund(api, payment_id, key="short", amount=10_000), 400, "at least 10 characters")
    refused(refund(api, payment_id, key="bad key with spaces", amount=10_000), 400, "at least 10 characters")
    assert api.get(f"/v1/payments/{payment_id}").json()["amount_refunded"] == 10_000


def test_a_request_still_running_is_the_other_409(sandbox, api):
    payment_id = sandbox.pay(make_qr(api)["id"], 50_000)
    sandbox.moods.next_refund = "409_in_progress"
    running = "Another request with the same idempotency key is still in progress."
    refused(refund(api, payment_id, amount=10_000), 409, running)
    assert refund(api, payment_id, amount=10_000).status_code == 200
    assert api.get(f"/v1/payments/{payment_id}").json()["amount_refunded"] == 10_000
    with ThreadPoolExecutor(8) as pool:  # and when it is no mood but a race
        answers = list(pool.map(lambda _: refund(api, payment_id, key="vt-dev-race-1", amount=5_000), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert all(running in answer.text for answer in answers if answer.status_code == 409)
    assert api.get(f"/v1/payments/{payment_id}").json()["amount_refunded"] == 15_000


def test_refunds_that_cannot_be(sandbox, api):
    payment_id = sandbox.pay(make_qr(api)["id"], 50_000)
    refused(refund(api, payment_id, amount=50_001), 400, "The refund amount provided is greater than amount captured.")
    refused(refund(api, payment_id, amount=99), 400, "The amount must be at least INR 1.00")
    refused(refund(api, payment_id, amount="12.50"), 400, "The amount must be an integer.")
    refused(refund(api, "pay_nobody", amount=100), 400, "pay_nobody is not a valid id.")
    refused(refund(api, "pay_00000000000000", amount=100), 400, "The id provided does not exist")
    # A refusal does not use up the key.
    assert refund(api, payment_id, amount=100).status_code == 200


def test_money_that_is_not_there_is_not_refunded(receiver):
    with razorpay_sandbox.start(port=0, webhook_url=receiver.url, opening_balance=0) as poor:
        api = httpx.Client(base_url=poor.url, auth=KEY)
        payment_id = poor.pay(make_qr(api)["id"], 50_000)
        assert transfer(api, amount=40_000).status_code == 200
        refused(refund(api, payment_id, amount=10_000), 400, "enough balance")
        refused(transfer(api, key="payout-10", amount=9_990), 400, "Transfer cannot be made due to insufficient balance")
        assert poor.balance == 50_000 - 40_000 - 118


@pytest.mark.parametrize(
    ("mood", "happened"), [("timeout_after_commit", True), ("timeout_before_commit", False), ("500", False), ("500_after_commit", True)]
)
def test_an_answer_that_is_lost(sandbox, api, mood, happened):
    payment_id = sandbox.pay(make_qr(api)["id"], 50_000)
    sandbox.moods.next_refund = mood
    if mood.startswith("timeout"):
        with pytest.raises(httpx.RemoteProtocolError):
            refund(api, payment_id, amount=10_000)
    else:
        refused(refund(api, payment_id, amount=10_000), 500, "trouble")
    assert api.get(f"/v1/payments/{payment_id}/refunds").json()["count"] == (1 if happened else 0)
    assert refund(api, payment_id, amount=10_000).status_code == 200
    assert api.get(f"/v1/payments/{payment_id}/refunds").json()["count"] == 1


def test_refunds_on_bad_days(receiver, sandbox, api):
    payment_id = sandbox.pay(make_qr(api)["id"], 50_000)
    sandbox.moods.next_refund = ["429", "html502", "insufficient_balance", "pending_then_failed", "speed_changed"]
    assert refund(api, payment_id, amount=10_000).status_code == 429
    page = refund(api, payment_id, amount=10_000)
    assert page.status_code == 502 and page.headers["content-type"].startswith("text/html")
    refused(refund(api, payment_id, amount=10_000), 400, "enough balance")
    before = sandbox.balance
    failing = refund(api, payment_id, amount=10_000).json()
    receiver.wait_for("refund.failed")
    assert api.get(f"/v1/refunds/{failing['id']}").json()["status"] == "failed"
    assert api.get(f"/v1/payments/{payment_id}").json()["amount_refunded"] == 0 and sandbox.balance == before
    refund(api, payment_id, key="vt-dev-refund-2", amount=10_000, speed="optimum")
    assert receiver.wait_for("refund.processed")[0]["payload"]["refund"]["entity"]["speed_processed"] == "normal"
    assert receiver.wait_for("refund.speed_changed")


# -- franchisees are paid ------------------------------------------------------------------------------------


def test_a_direct_transfer_happens_once(receiver, sandbox, api):
    before = sandbox.balance
    first = transfer(api, notes={"payout": "9"}).json()
    assert (first["status"], first["fees"], first["tax"], first["settlement_status"]) == ("processed", 59, 9, "pending")
    assert transfer(api, notes={"payout": "9"}).json() == first
    refused(transfer(api, amount=20_001), 400, "Different request with the same idempotency key")
    refused(transfer(api, key="abc"), 400, "4 to 36")
    refused(transfer(api, key="payout-11", amount=99), 400, "at least 100")
    refused(transfer(api, key="payout-12", account="acc_short"), 400, "acc_short is not a valid id.")
    assert sandbox.balance == before - 20_059
    assert receiver.wait_for("transfer.processed")[0]["payload"]["transfer"]["entity"]["id"] == first["id"]
    assert api.get(f"/v1/transfers/{first['id']}").json() == first
    sandbox.moods.next_transfer = "timeout_after_commit"
    with pytest.raises(httpx.RemoteProtocolError):
        transfer(api, key="payout-13")
    assert transfer(api, key="payout-13").json()["status"] == "processed"
    sandbox.moods.next_transfer = "409_in_progress"
    refused(transfer(api, key="payout-14"), 409, "still in progress")
    assert sandbox.balance == before - 3 * 20_059


def test_a_transfer_may_fail_after_the_answer(receiver, sandbox, api):
    before = sandbox.balance
    sandbox.moods.next_transfer = "pending_then_failed"
    pending = transfer(api).json()
    assert pending["status"] == "pending" and "fees" not in pending
    failed = receiver.wait_for("transfer.failed")[0]["payload"]["transfer"]["entity"]
    assert failed["error"]["code"] == "BAD_REQUEST_TRANSFER_INSUFFICIENT_BALANCE"
    assert api.get(f"/v1/transfers/{pending['id']}").json()["status"] == "failed" and sandbox.balance == before


def test_a_settlement_says_nothing_of_its_transfers(receiver, sandbox, api):
    payment_id = sandbox.pay(make_qr(api)["id"], 100_000)
    refund(api, payment_id, amount=10_000)
    sent = transfer(api).json()
    held = transfer(api, key="payout-held", on_hold=True).json()
    assert held["settlement_status"] == "on_hold"
    linked, own = sandbox.settle()
    told = [event["payload"]["settlement"]["entity"] for event in receiver.wait_for("settlement.processed", 2)]
    assert {entity["id"]: entity["amount"] for entity in told} == {linked: 20_000, own: 100_000 - 10_000 - 2 * 20_059}
    assert all(set(entity) == {"id", "entity", "created_at", "amount", "status", "fees", "tax", "utr"} for entity in told)
    assert api.get("/v1/transfers", params={"recipient_settlement_id": own}).json()["items"] == []
    assert api.get("/v1/transfers", params={"recipient_settlement_id": "setl_00000000000000"}).json() is None
    of_it = api.get("/v1/transfers", params={"recipient_settlement_id": linked}).json()
    assert [(item["id"], item["settlement_status"]) for item in of_it["items"]] == [(sent["id"], "settled")]


def test_the_day_can_be_reconciled(sandbox, api):
    payment_id = sandbox.pay(make_qr(api)["id"], 50_000, account="credit_card")
    refund_id = refund(api, payment_id, amount=10_000).json()["id"]
    sent = transfer(api).json()
    _, own = sandbox.settle()
    today = time.gmtime(time.time() + 19_800)  # a day is a day in India
    ask = {"year": today.tm_year, "month": today.tm_mon, "day": today.tm_mday}
    lines = {item["entity_id"]: item for item in api.get("/v1/settlements/recon/combined", params=ask).json()["items"]}
    assert {id: (line["type"], line["debit"], line["credit"], line["fee"]) for id, line in lines.items()} == {
        payment_id: ("payment", 0, 48_820, 1_180),
        refund_id: ("refund", 10_000, 0, 0),
        sent["id"]: ("transfer", 20_059, 0, 59),
    }
    assert {line["settlement_id"] for line in lines.values()} == {own}
    settled = api.get(f"/v1/settlements/{own}").json()
    assert settled["amount"] == sum(line["credit"] - line["debit"] for line in lines.values())
    assert [item["id"] for item in api.get("/v1/settlements").json()["items"]] == [own]
    refused(api.get("/v1/settlements/recon/combined", params={**ask, "month": 13}), 400, "The month is not a valid month.")


def test_a_franchisee_is_onboarded(receiver, sandbox, api):
    home = {"street1": "1 MG Road", "street2": "", "city": "Bengaluru", "state": "KARNATAKA", "postal_code": "560001", "country": "IN"}
    profile = {"category": "utilities", "subcategory": "electricity", "addresses": {"registered": home}}
    ask = {"email": "kaveri@example.com", "phone": "9800000002", "type": "route", "legal_business_name": "Kaveri Power"}
    ask |= {"business_type": "partnership", "contact_name": "Kaveri", "profile": profile}
    account = api.post("/v2/accounts", json=ask).json()
    assert account["id"].startswith("acc_") and account["status"] == "created" and account["notes"] == []
    refused(api.post("/v2/accounts", json=ask), 400, f"Merchant email already exists for account - {account['id']}")
    refused(api.post("/v2/accounts/acc_00000000000000/stakeholders", json={}), 400, "name is required")
    person = {"name": "Kaveri", "email": "kaveri@example.com", "kyc": {"pan": "ABCPK1234L"}}
    stakeholders = f"/v2/accounts/{account['id']}/stakeholders"
    assert api.post(stakeholders, json=person).json()["id"].startswith("sth_")
    refused(api.post(stakeholders, json=person), 400, "Stakeholders cannot be more than one for Route product.")
    products = f"/v2/accounts/{account['id']}/products"
    product = api.post(products, json={"product_name": "route", "tnc_accepted": True}).json()
    assert product["activation_status"] == "needs_clarification" and len(product["requirements"]) == 3
    refused(transfer(api, account=account["id"]), 400, "not activated")
    bank = {"account_number": "1234567890", "ifsc_code": "HDFC0000317", "beneficiary_name": "Kaveri Power"}
    path = f"{products}/{product['id']}"
    refused(api.patch(path, json={"settlements": {**bank, "ifsc_code": "HDFC"}, "tnc_accepted": True}), 400, "Invalid IFSC Code")
    assert api.patch(path, json={"settlements": bank, "tnc_accepted": True}).json()["activation_status"] == "under_review"
    told = receiver.wait_for("product.route.activated")[0]
    assert told["account_id"] == account["id"] and told["payload"]["merchant_product"]["data"] == []
    assert api.get(path).json()["activation_status"] == "activated"
    assert transfer(api, account=account["id"]).json()["status"] == "processed"
    sandbox.moods.cooling_s = 86_400
    refused(transfer(api, key="payout-21", account=account["id"]), 400, "24 hours")
    strange = api.get("/v2/accounts/acc_99999999999999").json()["error"]
    assert strange["reason"] == "linked_account_id_does_not_exist"


def test_a_transfer_from_a_payment_repeats_and_refuses_after_a_refund(sandbox, api):
    payment_id = sandbox.pay(make_qr(api)["id"], 50_000)
    ask = {"transfers": [{"account": KAVERI_BANK, "amount": 20_000, "currency": "INR"}]}
    made = [api.post(f"/v1/payments/{payment_id}/transfers", json=ask).json()["items"][0] for _ in range(2)]
    assert made[0]["id"] != made[1]["id"] and {item["status"] for item in made} == {"pending"}
    refused(api.post(f"/v1/payments/{payment_id}/transfers", json=ask), 400, "greater than the captured amount")
    until(lambda: api.get(f"/v1/transfers/{made[1]['id']}").json()["status"] == "processed", "the transfer")
    back = api.post(f"/v1/transfers/{made[0]['id']}/reversals", json={"amount": 5_000}).json()
    assert back["id"].startswith("rvrsl_") and back["amount"] == 5_000
    refund(api, payment_id, amount=100)
    refused(api.post(f"/v1/payments/{payment_id}/transfers", json=ask), 400, "once a refund has been initiated")


def test_an_order_is_paid_and_its_signature_holds(receiver, sandbox, api):
    order = api.post("/v1/orders", json={"amount": 30_000, "currency": "INR", "receipt": "top-up-1", "notes": {}}).json()
    assert order["status"] == "created" and order["amount_due"] == 30_000 and order["notes"] == []
    handed = sandbox.pay_order(order["id"], vpa="asha@okbank")
    signed = hmac.new(KEY[1].encode(), f"{order['id']}|{handed['razorpay_payment_id']}".encode(), hashlib.sha256).hexdigest()
    assert handed["razorpay_signature"] == signed
    assert api.get(f"/v1/orders/{order['id']}").json()["status"] == "paid"
    assert api.get(f"/v1/orders/{order['id']}/payments").json()["items"][0]["order_id"] == order["id"]
    assert api.get("/v1/orders", params={"receipt": "top-up-1"}).json()["items"][0]["id"] == order["id"]
    receiver.wait_for("order.paid")
    receiver.wait_for("payment.captured")


# -- people, and the machine it runs on ----------------------------------------------------------------------


def test_a_person_pays_on_the_page(sandbox, api):
    qr = make_qr(api, name="Kaveri <Plaza> & Sons", notes={"page": "https://charge.example/c/kp1/"})
    person = httpx.Client(base_url=sandbox.url, follow_redirects=True)
    assert "Kaveri &lt;Plaza&gt; &amp; Sons" in person.get("/").text
    shown = person.get(f"/pay/{qr['id']}")
    assert "Sandbox: no real money" in shown.text and "<Plaza>" not in shown.text
    form = {"amount": "250.50", "vpa": "asha@okbank", "contact": "98000 00001", "once": "a-token"}
    paid = person.post(f"/pay/{qr['id']}", data=form)
    assert paid.url.path.startswith("/paid/pay_") and "₹250.50" in paid.text and "https://charge.example/c/kp1/" in paid.text
    assert person.post(f"/pay/{qr['id']}", data=form).url == paid.url  # an impatient thumb pays once
    payment = api.get(f"/v1/payments/{paid.url.path.removeprefix('/paid/')}").json()
    assert (payment["amount"], payment["contact"]) == (25_050, "+919800000001")
    for amount, word in [("0.50", "smallest payment"), ("100001", "₹1,00,000"), ("ten", "amount in rupees"), ("1.001", "two decimals")]:
        answer = person.post(f"/pay/{qr['id']}", data={"amount": amount})
        assert answer.status_code == 400 and word in answer.text, amount
    assert "not a UPI ID" in person.post(f"/pay/{qr['id']}", data={"amount": "50", "vpa": "asha"}).text
    assert "Payment failed" in person.post(f"/pay/{qr['id']}", data={"amount": "50", "vpa": "failure@razorpay"}).text
    assert person.post(f"/pay/{qr['id']}", json={"amount": 20}).json()["payment_id"].startswith("pay_")
    refund(api, payment["id"], amount=10_000)
    transfer(api)
    dashboard = person.get("/dashboard").text
    assert payment["id"] in dashboard and "trf_" in dashboard and "rfnd_" in dashboard and "qr_code.credited" in dashboard
    api.post(f"/v1/payments/qr_codes/{qr['id']}/close")
    assert "closed and takes no more money" in person.get(f"/pay/{qr['id']}").text
    assert person.get("/pay/qr_00000000000000").status_code == 404


def test_the_way_back_to_the_charger_comes_from_the_template():
    with razorpay_sandbox.start(port=0, rider_url_template="http://127.0.0.1:8000/c/{code}/") as sandbox:
        api = httpx.Client(base_url=sandbox.url, auth=KEY)
        for notes, link in [
            ({"connector": "K7/P2"}, "http://127.0.0.1:8000/c/K7%2FP2/"),
            ({}, None),
            ({"page": "javascript:alert(1)"}, None),
        ]:
            shown = httpx.get(f"{sandbox.url}/paid/{sandbox.pay(make_qr(api, notes=notes)['id'], 5_000)}").text
            assert ("See it at the charger" in shown) == (link is not None) and (link or "") in shown and "javascript" not in shown


def test_other_sites_cannot_pay_or_set_moods(sandbox, api):
    qr = make_qr(api)
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example", "Origin": "http://evil.example"}):
        assert httpx.post(f"{sandbox.url}/pay/{qr['id']}", data={"amount": "50"}, headers=headers).status_code == 403
        assert httpx.post(f"{sandbox.url}/sandbox/moods", json={"next_refund": "500"}, headers=headers).status_code == 403
    assert sandbox.moods.next_refund == []
    assert httpx.post(f"{sandbox.url}/sandbox/moods", json={"next_refund": "500"}).json()["next_refund"] == ["500"]
    strange = httpx.post(f"{sandbox.url}/sandbox/moods", json={"next_refund": "explode"})
    assert strange.status_code == 400 and "timeout_after_commit" in strange.json()["error"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::", ""])
def test_it_listens_on_this_machine_only(host):
    with pytest.raises(razorpay_sandbox.Refused):
        razorpay_sandbox.start(port=0, host=host)


def test_a_restart_forgets_nothing(tmp_path, receiver):
    file = str(tmp_path / "sandbox.sqlite3")
    with razorpay_sandbox.start(port=0, db=file, background=False, refund_delay_s=0) as first:
        api = httpx.Client(base_url=first.url, auth=KEY)
        qr = make_qr(api)
        payment_id = first.pay(qr["id"], 50_000)
        answer = refund(api, payment_id, amount=10_000).json()
        first.moods.next_transfer = "500"
        balance, merchant = first.balance, first.world.merchant
    with pytest.raises(httpx.TransportError):
        api.get(f"/v1/payments/{payment_id}")
    with razorpay_sandbox.start(port=0, db=file, webhook_url=receiver.url) as second:
        api = httpx.Client(base_url=second.url, auth=KEY)
        assert api.get(f"/v1/payments/{payment_id}").json()["amount_refunded"] == 10_000
        assert refund(api, payment_id, amount=10_000).json() == answer
        assert (second.balance, second.world.merchant) == (balance, merchant)
        assert second.moods.next_transfer == ["500"]
        second.pay(qr["id"], 5_000)
        assert receiver.wait_for("qr_code.credited")[0]["payload"]["qr_code"]["entity"]["payments_count_received"] == 1


def test_the_log_names_nobody(sandbox, api, caplog):
    caplog.set_level("INFO", logger="billing.sandbox")
    qr = make_qr(api)
    httpx.post(f"{sandbox.url}/pay/{qr['id']}", data={"amount": "50", "vpa": "asha@okbank", "contact": "9800000001"})
    api.get("/v1/payments", params={"count": 10})
    until(lambda: "GET /v1/payments 200" in caplog.text, "the line of the last call")
    assert not [word for word in ("asha", "9800000001", KEY[1], "sandbox-webhook-secret", "count=") if word in caplog.text]
