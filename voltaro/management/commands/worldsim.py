"""manage.py worldsim WHAT: seeded simulated worlds of chargers, riders and Razorpay around our own code (docs/simulation.md)."""

import sys
from importlib import import_module
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

# Each a module with a docstring, `arguments(parser)` and `handle(options, say) -> exit code`.
PARTS = {
    "run": "voltaro.worldsim.run",
    "summary": "voltaro.worldsim.summary",
    "replay": "voltaro.worldsim.replay",
    "shrink": "voltaro.worldsim.shrink",
    "mutants": "voltaro.worldsim.mutants",
}


class Command(BaseCommand):
    help = "Live seeded worlds, each on a database of its own (never the configured one), and say what was broken."

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
        for name, module in PARTS.items():
            part = import_module(module)
            summary = (part.__doc__ or "").splitlines()[0]
            part.arguments(kinds.add_parser(name, help=summary, description=summary))

    def handle(self, *args: Any, **options: Any) -> None:
        def say(text: str) -> None:
            self.stdout.write(text)
            self.stdout.flush()

        code = import_module(PARTS[options["what"]]).handle(options, say)
        if code:
            sys.exit(code)
