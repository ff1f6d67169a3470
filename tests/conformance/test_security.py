"""Security profiles, keys and certificates (C08 to C17, X): over real TLS, through Debian's nginx with deploy/nginx.conf."""

import base64
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.test import override_settings
from websockets.exceptions import InvalidStatus

from accounts.models import AuditEntry
from csms import certificates, credentials, pem, roots, rotation, security_profiles
from csms.models import (
    Alert,
    ChargePoint,
    ChargerCertificate,
    Connection,
    InstalledCertificate,
    OcppMessage,
    RootCertificate,
    SecurityEvent,
)
from tests import nginx, own_authority
from tests.certificates import Authority
from tests.conformance.conftest import KEY, World
from tests.own_authority import certified, expired, foreign, own_key, request_of
from tests.simulate_client import ChargerClient
from voltaro import clock

pytestmark = pytest.mark.e2e
SUITES = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "AES128-GCM-SHA256", "AES256-GCM-SHA384"]


@pytest.fixture(scope="module")
def _front(served, tmp_path_factory):
    """nginx, and our authority, for all stories of this file."""
    nginx.needed()
    folder = served.clock_file.parent / "charger-ca"
    with override_settings(CHARGER_CA_DIR=str(folder)):
        public = own_authority.make(folder)
    with nginx.front(tmp_path_factory.mktemp("nginx"), served.server.port, public) as found:
        yield found


@pytest.fixture
def front(_front, world: World, settings):
    settings.CHARGER_CA_DIR = str(world.clock_file.parent / "charger-ca")
    cache.clear()
    return _front


@pytest.fixture
def over_tls(world: World, front):
    """Connect a charger through nginx; booted unless told otherwise."""

    def connect(cp_id: str = "VLT-0001", key: str | bytes | None = KEY, *, boot: bool = True, chain: str = "", private: str = "", **how):
        tls = how.pop("tls", None) or front.trusting(chain, private)
        client = ChargerClient(how.pop("url", front.url), cp_id, key, tls=tls, **how).connect()
        world.clients.append(client)
        if boot:
            assert client.boot()["status"] == "Accepted"
        return client

    return connect


def refused(connect) -> int:
    """The HTTP status a charger is refused with."""
    with pytest.raises(InvalidStatus) as said:
        connect()
    return said.value.response.status_code


def why() -> list[str]:
    return list(AuditEntry.objects.filter(action="connection.refused").order_by("id").values_list("trigger", flat=True))


def profile_of(cp_id: str) -> int:
    return ChargePoint.objects.get(cp_id=cp_id).security_profile


def set_profile(cp_id: str, profile: int) -> None:
    ChargePoint.objects.filter(cp_id=cp_id).update(security_profile=profile)


# -- Basic ---------------------------------------------------------------------------------------------------------------
def test_TC_085_C08_the_right_key_comes_in(world):
    """Profile 1: the identity and its key open the door."""
    assert world.connect().call("Heartbeat")


def test_C09_another_user_name_is_refused(world):
    """A user that is not the identity is refused."""
    assert refused(lambda: world.connect(user="VLT-0002", boot=False)) in (401, 403)


def test_C10_a_wrong_key_is_refused_and_recorded(world):
    """A wrong key is refused, recorded, and told nothing."""
    cache.clear()
    assert refused(lambda: world.connect(key="f" * 40, boot=False)) in (401, 403)
    entry = AuditEntry.objects.get(action="connection.refused")
    assert (entry.target_id, entry.trigger) == ("VLT-0001", "wrong_key")
    said = world.server.shake("/ocpp/VLT-0001", {"Authorization": "Basic " + base64.b64encode(b"VLT-0001:" + b"f" * 40).decode()})
    assert b"VLT" not in said and b"key" not in said.lower()


@pytest.mark.parametrize("password", [b"\xff\xfe sixteen bytes!", b"with:colon:sixteen"])
def test_C11_a_password_of_any_bytes(world, password):
    """A password that is not UTF-8, or has colons in it, is compared as bytes."""
    ChargePoint.objects.filter(cp_id="VLT-0001").update(credentials_hash=credentials.hashed("VLT-0001", password))
    assert world.connect(key=password)


def test_C12_a_hex_key_as_digits_or_as_bytes(world):
    """An AuthorizationKey in hex opens the door as its digits, in either case, and as the bytes they stand for."""
    for shown in (KEY, KEY.upper(), bytes.fromhex(KEY)):
        world.connect(key=shown).close()


