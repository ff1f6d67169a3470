"""Our own certificate authority for chargers (security profile 3): a root that signs an intermediate that signs chargers.

It lives in files of CHARGER_CA_DIR, never in the database. Private keys are readable by their owner only, and locked with
CHARGER_CA_PASSPHRASE when that is set. The root's key is needed to make the intermediate and for nothing else: take it away
from the machine once `bin/manage charger_ca` has made both.

    root.pem root.key              the root, ten years
    intermediate.pem intermediate.key   signs chargers' certificates, five years
    public/ca.pem public/crl.pem   for the proxy: whom to trust, who is revoked
    public/nginx.conf              the same as directives, included by deploy/nginx.conf
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings

from csms.pem import Request

ROOT_YEARS, INTERMEDIATE_YEARS = 10, 5
CHARGER_DAYS = 365
# Chargers' clocks are wrong by minutes and hours: a certificate that begins now is not valid yet for some.
EARLIER = timedelta(days=1)
NGINX = """# Made by bin/manage charger_ca; included by deploy/nginx.conf.
ssl_client_certificate {folder}/ca.pem;
ssl_crl {folder}/crl.pem;
ssl_verify_client optional;
ssl_verify_depth 2;
"""
# Where nginx finds the public folder (docker-compose.yml).
NGINX_FOLDER = "/etc/nginx/charger-ca"


class Unavailable(Exception):
    """There is no authority here, or its keys cannot be opened: a sentence says why."""


@dataclass(frozen=True)
class Issued:
    """A charger's new certificate: the leaf, and what stands between it and the root. PEM."""

    leaf: str
    intermediate: str


def folder() -> Path:
    """Where it lives. Raises Unavailable when no place is set."""
    if not settings.CHARGER_CA_DIR:
        raise Unavailable("CHARGER_CA_DIR is not set: there is no authority for chargers' certificates.")
    return Path(settings.CHARGER_CA_DIR)


def exists() -> bool:
    return bool(settings.CHARGER_CA_DIR) and (Path(settings.CHARGER_CA_DIR) / "intermediate.pem").exists()


def create(now: datetime, organisation: str = "") -> bool:
    """Make root and intermediate; False when they exist. Raises Unavailable without a folder."""
    if exists():
        return False
    place, name = folder(), organisation or settings.CPO_NAME
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, own_name = _subject(name, f"{name} charger root"), _subject(name, f"{name} charger authority")
    root = _authority(root_name, root_name, root_key.public_key(), root_key, now, ROOT_YEARS, path_length=1)
    intermediate = _authority(own_name, root_name, key.public_key(), root_key, now, INTERMEDIATE_YEARS, path_length=0)
    _write_key(place / "root.key", root_key)
    _write_key(place / "intermediate.key", key)
    _write(place / "root.pem", _pem(root))
    # The root has revoked nothing, and its key will not be at hand to say so again.
    _write(place / "root.crl", _revoked(root, root_key, [], now))
    _write(place / "intermediate.pem", _pem(intermediate))  # last: it stands for the whole
    publish([], now)
    return True


def certificates() -> list[str]:
    """Intermediate and root, PEM. Raises Unavailable."""
    place = folder()
    try:
        return [(place / name).read_text() for name in ("intermediate.pem", "root.pem")]
    except OSError as error:
        raise Unavailable(f"There is no authority in {place} ({error.strerror}): bin/manage charger_ca makes one.") from None


def sign(request: Request, common_name: str, now: datetime) -> Issued:
    """A certificate for the key of this request, under a name that the caller has checked. Raises Unavailable."""
    intermediate, key = _signer()
    end = min(now + timedelta(days=CHARGER_DAYS), intermediate.not_valid_after_utc)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(_subject(settings.CPO_NAME, common_name))
        .issuer_name(intermediate.subject)
        .public_key(request.csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - EARLIER, intermediate.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.csr.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issued(_pem(leaf), _pem(intermediate))


def publish(revoked: list[tuple[str, datetime]], now: datetime, nginx_folder: str = NGINX_FOLDER) -> Path:
    """Write what the proxy needs: whom to trust, and who is revoked, as (serial in hex, since). Raises Unavailable.

    `nginx_folder` is where nginx sees the folder that is returned.
    """
    intermediate, key = _signer()
    place = folder() / "public"
    place.mkdir(mode=0o755, exist_ok=True)
    _write(place / "ca.pem", "".join(certificates()))
    root_list = folder() / "root.crl"
    _write(place / "crl.pem", _revoked(intermediate, key, revoked, now) + root_list.read_text())
    _write(place / "nginx.conf", NGINX.format(folder=nginx_folder))
    return place


def _signer() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    intermediate = x509.load_pem_x509_certificate(certificates()[0].encode())
    path = folder() / "intermediate.key"
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), _passphrase())
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError):
        raise Unavailable(f"{path} does not open with CHARGER_CA_PASSPHRASE.") from None
    assert isinstance(key, ec.EllipticCurvePrivateKey), path
    return intermediate, key


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    years: int,
    *,
    path_length: int,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _revoked(issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, revoked: list[tuple[str, datetime]], now: datetime) -> str:
    """A revocation list that lasts as long as its issuer: one that runs out would lock every charger out. The door itself
    (csms/entrance.py) refuses a revoked certificate from the moment it is revoked."""
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(min(now - EARLIER, issuer.not_valid_after_utc - EARLIER))
        .next_update(issuer.not_valid_after_utc)
    )
    for serial, since in revoked:
        one = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(since)
        made = made.add_revoked_certificate(one.build())
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names})


def _subject(organisation: str, common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64]), x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _passphrase() -> bytes | None:
    return settings.CHARGER_CA_PASSPHRASE.encode() or None


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    passphrase = _passphrase()
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()
    _write(path, text, 0o600)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Whole or not at all, and never readable by others for a moment."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
    fresh.replace(path)
