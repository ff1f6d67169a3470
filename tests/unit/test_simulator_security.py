"""The simulated charger keeps keys, roots and a security log, and makes requests for certificates of its own."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from csms.simulator import certificates
from tests.certificates import Authority
from tests.simulated import BEGAN, CALM, World, strange, world

CENTRAL, MANUFACTURER = "CentralSystemRootCertificate", "ManufacturerRootCertificate"


def configure(place: World, key: str, value: str) -> str:
    return place.status_of("ChangeConfiguration", {"key": key, "value": value})


def install(place: World, pem: str, kind: str = CENTRAL) -> str:
    return place.status_of("InstallCertificate", {"certificateType": kind, "certificate": pem})


def installed(place: World, kind: str = CENTRAL) -> list[dict]:
    return place.ask("GetInstalledCertificateIds", {"certificateType": kind}).payload.get("certificateHashData", [])


def delete(place: World, which: dict) -> str:
    return place.status_of("DeleteCertificate", {"certificateHashData": which})


def asked(place: World) -> str:
    """The request for a certificate that the server has triggered."""
    assert place.status_of("ExtendedTriggerMessage", {"requestedMessage": "SignChargePointCertificate"}) == "Accepted"
    return place.calls("SignCertificate")[-1]["csr"]


# -- its own certificate -------------------------------------------------------------------------------------------
def test_it_asks_for_a_certificate_in_its_name_and_its_operators():
    place = world(habits=CALM)
    configure(place, "CpoName", "Voltaro India")
    csr = x509.load_pem_x509_csr(asked(place).encode())
    assert csr.is_signature_valid
    names = {name.oid: name.value for name in csr.subject}
    assert names == {NameOID.COMMON_NAME: "VLT-0001", NameOID.ORGANIZATION_NAME: "Voltaro India"}
    assert place.said[-1][0] == "SignCertificate" and place.answers[-1].payload == {"status": "Accepted"}


def test_it_takes_the_certificate_for_its_key_and_no_other():
    place = world(habits=CALM)
    root = Authority("Voltaro", now=BEGAN)
    csr = asked(place)
    for wrong in ("nonsense", root.issue("VLT-0001")[0], root.sign(csr, common_name="VLT-0002"), root.sign(csr, days=-1)):
        assert place.status_of("CertificateSigned", {"certificateChain": wrong}) == "Rejected"
    assert place.events() == ["InvalidChargePointCertificate"] * 4
    assert not place.charger.keys.chain
    assert place.status_of("CertificateSigned", {"certificateChain": root.sign(csr)}) == "Accepted"
    assert certificates.fits(certificates.chain(place.charger.keys.chain)[0], place.charger.keys.key)
    assert place.status_of("CertificateSigned", {"certificateChain": root.sign(csr)}) == "Accepted"  # the same key again


def test_a_chain_may_be_too_long():
    place = world(habits=CALM)
    chain = Authority("Voltaro", now=BEGAN).sign(asked(place)) + "\n" * 10_000
    assert place.status_of("CertificateSigned", {"certificateChain": chain}) == "Rejected"


# -- roots ---------------------------------------------------------------------------------------------------------
def test_roots_are_installed_listed_and_deleted_by_their_hashes():
    place = world(habits=CALM)
    first, second = Authority("First", now=BEGAN), Authority("Second", now=BEGAN)
    assert place.status_of("GetInstalledCertificateIds", {"certificateType": CENTRAL}) == "NotFound"
    assert [install(place, one.pem) for one in (first, second, first)] == ["Accepted"] * 3  # the same one once
    assert install(place, first.pem, MANUFACTURER) == "Accepted"
    held = installed(place)
    assert [one["serialNumber"] for one in held] == [f"{one.certificate.serial_number:x}" for one in (first, second)]
    assert {one["hashAlgorithm"] for one in held} == {"SHA256"} and all(len(one["issuerKeyHash"]) == 64 for one in held)
    assert held[0]["issuerKeyHash"] == ocsp.OCSPRequestBuilder().add_certificate(
        first.certificate, first.certificate, certificates.ALGORITHMS["SHA256"]()
    ).build().issuer_key_hash.hex()  # fmt: skip
    shouting = {name: value.upper() for name, value in held[1].items()}
    assert delete(place, shouting | {"serialNumber": "00" + shouting["serialNumber"]}) == "Accepted"
    assert delete(place, held[1]) == "NotFound"
    assert len(installed(place)) == 1 and len(installed(place, MANUFACTURER)) == 1
    other = certificates.hash_data(first.certificate, first.certificate, "SHA512")
    assert delete(place, other) == "Accepted"


def test_a_root_that_is_none_is_rejected():
    place = world(habits=CALM)
    assert install(place, "nonsense") == "Rejected"
    assert install(place, Authority("Old", now=BEGAN).issue("x", days=-1)[0]) == "Rejected"
    assert place.events() == ["InvalidCentralSystemCertificate"] * 2
    broken = place.ask("InstallCertificate", {"certificateType": "V2GRootCertificate", "certificate": "x"})
    assert broken.code == "PropertyConstraintViolation"


def test_the_store_is_full_at_eight():
    place = world(habits=CALM)
    roots = [Authority(f"Root {number}", now=BEGAN) for number in range(9)]
    assert [install(place, one.pem, MANUFACTURER) for one in roots] == ["Accepted"] * 8 + ["Rejected"]


def test_a_new_root_may_have_to_be_signed_by_the_old_one():
    place = world(habits=CALM)
    place.charger.configuration.put("AdditionalRootCertificateCheck", "true")
    old = Authority("Old", now=BEGAN)
    assert install(place, old.pem) == "Accepted"
    assert install(place, Authority("Stranger", now=BEGAN).pem) == "Rejected"
    assert install(place, Authority("New", of=old).pem) == "Accepted"


def test_the_last_root_stays_while_the_line_depends_on_it():
    place = world(habits=CALM)
    install(place, Authority("Only", now=BEGAN).pem)
    assert configure(place, "SecurityProfile", "2") == "Accepted"
    assert delete(place, installed(place)[0]) == "Failed"
    install(place, Authority("Next", now=BEGAN).pem)
    assert delete(place, installed(place)[0]) == "Accepted"


# -- key and profile -----------------------------------------------------------------------------------------------
def test_a_new_key_is_handed_to_the_line_and_told_as_an_event_and_never_read():
    place = world(habits=CALM)
    assert configure(place, "AuthorizationKey", "short") == "Rejected"
    assert configure(place, "authorizationkey", "0123456789abcdef0123") == "Accepted"
    assert place.charger.configuration.new_password == "0123456789abcdef0123"
    assert place.events() == ["ReconfigurationOfSecurityParameters"]
    assert place.ask("GetConfiguration", {"key": ["AuthorizationKey"]}).payload["unknownKey"] == ["AuthorizationKey"]
    assert not any("0123456789abcdef" in text for text in place.raw)


def test_some_take_a_new_key_after_a_reboot_only():
    place = world(habits=strange("key_after_reboot"))
    assert configure(place, "AuthorizationKey", "0123456789abcdef0123") == "RebootRequired"
    assert place.charger.configuration.new_password is None
    place.ask("Reset", {"type": "Soft"})
    place.wait(2)
    assert place.charger.configuration.new_password == "0123456789abcdef0123"


def test_the_profile_goes_up_only_and_only_when_the_charger_can():
    place = world(habits=CALM)
    root = Authority("Voltaro", now=BEGAN)
    assert configure(place, "SecurityProfile", "1") == "Accepted"
    assert configure(place, "SecurityProfile", "2") == "Rejected"  # it has no root to believe
    install(place, root.pem)
    assert configure(place, "SecurityProfile", "2") == "Accepted"
    assert (place.charger.configuration.new_profile, place.charger.configuration.profile_before) == (2, 1)
    assert configure(place, "SecurityProfile", "3") == "Rejected"  # no certificate of its own
    place.ask("CertificateSigned", {"certificateChain": root.sign(asked(place))})
    assert configure(place, "SecurityProfile", "3") == "Accepted"
    assert [configure(place, "SecurityProfile", value) for value in ("1", "4", "-1", "high")] == ["Rejected"] * 4
    assert place.ask("GetConfiguration", {"key": ["SecurityProfile"]}).payload["configurationKey"][0]["value"] == "3"


# -- events --------------------------------------------------------------------------------------------------------
def test_an_event_of_the_time_without_a_line_is_told_later_with_its_time():
    place = world(habits=CALM)
    place.disconnect()
    place.charger.event("TamperDetectionActivated", "x" * 300, place.now)
    happened = place.now
    place.wait(60)
    assert not place.events()
    place.connect()
    place.wait(1)
    [told] = place.calls("SecurityEventNotification")
    assert told["timestamp"].startswith(f"{happened:%Y-%m-%dT%H:%M:%S}") and len(told["techInfo"]) == 255


@pytest.mark.parametrize("on", [True, False])
def test_boots_are_told_as_events_when_asked_for(on):
    place = world(habits=strange(security_events=on))
    place.wait(1)
    assert place.events() == (["StartupOfTheDevice"] if on else [])
    place.charger.restart(place.now, keeps_transactions=False, why="restarts")
    place.reboots()
    assert place.events()[1:] == (["ResetOrReboot", "StartupOfTheDevice"] if on else [])


def test_a_certificate_of_the_future_is_not_valid_yet():
    later = Authority("Later", now=BEGAN + timedelta(days=9))
    assert not certificates.valid(later.certificate, BEGAN)
    assert install(world(habits=CALM), later.pem) == "Rejected"
