"""Meter values of OCPP 1.6 (M): readings find their session, whatever their form."""

import json
from datetime import timedelta

import pytest

from csms.models import ChargingSession, MeterReading
from tests.simulate_client import stamp
from voltaro import clock

pytestmark = pytest.mark.e2e


@pytest.fixture
def number(world, charger):
    """A running transaction from register 1000 on."""
    world.card("CARD1")
    return charger.start(1, "CARD1", meter_wh=1000)["transactionId"]


def say(charger, number, samples, at=None, **fields):
    value = {"timestamp": stamp(at), "sampledValue": samples}
    payload = {"connectorId": 1, "meterValue": [value], **({} if number is None else {"transactionId": number}), **fields}
    return charger.call("MeterValues", payload)


def energy(world):
    return world.session().energy_wh


def test_M01_only_a_value(world, charger, number):
    """A sample of nothing but a value is the energy register in Wh."""
    assert say(charger, number, [{"value": "1250"}]) == {}
    assert energy(world) == 250


@pytest.mark.parametrize("unit", ["Celsius", "Celcius", "Furlong", ""])
def test_M02_units_nobody_knows(world, charger, number, unit):
    """Celsius, Celcius and an unknown unit are answered, and harm nothing."""
    samples = [{"value": "41.5", "measurand": "Temperature", "unit": unit}, {"value": "1100", "unit": "Wh"}]
    assert say(charger, number, samples) == {}
    assert energy(world) == 100


def test_M03_values_that_are_no_texts_or_no_numbers(world, charger, number):
    """Numbers, padded texts, empty ones and NaN: what is usable counts, the rest is left out."""
    raw = json.dumps([{"value": 0}])[:-3]
    for uid, value in (("a", "1100"), ("b", '"   1200.2"'), ("c", '""'), ("d", '"NaN"'), ("e", "NaN"), ("f", '"1300,5"')):
        sample = raw + value + "}]"
        charger.send(
            f'[2,"{uid}","MeterValues",{{"connectorId":1,"transactionId":{number},"meterValue":[{{"timestamp":"{stamp()}","sampledValue":{sample}}}]}}]'
        )
        assert charger.answer(uid) == {}
    assert energy(world) == 300


def test_M04_objects_for_lists(world, charger, number):
    """meterValue and sampledValue as single objects, and an empty list of samples."""
    for uid, values in (
        ("a", {"timestamp": stamp(), "sampledValue": {"value": "1400"}}),
        ("b", [{"timestamp": stamp(), "sampledValue": []}]),
        ("c", {"timestamp": stamp(), "sampledValue": [{"value": "1500"}]}),
    ):
        assert charger.call("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": values}, uid=uid) == {}
    assert energy(world) == 500


@pytest.mark.parametrize("ref", [None, 0, -1])
def test_M05_without_a_transaction(world, charger, number, ref):
    """Without a transaction's number, or with 0: the connector's open transaction."""
    assert say(charger, ref, [{"value": "1600"}, {"value": "30000", "measurand": "Power.Active.Import", "unit": "W"}]) == {}
    assert energy(world) == 600


def test_M06_after_the_end(world, charger, number):
    """A closing reading of an ended transaction is kept as late; it is not opened again."""
    charger.stop(number, meter_wh=1500)
    assert say(charger, number, [{"value": "1510", "context": "Transaction.End"}]) == {}
    session = world.session()
    assert (session.state, session.energy_wh) == ("STOPPED", 500)
    assert session.readings.filter(late=True).count() == 1


def test_M07_the_main_meter(world, charger, number):
    """Connector 0 is the charger's own meter: kept, and nobody's transaction."""
    charger.call("MeterValues", {"connectorId": 0, "meterValue": [{"timestamp": stamp(), "sampledValue": [{"value": "777000"}]}]})
    world.until(lambda: MeterReading.objects.filter(connector_no=0).exists())
    world.set_up("VLT-0003", connectors=2)
    other = world.connect("VLT-0003")
    other.call("MeterValues", {"connectorId": 0, "meterValue": [{"timestamp": stamp(), "sampledValue": [{"value": "888000"}]}]})
    assert MeterReading.objects.get(energy_wh=888_000).session is None
    assert ChargingSession.objects.count() == 1
    assert energy(world) < 1000


def test_M08_phases_and_their_total(world, charger, number):
    """Three phases beside their total: the total counts once; without one, the phases' sum."""
    measurand = {"measurand": "Energy.Active.Import.Register", "unit": "Wh"}
    phases = [{"value": str(value), "phase": phase, **measurand} for phase, value in (("L1", 500), ("L2", 400), ("L3", 300))]
    say(charger, number, [*phases, {"value": "1200", **measurand}])
    assert energy(world) == 200
    say(charger, number, [{**one, "value": str(int(one["value"]) + 40)} for one in phases], at=clock.now() + timedelta(seconds=1))
    assert energy(world) == 320


