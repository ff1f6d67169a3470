"""Why has it not worked since yesterday? One glance at a charger: presence, faults, its last good session, its last socket."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings

from csms.models import Alert, ChargePoint, ChargerError, ChargingSession, Connection, Registration, SessionState

# A socket's close code in words (RFC 6455 §7.4.1); what is not here is shown as its number.
CLOSE_CODES = {
    1000: "closed normally",
    1001: "it went away, or was silent for too long",
    1002: "protocol error",
    1003: "unreadable data",
    1006: "the line broke",
    1008: "refused by a rule",
    1009: "a message was too large",
    1011: "our database was away, or an error of ours",
    1012: "our server restarted",
    1013: "it does not read what we send",
}


# Alerts in words, where their detail alone would not say it (csms/alerts.py).
ALERTS = {
    "command_timeouts": "It talks, but does not answer what it is asked.",
    "not_obeying": "It does not do what it was told.",
}


@dataclass
class Health:
    """`level` is good, warn or bad; `findings` say why, the gravest first; times are aware."""

    level: str
    findings: list[str]
    last_good: ChargingSession | None
    connection: Connection | None
    errors: list[ChargerError] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)

    @property
    def headline(self) -> str:
        return self.findings[0] if self.findings else "Working: online, no open faults."

    @property
    def close_words(self) -> str:
        code = self.connection.close_code if self.connection else None
        return "" if code is None else f"{code}, {CLOSE_CODES[code]}" if code in CLOSE_CODES else str(code)


def look(charge_point: ChargePoint, now: datetime) -> Health:
    """Five bounded queries: open faults and alerts, the newest socket, the last session that delivered energy, one count."""
    errors = list(ChargerError.objects.filter(charge_point=charge_point, resolved_at__isnull=True).order_by("-id")[:10])
    connection = Connection.objects.filter(charge_point=charge_point).order_by("-epoch").first()
    sessions = ChargingSession.objects.filter(charge_point=charge_point, state=SessionState.STOPPED)
    last_good = sessions.filter(energy_wh__gt=0).order_by("-id").first()
    tried = sessions.filter(energy_wh=0, pk__gt=last_good.pk if last_good else 0).order_by("-id")[:20].count()
    open_alerts = list(Alert.objects.filter(charge_point=charge_point, cleared_at__isnull=True).order_by("-last_at")[:10])
    health = Health("good", [], last_good, connection, errors, open_alerts)
    for level, finding in _findings(charge_point, health, tried, now):
        health.findings.append(finding)
        if level == "bad" or health.level == "good":
            health.level = level
    return health


def _findings(charge_point: ChargePoint, health: Health, tried: int, now: datetime) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if charge_point.blocked:
        found.append(("bad", "Blocked: an operator has closed the door to this charger."))
    if charge_point.registration != Registration.ACCEPTED:
        found.append(("bad", f"Registration is {charge_point.registration}: it may not start sessions."))
    if health.connection is None:
        found.append(("bad", "Has never connected. Check the address, the identity and the key set in the charger."))
    elif not charge_point.online:
        why = f" ({health.close_words})" if health.close_words else ""
        found.append(("bad", f"Offline: its last connection ended{why}."))
    elif charge_point.last_seen and now - charge_point.last_seen > timedelta(seconds=settings.HEARTBEAT_TIMEOUT_S):
        found.append(("warn", "Silent: the connection is open, but nothing has been heard in time."))
    for error in health.errors[:3]:
        where = f"Connector {error.connector_no}" if error.connector_no else "The charger"
        detail = " · ".join(part for part in (error.vendor_error_code, error.info) if part)
        found.append(("bad", f"{where} reports {error.error_code}{f' ({detail})' if detail else ''}."))
    for alert in health.alerts:
        found.append(("warn", f"{ALERTS.get(alert.kind, '')} {alert.detail}".strip() or alert.kind.replace("_", " ").capitalize()))
    if tried >= 2:
        found.append(("warn", f"The last {tried} sessions delivered no energy."))
    if charge_point.online and health.last_good and now - health.last_good.ended_at > timedelta(days=1):
        found.append(("warn", "No session has delivered energy for more than a day."))
    return found
