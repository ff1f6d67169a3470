"""Security profiles: what the door asks for, how it is raised over the wire, and that nothing but a person lowers it."""

import json

import pytest
from django.core.exceptions import ValidationError

from accounts.models import AuditEntry
from csms import commands, rotation, security_profiles
from csms.models import Alert, ChargePoint, Command, CommandState, Connection
from tests.keyed import OLD, TLS, Keyed
from voltaro import clock


@pytest.fixture
def charger(network):
    return Keyed(network.kaveri_charger)


def row(charger: Keyed) -> ChargePoint:
    charger.row.refresh_from_db()
    return charger.row


def alerts() -> list[tuple[str, bool]]:
    return [(kind, cleared is None) for kind, cleared in Alert.objects.order_by("id").values_list("kind", "cleared_at")]


def test_C17_a_charger_of_profile_2_is_refused_without_tls_and_its_key_counts_as_read(charger):
    ChargePoint.objects.update(security_profile=2)
    assert charger.comes(OLD, TLS) == ""
    assert charger.comes("f" * 40) == "not_tls"
    assert alerts() == []
    assert charger.comes(OLD) == "not_tls"
    assert alerts() == [("downgrade", True)]


def test_the_connection_says_what_it_was_good_for(charger):
    charger.comes(OLD, TLS)
    assert list(Connection.objects.order_by("epoch").values_list("security_profile", flat=True)) == [1, 2]
    ChargePoint.objects.update(security_profile=0)
    charger.comes()
    assert Connection.objects.order_by("epoch").last().security_profile == 0


def test_X11_a_profile_is_raised_by_its_first_use(charger):
    """TC_083."""
    command = security_profiles.ask_for(charger.row, 2, by="om")
    assert charger.setting_it_was_sent()[1:] == ("SecurityProfile", "2")
    unique_id = command.unique_id
    charger.accept(unique_id)
    assert charger.comes(OLD) == ""  # it could not connect in the new way, and fell back
    assert row(charger).security_profile == 1
    assert charger.comes(OLD, TLS) == ""
    command.refresh_from_db()
    assert command.state == CommandState.EFFECTIVE
    assert (row(charger).security_profile, row(charger).pending_security_profile, row(charger).pending_since) == (2, None, None)
    assert charger.comes(OLD) == "not_tls"


@pytest.mark.parametrize("answer", ["Rejected", "NotSupported"])
def test_X11_a_charger_that_refuses_stays_as_it_is(charger, answer):
    command = security_profiles.ask_for(charger.row, 2)
    charger.command()
    charger.accept(command.unique_id, {"status": answer})
    assert row(charger).pending_security_profile is None
    charger.comes(OLD, TLS)
    assert row(charger).security_profile == 1


def test_a_profile_is_never_lowered_through_the_charger(charger):
    ChargePoint.objects.update(security_profile=2)
    for target in (0, 1):
        with pytest.raises(ValidationError, match="never lowered"):
            security_profiles.ask_for(charger.row, target)
    for value in ("0", "1", "2", "3"):
        with pytest.raises(ValidationError, match="security page"):
            commands.ask(charger.row, "ChangeConfiguration", {"key": " securityPROFILE", "value": value}, trigger="console")
    assert not Command.objects.exists()


def test_3_needs_a_certificate_and_1_a_key(charger):
    with pytest.raises(ValidationError, match="certificate"):
        security_profiles.ask_for(charger.row, 3)
    ChargePoint.objects.update(security_profile=0, credentials_hash="")
    with pytest.raises(ValidationError, match="no key"):
        security_profiles.ask_for(charger.row, 1)


def test_one_without_a_key_is_given_one_and_raised(charger):
    security_profiles.lower(charger.row, 0, "bench")
    assert charger.comes() == ""
    rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id)
    command = security_profiles.ask_for(charger.row, 1)
    charger.setting_it_was_sent()
    charger.accept(command.unique_id)
    assert charger.comes() == ""  # not yet
    assert charger.comes(new) == ""
    command.refresh_from_db()
    assert command.state == CommandState.EFFECTIVE
    assert row(charger).security_profile == 1 and row(charger).pending_since is None
    assert charger.comes() == "wrong_key"


