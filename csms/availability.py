"""Availability: what we want of a charger and its connectors, apart from what they report.

Asking for ChangeAvailability writes the intent (`availability_wanted`) and the command together. The charger's word is a
promise; its StatusNotification is the effect, after the session when it said Scheduled. A charger that comes back and reports
something else is asked again: once after each time it came back, and not more often than every AGAIN_S.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, IntegerField, OuterRef, Q, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from accounts import audit
from csms import commands, learned, quirks
from csms.models import Availability, ChargePoint, Command, CommandState, Connection, Connector, Registration
from voltaro.jobs import each

ACTION = "ChangeAvailability"
UNAVAILABLE = "Unavailable"
# Since it came back: it has told its connectors' states by then.
COME_BACK_S = 20
AGAIN_S = 600


# -- the intent ----------------------------------------------------------------------------------------------------
def asked(charge_point: ChargePoint, payload: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
    """Somebody wants it so: write it down, for connector 0 of all of them (§5.2). The payloads to send."""
    number, wanted = payload["connectorId"], payload["type"]
    mine = Connector.objects.filter(charge_point=charge_point.cp_id)
    intent = {"availability_wanted": wanted, "availability_wanted_at": now, "updated_at": now}
    if number == 0:
        before = charge_point.availability_wanted
        ChargePoint.objects.filter(pk=charge_point.pk).update(**intent)
        mine.update(**intent, availability_asserted_at=now)
        _told(charge_point, number, before, wanted)
        numbers = list(mine.order_by("connector_id").values_list("connector_id", flat=True))
        if numbers and not takes_zero(charge_point):
            return [{"connectorId": one, "type": wanted} for one in numbers]
    else:
        connector = mine.filter(connector_id=number).first()
        if connector is not None:
            mine.filter(pk=connector.pk).update(**intent, availability_asserted_at=now)
            _told(connector, number, connector.availability_wanted, wanted)
    return [payload]


def in_service(connector: Connector) -> bool:
    """Whether people want this connector, and its charger, in service; it may report otherwise for a while yet."""
    return Availability.INOPERATIVE not in (connector.availability_wanted, connector.charge_point.availability_wanted)


def _told(row: ChargePoint | Connector, number: int, before: str, after: str) -> None:
    audit.record("availability.wanted", row, before={"wanted": before}, after={"wanted": after, "connector": number})


def takes_zero(charge_point: ChargePoint) -> bool:
    """Whether it takes ChangeAvailability for all of it at once: as its profile says, or as it answered."""
    return quirks.of(charge_point).availability_zero and not learned.refused(charge_point, ACTION, {"connectorId": 0})


def fits(wanted: str, status: str) -> bool:
    """Whether a reported status is what was wanted."""
    return (status == UNAVAILABLE) == (wanted == Availability.INOPERATIVE)


# -- the answer ----------------------------------------------------------------------------------------------------
def answered(command: Command, now: datetime) -> None:
    """Done already, perhaps; refused for connector 0, each connector is asked."""
    if command.state == CommandState.ACCEPTED:
        settle(command.charge_point_id, now, only=command.pk)
        command.refresh_from_db(fields=["state", "note"])
    elif command.state in (CommandState.REJECTED, CommandState.ERROR) and command.payload.get("connectorId") == 0:
        charge_point = command.charge_point
        its = Connector.objects.filter(charge_point=charge_point.cp_id).order_by("connector_id")
        numbers = list(its.values_list("connector_id", flat=True))
        for number in numbers:
            commands.request(
                charge_point,
                ACTION,
                {"connectorId": number, "type": command.payload.get("type")},
                trigger="refused for connector 0",
                dedupe_key=f"availability:{command.pk}:{number}",
                requested_by=command.requested_by,
                background=command.background,
                batch=command.batch,
                expires_in_s=3600,
            )
        if numbers:
            command.note = f"{command.note} Refused for connector 0: each connector is asked.".strip()[:255]
        command.save(update_fields=["note"])


# -- the effect ----------------------------------------------------------------------------------------------------
def settle(charge_point_pk: int, now: datetime, *, only: int | None = None) -> int:
    """Settle what was asked of this charger and is so now; how many are still waited for."""
    still_open = awaited().filter(charge_point_id=charge_point_pk).select_related("charge_point")
    rows = [row for row in still_open.order_by("id")[:50] if only is None or row.pk == only]
    if not rows:
        return 0
    charge_point = rows[0].charge_point
    reported = dict(Connector.objects.filter(charge_point=charge_point.cp_id).values_list("connector_id", "status"))
    left = 0
    for row in rows:
        said = _reported(charge_point, row.payload.get("connectorId", 0), str(row.payload.get("type")), reported)
        if said:
            commands.effective(Command.objects.filter(pk=row.pk), now, f"It reports {said}.")
        else:
            left += 1
    return left


def _reported(charge_point: ChargePoint, number: int, wanted: str, reported: dict[int, str]) -> str:
    """The status that shows it is so; "" while it is not. Some chargers never speak of themselves, only of their connectors."""
    if number:
        return reported.get(number, "") if number in reported and fits(wanted, reported[number]) else ""
    if charge_point.status and fits(wanted, charge_point.status):
        return charge_point.status
    return " and ".join(sorted(set(reported.values()))) if reported and all(fits(wanted, one) for one in reported.values()) else ""


def awaited() -> QuerySet[Command]:
    """Promised (or perhaps promised) and not yet seen."""
    return Command.objects.filter(action=ACTION, state__in=[CommandState.ACCEPTED, CommandState.TIMEOUT, CommandState.UNKNOWN])


def to_settle(now: datetime) -> QuerySet[Command]:
    """Promises that are kept, though no status came by the socket that was asked (it ended; a session did)."""
    told = awaited().annotate(wanted=KT("payload__type"), number=Cast(KT("payload__connectorId"), IntegerField()))
    its = Connector.objects.filter(charge_point=OuterRef("charge_point__cp_id"))
    closed, open_ = its.filter(status=UNAVAILABLE), its.exclude(status=UNAVAILABLE)
    itself = ChargePoint.objects.filter(pk=OuterRef("charge_point")).exclude(status="")
    one = Q(wanted=Availability.INOPERATIVE) & Exists(closed.filter(connector_id=OuterRef("number")))
    one |= Q(wanted=Availability.OPERATIVE) & Exists(open_.filter(connector_id=OuterRef("number")))
    whole = Q(wanted=Availability.INOPERATIVE) & (Exists(itself.filter(status=UNAVAILABLE)) | Exists(closed) & ~Exists(open_))
    whole |= Q(wanted=Availability.OPERATIVE) & (Exists(itself.exclude(status=UNAVAILABLE)) | Exists(open_) & ~Exists(closed))
    return told.filter(Q(number__gt=0) & one | Q(number=0) & whole).order_by("id")


def settle_due(now: datetime, limit: int) -> int:
    """See what is so by now."""
    chargers = dict.fromkeys(to_settle(now).values_list("charge_point_id", flat=True)[:limit])

    def look(pk: int) -> bool:
        settle(pk, now)
        return True

    return each(chargers, look, "availability of charge point")


# -- what came back and is not as wanted ---------------------------------------------------------------------------
def to_assert(now: datetime) -> QuerySet[Connector]:
    """Connectors whose charger came back since it was last asked, and that are not as somebody wants them."""
    differs = Q(availability_wanted=Availability.INOPERATIVE) & ~Q(status=UNAVAILABLE)
    differs |= Q(availability_wanted=Availability.OPERATIVE, status=UNAVAILABLE)
    opened = Connection.objects.filter(charge_point=OuterRef("charge_point__pk"), closed_at__isnull=True)
    back = Q(charge_point__last_boot__gt=F("availability_asserted_at"))
    back |= Exists(opened.filter(opened_at__gt=OuterRef("availability_asserted_at")))
    asked_now = Q(state=CommandState.QUEUED) | Q(state__in=commands.AWAITED, expires_at__gt=now)
    still = Command.objects.annotate(number=Cast(KT("payload__connectorId"), IntegerField())).filter(
        asked_now, Q(number=0) | Q(number=OuterRef("connector_id")), charge_point=OuterRef("charge_point__pk"), action=ACTION
    )
    lately = now - timedelta(seconds=COME_BACK_S)
    return (
        Connector.objects.filter(
            differs,
            back,
            availability_wanted_at__isnull=False,
            availability_asserted_at__lte=now - timedelta(seconds=AGAIN_S),
            charge_point__online=True,
            charge_point__blocked=False,
            charge_point__registration=Registration.ACCEPTED,
        )
        .exclude(Exists(opened.filter(opened_at__gt=lately)))
        .exclude(charge_point__last_boot__gt=lately)
        .exclude(Exists(still))
        .order_by("charge_point", "connector_id")
    )


def assert_due(now: datetime, limit: int) -> int:
    """Ask again for what is still wanted."""

    @transaction.atomic
    def ask(pk: UUID) -> bool:
        row = (
            to_assert(now)
            .select_for_update(skip_locked=True, of=("self",), no_key=True)
            .select_related("charge_point")
            .filter(pk=pk)
            .first()
        )
        if row is None:
            return False
        Connector.objects.filter(pk=pk).update(availability_asserted_at=now)
        if ACTION in quirks.of(row.charge_point).commands_unsupported or learned.refused(row.charge_point, ACTION):
            return True
        commands.request(
            row.charge_point,
            ACTION,
            {"connectorId": row.connector_id, "type": row.availability_wanted},
            trigger="wanted, and reported otherwise",
            background=True,
            expires_in_s=AGAIN_S,
        )
        return True

    return each(list(to_assert(now).values_list("pk", flat=True)[:limit]), ask, "availability of connector")
