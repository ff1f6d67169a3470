"""The simulated charger's settings, triggers, statuses and errors, as an operator meets them."""

import pytest

from csms.simulator.car import Car
from csms.simulator.configuration import KEYS
from tests.simulated import CALM, World, charging, remote_start, strange, world


def configure(place: World, **values: str) -> None:
    for key, value in values.items():
        assert place.status_of("ChangeConfiguration", {"key": key, "value": value}) == "Accepted", key


def trigger(place: World, message: str, connector: int | None = None, *, extended: bool = False) -> str:
    asked = {"requestedMessage": message} | ({} if connector is None else {"connectorId": connector})
    return place.status_of("ExtendedTriggerMessage" if extended else "TriggerMessage", asked)


def contexts(readings: list[dict]) -> list[str]:
    return [reading["meterValue"][0]["sampledValue"][0]["context"] for reading in readings]


# -- triggers ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("message", ["BootNotification", "Heartbeat", "DiagnosticsStatusNotification", "FirmwareStatusNotification"])
def test_what_is_triggered_is_said_after_the_answer(message):
    place = world(habits=CALM)
    place.wait(1)
    place.said.clear()
    place.raw.clear()
    assert trigger(place, message) == "Accepted"
    assert place.said[0][0] == message
    assert place.raw[0].startswith("[3,")


def test_statuses_and_readings_are_triggered_for_one_connector_or_all():
    place = world(habits=CALM, connectors=2)
    charging(place, connector=2)
    place.said.clear()
    assert trigger(place, "StatusNotification") == "Accepted"
    assert [one["connectorId"] for one in place.calls("StatusNotification")] == [0, 1, 2]
    assert trigger(place, "StatusNotification", 2) == "Accepted" and place.statuses(2)[-1] == "Charging"
    assert trigger(place, "MeterValues") == "Accepted"
    assert contexts(place.calls("MeterValues")) == ["Trigger", "Trigger"]
    assert [reading.get("transactionId") for reading in place.calls("MeterValues")] == [None, 7]
    assert trigger(place, "MeterValues", 9) == "Rejected"


@pytest.mark.parametrize(
    ("message", "said", "payload"),
    [
        ("LogStatusNotification", "LogStatusNotification", {"status": "Idle"}),
        ("FirmwareStatusNotification", "SignedFirmwareStatusNotification", {"status": "Idle"}),
        ("Heartbeat", "Heartbeat", {}),
    ],
)
def test_the_extended_trigger_says_the_extensions_messages(message, said, payload):
    place = world(habits=CALM)
    assert trigger(place, message, extended=True) == "Accepted"
    assert place.calls(said)[-1] == payload


def test_what_a_trigger_does_not_know_is_not_implemented():
    place = world(habits=CALM)
    assert trigger(place, "LogStatusNotification") == "NotImplemented"
    assert trigger(place, "DiagnosticsStatusNotification", extended=True) == "NotImplemented"


def test_an_upload_under_way_is_told_when_asked():
    place = world(habits=CALM)
    charging(place)
    place.charger._now = place.now
    place.ask("GetLog", {"logType": "DiagnosticsLog", "requestId": 8, "log": {"remoteLocation": "http://csms/x"}})
    trigger(place, "LogStatusNotification", extended=True)
    assert place.calls("LogStatusNotification") == [{"status": "Uploading", "requestId": 8}]


def test_while_the_boot_is_pending_only_what_was_asked_for_is_said():
    place = World(world(habits=CALM).charger)
    place.charger.registered = False
    place.replies["BootNotification"] = {"status": "Pending", "currentTime": "2026-11-21T09:00:00Z", "interval": 30}
    place.connect()
    place.wait(5)
    assert [name for name, _ in place.said] == ["BootNotification"]
    assert remote_start(place).payload == {"status": "Rejected"}
    assert place.ask("GetConfiguration").payload["configurationKey"]
    assert trigger(place, "StatusNotification", 1) == "Accepted"
    assert [name for name, _ in place.said] == ["BootNotification", "StatusNotification"]
    del place.replies["BootNotification"]
    place.wait(40)
    assert [name for name, _ in place.said][2:4] == ["BootNotification", "StatusNotification"]


