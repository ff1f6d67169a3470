"""The signal of chargers' modems, as a series: what they report by DataTransfer, and the chart of it."""

from datetime import datetime, timedelta
from typing import Any

from csms.models import SignalQuality
from csms.rules import signal

POINTS = 600
# A charger that reports more often is answered, and its reports in between are left out.
LEAST_APART_S = 20


def record(charge_point_pk: int, data: Any, now: datetime) -> str:
    """Store one report; "" when it was good, else why it is refused and nothing is stored."""
    found, refused = signal.read(data)
    if found is None:
        return refused
    mine = SignalQuality.objects.filter(charge_point_id=charge_point_pk)
    if not mine.filter(at__gt=now - timedelta(seconds=LEAST_APART_S)).exists():
        SignalQuality.objects.create(
            charge_point_id=charge_point_pk, rssi=found.rssi, ber=found.ber, temperature_c=found.temperature_c, at=now
        )
    return ""


def latest(charge_point_pk: int) -> SignalQuality | None:
    return SignalQuality.objects.filter(charge_point_id=charge_point_pk).order_by("-at").first()


def series(charge_point_pk: int, since: datetime) -> dict[str, list[Any]]:
    """Columns for the chart: `at` (seconds since 1970), `dbm`, `ber`, `temperature_c`; one query, at most POINTS x 4 rows read."""
    rows = list(
        SignalQuality.objects.filter(charge_point_id=charge_point_pk, at__gte=since)
        .order_by("-at")
        .values_list("at", "rssi", "ber", "temperature_c")[: POINTS * 4]
    )[::-1]
    rows = rows[:: -(-len(rows) // POINTS) or 1]
    return {
        "at": [round(row[0].timestamp()) for row in rows],
        "dbm": [None if row[1] is None else signal.dbm(row[1]) for row in rows],
        "ber": [row[2] for row in rows],
        "temperature_c": [row[3] for row in rows],
    }
