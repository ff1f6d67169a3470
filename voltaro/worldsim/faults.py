"""What goes wrong, and how often: each world draws some of these, at strengths of its own (swarm testing)."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

# name: (chance of each time it could strike, at full strength; what it is)
CATALOGUE: dict[str, tuple[float, str]] = {
    # the line between a charger and us
    "frame_lost": (0.006, "the line dies before a frame reaches us"),
    "answer_lost": (0.008, "we have acted, and the answer is lost with the line"),
    "frame_twice": (0.03, "the very same frame arrives twice"),
    "line_dead": (0.5, "of the ends of lines: we do not hear of it, and believe in the old socket (frames under way still arrive)"),
    "away_minutes": (0.1, "of the ends: the charger is away for minutes"),
    "away_hours": (0.02, "of the ends: the charger is away for more than an hour, and keeps what it has to say"),
    "away_at_start": (0.02, "the line dies as a start is said, and comes back after the start was given up"),
    "flapping": (0.05, "of the ends: the line comes and goes again and again"),
    "storm": (0.02, "a whole mobile network is gone: every line ends at once (asked every minute)"),
    "connects_twice": (0.03, "a charger opens a second socket while the first one lives"),
    # us
    "killed": (0.00015, "a process is gone, between two statements, before or after a commit"),
    "killed_at_call": (0.006, "the same just before or just after a call to Razorpay"),
    "commit_unknown": (0.0006, "committed, but we are told it was not"),
    "deadlock": (0.0004, "PostgreSQL ends a transaction to break a deadlock"),
    "database_away": (0.03, "the database is away for 2 s to 10 minutes (asked every minute)"),
    "redis_away": (0.02, "Redis is away for 1 to 10 minutes: no bells, no wakes, no cache (asked every minute)"),
    "bell_lost": (0.12, "a bell does not ring"),
    "bell_twice": (0.04, "a bell rings twice"),
    "wake_lost": (0.1, "one process does not hear what another tells it"),
    "worker_late": (0.04, "a beat comes a minute late"),
    "beat_twice": (0.04, "two beats of one worker at the same moment"),
    "workers_away": (0.012, "no worker runs for 5 to 25 minutes, and some chargers are away as long (asked every minute)"),
    "worker_frozen": (0.004, "a worker sleeps for minutes with a call to Razorpay open, and goes on as if nothing had been"),
    # Razorpay
    "psp_refused": (0.05, "500, 429 or a proxy's page before the deed"),
    "psp_lost": (0.06, "the deed is done, and the answer is lost, torn, or 500"),
    "psp_slow": (0.06, "an answer takes up to 20 s, while the rest of the world goes on"),
    "psp_conflict": (0.02, "409: the same key is still being worked on"),
    "refund_fails": (0.06, "a refund is accepted, and fails later"),
    "refund_stays": (0.02, "a refund stays pending until somebody asks for hours"),
    "transfer_fails": (0.15, "a transfer is accepted, and fails later"),
    "transfer_reversed": (0.1, "a transfer that arrived is taken back by hand"),
    "balance_low": (0.02, "our balance does not cover what we ask"),
    "webhook_lost": (0.1, "a delivery does not reach us; it is tried again"),
    "webhook_dropped": (0.03, "an event never comes (but for that of a refund on the dashboard, which only reconciliation would find)"),
    "webhook_twice": (0.08, "a delivery arrives twice"),
    "webhook_renamed": (0.03, "the same payment is told again as a new event"),
    "webhook_late": (0.05, "an event waits for 1 to 20 minutes"),
    "webhook_forged": (0.04, "somebody else sends an event about money that never came"),
    "webhook_old_secret": (0.05, "an event is signed with the secret before this one"),
    "sticker_replaced": (0.02, "the QR of an outlet is closed, and another made (asked every minute)"),
    "old_sticker": (0.3, "somebody pays with the photograph of a sticker that was replaced"),
    "refunded_by_hand": (0.02, "somebody refunds a payment on Razorpay's dashboard"),
    # chargers
    "reboot": (0.5, "this charger restarts in the middle of sessions, and goes on with them or ends them"),
    "drop": (0.3, "this charger drops its line for seconds now and then"),
    "wrong_meter": (0.4, "now and then one sample reads zero or far too much"),
    "late_stop": (0.4, "this charger obeys a remote stop 15 to 30 s later"),
    "ignore_remote_stop": (0.2, "this charger accepts remote stops and goes on"),
    "duplicate": (0.5, "this charger sends transaction frames twice, some with a new id"),
    "strange": (0.6, "this charger has one or two of the strange habits of real ones"),
    "own_tag": (0.1, "this charger starts under a tag of its own"),
    "stop_reads_low": (0.2, "the last register of a transaction says a fourth less of this charger's energy than its readings"),
    "same_serial": (0.1, "this charger says the serial number of another"),
    "reads_at_stop": (0.1, "this charger says no reading before its stop, which brings them all (transactionData)"),
    "reads_seldom": (0.15, "this charger reads every five minutes"),
    "tells_intervals": (0.12, "this charger's readings say what flowed since the one before, and no register"),
    "start_reads_zero": (0.1, "this charger's starts say the register 0, whatever it is"),
    "main_meter": (0.15, "this charger also reads its building's meter, at connector 0"),
    "idle_draw": (0.2, "this charger's readings say some watts when nothing flows"),
    "restart": (0.01, "a charger restarts in the middle of a session and is back within a minute (asked every minute and charger)"),
    "mute": (0.002, "for hours a charger goes on with heartbeats only, though it charges (asked every minute and charger)"),
    "faulted": (0.004, "a connector is out of order for a minute in the middle of a session (asked every minute and charger)"),
    "meter_reset": (0.01, "the register begins again at 0 (asked every minute and running session)"),
    "meter_back": (0.015, "the register goes back by some kWh"),
    "meter_jump": (0.008, "the register jumps by 10 MWh, and stays there"),
    "meter_unread": (0.015, "the register shows 0 for some samples, as if its meter were unplugged, and then the truth again"),
    "meter_frozen": (0.01, "the register stands still though current flows"),
    "clock_wrong": (0.02, "a charger's clock is set to an hour or days before or after (asked every minute and charger)"),
    "foreign_stop": (0.02, "a charger speaks of another charger's transaction (asked every minute and charger)"),
    # people
    "card": (0.12, "somebody comes with a card instead of money; one in three is nobody's"),
    "pays_twice": (0.06, "a rider pays twice within seconds"),
    "never_comes": (0.05, "a rider pays and never plugs in"),
    "comes_late": (0.08, "a rider plugs in minutes after paying"),
    "unplugs_early": (0.1, "a rider unplugs in the middle, or before anything flows"),
    "overstays": (0.08, "a car stays for long after its charge"),
    "operator_stops": (0.04, "the operator stops a session, perhaps while it ends"),
    "tariff_edited": (0.03, "the price changes (asked every minute)"),
    "reassigned": (0.01, "a charger is given to another franchisee (asked every minute)"),
    "account_changed": (0.01, "a franchisee gives another bank account (asked every minute)"),
    "held_payouts": (0.01, "the operator holds a franchisee's payouts, and lets them go later (asked every minute)"),
}
OF_THE_CHARGER = ("reboot", "drop", "wrong_meter", "late_stop", "ignore_remote_stop", "duplicate")
OF_THE_METER = ("stop_reads_low", "reads_at_stop", "tells_intervals", "start_reads_zero", "main_meter", "idle_draw")
DRAWN = 0.75
STRENGTHS = (0.4, 1.0, 2.0)


@dataclass
class Faults:
    """The faults of one world. `on` until the world grows calm.

    `only`: no others than these. `without`: single firings that do not happen, as (name, the how manieth time it could have struck).
    `tape`: no firing but these. `chances`: these faults, each with the chance given instead of what is drawn.
    """

    dice: random.Random
    only: frozenset[str] | None = None
    without: frozenset[tuple[str, int]] = frozenset()
    tape: frozenset[tuple[str, int]] | None = None
    chances: dict[str, float] | None = None
    on: bool = True
    strength: dict[str, float] = field(default_factory=dict)
    struck: list[tuple[str, int]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for name in CATALOGUE:
            drawn, strength = self.dice.random() < DRAWN, self.dice.choice(STRENGTHS)
            if drawn and (self.only is None or name in self.only):
                self.strength[name] = strength
        if self.chances is not None:
            self.strength = {name: chance / CATALOGUE[name][0] for name, chance in self.chances.items()}

    def strikes(self, name: str, dice: random.Random) -> bool:
        """Whether it strikes now. The dice are thrown in any case, so that a world without a fault differs by that fault alone."""
        thrown = dice.random()
        if not self.on:
            return False
        self.asked[name] += 1
        firing = (name, self.asked[name])
        if self.tape is not None:
            if firing not in self.tape:
                return False
        elif thrown >= CATALOGUE[name][0] * self.strength.get(name, 0.0) or firing in self.without:
            return False
        self.struck.append(firing)
        return True

    def any_of(self, names: Iterable[str], dice: random.Random) -> list[str]:
        return [name for name in names if self.strikes(name, dice)]
