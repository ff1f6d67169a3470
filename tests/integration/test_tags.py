"""Authorization: cards, their groups, one session at a time, storms, and a database that is away. Cases by their codes."""

import asyncio
import time
from datetime import timedelta
from functools import partial

import pytest
from django.db import OperationalError

from accounts.models import AuditEntry
from csms import dispatch, message_log, permits, sessions, tags
from csms.models import ChargePoint, ChargingSession, Command, IdTag, OcppMessage, QuirkProfile
from tests import factories
from tests.charger import Charger, later
from tests.integration.test_permits import both
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_remembered():
    tags.forget()
    yield
    tags.forget()


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


@pytest.fixture
def elsewhere(network, bells):
    """Ganga's charger."""
    charger = Charger(network.ganga_charger)
    charger.boot()
    return charger


@pytest.fixture
def card(network):
    def card(tag="04A2B3C4", **fields) -> IdTag:
        return IdTag.objects.create(tag=tag, company=network.voltaro, **fields)

    return card


def told(charger: Charger, tag: str) -> dict:
    return charger.call("Authorize", {"idTag": tag})["idTagInfo"]


def habit(charger: Charger, **settings) -> None:
    """This charger's own settings, known to its socket and to the services."""
    ChargePoint.objects.filter(pk=charger.row.pk).update(quirk_settings=settings)
    charger.row.refresh_from_db()
    charger.connect()
    charger.boot()


# -- Authorize ----------------------------------------------------------------------------------------------------------
def test_A01_a_valid_tag_is_accepted_with_its_group(charger, card):
    card(parent="FAMILY", expires_at=later(3600))
    # No expiryDate (Q81): chargers with a wrong clock remember it as expired.
    assert told(charger, "04A2B3C4") == {"status": "Accepted", "parentIdTag": "FAMILY"}


def test_A01_without_a_group_none_is_named(charger, card):
    card()
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}


def test_A02_an_unknown_tag_is_invalid_and_put_on_record(charger, network):
    assert told(charger, "STRANGER") == {"status": "Invalid"}
    entry = AuditEntry.objects.get(action="tag.unknown")
    assert (entry.target_id, entry.after, entry.company) == (str(charger.row.pk), {"tag": "STRANGER"}, network.kaveri.company)


def test_A02_nothing_at_all_is_no_tag(charger):
    assert told(charger, "") == {"status": "Invalid"}
    assert told(charger, " ;;; ") == {"status": "Invalid"}


def test_A03_an_expired_tag_is_expired(charger, card):
    card(expires_at=clock.now() - timedelta(seconds=1))
    assert told(charger, "04A2B3C4") == {"status": "Expired"}


def test_A04_a_blocked_tag_is_blocked_and_put_on_record_once_a_minute(charger, card):
    row = card(state="blocked")
    for _ in range(3):
        assert told(charger, "04A2B3C4") == {"status": "Blocked"}
        clock.shift(5)
    entry = AuditEntry.objects.get(action="tag.refused")
    assert (entry.target_id, entry.after["status"]) == (str(row.pk), "Blocked")
    assert "04A2B3C4" not in str(entry.after)
    clock.shift(60)
    told(charger, "04A2B3C4")
    assert AuditEntry.objects.filter(action="tag.refused").count() == 2


def test_A05_a_tag_that_charges_elsewhere_is_concurrent(charger, elsewhere, card):
    card()
    elsewhere.start("04A2B3C4")
    assert told(charger, "04A2B3C4") == {"status": "ConcurrentTx"}
    assert told(elsewhere, "04A2B3C4") == {"status": "Accepted"}  # it may be there to stop
    elsewhere.stop(100)
    clock.shift(5)
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}


def test_A05_a_session_whose_stop_was_lost_does_not_lock_its_card_out(charger, elsewhere, card):
    card()
    elsewhere.start("04A2B3C4")
    elsewhere.meter(100, 7_000)
    clock.shift(901)
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}
    assert charger.start("04A2B3C4")["idTagInfo"]["status"] == "Accepted"


