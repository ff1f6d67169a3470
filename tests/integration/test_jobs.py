"""Bells: heard after the commit, and never in the way of whoever rings them."""

import threading
import time

import pytest
from celery import current_app
from django.db import transaction

from voltaro import jobs


@pytest.fixture
def broker_that_hangs(monkeypatch):
    """A broker that takes the call and never answers, until the test is over."""
    over, called = threading.Event(), threading.Event()

    def send_task(name, args, **how):
        called.set()
        over.wait(20)

    monkeypatch.setattr(current_app, "send_task", send_task)
    yield called
    over.set()
    jobs.flush(5)


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_hangs_holds_up_nobody_who_rings(broker_that_hangs):
    """A charger's thread rings while its StartTransaction waits for the answer, a webhook has five seconds."""
    began = time.monotonic()
    with transaction.atomic():
        jobs.ring("session.started")
    jobs.ring("webhook.received")
    assert time.monotonic() - began < 0.5
    assert broker_that_hangs.wait(5)


@pytest.mark.django_db(transaction=True)
def test_bells_nobody_could_hear_do_not_pile_up(broker_that_hangs):
    jobs.ring("session.ended")
    assert broker_that_hangs.wait(5)
    for _ in range(1000):
        jobs.ring("bill.made")
        jobs.ring("refund.due")
    assert jobs.waiting() == 2


@pytest.mark.django_db(transaction=True)
def test_a_bell_reaches_the_broker_and_a_lost_one_is_only_logged(monkeypatch, caplog):
    heard: list[str] = []

    def send_task(name, args, **how):
        if args == ["refund.due"]:
            raise ConnectionError("gone")
        heard.extend(args)

    monkeypatch.setattr(current_app, "send_task", send_task)
    for bell in ("refund.due", "bill.made"):
        jobs.ring(bell)
        assert jobs.flush(5)
    assert heard == ["bill.made"]
    assert "bell refund.due was lost (ConnectionError)" in caplog.text
