"""manage.py seed_demo: the demo network. Asking again is quick and changes nothing that is there."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.actor import acting
from accounts.models import Company, Membership, User
from accounts.roles import Role
from billing import tariffs
from csms import authority
from csms.models import Station
from csms.simulator import fleet
from franchise import franchisees
from franchise.models import Franchisee
from voltaro import clock, network

NETWORK = "Voltaro Networks"
FRANCHISEES = {
    "kaveri": franchisees.Wish(
        "Kaveri Charging", NETWORK, "Kaveri Rao", "kaveri@example.in", "+919845012301", "AAGCK4321M", "29AAGCK4321M1Z5", "Karnataka",
        share_bp=7000, linked_account="acc_KaveriDemo0001", activated=True,
    ),
    "ganga": franchisees.Wish(
        "Ganga EV", NETWORK, "Ganga Iyer", "ganga@example.in", "+919845012302", "AAHCG8765P", "33AAHCG8765P1Z2", "Tamil Nadu",
        share_bp=7500, linked_account="acc_GangaDemo00001", activated=True,
    ),
}  # fmt: skip
STATIONS = {
    "Indiranagar Hub": ("kaveri", "100 Feet Road, Indiranagar", "Bengaluru", "Karnataka", "560038", "12.978400", "77.640800"),
    "Mysuru Ring Road": ("kaveri", "Outer Ring Road, Vijayanagar", "Mysuru", "Karnataka", "570017", "12.337500", "76.615000"),
    "OMR Plaza": ("ganga", "Rajiv Gandhi Salai, Perungudi", "Chennai", "Tamil Nadu", "600096", "12.965300", "80.246100"),
}
# Charger: station, connector type, kW, connectors. The one left to real people is marked in FOR_PEOPLE.
CHARGERS = {
    "VLT-BLR-01": ("Indiranagar Hub", "ccs2", 60, 2),
    "VLT-BLR-02": ("Indiranagar Hub", "ccs2", 60, 1),
    "VLT-BLR-03": ("Indiranagar Hub", "type2", 22, 2),
    "VLT-BLR-04": ("Indiranagar Hub", "socket", 3.3, 1),
    "VLT-MYS-01": ("Mysuru Ring Road", "ccs2", 30, 1),
    "VLT-MYS-02": ("Mysuru Ring Road", "type2", 22, 1),
    "VLT-CHN-01": ("OMR Plaza", "ccs2", 60, 2),
    "VLT-CHN-02": ("OMR Plaza", "socket", 3.3, 2),
}
FOR_PEOPLE = "VLT-BLR-02"
PRICE = {"rate_paise_per_kwh": 1525, "gst_bp": 1800, "igst": False, "platform_fee_bp": 0}
PEOPLE = {"om": "operator", "admin": "administrator", "kaveri": "franchisee", "ganga": "franchisee", "asha": "rider"}


class Command(BaseCommand):
    help = "Set up the demo network: companies, stations, chargers with QRs, tariffs, people. Needs the Razorpay sandbox."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keys-file", type=Path, metavar="FILE", help="write the simulated fleet's keys there (0600)")
        parser.add_argument("--set-passwords", action="store_true", help="also of people who are there already")
        parser.add_argument("--json", action="store_true", help="print facts as JSON (always done)")

    def handle(self, *args: Any, **asked: Any) -> None:
        if settings.PROD:
            raise CommandError("The demo network is for dev and test, not for production.")
        password = os.environ.get("VOLTARO_DEMO_PASSWORD") or secrets.token_urlsafe(12)
        try:
            with acting("command", "seed_demo"):
                company = franchisees.network_company(NETWORK)
                Company.objects.filter(pk=company.pk, state="").update(state="Karnataka", legal_name="Voltaro Networks Private Limited")
                owners = {name: franchisees.add(wish).franchisee for name, wish in FRANCHISEES.items()}
                people = _people(company, owners, password, again=asked["set_passwords"])
                members = _chargers(owners, asked["keys_file"])
                _tariffs(company)
                if settings.CHARGER_CA_DIR:
                    authority.create(clock.now())
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        facts = {"network": company.name, "people": PEOPLE, "new_people": people, "chargers": members}
        if people and "VOLTARO_DEMO_PASSWORD" not in os.environ:
            facts["password"] = password
        shown = next(iter(members[FOR_PEOPLE]["connectors"]))
        facts["for_people"] = {"cp_id": FOR_PEOPLE, "page": f"{settings.PUBLIC_BASE_URL}/c/{shown['code']}/", "qr_id": shown["qr_id"]}
        self.stdout.write(json.dumps(facts, indent=1))


def _people(company: Company, owners: dict[str, Franchisee], password: str, *, again: bool) -> list[str]:
    """The demo's people; who is new, or has the password set again. Others keep the password they have."""
    changed = []
    for name, role in PEOPLE.items():
        user, new = User.objects.get_or_create(username=name, defaults={"email": f"{name}@example.in"})
        if new or again:
            user.set_password(password)
            user.is_staff = name in ("om", "admin")
            user.is_superuser = name == "admin"
            user.save()
            changed.append(name)
        if role == "operator":
            Membership.objects.get_or_create(user=user, company=company, role=Role.OPERATOR)
        elif role == "franchisee":
            Membership.objects.get_or_create(user=user, company=owners[name].company, role=Role.FRANCHISEE)
    return changed


def _chargers(owners: dict[str, Franchisee], keys_file: Path | None) -> dict[str, dict[str, Any]]:
    """The chargers, and the fleet file with their keys. A key that is not in the file is set anew: it cannot be read back."""
    known = fleet.read_file(keys_file) if keys_file and keys_file.exists() else {}
    document: dict[str, Any] = {}
    shown: dict[str, dict[str, Any]] = {}
    for cp_id, (station, type, kw, connectors) in CHARGERS.items():
        owner, address, city, state, pin_code, latitude, longitude = STATIONS[station]
        place = {"address": address, "city": city, "state": state, "pin_code": pin_code, "latitude": latitude, "longitude": longitude}
        old_key = known[cp_id].key if cp_id in known else None
        done = network.set_up(
            cp_id,
            connectors=connectors,
            type=type,
            max_power_w=round(kw * 1000),
            station=station,
            place=place,
            franchisee=owners[owner],
            key=secrets.token_hex(16) if keys_file and not old_key else None,
        )
        if done.qr_trouble:
            raise CommandError(f"{cp_id}: {done.qr_trouble}. Is the Razorpay sandbox running at {settings.RAZORPAY_BASE_URL}?")
        facts = done.facts()
        key = facts.pop("key", old_key)
        wanted = ("type", "max_power_w", "qr_id")
        plugs = [{name: connector[name] for name in wanted} for connector in facts["connectors"]]
        document[cp_id] = {"key": key, "connectors": plugs, "reserved": cp_id == FOR_PEOPLE}
        shown[cp_id] = facts
    if keys_file:
        fleet.write_file(keys_file, document)
    return shown


def _tariffs(company: Company) -> None:
    tariffs.add("Standard", {"company": company}, PRICE)
    plaza = Station.objects.get(name="OMR Plaza", company__parent=company)
    tariffs.add("OMR Plaza", {"station": plaza}, {**PRICE, "rate_paise_per_kwh": 1640, "platform_fee_bp": 200})
