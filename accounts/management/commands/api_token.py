"""manage.py api_token USER NAME: make a token for the REST API, shown once; or revoke one."""

import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import tokens
from accounts.actor import acting
from accounts.models import ApiToken, User
from voltaro import clock


class Command(BaseCommand):
    help = "Make a token for the REST API (shown once), or revoke those of a name."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="the token may do what this person may")
        parser.add_argument("name", metavar="NAME", help="what uses it")
        parser.add_argument("--days", type=int, metavar="N", help="it ends after N days (default: when it is revoked)")
        parser.add_argument("--revoke", action="store_true", help="revoke this person's tokens of that name instead")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **asked: Any) -> None:
        user = User.objects.filter(username=asked["user"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no person {asked['user']} who may sign in.")
        if not asked["name"].strip() or len(asked["name"]) > 60:
            raise CommandError("NAME has 1 to 60 characters.")
        if asked["days"] is not None and asked["days"] < 1:
            raise CommandError("--days must be 1 or more.")
        with acting("command", "api_token"):
            if asked["revoke"]:
                rows = ApiToken.objects.filter(user=user, name=asked["name"], revoked_at__isnull=True).select_related("user")
                done = sum(tokens.revoke(row) for row in rows)
                facts: dict[str, Any] = {"user": user.get_username(), "name": asked["name"], "revoked": done}
            else:
                until = clock.now() + timedelta(days=asked["days"]) if asked["days"] else None
                row, text = tokens.make(user, asked["name"].strip(), until)
                facts = {"user": user.get_username(), "name": row.name, "token": text, "expires_at": until.isoformat() if until else None}
        if asked["json"]:
            self.stdout.write(json.dumps(facts, indent=2))
        elif asked["revoke"]:
            self.stdout.write(f"{facts['revoked']} revoked.")
        else:
            self.stdout.write(f"{facts['token']}\nKeep it now: it is not shown again.")
