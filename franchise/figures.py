"""The portal's numbers: days of earnings and energy, what waits and why, drawings as plain numbers for SVG attributes."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from csms.models import ChargePoint, ChargingSession, Connector, SessionState
from franchise.models import CommissionLedgerEntry
from franchise.rules.gate import REASONS

Status = CommissionLedgerEntry.Status
DAYS = 30
# A chart's drawing board, in its own units.
WIDE, HIGH, FOOT, HEAD = 600, 134, 24, 26
CURVE_WIDE, CURVE_HIGH = 600, 180


@dataclass(frozen=True)
class Day:
    """One day in India: sessions shared on it, what they earned (paise, to be paid out) and sold (Wh)."""

    on: date
    sessions: int = 0
    payable: int = 0
    energy_wh: int = 0


def midnight(on: date) -> datetime:
    """The beginning of a day in India."""
    return timezone.make_aware(datetime.combine(on, datetime.min.time()))


def days(entries: QuerySet[CommissionLedgerEntry], now: datetime, number: int = DAYS + 1) -> list[Day]:
    """The last `number` days, today last; one query over those days only."""
    today = timezone.localtime(now).date()
    first = today - timedelta(days=number - 1)
    rows = entries.filter(created_at__gte=midnight(first)).order_by().annotate(day=TruncDate("created_at")).values("day")
    found = {row["day"]: row for row in rows.annotate(n=Count("pk"), payable=Sum("payable"), energy_wh=Sum("energy_wh"))}
    return [
        Day(on, row.get("n", 0), row.get("payable", 0), row.get("energy_wh", 0))
        for on in (first + timedelta(days=n) for n in range(number))
        for row in [found.get(on, {})]
    ]


def open_sums(entries: QuerySet[CommissionLedgerEntry]) -> dict[str, dict[str, int]]:
    """Paise and number of what waits, is held, has failed: {status: {paise, n}}."""
    sums = {status: {"paise": 0, "n": 0} for status in (Status.PENDING, Status.ON_HOLD, Status.FAILED)}
    rows = entries.filter(status__in=list(sums)).order_by().values("status").annotate(paise=Sum("payable"), n=Count("pk"))
    return sums | {row["status"]: {"paise": row["paise"], "n": row["n"]} for row in rows}


def bars(days: list[Day], field: str) -> dict[str, Any]:
    """A bar chart of one figure of these days."""
    values = [getattr(day, field) for day in days]
    top, step = max([*values, 1]), WIDE // len(days)
    drawn = []
    for n, (day, value) in enumerate(zip(days, values, strict=True)):
        high = max(value * (HIGH - HEAD) // top, 2 if value > 0 else 0)
        drawn.append(
            {"x": n * step + 2, "y": HIGH - high, "w": step - 4, "h": high, "mid": n * step + step // 2, "day": day, "value": value}
        )
    labels = [bar for n, bar in enumerate(reversed(drawn)) if n % 10 == 0]
    return {"bars": drawn, "labels": labels, "wide": WIDE, "high": HIGH + FOOT, "base": HIGH, "label_y": HIGH + 19, "top": top}


def curve(columns: dict[str, list[Any]]) -> dict[str, Any] | None:
    """A session's power (W) and charge (%) over time as points of polylines; None when there is nothing to draw."""
    at = columns["at"]
    if len(at) < 2 or at[-1] <= at[0]:
        return None
    top = max([power for power in columns["power_w"] if power is not None], default=0)
    lines = {"power": _points(at, columns["power_w"], max(top, 1)), "soc": _points(at, columns["soc_pct"], 100)}
    if not any(lines.values()):
        return None
    return {**lines, "top": top, "wide": CURVE_WIDE, "high": CURVE_HIGH, "from": at[0], "to": at[-1], "seconds": at[-1] - at[0]}


def _points(at: list[int], values: list[int | None], top: int) -> str:
    wide, whole = CURVE_WIDE, at[-1] - at[0]
    known = [(t, value) for t, value in zip(at, values, strict=True) if value is not None]
    return " ".join(f"{(t - at[0]) * wide // whole},{CURVE_HIGH - value * (CURVE_HIGH - 10) // top}" for t, value in known)


def with_outlets(rows: list[ChargePoint]) -> list[ChargePoint]:
    """Give each charger its connectors and each connector its running session: two queries however many there are."""
    by_charger: dict[str, list[Connector]] = {row.cp_id: [] for row in rows}
    live = ChargingSession.objects.exclude(state=SessionState.STOPPED).filter(charge_point__in=[row.pk for row in rows])
    running = {session.connector_id: session for session in live.defer("id_tag", "user", "vehicle")}
    owners = {row.cp_id: row.company_id for row in rows}
    for connector in Connector.objects.filter(charge_point__in=list(by_charger)).order_by("connector_id"):
        session = running.get(connector.pk)
        # A session begun before the charger changed hands is the old owner's.
        connector.running = session if session and session.company_id == owners[connector.charge_point_id] else None
        by_charger[connector.charge_point_id].append(connector)
    for row in rows:
        row.outlets = by_charger[row.cp_id]
        row.codes = " ".join(connector.code for connector in row.outlets)
    return rows


def explain(entries: list[CommissionLedgerEntry], closed_gates: dict[int, str]) -> list[CommissionLedgerEntry]:
    """Say on each entry, in words, what it waits for now (`why`)."""
    for entry in entries:
        entry.why = _why(entry, closed_gates)
    return entries


def _why(entry: CommissionLedgerEntry, closed_gates: dict[int, str]) -> str:
    match entry.status:
        case Status.ON_HOLD if entry.booked_at is None:
            return REASONS.get(entry.hold_reason, "")
        case Status.ON_HOLD:
            return closed_gates.get(entry.franchisee_id, "Being released")
        case Status.FAILED:
            return "The transfer failed several times; the operator has been told"
        case Status.PENDING if entry.payout_id and entry.payout.state == "failed":
            return "The transfer failed and is tried again"
        case Status.PENDING if entry.payout_id:
            return "The transfer is on its way"
        case Status.SETTLED if entry.payable == 0:
            return "Razorpay's fee was more than the energy; the platform bears it" if entry.net_excl_gst < 0 else "Nothing to pay"
    return ""
