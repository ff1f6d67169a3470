"""manage.py add_charger CP_ID: set a charger up, and print what it and its stickers need."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.actor import acting
from csms.models import ConnectorType
from voltaro import network


class Command(BaseCommand):
    help = "Set a charger up and print JSON: its URL, its key (once, when new), its connectors with their QRs and pages."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cp_id", metavar="CP_ID", help="its OCPP identity, the last part of its URL")
        parser.add_argument("--connectors", type=int, default=1, metavar="N", help="how many (default 1)")
        parser.add_argument("--type", choices=ConnectorType.values, default="ccs2", help="of its connectors (default ccs2)")
        parser.add_argument("--max-kw", default=None, metavar="K", help="of each connector (default 60; socket 3.3, type2 22)")
        parser.add_argument("--station", metavar="NAME", help="where it stands; made when new")
        parser.add_argument("--franchisee", metavar="ID", help="whose it is: id or name (default: the network's own)")
        key = parser.add_mutually_exclusive_group()
        key.add_argument("--key", help="its password, 16 to 40 characters (default: a random one, shown once)")
        key.add_argument("--no-auth", action="store_true", help="let it connect without a password (security profile 0)")
        parser.add_argument("--json", action="store_true", help="print JSON (always done)")

    def handle(self, *args: Any, **asked: Any) -> None:
        kw = asked["max_kw"] or {"socket": "3.3", "type2": "22"}.get(asked["type"], "60")
        try:
            watts = int(Decimal(kw) * 1000)
        except (InvalidOperation, OverflowError, ValueError):
            raise CommandError(f"--max-kw {kw} is not a number.") from None
        try:
            with acting("command", "add_charger"):
                done = network.set_up(
                    asked["cp_id"],
                    connectors=asked["connectors"],
                    type=asked["type"],
                    max_power_w=watts,
                    station=asked["station"],
                    franchisee=network.find_franchisee(asked["franchisee"]) if asked["franchisee"] else None,
                    key=asked["key"],
                    no_auth=asked["no_auth"],
                )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(json.dumps(done.facts(), indent=2))
        if done.qr_trouble:
            raise CommandError(f"The charger is set up, but {done.qr_trouble}. Run the same command again when Razorpay can be reached.")
