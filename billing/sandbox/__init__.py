"""A local Razorpay for development and tests: real HTTP, no real money. See docs/sandbox.md.

with billing.sandbox.start(port=0, webhook_url=...) as sandbox:
    payment_id = sandbox.pay(qr_id, 50_000, vpa="asha@okbank", contact="+919800000001")
"""

import json
import threading

from billing.sandbox import orders, payments, server, settlements, webhooks
from billing.sandbox.moods import BadMood, Moods
from billing.sandbox.options import Options
from billing.sandbox.payments import PayRefused
from billing.sandbox.server import Refused
from billing.sandbox.world import Request, Response, World

__all__ = ["BadMood", "Moods", "Options", "PayRefused", "Refused", "Sandbox", "start"]


class Sandbox:
    """A running sandbox. Money in paise, times in seconds."""

    def __init__(self, options: Options):
        self.options = options
        self.world = World(options)
        try:
            self._server = server.Server(self.world)
        except BaseException:
            self.world.store.close()
            raise
        webhooks.recover(self.world)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sandbox-http", daemon=True)
        self._thread.start()
        self._worker = server.Worker(self.world) if options.background else None
        if self._worker:
            self._worker.start()

    @property
    def url(self) -> str:
        """Where it really listens, whatever the public address is."""
        host = self.options.host.strip("[]")
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_address[1]}"

    @property
    def moods(self) -> Moods:
        return self.world.moods

    @property
    def balance(self) -> int:
        """What the merchant has at Razorpay, paise."""
        return self.world.store.balance()

    def pay(
        self,
        qr_id: str,
        amount_paise: int,
        *,
        vpa: str | None = "rider@sandbox",
        contact: str | None = None,
        account: str = "bank_account",
    ) -> str:
        """A person scans and pays. Returns the payment's id; raises PayRefused where a UPI app would say no."""
        return payments.pay_qr(self.world, qr_id, amount_paise, vpa=vpa, contact=contact, account=account)["id"]

    def pay_order(self, order_id: str, *, vpa: str | None = "rider@sandbox", contact: str | None = None) -> dict:
        """A person pays at Checkout. Returns what Checkout hands to the page: both ids and the signature."""
        return orders.pay(self.world, order_id, vpa=vpa, contact=contact)

    def settle(self) -> list[str]:
        """Settle everything now. Returns the settlements' ids."""
        return settlements.run(self.world)

    def work(self) -> int:
        """Do what is due, once, in this thread (for background=False). Returns how much that was."""
        return server.work(self.world)

    def answer(self, request: Request) -> Response:
        """One request without a socket."""
        return server.handle(self.world, request)

    def events(self, name: str | None = None) -> list[dict]:
        """The events so far, oldest first, as they were or will be sent: event_id, event, state, attempts, answer, signature,
        raw (the bytes) and body (the same, parsed)."""
        found = self.world.store.rows(
            "SELECT event_id, event, state, attempts, answer, signature, body AS raw FROM deliveries ORDER BY seq"
        )
        return [{**dict(row), "body": json.loads(row["raw"])} for row in found if name in (None, row["event"])]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join(timeout=10)
        if self._worker:
            self._worker.end()
        self.world.store.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(**options: object) -> Sandbox:
    """Start one in this process; the keywords are the fields of Options (port=0: any free port)."""
    return Sandbox(Options(**options))
