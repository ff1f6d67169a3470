"""A stage for proofs that live the same story many times: a time of our own, Razorpay without a socket, a fresh charger each time.

Rows of earlier stories stay where they are: every story has a charger, a connector and a QR of its own, so that hundreds of them
fit on one database without emptying it. Nothing leaves the process but to the database.
"""

import base64
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import httpx
from django.conf import settings
from django.http import HttpResponse
from django.test import RequestFactory

import billing.sandbox
from billing import qr, razorpay, webhooks
from billing.models import QRPayment
from billing.sandbox import Request
from csms import live, quirks
from csms.models import ChargePoint, ChargingSession, IdTag
from tests import factories
from tests.charger import Charger
from voltaro import clock, jobs
from voltaro.celery import BATCH, WORKERS

RIDERS = ("webhooks", "permits.ask", "payments.link", "payments.expire", "bills", "refunds")
SHARES = ("settlements", "payouts")
BEGIN = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
_stories = itertools.count(1)


class Time:
    """Stands still but for a millisecond at every look, so that two deeds never have the very same moment."""

    def __init__(self) -> None:
        self._at, self._lock = BEGIN, threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            self._at += timedelta(milliseconds=1)
            return self._at

    def elapsed(self) -> float:
        return (self._at - BEGIN).total_seconds()

    def go_on(self, seconds: float) -> datetime:
        with self._lock:
            self._at += timedelta(seconds=seconds)
            return self._at


class Stage:
    """The cast's network, Razorpay (`sandbox`), the time. `gap` is told of every call out, before and after."""

    def __init__(self, time: Time, sandbox: billing.sandbox.Sandbox, network: SimpleNamespace) -> None:
        self.time, self.sandbox, self.network = time, sandbox, network
        self.gap: Callable[[str], None] = lambda what: None
        self.client = razorpay.Client(settings.RAZORPAY_BASE_URL, settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET)
        auth = httpx.BasicAuth(settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET)
        self.client._http = httpx.Client(base_url="http://razorpay", auth=auth, transport=httpx.MockTransport(self._call))

    def _call(self, request: httpx.Request) -> httpx.Response:
        split = urlsplit(str(request.url))
        what = f"{request.method} {split.path}"
        self.gap(f"calls {what}")
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = self.sandbox.answer(Request(request.method, split.path, dict(parse_qsl(split.query)), headers, raw=request.read()))
        self.gap(f"hears {answer.status} of {what}")
        return httpx.Response(answer.status, content=answer.body, headers={"Content-Type": answer.content_type})

    def call(self, method: str, path: str, body: dict[str, Any]) -> Request:
        """A request to Razorpay of somebody who is not us: a person at the dashboard."""
        key = f"{settings.RAZORPAY_KEY_ID}:{settings.RAZORPAY_KEY_SECRET}".encode()
        headers = {"authorization": "Basic " + base64.b64encode(key).decode(), "content-type": "application/json"}
        return Request(method, path, {}, headers, raw=json.dumps(body).encode())

    def story(self, connectors: int = 1, **fields: Any) -> "Story":
        return Story(self, connectors, **fields)

    def work(self, *names: str) -> int:
        """Run these workers once, as the beat does."""
        return sum(int(WORKERS[name].function("work")(clock.now(), BATCH)) for name in names)

    def rest(self, *more: str) -> None:
        """Work until nothing is due any more: a rider's money, and what else is named (`*SHARES`: the franchisee's)."""
        names = [*RIDERS, *more]
        for _ in range(20):
            self.sandbox.work()
            if not sum([self.work(name) for name in names]):
                return
        raise AssertionError("the workers never came to rest")


