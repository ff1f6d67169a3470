"""Commands as rows: what we ask of chargers, durable from the asking to the effect.

`ask` is for people and programs: it refuses with a sentence what this charger cannot be asked, then calls `request`.
`request` writes the row and, after commit, wakes the socket that owns the charger; a lost wake costs at most two seconds,
because every process also polls the queued commands of all its chargers in one query. The answer settles the row;
`timeout_due` settles what was never answered. One command is in flight per charger.
"""

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat, Left, Trim

from accounts import actor, audit
from csms import alerts, askable, calls, learned, live, message_text, quirks, schemas, sealed
from csms.frames import clean_json
from csms.models import ChargePoint, ChargingSession, Command, CommandBatch, CommandState, Connection, IdTag, Registration
from csms.rules import secrecy
from csms.rules.connection import Standing, standing
from voltaro import clock
from voltaro.jobs import each

OPEN = (CommandState.QUEUED, CommandState.SENT)
# Not refused, and its effect may still show.
AWAITED = (CommandState.SENT, CommandState.ACCEPTED, CommandState.TIMEOUT, CommandState.UNKNOWN)
# How long a command that nobody answered may still show its effect.
EFFECT_S = 180
# A stolen console must not command a whole network at once; many chargers go in a batch, which is seen and has a size.
ASKED_AT_MOST, ASKED_WITHIN_S = 50, 60
# So many unanswered in a row, on a charger that keeps talking: a person should look.
SILENT_TO = 3


@dataclass(frozen=True)
class Way:
    """How something is asked: from where, as which command, how long it waits for the charger, and when it is sent."""

    trigger: str
    expires_in_s: int
    dedupe_key: str | None = None
    batch: CommandBatch | None = None
    send_after: datetime | None = None


def request(
    charge_point: ChargePoint,
    action: str,
    payload: dict[str, Any],
    *,
    trigger: str,
    dedupe_key: str | None = None,
    session: ChargingSession | None = None,
    permit: IdTag | None = None,
    expires_in_s: int = 60,
    requested_by: str = "",
    background: bool = False,
    batch: CommandBatch | None = None,
    send_after: datetime | None = None,
    note: str = "",
    secret: dict[str, Any] | None = None,
) -> Command:
    """Ask something of a charger. The same `dedupe_key` twice is one command: the first row is returned.

    `secret`: what is sent, when `payload` is only what may be kept of it.
    """
    assert action in calls.CALLS, action
    who = requested_by or actor.current().name
    fields = {
        "charge_point": charge_point,
        "action": action,
        "payload": payload,
        "unique_id": str(uuid.uuid4()),
        "trigger": trigger,
        "session": session,
        "permit": permit,
        "expires_at": clock.now() + timedelta(seconds=expires_in_s),
        "requested_by": who,
        "background": background,
        "batch": batch,
        "send_after": send_after,
        "note": note[:255],
        "sealed": sealed.seal(secret) if secret is not None else "",
    }
    if dedupe_key:
        command, created = Command.objects.get_or_create(dedupe_key=dedupe_key, defaults=fields)
        if not created:
            return command
    else:
        command = Command.objects.create(**fields)
    audit.record("command.requested", command, trigger=trigger, after={"action": action, "charge_point": charge_point.pk})
    if batch is None:  # the sockets of a batch's chargers find theirs with their next poll
        transaction.on_commit(lambda: wake(charge_point.pk))
    return command