# -- configuration -------------------------------------------------------------------------------------------------
def test_every_key_of_the_standard_can_be_read_at_once_and_says_whether_it_can_be_changed():
    place = world(habits=CALM)
    read = place.ask("GetConfiguration").payload["configurationKey"]
    assert {one["key"]: one["readonly"] for one in read} == {key: not free for key, (_, free) in KEYS.items()}
    assert len(read) <= int(KEYS["GetConfigurationMaxKeys"][0])


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("MeterValuesSampledData", "Voltage, SoC", "Accepted"),
        ("MeterValuesSampledData", "Voltage,Humidity", "Rejected"),  # one that it has not, and all are rejected
        ("StopTxnSampledData", "", "Accepted"),
        ("LocalPreAuthorize", "TRUE", "Accepted"),
        ("LocalPreAuthorize", "yes", "Rejected"),
        ("heartbeatinterval", "30", "Accepted"),
        ("HeartbeatInterval", "-30", "Rejected"),
        ("HeartbeatInterval", "9" * 30, "Rejected"),
        ("CpoName", "x" * 501, "Rejected"),
        ("CertificateStoreMaxLength", "9", "Rejected"),
    ],
)
def test_a_value_is_taken_when_it_can_be(key, value, status):
    assert world(habits=CALM).status_of("ChangeConfiguration", {"key": key, "value": value}) == status


def test_clock_aligned_readings_come_by_the_clock_with_a_transaction_or_without():
    place = world(habits=CALM, connectors=2)
    configure(place, ClockAlignedDataInterval="20", MeterValueSampleInterval="0", StopTxnAlignedData="Energy.Active.Import.Register")
    charging(place)
    place.wait(60)
    readings = place.calls("MeterValues")
    assert set(contexts(readings)) == {"Sample.Clock"}
    assert [reading.get("transactionId") for reading in readings if reading["connectorId"] == 1] == [7, 7, 7]
    assert [reading.get("transactionId") for reading in readings if reading["connectorId"] == 2] == [None, None, None]
    assert {reading["meterValue"][0]["timestamp"][17:19] for reading in readings} == {"00", "20", "40"}
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(2)
    assert len(place.calls("StopTransaction")[0]["transactionData"]) == 3


def test_a_stop_carries_the_samples_it_was_told_to_keep():
    place = world(habits=CALM)
    configure(place, StopTxnSampledData="Energy.Active.Import.Register,Voltage")
    charging(place)
    place.wait(10)
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(2)
    data = place.calls("StopTransaction")[0]["transactionData"]
    kinds = [one["sampledValue"][0]["context"] for one in data]
    assert kinds[0] == "Transaction.Begin" and kinds[-1] == "Transaction.End" and kinds.count("Sample.Periodic") >= 4
    assert {len(one["sampledValue"]) for one in data} == {2}


def test_a_status_that_does_not_last_is_not_told():
    place = world(habits=CALM)
    configure(place, MinimumStatusDuration="5")
    place.charger.plug_in(1, place.now)
    place.wait(2)
    place.charger.unplug(1, place.now)
    place.wait(10)
    assert place.statuses() == ["Available"]
    place.charger.plug_in(1, place.now)
    place.wait(10)
    assert place.statuses() == ["Available", "Preparing"]


def test_a_car_that_is_unplugged_may_come_back():
    place = world(habits=CALM)
    configure(place, StopTransactionOnEVSideDisconnect="false")
    charging(place)
    place.charger.unplug(1, place.now)
    place.wait(2)
    assert place.statuses()[-1] == "SuspendedEV" and not place.calls("StopTransaction")
    place.charger.plug_in(1, place.now, Car(60_000, 0.2, 50_000))
    place.wait(5)
    assert place.statuses()[-1] == "Charging"


# -- availability --------------------------------------------------------------------------------------------------
def test_availability_waits_for_the_transaction_and_lasts_through_a_reboot():
    place = world(habits=CALM, connectors=2)
    charging(place)
    assert place.status_of("ChangeAvailability", {"connectorId": 0, "type": "Inoperative"}) == "Scheduled"
    assert (place.statuses(0)[-1], place.statuses(1)[-1], place.statuses(2)[-1]) == ("Unavailable", "Charging", "Unavailable")
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(2)
    assert place.statuses(1)[-1] == "Unavailable"
    place.ask("Reset", {"type": "Hard"})
    place.wait(2)
    place.said.clear()
    place.reboots()
    assert [place.statuses(number) for number in (0, 1, 2)] == [["Unavailable"]] * 3
    assert place.status_of("ChangeAvailability", {"connectorId": 0, "type": "Operative"}) == "Accepted"
    assert [place.statuses(number)[-1] for number in (0, 2)] == ["Available"] * 2


