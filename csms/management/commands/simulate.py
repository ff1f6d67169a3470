"""manage.py simulate: chargers that are not there, on real lines, in real time."""

import asyncio
import logging
import random
import signal
import ssl
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from csms.models import Connector
from csms.simulator import charger as chargers
from csms.simulator import faults, fleet, habits, profiles, script
from csms.simulator.client import Line
from voltaro import clock


class Help(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's, that leaves the lists below the options as they are."""


class Command(BaseCommand):
    help = "Run simulated chargers (OCPP 1.6J over WebSocket) until Ctrl-C."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        width = max(len(name) for name in habits.STRANGE)
        lists = [
            f"{heading}:\n" + "\n".join(f"  {name:{width}}  {what}" for name, what in rows.items())
            for heading, rows in {
                "habits (--habit)": {name: one.what for name, one in habits.STRANGE.items()},
                "faults (--faults)": faults.FAULTS,
            }.items()
        ]
        script_help = "scripts (--script):\n" + (script.__doc__ or "").partition("\n\n")[2]
        return super().create_parser(prog_name, subcommand, formatter_class=Help, epilog="\n\n".join([*lists, script_help]), **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        chosen = parser.add_mutually_exclusive_group()
        chosen.add_argument("--chargers", nargs="+", metavar="CP_ID", help="these; default: all of the fleet file")
        chosen.add_argument("--all", action="store_true", help="all chargers of the fleet file")
        parser.add_argument("--url", default="ws://127.0.0.1:8000", help="the server; /ocpp/<cp_id> is added (default: %(default)s)")
        parser.add_argument(
            "--keys", type=Path, metavar="FILE", help='{cp_id: key}, or {cp_id: {"key", "connectors", "reserved"}} as seed_demo writes it'
        )
        parser.add_argument("--key", help="one key for all --chargers without one in the file")
        parser.add_argument("--type", default="ccs2", help="connector type of chargers that neither file nor database knows")
        parser.add_argument("--max-kw", type=float, default=60, help="and their power (default: %(default)g)")
        parser.add_argument("--connectors", type=int, default=1, help="and how many connectors they have (default: 1)")
        parser.add_argument("--script", type=Path, metavar="FILE", help="what people do at them: SECONDS CP_ID DEED [ARGUMENTS] a line")
        parser.add_argument(
            "--memory",
            type=Path,
            metavar="FILE",
            help="meters, open transactions and what the server has set, kept from one run to the next",
        )
        parser.add_argument("--seed", type=int, default=None, help="the same seed lives the same life")
        parser.add_argument("--sample-every", type=int, default=2, metavar="SECONDS", help="MeterValueSampleInterval (default: 2)")
        parser.add_argument("--transaction-data", action="store_true", help="StopTransaction carries transactionData")
        parser.add_argument("--alone", action="store_true", help="no driver comes by itself after a remote start (use --script)")
        parser.add_argument(
            "--signal-every", type=int, default=180, metavar="SECONDS", help="signal quality by DataTransfer; 0: never (default: 180)"
        )
        parser.add_argument("--security-events", action="store_true", help="tell every boot as a security event too")
        parser.add_argument(
            "--habit",
            action="append",
            default=[],
            metavar="NAME",
            help="a strange way of all of them, or CP_ID=NAME of one; may be repeated; see below",
        )
        parser.add_argument("--faults", default="", metavar="NAMES", help="comma-separated; see below")
        parser.add_argument("--faults-every", type=float, default=60, metavar="SECONDS", help="about; for drop and reboot (default: 60)")
        parser.add_argument("--secure-url", metavar="URL", help="where to go from security profile 2 on (default: --url with wss)")
        parser.add_argument("--ca", type=Path, metavar="FILE", help="the root certificate to believe there (default: the system's)")
        parser.add_argument("--riders", type=int, default=0, metavar="N", help="up to N riders at once pay small amounts (needs --sandbox)")
        parser.add_argument("--sandbox", metavar="URL", help="the Razorpay sandbox where riders pay")

    def handle(self, **asked: Any) -> None:
        if asked["riders"] and not asked["sandbox"]:
            raise CommandError("--riders needs --sandbox URL")
        if asked["sample_every"] < 1 or asked["signal_every"] < 0:
            raise CommandError("--sample-every must be 1 or more, --signal-every 0 or more")
        try:
            members = self._members(asked)
            asked["tls"] = ssl.create_default_context(cafile=str(asked["ca"])) if asked["ca"] else None
            asked["strange"] = self._strange(asked["habit"], members)
            wanted_faults = faults.parse(asked["faults"])
            deeds = script.read(asked["script"].read_text()) if asked["script"] else []
        except (ValueError, OSError) as reason:
            raise CommandError(str(reason)) from None
        if unknown := sorted({deed.cp_id for deed in deeds} - set(members) - {"*"}):
            raise CommandError(f"the script names chargers that do not run: {', '.join(unknown)}")
        seed = random.randrange(1_000_000) if asked["seed"] is None else asked["seed"]  # noqa: S311 - a toy's dice
        self.stdout.write(f"{len(members)} chargers at {asked['url']}, seed {seed}; Ctrl-C ends them")
        logging.getLogger("websockets").setLevel(logging.CRITICAL)
        asyncio.run(self._run(members, asked, wanted_faults, deeds, seed))
        self.stdout.write("all chargers have hung up")

    def _members(self, asked: dict[str, Any]) -> dict[str, fleet.Member]:
        """Which chargers, from the fleet file where it knows them, else from the database, else as the options say."""
        known = fleet.read_file(asked["keys"]) if asked["keys"] else {}
        if not asked["chargers"]:
            if not known:
                raise ValueError("name the chargers (--chargers CP_ID ...) or give a fleet file (--keys FILE)")
            return known
        from_file = {cp_id: known[cp_id] for cp_id in asked["chargers"] if cp_id in known}
        return from_file | {cp_id: self._member(cp_id, asked) for cp_id in asked["chargers"] if cp_id not in known}

    @staticmethod
    def _member(cp_id: str, asked: dict[str, Any]) -> fleet.Member:
        rows = Connector.objects.filter(charge_point_id=cp_id).order_by("connector_id")
        connectors = [{"type": row.type, "max_power_w": row.max_power_w} for row in rows]
        if not connectors:
            connectors = [{"type": asked["type"], "max_power_w": round(asked["max_kw"] * 1000)}] * asked["connectors"]
        return fleet.Member(cp_id, asked["key"], connectors)

    @staticmethod
    def _strange(asked: list[str], members: dict[str, fleet.Member]) -> dict[str, frozenset[str]]:
        """Each charger's strange ways: those of all, and its own (`CP_ID=NAME`)."""
        own: dict[str, list[str]] = {cp_id: [] for cp_id in members}
        for one in asked:
            cp_id, named, names = one.rpartition("=")
            if named and cp_id not in members:
                raise ValueError(f"--habit {one}: no such charger runs")
            for name in [cp_id] if named else members:
                own[name].append(names)
        return {cp_id: habits.parse(names) for cp_id, names in own.items()}

    async def _run(
        self, members: dict[str, fleet.Member], asked: dict[str, Any], wanted: frozenset[str], deeds: list[script.Deed], seed: int
    ) -> None:
        lines = {}
        for cp_id, member in members.items():
            plugs = [profiles.plug(one["type"], one["max_power_w"]) for one in member.connectors]
            own = habits.Habits(
                sample_every_s=asked["sample_every"],
                transaction_data=asked["transaction_data"],
                signal_every_s=asked["signal_every"],
                security_events=asked["security_events"],
                strange=asked["strange"][cp_id],
                **({"arrives_after_s": None, "leaves_after_s": None} if asked["alone"] else {}),
            )
            made = chargers.make(cp_id, plugs, seed=seed, habits=own, faults=wanted, faults_every_s=asked["faults_every"])
            lines[cp_id] = Line(
                made,
                asked["url"],
                member.key,
                clock=clock.now,
                tell=lambda note, cp_id=cp_id: self._tell(f"{cp_id} {note}"),
                tick_s=0.25 if len(members) <= 50 else 1.0,
                on_new_key=(lambda key, cp_id=cp_id: fleet.write_key(asked["keys"], cp_id, key)) if asked["keys"] else None,
                secure_url=asked["secure_url"],
                tls=asked["tls"],
            )
        if asked["memory"]:
            try:
                fleet.recall(asked["memory"], {cp_id: line.charger for cp_id, line in lines.items()}, clock.now())
            except ValueError as reason:
                raise CommandError(str(reason)) from None
        running = fleet.Fleet(lines, clock=clock.now, tell=self._tell)
        jobs = [fleet.follow(deeds)] if deeds else []
        if asked["memory"]:
            jobs.append(fleet.remember(asked["memory"]))
        if asked["riders"]:
            dice = random.Random(seed)  # noqa: S311
            jobs.append(fleet.ride(asked["sandbox"], members, at_once=asked["riders"], rng=dice))
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, running.stop.set)
        await running.run(*jobs)

    def _tell(self, note: str) -> None:
        self.stdout.write(f"{clock.now():%H:%M:%S} {note}")
        self.stdout.flush()
