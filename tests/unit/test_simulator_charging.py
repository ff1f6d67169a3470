"""The simulated charger keeps charging profiles, shapes the cars' power by them, and tells the schedule they make."""

from datetime import timedelta

import pytest

from csms.simulator import limits
from csms.simulator.car import Car
from csms.simulator.times import stamp
from tests.simulated import BEGAN, CALM, World, charging, remote_start, world

MAX, DEFAULT, TX = "ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"
HUNGRY = {"battery_wh": 72_000, "charge": 0.1, "max_power_w": 120_000, "ramp_w_per_s": 500_000}


def profile(id: int = 1, purpose: str = TX, *periods: tuple, unit: str = "W", stack: int = 0, kind: str = "Relative", **more) -> dict:
    """Each period is (start in s, limit) or (start in s, limit, phases)."""
    schedule = {name: more.pop(name) for name in ("duration", "startSchedule", "minChargingRate") if name in more}
    return {
        "chargingProfileId": id,
        "stackLevel": stack,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": kind,
        "chargingSchedule": {
            **schedule,
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": [
                {"startPeriod": one[0], "limit": one[1]} | ({"numberPhases": one[2]} if len(one) > 2 else {})
                for one in periods or ((0, 7_000),)
            ],
        },
        **more,
    }


def install(place: World, said: dict, connector: int = 1) -> str:
    return place.status_of("SetChargingProfile", {"connectorId": connector, "csChargingProfiles": said})


def hungry(place: World, connector: int = 1) -> int:
    """A car that takes all it can get charges there; the transaction's id."""
    place.charger.plug_in(connector, place.now, Car(**HUNGRY))
    remote_start(place, connector=connector)
    place.wait(2)
    return place.charger.outlet(connector).transaction.id


def power_w(place: World, connector: int = 1) -> float:
    return round(place.charger.outlet(connector).power_w)


def schedule(place: World, connector: int = 1, duration: int = 600, unit: str | None = None) -> list[tuple]:
    """GetCompositeSchedule's periods as (start, limit[, phases])."""
    asked = {"connectorId": connector, "duration": duration} | ({"chargingRateUnit": unit} if unit else {})
    answer = place.ask("GetCompositeSchedule", asked).payload
    assert answer["status"] == "Accepted" and answer["connectorId"] == connector
    assert answer["chargingSchedule"]["duration"] == duration
    return [
        tuple(one[name] for name in ("startPeriod", "limit", "numberPhases") if name in one)
        for one in answer["chargingSchedule"]["chargingSchedulePeriod"]
    ]


# -- limits and power ----------------------------------------------------------------------------------------------
def test_a_limit_holds_the_power_down_and_goes_with_its_transaction():
    place = world(habits=CALM)
    hungry(place)
    assert install(place, profile()) == "Accepted"
    place.wait(2)
    assert power_w(place) == 7_000
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(2)
    assert not place.charger.profiles.kept
    place.charger.unplug(1, place.now)
    hungry(place)
    assert power_w(place) == 60_000


def test_the_power_follows_the_periods_from_the_start_of_the_transaction():
    place = world(habits=CALM)
    hungry(place)
    install(place, profile(1, TX, (0, 20_000), (30, 9_999.9), (60, 0)))
    place.wait(10)
    assert power_w(place) == 20_000
    place.wait(30)
    assert place.charger.outlets[0].power_w == pytest.approx(9_999.9)
    place.wait(30)
    assert power_w(place) == 0 and place.statuses()[-1] == "SuspendedEVSE"


def test_amperes_are_per_phase():
    for kw, phases, wanted_w in ((22, 3, 16 * 230 * 3), (22, 1, 16 * 230), (7, 3, 16 * 230)):
        place = world("type2", kw, habits=CALM)
        place.charger.plug_in(1, place.now, Car(**HUNGRY))
        remote_start(place)
        place.wait(2)
        assert install(place, profile(1, TX, (0, 16, phases), unit="A")) == "Accepted"
        place.wait(2)
        assert power_w(place) == wanted_w


def test_below_six_amperes_a_car_on_ac_does_not_charge():
    place = world("type2", 22, habits=CALM)
    hungry(place)
    install(place, profile(1, TX, (0, 6), unit="A"))
    place.wait(2)
    assert power_w(place) == 6 * 230 * 3
    install(place, profile(1, TX, (0, 5.9), unit="A"))
    place.wait(2)
    assert power_w(place) == 0 and place.statuses()[-1] == "SuspendedEVSE"


