"""The message log for people: found by time, charger and words; request and answer as one; a file of them."""

import csv
import json
from datetime import timedelta
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, Company
from accounts.roles import Role
from csms import by_time, message_csv, message_log, message_search, message_text
from csms.models import Command, OcppMessage
from tests import factories
from tests.stories import charge, queries, signed_in
from voltaro import clock

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:StreamingHttpResponse")]
LOG, FILE = "/console/messages/", "/console/messages.csv"
TAG = "0123456789ABCDEF"
HOURS, DAYS = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def om(network):
    return signed_in(network.om)


@pytest.fixture
def support(network):
    """Somebody who looks and does not operate."""
    return signed_in(factories.make_user("sita", Role.SUPPORT, network.voltaro))


def said(charge_point, raw="[]", *, ago=timedelta(minutes=5), direction="IN", kind=2, action="Heartbeat", ident="m1", **fields):
    """One frame of the log, as if it had been said that long ago."""
    return OcppMessage.objects.create(
        charge_point=charge_point,
        direction=direction,
        message_type=kind,
        action=action,
        correlation_id=ident,
        raw=raw if isinstance(raw, bytes) else raw.encode(),
        at=clock.now() - ago,
        **fields,
    )


def answered(call, raw='[3,"m1",{}]', *, took_ms=4, kind=3, **fields):
    """The other side's answer to a frame, as the writer of the log leaves it."""
    direction = "OUT" if call.direction == "IN" else "IN"
    return OcppMessage.objects.create(
        charge_point=call.charge_point,
        direction=direction,
        message_type=kind,
        action=call.action,
        correlation_id=call.correlation_id,
        raw=raw.encode(),
        at=call.at + timedelta(milliseconds=took_ms),
        duration_ms=took_ms if direction == "OUT" else None,
        **fields,
    )


def a_log_of(count, charge_points, *, days) -> None:
    """So many requests with their answers, evenly over the last days; every hundredth a boot."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO csms_ocppmessage
              (created_at, direction, correlation_id, message_type, action, raw, note, duration_ms, epoch, at, charge_point_id)
            SELECT t, d, 'm' || n, CASE d WHEN 'IN' THEN 2 ELSE 3 END,
              CASE WHEN n %% 100 = 0 THEN 'BootNotification' ELSE 'MeterValues' END,
              convert_to('[2,"m' || n || '","MeterValues",{"connectorId":1,"value":"' || n || '"}]', 'UTF8'), '',
              CASE d WHEN 'OUT' THEN 3 END, 1, t, c
            FROM (
              SELECT n, d, (%s::bigint[])[1 + n %% %s] AS c,
                %s::timestamptz + n * (%s::interval / %s) + CASE d WHEN 'OUT' THEN interval '3 ms' ELSE interval '0' END AS t
              FROM generate_series(1, %s) n, (VALUES ('IN'), ('OUT')) v(d) ORDER BY n, d
            ) s""",
            [[row.pk for row in charge_points], len(charge_points), clock.now() - days * DAYS, days * DAYS, count, count],
        )
        cursor.execute("ANALYZE csms_ocppmessage")


def shown(page):
    return page.context["found"].exchanges


def at(ago):
    return message_search.local(clock.now() - ago)


# -- exchanges ----------------------------------------------------------------------------------------------------
def test_a_request_and_its_answer_are_one_line_with_the_time_between_them(network, om):
    boot = said(network.kaveri_charger, '[2,"m1","BootNotification",{}]', action="BootNotification")
    reply = answered(boot, took_ms=12)
    page = om.get(LOG)
    [one] = shown(page)
    assert (one.request, one.answer, one.took_ms, one.asked_by_us) == (boot, reply, 12, False)
    text = page.content.decode()
    assert "BootNotification" in text and "VLT-0001" in text and "12 ms" in text and "charger →" in text


def test_a_command_of_ours_is_joined_with_the_chargers_answer_though_that_was_written_first(network, om):
    """What we send is written a moment after it left; a quick charger has answered by then."""
    now = clock.now() - timedelta(minutes=1)
    reply = said(network.kaveri_charger, '[3,"u",{"status":"Accepted"}]', kind=3, action="Reset", ident="u")
    OcppMessage.objects.filter(pk=reply.pk)._raw_delete("default")
    reply.at = now + timedelta(milliseconds=7)
    reply.save(force_insert=True)
    call = OcppMessage.objects.create(
        charge_point=network.kaveri_charger, direction="OUT", message_type=2, action="Reset", correlation_id="u", raw=b"[]", at=now
    )
    assert reply.pk < call.pk
    [one] = shown(om.get(LOG))
    assert (one.request, one.answer, one.took_ms, one.asked_by_us) == (call, reply, 7, True)
    assert "→ charger" in om.get(LOG).content.decode()


