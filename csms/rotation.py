"""Changing a charger's key: by asking it (ChangeConfiguration AuthorizationKey), or by hand.

The new key is in no row: a command holds a nonce, from which the key is derived when the frame is made (csms/credentials.py).
What it hashes to is written before the frame is sent, because the charger may come back before its answer is known (OCPP 1.6
security whitepaper, A01): until the first connect with the new key both open the door.
"""

import re
from dataclasses import replace as replace_in
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from accounts import audit
from csms import alerts, commands, credentials
from csms.frames import Frame
from csms.models import Alert, ChargePoint, Command, CommandState
from csms.rules import secrecy
from voltaro import clock
from voltaro.jobs import each

KEY = "AuthorizationKey"
# How long the command waits for a charger that is away.
WAITS_S = 24 * 3600
ALERT = "key_unused"
# CALLERRORs that say that nothing was done; after any other the new key may be in place.
NOT_DONE = ("NotImplemented", "NotSupported", "FormationViolation", "PropertyConstraintViolation", "TypeConstraintViolation",
            "OccurenceConstraintViolation", "SecurityError", "ProtocolError")  # fmt: skip
_LIKE_A_KEY = re.compile(rb"[0-9a-fA-F]{40}")


@transaction.atomic
def rotate_key(charge_point: ChargePoint, by: str = "") -> Command:
    """Ask the charger to take a new key. Raises ValidationError while another one waits, or when nothing may be sent to it."""
    now = clock.now()
    row = _locked(charge_point)
    if row.pending_credentials_hash:
        since = timezone.localtime(row.pending_since or now)
        raise ValidationError(f"A new key waits since {since:%d %b %H:%M}: it must be used, or withdrawn, before another is made.")
    if row.blocked or row.unclaimed:
        raise ValidationError(f"{row} is {'blocked' if row.blocked else 'not claimed yet'}: nothing is sent to it.")
    nonce = credentials.new_nonce()
    row.pending_credentials_hash = credentials.hashed(row.cp_id, credentials.derived_key(row.cp_id, nonce))
    row.pending_since = now
    row.save(update_fields=["pending_credentials_hash", "pending_since"])
    audit.record("credentials.change_asked", row)
    return _ask(row, nonce, 1, by)


@transaction.atomic
def send_again(charge_point: ChargePoint, by: str = "") -> Command:
    """Ask once more for the very same key, after an answer was lost: whichever of the two the charger holds, it is let in.

    Raises ValidationError when there is nothing to send again.
    """
    row = _locked(charge_point)
    asked = list(of(row))
    if not asked or not asked[0].secret:
        raise ValidationError("There is no new key that could be sent again.")
    if asked[0].state in commands.OPEN:
        raise ValidationError("It is being asked just now.")
    audit.record("credentials.change_asked", row, trigger="again")
    return _ask(row, asked[0].secret, len(asked) + 1, by)


def _ask(row: ChargePoint, nonce: str, number: int, by: str) -> Command:
    command = commands.request(
        row,
        "ChangeConfiguration",
        {"key": KEY, "value": secrecy.MASK},
        trigger="key rotation",
        dedupe_key=f"{_name(row)}:{number}",
        expires_in_s=WAITS_S,
        requested_by=by,
    )
    command.secret = nonce
    command.save(update_fields=["secret"])
    return command


def of(row: ChargePoint) -> QuerySet[Command]:
    """The commands that ask for the key which waits, the newest first."""
    mine = Command.objects.filter(charge_point=row, dedupe_key__startswith=f"{_name(row)}:")
    return (mine if row.pending_credentials_hash else mine.none()).order_by("-id")


@transaction.atomic
def withdraw(charge_point: ChargePoint, by: str = "") -> None:
    """The new key opens nothing any more. A charger that has taken it all the same is locked out: whoever asks must know."""
    row = _locked(charge_point)
    if not row.pending_credentials_hash:
        raise ValidationError("No new key waits.")
    _forget(row, clock.now(), "withdrawn", by)


@transaction.atomic
def new_key_by_hand(charge_point: ChargePoint) -> str:
    """Replace the key by a new one, which is returned, once: for a charger in which it is set by hand. The old one opens nothing."""
    key = credentials.new_key()
    row = _locked(charge_point)
    now = clock.now()
    if row.pending_credentials_hash:
        _forget(row, now, "replaced by hand")
    replace(row, key, now)
    row.save()
    audit.record("credentials.replaced", row, trigger="by hand")
    return key


def replace(row: ChargePoint, key: str, now: datetime) -> None:
    """This key and no other, from now on. The caller holds the row and saves it."""
    row.security_profile = max(1, row.security_profile)
    row.credentials_hash = credentials.hashed(row.cp_id, key)
    row.pending_credentials_hash, row.credentials_at = "", now
    row.pending_since = row.pending_since if row.pending_security_profile is not None else None


# -- at the wire -------------------------------------------------------------------------------------------------------
def payload_of(command: Command, cp_id: str) -> dict[str, Any]:
    """What is sent for a command: with the key, or the secret, in it, where the command is about one."""
    if command.secret_payload is not None:
        return command.secret_payload
    return {**command.payload, "value": credentials.derived_key(cp_id, command.secret)} if command.secret else command.payload


