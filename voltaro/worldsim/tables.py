"""What the auditor asks our tables with, and what energy is worth by a frozen price: reckoned here once more, not by our code."""

import json
from typing import Any

from django.db import connection


def values(sql: str, *given: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given or None)
        return list(cursor.fetchall())


def rows(sql: str, *given: Any) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given or None)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def priced(wh: int, snapshot: Any) -> tuple[int, int, int]:
    """(the energy, half of the tax in the state, the tax between states) in paise."""
    price = json.loads(snapshot) if isinstance(snapshot, str) else snapshot
    energy = half_up(wh * price["rate_paise_per_kwh"], 1000)
    cgst = 0 if price["igst"] else half_up(energy * price["gst_bp"], 20_000)
    return energy, cgst, half_up(energy * price["gst_bp"], 10_000) if price["igst"] else 0


def worth(wh: int, snapshot: Any) -> int:
    """The energy with its tax, in paise."""
    energy, cgst, igst = priced(wh, snapshot)
    return energy + 2 * cgst + igst


def half_up(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
