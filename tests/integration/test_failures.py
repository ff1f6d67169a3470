"""Failure modes: each is put on record once, where it happens, counted from the records, and shown with its runbook."""

import logging
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import reverse

from accounts import failures
from accounts.models import AuditEntry
from accounts.roles import Role
from billing import bills
from csms import commands, outcomes, permits, sessions, stations
from csms.models import Alert, ChargePoint, ChargingSession, Command, IdTag
from tests.charger import Charger, later
from tests.factories import make_user
from tests.stories import queries, signed_in
from voltaro import clock
from voltaro.metrics import exposition

pytestmark = pytest.mark.django_db


@pytest.fixture
def charger(network, bells):
    found = Charger(network.kaveri_charger)
    found.boot()
    return found


@pytest.fixture
def permit(network, charger):
    return permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=27_785, start_until=later(300)
    )


@pytest.fixture
def running(charger, permit):
    charger.start(permit.tag, meter=0)
    clock.shift(60)
    charger.meter(500, 30_000)
    return ChargingSession.objects.get()


def noted() -> dict[str, int]:
    """How often each was put on record by now."""
    return {name: one.week for name, one in failures.counts(clock.now()).items() if one.week}


# -- the line -----------------------------------------------------------------------------------------------------------
def test_a_lost_line_suspends_and_ends(charger, running):
    charger.drop()
    assert noted() == {"disconnect_suspended": 1}
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    assert noted() == {"disconnect_suspended": 1, "disconnect_stopped": 1}


def test_a_boot_in_the_middle(charger, running):
    charger.boot()
    assert noted() == {"boot_suspended": 1}


def test_swept_long_after_its_time_is_our_own_failure(charger, running):
    charger.drop()
    clock.shift(181 + 900)
    sessions.timeout_due(clock.now(), 10)
    assert noted() == {"disconnect_suspended": 1, "stale_suspended_swept": 1}


def test_a_dead_process_is_found_by_its_lease_and_its_sessions_suspended(charger, running):
    """kill -9: nobody says goodbye. The lease runs out, the sweep suspends, time ends it."""
    clock.shift(stations.lease_s() + 1)
    assert stations.silent_due(clock.now(), 10) == 1
    assert ChargingSession.objects.get().state == "SUSPENDED"
    clock.shift(stations.lease_s() + 182)
    sessions.timeout_due(clock.now(), 10)
    assert noted() == {"disconnect_suspended": 1, "disconnect_stopped": 1}


@pytest.mark.parametrize("point", ["reading", "boot"])
def test_back_after_too_long(charger, running, point):
    charger.drop()
    clock.shift(1_000)
    charger.connect()
    if point == "reading":
        charger.meter(600, 30_000)
    else:
        charger.boot()
    assert noted() == {"disconnect_suspended": 1, "stale_reconnect": 1}


def test_a_line_that_flaps_without_progress(charger, running):
    for _ in range(3):
        charger.drop()
        charger.connect()
        charger.meter(500, 0)
    assert ChargingSession.objects.get().stop_reason == "FLAPPING"
    assert noted() == {"disconnect_suspended": 2, "flapping_stopped": 1}


def test_a_session_nobody_hears_of(charger, running):
    clock.shift(4 * 3600)
    sessions.timeout_due(clock.now(), 10)
    assert noted() == {"silence_stopped": 1}


# -- starts and stops -----------------------------------------------------------------------------------------------------
def test_the_connector_is_free_and_no_stop_came(charger, running):
    charger.status("Available")
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    assert noted() == {"no_stop": 1}


def test_a_socket_has_its_grace_and_then_no_stop_came(charger, running, network):
    network.kaveri_connector.type = "socket"
    network.kaveri_connector.save()
    charger.status("Available")
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    assert ChargingSession.objects.get().live
    clock.shift(181 + 301)
    sessions.timeout_due(clock.now(), 10)
    assert noted() == {"no_stop": 1}


def test_the_next_start_ends_what_was_open(charger, running, network):
    IdTag.objects.create(tag="CARD1", company=network.kaveri.company)
    charger.start("CARD1", meter=600)
    assert noted() == {"superseded": 1}


def test_a_stop_that_comes_late(charger, running):
    charger.drop()
    clock.shift(181)
    sessions.timeout_due(clock.now(), 10)
    charger.connect()
    charger.stop(700)
    charger.stop(700)
    assert noted() == {"disconnect_suspended": 1, "disconnect_stopped": 1, "late_stop": 1}


