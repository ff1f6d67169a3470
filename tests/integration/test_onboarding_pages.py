"""The onboarding inbox in the console: the window, claiming with one click or with a form, keys shown once."""

import base64

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Company
from billing.models import QRCode
from csms import credentials, onboarding
from csms.models import ChargePoint, Command, Connector, OnboardingWindow, Station, UnknownCharger
from franchise.models import Ownership
from tests import factories
from tests.stories import queries, signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db
INBOX = "/console/onboarding/"
DEFAULTS = {"connectors": "1", "type": "ccs2", "max_kw": "60", "key": "give"}
KEY = "a key of twenty chars"


@pytest.fixture
def om(network, sandbox, bells):
    return signed_in(network.om)


def stranger(identity: str = "NEW-1", address: str = "203.0.113.7") -> UnknownCharger:
    onboarding.knocked(identity, address, False, clock.now(), lambda key, window_s: 1)
    return UnknownCharger.objects.get(identity=identity)


def waits(network, identity: str = "NEW-1", key: str | None = KEY) -> UnknownCharger:
    if not onboarding.open_windows(clock.now()).exists():
        onboarding.open_window(network.voltaro, network.om, minutes=30, now=clock.now())
    shown = None if key is None else b"Basic " + base64.b64encode(f"{identity}:{key}".encode())
    assert onboarding.let_in(identity, "203.0.113.7", shown, ("ocpp1.6",), clock.now(), lambda name, window_s: 1)
    ChargePoint.objects.filter(cp_id=identity).update(vendor="Exicom", model="Harmony", reported_serial="EX-1", firmware_version="3.2")
    return UnknownCharger.objects.get(identity=identity)


def page(client) -> str:
    return client.get(INBOX).content.decode()


def test_an_empty_inbox_says_what_to_type_into_a_charger(om, settings):
    text = page(om)
    assert "No unknown name has knocked" in text and "Nobody waits" in text
    assert f"{settings.PUBLIC_BASE_URL.replace('http', 'ws', 1)}/ocpp/" in text and "ocpp1.6" in text


def test_the_window_is_opened_and_closed_here(om, network):
    om.post(reverse("onboarding-open"), {"minutes": "60", "company": network.voltaro.pk})
    window = OnboardingWindow.objects.get()
    assert (window.closes_at - window.opened_at).total_seconds() == 3600 and window.opened_by == network.om
    assert "New chargers are let in until" in page(om) and "0 of 50" in page(om)
    om.post(reverse("onboarding-close", args=[window.pk]))
    assert not onboarding.open_windows(clock.now()).exists() and "let in until" not in page(om)


@pytest.mark.parametrize("posted", [{}, {"minutes": "9999"}, {"minutes": "30", "company": "0"}, {"minutes": "x"}])
def test_a_window_that_cannot_be_is_not_opened(om, network, posted):
    om.post(reverse("onboarding-open"), {"company": network.voltaro.pk, **posted})
    assert not OnboardingWindow.objects.exists()


def test_who_waits_is_shown_with_what_it_says_of_itself(om, network):
    waits(network)
    stranger("OUTSIDE")
    text = page(om)
    for said in ("NEW-1", "Exicom Harmony", "EX-1", "3.2", "203.0.113.7", "shown, and kept", "OUTSIDE"):
        assert said in text, said
    assert KEY not in text
    live = om.get(INBOX + "live/")
    assert b"NEW-1" in live.content and b"<html" not in live.content
    home = om.get("/admin/").content.decode()
    assert "New chargers that wait to be claimed" in home


def test_claimed_with_one_click_it_keeps_its_key_and_gets_its_qr(om, network):
    row = waits(network)
    answer = om.post(reverse("onboarding-claim", args=[row.pk]), DEFAULTS)
    charge_point = ChargePoint.objects.get(cp_id="NEW-1")
    assert answer["Location"] == reverse("csms:charger", args=[charge_point.pk])
    assert (charge_point.registration, charge_point.unclaimed, charge_point.security_profile) == ("Accepted", False, 1)
    assert charge_point.serial_number == "EX-1"
    assert credentials.matches("NEW-1", charge_point.credentials_hash, KEY.encode())
    connector = Connector.objects.get(charge_point="NEW-1")
    assert (connector.type, connector.max_power_w) == ("ccs2", 60_000)
    assert QRCode.objects.filter(connector=connector, status="active").count() == 1
    assert not Command.objects.exists()
    assert AuditEntry.objects.get(action="onboarding.claimed").user == network.om
    assert om.get(reverse("onboarding-claim", args=[row.pk])).status_code == 404


def test_claimed_with_the_form_it_is_where_and_whose_it_is(om, network):
    row = waits(network)
    form = om.get(reverse("onboarding-claim", args=[row.pk])).content.decode()
    assert 'name="key"' not in form
    posted = {"connectors": "2", "type": "type2", "max_kw": "7.4", "new_station": "Powai Lake", "owner": network.kaveri.pk}
    om.post(reverse("onboarding-claim", args=[row.pk]), posted)
    charge_point = ChargePoint.objects.get(cp_id="NEW-1")
    assert charge_point.company == network.kaveri.company and charge_point.station.name == "Powai Lake"
    assert [(one.type, one.max_power_w) for one in charge_point.connectors.all()] == [("type2", 7_400)] * 2
    assert Ownership.objects.filter(charge_point=charge_point, franchisee=network.kaveri).exists()


