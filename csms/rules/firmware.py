"""What becomes of a firmware update. Pure.

Chargers repeat, skip and reorder what they say of it (1.6 §4.5; security whitepaper L01), so a state is only ever left forwards,
and the end is what a charger boots with: the version that was wanted, or another one.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class State(StrEnum):
    """The words of csms/models/firmware.py."""

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    SCHEDULED = "scheduled"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    INSTALLING = "installing"
    REBOOTING = "rebooting"
    INSTALLED = "installed"
    DOWNLOAD_FAILED = "download_failed"
    INSTALLATION_FAILED = "installation_failed"
    BAD_SIGNATURE = "bad_signature"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Verdict(StrEnum):
    ASKED = "asked"
    PROGRESS = "progress"
    INSTALLED = "installed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    RETRY = "retry"  # failed, and to be asked again at next_try_at
    ASK_AGAIN = "ask_again"  # next_try_at has come
    CANCELLED = "cancelled"
    DUPLICATE = "duplicate"
    OUT_OF_ORDER = "out_of_order"
    IDLE = "idle"
    UNKNOWN = "unknown_status"
    NOT_YET = "not_yet"
    ALREADY_OVER = "already_over"


# The way forward. An update that waits to be asked again stands before all of it.
WAY = (
    State.REQUESTED,
    State.ACCEPTED,
    State.SCHEDULED,
    State.DOWNLOADING,
    State.DOWNLOADED,
    State.INSTALLING,
    State.REBOOTING,
    State.INSTALLED,
)
RANK: dict[str, int] = {state: rank for rank, state in enumerate(WAY)}
MEANS: dict[str, State] = {
    "DownloadScheduled": State.SCHEDULED,
    "Downloading": State.DOWNLOADING,
    "DownloadPaused": State.DOWNLOADING,
    "Downloaded": State.DOWNLOADED,
    "SignatureVerified": State.DOWNLOADED,
    "InstallScheduled": State.DOWNLOADED,
    "Installing": State.INSTALLING,
    "InstallRebooting": State.REBOOTING,
    "Installed": State.REBOOTING,  # its word; the boot is the proof
}
FAILS: dict[str, State] = {
    "DownloadFailed": State.DOWNLOAD_FAILED,
    "InstallationFailed": State.INSTALLATION_FAILED,
    "InstallVerificationFailed": State.INSTALLATION_FAILED,
    "InvalidSignature": State.BAD_SIGNATURE,
}
# How long each phase may take, in seconds, before nothing more is waited for.
PHASE_S: dict[str, int] = {
    State.ACCEPTED: 2 * 3600,
    State.SCHEDULED: 24 * 3600,
    State.DOWNLOADING: 2 * 3600,
    State.DOWNLOADED: 6 * 3600,  # it may wait until its sessions have ended
    State.INSTALLING: 3600,
    State.REBOOTING: 1500,  # nobody asks it to boot: an accepted charger is not (errata 3.40)
}
UNANSWERED_S = 1800
# Asked again so long after a failed download, or after silence; then given up.
RETRY_S = (300, 1800, 7200)
# An update given up or rolled back, whose charger boots with the wanted version after all, has succeeded.
LATE = timedelta(days=1)
MAY_BE_LATE = {State.DOWNLOAD_FAILED, State.INSTALLATION_FAILED, State.ROLLED_BACK, State.EXPIRED}


@dataclass(frozen=True)
class Update:
    """One charger's update. `wanted` and `before` are versions; `said` is the charger's last status that counted."""

    state: str
    wanted: str
    before: str
    retrieve_at: datetime
    install_at: datetime | None = None
    attempts: int = 0
    said: str = ""
    error: str = ""
    to_version: str = ""
    next_try_at: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def rank(self) -> int:
        return RANK.get(self.state, -1)


@dataclass(frozen=True)
class Asked:
    """It is asked (again); the request waits for the charger until `until`."""

    until: datetime


@dataclass(frozen=True)
class Answered:
    """`status` of SignedUpdateFirmware.conf ("" of UpdateFirmware.conf, which has none), or `error` of a CALLERROR."""

    status: str = ""
    error: str = ""


@dataclass(frozen=True)
class Unanswered:
    """No answer came: the request was never sent, or it was, and may have been obeyed."""

    sent: bool


@dataclass(frozen=True)
class Said:
    """(Signed)FirmwareStatusNotification. `version` is what the charger last booted with."""

    status: str
    version: str = ""


@dataclass(frozen=True)
class Fetched:
    """It read from the download address; `whole`: up to the last byte."""

    whole: bool


@dataclass(frozen=True)
class Booted:
    version: str


@dataclass(frozen=True)
class TimePassed:
    pass


@dataclass(frozen=True)
class Cancelled:
    by: str = ""


Event = Asked | Answered | Unanswered | Said | Fetched | Booted | TimePassed | Cancelled


def same_version(one: str, other: str) -> bool:
    """Whether two versions are one, as people and chargers write them."""
    return one.strip().casefold() == other.strip().casefold()


def step(update: Update, event: Event, now: datetime) -> tuple[Update, Verdict]:
    """What this event makes of this update. Anything may come at any time; what does not fit changes nothing."""
    if isinstance(event, Booted):
        return _booted(update, event.version, now)
    if update.finished_at is not None:
        # Most say it after the boot that has ended the update.
        last_word = isinstance(event, Said) and event.status == "Installed" != update.said and update.state == State.INSTALLED
        return (replace(update, said="Installed"), Verdict.DUPLICATE) if last_word else (update, Verdict.ALREADY_OVER)
    match event:
        case Asked(until):
            waiting = replace(update, state=State.REQUESTED, attempts=update.attempts + 1, said="", error="", next_try_at=None)
            return replace(waiting, deadline_at=until + timedelta(seconds=UNANSWERED_S)), Verdict.ASKED
        case Answered(status, error):
            return _answered(update, status, error, now)
        case Unanswered(sent):
            if update.state != State.REQUESTED:
                return update, Verdict.NOT_YET
            if sent:  # a late answer, or what it does, may still come
                return replace(update, deadline_at=now + timedelta(seconds=UNANSWERED_S)), Verdict.NOT_YET
            return _failed(update, State.EXPIRED, "The charger was not there to be asked.", now, again=True)
        case Said(status, version):
            return _said(update, status, version, now)
        case Fetched(whole):
            return _forward(update, State.DOWNLOADED if whole else State.DOWNLOADING, update.said, now)
        case Cancelled(by):
            over = replace(update, state=State.CANCELLED, error=f"Cancelled by {by}."[:200] if by else "")
            return _over(over, now), Verdict.CANCELLED
        case TimePassed():
            return _time_passed(update, now)
    raise AssertionError(event)


def _answered(update: Update, status: str, error: str, now: datetime) -> tuple[Update, Verdict]:
    if update.state != State.REQUESTED:  # what it does came before what it answers
        return update, Verdict.DUPLICATE
    if not error and status in ("", "Accepted", "AcceptedCanceled"):
        return _into(update, State.ACCEPTED, "", now), Verdict.PROGRESS
    if status in ("InvalidCertificate", "RevokedCertificate"):
        return _failed(update, State.BAD_SIGNATURE, status, now)
    return _failed(update, State.REFUSED, error or status, now)


def _said(update: Update, status: str, version: str, now: datetime) -> tuple[Update, Verdict]:
    if status == "Idle":
        return update, Verdict.IDLE
    if status in FAILS:
        return _said_failed(update, status, now)
    if status not in MEANS:
        return update, Verdict.UNKNOWN
    if status == update.said and update.next_try_at is None:
        return update, Verdict.DUPLICATE
    if status == "Installed" and same_version(version, update.wanted):
        return _installed(update, version, status, now)
    return _forward(update, MEANS[status], status, now)


def _said_failed(update: Update, status: str, now: datetime) -> tuple[Update, Verdict]:
    if update.next_try_at is not None and status == update.said:
        return update, Verdict.DUPLICATE
    download = status == "DownloadFailed"
    # By what it said, not by what it fetched: a file that came whole may be refused all the same.
    if download and update.said in MEANS and RANK[MEANS[update.said]] >= RANK[State.DOWNLOADED]:
        return update, Verdict.OUT_OF_ORDER
    return _failed(replace(update, said=status), FAILS[status], status, now, again=download)


def _forward(update: Update, state: State, said: str, now: datetime) -> tuple[Update, Verdict]:
    """On to `state`, or nothing. A charger that goes on by itself need not be asked again."""
    if RANK[state] > update.rank:
        return _into(update, state, said, now), Verdict.PROGRESS
    if RANK[state] < update.rank:
        return update, Verdict.OUT_OF_ORDER
    if said == update.said:  # it fetches another piece
        return replace(update, deadline_at=_deadline(update, state, now)), Verdict.DUPLICATE
    return _into(update, state, said, now), Verdict.PROGRESS


def _into(update: Update, state: State, said: str, now: datetime) -> Update:
    return replace(update, state=state, said=said or update.said, error="", next_try_at=None, deadline_at=_deadline(update, state, now))


def _deadline(update: Update, state: State, now: datetime) -> datetime:
    begins = now
    if state in (State.ACCEPTED, State.SCHEDULED):
        begins = max(now, update.retrieve_at)
    elif state == State.DOWNLOADED and update.install_at is not None:
        begins = max(now, update.install_at)
    return begins + timedelta(seconds=PHASE_S[state])


def _booted(update: Update, version: str, now: datetime) -> tuple[Update, Verdict]:
    if not version.strip():
        return update, Verdict.NOT_YET
    wanted = same_version(version, update.wanted)
    if update.finished_at is not None:
        late = update.state in MAY_BE_LATE and now - update.finished_at <= LATE and not same_version(update.before, update.wanted)
        return _installed(update, version, update.said, now) if wanted and late else (update, Verdict.ALREADY_OVER)
    # It had this version before: only an installation can have brought it anew.
    if wanted and same_version(update.before, update.wanted) and update.rank < RANK[State.DOWNLOADED]:
        return update, Verdict.NOT_YET
    if wanted:
        return _installed(update, version, update.said, now)
    later = update.said == "InstallScheduled" or (update.install_at is not None and now < update.install_at)
    if update.rank >= RANK[State.INSTALLING] or (update.rank == RANK[State.DOWNLOADED] and not later):
        back = replace(update, state=State.ROLLED_BACK, to_version=version, error=f"Booted with {version}."[:200])
        return _over(back, now), Verdict.ROLLED_BACK
    return update, Verdict.NOT_YET


def _time_passed(update: Update, now: datetime) -> tuple[Update, Verdict]:
    if update.next_try_at is not None:
        return update, Verdict.ASK_AGAIN if now >= update.next_try_at else Verdict.NOT_YET
    if update.deadline_at is None or now < update.deadline_at:
        return update, Verdict.NOT_YET
    if update.rank < RANK[State.DOWNLOADED]:
        return _failed(update, State.EXPIRED, f"Nothing more was heard while {update.state}.", now, again=True)
    why = "It said Installed; no boot has shown it." if update.said == "Installed" else f"Nothing more was heard while {update.state}."
    return _failed(update, State.EXPIRED, why, now)


def _failed(update: Update, state: State, why: str, now: datetime, *, again: bool = False) -> tuple[Update, Verdict]:
    failed = replace(update, state=state, error=why[:200])
    if again and update.attempts <= len(RETRY_S):
        at = now + timedelta(seconds=RETRY_S[max(0, update.attempts - 1)])
        return replace(failed, next_try_at=at, deadline_at=at), Verdict.RETRY
    return _over(failed, now), Verdict.FAILED


def _installed(update: Update, version: str, said: str, now: datetime) -> tuple[Update, Verdict]:
    done = replace(update, state=State.INSTALLED, to_version=version, said=said, error="")
    return _over(done, now), Verdict.INSTALLED


def _over(update: Update, now: datetime) -> Update:
    return replace(update, next_try_at=None, deadline_at=None, finished_at=now)
