"""An external authorizer, played by a real HTTP server: quick, slow, down, and talking nonsense. Nobody ever waits long for it."""

import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import connection

from accounts.models import AuditEntry
from csms import authorizer, dispatch, permits, tags
from csms.models import ChargingSession, IdTag
from tests.charger import Charger, later
from voltaro import clock

pytestmark = pytest.mark.django_db


class Played(ThreadingHTTPServer):
    """Answers as `says` (by tag) or with `raw`, after `wait_s`; remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[dict, str]] = []
        self.says: dict[str, dict] = {}
        self.raw: bytes | None = None
        self.status, self.wait_s, self.drip_s = 200, 0.0, 0.0
        self.in_transaction: list[bool] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/authorize"


class Handler(BaseHTTPRequestHandler):
    server: Played

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((body, self.headers.get("Authorization", "")))
        time.sleep(self.server.wait_s)
        said = self.server.raw
        if said is None:
            said = json.dumps(self.server.says.get(body["idTag"], {"status": "Invalid"})).encode()
        try:
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            for at in range(len(said)):
                self.wfile.write(said[at : at + 1])
                time.sleep(self.server.drip_s)
        except OSError:
            return  # nobody waits for it any more

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    tags.forget()
    monkeypatch.setattr(authorizer, "breaker", authorizer.Breaker(authorizer.FAILURES, authorizer.REST_S))
    yield
    tags.forget()


@pytest.fixture
def server(settings):
    played = Played()
    thread = threading.Thread(target=played.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    settings.AUTHORIZER_URL, settings.AUTHORIZER_TOKEN = played.url, "its-token"
    yield played
    played.shutdown()
    played.server_close()


@pytest.fixture
def charger(network, bells):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    return charger


def told(charger: Charger, tag: str) -> dict:
    return charger.call("Authorize", {"idTag": tag})["idTagInfo"]


def test_a_tag_we_do_not_know_is_asked_for_and_its_answer_becomes_a_row(charger, server, network):
    server.says["AABB0011"] = {"status": "Accepted", "parentIdTag": "fleet-7", "expiryDate": "2099-01-01T00:00:00Z", "extra": 1}
    assert told(charger, "aa:bb:00:11") == {"status": "Accepted", "parentIdTag": "FLEET7"}
    assert server.asked == [({"idTag": "AABB0011", "chargePoint": "VLT-0001", "connector": None}, "Bearer its-token")]
    row = IdTag.objects.get()
    assert (row.tag, row.source, row.external_status, row.parent, row.company) == (
        "AABB0011",
        "external",
        "Accepted",
        "FLEET7",
        network.voltaro,
    )
    assert row.expires_at.year == 2099 and row.checked_at is not None and row.refresh_at is None
    assert AuditEntry.objects.get(action="tag.answered").after == {"status": "Accepted"}


@pytest.mark.parametrize("status", ["Blocked", "Expired", "Invalid", "ConcurrentTx"])
def test_its_no_is_kept_word_for_word(charger, server, status):
    server.says["AABB0011"] = {"status": status}
    assert told(charger, "AABB0011") == {"status": status}
    answer = charger.start("AABB0011")
    assert answer["idTagInfo"] == {"status": status} and answer["transactionId"] > 0
    session = ChargingSession.objects.get()
    assert session.authorized is False and session.card.tag == "AABB0011"


def test_an_answer_holds_for_its_time_and_no_longer(charger, server, settings):
    server.says["AABB0011"] = {"status": "Accepted"}
    told(charger, "AABB0011")
    charger.start("AABB0011")  # right after: nothing is asked again
    charger.stop(5)
    clock.shift(settings.AUTHORIZER_CACHE_S - 60)
    told(charger, "AABB0011")
    assert len(server.asked) == 1
    clock.shift(61)
    server.says["AABB0011"] = {"status": "Blocked"}
    assert told(charger, "AABB0011") == {"status": "Blocked"}
    assert len(server.asked) == 2


def test_concurrent_is_asked_again_soon(charger, server):
    server.says["AABB0011"] = {"status": "ConcurrentTx"}
    told(charger, "AABB0011")
    clock.shift(6)
    server.says["AABB0011"] = {"status": "Accepted"}
    assert told(charger, "AABB0011") == {"status": "Accepted"}


def test_our_own_tags_and_permits_are_never_asked_for(charger, server, network):
    IdTag.objects.create(tag="OWN1", company=network.voltaro)
    IdTag.objects.create(tag="OWN2", company=network.voltaro, state="blocked")
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_000, start_until=later(300)
    )
    assert [told(charger, tag)["status"] for tag in ("OWN1", "OWN2", permit.tag)] == ["Accepted", "Blocked", "Accepted"]
    charger.start(permit.tag)
    assert server.asked == []


def test_without_one_nothing_is_asked(charger, settings):
    settings.AUTHORIZER_URL, settings.AUTHORIZER_FALLBACK = "", "Accepted"
    assert told(charger, "AABB0011") == {"status": "Invalid"}  # the fallback is for an authorizer that does not answer
    assert not IdTag.objects.exists()


def test_an_operators_block_stands_above_its_word(charger, server):
    server.says["AABB0011"] = {"status": "Accepted"}
    told(charger, "AABB0011")
    IdTag.objects.update(state="blocked")
    clock.shift(1000)
    assert told(charger, "AABB0011") == {"status": "Blocked"}
    assert len(server.asked) == 1


def test_a_start_without_authorize_asks_with_its_connector(charger, server):
    server.says["AABB0011"] = {"status": "Accepted"}
    assert charger.start("AABB0011")["idTagInfo"] == {"status": "Accepted"}
    assert server.asked[0][0]["connector"] == 1


@pytest.mark.django_db(transaction=True)
def test_it_is_asked_outside_of_any_transaction(charger, server, monkeypatch):
    seen = []
    ask = authorizer.ask
    monkeypatch.setattr(authorizer, "ask", lambda *args, **how: seen.append(connection.in_atomic_block) or ask(*args, **how))
    told(charger, "AABB0011")
    clock.shift(400)
    charger.start("AABB0011")
    assert seen == [False, False]


# -- slow, down, nonsense -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["slow", "drips", "down"])
def test_nobody_waits_longer_than_the_timeout_and_a_dead_one_costs_nothing(charger, server, settings, how, bells):
    server.says = {f"CARD{number}": {"status": "Accepted"} for number in range(9)}
    if how == "slow":
        server.wait_s = 3
    elif how == "drips":
        server.drip_s = 0.4
    else:
        settings.AUTHORIZER_URL = "http://127.0.0.1:1/"
    for number in range(authorizer.FAILURES):
        began = time.monotonic()
        assert told(charger, f"CARD{number}") == {"status": "Invalid"}
        assert time.monotonic() - began < 1.5
    asked, began = len(server.asked), time.monotonic()
    for number in range(authorizer.FAILURES, 9):
        assert told(charger, f"CARD{number}") == {"status": "Invalid"}
        assert charger.start(f"CARD{number}", meter=number)["transactionId"] > 0
    assert time.monotonic() - began < 1.5 and len(server.asked) == asked
    # What it did not answer waits for the worker.
    assert IdTag.objects.filter(source="external", external_status="", refresh_at__isnull=False).count() == 9


def test_the_fallback_may_let_them_charge(charger, settings):
    settings.AUTHORIZER_URL, settings.AUTHORIZER_FALLBACK = "http://127.0.0.1:1/", "Accepted"
    assert told(charger, "AABB0011") == {"status": "Accepted"}
    assert charger.start("AABB0011")["idTagInfo"] == {"status": "Accepted"}
    session = ChargingSession.objects.get()
    assert session.authorized and session.limit_wh is None and session.card.external_status == ""


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"<html>", 200),
        (b"", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b'{"status": "Perhaps"}', 200),
        (b'{"status": ["Accepted"]}', 200),
        (b"\xff\xfe", 200),
        (b"[" * 5_000, 200),
        (b'{"status": "Accepted"}' + b" " * 20_000, 200),
        (b'{"status": "Accepted"}', 500),
        (b'{"status": "Accepted"}', 302),
        (b'{"status": "Accepted"}', 401),
    ],
)
def test_nonsense_is_no_answer(charger, server, raw, status):
    server.raw, server.status = raw, status
    assert told(charger, "AABB0011") == {"status": "Invalid"}
    row = IdTag.objects.get()
    assert row.external_status == "" and row.refresh_at is not None


def test_fields_that_make_no_sense_are_left_out(charger, server):
    server.raw = b'{"status": "accepted", "parentIdTag": 7, "expiryDate": "soon"}'
    assert told(charger, "AABB0011") == {"status": "Accepted"}
    assert IdTag.objects.get().expires_at is None


def test_while_it_is_away_its_old_answer_holds(charger, server, settings):
    server.says["AABB0011"] = {"status": "Accepted", "parentIdTag": "FLEET"}
    told(charger, "AABB0011")
    settings.AUTHORIZER_URL = "http://127.0.0.1:1/"
    clock.shift(10_000)
    assert told(charger, "AABB0011") == {"status": "Accepted", "parentIdTag": "FLEET"}
    assert charger.start("AABB0011")["idTagInfo"]["status"] == "Accepted"
    assert IdTag.objects.get().refresh_at is not None


def test_one_question_tries_whether_it_is_back(monkeypatch):
    at = [0.0]
    monkeypatch.setattr(authorizer.time, "monotonic", lambda: at[0])
    breaker = authorizer.Breaker(3, 30)
    for _ in range(3):
        assert breaker.may_ask()
        breaker.failed()
    assert not breaker.may_ask()
    at[0] = 30.0
    assert breaker.may_ask() and not breaker.may_ask()
    breaker.failed()
    at[0] = 59.0
    assert not breaker.may_ask()
    at[0] = 60.0
    assert breaker.may_ask()
    breaker.answered()
    assert breaker.may_ask() and breaker.may_ask()


# -- the worker -----------------------------------------------------------------------------------------------------------
def test_the_worker_asks_again_with_more_patience(charger, server, django_capture_on_commit_callbacks, bells):
    server.says["AABB0011"] = {"status": "Accepted"}
    server.wait_s = 1.3
    with django_capture_on_commit_callbacks(execute=True):
        assert told(charger, "AABB0011") == {"status": "Invalid"}
    assert "tag.refresh" in bells
    now = clock.now()
    assert list(authorizer.to_refresh(now)) == [IdTag.objects.get()]
    assert authorizer.refresh_due(now, 10) == 1
    server.wait_s = 0
    clock.shift(4)
    assert told(charger, "AABB0011") == {"status": "Accepted"}
    assert not authorizer.to_refresh(clock.now()).exists()


def test_the_worker_leaves_the_rest_for_later_when_it_is_away(charger, settings, bells):
    settings.AUTHORIZER_URL = "http://127.0.0.1:1/"
    for number in range(3):
        told(charger, f"CARD{number}")
    now = clock.now()
    assert authorizer.refresh_due(now, 10) == 0
    assert not authorizer.to_refresh(now).exists()
    assert authorizer.to_refresh(now + timedelta(seconds=61)).count() == 3
    # A day without any answer: not asked for before it is shown again.
    assert authorizer.refresh_due(now + timedelta(days=2), 10) == 0
    assert not IdTag.objects.filter(refresh_at__isnull=False).exists()


def test_a_tag_that_became_our_own_meanwhile_stays_as_it_is(network):
    IdTag.objects.create(tag="AABB0011", company=network.voltaro, state="blocked")
    row = authorizer.store("AABB0011", authorizer.Answer("Accepted"), network.kaveri_charger.pk, clock.now())
    assert (row.source, row.state, row.external_status) == ("own", "blocked", "")


def test_its_unknown_tag_may_be_the_chargers_own_for_somebody_who_has_paid(charger, server, network):
    """Some chargers start under a tag of their own after our request: its "Invalid" must not take the place of a paid start."""
    permit = permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=5_000, start_until=later(300)
    )
    permits.ask_due(clock.now(), 10)
    assert charger.start("DEADBEEF")["idTagInfo"]["status"] == "Accepted"
    assert ChargingSession.objects.get().permit == permit


def test_our_own_mistake_in_asking_holds_up_nobody(charger, server, monkeypatch):
    monkeypatch.setattr(authorizer, "store", lambda *args: 1 / 0)
    assert told(charger, "AABB0011") == {"status": "Invalid"}
    assert charger.start("AABB0011")["transactionId"] > 0


def test_neither_its_address_nor_a_tag_stands_in_the_log(charger, settings, caplog):
    settings.AUTHORIZER_URL, settings.AUTHORIZER_TOKEN = "http://user:secret@127.0.0.1:1/", "its-token"
    with caplog.at_level("INFO"):
        told(charger, "AABB0011")
    assert "did not answer" in caplog.text
    for hidden in ("secret", "its-token", "AABB0011", "127.0.0.1"):
        assert hidden not in caplog.text


def test_the_dispatch_table_says_who_is_asked_before():
    assert {action for action, route in dispatch.ROUTES["1.6"].items() if route.before} == {"Authorize", "StartTransaction"}
    assert {action for action, route in dispatch.ROUTES["1.6"].items() if route.away} == {"Authorize"}
