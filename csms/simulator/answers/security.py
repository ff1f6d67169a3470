"""CertificateSigned, InstallCertificate, DeleteCertificate, GetInstalledCertificateIds (security white paper, sections 4 and 7)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from csms.simulator import keys

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]


def certificate_signed(charger: Charger, call: Payload, now: datetime) -> Payload:
    """Used from the next line on, when the charger's profile is 3."""
    chain, most = call["certificateChain"], charger.configuration.number("CertificateSignedMaxChainSize")
    wrong = "too long" if len(chain) > most else charger.keys.take(chain, charger.cp_id, now)
    if wrong:
        charger.event("InvalidChargePointCertificate", wrong, now)
        return {"status": "Rejected"}
    charger.note("has a new certificate of its own")
    charger.renew_line = charger.configuration.number("SecurityProfile") == 3
    return {"status": "Accepted"}


def install_certificate(charger: Charger, call: Payload, now: datetime) -> Payload:
    kind, settings = call["certificateType"], charger.configuration
    if kind not in charger.keys.roots:
        raise ValueError(f"no such certificateType: {kind}")
    room, only_signed = settings.number("CertificateStoreMaxLength"), settings.on("AdditionalRootCertificateCheck")
    wrong = charger.keys.install(kind, call["certificate"], now, room=room, only_signed=only_signed)
    if not wrong:
        return {"status": "Accepted"}
    charger.note(f"the root certificate is not taken: {wrong}")
    if kind == keys.CENTRAL:
        charger.event("InvalidCentralSystemCertificate", wrong, now)
    return {"status": "Rejected"}


def delete_certificate(charger: Charger, call: Payload, now: datetime) -> Payload:
    encrypted = charger.configuration.number("SecurityProfile") >= 2
    return {"status": charger.keys.delete(call["certificateHashData"], keep_last_central=encrypted)}


def get_installed_certificate_ids(charger: Charger, call: Payload, now: datetime) -> Payload:
    kind = call["certificateType"]
    if kind not in charger.keys.roots:
        raise ValueError(f"no such certificateType: {kind}")
    found = charger.keys.hashes(kind)
    return {"status": "Accepted", "certificateHashData": found} if found else {"status": "NotFound"}
