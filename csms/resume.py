"""Going on with a session after a reboot or a lost line, for chargers that ask or listen (vendor conventions over DataTransfer).

GetLastMeterValue: the charger names its transaction and is told where it stood. What was suspended runs again; what is
unknown, ended, or was silent for too long is refused, and the charger begins a new one.

PostBootState: after a boot that was accepted, a charger whose habits say so (`post_boot_state`) is told what was running, without
having asked; when it accepts, that runs again. Some ask under this name instead: they are told the same.
"""

import json
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from csms import commands, sessions
from csms.models import ChargePoint, ChargingSession, Command, CommandState, ConnectorType, SessionState
from csms.rules import session as rule
from csms.rules.habits import Habits
from voltaro import clock

TRIGGER = "post boot state"
# After so long a charger that was told nothing asks by itself, or simply goes on.
WAITS_S = 30


@transaction.atomic
def last_meter_value(charge_point_pk: int, data: Any, now: datetime) -> tuple[dict[str, int] | None, str]:
    """Where this transaction stood, in Wh, or None and why it is refused. Only this charger's own transactions are told of."""
    ref = data.get("transactionId") if isinstance(data, dict) else None
    if isinstance(ref, bool) or not isinstance(ref, (int, str)) or not str(ref).strip():
        return None, "it names no transaction"
    rows = ChargingSession.objects.select_for_update(of=("self",), no_key=True).select_related("connector", "charge_point")
    row = rows.filter(charge_point_id=charge_point_pk, transaction_id=str(ref).strip()[:64]).first()
    if row is None:
        return None, f"no session {str(ref)[:20]} here"
    sessions.apply(row, [rule.Asked()], row.connector.max_power_w, now)
    if row.state == SessionState.STOPPED:
        return None, f"session {row.pk} is over"
    return _stood(row), ""


def _stood(row: ChargingSession) -> dict[str, int]:
    return {
        "transactionId": int(row.transaction_id),
        "startMeterValueWh": row.meter_start_wh or 0,
        "lastMeterValueWh": row.meter_last_wh or row.meter_start_wh or 0,
        "energyConsumedWh": row.energy_wh,
    }


# -- PostBootState ------------------------------------------------------------------------------------------------------
def booted(charge_point_pk: int, habits: Habits, now: datetime) -> Command | None:
    """A boot was accepted (call inside its transaction): tell the charger what was running, if it listens."""
    if not habits.post_boot_state:
        return None
    mine = Command.objects.filter(charge_point=charge_point_pk, trigger=TRIGGER, state=CommandState.QUEUED)
    mine.update(state=CommandState.EXPIRED, settled_at=now)  # of a boot before this one
    pending = _pending(charge_point_pk)
    payload = {
        "vendorId": habits.vendor_id,
        "messageId": "PostBootState",
        "data": json.dumps(state(charge_point_pk, pending), separators=(",", ":")),
    }
    return commands.request(
        ChargePoint(pk=charge_point_pk),
        "DataTransfer",
        payload,
        trigger=TRIGGER,
        session=pending[0] if pending else None,
        expires_in_s=WAITS_S,
    )


def asked(charge_point_pk: int, now: datetime) -> dict[str, Any]:
    """The charger asks for its PostBootState: the same, and what was suspended runs again."""
    _go_on([row.pk for row in _pending(charge_point_pk)], now)
    return state(charge_point_pk, _pending(charge_point_pk))


def state(charge_point_pk: int, pending: list[ChargingSession]) -> dict[str, Any]:
    """The message. A charger with several outlets finds all of its transactions in `transactions`; the first is the newest."""
    if pending:
        said = {"hasPendingTransaction": True, **_stood(pending[0])}
        return {**said, "transactions": [_stood(row) for row in pending]} if len(pending) > 1 else said
    last = ChargingSession.objects.filter(charge_point=charge_point_pk).order_by("-id").values_list("meter_last_wh", flat=True).first()
    return {"hasPendingTransaction": False, "lastMeterValueWh": last or 0}


def _pending(charge_point_pk: int) -> list[ChargingSession]:
    return list(ChargingSession.objects.filter(charge_point=charge_point_pk).exclude(state=SessionState.STOPPED).order_by("-pk")[:20])


def answered(command: Command, now: datetime) -> None:
    """It has taken what it was told: that runs again. One that has not asks by itself, or its readings say it."""
    if command.trigger == TRIGGER and command.state == CommandState.EFFECTIVE:
        said = json.loads(command.payload["data"])
        refs = [str(one["transactionId"]) for one in said.get("transactions") or [said] if "transactionId" in one]
        # After the commit: the session's lock is never taken while a command's is held.
        transaction.on_commit(partial(_resume, command.charge_point_id, refs))


def _resume(charge_point_pk: int, refs: list[str]) -> None:
    named = ChargingSession.objects.filter(charge_point=charge_point_pk, transaction_id__in=refs)
    _go_on(list(named.order_by("pk").values_list("pk", flat=True)), clock.now())


@transaction.atomic
def _go_on(pks: list[int], now: datetime) -> None:
    rows = ChargingSession.objects.select_for_update(of=("self",), no_key=True).select_related("connector", "charge_point")
    for row in rows.filter(pk__in=pks).order_by("pk"):
        events: list[rule.Event] = [rule.Asked()]
        said_at, since = row.connector.last_updated, row.suspended_at
        if row.connector.status in rule.IDLE and said_at and since and said_at >= since:  # said since the boot: the car may be gone
            events.append(rule.ConnectorSaid(row.connector.status, socket=row.connector.type == ConnectorType.SOCKET))
        sessions.apply(row, events, row.connector.max_power_w, now)
