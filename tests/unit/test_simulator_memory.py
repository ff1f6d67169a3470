"""What the simulated charger remembers when the power was away: what ran, what it had not said, what the server has given it."""

import json
from datetime import timedelta

from csms.simulator import memory, profiles
from csms.simulator.car import Car
from csms.simulator.charger import make
from tests.certificates import Authority
from tests.simulated import BEGAN, CALM, World, remote_start, strange, world


def test_after_a_power_cut_it_ends_what_ran_and_says_what_it_had_not_said():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now, Car(72_000, 0.1, 60_000))
    remote_start(place)
    place.wait(10)
    place.disconnect()
    place.wait(6)
    kept = json.loads(json.dumps(memory.dump(place.charger)))
    meter_wh = place.charger.outlets[0].meter_wh

    again = World(make("VLT-0001", [profiles.plug("ccs2", 60_000)], seed=99, habits=CALM))
    memory.load(again.charger, kept, place.now)
    again.connect()
    again.wait(3)
    assert [name for name, _ in again.said if name in ("MeterValues", "StopTransaction")] == ["MeterValues"] * 3 + ["StopTransaction"]
    stopped = again.calls("StopTransaction")[0]
    assert (stopped["transactionId"], stopped["reason"], stopped["meterStop"]) == (7, "PowerLoss", meter_wh)
    assert again.statuses() == ["Available"]


def test_a_start_not_yet_answered_survives_a_power_cut():
    place = world(habits=CALM)
    place.silent = {"StartTransaction"}
    place.charger.plug_in(1, place.now)
    remote_start(place)
    place.wait(2)
    again = World(make("VLT-0001", [profiles.plug("ccs2", 60_000)], habits=CALM))
    memory.load(again.charger, json.loads(json.dumps(memory.dump(place.charger))), place.now)
    again.next_id = 31
    again.connect()
    again.wait(3)
    assert again.calls("StartTransaction") == place.calls("StartTransaction")
    assert again.calls("StopTransaction")[0]["transactionId"] == 31


def test_what_the_server_has_given_it_outlives_the_power():
    place = world(habits=CALM, connectors=2)
    root = Authority("Voltaro", now=BEGAN)
    given = [
        ("ChangeConfiguration", {"key": "CpoName", "value": "Voltaro India"}),
        ("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "7"}),
        ("ChangeAvailability", {"connectorId": 2, "type": "Inoperative"}),
        ("ReserveNow", {"connectorId": 1, "reservationId": 3, "idTag": "04AA", "expiryDate": "2026-11-21T10:00:00Z"}),
        ("InstallCertificate", {"certificateType": "CentralSystemRootCertificate", "certificate": root.pem}),
        (
            "SendLocalList",
            {"listVersion": 4, "updateType": "Full", "localAuthorizationList": [{"idTag": "04AA", "idTagInfo": {"status": "Accepted"}}]},
        ),
        (
            "SetChargingProfile",
            {
                "connectorId": 0,
                "csChargingProfiles": {
                    "chargingProfileId": 1,
                    "stackLevel": 0,
                    "chargingProfilePurpose": "ChargePointMaxProfile",
                    "chargingProfileKind": "Relative",
                    "chargingSchedule": {
                        "chargingRateUnit": "W",
                        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9_000}, {"startPeriod": 60, "limit": 5_000}],
                    },
                },
            },
        ),
    ]
    for action, payload in given:
        assert place.ask(action, payload).payload == {"status": "Accepted"}, action
    place.charger.firmware = "2.0.0"
    place.charger.tags.cache["04BB"] = {"status": "Accepted"}
    place.disconnect()
    place.charger.event("TamperDetectionActivated", "", place.now)
    kept = json.loads(json.dumps(memory.dump(place.charger)))

    again = World(make("VLT-0001", [profiles.plug("ccs2", 60_000)] * 2, habits=CALM))
    again.now = place.now + timedelta(seconds=90)
    memory.load(again.charger, kept, again.now)
    again.connect()
    again.wait(1)
    assert again.calls("BootNotification")[0]["firmwareVersion"] == "2.0.0"
    assert (again.statuses(1), again.statuses(2)) == (["Reserved"], ["Unavailable"])
    assert again.ask("GetLocalListVersion").payload == {"listVersion": 4}
    assert (again.charger.configuration["CpoName"], again.charger.configuration.number("MeterValueSampleInterval")) == ("Voltaro India", 7)
    schedule = again.ask("GetCompositeSchedule", {"connectorId": 0, "duration": 60}).payload["chargingSchedule"]
    assert schedule["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 5_000}]
    assert again.ask("GetInstalledCertificateIds", {"certificateType": "CentralSystemRootCertificate"}).payload["status"] == "Accepted"
    assert again.charger.tags.cache == {"04BB": {"status": "Accepted"}}
    assert again.events() == ["TamperDetectionActivated"]


def test_a_charger_whose_habit_it_is_asks_about_what_ran_when_the_power_went():
    place = world(habits=CALM)
    place.charger.plug_in(1, place.now, Car(72_000, 0.1, 60_000))
    remote_start(place)
    place.wait(10)
    kept = json.loads(json.dumps(memory.dump(place.charger)))
    again = World(make("VLT-0001", [profiles.plug("ccs2", 60_000)], habits=strange("last_meter_value")))
    memory.load(again.charger, kept, place.now)
    again.connect()
    again.wait(20)
    assert again.sent("GetLastMeterValue") == [{"transactionId": 7}]
    assert {reading["transactionId"] for reading in again.calls("MeterValues")} == {7} and not again.calls("StopTransaction")


def test_the_memory_of_an_older_charger_can_be_read():
    place = world(habits=CALM)
    old = json.loads(json.dumps(memory.dump(place.charger)))
    del old["given"]
    again = make("VLT-0001", [profiles.plug("ccs2", 60_000)], seed=9)
    memory.load(again, old, BEGAN)
    assert again.outlets[0].meter_wh == place.charger.outlets[0].meter_wh