def without_key(raw: bytes, frame: Frame, charge_point_pk: int, cp_id: str) -> tuple[bytes, Frame]:
    """An answer without the key that it may repeat, before anybody keeps it."""
    if not _LIKE_A_KEY.search(raw):
        return raw, frame
    asked = Command.objects.filter(charge_point_id=charge_point_pk, unique_id=frame.correlation_id).exclude(secret="")
    if not (nonce := asked.values_list("secret", flat=True).first()):
        return raw, frame
    key = credentials.derived_key(cp_id, nonce)
    said = secrecy.without(frame.description.encode(), key).decode()
    return secrecy.without(raw, key), replace_in(frame, payload=secrecy.scrubbed(frame.payload, key), description=said)


def answered(command: Command, now: datetime) -> None:
    """The charger's word on its new key. It becomes the only one by being used, not by being accepted."""
    if not (command.dedupe_key or "").startswith("rotation:"):
        return
    row = _locked(command.charge_point)
    if not _is_about(command, row):
        return  # the key has been used already, or withdrawn
    status = str((command.response or {}).get("status", ""))
    if status in ("Accepted", "RebootRequired"):
        command.state, command.settled_at = CommandState.ACCEPTED, None
        command.expires_at = now + timedelta(days=settings.PENDING_KEY_DAYS)
        command.note = "Both keys open the door until it comes in with the new one."
        if status == "RebootRequired":
            command.note = "It will use the new key after a restart; until then both open the door."
        command.save(update_fields=["state", "settled_at", "expires_at", "note"])
        audit.record("credentials.accepted", row, trigger=status)
    elif status or command.error.startswith(NOT_DONE):
        _forget(row, now, f"the charger said {status or command.error.partition(':')[0]}")
    # Else it may have taken it: both stay.


def ended(command: Command, now: datetime) -> None:
    """Time settled it. What was never sent is in no charger; what was, may be."""
    if (command.dedupe_key or "").startswith("rotation:") and command.dedupe_key.endswith(":1") and command.sent_at is None:
        row = _locked(command.charge_point)
        if _is_about(command, row):
            _forget(row, now, "not sent in time, or taken back")


def used(row: ChargePoint, now: datetime) -> None:
    """It came in with the new key: the old one opens nothing any more, nor does having none. The caller holds the row and saves it."""
    asked = of(row)
    commands.effective(asked, now, "It came in with the new key.")
    asked.exclude(secret="").update(secret="", updated_at=now)
    row.credentials_hash, row.pending_credentials_hash, row.credentials_at = row.pending_credentials_hash, "", now
    if row.pending_security_profile is None:
        row.pending_since = None
        alerts.clear(row.pk, ALERT, now)
    audit.record("credentials.changed", row)
    if row.security_profile == 0:
        row.security_profile = 1
        audit.record("security_profile.raised", row, before={"profile": 0}, after={"profile": 1}, trigger="its first key")


# -- keys that nobody uses ---------------------------------------------------------------------------------------------
def to_alert(now: datetime) -> QuerySet[ChargePoint]:
    """New keys, and higher profiles, that wait for their first use for PENDING_KEY_DAYS, and of which nobody was told yet."""
    told = Alert.objects.filter(charge_point=OuterRef("pk"), kind=ALERT, raised_at__gte=OuterRef("pending_since"))
    late = ChargePoint.objects.filter(pending_since__lt=now - timedelta(days=settings.PENDING_KEY_DAYS))
    return late.exclude(Exists(told)).order_by("pending_since")


def alert_due(now: datetime, limit: int) -> int:
    """Tell a person: the charger may be away, may need a restart, or may never have taken it."""
    rows = {row.pk: row for row in to_alert(now)[:limit]}

    def tell(pk: int) -> bool:
        what = "A new key" if rows[pk].pending_credentials_hash else f"Security profile {rows[pk].pending_security_profile}"
        return alerts.raise_alert(pk, ALERT, f"{what} was asked for {settings.PENDING_KEY_DAYS} days ago and has not been used.", now)

    return each(rows, tell, "charge point")


# -- helpers -----------------------------------------------------------------------------------------------------------
def _locked(charge_point: ChargePoint) -> ChargePoint:
    return ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point.pk)


def _name(row: ChargePoint) -> str:
    """What the commands about the key that waits are known by. Of a hash, so that a later key's are others."""
    return f"rotation:{row.pk}:{row.pending_credentials_hash[:32]}"


def _is_about(command: Command, row: ChargePoint) -> bool:
    return bool(row.pending_credentials_hash) and (command.dedupe_key or "").startswith(f"{_name(row)}:")


def _forget(row: ChargePoint, now: datetime, why: str, by: str = "") -> None:
    asked = of(row)
    asked.filter(state=CommandState.QUEUED).update(state=CommandState.EXPIRED, settled_at=now, error=f"Not sent: {why}.", updated_at=now)
    asked.exclude(secret="").update(secret="", updated_at=now)
    row.pending_credentials_hash = ""
    row.pending_since = row.pending_since if row.pending_security_profile is not None else None
    row.save(update_fields=["pending_credentials_hash", "pending_since"])
    if row.pending_since is None:
        alerts.clear(row.pk, ALERT, now, by)
    audit.record("credentials.change_dropped", row, trigger=why)
