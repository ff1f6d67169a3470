"""Frames and calls on a line (C23 to C42): what is answered, what is ignored, what ends the line; one call at a time."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from accounts.models import AuditEntry
from csms.models import Alert, ChargingSession, Command, Connection, Connector, OcppMessage
from tests.simulate_client import ACCEPTED, CallError, NoAnswer, stamp

pytestmark = pytest.mark.e2e


def failed(charger, uid):
    """The CALLERROR this message is answered with."""
    with pytest.raises(CallError) as error:
        charger.answer(uid)
    return error.value


def alive(charger):
    return "currentTime" in charger.call("Heartbeat")


def asked(charger, action, answer=None):
    """The message id of the server's call; left unanswered unless told."""
    charger.expect(action, answer)
    frames = [json.loads(text) for way, text in charger.frames if way == "IN"]
    return next(frame[1] for frame in reversed(frames) if frame[0] == 2 and frame[2] == action)


def reply(charger, frame):
    charger.send(json.dumps(frame))
    assert alive(charger)  # it has been worked on


# -- what a charger says -----------------------------------------------------------------------------------------------
def test_C23_a_heartbeat_is_answered_whatever_its_payload(charger):
    """A heartbeat is answered with the time, whether its payload is {}, null or missing."""
    for number, payload in enumerate(("{}", "null", None)):
        uid = f"hb{number}"
        charger.send(f'[2,"{uid}","Heartbeat"]' if payload is None else f'[2,"{uid}","Heartbeat",{payload}]')
        assert charger.answer(uid)["currentTime"].endswith("Z")


def test_C24_json_that_cannot_be_read(world, charger):
    """Torn JSON is answered with CALLERROR, under the id that could be seen or "-1"; the line lives, the bytes are kept."""
    torn = '[2,"torn","Heartb'
    charger.send(torn)
    assert failed(charger, "torn").code == "FormationViolation"
    charger.send("[2,torn,Heartbeat,}]")
    assert failed(charger, "-1").code == "FormationViolation"
    assert alive(charger)
    assert next(one.text for one in world.frames(world.network.kaveri_charger, direction="IN") if "torn" in one.text) == torn


def test_C25_an_unknown_action_is_not_implemented(charger):
    """An action nobody knows is answered NotImplemented; the line lives."""
    with pytest.raises(CallError) as refused:
        charger.call("FooBar", {})
    assert refused.value.code == "NotImplemented"
    assert alive(charger)


def test_C26_a_known_action_that_is_not_ours_to_answer(charger):
    """An action of the standard that chargers do not send is answered NotSupported; the line lives."""
    with pytest.raises(CallError) as refused:
        charger.call("RemoteStartTransaction", {"idTag": "CARD1"})
    assert refused.value.code == "NotSupported"
    assert alive(charger)


def test_C27_message_types_that_are_none(charger):
    """Message type 7 is ignored; type "2" as a text is handled."""
    before = len(charger.frames)
    charger.send('[7,"seven","Heartbeat",{}]')
    charger.send('["2","two","Heartbeat",{}]')
    assert charger.answer("two")["currentTime"]
    assert "seven" not in str([text for way, text in charger.frames[before:] if way == "IN"])


def test_C28_a_frame_of_two_megabytes_and_one_five_thousand_deep(world, charger):
    """2 MB end that line with 1009, 5,000 levels are answered with an error; the process and its other chargers live."""
    other = world.connect("VLT-0002")
    deep = "[" * 5_000 + "]" * 5_000
    charger.send(f'[2,"deep","Heartbeat",{deep}]')
    assert failed(charger, "deep").code == "FormationViolation"
    assert alive(charger)
    pid = world.server.process.pid
    charger.send('[2,"x","DataTransfer",{"vendorId":"v","data":"' + "x" * 2_000_000 + '"}]')
    assert charger.wait_closed(10) == 1009
    assert alive(other) and world.server.alive and world.server.process.pid == pid
    world.until(lambda: Connection.objects.filter(close_reason="frame too large").exists())
    assert alive(world.connect())


