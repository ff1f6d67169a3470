"""The operator's console, through Django's client: who gets in where, what they may do, and what it costs."""

import json
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db.models.signals import pre_save
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Company, Membership
from accounts.roles import Role
from billing.models import Bill
from billing.rules.tariff import price
from csms.models import ChargePoint, Command, Connection, Connector, MeterReading, OcppMessage, Station
from tests import factories
from tests.stories import billed, charge, queries, signed_in
from voltaro import clock


@pytest.fixture(autouse=True)
def _no_old_counts():
    cache.clear()


# -- the console ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("who", "status"),
    [(None, 302), ("asha", 403), ("kaveri_user", 403), ("om", 200), ("admin", 200), ("support", 200), ("finance", 200)],
)
@pytest.mark.parametrize("address", ["/admin/", "/console/chargers/", "charger", "session"])
def test_who_enters_the_console(network, who, status, address):
    for name in ("support", "finance"):
        setattr(network, name, factories.make_user(name, name, network.voltaro))
    story = charge(network)
    address = {
        "charger": reverse("csms:charger", args=[network.kaveri_charger.pk]),
        "session": reverse("console-session", args=[story.session.pk]),
    }.get(address, address)
    client = signed_in(getattr(network, who)) if who else Client()
    answer = client.get(address)
    assert answer.status_code == status
    if who is None:
        assert answer["Location"].startswith("/sign-in/?next=")


def test_is_staff_alone_opens_nothing(network):
    network.asha.is_staff = True
    network.asha.save()
    assert signed_in(network.asha).get("/admin/").status_code == 403


def test_the_list_of_chargers_is_searched_filtered_and_counted(network):
    network.kaveri_charger.online = True
    network.kaveri_charger.save()
    om = signed_in(network.om)
    page = om.get("/console/chargers/").content.decode()
    assert "VLT-0001" in page and "VLT-0002" in page and "Online <b>1</b>" in page and "Offline <b>1</b>" in page
    assert "VLT-0002" not in om.get("/console/chargers/?show=online").content.decode()
    assert "VLT-0001" not in om.get("/console/chargers/?show=offline").content.decode()
    assert "VLT-0001" not in om.get("/console/chargers/?show=silent").content.decode()
    network.kaveri_charger.last_seen = clock.now() - timedelta(minutes=10)
    network.kaveri_charger.save()
    assert "VLT-0001" in om.get("/console/chargers/?show=silent").content.decode()
    found = om.get("/console/chargers/", {"q": network.ganga_connector.code.lower()}).content.decode()
    assert "VLT-0002" in found and "VLT-0001" not in found
    assert "No charger is like that" in om.get("/console/chargers/?q=nowhere").content.decode()


def test_a_thousand_chargers_cost_no_more_queries_than_one(network):
    om = signed_in(network.om)
    om.get("/console/chargers/")
    few = queries(om, "/console/chargers/")
    for number in range(3, 80):
        factories.make_charge_point(f"VLT-{number:04d}", network.kaveri.company, network.kaveri_charger.station, connectors=2)
    assert queries(om, "/console/chargers/") <= few


def test_the_charger_page_shows_identity_session_money_and_frames(network):
    story = charge(network)
    network.kaveri_charger.online = True
    network.kaveri_charger.save()
    Connection.objects.create(charge_point=network.kaveri_charger, epoch=1, process="p", channel="c", lease_until=clock.now())
    message = OcppMessage.objects.create(
        charge_point=network.kaveri_charger, direction="IN", action="BootNotification", message_type=2, raw=b'[2,"1","BootNotification",{}]'
    )
    om = signed_in(network.om)
    page = om.get(reverse("csms:charger", args=[network.kaveri_charger.pk])).content.decode()
    used = price(8_000, network.tariff.snapshot()).total
    for words in (
        "VLT-0001",
        "8.000 kWh",
        f"₹{used // 100}.{used % 100:02d} of ₹500.00 used",
        "BootNotification",
        "Working: online",
        "Stop",
    ):
        assert words in page, words
    assert reverse("csms:curve", args=[story.session.pk]) in page
    frame = om.get(reverse("csms:frame", args=[message.pk]))
    assert frame["Content-Type"].startswith("text/plain") and json.loads(frame.content)[2] == "BootNotification"