def test_claimed_into_a_station_that_is_there(om, network):
    station = Station.objects.create(name="Depot", company=network.voltaro)
    om.post(reverse("onboarding-claim", args=[waits(network).pk]), {**DEFAULTS, "station": station.pk})
    assert ChargePoint.objects.get(cp_id="NEW-1").station == station


def test_without_a_key_it_is_asked_to_take_one_or_allowed_without(om, network):
    om.post(reverse("onboarding-claim", args=[waits(network, key=None).pk]), DEFAULTS)
    charge_point = ChargePoint.objects.get(cp_id="NEW-1")
    command = Command.objects.get(charge_point=charge_point)
    assert (command.action, command.payload["key"]) == ("ChangeConfiguration", "AuthorizationKey")
    assert charge_point.pending_credentials_hash and charge_point.security_profile == 0  # until it has used it
    other = waits(network, "NEW-2", key=None)
    om.post(reverse("onboarding-claim", args=[other.pk]), {**DEFAULTS, "key": "none"})
    assert not Command.objects.filter(charge_point__cp_id="NEW-2").exists()
    assert ChargePoint.objects.get(cp_id="NEW-2").registration == "Accepted"


def test_a_stranger_is_added_with_a_key_that_is_shown_once(om, network):
    row = stranger()
    answer = om.post(reverse("onboarding-claim", args=[row.pk]), DEFAULTS)
    text = answer.content.decode()
    charge_point = ChargePoint.objects.get(cp_id="NEW-1")
    key = text.partition('id="key">')[2].partition("<")[0]
    assert len(key) == 40 and credentials.matches("NEW-1", charge_point.credentials_hash, key.encode())
    assert (charge_point.registration, charge_point.security_profile, charge_point.company) == ("Accepted", 1, network.voltaro)
    assert "no-store" in answer["Cache-Control"]
    assert key not in page(om) and not AuditEntry.objects.filter(after__icontains=key).exists()
    row.refresh_from_db()
    assert row.state == "claimed"


def test_razorpay_away_it_is_claimed_all_the_same(om, network, settings):
    settings.RAZORPAY_BASE_URL = "http://127.0.0.1:9"
    answer = om.post(reverse("onboarding-claim", args=[waits(network).pk]), DEFAULTS, follow=True)
    assert ChargePoint.objects.get(cp_id="NEW-1").registration == "Accepted"
    assert "add_charger" in answer.content.decode()


@pytest.mark.parametrize(
    "wrong", [{"connectors": "0"}, {"connectors": "21"}, {"max_kw": "0"}, {"type": "steam"}, {"owner": "999999"}, {"station": "999999"}]
)
def test_a_form_with_a_mistake_claims_nothing(om, network, wrong):
    row = waits(network)
    assert om.post(reverse("onboarding-claim", args=[row.pk]), {**DEFAULTS, **wrong}).status_code == 400
    assert ChargePoint.objects.get(cp_id="NEW-1").unclaimed and not Connector.objects.filter(charge_point="NEW-1").exists()


def test_blocked_listed_and_let_go(om, network):
    row = stranger()
    om.post(reverse("onboarding-block", args=[row.pk]))
    assert "Blocked" in page(om) and "Unblock" in page(om)
    om.post(reverse("onboarding-forget", args=[row.pk]))
    assert not UnknownCharger.objects.exists()


def test_who_only_looks_can_do_nothing_and_others_see_nothing(network, sandbox, bells):
    row = waits(network)
    support = signed_in(factories.make_user("sam", "support", network.voltaro))
    assert "NEW-1" in page(support) and "Claim" not in page(support).partition("Waiting to be claimed")[2].partition("Refused")[0]
    deeds = [reverse(f"onboarding-{deed}", args=[row.pk]) for deed in ("claim", "block", "forget")] + [reverse("onboarding-open")]
    for address in deeds:
        assert support.post(address, DEFAULTS).status_code == 403
    for who in (network.kaveri_user, network.asha):
        assert signed_in(who).get(INBOX).status_code == 403
    assert ChargePoint.objects.get(cp_id="NEW-1").unclaimed


def test_another_networks_operator_sees_and_claims_none_of_ours(network, sandbox, bells):
    row = waits(network)
    other = signed_in(factories.make_user("rival", "operator", Company.objects.create(name="Rival Grid")))
    assert "NEW-1" not in page(other)
    assert other.post(reverse("onboarding-claim", args=[row.pk]), DEFAULTS).status_code == 404


def test_the_unclaimed_are_nowhere_in_public_nor_among_the_chargers(om, network):
    waits(network)
    charge_point = ChargePoint.objects.get(cp_id="NEW-1")
    assert "NEW-1" not in om.get("/console/chargers/").content.decode()
    assert Client().get("/", {"code": charge_point.public_code}).status_code in (200, 302, 404)
    assert Client().get(f"/c/{charge_point.public_code}/").status_code == 404


def test_the_inbox_asks_a_fixed_number_of_questions(om, network):
    om.get(INBOX)
    stranger("A")
    few = queries(om, INBOX)
    for number in range(12):
        stranger(f"B{number}")
        waits(network, f"W{number}")
    assert queries(om, INBOX) <= few + 1
