"""What may be asked of this charger: the payload as it will go, or a sentence why it cannot.

The standard's schema is held first, then what we know of this very charger: its door, its registration, its habits, its
connectors, its sessions. What only the charger can know is left to its answer.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q

from csms import calls, frames, quirks, schemas, tags, timestamps
from csms.models import Availability, ChargePoint, ChargingSession, Command, CommandState, Connector, IdTag, Registration, SessionState
from csms.rules.secrecy import is_own_key

# Changing these locks a charger out when the answer is lost: they have their own way, with both values good until one was used.
ROTATED = {
    "authorizationkey": "The key is nobody's to read or to type: change it with “New key” on the charger's security page.",
    "securityprofile": "The security profile is raised on the charger's security page, which keeps the old one until the new one works.",
}
# Least connector number each call may name; what is not here names connectors from 1 (1.6 §5).
FROM_ZERO = {"ChangeAvailability", "ClearChargingProfile", "GetCompositeSchedule", "ReserveNow", "SetChargingProfile"}
# For a start, the best connector first: a car that is plugged in.
MAY_START = ("Preparing", "SuspendedEVSE", "Finishing", "Available", "Unknown", "")
MAX_CONNECTOR = 2**31 - 1


@dataclass(frozen=True)
class Askable:
    """What will be sent. `again`: the same is being asked already, this is its row."""

    payload: dict[str, Any]
    session: ChargingSession | None = None
    note: str = ""
    again: Command | None = None


def prepared(charge_point: ChargePoint, action: str, payload: dict[str, Any], now: datetime) -> Askable:
    """What asking this would send. Raises ValidationError (`code` says which kind of no it is)."""
    payload = dict(calls.check(action, payload))
    may_be_asked(charge_point, action)
    _not_ours_to_set(action, payload)
    connectors = _connectors(charge_point, action, payload)
    found = Askable(payload)
    if action == "RemoteStartTransaction":
        found = _start(charge_point, payload, connectors, now)
    elif action == "RemoteStopTransaction":
        found = _stop(charge_point, payload)
    elif action == "TriggerMessage" and payload["requestedMessage"] == "BootNotification":
        _no_second_boot(charge_point)
    _short_enough(charge_point, action, found.payload)
    return found


def may_be_asked(charge_point: ChargePoint, action: str) -> None:
    """Whether this call may be asked of this charger at all. Raises ValidationError with a sentence."""
    if charge_point.unclaimed and action != "GetConfiguration":
        raise ValidationError(f"{charge_point} is not claimed yet: only its configuration can be read.", "not_accepted")
    if charge_point.blocked:
        raise ValidationError(f"{charge_point} is blocked: nothing is sent to it.", "blocked")
    if charge_point.registration == Registration.REJECTED:
        raise ValidationError(f"{charge_point} is rejected: nothing is sent to it.", "not_accepted")
    if charge_point.registration != Registration.ACCEPTED and action not in calls.BEFORE_ACCEPTED:
        raise ValidationError(
            f"{charge_point} is {charge_point.registration}: until it is accepted it can be asked only {', '.join(calls.BEFORE_ACCEPTED)}.",
            "not_accepted",
        )
    if action in quirks.of(charge_point).commands_unsupported:
        raise ValidationError(f"{charge_point} does not take {action} (its quirk profile says so).", "unsupported")


def moment(payload: dict[str, Any], name: str) -> datetime | None:
    """The time of this field; None when it is left out. Raises ValidationError for what is none."""
    said = payload.get(name)
    at = timestamps.read(said) if said is not None else None
    if said is not None and at is None:
        raise ValidationError(f"{name}: {str(said)[:40]} is no time (like 2026-01-31T18:00:00Z).", "payload")
    return at


def printable(payload: dict[str, Any]) -> None:
    """Raises ValidationError for what no row can hold, and no charger can want."""
    if frames.clean_json(payload) != payload:
        raise ValidationError("There is a control character in it.", "payload")


def _not_ours_to_set(action: str, payload: dict[str, Any]) -> None:
    printable(payload)
    if action != "ChangeConfiguration":
        return
    if why := ROTATED.get(payload["key"].strip().casefold()):
        raise ValidationError(why, "own_way")
    if is_own_key(payload["key"]):
        raise ValidationError(f"{payload['key'][:50]} is its key to us: change it with “New key” on its security page.", "own_way")


def _short_enough(charge_point: ChargePoint, action: str, payload: dict[str, Any]) -> None:
    limit = quirks.of(charge_point).max_frame_bytes or settings.MAX_FRAME_BYTES
    size = len(frames.call(str(uuid.UUID(int=0)), action, payload).encode())
    if size > limit:
        raise ValidationError(f"That is {size} bytes on the wire; {charge_point} takes {limit} at most.", "too_long")


def _connectors(charge_point: ChargePoint, action: str, payload: dict[str, Any]) -> list[Connector]:
    """The charger's connectors, where the call may name one; a number it does not have is refused."""
    if "connectorId" not in schemas.properties(action):
        return []
    known = list(Connector.objects.filter(charge_point=charge_point.cp_id).order_by("connector_id"))
    number, numbers = payload.get("connectorId"), [one.connector_id for one in known]
    if number is None or (number == 0 and action == "RemoteStartTransaction"):  # then we choose one
        return known
    if number == 0 and action not in FROM_ZERO:
        raise ValidationError("Connectors count from 1.", "connector")
    if not 0 <= number <= MAX_CONNECTOR or (number and numbers and number not in numbers):
        has = f"it has {', '.join(map(str, numbers))}" if numbers else "they count from 1"
        raise ValidationError(f"{charge_point} has no connector {number}: {has}.", "connector")
    return known


