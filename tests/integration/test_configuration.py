"""What a charger's configuration is and should be: read, wished, set, read back, tried again ever more seldom."""

import math
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError

from accounts.models import AuditEntry
from csms import commands, configuration, quirks, wishes
from csms.models import Alert, ChargePoint, Command, ConfigurationKey, OcppMessage, QuirkProfile
from tests.charger import Charger
from tests.configured import Box
from voltaro import clock

pytestmark = pytest.mark.django_db
KEYS = {"GetConfigurationMaxKeys": "20", "MeterValueSampleInterval": "900", "HeartbeatInterval": "300"}


@pytest.fixture(autouse=True)
def _profiles():
    quirks.forget()
    yield
    quirks.forget()


@pytest.fixture
def charger(network, bells):
    return Charger(network.kaveri_charger)


@pytest.fixture
def profile(network):
    """A profile for the makers of the charger in these tests."""

    def profile(name: str = "Acme", **settings) -> QuirkProfile:
        row, _ = QuirkProfile.objects.update_or_create(name=name, defaults={"vendor": "Acme", "settings": settings})
        quirks.forget()
        return row

    return profile


def booted(charger: Charger, **fields) -> None:
    charger.boot(**fields)
    clock.shift(125)  # settled, and past the time that is left to those who want to charge


def row(charger: Charger, key: str) -> ConfigurationKey:
    return ConfigurationKey.objects.get(charge_point=charger.row, key__iexact=key)


# -- reading -----------------------------------------------------------------------------------------------------------
def test_B12_nothing_is_asked_before_the_boot_nor_in_the_first_minute(charger):
    assert configuration.apply_due(clock.now(), 100) == 0
    charger.boot()
    assert configuration.apply_due(clock.now(), 100) == 0 and Command.objects.count() == 0
    clock.shift(59)
    assert configuration.apply_due(clock.now(), 100) == 0


def test_G01_after_the_first_boot_of_a_firmware_it_is_read(charger):
    booted(charger)
    box = Box(charger, KEYS, readonly=["GetConfigurationMaxKeys"])
    asked = box.work()
    assert {action for action, _ in asked} == {"GetConfiguration"}
    kept = row(charger, "MeterValueSampleInterval")
    assert (kept.value, kept.known, kept.readonly, kept.state) == ("900", True, False, "reported")
    assert row(charger, "GetConfigurationMaxKeys").readonly is True
    unknown = row(charger, "SendLocalListMaxLength")
    assert (unknown.known, unknown.value) == (False, None)


def test_once_read_the_same_firmware_is_not_read_again_and_a_new_one_is(charger):
    booted(charger)
    box = Box(charger, KEYS)
    assert box.work()
    charger.connect()
    booted(charger)
    assert box.work() == []
    booted(charger, firmwareVersion="2.0")
    assert box.work()


def test_G03_Q136_forty_keys_are_asked_for_in_portions(charger, profile):
    profile(configuration_chunk=10)
    booted(charger)
    asked = Box(charger, KEYS).work()
    assert max(len(payload["key"]) for _, payload in asked) == 10 and len(asked) >= 5
    every = [key for _, payload in asked for key in payload["key"]]
    assert len(every) == len(set(every)) and "AuthorizationKey" not in every


@pytest.mark.parametrize(("said", "most"), [("7", 7), ("0", 10), ("99", 10), ("many", 10), ("-3", 10)])
def test_Q136_what_it_says_it_takes_is_believed_when_it_is_less(charger, said, most):
    booted(charger)
    asked = Box(charger, {**KEYS, "GetConfigurationMaxKeys": said}).work()
    assert max(len(payload["key"]) for _, payload in asked[1:]) == most


def test_everything_is_asked_for_at_once_when_somebody_wants_that(charger, network):
    booted(charger)
    configuration.read(network.kaveri_charger, quirks.of(network.kaveri_charger), everything=True, by="om")
    box = Box(charger, {**KEYS, "VendorWifiSsid": "site", "VendorWifiPassword": "hunter2"})
    box.answer()
    assert ("GetConfiguration", {}) in box.asked
    assert row(charger, "VendorWifiSsid").value == "site"
    assert row(charger, "VendorWifiPassword").value is None
    kept = [bytes(one) for one in OcppMessage.objects.values_list("raw", flat=True)]
    assert not any(b"hunter2" in one for one in kept)
    assert "hunter2" not in str(list(Command.objects.values_list("response", flat=True)))