def test_a_person_lowers_it_with_a_reason_that_everybody_sees(charger):
    ChargePoint.objects.update(security_profile=3)
    for reason in ("", "   "):
        with pytest.raises(ValidationError, match="Say why"):
            security_profiles.lower(charger.row, 1, reason)
    with pytest.raises(ValidationError, match="not lower"):
        security_profiles.lower(charger.row, 3, "x")
    security_profiles.lower(charger.row, 1, "its board was replaced", by="om")
    assert charger.comes(OLD) == ""
    assert alerts() == [("profile_lowered", True)]
    assert "om: its board was replaced" in Alert.objects.get().detail
    entry = AuditEntry.objects.get(action="security_profile.lowered")
    assert (entry.before, entry.after, entry.trigger) == ({"profile": 3}, {"profile": 1}, "its board was replaced")
    assert not Command.objects.exists()  # the charger is asked nothing


def test_without_a_key_it_may_come_in_and_its_old_key_is_forgotten(charger):
    rotation.rotate_key(charger.row)
    security_profiles.lower(charger.row, 0, "bench")
    assert (row(charger).credentials_hash, row(charger).pending_credentials_hash, row(charger).pending_since) == ("", "", None)
    assert charger.comes() == ""
    with pytest.raises(ValidationError, match="not lower"):
        security_profiles.lower(charger.row, 0, "again")
    Connection.objects.update(security_profile=2)  # it came with its key, before that was forgotten
    with pytest.raises(ValidationError, match="no key"):
        security_profiles.require(charger.row, 1)


def test_a_profile_it_meets_already_can_be_required(charger):
    with pytest.raises(ValidationError, match="does not connect like that"):
        security_profiles.require(charger.row, 2)
    charger.comes(OLD, TLS)
    security_profiles.require(charger.row, 2)
    assert charger.comes(OLD) == "not_tls"
    with pytest.raises(ValidationError, match="already"):
        security_profiles.require(charger.row, 2)


def test_a_profile_that_waits_can_be_withdrawn_and_is_told_of_after_a_week(charger, settings):
    security_profiles.ask_for(charger.row, 2)
    with pytest.raises(ValidationError, match="waits to be used"):
        security_profiles.ask_for(charger.row, 2)
    charger.command()
    clock.shift(settings.PENDING_KEY_DAYS * 86_400 + 60)
    assert rotation.alert_due(clock.now(), 10) == 1
    assert alerts() == [("key_unused", True)]
    security_profiles.withdraw(charger.row)
    assert alerts() == [("key_unused", False)]
    with pytest.raises(ValidationError, match="No higher"):
        security_profiles.withdraw(charger.row)
    second = security_profiles.ask_for(charger.row, 2)  # asking anew is another command
    assert second.state == CommandState.QUEUED and Command.objects.count() == 2


def test_an_answer_to_an_older_asking_changes_nothing(charger):
    first = security_profiles.ask_for(charger.row, 2)
    charger.command()
    security_profiles.withdraw(charger.row)
    security_profiles.ask_for(charger.row, 2)
    charger.accept(first.unique_id, {"status": "Rejected"})
    assert row(charger).pending_security_profile == 2


def test_what_was_never_sent_is_not_waited_for(charger):
    charger.drop()
    security_profiles.ask_for(charger.row, 2)
    clock.shift(25 * 3600)
    commands.timeout_due(clock.now(), 10)
    assert row(charger).pending_security_profile is None


def test_a_key_and_a_profile_can_wait_together(charger):
    rotation.rotate_key(charger.row)
    unique_id, new = charger.key_it_was_sent()
    charger.accept(unique_id)
    command = security_profiles.ask_for(charger.row, 2)
    charger.command()
    charger.accept(command.unique_id)
    assert charger.comes(new) == ""
    assert row(charger).pending_since is not None  # the profile still waits
    assert charger.comes(new, TLS) == ""
    assert row(charger).pending_since is None and row(charger).security_profile == 2
    assert json.dumps(list(Command.objects.values_list("payload", flat=True))).count(new) == 0