def test_a_request_without_an_answer_shows_as_such(network, om):
    said(network.kaveri_charger, direction="OUT", action="UnlockConnector")
    page = om.get(LOG)
    assert [one.answer for one in shown(page)] == [None] and "no answer" in page.content.decode()


@pytest.mark.parametrize("took", [timedelta(seconds=40), timedelta(hours=20)])
def test_an_answer_that_came_hundreds_of_frames_later_is_found_by_its_command(om, network, took):
    """A call of ours, then a queue of messages, then its answer: one exchange from either end, in a bounded number of queries."""
    row, other = network.kaveri_charger, network.ganga_charger
    asked = clock.now() - took - HOURS
    command = Command.objects.create(
        charge_point=row, action="Reset", unique_id="far-1", expires_at=clock.now(), sent_at=asked, answered_at=asked + took
    )
    call = said(row, '[2,"far-1","Reset",{}]', ago=clock.now() - asked, direction="OUT", action="Reset", ident="far-1")
    said(other, '[3,"far-1",{}]', ago=clock.now() - asked - took, kind=3, ident="far-1")  # another charger's of the same name
    for number in range(400):
        said(row, ago=clock.now() - asked - took * (number + 1) / 402, ident=f"between-{number}")
    answer = said(row, '[3,"far-1",{}]', ago=clock.now() - asked - took, kind=3, action="Reset", ident="far-1")
    for number in range(400):
        said(row, ago=timedelta(minutes=5), ident=f"after-{number}")
    with CaptureQueriesContext(connection) as used:
        told = message_log.exchanges_of(list(message_log.light(OcppMessage.objects.filter(pk__in=[call.pk, answer.pk]))))
    assert len(used) <= 6
    assert {(one.request.pk, one.answer.pk) for one in told.values()} == {(call.pk, answer.pk)}
    assert told[call.pk].took_ms == took.total_seconds() * 1000
    Command.objects.filter(pk=command.pk).update(answered_at=None)
    assert message_log.exchange(call).answer is None


def test_of_a_message_sent_twice_under_one_id_each_has_its_own_answer(network, om):
    first = said(network.kaveri_charger, ago=timedelta(seconds=60))
    second = said(network.kaveri_charger, ago=timedelta(seconds=59))
    reply_to_first, reply_to_second = answered(first, took_ms=5), answered(second, took_ms=40)
    assert [(one.request, one.answer) for one in shown(om.get(LOG))] == [(second, reply_to_second), (first, reply_to_first)]


def test_a_message_sent_again_after_silence_leaves_the_first_unanswered(network, om):
    first = said(network.kaveri_charger, ago=timedelta(seconds=90))
    again = said(network.kaveri_charger, ago=timedelta(seconds=60))
    reply = answered(again)
    assert [(one.request, one.answer) for one in shown(om.get(LOG))] == [(again, reply), (first, None)]


def test_the_same_id_at_another_charger_is_another_exchange(network, om):
    said(network.kaveri_charger)
    answered(said(network.ganga_charger))
    assert sorted(one.answer is None for one in shown(om.get(LOG))) == [False, True]


def test_an_answer_looked_for_alone_brings_its_request_along(network, om):
    call = said(network.kaveri_charger)
    reply = answered(call, kind=4)
    page = om.get(LOG, {"kind": "error"})
    assert [(one.frame, one.request, one.answer) for one in shown(page)] == [(reply, call, reply)]
    stray = said(network.kaveri_charger, kind=3, ident="nobody-asked", action="")
    assert [(one.frame, one.request) for one in shown(om.get(LOG, {"id": "nobody-asked"}))] == [(stray, None)]


