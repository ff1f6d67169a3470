"""Pages under attack: markup in every field a charger or rider controls, forged addresses, look-ups by guessing."""

import re
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import reverse

from billing.models import QRPayment, WebhookEvent
from csms.models import ChargePoint, ChargingSession, Command, Connection, Connector, IdTag, OcppMessage
from tests.stories import billed, charge, signed_in
from voltaro import clock

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(autouse=True)
def _no_old_counts():
    cache.clear()


@pytest.fixture
def hostile(network):
    """A charger that puts markup into everything it says."""
    story = charge(network)
    charger = network.kaveri_charger
    ChargePoint.objects.filter(pk=charger.pk).update(
        vendor=EVIL[:50],
        model=EVIL[:50],
        firmware_version=EVIL[:50],
        reported_serial=EVIL[:50],
        status=EVIL[:20],
        error_code=EVIL[:50],
        online=True,
    )
    Connector.objects.filter(charge_point=charger).update(status=EVIL[:20], error_code=EVIL[:50], info=EVIL, vendor_error_code=EVIL[:50])
    charger.errors.create(connector_no=1, error_code=EVIL[:50], info=EVIL, vendor_error_code=EVIL[:50], vendor_id=EVIL)
    Connection.objects.create(
        charge_point=charger, epoch=1, process="p", channel="c", lease_until=clock.now(), closed_at=clock.now(), close_reason=EVIL[:80]
    )
    network.message = OcppMessage.objects.create(
        charge_point=charger,
        direction="IN",
        action=EVIL[:50],
        correlation_id=EVIL[:64],
        raw=EVIL.encode(),
        note=EVIL,
        at=story.session.started_at,
    )
    Command.objects.create(
        charge_point=charger, action="Reset", unique_id="u", expires_at=clock.now(), error=EVIL, response={"x": EVIL}, state="error"
    )
    ChargingSession.objects.filter(pk=story.session.pk).update(
        id_tag=EVIL[:64], stop_reason=EVIL[:40], stop_reason_raw=EVIL, flags=[EVIL[:20]]
    )
    IdTag.objects.create(tag=EVIL[:20], kind="rfid", company=network.kaveri.company)
    WebhookEvent.objects.create(event_id=EVIL, event=EVIL[:60], raw=EVIL.encode(), payload={"x": EVIL}, note=EVIL)
    network.story = story
    return network


def pages(network) -> list[str]:
    code = network.kaveri_connector.code
    return [
        f"/c/{code}/",
        f"/c/{code}/live/",
        f"/c/{code}/sticker/",
        "/",
        "/admin/",
        "/console/chargers/",
        reverse("csms:charger", args=[network.kaveri_charger.pk]),
        reverse("csms:charger-live", args=[network.kaveri_charger.pk]),
        reverse("console-session", args=[network.story.session.pk]),
        reverse("admin:csms_ocppmessage_changelist"),
        reverse("admin:csms_ocppmessage_change", args=[network.message.pk]),
        reverse("admin:csms_chargepoint_changelist"),
        reverse("admin:csms_chargepoint_change", args=[network.kaveri_charger.pk]),
        reverse("admin:csms_connector_changelist"),
        reverse("admin:csms_chargererror_changelist"),
        reverse("admin:csms_connection_changelist"),
        reverse("admin:csms_idtag_changelist"),
        reverse("admin:csms_command_change", args=[Command.objects.get(unique_id="u").pk]),
        reverse("admin:billing_webhookevent_changelist"),
        reverse("admin:accounts_auditentry_changelist"),
    ]


def test_markup_from_a_charger_is_only_ever_text(hostile):
    client = signed_in(hostile.admin)
    for address in pages(hostile):
        answer = client.get(address)
        assert answer.status_code == 200, address
        page = answer.content.decode()
        assert "<script>alert" not in page and "<img src=x" not in page, address


def test_a_frame_is_given_out_as_plain_text(hostile):
    answer = signed_in(hostile.om).get(reverse("csms:frame", args=[hostile.message.pk]))
    assert answer["Content-Type"] == "text/plain; charset=utf-8" and answer["X-Content-Type-Options"] == "nosniff"


def test_own_pages_need_no_exception_from_the_strict_policy(hostile):
    client = signed_in(hostile.admin)
    code = hostile.kaveri_connector.code
    for address in (f"/c/{code}/", f"/c/{code}/live/", f"/c/{code}/sticker/", "/", "/sign-in/", "/my-charges", "/ride/", "/nothing"):
        answer = (Client() if address == "/sign-in/" else client).get(address)
        page = answer.content.decode()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page), address
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page)), address
        policy = answer["Content-Security-Policy"]
        assert "unsafe" not in policy and "default-src 'self'" in policy and "frame-ancestors 'none'" in policy, address


def test_the_console_has_its_own_policy_without_inline_scripts(network):
    for address in ("/admin/", "/console/chargers/"):
        policy = signed_in(network.om).get(address)["Content-Security-Policy"]
        assert re.search(r"script-src 'self' 'unsafe-eval';", policy) and "default-src 'self'" in policy


