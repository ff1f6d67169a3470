"""Rows for tests, as plain functions, and the cast: operator Om, franchisees Kaveri and Ganga, driver Asha.

The network: Voltaro Networks runs the chargers of Kaveri (VLT-0001: one 60 kW CCS2 connector) and of Ganga (VLT-0002).
"""

from types import SimpleNamespace
from typing import Any

from accounts.models import Company, Membership, User
from accounts.roles import Role
from billing.models import QRCode, Tariff
from csms.models import ChargePoint, Connector, Station
from franchise.models import Contract, Franchisee, LinkedAccount, Ownership

PASSWORD = "correct horse battery"


def make_user(username: str, role: str | None = None, company: Company | None = None, **fields: Any) -> User:
    user = User.objects.create_user(username, password=PASSWORD, **fields)
    if role and company:
        Membership.objects.create(user=user, company=company, role=role)
        if role != Role.FRANCHISEE:
            user.is_staff = True
            user.save()
    return user


def make_charge_point(cp_id: str, company: Company, station: Station | None = None, *, connectors: int = 1, **fields: Any) -> ChargePoint:
    charge_point = ChargePoint.objects.create(cp_id=cp_id, company=company, station=station, **fields)
    for number in range(1, connectors + 1):
        make_connector(charge_point, number)
    return charge_point


def make_connector(charge_point: ChargePoint, number: int = 1, *, qr: bool = True, **fields: Any) -> Connector:
    connector = Connector.objects.create(
        charge_point=charge_point, connector_id=number, **{"status": "Available", "type": "ccs2", "max_power_w": 60_000, **fields}
    )
    if qr:
        QRCode.objects.create(connector=connector, razorpay_id=f"qr_{connector.code}{number:06d}", name=f"{charge_point.cp_id} {number}")
    return connector


def make_franchisee(name: str, network: Company, *, share_bp: int = 7000, linked: bool = True) -> Franchisee:
    company = Company.objects.create(name=name, parent=network, state="Karnataka")
    franchisee = Franchisee.objects.create(company=company, contact_name=name, email=f"{name.lower()}@example.in")
    Contract.objects.create(franchisee=franchisee, share_bp=share_bp, tds_bp=10)
    if linked:
        LinkedAccount.objects.create(franchisee=franchisee, razorpay_id=f"acc_{name}000000000"[:18], status="activated")
    return franchisee


def make_network() -> SimpleNamespace:
    """The cast and its network; the tariff is Rs 15.25/kWh + 18 % GST, no platform fee."""
    voltaro = Company.objects.create(name="Voltaro Networks", state="Karnataka")
    kaveri, ganga = make_franchisee("Kaveri", voltaro), make_franchisee("Ganga", voltaro)
    cast = SimpleNamespace(
        voltaro=voltaro,
        kaveri=kaveri,
        ganga=ganga,
        om=make_user("om", Role.OPERATOR, voltaro),
        admin=User.objects.create_superuser("admin", password=PASSWORD),
        kaveri_user=make_user("kaveri", Role.FRANCHISEE, kaveri.company),
        ganga_user=make_user("ganga", Role.FRANCHISEE, ganga.company),
        asha=make_user("asha"),
        tariff=Tariff.objects.create(name="Standard", rate_paise_per_kwh=1525, gst_bp=1800),
    )
    for number, franchisee in enumerate((kaveri, ganga), start=1):
        station = Station.objects.create(name=f"{franchisee} Hub", city="Bengaluru", company=franchisee.company)
        charge_point = make_charge_point(f"VLT-000{number}", franchisee.company, station)
        Ownership.objects.create(franchisee=franchisee, charge_point=charge_point)
        connector = charge_point.connectors.get()
        setattr(cast, f"{str(franchisee).lower()}_charger", charge_point)
        setattr(cast, f"{str(franchisee).lower()}_connector", connector)
        setattr(cast, f"{str(franchisee).lower()}_qr", connector.qr_codes.get())
    return cast