@pytest.mark.parametrize(
    ("answer", "value", "readonly"),
    [
        ({"configurationKey": [{"key": "HeartbeatInterval", "value": "60"}]}, "60", None),
        ({"configurationKey": [{"key": "heartbeatinterval", "readonly": "true", "value": 60}]}, "60", True),
        ({"configurationKey": {"key": "HeartbeatInterval", "readonly": False}}, None, False),
        ({"configurationKey": [None, 5, {}, {"key": None}, {"key": "HeartbeatInterval", "value": None, "readonly": False}]}, None, False),
        ({"configurationKey": [{"key": " HeartbeatInterval\x00", "value": "6\x000", "readonly": 1}]}, "60", True),
        ({"configurationKey": [{"key": "HeartbeatInterval", "value": "x" * 900, "readonly": False}]}, "x" * 500, False),
        ({"configurationKey": [{"key": "HeartbeatInterval", "value": "1"}, {"key": "HEARTBEATINTERVAL", "value": "2"}]}, "2", None),
    ],
)
def test_Q42_Q135_an_answer_is_kept_however_it_is_written(charger, answer, value, readonly):
    configuration.store(charger.row.pk, answer, ["HeartbeatInterval"], clock.now())
    kept = row(charger, "HeartbeatInterval")
    assert (kept.key, kept.value, kept.readonly, kept.known) == ("HeartbeatInterval", value, readonly, True)


@pytest.mark.parametrize("answer", [{}, {"configurationKey": None}, {"configurationKey": 5, "unknownKey": {}}, {"unknownKey": [["x"]]}])
def test_Q42_an_answer_that_says_nothing_is_no_trouble(charger, answer):
    assert configuration.store(charger.row.pk, answer, ["HeartbeatInterval"], clock.now()) == 0


def test_a_charger_cannot_fill_the_table(charger):
    many = {"configurationKey": [{"key": f"K{n}", "value": "x"} for n in range(2_000)], "unknownKey": [f"U{n}" for n in range(2_000)]}
    for _ in range(2):
        configuration.store(charger.row.pk, many, [], clock.now())
    assert ConfigurationKey.objects.filter(charge_point=charger.row).count() == wishes.KEYS_A_CHARGER


def test_a_charger_that_does_not_answer_is_asked_ever_more_seldom_and_then_left(charger):
    booted(charger)
    box = Box(charger, KEYS, silent=["GetConfiguration"])
    asked = []
    for _ in range(60):
        box.work(1)
        clock.shift(61)
        commands.timeout_due(clock.now(), 100)
        asked.append(len(box.asked))
        clock.shift(600)
        charger.call("Heartbeat")
    assert 3 <= asked[-1] <= 5
    assert row(charger, "GetConfigurationMaxKeys").state == "reported"


def test_one_that_knows_no_GetConfiguration_is_left_alone(charger):
    booted(charger)
    box = Box(charger, KEYS, errors={"GetConfiguration": "NotSupported"})
    assert len(box.work()) == 1
    clock.shift(7200)
    assert box.work() == []


# -- wishes ------------------------------------------------------------------------------------------------------------
def wish(charger: Charger, key: str, value: str) -> ConfigurationKey:
    return wishes.wish(ChargePoint.objects.get(pk=charger.row.pk), key, value, by="om", now=clock.now())


def test_G04_a_wish_is_set_and_read_back(charger):
    booted(charger)
    box = Box(charger, KEYS)
    box.work()
    wish(charger, "metervaluesampleinterval", "30")
    assert [action for action, _ in box.work()] == ["ChangeConfiguration", "GetConfiguration"]
    kept = row(charger, "MeterValueSampleInterval")
    assert (kept.value, kept.wanted, kept.wanted_by, kept.state, kept.next_try_at) == ("30", "30", "om", "in_step", None)
    entry = AuditEntry.objects.get(action="configuration.wished")
    assert entry.after == {"key": "MeterValueSampleInterval", "wanted": "30"}


def test_a_wish_that_is_so_already_asks_nothing(charger):
    booted(charger)
    box = Box(charger, {**KEYS, "AuthorizeRemoteTxRequests": "TRUE"})
    box.work()
    assert wish(charger, "AuthorizeRemoteTxRequests", "true").state == "in_step"
    assert box.work() == []


