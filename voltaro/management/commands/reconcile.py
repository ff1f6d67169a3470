"""manage.py reconcile --day YYYY-MM-DD: Razorpay's day against our day; exit 1 when they differ."""

import json
import sys
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.actor import acting
from billing import razorpay, reconcile
from billing.models import Difference
from voltaro import clock


class Command(BaseCommand):
    help = "Compare a day (IST) of Razorpay's report with our books. Differences become rows; running it again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--day", required=True, metavar="YYYY-MM-DD")
        parser.add_argument("--json", action="store_true", help="print facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            day = date.fromisoformat(options["day"])
        except ValueError:
            raise CommandError(f"--day {options['day']} is not a day; write it as YYYY-MM-DD.") from None
        if day > timezone.localdate(clock.now()):
            raise CommandError(f"{day} has not come yet.")
        try:
            with acting("command", "reconcile"):
                row = reconcile.run(day)
        except (razorpay.TryAgain, razorpay.Unknown, razorpay.Declined) as error:
            raise CommandError(f"Razorpay did not answer: {error}") from None
        open_ = list(Difference.objects.filter(day=day, resolved_at=None).order_by("pk"))
        if options["json"]:
            shown = [
                {"kind": one.kind, "subject": one.subject, "ours_paise": one.ours_paise, "theirs_paise": one.theirs_paise, "note": one.note}
                for one in open_
            ]
            facts = {"day": str(day), "items": row.items, "matched": row.matched, "foreign": row.foreign, "differences": shown}
            self.stdout.write(json.dumps(facts, indent=2))
        else:
            for one in open_:
                self.stdout.write(f"{one.kind:18} {one.subject:24} ours {one.ours_paise} theirs {one.theirs_paise} paise {one.note}")
            self.stdout.write(f"{day}: {row.items} lines, {row.matched} as in our books, {row.foreign} not ours, {len(open_)} differences.")
        if row.done_at is None:
            raise CommandError(f"{row.last_error}. The day stays open and is compared again.")
        if open_:
            sys.exit(1)
