"""A session's power and energy over time, thinned to what a screen can show."""

from typing import Any

from django.db.models import F, Window
from django.db.models.functions import Mod, RowNumber

from csms.models import ChargingSession, MeterReading

POINTS = 600


def curve(session: ChargingSession) -> dict[str, list[Any]]:
    """Columns for the chart: `at` (seconds since 1970), `power_w`, `energy_wh` (since the start), `soc_pct`; two queries."""
    readings = MeterReading.objects.filter(session=session)
    step = -(-readings.count() // POINTS)
    if step > 1:
        readings = readings.annotate(turn=Mod(Window(RowNumber(), order_by=[F("at"), F("id")]), step)).filter(turn=0)
    rows = list(readings.order_by("at", "id").values_list("at", "power_w", "energy_wh", "soc_pct"))
    start = session.meter_start_wh
    if start is None:
        start = next((row[2] for row in rows if row[2] is not None), 0)
    return {
        "at": [round(row[0].timestamp()) for row in rows],
        "power_w": [row[1] for row in rows],
        # A register that was changed or went back is not drawn: the session's own energy is what counts.
        "energy_wh": [None if row[2] is None or row[2] < start else row[2] - start for row in rows],
        "soc_pct": [row[3] for row in rows],
    }
