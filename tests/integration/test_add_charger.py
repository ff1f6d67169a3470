"""manage.py add_charger and ocpp: a network set up and driven without clicking."""

import base64
import json
import threading
import time

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from billing import razorpay
from billing.models import QRCode
from csms import calls, entrance, schemas, stations
from csms.models import ChargePoint, Command, CommandState, Connector
from franchise.models import Ownership
from voltaro import clock


@pytest.fixture
def razorpay_makes(monkeypatch):
    """The QRs Razorpay was asked to make; it makes them at once."""
    asked: list[dict] = []

    def create_qr(body: dict) -> dict:
        asked.append(body)
        return {"id": f"qr_Made{len(asked):08d}", "image_url": "https://rzp.io/i/x", "image_content": "upi://pay?x"}

    monkeypatch.setattr(razorpay, "create_qr", create_qr)
    return asked


def may_connect(cp_id: str, key: str) -> bool:
    """Whether the door opens for that charger with this key ("": none)."""
    header = b"Basic " + base64.b64encode(f"{cp_id}:{key}".encode()) if key else None
    return not entrance.look(stations.find(cp_id), header, None).refusal


def add(capsys, *arguments: str) -> dict:
    call_command("add_charger", *arguments)
    return json.loads(capsys.readouterr().out)


def test_a_new_charger_gets_a_key_a_station_an_owner_and_a_qr_on_each_connector(network, razorpay_makes, capsys):
    said = add(
        capsys,
        "KAV-7",
        "--connectors",
        "2",
        "--type",
        "type2",
        "--max-kw",
        "7.4",
        "--station",
        "New Hub",
        "--franchisee",
        str(network.kaveri.pk),
    )
    charge_point = ChargePoint.objects.get(cp_id="KAV-7")
    assert said["url"] == "ws://127.0.0.1:8000/ocpp/KAV-7"
    assert may_connect("KAV-7", said["key"])
    assert (charge_point.company, charge_point.station.name) == (network.kaveri.company, "New Hub")
    assert Ownership.objects.get(charge_point=charge_point, owned_to=None).franchisee == network.kaveri
    connectors = list(Connector.objects.filter(charge_point=charge_point).order_by("connector_id"))
    assert [(row.type, row.max_power_w) for row in connectors] == [("type2", 7_400)] * 2
    assert [(one["connector_id"], one["code"], one["qr_id"], one["page"]) for one in said["connectors"]] == [
        (number, row.code, f"qr_Made{number:08d}", f"http://127.0.0.1:8000/c/{row.code}/") for number, row in enumerate(connectors, start=1)
    ]
    assert len(razorpay_makes) == 2


def test_asking_again_changes_nothing_and_does_not_show_the_key(network, razorpay_makes, capsys):
    first = add(capsys, "KAV-7", "--franchisee", "Kaveri")
    again = add(capsys, "KAV-7", "--franchisee", "Kaveri")
    assert first.pop("key") and "key" not in again
    assert (first.pop("created"), again.pop("created")) == (True, False)
    assert first == again
    assert len(razorpay_makes) == 1
    assert ChargePoint.objects.filter(cp_id="KAV-7").count() == 1


def test_a_connector_more_is_added_when_it_is_asked_for(network, razorpay_makes, capsys):
    add(capsys, "KAV-7")
    assert [one["connector_id"] for one in add(capsys, "KAV-7", "--connectors", "2")["connectors"]] == [1, 2]


def test_a_given_key_is_set_and_no_auth_takes_it_away(network, razorpay_makes, capsys):
    add(capsys, "KAV-7", "--key", "sixteen characters")
    charge_point = ChargePoint.objects.get(cp_id="KAV-7")
    assert may_connect("KAV-7", "sixteen characters")
    assert not may_connect("KAV-7", "")
    assert add(capsys, "KAV-7", "--no-auth")["security_profile"] == 0
    charge_point.refresh_from_db()
    assert may_connect("KAV-7", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["bad id"], "Letters, digits"),
        (["X", "--connectors", "0"], "1 to 20 connectors"),
        (["X", "--key", "short"], "16 to 40"),
        (["X", "--max-kw", "much"], "not a number"),
        (["X", "--max-kw", "0"], "above 0"),
        (["X", "--franchisee", "999"], "no franchisee 999 (there are:"),
        (["vlt-0001"], "only in case"),
    ],
)
def test_nonsense_is_refused_and_leaves_nothing(network, razorpay_makes, arguments, complaint):
    before = ChargePoint.objects.count()
    with pytest.raises(CommandError) as refusal:
        call_command("add_charger", *arguments)
    assert complaint in str(refusal.value) and refusal.value.returncode == 1
    assert ChargePoint.objects.count() == before and razorpay_makes == []


