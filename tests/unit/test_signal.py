"""What a modem's signal report may say."""

import pytest

from csms.rules import signal
from csms.rules.signal import Signal


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"rssi": 22, "ber": 99, "temperature": 38.2, "timestamp": "86"}, Signal(22, None, 38)),
        ({"rssi": 0}, Signal(0)),
        ({"rssi": 31, "ber": 7}, Signal(31, 7)),
        ({"rssi": 99, "ber": 99}, Signal(None)),
        ({"rssi": "17", "ber": "0"}, Signal(17, 0)),
        ({"rssi": 17.0, "temperature": "warm"}, Signal(17)),
        ({"rssi": 17, "temperature": 900}, Signal(17)),
    ],
)
def test_a_report_is_read(data, found):
    assert signal.read(data) == (found, "")


@pytest.mark.parametrize(
    "data",
    [
        {"rssi": 32}, {"rssi": -1}, {"rssi": 98}, {"rssi": 100}, {"rssi": 5.5}, {"rssi": True}, {"rssi": None}, {"rssi": "strong"},
        {"rssi": 20, "ber": 8}, {"rssi": 20, "ber": -1}, {"rssi": float("nan")}, {}, [], "22", 22, None, {"temperature": 30},
    ],
)  # fmt: skip
def test_a_signal_that_is_none_is_refused(data):
    found, why = signal.read(data)
    assert found is None
    assert why


def test_in_dBm():
    assert [signal.dbm(rssi) for rssi in (0, 14, 22, 31)] == [-113, -85, -69, -51]
    assert [signal.level(rssi) for rssi in (None, 5, 10, 22)] == ["", "bad", "warn", "good"]