def _start(charge_point: ChargePoint, payload: dict[str, Any], connectors: list[Connector], now: datetime) -> Askable:
    """A connector is always named, from 1: some chargers refuse a start without one, or for 0."""
    note = _tag(charge_point, payload, now)
    busy = _busy(charge_point, now)
    number = payload.get("connectorId")
    if not number:
        free = [one for one in connectors if one.connector_id not in busy and one.status in MAY_START]
        free = [one for one in free if one.availability_wanted == Availability.OPERATIVE] or free
        if not free and connectors:
            raise ValidationError(f"No connector of {charge_point} is free.", "connector")
        number = min(free, key=lambda one: MAY_START.index(one.status)).connector_id if free else 1
    payload["connectorId"] = number
    if (again := _asked_already(charge_point, payload, now)) is not None:
        return Askable(payload, again=again)
    if number in busy:
        raise ValidationError(f"Connector {number} of {charge_point} {busy[number]}.", "busy")
    return Askable(payload, note=note)


def _tag(charge_point: ChargePoint, payload: dict[str, Any], now: datetime) -> str:
    """A tag that certainly may not charge is not asked for; one we do not know may be known elsewhere."""
    tag = payload["idTag"].strip()
    if not tags.normal(tag) or not tag.isprintable() or not tag.isascii():
        raise ValidationError("A tag is up to 20 letters and digits.", "tag")
    payload["idTag"], habits = tag, quirks.of(charge_point)
    permit = tags.find(tag, habits)
    if permit is not None and permit.kind == IdTag.Kind.ONE_TIME:
        raise ValidationError("That tag belongs to a payment: the charger is asked for it by itself.", "tag")
    answer = tags.judge(permit, charge_point.pk, None, now, tag=tag, habits=habits)
    if permit is not None and not answer.accepted:
        raise ValidationError(f"Tag {permit} may not charge: {answer.status}.", "tag")
    return "" if answer.accepted else "The tag is not one of ours: the start may be refused."


def _busy(charge_point: ChargePoint, now: datetime) -> dict[int, str]:
    """Connectors at which nobody else can start, and why."""
    live = ChargingSession.objects.filter(charge_point=charge_point).exclude(state=SessionState.STOPPED)
    paid = IdTag.objects.filter(
        connector__charge_point=charge_point.cp_id, kind=IdTag.Kind.ONE_TIME, state=IdTag.State.READY, start_until__gt=now
    )
    busy = dict.fromkeys(paid.values_list("connector__connector_id", flat=True), "waits for somebody who has paid")
    return busy | dict.fromkeys(live.values_list("connector__connector_id", flat=True), "is charging already")


def _asked_already(charge_point: ChargePoint, payload: dict[str, Any], now: datetime) -> Command | None:
    """The open start of the same tag at this connector (a double click is one start). Another tag's is a refusal."""
    for command in open_starts(charge_point.pk, now):
        if command.payload.get("connectorId") != payload["connectorId"] or command.permit_id is not None:
            continue
        if tags.normal(str(command.payload.get("idTag"))) == tags.normal(payload["idTag"]):
            return command
        raise ValidationError(f"A start at connector {payload['connectorId']} is being asked already.", "busy")
    return None


def open_starts(charge_point_pk: int, now: datetime) -> list[Command]:
    """RemoteStartTransactions that may still become a session, the newest first."""
    mine = Command.objects.filter(charge_point_id=charge_point_pk, action="RemoteStartTransaction")
    waiting = Q(state=CommandState.QUEUED, expires_at__gt=now) | Q(state=CommandState.SENT)
    promised = Q(state__in=[CommandState.ACCEPTED, CommandState.TIMEOUT, CommandState.UNKNOWN], expires_at__gt=now)
    return list(mine.filter(waiting | promised, created_at__gt=now - timedelta(hours=1)).order_by("-id")[:20])


def _stop(charge_point: ChargePoint, payload: dict[str, Any]) -> Askable:
    mine = ChargingSession.objects.filter(charge_point=charge_point, transaction_id=str(payload["transactionId"]))
    session = mine.exclude(state=SessionState.STOPPED).first()
    return Askable(payload, session, "" if session else f"No session of transaction {payload['transactionId']} is running here.")


def _no_second_boot(charge_point: ChargePoint) -> None:
    if charge_point.registration == Registration.ACCEPTED and charge_point.last_boot is not None:  # errata 3.40
        raise ValidationError("An accepted charger is not asked to boot again (errata 3.40): restart it instead.", "unsupported")
