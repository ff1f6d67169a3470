"""Reservations: a connector kept for a tag until a time (OCPP 1.6 §5.13). The truth is here; the charger is told, and enforces it.

Nothing is kept before the charger has accepted. A start uses a reservation up, time ends it here whatever the charger still
shows, and a stranger's start on a kept connector is recorded like every start, told no, and asked to stop.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import audit
from csms import commands, live, permits, quirks, timestamps
from csms.models import ChargePoint, ChargingSession, Command, CommandState, Connector, IdTag, Reservation, SessionState
from csms.numbers import next_request_id
from csms.rules import tag as rule
from csms.tags import TagAnswer
from voltaro import clock
from voltaro.jobs import each

State = Reservation.State
OPEN = (State.REQUESTED, State.ACTIVE)
LONGEST = timedelta(hours=24)
# The charger ends it by its own clock: what it still shows then, we end for it.
GRACE_S = 15
ASK_S = 60


def reserve(
    charge_point: ChargePoint, connector: Connector | None, tag: IdTag, until: datetime, *, trigger: str = "console"
) -> Reservation:
    """Ask the charger to keep this connector (None: any of its) for this tag. Nothing is kept until it has accepted.

    Raises ValidationError with a sentence.
    """
    with transaction.atomic():
        now = clock.now()
        if connector is not None:
            connector = permits.lock_connector(connector.pk)
        _check(charge_point, connector, tag, until, now)
        row = Reservation.objects.create(
            charge_point=charge_point, connector=connector, reservation_id=next_request_id(), id_tag=tag, expires_at=until
        )
        form = quirks.of(charge_point).id_tag_form
        payload = {
            "connectorId": connector.connector_id if connector else 0,
            "expiryDate": timestamps.write(until),
            "idTag": rule.spoken(tag.tag, form),
            "reservationId": row.reservation_id,
        }
        if tag.parent:
            payload["parentIdTag"] = rule.spoken(tag.parent, form)
        row.command = commands.request(charge_point, "ReserveNow", payload, trigger=trigger, expires_in_s=ASK_S)
        row.save(update_fields=["command"])
        _record("reservation.requested", row, trigger=trigger)
        return row


def _check(charge_point: ChargePoint, connector: Connector | None, tag: IdTag, until: datetime, now: datetime) -> None:
    if connector is not None and connector.charge_point_id != charge_point.cp_id:
        raise ValidationError("That connector belongs to another charger.")
    if not now < until <= now + LONGEST:
        raise ValidationError("Choose an end within the next 24 hours.")
    if tag.kind != IdTag.Kind.RFID or tag.state != IdTag.State.READY or (tag.expires_at is not None and tag.expires_at <= now):
        raise ValidationError("That tag may not charge: choose one that may.")
    if connector is None:
        return
    for row in Reservation.objects.select_for_update(no_key=True).filter(connector=connector, state__in=OPEN):
        if row.expires_at > now:
            raise ValidationError(f"The connector is already reserved until {_time(row.expires_at)}.")
        _end(row, State.EXPIRED, now)
    if permits.busy(connector):
        raise ValidationError("Somebody charges at that connector, or has paid to.")


# -- what the charger answers -----------------------------------------------------------------------------------------
def answered(command: Command, now: datetime) -> None:
    """ReserveNow: kept, or why not (Faulted, Occupied, Rejected, Unavailable, or that it knows no reservations)."""
    row = _of(command) or _adopted(command, now)
    if row is None:
        return
    row.status = _said(command)
    if row.state == State.REQUESTED:
        row.state = State.ACTIVE if row.status == "Accepted" else State.REFUSED
        row.ended_at = now if row.state == State.REFUSED else None
        _record("reservation.accepted" if row.state == State.ACTIVE else "reservation.refused", row, trigger=row.status)
    row.save(update_fields=["status", "state", "ended_at"])
    _tell(row)


def ended(command: Command, now: datetime) -> None:
    """ReserveNow went unanswered: nothing is kept; should the charger have heard it all the same, it is told so."""
    row = _of(command)
    if row is None or row.state != State.REQUESTED:
        return
    row.status = "Not reached" if command.sent_at is None else "No answer"
    _end(row, State.REFUSED, now)
    if command.sent_at is not None:
        _ask_cancel(row, trigger="no_answer", background=True)


def cancel_answered(command: Command, now: datetime) -> None:
    """CancelReservation: Rejected says that the charger has no such reservation, so it is over either way."""
    row = _by_number(command)
    if row is None or row.state not in OPEN:
        return
    said = _said(command)
    row.status = f"Cancel: {said}"[:20]
    if said in ("Accepted", "Rejected"):
        _end(row, State.CANCELLED, now)
    else:
        row.save(update_fields=["status"])
        _tell(row)


def cancel_ended(command: Command, now: datetime) -> None:
    """CancelReservation went unanswered: the charger keeps it until its time, and so do we. It may be asked again."""
    row = _by_number(command)
    if row is not None and row.state in OPEN:
        row.status = "Cancel: no answer"
        row.save(update_fields=["status"])
        _tell(row)


def _of(command: Command) -> Reservation | None:
    return _locked(Q(command=command)) or _by_number(command)


def _by_number(command: Command) -> Reservation | None:
    number = command.payload.get("reservationId")
    return _locked(Q(charge_point=command.charge_point_id, reservation_id=number)) if isinstance(number, int) and number > 0 else None


def _locked(which: Q) -> Reservation | None:
    rows = Reservation.objects.select_for_update(no_key=True, of=("self",)).select_related("connector", "charge_point")
    return rows.filter(which).first()


def _adopted(command: Command, now: datetime) -> Reservation | None:
    """A ReserveNow that somebody wrote by hand is a reservation like any other, once the charger has accepted it."""
    said, number = command.payload, command.payload.get("reservationId")
    until = timestamps.read(str(said.get("expiryDate")))
    if _said(command) != "Accepted" or until is None or until <= now or not isinstance(number, int) or number < 1:
        return None
    form = quirks.of(command.charge_point).id_tag_form
    tag = IdTag.objects.filter(tag__in=rule.readings(str(said.get("idTag")), form), kind=IdTag.Kind.RFID).first()
    connector = Connector.objects.filter(charge_point=command.charge_point.cp_id, connector_id=said.get("connectorId") or 0).first()
    taken = Q(reservation_id=number) | Q(connector=connector, connector__isnull=False, state__in=OPEN)
    if tag is None or Reservation.objects.filter(taken).exists():
        return None
    return Reservation.objects.create(
        charge_point=command.charge_point, connector=connector, reservation_id=number, id_tag=tag, expires_at=until, command=command
    )


def _said(command: Command) -> str:
    if command.error:
        return command.error.partition(":")[0][:20]
    status = (command.response or {}).get("status")
    return status[:20] if isinstance(status, str) and status else "Nothing"


# -- ends ---------------------------------------------------------------------------------------------------------------
@transaction.atomic
def cancel(pk: int, *, trigger: str = "console") -> str:
    """End a reservation: what became of it, in words. Unsent, it never was; else it ends with the charger's answer."""
    now = clock.now()
    command_id = Reservation.objects.values_list("command_id", flat=True).get(pk=pk)
    # The command before its reservation, as its answer has it.
    command = Command.objects.select_for_update(no_key=True).filter(pk=command_id).first()
    row = _locked(Q(pk=pk))
    assert row is not None
    if row.state not in OPEN:
        return "This reservation was over already."
    if command is not None and command.state == CommandState.QUEUED:
        if command.action != "ReserveNow":
            return "The charger is being asked already."
        Command.objects.filter(pk=command.pk).update(state=CommandState.EXPIRED, settled_at=now, updated_at=now)
        row.status = "Never asked"
        _end(row, State.CANCELLED, now)
        return "The reservation was withdrawn before the charger heard of it."
    _ask_cancel(row, trigger=trigger)
    _record("reservation.cancelling", row, trigger=trigger)
    return "The charger has been asked to give the connector free."


