"""What becomes of a command beyond its own row: the effects that a charger's messages show, and what an answer leads to next.

`answered` and `ended` functions are named in `csms/calls.py`; `sent` and `seen` are told by dispatch of each frame that may matter.
"""

import json
import re
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import transaction

from csms import alerts, askable, availability, commands, failures, learned, sessions, tags
from csms.context import Context, Triggered
from csms.models import ChargingSession, Command, CommandState, Connector, IdTag, OcppMessage, SessionState

# How long after it was asked a message may still be the one that was asked for.
TRIGGER_S = 120
# Messages asked for under another name than they come.
COMES_AS = {
    "SignChargePointCertificate": ("SignCertificate",),
    "FirmwareStatusNotification": ("FirmwareStatusNotification", "SignedFirmwareStatusNotification"),
}
# A start that follows a request for this connector within so long is meant by it, whatever tag the charger names (Q145).
START_FOLLOWS_S = 180
# A stop that was promised and does not come: asked again so often.
STOP_ATTEMPTS = 3
# How long the end of a session that its charger knows nothing of may take.
ENDS_WITHIN_S = 10
# In so many of its last frames and readings we look for the number a charger knows its transaction by.
LOOKED_THROUGH, READINGS = 300, 20
_NONE_RUNNING = re.compile(
    r"\b(no|unknown|invalid|without)( \w+){0,2} transaction"
    r"|\btransaction( ?\w+){0,2} (not (found|known|running|active)|unknown|invalid|ended|finished|does not exist)\b",
    re.IGNORECASE,
)
# Connector states in which certainly nothing is charging.
IDLE = {"Available", "Preparing", "Finishing", "Reserved", "Unavailable"}


# -- dispatch tells -------------------------------------------------------------------------------------------------
def sent(context: Context, command: Command, now: datetime) -> None:
    """A command goes out on this socket: what its effect will look like."""
    if command.action in learned.TRIGGERS:
        wanted = str(command.payload.get("requestedMessage"))
        waits = Triggered(now + timedelta(seconds=TRIGGER_S), command.pk, command.payload.get("connectorId"))
        context.triggered.update(dict.fromkeys(COMES_AS.get(wanted, (wanted,)), waits))
    elif command.action in ("Reset", availability.ACTION):
        context.awaits.add(command.action)


def seen(context: Context, action: str, payload: dict[str, Any], now: datetime) -> None:
    """A message came in on a socket that waits for something. It waits no longer once what the message showed is stored."""
    waits = context.triggered.get(action)
    if waits is not None and (waits.connector_no is None or waits.connector_no == payload.get("connectorId")):
        if now < waits.until:
            commands.effective(Command.objects.filter(pk=waits.command_pk), now, f"{action} came.")
        _came(context, waits)
    if action == "BootNotification" and "Reset" in context.awaits:
        commands.effective(Command.objects.filter(charge_point_id=context.charge_point_pk, action="Reset"), now, "It booted.")
        context.awaits.discard("Reset")
    if action == "StatusNotification" and availability.ACTION in context.awaits and not availability.settle(context.charge_point_pk, now):
        context.awaits.discard(availability.ACTION)


def _came(context: Context, waits: Triggered) -> None:
    for one in [name for name, other in context.triggered.items() if other is waits]:
        del context.triggered[one]


# -- starts ----------------------------------------------------------------------------------------------------------
def start_asked(charge_point_pk: int, connector_no: int, tag: str, now: datetime, asked_by: datetime) -> Command | None:
    """The request of a person's that this start follows: of its tag, else of its connector a moment ago, sent by `asked_by`."""
    mine = [one for one in askable.open_starts(charge_point_pk, now) if one.permit_id is None and one.sent_at is not None]
    normal = tags.normal(tag)
    of_tag = [one for one in mine if tags.normal(str(one.payload.get("idTag"))) == normal]
    lately = [one for one in mine if now - timedelta(seconds=START_FOLLOWS_S) <= one.sent_at <= asked_by]
    of_place = [one for one in lately if one.payload.get("connectorId") == connector_no]
    return next(iter(of_tag or of_place), None)


