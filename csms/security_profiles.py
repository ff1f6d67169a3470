"""Security profiles of a charger: raised by asking it (ChangeConfiguration SecurityProfile), never lowered through it.

Until the charger comes in as the higher profile asks, the lower one is served too (OCPP 1.6 security whitepaper, A05): one
that cannot connect in the new way falls back. From then on the lower one is refused. Hardware is replaced, so a person may
lower it here, with a reason, and everybody sees it.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from accounts import audit
from csms import alerts, certificates, commands, rotation
from csms.models import ChargePoint, Command, CommandState, Connection
from csms.rules.security import PROFILES, WORDS, may_raise
from voltaro import clock

KEY = "SecurityProfile"
LOWERED = "profile_lowered"


@transaction.atomic
def ask_for(charge_point: ChargePoint, target: int, by: str = "") -> Command:
    """Ask the charger to connect under a higher profile. Raises ValidationError with a sentence when it may not be asked."""
    now = clock.now()
    row = _locked(charge_point)
    if row.pending_security_profile is not None:
        raise ValidationError(f"Security profile {row.pending_security_profile} waits to be used already.")
    if row.blocked:
        raise ValidationError(f"{row} is blocked: nothing is sent to it.")
    has_key = bool(row.credentials_hash or row.pending_credentials_hash)
    if why := may_raise(row.security_profile, target, has_key=has_key, has_certificate=certificates.proven(row.pk, now)):
        raise ValidationError(why)
    row.pending_security_profile, row.pending_since = target, now
    row.save(update_fields=["pending_security_profile", "pending_since"])
    audit.record("security_profile.asked", row, before={"profile": row.security_profile}, after={"profile": target})
    return commands.request(
        row,
        "ChangeConfiguration",
        {"key": KEY, "value": str(target)},
        trigger="security profile",
        dedupe_key=f"{_name(row)}{now.timestamp():.6f}",
        expires_in_s=rotation.WAITS_S,
        requested_by=by,
    )


@transaction.atomic
def require(charge_point: ChargePoint, target: int) -> None:
    """Make a profile the least, without asking the charger: it connects that way by itself already.

    Raises ValidationError when its newest connection did not, or the profile is no higher.
    """
    row = _locked(charge_point)
    if target not in PROFILES or target <= row.security_profile:
        raise ValidationError(f"Its security profile is {row.security_profile} already.")
    if target in (1, 2) and not row.credentials_hash:
        raise ValidationError("It has no key: make one first.")
    if target > comes_as(row):
        raise ValidationError(f"It does not connect like that: {WORDS[target]}.")
    audit.record("security_profile.raised", row, before={"profile": row.security_profile}, after={"profile": target}, trigger="by hand")
    _settle(row, target, clock.now())


@transaction.atomic
def lower(charge_point: ChargePoint, target: int, reason: str, by: str = "") -> None:
    """A person lowers what is asked of a charger; 0 lets it in without a key. Raises ValidationError without a reason."""
    now, reason = clock.now(), reason.strip()[:200]
    row = _locked(charge_point)
    if not reason:
        raise ValidationError("Say why: everybody will see it.")
    if target not in PROFILES or target >= row.security_profile:
        raise ValidationError(f"Its security profile is {row.security_profile}: that is not lower.")
    if target and not row.credentials_hash:
        raise ValidationError("It has no key: make one first.")
    before = row.security_profile
    if target == 0 and row.pending_credentials_hash:
        rotation.withdraw(row)
        row.refresh_from_db()
    if target == 0:
        row.credentials_hash, row.credentials_at = "", None
    _settle(row, target, now)
    audit.record("security_profile.lowered", row, before={"profile": before}, after={"profile": target}, trigger=reason[:80])
    alerts.raise_alert(row.pk, LOWERED, f"From {before} to {target} by {by or 'a person'}: {reason}", now)


@transaction.atomic
def withdraw(charge_point: ChargePoint) -> None:
    """The higher profile is not waited for any more. (A charger that has moved to it meets the lower one too: it comes in.)"""
    row = _locked(charge_point)
    if row.pending_security_profile is None:
        raise ValidationError("No higher profile waits.")
    _forget(row, clock.now(), "withdrawn")


def comes_as(row: ChargePoint) -> int:
    """The highest profile that what it showed on its newest connection was good for."""
    newest = Connection.objects.filter(charge_point=row).order_by("-epoch").values_list("security_profile", flat=True).first()
    return newest or 0


# -- at the wire -------------------------------------------------------------------------------------------------------
def answered(command: Command, now: datetime) -> None:
    """The charger's word on the higher profile. It counts once it was used."""
    if not (command.dedupe_key or "").startswith("profile:"):
        return
    row = _locked(command.charge_point)
    if of(row) != command:
        return  # it has been used already, or withdrawn
    status = str((command.response or {}).get("status", ""))
    if status in ("Accepted", "RebootRequired"):
        command.state, command.settled_at = CommandState.ACCEPTED, None
        command.expires_at = now + timedelta(days=settings.PENDING_KEY_DAYS)
        command.note = "Both profiles are served until it comes in with the higher one."
        command.save(update_fields=["state", "settled_at", "expires_at", "note"])
    elif status or command.error.startswith(rotation.NOT_DONE):
        _forget(row, now, f"the charger said {status or command.error.partition(':')[0]}")


