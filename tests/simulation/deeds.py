"""Everything our process does, each as a story up to the moment in which it may die (test_kill_sweep.py)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from billing import refunds, webhooks
from billing.models import QRCode
from csms import reservations, sessions
from csms.models import IdTag
from tests.simulation.scene import SHARES, Stage, Story
from voltaro import clock

HANDLERS: list[Callable[[Stage], "Deed"]] = []


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


def back(story: Story, *, soon: bool = False) -> None:
    """The charger finds its line dead and comes back; every other time only after our lease on it has run out."""
    if story.deaths % 2 and not soon:
        story.stage.time.go_on(125)
        story.stage.work("stations.silent")
    story.charger = story.another_line()


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
    return Deed(story, lambda: refuse(first), lambda: back(story, soon=True), end, forget=("stop_reason",))


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
