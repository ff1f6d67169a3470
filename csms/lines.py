"""What the rows say of a charger's lines: where it came from, who took over from whom, what broke them."""

from datetime import datetime, timedelta

from django.db import connection

from csms import alerts, quirks
from csms.models import Alert, Command, CommandState, Connection
from csms.rules import connection as rule
from csms.rules.connection import Takeover, Timers
from csms.rules.habits import Habits

# Whose alerts end by themselves, when they have not been raised again for so long.
PASSING = ("contested", "flapping", "garbage")
PASSING_S = 3600
# An unanswered call of at least this many bytes, and a line that broke within so many seconds of it.
LARGE_BYTES = 1500
LARGE_S = 15
_LAST = 20


def timers_of(habits: Habits) -> Timers:
    """All timers of this charger's line, from how long it may be silent."""
    return rule.timers(quirks.silence_s(habits))


_CAME_FROM = """
SELECT EXISTS (SELECT 1 FROM csms_chargepoint c CROSS JOIN LATERAL (
    SELECT remote_address, opened_at FROM csms_connection WHERE charge_point_id = c.id ORDER BY epoch DESC LIMIT %s) n
  WHERE upper(c.cp_id) = upper(%s) AND n.remote_address = %s AND n.opened_at > %s)"""


def came_from(identity: str, address: str, since: datetime) -> bool:
    """Whether one of this charger's last sockets, since then, came from this address."""
    with connection.cursor() as cursor:
        cursor.execute(_CAME_FROM, [_LAST, identity, address[:64], since])
        return bool(cursor.fetchone()[0])


_TAKEOVERS = """
SELECT closed_at, remote_address FROM (
    SELECT closed_at, remote_address, close_reason, lease_until FROM csms_connection WHERE charge_point_id = %s ORDER BY epoch DESC LIMIT %s
  ) last WHERE close_reason = 'replaced' AND lease_until >= closed_at"""


def replaced(charge_point_pk: int, address: str, now: datetime) -> str:
    """A socket from `address` has taken over from a live one: raise an alert when that happens too often. The alert's kind, or ""."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKEOVERS, [charge_point_pk, _LAST])
        takeovers = [Takeover(*row) for row in cursor.fetchall()]
    found = rule.flapping(takeovers, address, now)
    if found is None:
        return ""
    count, addresses = found
    minutes = rule.FLAPPING_S // 60
    if len(addresses) > 1:
        kind = "contested"
        detail = f"{count} takeovers in {minutes} minutes from {len(addresses)} addresses; has somebody its key? {', '.join(addresses)}"
    else:
        kind, detail = "flapping", f"{count} takeovers in {minutes} minutes, all from {', '.join(addresses) or 'one address'}"
    alerts.raise_alert(charge_point_pk, kind, detail, now)
    return kind


def left(process: str, now: datetime) -> int:
    """The rows of a process that ends and had too many lines to put each away: the sweep finds its chargers at its next beat."""
    mine = Connection.objects.filter(process=process, closed_at__isnull=True)
    return mine.update(closed_at=now, close_code=1012, close_reason="restart")


def calm(now: datetime) -> int:
    """Put away the alerts about lines that have been calm for an hour."""
    passed = Alert.objects.filter(cleared_at__isnull=True, kind__in=PASSING, last_at__lt=now - timedelta(seconds=PASSING_S))
    return passed.update(cleared_at=now, cleared_by="calm for an hour", updated_at=now)


def broke_after(charge_point_pk: int, unique_id: str, size: int, now: datetime) -> None:
    """The line broke right after a large call of ours: some chargers have 2 KiB for a frame, and die of more."""
    lost = Command.objects.filter(charge_point_id=charge_point_pk, unique_id=unique_id, state=CommandState.UNKNOWN, note="")
    lost.update(note=f"size suspect: the line broke right after these {size} bytes", updated_at=now)
