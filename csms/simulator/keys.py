"""A charger's certificates: its own key and chain, and the roots it was given to trust (security white paper, A02 to A05, M)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from csms.simulator import certificates

CENTRAL, MANUFACTURER = "CentralSystemRootCertificate", "ManufacturerRootCertificate"


@dataclass
class Keys:
    """All PEM. `pending` is the key whose certificate is awaited; `key` and `chain` are in use."""

    pending: str = ""
    key: str = ""
    chain: str = ""
    roots: dict[str, list[str]] = field(default_factory=lambda: {CENTRAL: [], MANUFACTURER: []})

    def ask(self, cp_id: str, organisation: str) -> str:
        """A request for a certificate, with a new key."""
        self.pending, csr = certificates.request(cp_id, organisation)
        return csr

    def take(self, chain: str, cp_id: str, now: datetime) -> str:
        """Use this chain; why not, or nothing. It must be for the key that was asked about, or for the one in use."""
        try:
            leaf = certificates.chain(chain)[0]
        except ValueError:
            return "no certificate"
        key = next((one for one in (self.pending, self.key) if one and certificates.fits(leaf, one)), None)
        if key is None:
            return "not for my key"
        if certificates.common_name(leaf) != cp_id:
            return "not my name"
        if not certificates.valid(leaf, now):
            return "not valid now"
        self.key, self.chain, self.pending = key, chain, ""
        return ""

    def install(self, kind: str, pem: str, now: datetime, *, room: int, only_signed: bool) -> str:
        """Trust this root; why not, or nothing. `only_signed`: a central system's root must be signed by the one before it."""
        try:
            new = certificates.chain(pem)[0]
        except ValueError:
            return "no certificate"
        if not certificates.valid(new, now):
            return "not valid now"
        known = self.certificates(kind)
        if new in known:
            return ""
        if only_signed and kind == CENTRAL and known and not any(certificates.issued_by(new, old) for old in known):
            return "not signed by the root before it"
        if sum(len(kept) for kept in self.roots.values()) >= room:
            return "no room"
        self.roots[kind].append(pem)
        return ""

    def certificates(self, kind: str) -> list[Any]:
        return [certificates.chain(pem)[0] for pem in self.roots[kind]]

    def hashes(self, kind: str) -> list[dict[str, str]]:
        known = self.certificates(kind)
        return [certificates.hash_data(one, self._issuer(one)) for one in known]

    def delete(self, wanted: dict[str, str], *, keep_last_central: bool) -> str:
        """DeleteCertificate.conf's status. The last root of the central system stays while the line depends on it."""
        for kind, kept in self.roots.items():
            for pem, one in zip(kept, self.certificates(kind), strict=True):
                has = certificates.hash_data(one, self._issuer(one), wanted["hashAlgorithm"])
                if any(has[name].lower().lstrip("0") != wanted[name].lower().lstrip("0") for name in has if name != "hashAlgorithm"):
                    continue
                if keep_last_central and kind == CENTRAL and len(kept) == 1:
                    return "Failed"
                kept.remove(pem)
                return "Accepted"
        return "NotFound"

    def firmware_signer(self, pem: str, now: datetime) -> str:
        """What is wrong with a firmware's signing certificate, or nothing. Without a manufacturer's root any valid one will do."""
        try:
            given = certificates.chain(pem)
        except ValueError:
            return "no certificate"
        if not certificates.valid(given[0], now):
            return "not valid now"
        roots = self.certificates(MANUFACTURER)
        return "" if not roots or certificates.trusted(given, roots) else "not from the manufacturer"

    def _issuer(self, one: Any) -> Any:
        """Its issuer, if it is kept here; a root is its own."""
        known = [other for kind in self.roots for other in self.certificates(kind)]
        return next((other for other in known if other.subject == one.issuer), one)
