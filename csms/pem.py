"""X.509 in PEM as we need it: read a certificate, read a charger's request for one, name a certificate by its hashes. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import NameOID

LEAST_RSA_BITS, LEAST_CURVE_BITS = 2048, 224  # whitepaper A00.FR.503
MAX_CHARACTERS = 20_000
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----(.+?)-----END \1-----", re.DOTALL)
_ALGORITHMS = {"SHA256": hashes.SHA256, "SHA384": hashes.SHA384, "SHA512": hashes.SHA512}


class Unusable(ValueError):
    """It cannot be read, or must not be used: a sentence says why."""


@dataclass(frozen=True)
class Paper:
    """A certificate as people and rows speak of it. `sha256` is the fingerprint, `serial` the number in hex."""

    pem: str
    common_name: str
    organisation: str
    issuer: str
    serial: str
    sha256: str
    not_before: datetime
    not_after: datetime
    is_authority: bool
    self_signed: bool


def read_certificate(text: str) -> Paper:
    """The first certificate in the text. Raises Unusable."""
    found = certificate(text)
    name = _name(found.subject)
    return Paper(
        pem=found.public_bytes(serialization.Encoding.PEM).decode(),
        common_name=name[0],
        organisation=name[1],
        issuer=found.issuer.rfc4514_string()[:200],
        serial=f"{found.serial_number:x}",
        sha256=found.fingerprint(hashes.SHA256()).hex(),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        is_authority=_is_authority(found),
        self_signed=found.subject == found.issuer,
    )


def certificate(text: str) -> x509.Certificate:
    """The first certificate in the text. Raises Unusable."""
    try:
        return x509.load_pem_x509_certificate(_block(text, "CERTIFICATE"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable(f"This is no certificate in PEM ({str(error)[:80] or type(error).__name__}).") from None


@dataclass(frozen=True)
class Request:
    """A certificate signing request that may be signed as far as its form goes."""

    csr: x509.CertificateSigningRequest
    common_name: str
    organisation: str


def read_request(text: str) -> Request:
    """A charger's request: readable, signed with its own key, and that key strong enough. Raises Unusable."""
    try:
        csr = x509.load_pem_x509_csr(_block(text, "CERTIFICATE REQUEST"))
        good = csr.is_signature_valid
        key = csr.public_key()
        common_name, organisation = _name(csr.subject)
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise Unusable(f"The request cannot be read ({str(error)[:80] or type(error).__name__}).") from None
    if not good:
        raise Unusable("The request is not signed with its own key.")
    if isinstance(csr.signature_hash_algorithm, (hashes.SHA1, hashes.MD5)):
        raise Unusable("The request is signed by way of a broken hash.")
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < LEAST_RSA_BITS:
            raise Unusable(f"Its RSA key has {key.key_size} bits; {LEAST_RSA_BITS} is the least.")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.key_size < LEAST_CURVE_BITS:
            raise Unusable(f"Its curve has {key.curve.key_size} bits; {LEAST_CURVE_BITS} is the least.")
    else:
        raise Unusable("Its key is neither RSA nor on an elliptic curve.")
    return Request(csr, common_name, organisation)


def read_subject(subject: str) -> tuple[str, str]:
    """Common name and organisation of a subject as RFC 2253 or 4514 writes it. Raises Unusable."""
    try:
        return _name(x509.Name.from_rfc4514_string(subject))
    except (ValueError, TypeError):
        raise Unusable("The subject cannot be read.") from None


def hash_data(text: str, issuer: str = "", algorithm: str = "SHA256") -> dict[str, str]:
    """CertificateHashDataType of the standard: what a charger calls this certificate by. A root is its own issuer."""
    one = certificate(text)
    above = certificate(issuer) if issuer else one
    return {
        "hashAlgorithm": algorithm,
        "issuerNameHash": _hashed(one.issuer.public_bytes(), algorithm),
        "issuerKeyHash": _hashed(_key_bits(above.public_key()), algorithm),
        "serialNumber": f"{one.serial_number:x}",
    }


def _block(text: str, what: str) -> bytes:
    """The PEM block of that kind. Chargers write its line breaks as `\\n`, as blanks, or not at all."""
    if len(text) > MAX_CHARACTERS:
        raise Unusable("It is too long.")
    for kind, body in _BLOCK.findall(text.replace("\\r", "").replace("\\n", "\n")):
        if kind == what or (kind, what) == ("NEW CERTIFICATE REQUEST", "CERTIFICATE REQUEST"):
            packed = "".join(body.split())
            lines = "\n".join(packed[at : at + 64] for at in range(0, len(packed), 64))
            return f"-----BEGIN {what}-----\n{lines}\n-----END {what}-----\n".encode()
    raise Unusable(f"There is no {what.lower()} in PEM in it.")


def _name(name: x509.Name) -> tuple[str, str]:
    def one(oid: x509.ObjectIdentifier) -> str:
        found = name.get_attributes_for_oid(oid)
        if len(found) > 1:
            raise Unusable("It names itself twice.")
        return str(found[0].value).strip()[:200] if found else ""

    return one(NameOID.COMMON_NAME), one(NameOID.ORGANIZATION_NAME)


def _is_authority(found: x509.Certificate) -> bool:
    try:
        return bool(found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _hashed(what: bytes, algorithm: str) -> str:
    digest = hashes.Hash(_ALGORITHMS[algorithm]())
    digest.update(what)
    return digest.finalize().hex()


def _key_bits(key: CertificateIssuerPublicKeyTypes) -> bytes:
    """The bits of the key alone, without algorithm, tag or length (RFC 6960 §4.1.1)."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