@pytest.mark.parametrize("how", ["suspended", "offline"])
def test_A05_nor_does_one_whose_charger_is_gone(charger, elsewhere, card, how):
    card()
    elsewhere.start("04A2B3C4")
    if how == "suspended":
        sessions.suspend_live(elsewhere.row.pk, "booted", clock.now())
    else:
        ChargePoint.objects.filter(pk=elsewhere.row.pk).update(online=False)
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}


def test_A05_a_tag_may_be_let_charge_twice(charger, elsewhere, card):
    card(concurrent=True)
    elsewhere.start("04A2B3C4")
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}
    assert charger.start("04A2B3C4")["idTagInfo"]["status"] == "Accepted"


def test_A05_the_second_start_is_recorded_told_no_and_asked_to_stop(charger, elsewhere, card):
    row = card()
    elsewhere.start("04A2B3C4")
    answer = charger.start("04A2B3C4", meter=10)
    assert answer["idTagInfo"] == {"status": "ConcurrentTx"} and answer["transactionId"] > 0
    session = ChargingSession.objects.get(charge_point=charger.row)
    assert (session.authorized, session.card, session.limit_wh) == (False, row, 0)
    assert Command.objects.get(session=session).trigger == "not_authorized"
    # A session that was told no holds the card nowhere.
    elsewhere.stop(100)
    assert elsewhere.start("04A2B3C4", meter=200)["idTagInfo"]["status"] == "Accepted"


def test_A05_on_the_same_connector_the_new_start_takes_the_place_of_the_old(charger, card):
    """Q77: its stop was lost; refusing the card would lock it out at the very charger it stands at."""
    card()
    charger.start("04A2B3C4", meter=10)
    clock.shift(30)
    assert charger.start("04A2B3C4", meter=500)["idTagInfo"]["status"] == "Accepted"
    assert list(ChargingSession.objects.order_by("pk").values_list("state", "stop_reason")) == [("STOPPED", "SUPERSEDED"), ("STARTED", "")]


def test_A05_at_the_other_connector_of_the_same_charger_it_is_concurrent(network, bells, card):
    factories.make_connector(network.kaveri_charger, 2)
    charger = Charger(network.kaveri_charger)
    charger.boot()
    card()
    charger.start("04A2B3C4")
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}
    assert charger.start("04A2B3C4", connector=2)["idTagInfo"] == {"status": "ConcurrentTx"}


@pytest.mark.parametrize("said", ["04a2b3c4", "04:A2:B3:C4", "04-a2-b3-c4", " 04 A2 B3 C4", "04A2B3C4;500;INR", "04A2B3C4\x00"])
def test_A06_case_and_separators_make_no_other_tag(charger, card, said):
    row = card()
    assert told(charger, said) == {"status": "Accepted"}
    assert charger.start(said)["idTagInfo"] == {"status": "Accepted"}
    assert ChargingSession.objects.get().card == row


def test_A06_a_reader_that_turns_the_bytes_round(charger, card):
    row = card("F6CA0CC5")
    habit(charger, id_tag_form="reversed")
    assert told(charger, "c5:0c:ca:f6") == {"status": "Accepted"}
    charger.start("C50CCAF6")
    assert ChargingSession.objects.get().card == row


def test_A06_what_we_asked_such_a_reader_to_start_with_it_says_back_as_it_was(charger, network):
    habit(charger, id_tag_form="reversed")
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_000, start_until=later(300)
    )
    assert charger.start(permit.tag)["idTagInfo"]["status"] == "Accepted"


def test_A06_a_reader_that_counts_in_decimal(charger, card):
    card("F6CA0CC5")
    profile = QuirkProfile.objects.create(name="Counts", vendor="Acme", settings={"id_tag_form": "decimal"})
    assert profile.active
    from csms import quirks

    quirks.forget()
    charger.connect()
    charger.boot()
    assert told(charger, str(0xF6CA0CC5)) == {"status": "Accepted"}
    quirks.forget()


def test_A07_twenty_characters_and_control_bytes(charger, card):
    card("ABCDEFGHIJ0123456789")
    assert told(charger, "abcdefghij0123456789\x07") == {"status": "Accepted"}


