"""Races around money: hearing of it, billing it, giving it back, sharing it. Each is lived in many orders (test_interleavings.py)."""

from collections import Counter
from collections.abc import Callable

from billing import bills, payments, qr, refunds, tariffs
from billing.models import Bill, BillCorrection, JournalEntry, QRCode, Refund, WebhookEvent
from csms.models import Command, IdTag
from franchise.models import CommissionLedgerEntry, Payout
from tests.simulation.interleave import Explorer
from tests.simulation.scene import SHARES, Stage, not_started, stopped
from voltaro import clock

RACES: list[Callable[[Stage, Explorer], None]] = []


def race_of(story: Callable[[Stage, Explorer], None]) -> Callable[[Stage, Explorer], None]:
    RACES.append(story)
    return story


# -- hearing of a payment ---------------------------------------------------------------------------------------------
@race_of
def the_same_webhook_three_times(on: Stage, race: Explorer):
    story = on.story()
    number = story.pays()
    raw, signature, event_id = story.told(number)
    # Razorpay may also tell the same payment under another event id.
    third = race.dice.choice((event_id, f"evt-again-{story.number}"))

    def told(ident):
        assert story.deliver(raw, signature, ident).status_code == 200
        on.work("webhooks")

    race.run(first=lambda: told(event_id), second=lambda: told(event_id), third=lambda: told(third))
    on.work("webhooks")
    assert story.payments.get().state == "starting"
    assert IdTag.objects.filter(connector=story.connector).count() == 1
    assert JournalEntry.objects.filter(key=f"payment:{number}").count() == 1
    assert set(WebhookEvent.objects.filter(payment_id=number).values_list("state", flat=True)) == {"done"}
    not_started(on, story)


@race_of
def a_webhook_and_the_poll_of_its_qr(on: Stage, race: Explorer):
    story = on.story()
    number = story.pays()
    raw, signature, event_id = story.told(number)
    race.run(
        webhook=lambda: (story.deliver(raw, signature, event_id), on.work("webhooks")),
        poll=lambda: qr.poll(QRCode.objects.get(pk=story.code.pk)),
    )
    on.work("webhooks")
    assert story.payments.get().state == "starting"
    assert IdTag.objects.filter(connector=story.connector).count() == 1
    not_started(on, story)


@race_of
def a_webhook_and_the_closing_of_its_qr(on: Stage, race: Explorer):
    story = on.story()
    number = story.pays()
    raw, signature, event_id = story.told(number)
    race.run(
        webhook=lambda: (story.deliver(raw, signature, event_id), on.work("webhooks")),
        close=lambda: qr.close(QRCode.objects.get(pk=story.code.pk)),
    )
    on.work("webhooks")
    payment = story.payments.get()
    assert payment.state == "starting" or payment.refund_reason == "qr_closed"
    assert QRCode.objects.get(pk=story.code.pk).status == "closed"
    not_started(on, story)


@race_of
def two_riders_at_one_connector(on: Stage, race: Explorer):
    story = on.story()
    first, second = story.pays(50_000), story.pays(30_000, who="other")
    race.run(
        first=lambda: payments.hear(story.code.razorpay_id, first, clock.now()),
        second=lambda: payments.hear(story.code.razorpay_id, second, clock.now()),
    )
    states = sorted((one.state, one.refund_reason) for one in story.payments)
    assert states == [("refunding", "busy"), ("starting", "")]
    not_started(on, story)


@race_of
def a_tariff_edited_while_a_payment_is_taken(on: Stage, race: Explorer):
    story = on.story()
    dearer = 1525 + 10 * story.number
    number = story.pays()
    price = {"rate_paise_per_kwh": dearer, "gst_bp": 1800, "igst": False, "platform_fee_bp": 0}
    race.run(
        edit=lambda: tariffs.add("Standard", {}, price),
        other=lambda: tariffs.add("Standard", {}, {**price, "rate_paise_per_kwh": dearer + 1}),
        take=lambda: payments.hear(story.code.razorpay_id, number, clock.now()),
    )
    payment = story.payments.get()
    assert payment.tariff_snapshot == payment.tariff.snapshot()
    rate, wh = payment.tariff_snapshot["rate_paise_per_kwh"], payment.permit.limit_wh
    assert worth(wh, rate) <= payment.amount_paid < worth(wh + 1, rate)
    race.run(
        start=lambda: story.charger.start(payment.permit.tag, 1000),
        back=lambda: tariffs.add("Standard", {}, {**price, "rate_paise_per_kwh": 1525}),
    )
    on.time.go_on(60)
    stopped(on, story, 1500)
    assert Bill.objects.get(session=story.session).tariff_snapshot == payment.tariff_snapshot


