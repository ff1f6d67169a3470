"""New chargers: refused and noted, let in while a window is open, claimed or blocked."""

import base64
import json

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections

from accounts.models import AuditEntry
from csms import commands, dispatch, doors, onboarding, stations
from csms.doors import Knock, Opened, Refused
from csms.models import ChargePoint, Command, Connection, Connector, OcppMessage, UnknownCharger
from csms.rules.budget import PRESENCE, Counts
from tests.charger import Charger
from voltaro import clock

pytestmark = pytest.mark.django_db
KEY = "a key of twenty chars"


class Counting:
    """The counts of the door, without Redis, by the clock of the test."""

    def __init__(self) -> None:
        self.counts: dict[int, Counts] = {}

    def count(self, key: str, window_s: int) -> int:
        return self.counts.setdefault(window_s, Counts(window_s)).add(key, clock.now().timestamp())


@pytest.fixture(autouse=True)
def _counts(monkeypatch):
    monkeypatch.setattr(doors, "counters", Counting())


def knock(identity: str = "NEW-1", password: str | None = None, address: str = "203.0.113.7", **more) -> Knock:
    shown = None if password is None else b"Basic " + base64.b64encode(f"{identity}:{password}".encode())
    return Knock(identity, address, f"/ocpp/{identity}", shown, more.pop("offered", ("ocpp1.6",)), **more)


def admit(*args, **more) -> Opened | Refused:
    return doors.admit(knock(*args, **more), "test", "specific.test!1")


def come_in(*args, **more) -> Charger:
    """A charger that was let in, as one without a wire."""
    opened = admit(*args, **more)
    assert isinstance(opened, Opened), opened
    charger = Charger.__new__(Charger)
    charger.row = ChargePoint.objects.get(pk=opened.context.charge_point_pk)
    charger.ids, charger.transaction_id, charger.sent, charger.context = iter(range(1, 10_000)), None, [], opened.context
    return charger


@pytest.fixture
def window(network):
    return onboarding.open_window(network.voltaro, network.om, minutes=30, now=clock.now())


def inbox() -> UnknownCharger:
    return UnknownCharger.objects.get()


# -- without a window --------------------------------------------------------------------------------------------------
def test_a_stranger_is_refused_and_noted(network):
    assert admit("NEW-1") == Refused("unknown", (1, 1))
    row = inbox()
    assert (row.identity, row.address, row.attempts, row.had_key, row.state) == ("NEW-1", "203.0.113.7", 1, False, "new")
    assert not ChargePoint.objects.filter(cp_id="NEW-1").exists()


def test_its_attempts_are_counted_and_few_are_written(network):
    for _ in range(8):
        admit("NEW-1", KEY)
    assert (inbox().attempts, inbox().had_key) == (8, True)
    clock.shift(61)
    admit("new-1", address="203.0.113.9")  # another case is the same name
    assert (inbox().attempts, inbox().address) == (9, "203.0.113.9")


def test_a_flood_of_names_leaves_few_rows_and_the_newest(network, monkeypatch):
    monkeypatch.setattr(onboarding, "STRANGERS", 20)
    for number in range(60):
        clock.shift(1)
        onboarding.knocked(f"X{number}", "a", False, clock.now(), lambda key, window_s: 1)
    assert UnknownCharger.objects.count() == 20
    assert set(UnknownCharger.objects.values_list("identity", flat=True)) == {f"X{number}" for number in range(40, 60)}
    before = UnknownCharger.objects.count()
    onboarding.knocked("LATE", "a", False, clock.now(), lambda key, window_s: 2 if key.startswith("knock:") else 121)
    assert UnknownCharger.objects.count() == before


def test_the_blocked_and_the_waiting_are_not_swept_away(network, monkeypatch, window):
    come_in("WAITS")
    onboarding.knocked("BAD", "a", False, clock.now(), lambda key, window_s: 1)
    onboarding.block(UnknownCharger.objects.get(identity="BAD"), clock.now())
    monkeypatch.setattr(onboarding, "STRANGERS", 3)
    for number in range(9):
        clock.shift(1)
        onboarding.knocked(f"X{number}", "a", False, clock.now(), lambda key, window_s: 1)
    assert {"WAITS", "BAD"} <= set(UnknownCharger.objects.values_list("identity", flat=True))


