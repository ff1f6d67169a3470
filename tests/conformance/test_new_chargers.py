"""What the list of cases has not, over real lines: chargers nobody knows, and firmware that cuts and joins frames (Q40)."""

import json
import time

import pytest
from websockets.exceptions import InvalidStatus

from csms import onboarding, stations
from csms.models import ChargePoint, Connection, Connector, OcppMessage, UnknownCharger
from tests.abuse.raw import RawLine
from tests.conformance.conftest import KEY
from tests.server import basic
from tests.simulate_client import CallError
from voltaro import clock

pytestmark = pytest.mark.e2e
FIRST_KEY = "the very first key it shows"


def door(world, cp_id, key=FIRST_KEY):
    """What the handshake answers, and how many bytes long it is but for the date."""
    said = world.server.shake(f"/ocpp/{cp_id}", basic(cp_id, key), patience_s=1)
    return b"\r\n".join(sorted(line for line in said.splitlines() if not line.lower().startswith(b"date")))


def test_a_stranger_and_a_wrong_password_hear_the_same_and_the_stranger_is_noted(world):
    assert door(world, "NOBODY-1") == door(world, "VLT-0001", "a wrong password") != b""
    row = UnknownCharger.objects.get()
    assert (row.identity, row.address, row.had_key) == ("NOBODY-1", "127.0.0.1", True)


def test_from_the_open_window_to_the_first_session(world):
    window = onboarding.open_window(world.network.voltaro, world.network.om, minutes=30, now=clock.now())
    new = world.connect("NEW-1", FIRST_KEY, boot=False)
    answer = new.boot()
    assert (answer["status"], answer["interval"]) == ("Pending", 30)
    with pytest.raises(CallError) as refused:
        new.status(1, "Available")
    assert refused.value.code == "SecurityError"
    with pytest.raises(CallError):
        new.start(1, "CARD1", meter_wh=0)
    waits = UnknownCharger.objects.select_related("charge_point").get()
    assert (waits.charge_point.unclaimed, waits.charge_point.vendor != "") == (True, True)
    # Claimed while it waits, the window closed at once: it is served with its next boot.
    stations.add_charge_point("NEW-1", company=world.network.voltaro)
    onboarding.claimed(waits.charge_point, identity="NEW-1")
    onboarding.close_window(window, clock.now())
    assert new.boot()["status"] == "Accepted"
    new.status(1, "Available")
    assert Connector.objects.get(charge_point="NEW-1").status == "Available"
    new.end()
    world.until(lambda: Connection.objects.filter(charge_point__cp_id="NEW-1", closed_at__isnull=False).exists())
    assert world.connect("NEW-1", FIRST_KEY).boot()["status"] == "Accepted"
    with pytest.raises(InvalidStatus):
        world.connect("NEW-1", "another password", boot=False)


def test_when_the_window_closes_who_waits_is_sent_away(world):
    window = onboarding.open_window(world.network.voltaro, world.network.om, minutes=30, now=clock.now())
    new = world.connect("NEW-1", None, boot=False)
    assert new.boot()["status"] == "Pending"
    onboarding.close_window(window, clock.now())
    world.until(lambda: Connection.objects.filter(charge_point__cp_id="NEW-1", closed_at__isnull=False).exists(), "its line to end")
    with pytest.raises(InvalidStatus):
        world.connect("NEW-1", None, boot=False)


def test_blocked_it_is_cut_off_and_never_let_in_again(world):
    onboarding.open_window(world.network.voltaro, world.network.om, minutes=30, now=clock.now())
    world.connect("NEW-1", None, boot=False).boot()
    onboarding.block(UnknownCharger.objects.get(), clock.now())
    world.until(lambda: Connection.objects.filter(charge_point__cp_id="NEW-1", closed_at__isnull=False).exists(), "its line to end")
    assert Connection.objects.get(charge_point__cp_id="NEW-1").close_reason == "blocked"
    with pytest.raises(InvalidStatus):
        world.connect("NEW-1", None, boot=False)


@pytest.fixture
def line(world):
    with RawLine(world.server.port, "VLT-0001", KEY) as line:
        yield line


def said(line, count):
    return [json.loads(line.frame()[1]) for _ in range(count)]


def test_two_frames_in_one_message_get_two_answers_Q40(world, line):
    line.send('[2,"a","Heartbeat",{}]\n[2,"b","Heartbeat",{}]')
    assert [one[:2] for one in said(line, 2)] == [[3, "a"], [3, "b"]]
    world.until(lambda: OcppMessage.objects.filter(direction="IN", action="Heartbeat").count() == 2)
    assert {bytes(one.raw) for one in OcppMessage.objects.filter(direction="IN")} == {b'[2,"a","Heartbeat",{}]', b'[2,"b","Heartbeat",{}]'}


def test_one_frame_in_three_messages_gets_one_answer_Q40(world, line):
    for part in ('[2,"long","BootNotification",{"chargePointVendor":"Ac', 'me","chargePointMo', 'del":"Fast"}]'):
        line.send(part)
        time.sleep(0.1)
    (answer,) = said(line, 1)
    assert answer[:2] == [3, "long"] and answer[2]["status"] == "Accepted"
    assert ChargePoint.objects.get(cp_id="VLT-0001").vendor == "Acme"


def test_what_is_torn_for_good_is_answered_a_moment_later_and_holds_nothing_up_Q22(world, line):
    line.send('[2,"torn","Heartbeat",{"a":"b')
    line.send('[2,"next","Heartbeat",{}]')
    first, second = said(line, 2)
    assert (first[0], first[1], first[2]) == (4, "torn", "FormationViolation") and second[:2] == [3, "next"]
    line.send('[2,"mended","Heartbeat",{"a":1')
    assert said(line, 1)[0][:2] == [3, "mended"]