def test_an_opened_line_shows_both_frames_and_what_was_made_of_them(network, om):
    raw = '[2,"m1","StatusNotification",{"connectorId":"1","errorCode":"NoError","status":"Available","extra":1}]'
    call = said(network.kaveri_charger, raw, action="StatusNotification", note="connectorId: not an integer")
    answered(call)
    for address in (f"{LOG}{call.pk}/", f"{LOG}{call.pk}/?part=1"):
        page = om.get(address).content.decode()
        assert "&quot;extra&quot;: 1" in page and "connectorId: not an integer" in page  # as it came
        assert "Taken for" in page and "&quot;connectorId&quot;: 1," in page  # as it was understood
    assert "<html" not in page


def test_what_is_no_json_is_shown_as_text(network, om):
    noise = said(network.kaveri_charger, b"\xff\x00<script>alert(1)</script>", kind=0, action="", ident="", note="not JSON")
    page = om.get(f"{LOG}{noise.pk}/").content.decode()
    assert "\\xff\\x00&lt;script&gt;" in page and "<script>alert" not in page and "not JSON" in page
    assert "Unreadable" in om.get(LOG).content.decode()
    assert om.get(reverse("csms:frame", args=[noise.pk])).content == b"\\xff\\x00<script>alert(1)</script>"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe",
        b'[2,"m1","DataTransfer",{"data":"\\ud800 \\u0000 \x1b[31m"}]',
        b'[2,"m1","DataTransfer",' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"]",
        b'[2,"m1","DataTransfer",' + b'{"a":' * 960 + b"1" + b"}" * 960 + b"]",
        b'[2,"m1","DataTransfer",' + b"[" * 990 + b"]" * 990 + b"]",
        b"[" * 100_000,
        b'[2,"m1","MeterValues",{"connectorId":' + b"9" * 5_000 + b"}]",
        b'[2,"m1","MeterValues",{"connectorId":1e999,"x":NaN}]',
        b'[2,"m1","Authorize",[1,2]]',
        b'{"not":"a frame"}',
        b"[4]",
        b'[4,"m1",null,{"a":1}]',
        b'[2,"m1","Authorize",{"idTag":{"idTag":["0123456789"]}}]',
        b'"' + b"\\u00e9" * 40_000 + b'"',
    ],
    ids=range(15),
)
def test_every_page_opens_whatever_was_said(network, om, support, raw):
    session = charge(network, minutes_ago=10).session
    frame = said(network.kaveri_charger, raw, action="DataTransfer", note="odd")
    for client in (om, support):
        for address in (
            *(LOG, f"{LOG}{frame.pk}/", f"{LOG}{frame.pk}/?part=1", FILE, reverse("csms:frame", args=[frame.pk])),
            reverse("csms:replay", args=[session.pk]),
        ):
            answer = client.get(address)
            assert answer.status_code == 200, address
            assert b"".join(answer) or not raw, address


# -- searching ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {"boot", "status", "reset", "noise", "ganga"}),
        ({"charger": "vlt-0002"}, {"ganga"}),
        ({"action": "StatusNotification"}, {"status", "ganga"}),
        ({"direction": "OUT"}, {"reset"}),
        ({"kind": "call"}, {"boot", "status", "reset", "ganga"}),
        ({"kind": "unreadable"}, {"noise"}),
        ({"notes": "1"}, {"status", "noise"}),
        ({"id": "reset"}, {"reset"}),
        ({"charger": "VLT-0001", "text": "Preparing"}, {"status"}),
        ({"charger": "VLT-0001", "text": "preparing"}, set()),
        ({"charger": "VLT-0001", "text": "%"}, set()),
        ({"charger": "VLT-0001", "action": "StatusNotification", "notes": "1", "kind": "call"}, {"status"}),
    ],
)
def test_frames_are_found_by(network, om, asked, found):
    mine = network.kaveri_charger
    said(mine, action="BootNotification", ident="boot")
    said(mine, '[2,"status","StatusNotification",{"status":"Preparing"}]', action="StatusNotification", ident="status", note="info: empty")
    said(mine, direction="OUT", action="Reset", ident="reset")
    said(mine, "AT+CGREG?", kind=0, action="", ident="noise", note="not JSON")
    said(network.ganga_charger, action="StatusNotification", ident="ganga")
    assert {one.frame.correlation_id for one in shown(om.get(LOG, asked))} == found