def test_no_energy(charger, permit):
    charger.start(permit.tag, meter=0)
    charger.stop(0)
    assert noted() == {"zero_energy_stopped": 1}


def test_a_stop_that_is_not_obeyed(charger, running):
    command = commands.ask(charger.row, "RemoteStopTransaction", {"transactionId": charger.transaction_id}, by="om", trigger="console")
    charger.accept(charger.asked("RemoteStopTransaction")[0])
    clock.shift(61)
    commands.timeout_due(clock.now(), 10)
    command.refresh_from_db()
    assert command.state == "expired"
    assert noted() == {"remote_stop_not_obeyed": 1}
    again = charger.asked("RemoteStopTransaction")
    charger.accept(again[0])
    clock.shift(122)
    commands.timeout_due(clock.now(), 10)
    assert noted() == {"remote_stop_not_obeyed": 1}, "the same trouble with the same session is one, within the hour"
    assert Command.objects.filter(trigger="runs on").count() == 2 <= outcomes.STOP_ATTEMPTS


def test_a_start_nobody_knows_and_one_whose_money_went_back(charger, permit):
    charger.start("NOBODY1", meter=0)
    charger.stop(0)
    permits.revoke(permit.pk, "not_started")
    charger.start(permit.tag, meter=0)
    assert noted() == {"phantom_start": 1, "start_after_refund": 1}


def test_energy_where_no_session_is(charger):
    for _ in range(3):
        charger.meter(500, 7_000)
        charger.meter(500, 20)
        clock.shift(60)
    assert noted() == {"phantom_flow": 1}
    entry = AuditEntry.objects.get(action="failure.phantom_flow")
    assert entry.after["power_w"] == 7_000 and entry.company_id == charger.row.company_id


def test_a_stop_nobody_knows_the_start_of(charger):
    charger.transaction_id = 123_456
    charger.stop(5_000)
    assert noted() == {"orphan_stop": 1}
    assert AuditEntry.objects.get(action="failure.orphan_stop").after["meter_stop_wh"] == 5_000


def test_a_message_our_code_stumbles_over(charger, permit, monkeypatch):
    monkeypatch.setattr("csms.metering._keep", lambda *a, **k: 1 / 0)
    charger.start(permit.tag, meter=0)
    charger.meter(100, 1_000)
    assert noted() == {"message_quarantined": 1}


# -- a session that we ended, and that charges on ---------------------------------------------------------------------------
@pytest.fixture
def gone_on(charger, running):
    charger.drop()
    clock.shift(200)
    sessions.timeout_due(clock.now(), 10)
    charger.connect()
    return charger


def test_it_is_told_to_stop_until_it_does(gone_on):
    gone_on.meter(2_500, 30_000)
    assert gone_on.asked("RemoteStopTransaction")[2] == {"transactionId": gone_on.transaction_id}
    assert noted()["charges_on"] == 1
    gone_on.meter(2_600, 30_000)
    assert gone_on.asked("RemoteStopTransaction") is None, "asked a moment ago"
    for number in range(1, 7):
        clock.shift(number * 21)
        gone_on.meter(2_600 + number, 30_000)
    assert Command.objects.filter(trigger="ended").count() == 5
    assert Alert.objects.filter(kind="not_obeying", cleared_at=None).exists() is False
    clock.shift(7 * 21 + 301)
    gone_on.meter(4_000, 30_000)
    assert Alert.objects.filter(kind="not_obeying", cleared_at=None).exists()
    session = ChargingSession.objects.get()
    assert (session.state, session.energy_wh) == ("STOPPED", 500)
    sent = gone_on.asked("RemoteStopTransaction")
    gone_on.accept(sent[0])
    gone_on.stop(4_100)
    assert Command.objects.get(unique_id=sent[0]).state == "effective"
    assert not Alert.objects.filter(kind="not_obeying", cleared_at=None).exists()


def test_one_that_names_no_transaction_is_told_to_stop_too(gone_on):
    number, gone_on.transaction_id = gone_on.transaction_id, 0
    gone_on.meter(2_500, 30_000)
    assert gone_on.asked("RemoteStopTransaction")[2] == {"transactionId": number}
    clock.shift(5)
    gone_on.meter(2_550, 30_000)
    assert noted()["charges_on"] == 1 and "phantom_flow" not in noted()
    gone_on.transaction_id = number
    gone_on.stop(2_600)
    gone_on.transaction_id = 0
    clock.shift(7 * 3600)
    gone_on.meter(2_700, 30_000)
    assert noted()["phantom_flow"] == 1, "hours later it is another matter"