def test_a_scheduled_change_can_be_taken_back():
    place = world(habits=CALM)
    charging(place)
    place.ask("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"})
    assert place.status_of("ChangeAvailability", {"connectorId": 1, "type": "Operative"}) == "Accepted"
    place.ask("RemoteStopTransaction", {"transactionId": 7})
    place.wait(2)
    assert place.statuses()[-1] == "Finishing"


# -- locks and errors ----------------------------------------------------------------------------------------------
def test_unlocking_ends_the_transaction_and_may_fail():
    place = world("type2", 22, habits=CALM)
    charging(place)
    assert place.status_of("UnlockConnector", {"connectorId": 1}) == "Unlocked"
    place.wait(1)
    assert place.calls("StopTransaction")[0]["reason"] == "UnlockCommand"
    place.charger.outlets[0].lock_broken = True
    assert place.status_of("UnlockConnector", {"connectorId": 1}) == "UnlockFailed"


def test_a_lock_that_does_not_close_is_told_and_nothing_starts():
    place = world("type2", 22, habits=CALM)
    place.charger.outlets[0].lock_broken = True
    place.charger.plug_in(1, place.now)
    place.charger.swipe(1, "04AA", place.now)
    place.wait(1)
    told = place.calls("StatusNotification")[-1]
    assert (told["status"], told["errorCode"]) == ("Faulted", "ConnectorLockFailure") and not place.calls("StartTransaction")
    assert remote_start(place).payload == {"status": "Rejected"}
    place.charger.trouble(1, "NoError", place.now)
    place.wait(1)
    assert place.calls("StatusNotification")[-1]["errorCode"] == "NoError"


def test_errors_are_told_with_the_vendors_words_and_resolved():
    place = world(habits=CALM)
    place.charger.trouble(1, "GroundFailure", place.now, vendor_code="E12", info="earth " * 20)
    place.charger.trouble(0, "InternalError", place.now, vendor_code="X1")
    place.wait(1)
    one, zero = place.calls("StatusNotification")[-2:]
    assert (one["status"], one["errorCode"], one["vendorErrorCode"], one["vendorId"], len(one["info"])) == (
        "Faulted", "GroundFailure", "E12", "Voltaro", 50,
    )  # fmt: skip
    assert (zero["connectorId"], zero["status"], zero["errorCode"]) == (0, "Faulted", "InternalError")
    place.charger.trouble(1, "NoError", place.now)
    assert place.charger.outlets[0].status() == "Available"


def test_a_warning_is_an_error_without_a_fault():
    place = world(habits=CALM)
    charging(place)
    place.charger.trouble(1, "HighTemperature", place.now, warning=True)
    place.wait(5)
    told = place.calls("StatusNotification")[-1]
    assert (told["status"], told["errorCode"]) == ("Charging", "HighTemperature")
    assert place.charger.outlets[0].power_w > 0


# -- what it is told to answer -------------------------------------------------------------------------------------
def test_its_next_answer_can_be_put_into_its_mouth():
    place = world(habits=CALM)
    place.charger.forced = {"Reset": "Rejected", "ClearCache": "InternalError", "GetConfiguration": "silence"}
    assert place.status_of("Reset", {"type": "Soft"}) == "Rejected"
    assert place.ask("ClearCache").code == "InternalError"
    before = len(place.answers)
    place.ask("GetConfiguration")
    assert len(place.answers) == before
    assert place.status_of("ClearCache") == "Accepted"  # once only


def test_nonsense_is_answered_with_an_error_and_never_with_silence():
    place = world(habits=strange())
    for action in ("SendLocalList", "SetChargingProfile", "SignedUpdateFirmware", "GetLog", "DataTransfer", "InstallCertificate"):
        for payload in (
            {},
            {"listVersion": None, "csChargingProfiles": 5, "firmware": [], "log": "x", "vendorId": 3, "certificateType": {}},
        ):
            answer = place.ask(action, payload)
            assert answer.code or answer.payload == {"status": "Rejected"}, (action, payload, answer)