def ended(command: Command, now: datetime) -> None:
    """Time settled it: what was never sent, nobody waits for."""
    if (command.dedupe_key or "").startswith("profile:") and command.sent_at is None:
        row = _locked(command.charge_point)
        if of(row) == command:
            _forget(row, now, "not sent in time, or taken back")


def used(row: ChargePoint, now: datetime) -> None:
    """It came in as the higher profile asks: from now on the lower one is refused. The caller holds the row and saves it."""
    before, target = row.security_profile, row.pending_security_profile
    commands.effective(Command.objects.filter(charge_point=row, dedupe_key__startswith=_name(row)), now, "It came in like that.")
    row.security_profile, row.pending_security_profile = target, None
    if not row.pending_credentials_hash:
        row.pending_since = None
        alerts.clear(row.pk, rotation.ALERT, now)
    audit.record("security_profile.raised", row, before={"profile": before}, after={"profile": target})


# -- helpers -----------------------------------------------------------------------------------------------------------
def _locked(charge_point: ChargePoint) -> ChargePoint:
    return ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point.pk)


def _name(row: ChargePoint) -> str:
    """What the commands that ask for the waiting profile begin with; the newest is the one it waits for."""
    return f"profile:{row.pk}:{row.pending_security_profile}:"


def of(row: ChargePoint) -> Command | None:
    """The command that asks for the profile which waits."""
    if row.pending_security_profile is None:
        return None
    return Command.objects.filter(charge_point=row, dedupe_key__startswith=_name(row)).order_by("-id").first()


def _settle(row: ChargePoint, profile: int, now: datetime) -> None:
    if row.pending_security_profile is not None:
        _forget(row, now, "replaced by hand")
    row.security_profile = profile
    row.save(update_fields=["security_profile", "credentials_hash", "credentials_at"])


def _forget(row: ChargePoint, now: datetime, why: str) -> None:
    waiting = Command.objects.filter(charge_point=row, dedupe_key__startswith=_name(row), state=CommandState.QUEUED)
    waiting.update(state=CommandState.EXPIRED, settled_at=now, error=f"Not sent: {why}.", updated_at=now)
    target, row.pending_security_profile = row.pending_security_profile, None
    row.pending_since = row.pending_since if row.pending_credentials_hash else None
    row.save(update_fields=["pending_security_profile", "pending_since"])
    if row.pending_since is None:
        alerts.clear(row.pk, rotation.ALERT, now)
    audit.record("security_profile.change_dropped", row, after={"profile": target}, trigger=why[:80])
