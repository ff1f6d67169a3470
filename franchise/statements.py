"""Earnings as a CSV file, streamed: bounded reads, one after another, however long the history; safe to open in a spreadsheet."""

import csv
from collections.abc import AsyncIterator
from datetime import date
from io import StringIO

from asgiref.sync import sync_to_async
from django.db.models import Q, QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone

from csms.templatetags.console import kwh
from franchise import figures
from franchise.models import CommissionLedgerEntry

ROWS = 500
COLUMNS = [
    *("date", "session", "charger", "site", "energy kWh", "paid by rider", "returned to rider", "GST", "Razorpay fee", "net"),
    *("platform commission", "TDS", "to you", "status", "remark", "payout", "transfer", "settlement"),
]


def download(entries: QuerySet[CommissionLedgerEntry], closed_gates: dict[int, str], since: date, until: date) -> StreamingHttpResponse:
    """The entries, oldest first, as a file. Amounts in rupees with two decimals."""
    response = StreamingHttpResponse(_stream(entries, closed_gates), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="earnings-{since}-to-{until}.csv"'
    return response


async def _stream(entries: QuerySet[CommissionLedgerEntry], closed_gates: dict[int, str]) -> AsyncIterator[str]:
    yield _lines([COLUMNS])
    last: CommissionLedgerEntry | None = None
    while chunk := await sync_to_async(_read)(entries, last):
        last = chunk[-1]
        yield _lines([_row(entry) for entry in figures.explain(chunk, closed_gates)])


def _read(entries: QuerySet[CommissionLedgerEntry], last: CommissionLedgerEntry | None) -> list[CommissionLedgerEntry]:
    if last is not None:
        entries = entries.filter(Q(created_at__gt=last.created_at) | Q(created_at=last.created_at, pk__gt=last.pk))
    rows = entries.select_related("payout", "session__charge_point__station", "correction").order_by("created_at", "pk")
    return list(rows.defer("session__id_tag", "session__user")[:ROWS])


def _row(entry: CommissionLedgerEntry) -> list[str]:
    charger, payout = entry.session.charge_point, entry.payout
    return [
        timezone.localtime(entry.created_at).strftime("%Y-%m-%d %H:%M"),
        str(entry.session_id),
        safe(charger.cp_id),
        safe(charger.station.name if charger.station else ""),
        kwh(entry.energy_wh),
        *(amount(getattr(entry, name)) for name in ("gross", "refund", "gst_collected", "pg_fee", "net_excl_gst")),
        *(amount(getattr(entry, name)) for name in ("platform_commission", "tds", "payable")),
        entry.get_status_display(),
        safe(_remark(entry)),
        str(payout.pk) if payout else "",
        safe(payout.razorpay_id or "") if payout else "",
        safe(payout.settlement_id) if payout else "",
    ]


def _remark(entry: CommissionLedgerEntry) -> str:
    """What it waits for; and what of it is taken off another payout, because its bill was corrected after it was paid."""
    less = getattr(entry, "correction", None)
    if less is None or not less.deducted:
        return entry.why
    where = f"payout {less.payout_id}" if less.payout_id else "the next payout"
    return f"{entry.why}; bill corrected: {amount(less.payable)} taken off {where}".removeprefix("; ")


def amount(paise: int) -> str:
    """Rupees with two decimals, in whole numbers all the way."""
    return f"{'-' if paise < 0 else ''}{abs(paise) // 100}.{abs(paise) % 100:02d}"


def safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) or (text[:1] in "\t\r\n" and text) else text


def _lines(rows: list[list[str]]) -> str:
    out = StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