def test_a_stranger_and_a_wrong_password_cost_the_same_hashes(network, monkeypatch):
    asked = []
    monkeypatch.setattr("csms.credentials.which", lambda *a, __real=doors.entrance.credentials.which: asked.append(a[0]) or __real(*a))
    admit("VLT-0001", "wrong password here")
    admit("NEW-1", "wrong password here")
    assert asked == ["VLT-0001", "NEW-1"]


@pytest.mark.parametrize("path", ["", "/", "/ocpp", "/ocpp/", "///", "/ocpp/%%%", "/ocpp/a b", "/ocpp/" + "x" * 49, "/ocpp/<script>"])
def test_junk_paths_are_refused_and_nobody_is_noted(network, window, path):
    from csms.rules.door import identity

    found = doors.admit(Knock(identity(path), "203.0.113.7", path, None, ("ocpp1.6",)), "test", "c")
    assert found.why == "no_identity" and not UnknownCharger.objects.exists()


# -- with a window -----------------------------------------------------------------------------------------------------
def test_while_a_window_is_open_a_stranger_waits_and_is_asked_nothing(network, window):
    charger = come_in("NEW-1", KEY)
    answer = charger.boot(chargePointVendor="Zed", chargePointModel="Z22", chargePointSerialNumber="S-1", firmwareVersion="9")
    assert (answer["status"], answer["interval"]) == ("Pending", 30)
    row = ChargePoint.objects.get(cp_id="NEW-1")
    assert (row.vendor, row.model, row.reported_serial, row.firmware_version) == ("Zed", "Z22", "S-1", "9")
    assert (row.registration, row.unclaimed, row.company, row.security_profile) == ("Pending", True, network.voltaro, 1)
    assert inbox().charge_point == row and inbox().had_key and row.serial_number is None
    window.refresh_from_db()
    assert window.let_in == 1
    assert charger.call("Heartbeat")["currentTime"]
    assert Command.objects.count() == 0


def test_unclaimed_it_can_do_nothing_but_boot(network, window):
    charger = come_in()
    charger.boot()
    commands.request(charger.row, "TriggerMessage", {"requestedMessage": "StatusNotification"}, trigger="test")
    ident, *_ = charger.command()
    charger.accept(ident)
    at = "2026-03-01T10:00:00Z"
    for action, payload in (
        ("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Available"}),
        ("StartTransaction", {"connectorId": 1, "idTag": "CARD", "meterStart": 0, "timestamp": at}),
        ("MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": at, "sampledValue": [{"value": "1"}]}]}),
        ("StopTransaction", {"transactionId": 1, "meterStop": 1, "timestamp": at}),
        ("Authorize", {"idTag": "CARD"}),
        ("DataTransfer", {"vendorId": "v"}),
    ):
        assert charger.raw(json.dumps([2, action, action, payload]))[2] == "SecurityError", action
    assert not Connector.objects.filter(charge_point="NEW-1").exists()
    commands.request(charger.row, "RemoteStartTransaction", {"idTag": "A", "connectorId": 1}, trigger="test")
    assert charger.command() is None
    with pytest.raises(ValidationError):
        commands.ask(charger.row, "Reset", {"type": "Nonsense"}, by="om", trigger="test")


def test_unclaimed_a_flood_of_statuses_does_not_get_it_in_either(network, window):
    """Beyond its budget a status is answered and acted on a moment later: not before somebody has claimed the charger."""
    charger = come_in()
    charger.boot()
    status = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
    said = [charger.raw(json.dumps([2, f"s{number}", "StatusNotification", status])) for number in range(PRESENCE + 5)]
    assert said[0][2] == "SecurityError" and said[-1] == [3, f"s{PRESENCE + 4}", {}]
    dispatch.settle_held(charger.context)
    assert not Connector.objects.filter(charge_point="NEW-1").exists() and not charger.context.budgets.held
    assert "not before it is accepted" in OcppMessage.objects.latest("id").note


