"""An ended session becomes a bill, exactly once, and every paisa has one place."""

import threading

import pytest
from django.db import connection

from billing import bills, ledger, payments, refunds, tariffs
from billing.models import Bill, JournalEntry, QRPayment, Refund, Tariff
from csms import metering, starts
from csms.events import StartReported, StopReported
from csms.models import IdTag
from tests import money
from voltaro import clock

pytestmark = pytest.mark.django_db


def test_five_hundred_rupees_ten_units_and_the_rest_goes_back(sandbox, network, kaveri_qr, bells, django_capture_on_commit_callbacks):
    Tariff.objects.create(name="Kaveri", charge_point=network.kaveri_charger, rate_paise_per_kwh=1525, gst_bp=1800, platform_fee_bp=200)
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    session = money.stop(money.plug_in(payment), 10_000)
    with django_capture_on_commit_callbacks(execute=True):
        assert bills.work_due(clock.now(), 10) == 1
    bill = Bill.objects.get()
    assert (bill.energy_charge, bill.cgst, bill.sgst, bill.igst, bill.platform_fee) == (15_250, 1_373, 1_373, 0, 1_000)
    assert (bill.total, bill.refund_due, bill.remainder) == (18_996, 31_004, 0)
    assert bill.total + bill.refund_due == payment.amount_paid
    assert [line.kind for line in bill.lines.all()] == ["energy", "cgst", "sgst", "platform_fee"]
    assert sum(line.amount_paise for line in bill.lines.all()) == bill.total
    session.refresh_from_db(), payment.refresh_from_db()
    assert (session.energy_charge, session.gst_amount, session.total_billed) == (15_250, 2_746, 18_996)
    assert session.billed_at is not None
    refund = payment.refunds.get()
    assert (payment.state, refund.amount_paise, refund.reason, refund.key) == ("refunding", 31_004, "surplus", f"{payment}-surplus")
    assert {"bill.made", "refund.due"} <= set(bells)
    subject = f"payment:{payment}"
    assert ledger.balance("energy_revenue", subject) == -15_250
    assert ledger.balance("prepaid", subject) == -31_004
    assert money.books_are_right()


def test_no_energy_everything_goes_back_and_nothing_is_earned(sandbox, network, kaveri_qr):
    Tariff.objects.create(name="Kaveri", charge_point=network.kaveri_charger, rate_paise_per_kwh=1525, gst_bp=1800, platform_fee_bp=200)
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    money.stop(money.plug_in(payment), 0)
    bills.work_due(clock.now(), 10)
    refund = payment.refunds.get()
    assert (refund.reason, refund.amount_paise) == ("zero_energy", 50_000)
    assert Bill.objects.get().total == 0
    assert not JournalEntry.objects.filter(key__startswith="bill:").exists()
    assert money.books_are_right()


