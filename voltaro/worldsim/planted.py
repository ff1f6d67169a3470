"""The planted bugs, one row each: its name, one plain sentence, what is edited in which function of ours, and what kills it.

`edits`: (dotted name of a function, what stands there, what stands there instead). The text must stand there exactly once: a row
that no longer fits its code is found by a test, not by chance. `shows`: the promises (I1 to I30) whose breaking is its death; another
one may be the world's own bad day. `by`: "simulation", or the other proof that kills it. `faults`: what its worlds suffer, each with
its chance: what the bug needs to be met in a small world (`plan`), which keeps its promises without the bug.
"""

from dataclasses import dataclass, field

from voltaro.worldsim.simulation import Plan

SIMULATION = "simulation"
# A world ends as soon as it is found broken.
SMALL = Plan(chargers=2, riders=6, busy_s=15 * 60)


@dataclass(frozen=True)
class Mutant:
    name: str
    says: str
    edits: tuple[tuple[str, str, str], ...]
    shows: str = ""
    by: str = SIMULATION
    faults: dict[str, float] | None = field(default=None, hash=False)
    plan: Plan = SMALL


MUTANTS = (
    # -- hearing the same thing twice ------------------------------------------------------------------------------
    Mutant(
        "start_twice",
        "A start that is said again is not looked up, and begins another session.",
        (("csms.starts.start", "if repeated is not None:", "if False:"),),
        shows="I29",
        faults={"duplicate": 1.0, "answer_lost": 0.1},
    ),
    Mutant(
        "start_without_key",
        "A start has no natural key: every time it is said it is another session.",
        (("csms.starts.start_key", "parts = [", "parts = [str(next_transaction_id()), "),),
        shows="I14",
        faults={"duplicate": 1.0, "answer_lost": 0.1},
    ),
    Mutant(
        "reading_twice",
        "A reading that is said again is inserted again.",
        (("csms.metering._keep", "_INSERT_READINGS.format(", '_INSERT_READINGS.replace(" ON CONFLICT DO NOTHING", "").format('),),
        shows="I29",
        faults={"duplicate": 1.0, "answer_lost": 0.1},
    ),
    Mutant(
        "payment_twice",
        "A payment heard of again is not looked up before it is taken in.",
        (
            ("billing.payments.hear", "if known is not None:", "if False:"),
            (
                "billing.payments.take",
                'if known := QRPayment.objects.filter(razorpay_payment_id=entity["id"]).first():',
                "if known := None:",
            ),
        ),
        shows="I28 I29",
        faults={"webhook_renamed": 0.7, "webhook_twice": 0.5},
    ),
    # -- refunds -----------------------------------------------------------------------------------------------------
    Mutant(
        "refund_of_the_whole",
        "After a charge the whole payment goes back instead of the rest.",
        (("billing.bills._give_back", "rest = min(made.refund_due, refunds.held(payment))", "rest = payment.amount_paid"),),
        shows="I3 I29",
        faults={"unplugs_early": 0.5},
    ),
    # -- start or refund ---------------------------------------------------------------------------------------------
    Mutant(
        "permit_not_used",
        "A start does not use its permit up: the money goes back although it charges.",
        (("csms.starts.start", "answer.permit.state, answer.permit.ask_at = IdTag.State.USED, None", "answer.permit.ask_at = None"),),
        shows="I17 I18",
        faults={"overstays": 0.6},
    ),
    Mutant(
        "expiry_forgotten",
        "What was paid and did not start in time is not given back.",
        (("billing.payments.to_expire", "late = Q(start_deadline__lte=now) | ", "late = "),),
        shows="I25 I27",
        faults={"never_comes": 0.6},
    ),
    Mutant(
        "stop_not_asked",
        "A start that nobody may is recorded, and not told to stop.",
        (
            ("csms.starts._unwelcome", 'sessions.ask_stop(session, trigger="not_authorized")', "pass"),
            ("csms.starts._create", "session.stop_due_at = session.stop_asked_at = now", "pass"),
            ("csms.starts._create", "if permit else None if answer.accepted else 0", "if permit else None"),
        ),
        shows="I17",
        faults={"away_at_start": 0.5, "comes_late": 0.5, "card": 0.5},
    ),
    # -- energy ------------------------------------------------------------------------------------------------------
    Mutant(
        "last_minus_first",
        "Energy is the last register minus the first, whatever happened to the register between.",
        (
            (
                "csms.rules.meter.Meter.energy_wh",
                "return self.segments_wh + self.last_wh - self.segment_start_wh",
                "return max(0, self.last_wh - (self.start_wh or 0))",
            ),
        ),
        shows="I8 I29",
        faults={"meter_jump": 0.2, "meter_back": 0.2},
    ),
    Mutant(
        "jump_is_energy",
        "A register that jumps has delivered: no plausibility.",
        (("csms.rules.meter.advance", "if 0 <= rise <= cap_wh:", "if 0 <= rise:"),),
        shows="I8",
        faults={"meter_jump": 0.3},
    ),
    Mutant(
        "reported_is_billed",
        "What the charger reports is billed, not what was counted.",
        (("billing.bills.bill", "wh = doubts.billable_wh(session)", "wh = max(0, session.reported_wh or session.energy_wh)"),),
        shows="I5 I8 I17 I29",
        faults={"meter_jump": 0.2, "meter_back": 0.2},
    ),
    # -- the life of a session ---------------------------------------------------------------------------------------
    Mutant(
        "ends_twice",
        "A session that has ended can end once more: the second stop overwrites the first.",
        (
            ("csms.metering.stopped", "if not row.live:", "if False:"),
            ("csms.rules.session._stopped", "if not session.live:", "if False:"),
        ),
        shows="I5 I20 I29",
        faults={"duplicate": 1.0, "operator_stops": 0.4, "answer_lost": 0.1},
    ),
    Mutant(
        "nobody_times_out",
        "A suspended session whose charger never comes back is never ended.",
        (("csms.sessions.timeout_due", "return each(list(", "return 0 and each(list("),),
        shows="I5 I25",
        faults={"strange": 1.0, "reboot": 1.0},
    ),
    Mutant(
        "end_unaudited",
        "A session ends, and no audit entry says so.",
        (("csms.sessions._finalize", "_record(row, before, after, verdict)", "pass"),),
        shows="I22",
        faults={},
    ),
    # -- bills -------------------------------------------------------------------------------------------------------
    Mutant(
        "gst_drifts",
        "GST is rounded down instead of half up.",
        (("billing.rules.tariff.price", "cgst = half_up(energy_charge * gst_bp, 20_000)", "cgst = energy_charge * gst_bp // 20_000"),),
        shows="I8 I9",
        faults={},
    ),
    Mutant(
        "bell_only",
        "Bills are made of what has just ended; what a lost bell left is not found by the beat.",
        (("billing.bills.due", '.order_by("ended_at")', '.filter(ended_at__gt=now - timedelta(seconds=10)).order_by("ended_at")'),),
        shows="I5 I25",
        faults={"bell_lost": 0.7},
    ),
    Mutant(
        "overrun_charged",
        "What was delivered beyond the money is charged to the rider.",
        (
            (
                "billing.rules.payment.settle",
                "billed_wh = min(wh, affordable_wh(amount_paid - platform_fee, snapshot))",
                "billed_wh = wh",
            ),
        ),
        shows="I3 I29",
        faults={"late_stop": 1.0},
    ),
    # -- the franchisees' money ----------------------------------------------------------------------------------------
    Mutant(
        "share_gathered_twice",
        "A share that is in a payout already is gathered into the next one too.",
        (("franchise.payouts.to_collect", "payout__isnull=True, ", ""),),
        shows="I7",
        faults={"transfer_fails": 0.6, "psp_refused": 0.3},
    ),
    Mutant(
        "share_of_the_gross",
        "The franchisee's share is reckoned from what was paid, not from what is left after the refund.",
        (("franchise.settlements._weigh", "refund=bill.refund_due + bill.remainder,", "refund=0,"),),
        shows="I7 I29",
        faults={"unplugs_early": 0.5},
    ),
    # -- commands, answers, logs ---------------------------------------------------------------------------------------
    Mutant(
        "no_fencing",
        "A socket that was replaced still sends commands.",
        (("csms.commands.next_to_send", "if standing(epoch, newest) is Standing.FENCED:", "if False:"),),
        by="interleavings: a_takeover_and_a_command",
    ),
    Mutant(
        "thanked_unstored",
        "A reading or a stop is thanked for although the database did not take it.",
        (
            (
                "csms.dispatch._answer_call",
                "    except (OperationalError, InterfaceError):\n        context.effects.clear()\n        raise",
                "    except (OperationalError, InterfaceError):\n        context.effects.clear()\n"
                "        if not route.fact or frame.action == 'StartTransaction':\n            raise\n        payload = route.fallback()",
            ),
        ),
        shows="I12",
        faults={"database_away": 0.2, "deadlock": 0.01},
    ),
    Mutant(
        "fact_refused",
        "A stop for a transaction we do not know is refused.",
        (("csms.metering.stopped", "if row is None:", "if row is None and said.transaction_ref and 1 / 0:"),),
        shows="I29",
        faults={"foreign_stop": 0.5},
    ),
    Mutant(
        "payer_in_the_log",
        "The log tells who paid.",
        (
            (
                "billing.payments.take",
                "    user, vpa = payers.of(entity)",
                '    user, vpa = payers.of(entity)\n    log.info("paid by %s", vpa)',
            ),
        ),
        shows="I23",
        faults={},
    ),
    # -- locks: what no world shows, because one thing happens after another there ----------------------------------------
    Mutant(
        "connector_unlocked",
        "Two payments at one connector are decided about at the same moment.",
        (
            (
                "billing.payments.take",
                "connector = permits.lock_connector(QRCode",
                "connector = QRCode.objects.get(pk=qr_pk).connector or (QRCode",
            ),
        ),
        by="interleavings: two_riders_at_one_connector",
    ),
    Mutant(
        "permit_unlocked",
        "A permit is revoked without its lock: a start uses it at the same moment.",
        (("csms.permits.revoke", "IdTag.objects.select_for_update(no_key=True).get(pk=permit_id)", "IdTag.objects.get(pk=permit_id)"),),
        by="interleavings: a_start_and_the_refund_of_what_did_not_start",
    ),
    Mutant(
        "session_unlocked",
        "A reading moves its session without its lock, over whatever happened to it meanwhile.",
        (("csms.metering._locked", "ORDER BY id LIMIT 5 FOR NO KEY UPDATE", "ORDER BY id LIMIT 5"),),
        by="interleavings: readings_and_a_stop",
    ),
    Mutant(
        "bill_unlocked",
        "A session is billed without its locks: two workers bill it at the same moment.",
        (
            (
                "billing.bills.lock",
                "    permits.lock_connector(session.connector_id)\n    if session.permit_id:\n"
                "        IdTag.objects.select_for_update(no_key=True).get(pk=session.permit_id)\n"
                '    return ChargingSession.objects.select_for_update(no_key=True, of=("self",)).get(pk=session_pk)',
                "    return session",
            ),
        ),
        by="interleavings: settle_and_settle",
    ),
    Mutant(
        "refund_unclaimed",
        "A due refund is worked on by whoever finds it, without a claim.",
        (
            (
                "billing.refunds._claim",
                'mine.select_for_update(skip_locked=True, of=("self",), no_key=True).select_related',
                "mine.select_related",
            ),
            ("billing.refunds._claim", "refund.claimed_until = clock.now() + timedelta(seconds=LEASE_S)", "pass"),
        ),
        by="interleavings: the_queue_of_each_money_worker_twice",
    ),
    # -- what only a death at the one moment shows ----------------------------------------------------------------------
    Mutant(
        "end_on_a_hook",
        "The end of a session that its charger knows nothing of hangs on a hook after the commit, and on nothing else.",
        (
            (
                "csms.outcomes.stop_answered",
                "command.state, command.settled_at, command.expires_at = CommandState.UNKNOWN, None, ",
                "command.expires_at = ",
            ),
        ),
        by="kill sweep: the_refusal_of_a_stop",
    ),
    Mutant(
        "payment_in_two_steps",
        "A payment is taken into the books, and decided about in a transaction of its own.",
        (
            ("billing.payments.take", "@transaction.atomic\n", ""),
            ("billing.payments.take", "permits.lock_connector(QRCode", "(lambda pk: QRCode.objects.get(pk=qr_pk).connector)(QRCode"),
        ),
        by="kill sweep: the_worker_of_webhooks",
    ),
    Mutant(
        "refund_outside",
        "The refund is written after the bill's transaction instead of inside it.",
        (
            (
                "billing.bills._give_back",
                'refunds.make(payment, rest, "surplus" if made.billed_wh else "zero_energy")',
                'transaction.on_commit(lambda: refunds.make(payment, rest, "surplus" if made.billed_wh else "zero_energy"))',
            ),
        ),
        by="kill sweep: the_worker_of_bills",
    ),
    # -- what needs something rare ---------------------------------------------------------
    Mutant(
        "refund_fresh_key",
        "A refund whose answer was lost is sent again under a fresh idempotency key, without asking.",
        (
            ("billing.refunds._call", "if found == State.ASKING and (theirs := _find(refund)):", "if False:"),
            ("billing.refunds._call", "refund.body, refund.key)", 'refund.body, f"{refund.key}-{refund.attempts}")'),
        ),
        shows="I2 I4",
        faults={"psp_lost": 0.5, "webhook_dropped": 0.6, "operator_stops": 0.4},
    ),
    Mutant(
        "refund_unknown_is_no",
        "No answer to a refund counts as a no: it has failed in our books, and happened at Razorpay.",
        (("billing.refunds._work", "_later(refund, None, str(silence), UNKNOWN_S)", "_refused(refund, silence)"),),
        shows="I2 I3 I4",
        faults={"psp_lost": 0.3, "unplugs_early": 0.8},
    ),
    Mutant(
        "failed_refund_forgotten",
        "A refund that fails later is not taken back in the books.",
        (("billing.refunds._fail", "    ledger.post(", "    source or ledger.post("),),
        shows="I2 I3",
        faults={"refund_fails": 0.7, "unplugs_early": 0.5},
    ),
    Mutant(
        "start_after_refund",
        "A permit outlives its money: neither revoked when that goes back, nor ever out of date.",
        (
            ("csms.permits.revoke", "permit.state, permit.ask_at = IdTag.State.REVOKED, None", "permit.ask_at = None"),
            ("csms.permits.grant", "expires_at=start_until,", "expires_at=None,"),
        ),
        shows="I17 I18",
        faults={"away_at_start": 0.8, "comes_late": 0.6},
    ),
    Mutant(
        "limit_ignored",
        "What was paid does not limit the session: nothing asks it to stop.",
        (("csms.starts._create", "limit_wh=permit.limit_wh if permit else", "limit_wh=None if permit else"),),
        shows="I17",
        faults={},
    ),
    Mutant(
        "transaction_of_anybody",
        "A transaction is looked up by its id alone, whichever charger names it.",
        (
            ("csms.metering._locked", 'f"{_SELECT}{where}', """f"{_SELECT.replace('charge_point_id = %s', '%s::bigint > 0')}{where}"""),
            ("csms.metering.stopped", "known[row.connector_id]", "known.get(row.connector_id) or next(iter(known.values()))"),
            ("csms.metering.metered", "known[row.connector_id]", "known.get(row.connector_id) or next(iter(known.values()))"),
        ),
        shows="I15",
        faults={"foreign_stop": 0.5},
    ),
    Mutant(
        "resume_for_ever",
        "A session goes on however long its charger was away (MAX_RESUME_GAP_S is not asked).",
        (("csms.rules.session._stale", "return session.state == State.SUSPENDED and", "return False and"),),
        shows="I20",
        faults={"workers_away": 0.15},
        plan=Plan(chargers=2, riders=10, busy_s=40 * 60),
    ),
    Mutant(
        "old_session_stays",
        "A new start does not end what was open on its connector.",
        (("csms.starts.start", "_supersede(connector, now)", "pass"),),
        shows="I13 I29",
        faults={"strange": 1.0, "card": 0.7, "workers_away": 0.05},
    ),
    Mutant(
        "remainder_forgotten",
        "The 1 to 99 paise that cannot go back are not booked.",
        (("billing.bills._books", "if end.remainder:", "if False:"),),
        shows="I3",
        faults={},
    ),
    Mutant(
        "payout_fresh_key",
        "A payout whose answer was lost is sent again under a fresh idempotency key, without asking.",
        (
            ("franchise.payouts._ask", "transfer = _find(payout, now) if payout.asked_at else None", "transfer = None"),
            (
                "franchise.payouts._ask",
                "razorpay.create_transfer(payout.body, payout.key)",
                "razorpay.create_transfer(payout.body, uuid.uuid4().hex)",
            ),
        ),
        shows="I7",
        faults={"psp_lost": 0.5, "webhook_dropped": 0.9},
    ),
    Mutant(
        "payout_unknown_is_no",
        "No answer to a payout counts as a no: a new attempt follows.",
        (
            (
                "franchise.payouts._ask",
                'return wait(payout.pk, now, f"Not known whether it happened: {why}")',
                "return transfers.fail(payout.pk, str(why), now)",
            ),
        ),
        shows="I7",
        faults={"psp_lost": 0.5, "webhook_dropped": 0.9},
    ),
    Mutant(
        "command_marked_late",
        "A command is not marked as sent before it goes out.",
        (
            (
                "csms.commands.next_to_send",
                'return command if still.update(state=command.state, sent_at=now, epoch=epoch, sealed="") else None',
                "return command",
            ),
        ),
        shows="I19",
        faults={},
    ),
)