@transaction.atomic
def ask(
    charge_point: ChargePoint,
    action: str,
    payload: dict[str, Any],
    *,
    by: str = "",
    trigger: str,
    idempotency_key: str | None = None,
    expires_in_s: int | None = None,
    session: ChargingSession | None = None,
    batch: CommandBatch | None = None,
    send_after: datetime | None = None,
    limited: bool = True,
    secret: bool = False,
) -> Command:
    """What a person, a program or a command line asks of a charger: checked as far as we can know, then queued.

    `by` names who asks (the current actor when empty), `trigger` says where (console, api, manage ...). The same
    `idempotency_key` of the same asker for the same charger is the same command. A charger that is not connected gets it when
    it comes within `expires_in_s` (as its row of CALLS says unless told). `limited`: counts towards the asker's 50 a minute.
    `secret`: its value is nobody's to read, whatever its key is called; the charger's habits remember that key as a secret one.
    Raises ValidationError with a sentence, and a `code`: nothing was asked then.
    """
    now, who = clock.now(), by or actor.current().name
    key = _dedupe_key(who, charge_point, idempotency_key)
    if key and (known := Command.objects.filter(Q(dedupe_key=key) | Q(dedupe_key__startswith=f"{key}#")).first()) is not None:
        return _the_same(known, action, payload)
    asked = askable.prepared(charge_point, action, payload, now)
    if asked.again is not None:
        return asked.again
    if limited and batch is None:
        _not_too_often(who, now)
    call = calls.CALLS[action]
    kept = _kept(charge_point, action, asked.payload, secret)
    hidden = kept != asked.payload
    wait_s = expires_in_s or call.queue_s
    if send_after is not None:
        wait_s += max(0, round((send_after - now).total_seconds()))
    if key and (call.maker or hidden):
        key = f"{key}#{fingerprint(payload)}"
    if call.maker:
        way = Way(trigger, wait_s, key, batch, send_after)
        return call.make(charge_point, action, asked.payload, by=who, way=way)
    made = [
        request(
            charge_point,
            action,
            wanted,
            trigger=trigger,
            dedupe_key=f"{key}:{number}" if key and number else key,
            session=session or asked.session,
            requested_by=who,
            expires_in_s=wait_s,
            batch=batch,
            send_after=send_after,
            note=asked.note,
            secret=asked.payload if hidden else None,
        )
        for number, wanted in enumerate(call.wanted(charge_point, kept, now))
    ]
    return made[0]


def _kept(charge_point: ChargePoint, action: str, payload: dict[str, Any], secret: bool) -> dict[str, Any]:
    """What may be kept of a payload. Raises ValidationError for a secret where there can be none."""
    if secret and action not in secrecy.CARRIES:
        raise ValidationError(f"Only {' and '.join(secrecy.CARRIES)} carry a value that can be a secret.", "payload")
    also = quirks.of(charge_point).secret_keys
    if secret and action == "ChangeConfiguration" and not secrecy.is_secret(payload["key"], also):
        quirks.keep_secret(charge_point, payload["key"])
    kept = secrecy.concealed(action, payload, also, secret=secret)
    if any(payload.get(name) == secrecy.MASK for name in secrecy.CARRIES.get(action, ())):
        raise ValidationError(f"{secrecy.MASK} only stands for the value here: type the value itself.", "payload")
    return kept


def _dedupe_key(who: str, charge_point: ChargePoint, idempotency_key: str | None) -> str | None:
    if not idempotency_key:
        return None
    return "asked:" + hashlib.sha256(f"{who}|{charge_point.pk}|{idempotency_key}".encode()).hexdigest()


def fingerprint(payload: dict[str, Any]) -> str:
    """By which a payload is known again that no row holds as it was asked; it says nothing of it."""
    told = b"\0asked\0" + json.dumps(payload, sort_keys=True).encode()
    return hmac.new(settings.CHARGER_KEY_PEPPER.encode(), told, hashlib.sha256).hexdigest()[:16]


def _the_same(known: Command, action: str, payload: dict[str, Any]) -> Command:
    """A key stands for one deed. (A connector may have been chosen since, so that is not compared where none was named.)"""
    _, marked, mark = (known.dedupe_key or "").partition("#")
    if marked:
        same = mark == fingerprint(payload)
    else:
        same = all(known.payload.get(name) == value for name, value in payload.items() if name != "connectorId" or value)
    if known.action != action or not same:
        raise ValidationError(f"This idempotency key was used for another command ({known.action}, {known.pk}).", "idempotency_key")
    return known


def _not_too_often(who: str, now: datetime) -> None:
    mine = Command.objects.filter(requested_by=who, batch__isnull=True).order_by("-id").values_list("created_at", flat=True)
    if (oldest := mine[ASKED_AT_MOST - 1 : ASKED_AT_MOST].first()) is not None and oldest > now - timedelta(seconds=ASKED_WITHIN_S):
        raise ValidationError(
            f"That is more than {ASKED_AT_MOST} commands within a minute: wait a moment, or ask many chargers at once as a batch.",
            "too_many",
        )