def test_A07_seven_bytes_with_separators_are_longer_than_twenty_characters(charger, card):
    """Clipped as it stands, it would lose its last digits."""
    card("04A2B3C4D5E6F7")
    assert told(charger, " 04:A2:B3:C4:D5:E6:F7 ") == {"status": "Accepted"}
    assert told(charger, "04 A2 B3 C4 D5 E6 F7;1500;INR;XYZ") == {"status": "Accepted"}


def test_A09_a_permit_that_was_taken_back_is_invalid(charger, network):
    """Without money there is no permit: the standard's word for it is Invalid."""
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_000, start_until=later(300)
    )
    permits.revoke(permit.pk, "refunded")
    assert told(charger, permit.tag) == {"status": "Invalid"}
    assert AuditEntry.objects.filter(action="tag.refused", target_id=str(permit.pk)).exists()


# -- groups -------------------------------------------------------------------------------------------------------------
def test_one_of_the_same_group_may_stop_another_ones_session(charger, elsewhere, card):
    """The charger compares parentIdTag; a member that charges elsewhere is let through here all the same."""
    card("AAAA0001", parent="FAMILY")
    card("AAAA0002", parent="FAMILY")
    charger.start("AAAA0001")
    elsewhere.start("AAAA0002")
    assert told(charger, "AAAA0002") == {"status": "Accepted", "parentIdTag": "FAMILY"}
    assert charger.stop(100, idTag="AAAA0002") == {"idTagInfo": {"status": "Accepted"}}
    assert ChargingSession.objects.get(charge_point=charger.row).state == "STOPPED"


def test_the_groups_own_name_is_no_tag(charger, card):
    card("AAAA0001", parent="FAMILY")
    assert told(charger, "FAMILY") == {"status": "Invalid"}


def test_a_start_names_the_group_too(charger, card):
    card(parent="FAMILY")
    assert charger.start("04A2B3C4")["idTagInfo"] == {"status": "Accepted", "parentIdTag": "FAMILY"}


# -- starts and stops ---------------------------------------------------------------------------------------------------
def test_T05_a_tag_the_charger_knew_by_itself_is_judged_again(charger, card):
    row = card()
    assert charger.start("04A2B3C4")["idTagInfo"]["status"] == "Accepted"
    charger.stop(10)
    row.state = "blocked"
    row.save()
    assert charger.start("04A2B3C4", meter=10)["idTagInfo"]["status"] == "Blocked"


@pytest.mark.parametrize(
    ("fields", "status"), [({"state": "blocked"}, "Blocked"), ({"expires_at": clock.now()}, "Expired"), (None, "Invalid")]
)
def test_T07_T10_a_start_that_may_not_be_is_a_row_all_the_same(charger, card, fields, status):
    if fields is not None:
        card(**fields)
    at = clock.now() - timedelta(hours=2)
    answer = charger.start("04A2B3C4", at=at)
    assert answer["idTagInfo"]["status"] == status and answer["transactionId"] > 0
    assert ChargingSession.objects.get().authorized is False
    # Said again, under another id, it hears the same.
    assert charger.start("04A2B3C4", at=at) == answer
    assert charger.stop(0, reason="DeAuthorized") == {}
    assert ChargingSession.objects.get().state == "STOPPED"


def test_T22_a_stop_with_any_tag_ends_the_session_and_speaks_of_the_tag_only_when_there_is_one(charger, card):
    card()
    for tag, heard in (("NOBODY", {"idTagInfo": {"status": "Invalid"}}), (None, {})):
        charger.start("04A2B3C4", meter=charger.transaction_id or 0)
        assert charger.stop(100_000, **({"idTag": tag} if tag else {})) == heard
    assert not ChargingSession.objects.exclude(state="STOPPED").exists()


def test_an_expired_card_may_still_stop_what_it_began(charger, card):
    row = card()
    charger.start("04A2B3C4")
    row.expires_at = clock.now()
    row.save()
    assert told(charger, "04A2B3C4")["status"] == "Accepted"
    row.state = "blocked"
    row.save()
    clock.shift(5)
    assert told(charger, "04A2B3C4")["status"] == "Blocked"


