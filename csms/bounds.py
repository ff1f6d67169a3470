"""SessionLimit: how far a session may go, told to chargers that keep to it by themselves, even while nobody hears them.

A vendor convention over DataTransfer, for chargers whose habits say so (`session_limit`). It is told with the start, and again on
every connect and after every boot: saying it twice is harmless, it being lost is not. What the charger has accepted stands in
`ChargingSession.bounded_wh`. The stop at the limit is asked of it all the same (csms/sessions.py): a promise is not the deed.
"""

import json
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction

from accounts import audit
from csms import commands, quirks, time_bounds
from csms.models import ChargingSession, Command, CommandState, SessionState
from csms.rules.habits import Habits

TRIGGER = "session limit"
# So often in a row it is told to a charger that rejects it or does not answer; the next connect begins anew.
ATTEMPTS, AGAIN_S = 3, 5
# After a start its own answer goes first: until then the charger knows no such transaction.
AFTER_START_S = 1
# It is worth nothing to a charger that is not there: it is told when it comes.
WAITS_S = 60


def began(session: ChargingSession, habits: Habits, now: datetime) -> None:
    """A session has begun (call inside its transaction): tell its charger how far it may go."""
    if habits.session_limit and session.limit_wh is not None:
        _tell(session, habits, now, now + timedelta(seconds=AFTER_START_S))
    time_bounds.began(session, habits, now)


def tell_again(charge_point_pk: int, habits: Habits, now: datetime) -> int:
    """A line of this charger is new, or it has restarted: it may have forgotten. How many sessions it is told of."""
    if not (habits.session_limit or habits.session_profile):
        return 0
    running = ChargingSession.objects.select_related("charge_point", "connector").filter(charge_point=charge_point_pk, authorized=True)
    running = running.filter(limit_wh__isnull=False).exclude(state=SessionState.STOPPED).order_by("pk")
    with transaction.atomic():
        for row in running:
            time_bounds.began(row, habits, now)
        return sum(_tell(row, habits, now) for row in running if habits.session_limit)


def _tell(session: ChargingSession, habits: Habits, now: datetime, send_after: datetime | None = None) -> bool:
    """False: it waits to be told already."""
    if Command.objects.filter(session=session, trigger=TRIGGER, state=CommandState.QUEUED, expires_at__gt=now).exists():
        return False
    payload = {"vendorId": habits.vendor_id, "messageId": "SessionLimit", "data": json.dumps(limit(session), separators=(",", ":"))}
    commands.request(
        session.charge_point, "DataTransfer", payload, trigger=TRIGGER, session=session, expires_in_s=WAITS_S, send_after=send_after
    )
    return True


def limit(session: ChargingSession) -> dict[str, Any]:
    """The message: an absolute limit from the register at the start, in whole Wh and seconds."""
    left = session.limit_at - session.start_time if session.limit_at else None
    return {
        "transactionId": int(session.transaction_id),
        "maxEnergy": session.limit_wh,
        "maxCost": None,
        "maxTime": max(0, int(left.total_seconds())) if left is not None else None,
    }


def answered(command: Command, now: datetime) -> None:
    """It keeps to it, or it does not."""
    if command.trigger != TRIGGER or command.session_id is None:
        return
    # After the commit: the session's lock is never taken while a command's is held.
    if command.state == CommandState.EFFECTIVE:
        wh = json.loads(command.payload["data"])["maxEnergy"]
        transaction.on_commit(partial(_bounded, command.session_id, wh))
        return
    said = str((command.response or {}).get("status") or command.error)[:60]
    transaction.on_commit(partial(_not_bounded, command.session_id, said))
    if said == "Rejected":
        _once_more(command, now)


def ended(command: Command, now: datetime) -> None:
    """Nobody answered: told again while its line is there."""
    if command.trigger == TRIGGER and command.state == CommandState.TIMEOUT:
        _once_more(command, now)


def _once_more(command: Command, now: datetime) -> None:
    session = ChargingSession.objects.select_related("charge_point").filter(pk=command.session_id).first()
    if session is None or not session.live or command.epoch != session.charge_point.epoch:
        return  # a new line has been told already
    told = Command.objects.filter(session=session, trigger=TRIGGER, epoch=command.epoch).count()
    if told < ATTEMPTS:
        _tell(session, quirks.of(session.charge_point), now, now + timedelta(seconds=AGAIN_S))


@transaction.atomic
def _bounded(session_id: int, wh: int) -> None:
    row = ChargingSession.objects.select_for_update(no_key=True).get(pk=session_id)
    if row.live and row.bounded_wh != wh:
        # `updated_at` stays: it is the version of what readings write (csms/quick.py).
        ChargingSession.objects.filter(pk=session_id).update(bounded_wh=wh)
        audit.record("session.bounded", row, trigger=TRIGGER, after={"bounded_wh": wh})


@transaction.atomic
def _not_bounded(session_id: int, said: str) -> None:
    row = ChargingSession.objects.select_for_update(no_key=True).get(pk=session_id)
    if not row.live:
        return
    if row.bounded_wh is not None:
        ChargingSession.objects.filter(pk=session_id).update(bounded_wh=None)
    audit.record("session.not_bounded", row, trigger=TRIGGER, before={"bounded_wh": row.bounded_wh}, after={"said": said})