def test_M09_kWh_and_Wh(world, charger, number):
    """kWh and Wh in turn are one scale."""
    say(charger, number, [{"value": "1.200", "unit": "kWh", "measurand": "Energy.Active.Import.Register"}])
    assert energy(world) == 200
    say(charger, number, [{"value": "1350", "unit": "Wh"}], at=clock.now() + timedelta(seconds=1))
    assert energy(world) == 350


def test_M10_a_register_that_drops(world, charger, number):
    """A drop for one sample is passed over; for two it is a new beginning."""
    at = clock.now()
    for step, register in enumerate((1400, 20, 1500)):
        say(charger, number, [{"value": str(register)}], at=at + timedelta(seconds=step))
    assert energy(world) == 500
    for step, register in enumerate((30, 60, 160), start=5):
        say(charger, number, [{"value": str(register)}], at=at + timedelta(seconds=step))
    assert energy(world) == 500 + 130


def test_M11_a_placeholder_beside_the_reading(world, charger, number):
    """A Transaction.Begin of 0 beside the periodic value: both kept, the value counts."""
    samples = [{"value": "0", "context": "Transaction.Begin"}, {"value": "1400", "context": "Sample.Periodic"}]
    say(charger, number, samples)
    assert energy(world) == 400
    assert len(MeterReading.objects.get().samples) == 2
    say(charger, number, list(reversed(samples)), at=clock.now() + timedelta(seconds=1))
    assert energy(world) == 400


def test_M12_out_of_order(world, charger, number):
    """A batch out of order is put in order; the curve has the charger's times."""
    at = clock.now() - timedelta(minutes=5)
    values = [
        {"timestamp": stamp(at + timedelta(minutes=minute)), "sampledValue": [{"value": str(1000 + 100 * minute)}]} for minute in (3, 1, 2)
    ]
    charger.call("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": values})
    assert energy(world) == 300
    assert list(MeterReading.objects.order_by("at").values_list("energy_wh", flat=True)) == [1100, 1200, 1300]


def test_M13_signed_values(world, charger, number):
    """A signed value is kept as it came, byte for byte, and is no part of the arithmetic."""
    signed = 'OCMF|{"FV":"1.0","GI":"Ünit","RD":[{"RV":2935.6,"RU":"kWh"}]}|{"SD":"304402203a"}'
    say(charger, number, [{"value": signed, "format": "SignedData", "context": "Transaction.Begin"}, {"value": "1100"}])
    assert energy(world) == 100
    kept = MeterReading.objects.get().samples
    assert signed in [one["value"] for one in kept]


def test_M14_clock_aligned(world, charger, number):
    """Readings by the clock, in and out of a transaction, are kept with their context."""
    say(charger, number, [{"value": "1100", "context": "Sample.Clock"}])
    charger.stop(number, meter_wh=1200)
    say(charger, None, [{"value": "1201", "context": "Sample.Clock"}])
    assert [(one.context, one.session is not None) for one in MeterReading.objects.order_by("id")] == [
        ("Sample.Clock", True),
        ("Sample.Clock", False),
    ]


def test_M15_a_frame_with_a_hole(world, charger, number):
    """`"transactionId":,` is mended: answered, and the reading counts."""
    charger.send(
        f'[2,"x","MeterValues",{{"connectorId":1,"transactionId":,"meterValue":[{{"timestamp":"{stamp()}","sampledValue":[{{"value":"1300"}},'
        '{"value":"30000","measurand":"Power.Active.Import"}]}]}]'
    )
    assert charger.answer("x") == {}
    assert energy(world) == 300
    assert "missing" in world.frames(world.network.kaveri_charger, "MeterValues", "IN")[0].note


def test_M16_a_battery_that_is_suddenly_empty(world, charger, number):
    """A state of charge of 0 after 55 means unknown."""
    say(charger, number, [{"value": "55", "measurand": "SoC", "unit": "Percent"}, {"value": "1100"}])
    say(charger, number, [{"value": "0", "measurand": "SoC", "unit": "Percent"}, {"value": "1200"}], at=clock.now() + timedelta(seconds=1))
    assert world.session().soc_pct == 55


def test_M17_a_reading_every_second(world, charger, number):
    """A reading each second for minutes: every one is answered, and the energy is right."""
    at = clock.now() - timedelta(seconds=300)
    for second in range(300):
        assert say(charger, number, [{"value": str(1000 + 8 * second)}], at=at + timedelta(seconds=second)) == {}
    assert energy(world) == 8 * 299
