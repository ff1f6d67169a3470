"""Those who come without TLS, with the wrong certificate, or with a proxy's words in their mouth (A09, A10, A11, A23)."""

import socket
import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
from django.core.cache import cache
from django.test import override_settings
from websockets.exceptions import InvalidStatus

from accounts.models import AuditEntry
from csms import certificates, pem
from csms.models import Alert, ChargePoint, ChargerCertificate, Connection
from csms.stations import add_charge_point
from tests import nginx, own_authority
from tests.own_authority import certified, expired, foreign
from tests.simulate_client import ChargerClient

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
KEY = "a1" * 20


@pytest.fixture(scope="module")
def _front(server, tmp_path_factory):
    nginx.needed()
    folder = server.log.parent / "charger-ca"
    with override_settings(CHARGER_CA_DIR=str(folder)):
        public = own_authority.make(folder)
    with nginx.front(tmp_path_factory.mktemp("nginx"), server.port, public) as found:
        yield found


@pytest.fixture
def front(_front, server, network, settings):
    """Kaveri's VLT-0001 has a key, and nginx stands before the server."""
    settings.CHARGER_CA_DIR = str(server.log.parent / "charger-ca")
    add_charge_point("VLT-0001", company=network.kaveri.company, key=KEY)
    cache.clear()
    server.forgive()
    yield _front
    assert server.alive and server.mistakes == []


@pytest.fixture
def knock(server, front):
    """The status a charger is refused with; 0 when it came in."""
    opened: list[ChargerClient] = []

    def try_it(*, plain: bool = False, key: str | None = KEY, certificate: tuple[str, str] = ("", ""), **how) -> int:
        how |= {} if plain else {"tls": front.trusting(*certificate)}
        client = ChargerClient(server.url if plain else front.url, "VLT-0001", key, **how)
        try:
            client.connect()
        except InvalidStatus as refused:
            return refused.response.status_code
        opened.append(client)
        return 0

    yield try_it
    for client in opened:
        client.end()


def set_profile(profile: int) -> None:
    ChargePoint.objects.filter(cp_id="VLT-0001").update(security_profile=profile)


@pytest.mark.parametrize("profile", [2, 3])
def test_A09_a_lower_profile_than_recorded_is_refused(knock, profile):
    set_profile(profile)
    assert knock(plain=True) in (401, 403)
    assert Alert.objects.get().kind == "downgrade"
    assert not Connection.objects.exists()
    if profile == 3:
        assert knock() in (401, 403)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_A10_old_tls_fails_in_the_handshake_and_nothing_is_compressed(front, version):
    context = front.trusting()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)alert"), socket.create_connection(("127.0.0.1", front.port), 5) as line:
        context.wrap_socket(line, server_hostname="127.0.0.1")
    good = front.trusting()
    good.options &= ~ssl.OP_NO_COMPRESSION
    with socket.create_connection(("127.0.0.1", front.port), 5) as line, good.wrap_socket(line, server_hostname="127.0.0.1") as tls:
        assert tls.compression() is None


def test_A11_a_matrix_of_certificates(front, knock, settings):
    set_profile(3)
    settings.CPO_NAME = "Another operator"
    of_another_operator = certified()
    settings.CPO_NAME = "Voltaro"
    revoked = certified()
    certificates.revoke(ChargerCertificate.objects.get(chain=revoked[0]))
    stolen_name = own_authority.certified("VLT-0001", cp_id="VLT-0002")  # the right name, given to another charger
    for bad, status in (
        (("", ""), (401, 403)),
        (expired(), (400,)),
        (foreign(), (400,)),
        (foreign("VLT-0002"), (400,)),
        (certified("VLT-0002"), (401, 403)),
        (stolen_name, (401, 403)),
        (of_another_operator, (401, 403)),
        (revoked, (401, 403)),
    ):
        assert knock(certificate=bad) in status
    assert not Connection.objects.exists()
    assert AuditEntry.objects.filter(action="connection.refused").exists()
    assert knock(certificate=certified(), key=None) == 0
    own_authority.publish(Path(settings.CHARGER_CA_DIR))
    front.reload()
    assert knock(certificate=revoked) == 400  # by nginx, from the list that was written


def test_A23_what_only_a_proxy_may_say_is_not_believed_of_anybody_else(server, knock):
    chain, _ = certified()
    told = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "10.1.2.3",
        "Forwarded": "for=10.1.2.3;proto=https",
        "X-Client-Cert-Verify": "SUCCESS",
        "X-Client-Cert": quote(chain),
        "X-Client-Cert-Subject": "CN=VLT-0001,O=Voltaro",
        "X-Client-Cert-Fingerprint": pem.read_certificate(chain).sha256,
        "X_Client_Cert_Verify": "SUCCESS",
        "X_Client_Cert": quote(chain),
    }
    for profile in (2, 3):
        set_profile(profile)
        assert knock(plain=True, headers=told) in (401, 403)  # past the proxy: dropped
    assert knock(headers=told) in (401, 403)  # through it: replaced by what is true
    assert set(AuditEntry.objects.filter(action="connection.refused").values_list("actor", flat=True)) == {"127.0.0.1"}
    set_profile(2)
    assert knock(headers=told) == 0
    row = Connection.objects.get()
    assert (row.remote_address, row.security_profile) == ("127.0.0.1", 2)


@pytest.mark.parametrize("odd", ["SUCCESS\x0bFAILED", "SUCCESS\x85", "SUC\x1cCESS"])
def test_A23_odd_bytes_in_such_a_header_open_nothing(server, front, odd):
    set_profile(3)
    assert server.status("/ocpp/VLT-0001", {"X-Client-Cert-Verify": odd, "X-Forwarded-Proto": "https"}) in (0, 400, 401, 403)
