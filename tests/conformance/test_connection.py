"""Connections and framing (C)."""

import pytest

from tests.simulate_client import CallError

pytestmark = pytest.mark.e2e


def test_C23_a_heartbeat_is_answered_whatever_its_payload(charger):
    """A heartbeat is answered with the time, whether its payload is {}, null or missing."""
    for number, payload in enumerate(("{}", "null", None)):
        uid = f"hb{number}"
        charger.send(f'[2,"{uid}","Heartbeat"]' if payload is None else f'[2,"{uid}","Heartbeat",{payload}]')
        assert charger.answer(uid)["currentTime"].endswith("Z")


def test_C25_an_unknown_action_is_not_implemented(charger):
    """An action nobody knows is answered NotImplemented; the line lives."""
    with pytest.raises(CallError) as refused:
        charger.call("FooBar", {})
    assert refused.value.code == "NotImplemented"
    charger.call("Heartbeat")
