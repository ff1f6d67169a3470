"""A charger's own certificate: asked for, made, installed, used at the door, renewed, revoked. With cryptography on both sides."""

import json
import re
import stat
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from django.core.management import call_command
from django.core.management.base import CommandError

from accounts.models import AuditEntry
from csms import authority, certificates, commands, pem, security_profiles
from csms.models import Alert, ChargePoint, ChargerCertificate, Command, CommandState, ConfigurationKey
from tests.keyed import OLD, TLS, Keyed, with_certificate
from voltaro import clock

State = ChargerCertificate.State


@pytest.fixture
def ca(settings, tmp_path, db):
    settings.CHARGER_CA_DIR = str(tmp_path / "ca")
    authority.create(clock.now())
    return tmp_path / "ca"


@pytest.fixture
def charger(network, ca):
    return Keyed(network.kaveri_charger)


def request_for(name: str, organisation: str = "Voltaro", key=None, digest=None) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, digest)
    return made.public_bytes(serialization.Encoding.PEM).decode()


def certificate_of(charger: Keyed, csr: str | None = None) -> str:
    """The charger asks for a certificate and installs it: its chain."""
    assert charger.call("SignCertificate", {"csr": csr or request_for("VLT-0001")}) == {"status": "Accepted"}
    assert certificates.make_due(clock.now(), 10) == 1
    clock.shift(2)
    unique_id, payload = charger.asked_for("CertificateSigned")
    charger.accept(unique_id)
    return payload["certificateChain"]


def newest() -> ChargerCertificate:
    return ChargerCertificate.objects.order_by("-id").first()


def open_alert() -> str:
    return Alert.objects.filter(kind="certificate", cleared_at=None).values_list("detail", flat=True).first() or ""