@pytest.mark.parametrize("address", ["/", "/nothing", "/admin/", "/c/ZZZZZZZZ/", "/my-charges", "/healthz", "/console/chargers/"])
def test_every_answer_has_its_protecting_headers(db, address):
    answer = Client().get(address)
    assert answer["X-Frame-Options"] == "DENY" and answer["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" in answer and answer["Referrer-Policy"]


@pytest.mark.parametrize(
    "next_page",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "http:evil.example", "\thttps://evil.example"],
)
def test_sign_in_leads_nowhere_else(network, next_page):
    answer = Client().post("/sign-in/", {"username": "om", "password": "correct horse battery", "next": next_page})
    assert answer.status_code == 302 and answer["Location"] == "/admin/"


def test_the_stop_button_leads_nowhere_else_and_needs_its_token(network):
    story = charge(network)
    address = reverse("csms:stop", args=[story.session.pk])
    assert signed_in(network.om).post(address, {"next": "https://evil.example/"})["Location"].startswith("/console/chargers/")
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(network.om)
    refused = strict.post(reverse("csms:stop", args=[story.session.pk]))
    assert refused.status_code == 403 and b"send that again" in refused.content


@pytest.mark.parametrize(
    "query", ["q=%27%20OR%201=1--", "q=%00", "q=" + "x" * 5000, "page=abc", "page=-1", "page=99999999", "show=__class__", "q=%F0%9F%94%8C"]
)
def test_odd_questions_get_a_list(network, query):
    assert signed_in(network.om).get(f"/console/chargers/?{query}").status_code == 200


@pytest.mark.parametrize("code", ["%00", "..%2f..%2fetc", "<script>", "A" * 400, "%F0%9F%94%8C", "VLT-0001"])
def test_odd_codes_are_unknown_codes(network, code):
    answer = Client().get(f"/c/{code}/")
    assert answer.status_code == 404 and b"<script>alert" not in answer.content


def test_looking_changes_nothing(hostile):
    """GETs, twice: no row is made, changed or taken away."""

    def state() -> list:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_xact_user_tables WHERE relname NOT LIKE 'django_session'"
            )
            return sorted(cursor.fetchall())

    client = signed_in(hostile.admin)
    before = state()
    for address in pages(hostile) * 2:
        client.get(address)
    assert state() == before


# -- looking up a payment by guessing (docs: two facts only its payer has) ----------------------------------------
def ask(reference: str, amount: str, address: str = "10.0.0.1"):
    return Client().post("/my-charges", {"reference": reference, "amount": amount}, REMOTE_ADDR=address)


def body(answer) -> str:
    page = re.sub(r'name="csrfmiddlewaretoken" value="[^"]*"', "", answer.content.decode())
    return re.sub(r'name="amount"[^>]*>', "", page)


def test_every_miss_is_answered_alike(network):
    story = billed(network)
    misses = [
        ask(story.payment.rrn, "501"),
        ask("432199999999", "500"),
        ask("asha.secret@okbank", "500"),
        ask("", ""),
        ask("' OR 1=1 --", "500"),
        ask(story.payment.rrn, "NaN"),
    ]
    assert {answer.status_code for answer in misses} == {200}
    assert len({body(answer) for answer in misses}) == 1
    assert "8.000 kWh" in body(ask(story.payment.rrn, "500"))


def test_a_guesser_is_stopped_and_told_the_same(network):
    story = billed(network)
    first = body(ask("000000000000", "500", "10.0.0.2"))
    for number in range(12):
        ask(f"{number:012d}", "500", "10.0.0.2")
    hit_too_late = ask(story.payment.rrn, "500", "10.0.0.2")
    assert hit_too_late.status_code == 200 and body(hit_too_late) == first
    assert "8.000 kWh" in body(ask(story.payment.rrn, "500", "10.0.0.3"))


def test_a_neighbouring_ipv6_address_is_the_same_guesser(network):
    story = billed(network)
    for number in range(12):
        ask(f"{number:012d}", "500", f"2001:db8:1:2::{number}")
    assert "8.000 kWh" not in body(ask(story.payment.rrn, "500", "2001:db8:1:2::ffff"))


def test_without_the_counter_nobody_looks(network, monkeypatch):
    from redis.exceptions import ConnectionError as Gone

    def gone(*_, **__):
        raise Gone("no Redis")

    story = billed(network)
    monkeypatch.setattr("billing.views.cache.add", gone)
    answer = ask(story.payment.rrn, "500")
    assert answer.status_code == 200 and "8.000 kWh" not in body(answer)


def test_the_two_facts_never_travel_in_an_address(network):
    story = billed(network)
    answer = Client().get("/my-charges", {"reference": story.payment.rrn, "amount": "500"})
    assert "8.000 kWh" not in answer.content.decode() and answer["Cache-Control"] == "no-store"


def test_two_payments_with_one_reference_are_shown_to_nobody(network):
    story = billed(network, number=1)
    billed(network, number=2, rrn=story.payment.rrn, minutes_ago=90)
    assert QRPayment.objects.filter(rrn=story.payment.rrn, heard_at__gte=clock.now() - timedelta(days=1)).count() == 2
    assert "8.000 kWh" not in body(ask(story.payment.rrn, "500"))
