"""manage.py sweep NAME: run a background worker by hand; --list says which there are."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.actor import acting
from voltaro import clock
from voltaro.celery import BATCH, WORKERS

SHOWN = 20


class Command(BaseCommand):
    help = "Run a background worker now until nothing is due; --dry-run only says what is due."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", metavar="NAME")
        parser.add_argument("--list", action="store_true", help="the workers, with their beat, their bells and what is due")
        parser.add_argument("--dry-run", action="store_true", help="say what is due, change nothing")
        parser.add_argument("--json", action="store_true", help="print facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            self._list(options["json"])
            return
        name = options["name"]
        if name not in WORKERS:
            raise CommandError(f"{'Say which' if not name else f'There is no {name}'}: {', '.join(WORKERS)}.")
        if options["dry_run"]:
            self._dry_run(name, options["json"])
            return
        done = 0
        with acting("command", f"sweep {name}"):
            while True:
                now = int(WORKERS[name].function("work")(clock.now(), BATCH))
                done += now
                if now < BATCH:
                    break
        self._tell(options["json"], {"worker": name, "done": done}, f"{name}: {done} done.")

    def _list(self, as_json: bool) -> None:
        facts = [
            {"worker": name, "every_s": worker.every_s, "bells": list(worker.bells), "what": worker.what, "due": _count(name)}
            for name, worker in WORKERS.items()
        ]
        lines = [f"{one['worker']:20} {one['every_s']:>6g} s  {one['due']:>6} due  {one['what']}" for one in facts]
        self._tell(as_json, facts, "\n".join(lines))

    def _dry_run(self, name: str, as_json: bool) -> None:
        rows = WORKERS[name].function("due")(clock.now())
        count, first = rows.count(), [str(row) for row in rows[:SHOWN]]
        more = [f"… and {count - len(first)} more"] if count > len(first) else []
        self._tell(as_json, {"worker": name, "due": count, "rows": first}, "\n".join([f"{name}: {count} due.", *first, *more]))

    def _tell(self, as_json: bool, facts: Any, text: str) -> None:
        self.stdout.write(json.dumps(facts, indent=2) if as_json else text)


def _count(name: str) -> int:
    return int(WORKERS[name].function("due")(clock.now()).count())
