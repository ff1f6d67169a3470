"""The public pages and the riders', through Django's client: what stands there, and that full tables cost no more queries."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client

from billing.models import QRPayment
from billing.rules.tariff import price
from csms.models import ChargingSession
from tests import factories
from tests.stories import billed, charge, queries, signed_in
from voltaro import clock


@pytest.fixture(autouse=True)
def _no_old_counts():
    cache.clear()


# -- the front door ---------------------------------------------------------------------------------------------
def test_the_landing_page_leads_each_to_their_place(network):
    assert b"Find your charger" in Client().get("/").content
    assert b"Operator&#x27;s console</a>" not in Client().get("/").content.split(b"Find your charger")[0]
    om = signed_in(network.om).get("/").content.decode()
    assert om.index('href="/admin/"') < om.index("Find your charger")
    kaveri = signed_in(network.kaveri_user).get("/").content.decode()
    assert kaveri.index('href="/portal/"') < kaveri.index("Find your charger")


def test_a_code_typed_in_leads_to_its_charger(network):
    code = network.kaveri_connector.code
    answer = Client().get("/", {"code": f" {code[:4].lower()} {code[4:].lower()}"})
    assert answer.status_code == 302 and answer["Location"] == f"/c/{code}/"
    assert Client().get("/", {"code": "../../admin"}).status_code == 400


@pytest.mark.parametrize(("who", "place"), [("om", "/admin/"), ("admin", "/admin/"), ("kaveri_user", "/portal/"), ("asha", "/ride/")])
def test_sign_in_leads_to_ones_own_place(network, who, place):
    user = getattr(network, who)
    answer = Client().post("/sign-in/", {"username": user.username, "password": factories.PASSWORD})
    assert answer.status_code == 302 and answer["Location"] == place


def test_a_wrong_password_says_so_and_nothing_more(network):
    known = Client().post("/sign-in/", {"username": "om", "password": "no"})
    unknown = Client().post("/sign-in/", {"username": "nobody", "password": "no"})
    assert known.status_code == unknown.status_code == 200
    assert b"do not belong together" in known.content and b"do not belong together" in unknown.content


@pytest.mark.parametrize("address", ["/nothing/here", "/c/ZZZZZZZZ/", "/c/ZZZZZZZZ/live/", "/c/ZZZZZZZZ/sticker/", "/c/ZZZZZZZZ/qr.svg"])
def test_what_is_not_there_says_so_in_our_own_words(db, address):
    answer = Client().get(address)
    assert answer.status_code == 404 and b"Voltaro</a>" in answer.content and b"Traceback" not in answer.content


def test_our_own_mistake_shows_a_page_and_no_secret(network, monkeypatch):
    def broken(*_):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("billing.rider.place", broken)
    answer = Client(raise_request_exception=False).get(f"/c/{network.kaveri_connector.code}/")
    assert answer.status_code == 500 and b"broke on our side" in answer.content and b"hunter2" not in answer.content


# -- the page behind the QR -------------------------------------------------------------------------------------
def test_the_public_page_says_what_it_costs_and_never_who_the_charger_is(network):
    network.kaveri_charger.online = True
    network.kaveri_charger.save()
    code = network.kaveri_connector.code
    answer = Client().get(f"/c/{code.lower()}/")
    page = answer.content.decode()
    assert answer.status_code == 200 and answer["X-Robots-Tag"] == "noindex, nofollow" and answer["Cache-Control"] == "no-store"
    for words in ("Kaveri Hub", code, "CCS2", "60 kW", "₹17.995", "₹15.25", "18 %", "Ready for you"):
        assert words in page, words
    for address in ("", "live/", "sticker/"):
        assert "VLT-0001" not in Client().get(f"/c/{code}/{address}").content.decode()


def test_an_offline_charger_asks_riders_not_to_pay(network):
    page = Client().get(f"/c/{network.kaveri_connector.code}/live/").content.decode()
    assert "Please do not pay here just now" in page and "sent back in full" in page


def test_asha_sees_her_session_run_and_what_would_come_back(network):
    charge(network, wh=8_000)
    page = Client().get(f"/c/{network.kaveri_connector.code}/live/").content.decode()
    used = price(8_000, network.tariff.snapshot()).total
    for words in ("8.000 kWh", "41.3 kW", "63 %", f"₹{used // 100}.{used % 100:02d}", "of ₹500.00 paid", f'value="{used * 100 // 50_000}"'):
        assert words in page, words
    assert "asha" not in page and "okbank" not in page


def test_the_money_shown_never_passes_the_money_paid(network):
    charge(network, wh=40_000)
    page = Client().get(f"/c/{network.kaveri_connector.code}/live/").content.decode()
    assert 'value="99"' in page or 'value="100"' in page
    assert "-₹" not in page


def test_after_the_end_the_bill_and_the_refund_stand_there_for_an_hour(network):
    story = billed(network, refund_state="pending")
    address = f"/c/{network.kaveri_connector.code}/live/"
    page = Client().get(address).content.decode()
    due = story.bill.refund_due
    assert "Finished" in page and f"₹{due // 100}.{due % 100:02d}" in page and "is on its way" in page
    clock.shift(3700)
    assert "Finished" not in Client().get(address).content.decode()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("due", "is being asked for now"),
        ("asking", "has not confirmed it yet"),
        ("processed", "was sent at"),
        ("failed", "did not go through"),
    ],
)
def test_a_refund_is_told_honestly(network, state, words):
    billed(network, refund_state=state)
    assert words in Client().get(f"/c/{network.kaveri_connector.code}/live/").content.decode()


def test_paid_and_waiting_then_returned(network):
    now = clock.now()
    payment = QRPayment.objects.create(
        razorpay_payment_id="pay_W",
        qr=network.kaveri_qr,
        connector=network.kaveri_connector,
        company=network.kaveri.company,
        amount_paid=20_000,
        state="starting",
        paid_at=now,
        heard_at=now,
        start_deadline=now + timedelta(minutes=5),
    )
    address = f"/c/{network.kaveri_connector.code}/live/"
    page = Client().get(address).content.decode()
    assert "₹200.00 received" in page and "plug it in now" in page
    payment.state, payment.refund_reason = "refunding", "not_started"
    payment.save()
    page = Client().get(address).content.decode()
    assert "₹200.00 goes back in full" in page and "did not start in time" in page


def test_a_second_payer_is_told_why_theirs_came_back_while_the_first_charges(network):
    charge(network)
    now = clock.now()
    QRPayment.objects.create(
        razorpay_payment_id="pay_second",
        qr=network.kaveri_qr,
        connector=network.kaveri_connector,
        company=network.kaveri.company,
        amount_paid=10_000,
        state="refunding",
        refund_reason="busy",
        paid_at=now,
        heard_at=now,
    )
    page = Client().get(f"/c/{network.kaveri_connector.code}/live/").content.decode()
    assert "8.000 kWh" in page and "somebody else was charging here" in page


def test_the_live_fragment_costs_the_same_with_a_long_history(network):
    charge(network, number=1)
    address = f"/c/{network.kaveri_connector.code}/live/"
    few = queries(Client(), address)
    ChargingSession.objects.update(state="STOPPED", ended_at=clock.now())
    for number in range(2, 60):
        billed(network, number=number, minutes_ago=number)
    charge(network, number=99)
    assert queries(Client(), address) <= max(few, 9)


def test_the_qr_is_drawn_and_can_be_taken_home(network):
    network.kaveri_qr.image_content = "upi://pay?pa=test@bank"
    network.kaveri_qr.save()
    code = network.kaveri_connector.code
    svg, png = Client().get(f"/c/{code}/qr.svg"), Client().get(f"/c/{code}/qr.png?download")
    assert svg["Content-Type"] == "image/svg+xml" and b"<svg" in svg.content
    assert png.content.startswith(b"\x89PNG") and f"voltaro-{code}.png" in png["Content-Disposition"]
    network.kaveri_qr.status = "closed"
    network.kaveri_qr.save()
    assert Client().get(f"/c/{code}/qr.svg").status_code == 404
    assert "no active QR code" in Client().get(f"/c/{code}/").content.decode()


# -- riders -----------------------------------------------------------------------------------------------------
def test_a_rider_sees_their_own_charges_only(network):
    assert Client().get("/ride/")["Location"].startswith("/sign-in/")
    assert "No charges under this account yet" in signed_in(network.asha).get("/ride/").content.decode()
    billed(network, number=1, user=network.asha)
    billed(network, number=2, amount=77_700)
    page = signed_in(network.asha).get("/ride/").content.decode()
    assert "₹500.00" in page and "₹777.00" not in page


def test_two_facts_find_one_payment(network):
    story = billed(network)
    page = Client().post("/my-charges", {"reference": "4321 0000 0001", "amount": "500"}).content.decode()
    assert "8.000 kWh for" in page and "asha.secret" not in page and "VLT-0001" not in page
    for amount in ("₹500.00", "500.0"):
        assert "8.000 kWh for" in Client().post("/my-charges", {"reference": story.payment.rrn, "amount": amount}).content.decode()
