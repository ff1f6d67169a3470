"""The GetLastMeterValue exchange: a charger goes on with its session after a reboot, or is told that it is over."""

import json

import pytest

from accounts.models import AuditEntry
from csms.models import ChargingSession, IdTag
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network):
    """A session of 400 Wh, after a reboot."""
    IdTag.objects.create(tag="CARD1", company=network.kaveri.company)
    found = Charger(network.kaveri_charger)
    found.boot()
    found.start("CARD1", meter=1000)
    clock.shift(60)
    found.meter(1400, power=30_000)
    found.boot()
    return found


def ask(charger, ref):
    data = json.dumps({"transactionId": ref})
    answer = charger.call("DataTransfer", {"vendorId": "VoltLync", "messageId": "GetLastMeterValue", "data": data})
    return answer["status"], json.loads(answer.get("data", "null"))


def test_it_is_told_where_it_stood_and_runs_again(charger):
    assert ChargingSession.objects.get().state == "SUSPENDED"
    clock.shift(30)
    told = {"transactionId": charger.transaction_id, "startMeterValueWh": 1000, "lastMeterValueWh": 1400, "energyConsumedWh": 400}
    assert ask(charger, charger.transaction_id) == ("Accepted", told)
    session = ChargingSession.objects.get()
    assert (session.state, session.resume_count, session.suspended_at) == ("RUNNING", 1, None)
    assert AuditEntry.objects.filter(action="session.resumed", target_id=str(session.pk)).count() == 1
    assert ask(charger, str(charger.transaction_id)) == ("Accepted", told)
    assert ChargingSession.objects.get().resume_count == 1
    clock.shift(10)
    charger.meter(1450, power=30_000)
    charger.stop(1500)
    assert ChargingSession.objects.get().energy_wh == 500


def test_after_900_seconds_it_is_over(charger):
    clock.shift(901)
    assert ask(charger, charger.transaction_id) == ("Rejected", None)
    session = ChargingSession.objects.get()
    assert (session.state, session.stop_reason, session.energy_wh) == ("STOPPED", "STALE_RECONNECT", 400)


@pytest.mark.parametrize("ref", [0, -1, 999_999, None, "", "x" * 300, True, [1], {"a": 1}, 1.5])
def test_what_is_not_its_own_is_refused(charger, ref):
    assert ask(charger, ref) == ("Rejected", None)
    assert ChargingSession.objects.get().state == "SUSPENDED"


def test_nobody_hears_of_anothers_session(charger, network):
    other = Charger(network.ganga_charger)
    other.boot()
    assert ask(other, charger.transaction_id) == ("Rejected", None)
    assert ChargingSession.objects.get().state == "SUSPENDED"


def test_a_session_that_ended_stays_ended(charger):
    charger.stop(1500)
    assert ask(charger, charger.transaction_id) == ("Rejected", None)
    assert ChargingSession.objects.get().state == "STOPPED"