def test_its_first_key_is_its_key_until_somebody_says_otherwise(network, window):
    come_in("NEW-1", KEY)
    assert isinstance(admit("NEW-1", KEY), Opened)
    assert isinstance(admit("new-1", KEY), Opened)
    assert admit("NEW-1", "another one of 20 ch").why == "wrong_key"
    assert admit("NEW-1").why == "wrong_key"


@pytest.mark.parametrize("password", [None, "", "short"])
def test_without_a_key_worth_the_name_it_waits_without(network, window, password):
    come_in("NEW-1", password)
    row = ChargePoint.objects.get(cp_id="NEW-1")
    assert (row.security_profile, row.credentials_hash) == (0, "")


def test_Q1_one_that_names_no_sub_protocol_can_come_again(network, window):
    come_in("NEW-1", offered=())
    assert isinstance(admit("NEW-1", offered=()), Opened)
    assert isinstance(admit("NEW-1", offered=("ocpp1.6",)), Opened)


def test_one_that_speaks_another_version_is_not_spoken_with(network, window):
    assert admit("NEW-1", offered=("ocpp2.0.1",)).why == "subprotocol"


def test_when_the_window_closes_it_is_a_stranger_again(network, window, django_capture_on_commit_callbacks):
    charger = come_in("NEW-1", KEY)
    charger.boot()
    with django_capture_on_commit_callbacks(execute=True):
        onboarding.close_window(window, clock.now())
    row = ChargePoint.objects.get(cp_id="NEW-1")
    assert not row.online and Connection.objects.get(charge_point=row).close_reason == "unclaimed"
    assert admit("NEW-1", KEY).why == "unknown"
    assert admit("NEW-2").why == "unknown"
    onboarding.open_window(network.voltaro, network.om, minutes=5, now=clock.now())
    assert isinstance(admit("NEW-1", KEY), Opened)


def test_a_window_that_runs_out_sends_them_away_too(network, window):
    come_in("NEW-1")
    assert onboarding.send_away_due(clock.now(), 10) == 0
    clock.shift(31 * 60)
    assert onboarding.send_away_due(clock.now(), 10) == 1
    assert onboarding.send_away_due(clock.now(), 10) == 0
    assert admit("NEW-1").why == "unknown"


def test_a_window_lets_in_so_many_and_an_address_so_many_a_minute(network, window, monkeypatch):
    found = [admit(f"N{number}") for number in range(12)]
    assert [isinstance(one, Opened) for one in found] == [True] * 10 + [False] * 2
    assert isinstance(admit("ELSEWHERE", address="198.51.100.1"), Opened)
    clock.shift(61)
    monkeypatch.setattr(onboarding, "LET_IN_AT_MOST", 12)
    assert isinstance(admit("N20"), Opened)
    assert admit("N21").why == "unknown"


def test_one_of_ours_is_not_let_in_by_a_window(network, window):
    ChargePoint.objects.filter(cp_id="VLT-0001").update(credentials_hash="0" * 64, security_profile=1)
    assert admit("VLT-0001", KEY).why == "wrong_key"
    assert admit("vlt-0001").why == "wrong_key"
    assert not UnknownCharger.objects.exists()


@pytest.mark.parametrize("minutes", [0, -5, 24 * 60 + 1])
def test_a_window_is_open_for_a_day_at_most(network, minutes):
    with pytest.raises(ValidationError):
        onboarding.open_window(network.voltaro, network.om, minutes=minutes, now=clock.now())


def test_opening_again_moves_the_window_and_each_is_audited(network, window):
    again = onboarding.open_window(network.voltaro, network.om, minutes=60, now=clock.now())
    assert again == window and again.closes_at > window.closes_at
    assert AuditEntry.objects.filter(action="onboarding.opened").count() == 2
    onboarding.close_window(again, clock.now())
    onboarding.close_window(again, clock.now())
    assert AuditEntry.objects.filter(action="onboarding.closed").count() == 1