# -- the authority -----------------------------------------------------------------------------------------------------
def test_the_authority_is_made_once_in_files_of_its_own(ca):
    for name in ("root.key", "intermediate.key"):
        assert stat.S_IMODE((ca / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(ca.stat().st_mode) == 0o700
    root = (ca / "root.pem").read_text()
    assert authority.create(clock.now()) is False and (ca / "root.pem").read_text() == root
    intermediate, root = (x509.load_pem_x509_certificate(text.encode()) for text in authority.certificates())
    intermediate.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert sorted(path.name for path in (ca / "public").iterdir()) == ["ca.pem", "crl.pem", "nginx.conf"]
    assert "PRIVATE" not in "".join(path.read_text() for path in (ca / "public").iterdir())


def test_its_keys_can_be_locked(settings, tmp_path):
    settings.CHARGER_CA_DIR, settings.CHARGER_CA_PASSPHRASE = str(tmp_path / "locked"), "four words and more"
    authority.create(clock.now())
    assert "ENCRYPTED" in (tmp_path / "locked" / "intermediate.key").read_text()
    authority.sign(pem.read_request(request_for("X")), "X", clock.now())
    for wrong in ("", "another"):
        settings.CHARGER_CA_PASSPHRASE = wrong
        with pytest.raises(authority.Unavailable, match="does not open"):
            authority.sign(pem.read_request(request_for("X")), "X", clock.now())


def test_manage_charger_ca_makes_shows_and_publishes(settings, tmp_path, capsys, db):
    with pytest.raises(CommandError, match="CHARGER_CA_DIR is not set"):
        settings.CHARGER_CA_DIR = ""
        call_command("charger_ca")
    settings.CHARGER_CA_DIR = str(tmp_path / "new")
    call_command("charger_ca")
    said = json.loads(capsys.readouterr().out)
    assert said["made"] and said["root_key_is_here"] and len(said["certificates"]) == 2 and said["revoked"] == 0
    (tmp_path / "new" / "root.key").unlink()
    call_command("charger_ca", "--crl")
    said = json.loads(capsys.readouterr().out)
    assert not said["made"] and not said["root_key_is_here"]


# -- asked for and made --------------------------------------------------------------------------------------------------
def test_X02_a_certificate_is_asked_for_answered_at_once_and_sent_after(charger):
    """TC_074."""
    certificates.ask_charger(charger.row, by="om")
    unique_id, key, value = charger.setting_it_was_sent()
    assert (key, value) == ("CpoName", "Voltaro")
    charger.accept(unique_id)
    unique_id, payload = charger.asked_for("ExtendedTriggerMessage")
    assert payload == {"requestedMessage": "SignChargePointCertificate"}
    charger.accept(unique_id)
    assert charger.call("SignCertificate", {"csr": request_for("VLT-0001")}) == {"status": "Accepted"}
    assert newest().state == State.ASKED
    assert certificates.make_due(clock.now(), 10) == 1
    assert charger.asked_for("CertificateSigned") is None  # the answer goes first
    clock.shift(2)
    unique_id, payload = charger.asked_for("CertificateSigned")
    leaf, intermediate = x509.load_pem_x509_certificates(payload["certificateChain"].encode())
    leaf.verify_directly_issued_by(intermediate)
    assert pem.read_certificate(payload["certificateChain"]).common_name == "VLT-0001"
    assert leaf.subject.rfc4514_string() == "CN=VLT-0001,O=Voltaro"
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    charger.accept(unique_id)
    assert newest().state == State.ACCEPTED and not open_alert()
    assert certificates.proven(charger.row.pk, clock.now())
    assert certificates.make_due(clock.now(), 10) == 0
    assert "PRIVATE KEY" not in json.dumps([list(row) for row in Command.objects.values_list("payload")])


@pytest.mark.parametrize(
    ("csr", "why"),
    [
        (lambda: request_for("VLT-0002"), "not its own"),
        (lambda: request_for(""), "not its own"),
        (lambda: request_for("VLT-0001", "Others Ltd"), "organisation"),
        (lambda: request_for("VLT-0001", key=rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (lambda: request_for("VLT-0001", key=ec.generate_private_key(ec.SECP192R1())), "192 bits"),
        (lambda: request_for("VLT-0001", key=ed25519.Ed25519PrivateKey.generate()), "neither RSA"),
        (lambda: request_for("VLT-0001").replace("A", "B"), "cannot be read|not signed"),
        (lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "cannot be read"),
        (lambda: "a request, please", "no certificate request"),
        (lambda: "", "no certificate request"),
    ],
)
def test_X03_a_bad_request_is_rejected_and_a_person_is_told(charger, csr, why):
    assert charger.call("SignCertificate", {"csr": csr()}) == {"status": "Rejected"}
    assert newest().state == State.REFUSED
    assert re.search(why, open_alert()), open_alert()
    assert certificates.make_due(clock.now(), 10) == 0 and charger.command() is None
    assert AuditEntry.objects.filter(action="certificate.refused").count() == 1


def test_X03_a_serial_number_that_is_another_chargers_name_gets_no_certificate(charger, network):
    """A charger tells its serial number itself: the name of another one must not be had that way."""
    charger.boot(chargePointSerialNumber="VLT-0002")
    assert ChargePoint.objects.get(pk=charger.row.pk).serial_number == "VLT-0002"
    assert charger.call("SignCertificate", {"csr": request_for("vlt-0002")}) == {"status": "Rejected"}
    assert "another charger's" in open_alert()


def test_requests_are_read_as_chargers_write_them(charger):
    made = request_for("vlt-0001", organisation="")
    for written in (made.replace("\n", "\\n"), made.replace("\n", " "), made.replace("\n", "\r\n"), "".join(made.splitlines())):
        certificate_of(charger, written)
        ChargerCertificate.objects.all().delete()


def test_the_same_request_again_is_one_certificate(charger):
    csr = request_for("VLT-0001")
    for _ in range(3):
        assert charger.call("SignCertificate", {"csr": csr}) == {"status": "Accepted"}
    assert ChargerCertificate.objects.count() == 1


def test_a_charger_that_asks_without_end_is_refused(charger):
    for _ in range(certificates.A_DAY):
        charger.call("SignCertificate", {"csr": request_for("VLT-0001")})
    assert charger.call("SignCertificate", {"csr": request_for("VLT-0001")}) == {"status": "Rejected"}
    assert ChargerCertificate.objects.count() == certificates.A_DAY and "within a day" in open_alert()
    clock.shift(86_400)
    assert charger.call("SignCertificate", {"csr": request_for("VLT-0001")}) == {"status": "Accepted"}


def test_without_an_authority_the_request_is_rejected_and_a_broken_one_fails_once(charger, settings, ca):
    (ca / "intermediate.key").unlink()
    assert charger.call("SignCertificate", {"csr": request_for("VLT-0001")}) == {"status": "Accepted"}
    assert certificates.make_due(clock.now(), 10) == 1
    assert newest().state == State.FAILED and "cannot be read" in open_alert()
    assert certificates.make_due(clock.now(), 10) == 0
    settings.CHARGER_CA_DIR = ""
    assert charger.call("SignCertificate", {"csr": request_for("VLT-0001")}) == {"status": "Rejected"}


def test_X02_a_charger_that_does_not_take_it_is_not_asked_again(charger):
    charger.call("SignCertificate", {"csr": request_for("VLT-0001")})
    certificates.make_due(clock.now(), 10)
    clock.shift(2)
    unique_id, *_ = charger.command()
    charger.accept(unique_id, {"status": "Rejected"})
    assert newest().state == State.REJECTED and "did not take" in open_alert()
    assert certificates.make_due(clock.now(), 10) == 0 and charger.command() is None
    certificate_of(charger)
    assert not open_alert()


def test_one_that_cannot_be_delivered_fails(charger):
    charger.call("SignCertificate", {"csr": request_for("VLT-0001")})
    certificates.make_due(clock.now(), 10)
    charger.drop()
    clock.shift(8 * 86_400)
    commands.timeout_due(clock.now(), 10)
    assert newest().state == State.FAILED and "away too long" in open_alert()


@pytest.mark.parametrize(("size", "certificates_in_it"), [(None, 2), ("10000", 2), ("1200", 1), ("nonsense", 2), ("0", 2)])
def test_the_chain_is_as_long_as_the_charger_takes(charger, size, certificates_in_it):
    if size is not None:
        ConfigurationKey.objects.create(charge_point=charger.row, key="certificateSignedMaxChainSize", value=size)
    assert certificate_of(charger).count("BEGIN CERTIFICATE") == certificates_in_it


def test_a_certificate_that_fits_in_no_way_fails(charger):
    ConfigurationKey.objects.create(charge_point=charger.row, key="CertificateSignedMaxChainSize", value="200")
    charger.call("SignCertificate", {"csr": request_for("VLT-0001")})
    certificates.make_due(clock.now(), 10)
    assert newest().state == State.FAILED and "it takes 200" in open_alert()


# -- at the door -----------------------------------------------------------------------------------------------------------
def test_C15_profile_3_is_asked_for_and_used(charger):
    chain = certificate_of(charger)
    command = security_profiles.ask_for(charger.row, 3)
    charger.setting_it_was_sent()
    charger.accept(command.unique_id)
    assert charger.comes(OLD) == ""
    assert charger.comes("", with_certificate(chain)) == ""
    assert ChargePoint.objects.get(pk=charger.row.pk).security_profile == 3
    assert charger.comes(OLD, TLS) == "no_certificate"
    assert charger.comes(OLD) == "not_tls"
    assert charger.comes("", with_certificate(chain)) == ""


def test_C16_A11_certificates_that_open_nothing(charger, network, settings):
    chain = certificate_of(charger)
    ganga = Keyed(network.ganga_charger)
    ganga.call("SignCertificate", {"csr": request_for("VLT-0002")})
    certificates.make_due(clock.now(), 10)
    others = newest().chain
    ChargePoint.objects.update(security_profile=3)
    assert charger.comes(OLD, with_certificate(others)) == "certificate_of_another"
    assert charger.comes(OLD, {**TLS, "client_cert_error": "FAILED:certificate has expired"}) == "certificate_invalid"
    assert charger.comes(OLD, with_certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")) == "certificate_unreadable"
    settings.CPO_NAME = "Somebody else"
    assert charger.comes(OLD, with_certificate(chain)) == "certificate_organisation"
    settings.CPO_NAME = "Voltaro"
    ChargePoint.objects.filter(pk=charger.row.pk).update(certificate_name="ANOTHER")
    assert charger.comes(OLD, with_certificate(chain)) == "certificate_name"
    ChargePoint.objects.filter(pk=charger.row.pk).update(certificate_name="")
    assert charger.comes(OLD, with_certificate(chain)) == ""
    certificates.revoke(ChargerCertificate.objects.get(charge_point=charger.row), "stolen")
    assert not ChargePoint.objects.get(pk=charger.row.pk).online  # the line it had opened is closed
    assert charger.comes(OLD, with_certificate(chain)) == "certificate_revoked"
    clock.shift(400 * 86_400)
    assert charger.comes(OLD, with_certificate(chain)) == "certificate_expired"


def test_A11_another_chargers_certificate_is_bound_to_its_owner_even_under_the_same_name(charger, network):
    """Kaveri's charger may be named after its serial number; a certificate we gave to Ganga's opens only Ganga's."""
    ganga = Keyed(network.ganga_charger)
    ganga.call("SignCertificate", {"csr": request_for("VLT-0002")})
    certificates.make_due(clock.now(), 10)
    ChargePoint.objects.filter(pk=charger.row.pk).update(certificate_name="VLT-0002", security_profile=3)
    assert charger.comes("", with_certificate(newest().chain)) == "certificate_of_another"


def test_a_proxy_that_passes_subject_and_fingerprint_will_do(charger):
    chain = certificate_of(charger)
    ChargePoint.objects.update(security_profile=3)
    told = {**TLS, "client_cert_name": "CN=VLT-0001,O=Voltaro", "client_cert_sha256": pem.read_certificate(chain).sha256}
    assert charger.comes("", told) == ""
    assert charger.comes("", {**told, "client_cert_sha256": ""}) == "certificate_unreadable"
    assert charger.comes("", {**told, "client_cert_name": "nonsense"}) == "certificate_unreadable"
    certificates.revoke(newest())
    assert charger.comes("", told) == "certificate_revoked"


def test_a_certificate_of_another_authority_is_written_down_and_can_be_revoked(charger):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Voltaro"), x509.NameAttribute(NameOID.COMMON_NAME, "VLT-0001")])
    theirs = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Maker's root")])
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(theirs).public_key(key.public_key()).serial_number(77)
        .not_valid_before(clock.now() - timedelta(days=1)).not_valid_after(clock.now() + timedelta(days=10)).sign(key, hashes.SHA256())
    ).public_bytes(serialization.Encoding.PEM).decode()  # fmt: skip
    assert charger.comes(OLD, with_certificate(made)) == ""
    assert charger.comes(OLD, with_certificate(made)) == ""
    row = ChargerCertificate.objects.get()
    assert (row.state, row.serial, row.error) == (State.ACCEPTED, "4d", "Not ours: by CN=Maker's root")
    ChargePoint.objects.update(security_profile=3)
    assert charger.comes("", with_certificate(made)) == ""
    certificates.revoke(row)
    assert charger.comes("", with_certificate(made)) == "certificate_revoked"
    assert certificates.revoked() == []  # not in our list: we did not make it
    assert certificates.renew_due(clock.now(), 10) == 0


def test_a_certificate_used_at_the_door_is_installed_whatever_was_answered(charger):
    charger.call("SignCertificate", {"csr": request_for("VLT-0001")})
    certificates.make_due(clock.now(), 10)
    clock.shift(2)
    _, _, payload = charger.command()
    charger.drop()
    assert charger.comes(OLD, with_certificate(payload["certificateChain"])) == ""
    assert newest().state == State.ACCEPTED


def test_2_0_1_B01_12_a_certificate_by_serial_number_must_boot_with_that_serial_number(charger):
    ChargePoint.objects.filter(pk=charger.row.pk).update(serial_number="SN-77")
    chain = certificate_of(charger, request_for("SN-77"))
    ChargePoint.objects.update(security_profile=3)
    charger.boots = {"chargePointSerialNumber": "sn-77"}
    assert charger.comes("", with_certificate(chain)) == "" and charger.booted["status"] == "Accepted"
    charger.boots = {"chargePointSerialNumber": "SN-78"}
    assert charger.comes("", with_certificate(chain)) == "" and charger.booted["status"] == "Rejected"
    assert "SN-78" in open_alert()
    heard = charger.raw('[2,"x","StatusNotification",{"connectorId":1,"status":"Available","errorCode":"NoError"}]')
    assert heard[:1] == [4] and heard[2] == "SecurityError"
    assert ChargePoint.objects.get(pk=charger.row.pk).reported_serial == "sn-77"  # the last it told us itself


# -- renewed and revoked ---------------------------------------------------------------------------------------------------
def test_a_certificate_that_ends_soon_is_renewed_without_a_person(charger):
    certificate_of(charger)
    clock.shift(330 * 86_400)
    assert certificates.renew_due(clock.now(), 10) == 0
    clock.shift(6 * 86_400)
    assert certificates.renew_due(clock.now(), 10) == 1
    assert certificates.renew_due(clock.now(), 10) == 0
    asked = Command.objects.get(action="ExtendedTriggerMessage")
    assert asked.background and asked.payload == {"requestedMessage": "SignChargePointCertificate"}
    clock.shift(5 * 86_400)
    assert certificates.renew_due(clock.now(), 10) == 1  # and again, while nothing comes of it
    assert not open_alert()
    clock.shift(17 * 86_400)
    assert certificates.renew_due(clock.now(), 10) == 1
    assert "ends on" in open_alert()
    charger.comes(OLD)
    Command.objects.update(state=CommandState.EXPIRED)
    certificate_of(charger)
    assert certificates.renew_due(clock.now(), 10) == 0 and not open_alert()


def test_who_is_revoked_stands_in_the_list_for_the_proxy(charger, ca):
    chain = certificate_of(charger)
    certificates.revoke(newest(), "lost")
    assert AuditEntry.objects.filter(action="certificate.revoked").count() == 1
    certificates.revoke(newest(), "lost")
    assert AuditEntry.objects.filter(action="certificate.revoked").count() == 1
    authority.publish(certificates.revoked(), clock.now())
    text = (ca / "public" / "crl.pem").read_text()
    first = x509.load_pem_x509_crl(text.encode())
    leaf = x509.load_pem_x509_certificate(chain.encode())
    assert first.get_revoked_certificate_by_serial_number(leaf.serial_number) is not None
    assert text.count("BEGIN X509 CRL") == 2  # the intermediate's and the root's: a proxy wants one of each


def test_private_keys_are_nowhere_in_the_database(charger):
    from django.apps import apps
    from django.db import connection

    certificate_of(charger)
    with connection.cursor() as cursor:
        for model in apps.get_models():
            cursor.execute(f'SELECT count(*) FROM "{model._meta.db_table}" t WHERE t::text LIKE %s', ["%PRIVATE KEY%"])
            assert cursor.fetchone()[0] == 0, model
