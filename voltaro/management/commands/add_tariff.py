"""manage.py add_tariff NAME --rate 15.25: a price, or a new version of it."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Model

from accounts.actor import acting
from accounts.models import Company
from billing import tariffs
from billing.rules.tariff import price
from csms.models import ChargePoint, Station


class Command(BaseCommand):
    help = "Set a price. The same values again change nothing; other values make a new version, in force from now on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--rate", required=True, metavar="RUPEES", help="per kWh, before GST, e.g. 15.25")
        parser.add_argument("--gst", default="18", metavar="PERCENT", help="default 18")
        parser.add_argument("--igst", action="store_true", help="inter-state: one IGST amount instead of CGST and SGST")
        parser.add_argument("--platform-fee-percent", default="0", metavar="PERCENT", help="of the amount paid; default 0")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--station", metavar="NAME", help="only at this station")
        where.add_argument("--charger", metavar="CP_ID", help="only at this charger")
        where.add_argument("--company", metavar="NAME", help="only at this company's chargers")
        parser.add_argument("--json", action="store_true", help="print facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"].strip()
        if not 1 <= len(name) <= 80:
            raise CommandError("A tariff's name has 1 to 80 characters.")
        values = {
            "rate_paise_per_kwh": hundredths("--rate", options["rate"], 1_000_000),
            "gst_bp": hundredths("--gst", options["gst"], 10_000),
            "igst": options["igst"],
            "platform_fee_bp": hundredths("--platform-fee-percent", options["platform_fee_percent"], 10_000),
        }
        with acting("command", "add_tariff"):
            tariff, new = tariffs.add(name, _scope(options), values)
        unit = price(1000, tariff.snapshot())
        facts = {"tariff": tariff.pk, "name": name, "version": tariff.version, "created": new, **values}
        facts |= {"where": _where(options), "paise_per_kwh_with_gst": unit.total}
        if options["json"]:
            self.stdout.write(json.dumps(facts, indent=2))
        else:
            did = "new" if new else "unchanged"
            self.stdout.write(f"{tariff} ({did}), {_where(options)}: {unit.total} paise per kWh with GST.")


def hundredths(option: str, text: str, most: int) -> int:
    """Rupees as paise, or percent as basis points: two decimals at most, never rounded."""
    try:
        value = Decimal(text.strip().rstrip("%")) * 100
    except InvalidOperation:
        raise CommandError(f"{option} {text} is not a number.") from None
    if not value.is_finite() or value != int(value) or not 0 <= value <= most:
        raise CommandError(f"{option} {text}: from 0 to {most / 100:g}, two decimals at most.")
    return int(value)


def _scope(options: dict[str, Any]) -> dict[str, Any]:
    if options["station"]:
        return {"station": _one(Station, "station", name=options["station"])}
    if options["charger"]:
        return {"charge_point": _one(ChargePoint, "charger", cp_id=options["charger"])}
    if options["company"]:
        return {"company": _one(Company, "company", name=options["company"])}
    return {}


def _one(model: type[Model], what: str, **key: str) -> Any:
    found = list(model._default_manager.filter(**key)[:2])
    if len(found) != 1:
        raise CommandError(f"There is {'no' if not found else 'more than one'} {what} called {next(iter(key.values()))}.")
    return found[0]


def _where(options: dict[str, Any]) -> str:
    return next((f"{kind} {options[kind]}" for kind in ("station", "charger", "company") if options[kind]), "everywhere")