def test_a_profiles_wishes_are_set_after_the_boot_once_it_was_read(charger, profile):
    profile(configuration={"MeterValueSampleInterval": "30", "HeartbeatInterval": "300"})
    booted(charger)
    asked = [(action, payload.get("value")) for action, payload in Box(charger, KEYS).work()]
    assert asked.count(("ChangeConfiguration", "30")) == 1 and ("ChangeConfiguration", "300") not in asked
    kept = row(charger, "HeartbeatInterval")
    assert (kept.state, kept.wanted_by) == ("in_step", "profile: Acme")


def test_an_operators_wish_is_not_overruled_by_a_profile_and_a_withdrawn_one_gives_way(charger, profile):
    booted(charger)
    box = Box(charger, KEYS)
    wish(charger, "MeterValueSampleInterval", "10")
    box.work()
    profile(configuration={"MeterValueSampleInterval": "30"})
    wishes.take_up([charger.row.pk], quirks.wishes(ChargePoint.objects.get(pk=charger.row.pk)), clock.now())
    assert row(charger, "MeterValueSampleInterval").wanted == "10"
    wishes.withdraw(ChargePoint.objects.get(pk=charger.row.pk), "MeterValueSampleInterval", now=clock.now())
    box.work()
    kept = row(charger, "MeterValueSampleInterval")
    assert (kept.wanted, kept.wanted_by, kept.value, kept.state) == ("30", "profile: Acme", "30", "in_step")


def test_what_a_profile_no_longer_wants_is_let_go(charger, profile):
    profile(configuration={"MeterValueSampleInterval": "30"})
    booted(charger)
    Box(charger, KEYS).work()
    profile(configuration={})
    wishes.take_up([charger.row.pk], quirks.wishes(ChargePoint.objects.get(pk=charger.row.pk)), clock.now())
    kept = row(charger, "MeterValueSampleInterval")
    assert (kept.wanted, kept.state, kept.value) == (None, "reported", "30")


def test_Q137_accepted_and_not_done_is_seen_and_tried_again_ever_more_seldom(charger):
    booted(charger)
    box = Box(charger, KEYS, forgets=["MeterValueSampleInterval"])
    box.work()
    wish(charger, "MeterValueSampleInterval", "30")
    waits = []
    for _ in range(6):
        box.work()
        kept = row(charger, "MeterValueSampleInterval")
        assert (kept.state, kept.value) == ("differs", "900")
        waits.append(kept.next_try_at - clock.now())
        clock.shift(kept.next_try_at.timestamp() - clock.now().timestamp() + 1)
        charger.call("Heartbeat")
    minutes = [math.ceil(wait.total_seconds() / 60) for wait in waits]
    assert minutes == [1, 5, 30, 120, 1440, 1440]
    assert Alert.objects.get(kind="configuration", cleared_at=None).count >= 1
    box.forgets.clear()
    box.work()
    assert row(charger, "MeterValueSampleInterval").state == "in_step"
    assert not Alert.objects.filter(kind="configuration", cleared_at=None).exists()


def test_Q122_without_reading_back_the_word_is_believed(charger, profile):
    profile(read_back=False)
    booted(charger)
    box = Box(charger, KEYS)
    box.work()
    wish(charger, "MeterValueSampleInterval", "30")
    assert [action for action, _ in box.work()] == ["ChangeConfiguration"]
    kept = row(charger, "MeterValueSampleInterval")
    assert (kept.value, kept.state) == ("30", "in_step")


def test_G05_a_reboot_is_waited_for_and_then_it_is_read_again(charger):
    booted(charger)
    box = Box(charger, KEYS, reboot=["MeterValueSampleInterval"])
    box.work()
    wish(charger, "MeterValueSampleInterval", "30")
    box.work()
    kept = row(charger, "MeterValueSampleInterval")
    assert kept.state == "reboot_required" and Command.objects.latest("pk").state == "accepted"
    clock.shift(3600)
    charger.call("Heartbeat")
    assert box.work() == []
    charger.connect()
    booted(charger)
    clock.shift(700)
    assert ("GetConfiguration", {"key": ["MeterValueSampleInterval"]}) in box.work()
    assert row(charger, "MeterValueSampleInterval").state == "in_step"


@pytest.mark.parametrize(
    ("odd", "key", "state"),
    [
        ({"reject": ["HeartbeatInterval"]}, "HeartbeatInterval", "rejected"),
        ({}, "NoSuchSetting", "not_supported"),
        ({"errors": {"ChangeConfiguration": "NotImplemented"}}, "HeartbeatInterval", "not_supported"),
        ({"errors": {"ChangeConfiguration": "InternalError"}}, "HeartbeatInterval", "due"),
    ],
)
def test_G06_a_refusal_is_shown_and_backs_off(charger, odd, key, state):
    booted(charger)
    box = Box(charger, KEYS, **odd)
    Box(charger, KEYS).work()
    wish(charger, key, "17")
    assert len(box.work()) == 1
    kept = row(charger, key)
    assert kept.state == state and kept.error
    assert (kept.next_try_at is None) == (state == "not_supported")
    assert box.work() == []


