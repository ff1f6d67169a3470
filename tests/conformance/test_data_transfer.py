"""DataTransfer of OCPP 1.6 (D): vendors we know, strangers, and data of any kind."""

import json

import pytest

from csms.models import ChargePoint, SignalQuality

pytestmark = pytest.mark.e2e
SIGNAL = {"rssi": 22, "ber": 99}


def test_TC_064_D01_a_vendor_nobody_knows(charger):
    """An unknown vendor: UnknownVendorId, and no data."""
    assert charger.data_transfer("com.example", "Anything", {"a": 1}) == {"status": "UnknownVendorId"}
    assert charger.data_transfer("com.example") == {"status": "UnknownVendorId"}


def test_D02_a_message_a_known_vendor_does_not_have(charger):
    """A known vendor with an unknown message: UnknownMessageId, and no data; the vendor's case makes no difference."""
    for vendor in ("VoltLync", "VOLTLYNC"):
        assert charger.data_transfer(vendor, "Nonsense", "{}") == {"status": "UnknownMessageId"}
    assert charger.data_transfer("voltlync", "SignalQuality", SIGNAL) == {"status": "Accepted"}
    assert SignalQuality.objects.get().rssi == 22


@pytest.mark.parametrize("data", ['{"rssi":22,"ber":99}', "[1,[2,{}]]", "5", '"{not json"', '"\\"{\\\\\\"rssi\\\\\\":22}\\""'])
def test_D03_data_that_is_no_text(world, charger, data):
    """Data that is an object, an array, a number or torn JSON: answered as the vendor's rule has it, and kept byte for byte."""
    raw = f'[2,"odd","DataTransfer",{{"vendorId":"VoltLync","messageId":"SignalQuality","data":{data}}}]'
    charger.send(raw)
    assert charger.answer("odd") == {"status": "Accepted" if "rssi" in data else "Rejected"}
    assert SignalQuality.objects.count() == ("rssi" in data)
    assert world.frames(world.network.kaveri_charger, "DataTransfer", "IN")[0].text == raw
    charger.drop()
    ChargePoint.objects.filter(cp_id="VLT-0001").update(quirk_settings={"data_transfer": "accept"})
    lenient = world.connect()
    stranger = f'[2,"strange","DataTransfer",{{"vendorId":"com.example","data":{data}}}]'
    lenient.send(stranger)
    assert lenient.answer("strange") == {"status": "Accepted"}  # a charger that would take a no ill
    assert json.loads(world.frames(world.network.kaveri_charger, "DataTransfer", "IN")[-1].text) == json.loads(stranger)
