"""A charger's key is changed: over the wire, with both open until the new one was used, or by hand. Nobody can read it."""

import json

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError

from accounts.models import AuditEntry
from csms import commands, credentials, dispatch, entrance, rotation, security_profiles, stations
from csms.models import Alert, ChargePoint, Command, CommandState, Connection, OcppMessage
from tests.keyed import OLD, Keyed, basic
from voltaro import clock


@pytest.fixture
def charger(network):
    one = Keyed(network.kaveri_charger)
    assert one.refusal == ""
    return one


def row(charger: Keyed) -> ChargePoint:
    charger.row.refresh_from_db()
    return charger.row


def deeds(charger: Keyed) -> list[str]:
    about = AuditEntry.objects.filter(target_type="csms.chargepoint", target_id=str(charger.row.pk)).order_by("id")
    return [action for action in about.values_list("action", flat=True) if action.startswith(("credentials", "security_profile"))]


def test_X01_both_keys_open_until_the_new_one_was_used(charger, network):
    """TC_073."""
    command = rotation.rotate_key(charger.row, by="om")
    assert command.payload == {"key": "AuthorizationKey", "value": "***"}
    assert row(charger).pending_credentials_hash  # before it is sent
    unique_id, new = charger.key_it_was_sent()
    assert len(bytes.fromhex(new)) == 20
    charger.accept(unique_id)
    command.refresh_from_db()
    assert command.state == CommandState.ACCEPTED  # its word; the deed is yet to come
    assert charger.comes(OLD) == ""
    assert charger.comes(bytes.fromhex(new)) == ""  # as bytes: chargers send either
    command.refresh_from_db()
    assert (command.state, command.secret) == (CommandState.EFFECTIVE, "")
    assert charger.comes(OLD) == "wrong_key"
    assert charger.comes(new) == ""
    assert (row(charger).pending_credentials_hash, row(charger).pending_since) == ("", None)
    assert row(charger).credentials_at is not None
    assert deeds(charger) == ["credentials.change_asked", "credentials.accepted", "credentials.changed"]


@pytest.mark.parametrize("status", ["accepted", "ACCEPTED", " Accepted ", "rebootrequired"])
def test_Q42_accepted_is_accepted_however_it_is_spelt(charger, status):
    """Taken for a refusal, the key that the charger holds now would open nothing: it would be locked out."""
    command = rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id, {"status": status})
    command.refresh_from_db()
    assert command.state == CommandState.ACCEPTED and command.response == {"status": status}
    assert charger.comes(new) == "" and charger.comes(OLD) == "wrong_key"


@pytest.mark.parametrize("status", ["Rejected", "NotSupported"])
def test_X01_a_key_that_is_refused_opens_nothing(charger, status):
    command = rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id, {"status": status})
    assert charger.comes(new) == "wrong_key"
    assert charger.comes(OLD) == ""
    command.refresh_from_db()
    assert (command.state, command.secret) == (CommandState.REJECTED, "")
    assert row(charger).pending_since is None
    assert deeds(charger)[-1] == "credentials.change_dropped"


def test_one_that_waits_for_a_restart_keeps_both(charger):
    rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id, {"status": "RebootRequired"})
    assert charger.comes(OLD) == ""
    assert charger.comes(new) == ""
    assert charger.comes(OLD) == "wrong_key"


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        ('[4,"{id}","NotImplemented","",{{}}]', False),
        ('[4,"{id}","SecurityError","",{{}}]', False),
        ('[4,"{id}","InternalError","",{{}}]', True),
        ('[4,"{id}","GenericError","",{{}}]', True),
        ('[3,"{id}",{{}}]', True),
    ],
)
def test_an_error_that_leaves_it_open_leaves_both_open(charger, frame, kept):
    rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.raw(frame.format(id=unique_id))
    assert (charger.comes(new) == "") is kept
    assert (charger.comes(OLD) == "") is not kept


def test_R50_it_comes_back_with_the_new_key_before_its_answer_is_known(charger):
    command = rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    assert charger.comes(new) == ""
    charger.accept(unique_id)  # on the new line, late
    command.refresh_from_db()
    assert command.state == CommandState.EFFECTIVE
    assert charger.comes(OLD) == "wrong_key"


def test_R50_a_lost_answer_leaves_both_and_the_same_key_can_be_sent_again(charger):
    command = rotation.rotate_key(charger.row)
    _, new = charger.key_it_was_sent()
    clock.shift(31)
    assert commands.timeout_due(clock.now(), 10) == 1
    clock.shift(200)
    assert commands.timeout_due(clock.now(), 10) == 1
    command.refresh_from_db()
    assert command.state == CommandState.EXPIRED
    assert charger.comes(OLD) == ""
    again = rotation.send_again(charger.row)
    unique_id, same = charger.key_it_was_sent()
    assert same == new and again.pk != command.pk
    with pytest.raises(ValidationError, match="just now"):
        rotation.send_again(charger.row)
    charger.accept(unique_id)
    assert charger.comes(new) == ""
    assert charger.comes(OLD) == "wrong_key"
    assert not Command.objects.exclude(secret="").exists()
    with pytest.raises(ValidationError, match="no new key"):
        rotation.send_again(charger.row)


def test_a_socket_that_dies_before_the_answer_leaves_both(charger):
    rotation.rotate_key(charger.row)
    _, new = charger.key_it_was_sent()
    charger.drop()
    assert charger.comes(OLD) == ""
    assert charger.comes(new) == ""