class Story:
    """One charger of Kaveri's with its connectors, online and booted, and a rider who pays."""

    def __init__(self, stage: Stage, connectors: int, *, settled: bool = True, type: str = "ccs2", boots: bool = True) -> None:
        self.stage, self.number = stage, next(_stories)
        company = stage.network.kaveri.company
        row = factories.make_charge_point(f"RACE-{self.number}", company, connectors=0)
        self.connectors = [factories.make_connector(row, place, qr=False, type=type) for place in range(1, connectors + 1)]
        self.connector = self.connectors[0]
        self.code = qr.ensure_qr(self.connector)
        self.row: ChargePoint = row
        self.charger = Charger(row)
        if boots:
            self.charger.boot()
            self.charger.status("Available")
        if settled:
            self.charger.context.settles_at = clock.now()

    # -- money -------------------------------------------------------------------------------------------------
    def pays(self, paise: int = 50_000, who: str = "rider") -> str:
        """Somebody scans and pays; nobody here has heard of it."""
        return self.stage.sandbox.pay(self.code.razorpay_id, paise, vpa=f"{who}{self.number}@okbank")

    def told(self, payment_id: str, name: str = "qr_code.credited") -> tuple[bytes, str, str]:
        """(raw, signature, event id) of what Razorpay says of it."""
        for event in reversed(self.stage.sandbox.events(name)):
            if event["body"]["payload"].get("payment", {}).get("entity", {}).get("id") == payment_id:
                return event["raw"], event["signature"], event["event_id"]
        raise AssertionError(f"no {name} of {payment_id}")

    @staticmethod
    def deliver(raw: bytes, signature: str, event_id: str) -> HttpResponse:
        headers = {"x-razorpay-event-id": event_id, "x-razorpay-signature": signature}
        return webhooks.receive(RequestFactory().post("/webhooks/razorpay/", raw, content_type="application/json", headers=headers))

    def paid(self, paise: int = 50_000) -> QRPayment:
        """A rider has paid and we have heard of it."""
        payment_id = self.pays(paise)
        self.deliver(*self.told(payment_id))
        self.stage.work("webhooks")
        return QRPayment.objects.get(razorpay_payment_id=payment_id)

    @property
    def payments(self) -> Any:
        return QRPayment.objects.filter(connector__in=self.connectors)

    @property
    def permit(self) -> IdTag:
        return IdTag.objects.filter(connector__in=self.connectors, kind="one_time").latest("pk")

    # -- charging ----------------------------------------------------------------------------------------------
    def charging(self, meter: int = 1000, to: int = 3000) -> ChargingSession:
        """Paid, started, some energy delivered."""
        self.paid()
        self.charger.start(self.permit.tag, meter)
        self.stage.work("payments.link")
        self.stage.time.go_on(180)
        self.charger.meter(to, 40_000)
        return self.session

    @property
    def session(self) -> ChargingSession:
        return ChargingSession.objects.filter(connector__in=self.connectors).latest("pk")

    @property
    def sessions(self) -> Any:
        return ChargingSession.objects.filter(connector__in=self.connectors)

    def another_line(self) -> Charger:
        """The same charger on a line of its own, as after a takeover; it goes on with the same transaction."""
        line = Charger(self.row)
        line.transaction_id, line.context.settles_at = self.charger.transaction_id, clock.now()
        return line


@contextmanager
def stage(given_settings: Any) -> Iterator[Stage]:
    """The stage, in a test with `transaction=True`. `given_settings` is pytest-django's fixture."""
    time = Time()
    # One of our own: the sandbox's looks at the time move nothing.
    options = {"port": 0, "background": False, "settle_after_s": None, "refund_delay_s": 0, "opening_balance": 10**11, "seed": 1}
    with ExitStack() as stack:
        stack.enter_context(clock.instead(time.now, time.elapsed))
        sandbox = stack.enter_context(billing.sandbox.start(**options, now=lambda: time._at.timestamp()))
        given_settings.RAZORPAY_KEY_ID, given_settings.RAZORPAY_KEY_SECRET = sandbox.options.key_id, sandbox.options.key_secret
        given_settings.RAZORPAY_WEBHOOK_SECRETS = [sandbox.options.webhook_secret]
        for target, name, value in (
            (jobs, "_send", lambda bell: None),
            (live, "send", lambda *a, **k: None),
            (live, "changed", lambda *a, **k: None),
            (live, "changed_charge_point", lambda *a, **k: None),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        quirks.forget()
        made = Stage(time, sandbox, factories.make_network())
        stack.enter_context(mock.patch.object(razorpay, "client", lambda: made.client))
        yield made


# -- how a story ends -----------------------------------------------------------------------------------------------------
def not_started(on: Stage, *stories: Story) -> None:
    """Nobody plugs in: every rupee goes back."""
    on.time.go_on(301)
    on.rest()
    for story in stories:
        for payment in story.payments:
            assert payment.state == "settled"
            assert sum(one.amount_paise for one in payment.refunds.filter(state="processed")) == payment.amount_paid


def stopped(on: Stage, story: Story, meter: int) -> None:
    on.time.go_on(30)
    story.charger.transaction_id = int(story.session.transaction_id)
    story.charger.stop(meter)
    on.rest()
    for payment in story.payments:
        assert payment.state == "settled"
