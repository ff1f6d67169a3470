"""What chargers report of their own security (SecurityEventNotification). Always thanked for; a flood of one kind is one row.

Types and what they mean: OCPP 1.6 security whitepaper edition 3, its table of security events; the names OCPP 2.0.1 gave some of
them are known too, and any other is kept as it came.
"""

from datetime import datetime, timedelta

from django.db.models import F, QuerySet

from csms import alerts
from csms.events import SecurityEventReported
from csms.models import SecurityEvent

ALERT = "security_event"
# A person should look at these. The whitepaper's own mark "critical" says what must be sent, which is most of what is ordinary
# (every start, every clock that is set) and not what is grave.
GRAVE = {
    "AttemptedReplayAttacks",
    "CentralSystemFailedToAuthenticate",
    "InvalidCentralSystemCertificate",
    "InvalidChargePointCertificate",
    "InvalidFirmwareSignature",
    "InvalidFirmwareSigningCertificate",
    "InvalidTLSCipherSuite",
    "InvalidTLSVersion",
    "MemoryExhaustion",
    "SecurityLogWasCleared",
    "TamperDetectionActivated",
    # OCPP 2.0.1
    "CsmsFailedToAuthenticate",
    "InvalidChargingStationCertificate",
    "InvalidCsmsCertificate",
    "MaintenanceLoginFailed",
}
_GRAVE = {name.casefold(): name for name in GRAVE}
FOLD_S = 3600
# So many different events of one charger within FOLD_S are rows of their own; further ones are counted together.
ROWS = 50
OTHERS = "Others"


def received(charge_point_pk: int, said: SecurityEventReported, now: datetime) -> SecurityEvent:
    """Keep an event, or count it once more; a grave one raises an alert."""
    since = now - timedelta(seconds=FOLD_S)
    kind = said.type.strip()[:50] or "Unknown"
    mine = SecurityEvent.objects.filter(charge_point=charge_point_pk)
    grave = kind.casefold() in _GRAVE
    event = _again(mine, kind, since)
    if event is None and not grave and mine.filter(received_at__gt=since).order_by("-id")[ROWS - 1 : ROWS].exists():
        kind = OTHERS
        event = _again(mine, kind, since)
    tech_info = said.tech_info[:255]
    if event is None:
        event = SecurityEvent.objects.create(
            charge_point_id=charge_point_pk,
            type=kind,
            tech_info=tech_info,
            at=said.at or now,
            received_at=now,
            last_received_at=now,
            critical=grave,
        )
    else:
        SecurityEvent.objects.filter(pk=event.pk).update(count=F("count") + 1, last_received_at=now, tech_info=tech_info or event.tech_info)
    if grave:
        alerts.raise_alert(charge_point_pk, ALERT, f"{kind}{f': {tech_info}' if tech_info else ''}", now)
    return event


def _again(mine: QuerySet[SecurityEvent], kind: str, since: datetime) -> SecurityEvent | None:
    return mine.filter(type=kind, received_at__gt=since).order_by("-received_at").first()