def test_one_at_a_time_and_it_can_be_withdrawn(charger):
    command = rotation.rotate_key(charger.row)
    with pytest.raises(ValidationError, match="waits since"):
        rotation.rotate_key(charger.row)
    rotation.withdraw(charger.row)
    command.refresh_from_db()
    assert (command.state, command.secret) == (CommandState.EXPIRED, "")
    assert charger.command() is None  # it was not sent yet, and is not any more
    rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id)
    rotation.withdraw(charger.row)
    assert charger.comes(new) == "wrong_key"
    with pytest.raises(ValidationError, match="No new key"):
        rotation.withdraw(charger.row)


def test_one_that_was_withdrawn_while_it_stood_at_the_door(charger):
    rotation.rotate_key(charger.row)
    _, new = charger.key_it_was_sent()
    known = stations.find("VLT-0001")
    entry = entrance.look(known, basic("VLT-0001", new), None)
    assert entry.verdict.new_key
    rotation.withdraw(charger.row)
    sockets = Connection.objects.count()
    with pytest.raises(entrance.Withdrawn):
        dispatch.opened(known, process="t", channel="c", remote_address="", subprotocol="ocpp1.6", entry=entry)
    assert Connection.objects.count() == sockets


def test_a_charger_that_is_away_gets_it_when_it_comes_and_not_after_a_day(charger):
    charger.drop()
    command = rotation.rotate_key(charger.row)
    clock.shift(23 * 3600)
    assert charger.comes(OLD) == ""
    charger.key_it_was_sent()
    rotation.withdraw(charger.row)
    command = rotation.rotate_key(charger.row)
    charger.drop()
    clock.shift(25 * 3600)
    assert commands.timeout_due(clock.now(), 10) >= 1
    command.refresh_from_db()
    assert (command.state, command.secret) == (CommandState.EXPIRED, "")
    assert row(charger).pending_credentials_hash == ""


def test_a_person_is_told_once_of_a_key_that_nobody_uses(charger, settings):
    rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id)
    clock.shift(settings.PENDING_KEY_DAYS * 86_400 - 60)
    assert rotation.alert_due(clock.now(), 10) == 0
    clock.shift(120)
    assert rotation.alert_due(clock.now(), 10) == 1
    assert rotation.alert_due(clock.now(), 10) == 0
    assert Alert.objects.get().kind == "key_unused"
    Alert.objects.update(cleared_at=clock.now())
    assert rotation.alert_due(clock.now(), 10) == 0  # put away is put away
    Alert.objects.update(cleared_at=None)
    assert charger.comes(new) == ""
    assert Alert.objects.get().cleared_at is not None


def test_a_key_by_hand_replaces_both(charger):
    rotation.rotate_key(charger.row)
    _, new = charger.key_it_was_sent()
    key = rotation.new_key_by_hand(charger.row)
    assert len(bytes.fromhex(key)) == 20
    assert [charger.comes(one) for one in (OLD, new)] == ["wrong_key"] * 2
    assert charger.comes(key) == ""
    assert not Command.objects.exclude(secret="").exists()


def test_a_key_given_anew_by_the_command_line_waits_for_nothing(charger, network, settings):
    rotation.rotate_key(charger.row)
    charger.key_it_was_sent()
    stations.add_charge_point(charger.row.cp_id, company=network.kaveri.company, key="0123456789abcdef")
    assert (row(charger).pending_credentials_hash, row(charger).pending_since) == ("", None)
    clock.shift((settings.PENDING_KEY_DAYS + 1) * 86_400)
    assert rotation.alert_due(clock.now(), 10) == 0, "nothing is there that somebody should use"


def test_a_charger_without_a_key_is_given_one_over_the_wire(charger):
    security_profiles.lower(charger.row, 0, "on the bench")
    assert charger.comes() == ""
    rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id)
    assert charger.comes() == ""  # at profile 0 nothing is asked for
    assert charger.comes(new) == ""
    assert credentials.matches("VLT-0001", row(charger).credentials_hash, new.encode())
    assert row(charger).security_profile == 1  # it has shown that it can: from now on it must
    assert charger.comes() == "wrong_key"


def test_an_answer_that_repeats_the_key_is_kept_without_it(charger):
    for say in (
        '[4,"{id}","InternalError","cannot store {key}",{{"value":"{KEY}"}}]',
        '[3,"{id}",{{"status":"Rejected","value":"{KEY}"}}]',
    ):
        rotation.rotate_key(charger.row)
        unique_id, new = charger.key_it_was_sent()
        charger.raw(say.format(id=unique_id, key=new, KEY=new.upper()))
        asked = Command.objects.get(unique_id=unique_id)
        for text in (json.dumps(asked.response), asked.error, *map(str, AuditEntry.objects.values_list("after", flat=True))):
            assert new not in text.lower()
        for raw in OcppMessage.objects.values_list("raw", flat=True):
            assert new.encode() not in bytes(raw).lower()
        if row(charger).pending_credentials_hash:
            rotation.withdraw(charger.row)


def test_a_blocked_charger_is_asked_nothing(charger):
    ChargePoint.objects.update(blocked=True)
    with pytest.raises(ValidationError, match="blocked"):
        rotation.rotate_key(charger.row)
    assert row(charger).pending_credentials_hash == ""


def test_manage_rotate_key(charger, capsys):
    call_command("rotate_key", "VLT-0001")
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "queued" and "key" not in said
    with pytest.raises(CommandError, match="waits since"):
        call_command("rotate_key", "VLT-0001")
    call_command("rotate_key", "VLT-0001", "--withdraw")
    assert row(charger).pending_credentials_hash == ""
    with pytest.raises(CommandError, match="no charger"):
        call_command("rotate_key", "VLT-9999")
    call_command("rotate_key", "VLT-0001")
    _, new = charger.key_it_was_sent()
    assert new not in capsys.readouterr().out
