"""Our own authority in tests: chargers' keys, their requests, and certificates as if the charger had asked for them.

public = own_authority.make(folder)  # which settings.CHARGER_CA_DIR names
chain, private = own_authority.certified("VLT-0001")
"""

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from csms import authority, certificates, pem
from csms.models import ChargePoint, ChargerCertificate
from tests.certificates import Authority, key_pem
from voltaro import clock


def make(folder: Path) -> Path:
    """An authority in settings.CHARGER_CA_DIR (which is `folder`), and its public folder as nginx reads it."""
    authority.create(clock.now())
    return publish(folder)


def publish(folder: Path) -> Path:
    return authority.publish(certificates.revoked(), clock.now(), nginx_folder=str(folder / "public"))


def own_key() -> tuple[str, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key_pem(key), key


def request_of(key: ec.EllipticCurvePrivateKey, name: str = "VLT-0001", organisation: str = "Voltaro") -> str:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def certified(name: str = "VLT-0001", cp_id: str | None = None, *, at: datetime | None = None) -> tuple[str, str]:
    """(chain, private key) of a certificate that our authority has made for that charger, as rows say it."""
    private, key = own_key()
    issued = authority.sign(pem.read_request(request_of(key, name)), name, at or clock.now())
    paper = pem.read_certificate(issued.leaf)
    ChargerCertificate.objects.create(
        charge_point=ChargePoint.objects.get(cp_id=cp_id or name), csr="x", chain=issued.leaf + issued.intermediate, serial=paper.serial,
        sha256=paper.sha256, not_before=paper.not_before, not_after=paper.not_after, state="accepted",
    )  # fmt: skip
    return issued.leaf + issued.intermediate, private


def expired(name: str = "VLT-0001") -> tuple[str, str]:
    """One of ours that ended yesterday."""
    private, key = own_key()
    intermediate, signer = authority._signer()
    now = clock.now()
    leaf = (
        x509.CertificateBuilder().subject_name(x509.load_pem_x509_csr(request_of(key, name).encode()).subject)
        .issuer_name(intermediate.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9)).not_valid_after(now - timedelta(days=1)).sign(signer, hashes.SHA256())
    )  # fmt: skip
    return leaf.public_bytes(serialization.Encoding.PEM).decode() + authority.certificates()[0], private


def foreign(name: str = "VLT-0001") -> tuple[str, str]:
    """Of an authority that is not ours."""
    chain, key = Authority("Somebody's root").issue(name)
    return chain, key_pem(key)
