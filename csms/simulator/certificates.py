"""X.509 as a charger needs it: its own request, the chains and roots it is given, and signatures over firmware. Pure."""

import base64
import binascii
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

ALGORITHMS = {"SHA256": hashes.SHA256, "SHA384": hashes.SHA384, "SHA512": hashes.SHA512}


def request(cp_id: str, organisation: str) -> tuple[str, str]:
    """A new P-256 key and the certificate request for it, both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = [x509.NameAttribute(NameOID.COMMON_NAME, cp_id)]
    if organisation:
        name.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(name)).sign(key, hashes.SHA256())
    written = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return written.decode(), csr.public_bytes(serialization.Encoding.PEM).decode()


def chain(pem: str) -> list[x509.Certificate]:
    """The certificates in it, the leaf first. Raises ValueError when there is none."""
    return x509.load_pem_x509_certificates(pem.encode())


def valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def fits(certificate: x509.Certificate, key_pem: str) -> bool:
    """Whether the certificate is for that key."""
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    return _spki(key.public_key()) == _spki(certificate.public_key())


def common_name(certificate: x509.Certificate) -> str:
    return next((str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), "")


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def trusted(certificates: list[x509.Certificate], roots: list[x509.Certificate]) -> bool:
    """Whether the first of them leads to one of the roots, over the others."""
    here, rest = certificates[0], certificates[1:]
    while not any(here == root or issued_by(here, root) for root in roots):
        above = next((one for one in rest if issued_by(here, one)), None)
        if above is None:
            return False
        here, rest = above, [one for one in rest if one is not above]
    return True


def signed(certificate: x509.Certificate, sha256: bytes, signature: str) -> bool:
    """Whether `signature` (base64) over a file with that digest is the certificate's: ECDSA, RSA-PSS or RSA PKCS #1."""
    key, prehashed = certificate.public_key(), utils.Prehashed(hashes.SHA256())
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        ways: list[tuple[object, ...]] = [(ec.ECDSA(prehashed),)]
    elif isinstance(key, rsa.RSAPublicKey):
        ways = [(padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO), prehashed), (padding.PKCS1v15(), prehashed)]
    else:
        return False
    for way in ways:
        try:
            key.verify(raw, sha256, *way)  # type: ignore[arg-type]
        except InvalidSignature:
            continue
        return True
    return False


def hash_data(certificate: x509.Certificate, issuer: x509.Certificate, algorithm: str = "SHA256") -> dict[str, str]:
    """CertificateHashDataType: the hashes of the issuer's name and key, and the serial number, all in hex."""
    return {
        "hashAlgorithm": algorithm,
        "issuerNameHash": _hash(certificate.issuer.public_bytes(), algorithm),
        "issuerKeyHash": _hash(_key_bits(issuer.public_key()), algorithm),
        "serialNumber": f"{certificate.serial_number:x}",
    }


def _hash(what: bytes, algorithm: str) -> str:
    digest = hashes.Hash(ALGORITHMS[algorithm]())
    digest.update(what)
    return digest.finalize().hex()


def _spki(key: object) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]


def _key_bits(key: object) -> bytes:
    """The bits of the key alone, without algorithm, tag or length (as in RFC 6960)."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)  # type: ignore[attr-defined]