@pytest.mark.parametrize(("off_s", "told"), [(-3_600, True), (0, False), (3_600, False)])
def test_what_is_now_is_told_by_the_clock_it_is_known_to_have(gone_on, off_s, told):
    """A reading of an hour ago by its clock: now, where that is an hour behind; two hours ago, where it is ahead."""
    ChargePoint.objects.update(clock_offset_s=off_s)
    gone_on.meter(2_500, 30_000, at=clock.now() - timedelta(seconds=3_600))
    assert (gone_on.asked("RemoteStopTransaction") is not None) == told


@pytest.mark.parametrize("how", ["still", "old", "stopped by itself"])
def test_what_says_nothing_of_now_asks_for_nothing(gone_on, how):
    if how == "still":
        gone_on.meter(500, 0)
    elif how == "old":
        gone_on.meter(900, 30_000, at=clock.now() - timedelta(seconds=150))
    else:
        gone_on.stop(900)
        gone_on.meter(900, 0)
    assert gone_on.asked("RemoteStopTransaction") is None


# -- money ------------------------------------------------------------------------------------------------------------------
def test_a_session_that_cannot_be_billed_is_put_on_record_once_an_hour(charger, running, monkeypatch):
    charger.stop(700)
    real = bills.bill
    monkeypatch.setattr(bills, "bill", lambda pk: 1 / 0)
    bills.work_due(clock.now(), 10)
    bills.work_due(clock.now(), 10)
    assert noted() == {"billing_failed": 1}
    monkeypatch.setattr(bills, "bill", real)
    assert bills.work_due(clock.now(), 10) == 1


def test_paid_and_not_started(sandbox, kaveri_qr):
    from billing import payments
    from tests import money

    payment = money.pay(sandbox, kaveri_qr, 50_000)
    clock.shift(301)
    assert payments.expire_due(clock.now(), 10) == 1
    assert noted() == {"start_timeout_refunded": 1}
    assert AuditEntry.objects.get(action="failure.start_timeout_refunded").target_id == str(payment.pk)