def test_a_charger_that_went_silent_says_why_at_a_glance(network):
    Connection.objects.create(
        charge_point=network.kaveri_charger,
        epoch=1,
        process="p",
        channel="c",
        lease_until=clock.now(),
        closed_at=clock.now(),
        close_code=1006,
    )
    network.kaveri_charger.errors.create(connector_no=1, error_code="GroundFailure")
    page = signed_in(network.om).get(reverse("csms:charger-live", args=[network.kaveri_charger.pk])).content.decode()
    assert "Offline: its last connection ended (1006, the line broke)." in page and "Connector 1 reports GroundFailure." in page


def test_the_charger_page_costs_the_same_with_full_tables(network):
    om, address = signed_in(network.om), reverse("csms:charger-live", args=[network.kaveri_charger.pk])
    charge(network, number=1)
    om.get(address)
    few = queries(om, address)
    for number in range(2, 40):
        billed(network, number=number)
    charger = network.kaveri_charger
    OcppMessage.objects.bulk_create(OcppMessage(charge_point=charger, direction="IN", action="Heartbeat", raw=b"[]") for _ in range(300))
    for number in range(40):
        charger.errors.create(connector_no=1, error_code=f"E{number}")
        Command.objects.create(charge_point=charger, action="Reset", unique_id=f"u{number}", expires_at=clock.now())
    assert queries(om, address) <= few + 1


def test_om_stops_a_session_and_it_is_asked_once(network, bells):
    story = charge(network)
    address = reverse("csms:stop", args=[story.session.pk])
    om = signed_in(network.om)
    assert om.get(address).status_code == 405
    for _ in range(2):
        assert om.post(address)["Location"] == reverse("csms:charger", args=[network.kaveri_charger.pk])
    command = Command.objects.get(action="RemoteStopTransaction")
    assert command.session == story.session and command.requested_by == "om"
    assert AuditEntry.objects.filter(action="command.requested", target_id=str(command.pk), actor="om").exists()
    command.state = "rejected"
    command.save()
    om.post(address)
    assert Command.objects.filter(action="RemoteStopTransaction").count() == 2


@pytest.mark.parametrize(("who", "status"), [("finance", 403), ("support", 403), ("asha", 403), ("kaveri_user", 403), ("other", 404)])
def test_who_may_not_stop_a_session(network, who, status):
    for name in ("support", "finance"):
        setattr(network, name, factories.make_user(name, name, network.voltaro))
    network.other = factories.make_user("other", Role.OPERATOR, Company.objects.create(name="Another network"))
    story = charge(network)
    assert signed_in(getattr(network, who)).post(reverse("csms:stop", args=[story.session.pk])).status_code == status
    assert not Command.objects.exists()


def test_another_networks_operator_finds_nothing_of_ours(network):
    stranger = factories.make_user("stranger", Role.OPERATOR, Company.objects.create(name="Another network"))
    story = charge(network)
    message = OcppMessage.objects.create(charge_point=network.kaveri_charger, direction="IN", raw=b"[]")
    client = signed_in(stranger)
    for name, pk in [
        ("csms:charger", network.kaveri_charger.pk),
        ("csms:charger-live", network.kaveri_charger.pk),
        ("csms:frame", message.pk),
        ("csms:curve", story.session.pk),
        ("console-session", story.session.pk),
    ]:
        assert client.get(reverse(name, args=[pk])).status_code == 404, name
    assert "VLT-0001" not in client.get("/console/chargers/").content.decode()
    assert "VLT-0001" not in client.get("/admin/csms/chargepoint/").content.decode()
    assert "VLT-0001" not in client.get("/admin/").content.decode()


def test_a_long_curve_is_thinned(network):
    story, now = charge(network), clock.now()
    MeterReading.objects.bulk_create(
        MeterReading(
            charge_point=network.kaveri_charger,
            session=story.session,
            at=now + timedelta(seconds=n),
            energy_wh=n,
            power_w=1000,
            digest=str(n),
        )
        for n in range(2_000)
    )
    curve = signed_in(network.om).get(reverse("csms:curve", args=[story.session.pk])).json()
    assert 400 <= len(curve["at"]) <= 600 and curve["at"] == sorted(curve["at"]) and len(curve["energy_wh"]) == len(curve["at"])


def test_one_session_from_rupee_to_frame(network):
    story = billed(network)
    Command.objects.create(
        charge_point=network.kaveri_charger,
        action="RemoteStartTransaction",
        unique_id="u",
        permit=story.permit,
        expires_at=clock.now(),
        trigger="paid",
    )
    OcppMessage.objects.create(
        charge_point=network.kaveri_charger,
        direction="IN",
        action="StartTransaction",
        message_type=2,
        raw=b"[]",
        at=story.session.started_at,
    )
    page = signed_in(network.admin).get(reverse("console-session", args=[story.session.pk])).content.decode()
    for words in ("Paid by UPI", "RemoteStartTransaction asked (paid)", "StartTransaction", "Session began", "Session ended", "Refund"):
        assert words in page, words
    assert story.permit.tag not in page and "asha.secret" not in page


