"""Commands in the console: forms for every call, a command's page, many chargers at once; who may, and what it costs."""

import html
import json
import re
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from ocpp.messages import MessageType, get_validator

from csms import batches, calls, commands
from csms.call_forms import form_for
from csms.models import Command, CommandBatch, FirmwareImage, IdTag, InstalledCertificate, OcppMessage
from tests import factories
from tests.charger import Charger, later
from tests.stories import charge, queries, signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db

# What a person fills in for each call, and what is sent then.
FILLED: dict[str, tuple[dict, dict]] = {
    "ChangeAvailability": ({"connectorId": "0", "type": "Inoperative"}, {"connectorId": 0, "type": "Inoperative"}),
    "ChangeConfiguration": ({"key": "HeartbeatInterval", "value": "40"}, {"key": "HeartbeatInterval", "value": "40"}),
    "ClearCache": ({}, {}),
    "DataTransfer": ({"vendorId": "in.voltaro", "data": '{"a": 1}'}, {"vendorId": "in.voltaro", "data": '{"a": 1}'}),
    "GetConfiguration": (
        {"key": "HeartbeatInterval\n MeterValueSampleInterval,"},
        {"key": ["HeartbeatInterval", "MeterValueSampleInterval"]},
    ),
    "RemoteStartTransaction": ({"idTag": "CARD01", "connectorId": ""}, {"idTag": "CARD01", "connectorId": 1}),
    "RemoteStopTransaction": ({"transactionId": "77"}, {"transactionId": 77}),
    "Reset": ({"type": "Soft"}, {"type": "Soft"}),
    "UnlockConnector": ({"connectorId": "1"}, {"connectorId": 1}),
    "GetDiagnostics": (
        {"retries": "2", "startTime": "2026-01-02T05:30"},
        {"location": "http://testserver/uploads/", "retries": 2, "startTime": "2026-01-02T00:00:00Z"},
    ),
    "UpdateFirmware": (
        {"image": "IMAGE", "retrieveDate": ""},
        {"location": "http://testserver/firmware/"},
    ),
    "GetLocalListVersion": ({}, {}),
    "SendLocalList": (
        {"listVersion": "3", "updateType": "Full", "localAuthorizationList": '[{"idTag": "A", "idTagInfo": {"status": "Accepted"}}]'},
        {"listVersion": 3, "updateType": "Full", "localAuthorizationList": [{"idTag": "A", "idTagInfo": {"status": "Accepted"}}]},
    ),
    "CancelReservation": ({"reservationId": "5"}, {"reservationId": 5}),
    "ReserveNow": (
        {"connectorId": "0", "expiryDate": "2026-01-02T05:30", "idTag": "CARD01", "reservationId": "5"},
        {"connectorId": 0, "expiryDate": "2026-01-02T00:00:00Z", "idTag": "CARD01", "reservationId": 5},
    ),
    "ClearChargingProfile": ({"id": "7", "chargingProfilePurpose": "TxProfile"}, {"id": 7, "chargingProfilePurpose": "TxProfile"}),
    "GetCompositeSchedule": ({"connectorId": "1", "duration": "3600"}, {"connectorId": 1, "duration": 3600}),
    "SetChargingProfile": ({"connectorId": "1", "csChargingProfiles": "EXAMPLE"}, {}),
    "TriggerMessage": (
        {"requestedMessage": "StatusNotification", "connectorId": "1"},
        {"requestedMessage": "StatusNotification", "connectorId": 1},
    ),
    "ExtendedTriggerMessage": ({"requestedMessage": "LogStatusNotification"}, {"requestedMessage": "LogStatusNotification"}),
    "CertificateSigned": (
        {"certificateChain": "-----BEGIN CERTIFICATE-----\nAA=="},
        {"certificateChain": "-----BEGIN CERTIFICATE-----\nAA=="},
    ),
    "DeleteCertificate": (
        {"certificateHashData": '{"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "1"}'},
        {"certificateHashData": {"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "1"}},
    ),
    "GetInstalledCertificateIds": (
        {"certificateType": "CentralSystemRootCertificate"},
        {"certificateType": "CentralSystemRootCertificate"},
    ),
    "GetLog": (
        {"logType": "SecurityLog", "oldestTimestamp": "2026-01-02T05:30"},
        {"logType": "SecurityLog", "log": {"remoteLocation": "http://testserver/uploads/", "oldestTimestamp": "2026-01-02T00:00:00Z"}},
    ),
    "InstallCertificate": (
        {"certificateType": "ManufacturerRootCertificate", "certificate": "-----BEGIN CERTIFICATE-----"},
        {"certificateType": "ManufacturerRootCertificate", "certificate": "-----BEGIN CERTIFICATE-----"},
    ),
    "SignedUpdateFirmware": (
        {"image": "IMAGE"},
        {"firmware": {"location": "http://testserver/firmware/", "signingCertificate": "c", "signature": "s"}},
    ),
}
BAD: list[tuple[str, dict, str]] = [
    ("Reset", {}, "This field is required"),
    ("Reset", {"type": "Sideways"}, "Select a valid choice"),
    ("UnlockConnector", {"connectorId": "0"}, "Select a valid choice"),
    ("UnlockConnector", {"connectorId": "9"}, "Select a valid choice"),
    ("RemoteStartTransaction", {"idTag": "X" * 21}, "at most 20 characters"),
    ("RemoteStartTransaction", {"idTag": "---"}, "letters and digits"),
    ("RemoteStopTransaction", {"transactionId": "many"}, "Enter a whole number"),
    ("RemoteStopTransaction", {"transactionId": str(2**31)}, "less than or equal to 2147483647"),
    ("ChangeConfiguration", {"key": "AuthorizationKey", "value": "0123456789abcdef"}, "New key"),
    ("SetChargingProfile", {"connectorId": "1", "csChargingProfiles": "{"}, "This is not JSON"),
    ("SetChargingProfile", {"connectorId": "1", "csChargingProfiles": '{"stackLevel": 0}'}, "is a required property"),
    ("SetChargingProfile", {"connectorId": "1", "csChargingProfiles": "[" * 5000}, "This is not JSON"),
    ("GetDiagnostics", {"startTime": "tomorrow"}, "valid date"),
    ("UpdateFirmware", {"image": "999999"}, "Select a valid choice"),
    ("DataTransfer", {"vendorId": "a\x07b"}, "control character"),
]


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.row.refresh_from_db()
    return charger


@pytest.fixture
def om(network) -> Client:
    return signed_in(network.om)


def ask_page(charger: Charger, action: str) -> str:
    return reverse("csms:ask", args=[charger.row.pk, action])


def send(client: Client, charger: Charger, action: str, filled: dict, **more):
    return client.post(ask_page(charger, action), {**filled, **more})


# -- forms -------------------------------------------------------------------------------------------------------------
def test_every_call_has_its_form():
    assert set(FILLED) == set(calls.CALLS)


def begins(payload: object, wanted: object) -> bool:
    """Whether a payload says what is wanted; an address begins as it does, and what was left to us may be there besides."""
    if isinstance(wanted, dict):
        return isinstance(payload, dict) and all(begins(payload.get(name), one) for name, one in wanted.items())
    return str(payload).startswith(wanted) if str(wanted).startswith("http") else payload == wanted


@pytest.mark.parametrize("action", FILLED)
def test_each_form_opens_and_sends_what_the_standard_wants(charger, om, network, action, settings):
    settings.CHARGER_FILES_URL = "http://testserver"
    image = FirmwareImage.objects.create(name="A", version="2", sha256="0" * 64, file="a.bin", signature="s", signing_certificate="c")
    IdTag.objects.create(tag="CARD01", company=network.kaveri.company)
    for serial in ("1", "2"):  # a charger whose roots we know
        InstalledCertificate.objects.create(
            charge_point=charger.row,
            type="CentralSystemRootCertificate",
            hash_algorithm="SHA256",
            issuer_name_hash="a",
            issuer_key_hash="b",
            serial_number=serial,
        )
    page = om.get(ask_page(charger, action))
    assert page.status_code == 200
    words = html.unescape(page.content.decode())
    assert calls.CALLS[action].label in words and calls.CALLS[action].confirm.split(";")[0][:20] in words
    filled, wanted = FILLED[action]
    filled = {name: str(image.pk) if value == "IMAGE" else value for name, value in filled.items()}
    if filled.get("csChargingProfiles"):
        example = form_for(action, charge_point=charger.row).fields["csChargingProfiles"].example
        filled, wanted = {**filled, "csChargingProfiles": example}, {"connectorId": 1, "csChargingProfiles": json.loads(example)}
    answer = send(om, charger, action, filled)
    assert answer.status_code == 302, re.findall(r'role="alert">([^<]*)', answer.content.decode())
    command = Command.objects.filter(action=action).get()
    assert answer["Location"] == reverse("csms:command", args=[command.pk])
    assert begins(command.payload, wanted) if calls.CALLS[action].maker else command.payload == wanted
    assert (command.requested_by, command.trigger, command.state) == ("om", "console", "queued")
    if calls.CALLS[action].maker:
        assert not list(get_validator(MessageType.Call, action, "1.6").iter_errors(command.payload))
    else:
        calls.check(action, command.payload)
    assert om.get(answer["Location"]).status_code == 200


@pytest.mark.parametrize(("action", "filled", "words"), BAD)
def test_bad_input_is_told_and_changes_nothing(charger, om, action, filled, words):
    answer = send(om, charger, action, filled)
    assert answer.status_code == 200 and words in answer.content.decode()
    assert not Command.objects.filter(trigger="console").exists()


def test_a_call_that_is_none_and_a_charger_that_is_not_there(charger, om):
    assert om.get(ask_page(charger, "Fly")).status_code == 404
    assert om.get(ask_page(charger, "BootNotification")).status_code == 404
    assert om.get("/console/chargers/999999/ask/Reset/").status_code == 404


def test_a_double_click_is_one_command_and_a_changed_form_is_told(charger, om):
    page = om.get(ask_page(charger, "Reset")).content.decode()
    key = re.search(r'name="form_key" value="([^"]+)"', page)[1]
    first = send(om, charger, "Reset", {"type": "Soft"}, form_key=key)
    assert send(om, charger, "Reset", {"type": "Soft"}, form_key=key)["Location"] == first["Location"]
    changed = send(om, charger, "Reset", {"type": "Hard"}, form_key=key)
    assert changed.status_code == 200 and "Press again" in changed.content.decode()
    assert Command.objects.filter(action="Reset").count() == 1
    key = re.search(r'name="form_key" value="([^"]+)"', changed.content.decode())[1]
    send(om, charger, "Reset", {"type": "Hard"}, form_key=key)
    assert Command.objects.filter(action="Reset").count() == 2


def test_the_same_configuration_key_is_set_again_and_again(charger, om, fleet):
    """The form's own key is not the field of that name: set, set back, and set once more, it is asked three times."""
    for value in ("40", "60", "40"):
        page = om.get(ask_page(charger, "ChangeConfiguration")).content.decode()
        once = re.search(r'name="form_key" value="([^"]+)"', page)[1]
        assert page.count('name="key"') == 1
        filled = {"form_key": once, "key": "HeartbeatInterval", "value": value}
        assert send(om, charger, "ChangeConfiguration", filled).status_code == 302
    asked = Command.objects.filter(action="ChangeConfiguration", trigger="console").order_by("pk")
    assert [one.payload["value"] for one in asked] == ["40", "60", "40"]
    for _ in range(2):
        send(om, charger, "GetConfiguration", {"key": "HeartbeatInterval"})
        chosen = {"chargers": str(fleet[0].pk), "action": "ChangeConfiguration", "key": "HeartbeatInterval", "value": "40", "send": "1"}
        assert om.post(reverse("csms:batch-new"), chosen).status_code == 302
    assert Command.objects.filter(action="GetConfiguration", trigger="console").count() == CommandBatch.objects.count() == 2


def test_a_charger_that_is_away_says_so_and_keeps_it_as_long_as_asked(charger, om):
    charger.drop()
    assert "not connected" in om.get(ask_page(charger, "ClearCache")).content.decode()
    page = om.get(send(om, charger, "ClearCache", {"wait": "86400"})["Location"]).content.decode()
    command = Command.objects.get(action="ClearCache")
    assert abs(command.expires_at - later(86400)) < timedelta(seconds=5)
    assert "It waits to be sent." in page and "not connected" in page


def test_what_it_answered_before_is_said(charger, om):
    charger.row.learned = {"firmware": "1.0", "refused": {"ClearCache": "NotImplemented"}}
    charger.row.save()
    assert "it answered NotImplemented to this before" in om.get(ask_page(charger, "ClearCache")).content.decode()


def test_a_running_session_is_chosen_by_its_name(charger, om, network):
    story = charge(network)
    page = om.get(ask_page(charger, "RemoteStopTransaction")).content.decode()
    assert f"Session {story.session.pk}, connector 1, 8.000 kWh" in page


def test_the_chargers_page_has_the_buttons_for_those_who_may(charger, om, network):
    page = om.get(reverse("csms:charger", args=[charger.row.pk])).content.decode()
    assert all(reverse("csms:ask", args=[charger.row.pk, action]) in page for action in calls.CALLS)
    support = signed_in(factories.make_user("support", "support", network.voltaro))
    assert "/ask/" not in support.get(reverse("csms:charger", args=[charger.row.pk])).content.decode()


def test_what_is_wanted_stands_beside_what_is_reported(charger, om):
    commands.ask(charger.row, "ChangeAvailability", {"connectorId": 1, "type": "Inoperative"}, by="om", trigger="console")
    page = om.get(reverse("csms:charger", args=[charger.row.pk])).content.decode()
    assert "wanted out of service" in page


# -- one command's page -------------------------------------------------------------------------------------------------
def test_its_page_tells_its_life_its_answer_and_its_frames(charger, om):
    command = commands.ask(charger.row, "Reset", {"type": "Soft"}, by="om", trigger="console")
    address = reverse("csms:command", args=[command.pk])
    assert "It waits to be sent." in om.get(address).content.decode()
    sent = charger.asked("Reset")
    charger.accept(sent[0], {"status": "Accepted", "odd": True})
    out = OcppMessage.objects.create(
        charge_point=charger.row, direction="OUT", action="Reset", message_type=2, correlation_id=command.unique_id, raw=b"[2]"
    )
    page = om.get(address).content.decode()
    for words in (
        "Asked",
        "Sent",
        "It answered: Accepted",
        "unknown field odd",
        "The charger said yes",
        "&quot;type&quot;: &quot;Soft&quot;",
        "om",
    ):
        assert words in page, words
    assert reverse("csms:frame", args=[out.pk]) in page
    assert reverse("csms:frame", args=[OcppMessage.objects.get(direction="IN", correlation_id=command.unique_id).pk]) in page
    charger.boot()
    page = om.get(reverse("csms:command-live", args=[command.pk])).content.decode()
    assert "It has happened" in page and "It booted." in page


def test_every_state_has_its_page(charger, om):
    for state in Command._meta.get_field("state").flatchoices:
        command = Command.objects.create(
            charge_point=charger.row,
            action="ClearCache",
            state=state[0],
            unique_id=f"u-{state[0]}",
            expires_at=clock.now(),
            trigger="console",
        )
        assert om.get(reverse("csms:command", args=[command.pk])).status_code == 200


def test_a_payments_tag_is_never_shown_in_full(charger, om, network):
    permit = IdTag.objects.create(tag="0123456789ABCDEF", kind="one_time", connector=network.kaveri_connector, charge_point=charger.row)
    command = commands.request(
        charger.row, "RemoteStartTransaction", {"connectorId": 1, "idTag": permit.tag}, trigger="paid", permit=permit
    )
    page = om.get(reverse("csms:command", args=[command.pk])).content.decode()
    assert "0123456789ABCDEF" not in page and "…CDEF" in page


def test_repeat_asks_the_same_once_more_and_only_what_people_asked(charger, om):
    command = commands.ask(charger.row, "ClearCache", {}, by="om", trigger="console")
    answer = om.post(reverse("csms:command-again", args=[command.pk]), {"form_key": "a"})
    assert om.post(reverse("csms:command-again", args=[command.pk]), {"form_key": "a"})["Location"] == answer["Location"]
    assert Command.objects.filter(action="ClearCache").count() == 2
    ours = commands.request(charger.row, "ClearCache", {}, trigger="after boot")
    assert om.post(reverse("csms:command-again", args=[ours.pk])).status_code == 403
    profile = Command.objects.create(
        charge_point=charger.row, action="SetChargingProfile", unique_id="u", expires_at=clock.now(), trigger="console"
    )
    assert om.post(reverse("csms:command-again", args=[profile.pk])).status_code == 403


def test_change_and_ask_fills_the_form(charger, om):
    command = commands.ask(charger.row, "ChangeConfiguration", {"key": "HeartbeatInterval", "value": "41"}, by="om", trigger="console")
    page = om.get(ask_page(charger, "ChangeConfiguration"), {"again": command.pk}).content.decode()
    assert "HeartbeatInterval" in page and "41" in page
    assert om.get(ask_page(charger, "ChangeConfiguration"), {"again": "9" * 30}).status_code == 200
    assert "Soft" in om.get(ask_page(charger, "Reset"), {"type": "Soft"}).content.decode()


def test_what_waits_can_be_taken_back(charger, om):
    command = commands.ask(charger.row, "ClearCache", {}, by="om", trigger="console")
    om.post(reverse("csms:command-withdraw", args=[command.pk]))
    command.refresh_from_db()
    assert command.state == "expired" and command.note == "Taken back by om." and charger.asked("ClearCache") is None
    sent = commands.ask(charger.row, "ClearCache", {}, by="om", trigger="console")
    charger.asked("ClearCache")
    om.post(reverse("csms:command-withdraw", args=[sent.pk]))
    sent.refresh_from_db()
    assert sent.state == "sent"


# -- who may ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("who", ["support", "finance", "kaveri_user", "asha"])
def test_only_operators_ask(charger, network, who):
    for name in ("support", "finance"):
        setattr(network, name, factories.make_user(name, name, network.voltaro))
    command = commands.ask(charger.row, "ClearCache", {}, by="om", trigger="console")
    client = signed_in(getattr(network, who))
    before = Command.objects.count()
    for address in (ask_page(charger, "Reset"), reverse("csms:batch-new") + f"?pk={charger.row.pk}"):
        assert client.get(address).status_code == 403 and client.post(address, {"type": "Soft"}).status_code == 403
    for name in ("command-again", "command-withdraw"):
        assert client.post(reverse(f"csms:{name}", args=[command.pk])).status_code == 403
    assert Command.objects.count() == before and Command.objects.filter(state="expired").count() == 0


def test_console_people_look_and_have_no_buttons(charger, network):
    command = commands.ask(charger.row, "ClearCache", {}, by="om", trigger="console")
    support = signed_in(factories.make_user("support", "support", network.voltaro))
    page = support.get(reverse("csms:command", args=[command.pk])).content.decode()
    assert "It waits to be sent" in page and 'id="again"' not in page and 'id="withdraw"' not in page


def test_an_operator_of_kaveri_reaches_nothing_of_ganga(charger, network):
    client = signed_in(factories.make_user("kala", "operator", network.kaveri.company))
    theirs = commands.ask(network.ganga_charger, "ClearCache", {}, by="om", trigger="console")
    assert client.get(reverse("csms:ask", args=[network.ganga_charger.pk, "Reset"])).status_code == 404
    assert client.post(reverse("csms:ask", args=[network.ganga_charger.pk, "Reset"]), {"type": "Soft"}).status_code == 404
    for name in ("command", "command-live"):
        assert client.get(reverse(f"csms:{name}", args=[theirs.pk])).status_code == 404
    for name in ("command-again", "command-withdraw"):
        assert client.post(reverse(f"csms:{name}", args=[theirs.pk])).status_code == 404
    both = f"{charger.row.pk},{network.ganga_charger.pk}"
    client.post(reverse("csms:batch-new"), {"chargers": both, "action": "ClearCache", "send": "1"})
    assert not Command.objects.filter(charge_point=network.ganga_charger, trigger="console", requested_by="kala").exists()
    assert Command.objects.filter(charge_point=charger.row, requested_by="kala").count() == 1


def test_without_the_forms_token_nothing_is_asked(charger, network):
    client = Client(enforce_csrf_checks=True)
    client.force_login(network.om)
    assert client.post(ask_page(charger, "Reset"), {"type": "Soft"}).status_code == 403
    assert client.get(reverse("csms:command-again", args=[1])).status_code == 405


# -- many at once -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def fleet(network):
    """Twelve more of Kaveri's, with two connectors each."""
    return [factories.make_charge_point(f"KAV-{n:02d}", network.kaveri.company, connectors=2) for n in range(12)]


def test_ten_batches_a_minute_of_one_person(fleet, network):
    """D09: a stolen console is bounded in what it commands at once, and how often."""
    for _ in range(10):
        batches.ask(fleet[:1], "ClearCache", {}, by="om", trigger="console")
    with pytest.raises(ValidationError, match="more than 10 batches"):
        batches.ask(fleet, "Reset", {"type": "Hard"}, by="om", trigger="console")
    assert CommandBatch.objects.count() == 10 and not Command.objects.filter(action="Reset").exists()
    assert batches.ask(fleet[:1], "ClearCache", {}, by="usha", trigger="console")
    clock.shift(61)
    assert batches.ask(fleet[:1], "ClearCache", {}, by="om", trigger="console")


def test_a_batch_from_the_list_to_its_page(om, fleet, network):
    listed = om.get("/console/chargers/").content.decode()
    assert f'name="pk" value="{fleet[0].pk}"' in listed and "Ask all 14" in listed
    chosen = om.get(reverse("csms:batch-new"), {"pk": [fleet[0].pk, fleet[1].pk]}).content.decode()
    assert "Ask 2 chargers" in chosen and "KAV-00" in chosen and "RemoteStartTransaction" not in chosen
    keys = f"{fleet[0].pk},{fleet[1].pk}"
    form = om.post(reverse("csms:batch-new"), {"chargers": keys, "action": "Reset"}).content.decode()
    assert "Restart: 2 chargers" in form and not CommandBatch.objects.exists()
    key = re.search(r'name="form_key" value="([^"]+)"', form)[1]
    filled = {"chargers": keys, "action": "Reset", "type": "Soft", "send": "1", "form_key": key}
    answer = om.post(reverse("csms:batch-new"), filled)
    assert om.post(reverse("csms:batch-new"), filled)["Location"] == answer["Location"]
    batch = CommandBatch.objects.get()
    assert answer["Location"] == reverse("csms:batch", args=[batch.pk])
    assert batch.commands.count() == 2 and {one.payload["type"] for one in batch.commands.all()} == {"Soft"}
    page = om.get(answer["Location"]).content.decode()
    assert "KAV-00" in page and "queued" in page
    assert "Restart" in om.get(reverse("csms:batches")).content.decode()
    changed = om.post(reverse("csms:batch-new"), {**filled, "type": "Hard"})
    assert changed["Location"] != answer["Location"], "back, changed and sent again is another deed"
    assert {one.payload["type"] for one in CommandBatch.objects.get(pk=batch.pk + 1).commands.all()} == {"Hard"}


def test_all_that_match_are_confirmed_by_their_number(om, fleet):
    page = om.get(reverse("csms:batch-new"), {"all": "1", "q": "KAV-", "show": "offline", "action": "ClearCache"}).content.decode()
    keys = re.search(r'name="chargers" value="([^"]+)"', page)[1]
    assert len(keys.split(",")) == 12 and "Type 12" in page
    sent = {"chargers": keys, "action": "ClearCache", "send": "1"}
    assert "There are 12 chargers" in om.post(reverse("csms:batch-new"), {**sent, "number": "11"}).content.decode()
    assert not CommandBatch.objects.exists()
    om.post(reverse("csms:batch-new"), {**sent, "number": "12", "spread": "on"})
    batch = CommandBatch.objects.get()
    moments = [one.send_after for one in batch.commands.all()]
    assert len(moments) == 12 and len(set(moments)) > 6 and max(moments) <= later(30) and batch.spread_s == 30


def test_each_has_its_own_life_and_the_page_counts_them(om, charger, fleet, network):
    batch = batches.ask([charger.row, *fleet[:3]], "ClearCache", {}, by="om", trigger="console", company=network.voltaro)
    charger.accept(charger.asked("ClearCache")[0])
    Command.objects.filter(charge_point=fleet[0]).update(state="rejected", response={"status": "Rejected"})
    page = om.get(reverse("csms:batch-live", args=[batch.pk])).content.decode()
    for words in ("effective", "rejected", "queued", "Rejected", "Accepted"):
        assert words in page
    om.post(reverse("csms:batch-withdraw", args=[batch.pk]))
    assert sorted(batch.commands.values_list("state", flat=True)) == ["effective", "expired", "expired", "rejected"]


def test_a_charger_that_cannot_be_asked_is_told_of_and_stops_nobody(om, fleet, network):
    fleet[0].blocked = True
    fleet[0].save()
    batch = batches.ask(fleet[:3], "ClearCache", {}, by="om", trigger="console", company=network.voltaro)
    assert batch.commands.count() == 2 and batch.refused == {str(fleet[0].pk): "KAV-00 is blocked: nothing is sent to it."}
    assert "is blocked" in om.get(reverse("csms:batch", args=[batch.pk])).content.decode()


def test_what_is_for_one_charger_is_not_asked_of_many(om, fleet):
    keys = f"{fleet[0].pk},{fleet[1].pk}"
    page = om.post(reverse("csms:batch-new"), {"chargers": keys, "action": "RemoteStopTransaction", "transactionId": "1", "send": "1"})
    assert "What shall they be asked?" in page.content.decode() and not Command.objects.filter(trigger="console").exists()
    with pytest.raises(batches.ValidationError, match="one charger at a time"):
        batches.ask(fleet[:2], "RemoteStopTransaction", {"transactionId": 1}, by="om", trigger="console")


def test_five_hundred_at_most(om, network, monkeypatch, fleet):
    monkeypatch.setattr(batches, "AT_MOST", 5)
    with pytest.raises(batches.ValidationError, match="1 to 5 chargers, not 12"):
        batches.ask(fleet, "ClearCache", {}, by="om", trigger="console")
    answer = om.get(reverse("csms:batch-new"), {"all": "1", "q": "KAV-", "action": "ClearCache"})
    assert answer["Location"] == reverse("csms:chargers")
    assert om.get(reverse("csms:batch-new"), {"pk": "junk"})["Location"] == reverse("csms:chargers")


def test_whose_batch_it_is(network, fleet):
    both = [fleet[0], network.ganga_charger]
    assert batches.company_of(network.om, fleet) == network.kaveri.company
    assert batches.company_of(network.om, both) == network.voltaro
    assert batches.company_of(network.admin, both) is None
    batch = batches.ask(both, "ClearCache", {}, by="om", trigger="console", company=network.voltaro)
    kala = signed_in(factories.make_user("kala", "operator", network.kaveri.company))
    assert kala.get(reverse("csms:batch", args=[batch.pk])).status_code == 404
    assert kala.post(reverse("csms:batch-withdraw", args=[batch.pk])).status_code == 404
    assert str(batch.pk) not in re.findall(r"/console/batches/(\d+)/", kala.get(reverse("csms:batches")).content.decode())


def test_a_selection_in_the_admin_leads_there(om, fleet):
    answer = om.post(
        reverse("admin:csms_chargepoint_changelist"),
        {"action": "ask_them", "_selected_action": [fleet[0].pk, fleet[1].pk]},
        follow=True,
    )
    assert "Ask 2 chargers" in answer.content.decode() and "KAV-01" in answer.content.decode()


def test_a_batch_costs_the_same_for_each_charger(fleet, network, django_assert_max_num_queries):
    with django_assert_max_num_queries(12 * 6 + 10):
        batches.ask(fleet, "ClearCache", {}, by="om", trigger="console", company=network.voltaro)


# -- what it costs --------------------------------------------------------------------------------------------------------------
def test_the_pages_cost_the_same_with_full_tables(charger, om, network, fleet):
    command = commands.ask(charger.row, "ClearCache", {}, by="om", trigger="console")
    batch = batches.ask([charger.row], "ClearCache", {}, by="om", trigger="console", company=network.voltaro)
    addresses = [
        ask_page(charger, "Reset"),
        ask_page(charger, "RemoteStopTransaction"),
        reverse("csms:command", args=[command.pk]),
        reverse("csms:batch", args=[batch.pk]),
        reverse("csms:batches"),
        reverse("csms:batch-new") + f"?pk={charger.row.pk}&action=Reset",
    ]
    om.get(addresses[0])
    few = [queries(om, address) for address in addresses]
    for _ in range(5):
        batches.ask(fleet, "ClearCache", {}, by="om", trigger="console", company=network.voltaro)
    for one in fleet:
        Command.objects.create(charge_point=one, action="ClearCache", batch=batch, unique_id=f"b{one.pk}", expires_at=clock.now())
    Command.objects.bulk_create(
        [
            Command(charge_point=charger.row, action="ClearCache", unique_id=f"x{n}", expires_at=clock.now(), state="effective")
            for n in range(300)
        ]
    )
    addresses[-1] = reverse("csms:batch-new") + f"?action=Reset&pk={charger.row.pk}" + "".join(f"&pk={one.pk}" for one in fleet)
    assert [queries(om, address) for address in addresses] == few
    assert max(few) <= 25, dict(zip(addresses, few, strict=True))
