"""Razorpay in the box: the sandbox, without a socket. What it has done stays done, whatever becomes of us."""

import json
from urllib.parse import parse_qsl, urlsplit

import httpx
from django.conf import settings
from django.test import RequestFactory

import billing.sandbox
from billing import razorpay, webhooks
from billing.sandbox import Request, Sandbox
from billing.sandbox import webhooks as outgoing
from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.faults import Faults
from voltaro.worldsim.process import Process


class Razorpay:
    def __init__(self, clockwork: Clockwork, faults: Faults) -> None:
        self.clockwork, self.faults = clockwork, faults
        self.dice = clockwork.dice("razorpay")
        self.process: Process | None = None
        options = {"port": 0, "background": False, "settle_after_s": None, "refund_delay_s": 20, "transfer_delay_s": 20}
        self.sandbox: Sandbox = billing.sandbox.start(
            **options, seed=clockwork.seed, now=lambda: clockwork.now().timestamp(), webhook_url="http://here/webhooks/razorpay/"
        )
        client = razorpay.Client(settings.RAZORPAY_BASE_URL, settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET)
        client._http = httpx.Client(
            base_url=settings.RAZORPAY_BASE_URL,
            auth=httpx.BasicAuth(settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET),
            transport=httpx.MockTransport(self._call),
        )
        self.client = client

    def stop(self) -> None:
        self.sandbox.stop()

    def _call(self, request: httpx.Request) -> httpx.Response:
        """One call of ours. Before the deed it may be refused; after it, its answer may be lost."""
        split = urlsplit(str(request.url))
        if self.faults.strikes("psp_refused", self.dice):
            self.clockwork.reach("psp_refused", split.path)
            return httpx.Response(self.dice.choice((500, 429)), json={"error": {"code": "SERVER_ERROR", "description": "later"}})
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, split.path, dict(parse_qsl(split.query)), headers, raw=request.read())
        answer = self.sandbox.answer(asked)
        self.clockwork.tell(f"psp {request.method} {split.path} {answer.status}")
        if self.faults.strikes("psp_lost", self.dice):
            self.clockwork.reach("psp_lost", split.path)
            raise httpx.ReadTimeout("no answer", request=request)
        return httpx.Response(answer.status, content=answer.body, headers={"Content-Type": answer.content_type})

    def work(self) -> None:
        """What Razorpay does by itself: refunds arrive, webhooks are sent (and lost, doubled, delayed)."""
        self.sandbox.work()

    def post(self, url: str, raw: bytes, signature: str, event_id: str) -> int:
        """Deliver a webhook to our view; its HTTP status. A connection that dies is an OSError, as on a real line."""
        assert self.process is not None
        if self.faults.strikes("webhook_lost", self.dice):
            self.clockwork.reach("webhook_lost")
            raise ConnectionResetError("lost")
        copies = 2 if self.faults.strikes("webhook_twice", self.dice) else 1
        status = 500
        for _ in range(copies):
            headers = {"x-razorpay-event-id": event_id, "x-razorpay-signature": signature}
            asked = RequestFactory().post("/webhooks/razorpay/", raw, content_type="application/json", headers=headers)
            answer, lived = self.process.run("webhook", webhooks.receive, asked)
            if not lived:
                raise ConnectionResetError("killed")
            status = answer.status_code
            name = json.loads(raw)["event"]
            self.clockwork.tell(f"webhook {name} {event_id} {status}")
        return status

    def installed(self) -> dict[str, object]:
        """What stands in our code's way to the real one, by dotted name."""
        return {"billing.razorpay.client": lambda: self.client, f"{outgoing.__name__}._post": self.post}
