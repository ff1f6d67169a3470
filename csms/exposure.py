"""What chargers that we cannot hear may be delivering beyond what is paid: per session, per charger, in all; one statement.

Counted are live sessions with a limit, and sessions that we ended because nobody answered, while their charger is still away:
it may charge on, and the rest of the money has gone back. What was truly delivered beyond is measured when it is heard of again
(`ChargingSession.overrun_wh`, late readings).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from accounts.roles import companies_of, sees_everything
from csms.models import ChargingSession
from csms.rules import exposure as rule
from csms.rules.exposure import Unheard

# A charger that was away for longer has other troubles than this.
AWAY_AT_MOST = timedelta(days=2)
SHOWN = 100
_SESSIONS = """
WITH candidates AS (
  SELECT s.id, s.charge_point_id, s.connector_id, s.company_id, s.state, s.energy_wh, s.limit_wh, s.bounded_wh, s.bounded_until,
    s.peak_power_w, coalesce(s.register_at, s.last_activity_at) AS heard_at
  FROM csms_chargingsession s WHERE s.state <> 'STOPPED' AND s.limit_wh IS NOT NULL AND {live}
  UNION ALL
  SELECT s.id, s.charge_point_id, s.connector_id, s.company_id, s.state, s.energy_wh, s.limit_wh, s.bounded_wh, s.bounded_until,
    s.peak_power_w, coalesce(s.register_at, s.last_activity_at) AS heard_at
  FROM csms_chargepoint p JOIN csms_connector o ON o.charge_point_id = p.cp_id
  CROSS JOIN LATERAL (SELECT * FROM csms_chargingsession l WHERE l.connector_id = o.id ORDER BY l.id DESC LIMIT 1) s
  WHERE NOT p.online AND s.state = 'STOPPED' AND s.limit_wh IS NOT NULL AND 'inferred' = ANY (s.flags)
    AND s.stop_reason IN ('DISCONNECT_TIMEOUT', 'FLAPPING', 'SILENCE') AND s.ended_at > %(now)s - %(away)s
    AND (p.last_seen IS NULL OR p.last_seen <= s.ended_at) AND {ended}
), flowing AS (
  SELECT a.id, a.charge_point_id, c.cp_id, n.connector_id AS connector_no, a.state <> 'STOPPED' AS live, c.online, a.heard_at,
    greatest(0, floor(extract(epoch FROM %(now)s - a.heard_at)))::bigint AS silent_s, a.energy_wh, a.limit_wh, a.bounded_wh,
    greatest(0, floor(extract(epoch FROM a.bounded_until - a.heard_at)))::bigint AS bounds_s, a.bounded_until,
    a.peak_power_w, n.max_power_w,
    CASE WHEN a.peak_power_w > 0 THEN least(a.peak_power_w, n.max_power_w) ELSE n.max_power_w END::bigint AS power_w
  FROM candidates a JOIN csms_connector n ON n.id = a.connector_id JOIN csms_chargepoint c ON c.id = a.charge_point_id
), delivered AS (
  SELECT *, least(energy_wh + least(power_w * CASE WHEN bounded_until IS NULL THEN silent_s ELSE least(silent_s, bounds_s) END / 3600,
    %(most)s),
    CASE WHEN bounded_wh IS NOT NULL THEN greatest(bounded_wh, energy_wh) END) AS may_wh FROM flowing
), exposed AS (
  SELECT *, greatest(0, may_wh - CASE WHEN live THEN limit_wh ELSE least(limit_wh, energy_wh) END) AS exposed_wh FROM delivered
)
"""
_LIST = """
SELECT id, charge_point_id, cp_id, connector_no, live, online, heard_at, silent_s, energy_wh, limit_wh, bounded_wh,
  CASE WHEN bounded_until IS NOT NULL THEN bounds_s END, peak_power_w, max_power_w, exposed_wh,
  count(*) OVER (), coalesce(sum(exposed_wh) OVER (), 0), count(*) FILTER (WHERE exposed_wh > 0) OVER ()