@pytest.mark.parametrize("action", ["{}", "5", "[]", "null"])
def test_C29_an_action_that_is_no_text(charger, action):
    """An action that is an object or a number is answered with CALLERROR; the line lives."""
    charger.send(f'[2,"odd",{action},{{}}]')
    assert failed(charger, "odd").code == "FormationViolation"
    assert alive(charger)


def test_C30_the_same_message_again(world, charger):
    """The same id with the same content: the identical answer, one effect."""
    world.card("CARD1")
    start = {"connectorId": 1, "idTag": "CARD1", "meterStart": 0, "timestamp": stamp()}
    first = charger.call("StartTransaction", start, uid="again")
    assert charger.call("StartTransaction", start, uid="again") == first
    sample = {
        "connectorId": 1,
        "transactionId": first["transactionId"],
        "meterValue": [{"timestamp": stamp(), "sampledValue": [{"value": "5"}]}],
    }
    assert charger.call("MeterValues", sample, uid="mv") == charger.call("MeterValues", sample, uid="mv") == {}
    session = ChargingSession.objects.get()
    assert (session.readings.count(), session.transaction_id) == (1, str(first["transactionId"]))
    answers = [text for way, text in charger.frames if way == "IN" and '"again"' in text]
    assert len(answers) == 2 and answers[0] == answers[1]


def test_C31_the_same_id_for_something_else(world, charger):
    """The same id with other content is another message: processed as new."""
    world.card("CARD1")
    charger.call("StatusNotification", {"connectorId": 1, "status": "Preparing", "errorCode": "NoError"}, uid="1")
    assert Connector.objects.get(pk=world.network.kaveri_connector.pk).status == "Preparing"
    charger.call("StatusNotification", {"connectorId": 1, "status": "Finishing", "errorCode": "NoError"}, uid="1")
    assert Connector.objects.get(pk=world.network.kaveri_connector.pk).status == "Finishing"
    told = charger.call("StartTransaction", {"connectorId": 1, "idTag": "CARD1", "meterStart": 0, "timestamp": stamp()}, uid="1")
    assert told["transactionId"] == int(world.session().transaction_id)


# -- what we ask -------------------------------------------------------------------------------------------------------
def test_C32_a_charger_speaks_while_it_is_asked(world, charger):
    """A charger's own message while our call is open is answered at once."""
    world.ask("ClearCache")
    uid = asked(charger, "ClearCache")
    began = time.monotonic()
    assert alive(charger)
    assert time.monotonic() - began < 1
    reply(charger, [3, uid, ACCEPTED])
    world.command("ClearCache", "effective")


def test_C33_one_call_at_a_time(world, charger):
    """The second command goes out only when the first was answered."""
    world.ask("ClearCache")
    world.ask("GetLocalListVersion")
    uid = asked(charger, "ClearCache")
    charger.nothing("GetLocalListVersion", for_s=2.5)  # longer than the poll for waiting commands
    assert world.command("GetLocalListVersion").state == "queued"
    reply(charger, [3, uid, ACCEPTED])
    charger.expect("GetLocalListVersion", {"listVersion": 0})


def test_C34_a_call_nobody_answers(world, charger):
    """No answer: it times out and the next goes out; the answer that comes late is still written down."""
    world.ask("ClearCache")
    uid = asked(charger, "ClearCache")
    world.ask("GetLocalListVersion")
    world.pass_time(35)
    world.work("commands.timeout")
    late = world.command("ClearCache", "timeout")
    charger.expect("GetLocalListVersion", {"listVersion": 0})
    reply(charger, [3, uid, ACCEPTED])
    late.refresh_from_db()
    assert (late.state, late.response) == ("effective", ACCEPTED)


@pytest.mark.parametrize("answer", [["MadeUpError", "it is tired", {}], ["MadeUpError"], ["GenericError", "tired", None]])
def test_C35_a_call_that_is_answered_with_an_error(world, charger, answer):
    """A CALLERROR with a code nobody knows, with three elements, with null details: failed, its reason kept; the line lives."""
    world.ask("ClearCache")
    reply(charger, [4, asked(charger, "ClearCache"), *answer])
    command = world.command("ClearCache", "error")
    assert command.error.startswith(answer[0]) and all(word in command.error for word in answer[1:2])


