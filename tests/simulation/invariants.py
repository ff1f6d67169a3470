"""What may never be, as plain SQL on our tables and as Razorpay's own memory tells it. Each names the invariant that it holds.

A query finds what is wrong: no row, nothing is. None of our own code is asked.
"""

from collections import defaultdict
from typing import Any

from django.db import connection

from billing.sandbox import Sandbox

NEVER = {
    "I1 an entry does not balance": """
        SELECT e.key, sum(p.amount_paise) FROM billing_journalentry e LEFT JOIN billing_posting p ON p.entry_id = e.id
        GROUP BY e.key HAVING coalesce(sum(p.amount_paise), 1) <> 0 OR count(p.id) < 2""",
    "I3 more is billed and given back than was paid": """
        SELECT q.razorpay_payment_id FROM billing_qrpayment q LEFT JOIN billing_bill b ON b.payment_id = q.id
        WHERE q.amount_paid < coalesce(b.total + b.remainder, 0)
          + (SELECT coalesce(sum(amount_paise), 0) FROM billing_refund r WHERE r.payment_id = q.id AND r.state <> 'failed')""",
    "I3 a settled payment still holds money": """
        SELECT q.razorpay_payment_id, sum(p.amount_paise) FROM billing_qrpayment q
        JOIN billing_posting p ON p.subject = 'payment:' || q.razorpay_payment_id AND p.account IN ('prepaid', 'refunds_in_flight')
        WHERE q.state = 'settled' GROUP BY 1 HAVING sum(p.amount_paise) <> 0""",
    "I5 a session has two bills": "SELECT session_id FROM billing_bill GROUP BY session_id HAVING count(*) > 1",
    "I5 a payment has two bills": "SELECT payment_id FROM billing_bill WHERE payment_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1",
    "I5 billed, and charged other energy": """
        SELECT b.session_id FROM billing_bill b JOIN csms_chargingsession s ON s.id = b.session_id
        WHERE b.delivered_wh <> coalesce(s.billable_wh, s.energy_wh) AND s.rebill_at IS NULL AND NOT 'held' = ANY(s.flags)
          OR s.state <> 'STOPPED' OR s.billed_at IS NULL OR s.total_billed <> b.total""",
    "I7 a share is in the books twice, or never": """
        SELECT c.session_id FROM franchise_commissionledgerentry c
        LEFT JOIN billing_journalentry e ON e.key = 'share:' || c.session_id
        GROUP BY c.session_id, c.booked_at, c.payable
        HAVING count(DISTINCT c.id) > 1 OR count(e.id) <> (CASE WHEN c.booked_at IS NULL OR c.payable = 0 THEN 0 ELSE 1 END)""",
    "I7 a payout is not the sum of its shares, less what corrections take back": """
        SELECT p.id FROM franchise_payout p WHERE p.state <> 'failed' AND p.amount_paise <>
          (SELECT coalesce(sum(payable), 0) FROM franchise_commissionledgerentry c WHERE c.payout_id = p.id)
          - (SELECT coalesce(sum(payable), 0) FROM franchise_sharecorrection x WHERE x.payout_id = p.id)""",
    "I7 more is paid out than is owed, beyond what is still to be deducted": """
        SELECT subject, sum(amount_paise) FROM billing_posting WHERE account = 'franchisee_payable' GROUP BY subject
        HAVING sum(amount_paise) >
          (SELECT coalesce(sum(payable), 0) FROM franchise_sharecorrection WHERE deducted AND payout_id IS NULL)""",
    "I13 two live sessions on a connector": """
        SELECT connector_id FROM csms_chargingsession WHERE state <> 'STOPPED' GROUP BY 1 HAVING count(*) > 1""",
    "I14 one start, two sessions": """
        SELECT charge_point_id, start_key FROM csms_chargingsession GROUP BY 1, 2 HAVING count(*) > 1""",
    "I13 two riders wait at one connector": """
        SELECT connector_id FROM csms_idtag WHERE kind = 'one_time' AND state = 'ready' GROUP BY 1 HAVING count(*) > 1""",
    "I16 a session ends before it starts": "SELECT id FROM csms_chargingsession WHERE end_time < start_time",
    "I17 the money went back, and it charged all the same": """
        SELECT q.razorpay_payment_id, s.id FROM billing_qrpayment q
        JOIN csms_chargingsession s ON s.permit_id = q.permit_id AND s.authorized
        JOIN billing_refund r ON r.payment_id = q.id AND r.reason = 'not_started' AND r.state <> 'failed'""",
    "I17 used, and not used": """
        SELECT t.id FROM csms_idtag t LEFT JOIN csms_chargingsession s ON s.permit_id = t.id AND s.authorized
        WHERE t.kind = 'one_time' GROUP BY t.id, t.state HAVING (t.state = 'used') <> (count(s.id) = 1)""",
    "I18 asked to start, though the money went back": """
        SELECT c.id FROM csms_command c JOIN csms_idtag t ON t.id = c.permit_id
        WHERE t.state = 'revoked' AND c.state = 'queued' AND c.action = 'RemoteStartTransaction'""",
    "I20 a session ended more than once": """
        SELECT target_id FROM accounts_auditentry WHERE action IN ('session.ended', 'session.stale_reconnect')
        GROUP BY target_id HAVING count(*) > 1""",
    "I20 a session has ended and was heard of as running": """
        SELECT a.target_id FROM accounts_auditentry a JOIN accounts_auditentry b ON b.target_id = a.target_id AND b.id > a.id
        WHERE a.action = 'session.ended' AND b.action IN ('session.resumed', 'session.suspended')""",
    "I24 a command was sent by a socket that was replaced": """
        SELECT c.id FROM csms_command c JOIN csms_connection n ON n.charge_point_id = c.charge_point_id AND n.epoch > c.epoch
        WHERE c.sent_at > n.opened_at + interval '1 minute'""",
    "I24 two commands in flight": """
        SELECT charge_point_id, epoch FROM csms_command WHERE state = 'sent' GROUP BY 1, 2 HAVING count(*) > 1""",
    "I29 our own code stumbled": "SELECT action, note FROM csms_ocppmessage WHERE note LIKE 'kept for a person%%'",
}


