"""The security page of a charger, and the lists of alerts, events, certificates and roots."""

import re

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile

from accounts.models import AuditEntry
from csms import alerts, doors, rotation, security_events
from csms.events import SecurityEventReported
from csms.models import Alert, ChargePoint, ChargerCertificate, Command, InstalledCertificate, RootCertificate, SecurityEvent
from tests.certificates import Authority
from tests.factories import make_user
from tests.keyed import OLD, TLS, Keyed
from voltaro import clock


@pytest.fixture
def charger(network):
    return Keyed(network.kaveri_charger)


@pytest.fixture
def om(network, client):
    client.force_login(network.om)
    return client


@pytest.fixture
def page(charger):
    return f"/console/chargers/{charger.row.pk}/security/"


def text(response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def do(client, page: str, deed: str, **fields) -> str:
    """The page after a deed."""
    response = client.post(f"{page}{deed}/", fields, follow=True)
    assert response.status_code == 200
    return text(response)


def row(charger) -> ChargePoint:
    charger.row.refresh_from_db()
    return charger.row


def test_om_changes_a_key_without_seeing_it(om, charger, page):
    assert "Change its key" in text(om.get(page))
    said = do(om, page, "rotate")
    assert "asked to take a new key" in said and "A new one waits" in said and "Send the same key again" in said
    unique_id, new = charger.key_it_was_sent()
    assert "waits since" in do(om, page, "rotate")
    charger.accept(unique_id)
    assert "Both keys open the door" in text(om.get(page))
    assert charger.comes(new) == ""
    said = text(om.get(page))
    assert "A new one waits" not in said and new not in said
    assert AuditEntry.objects.filter(action="credentials.change_asked", actor="om").exists()


def test_a_key_by_hand_is_shown_once_and_is_not_kept(om, charger, page):
    response = om.post(f"{page}new-key/")
    assert "no-store" in response["Cache-Control"]
    key = re.search(r"[0-9a-f]{40}", text(response))[0]
    assert "shown once" in text(response)
    assert key not in text(om.get(page))
    assert charger.comes(key) == "" and charger.comes(OLD) == "wrong_key"
    assert AuditEntry.objects.filter(action="credentials.replaced", actor="om").exists()


def test_om_withdraws_and_sends_again(om, charger, page):
    do(om, page, "rotate")
    assert "being asked just now" in do(om, page, "rotate-again")
    _, new = charger.key_it_was_sent()
    assert "opens nothing any more" in do(om, page, "rotate-withdraw")
    assert charger.comes(new) == "wrong_key"
    assert "No new key waits" in do(om, page, "rotate-withdraw")
    assert "no new key that could be sent" in do(om, page, "rotate-again")


def test_om_raises_requires_and_lowers_the_profile(om, charger, page):
    assert "has not shown a certificate" in text(om.get(page))
    assert "asked to move to profile 2" in do(om, page, "raise", profile="2")
    assert "It is to move to" in text(om.get(page))
    assert "not waited for" in do(om, page, "raise-withdraw")
    assert "does not connect like that" in do(om, page, "require", profile="2")
    charger.comes(OLD, TLS)
    assert "It connects like that already" in text(om.get(page))
    assert "profile 2 is the least" in do(om, page, "require", profile="2")
    assert charger.comes(OLD) == "not_tls"
    assert "never lowered" in do(om, page, "raise", profile="1")
    assert "Say why" in do(om, page, "lower", profile="1", reason="  ")
    said = do(om, page, "lower", profile="0", reason="on the bench")
    assert "Anybody can be this charger" in said and "on the bench" in said
    assert charger.comes() == ""
    for nonsense in ("", "7", "-1", "x" * 99, "²"):
        assert "profiles 0 to 3" in do(om, page, "raise", profile=nonsense)
    alert = Alert.objects.get(kind="profile_lowered")
    assert "Put away" in do(om, page, "put-away", alert=str(alert.pk))
    alert.refresh_from_db()
    assert alert.cleared_by == "om"


def test_om_closes_a_line(om, charger, page):
    assert "Its line is closed" in do(om, page, "hang-up")
    assert not row(charger).online
    assert "It had no line" not in text(om.get(page))
    assert AuditEntry.objects.filter(action="connection.closed_by_hand", actor="om").exists()
    assert charger.comes(OLD) == ""


def test_om_asks_for_certificates_and_revokes_them(om, charger, page, settings):
    settings.CHARGER_CA_DIR = ""
    assert "no authority" in do(om, page, "ask-certificate")
    settings.CHARGER_CA_DIR = "/somewhere"
    assert "asked to ask for a certificate" in do(om, page, "ask-certificate")
    made = ChargerCertificate.objects.create(
        charge_point=charger.row, csr="x", state="accepted", serial="ab12", sha256="f" * 64, not_after=clock.now()
    )
    assert "ab12" in text(om.get(page))
    assert "revoked" in do(om, page, "revoke", certificate=str(made.pk))
    made.refresh_from_db()
    assert made.state == "revoked"
    assert om.post(f"{page}revoke/", {"certificate": "999999"}).status_code == 404


def test_om_installs_lists_and_deletes_roots(om, charger, page, network):
    pem = Authority("Network root").pem
    response = om.post("/admin/csms/rootcertificate/add/", {"name": "Ours", "type": "CentralSystemRootCertificate", "pem": "  \n" + pem})
    assert response.status_code == 302
    root = RootCertificate.objects.get()
    assert len(root.sha256) == 64 and root.not_after is not None
    assert "asked to trust Ours" in do(om, page, "install-root", root=str(root.pk))
    assert "Choose a root" in do(om, page, "install-root", root="")
    unique_id, _ = charger.asked_for("InstallCertificate")
    charger.accept(unique_id)
    said = text(om.get(page))
    assert "Ours CentralSystemRootCertificate" in said and "The last root of our server" in said
    held = InstalledCertificate.objects.get()
    assert "the last root" in do(om, page, "delete-root", held=str(held.pk))
    assert "not its identity" in do(om, page, "delete-root", held=str(held.pk), confirm="VLT-0002")
    assert not Command.objects.filter(action="DeleteCertificate").exists()
    assert "asked to forget" in do(om, page, "delete-root", held=str(held.pk), confirm="vlt-0001")
    unique_id, _ = charger.asked_for("DeleteCertificate")
    charger.accept(unique_id)
    assert not InstalledCertificate.objects.exists()
    assert "asked which roots" in do(om, page, "read-roots")
    assert Command.objects.filter(action="GetInstalledCertificateIds").count() == 2


@pytest.mark.parametrize("bad", ["no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", Authority.__name__])
def test_what_is_no_root_is_refused(om, db, bad):
    response = om.post("/admin/csms/rootcertificate/add/", {"name": "x", "type": "CentralSystemRootCertificate", "pem": bad})
    assert response.status_code == 200 and "certificate" in text(response)
    assert not RootCertificate.objects.exists()


def test_a_leaf_is_no_root_and_one_root_is_kept_once(om, db):
    authority = Authority("A root")
    leaf, _ = authority.issue("VLT-0001")
    fields = {"name": "x", "type": "ManufacturerRootCertificate"}
    assert "no authority" in text(om.post("/admin/csms/rootcertificate/add/", {**fields, "pem": leaf}))
    assert om.post("/admin/csms/rootcertificate/add/", {**fields, "pem": authority.pem}).status_code == 302
    assert RootCertificate.objects.get().pem == authority.pem
    assert "here already" in text(om.post("/admin/csms/rootcertificate/add/", {**fields, "pem": authority.pem}))


def test_a_root_may_come_as_a_file(om, db):
    authority = Authority("From a file")
    file = SimpleUploadedFile("root.crt", b"a comment\n" + authority.pem.encode())
    fields = {"name": "From a file", "type": "CentralSystemRootCertificate", "pem": "", "file": file}
    assert om.post("/admin/csms/rootcertificate/add/", fields).status_code == 302
    assert RootCertificate.objects.get().pem == authority.pem
    root = RootCertificate.objects.get()
    assert om.get(f"/admin/csms/rootcertificate/{root.pk}/change/").status_code == 200
    again = {"name": "Renamed", "type": root.type, "pem": root.pem}
    assert om.post(f"/admin/csms/rootcertificate/{root.pk}/change/", again).status_code == 302
    assert RootCertificate.objects.get().name == "Renamed"


def test_who_was_refused_is_shown_with_the_reason(om, charger, page):
    cache.clear()
    doors.refused("VLT-0001", "203.0.113.9", "certificate_revoked")
    said = text(om.get(page))
    assert "203.0.113.9" in said and "a revoked certificate" in said


def test_who_only_looks_sees_no_buttons_and_does_nothing(client, network, charger, page):
    client.force_login(make_user("sita", "support", network.voltaro))
    said = client.get(page)
    assert said.status_code == 200 and b"<form" not in re.sub(rb"(?s)<header.*?</header>", b"", said.content).split(b'<div class="vt">')[1]
    for deed in ("rotate", "new-key", "lower", "put-away"):
        assert client.post(f"{page}{deed}/").status_code == 403
    assert row(charger).pending_credentials_hash == ""


def test_somebody_elses_charger_is_not_there(client, network, page):
    other = make_user("om2", "operator", network.ganga.company)
    client.force_login(other)
    assert client.get(page).status_code == 404
    for deed in ("rotate", "new-key", "lower"):
        assert client.post(f"{page}{deed}/").status_code == 404
    assert client.get("/console/chargers/1/security/").status_code == 404


def test_a_deed_nobody_knows_and_a_get_do_nothing(om, page):
    assert om.post(f"{page}explode/").status_code == 404
    assert om.get(f"{page}rotate/").status_code == 405


def test_the_page_costs_the_same_whatever_there_is(om, charger, page, django_assert_max_num_queries):
    for number in range(30):
        ChargerCertificate.objects.create(charge_point=charger.row, csr="x", state="refused")
        SecurityEvent.objects.create(charge_point=charger.row, type=f"T{number}", at=clock.now())
        InstalledCertificate.objects.create(charge_point=charger.row, type="X", serial_number=str(number))
        alerts.raise_alert(charger.row.pk, f"kind{number}", "x", clock.now())
    rotation.rotate_key(charger.row)
    om.get(page)
    with django_assert_max_num_queries(30):
        assert om.get(page).status_code == 200


# -- lists ---------------------------------------------------------------------------------------------------------------
def test_alerts_are_listed_and_put_away(om, network, charger):
    alerts.raise_alert(charger.row.pk, "certificate", "It did not take it <script>", clock.now())
    said = om.get("/admin/csms/alert/?open=yes")
    assert "Trouble with its certificate" in text(said) and b"<script>" not in said.content.split(b"It did not")[1][:40]
    assert "Alerts about chargers" in text(om.get("/admin/"))
    alert = Alert.objects.get()
    om.post("/admin/csms/alert/", {"action": "put_away", "_selected_action": [str(alert.pk)]})
    alert.refresh_from_db()
    assert alert.cleared_by == "om" and AuditEntry.objects.filter(action="alert.put_away", actor="om").exists()
    om.post("/admin/csms/alert/", {"action": "put_away", "_selected_action": [str(alert.pk)]})
    assert AuditEntry.objects.filter(action="alert.put_away").count() == 1
    assert "Trouble with" not in text(om.get("/admin/csms/alert/?open=yes")).split("Alerts")[-1]
    alerts.raise_alert(charger.row.pk, "certificate", "again", clock.now())
    assert Alert.objects.count() == 2


def test_who_only_looks_cannot_put_away(client, network, charger):
    alerts.raise_alert(charger.row.pk, "certificate", "x", clock.now())
    client.force_login(make_user("sita", "support", network.voltaro))
    assert client.get("/admin/csms/alert/").status_code == 200
    client.post("/admin/csms/alert/", {"action": "put_away", "_selected_action": [str(Alert.objects.get().pk)]})
    assert Alert.objects.get().cleared_at is None


def test_the_lists_open_and_show_only_ones_own(om, client, network, charger):
    security_events.received(charger.row.pk, SecurityEventReported("TamperDetectionActivated", None, "=cmd()"), clock.now())
    ChargerCertificate.objects.create(charge_point=charger.row, csr="x", state="asked")
    InstalledCertificate.objects.create(charge_point=charger.row, type="CentralSystemRootCertificate", serial_number="1")
    for name in ("alert", "securityevent", "chargercertificate", "installedcertificate", "rootcertificate"):
        assert om.get(f"/admin/csms/{name}/").status_code == 200
    for name, model in (("alert", Alert), ("securityevent", SecurityEvent), ("chargercertificate", ChargerCertificate)):
        pk = model.objects.get().pk
        assert om.get(f"/admin/csms/{name}/{pk}/change/").status_code == 200
    client.force_login(make_user("om2", "operator", network.ganga.company))
    for name in ("alert", "securityevent", "chargercertificate", "installedcertificate"):
        assert "VLT-0001" not in text(client.get(f"/admin/csms/{name}/"))


# -- events --------------------------------------------------------------------------------------------------------------
def test_Q179_a_flood_of_one_type_is_one_row_an_hour(charger, db):
    say = {"type": "InvalidMessages", "timestamp": "2026-01-01T00:00:00Z"}
    for _ in range(5):
        charger.call("SecurityEventNotification", say)
    assert SecurityEvent.objects.get().count == 5
    clock.shift(3_700)
    charger.call("SecurityEventNotification", say)
    assert [one.count for one in SecurityEvent.objects.order_by("id")] == [5, 1]


def test_a_flood_of_many_types_is_bounded_and_a_grave_one_is_never_lost(charger):
    for number in range(security_events.ROWS + 20):
        charger.call("SecurityEventNotification", {"type": f"Odd{number}", "timestamp": "x"})
    assert SecurityEvent.objects.count() == security_events.ROWS + 1
    assert SecurityEvent.objects.get(type="Others").count == 20
    charger.call("SecurityEventNotification", {"type": "tamperDetectionActivated", "timestamp": "x"})
    assert SecurityEvent.objects.filter(critical=True).count() == 1
    assert Alert.objects.get().kind == "security_event"


@pytest.mark.parametrize(
    "payload", [{}, {"type": ""}, {"type": None, "timestamp": None}, {"type": ["x"], "timestamp": 5, "techInfo": {"a": 1}}]
)
def test_X12_any_event_is_thanked_for(charger, payload):
    assert charger.call("SecurityEventNotification", payload) == {}
    assert SecurityEvent.objects.count() == 1
