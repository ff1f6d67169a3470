"""What a socket knows of its charger, what it must do after a message, and what an action is: the words dispatch speaks in."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from csms.metering import Place
from csms.models import ChargingSession
from csms.quick import Arrived
from csms.rules.budget import Budgets
from csms.rules.clock import Offset
from csms.rules.habits import STANDARD, Habits


@dataclass
class Context:
    """What a socket knows of its charger; used by one message at a time. `effects` is what the socket must do after."""

    charge_point_pk: int
    cp_id: str
    epoch: int
    version: str = "1.6"
    heartbeat_s: int = 30
    habits: Habits = STANDARD
    # Whether it may be sent commands: it has booted here, or was accepted on an earlier connection and need not boot again.
    booted: bool = False
    booted_here: bool = False
    registration: str = "Accepted"
    unclaimed: bool = False
    # The serial number that its certificate bears: its boots must name the same.
    serial_proven: str = ""
    quirk_profile_pk: int | None = None
    quirk_settings: dict[str, Any] = field(default_factory=dict)
    # What it says it is: vendor, model, firmware.
    kind: tuple[str, str, str] = ("", "", "")
    # What its answers taught us, as it was when this socket was opened or booted.
    learned: dict[str, Any] = field(default_factory=dict)
    clock: Offset = field(default_factory=Offset)
    opened_at: datetime | None = None
    settles_at: datetime | None = None
    places: dict[UUID, Place] = field(default_factory=dict)
    # The session each connector moved last, as this socket wrote it (csms/quick.py).
    remembered: dict[int, ChargingSession] = field(default_factory=dict)
    seen_at: datetime | None = None
    heartbeat_at: datetime | None = None
    sent_at: datetime | None = None
    # Messages we asked for, which a charger that is not accepted yet may send.
    triggered: dict[str, "Triggered"] = field(default_factory=dict)
    # Secrets that went out, the last few: by the call's id what its answer must not repeat.
    hushed: dict[str, str] = field(default_factory=dict)
    # Calls sent on this socket whose effect a message of the charger shows (csms/outcomes.py).
    awaits: set[str] = field(default_factory=set)
    repeats: "OrderedDict[str, Repeat]" = field(default_factory=OrderedDict)
    effects: list["Effect"] = field(default_factory=list)
    budgets: Budgets = field(default_factory=Budgets)
    # When a session here last began or ended: what a tag was told before may no longer be so.
    moved_at: datetime | None = None

    def may_send(self, now: datetime) -> bool:
        """Whether anything may be sent to this charger now: nothing is before the first boot, nor while its habits want quiet."""
        if not self.booted:  # one that never boots by itself may be asked to (csms/boots.py: only)
            return self.habits.boot_trigger and self.registration == "Accepted"
        if self.registration == "Rejected":
            return False
        return self.booted_here or self.opened_at is None or now >= self.opened_at + timedelta(seconds=self.habits.quiet_s)

    def settled(self, now: datetime) -> bool:
        """Whether it has been here long enough for what nobody waits for."""
        return self.settles_at is None or now >= self.settles_at


@dataclass(frozen=True)
class Triggered:
    """A message we asked for, until when it counts as asked for, and by which command (of one connector, or of any)."""

    until: datetime
    command_pk: int
    connector_no: int | None = None


@dataclass(frozen=True)
class Changed:
    """The pages of this connector should look again."""

    connector_code: str


@dataclass(frozen=True)
class StopPlanned:
    """Unless a newer reading says otherwise, this session's stop is due then (None: no stop is due)."""

    session_id: int
    at: datetime | None


@dataclass(frozen=True)
class MaySend:
    """Nothing of ours is in flight any more: the next command may go out."""


@dataclass(frozen=True)
class Held:
    """Statuses were held back: settle them in a moment (dispatch.settle_held)."""


@dataclass(frozen=True)
class HangUp:
    """This line is to be closed, for a reason that stands in its row."""

    reason: str
    code: int


Effect = Changed | StopPlanned | MaySend | Held | HangUp


@dataclass(frozen=True)
class Reply:
    """What goes back, and what the log needs to know of it."""

    text: str
    correlation_id: str
    message_type: int
    action: str
    received_at: datetime
    note: str = ""
    # Whether the log keeps it: what a charger says too often is answered, and not written down (csms/floods.py).
    kept: bool = True
    # What was asked, when that was not written down before it was answered: the database was away. Written with the answer.
    heard: bytes = b""
    # What the log keeps of it, when it is not all that went out.
    shown: str = ""


@dataclass(frozen=True)
class Repeat:
    """What was answered to a message, in case it comes again under the same id with the same content."""

    content: int
    text: str
    at: datetime


@dataclass(frozen=True)
class Route:
    """One action: payload -> event -> deed -> answer. `fact`: the charger drops what we refuse, so we never refuse it.

    `quick` is the deed in one statement, frame included, where nothing out of the ordinary is told; None: it was.
    `tolerant`: what it lacks is not worth a refusal. `anew`: a repeat is answered anew (its answer tells the time).
    `before`: what must be asked of others first, outside of the transaction; bounded, and it refuses nothing.
    `away`: the answer when our database is away or our code fails, from memory (None: hold it); `held_s` is how long it waits.
    """

    read: Callable[..., Any]
    act: Callable[[Context, Any, datetime], tuple[dict[str, Any], str]]
    fact: bool = False
    fallback: Callable[[], dict[str, Any]] | None = None
    quick: Callable[[Context, Arrived, Any, datetime], dict[str, Any] | None] | None = None
    tolerant: bool = False
    anew: bool = False
    before: Callable[[Context, Any, datetime], None] | None = None
    away: Callable[[Context, Any, datetime, float], dict[str, Any] | None] | None = None
