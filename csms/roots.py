"""Root certificates in chargers: what they trust. Installed, listed and deleted by calls; what a charger says it holds is kept.

Without the last root of our own server a charger with TLS never comes back: deleting it needs a second word (whitepaper M04).
"""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from csms import commands, pem
from csms.models import ChargePoint, Command, InstalledCertificate, RootCertificate
from csms.pem import Unusable
from voltaro import clock

CENTRAL = RootCertificate.Type.CENTRAL_SYSTEM
FIELDS = ("hashAlgorithm", "issuerNameHash", "issuerKeyHash", "serialNumber")
# What a charger may hold is its own word: so much of it is kept.
MOST = 100
LONGEST = 5_500  # InstallCertificate.req


def install(charge_point: ChargePoint, root: RootCertificate, by: str = "") -> Command:
    """Ask the charger to trust this root."""
    payload = {"certificateType": root.type, "certificate": root.pem}
    return commands.request(charge_point, "InstallCertificate", payload, trigger="security page", expires_in_s=300, requested_by=by)


def read(charge_point: ChargePoint, kind: str, by: str = "", *, background: bool = False) -> Command:
    """Ask the charger which roots of this kind it holds."""
    payload = {"certificateType": kind}
    return commands.request(
        charge_point,
        "GetInstalledCertificateIds",
        payload,
        trigger="security page",
        expires_in_s=300,
        requested_by=by,
        background=background,
    )


@transaction.atomic
def delete(charge_point: ChargePoint, installed: InstalledCertificate, by: str = "", *, also_the_last: bool = False) -> Command:
    """Ask the charger to forget this root. Raises ValidationError for the last of our server, unless told so expressly."""
    payload = {"certificateHashData": hash_data(installed)}
    if not also_the_last:
        may_delete(charge_point, payload, clock.now())
    return commands.request(charge_point, "DeleteCertificate", payload, trigger="security page", expires_in_s=300, requested_by=by)


def may_delete(charge_point: ChargePoint, payload: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    """The payloads to send when somebody asks for a DeleteCertificate. Raises ValidationError for the last root of our server."""
    central = [hash_data(one) for one in InstalledCertificate.objects.filter(charge_point=charge_point, type=CENTRAL)[:MOST]]
    asked = payload.get("certificateHashData", {})
    if _is_in(asked, central) and all(_same(asked, one) for one in central):
        raise ValidationError("This is the last root of our server it holds: without it, it cannot connect over TLS.", "last_root")
    if not central and not InstalledCertificate.objects.filter(charge_point=charge_point).exists():
        raise ValidationError("Ask it first which roots it holds (GetInstalledCertificateIds): this may be its last.", "last_root")
    return [payload]


def hash_data(installed: InstalledCertificate) -> dict[str, str]:
    """What the charger calls it, exactly as it said."""
    values = (installed.hash_algorithm, installed.issuer_name_hash, installed.issuer_key_hash, installed.serial_number)
    return dict(zip(FIELDS, values, strict=True))


# -- what chargers answer ----------------------------------------------------------------------------------------------
def installed(command: Command, now: datetime) -> None:
    """InstallCertificate.conf: it trusts it now."""
    if (command.response or {}).get("status") != "Accepted":
        return
    try:
        data = pem.hash_data(str(command.payload.get("certificate", "")))
    except Unusable:
        return  # it has taken what we cannot read; what it holds, it will say
    _keep(command.charge_point_id, str(command.payload.get("certificateType", "")), data, now)


def listed(command: Command, now: datetime) -> None:
    """GetInstalledCertificateIds.conf: these and no others, of that kind."""
    response = command.response or {}
    kind, status = str(command.payload.get("certificateType", "")), response.get("status")
    if status not in ("Accepted", "NotFound"):
        return
    told = response.get("certificateHashData") if status == "Accepted" else []
    told = [one for one in (told if isinstance(told, list) else [told]) if isinstance(one, dict)][:MOST]
    kept = [_keep(command.charge_point_id, kind, one, now).pk for one in told]
    InstalledCertificate.objects.filter(charge_point=command.charge_point_id, type=kind).exclude(pk__in=kept).delete()


def deleted(command: Command, now: datetime) -> None:
    """DeleteCertificate.conf: it is gone, or was never there."""
    if (command.response or {}).get("status") not in ("Accepted", "NotFound"):
        return
    asked = command.payload.get("certificateHashData", {})
    for one in InstalledCertificate.objects.filter(charge_point=command.charge_point_id)[:MOST]:
        if _same(asked, hash_data(one)):
            one.delete()


def _keep(charge_point_pk: int, kind: str, data: dict[str, Any], now: datetime) -> InstalledCertificate:
    algorithm, name, key, serial = (str(data.get(field, "")) for field in FIELDS)
    for one in InstalledCertificate.objects.filter(charge_point=charge_point_pk, type=kind[:30])[:MOST]:
        if _same(data, hash_data(one)):
            InstalledCertificate.objects.filter(pk=one.pk).update(reported_at=now)
            return one
    return InstalledCertificate.objects.create(
        charge_point_id=charge_point_pk,
        type=kind[:30],
        hash_algorithm=algorithm[:10],
        issuer_name_hash=name[:128],
        issuer_key_hash=key[:128],
        serial_number=serial[:40],
        reported_at=now,
    )


def _is_in(asked: dict[str, Any], known: list[dict[str, str]]) -> bool:
    return any(_same(asked, one) for one in known)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Chargers write hashes in either case, and serial numbers with or without zeros before them."""
    return [_plain(one.get(field)) for field in FIELDS] == [_plain(other.get(field)) for field in FIELDS]


def _plain(value: Any) -> str:
    return str(value or "").strip().casefold().lstrip("0")
