"""What the auditor asks of a world whose faults are gone: that everything comes to its end, and what must be true of it then."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from voltaro.worldsim.tables import rows, values

if TYPE_CHECKING:
    from voltaro.worldsim.people import People

# From paying to charging, or to the money's way back, when nothing goes wrong: START_TIMEOUT_S, a beat, a call that is late.
RIDER_WAITS_S = 360


def liveness(store: Any) -> list[str]:
    """With the faults gone, everything comes to its end."""
    found = []
    for number, state, review in values("SELECT razorpay_payment_id, state, review FROM billing_qrpayment WHERE state <> 'settled'"):
        if review != "refunded_too_much":
            found.append(f"I25 payment {number} is still {state} {review}")
    found += [
        f"I25 refund {pk} is still {state}"
        for pk, state in values("SELECT id, state FROM billing_refund WHERE state NOT IN ('processed', 'failed')")
    ]
    known = {number for (number,) in values("SELECT razorpay_payment_id FROM billing_qrpayment")}
    for payment in store.find("payment"):
        if payment["id"] not in known and payment["status"] in ("captured", "refunded"):
            found.append(f"I10 payment {payment['id']} was never heard of")
    found += [
        f"I25 session {pk} is still {state}" for pk, state in values("SELECT id, state FROM csms_chargingsession WHERE state <> 'STOPPED'")
    ]
    found += [
        f"I5 session {pk} has no bill"
        for (pk,) in values("SELECT id FROM csms_chargingsession WHERE state = 'STOPPED' AND billed_at IS NULL")
    ]
    for pk, action, state in values("SELECT id, action, state FROM csms_command WHERE state IN ('queued', 'sent')"):
        found.append(f"I19 command {pk} {action} is still {state}")
    for pk, event, state, note in values("SELECT id, event, state, note FROM billing_webhookevent WHERE state IN ('new', 'failed')"):
        found.append(f"I28 webhook event {pk} {event} is still {state}: {note}")
    for pk, state, why in values("SELECT id, state, last_error FROM franchise_payout WHERE state NOT IN ('processed', 'failed')"):
        found.append(f"I26 payout {pk} is still {state}: {why}")
    # What is less than a rupee waits for more of it; so does what is no more than was paid too much before.
    for pk, status, why, payout in values(
        "SELECT id, status, hold_reason, (SELECT p.id || ' ' || p.state || ' ' || p.last_error FROM franchise_payout p "
        "WHERE p.id = c.payout_id) FROM franchise_commissionledgerentry c WHERE status IN ('ON_HOLD', 'FAILED') OR "
        "status = 'PENDING' AND (payout_id IS NOT NULL OR (SELECT sum(payable) FROM franchise_commissionledgerentry o "
        "WHERE o.franchisee_id = c.franchisee_id AND o.status = 'PENDING' AND o.payout_id IS NULL) - "
        "(SELECT coalesce(sum(b.payable), 0) FROM franchise_sharecorrection b WHERE b.franchisee_id = c.franchisee_id "
        "AND b.deducted AND b.payout_id IS NULL) >= 100)"
    ):
        found.append(f"I26 share {pk} is still {status} {why}, payout {payout}")
    return found


def end(store: Any, people: People) -> list[str]:
    """What must be true of a world at rest."""
    found = []
    for one in rows(
        "SELECT q.razorpay_payment_id AS id, q.amount_paid, q.review, coalesce(b.total, 0) AS billed, "
        "coalesce((SELECT sum(-amount_paise) FROM billing_posting p WHERE p.account = 'remainders' AND p.subject = "
        "  'payment:' || q.razorpay_payment_id), 0) AS remainder, "
        "(SELECT coalesce(sum(amount_paise), 0) FROM billing_refund r WHERE r.payment_id = q.id AND r.state = 'processed') AS back "
        "FROM billing_qrpayment q LEFT JOIN billing_bill b ON b.payment_id = q.id"
    ):
        if one["billed"] + one["remainder"] + one["back"] != one["amount_paid"] and one["review"] != "refunded_too_much":
            found.append(f"I3 payment {one['id']}: {one['billed']} billed and {one['back']} returned of {one['amount_paid']}")
    ours = dict(values("SELECT subject, sum(amount_paise) FROM billing_posting WHERE account = 'clearing' GROUP BY 1"))
    theirs: dict[str, int] = defaultdict(int)
    for kind, ref, payment_id, amount in _movements(store):
        if kind in ("payment", "refund") or (kind == "adjustment" and payment_id):
            theirs[payment_id or ref] += amount
    for number, paise in theirs.items():
        mine = next((paise for subject, paise in ours.items() if subject.endswith(number)), 0)
        if mine != paise:
            found.append(f"I2 payment {number}: {mine} in clearing, {paise} at Razorpay")
    found += _waits(people)
    found += [
        f"I28 charger {pk} has an open line of a process that is gone"
        for (pk,) in values(
            "SELECT charge_point_id FROM csms_connection n JOIN csms_chargepoint c ON c.id = n.charge_point_id "
            "WHERE n.closed_at IS NULL AND n.epoch <> c.epoch"
        )
    ]
    return found


def _waits(people: People) -> list[str]:
    """I27: with the faults gone, a rider is charging or has their money on its way back within five minutes."""
    found = []
    for one in rows(
        "SELECT q.razorpay_payment_id AS id, q.paid_at, least(s.started_at, (SELECT min(created_at) FROM billing_refund r "
        "WHERE r.payment_id = q.id)) AS known_at FROM billing_qrpayment q LEFT JOIN csms_chargingsession s ON s.id = q.session_id"
    ):
        if one["id"] in people.calm_paid:
            waited_s = (one["known_at"] - one["paid_at"]).total_seconds() if one["known_at"] else 1e9
            if waited_s > RIDER_WAITS_S:
                found.append(f"I27 payment {one['id']}: its rider waited {waited_s:.0f} s")
    return found


def _movements(store: Any) -> list[tuple[str, str, str | None, int]]:
    return [
        (row["kind"], row["ref"], row["payment_id"], row["credit"] - row["debit"])
        for row in store.rows("SELECT kind, ref, payment_id, credit, debit FROM money ORDER BY seq")
    ]
