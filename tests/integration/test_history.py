"""A charger's history page: presence, faults, signal; bounded, and only for those who may see it."""

from datetime import timedelta

import pytest

from csms.models import ChargerError, Connection, SignalQuality
from tests.factories import PASSWORD
from tests.stories import queries
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def om(client, network):
    client.login(username="om", password=PASSWORD)
    return client


@pytest.fixture(autouse=True)
def known_for_long(network):
    """The chargers were set up a month ago."""
    from csms.models import ChargePoint

    ChargePoint.objects.update(created_at=clock.now() - timedelta(days=40))


def connected(charge_point, epoch, hours_ago, hours=None, **fields):
    opened = clock.now() - timedelta(hours=hours_ago)
    closed = None if hours is None else opened + timedelta(hours=hours)
    lease = clock.now() + timedelta(minutes=2)
    Connection.objects.create(
        charge_point=charge_point, epoch=epoch, process="p", channel="c", lease_until=lease, opened_at=opened, closed_at=closed, **fields
    )


def test_om_sees_when_it_was_there_and_what_was_wrong(om, network):
    row = network.kaveri_charger
    connected(row, 1, 24, 12, close_code=1006, remote_address="203.0.113.9")
    connected(row, 2, 6)
    ChargerError.objects.create(charge_point=row, connector_no=1, error_code="GroundFailure", status="Faulted", vendor_error_code="0xE017")
    SignalQuality.objects.create(charge_point=row, rssi=22)
    page = om.get(f"/console/chargers/{row.pk}/history/?days=1").content.decode()
    assert "75.0 % of the time" in page
    assert "the line broke" in page and "203.0.113.9" in page
    assert "GroundFailure" in page and "0xE017" in page
    assert "-69 dBm" in page


def test_sockets_that_overlap_are_one_piece_of_time(om, network):
    row = network.kaveri_charger
    for epoch in range(1, 6):
        connected(row, epoch, 12, 6)
    assert "25.0 % of the time" in om.get(f"/console/chargers/{row.pk}/history/?days=1").content.decode()


def test_the_chart_gets_its_columns(om, network):
    row = network.kaveri_charger
    for minutes in range(5):
        SignalQuality.objects.create(
            charge_point=row, rssi=20 + minutes, ber=99 if minutes else 0, at=clock.now() - timedelta(minutes=minutes)
        )
    SignalQuality.objects.create(charge_point=row, rssi=3, at=clock.now() - timedelta(days=20))
    series = om.get(f"/console/chargers/{row.pk}/signal.json").json()
    assert series["dbm"] == [-65, -67, -69, -71, -73]
    assert len(om.get(f"/console/chargers/{row.pk}/signal.json?days=30").json()["at"]) == 6


def test_nothing_yet_is_said_so(om, network):
    page = om.get(f"/console/chargers/{network.kaveri_charger.pk}/history/").content.decode()
    assert "No faults on record" in page and "not reported its signal" in page and "0.0 % of the time" in page


def test_somebody_elses_charger_is_not_there(client, network):
    from accounts.roles import Role
    from tests.factories import make_user

    make_user("ravi", Role.OPERATOR, network.ganga.company)
    client.login(username="ravi", password=PASSWORD)
    for page in ("history/", "signal.json"):
        assert client.get(f"/console/chargers/{network.kaveri_charger.pk}/{page}").status_code == 404
    client.logout()
    assert client.get(f"/console/chargers/{network.kaveri_charger.pk}/history/").status_code == 302


def test_the_page_costs_the_same_when_the_tables_have_grown(om, network):
    row = network.kaveri_charger
    few = queries(om, f"/console/chargers/{row.pk}/history/")
    for number in range(120):
        ChargerError.objects.create(charge_point=row, connector_no=1, error_code="OverVoltage", resolved_at=clock.now())
        connected(row, number + 1, 1, 0.5)
    assert queries(om, f"/console/chargers/{row.pk}/history/") <= few
    page = om.get(f"/console/chargers/{row.pk}/history/")
    older = om.get(f"/console/chargers/{row.pk}/history/?before={page.context['older']}")
    assert len(older.context["faults"]) == 50
    assert om.get(f"/console/chargers/{row.pk}/history/?before=x&days=999").status_code == 200


def test_a_charger_that_is_new_is_not_blamed_for_the_days_before(om, network):
    from csms.models import ChargePoint

    ChargePoint.objects.update(created_at=clock.now() - timedelta(hours=2))
    connected(network.kaveri_charger, 1, 1)
    page = om.get(f"/console/chargers/{network.kaveri_charger.pk}/history/").content.decode()
    assert "50.0 % of the time" in page and "Set up 2 h ago" in page
