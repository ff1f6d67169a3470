"""What a charger shows at the door, held against what its row asks for (csms/rules/security.py), and what that proves.

A key shown for the first time becomes the only one, a higher profile met for the first time becomes the least: written in the
transaction in which the socket claims the charger.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from accounts import audit
from csms import alerts, certificates, credentials, pem, rotation, security_profiles
from csms.models import ChargePoint, Registration
from csms.pem import Paper, Unusable
from csms.rules.security import Certificate, Door, Key, Shown, Verdict, judge
from csms.stations import Known
from voltaro import clock

DOWNGRADE = "downgrade"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Withdrawn(Exception):
    """What was shown was good when it was looked at; a person has taken it back since."""


@dataclass(frozen=True)
class Entry:
    """A verdict, and what must be written down when the socket claims the charger."""

    verdict: Verdict
    paper: Paper | None = None  # the certificate it came in with, when it is new to us
    serial: str = ""  # the certificate names the charger by its serial number only: its boots must name the same

    @property
    def refusal(self) -> str:
        return self.verdict.refusal

    @property
    def proves(self) -> bool:
        return self.verdict.raised or self.verdict.new_key or self.paper is not None


def look(known: Known, authorization: bytes | None, tls: dict[str, Any] | None) -> Entry:
    """Whether this socket may be that charger. `tls`: the ASGI extension, None when the line is not encrypted.

    Blocked and rejected chargers are refused whatever they show, at the same cost.
    """
    certificate, paper = _certificate(known, tls)
    shown = Shown(_key(known, authorization), tls is not None, certificate)
    names = (known.certificate_name,) if known.certificate_name else (known.cp_id, known.serial_number)
    verdict = judge(Door(known.security_profile, known.pending_security_profile, names, settings.CPO_NAME), shown)
    if known.blocked:
        return Entry(Verdict("blocked"))
    if known.registration == Registration.REJECTED:
        return Entry(Verdict("rejected"))
    if verdict.refusal == "not_tls" and shown.key is not Key.NONE:
        what = "Its key came over a line that is not encrypted: somebody tries it there, or the charger is set wrong. Change its key."
        alerts.raise_alert(known.pk, DOWNGRADE, what, clock.now())
    if verdict.refusal or verdict.profile < 3 or certificate is None:
        return Entry(verdict)
    by_serial = certificate.common_name.casefold() not in (known.cp_id.casefold(), known.certificate_name.casefold())
    return Entry(verdict, paper, certificate.common_name if by_serial else "")


def prove(known: Known, entry: Entry, now: datetime) -> None:
    """Write down what came true by this entry. In the transaction of the claim. Raises Withdrawn."""
    row = ChargePoint.objects.select_for_update(no_key=True).get(pk=known.pk)
    if entry.verdict.new_key:
        if row.pending_credentials_hash != known.keys[1]:
            raise Withdrawn
        rotation.used(row, now)
    if entry.verdict.raised and row.pending_security_profile == known.pending_security_profile:
        security_profiles.used(row, now)
    row.save(
        update_fields=["credentials_hash", "pending_credentials_hash", "credentials_at", "security_profile", "pending_security_profile",
                       "pending_since"]
    )  # fmt: skip
    if entry.paper is not None:
        certificates.seen(known.pk, entry.paper, now)


def same_serial(charge_point_pk: int, proven: str, claimed: str, now: datetime) -> bool:
    """Whether a boot names the serial number that the certificate bears (2.0.1 B01.FR.12; 1.6 asks no less)."""
    if proven.casefold() == claimed.strip().casefold():
        return True
    alerts.raise_alert(charge_point_pk, certificates.ALERT, f"It boots as {claimed[:50]!r}, with the certificate of {proven[:50]!r}.", now)
    audit.record("certificate.of_another", ChargePoint(pk=charge_point_pk), after={"certificate": proven[:64], "boots_as": claimed[:64]})
    return False


def _key(known: Known, authorization: bytes | None) -> Key:
    """Which key was shown, under the charger's own name (A01.FR.03: the user is the identity)."""
    basic = credentials.read_basic(authorization)
    user, password = basic or ("", b"")
    found = credentials.which(known.cp_id, known.keys, password)
    return found if user.casefold() == known.cp_id.casefold() else Key.NONE


def _certificate(known: Known, tls: dict[str, Any] | None) -> tuple[Certificate | None, Paper | None]:
    """What a trusted proxy says of its certificate; the certificate itself when it is new to us."""
    if tls is None:
        return None, None
    if tls.get("client_cert_error"):
        return Certificate(trouble="certificate_invalid"), None
    chain, subject, sha256 = tls.get("client_cert_chain") or [], tls.get("client_cert_name"), tls.get("client_cert_sha256") or ""
    if not chain and not subject:
        return None, None
    paper = None
    try:
        if chain:
            paper = pem.read_certificate(chain[0])
            common_name, organisation, sha256 = paper.common_name, paper.organisation, paper.sha256
        else:
            common_name, organisation = pem.read_subject(str(subject))
    except Unusable:
        return Certificate(trouble="certificate_unreadable"), None
    if not _SHA256.fullmatch(sha256):  # without its fingerprint nobody could revoke it
        return Certificate(trouble="certificate_unreadable"), None
    if paper is not None and not paper.not_before <= clock.now() < paper.not_after:
        return Certificate(trouble="certificate_expired"), None
    trouble, new = certificates.trouble(known.pk, sha256)
    return Certificate(common_name, organisation, trouble), paper if new else None