FROM exposed WHERE exposed_wh > 0 OR NOT online OR silent_s > %(patience)s ORDER BY exposed_wh DESC, silent_s DESC, id LIMIT %(shown)s"""
_CHARGERS = """
SELECT charge_point_id, cp_id, count(*), sum(exposed_wh)::bigint FROM exposed WHERE exposed_wh > 0
GROUP BY 1, 2 ORDER BY 4 DESC, 2 LIMIT %(shown)s"""


@dataclass(frozen=True)
class Row:
    """One session that is not heard, or that may be beyond what is paid."""

    session_id: int
    charge_point_id: int
    cp_id: str
    connector_no: int
    online: bool
    heard_at: datetime
    facts: Unheard
    exposed_wh: int

    @property
    def delivered_wh(self) -> int:
        return rule.delivered_wh(self.facts)

    @property
    def power_w(self) -> int:
        return rule.power_w(self.facts)

    @property
    def within_s(self) -> int | None:
        return rule.within_s(self.facts)


@dataclass(frozen=True)
class Exposure:
    """The worst first, SHOWN of them at most; the totals are of all."""

    rows: list[Row]
    unheard: int = 0
    exposed: int = 0
    exposed_wh: int = 0


def look(now: datetime, *, user: Any = None, charge_point_pk: int | None = None) -> Exposure:
    """What is unheard now: of everything, of what this person may see, or of one charger (whose page checked that)."""
    found = _ask(_LIST, now, user, charge_point_pk)
    rows = []
    for pk, charge_point, cp_id, no, live, online, heard_at, silent_s, energy, limit, bounded, flows_s, peak, most, exposed, *_ in found:
        facts = Unheard(energy, limit, peak, most, silent_s, live, bounded, flows_s)
        rows.append(Row(pk, charge_point, cp_id, no, online, heard_at, facts, exposed))
    unheard, exposed_wh, exposed = found[0][-3:] if found else (0, 0, 0)
    return Exposure(rows, unheard, exposed, int(exposed_wh))


def by_charger(now: datetime, *, user: Any = None) -> list[tuple[int, str, int, int]]:
    """(key, identity, sessions, exposed Wh) of the chargers that may be delivering unpaid energy, the worst first."""
    return _ask(_CHARGERS, now, user, None)


def of(session: ChargingSession, now: datetime) -> Unheard | None:
    """One session's own facts (its connector known); None when nobody has set it a limit, or it is over and known to be."""
    if session.limit_wh is None or not session.live:
        return None
    heard_at = session.register_at or session.last_activity_at
    return Unheard(
        energy_wh=session.energy_wh,
        limit_wh=session.limit_wh,
        peak_power_w=session.peak_power_w,
        max_power_w=session.connector.max_power_w,
        silent_s=max(0, int((now - heard_at).total_seconds())),
        bounded_wh=session.bounded_wh,
        flows_s=max(0, int((session.bounded_until - heard_at).total_seconds())) if session.bounded_until else None,
    )


def _ask(which: str, now: datetime, user: Any, charge_point_pk: int | None) -> list[Any]:
    told: dict[str, Any] = {
        "now": now,
        "away": AWAY_AT_MOST,
        "most": rule.MOST_WH,
        "patience": settings.HEARTBEAT_TIMEOUT_S,
        "shown": SHOWN,
        "charge_point": charge_point_pk,
    }
    live = ended = "true"
    if charge_point_pk is not None:
        live, ended = "s.charge_point_id = %(charge_point)s", "p.id = %(charge_point)s"
    elif user is not None and not sees_everything(user):
        told["companies"] = companies_of(user)
        live, ended = "s.company_id = ANY (%(companies)s)", "s.company_id = ANY (%(companies)s)"
    with connection.cursor() as cursor:
        cursor.execute(_SESSIONS.format(live=live, ended=ended) + which, told)
        return list(cursor.fetchall())