def _ask_cancel(row: Reservation, *, trigger: str, background: bool = False) -> None:
    row.command = commands.request(
        row.charge_point,
        "CancelReservation",
        {"reservationId": row.reservation_id},
        trigger=trigger,
        expires_in_s=3600 if background else 300,
        background=background,
    )
    row.save(update_fields=["command"])


def to_expire(now: datetime) -> QuerySet[Reservation]:
    """Open reservations whose time has come, and whose charger had a moment to notice."""
    return Reservation.objects.filter(state__in=OPEN, expires_at__lte=now - timedelta(seconds=GRACE_S)).order_by("expires_at")


def expire_due(now: datetime, limit: int) -> int:
    """End what is over. A charger that still shows it as reserved is told (Q165: some never let go by themselves)."""

    @transaction.atomic
    def expire(pk: int) -> bool:
        row = to_expire(now).select_for_update(skip_locked=True, of=("self",), no_key=True).filter(pk=pk).first()
        if row is None:
            return False
        shown = Connector.objects.filter(charge_point=row.charge_point.cp_id, status="Reserved")
        if (shown.filter(pk=row.connector_id) if row.connector_id else shown).exists():
            _ask_cancel(row, trigger="expired", background=True)
        _end(row, State.EXPIRED, now)
        return True

    return each(list(to_expire(now).values_list("pk", flat=True)[:limit]), expire, "reservation")


