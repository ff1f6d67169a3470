"""Who may come in as a charger, and how far its security may be changed (OCPP 1.6 security whitepaper, A00, A01, A05). Pure.

A security profile is the least a charger must show: 0 nothing, 1 its key (HTTP Basic), 2 its key over TLS, 3 a client certificate
over TLS. More than what is asked is never refused: a key over TLS is good for profile 1, a certificate for 1 and 2.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

PROFILES = (0, 1, 2, 3)
WORDS = {0: "no key", 1: "key", 2: "key over TLS", 3: "certificate over TLS"}


class Key(StrEnum):
    """Which of a charger's keys was shown."""

    NONE = "none"
    CURRENT = "current"
    PENDING = "pending"


@dataclass(frozen=True)
class Certificate:
    """A client certificate that a trusted proxy has found good. `trouble` says why it opens nothing all the same."""

    common_name: str = ""
    organisation: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Shown:
    """What a socket shows at the door."""

    key: Key = Key.NONE
    tls: bool = False
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Door:
    """What a charger's row asks for. `names`: any of these may be its certificate's common name (in any case)."""

    profile: int
    pending_profile: int | None = None
    names: tuple[str, ...] = ()
    organisation: str = ""


@dataclass(frozen=True)
class Verdict:
    """`refusal` is empty for whoever may come in. `profile` is the highest that what was shown is good for."""

    refusal: str = ""
    profile: int = 0
    raised: bool = False  # the pending profile was used: from now on it is the least
    new_key: bool = False  # the pending key was used: from now on it is the only one


def judge(door: Door, shown: Shown) -> Verdict:
    """Whether this charger may come in so, and what that proves.

    While a higher profile is pending the old one is still served: a charger that cannot connect in the new way falls back (A05).
    """
    best = max(profile for profile in PROFILES if not lacks(profile, door, shown))
    if best < door.profile:
        return Verdict(lacks(door.profile, door, shown))
    raised = door.pending_profile is not None and door.profile < door.pending_profile <= best
    return Verdict("", best, raised, new_key=shown.key is Key.PENDING)


def lacks(profile: int, door: Door, shown: Shown) -> str:
    """What is missing for that profile, as one word; empty when nothing is."""
    if profile == 0:
        return ""
    if profile == 1:
        return "wrong_key" if shown.key is Key.NONE else ""
    if not shown.tls:
        return "not_tls"
    if profile == 2:
        return "wrong_key" if shown.key is Key.NONE else ""
    if shown.certificate is None:
        return "no_certificate"
    return wrong_certificate(shown.certificate, door.names, door.organisation)


def wrong_certificate(certificate: Certificate, names: tuple[str, ...], organisation: str) -> str:
    """Why a certificate is not this charger's; empty when it is (A00.FR.405: O is the operator, CN the charger)."""
    if certificate.trouble:
        return certificate.trouble
    if certificate.common_name.casefold() not in {name.casefold() for name in names if name}:
        return "certificate_name"
    if organisation and certificate.organisation.casefold() != organisation.casefold():
        return "certificate_organisation"
    return ""


def may_raise(profile: int, target: int, *, has_key: bool, has_certificate: bool) -> str:
    """Why a charger may not be asked to go from one profile to another; empty when it may (A00.FR.005: never lower by OCPP)."""
    if target not in PROFILES:
        return "There are security profiles 0 to 3."
    if target < profile:
        return f"A security profile is never lowered through the charger: it is {profile}."
    if target == profile:
        return f"Its security profile is {profile} already."
    if target in (1, 2) and not has_key:
        return "It has no key yet: give it one first."
    if target == 3 and not has_certificate:
        return "It has not shown a certificate of its own yet: have one made first."
    return ""


def read_profile(value: Any) -> int | None:
    """A SecurityProfile as a configuration value; None when it is none."""
    text = str(value).strip()
    return int(text) if text in {"0", "1", "2", "3"} else None
