"""Our process is killed after every statement of everything it does, and the world goes on: the end is always the same.

For each handler its story is lived once undisturbed, then once for every gap (before each statement and commit, after what is
committed, before and after each call to Razorpay): killed there, recovered as in life (the charger comes back and says it again,
Razorpay tells again, the worker's next beat), and lived to its end. Its rows, without times and ids, must be as if nothing had been.
"""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection

from accounts.models import AuditEntry
from billing import ledger, refunds, webhooks
from billing.models import Posting, QRCode, WebhookEvent
from csms import reservations, sessions
from csms.models import Command, IdTag, MeterReading
from franchise.models import CommissionLedgerEntry
from tests.simulation.invariants import broken
from tests.simulation.scene import SHARES, Stage, Story, stage
from voltaro import clock
from voltaro.worldsim.gaps import gaps
from voltaro.worldsim.process import Killed

HANDLERS: list[Callable[[Stage], "Deed"]] = []
# What is told exactly once of a story, however often it was begun.
ONCE = (
    *("session.started", "session.ended", "session.billed", "permit.granted", "permit.revoked", "payment.taken", "payment.started"),
    *("payment.settled", "refund.due", "refund.processed", "session.orphan_stop", "qr.closed"),
)


@dataclass
class Deed:
    """A story as far as the moment; the deed in which we die; what the world does then; how it ends either way."""

    story: Story
    do: Callable[[], Any]
    recover: Callable[[], Any]
    end: Callable[[], Any] = lambda: None
    forget: tuple[str, ...] = ()


def handler(make):
    HANDLERS.append(make)
    return make


def back(story: Story, boots: bool = False) -> None:
    """The charger finds its line dead and comes back; every other time only after our lease on it has run out."""
    if story.deaths % 2:
        story.stage.time.go_on(125)
        story.stage.work("stations.silent")
    story.charger = story.another_line()
    if boots:
        story.charger.boot()


def over(story: Story, meter: int = 4000) -> Callable[[], None]:
    """The charge ends, the money goes where it belongs."""

    def end() -> None:
        if story.session.state != "STOPPED":
            story.stage.time.go_on(60)
            story.charger.transaction_id = int(story.session.transaction_id)
            story.charger.stop(meter)
        finish(story)()

    return end


def finish(story: Story) -> Callable[[], None]:
    def end() -> None:
        for _ in range(3):
            story.stage.rest(*SHARES)
            story.stage.time.go_on(305)  # every lease of a dead worker has run out
        story.stage.rest(*SHARES)

    return end


# -- what chargers say ----------------------------------------------------------------------------------------------------
@handler
def connecting(on):
    story = on.story()
    story.paid()  # somebody waits for it
    story.charger.drop()

    def comes():
        story.charger = story.another_line()

    return Deed(story, comes, comes, lambda: (story.charger.start(story.permit.tag, 1000), over(story)()))


@handler
def the_end_of_a_line(on):
    story = on.story()
    story.charging()
    return Deed(story, story.charger.drop, lambda: None, lambda: (back(story), story.charger.meter(3200, 40_000), over(story)()))


@handler
def a_first_boot(on):
    story = on.story(boots=False)

    def boot():
        story.charger.boot(chargePointSerialNumber=f"SN-{story.number}")

    return Deed(story, boot, lambda: (back(story), boot()), lambda: story.charger.status("Available"))


@handler
def a_boot_in_the_middle_of_a_charge(on):
    story = on.story()
    story.charging()
    again = lambda: (back(story), story.charger.boot())  # noqa: E731
    return Deed(story, story.charger.boot, again, lambda: (story.charger.meter(3200, 40_000), over(story)()))


def saying(story: Story, action: str, payload: dict[str, Any], end: Callable[[], Any] | None = None, **more: Any) -> Deed:
    """A message that is said again, under a new id, on the next line."""
    return Deed(story, lambda: story.charger.call(action, payload), lambda: (back(story), story.charger.call(action, payload)), end, **more)


def at() -> str:
    return clock.now().isoformat().replace("+00:00", "Z")