def test_the_higher_stack_level_leads_and_the_transaction_overrules_the_default():
    place = world(habits=CALM)
    install(place, profile(1, DEFAULT, (0, 30_000)), 0)
    install(place, profile(2, DEFAULT, (0, 25_000)), 1)
    hungry(place)
    assert power_w(place) == 25_000  # this outlet's default before the charger's
    install(place, profile(3, DEFAULT, (0, 20_000), stack=3), 1)
    place.wait(2)
    assert power_w(place) == 20_000
    install(place, profile(4, TX, (0, 40_000)))
    place.wait(2)
    assert power_w(place) == 40_000
    install(place, profile(5, MAX, (0, 15_000)), 0)
    place.wait(2)
    assert power_w(place) == 15_000  # the charger as a whole has no more


def test_a_profile_replaces_one_with_its_id_or_in_its_place():
    place = world(habits=CALM)
    install(place, profile(1, DEFAULT, (0, 30_000)))
    install(place, profile(1, DEFAULT, (0, 20_000), stack=2))
    install(place, profile(8, DEFAULT, (0, 10_000), stack=2))
    assert [(one.id, one.limits[0].value) for one in place.charger.profiles.kept] == [(8, 10_000)]


def test_the_chargers_power_is_shared_and_nobody_gets_more_than_he_wants():
    place = world(habits=CALM, connectors=3)
    for connector, max_power_w in ((1, 120_000), (2, 120_000), (3, 5_000)):
        place.charger.plug_in(connector, place.now, Car(**{**HUNGRY, "max_power_w": max_power_w}))
        remote_start(place, connector=connector)
    install(place, profile(1, MAX, (0, 45_000)), 0)
    place.wait(5)
    assert [power_w(place, connector) for connector in (1, 2, 3)] == [20_000, 20_000, 5_000]
    assert limits.share(9, [2, 10, 10]) == [2, 3.5, 3.5]
    assert limits.share(0, [5, 5]) == [0, 0]


def test_a_remote_start_brings_its_profile():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now, Car(**HUNGRY))
    assert place.status_of("RemoteStartTransaction", {"idTag": "A", "chargingProfile": profile(1, TX, (0, 11_000))}) == "Accepted"
    place.wait(5)
    assert power_w(place) == 11_000


@pytest.mark.parametrize("wrong", [profile(1, DEFAULT), profile(1, TX, transactionId=7), profile(1, TX, (5, 10)), profile(1, TX, stack=9)])
def test_a_remote_start_with_a_profile_that_is_none_for_it_is_rejected(wrong):
    place = world(habits=CALM)
    assert place.status_of("RemoteStartTransaction", {"idTag": "A", "chargingProfile": wrong}) == "Rejected"


@pytest.mark.parametrize(
    ("said", "connector"),
    [
        (profile(1, MAX), 1),  # the charger's is at 0
        (profile(1, TX, transactionId=999), 1),
        (profile(1, TX), 0),
        (profile(1, DEFAULT), 5),
        (profile(1, DEFAULT, stack=9), 1),
        (profile(1, DEFAULT, stack=-1), 1),
        (profile(1, DEFAULT, (10, 5_000)), 1),
        (profile(1, DEFAULT, (0, 5_000), (0, 6_000)), 1),
        (profile(1, DEFAULT, (0, -1)), 1),
        (profile(1, DEFAULT, *((number, 5_000) for number in range(25))), 1),
        (profile(1, DEFAULT, kind="Recurring"), 1),
        (profile(1, "StationExternalConstraints"), 1),
    ],
)
def test_a_profile_that_cannot_be_is_rejected(said, connector):
    place = world(habits=CALM)
    hungry(place)
    assert install(place, said, connector) == "Rejected"
    assert not place.charger.profiles.kept


def test_a_transactions_profile_needs_a_transaction():
    assert install(world(habits=CALM), profile()) == "Rejected"


def test_there_is_room_for_ten():
    place = world(habits=CALM)
    assert [install(place, profile(number, DEFAULT, stack=number % 9), number // 9) for number in range(10)] == ["Accepted"] * 10
    assert install(place, profile(99, MAX), 0) == "Rejected"
    assert install(place, profile(3, DEFAULT, stack=3), 0) == "Accepted"  # in its own place


# -- clearing ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({}, []),
        ({"id": 2}, [1, 3, 4]),
        ({"connectorId": 0}, [2, 3]),
        ({"chargingProfilePurpose": DEFAULT, "stackLevel": 1}, [1, 2, 4]),
        ({"id": 2, "stackLevel": 1}, [1, 2, 3, 4]),  # all that is said must apply
    ],
)
def test_what_is_cleared_fits_all_filters(filters, left):
    place = world(habits=CALM)
    install(place, profile(1, DEFAULT), 0)
    install(place, profile(2, DEFAULT), 1)
    install(place, profile(3, DEFAULT, stack=1), 1)
    install(place, profile(4, MAX), 0)
    assert place.status_of("ClearChargingProfile", filters) == ("Accepted" if len(left) < 4 else "Unknown")
    assert [one.id for one in place.charger.profiles.kept] == left


