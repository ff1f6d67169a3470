"""The states that are worth reaching: a world that never was in one has proven nothing about it.

WANTED names them all. A run of enough sessions fails when one was never reached (voltaro/worldsim/run.py).
"""

from collections import Counter
from typing import Any

from voltaro.worldsim.clockwork import Clockwork
from voltaro.worldsim.process import Process
from voltaro.worldsim.tables import rows

WANTED: dict[str, str] = {
    # money back
    "refund_partial": "a refund of what was not charged",
    "refund_zero_energy": "a refund because no energy flowed",
    "refund_not_started": "paid, not started in time: refunded",
    "refund_busy": "paid for a connector that was taken: refunded",
    "refund_stale": "first heard of too late: refunded",
    "refund_qr_closed": "paid on a QR that was closed: refunded",
    "refund_unreachable": "paid while the charger was away: refunded",
    "refund_fails": "a refund that Razorpay took and could not deliver",
    "refund_again": "such a refund asked for once more by a person",
    "refunded_by_hand": "a refund made on Razorpay's dashboard",
    "balance_low": "a refund or a transfer that our balance did not cover",
    "pays_twice": "two payments for one outlet within seconds",
    "found_by_poll": "a payment whose webhook never came, found by asking",
    # sessions
    "start_after_refund": "a start after its money was on its way back",
    "tag_changed": "a start under another tag than was asked for",
    "resumed_by_reading": "a session that went on by a reading",
    "resumed_after_boot": "a session that went on after a reboot, told so by PostBootState",
    "resumed_by_question": "a session that went on by GetLastMeterValue",
    "stale_at_reading": "a reading that came too late to go on",
    "stale_at_boot": "a boot that came too late to go on",
    "stale_at_question": "a question that came too late to go on",
    "end DISCONNECT_TIMEOUT": "ended: its charger did not come back in time",
    "end FLAPPING": "ended: its line broke again and again",
    "end SILENCE": "ended: nothing was heard of it for hours",
    "end NO_STOP": "ended: its connector was free, and no stop came",
    "end_after_grace": "the same at a plain socket, after its grace",
    "end SUPERSEDED": "ended: the next one began",
    "end OPERATOR": "ended by the operator",
    "late_stop": "the real stop of a session that we had ended",
    "bill_corrected": "a late stop that says less: the bill corrected, the difference refunded",
    "stop_after_an_hour": "a stop acknowledged more than an hour after it happened",
    "not_stopping": "a charger that was told to stop and charged on",
    "charges_on": "a charger that charged on with a session that we had ended",
    "phantom_start": "a start that nobody paid or was known for",
    "orphan_stop": "a stop of a transaction that is not ours, or not this charger's",
    "suspect": "a meter that was not believed",
    "tells_intervals": "a charger whose readings are intervals, no registers",
    "reads_at_stop": "a charger that tells its readings with the stop only",
    "start_reads_zero": "a charger whose starts say the register 0",
    "main_meter": "a charger that reads its building's meter too",
    "held_for_review": "energy that is not plausible: its bill waited",
    "released": "such a session that a person released",
    "takeover_while_charging": "a second socket while the first lived, in a session",
    "frame_of_old_socket": "a frame that arrived on a socket its charger had left",
    "tariff_edited_mid_session": "the price changed in the middle of a session",
    "reassigned": "a charger given to another franchisee",
    # ourselves
    "killed": "a process of ours killed",
    "killed_while_charging": "a gateway killed in the middle of sessions",
    "killed_before_refund_call": "killed between a refund's row and its call",
    "killed_after_refund_call": "killed between a refund's call and what it answered",
    "commit_unknown": "a commit that we were told had failed",
    "commit_unknown_on_bill": "the same while billing",
    "deadlock": "a transaction ended by PostgreSQL to break a deadlock",
    "integrity_error": "a constraint of the database that said no",
    "database_away": "the database away",
    "database_away_over_a_stop": "a stop held while the database was away",
    "answered_from_memory": "a charger answered while the database was away",
    "redis_away": "Redis away",
    "workers_away": "no worker running for minutes",
    "worker_frozen": "a worker that slept with a call open, and went on",
    "beat_twice": "two beats of one worker at once",
    "webhook_during_processing": "a webhook again while its event was being worked on",
    "webhook_forged": "a webhook signed by nobody",
    "webhook_foreign": "a webhook about another installation's money",
    "webhook_old_secret": "a webhook signed with the secret before this one",
    # franchisees
    "payout_processed": "a payout that arrived",
    "payout_reversed": "a payout taken back",
    "transfer_fails": "a payout that failed",
    "payout_followed": "a failed payout followed by a new attempt",
    "held_payouts": "payouts held, and let go",
    "account_changed": "a franchisee's bank account changed",
}
_AUDITED = {
    "failure.start_after_refund": "start_after_refund",
    "failure.charges_on": "charges_on",
    "failure.phantom_start": "phantom_start",
    "failure.late_stop": "late_stop",
    "failure.held_for_review": "held_for_review",
    "session.orphan_stop": "orphan_stop",
}
_RESUMED = {"MeterValues": "resumed_by_reading", "answer": "resumed_after_boot", "DataTransfer": "resumed_by_question"}
_STALE = {"MeterValues": "stale_at_reading", "BootNotification": "stale_at_boot", "DataTransfer": "stale_at_question"}