def test_without_a_time_the_last_hour_is_looked_through_and_of_one_charger_the_last_day(network, om):
    said(network.kaveri_charger, ago=2 * HOURS)
    assert shown(om.get(LOG)) == []
    assert len(shown(om.get(LOG, {"charger": "VLT-0001"}))) == 1
    assert len(shown(om.get(LOG, {"from": at(3 * HOURS), "to": at(1 * HOURS)}))) == 1
    assert shown(om.get(LOG, {"from": at(3 * HOURS), "to": at(2.5 * HOURS)})) == []


def test_times_are_indias(network, om):
    frame = said(network.kaveri_charger)
    local = timezone.localtime(frame.at)
    assert local.utcoffset() == timedelta(hours=5, minutes=30)
    exact = {"from": f"{local:%Y-%m-%dT%H:%M:%S}", "to": f"{local + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}"}
    assert [one.frame for one in shown(om.get(LOG, exact))] == [frame]


def test_a_stretch_too_long_is_cut_and_said(network, om):
    old = said(network.kaveri_charger, ago=40 * DAYS, ident="old")
    said(network.kaveri_charger, ago=20 * DAYS, ident="later")
    page = om.get(LOG, {"from": at(40.5 * DAYS)})
    assert [one.frame for one in shown(page)] == [old] and "At most 24 hours are looked through without a charger" in page.content.decode()
    page = om.get(LOG, {"from": at(40.5 * DAYS), "charger": "VLT-0001"})
    assert len(shown(page)) == 2 and "At most 31 days are looked through: here until" in page.content.decode()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"text": "Faulted"}, "Text is looked for inside one charger: name it."),
        ({"text": "x", "charger": "VLT-0001", "from": "2026-01-01T00:00", "to": "2026-01-03T00:00"}, "24 hours at most"),
        ({"charger": "NOBODY"}, "No charger of yours is called NOBODY."),
        ({"from": "yesterday"}, "yesterday is no time (from)."),
        ({"from": "2026-01-02T00:00", "to": "2026-01-01T00:00"}, "The time ends before it begins."),
        ({"from": "0001-01-01T00:00"}, "is no time"),
    ],
)
def test_what_cannot_be_looked_for_is_said_kindly_and_asks_the_table_nothing(network, om, asked, words):
    said(network.kaveri_charger)
    with CaptureQueriesContext(connection) as seen:
        page = om.get(LOG, asked)
    assert page.status_code == 200 and words in page.content.decode()
    assert not [query for query in seen.captured_queries if "csms_ocppmessage" in query["sql"]]
    assert om.get(FILE, asked)["Location"].startswith(LOG)


@pytest.mark.parametrize(
    "asked",
    [
        {"before": "x", "after": "-1", "direction": "UP", "kind": "7", "notes": "maybe"},
        {"charger": "\0", "action": "\0", "id": "\0", "text": "\0"},
        {"before": "9" * 30},
        {"before": "²"},
        {"from": "2026-01-01T00:00:00+99:00"},
        {"charger": "A" * 5000},
    ],
)
def test_odd_addresses_are_answered(om, network, asked):
    assert om.get(LOG, asked).status_code == 200


def test_when_a_charger_said_nothing_of_late_the_page_says_when_it_did(network, om):
    frame = said(network.kaveri_charger, ago=9 * DAYS)
    page = om.get(LOG, {"charger": "VLT-0001"}).content.decode()
    assert "The newest frame of VLT-0001 is of" in page
    there = f"from={message_search.local(frame.at - timedelta(minutes=1))}"
    assert there in page and len(shown(om.get(f"{LOG}?charger=VLT-0001&{there}"))) == 1


def test_looking_that_takes_too_long_is_stopped_and_said(network, om, monkeypatch):
    def slowly(search, user):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr(message_log, "LIST_S", 0.05)
    monkeypatch.setattr(message_log, "selected", slowly)
    page = om.get(LOG)
    assert page.status_code == 200 and "too much to look through" in page.content.decode()


# -- pages --------------------------------------------------------------------------------------------------------
def test_older_and_newer_show_every_exchange_once(network, om, monkeypatch):
    monkeypatch.setattr(message_log, "PAGE", 7)
    calls = []
    for number in range(20):
        call = said(network.kaveri_charger, ident=f"m{number}", ago=timedelta(minutes=30 - number))
        if number % 3:  # an odd number of frames: pages end between a request and its answer
            answered(call)
        calls.append(call.pk)
    page, seen = om.get(LOG), []
    addresses = [LOG]
    while True:
        seen += [one.frame.pk for one in shown(page)]
        if not page.context["older"]:
            break
        addresses.append(page.context["older"])
        page = om.get(LOG + page.context["older"])
    assert seen == calls[::-1]
    assert all(one.answer is not None for one in shown(page) if int(one.frame.correlation_id[1:]) % 3)
    back = []
    while True:
        back = [one.frame.pk for one in shown(page)] + back
        if not page.context["newer"]:
            break
        page = om.get(LOG + page.context["newer"])
    assert back == calls[::-1]