def test_Q138_what_a_firmware_does_not_support_is_tried_again_with_the_next(charger):
    booted(charger)
    box = Box(charger, KEYS)
    box.work()
    wish(charger, "WebSocketPingInterval", "30")
    box.work()
    assert row(charger, "WebSocketPingInterval").state == "not_supported"
    clock.shift(3 * 86_400)
    charger.call("Heartbeat")
    assert box.work() == [] and not Alert.objects.filter(kind="configuration").exists()
    box.keys["WebSocketPingInterval"] = "0"
    charger.connect()
    booted(charger, firmwareVersion="2.0")
    box.work()
    clock.shift(300)
    box.work()
    assert (row(charger, "WebSocketPingInterval").state, box.keys["WebSocketPingInterval"]) == ("in_step", "30")


def test_G07_Q122_a_list_of_measurands_gets_shorter_until_it_is_accepted(charger, profile):
    wanted = "Energy.Active.Import.Register,Power.Active.Import,SoC,Temperature,RPM"
    profile(configuration={"MeterValuesSampledData": wanted})
    booted(charger)
    box = Box(charger, {**KEYS, "MeterValuesSampledData": ""}, measurands={"Energy.Active.Import.Register", "Power.Active.Import"})
    box.work(40)
    kept = row(charger, "MeterValuesSampledData")
    assert kept.value == kept.wanted == "Energy.Active.Import.Register,Power.Active.Import"
    assert kept.state == "in_step" and kept.error == "It rejected the list with RPM, Temperature, SoC."
    # A new firmware may know more: the whole list once more.
    box.measurands = None
    charger.connect()
    booted(charger, firmwareVersion="2.0")
    box.work(40)
    assert row(charger, "MeterValuesSampledData").value == wanted


def test_a_change_by_hand_is_read_back_too(charger, network):
    booted(charger)
    box = Box(charger, KEYS)
    box.work()
    charge_point = ChargePoint.objects.get(pk=charger.row.pk)
    commands.ask(charge_point, "ChangeConfiguration", {"key": "HeartbeatInterval", "value": "77"}, by="om", trigger="console")
    box.answer()
    kept = row(charger, "HeartbeatInterval")
    assert (kept.value, kept.wanted, kept.state) == ("77", None, "reported")


def test_a_charger_that_is_away_is_not_asked_and_gets_it_when_it_is_back(charger):
    booted(charger)
    box = Box(charger, KEYS)
    box.work()
    charger.drop()
    wish(charger, "MeterValueSampleInterval", "30")
    assert box.work() == [] and row(charger, "MeterValueSampleInterval").attempts == 0
    charger.connect()
    clock.shift(700)
    assert box.work()
    assert row(charger, "MeterValueSampleInterval").state == "in_step"


def test_a_lost_answer_is_asked_for_again(charger):
    booted(charger)
    box = Box(charger, KEYS)
    box.work()
    box.silent.add("ChangeConfiguration")
    wish(charger, "MeterValueSampleInterval", "30")
    box.work(1)
    clock.shift(31)
    commands.timeout_due(clock.now(), 100)
    kept = row(charger, "MeterValueSampleInterval")
    assert (kept.state, kept.attempts) == ("due", 1) and kept.next_try_at > clock.now() + timedelta(seconds=50)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("AuthorizationKey", "x" * 20, "security page"),
        ("SecurityProfile", "2", "security page"),
        ("", "1", "1 to 50"),
        ("k" * 51, "1", "1 to 50"),
        ("HeartbeatInterval", "x" * 501, "500"),
        ("GetConfigurationMaxKeys", "5", "only be read"),
    ],
)
def test_what_nobody_may_wish(charger, key, value, words):
    booted(charger)
    Box(charger, KEYS, readonly=["GetConfigurationMaxKeys"]).work()
    with pytest.raises(ValidationError, match=words):
        wish(charger, key, value)


def test_riders_go_before_the_configuration(charger, network):
    booted(charger)
    configuration.apply_due(clock.now(), 100)
    commands.request(network.kaveri_charger, "ClearCache", {}, trigger="test")
    assert charger.command()[1] == "ClearCache"
