"""What a charger's answers taught us of its firmware: calls it does not know, messages it cannot be asked for.

Kept in `ChargePoint.learned` under "refused", for one firmware only: with a new one everything is tried again. People may ask
all the same; what asks by itself looks here first.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from csms import schemas
from csms.models import ChargePoint, Command, CommandState

_ANSWERED = "UPDATE csms_chargepoint SET last_answer = %s WHERE id = %s RETURNING learned::text, firmware_version"
TRIGGERS = ("TriggerMessage", "ExtendedTriggerMessage")
# Answers that speak of the call itself; any other refusal speaks of this moment.
NOT_KNOWN = ("NotImplemented", "NotSupported")
# What these refuse is one value of many, not the call.
OF_ONE_VALUE = {"ChangeConfiguration", "DataTransfer"}


@dataclass(frozen=True)
class Known:
    """A charger's row as it stood when it answered."""

    charge_point_pk: int
    learned: dict[str, Any]
    firmware: str

    @property
    def refused(self) -> dict[str, str]:
        return dict(self.learned.get("refused", {})) if self.learned.get("firmware") == self.firmware else {}


def topic(action: str, payload: dict[str, Any]) -> str:
    """What one learns about: a call, or the message it asks for, or the whole charger as a connector."""
    if action in TRIGGERS:
        return f"{action} {payload.get('requestedMessage', '')}"
    if action == "ChangeAvailability" and payload.get("connectorId") == 0:
        return f"{action} 0"
    return action


def refused(charge_point: ChargePoint, action: str, payload: dict[str, Any] | None = None) -> str:
    """What this firmware answered when it was asked that before ("NotImplemented"); "" when nothing speaks against it."""
    known = Known(charge_point.pk, charge_point.learned, charge_point.firmware_version).refused
    return known.get(action) or known.get(topic(action, payload or {}), "")


def answered(charge_point_pk: int, now: datetime) -> Known:
    """It answered: its row is written and locked."""
    with connection.cursor() as cursor:
        cursor.execute(_ANSWERED, [now, charge_point_pk])
        told, firmware = cursor.fetchone()
    return Known(charge_point_pk, json.loads(told), firmware)


def remember(known: Known, command: Command, state: str) -> None:
    """Keep what this answer says of the firmware; what it can after all is forgotten. Call while its row is locked."""
    before, after = known.refused, known.refused
    status = schemas.status_of(command.action, command.response)
    if state == CommandState.ERROR:
        if (code := command.error.partition(":")[0]) in NOT_KNOWN:
            after[command.action] = code
    elif state in (CommandState.ACCEPTED, CommandState.EFFECTIVE):
        after.pop(command.action, None)
        after.pop(topic(command.action, command.payload), None)
    elif state == CommandState.REJECTED and command.action not in OF_ONE_VALUE:
        after.pop(command.action, None)
        if status in NOT_KNOWN or topic(command.action, command.payload) != command.action:
            after[topic(command.action, command.payload)] = status
    if after != before:
        fresh = {**known.learned, "firmware": known.firmware, "refused": after}
        ChargePoint.objects.filter(pk=known.charge_point_pk).update(learned=fresh)
