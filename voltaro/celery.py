"""Celery, and the ONE table of background workers: what runs on which beat and which bell.

A worker is a pair of functions of one module: `work(now, limit) -> int` claims rows that are due and works on them;
`due(now) -> QuerySet` is what it would claim (for `manage.py sweep NAME --dry-run`). A bell (`jobs.ring`) makes it run
at once; the beat finds what a lost bell left.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voltaro.settings")
BATCH = 100


@dataclass(frozen=True)
class Worker:
    """`work` and `due` are dotted names; `every_s` is the beat."""

    work: str
    due: str
    every_s: float
    bells: tuple[str, ...] = ()
    what: str = ""

    def function(self, which: str) -> Any:
        module, _, name = getattr(self, which).rpartition(".")
        return getattr(import_module(module), name)


WORKERS: dict[str, Worker] = {
    # chargers
    "commands.timeout": Worker(
        "csms.commands.timeout_due", "csms.commands.to_time_out", 10, what="commands without an answer or an effect"
    ),
    "availability.settle": Worker(
        "csms.availability.settle_due", "csms.availability.to_settle", 15, what="availability that was promised and is so by now"
    ),
    "availability.assert": Worker(
        "csms.availability.assert_due", "csms.availability.to_assert", 30, what="connectors that came back and are not as wanted"
    ),
    "permits.ask": Worker(
        "csms.permits.ask_due", "csms.permits.to_ask", 5, ("permit.ask",), "paid, not yet started: ask the charger (again)"
    ),
    "profiles.send": Worker(
        "csms.charging_profiles.send_due", "csms.charging_profiles.to_send", 10, ("profile.wanted",), "charging profiles to send"
    ),
    "profiles.end": Worker(
        "csms.charging_profiles.end_due", "csms.charging_profiles.to_end", 60, ("session.ended",), "charging profiles whose time is over"
    ),
    "sessions.bound": Worker(
        "csms.time_bounds.renew_due", "csms.time_bounds.to_renew", 30, what="sessions whose charger stops by itself soon: told anew"
    ),
    "certificates": Worker(
        "csms.certificates.make_due", "csms.certificates.to_make", 30, ("certificate.asked",), "certificates that chargers asked for"
    ),
    "certificates.renew": Worker(
        "csms.certificates.renew_due", "csms.certificates.to_renew", 3600, what="chargers whose certificate ends soon: asked to renew it"
    ),
    "security.unused": Worker(
        "csms.rotation.alert_due", "csms.rotation.to_alert", 3600, what="new keys and profiles no charger has used: a person is told"
    ),
    "tags.refresh": Worker(
        "csms.authorizer.refresh_due", "csms.authorizer.to_refresh", 60, ("tag.refresh",), "tags an authorizer has not answered for"
    ),
    "local_lists.sync": Worker(
        "csms.local_lists.sync_due", "csms.local_lists.due", 30, ("list.due",), "local lists to compare and to bring in step"
    ),
    "reservations.expire": Worker("csms.reservations.expire_due", "csms.reservations.to_expire", 10, what="reservations that are over"),
    "sessions.stop": Worker("csms.sessions.stop_due", "csms.sessions.to_stop", 5, what="sessions about to reach their limit"),
    "sessions.timeout": Worker("csms.sessions.timeout_due", "csms.sessions.to_time_out", 10, what="sessions suspended too long: ended"),
    "configuration.apply": Worker(
        "csms.configuration.apply_due", "csms.configuration.due", 10, what="configuration keys to be read, set, or set again"
    ),
    "onboarding.close": Worker(
        "csms.onboarding.send_away_due", "csms.onboarding.to_send_away", 30, what="chargers nobody claimed while the window was open"
    ),
    "boots.calm": Worker("csms.boots.calm_due", "csms.boots.to_calm", 300, what="alerts about boots that are over"),
    "stations.silent": Worker("csms.stations.silent_due", "csms.stations.to_mark_silent", 15, what="chargers and sockets gone silent"),
    "retention.frames": Worker("csms.retention.frames_due", "csms.retention.old_frames", 3600, what="frames past their retention"),
    "retention.readings": Worker("csms.retention.readings_due", "csms.retention.old_readings", 3600, what="readings past their retention"),
    "firmware": Worker(
        "csms.firmware.timeout_due", "csms.firmware.to_time_out", 30, what="firmware updates gone silent, or to be tried again"
    ),
    "uploads": Worker("csms.uploads.expire_due", "csms.uploads.to_expire", 60, what="diagnostics and logs that did not come"),
    "retention.uploads": Worker("csms.uploads.files_due", "csms.uploads.old_files", 3600, what="chargers' files past their retention"),
    # money
    "webhooks": Worker(
        "billing.webhooks.work_due", "billing.webhooks.due", 15, ("webhook.received",), "events of Razorpay not yet worked on"
    ),
    "payments.link": Worker(
        "billing.payments.link_due", "billing.payments.to_link", 15, ("session.started",), "sessions started by a payment"
    ),
    "payments.expire": Worker(
        "billing.payments.expire_due", "billing.payments.to_expire", 10, what="paid but not started in time: refunded"
    ),
    "payments.fees": Worker("billing.payments.fees_due", "billing.payments.to_ask_fee", 900, what="payments whose Razorpay fee is unknown"),
    "bills": Worker("billing.bills.work_due", "billing.bills.due", 15, ("session.ended",), "ended sessions to bill"),
    "bills.correct": Worker(
        "billing.corrections.work_due", "billing.corrections.due", 30, ("session.rebill",), "bills that a late stop makes lower"
    ),
    "refunds": Worker("billing.refunds.work_due", "billing.refunds.due", 20, ("refund.due",), "refunds to ask, to ask about, to try again"),
    "qr.poll": Worker("billing.qr.poll_due", "billing.qr.to_poll", 60, what="our QRs' payments, in case a webhook was lost"),
    "reconcile": Worker("billing.reconcile.work_due", "billing.reconcile.due", 3600, what="Razorpay's day against our day"),
    # franchisees
    "settlements": Worker(
        "franchise.settlements.work_due", "franchise.settlements.due", 30, ("bill.made", "gate.opened"), "sessions to share, shares held"
    ),
    "payouts": Worker(
        "franchise.payouts.work_due", "franchise.payouts.due", 60, ("payout.due", "webhook.received"), "payouts to make, ask, or ask about"
    ),
    "payouts.retry": Worker(
        "franchise.payouts.retry_due", "franchise.payouts.to_retry", 1800, what="failed payouts to follow by a new attempt"
    ),
    "kyc": Worker("franchise.kyc.work_due", "franchise.kyc.due", 300, ("webhook.received",), "linked accounts whose status changed"),
}

app = Celery("voltaro")
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    task_default_queue="voltaro",
    timezone="UTC",
    # A beat that nobody worked on in time is worth nothing: the next one does the same.
    beat_schedule={
        name: {"task": "voltaro.work", "schedule": worker.every_s, "args": [name], "options": {"expires": max(worker.every_s, 5)}}
        for name, worker in WORKERS.items()
    },
)
app.set_default()


def configure() -> None:
    """Take the broker's address from the settings (called when Django is ready)."""
    from django.conf import settings

    app.conf.broker_url = settings.CELERY_BROKER_URL
    app.conf.broker_transport_options = {"socket_timeout": 5, "socket_connect_timeout": 5, "max_retries": 1}


@app.on_after_finalize.connect
def _setup(**_: Any) -> None:
    import django
    from django.apps import apps

    if not apps.ready:
        django.setup()


@app.task(name="voltaro.work")
def work(name: str) -> int:
    """Run one worker by its name, as its own actor; again at once while there is more than one batch."""
    from accounts.actor import acting
    from voltaro import clock

    worker = WORKERS[name]
    with acting("worker", name):
        done = worker.function("work")(clock.now(), BATCH)
    if done >= BATCH:
        work.delay(name)
    return int(done)


@app.task(name="voltaro.bell")
def bell(name: str) -> None:
    """A bell rang: run the workers that listen for it, each whatever becomes of the others."""
    failed: list[Exception] = []
    for worker_name, worker in WORKERS.items():
        if name in worker.bells:
            try:
                work(worker_name)
            except Exception as error:
                failed.append(error)
    if failed:
        raise ExceptionGroup(f"after the bell {name}", failed)