@handler
def a_start_that_was_paid_for(on):
    story = on.story()
    story.paid()
    on.work("permits.ask")
    payload = {"connectorId": 1, "idTag": story.permit.tag, "meterStart": 1000, "timestamp": at()}
    return saying(story, "StartTransaction", payload, over(story, 2000))


@handler
def a_start_that_nobody_may(on):
    story = on.story()
    return saying(story, "StartTransaction", {"connectorId": 1, "idTag": "WHOISTHIS", "meterStart": 0, "timestamp": at()}, over(story, 0))


@handler
def a_start_over_a_session_whose_stop_was_lost(on):
    story = on.story()
    story.charging()
    payload = {"connectorId": 1, "idTag": "WHOISTHIS", "meterStart": 3000, "timestamp": at()}
    return saying(story, "StartTransaction", payload, over(story, 3000))


@handler
def a_reading(on):
    story = on.story()
    story.charging()
    story.charger.context.remembered.clear()  # the ordinary way, with the row locked
    return saying(story, "MeterValues", reading(story, 3100), over(story))


@handler
def a_quick_reading(on):
    story = on.story()
    story.charging()
    story.charger.meter(3050, 40_000)
    assert story.charger.context.remembered
    return saying(story, "MeterValues", reading(story, 3100), over(story))


def reading(story: Story, wh: int) -> dict[str, Any]:
    values = [{"timestamp": at(), "sampledValue": [{"value": str(wh)}]}]
    return {"connectorId": 1, "transactionId": story.charger.transaction_id, "meterValue": values}


def stop_of(story: Story, wh: int = 4000) -> dict[str, Any]:
    data = [{"timestamp": at(), "sampledValue": [{"value": str(wh - 10), "context": "Sample.Periodic"}]}]
    return {"transactionId": story.charger.transaction_id, "meterStop": wh, "timestamp": at(), "reason": "Local", "transactionData": data}


@handler
def a_stop(on):
    story = on.story()
    story.charging()
    on.time.go_on(100)
    return saying(story, "StopTransaction", stop_of(story), finish(story))


@handler
def a_stop_that_comes_late(on):
    story = on.story()
    story.charging()
    story.charger.drop()
    on.time.go_on(200)
    on.work("sessions.timeout", "bills")
    story.charger = story.another_line()
    return saying(story, "StopTransaction", stop_of(story), finish(story))


@handler
def a_stop_of_nothing(on):
    story = on.story()
    payload = {"transactionId": 2**30, "meterStop": 5, "timestamp": at()}
    return saying(story, "StopTransaction", payload, lambda: None, forget=("once",))


@handler
def a_plug_that_somebody_waits_for(on):
    story = on.story()
    story.paid()
    end = lambda: (on.work("permits.ask"), story.charger.start(story.permit.tag, 1000), over(story)())  # noqa: E731
    return saying(story, "StatusNotification", {"connectorId": 1, "status": "Preparing", "errorCode": "NoError"}, end)


@handler
def a_fault_in_the_middle_of_a_charge(on):
    story = on.story()
    story.charging()
    return saying(story, "StatusNotification", {"connectorId": 1, "status": "Faulted", "errorCode": "GroundFailure"}, over(story))


@handler
def a_card_shown(on):
    story = on.story()
    card = IdTag.objects.create(tag=f"CARD{story.number}", kind="rfid", company=on.network.voltaro)
    return saying(story, "Authorize", {"idTag": card.tag})


@handler
def a_charger_that_asks_where_it_stood(on):
    story = on.story()
    session = story.charging()
    story.charger.drop()
    story.charger = story.another_line()
    data = json.dumps({"transactionId": int(session.transaction_id)})
    return saying(story, "DataTransfer", {"vendorId": "Voltaro", "messageId": "GetLastMeterValue", "data": data}, over(story))


@handler
def a_security_event(on):
    story = on.story()
    return saying(story, "SecurityEventNotification", {"type": "TamperDetectionActivated", "timestamp": at()})


@handler
def the_answer_to_a_request(on):
    story = on.story()
    story.paid()
    on.work("permits.ask")
    asked = story.charger.asked("RemoteStartTransaction")
    answer = json.dumps([3, asked[0], {"status": "Accepted"}])
    # An answer is not said twice: the charger starts, or it is asked again.
    return Deed(
        story, lambda: story.charger.raw(answer), lambda: back(story), lambda: (story.charger.start(story.permit.tag, 1), over(story)())
    )