def wake(charge_point_pk: int) -> None:
    """Tell the process whose socket owns this charger that a command waits. By its channel's name: nobody else hears it."""
    channel = (
        Connection.objects.filter(charge_point_id=charge_point_pk, closed_at__isnull=True)
        .order_by("-epoch")
        .values_list("channel", flat=True)
        .first()
    )
    if channel:
        live.send(channel, {"type": "command.waiting", "charge_point": charge_point_pk})


def waiting(charge_point_pks: list[int], now: datetime) -> list[int]:
    """Which of these chargers have a command to send: one query for all of a process's chargers."""
    return list(
        Command.objects.filter(_its_time(now), charge_point_id__in=charge_point_pks, state=CommandState.QUEUED, expires_at__gt=now)
        .order_by()
        .values_list("charge_point_id", flat=True)
        .distinct()
    )


def _its_time(now: datetime) -> Q:
    return Q(send_after__isnull=True) | Q(send_after__lte=now)


@transaction.atomic
def next_to_send(charge_point_pk: int, epoch: int, now: datetime, *, settled: bool = True, only: str | None = None) -> Command | None:
    """Claim the oldest queued command for this socket; None when there is none, one is in flight, or the socket is fenced.

    What a person or a rider waits for goes before what we ask by ourselves; that waits until the charger has settled. A charger
    that is not accepted is only asked what sets it up. `only`: nothing but commands with this trigger.
    """
    row = ChargePoint.objects.select_for_update(no_key=True).values_list("epoch", "registration").get(pk=charge_point_pk)
    newest, registration = row
    if standing(epoch, newest) is Standing.FENCED:
        return None
    mine = Command.objects.filter(charge_point_id=charge_point_pk)
    # What an older socket sent was lost with it.
    if mine.filter(state=CommandState.SENT, epoch=epoch, sent_at__gt=now - timedelta(seconds=settings.COMMAND_TIMEOUT_S)).exists():
        return None
    queued = mine.filter(_its_time(now), state=CommandState.QUEUED, expires_at__gt=now).order_by("background", "id")
    if not settled:
        queued = queued.filter(background=False)
    if registration != Registration.ACCEPTED:
        queued = queued.filter(action__in=calls.BEFORE_ACCEPTED)
    if only is not None:
        queued = queued.filter(trigger=only)
    command = queued.first()
    if command is None:
        return None
    # Somebody may be taking it back at this moment: what is not queued any more is not sent.
    still = Command.objects.filter(pk=command.pk, state=CommandState.QUEUED)
    kept, command.sealed = command.sealed, ""
    command.secret_payload = sealed.opened(kept) if kept else None
    if kept and command.secret_payload is None:
        why = "Not sent: what was sealed cannot be opened any more (CHARGER_KEY_PEPPER). Ask again."
        still.update(state=CommandState.EXPIRED, settled_at=now, error=why, sealed="")
        return None
    command.state, command.sent_at, command.epoch = CommandState.SENT, now, epoch
    return command if still.update(state=command.state, sent_at=now, epoch=epoch, sealed="") else None


def settle(
    charge_point_pk: int,
    unique_id: str,
    *,
    response: dict[str, Any] | None,
    error: str,
    now: datetime,
    also: secrecy.Also = (),
) -> Command | None:
    """The charger's answer to one of our commands; None when we asked no such thing of this charger. A late answer counts too.

    `also`: the keys that its habits know to be secret.
    """
    asked = Command.objects.filter(charge_point_id=charge_point_pk, unique_id=unique_id)
    if not asked.exists():
        return None
    known = learned.answered(charge_point_pk, now)  # the charger's row before its command's, as everywhere
    command = asked.select_for_update(no_key=True).get()
    if command.answered_at is not None:
        return command
    response = secrecy.masked(clean_json(response), also)
    command.answered_at, command.response, command.error = now, response, error[:255]
    state = CommandState.ERROR if error else calls.state_of(command.action, response or {})
    if not error and (odd := schemas.odd(command.action, response or {})):
        command.note = f"Its answer: {odd}."[:255]
    if command.state not in (CommandState.EFFECTIVE, CommandState.EXPIRED):
        command.state = state
    if command.state not in (CommandState.ACCEPTED, CommandState.UNKNOWN):
        command.settled_at = command.settled_at or now
    else:
        command.expires_at = now + timedelta(seconds=calls.CALLS[command.action].effect_s)
    command.save(update_fields=["answered_at", "response", "error", "state", "settled_at", "expires_at", "note"])
    learned.remember(known, command, state)
    alerts.clear(charge_point_pk, "command_timeouts", now)
    if status := schemas.status_of(command.action, response):  # the row keeps its own word; "accepted " is Accepted to whoever acts on it
        command.response = {**(response or {}), "status": status}
    calls.CALLS[command.action].tell("answered", command, now)
    command.response = response
    audit.record("command." + command.state, command, after={"response": response or {}, "error": error[:255]})
    return command


