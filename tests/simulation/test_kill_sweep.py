"""Our process is killed after every statement of everything it does, and the world goes on: the end is always the same.

For each handler its story is lived once undisturbed, then once for every gap (before each statement and commit, after what is
committed, before and after each call to Razorpay): killed there, recovered as in life (the charger comes back and says it again,
Razorpay tells again, the worker's next beat), and lived to its end. Its rows, without times and ids, must be as if nothing had been.

As a rule it is killed once between any two things that last. KILL_SWEEP=all kills it at every gap.
"""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection

from accounts.models import AuditEntry
from billing import ledger
from billing.models import Posting, WebhookEvent
from csms.models import Command, IdTag, MeterReading
from franchise.models import CommissionLedgerEntry
from tests.simulation.deeds import HANDLERS, Deed
from tests.simulation.invariants import broken
from tests.simulation.scene import Stage, Story, stage
from voltaro.worldsim.gaps import gaps
from voltaro.worldsim.process import Killed

EVERY = os.environ.get("KILL_SWEEP") == "all"
# What is told exactly once of a story, however often it was begun.
ONCE = (
    *("session.started", "session.ended", "session.billed", "permit.granted", "permit.revoked", "payment.taken", "payment.started"),
    *("payment.settled", "refund.due", "refund.processed", "session.orphan_stop", "qr.closed"),
)


@dataclass
class Killer:
    """Counts the gaps; at the one that is named, the process is gone."""

    at: float = math.inf
    passed: list[str] = field(default_factory=list)

    def gap(self, what: str) -> None:
        self.passed.append(what)
        if len(self.passed) == self.at:
            raise Killed


def picture(story: Story, forget: tuple[str, ...]) -> dict[str, Any]:
    """What has become of the story: its rows, without times and ids."""
    found = list(story.sessions.order_by("pk"))
    paid = list(story.payments.order_by("pk"))
    subjects = [ledger.of_payment(one) for one in paid]
    shares = list(CommissionLedgerEntry.objects.filter(session__in=found))
    permits = list(IdTag.objects.filter(connector__in=story.connectors, kind="one_time"))
    given = [one for payment in paid for one in payment.refunds.all()]
    told: list[str] = []
    for kind, ours in (("csms.chargingsession", found), ("billing.qrpayment", paid), ("billing.refund", given), ("csms.idtag", permits)):
        said = AuditEntry.objects.filter(action__in=ONCE, target_type=kind, target_id__in=[str(one.pk) for one in ours])
        told += said.values_list("action", flat=True)
    story.row.refresh_from_db()
    names = "state energy_wh reported_wh stop_reason authorized limit_wh overrun_wh flags total_billed"
    seen = {
        "sessions": [{name: getattr(one, name) for name in names.split() if name not in forget} for one in found],
        "permits": sorted((one.state, one.limit_wh) for one in permits),
        "payments": [(one.state, one.refund_reason, one.review, one.amount_paid, one.fee) for one in paid],
        "refunds": sorted((one.amount_paise, one.reason, one.state) for one in given),
        "at razorpay": sorted(
            (one["amount"], one["status"])
            for one in story.stage.sandbox.world.store.find("refund")
            if one["payment_id"] in {str(payment) for payment in paid}
        ),
        "bills": [(one.bill.billed_wh, one.bill.total, one.bill.refund_due, one.bill.remainder) for one in found if hasattr(one, "bill")],
        "books": sorted(Posting.objects.filter(subject__in=subjects).values_list("account", "amount_paise")),
        "shares": [(one.payable, one.status, one.payout.state if one.payout else "") for one in shares],
        "readings": sorted(set(MeterReading.objects.filter(charge_point=story.row).values_list("energy_wh", "late"))),
        "events": sorted(WebhookEvent.objects.filter(payment_id__in=[str(one) for one in paid]).values_list("event", "state")),
        "connectors": sorted((one.connector_id, one.status, one.error_code) for one in story.row.connectors.all()),
        "charger": (story.row.registration, story.row.vendor, story.row.model, bool(story.row.serial_number)),
        "asked": Command.objects.filter(charge_point=story.row, state__in=("queued", "sent"), permit__isnull=False).count(),
        "once": sorted(told),
    }
    return {name: value for name, value in seen.items() if name not in forget}


def differs(found: dict[str, Any], undisturbed: dict[str, Any]) -> list[str]:
    return [f"{name}: {found[name]} instead of {value}" for name, value in undisturbed.items() if found[name] != value]


def lived(on: Stage, make: Callable[[Stage], Deed], at: float = math.inf) -> tuple[dict[str, Any], Killer]:
    deed, killer = make(on), Killer(at)
    deed.story.deaths = 0 if at == math.inf else int(at)
    on.gap = killer.gap
    try:
        with gaps(killer.gap):
            deed.do()
    except Killed:
        connection.run_on_commit.clear()
        on.gap = lambda what: None
        deed.recover()
    finally:
        on.gap = lambda what: None
    if deed.end:
        deed.end()
    return picture(deed.story, deed.forget), killer


@pytest.fixture
def quiet():
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def places(passed: list[str]) -> list[int]:
    """The gaps to be killed at, from 1: all of them, or of those between which nothing lasts (what is not committed is rolled back
    with its process) the last one.
    """
    lasting = ("after the commit", "after INSERT", "after UPDATE", "after DELETE", "after WITH", "hears")
    then = [*passed[1:], "after the commit"]
    return [at for at, after in enumerate(then, start=1) if EVERY or after.startswith(lasting)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("make", HANDLERS, ids=lambda make: make.__name__)
def test_killed_anywhere_it_ends_the_same(make, settings, quiet):
    with stage(settings) as on:
        undisturbed, killer = lived(on, make)
        assert killer.passed, "it does nothing that could be killed"
        assert broken(on.sandbox) == []
        for at in places(killer.passed):
            where = f"killed at gap {at} of {len(killer.passed)}: {killer.passed[at - 1]}"
            try:
                found, _ = lived(on, make, at)
                if wrong := differs(found, undisturbed):
                    raise AssertionError("\n".join(wrong))
                assert broken(on.sandbox) == []
            except BaseException as error:
                error.add_note(where)
                raise
        assert ledger.check() == []
    print(f"{make.__name__}: killed at {len(places(killer.passed))} of {len(killer.passed)} gaps")


@pytest.mark.django_db(transaction=True)
def test_the_sweep_sees_a_deed_that_does_not_converge(settings, quiet):
    """The money goes back first, and only then is it written down: killed in between, it goes back twice."""

    def careless(on: Stage) -> Deed:
        story = on.story()
        payment = story.paid()
        given: list[str] = []

        def give_back() -> None:
            if given:
                return
            on.client.post("/v1/payments/{}/refund", str(payment), body={"amount": 100}, headers={})
            AuditEntry.objects.create(actor="test", actor_type="test", action="careless", target_type="x", target_id="1")
            given.append("noted")

        return Deed(story, give_back, give_back)

    with stage(settings) as on:
        undisturbed, killer = lived(on, careless)
        ends = [lived(on, careless, at)[0] == undisturbed for at in places(killer.passed)]
    assert False in ends and True in ends
