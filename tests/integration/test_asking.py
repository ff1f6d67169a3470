"""Asking something of a charger: what is refused with a sentence, what is asked once, and what waits."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError

from accounts.models import AuditEntry
from csms import commands
from csms.models import Command, CommandBatch, IdTag, QuirkProfile
from tests import factories
from tests.charger import Charger, later
from tests.stories import charge
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.row.refresh_from_db()
    return charger


@pytest.fixture
def ask(charger):
    """What Om asks of Kaveri's charger."""

    def ask(action: str, payload: dict | None = None, **how) -> Command:
        return commands.ask(charger.row, action, payload or {}, **{"by": "om", "trigger": "console", **how})

    return ask


@pytest.fixture
def refused(ask):
    """Why it is not asked: (code, sentence); nothing is queued then."""

    def refused(action: str, payload: dict | None = None, **how) -> tuple[str, str]:
        before = Command.objects.count()
        with pytest.raises(ValidationError) as no:
            ask(action, payload, **how)
        assert Command.objects.count() == before
        return no.value.code, no.value.messages[0]

    return refused


def quirk(charger: Charger, **settings) -> None:
    charger.row.quirk_settings = settings
    charger.row.save()


def card(network, tag: str = "CARD01", **fields) -> IdTag:
    return IdTag.objects.create(**{"tag": tag, "company": network.kaveri.company, **fields})


# -- what is kept of it ---------------------------------------------------------------------------------------------
def test_it_is_queued_with_who_asked_and_where(ask):
    command = ask("Reset", {"type": "Soft"})
    assert (command.state, command.requested_by, command.trigger, command.background) == ("queued", "om", "console", False)
    assert AuditEntry.objects.filter(action="command.requested", target_id=str(command.pk)).count() == 1


def test_a_key_stands_for_one_command_of_one_asker_at_one_charger(ask, refused, network):
    first = ask("Reset", {"type": "Soft"}, idempotency_key="night")
    assert ask("Reset", {"type": "Soft"}, idempotency_key="night") == first
    assert ask("Reset", {"type": "Soft"}, idempotency_key="night", by="usha") != first
    assert commands.ask(network.ganga_charger, "Reset", {"type": "Soft"}, by="om", trigger="api", idempotency_key="night") != first
    assert refused("Reset", {"type": "Hard"}, idempotency_key="night")[0] == "idempotency_key"
    assert refused("ClearCache", idempotency_key="night")[0] == "idempotency_key"


def test_a_charger_that_is_away_gets_it_when_it_comes_in_time(charger, ask):
    charger.drop()
    command = ask("ClearCache", expires_in_s=600)
    assert abs(command.expires_at - later(600)) < timedelta(seconds=5)
    charger.connect()
    assert charger.asked("ClearCache")


def test_fifty_a_minute_of_one_asker_and_batches_do_not_count(ask, refused, network):
    batch = CommandBatch.objects.create(action="ClearCache")
    for _ in range(3):
        ask("ClearCache", batch=batch)
    for _ in range(50):
        ask("ClearCache")
    code, words = refused("ClearCache")
    assert code == "too_many" and "50 commands within a minute" in words
    assert ask("ClearCache", by="usha") and ask("ClearCache", batch=batch) and ask("ClearCache", limited=False)
    clock.shift(61)
    assert ask("ClearCache")


# -- what this charger cannot be asked --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("action", "payload", "code", "words"),
    [
        ("Fly", {}, None, "has no call Fly"),
        ("Reset", {}, None, "'type' is a required property"),
        ("Reset", {"type": "Soft", "now": True}, None, "Additional properties"),
        ("UnlockConnector", {"connectorId": 0}, "connector", "count from 1"),
        ("UnlockConnector", {"connectorId": 7}, "connector", "has no connector 7: it has 1"),
        ("ChangeAvailability", {"connectorId": -1, "type": "Operative"}, "connector", "no connector -1"),
        ("TriggerMessage", {"requestedMessage": "StatusNotification", "connectorId": 0}, "connector", "count from 1"),
        ("TriggerMessage", {"requestedMessage": "BootNotification"}, "unsupported", "errata 3.40"),
        ("ChangeConfiguration", {"key": "AuthorizationKey", "value": "0123456789abcdef"}, "own_way", "New key"),
        ("ChangeConfiguration", {"key": " authorizationkey", "value": "0123456789abcdef"}, "own_way", "New key"),
        ("ChangeConfiguration", {"key": "SecurityProfile", "value": "2"}, "own_way", "security page"),
        ("ChangeConfiguration", {"key": "OcppAuthKey", "value": "0123456789abcdef"}, "own_way", "New key"),
        ("ChangeConfiguration", {"key": "BasicAuthPassword", "value": "0123456789abcdef"}, "own_way", "New key"),
        ("ChangeConfiguration", {"key": "WifiPassword", "value": "***"}, "payload", "type the value itself"),
        ("DataTransfer", {"vendorId": "a\x00b"}, "payload", "control character"),
        ("DataTransfer", {"vendorId": "a", "data": "x" * 300_000}, "too_long", "takes 262144 at most"),
        ("RemoteStartTransaction", {"idTag": "---", "connectorId": 1}, "tag", "letters and digits"),
        ("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 2}, "connector", "has no connector 2"),
    ],
)
def test_what_is_refused_says_why(refused, action, payload, code, words):
    assert refused(action, payload)[0] == code
    assert words in refused(action, payload)[1]


