"""Configuration of OCPP 1.6 (G): what a charger has, what we want of it, and what becomes of wishing."""

from datetime import timedelta
from itertools import pairwise

import pytest
from django.urls import reverse

from csms import wishes
from csms.models import ChargePoint, Command, ConfigurationKey
from csms.rules.configuration import STANDARD_KEYS
from tests.conformance.box import Box, at_rest
from tests.factories import PASSWORD
from voltaro import clock

pytestmark = pytest.mark.e2e
KEYS = {"GetConfigurationMaxKeys": "20", "NumberOfConnectors": "1", "MeterValueSampleInterval": "900", "HeartbeatInterval": "300"}


def key(name):
    return ConfigurationKey.objects.get(charge_point__cp_id="VLT-0001", key=name)


def read_first(world, charger, keys=KEYS, **how):
    """The charger has been read after its first boot, as every new firmware is."""
    box = Box(charger, keys, **how)
    for _ in range(2):
        world.pass_time(65)
        charger.heartbeat()
    at_rest(world, "configuration.apply")
    box.heard.clear()
    return box


def wish(world, name, value):
    wishes.wish(ChargePoint.objects.get(cp_id="VLT-0001"), name, value, by="om", now=clock.now())
    at_rest(world, "configuration.apply")


def test_TC_019_1_G01_the_whole_configuration(world, charger):
    """All keys are read and kept; a key without readonly, or without a value, is no trouble."""
    world.ask("GetConfiguration")
    rows = [
        {"key": "HeartbeatInterval", "readonly": False, "value": "300"},
        {"key": "NumberOfConnectors", "value": "1"},
        {"key": "SupportedFeatureProfiles", "readonly": True},
        {"key": "VendorMood", "readonly": True, "value": "good"},
    ]
    assert charger.expect("GetConfiguration", {"configurationKey": rows}) == {}
    world.command("GetConfiguration", "effective")
    found = {one.key: (one.value, one.readonly, one.known) for one in ConfigurationKey.objects.filter(reported_at__isnull=False)}
    assert found == {
        "HeartbeatInterval": ("300", False, True),
        "NumberOfConnectors": ("1", None, True),
        "SupportedFeatureProfiles": (None, True, True),
        "VendorMood": ("good", True, True),
    }


def test_TC_019_2_G02_some_keys(world, charger):
    """Named keys are read; what the charger calls unknown is kept as such."""
    world.ask("GetConfiguration", {"key": ["HeartbeatInterval", "NoSuchKey"]})
    answer = {"configurationKey": [{"key": "HeartbeatInterval", "readonly": False, "value": "60"}], "unknownKey": ["NoSuchKey"]}
    assert charger.expect("GetConfiguration", answer) == {"key": ["HeartbeatInterval", "NoSuchKey"]}
    world.command("GetConfiguration", "effective")
    assert (key("HeartbeatInterval").value, key("HeartbeatInterval").known) == ("60", True)
    assert (key("NoSuchKey").value, key("NoSuchKey").known) == (None, False)


def test_G03_more_keys_than_it_takes_at_once(world, charger):
    """40 keys of a charger that takes 10 at once: four requests, one after the other; and what we read by ourselves goes the same way."""
    box = read_first(world, charger, {**KEYS, "GetConfigurationMaxKeys": "10"})
    wanted = [one for one in STANDARD_KEYS if one not in box.keys][:37] + list(KEYS)[:3]
    world.ask("GetConfiguration", {"key": wanted})
    world.until(lambda: len(box.heard) >= 4)
    world.until(lambda: not Command.objects.filter(state__in=("queued", "sent")).exists())
    assert [len(payload["key"]) for _, payload in box.heard] == [10] * 4
    assert [one for _, payload in box.heard for one in payload["key"]] == wanted
    own = Command.objects.filter(action="GetConfiguration", background=True)
    assert own.count() > 4 and all(len(one.payload["key"]) <= 10 for one in own)