# -- the schedule they make ----------------------------------------------------------------------------------------
def test_without_profiles_the_schedule_is_what_the_outlet_can():
    assert schedule(world(habits=CALM)) == [(0, 60_000)]
    assert schedule(world(habits=CALM), unit="A") == [(0, 150, 1)]
    assert schedule(world("type2", 22, habits=CALM), unit="W") == [(0, 22_000)]
    assert schedule(world(habits=CALM, connectors=2), connector=0) == [(0, 120_000)]


def test_the_schedule_is_the_least_of_all_that_applies_at_each_moment():
    place = world(habits=CALM)
    hungry(place)
    place.wait(58)  # the transaction began a minute ago
    install(place, profile(1, TX, (0, 50_000), (120, 20_000), (360, 40_000)))
    start = stamp(place.now + timedelta(seconds=200))
    install(place, profile(2, MAX, (0, 30_000), (150, 10_000), kind="Absolute", startSchedule=start, duration=300), 0)
    begun = (place.now - place.charger.outlets[0].transaction.started_at).total_seconds()
    assert schedule(place) == [
        (0, 50_000), (120 - begun, 20_000), (360 - begun, 30_000), (350, 10_000), (500, 40_000),
    ]  # fmt: skip


def test_a_validity_and_a_day_that_comes_again():
    place = world(habits=CALM)
    daily = {
        "kind": "Recurring",
        "recurrencyKind": "Daily",
        "startSchedule": stamp(BEGAN - timedelta(days=3, seconds=60)),
        "duration": 3_600,
    }
    install(place, profile(1, DEFAULT, (0, 30_000), (600, 10_000), **daily, validTo=stamp(BEGAN + timedelta(seconds=86_400 + 700))))
    day = 86_400
    assert schedule(place, duration=2 * day) == [
        (0, 30_000), (540, 10_000), (3_540, 60_000), (day - 60, 30_000), (day + 540, 10_000), (day + 700, 60_000),
    ]  # fmt: skip


def test_a_week_that_comes_again_begins_with_its_start():
    place = world(habits=CALM)
    weekly = {"kind": "Recurring", "recurrencyKind": "Weekly", "startSchedule": stamp(BEGAN + timedelta(days=1)), "duration": 60}
    install(place, profile(1, DEFAULT, (0, 1_000), **weekly))
    week, day = 7 * 86_400, 86_400
    assert schedule(place, duration=9 * day) == [
        (0, 60_000), (day, 1_000), (day + 60, 60_000), (day + week, 1_000), (day + week + 60, 60_000),
    ]  # fmt: skip


def test_limits_are_told_with_one_decimal_in_the_unit_asked_for():
    place = world("type2", 22, habits=CALM)
    install(place, profile(1, DEFAULT, (0, 6.2, 1), (60, 10.25), unit="A"))
    assert schedule(place, unit="A", duration=90) == [(0, 6.2, 1), (60, 10.2, 3)]
    assert schedule(place, unit="W", duration=90) == [(0, 1_426.0), (60, 7_072.5)]
    assert limits.tenths(6.1) == 6.1 and limits.tenths(6.199) == 6.1 and limits.tenths(0.3) == 0.3


@pytest.mark.parametrize("asked", [{"connectorId": 9, "duration": 60}, {"connectorId": 1, "duration": 0}])
def test_a_schedule_of_nothing_is_rejected(asked):
    assert world(habits=CALM).ask("GetCompositeSchedule", asked).payload == {"status": "Rejected"}


def test_what_is_offered_can_be_measured():
    place = world(habits=CALM)
    assert place.status_of("ChangeConfiguration", {"key": "MeterValuesSampledData", "value": "Power.Offered,Current.Offered"}) == "Accepted"
    charging(place)
    install(place, profile(1, TX, (0, 8_000)))
    place.wait(4)
    assert [sample["value"] for sample in place.calls("MeterValues")[-1]["meterValue"][0]["sampledValue"]] == ["8000", "20.0"]