@handler
def the_refusal_of_a_stop(on):
    story = on.story()
    sessions.ask_stop(story.charging(), trigger="console")

    def refuse(asked):
        story.charger.raw(json.dumps([4, asked[0], "InternalError", "no such transaction", {}]))

    def end():
        for _ in range(3):  # an answer that was lost: it is asked again and says so again, or time is up
            on.time.go_on(95)
            on.work("commands.timeout", "sessions.timeout")
            if again := story.charger.asked("RemoteStopTransaction"):
                refuse(again)
        finish(story)()

    first = story.charger.asked("RemoteStopTransaction")
    return Deed(story, lambda: refuse(first), lambda: back(story), end, forget=("stop_reason",))


@handler
def sending_a_request(on):
    story = on.story()
    story.paid()
    on.work("permits.ask")

    def end():
        for _ in range(2):  # it went out, or it is asked again
            on.time.go_on(66)
            on.work("commands.timeout", "permits.ask")
            if sent := story.charger.asked("RemoteStartTransaction"):
                story.charger.accept(sent[0])
        story.charger.start(story.permit.tag, 1000)
        over(story, 1500)()

    return Deed(story, story.charger.command, lambda: back(story), end)


# -- what Razorpay says -----------------------------------------------------------------------------------------------------
@handler
def a_webhook_at_the_door(on):
    story = on.story()
    told = story.told(story.pays())
    deliver = lambda: story.deliver(*told)  # noqa: E731
    end = lambda: (on.work("webhooks"), story.charger.start(story.permit.tag, 1000), over(story)())  # noqa: E731
    return Deed(story, deliver, deliver, end)


# -- what workers do --------------------------------------------------------------------------------------------------------
def working(story: Story, *names: str, wait_s: float = 0, end: Callable[[], Any] | None = None, **more: Any) -> Deed:
    """A worker dies; after `wait_s` (the lease of a claim) its next beats find what it left."""

    def again() -> None:
        story.stage.time.go_on(wait_s)
        for _ in range(3):
            story.stage.work(*names)

    return Deed(story, lambda: story.stage.work(*names), again, end or finish(story), **more)


@handler
def the_worker_of_webhooks(on):
    story = on.story()
    story.deliver(*story.told(story.pays()))
    return working(story, "webhooks", wait_s=webhooks.LEASE_S + 1, end=lambda: (story.charger.start(story.permit.tag, 1000), over(story)()))


@handler
def the_worker_of_refund_webhooks(on):
    story = on.story()
    on.sandbox.options.refund_delay_s = 5
    payment = story.paid()
    on.time.go_on(301)
    on.work("payments.expire", "refunds")
    on.time.go_on(10)
    on.sandbox.work()
    on.sandbox.options.refund_delay_s = 0
    story.deliver(*story.told(str(payment), "refund.processed"))
    return working(story, "webhooks", wait_s=webhooks.LEASE_S + 1)


@handler
def the_poll_of_qrs(on):
    story = on.story()
    story.pays()
    QRCode.objects.exclude(pk=story.code.pk).update(last_polled_at=clock.now())
    end = lambda: (story.charger.start(story.permit.tag, 1000), over(story)())  # noqa: E731
    return working(story, "qr.poll", end=end)


@handler
def the_worker_that_asks_chargers_to_start(on):
    story = on.story()
    story.paid()
    end = lambda: (story.charger.start(story.permit.tag, 1000), over(story)())  # noqa: E731
    return working(story, "permits.ask", end=end)


@handler
def the_worker_that_links(on):
    story = on.story()
    story.paid()
    story.charger.start(story.permit.tag, 1000)
    return working(story, "payments.link", end=over(story))


@handler
def the_worker_of_what_did_not_start(on):
    story = on.story()
    story.paid()
    on.time.go_on(301)
    return working(story, "payments.expire")


@handler
def the_worker_of_fees(on):
    story = on.story()
    on.sandbox.moods.payment_fee = "null_then_known"
    payment = story.paid()
    on.sandbox.moods.payment_fee = None
    assert payment.fee is None
    on.time.go_on(901)
    return working(story, "payments.fees", wait_s=3601)