def _end(row: Reservation, state: str, now: datetime) -> None:
    row.state, row.ended_at = state, now
    row.save(update_fields=["state", "status", "ended_at"])
    _record(f"reservation.{state}", row, trigger=row.status)
    _tell(row)


# -- starts ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Meant:
    """What a start means for the reservations of its charger: the one it uses up; or the one that it must not break."""

    uses: Reservation | None = None
    breaks: Reservation | None = None


def meant(connector: Connector, charge_point: ChargePoint, number: int | None, answer: TagAnswer, now: datetime) -> Meant:
    """Which reservation this start is about, by its number, its tag, or its tag's group (Q107). Call with the connector locked.

    Who has paid for this very start breaks nothing: the payment came before the charger had accepted.
    """
    rows = list(
        Reservation.objects.select_for_update(no_key=True, of=("self",))
        .select_related("id_tag", "command")
        .filter(Q(connector=connector) | Q(connector__isnull=True), charge_point=charge_point, state__in=OPEN, expires_at__gt=now)
    )
    rows.sort(key=lambda row: row.connector_id is None)  # this connector's own first
    tag = answer.permit
    for fits in (
        lambda row: bool(number) and row.reservation_id == number,
        lambda row: tag is not None and row.id_tag_id == tag.pk,
        lambda row: tag is not None and bool(tag.parent) and row.id_tag.parent == tag.parent,
    ):
        if found := next(filter(fits, rows), None):
            return Meant(uses=found)
    if tag is not None and tag.kind == IdTag.Kind.ONE_TIME:
        return Meant()
    return Meant(breaks=next((row for row in rows if row.connector_id and row.state == State.ACTIVE and not cancelling(row)), None))


def used(row: Reservation, session: ChargingSession, now: datetime) -> None:
    """The start that it was for has come."""
    row.session = session
    row.save(update_fields=["session"])
    _end(row, State.USED, now)


def cancelling(row: Reservation) -> bool:
    """Whether the charger has been asked to give it up."""
    return row.command is not None and row.command.action == "CancelReservation"


def kept_until(connector: Connector, now: datetime) -> datetime | None:
    """Until when a reservation keeps this connector from everybody else; None when it is free of one.

    A reservation of any connector keeps them all once no more are free than are reserved that way.
    """
    rows = list(
        Reservation.objects.filter(charge_point__cp_id=connector.charge_point_id, state=State.ACTIVE, expires_at__gt=now).values_list(
            "connector_id", "expires_at"
        )
    )
    own = [until for pk, until in rows if pk == connector.pk]
    any_ = sorted(until for pk, until in rows if pk is None)
    if own or not any_:
        return max(own, default=None)
    taken = {pk for pk, _ in rows if pk is not None}
    live_here = ChargingSession.objects.filter(connector__charge_point=connector.charge_point_id).exclude(state=SessionState.STOPPED)
    taken |= set(live_here.values_list("connector_id", flat=True))
    free = Connector.objects.filter(charge_point=connector.charge_point_id).exclude(pk__in=taken).count()
    return any_[0] if free <= len(any_) else None


# -- helpers ------------------------------------------------------------------------------------------------------------
def _record(action: str, row: Reservation, trigger: str = "") -> None:
    """The row belongs to the charger's company; the tag itself stays out."""
    after = {"reservation": row.reservation_id, "connector": row.connector.code if row.connector_id else "any", "tag": row.id_tag_id}
    audit.record(action, row.charge_point, trigger=trigger, after={**after, "until": row.expires_at.isoformat()})


def _tell(row: Reservation) -> None:
    if row.connector_id:
        live.changed(row.connector.code)
    else:
        live.changed_charge_point(row.charge_point_id)


def _time(at: datetime) -> str:
    return timezone.localtime(at).strftime("%H:%M")