def test_a_full_log_costs_no_more_queries_than_a_small_one(network, om):
    for address in (LOG, f"{LOG}?charger=VLT-0001", f"{LOG}?charger=VLT-0001&kind=answer"):
        OcppMessage.objects.all().delete()
        answered(said(network.kaveri_charger))
        om.get(address)
        few = queries(om, address)
        for number in range(150):
            answered(said(network.kaveri_charger, ident=f"n{number}"))
        assert queries(om, address) <= few + 1 <= 22


def test_no_search_touches_frames_outside_its_time(network, om):
    """Held by the plans: by key or by charger and key, between two ids; never the whole table, never the index of times."""
    a_log_of(60_000, [network.kaveri_charger, network.ganga_charger], days=30)
    yesterday, month = {"from": at(1.5 * DAYS), "to": at(1 * DAYS)}, {"from": at(25 * DAYS), "to": at(1 * DAYS)}
    searches = [
        {},
        yesterday,
        {**yesterday, "action": "BootNotification"},
        {**yesterday, "id": "m58000"},
        {**yesterday, "kind": "unreadable"},
        {**month, "charger": "VLT-0001"},
        {**month, "charger": "VLT-0001", "action": "BootNotification", "kind": "answer"},
        {**yesterday, "charger": "VLT-0001", "text": '"58000"'},
    ]
    pages = [(client, asked) for client in (om, signed_in(network.admin)) for asked in searches]
    for client, asked in pages:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(LOG, asked).status_code == 200
        for query in [query["sql"] for query in seen.captured_queries if "csms_ocppmessage" in query["sql"]]:
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query)
                [[plan]] = cursor.fetchone()
            nodes = list(_nodes(plan["Plan"]))
            assert not [n for n in nodes if n["Node Type"] == "Seq Scan" and n["Relation Name"] == "csms_ocppmessage"], query
            assert not [n for n in nodes if n.get("Index Name") == "message_at"], query
            read = sum(n["Actual Rows"] * n["Actual Loops"] + n.get("Rows Removed by Filter", 0) for n in nodes if "Index Name" in n)
            # Half a day of 30 is 2,000 of 120,000 frames; of one charger, 24 days are 48,000.
            assert read <= (3_000 if asked.get("from") != month["from"] else 60_000), (read, query)


def _nodes(plan):
    yield plan
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)


def test_times_become_ids(network):
    """Exact to DISORDER, whatever is missing between; a frame that was written late is not lost."""
    a_log_of(3_000, [network.kaveri_charger], days=3)
    middle = list(OcppMessage.objects.order_by("pk").values_list("pk", flat=True)[700:2_300])
    OcppMessage.objects.filter(pk__in=middle)._raw_delete("default")
    said(network.kaveri_charger, ago=timedelta(seconds=100), ident="late")
    for since, until in [(80, 0), (71, 70), (60, 20), (60, 59), (47.3, 13.9), (0.04, 0.02), (0.02, 0), (100, 90), (-1, -2)]:
        since, until = clock.now() - since * HOURS, clock.now() - until * HOURS
        expected = set(OcppMessage.objects.filter(at__gte=since, at__lt=until).values_list("pk", flat=True))
        assert set(by_time.between(OcppMessage.objects.all(), since, until).values_list("pk", flat=True)) == expected
    OcppMessage.objects.all().delete()
    assert by_time.ids_between(OcppMessage, clock.now(), None) == (1, 0)


# -- who sees what ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("who", "status"), [(None, 302), ("asha", 403), ("kaveri_user", 403), ("om", 200), ("support", 200), ("finance", 200), ("admin", 200)]
)
def test_who_may_read_the_log(network, who, status):
    for name in ("support", "finance"):
        setattr(network, name, factories.make_user(name, name, network.voltaro))
    frame = said(network.kaveri_charger)
    client = signed_in(getattr(network, who)) if who else Client()
    for address in (LOG, f"{LOG}{frame.pk}/", f"{LOG}{frame.pk}/?part=1", FILE, reverse("csms:frame", args=[frame.pk])):
        assert client.get(address).status_code == status, address