def asked_tag(command: Command) -> IdTag | None:
    """The tag a person asked the charger to start with, locked."""
    normal = tags.normal(str(command.payload.get("idTag")))
    return IdTag.objects.select_for_update(of=("self",), no_key=True).select_related("connector").filter(tag=normal).first()


def started(command: Command, session: ChargingSession, now: datetime) -> None:
    """The session that was asked for has begun."""
    mine = Command.objects.filter(pk=command.pk)
    if commands.effective(mine, now, f"Session {session.pk} began."):
        mine.update(session=session)


# -- stops -----------------------------------------------------------------------------------------------------------
def stop_answered(command: Command, now: datetime) -> None:
    """Refused: once more under the number the charger itself uses (Q147). "No transaction" means that it is over (Q149)."""
    session = _running(command)
    if session is None:
        return
    if command.state == CommandState.ERROR and _NONE_RUNNING.search(command.error):
        status = Connector.objects.filter(pk=session.connector_id).values_list("status", flat=True).first()
        if status in IDLE:
            # After the commit: the session's lock is never taken while a command's is held. The session's end makes this command
            # effective; should we die in between, it is still open, and is asked again as any that came to nothing.
            transaction.on_commit(partial(sessions.finalize, session.pk, "CHARGER_HAS_NONE"))
            command.state, command.settled_at, command.expires_at = CommandState.UNKNOWN, None, now + timedelta(seconds=ENDS_WITHIN_S)
            command.save(update_fields=["state", "settled_at", "expires_at"])
            _note(command, f"It has none, and the connector is {status}: session {session.pk} ends.")
            return
    if command.state not in (CommandState.REJECTED, CommandState.ERROR) or command.trigger == "its own number":
        return
    own = own_number(session)
    if own is None:
        return
    commands.request(
        command.charge_point,
        "RemoteStopTransaction",
        {"transactionId": own},
        trigger="its own number",
        dedupe_key=f"command:{command.pk}:own",
        session=session,
        requested_by=command.requested_by,
        expires_in_s=120,
    )
    _note(command, f"Asked again for transaction {own}, as the charger calls it.")


def own_number(session: ChargingSession) -> int | None:
    """The transaction id the charger used last for this session's connector, when it is not the one we gave."""
    last = OcppMessage.objects.filter(charge_point_id=session.charge_point_id).order_by("-id").values("pk")[:LOOKED_THROUGH]
    said = OcppMessage.objects.filter(pk__in=last, direction="IN", action="MeterValues", at__gte=session.started_at)
    for raw in said.order_by("-id").values_list("raw", flat=True)[:READINGS]:
        try:
            payload = json.loads(bytes(raw))[3]
            number, place = int(payload["transactionId"]), payload.get("connectorId", session.connector.connector_id)
        except (ValueError, TypeError, LookupError, RecursionError):
            continue
        if place == session.connector.connector_id and str(number) != session.transaction_id and abs(number) < 2**31:
            return number
    return None


def stop_ended(command: Command, now: datetime) -> None:
    """Nothing came of it, and it charges on: ask again, tell a person. (Stops that are due are asked again by sessions.)"""
    if command.state != CommandState.EXPIRED or command.sent_at is None or command.trigger in sessions.STOP_TRIGGERS:
        return
    session = _running(command)
    if session is None:
        return
    alerts.raise_alert(command.charge_point_id, "not_obeying", f"Session {session.pk} was told to stop and runs on.", now)
    attempts = Command.objects.filter(session=session, action="RemoteStopTransaction", trigger="runs on").count()
    failures.not_obeyed(session, attempts + 1)
    if attempts < STOP_ATTEMPTS:
        commands.request(
            command.charge_point,
            "RemoteStopTransaction",
            command.payload,
            trigger="runs on",
            dedupe_key=f"session:{session.pk}:stop:again:{attempts + 1}",
            session=session,
            requested_by=command.requested_by,
            expires_in_s=120,
        )
        _note(command, "It charged on: asked again.")


def _running(command: Command) -> ChargingSession | None:
    mine = ChargingSession.objects.select_related("connector").filter(pk=command.session_id)
    return mine.exclude(state=SessionState.STOPPED).first() if command.session_id else None


def _note(command: Command, words: str) -> None:
    command.note = f"{command.note} {words}".strip()[:255]
    command.save(update_fields=["note"])
