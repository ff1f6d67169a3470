"""Vendors' passwords and keys: sent to a charger, and readable nowhere here; by their name, by a list of people's, or by their word."""

import json

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.urls import reverse

from accounts import tokens
from csms import batches, commands, configuration, dispatch, heed, message_writer, quirks, wishes
from csms.models import Command, CommandBatch, ConfigurationKey, OcppMessage
from tests.charger import Charger
from tests.stories import as_read, signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db
SECRET = "hunter22-Mysore"
KEYS = ["WifiKey", "ApnPassword", "VendorToken", "SimPin", "FtpPass"]


@pytest.fixture(autouse=True)
def _fresh():
    quirks.forget()
    yield
    quirks.forget()


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.row.refresh_from_db()
    return charger


def everywhere() -> str:
    """All that our tables say, as whoever steals a backup would read it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
        )
        found = []
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            found += [row for (row,) in cursor.fetchall()]
            if table == "csms_ocppmessage":
                cursor.execute(f"SELECT convert_from(raw, 'UTF8') FROM {table}")
                found += [row for (row,) in cursor.fetchall()]
    return "\n".join(found)


def sent(charger: Charger) -> tuple[str, str, dict]:
    """The next call on the wire; the log keeps it as the socket would."""
    reply = dispatch.next_command(charger.context)
    assert reply is not None
    message_writer.sent([(charger.context, reply, clock.now())])
    _, uid, action, payload = json.loads(reply.text)
    return uid, action, payload


@pytest.mark.parametrize("key", KEYS)
def test_a_key_whose_name_says_so_is_sent_and_kept_nowhere(charger, key):
    command = commands.ask(charger.row, "ChangeConfiguration", {"key": key, "value": SECRET}, by="om", trigger="console")
    assert command.payload == {"key": key, "value": "***"} and SECRET not in everywhere()
    uid, _, payload = sent(charger)
    assert payload == {"key": key, "value": SECRET}
    command.refresh_from_db()
    assert command.sealed == "", "nobody needs it any more"
    charger.accept(uid, {"status": "Accepted", "note": f"{key} is {SECRET} now"})
    command.refresh_from_db()
    assert (command.state, command.response["note"]) == ("effective", f"{key} is *** now")
    uid = commands.ask(charger.row, "GetConfiguration", {}, by="om", trigger="console").unique_id
    sent(charger)
    charger.accept(
        uid, {"configurationKey": [{"key": key, "value": SECRET, "readonly": False}, {"key": "HeartbeatInterval", "value": "40"}]}
    )
    assert SECRET not in everywhere()
    assert ConfigurationKey.objects.get(charge_point=charger.row, key="HeartbeatInterval").value == "40"
    assert ConfigurationKey.objects.get(charge_point=charger.row, key=key).value is None


def test_an_answer_that_is_held_or_said_twice_is_kept_without_it_too(charger, monkeypatch):
    commands.ask(charger.row, "DataTransfer", {"vendorId": "V", "data": SECRET}, by="om", trigger="console", secret=True)
    uid, _, payload = sent(charger)
    assert payload["data"] == SECRET
    settle = commands.settle

    def away(*given, **more):
        monkeypatch.setattr(commands, "settle", settle)
        raise OperationalError("the database is away")

    monkeypatch.setattr(commands, "settle", away)
    said = {"status": "Accepted", "data": f"got {SECRET}"}
    with pytest.raises(OperationalError):
        charger.accept(uid, said)
    charger.accept(uid, said)
    charger.accept(uid, said)
    assert Command.objects.get(unique_id=uid).response["data"] == "got ***" and SECRET not in everywhere()


def test_the_operator_says_that_a_key_is_a_secret_and_it_stays_one(charger, network):
    """Whatever it is called: in the row, the frames, the reports that come later, the pages, the file and the API."""
    ConfigurationKey.objects.create(charge_point=charger.row, key="VendorCode", value=SECRET)
    om = signed_in(network.om)
    page = reverse("csms:ask", args=[charger.row.pk, "ChangeConfiguration"])
    assert 'name="secret"' in om.get(page).content.decode()
    answer = om.post(page, {"key": "VendorCode", "value": SECRET, "secret": "on"})
    assert answer.status_code == 302 and SECRET not in everywhere()
    uid, _, payload = sent(charger)
    assert payload["value"] == SECRET
    charger.accept(uid, {"status": "Accepted"})
    charger.row.refresh_from_db()
    assert quirks.of(charger.row).secret_keys == ("VendorCode",)
    uid = commands.ask(charger.row, "GetConfiguration", {}, by="om", trigger="console").unique_id
    sent(charger)
    charger.accept(uid, {"configurationKey": [{"key": "vendorcode", "value": SECRET}]})
    assert SECRET not in everywhere()
    command = Command.objects.get(action="ChangeConfiguration")
    pages = (answer["Location"], reverse("csms:configuration", args=[charger.row.pk]), "/console/messages/", f"{page}?again={command.pk}")
    for address in pages:
        assert SECRET not in om.get(address).content.decode()
    assert om.post(reverse("csms:command-again", args=[command.pk])).status_code == 403, "what it sent is not here any more"
    token = tokens.make(network.om, "t")[1]
    told = om.get(f"/api/v1/charge-points/VLT-0001/commands/{command.pk}/", HTTP_AUTHORIZATION=f"Bearer {token}").json()
    assert told["payload"] == {"key": "VendorCode", "value": "***"}
    commands.ask(charger.row, "ChangeConfiguration", {"key": "VendorCode", "value": SECRET + "2"}, by="om", trigger="console")
    assert SECRET not in everywhere(), "once said, it needs no tick"


def test_by_the_api_the_command_line_and_many_at_once(charger, network, client):
    token = tokens.make(network.om, "t")[1]
    body = {"action": "ChangeConfiguration", "payload": {"key": "VendorCode", "value": SECRET}, "secret": True}
    how = {"HTTP_AUTHORIZATION": f"Bearer {token}", "content_type": "application/json", "HTTP_IDEMPOTENCY_KEY": "k"}
    where = "/api/v1/charge-points/VLT-0001/commands/"
    first = client.post(where, json.dumps(body), **how)
    assert first.status_code == 202 and first.json()["payload"]["value"] == "***"
    assert client.post(where, json.dumps(body), **how).json()["id"] == first.json()["id"]
    body["payload"]["value"] = SECRET + "x"
    assert client.post(where, json.dumps(body), **how).status_code == 409, "another value is another command"
    with pytest.raises(CommandError):  # nobody answers
        call_command("ocpp", "VLT-0001", "DataTransfer", "vendorId=V", f"data={SECRET}", "--secret", "--wait", "0.1")
    batch = batches.ask(
        [charger.row, network.ganga_charger],
        "ChangeConfiguration",
        {"key": "ApnUser", "value": SECRET},
        by="om",
        trigger="console",
        secret=True,
    )
    assert batch.payload["value"] == "***" and Command.objects.filter(batch=batch).count() == 2
    om = signed_in(network.om)
    pks = [charger.row.pk, network.ganga_charger.pk]
    said = {"pk": pks, "action": "ChangeConfiguration", "key": "DialIn", "value": SECRET, "secret": "on", "send": "1"}
    assert om.post(reverse("csms:batch-new"), said).status_code == 302
    assert CommandBatch.objects.latest("pk").payload == {"key": "DialIn", "value": "***"}
    assert SECRET not in everywhere()
    payloads = []
    for _ in range(4):
        uid, _, payload = sent(charger)
        payloads.append(payload)
        charger.accept(uid, {"status": "Accepted"})
    assert SECRET not in everywhere() and json.dumps(payloads).count(SECRET) == 4


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_frames_of_before_are_shown_without_what_is_known_to_be_a_secret_since(charger, network):
    charger.call("DataTransfer", {"vendorId": "V", "data": json.dumps({"dealerCode": SECRET})})
    frame = OcppMessage.objects.filter(action="DataTransfer", direction="IN").latest("pk")
    om = signed_in(network.om)
    text, page, file = reverse("csms:frame", args=[frame.pk]), reverse("csms:message", args=[frame.pk]), reverse("csms:messages-csv")

    def told() -> str:
        streamed = b"".join(om.get(file, {"charger": "VLT-0001"})).decode()
        assert "DataTransfer" in streamed
        return om.get(text).content.decode() + om.get(page).content.decode() + streamed

    assert told().count(SECRET) >= 3
    habits_page = reverse("csms:habits", args=[charger.row.pk])
    om.post(habits_page, {**as_read(om, habits_page), "secret_keys": "Dealer*"})
    assert SECRET not in told()


def test_what_its_profile_lists_is_masked_within_seconds(charger, network):
    """Also what was reported before; a wish for such a key is refused, because wishes can be read."""
    ConfigurationKey.objects.create(charge_point=charger.row, key="DealerCode7", value=SECRET)
    watch = heed.Heed()
    watch.look([charger.row.pk], clock.now())
    om = signed_in(network.om)
    page = reverse("csms:habits", args=[charger.row.pk])
    om.post(page, {**as_read(om, page), "secret_keys": "Dealer*, Other", "quirk_profile": ""})
    charger.row.refresh_from_db()
    assert quirks.of(charger.row).secret_keys == ("Dealer*", "Other") and SECRET not in everywhere()
    for own in watch.look([charger.row.pk], clock.now()).habits.values():
        heed.think_again(charger.context, own)
    answer = charger.call("DataTransfer", {"vendorId": "V", "data": json.dumps({"dealerCode": SECRET})})
    assert answer["status"] and SECRET not in everywhere()
    with pytest.raises(ValidationError, match="is a secret, and wishes can be read"):
        wishes.wish(charger.row, "DealerCode7", SECRET, by="om", now=clock.now())


def test_what_is_taken_back_or_comes_too_late_is_not_kept_either(charger):
    for number in range(2):
        row = commands.ask(charger.row, "ChangeConfiguration", {"key": "WifiKey", "value": SECRET}, by="om", trigger="api", expires_in_s=30)
        assert row.sealed and SECRET not in row.sealed
        if number:
            clock.shift(31)
            commands.timeout_due(clock.now(), 10)
        else:
            commands.withdraw(row.pk, "om")
        row.refresh_from_db()
        assert (row.state, row.sealed) == ("expired", "")


def test_with_another_pepper_nothing_wrong_is_sent(charger, settings):
    command = commands.ask(charger.row, "ChangeConfiguration", {"key": "WifiKey", "value": SECRET}, by="om", trigger="api")
    settings.CHARGER_KEY_PEPPER = "another pepper altogether, of some length"
    assert charger.asked("ChangeConfiguration") is None
    command.refresh_from_db()
    assert command.state == "expired" and "CHARGER_KEY_PEPPER" in command.error


def test_a_profile_that_names_a_secret_keeps_its_other_keys(charger):
    """Written before its name was known to be one: the rest of it still counts."""
    from csms.rules import habits

    profile = habits.Known("old", "", "", "", {"configuration": {"WifiKey": "x", "HeartbeatInterval": "60"}})
    assert habits.resolve([profile], {}).configuration == (("HeartbeatInterval", "60"),)
    assert "WifiKey is a secret" in habits.check(profile.settings)[0]


def test_a_key_without_a_name_is_none(charger):
    with pytest.raises(ValidationError, match="no key's name"):
        commands.ask(charger.row, "ChangeConfiguration", {"key": " ** ", "value": SECRET}, by="om", trigger="api", secret=True)
    charger.row.refresh_from_db()
    assert charger.row.quirk_settings == {}


def test_only_what_carries_a_value_can_be_one(charger):
    with pytest.raises(ValidationError, match="can be a secret"):
        commands.ask(charger.row, "Reset", {"type": "Soft"}, by="om", trigger="api", secret=True)


def test_profiles_add_to_each_others_lists(network):
    from csms.rules import habits

    one, two = (habits.Known(name, "", "", "", {"secret_keys": [name]}) for name in ("a", "b"))
    assert habits.resolve([one, two], {"secret_keys": ["c", "a"]}).secret_keys == ("a", "b", "c")
    assert habits.check({"secret_keys": ["*"]}) and not habits.check({"secret_keys": ["Vendor*"]})


def test_a_configuration_that_is_read_first_says_nothing_of_it(charger):
    configuration.store(
        charger.row.pk, {"configurationKey": [{"key": "WifiKey", "value": SECRET}, {"key": "Plain", "value": "***"}]}, [], clock.now()
    )
    assert SECRET not in everywhere()
