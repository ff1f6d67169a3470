"""Who knows what really happened: the cars' energy, the riders' money at Razorpay. Reads our tables, never our code.

Each finding names the invariant it breaks.
"""

from collections import defaultdict
from typing import Any

from django.db import connection

from billing.sandbox import Sandbox
from voltaro.worldsim.chargers import Line

# A meter wobbles, and the last sample before an end is rounded.
TOLERANCE_WH = 15


def rows(sql: str, *given: Any) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def safety(sandbox: Sandbox, lines: list[Line]) -> list[str]:
    """What may never be, faults or not."""
    return [*_books(), *_psp(sandbox), *_sessions(lines), *_mistakes()]


def liveness(sandbox: Sandbox) -> list[str]:
    """With the faults gone, everything comes to its end."""
    found = []
    for one in rows("SELECT razorpay_payment_id, state, review FROM billing_qrpayment WHERE state NOT IN ('settled', 'refunded', 'ended')"):
        found.append(f"I25 payment {one['razorpay_payment_id']} is still {one['state']} {one['review']}")
    for one in rows("SELECT id, state FROM billing_refund WHERE state NOT IN ('processed', 'failed')"):
        found.append(f"I25 refund {one['id']} is still {one['state']}")
    known = {one["razorpay_payment_id"] for one in rows("SELECT razorpay_payment_id FROM billing_qrpayment")}
    for payment in sandbox.world.store.find("payment"):
        if payment["id"] not in known and payment["status"] == "captured":
            found.append(f"I10 payment {payment['id']} was never heard of")
    for one in rows("SELECT id, state FROM csms_chargingsession WHERE state <> 'STOPPED'"):
        found.append(f"I25 session {one['id']} is still {one['state']}")
    for one in rows("SELECT id FROM csms_chargingsession WHERE state = 'STOPPED' AND billed_at IS NULL"):
        found.append(f"I5 session {one['id']} has no bill")
    for one in rows("SELECT id, action, state FROM csms_command WHERE state IN ('queued', 'sent')"):
        found.append(f"I19 command {one['id']} {one['action']} is still {one['state']}")
    return found


def _books() -> list[str]:
    found = [
        f"I1 entry {one['key']} is off by {one['off']}"
        for one in rows(
            "SELECT e.key, sum(p.amount_paise) AS off FROM billing_posting p JOIN billing_journalentry e ON e.id = p.entry_id "
            "GROUP BY e.key HAVING sum(p.amount_paise) <> 0"
        )
    ]
    for one in rows(
        "SELECT q.razorpay_payment_id, q.amount_paid, coalesce(b.total, 0) AS billed, coalesce(b.remainder, 0) AS remainder, "
        "(SELECT coalesce(sum(amount_paise), 0) FROM billing_refund r WHERE r.payment_id = q.id AND r.state <> 'failed') AS back "
        "FROM billing_qrpayment q LEFT JOIN billing_bill b ON b.payment_id = q.id"
    ):
        spent = one["billed"] + one["remainder"] + one["back"]
        if spent > one["amount_paid"]:
            found.append(f"I3 payment {one['razorpay_payment_id']}: {spent} billed and returned of {one['amount_paid']}")
    found += [
        f"I5 session {one['session_id']} has {one['n']} bills"
        for one in rows("SELECT session_id, count(*) AS n FROM billing_bill GROUP BY session_id HAVING count(*) > 1")
    ]
    return found


def _psp(sandbox: Sandbox) -> list[str]:
    found, back = [], defaultdict(int)
    for refund in sandbox.world.store.find("refund"):
        if refund["status"] != "failed":
            back[refund["payment_id"]] += refund["amount"]
    ours = {
        one["razorpay_payment_id"]: one["back"]
        for one in rows(
            "SELECT q.razorpay_payment_id, coalesce(sum(r.amount_paise) FILTER (WHERE r.state = 'processed'), 0) AS back "
            "FROM billing_qrpayment q LEFT JOIN billing_refund r ON r.payment_id = q.id GROUP BY q.razorpay_payment_id"
        )
    }
    for payment in sandbox.world.store.find("payment"):
        if back[payment["id"]] > payment["amount"]:
            found.append(f"I4 payment {payment['id']}: {back[payment['id']]} went back of {payment['amount']}")
        if ours.get(payment["id"], 0) > back[payment["id"]]:
            found.append(f"I2 payment {payment['id']}: we believe {ours[payment['id']]} went back, Razorpay {back[payment['id']]}")
    return found


def _sessions(lines: list[Line]) -> list[str]:
    found = []
    truth = {(line.cp_id, str(tx.id)): wh for line in lines for tx, wh in line.delivered_wh.values() if tx.id}
    for one in rows(
        "SELECT s.id, c.cp_id, s.transaction_id, b.billed_wh, b.payment_id, s.start_time, s.end_time "
        "FROM csms_chargingsession s JOIN csms_chargepoint c ON c.id = s.charge_point_id LEFT JOIN billing_bill b ON b.session_id = s.id"
    ):
        real_wh = truth.get((one["cp_id"], one["transaction_id"]))
        if real_wh is not None and one["billed_wh"] is not None and one["payment_id"] and one["billed_wh"] > real_wh + TOLERANCE_WH:
            found.append(f"I8 session {one['id']}: billed {one['billed_wh']} Wh, the car took {real_wh}")
        if one["end_time"] is not None and one["end_time"] < one["start_time"]:
            found.append(f"I16 session {one['id']} ends before it starts")
    found += [
        f"I13 connector {one['connector_id']} has {one['n']} live sessions"
        for one in rows(
            "SELECT connector_id, count(*) AS n FROM csms_chargingsession WHERE state <> 'STOPPED' GROUP BY 1 HAVING count(*) > 1"
        )
    ]
    # A payment that went back whole never charged anybody.
    found += [
        f"I17 payment {one['razorpay_payment_id']} went back whole and has session {one['id']}"
        for one in rows(
            "SELECT q.razorpay_payment_id, s.id FROM billing_qrpayment q JOIN csms_chargingsession s ON s.id = q.session_id "
            "JOIN billing_refund r ON r.payment_id = q.id AND r.state = 'processed' AND r.amount_paise = q.amount_paid "
            "WHERE s.energy_wh > 100"
        )
    ]
    return found


def _mistakes() -> list[str]:
    """I29: what our own code stumbled over, and facts answered with an error."""
    found = [
        f"I29 {one['action']}: {one['note']}"
        for one in rows("SELECT action, note FROM csms_ocppmessage WHERE note LIKE 'kept for a person%%'")
    ]
    found += [
        f"I29 a fact was refused: {one['action']}"
        for one in rows(
            "SELECT action FROM csms_ocppmessage WHERE direction = 'OUT' AND message_type = 4 "
            "AND action IN ('StartTransaction', 'StopTransaction', 'MeterValues')"
        )
    ]
    return found
