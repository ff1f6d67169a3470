"""DataTransfer: known vendors, strangers, and what a charger that sends nonsense is told."""

import json

import pytest

from accounts.models import AuditEntry
from csms.models import OcppMessage, SignalQuality
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network):
    found = Charger(network.kaveri_charger)
    found.boot()
    return found


def say(charger, vendor, message="", data=None):
    payload = {"vendorId": vendor, **({"messageId": message} if message else {}), **({} if data is None else {"data": data})}
    return charger.call("DataTransfer", payload)


@pytest.mark.parametrize("vendor", ["VOLTLYNC", "VoltLync", "voltaro"])
def test_the_signal_is_kept_as_a_series(charger, vendor):
    report = {"rssi": 22, "ber": 99, "temperature": 38.2, "timestamp": "86"}
    assert say(charger, vendor, "SignalQuality", json.dumps(report)) == {"status": "Accepted"}
    clock.shift(60)
    assert say(charger, vendor, "SignalQuality", {**report, "rssi": 9}) == {"status": "Accepted"}  # an object, not a text
    clock.shift(60)
    assert say(charger, vendor, "SignalQuality", json.dumps(json.dumps({**report, "rssi": 99})))["status"] == "Accepted"
    kept = SignalQuality.objects.filter(charge_point=charger.row).order_by("at")
    assert [(one.rssi, one.ber, one.temperature_c) for one in kept] == [(22, None, 38), (9, None, 38), (None, None, 38)]


@pytest.mark.parametrize(
    "data", ['{"rssi": 32}', '{"rssi": 20, "ber": 9}', '{"rssi": "--5"}', '{"rssi": "²"}', "{}", "not json", "[1]", None]
)
def test_a_signal_that_is_none_is_refused_and_not_kept(charger, data):
    assert say(charger, "VoltLync", "SignalQuality", data) == {"status": "Rejected"}
    assert not SignalQuality.objects.exists()
    said = OcppMessage.objects.filter(direction="IN", action="DataTransfer").get()
    assert said.note


def test_a_modem_that_reports_every_second_fills_no_table(charger):
    for _ in range(30):
        assert say(charger, "VoltLync", "SignalQuality", '{"rssi": 20}')["status"] == "Accepted"
        clock.shift(1)
    assert SignalQuality.objects.count() == 2


def test_a_stranger_gets_no_data_and_an_unknown_message_of_a_known_vendor_is_told_so(charger):
    assert say(charger, "com.example", "Anything", "{}") == {"status": "UnknownVendorId"}
    assert say(charger, "VoltLync", "Nonsense", "{}") == {"status": "UnknownMessageId"}
    assert say(charger, "EN+", "cpChargingParameterRpt", '{"duty": 53}') == {"status": "Accepted"}


def test_a_charger_that_would_take_it_ill_is_thanked_for_everything(network):
    network.kaveri_charger.quirk_settings = {"data_transfer": "accept"}
    network.kaveri_charger.save()
    charger = Charger(network.kaveri_charger)
    charger.boot()
    assert say(charger, "com.example", "Anything", "{}") == {"status": "Accepted"}
    assert say(charger, "com.example", "Anything", "x" * 40_000) == {"status": "Rejected"}


def test_one_that_may_send_none_is_refused(network):
    network.kaveri_charger.quirk_settings = {"data_transfer": "refuse"}
    network.kaveri_charger.save()
    charger = Charger(network.kaveri_charger)
    charger.boot()
    assert say(charger, "VoltLync", "SignalQuality", '{"rssi": 20}') == {"status": "Rejected"}


@pytest.mark.parametrize(
    "data",
    ['{"transactionId":"\\u0000"}', '{"transactionId":"1\\u0000"}', '{"transactionId":"\\ud800"}', '{"transactionId":1e999}',
     '{"transactionId":' + "9" * 4000 + "}", '{"transactionId":{"a":"\\u0000"}}', "[" * 900 + "]" * 900],
)  # fmt: skip
@pytest.mark.parametrize("message", ["GetLastMeterValue", "SignalQuality"])
def test_what_no_row_can_hold_is_refused_and_no_mistake_of_ours(charger, message, data):
    assert say(charger, "VoltLync", message, data) == {"status": "Rejected"}
    assert not AuditEntry.objects.filter(action="message.quarantined").exists()