def test_a_remainder_under_a_rupee_settles_the_payment(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    money.stop(money.plug_in(payment), payment.permit.limit_wh - 20)
    bills.work_due(clock.now(), 10)
    bill = Bill.objects.get()
    payment.refresh_from_db()
    assert 0 < bill.remainder < 100 and bill.refund_due == 0
    assert (payment.state, payment.refunds.count()) == ("settled", 0)
    assert ledger.balance("remainders") == -bill.remainder
    assert money.books_are_right()


def test_what_is_delivered_beyond_the_money_is_ours_and_counted(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 1_000)
    limit = payment.permit.limit_wh
    money.stop(money.plug_in(payment), limit + 250)
    bills.work_due(clock.now(), 10)
    bill = Bill.objects.get()
    assert (bill.delivered_wh, bill.billed_wh, bill.overrun_wh) == (limit + 250, limit, 250)
    assert bill.total <= 1_000 and bill.overrun_paise in (381, 382)
    assert ledger.balance("overrun_given") == bill.overrun_paise == -ledger.balance("overrun_delivered")
    assert money.books_are_right()


def test_between_states_the_bill_has_one_igst_line(sandbox, kaveri_qr):
    Tariff.objects.update(igst=True)
    money.stop(money.plug_in(money.pay(sandbox, kaveri_qr, 50_000)), 10_000)
    bills.work_due(clock.now(), 10)
    bill = Bill.objects.get()
    assert (bill.cgst, bill.sgst, bill.igst) == (0, 0, 2_745)
    assert [line.description for line in bill.lines.all()] == ["Energy", "IGST 18 %"]
    assert money.books_are_right()


def test_a_session_that_ended_before_we_linked_it_is_billed_all_the_same(sandbox, kaveri_qr):
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    session = money.start_session(payment.connector, permit=payment.permit)
    IdTag.objects.filter(pk=payment.permit_id).update(state="used")
    money.stop(session, 5_000)
    bills.work_due(clock.now(), 10)
    payment.refresh_from_db()
    assert (payment.session, payment.state, Bill.objects.get().payment) == (session, "refunding", payment)
    clock.shift(301)
    payments.expire_due(clock.now(), 10)
    assert payment.refunds.count() == 1
    assert money.books_are_right()


def test_money_that_is_already_going_back_is_not_billed(sandbox, kaveri_qr):
    """The charger started although the permit had been taken back: the energy is recorded, the rider's money is not touched."""
    payment = money.pay(sandbox, kaveri_qr, 50_000)
    clock.shift(301)
    payments.expire_due(clock.now(), 10)
    session = money.start_session(payment.connector, permit=payment.permit, authorized=False)
    money.stop(session, 3_000)
    bills.work_due(clock.now(), 10)
    bill = Bill.objects.get()
    assert (bill.session, bill.payment, bill.energy_charge) == (session, None, 4_575)
    assert payment.refunds.get().amount_paise == 50_000
    assert money.books_are_right()


def test_a_session_without_a_payment_is_priced_but_moves_no_money(network):
    money.stop(money.start_session(network.kaveri_connector, id_tag="04A1B2C3"), 20_000)
    assert bills.work_due(clock.now(), 10) == 1
    bill = Bill.objects.get()
    assert (bill.payment, bill.energy_charge, bill.gst, bill.refund_due) == (None, 30_500, 5_490, 0)
    assert JournalEntry.objects.count() == Refund.objects.count() == 0


def test_without_any_tariff_an_unpaid_session_costs_nothing(network):
    Tariff.objects.all().delete()
    money.stop(money.start_session(network.kaveri_connector), 20_000)
    bills.work_due(clock.now(), 10)
    assert Bill.objects.get().total == 0


def test_a_held_session_waits_for_a_person_but_not_longer_than_a_day(sandbox, kaveri_qr):
    money.stop(money.plug_in(money.pay(sandbox, kaveri_qr, 50_000)), 10_000, flags=("held", "suspect"))
    assert bills.work_due(clock.now(), 10) == 0
    clock.shift(86_401)
    assert bills.work_due(clock.now(), 10) == 1


def test_a_live_session_is_not_billed(sandbox, kaveri_qr):
    session = money.plug_in(money.pay(sandbox, kaveri_qr, 50_000))
    assert bills.work_due(clock.now(), 10) == 0
    assert bills.bill(session.pk) is False


def test_one_sessions_trouble_is_not_the_next_ones(network, monkeypatch):
    first, second = (money.stop(money.start_session(network.kaveri_connector), wh) for wh in (1_000, 2_000))
    real = bills.bill
    monkeypatch.setattr(bills, "bill", lambda pk: 1 // 0 if pk == first.pk else real(pk))
    assert bills.work_due(clock.now(), 10) == 1
    assert Bill.objects.get().session == second


def test_the_tariff_of_the_charger_comes_before_the_stations_the_companys_and_everybodys(network):
    connector, later = network.kaveri_connector, clock.now()
    made = [network.tariff]
    for scope in (
        {"company": network.voltaro},
        {"company": network.kaveri.company},
        {"station": connector.charge_point.station},
        {"charge_point": connector.charge_point, "company": network.kaveri.company},
    ):
        made.append(
            tariffs.add("Standard", scope, {"rate_paise_per_kwh": 1000 + len(made), "gst_bp": 0, "igst": False, "platform_fee_bp": 0})[0]
        )
        assert tariffs.for_connector(connector, clock.now()) == made[-1]
    assert tariffs.for_connector(network.ganga_connector, clock.now()) == made[1]
    assert tariffs.for_connector(connector, later) == network.tariff


@pytest.mark.django_db(transaction=True)
def test_billed_once_however_many_workers_come_at_once(sandbox, network, bells):
    """Two billers, a linker and an expirer, all let go at the same moment, again and again."""
    code = money.real_qr(network.kaveri_connector)
    payment = money.pay(sandbox, code, 50_000)
    session = money.start_session(payment.connector, permit=payment.permit)
    IdTag.objects.filter(pk=payment.permit_id).update(state="used")
    money.stop(session, 7_000)
    clock.shift(301)
    now, gate, raised = clock.now(), threading.Barrier(4), []

    def run(work):
        gate.wait()
        try:
            for _ in range(3):
                work()
        except Exception as error:
            raised.append(error)
        finally:
            connection.close()

    works = [lambda: bills.bill(session.pk)] * 2 + [lambda: payments.link(payment.pk), lambda: payments.expire_due(now, 10)]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert raised == []
    assert Bill.objects.count() == Refund.objects.count() == JournalEntry.objects.filter(key__startswith="bill:").count() == 1
    assert QRPayment.objects.get().state == "refunding"
    assert refunds.held(payment) == 0
    assert money.books_are_right()


def test_the_whole_way_of_one_rupee_with_the_chargers_own_words(sandbox, network, kaveri_qr):
    """Scan, permit, StartTransaction with its tag, StopTransaction, bill, refund, settled; the books agree at every step."""
    payment = money.pay(sandbox, kaveri_qr, 50_000, vpa="asha@okaxis")
    charger, now = network.kaveri_charger, clock.now()
    began = starts.start(charger.pk, StartReported(connector_no=1, tag=payment.permit.tag, meter_start_wh=1_000_000, at=now), now)
    assert (began.status, began.session.limit_wh, began.session.user) == ("Accepted", payment.permit.limit_wh, payment.user)
    payments.link_due(clock.now(), 10)
    assert money.books_are_right()
    clock.shift(1_800)
    now = clock.now()
    said = StopReported(transaction_ref=str(began.transaction_id), meter_stop_wh=1_012_345, at=now)
    metering.stopped(charger.pk, metering.places(charger.cp_id), said, now)
    assert bills.work_due(clock.now(), 10) == 1 and refunds.work_due(clock.now(), 10) == 1
    payment.refresh_from_db()
    bill = payment.bill
    assert (payment.state, payment.session, bill.billed_wh, bill.energy_charge, bill.gst) == (
        "settled",
        began.session,
        12_345,
        18_826,
        3_388,
    )
    assert payment.refunds.get().amount_paise == 50_000 - 18_826 - 3_388
    assert money.books_are_right()
