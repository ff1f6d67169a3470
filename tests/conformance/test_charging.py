"""Smart charging of OCPP 1.6 (P): limits that are wanted, sent in a form the charger takes, and what it says of them."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest

from csms import charging_profiles
from csms.models import ChargePoint, ChargingProfile, Command, ConfigurationKey
from csms.rules.profile import Step
from csms.timestamps import read
from voltaro import clock

pytestmark = pytest.mark.e2e
MAX, DEFAULT, TX = "ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"


def want(limit="7000", purpose=DEFAULT, connector_no=1, unit="W", steps=None, **fields):
    steps = steps or (Step(0, Decimal(limit)),)
    charge_point = ChargePoint.objects.get(cp_id="VLT-0001")
    return charging_profiles.want(charge_point, purpose=purpose, connector_no=connector_no, steps=steps, unit=unit, by="om", **fields)


def sent(world, charger, answer="Accepted"):
    """The worker sends what is wanted, the charger answers; the whole request."""
    world.pass_time(11)  # no two profiles within ten seconds
    assert world.work("profiles.send") == 1
    payload = charger.expect("SetChargingProfile", {"status": answer})
    world.until(lambda: not Command.objects.filter(action="SetChargingProfile", state__in=("queued", "sent")).exists())
    return payload


def periods(payload):
    return payload["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"]


def state(row):
    row.refresh_from_db()
    return row.state


def test_TC_056_P01_a_limit_for_every_new_session(world, charger):
    """TxDefaultProfile: sent with its number, its level and its schedule; Accepted, it stands."""
    row = want()
    payload = sent(world, charger)
    profile = payload["csChargingProfiles"]
    assert payload["connectorId"] == 1
    assert profile["chargingProfileId"] == row.profile_id and profile["chargingProfilePurpose"] == DEFAULT
    assert profile["stackLevel"] == 0 and "transactionId" not in profile
    begins = read(profile["chargingSchedule"]["startSchedule"])
    assert timedelta(0) < clock.now() - begins < timedelta(minutes=5)  # no gap in which nothing limits
    assert periods(payload) == [{"startPeriod": 0, "limit": 7000}]
    assert state(row) == "active"


def test_TC_057_P02_a_limit_of_a_running_session(world, charger):
    """TxProfile: names the transaction; it ends with the session."""
    world.card("CARD1")
    number = charger.start(1, "CARD1", meter_wh=0)["transactionId"]
    row = want(purpose=TX, session=world.session())
    profile = sent(world, charger)["csChargingProfiles"]
    assert (profile["chargingProfilePurpose"], profile["transactionId"]) == (TX, number)
    assert state(row) == "active"
    charger.stop(number, meter_wh=100)
    world.work("profiles.end")
    assert state(row) == "ended"


def test_TC_066_P03_the_composite_schedule(world, charger):
    """GetCompositeSchedule: asked for a connector and a time, its answer is shown as steps."""
    world.ask("GetCompositeSchedule", {"connectorId": 1, "duration": 600, "chargingRateUnit": "A"})
    schedule = {
        "duration": 600,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16.0}, {"startPeriod": 300, "limit": 8}],
    }
    answer = {"status": "Accepted", "connectorId": 1, "scheduleStart": "2026-01-01T00:00:00Z", "chargingSchedule": schedule}
    assert charger.expect("GetCompositeSchedule", answer) == {"connectorId": 1, "duration": 600, "chargingRateUnit": "A"}
    command = world.command("GetCompositeSchedule", "effective")
    assert charging_profiles.composite(command) == {"unit": "A", "steps": [(0, 16.0), (300, 8.0)], "duration_s": 600}
    world.ask("GetCompositeSchedule", {"connectorId": 1, "duration": 60})
    charger.expect("GetCompositeSchedule", {"status": "Rejected"})
    assert charging_profiles.composite(world.command("GetCompositeSchedule", "rejected")) is None


@pytest.mark.parametrize("status", ["Accepted", "Unknown"])
def test_TC_067_P04_profiles_are_cleared(world, charger, status):
    """ClearChargingProfile: Accepted; or Unknown, because there was none, which is the same."""
    row = want()
    sent(world, charger)
    world.ask("ClearChargingProfile", {"id": row.profile_id})
    assert charger.expect("ClearChargingProfile", {"status": status}) == {"id": row.profile_id}
    world.command("ClearChargingProfile", "effective")
    assert state(row) == "cleared"


def test_P05_limits_as_a_charger_can_read_them(world, charger):
    """6.25 is sent as 6.2; the first period begins at 0; in amperes where the charger knows only those."""
    want(unit="A", steps=(Step(600, Decimal("16")), Step(0, Decimal("6.25"))))
    payload = sent(world, charger)
    assert periods(payload) == [{"startPeriod": 0, "limit": 6.2}, {"startPeriod": 600, "limit": 16}]
    raw = next(text for way, text in charger.frames if "SetChargingProfile" in text)
    assert re.search(r'"limit": ?6\.2[,}]', raw)  # on the wire too: no 6.2000000001
    ConfigurationKey.objects.create(
        charge_point=world.network.kaveri_charger, key="ChargingScheduleAllowedChargingRateUnit", value="Current"
    )
    want("11500", unit="W", phases=1)
    schedule = sent(world, charger)["csChargingProfiles"]["chargingSchedule"]
    assert (schedule["chargingRateUnit"], schedule["chargingSchedulePeriod"][0]["limit"]) == ("A", 50)
    ConfigurationKey.objects.update(value="Power")
    ChargePoint.objects.update(learned={})  # as after a new firmware: what was taken before is forgotten
    want("10", unit="A", phases=3)
    schedule = sent(world, charger)["csChargingProfiles"]["chargingSchedule"]
    assert (schedule["chargingRateUnit"], schedule["chargingSchedulePeriod"][0]["limit"]) == ("W", 6900)


def test_P06_a_form_the_charger_refuses(world, charger):
    """Rejected for its level or its kind: the next form is tried and remembered; when none is taken it is rejected, or unsupported."""
    ChargePoint.objects.filter(cp_id="VLT-0001").update(quirk_settings={"stack_level": 8})
    row = want()
    tried = [sent(world, charger, "Rejected")["csChargingProfiles"] for _ in range(2)]
    taken = sent(world, charger, "Accepted")["csChargingProfiles"]
    forms = [(one["chargingProfileKind"], one["stackLevel"]) for one in (*tried, taken)]
    assert forms == [("Absolute", 8), ("Relative", 8), ("Absolute", 0)]
    assert state(row) == "active"
    again = want("6000")
    profile = sent(world, charger)["csChargingProfiles"]
    assert (profile["chargingProfileKind"], profile["stackLevel"]) == ("Absolute", 0)  # what it took is tried first
    assert (state(again), state(row)) == ("active", "replaced")
    never = want("5000")
    for _ in range(10):
        if state(never) != "wanted":
            break
        sent(world, charger, "Rejected")
    assert state(never) == "rejected"
    unknown = want("4000")
    sent(world, charger, "NotSupported")
    assert state(unknown) == "unsupported"


def test_P07_a_session_that_came_out_of_a_queue(world, charger):
    """A start older than five minutes gets no profile: the session may be over."""
    world.card("CARD1")
    charger.start(1, "CARD1", meter_wh=0, at=clock.now() - timedelta(minutes=10))
    row = want(purpose=TX, session=world.session())
    world.pass_time(11)
    world.work("profiles.send")
    charger.nothing("SetChargingProfile", for_s=2.5)
    assert state(row) == "ended" and "long before" in row.error


def test_P08_ten_limits_at_once(world, charger):
    """Ten changes within seconds: the first and the last are sent, not sooner than ten seconds after one another."""
    rows = [want("1000")]
    world.work("profiles.send")
    charger.expect("SetChargingProfile")
    for number in range(2, 11):
        rows.append(want(str(number * 1000)))
        assert world.work("profiles.send") == 0
    charger.nothing("SetChargingProfile", for_s=0.5)
    assert periods(sent(world, charger)) == [{"startPeriod": 0, "limit": 10_000}]
    assert Command.objects.filter(action="SetChargingProfile").count() == 2
    assert [state(row) for row in rows] == ["replaced"] * 9 + ["active"]
    assert ChargingProfile.objects.filter(state="wanted").count() == 0