def test_the_home_counts_today_and_what_is_stuck(network):
    billed(network, refund_state="failed", minutes_ago=1)
    page = signed_in(network.om).get("/admin/").content.decode()
    assert "8.000" in page and "Refunds that failed" in page and "Chargers offline" in page


def test_a_forged_webhook_is_visible_to_the_admin(network):
    Client().post("/webhooks/razorpay/", b"{}", content_type="application/json", HTTP_X_RAZORPAY_SIGNATURE="forged")
    assert "1 with a wrong signature" in signed_in(network.admin).get("/admin/").content.decode()
    assert 'voltaro_webhooks_refused{reason="bad_signature"} 1.0' in Client().get("/metrics").content.decode()


def test_the_home_costs_the_same_with_full_tables(network):
    om = signed_in(network.om)
    om.get("/admin/")
    few = queries(om, "/admin/")
    for number in range(1, 40):
        billed(network, number=number)
    assert queries(om, "/admin/") <= few


# -- the admin --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("who", ["om", "admin"])
def test_every_list_and_every_row_of_the_admin_opens(network, who):
    from django.contrib import admin

    billed(network)
    charger = network.kaveri_charger
    OcppMessage.objects.create(charge_point=charger, direction="IN", raw=b"\xff{", correlation_id="x")
    Command.objects.create(charge_point=charger, action="Reset", unique_id="u", expires_at=clock.now(), payload={"idTag": "0000SECRET"})
    charger.errors.create(connector_no=1, error_code="GroundFailure")
    MeterReading.objects.create(charge_point=charger, at=clock.now(), digest="1", samples=[{"value": "1"}])
    client = signed_in(getattr(network, who))
    for model, model_admin in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        listed = client.get(reverse(f"{name}_changelist"), {"q": "1"} if model_admin.search_fields else {})
        if who == "om" and model._meta.app_label == "axes":
            assert listed.status_code == 403
            continue
        assert listed.status_code == 200, name
        row = model._default_manager.order_by("pk").first()
        if row is not None and who == "admin":
            answer = client.get(reverse(f"{name}_change", args=[row.pk]))
            assert answer.status_code == 200 and b"SECRET" not in answer.content, name


def test_every_address_of_the_sidebar_leads_somewhere(network, rf):
    from voltaro.navigation import SIDEBAR, sidebar

    request = rf.get("/admin/")
    request.user = network.admin
    items = [item for group in sidebar(request) for item in group["items"]]
    assert len(items) == sum(len(rows) for _, rows in SIDEBAR)
    client = signed_in(network.admin)
    for item in items:
        assert client.get(item["link"]).status_code == 200, item