def test_another_networks_operator_reads_nothing_of_ours(network):
    frame = said(network.kaveri_charger, ident="ours")
    stranger = signed_in(factories.make_user("stranger", Role.OPERATOR, Company.objects.create(name="Another network")))
    assert shown(stranger.get(LOG)) == []
    assert "No charger of yours is called VLT-0001." in stranger.get(LOG, {"charger": "VLT-0001"}).content.decode()
    assert stranger.get(f"{LOG}{frame.pk}/").status_code == 404
    assert b"ours" not in b"".join(stranger.get(FILE))


@pytest.mark.parametrize(
    "raw",
    [
        f'[2,"m1","StartTransaction",{{"connectorId":1,"idTag":"{TAG}","meterStart":0}}]',
        f'[2,"m1","SendLocalList",{{"localAuthorizationList":[{{"idtag":"{TAG}","idTagInfo":{{"parentIdTag":"{TAG}"}}}}]}}]',
        f'[2,"m1","StartTransaction",{{"connectorId":1,"idTag" : "{TAG}',
        f"[2,'m1','StartTransaction',{{idTag:{TAG},meterStart:0}}]",
        f'[2,"m1","Authorize",{{"idT\\u0061g":"{TAG}"}}]',
        f'[2,"m1","Authorize",{{"idToken":{{"idToken":"{TAG}","type":"ISO14443"}}}}]',
    ],
)
def test_who_may_not_operate_sees_the_end_of_a_tag_only(network, om, support, raw):
    """A one-time tag opens a charger until it is used."""
    frame = said(network.kaveri_charger, raw, action="StartTransaction")
    places = [f"{LOG}{frame.pk}/", f"{LOG}{frame.pk}/?part=1", reverse("csms:frame", args=[frame.pk]), FILE]
    places.append(reverse("admin:csms_ocppmessage_change", args=[frame.pk]))
    for address in places:
        assert TAG in _text(om.get(address)), address
        page = _text(support.get(address))
        assert TAG not in page and TAG[:8] not in page and "…CDEF" in page, address


def test_a_tag_cannot_be_found_letter_by_letter_either(network, om, support):
    said(network.kaveri_charger, f'[2,"m1","Authorize",{{"idTag":"{TAG}"}}]', action="Authorize", ident="tag")
    said(network.kaveri_charger, f'[2,"m2","Authorize",{{"idT\\u0061g":"{TAG}"}}]', action="Authorize", ident="hidden")
    said(network.kaveri_charger, '[3,"m1",{"idTagInfo":{"status":"Accepted"}}]', kind=3, ident="answer")
    asked = {"charger": "VLT-0001", "text": "0123"}
    assert len(shown(om.get(LOG, asked))) == 2
    assert shown(support.get(LOG, asked)) == []
    assert [one.frame.correlation_id for one in shown(support.get(LOG, {**asked, "text": "Accepted"}))] == ["answer"]
    assert "only operators see tags" in support.get(LOG, asked).content.decode()


def test_what_a_tag_is_masked_to():
    assert message_text.masked("0123456789ABCDEF") == "…CDEF"
    assert message_text.masked("1234567") == "…"
    assert message_text.without_tags({"idTag": 12345678, "idTagInfo": {"status": "Accepted"}}) == {
        "idTag": "…5678",
        "idTagInfo": {"status": "Accepted"},
    }


# -- the file -----------------------------------------------------------------------------------------------------
def _text(response) -> str:
    return b"".join(response).decode()


def _rows(response):
    return list(csv.DictReader(StringIO(_text(response), newline="")))


