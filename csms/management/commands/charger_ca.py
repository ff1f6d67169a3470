"""manage.py charger_ca: our own authority for chargers' certificates."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit
from accounts.actor import acting
from csms import authority, certificates, pem
from csms.models import ChargerCertificate
from voltaro import clock


class Command(BaseCommand):
    help = (
        "Make our authority for chargers' certificates (a root and what it signs with) in CHARGER_CA_DIR, or show it. Prints JSON. "
        "Keep root.key elsewhere once it is made; CHARGER_CA_PASSPHRASE locks the keys."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--crl", action="store_true", help="write who is revoked, for the proxy, anew")
        parser.add_argument("--nginx-folder", default=authority.NGINX_FOLDER, metavar="PATH", help="where nginx finds the public folder")
        parser.add_argument("--json", action="store_true", help="print JSON (always done)")

    def handle(self, *args: Any, **asked: Any) -> None:
        now = clock.now()
        try:
            with acting("command", "charger_ca"):
                made = authority.create(now)
                public = authority.publish(certificates.revoked(), now, asked["nginx_folder"]) if made or asked["crl"] else None
                papers = [pem.read_certificate(text) for text in authority.certificates()]
                if made:
                    audit.record("authority.made", ChargerCertificate(pk=0), after={"root": papers[1].sha256})
        except authority.Unavailable as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{error.filename or authority.folder()}: {error.strerror}.") from None
        facts = {
            "folder": str(authority.folder()),
            "made": made,
            "public": str(public or Path(authority.folder()) / "public"),
            "root_key_is_here": (authority.folder() / "root.key").exists(),
            "certificates": [{"name": one.common_name, "until": one.not_after.isoformat(), "sha256": one.sha256} for one in papers],
            "revoked": len(certificates.revoked()),
        }
        self.stdout.write(json.dumps(facts, indent=2))
