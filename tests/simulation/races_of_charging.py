"""Races around chargers: starts, ends, readings, sockets, commands. Each is lived in many orders (test_interleavings.py)."""

import json
from collections.abc import Callable

from accounts.models import AuditEntry
from billing import payments
from billing.models import Bill
from csms import commands, dispatch, sessions, stations
from csms.models import Command, Connection
from tests.charger import Charger
from tests.simulation.interleave import Explorer
from tests.simulation.scene import SHARES, Stage, stopped
from voltaro import clock

RACES: list[Callable[[Stage, Explorer], None]] = []


def race_of(story: Callable[[Stage, Explorer], None]) -> Callable[[Stage, Explorer], None]:
    RACES.append(story)
    return story


# -- start or refund --------------------------------------------------------------------------------------------------
@race_of
def a_start_and_the_refund_of_what_did_not_start(on: Stage, race: Explorer):
    story = on.story()
    payment, tag = story.paid(), story.permit.tag
    race.run(
        start=lambda: story.charger.start(tag, 1000),
        expire=lambda: payments.expire(payment.pk),
        refund=lambda: on.work("refunds", "payments.link"),
    )
    on.work("payments.link", "refunds")
    payment.refresh_from_db()
    session = story.session
    assert session.authorized != payment.refunds.exists()
    assert (payment.state == "charging") == session.authorized
    if not session.authorized:
        assert story.charger.asked("RemoteStopTransaction")
    stopped(on, story, 1000)


@race_of
def a_start_its_request_and_a_plug(on: Stage, race: Explorer):
    story = on.story()
    story.paid()
    tag, line = story.permit.tag, story.another_line()
    race.run(
        start=lambda: story.charger.start(tag, 1000),
        ask=lambda: on.work("permits.ask"),
        plug=lambda: line.status("Preparing"),
        send=lambda: line.command(),
    )
    assert story.session.authorized and story.permit.state == "used"
    assert not Command.objects.filter(permit=story.permit, state="queued").exists()
    stopped(on, story, 1500)


@race_of
def the_same_start_on_two_lines(on: Stage, race: Explorer):
    story = on.story()
    story.paid()
    tag, other, at = story.permit.tag, story.another_line(), clock.now()
    race.run(
        one=lambda: story.charger.start(tag, 1000, at=at),
        two=lambda: other.start(tag, 1000, at=at),
        link=lambda: on.work("payments.link"),
    )
    assert race.answers["one"]["transactionId"] == race.answers["two"]["transactionId"]
    assert race.answers["one"]["idTagInfo"] == race.answers["two"]["idTagInfo"]
    assert story.sessions.count() == 1
    stopped(on, story, 1500)


@race_of
def two_starts_on_one_connector(on: Stage, race: Explorer):
    story = on.story()
    story.paid()
    tag, other = story.permit.tag, story.another_line()
    race.run(paid=lambda: story.charger.start(tag, 1000), card=lambda: other.start("UNKNOWNCARD", 1000))
    assert story.sessions.count() == 2
    assert story.sessions.filter(state="STOPPED").count() == 1
    story.sessions.exclude(state="STOPPED").get()
    stopped(on, story, 1500)


