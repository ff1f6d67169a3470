"""Certificate authorities for tests.

root = Authority("Voltaro Root")
pem, key = root.issue("VLT-0001")
chain = root.sign(csr_pem)
"""

import ipaddress
from datetime import timedelta
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from voltaro import clock


class Authority:
    """A root, or one signed `of` another. `pem` is its own certificate. Valid from a day before `now` (default: today)."""

    def __init__(self, name: str, *, of: Self | None = None, now: Any = None) -> None:
        self.now = now or (of.now if of else clock.now())
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        issuer_name, issuer_key = (of.name, of.key) if of else (self.name, self.key)
        self.certificate = self._build(self.name, self.key.public_key(), issuer_name, issuer_key, days=3650, ca=True)
        self.pem = _pem(self.certificate)

    def issue(self, common_name: str, *, days: int = 30, algorithm: str = "ec", address: str = "") -> tuple[str, Any]:
        """A certificate and its new key; `days` below 0: it has expired. `address`: a server's, such as 127.0.0.1."""
        key: Any = (
            rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
            if algorithm == "rsa"
            else ec.generate_private_key(ec.SECP256R1())
        )
        return _pem(self._build(_name(common_name), key.public_key(), self.name, self.key, days=days, address=address)), key

    def sign(self, csr_pem: str, *, days: int = 30, common_name: str = "") -> str:
        """The certificate that was asked for, with our own behind it."""
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        assert csr.is_signature_valid
        subject = _name(common_name) if common_name else csr.subject
        return _pem(self._build(subject, csr.public_key(), self.name, self.key, days=days)) + self.pem

    def _build(
        self, subject: x509.Name, public_key: Any, issuer: x509.Name, key: Any, *, days: int, ca: bool = False, address: str = ""
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(days=2))
            .not_valid_after(self.now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if address:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def key_pem(key: Any) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
