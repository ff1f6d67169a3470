"""manage.py rotate_key CP_ID: have a charger change its key. Prints no key: nobody needs to read it."""

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.actor import acting
from csms import rotation
from csms.models import ChargePoint


class Command(BaseCommand):
    help = "Have a charger change its key over the wire. Both keys open the door until it comes in with the new one. Prints JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cp_id", metavar="CP_ID", help="the charger's OCPP identity")
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--again", action="store_true", help="send the key that waits once more, after an answer was lost")
        how.add_argument("--withdraw", action="store_true", help="the key that waits opens nothing any more")
        parser.add_argument("--json", action="store_true", help="print JSON (always done)")

    def handle(self, *args: Any, **asked: Any) -> None:
        charge_point = ChargePoint.objects.filter(cp_id=asked["cp_id"]).first()
        if charge_point is None:
            raise CommandError(f"There is no charger {asked['cp_id']}.")
        try:
            with acting("command", "rotate_key"):
                if asked["withdraw"]:
                    rotation.withdraw(charge_point, "rotate_key")
                    facts = {"charger": charge_point.cp_id, "state": "withdrawn"}
                else:
                    command = (rotation.send_again if asked["again"] else rotation.rotate_key)(charge_point, "rotate_key")
                    facts = {"charger": charge_point.cp_id, "command": command.pk, "state": command.state, "online": charge_point.online}
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(json.dumps(facts, indent=2))
