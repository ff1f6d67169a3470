"""Setting a charger up: what spans the apps when one joins the network. Used by `add_charger` and `seed_demo`."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError

from accounts.models import Company
from billing import qr, razorpay
from csms import stations
from csms.models import ChargePoint, Station
from franchise import franchisees
from franchise.models import Franchisee


@dataclass
class SetUp:
    """A charger as it stands now. `key` is there only when it was set now: it cannot be read again."""

    charge_point: ChargePoint
    created: bool
    key: str | None
    qr_trouble: str = ""

    def facts(self) -> dict[str, Any]:
        charge_point = self.charge_point
        facts: dict[str, Any] = {
            "cp_id": charge_point.cp_id,
            "created": self.created,
            "url": socket_url(charge_point.cp_id),
            "security_profile": charge_point.security_profile,
            "company": charge_point.company.name,
            "station": charge_point.station.name if charge_point.station else None,
        }
        if self.key:
            facts["key"] = self.key
        facts["connectors"] = [
            {
                "connector_id": connector.connector_id,
                "type": connector.type,
                "max_power_w": connector.max_power_w,
                "code": connector.code,
                "qr_id": connector.qr_codes.filter(status="active").values_list("razorpay_id", flat=True).first(),
                "page": f"{settings.PUBLIC_BASE_URL}/c/{connector.code}/",
            }
            for connector in charge_point.connectors.order_by("connector_id")
        ]
        return facts


def socket_url(cp_id: str) -> str:
    """Where this charger connects: ws:// or wss://, as the public address is http:// or https://."""
    base = urlsplit(settings.PUBLIC_BASE_URL)
    return f"{'wss' if base.scheme == 'https' else 'ws'}://{base.netloc}{base.path}/ocpp/{quote(cp_id, safe='')}"


def find_franchisee(given: str) -> Franchisee:
    """By id, or by its company's name. Raises ValidationError when there is none."""
    rows = Franchisee.objects.select_related("company")
    found = rows.filter(pk=int(given)).first() if given.isdigit() else rows.filter(company__name__iexact=given.strip()).first()
    if found is None:
        known = ", ".join(f"{row.pk} {row}" for row in rows.order_by("pk")[:20]) or "none yet; see add_franchisee"
        raise ValidationError(f"There is no franchisee {given} (there are: {known}).")
    return found


def set_up(
    cp_id: str,
    *,
    connectors: int = 1,
    type: str = "ccs2",
    max_power_w: int = 60_000,
    station: str | None = None,
    place: dict[str, Any] | None = None,
    franchisee: Franchisee | None = None,
    key: str | None = None,
    no_auth: bool = False,
) -> SetUp:
    """Set a charger up, with its station, its owner and a QR on every connector. Asking again changes only what is given.

    `place` is what a new station starts with (address, city, ...). A Razorpay that cannot be reached leaves the connectors
    without QRs and says so in `qr_trouble`: asking again makes them. Raises ValidationError.
    """
    known = ChargePoint.objects.filter(cp_id=cp_id).select_related("company").first()
    if franchisee is not None:
        company = franchisee.company
    elif known is not None:
        company = known.company
    else:
        company = franchisees.network_company()
    charge_point, shown, created = stations.add_charge_point(
        cp_id,
        company=company,
        station=_station(station, company, place or {}) if station else None,
        connectors=connectors,
        type=type,
        max_power_w=max_power_w,
        key=key,
        no_auth=no_auth,
    )
    if franchisee is not None:
        franchisees.assign(charge_point, franchisee)
    done = SetUp(ChargePoint.objects.select_related("company", "station").get(pk=charge_point.pk), created, shown)
    for connector in done.charge_point.connectors.order_by("connector_id"):
        try:
            qr.ensure_qr(connector)
        except (razorpay.Declined, razorpay.TryAgain, razorpay.Unknown) as error:
            done.qr_trouble = f"no QR for connector {connector.connector_id}: {error}"
            break
    return done


def _station(name: str, company: Company, place: dict[str, Any]) -> Station:
    found, _ = Station.objects.get_or_create(name=name.strip(), company=company, defaults=place)
    return found