# -- claimed, blocked, forgotten ---------------------------------------------------------------------------------------
def test_claimed_it_is_accepted_with_its_next_boot_and_serves(network, window):
    charger = come_in("NEW-1", KEY)
    charger.boot(chargePointSerialNumber="S-1")
    stations.add_charge_point("NEW-1", company=network.voltaro, connectors=2)
    onboarding.claimed(charger.row, identity="NEW-1")
    onboarding.close_window(window, clock.now())
    row = ChargePoint.objects.get(cp_id="NEW-1")
    assert (row.registration, row.unclaimed, row.serial_number) == ("Accepted", False, "S-1")
    assert inbox().state == "claimed"
    assert charger.boot()["status"] == "Accepted"
    assert charger.status("Available", connector=2) == {}
    assert len(charger.context.places) == 2
    assert isinstance(admit("NEW-1", KEY), Opened)
    assert admit("NEW-1", "another one of 20 ch").why == "wrong_key"


def test_blocked_it_never_comes_in_again(network, window, django_capture_on_commit_callbacks):
    charger = come_in("NEW-1")
    with django_capture_on_commit_callbacks(execute=True):
        onboarding.block(inbox(), clock.now())
    assert not ChargePoint.objects.get(pk=charger.row.pk).online
    assert admit("NEW-1").why == "blocked"
    assert inbox().state == "blocked"


def test_one_that_was_never_let_in_can_be_blocked_too(network):
    admit("NEW-1")
    onboarding.block(inbox(), clock.now())
    onboarding.open_window(network.voltaro, network.om, minutes=30, now=clock.now())
    clock.shift(61)
    assert admit("new-1").why == "unknown"
    assert not ChargePoint.objects.filter(cp_id__iexact="NEW-1").exists()


def test_forgotten_it_leaves_nothing_behind_and_may_knock_again(network, window):
    charger = come_in("NEW-1")
    charger.boot()
    onboarding.block(inbox(), clock.now())
    onboarding.forget(inbox(), clock.now())
    assert not ChargePoint.objects.filter(cp_id="NEW-1").exists() and not OcppMessage.objects.exists()
    assert isinstance(admit("NEW-1"), Opened)


def test_one_of_ours_is_neither_blocked_nor_forgotten_here(network, window):
    come_in("NEW-1")
    onboarding.claimed(ChargePoint.objects.get(cp_id="NEW-1"), identity="NEW-1")
    for deed in (onboarding.block, onboarding.forget):
        with pytest.raises(ValidationError):
            deed(inbox(), clock.now())


def test_hung_up_a_socket_is_fenced_at_once(network):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    assert stations.hang_up(network.kaveri_charger.pk, "blocked", clock.now())
    commands.request(network.kaveri_charger, "ClearCache", {}, trigger="test")
    assert charger.command() is None
    assert stations.fenced("test") == [(network.kaveri_charger.pk, charger.context.epoch)]  # should the telling be lost
    assert dispatch.closed(charger.context, 1000, "replaced") is False
    assert Connection.objects.get().close_reason == "blocked"
    assert not stations.hang_up(network.kaveri_charger.pk, "blocked", clock.now())


# -- who sees what -----------------------------------------------------------------------------------------------------
def test_who_sees_the_inbox(network, window):
    admit("STRANGER", address="198.51.100.2", offered=("ocpp9",))
    UnknownCharger.objects.get_or_create(identity="OUTSIDE")
    come_in("NEW-1")
    assert {row.identity for row in onboarding.inbox(network.om)} >= {"OUTSIDE", "NEW-1"}
    assert onboarding.inbox(network.admin).count() == UnknownCharger.objects.count()
    assert not onboarding.inbox(network.kaveri_user).exists() and not onboarding.inbox(network.asha).exists()
    assert [one.name for one in onboarding.networks_of(network.om)] == ["Voltaro Networks"]


@pytest.mark.django_db(transaction=True)
def test_two_sockets_of_one_stranger_at_once_make_one_row(network):
    import threading

    onboarding.open_window(network.voltaro, network.om, minutes=30, now=clock.now())
    together, found = threading.Barrier(4), []

    def one(number: int) -> None:
        together.wait()
        try:
            found.append(admit("NEW-1" if number % 2 else "new-1", KEY))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert ChargePoint.objects.filter(cp_id__iexact="NEW-1").count() == 1
    assert UnknownCharger.objects.count() == 1
    assert len(found) == 4 and all(isinstance(one, Opened) for one in found)
    assert connection.alias == "default"