def test_C36_an_answer_that_is_not_the_standards(world, charger):
    """An answer with a field too many counts, with a remark; one without its status leaves the outcome unknown."""
    world.ask("ClearCache")
    reply(charger, [3, asked(charger, "ClearCache"), {"status": "Accepted", "mood": "good"}])
    assert "mood" in world.command("ClearCache", "effective").note
    world.ask("UnlockConnector", {"connectorId": 1})
    reply(charger, [3, asked(charger, "UnlockConnector"), {}])
    assert world.command("UnlockConnector", "unknown").response == {}
    assert Command.objects.filter(state="sent").count() == 0


def test_C37_an_answer_to_nothing(world, charger):
    """An answer under an id we never used is written down, and nothing else."""
    reply(charger, [3, "nobody-asked", ACCEPTED])
    kept = OcppMessage.objects.get(correlation_id="nobody-asked")
    assert (kept.direction, kept.note) == ("IN", "answers nothing we asked")
    assert not Command.objects.exists()


# -- our own troubles --------------------------------------------------------------------------------------------------
def test_C38_our_own_code_fails(world, charger):
    """A handler that raises: CALLERROR InternalError without a word of why, the frame kept for a person; the next message is served."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE csms_securityevent RENAME TO csms_securityevent_gone")
        try:
            with pytest.raises(CallError) as error:
                charger.call("SecurityEventNotification", {"type": "StartupOfTheDevice", "timestamp": stamp()})
        finally:
            cursor.execute("ALTER TABLE csms_securityevent_gone RENAME TO csms_securityevent")
    assert (error.value.code, error.value.description) == ("InternalError", "")
    assert charger.frames[-1][1].endswith("{}]") and "securityevent" not in charger.frames[-1][1].lower()
    assert AuditEntry.objects.get(action="message.quarantined").after["action"] == "SecurityEventNotification"
    assert "kept for a person" in world.frames(world.network.kaveri_charger, "SecurityEventNotification", "IN")[0].note
    assert alive(charger)
    assert charger.call("SecurityEventNotification", {"type": "StartupOfTheDevice", "timestamp": stamp()}) == {}
    assert world.server.mistakes  # a person can read there what it was
    world.server.forgive()


def test_C39_one_charger_is_slow_another_is_not(world, charger):
    """While a message of one charger takes 3 s, the heartbeats of another are answered as ever."""
    world.card("CARD1")
    transaction_id = charger.start(1, "CARD1", meter_wh=0)["transactionId"]
    other = world.connect("VLT-0002")
    with ThreadPoolExecutor(1) as one:
        with transaction.atomic():
            ChargingSession.objects.select_for_update().get()
            began, slowest = time.monotonic(), 0.0
            reading = one.submit(charger.meter, 1, transaction_id, register_wh=100)
            while time.monotonic() - began < 3:
                asked_at = time.monotonic()
                assert alive(other)
                slowest = max(slowest, time.monotonic() - asked_at)
                time.sleep(0.1)
            assert not reading.done()
        assert reading.result(15) == {}
    assert slowest < 0.5
    assert world.session().energy_wh == 100


# -- odd bytes ---------------------------------------------------------------------------------------------------------
def test_C41_control_characters(world, charger):
    """A text with NUL and control characters is stored without them and answered; the log keeps the very bytes."""
    raw = '[2,"nul","StatusNotification",{"connectorId":1,"status":"Available","errorCode":"NoError","info":"a\\u0000b\\u0010\\u000ec"}]'
    charger.send(raw)
    assert charger.answer("nul") == {}
    assert Connector.objects.get(pk=world.network.kaveri_connector.pk).info == "abc"
    assert OcppMessage.objects.get(correlation_id="nul", direction="IN").text == raw


def test_C42_a_modem_that_chatters(world, charger):
    """50 frames an hour that are no OCPP are ignored; with one more the line is closed, and a person is told."""
    for number in range(50):
        charger.send(f"AT+CSQ {number}\r\nOK")
    assert alive(charger)
    assert not Alert.objects.exists()
    with pytest.raises(NoAnswer):
        charger.wait_closed(0.3)
    charger.send("AT+CSQ\r\nOK")
    assert charger.wait_closed(5) == 1008
    assert Alert.objects.get().kind == "garbage"
    assert alive(world.connect())