class Listener:
    """Hears the audit entries as they are made: which deed of ours made them tells what was reached."""

    def __init__(self, clockwork: Clockwork, process: Process) -> None:
        self.clockwork, self.process = clockwork, process

    def heard(self, action: str, trigger: str, what: str) -> None:
        deed = what.rpartition(" ")[2]
        name = _AUDITED.get(action, "")
        if action == "session.resumed":
            name = _RESUMED.get(deed, f"resumed by {deed}")
        elif action == "session.stale_reconnect":
            name = _STALE.get(deed, f"stale at {deed}")
        elif action == "payment.taken" and deed == "qr.poll":
            name = "found_by_poll"
        if name:
            self.clockwork.reach(name)


def count(clockwork: Clockwork) -> None:
    """What stands in the tables when a world is over."""
    reached: Counter[str] = Counter()
    for one in rows("SELECT stop_reason, flags, resume_count FROM csms_chargingsession"):
        reached[f"end {one['stop_reason']}"] += 1
        for flag in one["flags"]:
            reached[flag] += 1
        reached["resumed"] += bool(one["resume_count"])
    for one in rows("SELECT r.reason, r.state, b.billed_wh FROM billing_refund r LEFT JOIN billing_bill b ON b.payment_id = r.payment_id"):
        if one["state"] == "processed":
            reached["refund_partial" if one["reason"] == "surplus" else f"refund_{one['reason'].split(' ')[0]}"] += 1
    for one in rows("SELECT state, attempt, count(*) AS n FROM franchise_payout GROUP BY 1, 2"):
        reached[f"payout_{one['state']}"] += one["n"]
        reached["payout_followed"] += one["n"] if one["attempt"] > 1 else 0
    reached["bill_corrected"] += _one("SELECT count(*) AS n FROM billing_billcorrection")
    reached["end_after_grace"] += _one(
        "SELECT count(*) AS n FROM csms_chargingsession s JOIN csms_connector c ON c.id = s.connector_id "
        "WHERE s.stop_reason = 'NO_STOP' AND c.type = 'socket'"
    )
    for name in sorted(reached):
        clockwork.reached[name] += reached[name]
        clockwork.tell(f"= {name} {reached[name]}")


def _one(sql: str) -> Any:
    return rows(sql)[0]["n"]


def missing(reached: Counter[str]) -> list[str]:
    """The states that a run has never been in."""
    return [name for name in WANTED if not reached[name]]