@handler
def the_worker_of_bills(on):
    story = on.story()
    story.charging()
    story.charger.stop(3000)
    return working(story, "bills")


@handler
def the_worker_of_refunds(on):
    story = on.story()
    story.charging()
    story.charger.stop(3000)
    on.work("bills")
    return working(story, "refunds", wait_s=refunds.LEASE_S + 1)


@handler
def the_worker_of_shares(on):
    story = on.story()
    story.charging()
    story.charger.stop(3000)
    on.work("bills")
    return working(story, "settlements")


@handler
def the_worker_of_payouts(on):
    story = on.story()
    story.charging()
    story.charger.stop(3000)
    on.work("bills", "settlements")
    return working(story, "payouts", wait_s=121)


@handler
def the_worker_of_failed_payouts(on):
    story = on.story()
    story.charging()
    story.charger.stop(3000)
    on.work("bills", "settlements")
    on.sandbox.moods.next_transfer = "pending_then_failed"
    on.work("payouts")
    on.time.go_on(70)
    on.sandbox.work()
    on.work("payouts")
    assert story.session.commission.payout.state == "failed"
    on.time.go_on(1801)
    return working(story, "payouts.retry")


@handler
def the_sweep_of_the_suspended(on):
    story = on.story()
    story.charging()
    story.charger.drop()
    on.time.go_on(181)
    return working(story, "sessions.timeout")


@handler
def the_sweep_of_limits(on):
    story = on.story()
    story.charging(1000, 3000)
    limit = story.permit.limit_wh
    on.time.go_on(3600)
    story.charger.meter(1000 + limit, 40_000)
    return working(story, "sessions.stop", end=over(story, 1000 + limit + 100))


@handler
def the_sweep_of_commands(on):
    story = on.story()
    sessions.ask_stop(story.charging(), trigger="console")
    asked = story.charger.asked("RemoteStopTransaction")
    story.charger.accept(asked[0])
    on.time.go_on(600)
    return working(story, "commands.timeout", end=over(story))


@handler
def the_sweep_after_a_process_that_is_gone(on):
    story = on.story()
    story.charging()
    on.time.go_on(125)
    end = lambda: (back(story), story.charger.meter(3200, 40_000), over(story)())  # noqa: E731
    return working(story, "stations.silent", end=end)


@handler
def the_sweep_of_reservations(on):
    story = on.story()
    card = IdTag.objects.create(tag=f"KEPT{story.number}", kind="rfid", company=on.network.voltaro)
    row = reservations.reserve(story.row, story.connector, card, clock.now() + reservations.timedelta(seconds=600))
    asked = story.charger.asked("ReserveNow")
    story.charger.accept(asked[0])
    on.time.go_on(700)

    def end():
        row.refresh_from_db()
        assert row.state not in ("asked", "active", "wanted")

    return working(story, "reservations.expire", end=end)


# -- the proof ----------------------------------------------------------------------------------------------------------------
@dataclass
class Killer:
    """Counts the gaps; at the one that is named, the process is gone."""

    at: float = math.inf
    passed: list[str] = field(default_factory=list)

    def gap(self, what: str) -> None:
        self.passed.append(what)
        if len(self.passed) == self.at:
            raise Killed