def test_what_was_found_comes_as_a_file_oldest_first_with_every_column(network, om):
    raw = '[2,"m1","StatusNotification",{"info":"a \\"quoted\\", long\\nword"}]'
    call = said(network.kaveri_charger, raw, action="StatusNotification", note="info: too long")
    answered(call, took_ms=9)
    said(network.ganga_charger, ident="ganga")
    page = om.get(LOG, {"charger": "VLT-0001"})
    assert page.context["download"].startswith(FILE + "?charger=VLT-0001&from=")
    response = om.get(page.context["download"])
    assert response["Content-Type"].startswith("text/csv") and "frames-VLT-0001-" in response["Content-Disposition"]
    first, second = _rows(response)
    assert first == {
        "id": str(call.pk),
        "at": timezone.localtime(call.at).isoformat(timespec="milliseconds"),
        "charger": "VLT-0001",
        "direction": "IN",
        "kind": "call",
        "action": "StatusNotification",
        "correlation id": "m1",
        "duration ms": "",
        "note": "info: too long",
        "epoch": "0",
        "frame": raw,
    }
    assert (second["direction"], second["kind"], second["duration ms"]) == ("OUT", "answer", "9")


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "  =1"])
def test_no_cell_of_the_file_is_a_formula(network, om, start):
    said(network.kaveri_charger, f"{start}()", kind=0, ident=start.strip() or "x", note=start, action=start[:50])
    [row] = _rows(om.get(FILE))
    for name in ("frame", "note", "action"):
        assert row[name].startswith("'"), name


def test_taking_frames_along_is_on_record(network, om):
    om.get(FILE, {"charger": "VLT-0001", "action": "Reset", "text": TAG})
    entry = AuditEntry.objects.get(action="messages.exported")
    assert (entry.actor, entry.target_type, entry.target_id) == ("om", "csms.chargepoint", str(network.kaveri_charger.pk))
    assert entry.after["action"] == "Reset" and entry.after["charger"] == "VLT-0001" and entry.after["from"] and entry.after["to"]
    assert TAG not in json.dumps(entry.after)
    om.get(FILE)
    assert AuditEntry.objects.filter(action="messages.exported", target_type="accounts.user", target_id=str(network.om.pk)).exists()


def test_the_file_ends_at_its_most_rows_and_says_so(network, om, monkeypatch):
    monkeypatch.setattr(message_csv, "MOST_ROWS", 5)
    monkeypatch.setattr(message_csv, "ROWS", 2)
    for number in range(5):
        said(network.kaveri_charger, ident=f"m{number}")
    assert [row["correlation id"] for row in _rows(om.get(FILE))][:5] == [f"m{n}" for n in range(5)]
    said(network.kaveri_charger, ident="m5")
    rows = _rows(om.get(FILE))
    assert len(rows) == 6 and rows[-1]["id"].startswith("The file ends here: it holds")


def test_large_frames_are_read_a_few_at_a_time():
    keys = [(number, 250_000) for number in range(100)]
    pieces = message_csv._pieces(keys)
    assert [key for piece in pieces for key in piece] == [number for number, _ in keys]
    assert max(len(piece) for piece in pieces) * 250_000 <= message_csv.BYTES
    assert message_csv._pieces([(1, 9_000_000), (2, 1)]) == [[1], [2]]


@pytest.mark.django_db(transaction=True)
async def test_under_asgi_the_file_leaves_piece_by_piece(network, monkeypatch):
    """A plain iterator would be gathered whole before its first byte leaves."""
    monkeypatch.setattr(message_csv, "ROWS", 10)
    await sync_to_async(a_log_of)(100, [network.kaveri_charger], days=0.02)
    client = AsyncClient()
    await client.aforce_login(network.om)
    response = await client.get(FILE)
    assert response.is_async
    pieces, asked = [], []
    keys = message_csv._keys
    monkeypatch.setattr(message_csv, "_keys", lambda *how: asked.append(len(pieces)) or keys(*how))
    async for piece in response.streaming_content:
        pieces.append(piece)
    assert len(pieces) == 21 and asked == list(range(1, 22))
    assert b"".join(pieces).count(b"\r\n") == 201


# -- the ways to it -----------------------------------------------------------------------------------------------
def test_a_chargers_page_and_the_admins_list_lead_to_the_log(network, om):
    frame = said(network.kaveri_charger)
    page = om.get(reverse("csms:charger", args=[network.kaveri_charger.pk])).content.decode()
    assert f"{LOG}?charger=VLT-0001" in page
    assert [one.frame for one in shown(om.get("/admin/csms/ocppmessage/", {"charger": "VLT-0001"}))] == [frame]
    assert om.get(f"/admin/csms/ocppmessage/{frame.pk}/change/").context["exchange"].frame == frame
    assert om.get("/admin/csms/ocppmessage/x/change/").status_code == 404
