"""Faults: opened by a status, one row while it lasts, over with NoError."""

import pytest

from csms.models import ChargerError
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network):
    found = Charger(network.kaveri_charger)
    found.boot()
    found.status("Available")
    return found


def open_faults(connector=None):
    rows = ChargerError.objects.filter(resolved_at__isnull=True)
    return list((rows if connector is None else rows.filter(connector_no=connector)).values_list("error_code", flat=True))


def test_a_fault_keeps_what_its_vendor_said_and_ends_with_NoError(charger):
    charger.status("Faulted", error="GroundFailure", vendorId="com.acme", vendorErrorCode="0xE017", info="earth leakage 38 mA")
    charger.status("Faulted", error="GroundFailure", vendorId="com.acme", vendorErrorCode="0xE017", info="earth leakage 38 mA")
    fault = ChargerError.objects.get()
    assert (fault.error_code, fault.vendor_error_code, fault.vendor_id) == ("GroundFailure", "0xE017", "com.acme")
    assert (fault.status, fault.info, fault.resolved_at) == ("Faulted", "earth leakage 38 mA", None)
    clock.shift(30)
    charger.status("Available")
    fault.refresh_from_db()
    assert fault.resolved_at is not None


def test_Q65_a_warning_leaves_the_status_alone_and_Faulted_without_a_code_is_a_fault(charger, network):
    charger.status("Charging", error="HighTemperature")
    network.kaveri_connector.refresh_from_db()
    assert network.kaveri_connector.status == "Charging"
    assert open_faults() == ["HighTemperature"]
    charger.status("Charging")
    assert open_faults() == []
    charger.status("Faulted", error="NoError")
    assert open_faults() == ["NoError"]
    assert ChargerError.objects.order_by("-id").first().status == "Faulted"
    clock.shift(5)
    charger.status("Available")
    assert open_faults() == []


def test_another_code_on_the_same_connector_ends_the_one_before(charger):
    charger.status("Faulted", error="OverVoltage")
    charger.status("Faulted", error="GroundFailure")
    assert open_faults() == ["GroundFailure"]


def test_connectors_and_the_charger_itself_have_their_own(charger):
    charger.status("Faulted", connector=0, error="InternalError")
    charger.status("Faulted", connector=1, error="OverVoltage")
    charger.status("Available", connector=1)
    assert (open_faults(0), open_faults(1)) == (["InternalError"], [])
    charger.status("Available", connector=0)
    assert open_faults() == []
