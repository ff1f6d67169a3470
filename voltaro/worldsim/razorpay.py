"""Razorpay in the box: the sandbox, without a socket. What it has done stays done, whatever becomes of us."""

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from django.conf import settings
from django.test import RequestFactory

import billing.sandbox
from billing import razorpay, webhooks
from billing.sandbox import Request, Sandbox, refunds, transfers
from billing.sandbox import webhooks as outgoing
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.process import Process

SECRETS = ["sandbox-webhook-secret", "the-secret-before-this-one"]
# What a world's Razorpay and its money are like, whatever the environment says.
SETTINGS = {
    "RAZORPAY_KEY_ID": "rzp_test_sandbox00000000",
    "RAZORPAY_KEY_SECRET": "sandbox-key-secret",
    "RAZORPAY_WEBHOOK_SECRETS": SECRETS,
    "RAZORPAY_BASE_URL": "http://razorpay.invalid",
    "INSTANCE_PREFIX": "sim",
    "DIRECT_TRANSFERS_ENABLED": True,
    "PAYOUT_DELAY_S": 0,
    "AUTHORIZER_URL": "",
}
PATH = "/webhooks/razorpay/"
SLOWEST_S = 19.0
WAITS_AT_MOST = 2  # deeds that wait in each other's midst


class Razorpay:
    """`sandbox` is the truth about money. Call it with the world's settings in force."""

    def __init__(self, clockwork: Clockwork, faults: Faults, process: Process) -> None:
        self.clockwork, self.faults, self.process = clockwork, faults, process
        self.dice = clockwork.dice("razorpay")
        options = {"port": 0, "background": False, "settle_after_s": None, "refund_delay_s": 20, "transfer_delay_s": 20}
        self.sandbox: Sandbox = billing.sandbox.start(
            **options, seed=clockwork.seed, now=lambda: clockwork.now().timestamp(), webhook_url="http://here" + PATH
        )
        self.sandbox.moods.late_payments = True
        self.client = razorpay.Client(settings.RAZORPAY_BASE_URL, settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET)
        self.client._http = httpx.Client(
            base_url=settings.RAZORPAY_BASE_URL,
            auth=httpx.BasicAuth(settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET),
            transport=httpx.MockTransport(self._call),
        )
        self.delivered: list[tuple[bytes, str, str]] = []
        self.forged: set[str] = set()  # payments that never were

    def stop(self) -> None:
        self.sandbox.stop()

    def installed(self) -> dict[str, object]:
        """What stands in our code's way to the real one, by dotted name."""
        return {"billing.razorpay.client": lambda: self.client, f"{outgoing.__name__}._post": self.post}

    # -- our calls -----------------------------------------------------------------------------------------------
    def _call(self, request: httpx.Request) -> httpx.Response:
        """One call of ours. Before the deed it may be refused; after it, its answer may be lost; and it takes its time."""
        split = urlsplit(str(request.url))
        what = f"{request.method} {split.path.rpartition('/')[2] if request.method == 'POST' else split.path.split('/')[2]}"
        kind = "refund" if split.path.endswith("/refund") else "some"
        self.process.may_die("killed_at_call", f"killed_before_{kind}_call")
        if self.faults.strikes("psp_refused", self.dice):
            self.clockwork.reach("psp_refused", what)
            how = self.dice.choice(("500", "429", "html"))
            if how == "html":
                return httpx.Response(502, text="<html>Bad Gateway</html>")
            return httpx.Response(int(how), json={"error": {"code": "SERVER_ERROR", "description": "later"}})
        self._slow(request)
        if request.method == "POST":
            self._moods(split.path)
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = self.sandbox.answer(Request(request.method, split.path, dict(parse_qsl(split.query)), headers, raw=request.read()))
        self.clockwork.tell(f"psp {request.method} {split.path} {answer.status}")
        self._note(request.method, split.path, answer.status)
        self.process.may_die("killed_at_call", f"killed_after_{kind}_call")
        if self.waits_left and self.faults.strikes("worker_frozen", self.dice):
            self.clockwork.reach("worker_frozen", self.process.what)
            self.process.wait(self.dice.uniform(120, 900))
        if self.faults.strikes("psp_lost", self.dice):
            return self._lost(request, what, answer.body)
        return httpx.Response(answer.status, content=answer.body, headers={"Content-Type": answer.content_type})

    @property
    def waits_left(self) -> bool:
        return self.process.waits < WAITS_AT_MOST

    def _slow(self, request: httpx.Request) -> None:
        if not self.waits_left or not self.faults.strikes("psp_slow", self.dice):
            return
        self.clockwork.reach("psp_slow", self.process.what)
        if self.process.what == "webhooks" and self.delivered:  # and Razorpay, in doubt, sends it again meanwhile
            again = self.delivered[-1]
            self.clockwork.after(self.dice.uniform(0.1, 2), lambda: self._try(*again))
        self.process.wait(self.dice.uniform(2.0, SLOWEST_S))

    def _moods(self, path: str) -> None:
        moods, kind = self.sandbox.moods, path.rpartition("/")[2]
        if kind not in ("refund", "transfers"):
            return
        faults = {
            "refund": {"refund_fails": "pending_then_failed", "refund_stays": "stays_pending"},
            "transfers": {"transfer_fails": "pending_then_failed"},
        }[kind] | {"psp_conflict": "409_in_progress", "balance_low": "insufficient_balance"}
        for name, mood in faults.items():
            if self.faults.strikes(name, self.dice):
                self.clockwork.reach(name, path)
                moods.set(**{"next_refund" if kind == "refund" else "next_transfer": mood})
                return

    def _note(self, method: str, path: str, status: int) -> None:
        if method == "POST" and status == 200 and path == "/v1/transfers" and self.faults.strikes("transfer_reversed", self.dice):
            self.clockwork.after(self.dice.uniform(60, 600), self._reverse)

    def _lost(self, request: httpx.Request, what: str, body: bytes) -> httpx.Response:
        self.clockwork.reach("psp_lost", what)
        match self.dice.choice(("silence", "500", "html", "torn")):
            case "500":
                return httpx.Response(500, json={"error": {"code": "SERVER_ERROR", "description": "we are not sure"}})
            case "html":
                return httpx.Response(502, text="<html>Bad Gateway</html>")
            case "torn":
                return httpx.Response(200, content=body[: len(body) // 2])
        raise httpx.ReadTimeout("no answer", request=request)

    # -- what Razorpay, and people on its dashboard, do by themselves ----------------------------------------------
    def work(self) -> None:
        """Refunds arrive, webhooks are sent."""
        self.sandbox.work()

    def finish(self) -> None:
        """The calm has come: what was left pending comes to its end."""
        for kind, finish in (("refund", refunds.finish), ("transfer", transfers.finish)):
            for doc in self.sandbox.world.store.find(kind):
                if doc["status"] == "pending":
                    finish(self.sandbox.world, doc["id"])

    def _reverse(self) -> None:
        for doc in self.sandbox.world.store.find("transfer"):
            if doc["status"] == "processed":
                transfers.reverse(self.sandbox.world, Request("POST", "", {}, {}, body={}), doc["id"])
                self.clockwork.reach("payout_reversed", doc["id"])
                return

    def refund_by_hand(self, payment_id: str) -> None:
        """Somebody refunds (a part of) what is left of a payment, on the dashboard."""
        store = self.sandbox.world.store
        payment = store.get("payment", payment_id)
        left = payment["amount"] - payment["amount_refunded"]
        if left >= 200:
            asked = Request("POST", "", {}, {}, body={"amount": left // self.dice.choice((1, 2))})
            refunds.create(self.sandbox.world, asked, payment_id)
            self.clockwork.reach("refunded_by_hand", payment_id)

    # -- webhooks ------------------------------------------------------------------------------------------------
    def post(self, url: str, raw: bytes, signature: str, event_id: str) -> int:
        """Deliver a webhook to our view; its HTTP status. A connection that dies is an OSError, as on a real line."""
        if self.faults.strikes("webhook_lost", self.dice):
            self.clockwork.reach("webhook_lost")
            raise ConnectionResetError("lost")
        # Of a refund on the dashboard nothing else tells us but the next day's reconciliation, which no world lives to see.
        if not _of_the_dashboard(raw) and self.faults.strikes("webhook_dropped", self.dice):
            self.clockwork.reach("webhook_dropped")
            return 200
        if self.faults.strikes("webhook_old_secret", self.dice):
            self.clockwork.reach("webhook_old_secret")
            signature = _signed(raw, SECRETS[1])
        if self.faults.strikes("webhook_late", self.dice):
            self.clockwork.reach("webhook_late")
            self.clockwork.after(self.dice.uniform(60, 1200), lambda: self._try(raw, signature, event_id))
            return 200
        if self.faults.strikes("webhook_twice", self.dice):
            self.clockwork.reach("webhook_twice")
            wait_s = self.dice.choice((0.0, 1.0, 60.0)) * self.dice.random()
            self.clockwork.after(wait_s, lambda: self._try(raw, signature, event_id))
        if self.faults.strikes("webhook_renamed", self.dice):
            self.clockwork.reach("webhook_renamed")
            self.clockwork.after(self.dice.uniform(0, 30), lambda: self._try(raw, signature, event_id + "again"))
        if self.faults.strikes("webhook_forged", self.dice):
            self._forge(raw, genuine=self.dice.random() < 0.5)
        self.delivered = [*self.delivered[-50:], (raw, signature, event_id)]
        return self._knock(raw, signature, event_id)

    def _knock(self, raw: bytes, signature: str, event_id: str) -> int:
        if any(what == "webhooks" for _, what in self.process.standing) and (raw, signature, event_id) in self.delivered[:-1]:
            self.clockwork.reach("webhook_during_processing")
        headers = {"x-razorpay-event-id": event_id, "x-razorpay-signature": signature}
        asked = RequestFactory().post(PATH, raw, content_type="application/json", headers=headers)
        try:
            answer, lived = self.process.run("web", "webhook", webhooks.receive, asked)
        except self.process.away:
            return 500
        if not lived:
            raise ConnectionResetError("killed")
        self.clockwork.tell(f"webhook {json.loads(raw)['event']} {event_id} {answer.status_code}")
        return int(answer.status_code)

    def _forge(self, raw: bytes, *, genuine: bool) -> None:
        """The same event about money that never came: signed by nobody, or (another installation's) about a QR that is not ours."""
        told = json.loads(raw)
        entity: Any = told["payload"].get("payment", {}).get("entity")
        if entity is None:
            return
        entity["id"] = "pay_" + self.sandbox.world.word(14)
        self.forged.add(entity["id"])
        if "qr_code" in told["payload"]:
            told["payload"]["qr_code"]["entity"]["id"] = "qr_" + self.sandbox.world.word(14)
        made = json.dumps(told).encode()
        signature = _signed(made, SECRETS[0]) if genuine else "0" * 64
        self.clockwork.reach("webhook_foreign" if genuine else "webhook_forged", entity["id"])
        wait_s, event_id = self.dice.uniform(0, 5), "forged" + self.sandbox.world.word(8)
        self.clockwork.after(wait_s, lambda: self._try(made, signature, event_id))

    def _try(self, raw: bytes, signature: str, event_id: str) -> None:
        """One delivery more, that nobody waits for."""
        try:
            self._knock(raw, signature, event_id)
        except ConnectionResetError:
            self.clockwork.tell("a delivery was not heard")


def _of_the_dashboard(raw: bytes) -> bool:
    """Whether it speaks of a refund that we did not ask for: ours bear a receipt."""
    refund = json.loads(raw)["payload"].get("refund")
    return refund is not None and not refund["entity"].get("receipt")


def _signed(raw: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