# -- charging is free to all ----------------------------------------------------------------------------------------------
def test_a_charger_that_is_free_to_all_starts_with_its_own_tag(charger, network):
    habit(charger, anonymous_tag="HardReset")
    assert told(charger, "HARDRESET") == {"status": "Accepted"}
    assert charger.start("HardReset")["idTagInfo"] == {"status": "Accepted"}
    session = ChargingSession.objects.get()
    assert session.authorized and session.card is None and session.limit_wh is None
    assert not Command.objects.filter(trigger="not_authorized").exists()


def test_at_any_other_charger_that_tag_is_nobodys(charger):
    assert charger.start("HardReset")["idTagInfo"] == {"status": "Invalid"}
    assert ChargingSession.objects.get().authorized is False


def test_where_somebody_has_paid_the_free_tag_means_them(charger, network):
    habit(charger, anonymous_tag="FREE")
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_000, start_until=later(300)
    )
    permits.ask_due(clock.now(), 10)
    charger.start("FREE")
    assert ChargingSession.objects.get().permit == permit


# -- storms and outages ---------------------------------------------------------------------------------------------------
def test_ten_questions_in_a_second_are_looked_up_once(charger, card, django_assert_max_num_queries):
    row = card()
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}
    IdTag.objects.filter(pk=row.pk).update(state="blocked")
    with django_assert_max_num_queries(4):  # the frame is kept
        assert told(charger, "04A2B3C4") == {"status": "Accepted"}
    clock.shift(3.1)
    assert told(charger, "04A2B3C4") == {"status": "Blocked"}


def away(monkeypatch) -> None:
    def fail(*args, **fields):
        raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr("csms.tags.find", fail)


def test_A08_while_the_database_is_away_what_was_last_said_holds(charger, card, monkeypatch):
    card(parent="FAMILY")
    told(charger, "04A2B3C4")
    clock.shift(3600)
    away(monkeypatch)
    frame = b'[2,"a1","Authorize",{"idTag":"04 a2 b3 c4"}]'
    with pytest.raises(OperationalError):
        dispatch.answer(frame, charger.context)
    reply = dispatch.answer_away(frame, charger.context)
    assert reply.text == '[3,"a1",{"idTagInfo":{"status":"Accepted","parentIdTag":"FAMILY"}}]'


def test_A08_a_tag_nobody_remembers_waits_a_moment_and_then_hears_the_policy(charger, settings, monkeypatch):
    away(monkeypatch)
    frame = b'[2,"a1","Authorize",{"idTag":"NEWCARD"}]'
    assert dispatch.answer_away(frame, charger.context, 1.4) is None
    assert '"Invalid"' in dispatch.answer_away(frame, charger.context, 1.6).text
    settings.AUTHORIZER_FALLBACK = "Accepted"
    assert '"Accepted"' in dispatch.answer_away(frame, charger.context, 1.6).text


def test_A08_no_fact_is_ever_answered_from_memory(charger):
    for frame in (b'[2,"a","StartTransaction",{"idTag":"X"}]', b'[2,"a","Heartbeat",{}]', b'[3,"a",{}]', b"noise"):
        assert not dispatch.may_not_wait(frame, charger.context)
        assert dispatch.answer_away(frame, charger.context, 60) is None