def rows(sql: str, *given: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return cursor.fetchall()


def broken(sandbox: Sandbox | None = None) -> list[str]:
    """What is wrong now, in words; nothing when nothing is."""
    found = [f"{name}: {row}" for name, sql in NEVER.items() for row in rows(sql)]
    return found + (_at_razorpay(sandbox) if sandbox is not None else [])


def _at_razorpay(sandbox: Sandbox) -> list[str]:
    """I2, I4: what Razorpay gave back of a payment, against what it was paid, what we billed of it, and what we believe went back."""
    found, back = [], defaultdict(int)
    for refund in sandbox.world.store.find("refund"):
        if refund["status"] != "failed":
            back[refund["payment_id"]] += refund["amount"]
    ours = rows(
        "SELECT q.razorpay_payment_id, q.amount_paid, coalesce(b.total + b.remainder, 0), q.review, "
        "(SELECT coalesce(sum(amount_paise), 0) FROM billing_refund r WHERE r.payment_id = q.id AND r.state = 'processed') "
        "FROM billing_qrpayment q LEFT JOIN billing_bill b ON b.payment_id = q.id"
    )
    for number, paid, billed, review, believed in ours:
        if believed > back[number]:
            found.append(f"I2 {number}: we believe that {believed} went back, at Razorpay {back[number]}")
        if back[number] + billed > paid and review != "refunded_too_much":
            found.append(f"I4 {number}: {back[number]} went back and {billed} were billed of {paid}")
    sums: dict[str, int] = defaultdict(int)
    for transfer in sandbox.world.store.find("transfer"):
        if transfer["status"] != "failed":
            sums[transfer["notes"]["payout"]] += 1
    found += [f"I7 payout {key}: {count} transfers" for key, count in sums.items() if count > 1]
    return found