# -- counting ---------------------------------------------------------------------------------------------------------------
def test_counts_are_of_the_last_hour_day_and_week_and_read_no_more(charger, running):
    for waited_s in (60, 3 * 86_400, 2 * 3600):
        clock.shift(waited_s)
        failures.note("no_stop", running)
    assert failures.counts(clock.now())["no_stop"] == failures.Counted(hour=1, day=2, week=3)
    clock.shift(6 * 86_400)
    assert failures.counts(clock.now())["no_stop"] == failures.Counted(week=2)
    before = clock.now() - timedelta(days=100)
    told = {"actor": "test", "actor_type": "system", "action": "failure.no_stop", "target_type": "x", "target_id": "1", "at": before}
    AuditEntry.objects.bulk_create(AuditEntry(**told) for _ in range(3_000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_auditentry")
    assert "audit_failures" in failures.entries(clock.now()).explain()


def test_it_is_one_structured_line_in_the_log_after_the_commit(running, caplog, django_capture_on_commit_callbacks):
    with caplog.at_level(logging.WARNING, "voltaro.failures"), django_capture_on_commit_callbacks(execute=True):
        failures.note("no_stop", running, reason="NO_STOP", energy_wh=500)
    [line] = caplog.records
    where = f"target=csms.chargingsession:{running.pk} runbook=docs/runbooks/session-silent.md"
    assert line.getMessage() == f"failure mode=no_stop {where} reason=NO_STOP energy_wh=500"
    assert line.failure_mode == "no_stop"


def test_the_metrics_count_every_mode(running):
    failures.note("no_stop", running)
    body = exposition()[0].decode()
    assert 'voltaro_failures{mode="no_stop",window="24h"} 1.0' in body
    for name, mode in failures.MODES.items():
        assert f'voltaro_failures_standing{{mode="{name}"}}' in body if mode.standing else f'voltaro_failures{{mode="{name}",' in body


# -- pages ------------------------------------------------------------------------------------------------------------------
def test_the_page_counts_and_leads_to_sessions_and_runbooks(network, charger, running):
    failures.note("no_stop", running, energy_wh=500)
    client = signed_in(network.om)
    text = client.get(reverse("failures")).content.decode()
    assert 'id="no_stop"' in text and "/console/runbooks/session-silent/" in text and "1 in seven days" in text
    text = client.get(reverse("failure", args=["no_stop"])).content.decode()
    assert f"/console/sessions/{running.pk}/" in text
    assert "What to do" in client.get(reverse("runbook", args=["session-silent"])).content.decode()
    for missing in (reverse("failure", args=["nonsense"]), reverse("failure", args=["refund_stuck"]), reverse("runbook", args=["passwd"])):
        assert client.get(missing).status_code == 404


def test_it_costs_the_same_whatever_has_happened(network, running):
    client = signed_in(network.om)
    pages = [reverse(name) for name in ("failures", "kept", "exposure")] + [reverse("failure", args=["no_stop"])]
    failures.note("phantom_flow", running)
    failures.put_away(AuditEntry.objects.get(action="failure.phantom_flow"), "seen")
    pages.append(reverse("kept") + "?show=away")
    before = [queries(client, page) for page in pages]
    for _ in range(60):
        failures.note("no_stop", running)
        failures.note("phantom_start", running)
    for entry in AuditEntry.objects.filter(action="failure.phantom_start")[:30]:
        failures.put_away(entry, "seen")
    assert [queries(client, page) for page in pages] == before


def test_everybody_sees_their_own(network, running):
    failures.note("no_stop", running)
    other = make_user("gopal", Role.OPERATOR, network.ganga.company)
    assert "1 in seven days" not in signed_in(other).get(reverse("failures")).content.decode()
    assert signed_in(network.kaveri_user).get(reverse("failures")).status_code == 403
    assert signed_in(network.asha).get(reverse("kept")).status_code == 403


def test_what_is_kept_for_a_person(network, charger):
    client = signed_in(network.om)
    assert "Nothing is kept for you" in client.get(reverse("kept")).content.decode()
    charger.transaction_id = 99_999
    charger.stop(4_321)
    charger.start("STRANGER", meter=77)
    text = client.get(reverse("kept")).content.decode()
    assert "orphan_stop" in text and "4.321 kWh" in text and "phantom_start" in text
    assert f"/console/sessions/{ChargingSession.objects.get().pk}/" in text


def kept_on_the_front_page(client) -> int:
    stuck = client.get(reverse("admin:index")).context["stuck"]
    return next((one.count for one in stuck if one.what == "Kept for a person"), 0)


def test_what_a_person_has_looked_at_is_put_away_with_a_note(network, charger):
    charger.transaction_id = 99_999
    charger.stop(4_321)
    charger.start("STRANGER", meter=77)
    orphan = AuditEntry.objects.get(action="failure.orphan_stop")
    om, address = signed_in(network.om), reverse("put-away", args=[orphan.pk])
    assert address in om.get(reverse("kept")).content.decode()
    assert kept_on_the_front_page(om) == 2
    assert "Say in a word" in om.post(address, {"note": " "}, follow=True).content.decode()
    page = om.post(address, {"note": "The box was swapped."}, follow=True).content.decode()
    assert "orphan_stop" not in page and "phantom_start" in page
    assert kept_on_the_front_page(om) == 1
    away = om.get(reverse("kept") + "?show=away").content.decode()
    assert "orphan_stop" in away and "The box was swapped." in away and "phantom_start" not in away and address not in away
    assert "Somebody had put it away already" in om.post(address, {"note": "Me too."}, follow=True).content.decode()
    word = AuditEntry.objects.get(action="kept.put_away")
    assert (word.user, word.after, word.company_id) == (network.om, {"note": "The box was swapped."}, charger.row.company_id)
    assert noted()["orphan_stop"] == 1, "it is counted as before"


def test_only_operators_put_away_and_only_what_is_theirs_and_kept(network, charger, running):
    charger.transaction_id = 99_999
    charger.stop(4_321)
    failures.note("no_stop", running)
    address = reverse("put-away", args=[AuditEntry.objects.get(action="failure.orphan_stop").pk])
    support = signed_in(make_user("sam", Role.SUPPORT, network.voltaro))
    assert address not in support.get(reverse("kept")).content.decode()
    for client, status in ((support, 403), (signed_in(make_user("gopal", Role.OPERATOR, network.ganga.company)), 404)):
        assert client.post(address, {"note": "mine"}).status_code == status
    om = signed_in(network.om)
    assert om.get(address).status_code == 405
    other = AuditEntry.objects.get(action="failure.no_stop")
    assert om.post(reverse("put-away", args=[other.pk]), {"note": "no"}).status_code == 404, "a failure that is not kept for a person"
    assert not AuditEntry.objects.filter(action="kept.put_away").exists()
