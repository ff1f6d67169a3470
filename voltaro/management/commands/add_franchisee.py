"""manage.py add_franchisee NAME: take a franchisee in, or bring what is known of them up to date."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.actor import acting
from franchise import franchisees
from franchise.models import Contract


class Command(BaseCommand):
    help = "Take a franchisee in: company, contract, linked account, portal user. Asking twice changes nothing the second time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the company's name; also how it is found again")
        parser.add_argument("--network", help="the company that runs the chargers (needed when there are several)")
        parser.add_argument("--contact", dest="contact_name", help="a person's name")
        parser.add_argument("--email")
        parser.add_argument("--phone")
        parser.add_argument("--pan", help="like ABCDE1234F")
        parser.add_argument("--gstin", help="like 29ABCDE1234F1Z5")
        parser.add_argument("--state", help="of registration, e.g. Karnataka")
        parser.add_argument("--share", metavar="PERCENT", help="the franchisee's share of the net (default 70)")
        parser.add_argument("--tds", metavar="PERCENT", help="deducted from the share (default 0.1)")
        parser.add_argument("--fee-borne-by", choices=Contract.FeeBorneBy.values, help="who bears Razorpay's fee (default franchisee)")
        parser.add_argument("--linked-account", metavar="acc_...", help="their Razorpay Route account, where payouts go")
        parser.add_argument("--product", metavar="acc_prd_...", help="its Route product, by which its activation is asked")
        parser.add_argument("--activated", action="store_true", help="you have seen that Razorpay activated it, 24 hours ago or more")
        parser.add_argument("--user", dest="username", help="sign-in name for the portal")
        parser.add_argument("--password", help="or 'generated' (the default for a new user): shown once")
        parser.add_argument("--json", action="store_true", help="print facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        wish = franchisees.Wish(
            share_bp=_basis_points("--share", options["share"]),
            tds_bp=_basis_points("--tds", options["tds"]),
            **{name: options[name] for name in _NAMES},
        )
        try:
            with acting("command", "add_franchisee"):
                added = franchisees.add(wish)
        except ValidationError as error:
            raise CommandError("\n".join(error.messages)) from None
        facts = _facts(added)
        if options["json"]:
            self.stdout.write(json.dumps(facts, indent=2))
        else:
            self.stdout.write("\n".join(f"{name:16} {value}" for name, value in facts.items() if value is not None))


_NAMES = [
    *("name", "network", "contact_name", "email", "phone", "pan", "gstin", "state", "fee_borne_by"),
    *("linked_account", "product", "activated", "username", "password"),
]


def _basis_points(option: str, text: str | None) -> int | None:
    """A percentage as basis points; at most two decimals, so that nothing is rounded."""
    if text is None:
        return None
    try:
        points = Decimal(text.rstrip("%")) * 100
    except InvalidOperation:
        raise CommandError(f"{option} {text} is not a percentage.") from None
    if not points.is_finite() or points != int(points):
        raise CommandError(f"{option} {text}: two decimals at most.")
    return int(points)


def _facts(added: franchisees.Added) -> dict[str, Any]:
    account = getattr(added.franchisee, "linked_account", None)
    contract = added.contract
    return {
        "franchisee": added.franchisee.pk,
        "name": added.franchisee.company.name,
        "network": added.franchisee.company.parent.name,
        "created": added.created,
        "share_percent": f"{Decimal(contract.share_bp) / 100}",
        "tds_percent": f"{Decimal(contract.tds_bp) / 100}",
        "fee_borne_by": contract.fee_borne_by,
        "linked_account": account.razorpay_id if account else None,
        "account_status": account.status if account else None,
        "user": added.user.username if added.user else None,
        "password": added.password,
        "portal": f"{settings.PUBLIC_BASE_URL}/portal/",
    }