def test_TC_021_G04_a_key_is_changed(world, charger):
    """Accepted: read back, and equal to what was wanted."""
    box = read_first(world, charger)
    wish(world, "MeterValueSampleInterval", "30")
    assert box.heard == [
        ("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "30"}),
        ("GetConfiguration", {"key": ["MeterValueSampleInterval"]}),
    ]
    row = key("MeterValueSampleInterval")
    assert (row.wanted, row.value, row.state) == ("30", "30", "in_step")


def test_G05_a_change_that_needs_a_reboot(world, charger, client):
    """RebootRequired: flagged; a restart is offered, and after it the key is read again."""
    box = read_first(world, charger, change=lambda name, value: "RebootRequired")
    wish(world, "MeterValueSampleInterval", "30")
    row = key("MeterValueSampleInterval")
    assert row.state == "reboot_required" and "restart" in row.error
    assert world.command("ChangeConfiguration", "accepted").response == {"status": "RebootRequired"}
    assert [action for action, _ in box.heard] == ["ChangeConfiguration"]
    client.login(username="om", password=PASSWORD)
    page = client.get(reverse("csms:configuration", args=[row.charge_point_id])).content.decode()
    assert reverse("csms:ask", args=[row.charge_point_id, "Reset"]) in page
    world.ask("Reset", {"type": "Soft"})
    charger.expect("Reset")
    world.pass_time(35)
    charger.boot()
    world.command("Reset", "effective")
    for _ in range(7):
        world.pass_time(100)
        charger.heartbeat()
    at_rest(world, "configuration.apply")
    assert box.heard[-1] == ("GetConfiguration", {"key": ["MeterValueSampleInterval"]})
    assert key("MeterValueSampleInterval").state == "in_step"


@pytest.mark.parametrize(("status", "state"), [("NotSupported", "not_supported"), ("Rejected", "rejected")])
def test_TC_040_1_G06_a_change_that_is_refused(world, charger, client, status, state):
    """NotSupported and Rejected are shown; what was rejected is tried again ever more seldom, what is not supported is not."""
    box = read_first(world, charger, change=lambda name, value: status)
    wish(world, "HeartbeatInterval", "17")
    waits = []
    for _ in range(3):
        row = key("HeartbeatInterval")
        assert row.state == state and row.error and (row.wanted, row.value) == ("17", "300")
        if row.next_try_at is None:
            break
        waits.append(row.next_try_at - clock.now())
        while (left := (row.next_try_at - clock.now()).total_seconds()) > -1:
            world.pass_time(min(100, left + 2))
            charger.heartbeat()
        at_rest(world, "configuration.apply")
    assert len(box.heard) == (1 if status == "NotSupported" else 4)
    assert waits == sorted(waits) and all(later > 3 * sooner for sooner, later in pairwise(waits))
    refused = Command.objects.filter(action="ChangeConfiguration").latest("id")
    assert (refused.state, refused.response) == ("rejected", {"status": status})
    client.login(username="om", password=PASSWORD)
    assert status in client.get(f"/admin/csms/command/{refused.pk}/change/").content.decode()


def test_G07_a_list_of_measurands(world, charger):
    """A list of measurands that is rejected is tried again without its last, until it is accepted."""
    knows = {"Energy.Active.Import.Register", "Power.Active.Import"}
    box = read_first(
        world,
        charger,
        {**KEYS, "MeterValuesSampledData": ""},
        change=lambda name, value: "Accepted" if set(value.split(",")) <= knows else "Rejected",
    )
    wish(world, "MeterValuesSampledData", "Energy.Active.Import.Register,Power.Active.Import,SoC,Temperature")
    tried = [len(payload["value"].split(",")) for action, payload in box.heard if action == "ChangeConfiguration"]
    assert tried == [4, 3, 2]
    row = key("MeterValuesSampledData")
    assert row.value == "Energy.Active.Import.Register,Power.Active.Import"
    assert row.state == "in_step" and "SoC" in row.error and row.reported_at > clock.now() - timedelta(minutes=1)
