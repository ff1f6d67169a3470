"""Razorpay's day against our day, and the commands that show it."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing import bills, razorpay, reconcile, refunds
from billing.models import Difference, QRPayment, ReconciledDay, Refund, Tariff
from tests import money
from voltaro import clock

pytestmark = pytest.mark.django_db


def run_command(name: str, *args: str) -> tuple[int, str]:
    """(exit code, what it printed)"""
    out = StringIO()
    try:
        call_command(name, *args, stdout=out, stderr=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


@pytest.fixture
def day(sandbox, kaveri_qr):
    """A settled day: one paid, charged and partly refunded session."""
    payment = money.pay(sandbox, kaveri_qr, 50_000, account="credit_card")
    money.stop(money.plug_in(payment), 10_000)
    bills.work_due(clock.now(), 10)
    refunds.work_due(clock.now(), 10)
    sandbox.settle()
    return timezone.localdate(clock.now())


def test_a_day_that_agrees(day):
    row = reconcile.run(day)
    assert (row.items, row.matched, row.foreign, row.differences) == (2, 2, 0, 0)
    assert not Difference.objects.exists()
    assert run_command("reconcile", "--day", str(day))[0] == 0


def test_a_wrong_amount_and_a_wrong_fee_are_rows_and_once_only(day):
    QRPayment.objects.update(fee=1)
    Refund.objects.update(amount_paise=31_000)
    for _ in range(2):
        row = reconcile.run(day)
    assert row.differences == 2 and row.matched == 0
    assert set(Difference.objects.values_list("kind", flat=True)) == {"payment_fee", "refund_amount"}
    fee = Difference.objects.get(kind="payment_fee")
    assert fee.ours_paise == 1 and fee.theirs_paise > 1
    code, text = run_command("reconcile", "--day", str(day), "--json")
    assert code == 1 and len(json.loads(text)["differences"]) == 2


def test_what_is_put_right_is_closed_by_proof(day):
    Refund.objects.update(amount_paise=31_000)
    reconcile.run(day)
    Refund.objects.update(amount_paise=32_004)
    reconcile.run(day)
    assert Difference.objects.get().resolved_at is not None


def test_an_unknown_fee_is_filled_in_from_the_report(sandbox, kaveri_qr):
    sandbox.moods.payment_fee = "null"
    payment = money.pay(sandbox, kaveri_qr, 50_000, account="credit_card")
    sandbox.settle()
    reconcile.run(timezone.localdate(clock.now()))
    payment.refresh_from_db()
    assert payment.fee is not None
    assert money.books_are_right()


def test_other_installations_payments_are_counted_only(sandbox, kaveri_qr, day):
    other = razorpay.create_qr({"type": "upi_qr", "usage": "multiple_use", "fixed_amount": False, "name": "staging"})
    payment_id = sandbox.pay(other["id"], 9_900)
    razorpay.create_refund(payment_id, {"amount": 5_000, "speed": "normal"}, "staging-refund-1")
    sandbox.settle()
    row = reconcile.run(day)
    assert (row.foreign, row.differences) == (2, 0)


def test_a_refund_made_by_hand_is_found(sandbox, kaveri_qr, day):
    payment = QRPayment.objects.get()
    made = razorpay.create_refund(str(payment), {"amount": 500, "speed": "normal"}, "by-hand-on-the-dashboard")
    money.pay(sandbox, kaveri_qr, 10_000)  # a settlement needs something to settle
    sandbox.settle()
    reconcile.run(day)
    assert Difference.objects.get(kind="outside_refund").subject == made["id"]


def test_a_payment_razorpay_never_had_is_found(kaveri_qr, day):
    QRPayment.objects.update(razorpay_payment_id="pay_Invented0000001"[:18])
    reconcile.run(day)
    assert Difference.objects.get(kind="payment_unknown").ours_paise == 50_000


def test_the_worker_takes_the_days_that_ended_and_comes_back_when_razorpay_is_unwell(sandbox, kaveri_qr, day):
    sandbox.moods.next_call = "500"
    clock.shift(2 * 86_400)
    assert reconcile.work_due(clock.now(), 10) == reconcile.DAYS_BACK - 1
    waiting = ReconciledDay.objects.get(done_at=None)
    assert "500" in waiting.last_error
    assert reconcile.due(clock.now()).count() == 0
    clock.shift(1_801)
    assert reconcile.work_due(clock.now(), 10) == 1
    assert reconcile.due(clock.now()).count() == 0


def test_days_that_always_fail_do_not_keep_the_newer_ones_waiting(sandbox, kaveri_qr, monkeypatch):
    asked = []

    def report(day, **_):
        asked.append(day)
        if day < newest:
            raise ValueError("our own mistake")
        return []

    clock.shift(2 * 86_400)
    monkeypatch.setattr(razorpay, "recon", report)
    newest = timezone.localdate(clock.now() - reconcile.READY_AFTER)  # not over yet
    reconcile.work_due(clock.now(), 10)
    assert len(asked) == reconcile.DAYS_BACK
    clock.shift(86_400)
    assert reconcile.work_due(clock.now(), 10) == 1
    assert ReconciledDay.objects.get(day=newest).done_at is not None


def test_one_payment_that_razorpay_does_not_tell_about_holds_up_no_other(sandbox, kaveri_qr, monkeypatch):
    first, second = (money.pay(sandbox, kaveri_qr, paise, account="credit_card") for paise in (50_000, 10_000))
    QRPayment.objects.filter(pk=second.pk).update(amount_paid=10_001)
    day, truth = timezone.localdate(clock.now()), razorpay.fetch_payment
    Difference.objects.create(day=day, kind="payment_amount", subject=str(first), ours_paise=1, theirs_paise=50_000)

    def fetch(payment_id):
        if payment_id == str(first):
            raise razorpay.TryAgain("HTTP 502")
        return truth(payment_id)

    with monkeypatch.context() as patch:
        patch.setattr(razorpay, "fetch_payment", fetch)
        row = reconcile.run(day)
        assert row.done_at is None and str(first) in row.last_error
        assert not Difference.objects.exclude(resolved_at=None).exists()  # no answer is no proof
        assert Difference.objects.get(subject=str(second)).ours_paise == 10_001
        with pytest.raises(CommandError, match="did not answer about 1"):
            call_command("reconcile", "--day", str(day), stdout=StringIO())
    row = reconcile.run(day)
    assert row.done_at is not None and row.last_error == ""
    assert Difference.objects.get(subject=str(first)).resolved_at is not None


def test_razorpay_that_is_away_is_not_asked_about_every_payment(sandbox, kaveri_qr, monkeypatch):
    payments = [money.pay(sandbox, kaveri_qr, 10_000) for _ in range(reconcile.UNANSWERED_AT_MOST + 2)]
    asked = []

    def fetch(payment_id):
        asked.append(payment_id)
        raise razorpay.TryAgain("no answer")

    monkeypatch.setattr(razorpay, "fetch_payment", fetch)
    row = reconcile.run(timezone.localdate(clock.now()))
    assert row.done_at is None and len(asked) == reconcile.UNANSWERED_AT_MOST
    assert f"about {len(payments)}" in row.last_error


@pytest.mark.parametrize("day", ["tomorrow", "2026-13-01", "2999-01-01"])
def test_a_day_that_cannot_be_is_refused(day):
    with pytest.raises(CommandError):
        call_command("reconcile", "--day", day)


def test_check_books_is_honest(sandbox, kaveri_qr, day):
    code, text = run_command("check_books", "--json")
    facts = json.loads(text)
    assert code == 0 and facts["ok"] and facts["balances_paise"]["energy_revenue"] == -15_250
    QRPayment.objects.update(amount_paid=50_001)
    code, text = run_command("check_books")
    assert code == 1 and "prepaid" in text and "problems" in text


def test_add_tariff_is_idempotent_and_versions(network):
    def add(*more: str) -> dict:
        return json.loads(run_command("add_tariff", "Night", "--rate", "12.50", "--platform-fee-percent", "2", "--json", *more)[1])

    first, again, other = add(), add(), add("--gst", "5")
    assert (first["version"], first["created"], first["rate_paise_per_kwh"], first["platform_fee_bp"]) == (1, True, 1250, 200)
    assert (again["tariff"], again["created"]) == (first["tariff"], False)
    assert (other["version"], other["gst_bp"]) == (2, 500)
    assert add("--charger", "VLT-0001")["version"] == 1
    assert Tariff.objects.filter(name="Night").count() == 3


@pytest.mark.parametrize(
    "args",
    [["--rate", "15.255"], ["--rate", "NaN"], ["--rate", "-1"], ["--rate", "9", "--gst", "101"], ["--rate", "9", "--station", "Nowhere"]],
)
def test_a_price_that_cannot_be_is_refused(network, args):
    with pytest.raises(CommandError):
        call_command("add_tariff", "Odd", *args)
    assert not Tariff.objects.filter(name="Odd").exists()


def test_sweep_runs_a_worker_and_says_what_is_due(sandbox, kaveri_qr):
    sandbox.pay(kaveri_qr.razorpay_id, 10_000)
    money.deliver(sandbox, "qr_code.credited")
    code, text = run_command("sweep", "webhooks", "--dry-run", "--json")
    assert code == 0 and json.loads(text)["due"] == 1
    assert not QRPayment.objects.exists()
    assert json.loads(run_command("sweep", "webhooks", "--json")[1])["done"] == 1
    assert QRPayment.objects.get().state == "starting"
    with pytest.raises(CommandError, match="webhooks"):
        call_command("sweep", "nonsense")
