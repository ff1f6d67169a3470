"""The REST API: tokens, chargers, commands; what is refused, and whose is whose."""

import json
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.urls import reverse

from accounts import tokens
from accounts.models import ApiToken, AuditEntry
from accounts.roles import Role
from csms import batches, commands, onboarding
from csms.models import ChargePoint, Command, IdTag
from tests.charger import Charger
from tests.factories import PASSWORD, make_user
from tests.stories import signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db
HERE = "/api/v1/charge-points/"


class Program:
    """A program with a token."""

    def __init__(self, client, token):
        self.client, self.headers = client, {"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}

    def get(self, path="", **query):
        return self.client.get(HERE + path, query, **self.headers)

    def ask(self, cp_id, body, key=None, **headers):
        if key:
            headers["HTTP_IDEMPOTENCY_KEY"] = key
        return self.client.post(f"{HERE}{cp_id}/commands/", json.dumps(body), "application/json", **self.headers, **headers)


def program(client, user):
    return Program(client, tokens.make(user, "billing bridge")[1])


@pytest.fixture
def om(client, network):
    return program(client, network.om)


@pytest.fixture
def charger(network):
    found = Charger(network.kaveri_charger)
    found.boot()
    return found


def test_a_command_is_asked_followed_and_answered(om, charger):
    answer = om.ask("VLT-0001", {"action": "Reset", "payload": {"type": "Soft"}})
    assert answer.status_code == 202, answer.content
    row = answer.json()
    assert (row["state"], row["requested_by"], row["trigger"], row["final"]) == ("queued", "om", "api", False)
    where = answer["Location"].removeprefix("http://testserver")
    uid, action, payload = charger.command()
    assert (action, payload) == ("Reset", {"type": "Soft"})
    assert om.client.get(where, **om.headers).json()["state"] == "sent"
    charger.accept(uid, {"status": "Rejected"})
    row = om.client.get(where, **om.headers).json()
    assert (row["state"], row["response"], row["final"]) == ("rejected", {"status": "Rejected"}, True)
    asked = AuditEntry.objects.get(action="command.requested", target_id=str(row["id"]))
    assert (asked.actor, asked.trigger) == ("om", "api")


def test_the_same_key_asks_once_and_for_one_thing(om, charger):
    first = om.ask("VLT-0001", {"action": "ClearCache"}, key="k1")
    again = om.ask("VLT-0001", {"action": "ClearCache"}, key="k1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    other = om.ask("VLT-0001", {"action": "Reset", "payload": {"type": "Soft"}}, key="k1")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert Command.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"action": "Explode"}, "not a valid choice"),
        ({"action": "Reset"}, "type"),
        ({"action": "Reset", "payload": {"type": "Gently"}}, "Gently"),
        ({"action": "Reset", "payload": []}, "dictionary"),
        ({"action": "Reset", "payload": {"type": "Soft"}, "expires_in_s": 0}, "greater than or equal to 1"),
        ([], "dictionary"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(om, network, body, says):
    answer = om.ask("VLT-0001", body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"code", "message", "fields"}
    assert says in answer.json()["error"]["message"]
    assert not Command.objects.exists()


def test_what_is_no_json_is_refused_kindly(om, network):
    answer = om.client.post(f"{HERE}VLT-0001/commands/", "{not json", "application/json", **om.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parse_error")


def test_without_a_token_nothing_opens(client, network):
    for token in ("", "vlt_nonsense", "x" * 200):
        answer = Program(client, token).get()
        assert answer.status_code == 401, token
        assert answer["WWW-Authenticate"].startswith("Bearer")
    answer = client.get(HERE, HTTP_AUTHORIZATION="Basic b206b20=")
    assert answer.status_code == 401
    client.login(username="om", password=PASSWORD)  # a cookie is no token
    assert client.get(HERE).status_code == 401


def test_a_token_that_was_revoked_or_has_ended_or_whose_person_left_opens_nothing(client, network):
    row, text = tokens.make(network.om, "old")
    assert Program(client, text).get().status_code == 200
    tokens.revoke(row)
    assert Program(client, text).get().status_code == 401
    _, text = tokens.make(network.om, "short", clock.now() + timedelta(seconds=30))
    assert Program(client, text).get().status_code == 200
    clock.shift(31)
    assert Program(client, text).get().status_code == 401
    _, text = tokens.make(network.om, "left")
    network.om.is_active = False
    network.om.save()
    assert Program(client, text).get().status_code == 401


def test_the_token_itself_is_nowhere_to_be_read(client, network):
    _, text = tokens.make(network.om, "bridge")
    assert not ApiToken.objects.filter(digest=text).exists()
    client.login(username="om", password=PASSWORD)
    page = client.get("/admin/accounts/apitoken/").content.decode()
    assert "bridge" in page and text not in page
    assert text not in json.dumps(list(AuditEntry.objects.values_list("after", flat=True)))


def test_everybody_sees_their_own_chargers_and_nobody_elses(client, network):
    kaveri = program(client, network.kaveri_user)
    assert [row["cp_id"] for row in kaveri.get().json()["results"]] == ["VLT-0001"]
    assert kaveri.get("VLT-0002/").status_code == 404
    assert kaveri.get("VLT-0002/commands/").status_code == 404
    refused = kaveri.ask("VLT-0001", {"action": "ClearCache"})  # she may look, not send
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    ravi = program(client, make_user("ravi", Role.OPERATOR, network.ganga.company))
    assert ravi.ask("VLT-0001", {"action": "ClearCache"}).status_code == 404
    assert not Command.objects.exists()
    asha = program(client, network.asha)
    assert asha.get().json()["results"] == []


def test_a_tag_that_opens_a_charger_is_masked_for_those_who_only_look(client, network, charger):
    IdTag.objects.create(tag="04A2B3C4D5E6F7", company=network.kaveri.company)
    om = program(client, network.om)
    asked = om.ask("VLT-0001", {"action": "RemoteStartTransaction", "payload": {"connectorId": 1, "idTag": "04A2B3C4D5E6F7"}})
    assert asked.status_code == 202, asked.content
    where = f"VLT-0001/commands/{asked.json()['id']}/"
    assert om.get(where).json()["payload"]["idTag"] == "04A2B3C4D5E6F7"
    assert program(client, network.kaveri_user).get(where).json()["payload"]["idTag"] == "…E6F7"


def test_lists_are_paged_filtered_and_cost_the_same_however_long(om, network, charger, django_assert_max_num_queries):
    for number in range(120):
        Command.objects.create(
            charge_point=network.kaveri_charger, action="ClearCache", unique_id=f"u{number}", expires_at=clock.now(), state="expired"
        )
    with django_assert_max_num_queries(8):
        page = om.get("VLT-0001/commands/", page_size=100).json()
    assert len(page["results"]) == 100 and page["next"] and page["previous"] is None
    assert om.get("VLT-0001/commands/", state="queued").json()["results"] == []
    with django_assert_max_num_queries(8):
        assert len(om.get().json()["results"]) == 2
    assert [row["cp_id"] for row in om.get(online="true").json()["results"]] == ["VLT-0001"]
    assert om.get("vlt-0001/").json()["connectors"][0]["status"] == "Available"


def test_the_schema_and_its_documents_are_there(client):
    schema = client.get("/api/schema/", HTTP_ACCEPT="application/json")
    assert schema.status_code == 200
    assert "/api/v1/charge-points/{cp_id}/commands/" in schema.content.decode()
    page = client.get("/api/docs/")
    assert page.status_code == 200
    assert b"<style" not in page.content and b"https://" not in page.content


def test_the_command_line_makes_a_token_and_takes_it_back(client, network, capsys):
    call_command("api_token", "om", "bridge", "--json")
    text = json.loads(capsys.readouterr().out)["token"]
    assert Program(client, text).get().status_code == 200
    call_command("api_token", "om", "bridge", "--revoke")
    assert Program(client, text).get().status_code == 401
    for wrong in (("nobody", "x"), ("om", ""), ("om", "x", "--days", "0")):
        with pytest.raises(CommandError):
            call_command("api_token", *wrong)


def test_om_makes_a_token_in_the_console_and_sees_it_once(client, network):
    client.login(username="om", password=PASSWORD)
    shown = client.post("/admin/accounts/apitoken/add/", {"name": "bridge", "expires_at_0": "", "expires_at_1": ""}, follow=True)
    text = next(word for word in shown.content.decode().split() if word.startswith("vlt_") and len(word) > 40).split("<")[0]
    assert Program(client, text).get().status_code == 200
    assert text not in client.get("/admin/accounts/apitoken/").content.decode()
    row = ApiToken.objects.get()
    client.post("/admin/accounts/apitoken/", {"action": "revoke", "_selected_action": [row.pk]})
    assert Program(client, text).get().status_code == 401


def test_two_long_keys_that_begin_alike_are_two(om, charger):
    for end in "ab":
        assert om.ask("VLT-0001", {"action": "ClearCache"}, key="k" * 300 + end).status_code == 202
    assert Command.objects.filter(action="ClearCache").count() == 2


def test_who_waits_in_the_onboarding_inbox_is_no_charger_yet(om, client, charger, network):
    """Not listed, not shown, not asked, by name neither; claimed, it is like any other."""
    waits = ChargePoint.objects.create(cp_id="NEW-1", company=network.voltaro, registration="Pending", unclaimed=True)
    assert "NEW-1" not in {row["cp_id"] for row in om.get().json()["results"]}
    assert om.get("NEW-1/").status_code == om.get("NEW-1/commands/").status_code == 404
    for action, payload in (("Reset", {"type": "Hard"}), ("ChangeConfiguration", {"key": "HeartbeatInterval", "value": "40"})):
        assert om.ask("NEW-1", {"action": action, "payload": payload}).status_code == 404
        with pytest.raises(CommandError, match="not claimed yet"):
            call_command("ocpp", "NEW-1", action, *(f"{name}={value}" for name, value in payload.items()))
        batch = batches.ask([waits], action, payload, by="om", trigger="console")
        assert "not claimed yet" in batch.refused[str(waits.pk)]
    assert not Command.objects.filter(charge_point=waits).exists()
    onboarding.claimed(waits, identity="NEW-1")
    assert "NEW-1" in {row["cp_id"] for row in om.get().json()["results"]} and om.get("NEW-1/").status_code == 200


def test_tags_in_a_command_are_shown_to_those_who_may_see_them_and_a_payments_to_nobody(om, client, charger, network):
    """However deep they stand in it."""
    permit = IdTag.objects.create(tag="0123456789ABCDEF", kind="one_time", connector=network.kaveri_connector, charge_point=charger.row)
    paid = commands.request(charger.row, "RemoteStartTransaction", {"connectorId": 1, "idTag": permit.tag}, trigger="paid", permit=permit)
    listed = {
        "listVersion": 2,
        "updateType": "Full",
        "localAuthorizationList": [{"idTag": "CARD00112233", "idTagInfo": {"parentIdTag": "FAMILY99"}}],
    }
    told = commands.request(charger.row, "SendLocalList", listed, trigger="list")
    assert om.get(f"VLT-0001/commands/{paid.pk}/").json()["payload"] == {"connectorId": 1, "idTag": "…CDEF"}
    assert om.get(f"VLT-0001/commands/{told.pk}/").json()["payload"] == listed
    support = program(client, make_user("sita", Role.SUPPORT, network.voltaro))
    for row in (paid, told):
        seen = support.get(f"VLT-0001/commands/{row.pk}/").content.decode()
        assert "0123456789AB" not in seen and "CARD0011" not in seen and "FAMILY99" not in seen
    page = signed_in(make_user("gita", Role.SUPPORT, network.voltaro)).get(reverse("csms:command", args=[told.pk]))
    assert page.status_code == 200 and "CARD0011" not in page.content.decode()


@pytest.mark.parametrize("name", ["A%00B", "%ED%A0%80", "%FF", "A" * 3000])
def test_odd_names_are_nobodys(om, charger, name):
    for path in (f"{name}/", f"{name}/commands/", f"{name}/commands/1/"):
        assert om.get(path).status_code == 404
    assert om.ask(name, {"action": "ClearCache"}).status_code == 404


@pytest.mark.parametrize("deep", [500, 50_000])
def test_what_is_nested_a_thousand_deep_is_refused(om, charger, deep):
    body = '{"action": "DataTransfer", "payload": ' + '{"a":' * deep + "1" + "}" * deep + "}"
    answer = om.client.post(f"{HERE}VLT-0001/commands/", body, "application/json", **om.headers)
    assert answer.status_code == 400, answer.content


def test_a_batch_with_a_byte_no_row_can_hold_is_refused(charger, network):
    with pytest.raises(ValidationError, match="control character"):
        batches.ask([charger.row], "DataTransfer", {"vendorId": "a\x00"}, by="om", trigger="console")


def test_so_many_keys_at_once(charger):
    with pytest.raises(ValidationError, match="too many at once"):
        commands.ask(charger.row, "GetConfiguration", {"key": [f"K{n}" for n in range(101)]}, by="om", trigger="api")
