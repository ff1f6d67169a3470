"""The QR of a connector: made once, drawn, closed, and polled when webhooks are lost."""

import struct
import xml.etree.ElementTree as ET
from datetime import timedelta

import pytest

from billing import qr, razorpay
from billing.models import QRCode, QRPayment, Refund
from tests import money
from voltaro import clock

pytestmark = pytest.mark.django_db


def test_every_connector_has_one_qr_with_its_stations_name(sandbox, network):
    connector = network.ganga_connector
    connector.qr_codes.all().delete()
    made = qr.ensure_qr(connector)
    assert qr.ensure_qr(connector) == made
    theirs = razorpay.fetch_qr(made.razorpay_id)
    assert (theirs["type"], theirs["usage"], theirs["fixed_amount"], theirs["status"]) == ("upi_qr", "multiple_use", False, "active")
    assert made.name == theirs["name"] == f"Ganga Hub {connector.code}"
    assert theirs["notes"]["connector"] == connector.code and "VLT-0002" not in str(theirs)


def test_two_who_make_it_at_once_leave_one_open(sandbox, network, monkeypatch):
    connector = network.ganga_connector
    connector.qr_codes.all().delete()
    real = razorpay.create_qr

    def slow(body):
        monkeypatch.setattr(razorpay, "create_qr", real)
        qr.ensure_qr(connector)  # the other one was quicker
        return real(body)

    monkeypatch.setattr(razorpay, "create_qr", slow)
    kept = qr.ensure_qr(connector)
    assert QRCode.objects.filter(connector=connector).get() == kept
    assert razorpay.fetch_qr(kept.razorpay_id)["status"] == "active"


def test_a_closed_qr_is_closed_on_both_sides_and_a_new_one_may_follow(sandbox, network, kaveri_qr):
    closed = qr.close(kaveri_qr)
    assert (closed.status, closed.close_reason) == ("closed", "on_demand") and closed.closed_at
    assert razorpay.fetch_qr(closed.razorpay_id)["status"] == "closed"
    assert qr.close(closed).closed_at == closed.closed_at
    assert qr.ensure_qr(network.kaveri_connector) != closed


def test_a_qr_closed_on_the_dashboard_is_closed_here(sandbox, kaveri_qr):
    razorpay.close_qr(kaveri_qr.razorpay_id)
    money.deliver(sandbox, "qr_code.closed")
    money.work_webhooks()
    kaveri_qr.refresh_from_db()
    assert kaveri_qr.status == "closed"


def test_the_sticker_says_where_it_belongs(kaveri_qr, network):
    kaveri_qr.image_content = "upi://pay?pa=voltaro@sandbox&pn=Voltaro&tr=abc&cu=INR"
    station = network.kaveri_charger.station
    station.name = "Kaveri & <Sons>"
    station.save()
    svg = qr.image_svg(QRCode(connector=network.kaveri_connector, image_content=kaveri_qr.image_content))
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:2] == ["Kaveri & <Sons>", network.kaveri_connector.code]
    assert root.find(".//{http://www.w3.org/2000/svg}path") is not None
    png = qr.image_png(kaveri_qr)
    assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24])[0] >= 300


def test_without_its_content_there_is_nothing_to_draw(kaveri_qr):
    kaveri_qr.image_content = ""
    assert qr.image_svg(kaveri_qr) is None and qr.image_png(kaveri_qr) is None


# -- the poll ---------------------------------------------------------------------------------------------------------
def test_a_lost_webhook_costs_a_minute_not_a_charge(sandbox, kaveri_qr):
    sandbox.pay(kaveri_qr.razorpay_id, 50_000, vpa="asha@okaxis")
    assert qr.poll_due(clock.now(), 10) >= 1
    payment = QRPayment.objects.get()
    assert (payment.state, payment.vpa) == ("starting", "asha@okaxis")
    money.deliver(sandbox)
    money.work_webhooks()
    assert QRPayment.objects.count() == 1


def test_thirty_hours_without_webhooks_leave_nobodys_money_behind(sandbox, kaveri_qr):
    """Nobody is polled meanwhile either (we were down): the old payment goes back, the fresh one starts."""
    old = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    clock.shift(30 * 3600)
    fresh = sandbox.pay(kaveri_qr.razorpay_id, 20_000)
    qr.poll_due(clock.now(), 10)
    states = dict(QRPayment.objects.values_list("razorpay_payment_id", "refund_reason"))
    assert states == {old: "stale", fresh: ""}
    assert Refund.objects.get().payment.razorpay_payment_id == old


def test_our_qrs_take_turns_and_strangers_are_never_asked_about(sandbox, network, kaveri_qr):
    network.ganga_qr.delete()
    stranger = razorpay.create_qr({"type": "upi_qr", "usage": "multiple_use", "fixed_amount": False, "name": "staging"})
    sandbox.pay(stranger["id"], 9_900)
    assert qr.poll_due(clock.now(), 10) == 1
    assert qr.poll_due(clock.now(), 10) == 0
    clock.shift(301)
    assert qr.poll_due(clock.now(), 10) == 1
    assert not QRPayment.objects.exists()


