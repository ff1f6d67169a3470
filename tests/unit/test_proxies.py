"""Who the client is, is told by the proxies we trust and by nobody else."""

from ipaddress import ip_network
from urllib.parse import quote

import pytest

from voltaro.proxies import believed

OURS = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
PEM = "-----BEGIN CERTIFICATE-----\nMIIB+/=\n-----END CERTIFICATE-----\n"


def scope(client="10.1.2.3", kind="websocket", **headers):
    return {
        "type": kind,
        "client": [client, 40_000] if client else None,
        "headers": [(b"host", b"csms.example.in"), *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())],
    }


TOLD = {"x_forwarded_for": "203.0.113.9", "X_Forwarded_Proto": "https", "x_client_cert_verify": "SUCCESS", "X_Client_Cert": quote(PEM)}


def test_a_trusted_proxy_is_believed():
    seen = believed(scope(**TOLD), OURS)
    assert seen["client"] == ["203.0.113.9", 0]
    assert seen["scheme"] == "wss"
    assert seen["extensions"]["tls"] == {
        "client_cert_chain": [PEM],
        "client_cert_name": None,
        "client_cert_error": None,
        "client_cert_sha256": "",
    }
    assert seen["headers"] == [(b"host", b"csms.example.in")]


@pytest.mark.parametrize("client", ["203.0.113.9", "11.0.0.1", "", "unix", "2001:db9::1"])
@pytest.mark.parametrize("proxies", [OURS, []])
def test_A23_nobody_else_is(client, proxies):
    seen = believed(scope(client, **TOLD), proxies)
    assert seen["client"] == ([client, 40_000] if client else None)
    assert "scheme" not in seen and "extensions" not in seen
    assert seen["headers"] == [(b"host", b"csms.example.in")]


def test_without_such_headers_nothing_changes():
    plain = scope("203.0.113.9")
    assert believed(plain, OURS) is plain


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.9.9.9, 10.8.8.8", "203.0.113.9"),
        ("10.9.9.9", "10.9.9.9"),
        ("<script>", "10.1.2.3"),
        ("", "10.1.2.3"),
        ("2001:db8::7, 2001:db8::8", "2001:db8::7"),
    ],
)
def test_the_nearest_address_that_is_no_proxy_of_ours_is_the_client(told, address):
    assert believed(scope(x_forwarded_for=told), OURS)["client"][0] == address


def test_a_proxy_that_adds_to_what_the_client_sent_is_told_twice_and_not_believed():
    twice = scope(**TOLD)
    twice["headers"].append((b"x-client-cert-verify", b"SUCCESS"))
    tls = believed(twice, OURS)["extensions"]["tls"]
    assert tls["client_cert_chain"] == [] and tls["client_cert_error"] == "told twice"
    two_schemes = scope(x_forwarded_proto="https")
    two_schemes["headers"].append((b"x-forwarded-proto", b"http"))
    assert "scheme" not in believed(two_schemes, OURS)


@pytest.mark.parametrize("verified", ["NONE", ""])
def test_no_certificate_is_none(verified):
    tls = believed(scope(**{**TOLD, "x_client_cert_verify": verified}), OURS)["extensions"]["tls"]
    assert tls["client_cert_chain"] == [] and tls["client_cert_error"] is None


def test_a_certificate_the_proxy_did_not_find_good_is_an_error():
    tls = believed(scope(**{**TOLD, "x_client_cert_verify": "FAILED:certificate has expired"}), OURS)["extensions"]["tls"]
    assert tls["client_cert_chain"] == [] and tls["client_cert_error"] == "FAILED:certificate has expired"


def test_certificates_count_over_tls_only():
    assert "extensions" not in believed(scope(**{**TOLD, "X_Forwarded_Proto": "http"}), OURS)


def test_a_subject_and_a_fingerprint_do_instead():
    told = {
        "x_forwarded_proto": "wss",
        "x_client_cert_verify": "SUCCESS",
        "x_client_cert_subject": "CN=VLT-0001,O=Voltaro",
        "x_client_cert_fingerprint": ":".join(["AB"] * 32),
    }
    tls = believed(scope(**told), OURS)["extensions"]["tls"]
    assert tls["client_cert_name"] == "CN=VLT-0001,O=Voltaro" and tls["client_cert_sha256"] == "ab" * 32


def test_pages_keep_what_they_are_told_by_a_trusted_proxy_or_where_none_is_named():
    names = {name for name, _ in believed(scope(kind="http", **TOLD), OURS)["headers"]}
    assert names == {b"host", b"x-forwarded-for", b"X-Forwarded-Proto"}
    assert believed(scope(kind="http", **TOLD), OURS)["scheme"] == "https"
    names = {name for name, _ in believed(scope("203.0.113.9", kind="http", **TOLD), [])["headers"]}
    assert names == {b"host", b"x-forwarded-for", b"X-Forwarded-Proto"}
    names = {name for name, _ in believed(scope("203.0.113.9", kind="http", **TOLD), OURS)["headers"]}
    assert names == {b"host"}


def test_an_ipv4_address_written_as_ipv6_is_the_same_address():
    assert believed(scope("::ffff:10.1.2.3", **TOLD), OURS)["client"] == ["203.0.113.9", 0]
