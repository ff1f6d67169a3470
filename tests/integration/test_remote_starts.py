"""A paid start, whatever the charger makes of it: another tag, another connector, too early, too late, and a stop it does not obey."""

import pytest

from accounts.models import AuditEntry
from billing import bills, payments, razorpay, refunds
from billing.models import QRPayment, Refund
from csms import commands, permits, sessions
from csms.models import Alert, ChargePoint, ChargingSession, Command
from csms.timestamps import write
from tests import money
from tests.charger import Charger, later
from tests.factories import make_connector
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, kaveri_qr):
    found = Charger(network.kaveri_charger)
    found.boot()
    return found


@pytest.fixture
def paid(sandbox, charger, kaveri_qr) -> QRPayment:
    """Rs 500 are paid, and the charger has been asked."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    assert permits.ask_due(clock.now(), 10) == 1
    charger.accept(charger.asked("RemoteStartTransaction")[0])
    return payment


def failed() -> set[str]:
    found = AuditEntry.objects.filter(action__startswith="failure.").values_list("action", flat=True)
    return {name.removeprefix("failure.") for name in found}


CHANGED = {
    "as it was": lambda tag: tag,
    "in small letters": str.lower,
    "cut to eight": lambda tag: tag[:8],
    "with blanks": lambda tag: f" {tag} ",
    "one of its own": lambda tag: "00000000",
    "none": lambda tag: "",
}


@pytest.mark.parametrize("how", CHANGED)
def test_the_start_is_the_payments_whatever_becomes_of_the_tag(charger, paid, how):
    answer = charger.start(CHANGED[how](paid.permit.tag), meter=1_000)
    assert answer["idTagInfo"]["status"] == "Accepted"
    payments.link_due(clock.now(), 10)
    paid.refresh_from_db()
    session = ChargingSession.objects.get()
    assert (paid.state, paid.session, session.permit) == ("charging", session, paid.permit)
    assert session.limit_wh == paid.permit.limit_wh and session.authorized
    assert Command.objects.get(permit=paid.permit, action="RemoteStartTransaction").state == "effective"
    clock.shift(301)
    assert payments.expire_due(clock.now(), 10) == 0, "it has started: nothing goes back"


def test_a_start_without_a_tag_at_all(charger, paid):
    payload = {"connectorId": 1, "meterStart": 1_000, "timestamp": write(clock.now())}
    assert charger.call("StartTransaction", payload)["idTagInfo"]["status"] == "Accepted"
    assert ChargingSession.objects.get().permit == paid.permit


def test_a_tag_of_its_own_at_another_connector_is_not_the_payments(charger, paid, network):
    make_connector(network.kaveri_charger, 2)
    assert charger.start("00000000", connector=2)["idTagInfo"]["status"] == "Invalid"
    assert charger.asked("RemoteStopTransaction")[2] == {"transactionId": charger.transaction_id}
    assert charger.start(paid.permit.tag, connector=1)["idTagInfo"]["status"] == "Accepted"


def test_before_it_was_asked_a_strange_tag_is_not_the_payments(sandbox, charger, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    assert charger.start("00000000")["idTagInfo"]["status"] == "Invalid"
    assert payment.permit.state == "ready"


def test_the_payments_tag_starts_nothing_at_another_charger(paid, network):
    other = Charger(network.ganga_charger)
    other.boot()
    assert other.start(paid.permit.tag)["idTagInfo"]["status"] == "Invalid"
    assert other.asked("RemoteStopTransaction")


def test_an_old_start_out_of_a_queue_does_not_use_up_what_somebody_has_just_paid(charger, paid):
    """Under a tag nobody knows, begun while the charger was away for hours: not what it was asked for a moment ago."""
    assert charger.start("00000000", meter=1_000, at=later(-3 * 3600))["idTagInfo"]["status"] == "Invalid"
    charger.stop(9_000, at=later(-3600))
    paid.permit.refresh_from_db()
    assert paid.permit.state == "ready"
    assert charger.start("00000000", meter=9_000)["idTagInfo"]["status"] == "Accepted"
    assert [one.permit for one in ChargingSession.objects.order_by("pk")] == [None, paid.permit]


@pytest.mark.parametrize(("off_s", "known"), [(-240, False), (-7200, True), (19_800, True), (19_800, False)])
def test_a_start_under_a_tag_of_its_own_is_the_payments_though_its_clock_is_wrong(charger, paid, off_s, known):
    if known:
        ChargePoint.objects.update(clock_offset_s=off_s)
    assert charger.start("00000000", at=later(off_s))["idTagInfo"]["status"] == "Accepted"
    assert ChargingSession.objects.get().permit == paid.permit


@pytest.mark.parametrize("how", ["as it was", "one of its own"])
def test_a_start_after_the_refund_was_asked_is_stopped_at_once_and_costs_the_rider_nothing(charger, paid, how):
    clock.shift(301)
    assert payments.expire_due(clock.now(), 10) == 1
    answer = charger.start(CHANGED[how](paid.permit.tag), meter=1_000)
    assert answer["idTagInfo"]["status"] != "Accepted"
    ident, _, payload = charger.asked("RemoteStopTransaction")
    assert payload == {"transactionId": charger.transaction_id}
    charger.accept(ident)
    assert failed() == {"start_timeout_refunded", "start_after_refund"}
    clock.shift(10)
    charger.meter(1_100, 30_000)
    charger.stop(1_150, reason="Remote")
    refunds.work_due(clock.now(), 10)
    bills.work_due(clock.now(), 10)
    paid.refresh_from_db()
    refund = Refund.objects.get()
    assert (paid.session, paid.refund_reason, refund.amount_paise) == (None, "not_started", 50_000)
    assert ChargingSession.objects.get().overrun_wh == 150
    assert money.books_are_right()


def test_started_a_moment_before_the_refund_is_the_riders(charger, paid):
    clock.shift(299)
    assert charger.start(paid.permit.tag)["idTagInfo"]["status"] == "Accepted"
    clock.shift(10)
    payments.expire_due(clock.now(), 10)
    paid.refresh_from_db()
    assert paid.state == "charging" and not Refund.objects.exists()


def test_expired_and_not_yet_refunded_it_is_stopped_and_refunded(charger, paid):
    clock.shift(301)
    assert charger.start(paid.permit.tag)["idTagInfo"]["status"] == "Expired"
    assert charger.asked("RemoteStopTransaction")
    assert payments.expire_due(clock.now(), 10) == 1
    assert failed() == {"start_timeout_refunded", "start_after_refund"}


def test_a_stop_that_is_accepted_and_not_obeyed_is_asked_again_then_a_person_is_told(charger, paid):
    charger.start(paid.permit.tag, meter=0)
    limit_wh, session = paid.permit.limit_wh, ChargingSession.objects.get()
    ChargingSession.objects.update(limit_wh=1_000)
    clock.shift(60)
    charger.meter(990, 30_000)
    asked = 0
    for minute in range(1, 20):
        clock.shift(30)
        charger.meter(990 + minute * 250, 30_000)
        sessions.stop_due(clock.now(), 10)
        commands.timeout_due(clock.now(), 10)
        if (sent := charger.asked("RemoteStopTransaction")) is not None:
            asked += 1
            charger.accept(sent[0])
    assert asked > sessions.STOP_ATTEMPTS
    assert Alert.objects.filter(kind="not_obeying", cleared_at=None).exists()
    assert "remote_stop_not_obeyed" in failed()
    charger.stop(6_000)
    session.refresh_from_db()
    assert session.overrun_wh == 5_000 and limit_wh > 0
    assert not Alert.objects.filter(kind="not_obeying", cleared_at=None).exists()


def stops(charger: Charger, seconds: int, meter: int) -> int:
    """How many stops it refuses, while it charges on and reads every 10 s."""
    heard = 0
    for second in range(10, seconds + 1, 10):
        clock.shift(10)
        charger.meter(meter + second * 8, 30_000)
        sessions.stop_due(clock.now(), 10)
        commands.timeout_due(clock.now(), 10)
        if (sent := charger.asked("RemoteStopTransaction")) is not None:
            heard += 1
            charger.accept(sent[0], {"status": "Rejected"})
    return heard


@pytest.mark.parametrize("away", [True, False])
def test_with_all_of_the_money_refunded_by_hand_it_is_told_to_stop_until_it_does(sandbox, charger, paid, away):
    """Its line was gone for longer than the first stop waits, or it refused that one: it charged to its limit on nobody's money."""
    charger.start(paid.permit.tag, meter=0)
    payments.link_due(clock.now(), 10)
    clock.shift(60)
    charger.meter(500, 30_000)
    if away:
        charger.drop()
    razorpay.create_refund(str(paid), {"amount": 50_000, "speed": "normal"}, "by-hand-on-the-dashboard")
    for _ in range(2):
        money.deliver(sandbox, "refund.processed")
        money.work_webhooks()
    session = ChargingSession.objects.get()
    if away:
        for _ in range(15):
            clock.shift(10)
            sessions.stop_due(clock.now(), 10)
            commands.timeout_due(clock.now(), 10)
        assert session.commands.filter(action="RemoteStopTransaction").count() == 1, "nobody is there to hear it"
        charger.connect()
        charger.boot()
    assert stops(charger, 60, meter=600) >= 3
    charger.stop(1_200, reason="Remote")
    session.refresh_from_db()
    assert (session.state, session.limit_wh, session.overrun_wh) == ("STOPPED", 500, 700)
    assert AuditEntry.objects.filter(action="session.stop_now").count() == 1
