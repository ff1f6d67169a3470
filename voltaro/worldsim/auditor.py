"""Who knows what really happened: the cars' energy, the riders' money at Razorpay. Reads our tables, never our code.

Each finding names the promise it breaks (I1 to I30 of docs/simulation.md). `safety` holds always, `liveness` once the faults are
gone, `end` when the world is at rest.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from voltaro.worldsim import at_rest
from voltaro.worldsim.chargers import Line
from voltaro.worldsim.process import Process
from voltaro.worldsim.razorpay import Razorpay
from voltaro.worldsim.tables import priced, rows, values, worth

if TYPE_CHECKING:
    from voltaro.worldsim.people import People

# A meter counts whole Wh at both ends, and the last sample before an end may wobble.
TOLERANCE_WH = 15
# A session that was not heard of for so long does not go on (MAX_RESUME_GAP_S), give or take a frame's way.
RESUMES_WITHIN_S = 900 + 5
# From the first reading that says that the money is used up to the last by which a stop must have been asked for.
STOP_ASKED_WITHIN_S = 150
# A transfer that was on its way to a bank account as that was changed: its worker may have slept for minutes.
UNDER_WAY_S = 30 * 60
APPEND_ONLY = ("billing_journalentry", "billing_posting", "accounts_auditentry", "csms_ocppmessage")


class Auditor:
    """Looks at one world, several times: what was terminal or written for ever is compared with what it was before."""

    def __init__(self, psp: Razorpay, lines: list[Line], people: People, process: Process) -> None:
        self.psp, self.lines, self.people, self.process = psp, lines, people, process
        self.store = psp.sandbox.world.store
        self._stopped: dict[int, str] = {}
        self._written: dict[str, tuple[int, str]] = {}
        self._billed: dict[int, int] = {}

    def safety(self) -> list[str]:
        """What may never be, faults or not."""
        return [*self._books(), *self._money(), *self._payouts(), *self._sessions(), *self._commands(), *self._frames(), *self._kept()]

    def liveness(self) -> list[str]:
        """What has not come to its end."""
        return at_rest.liveness(self.store)

    def end(self) -> list[str]:
        """What must be true of a world at rest."""
        return at_rest.end(self.store, self.people)

    # -- money ---------------------------------------------------------------------------------------------------
    def _books(self) -> list[str]:
        found = [
            f"I1 entry {key} is off by {off}"
            for key, off in values(
                "SELECT e.key, sum(p.amount_paise) FROM billing_posting p JOIN billing_journalentry e ON e.id = p.entry_id "
                "GROUP BY e.key HAVING sum(p.amount_paise) <> 0"
            )
        ]
        for one in rows(
            "SELECT q.razorpay_payment_id AS id, q.amount_paid, coalesce(b.total, 0) + coalesce(b.remainder, 0) AS billed, "
            "(SELECT coalesce(sum(amount_paise), 0) FROM billing_refund r WHERE r.payment_id = q.id AND r.state <> 'failed' "
            "  AND r.key NOT LIKE 'outside%%') AS back FROM billing_qrpayment q LEFT JOIN billing_bill b ON b.payment_id = q.id"
        ):
            if one["billed"] + one["back"] > one["amount_paid"]:
                found.append(f"I3 payment {one['id']}: {one['billed']} billed and {one['back']} returned of {one['amount_paid']}")
        found += [
            f"I3 payment {number} is settled, and {account} still holds {paise} of it"
            for number, account, paise in values(
                "SELECT q.razorpay_payment_id, p.account, sum(p.amount_paise) FROM billing_qrpayment q JOIN billing_posting p "
                "ON p.subject = 'payment:' || q.razorpay_payment_id AND p.account IN ('prepaid', 'refunds_in_flight') "
                "WHERE q.state = 'settled' AND q.review <> 'refunded_too_much' GROUP BY 1, 2 HAVING sum(p.amount_paise) <> 0"
            )
        ]
        for one in rows("SELECT b.*, s.energy_wh FROM billing_bill b JOIN csms_chargingsession s ON s.id = b.session_id "):
            found += _recomputed(one)
        return found

    def _money(self) -> list[str]:
        """Against Razorpay's own books."""
        found, back, arrived = [], defaultdict(int), defaultdict(int)
        for refund in self.store.find("refund"):
            if refund["status"] != "failed":
                back[refund["payment_id"]] += refund["amount"]
            if refund["status"] == "processed":
                arrived[refund["payment_id"]] += refund["amount"]
        ours = rows(
            "SELECT q.razorpay_payment_id AS id, q.amount_paid, "
            "coalesce(sum(r.amount_paise) FILTER (WHERE r.state = 'processed'), 0) AS back "
            "FROM billing_qrpayment q LEFT JOIN billing_refund r ON r.payment_id = q.id GROUP BY 1, 2"
        )
        theirs = {payment["id"]: payment for payment in self.store.find("payment")}
        for one in ours:
            if one["id"] in self.psp.forged or one["id"] not in theirs:
                found.append(f"I11 payment {one['id']} never came, and is in our books")
            elif one["amount_paid"] != theirs[one["id"]]["amount"]:
                found.append(f"I2 payment {one['id']}: {one['amount_paid']} in our books, {theirs[one['id']]['amount']} at Razorpay")
            if one["back"] > arrived[one["id"]]:
                found.append(f"I2 payment {one['id']}: we believe {one['back']} went back, Razorpay {arrived[one['id']]}")
        for payment in theirs.values():
            if back[payment["id"]] > payment["amount"]:
                found.append(f"I4 payment {payment['id']}: {back[payment['id']]} went back of {payment['amount']}")
        return found

    def _payouts(self) -> list[str]:
        """I7: nobody is paid more than their shares, and no share twice."""
        found = []
        owed = dict(
            values(
                "SELECT m.name, coalesce(sum(c.payable) FILTER (WHERE c.booked_at IS NOT NULL), 0) FROM franchise_franchisee f "
                "JOIN accounts_company m ON m.id = f.company_id "
                "LEFT JOIN franchise_commissionledgerentry c ON c.franchisee_id = f.id GROUP BY 1"
            )
        )
        whose = {number: name for name, numbers in self.people.bank_accounts.items() for number in numbers}
        sent: dict[str, int] = defaultdict(int)
        keys: dict[str, int] = defaultdict(int)
        for transfer in self.store.find("transfer"):
            left_s = self.people.left_at.get(transfer["recipient"])
            if left_s is not None and transfer["created_at"] > left_s + UNDER_WAY_S:
                found.append(
                    f"I7 {transfer['id']}: to {transfer['recipient']}, which was left {transfer['created_at'] - left_s:.0f} s before"
                )
            if transfer["status"] != "failed":
                sent[whose[transfer["recipient"]]] += transfer["amount"]
                keys[transfer["notes"].get("payout", "")] += 1
        found += [f"I7 {name}: {paise} sent, {owed.get(name, 0)} owed" for name, paise in sent.items() if paise > owed.get(name, 0)]
        found += [f"I7 payout {key} was sent {n} times" for key, n in keys.items() if n > 1]
        found += [
            f"I7 the share of session {pk} is of {used} paise, its bill says {billed}"
            for pk, used, billed in values(
                "SELECT c.session_id, c.gross - c.refund, b.total - b.platform_fee FROM franchise_commissionledgerentry c "
                "JOIN billing_bill b ON b.session_id = c.session_id WHERE c.gross - c.refund <> b.total - b.platform_fee "
                "AND NOT EXISTS (SELECT 1 FROM billing_billcorrection x WHERE x.bill_id = b.id)"
            )
        ]
        return found

    # -- charging --------------------------------------------------------------------------------------------------
    def _sessions(self) -> list[str]:
        found = []
        truth = {(line.cp_id, str(tx.id)): (line, tx, wh) for line in self.lines for tx, wh in line.taken_wh.values() if tx.id}
        for one in rows(
            "SELECT s.id, c.cp_id, s.transaction_id, s.state, s.stop_reason, s.stop_reason_raw, s.start_time, s.end_time, s.energy_wh, "
            "s.flags, s.permit_id, s.authorized, b.billed_wh, b.payment_id, q.state AS payment_state FROM csms_chargingsession s "
            "JOIN csms_chargepoint c ON c.id = s.charge_point_id "
            "LEFT JOIN billing_bill b ON b.session_id = s.id LEFT JOIN billing_qrpayment q ON q.id = b.payment_id"
        ):
            line, tx, real_wh = truth.get((one["cp_id"], one["transaction_id"]), (None, None, None))
            if real_wh is not None and one["payment_id"] and one["billed_wh"] > real_wh + TOLERANCE_WH:
                found.append(f"I8 session {one['id']}: billed {one['billed_wh']} Wh, the car took {real_wh:.0f}")
            if line is not None and one["payment_id"] and self._honest(line, tx, one) and one["energy_wh"] < real_wh - TOLERANCE_WH:
                found.append(f"I8 session {one['id']}: counted {one['energy_wh']} Wh, the car took {real_wh:.0f} by an honest meter")
            if one["end_time"] is not None and one["end_time"] < one["start_time"] and not set(one["flags"]) & {"clock", "suspect"}:
                found.append(f"I16 session {one['id']} ends at {one['end_time']}, before it starts at {one['start_time']}: {one['flags']}")
            if "EmergencyStop" in (one["stop_reason"], one["stop_reason_raw"]):
                found.append(f"I15 session {one['id']} was ended by another charger")
            if one["id"] in self._stopped and (one["state"], one["stop_reason"]) != ("STOPPED", self._stopped[one["id"]]):
                found.append(f"I20 session {one['id']} ended by {self._stopped[one['id']]}, and is {one['state']} {one['stop_reason']}")
            if one["state"] == "STOPPED":
                self._stopped[one["id"]] = one["stop_reason"]
        found += [
            f"I13 connector {which} has {n} live sessions"
            for which, n in values(
                "SELECT connector_id, count(*) FROM csms_chargingsession WHERE state <> 'STOPPED' GROUP BY 1 HAVING count(*) > 1"
            )
        ]
        found += [
            f"I14 permit {which} has {n} sessions"
            for which, n in values(
                "SELECT permit_id, count(*) FROM csms_chargingsession WHERE permit_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
            )
        ]
        begun = {line.cp_id: len(line.starts) for line in self.lines}
        found += [
            f"I14 charger {cp_id} began {begun.get(cp_id, 0)} transactions and has {n} sessions"
            for cp_id, n in values(
                "SELECT c.cp_id, count(*) FROM csms_chargingsession s JOIN csms_chargepoint c ON c.id = s.charge_point_id GROUP BY 1"
            )
            if n > begun.get(cp_id, 0)
        ]
        # A payment that went back whole never charged anybody; what flowed without one was asked to stop.
        found += [
            f"I17 payment {number} went back whole, and session {pk} took {wh} Wh of it"
            for number, pk, wh in values(
                "SELECT q.razorpay_payment_id, s.id, s.energy_wh FROM billing_qrpayment q "
                "JOIN csms_chargingsession s ON s.id = q.session_id OR s.permit_id = q.permit_id AND s.authorized "
                "JOIN billing_refund r ON r.payment_id = q.id AND r.state = 'processed' AND r.amount_paise = q.amount_paid "
                "WHERE coalesce(s.billable_wh, s.energy_wh) > 100 AND r.key NOT LIKE 'outside%%'"
            )
        ]
        found += [
            f"I17 session {pk} was paid by nobody, took {wh} Wh, and nobody asked it to stop"
            for pk, wh in values(
                "SELECT s.id, s.energy_wh FROM csms_chargingsession s WHERE NOT s.authorized AND s.energy_wh > 0 AND NOT EXISTS "
                "(SELECT 1 FROM csms_command c WHERE c.session_id = s.id AND c.action = 'RemoteStopTransaction')"
            )
        ]
        found += self._used_up()
        found += [
            f"I20 session {pk} went on {gap} after it was suspended"
            for pk, gap in values(
                "SELECT target_id, gap FROM (SELECT target_id, action, lag(action) OVER w AS before, at - lag(at) OVER w AS gap "
                "FROM accounts_auditentry WHERE target_type = 'csms.chargingsession' "
                "AND action IN ('session.suspended', 'session.resumed') WINDOW w AS (PARTITION BY target_id ORDER BY id)) a "
                "WHERE action = 'session.resumed' AND before = 'session.suspended' AND gap > %s * interval '1 second'",
                RESUMES_WITHIN_S,
            )
        ]
        found += [
            f"I22 session {pk} ended by {reason}, and no audit entry says so"
            for pk, reason in values(
                "SELECT s.id, s.stop_reason FROM csms_chargingsession s WHERE s.state = 'STOPPED' AND NOT EXISTS (SELECT 1 FROM "
                "accounts_auditentry a WHERE a.target_type = 'csms.chargingsession' AND a.target_id = s.id::text "
                "AND a.action LIKE 'session.%%' AND a.after->>'state' = 'STOPPED' AND a.actor <> '')"
            )
        ]
        return found

    def _used_up(self) -> list[str]:
        """I17: what takes more than its money pays for, and says so again and again, is asked to stop."""
        found = []
        truth = {(line.cp_id, str(tx.id)): (line, tx) for line in self.lines for tx, _ in line.taken_wh.values() if tx.id}
        for one in rows(
            "SELECT s.id, c.cp_id, s.transaction_id, s.energy_wh, s.meter_start_wh, q.tariff_snapshot, "
            "q.amount_paid - q.platform_fee AS paise FROM csms_chargingsession s JOIN csms_chargepoint c ON c.id = s.charge_point_id "
            "JOIN billing_qrpayment q ON q.permit_id = s.permit_id WHERE s.authorized AND s.meter_start_wh IS NOT NULL"
        ):
            line, tx = truth.get((one["cp_id"], one["transaction_id"]), (None, None))
            if line is None or not self._tells_the_truth(line, tx) or worth(one["energy_wh"], one["tariff_snapshot"]) <= one["paise"]:
                continue
            beyond = [
                (at, wh)
                for at, wh in values(
                    "SELECT received_at, energy_wh - %s FROM csms_meterreading WHERE session_id = %s AND NOT late "
                    "AND energy_wh IS NOT NULL ORDER BY id",
                    one["meter_start_wh"],
                    one["id"],
                )
                if worth(wh - TOLERANCE_WH, one["tariff_snapshot"]) > one["paise"]
            ]
            if not beyond or (beyond[-1][0] - beyond[0][0]).total_seconds() < STOP_ASKED_WITHIN_S or beyond[-1][1] == beyond[0][1]:
                continue
            # While its line was away in between, nobody could ask; when it came back, its stop had a moment.
            asked = values(
                "SELECT 1 FROM csms_command WHERE session_id = %s AND action = 'RemoteStopTransaction' AND created_at <= %s "
                "UNION ALL SELECT 1 FROM accounts_auditentry WHERE target_type = 'csms.chargingsession' AND target_id = %s "
                "AND action IN ('session.suspended', 'session.resumed') AND at BETWEEN %s AND %s",
                one["id"], beyond[-1][0], str(one["id"]), beyond[0][0], beyond[-1][0],
            )  # fmt: skip
            if not asked:
                found.append(f"I17 session {one['id']} took {beyond[-1][1]} Wh, more than its money pays for, and nobody asked it to stop")
        return found

    @staticmethod
    def _tells_the_truth(line: Line, tx: Any) -> bool:
        """Whether its meter said nothing else."""
        lies = line.strange & {"kwh_in_wh", "session_register", "never_stops"}
        lies = lies or line.speech.manner & {"stop_reads_low", "start_reads_zero"}
        return not (lies or "wrong_meter" in line.box.faults or id(tx) in line.meter_wrong or line.speech.skew_s)

    def _honest(self, line: Line, tx: Any, one: dict[str, Any]) -> bool:
        """Whether the meter said nothing but the truth, and its stop reached us: then every Wh must be counted."""
        if not self._tells_the_truth(line, tx):
            return False
        return one["state"] == "STOPPED" and one["stop_reason"] in ("Local", "Remote", "EVDisconnected") and "suspect" not in one["flags"]

    def _commands(self) -> list[str]:
        found = [
            f"I18 RemoteStart {pk} was sent {late} after the refund of its payment was made"
            for pk, late in values(
                "SELECT c.id, c.sent_at - r.created_at FROM csms_command c JOIN billing_qrpayment q ON q.permit_id = c.permit_id "
                "JOIN billing_refund r ON r.payment_id = q.id WHERE c.action = 'RemoteStartTransaction' AND c.sent_at > r.created_at "
                "AND r.key NOT LIKE 'outside%%'"
            )
        ]
        found += [
            f"I19 command {pk} {action} went out, and was never sent"
            for pk, action in values(
                "SELECT c.id, c.action FROM csms_command c JOIN csms_ocppmessage m ON m.correlation_id = c.unique_id "
                "AND m.direction = 'OUT' AND m.message_type = 2 WHERE c.sent_at IS NULL"
            )
        ]
        found += [
            f"I24 charger {pk} has {n} open lines"
            for pk, n in values(
                "SELECT charge_point_id, count(*) FROM csms_connection WHERE closed_at IS NULL GROUP BY 1 HAVING count(*) > 1"
            )
        ]
        found += [
            f"I24 command {pk} was sent on the line {epoch}, its charger had {newest} at that time"
            for pk, epoch, newest in values(
                "SELECT c.id, c.epoch, n.epoch FROM csms_command c JOIN csms_connection n ON n.charge_point_id = c.charge_point_id "
                "AND n.epoch > c.epoch AND n.opened_at < c.sent_at WHERE c.sent_at IS NOT NULL"
            )
        ]
        return found

    # -- our log, and what may not be in it ---------------------------------------------------------------------------
    def _frames(self) -> list[str]:
        """I12: every fact that was acknowledged is kept. I29: nothing was stumbled over, no fact was refused."""
        found = []
        kept = {uid for (uid,) in values("SELECT correlation_id FROM csms_ocppmessage WHERE direction = 'IN' AND message_type = 2")}
        for line in self.lines:
            found += [
                f"I12 {line.cp_id}: {action} {uid} was acknowledged and is not kept" for action, uid in line.acknowledged if uid not in kept
            ]
        found += [
            f"I29 {action}: {note}"
            for action, note in values("SELECT action, note FROM csms_ocppmessage WHERE note LIKE 'kept for a person%'")
        ]
        found += [
            f"I29 {action} of charger {pk} was answered with an error"
            for pk, action in values(
                "SELECT charge_point_id, action FROM csms_ocppmessage WHERE direction = 'OUT' AND message_type = 4 "
                "AND (action IN ('StartTransaction', 'StopTransaction', 'MeterValues') "
                "OR convert_from(raw, 'UTF8') LIKE '%\"InternalError\"%')"
            )
        ]
        found += [f"I29 our code stumbled: {one}" for one in self.process.mistakes]
        lines, self.process.log_lines[:] = self.process.log_lines[:], []
        found += [f"I23 a canary stands in the log: {one}" for one in lines if "canary" in one]
        return found

    def _kept(self) -> list[str]:
        """I6: what is written once is never changed, and never gone; a bill falls once at most, by a correction that says so."""
        found = []
        for pk, total, corrections in values(
            "SELECT b.id, b.total, (SELECT count(*) FROM billing_billcorrection c WHERE c.bill_id = b.id) FROM billing_bill b"
        ):
            before = self._billed.setdefault(pk, total)
            if corrections > 1 or total > before or (total < before and not corrections):
                found.append(f"I6 bill {pk} was {before} paise and is {total}, with {corrections} corrections")
        for table in APPEND_ONLY:
            before, digest = self._written.get(table, (0, ""))
            if before and _digest(table, before) != digest:
                found.append(f"I6 {table}: the first {before} rows are not what they were")
            [(last,)] = values(f"SELECT coalesce(max(id), 0) FROM {table}")  # noqa: S608 - our own names
            self._written[table] = (last, _digest(table, last))
        return found


def _recomputed(bill: dict[str, Any]) -> list[str]:
    """I8, I9: the bill once more, from its frozen price and its energy."""
    energy, cgst, igst = priced(bill["billed_wh"], bill["tariff_snapshot"])
    wrong = (bill["energy_charge"], bill["cgst"], bill["sgst"], bill["igst"]) != (energy, cgst, cgst, igst)
    wrong = wrong or bill["total"] != energy + 2 * cgst + igst + bill["platform_fee"] or bill["billed_wh"] > bill["energy_wh"]
    return [f"I8 bill of session {bill['session_id']} is not what its price and its energy say"] if wrong else []


def _digest(table: str, last: int) -> str:
    [(said,)] = values(f"SELECT md5(coalesce(string_agg(md5(t::text), '' ORDER BY id), '')) FROM {table} t WHERE id <= %s", last)  # noqa: S608
    return str(said)