def effective(commands: QuerySet[Command], now: datetime, note: str = "") -> int:
    """What was asked has visibly happened (a session started, or ended). `note` says what showed it."""
    # What was odd about its answer stays said.
    said = {"note": Left(Trim(Concat("note", Value(f" {note}"))), 255)} if note else {}
    return commands.filter(state__in=AWAITED).update(state=CommandState.EFFECTIVE, settled_at=now, updated_at=now, **said)


@transaction.atomic
def withdraw(pk: int, by: str) -> bool:
    """Take back what has not been sent yet; False when it has."""
    command = Command.objects.select_for_update(no_key=True).filter(pk=pk, state=CommandState.QUEUED).first()
    if command is None:
        return False
    command.state, command.settled_at, command.note = CommandState.EXPIRED, clock.now(), f"Taken back by {by}."[:255]
    command.sealed = ""
    command.save(update_fields=["state", "settled_at", "note", "sealed"])
    calls.CALLS[command.action].tell("ended", command, clock.now())
    audit.record("command.withdrawn", command)
    return True


def shown(command: Command, *, tags: bool) -> dict[str, Any]:
    """What was asked, for people. A payment's tag opens a charger until it is used: nobody sees more than its end. `tags`: whether
    this person may see those of cards."""
    if not tags:
        hidden: dict[str, Any] = message_text.without_tags(command.payload)
        return hidden
    return {**command.payload, "idTag": message_text.masked(str(command.payload.get("idTag")))} if command.permit_id else command.payload


def to_time_out(now: datetime) -> QuerySet[Command]:
    """Queued past their time, sent without an answer, or answered without an effect."""
    return Command.objects.filter(
        Q(state=CommandState.QUEUED, expires_at__lt=now)
        | Q(state=CommandState.SENT, sent_at__lt=now - timedelta(seconds=settings.COMMAND_TIMEOUT_S))
        | Q(state__in=[CommandState.ACCEPTED, CommandState.TIMEOUT, CommandState.UNKNOWN], expires_at__lt=now)
    ).order_by("id")


def timeout_due(now: datetime, limit: int) -> int:
    """Settle what nobody will settle any more."""

    @transaction.atomic
    def time_out(pk: int) -> bool:
        command = to_time_out(now).select_for_update(skip_locked=True, no_key=True).filter(pk=pk).first()
        if command is None:
            return False
        if command.state == CommandState.SENT:
            command.state, command.error = CommandState.TIMEOUT, "The charger did not answer."
            command.expires_at = now + timedelta(seconds=EFFECT_S)  # it may have been obeyed all the same
        else:
            command.state, command.settled_at = CommandState.EXPIRED, now
        command.sealed = ""
        command.save(update_fields=["state", "error", "settled_at", "expires_at", "sealed"])
        if command.state == CommandState.TIMEOUT:
            _deaf(command, now)
        calls.CALLS[command.action].tell("ended", command, now)
        return True

    return each(list(to_time_out(now).values_list("pk", flat=True)[:limit]), time_out, "command")


def _deaf(command: Command, now: datetime) -> None:
    """A charger that talks and does not answer: some firmware hangs in one task only."""
    talks = ChargePoint.objects.filter(pk=command.charge_point_id, online=True, last_seen__gt=command.sent_at).exists()
    last = Command.objects.filter(charge_point_id=command.charge_point_id, sent_at__isnull=False).order_by("-id")
    if talks and list(last.values_list("answered_at", flat=True)[:SILENT_TO]) == [None] * SILENT_TO:
        alerts.raise_alert(command.charge_point_id, "command_timeouts", f"{command.action} was not answered, nor those before it.", now)
