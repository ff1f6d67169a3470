"""One charger's security in the console: how it comes in, its key, its certificates, the roots it trusts, who was refused.

Every deed is a POST of its own, by name; a key that is made by hand is shown once, in the answer to it, and kept nowhere.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import audit
from accounts.doors import console_page, may_operate, operators_only
from accounts.models import AuditEntry
from csms import alerts, certificates, pem, roots, rotation, security_profiles, stations
from csms.frames import clean
from csms.models import (
    Alert,
    ChargePoint,
    ChargerCertificate,
    Command,
    CommandState,
    Connection,
    InstalledCertificate,
    RootCertificate,
    SecurityEvent,
)
from csms.pem import Unusable
from csms.rules.security import PROFILES, WORDS, may_raise
from voltaro import clock

ROWS = 10
TRIGGERS = ("key rotation", "security profile", "certificate", "security page")
# What a charger lacked at the door (csms/rules/security.py and csms/doors.py), for people.
REFUSALS = {
    "wrong_key": "wrong key, or none",
    "not_tls": "no TLS",
    "no_certificate": "no certificate",
    "certificate_invalid": "a certificate the proxy does not trust",
    "certificate_unreadable": "a certificate that cannot be read",
    "certificate_expired": "a certificate that has ended",
    "certificate_revoked": "a revoked certificate",
    "certificate_of_another": "another charger's certificate",
    "certificate_name": "a certificate in another name",
    "certificate_organisation": "a certificate of another operator",
    "blocked": "blocked",
    "rejected": "rejected",
    "subprotocol": "no common sub-protocol",
}


@require_safe
@never_cache
@console_page
def security(request: HttpRequest, pk: int) -> HttpResponse:
    """The whole state, and the deeds for those who may operate."""
    return _page(request, _charge_point(request, pk))


@require_POST
@never_cache
@operators_only
def deed(request: HttpRequest, pk: int, deed: str) -> HttpResponse:
    """Do one thing; what came of it stands on the page."""
    charge_point = _charge_point(request, pk)
    if deed == "new-key":  # the one answer that is a page: the key is nowhere else
        return _page(request, charge_point, key=rotation.new_key_by_hand(charge_point))
    if deed not in DEEDS:
        raise Http404
    try:
        messages.success(request, DEEDS[deed](request, charge_point))
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    return redirect("csms:charger-security", charge_point.pk)


# -- deeds: (request, charger) -> what to say; ValidationError when it cannot be -----------------------------------------
def _rotate(request: HttpRequest, row: ChargePoint) -> str:
    rotation.rotate_key(row, _who(request))
    return "It is asked to take a new key. Both keys open the door until it comes in with the new one."


def _rotate_again(request: HttpRequest, row: ChargePoint) -> str:
    rotation.send_again(row, _who(request))
    return "It is asked to take the same new key once more."


def _rotate_withdraw(request: HttpRequest, row: ChargePoint) -> str:
    rotation.withdraw(row, _who(request))
    return "The new key opens nothing any more."


def _raise(request: HttpRequest, row: ChargePoint) -> str:
    target = _profile(request)
    security_profiles.ask_for(row, target, _who(request))
    return f"It is asked to move to profile {target}. Both profiles are served until it comes in with the higher one."


def _require(request: HttpRequest, row: ChargePoint) -> str:
    target = _profile(request)
    security_profiles.require(row, target)
    return f"From now on profile {target} is the least: {WORDS[target]}."


def _raise_withdraw(request: HttpRequest, row: ChargePoint) -> str:
    security_profiles.withdraw(row)
    return "The higher profile is not waited for any more."


def _lower(request: HttpRequest, row: ChargePoint) -> str:
    target = _profile(request)
    security_profiles.lower(row, target, clean(request.POST.get("reason", "")), _who(request))
    return f"It may come in with less now: {WORDS[target]}."


def _hang_up(request: HttpRequest, row: ChargePoint) -> str:
    was_open = stations.hang_up(row.pk, f"closed by {_who(request)}", clock.now())
    audit.record("connection.closed_by_hand", row)
    return "Its line is closed. It comes again with what it has." if was_open else "It had no line."


def _ask_certificate(request: HttpRequest, row: ChargePoint) -> str:
    if not settings.CHARGER_CA_DIR:
        raise ValidationError("There is no authority for chargers' certificates: set CHARGER_CA_DIR, then bin/manage charger_ca.")
    certificates.ask_charger(row, by=_who(request))
    return "It is asked to ask for a certificate. It follows when it has."


def _revoke(request: HttpRequest, row: ChargePoint) -> str:
    made = get_object_or_404(ChargerCertificate, charge_point=row, pk=_number(request, "certificate"))
    certificates.revoke(made, clean(request.POST.get("reason", ""))[:200])
    return "It is revoked: it opens nothing from now on. bin/manage charger_ca --crl tells the proxy too."


def _read_roots(request: HttpRequest, row: ChargePoint) -> str:
    for kind in RootCertificate.Type.values:
        roots.read(row, kind, _who(request))
    return "It is asked which roots it holds."


def _install_root(request: HttpRequest, row: ChargePoint) -> str:
    root = RootCertificate.objects.filter(pk=_number(request, "root")).first()
    if root is None:
        raise ValidationError("Choose a root.")
    roots.install(row, root, _who(request))
    return f"It is asked to trust {root}."


def _delete_root(request: HttpRequest, row: ChargePoint) -> str:
    held = get_object_or_404(InstalledCertificate, charge_point=row, pk=_number(request, "held"))
    said = request.POST.get("confirm", "").strip()
    if said and said.casefold() != row.cp_id.casefold():
        raise ValidationError("That is not its identity: nothing was asked.")
    roots.delete(row, held, _who(request), also_the_last=bool(said))
    return "It is asked to forget this root."


def _put_away(request: HttpRequest, row: ChargePoint) -> str:
    alert = get_object_or_404(Alert, charge_point=row, pk=_number(request, "alert"))
    alerts.put_away(alert, _who(request), clock.now())
    return "Put away. It is raised anew when it goes on."


DEEDS: dict[str, Callable[[HttpRequest, ChargePoint], str]] = {
    "rotate": _rotate,
    "rotate-again": _rotate_again,
    "rotate-withdraw": _rotate_withdraw,
    "raise": _raise,
    "raise-withdraw": _raise_withdraw,
    "require": _require,
    "lower": _lower,
    "hang-up": _hang_up,
    "ask-certificate": _ask_certificate,
    "revoke": _revoke,
    "read-roots": _read_roots,
    "install-root": _install_root,
    "delete-root": _delete_root,
    "put-away": _put_away,
}


# -- the page ------------------------------------------------------------------------------------------------------------
def _page(request: HttpRequest, row: ChargePoint, key: str = "") -> HttpResponse:
    """A bounded number of queries, whatever the tables hold."""
    now = clock.now()
    if key:
        row.refresh_from_db()
    connection = Connection.objects.filter(charge_point=row).order_by("-epoch").first()
    comes_as = (connection.security_profile or 0) if connection else 0
    operates = may_operate(request.user)
    asked = _asked(row)
    held = list(InstalledCertificate.objects.filter(charge_point=row).order_by("type", "id")[:50])
    context = {
        "title": f"Security: {row.cp_id}",
        "charge_point": row,
        "may_operate": operates,
        "key": key,
        "words": WORDS,
        "connection": connection,
        "profile_words": WORDS.get(row.security_profile, ""),
        "comes_words": WORDS.get(connection.security_profile, "") if connection and connection.security_profile is not None else "",
        "pending_words": WORDS.get(row.pending_security_profile or 0, ""),
        "higher": _higher(row, comes_as, now),
        "lower": [(profile, WORDS[profile]) for profile in reversed(PROFILES) if profile < row.security_profile],
        "key_asked": rotation.of(row).first(),
        "profile_asked": security_profiles.of(row),
        "certificates": list(ChargerCertificate.objects.filter(charge_point=row).defer("csr", "chain").order_by("-id")[:ROWS]),
        "authority": bool(settings.CHARGER_CA_DIR),
        "organisation": settings.CPO_NAME,
        "names": [name for name in certificates.names(row) if name],
        "held": _named(held),
        "last_root": [one for one in held if one.type == roots.CENTRAL][-1:] if _only_one(held) else [],
        "roots": list(RootCertificate.objects.order_by("name")[:100]) if operates else [],
        "events": list(SecurityEvent.objects.filter(charge_point=row).order_by("-id")[:ROWS]),
        "alerts": [
            (one, alerts.words(one.kind))
            for one in Alert.objects.filter(charge_point=row, cleared_at__isnull=True).order_by("-last_at")[:ROWS]
        ],
        "refused": _refused(row),
        "asked": asked,
        "said_none": any(one.action == "GetInstalledCertificateIds" and one.state == CommandState.EFFECTIVE for one in asked),
        "now": now,
    }
    return render(request, "csms/security.html", {**admin.site.each_context(request), **context})


def _higher(row: ChargePoint, comes_as: int, now: datetime) -> list[dict[str, Any]]:
    """The profiles above its own: what they ask for, why it cannot be asked to move there, whether it meets them already."""
    has_key = bool(row.credentials_hash or row.pending_credentials_hash)
    has_certificate = certificates.proven(row.pk, now)
    return [
        {
            "profile": target,
            "words": WORDS[target],
            "why_not": may_raise(row.security_profile, target, has_key=has_key, has_certificate=has_certificate),
            "meets": comes_as >= target and (target == 3 or bool(row.credentials_hash)),
        }
        for target in PROFILES
        if target > row.security_profile
    ]


def _only_one(held: list[InstalledCertificate]) -> bool:
    return len([one for one in held if one.type == roots.CENTRAL]) == 1


def _named(held: list[InstalledCertificate]) -> list[tuple[InstalledCertificate, str]]:
    """The roots it holds, with our own name for those we know."""
    known: dict[str, str] = {}
    for root in RootCertificate.objects.order_by("name")[:100] if held else []:
        try:
            known[pem.hash_data(root.pem)["issuerKeyHash"] + f"{int(pem.read_certificate(root.pem).serial, 16):x}"] = root.name
        except Unusable:
            continue
    return [(one, known.get(one.issuer_key_hash.casefold() + one.serial_number.casefold().lstrip("0"), "")) for one in held]


def _asked(row: ChargePoint) -> list[Command]:
    """What was asked of it here, among the newest commands."""
    newest = Command.objects.filter(charge_point=row).order_by("-id").values("pk")[:300]
    return list(Command.objects.filter(pk__in=newest, trigger__in=TRIGGERS).order_by("-id")[:8])


def _refused(row: ChargePoint) -> list[dict[str, Any]]:
    """Who was turned away under its identity, in any case of letters."""
    entries = AuditEntry.objects.filter(target_type="csms.chargepoint", target_id=row.cp_id, action="connection.refused")
    return [
        {"at": entry.at, "address": entry.actor, "why": REFUSALS.get(entry.trigger, entry.trigger)}
        for entry in entries.order_by("-id")[:ROWS]
    ]


def _charge_point(request: HttpRequest, pk: int) -> ChargePoint:
    return get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station"), pk=pk)


def _who(request: HttpRequest) -> str:
    return request.user.get_username()


def _profile(request: HttpRequest) -> int:
    number = _number(request, "profile")
    if number not in PROFILES:
        raise ValidationError("There are security profiles 0 to 3.")
    return number


def _number(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else -1
