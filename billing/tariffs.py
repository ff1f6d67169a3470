"""Which price holds at a connector, and new versions of prices."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Case, IntegerField, Q, Value, When

from accounts import audit
from billing.models import Tariff
from csms.models import Connector
from voltaro import clock

_PRICE = ("rate_paise_per_kwh", "gst_bp", "igst", "platform_fee_bp")


def for_connector(connector: Connector, at: datetime) -> Tariff | None:
    """The tariff at this connector at that time: the charger's own, else its station's, its company's, the network's, everybody's.

    Within one of these the newest that has begun counts.
    """
    charge_point = connector.charge_point
    network = charge_point.company.parent_id
    # A tariff's narrowest scope says where it holds: one for a charger may also name the charger's company.
    no_charger, no_place = Q(charge_point=None), Q(charge_point=None, station=None)
    steps = [
        Q(charge_point=charge_point),
        Q(station=charge_point.station_id, station__isnull=False) & no_charger,
        Q(company=charge_point.company_id) & no_place,
        Q(company=network, company__isnull=False) & no_place,
        Q(company=None) & no_place,
    ]
    whens = [When(step, then=Value(place)) for place, step in enumerate(steps)]
    return (
        Tariff.objects.filter(valid_from__lte=at)
        .annotate(place=Case(*whens, default=None, output_field=IntegerField()))
        .filter(place__isnull=False)
        .order_by("place", "-valid_from", "-pk")
        .first()
    )


@transaction.atomic
def add(name: str, scope: dict[str, Any], price: dict[str, Any]) -> tuple[Tariff, bool]:
    """The tariff of this name and scope with this price: the newest version if it says the same, else a new one (True).

    `scope` holds at most one of company, station, charge_point; `price` holds the rate (paise per kWh), GST and fee (basis
    points) and igst.
    """
    where = {"company": None, "station": None, "charge_point": None, **scope}
    newest = Tariff.objects.select_for_update(of=("self",)).filter(name=name, **where).order_by("-version").first()
    if newest and all(getattr(newest, field) == price[field] for field in _PRICE):
        return newest, False
    tariff = Tariff.objects.create(name=name, **where, **price, version=newest.version + 1 if newest else 1, valid_from=clock.now())
    audit.record("tariff.added", tariff, before=newest.snapshot() if newest else None, after=tariff.snapshot())
    return tariff, True