# -- TLS -----------------------------------------------------------------------------------------------------------------
def test_TC_086_C13_tls_with_either_kind_of_certificate(front, over_tls):
    """Profile 2: TLS 1.2 with each of the four suites that are demanded, and TLS 1.3."""
    set_profile("VLT-0001", 2)
    both = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    for suite in SUITES:
        context = front.trusting(versions=both, ciphers=suite + ":@SECLEVEL=1")
        with socket.create_connection(("127.0.0.1", front.port), 5) as line, context.wrap_socket(line, server_hostname="127.0.0.1") as tls:
            assert tls.cipher()[0] == suite and tls.compression() is None
        over_tls(tls=context).close()
    over_tls(tls=front.trusting(versions=(ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3))).close()
    over_tls(url=front.pages_url).close()
    assert set(Connection.objects.values_list("security_profile", flat=True)) == {2}


@pytest.mark.parametrize(
    ("version", "suite"),
    [(ssl.TLSVersion.TLSv1, "ALL"), (ssl.TLSVersion.TLSv1_1, "ALL"), (ssl.TLSVersion.TLSv1_2, "AES128-SHA"),
     (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-SHA384"), (ssl.TLSVersion.TLSv1_2, "aNULL"),
     (ssl.TLSVersion.TLSv1_2, "DHE-RSA-AES128-GCM-SHA256")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_C14_older_tls_and_weak_suites_fail(front, over_tls, version, suite):
    """TLS below 1.2, and suites other than the good ones, fail in the handshake; the next connect with TLS 1.2 works."""
    context = front.trusting()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(suite + ":@SECLEVEL=0")
    with pytest.raises(ssl.SSLError) as failed, socket.create_connection(("127.0.0.1", front.port), 5) as line:
        context.wrap_socket(line)
    assert "alert" in str(failed.value).lower() or "ALERT" in (failed.value.reason or "")  # the server's no, not the client's own
    set_profile("VLT-0001", 2)
    over_tls(tls=front.trusting(versions=(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)))


def test_TC_087_C15_a_client_certificate(world, over_tls):
    """Profile 3: a certificate that bears the charger's name, or its serial number, and no key."""
    set_profile("VLT-0001", 3)
    chain, private = certified()
    over_tls(key=None, chain=chain, private=private).close()
    ChargePoint.objects.filter(cp_id="VLT-0001").update(serial_number="SN-42")
    chain, private = certified("SN-42", "VLT-0001")
    client = over_tls(key=None, chain=chain, private=private, boot=False)
    assert client.boot(chargePointSerialNumber="SN-42")["status"] == "Accepted"
    client.close()
    client = over_tls(key=None, chain=chain, private=private, boot=False)
    assert client.boot(chargePointSerialNumber="SN-43")["status"] == "Rejected"
    assert client.wait_closed()
    assert Alert.objects.filter(kind="certificate").exists()


def test_C16_certificates_that_open_nothing(world, front, over_tls, settings):
    """Of another authority, self-made, expired, of another charger, of another operator, revoked: refused."""
    set_profile("VLT-0001", 3)
    chain, private = certified()
    over_tls(key=None, chain=chain, private=private).close()
    for bad, bad_key in (foreign(), expired()):
        assert refused(lambda bad=bad, bad_key=bad_key: over_tls(chain=bad, private=bad_key)) == 400
    others, others_key = certified("VLT-0002")
    assert refused(lambda: over_tls(chain=others, private=others_key)) in (401, 403)
    settings.CPO_NAME = "Another operator"
    theirs, their_key = certified()
    settings.CPO_NAME = "Voltaro"
    assert refused(lambda: over_tls(chain=theirs, private=their_key)) in (401, 403)
    assert refused(lambda: over_tls()) in (401, 403)  # the key alone, over TLS
    certificates.revoke(ChargerCertificate.objects.get(chain=chain), "stolen")
    cache.clear()
    assert refused(lambda: over_tls(chain=chain, private=private)) in (401, 403)
    assert why() == ["certificate_of_another", "certificate_organisation", "no_certificate", "certificate_revoked"]
    own_authority.publish(Path(settings.CHARGER_CA_DIR))
    front.reload()
    assert refused(lambda: over_tls(chain=chain, private=private)) == 400  # by nginx now, before it reaches us
    good, good_key = certified()
    over_tls(key=None, chain=good, private=good_key)


def test_C17_a_charger_of_profile_2_is_refused_on_the_plain_port(world, over_tls):
    """The right key without TLS is refused, and a person is told that it was seen in the clear."""
    set_profile("VLT-0001", 2)
    assert refused(lambda: world.connect(boot=False)) in (401, 403)
    assert Alert.objects.get().kind == "downgrade"
    over_tls()


# -- keys and profiles that change -----------------------------------------------------------------------------------------
def test_TC_073_X01_a_key_is_changed(world):
    """A key is changed. Accepted: both open the door until the new one is used. Rejected: the old one stays. Nobody reads it."""
    row = ChargePoint.objects.get(cp_id="VLT-0001")
    client = world.connect()
    rotation.rotate_key(row)
    asked = client.expect("ChangeConfiguration", {"status": "Rejected"})
    world.command("ChangeConfiguration", "rejected")
    assert refused(lambda: world.connect(key=asked["value"], boot=False)) in (401, 403)
    rotation.rotate_key(row)
    asked = client.expect("ChangeConfiguration")
    assert asked["key"] == "AuthorizationKey" and len(bytes.fromhex(asked["value"])) == 20
    world.command("ChangeConfiguration", "accepted")
    world.connect().close()
    world.connect(key=bytes.fromhex(asked["value"]))
    world.command("ChangeConfiguration", "effective")
    cache.clear()
    assert refused(lambda: world.connect(boot=False)) in (401, 403)
    sent = OcppMessage.objects.filter(action="ChangeConfiguration", direction="OUT")
    world.until(lambda: sent.count() == 2)
    assert all(b'"value":"***"' in bytes(one.raw) for one in sent)
    assert asked["value"].encode() not in world.server.log.read_bytes().lower()


def test_TC_083_X11_a_profile_is_raised(world, front, over_tls):
    """A profile is raised, 1 to 2: the old one is served until the first success with the new one, then refused."""
    row = ChargePoint.objects.get(cp_id="VLT-0001")
    client = world.connect()
    security_profiles.ask_for(row, 2)
    assert client.expect("ChangeConfiguration") == {"key": "SecurityProfile", "value": "2"}
    client.close()
    world.connect().close()  # it could not, and fell back
    assert profile_of("VLT-0001") == 1
    over_tls().close()
    assert profile_of("VLT-0001") == 2
    assert refused(lambda: world.connect(boot=False)) in (401, 403)
    with pytest.raises(ValidationError):
        security_profiles.ask_for(row, 1)


def test_TC_074_X02_a_certificate_is_made_and_used(world, over_tls):
    """SignCertificate is answered first, CertificateSigned follows; with it the charger moves to profile 3. Refused: a person is told."""
    row = ChargePoint.objects.get(cp_id="VLT-0001")
    set_profile("VLT-0001", 2)
    client = over_tls()
    client.automatic["GetConfiguration"] = {"configurationKey": []}
    certificates.ask_charger(row)
    client.expect("ChangeConfiguration")
    assert client.expect("ExtendedTriggerMessage") == {"requestedMessage": "SignChargePointCertificate"}
    private, key = own_key()
    assert client.call("SignCertificate", {"csr": request_of(key)}) == {"status": "Accepted"}
    assert world.work("certificates") == 1
    client.expect("CertificateSigned", {"status": "Rejected"}, timeout_s=15)
    world.command("CertificateSigned", "rejected")
    assert Alert.objects.get(kind="certificate").cleared_at is None
    assert world.work("certificates", "certificates.renew") == 0
    client.nothing("CertificateSigned", for_s=2.5)
    assert client.call("SignCertificate", {"csr": request_of(key)}) == {"status": "Accepted"}
    assert world.work("certificates") == 1
    chain = client.expect("CertificateSigned", timeout_s=15)["certificateChain"]
    world.command("CertificateSigned", "effective")
    security_profiles.ask_for(row, 3)
    assert client.expect("ChangeConfiguration") == {"key": "SecurityProfile", "value": "3"}
    client.close()
    over_tls(key=None, chain=chain, private=private).close()
    assert profile_of("VLT-0001") == 3
    assert refused(lambda: over_tls()) in (401, 403)


def test_X03_a_request_in_another_name_is_rejected(world, front):
    """A certificate request for another name or organisation is rejected, and a person is told."""
    client = world.connect()
    _, key = own_key()
    for name, organisation in (("VLT-0002", "Voltaro"), ("VLT-0001", "Others Ltd")):
        assert client.call("SignCertificate", {"csr": request_of(key, name, organisation)}) == {"status": "Rejected"}
    assert Alert.objects.get(kind="certificate").count == 2
    assert world.work("certificates") == 0


# -- roots -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["CentralSystemRootCertificate", "ManufacturerRootCertificate"])
def test_TC_075_X04_a_root_is_installed(world, kind):
    """A root of either kind is installed: Accepted, Rejected and Failed are shown; what was accepted is known to be held."""
    row = ChargePoint.objects.get(cp_id="VLT-0001")
    client = world.connect()
    text = Authority("A root").pem
    root = RootCertificate.objects.create(name="A root", type=kind, pem=text, sha256=pem.read_certificate(text).sha256)
    for status, state in (("Rejected", "rejected"), ("Failed", "rejected"), ("Accepted", "effective")):
        roots.install(row, root)
        assert client.expect("InstallCertificate", {"status": status}) == {"certificateType": kind, "certificate": text}
        assert world.command("InstallCertificate", state).response == {"status": status}
    assert roots.hash_data(InstalledCertificate.objects.get(type=kind)) == pem.hash_data(text)


def test_TC_076_X05_a_root_is_listed_and_deleted(world):
    """A root is listed, and deleted by the very data the charger named it by; the last of our server's only with a second word."""
    row = ChargePoint.objects.get(cp_id="VLT-0001")
    client = world.connect()
    held = [{**pem.hash_data(Authority(name).pem), "serialNumber": f"00{number}AB"} for number, name in enumerate(("One", "Two"), 1)]
    roots.read(row, "CentralSystemRootCertificate")
    client.expect("GetInstalledCertificateIds", {"status": "Accepted", "certificateHashData": held})
    world.command("GetInstalledCertificateIds", "effective")
    first, last = InstalledCertificate.objects.order_by("id")
    roots.delete(row, first)
    assert client.expect("DeleteCertificate") == {"certificateHashData": held[0]}
    world.until(lambda: InstalledCertificate.objects.count() == 1)
    with pytest.raises(ValidationError, match="last root"):
        roots.delete(row, last)
    roots.delete(row, last, also_the_last=True)
    client.expect("DeleteCertificate", {"status": "Failed"})
    world.command("DeleteCertificate", "rejected")
    assert InstalledCertificate.objects.count() == 1
    roots.read(row, "CentralSystemRootCertificate")
    client.expect("GetInstalledCertificateIds", {"status": "NotFound"})
    world.until(lambda: not InstalledCertificate.objects.exists())


# -- events ----------------------------------------------------------------------------------------------------------------
def _security_event(world, kind):
    client = world.connect()
    payload = {"type": kind, "timestamp": clock.now().isoformat(), "techInfo": "CN=somebody"}
    assert client.call("SecurityEventNotification", payload) == {}
    assert SecurityEvent.objects.get(type=kind).critical
    alert = Alert.objects.get(kind="security_event")
    assert alert.detail == f"{kind}: CN=somebody"


def test_TC_077_X06_an_invalid_certificate_of_the_charger(world):
    """The event InvalidChargePointCertificate is thanked for and raises an alert."""
    _security_event(world, "InvalidChargePointCertificate")


def test_TC_078_X07_an_invalid_certificate_of_the_central_system(world):
    """The event InvalidCentralSystemCertificate is thanked for and raises an alert."""
    _security_event(world, "InvalidCentralSystemCertificate")


def test_X12_an_event_nobody_knows_with_too_much_to_say(world):
    """An event of an unknown type, a techInfo of more than 255 characters, a flood: thanked for, kept as one row."""
    client = world.connect()
    for _ in range(20):
        assert client.call("SecurityEventNotification", {"type": "ToasterOnFire", "timestamp": "now", "techInfo": "x" * 3_000}) == {}
    row = SecurityEvent.objects.get()
    assert (row.type, row.count, len(row.tech_info), row.critical) == ("ToasterOnFire", 20, 255, False)
    assert not Alert.objects.exists()