class Line:
    """Where a socket would be."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def send(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("how", ["gone", "hangs", "known to be gone"])
async def test_A08_the_answer_comes_in_time_however_the_database_is_away(how, monkeypatch):
    from csms import charge_point, threads
    from csms.context import Context

    async def run(*args):
        if how == "hangs":
            await asyncio.sleep(60)
        raise OperationalError("gone")

    monkeypatch.setattr(threads, "run", run)
    monkeypatch.setattr(threads, "in_trouble", lambda: how == "known to be gone")
    line, context = Line(), Context(charge_point_pk=1, cp_id="X", epoch=1)
    socket = charge_point.ChargePoint(context, line, sent=lambda reply: None, effects=None)
    tags.remember(1, "CARD1", tags.TagAnswer("Accepted"), clock.now())
    began = time.monotonic()
    await socket.route_message(b'[2,"1","Authorize",{"idTag":"card1"}]')
    assert time.monotonic() - began < 1.9
    assert line.said == ['[3,"1",{"idTagInfo":{"status":"Accepted"}}]']
    if how != "hangs":
        with pytest.raises(OperationalError):  # what may wait is held
            await socket.route_message(b'[2,"2","Heartbeat",{}]')


@pytest.mark.parametrize("ends", ["gone at once", "gone later", "written later"])
def test_A08_what_was_asked_meanwhile_stands_in_the_log_once_before_its_answer(ends, charger, monkeypatch):
    """Also when the database hears of it only afterwards, and when it had heard of it all the time."""
    from csms import charge_point, message_writer, threads

    async def run(*args):
        if ends != "gone at once":
            await asyncio.sleep(0.3)
        if ends != "written later":
            raise OperationalError("gone")
        return None  # in truth: kept by dispatch, and its answer came too late

    monkeypatch.setattr(threads, "run", run)
    monkeypatch.setattr(threads, "in_trouble", lambda: False)
    monkeypatch.setattr(dispatch, "patience_s", lambda: 0.1)
    monkeypatch.setattr(dispatch, "SLOW_S", 0.0)
    tags.remember(charger.row.pk, "CARD1", tags.TagAnswer("Accepted"), clock.now())
    kept: list = []
    socket = charge_point.ChargePoint(charger.context, Line(), sent=kept.append, effects=None)

    async def story():
        await socket.route_message(b'[2,"1","Authorize",{"idTag":"card1"}]')
        await asyncio.sleep(0.5)

    asyncio.run(story())
    OcppMessage.objects.all()._raw_delete("default")
    message_writer.sent([(charger.context, reply, clock.now()) for reply in kept])
    found = OcppMessage.objects.order_by("id")
    seen = [(one.direction, one.message_type, one.action) for one in found]
    asked, answered = ("IN", 2, "Authorize"), ("OUT", 3, "Authorize")
    assert seen == {"gone at once": [asked, answered], "gone later": [answered, asked], "written later": [answered]}[ends]
    for one in found.filter(direction="IN"):
        assert bytes(one.raw) == b'[2,"1","Authorize",{"idTag":"card1"}]' and "from memory" in one.note
    told = message_log.exchanges_of(list(found))
    assert all(bool(one.answer) for one in told.values()) and (ends == "written later" or all(one.request for one in told.values()))


def test_A08_our_own_mistake_is_answered_from_memory_too(charger, card, monkeypatch):
    card()
    told(charger, "04A2B3C4")
    clock.shift(60)
    monkeypatch.setattr("csms.tags.authorize", lambda *args, **fields: 1 / 0)
    assert told(charger, "04A2B3C4") == {"status": "Accepted"}
    assert AuditEntry.objects.filter(action="message.quarantined").exists()
    with pytest.raises(AssertionError, match="InternalError"):
        charger.call("Authorize", {"idTag": "NEVERSEEN"})


# -- at the same moment -----------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_one_card_at_two_chargers_in_the_same_instant_charges_at_one(network, bells, card):
    """Both starts are recorded; the card's row is locked by whoever comes first, and the other sees that session."""
    first, second = Charger(network.kaveri_charger), Charger(network.ganga_charger)
    for charger in (first, second):
        charger.boot()
    for turn in range(5):
        row = card(f"CARD{turn}")
        heard = both(*(partial(one.start, row.tag, meter=turn) for one in (first, second)))
        assert sorted(answer["idTagInfo"]["status"] for answer in heard) == ["Accepted", "ConcurrentTx"]
        assert ChargingSession.objects.filter(card=row, authorized=True).count() == 1
        assert ChargingSession.objects.filter(card=row).count() == 2


@pytest.mark.django_db(transaction=True)
def test_an_authorizer_asked_twice_at_once_makes_one_row(network):
    from csms import authorizer

    keep = partial(authorizer.store, "AABB0011", authorizer.Answer("Accepted"), network.kaveri_charger.pk, clock.now())
    rows = both(keep, keep, keep)
    assert len({row.pk for row in rows}) == IdTag.objects.count() == 1