def test_only_admins_touch_people_and_only_superusers_make_superusers(network):
    boss = factories.make_user("boss", Role.ADMIN, network.voltaro)
    address = reverse("admin:accounts_user_change", args=[network.asha.pk])
    form = {"username": "asha", "first_name": "A", "is_active": "on", "is_superuser": "on", "is_staff": "on"}
    form |= {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    assert signed_in(network.om).post(address, form).status_code == 403
    assert signed_in(boss).post(address, form).status_code == 302
    network.asha.refresh_from_db()
    assert network.asha.first_name == "A" and not network.asha.is_superuser and not network.asha.is_staff
    of_superuser = reverse("admin:auth_user_password_change", args=[network.admin.pk])
    assert signed_in(boss).post(of_superuser, {"password1": "x" * 20, "password2": "x" * 20}).status_code == 403


def test_an_operator_cannot_give_roles(network):
    form = {"user": network.om.pk, "company": network.voltaro.pk, "role": Role.ADMIN}
    assert signed_in(network.om).post(reverse("admin:accounts_membership_add"), form).status_code == 403
    assert not Membership.objects.filter(role=Role.ADMIN).exists()


def test_money_and_logs_cannot_be_deleted_even_by_admins(network):
    story = billed(network)
    client = signed_in(network.admin)
    for name, pk in [("billing_qrpayment", story.payment.pk), ("billing_bill", story.bill.pk), ("csms_chargingsession", story.session.pk)]:
        assert client.post(reverse(f"admin:{name}_delete", args=[pk]), {"post": "yes"}).status_code == 403, name
    assert Bill.objects.exists()


def test_phones_and_upi_ids_are_masked(network):
    network.asha.phone, network.asha.vpa = "+919876543210", "ashapatel@okbank"
    network.asha.save()
    client = signed_in(network.admin)
    for address in (reverse("admin:accounts_user_changelist"), reverse("admin:accounts_user_change", args=[network.asha.pk])):
        page = client.get(address).content.decode()
        assert "9876543210" not in page and "ashapatel" not in page and "@okbank" in page


# -- what operations looks at -----------------------------------------------------------------------------------
def test_health_and_readiness(db):
    assert Client().get("/healthz").json() == {"status": "ok"}
    assert Client().get("/readyz").json() == {"status": "ok", "database": "ok", "migrations": "ok", "redis": "ok"}


def test_metrics_count_the_fleet_and_the_money_in_few_queries(network):
    billed(network, refund_state="failed")
    charge(network, number=2, connector=network.ganga_connector)
    few = queries(Client(), "/metrics")
    text = Client().get("/metrics").content.decode()
    for line in (
        'voltaro_chargers{state="offline"} 2.0',
        'voltaro_sessions_live{state="RUNNING"} 1.0',
        'voltaro_refunds_open{state="failed"} 1.0',
        'voltaro_payments_open{state="charging"} 1.0',
    ):
        assert line in text, line
    assert few <= 13


def test_in_production_metrics_are_for_the_machine_itself_or_a_token(db, settings):
    settings.PROD, settings.METRICS_TOKEN = True, "a-long-token"
    assert Client().get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 200
    assert Client().get("/metrics", REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR="8.8.8.8").status_code == 403
    assert Client().get("/metrics", REMOTE_ADDR="8.8.8.8").status_code == 403
    assert Client().get("/metrics", REMOTE_ADDR="8.8.8.8", HTTP_AUTHORIZATION="Bearer wrong").status_code == 403
    assert Client().get("/metrics", REMOTE_ADDR="8.8.8.8", HTTP_AUTHORIZATION="Bearer a-long-token").status_code == 200


@pytest.mark.parametrize("what", ["chargepoint", "connector"])
def test_a_form_does_not_turn_back_what_the_charger_has_done_meanwhile(network, what):
    """It connects, and reports, while an operator's form of it is being saved: of the row only what was changed is written."""
    row, connector = network.kaveri_charger, network.kaveri_connector

    def meanwhile(sender, **kwargs):
        ChargePoint.objects.filter(pk=row.pk).update(epoch=9, online=True, learned={"firmware": "2"}, credentials_hash="new")
        Connector.objects.filter(pk=connector.pk).update(status="Charging", error_code="OtherError")

    om = signed_in(network.om)
    address = reverse(f"admin:csms_{what}_change", args=[row.pk if what == "chargepoint" else connector.pk])
    form = om.get(address).context["adminform"].form
    filled = {name: value for name, value in form.initial.items() if name in form.fields and value is not None}
    inline = {"id": connector.pk, "type": "type2", "charge_point": row.cp_id, "max_power_w": 22_000}
    filled |= {"max_power_w": 22_000, "serial_number": "S-77", "connectors-TOTAL_FORMS": 1, "connectors-INITIAL_FORMS": 1}
    filled |= {f"connectors-0-{name}": value for name, value in inline.items()}
    pre_save.connect(meanwhile, sender=ChargePoint if what == "chargepoint" else Connector)
    try:
        answer = om.post(address, filled)
    finally:
        pre_save.disconnect(meanwhile, sender=ChargePoint if what == "chargepoint" else Connector)
    assert answer.status_code == 302, answer.context["errors"]
    row.refresh_from_db()
    connector.refresh_from_db()
    assert (row.epoch, row.online, row.learned, row.credentials_hash) == (9, True, {"firmware": "2"}, "new")
    assert (connector.status, connector.error_code, connector.max_power_w) == ("Charging", "OtherError", 22_000)
    assert row.serial_number == ("S-77" if what == "chargepoint" else row.serial_number)


def test_who_changed_a_row_is_on_it_whatever_its_number(network):
    """Also when the row has the number of the person."""
    station = Station.objects.create(pk=network.om.pk, name="Same number", company=network.voltaro)
    address = reverse("admin:csms_station_change", args=[station.pk])
    form = signed_in(network.om).get(address).context["adminform"].form
    filled = {name: value for name, value in form.initial.items() if name in form.fields and value is not None}
    assert signed_in(network.om).post(address, {**filled, "name": "Another name"}).status_code == 302
    station.refresh_from_db()
    assert (station.name, station.updated_by) == ("Another name", network.om)