def test_a_secret_never_reaches_a_row(refused):
    refused("ChangeConfiguration", {"key": "AuthorizationKey", "value": "0123456789abcdef"})
    assert not AuditEntry.objects.filter(after__icontains="0123456789abcdef").exists()


def test_a_blocked_and_a_rejected_charger_are_asked_nothing(charger, refused):
    charger.row.registration = "Rejected"
    assert refused("GetConfiguration")[0] == "not_accepted"
    charger.row.blocked = True
    assert refused("GetConfiguration") == ("blocked", "VLT-0001 is blocked: nothing is sent to it.")


def test_a_pending_charger_is_asked_only_what_sets_it_up(charger, ask, refused):
    charger.row.registration = "Pending"
    code, words = refused("RemoteStartTransaction", {"idTag": "CARD01"})
    assert code == "not_accepted" and "is Pending" in words and "GetConfiguration" in words
    assert ask("GetConfiguration") and ask("TriggerMessage", {"requestedMessage": "BootNotification"})


def test_what_its_profile_says_it_cannot_take_is_refused(charger, ask, refused):
    QuirkProfile.objects.create(name="Acme", vendor="Acme", settings={"commands_unsupported": ["ClearCache"], "max_frame_bytes": 200})
    from csms import quirks

    quirks.forget()
    assert refused("ClearCache")[0] == "unsupported"
    code, words = refused("DataTransfer", {"vendorId": "Acme", "data": "x" * 200})
    assert code == "too_long" and "takes 200 at most" in words
    assert ask("DataTransfer", {"vendorId": "Acme", "data": "x"})
    quirks.forget()


# -- starts -----------------------------------------------------------------------------------------------------------
def test_R08_a_start_always_names_a_connector_from_1(ask, network):
    card(network)
    assert ask("RemoteStartTransaction", {"idTag": "CARD01"}).payload == {"idTag": "CARD01", "connectorId": 1}
    assert ask("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 0}).payload["connectorId"] == 1


def test_the_connector_with_a_car_is_taken_first_and_one_out_of_service_last(charger, ask, refused, network):
    card(network)
    two = factories.make_connector(charger.row, 2, status="Available")
    three = factories.make_connector(charger.row, 3, status="Preparing")
    assert ask("RemoteStartTransaction", {"idTag": "CARD01"}).payload["connectorId"] == 3
    Command.objects.all().delete()
    three.status, two.availability_wanted = "Faulted", "Inoperative"
    three.save(), two.save()
    assert ask("RemoteStartTransaction", {"idTag": "CARD01"}).payload["connectorId"] == 1
    Command.objects.all().delete()
    network.kaveri_connector.status = two.status = "Charging"
    network.kaveri_connector.save(), two.save()
    assert refused("RemoteStartTransaction", {"idTag": "CARD01"}) == ("connector", "No connector of VLT-0001 is free.")


def test_R06_a_double_click_is_one_start(ask, refused, network):
    card(network)
    card(network, "CARD02")
    first = ask("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 1})
    assert ask("RemoteStartTransaction", {"idTag": "card-01", "connectorId": 1}) == first
    code, words = refused("RemoteStartTransaction", {"idTag": "CARD02", "connectorId": 1})
    assert code == "busy" and "is being asked already" in words
    clock.shift(61)  # it was never sent: over
    assert ask("RemoteStartTransaction", {"idTag": "CARD02", "connectorId": 1}) != first


def test_a_tag_that_may_not_charge_is_not_asked_for(ask, refused, network):
    card(network, "OLD", expires_at=clock.now() - timedelta(days=1))
    card(network, "STOLEN", state="blocked")
    assert "may not charge: Expired" in refused("RemoteStartTransaction", {"idTag": "OLD"})[1]
    assert "may not charge: Blocked" in refused("RemoteStartTransaction", {"idTag": "STOLEN"})[1]
    assert "not one of ours" in ask("RemoteStartTransaction", {"idTag": "FOREIGN"}).note


def test_a_payments_tag_is_not_for_people_and_its_connector_is_kept(refused, network):
    card(network)
    IdTag.objects.create(
        tag="0123456789ABCDEF",
        kind="one_time",
        charge_point=network.kaveri_charger,
        connector=network.kaveri_connector,
        start_until=later(300),
    )
    assert "belongs to a payment" in refused("RemoteStartTransaction", {"idTag": "0123456789ABCDEF"})[1]
    assert refused("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 1}) == (
        "busy",
        "Connector 1 of VLT-0001 waits for somebody who has paid.",
    )


def test_a_connector_that_charges_is_not_asked_to_start(refused, network):
    card(network)
    charge(network)
    assert "is charging already" in refused("RemoteStartTransaction", {"idTag": "CARD01", "connectorId": 1})[1]


def test_a_stop_knows_its_session(ask, network):
    story = charge(network)
    assert ask("RemoteStopTransaction", {"transactionId": 1}).session == story.session
    strange = ask("RemoteStopTransaction", {"transactionId": 77})
    assert strange.session is None and "No session of transaction 77" in strange.note