def picture(story: Story, forget: tuple[str, ...]) -> dict[str, Any]:
    """What has become of the story: its rows, without times and ids."""
    found = list(story.sessions.order_by("pk"))
    paid = list(story.payments.order_by("pk"))
    subjects = [ledger.of_payment(one) for one in paid]
    shares = list(CommissionLedgerEntry.objects.filter(session__in=found))
    permits = list(IdTag.objects.filter(connector__in=story.connectors, kind="one_time"))
    given = [one for payment in paid for one in payment.refunds.all()]
    told: list[str] = []
    for kind, ours in (("csms.chargingsession", found), ("billing.qrpayment", paid), ("billing.refund", given), ("csms.idtag", permits)):
        said = AuditEntry.objects.filter(action__in=ONCE, target_type=kind, target_id__in=[str(one.pk) for one in ours])
        told += said.values_list("action", flat=True)
    story.row.refresh_from_db()
    names = "state energy_wh reported_wh stop_reason authorized limit_wh overrun_wh flags total_billed"
    seen = {
        "sessions": [{name: getattr(one, name) for name in names.split() if name not in forget} for one in found],
        "permits": sorted((one.state, one.limit_wh) for one in permits),
        "payments": [(one.state, one.refund_reason, one.review, one.amount_paid, one.fee) for one in paid],
        "refunds": sorted((one.amount_paise, one.reason, one.state) for one in given),
        "at razorpay": sorted(
            (one["amount"], one["status"])
            for one in story.stage.sandbox.world.store.find("refund")
            if one["payment_id"] in {str(payment) for payment in paid}
        ),
        "bills": [(one.bill.billed_wh, one.bill.total, one.bill.refund_due, one.bill.remainder) for one in found if hasattr(one, "bill")],
        "books": sorted(Posting.objects.filter(subject__in=subjects).values_list("account", "amount_paise")),
        "shares": [(one.payable, one.status, one.payout.state if one.payout else "") for one in shares],
        "readings": sorted(set(MeterReading.objects.filter(charge_point=story.row).values_list("energy_wh", "late"))),
        "events": sorted(WebhookEvent.objects.filter(payment_id__in=[str(one) for one in paid]).values_list("event", "state")),
        "connectors": sorted((one.connector_id, one.status, one.error_code) for one in story.row.connectors.all()),
        "charger": (story.row.registration, story.row.vendor, story.row.model, bool(story.row.serial_number)),
        "asked": Command.objects.filter(charge_point=story.row, state__in=("queued", "sent"), permit__isnull=False).count(),
        "once": sorted(told),
    }
    return {name: value for name, value in seen.items() if name not in forget}


def differs(found: dict[str, Any], undisturbed: dict[str, Any]) -> list[str]:
    return [f"{name}: {found[name]} instead of {value}" for name, value in undisturbed.items() if found[name] != value]


def lived(on: Stage, make: Callable[[Stage], Deed], at: float = math.inf) -> tuple[dict[str, Any], Killer]:
    deed, killer = make(on), Killer(at)
    deed.story.deaths = 0 if at == math.inf else int(at)
    on.gap = killer.gap
    try:
        with gaps(killer.gap):
            deed.do()
    except Killed:
        connection.run_on_commit.clear()
        on.gap = lambda what: None
        deed.recover()
    finally:
        on.gap = lambda what: None
    if deed.end:
        deed.end()
    return picture(deed.story, deed.forget), killer


@pytest.fixture
def quiet():
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("make", HANDLERS, ids=lambda make: make.__name__)
def test_killed_at_every_gap_it_ends_the_same(make, settings, quiet):
    with stage(settings) as on:
        undisturbed, killer = lived(on, make)
        assert killer.passed, "it does nothing that could be killed"
        assert broken(on.sandbox) == []
        for at, gap in enumerate(killer.passed, start=1):
            where = f"killed at gap {at} of {len(killer.passed)}: {gap}"
            try:
                found, _ = lived(on, make, at)
                if wrong := differs(found, undisturbed):
                    raise AssertionError("\n".join(wrong))
                assert broken(on.sandbox) == []
            except BaseException as error:
                error.add_note(where)
                raise
        assert ledger.check() == []
    print(f"{make.__name__}: killed at {len(killer.passed)} gaps")


@pytest.mark.django_db(transaction=True)
def test_the_sweep_sees_a_deed_that_does_not_converge(settings, quiet):
    """The money goes back first, and only then is it written down: killed in between, it goes back twice."""

    def careless(on: Stage) -> Deed:
        story = on.story()
        payment = story.paid()
        given: list[str] = []

        def give_back() -> None:
            if given:
                return
            on.client.post("/v1/payments/{}/refund", str(payment), body={"amount": 100}, headers={})
            AuditEntry.objects.create(actor="test", actor_type="test", action="careless", target_type="x", target_id="1")
            given.append("noted")

        return Deed(story, give_back, give_back)

    with stage(settings) as on:
        undisturbed, killer = lived(on, careless)
        ends = [lived(on, careless, at)[0] == undisturbed for at in range(1, len(killer.passed) + 1)]
    assert ends.count(False) >= 1 and ends[0]
