"""The one table of background workers: every row can run, finds its rows by an index, and every bell has a listener."""

import ast
import re
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import QuerySet

from voltaro import clock
from voltaro.celery import BATCH, WORKERS, Worker, app
from voltaro.celery import bell as hear

ROOT = Path(__file__).resolve().parents[2]
each_worker = pytest.mark.parametrize("worker", WORKERS.values(), ids=WORKERS)


@each_worker
def test_its_functions_exist_and_it_says_what_it_is_for(worker: Worker):
    assert callable(worker.function("work")) and callable(worker.function("due"))
    assert 5 <= worker.every_s <= 24 * 3600
    assert worker.what


@each_worker
@pytest.mark.django_db
def test_on_an_empty_database_it_has_nothing_to_do(worker: Worker, bells, settings):
    settings.RAZORPAY_BASE_URL = "http://127.0.0.1:1"  # nobody is there, and nobody is asked
    now = clock.now()
    assert not worker.function("due")(now).exists()
    assert worker.function("work")(now, 10) == 0


# Asks of every own QR or of a handful of days: small tables, walked in the order of their keys.
SMALL = {"reconcile", "qr.poll", "kyc"}


@pytest.mark.parametrize("name", sorted(set(WORKERS) - SMALL))
@pytest.mark.django_db
def test_what_is_due_is_found_by_an_index(name: str):
    """With sequential scans priced out, a plan that still has one has no index to use."""
    rows = WORKERS[name].function("due")(clock.now())
    assert isinstance(rows, QuerySet)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = rows[:BATCH].explain()
    assert "Limit" in plan
    assert f"Seq Scan on {rows.model._meta.db_table}" not in plan, plan


def test_every_worker_stands_in_the_beat():
    scheduled = {entry["args"][0]: entry for entry in app.conf.beat_schedule.values()}
    assert set(scheduled) == set(WORKERS)
    assert all(entry["task"] == "voltaro.work" and entry["options"]["expires"] >= 5 for entry in scheduled.values())


def rung() -> set[str]:
    """The bells rung in the product's code, read from its source."""
    found = set()
    for path in (path for place in ("accounts", "csms", "billing", "franchise", "voltaro") for path in (ROOT / place).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name == "ring" and isinstance(node.args[0], ast.Constant):
                    found.add(node.args[0].value)
    return found


def test_every_bell_that_is_rung_is_heard_and_every_listener_has_a_bell():
    heard = {bell for worker in WORKERS.values() for bell in worker.bells}
    assert heard == rung()
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+", bell) for bell in heard)


@pytest.mark.django_db
def test_a_bell_runs_its_listeners_and_nobody_else(monkeypatch):
    ran = []
    monkeypatch.setattr(Worker, "function", lambda self, which: lambda now, limit: ran.append(self.work) or 0)
    hear("webhook.received")
    assert ran == [worker.work for worker in WORKERS.values() if "webhook.received" in worker.bells]
    assert len(ran) >= 2


@pytest.mark.django_db
def test_a_full_batch_runs_again_at_once(monkeypatch):
    again = []
    monkeypatch.setattr(Worker, "function", lambda self, which: lambda now, limit: limit)
    monkeypatch.setattr("voltaro.celery.work.delay", again.append)
    app.tasks["voltaro.work"]("permits.ask")
    assert again == ["permits.ask"]


def test_one_listener_that_fails_does_not_silence_the_others(monkeypatch):
    ran = []

    def run(name: str) -> None:
        ran.append(name)
        if len(ran) == 1:
            raise RuntimeError("a bad day")

    monkeypatch.setattr("voltaro.celery.work", run)
    with pytest.raises(ExceptionGroup):
        hear("webhook.received")
    assert ran == [name for name, worker in WORKERS.items() if "webhook.received" in worker.bells]