def test_when_razorpay_is_unwell_the_poll_stops_and_loses_nothing(sandbox, network, kaveri_qr):
    network.ganga_qr.delete()
    sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    sandbox.moods.next_call = "500"
    assert qr.poll_due(clock.now(), 10) == 0
    kaveri_qr.refresh_from_db()
    assert kaveri_qr.last_polled_at is None
    assert qr.poll_due(clock.now(), 10) == 1
    assert QRPayment.objects.get().state == "starting"


def test_a_qr_razorpay_does_not_know_does_not_hold_up_the_others(sandbox, network, kaveri_qr):
    network.ganga_qr.save()  # the factory's, unknown at Razorpay
    sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    qr.poll_due(clock.now(), 10)
    assert QRPayment.objects.count() == 1
    assert qr.to_poll(clock.now()).count() == 0


def test_a_qr_just_closed_is_still_polled(sandbox, network, kaveri_qr):
    network.ganga_qr.delete()
    sandbox.moods.late_payments = True
    qr.close(kaveri_qr)
    sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    assert qr.poll_due(clock.now(), 10) == 1
    assert QRPayment.objects.get().refund_reason == "qr_closed"
    assert qr.to_poll(clock.now() + timedelta(days=3)).count() == 0


def test_more_payments_than_one_page(sandbox, network, kaveri_qr, monkeypatch):
    monkeypatch.setattr(razorpay, "PAGE", 10)
    ids = {sandbox.pay(kaveri_qr.razorpay_id, 1_000 + number) for number in range(25)}
    qr.poll_due(clock.now(), 10)
    assert set(QRPayment.objects.values_list("razorpay_payment_id", flat=True)) == ids


def uncaptured(monkeypatch, payment_id: str) -> list[str]:
    """Razorpay says `authorized` of this payment until the list that is returned is emptied."""
    held, true = [payment_id], razorpay.fetch_payment
    monkeypatch.setattr(razorpay, "fetch_payment", lambda one: {**true(one), **({"status": "authorized"} if one in held else {})})
    return held


def test_one_payment_that_waits_for_its_capture_holds_up_no_other(sandbox, network, kaveri_qr, monkeypatch):
    ganga_qr = money.real_qr(network.ganga_connector)
    slow = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    held = uncaptured(monkeypatch, slow)
    here, there = sandbox.pay(kaveri_qr.razorpay_id, 20_000), sandbox.pay(ganga_qr.razorpay_id, 30_000)
    qr.poll_due(clock.now(), 10)
    assert set(QRPayment.objects.values_list("razorpay_payment_id", flat=True)) == {here, there}
    for _ in range(4):  # far beyond the overlap of two polls
        clock.shift(600)
        qr.poll_due(clock.now(), 10)
    held.clear()
    qr.poll_due(clock.now(), 10)
    assert QRPayment.objects.get(razorpay_payment_id=slow).refund_reason == "stale"
    assert qr.to_poll(clock.now()).count() == 0


def test_a_payment_our_code_stumbles_over_holds_up_no_other(sandbox, network, kaveri_qr, monkeypatch, caplog):
    odd = sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    good = sandbox.pay(kaveri_qr.razorpay_id, 20_000)
    true = razorpay.fetch_payment
    monkeypatch.setattr(razorpay, "fetch_payment", lambda one: {**true(one), **({"id": None, "entity": 1 / 0} if one == odd else {})})
    qr.poll_due(clock.now(), 10)
    assert QRPayment.objects.get().razorpay_payment_id == good
    assert "could not be taken in" in caplog.text
    clock.shift(25 * 3600)
    qr.poll_due(clock.now(), 10)
    assert qr.to_poll(clock.now()).count() == 0, "after a day it is a person's"


def test_a_qr_razorpay_will_not_answer_for_holds_up_no_other(sandbox, network, kaveri_qr, monkeypatch):
    """What a key of another account hears for it: 401, which may be mended and so is no final word."""
    refused = money.real_qr(network.ganga_connector)
    QRCode.objects.filter(pk=refused.pk).update(last_polled_at=clock.now() - timedelta(days=2))
    QRCode.objects.filter(pk=kaveri_qr.pk).update(last_polled_at=clock.now() - timedelta(days=1))
    sandbox.pay(kaveri_qr.razorpay_id, 50_000)
    true = razorpay.qr_payments

    def qr_payments(qr_id, **window):
        if qr_id == refused.razorpay_id:
            raise razorpay.TryAgain("HTTP 401")
        return true(qr_id, **window)

    monkeypatch.setattr(razorpay, "qr_payments", qr_payments)
    assert qr.poll_due(clock.now(), 10) == 1
    assert QRPayment.objects.count() == 1