def worth(wh: int, rate: int) -> int:
    """Rs as on paper: energy half up, CGST and SGST of 9 % each half up."""
    energy = (2 * wh * rate + 1000) // 2000
    return energy + 2 * ((2 * energy * 900 + 10_000) // 20_000)


# -- bills, refunds, shares, payouts ------------------------------------------------------------------------------------
@race_of
def settle_and_settle(on: Stage, race: Explorer):
    story = on.story()
    payment = story.paid()
    story.charger.start(story.permit.tag, 1000)
    on.time.go_on(120)
    story.charger.stop(2500)
    pk = story.session.pk
    race.run(
        one=lambda: bills.bill(pk),
        two=lambda: bills.bill(pk),
        link=lambda: payments.link(payment.pk),
        expire=lambda: payments.expire(payment.pk),
    )
    assert sorted((race.answers["one"], race.answers["two"])) == [False, True]
    made = Bill.objects.get(session=pk)
    assert (made.billed_wh, made.payment_id) == (1500, payment.pk)
    assert payment.refunds.count() == 1
    on.rest()


@race_of
def the_queue_of_each_money_worker_twice(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    story.charger.stop(3000)
    name = race.dice.choice(("bills", "refunds", "settlements", "payouts", "payments.fees"))
    for earlier in ("bills", "refunds", "settlements", "payouts"):
        if earlier == name:
            break
        on.work(earlier)
    race.run(one=lambda: on.work(name), two=lambda: on.work(name))
    calls = Counter(line.partition(": ")[2] for line in race.trace if ": calls POST" in line)
    assert all(count == 1 for count in calls.values()), calls
    on.rest(*SHARES)
    assert story.payments.get().state == "settled"
    assert CommissionLedgerEntry.objects.filter(session=story.session).count() == 1
    assert story.session.commission.status == "TRANSFERRED"


@race_of
def requests_and_webhooks_twice(on: Stage, race: Explorer):
    story, other = on.story(), on.story()
    story.paid()
    number = other.pays()
    other.deliver(*other.told(number))
    race.run(one=lambda: on.work("webhooks", "permits.ask"), two=lambda: on.work("webhooks", "permits.ask"))
    assert Command.objects.filter(permit=story.permit, action="RemoteStartTransaction").count() == 1
    assert other.payments.get().state == "starting"
    assert IdTag.objects.filter(connector=other.connector).count() == 1
    not_started(on, story, other)


@race_of
def payout_and_payout(on: Stage, race: Explorer):
    two = [on.story(), on.story()]
    for story in two:
        story.charging(1000, 3000)
        story.charger.stop(3000)
    on.work("bills")
    race.run(
        share=lambda: on.work("settlements"),
        one=lambda: on.work("payouts"),
        two=lambda: on.work("payouts"),
        again=lambda: on.work("payouts"),
    )
    on.rest(*SHARES)
    for story in two:
        assert story.session.commission.status == "TRANSFERRED"
        assert story.session.commission.payout.state == "processed"
    keys = Counter(one["notes"]["payout"] for one in on.sandbox.world.store.find("transfer"))
    assert set(keys.values()) == {1} and set(keys) == set(Payout.objects.values_list("key", flat=True))


@race_of
def an_automatic_refund_and_one_on_the_dashboard(on: Stage, race: Explorer):
    story = on.story()
    payment = story.paid()
    amount = race.dice.choice((50_000, 20_000))
    on.time.go_on(301)

    def person():
        on.gap("on the dashboard")
        on.sandbox.answer(on.call("POST", f"/v1/payments/{payment}/refund", {"amount": amount}))
        for event in on.sandbox.events():
            if event["event"].startswith("refund.") and event["body"]["payload"]["refund"]["entity"]["payment_id"] == str(payment):
                story.deliver(event["raw"], event["signature"], event["event_id"])
        on.work("webhooks")

    race.run(automatic=lambda: on.work("payments.expire", "refunds"), person=person)
    for event in on.sandbox.events():  # whatever was not told is told in the end
        if event["event"].startswith("refund."):
            story.deliver(event["raw"], event["signature"], event["event_id"])
    on.rest()
    payment.refresh_from_db()
    assert payment.state == "settled" or payment.review, (payment.state, list(payment.refunds.values("reason", "state", "amount_paise")))


@race_of
def two_people_give_the_same_money_back(on: Stage, race: Explorer):
    story = on.story()
    number = story.pays()
    on.sandbox.answer(on.call("POST", f"/v1/payments/{number}/refund", {"amount": 10_000}))
    story.deliver(*story.told(number))
    on.work("webhooks")
    payment = story.payments.get()
    assert payment.review == "refunded_elsewhere"
    race.run(
        one=lambda: refunds.give_back(payment.pk),
        two=lambda: refunds.give_back(payment.pk),
        worker=lambda: on.work("refunds"),
    )
    on.rest()
    payment.refresh_from_db()
    assert payment.state == "settled"
    assert sorted(payment.refunds.values_list("amount_paise", flat=True)) == [10_000, 40_000]


@race_of
def two_people_ask_for_a_failed_refund_again(on: Stage, race: Explorer):
    story = on.story()
    payment = story.paid()
    on.sandbox.moods.next_refund = "pending_then_failed"
    payments.expire(payment.pk)
    on.work("refunds")
    on.time.go_on(10)
    on.sandbox.work()
    on.time.go_on(3600)
    on.work("refunds")
    failed = payment.refunds.get()
    assert failed.state == "failed"
    race.run(
        one=lambda: refunds.again(failed.pk),
        two=lambda: refunds.again(failed.pk),
        worker=lambda: on.work("refunds"),
    )
    assert sorted(answer is not None for answer in (race.answers["one"], race.answers["two"])) == [False, True]
    on.rest()
    payment.refresh_from_db()
    assert payment.state == "settled"
    assert sorted(Refund.objects.filter(payment=payment).values_list("state", flat=True)) == ["failed", "processed"]


@race_of
def a_correction_and_the_share(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    story.charger.drop()
    line = story.another_line()
    on.time.go_on(181)
    on.work("sessions.timeout", "bills")
    line.stop(2600)
    race.run(
        one=lambda: on.work("bills.correct"),
        two=lambda: on.work("bills.correct"),
        share=lambda: on.work("settlements"),
        pay=lambda: on.work("payouts"),
        refund=lambda: on.work("refunds"),
    )
    on.rest("bills.correct", *SHARES)
    bill = Bill.objects.get(session=story.session)
    assert (bill.delivered_wh, BillCorrection.objects.filter(bill=bill).count()) == (1600, 1)
    payment = story.payments.get()
    assert payment.state == "settled"
    assert payment.amount_paid == bill.total + bill.remainder + sum(payment.refunds.values_list("amount_paise", flat=True))