# -- ends ---------------------------------------------------------------------------------------------------------------
@race_of
def a_stop_and_the_sweep_of_the_suspended(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    story.charger.drop()
    line = story.another_line()
    on.time.go_on(181)
    # What the late stop says may be more than we knew, or less: then it counts.
    stop = race.dice.choice((3500, 2600))
    race.run(
        stop=lambda: line.stop(stop),
        sweep=lambda: on.work("sessions.timeout"),
        bill=lambda: on.work("bills"),
        correct=lambda: on.work("bills.correct"),
    )
    on.rest("bills.correct", *SHARES)
    session = story.session
    if session.stop_reason == "Local":
        assert (session.energy_wh, session.reported_wh) == ((2500, 2500) if stop == 3500 else (2000, 1600))
    else:
        assert (session.stop_reason, session.energy_wh, session.reported_wh) == ("DISCONNECT_TIMEOUT", 2000, stop - 1000)
        assert session.billable_wh == (None if stop == 3500 else 1600)
    made = Bill.objects.get(session=session)
    assert made.delivered_wh == (session.energy_wh if session.billable_wh is None else session.billable_wh)
    assert story.payments.get().state == "settled"


@race_of
def a_stop_and_the_timeout_of_its_remote_stop(on: Stage, race: Explorer):
    story = on.story()
    session = story.charging(1000, 3000)
    command = sessions.ask_stop(session, trigger="console")
    sent = story.charger.asked("RemoteStopTransaction")
    if race.dice.random() < 0.5:
        story.charger.accept(sent[0])
        on.time.go_on(600)
    else:
        on.time.go_on(40)
    race.run(
        stop=lambda: story.charger.stop(3000),
        timeout=lambda: on.work("commands.timeout"),
        send=lambda: story.charger.command(),
    )
    on.work("commands.timeout")
    command.refresh_from_db()
    assert story.session.state == "STOPPED"
    assert command.state in ("effective", "expired")
    assert not Command.objects.filter(session=session, state="queued").exists(), "asked to stop what has stopped"
    on.rest()


@race_of
def a_remote_stop_refused_and_its_stop(on: Stage, race: Explorer):
    story = on.story()
    session = story.charging(1000, 3000)
    sessions.ask_stop(session, trigger="console")
    sent = story.charger.asked("RemoteStopTransaction")
    line = story.another_line()
    refusal = json.dumps([3, sent[0], {"status": "Rejected"}])
    race.run(
        answer=lambda: story.charger.raw(refusal),
        stop=lambda: line.stop(3000),
        timeout=lambda: on.work("commands.timeout"),
    )
    assert story.session.state == "STOPPED"
    assert not Command.objects.filter(session=session, state="queued").exists(), "asked to stop what has stopped"
    on.rest()


@race_of
def readings_and_a_stop(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    line = story.another_line()
    on.time.go_on(60)
    if race.dice.random() < 0.5:  # the quick way, or the one with the row locked
        story.charger.context.remembered.clear()
    race.run(
        meter=lambda: (story.charger.meter(3200, 40_000), story.charger.meter(3300, 40_000)),
        stop=lambda: line.stop(3400),
    )
    session = story.session
    assert (session.state, session.energy_wh, session.stop_reason) == ("STOPPED", 2400, "Local")
    on.rest()


@race_of
def readings_on_two_lines_and_a_limit(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    line = story.another_line()
    on.time.go_on(60)
    race.run(
        one=lambda: story.charger.meter(3200, 40_000),
        two=lambda: line.meter(3300, 40_000),
        limit=lambda: on.work("sessions.stop"),
        close=lambda: story.charger.drop(),
    )
    session = story.session
    assert session.energy_wh in (2200, 2300) and session.state == "RUNNING"
    line.meter(3300, 40_000)
    assert story.session.energy_wh == 2300
    story.charger = line
    stopped(on, story, 3300)


@race_of
def the_same_stop_on_two_lines(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    line, at = story.another_line(), clock.now()
    race.run(
        one=lambda: story.charger.stop(3000, at=at),
        two=lambda: line.stop(3000, at=at),
        person=lambda: sessions.finalize(story.session.pk, "OPERATOR"),
    )
    ends = AuditEntry.objects.filter(action="session.ended", target_id=str(story.session.pk))
    assert ends.count() == 1
    on.rest()
    assert story.payments.get().state == "settled"


@race_of
def a_boot_and_a_stop(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    line = story.another_line()
    race.run(
        boot=lambda: line.boot(),
        stop=lambda: story.charger.stop(3000),
        close=lambda: dispatch.closed(story.charger.context, 1006, ""),
    )
    assert (story.session.state, story.session.energy_wh) == ("STOPPED", 2000)
    on.rest()


@race_of
def a_line_that_ends_and_a_reading_on_the_next(on: Stage, race: Explorer):
    story = on.story()
    story.charging(1000, 3000)
    on.time.go_on(30)
    made: list[Charger] = []

    def comes_back():
        made.append(story.another_line())
        made[0].meter(3100, 40_000)

    race.run(close=lambda: story.charger.drop(), back=comes_back, sweep=lambda: on.work("stations.silent"))
    story.row.refresh_from_db()
    assert story.row.online and story.session.state == "RUNNING"
    story.charger = made[0]
    stopped(on, story, 3100)


# -- commands and their owners ------------------------------------------------------------------------------------------
@race_of
def a_takeover_and_a_command(on: Stage, race: Explorer):
    story = on.story()
    while story.charger.command():
        Command.objects.filter(charge_point=story.row, state="sent").update(state="expired")
    Command.objects.filter(charge_point=story.row, state="queued").update(state="expired")
    asked = commands.request(story.row, "ClearCache", {}, trigger="test")
    made: list[Charger] = []

    def comes():
        made.append(story.another_line())
        made[0].context.booted_here = True
        return made[0].command()

    race.run(old=story.charger.command, new=comes, close=lambda: dispatch.closed(story.charger.context, 1006, ""))
    old, new = race.answers["old"], race.answers["new"]
    assert not (old and new), "sent twice"
    asked.refresh_from_db()
    if old:
        assert asked.epoch == story.charger.context.epoch
        assert race.at("old", "COMMIT") < race.at("new", "WITH mine AS ( UPDATE csms_chargepoint"), "sent by a socket that was replaced"
    elif new:
        assert asked.epoch == made[0].context.epoch
    else:
        assert asked.state == "queued"
    Command.objects.filter(pk=asked.pk).update(state="expired")


@race_of
def a_command_that_is_taken_back_as_it_is_sent(on: Stage, race: Explorer):
    story = on.story()
    Command.objects.filter(charge_point=story.row, state__in=("queued", "sent")).update(state="expired")
    asked = commands.request(story.row, "ClearCache", {}, trigger="test")
    race.run(send=story.charger.command, back=lambda: commands.withdraw(asked.pk, "om"))
    sent, back = race.answers["send"], race.answers["back"]
    asked.refresh_from_db()
    assert bool(sent) != back, "told as taken back, and sent" if sent else "neither sent nor taken back"
    assert asked.state == ("sent" if sent else "expired")
    Command.objects.filter(pk=asked.pk).update(state="expired")


@race_of
def three_sockets_of_one_charger(on: Stage, race: Explorer):
    story = on.story()
    race.run(
        one=lambda: Charger(story.row).context.epoch,
        two=lambda: Charger(story.row).context.epoch,
        three=lambda: Charger(story.row).context.epoch,
        close=lambda: dispatch.closed(story.charger.context, 1006, ""),
    )
    story.row.refresh_from_db()
    epochs = [race.answers[name] for name in ("one", "two", "three")]
    assert len(set(epochs)) == 3 and max(epochs) == story.row.epoch and story.row.online
    # Of two claims at the same moment neither sees the other's row: the process of the older finds that out by itself.
    for pk, epoch in stations.fenced("test"):
        assert epoch < story.row.epoch
        stations.release(pk, epoch, close_code=4000, reason="replaced", now=clock.now())
    assert list(Connection.objects.filter(charge_point=story.row, closed_at=None).values_list("epoch", flat=True)) == [max(epochs)]