def test_a_razorpay_that_is_away_leaves_the_charger_and_asking_again_makes_the_qr(network, monkeypatch, capsys):
    def away(body: dict) -> dict:
        raise razorpay.TryAgain("nobody answers")

    with monkeypatch.context() as patched:
        patched.setattr(razorpay, "create_qr", away)
        with pytest.raises(CommandError, match="set up, but no QR for connector 1: nobody answers"):
            call_command("add_charger", "KAV-7")
    said = json.loads(capsys.readouterr().out)
    assert said["key"] and said["connectors"][0]["qr_id"] is None
    monkeypatch.setattr(razorpay, "create_qr", lambda body: {"id": "qr_Late0000000001"})
    assert add(capsys, "KAV-7")["connectors"][0]["qr_id"] == "qr_Late0000000001"
    assert QRCode.objects.filter(connector__charge_point="KAV-7").count() == 1


# -- manage.py ocpp --------------------------------------------------------------------------------------------------
def settle_next(**fields) -> threading.Thread:
    """The charger's side: answers the next command a moment later."""

    def answer() -> None:
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                if Command.objects.filter(state=CommandState.QUEUED).update(answered_at=clock.now(), **fields):
                    return
                time.sleep(0.02)
        finally:
            connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("state", "response", "error", "code"),
    [
        (CommandState.ACCEPTED, {"status": "Accepted"}, "", 0),
        (CommandState.REJECTED, {"status": "Rejected"}, "", 1),
        (CommandState.ERROR, None, "NotImplemented", 1),
        (CommandState.TIMEOUT, None, "The charger did not answer.", 2),
        (CommandState.UNKNOWN, None, "The connection was lost before the answer.", 2),
    ],
)
def test_a_command_is_asked_and_its_end_is_the_exit_code(network, capsys, state, response, error, code):
    thread = settle_next(state=state, response=response, error=error)
    ended = 0
    try:
        call_command("ocpp", "VLT-0001", "RemoteStartTransaction", "idTag=123", "connectorId=1", "--json")
    except CommandError as refusal:
        ended = refusal.returncode
    thread.join()
    said = json.loads(capsys.readouterr().out)
    assert ended == code
    assert (said["state"], said["payload"]) == (state, {"idTag": "123", "connectorId": 1})


@pytest.mark.django_db(transaction=True)
def test_a_charger_that_is_not_there_is_told_after_the_wait(network):
    with pytest.raises(CommandError, match="not connected") as refusal:
        call_command("ocpp", "VLT-0001", "ClearCache", "--wait", "0.3")
    assert refusal.value.returncode == 2
    assert Command.objects.get().requested_by == "manage.py ocpp"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["NOBODY", "ClearCache"], "no charger NOBODY"),
        (["VLT-0001", "Fly"], "has no call Fly"),
        (["VLT-0001", "ResetResponse"], "has no call ResetResponse"),
        (["VLT-0001", "../Reset"], "has no call"),
        (["VLT-0001", "Reset"], "'type' is a required property"),
        (["VLT-0001", "Reset", "type=Soft", "now"], "'now' is not key=value"),
        (["VLT-0001"], "Say which charger and which call"),
        (["VLT-0001", "UnlockConnector", "connectorId=9"], "has no connector 9: it has 1"),
        (["VLT-0001", "ChangeConfiguration", "key=AuthorizationKey", "value=0123456789abcdef"], "New key"),
        (["--describe", "Fly"], "has no call Fly"),
        (["VLT-0001", "UnlockConnector", "connectorId=one"], "not of type 'integer'"),
        (["VLT-0001", "ClearCache", "--wait", "0"], "above 0"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_not_sent(network, arguments, complaint):
    with pytest.raises(CommandError) as refusal:
        call_command("ocpp", *arguments)
    assert complaint in str(refusal.value) and refusal.value.returncode == 1
    assert not Command.objects.exists()


def test_the_calls_and_their_fields_are_told(capsys):
    call_command("ocpp", "--list")
    said = capsys.readouterr().out
    assert all(action in said for action in calls.CALLS)
    call_command("ocpp", "--describe", "Reset")
    assert "type: Soft|Hard" in capsys.readouterr().out
    for action in calls.CALLS:
        call_command("ocpp", "--describe", action, "--json")
        facts = json.loads(capsys.readouterr().out)
        assert {one["name"] for one in facts["fields"] if one["required"]} == schemas.required(action)
    call_command("ocpp", "--describe", "ClearCache")
    assert "It has no fields." in capsys.readouterr().out


def test_asked_again_under_one_key_it_is_one_command(network, capsys):
    for _ in range(2):
        with pytest.raises(CommandError, match="not connected"):
            call_command("ocpp", "VLT-0001", "ClearCache", "--wait", "0.2", "--key", "night")
    assert Command.objects.count() == 1
