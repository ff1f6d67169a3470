"""Charge points as the operator knows them: set up, online or silent, what they say of themselves."""

from datetime import datetime, timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.models import Company
from csms import credentials, live, sessions
from csms.events import Booted, StatusReported
from csms.models import ChargePoint, ChargerError, Connection, Connector, Registration, Station

MAX_CONNECTORS = 20


def reachable(charge_point: ChargePoint, now: datetime) -> bool:
    """Whether a command may still reach it: it is online, or was heard within HEARTBEAT_TIMEOUT_S."""
    if charge_point.online:
        return True
    seen = charge_point.last_seen
    return seen is not None and (now - seen).total_seconds() < settings.HEARTBEAT_TIMEOUT_S


@transaction.atomic
def add_charge_point(
    cp_id: str,
    *,
    company: Company,
    station: Station | None = None,
    connectors: int = 1,
    type: str = "ccs2",
    max_power_w: int = 60_000,
    key: str | None = None,
    no_auth: bool = False,
) -> tuple[ChargePoint, str | None, bool]:
    """Set a charger up: (charge point, its key when one was set now, whether it is new). Asking again changes nothing but what is given.

    Raises ValidationError for a bad identity, key or number of connectors.
    """
    if not 1 <= connectors <= MAX_CONNECTORS:
        raise ValidationError(f"A charger has 1 to {MAX_CONNECTORS} connectors, not {connectors}.")
    if key is not None and not 16 <= len(key) <= 40:
        raise ValidationError("A key has 16 to 40 characters.")
    if max_power_w <= 0:
        raise ValidationError("The power must be above 0.")
    charge_point = ChargePoint.objects.select_for_update().filter(cp_id=cp_id).first()
    created = charge_point is None
    if charge_point is None:
        clash = ChargePoint.objects.filter(cp_id__iexact=cp_id).first()
        if clash:
            raise ValidationError(f"{cp_id} differs from {clash.cp_id} only in case; chargers get that wrong. Choose another identity.")
        charge_point = ChargePoint(cp_id=cp_id, company=company, station=station)
        charge_point.full_clean(exclude=["public_code"])
    elif station is not None:
        charge_point.station = station
    shown: str | None = None
    if no_auth:
        charge_point.security_profile, charge_point.credentials_hash = 0, ""
    elif key is not None or created:
        shown = key or credentials.new_key()
        charge_point.security_profile = max(1, charge_point.security_profile)
        charge_point.credentials_hash = credentials.hashed(cp_id, shown)
    charge_point.save()
    for number in range(1, connectors + 1):
        Connector.objects.get_or_create(charge_point=charge_point, connector_id=number, defaults={"type": type, "max_power_w": max_power_w})
    audit.record("charge_point.added" if created else "charge_point.changed", charge_point, after={"connectors": connectors, "type": type})
    return charge_point, shown, created


# -- what the charger says of itself -----------------------------------------------------------------------------
def booted(charge_point_pk: int, said: Booted, now: datetime) -> str:
    """BootNotification: store what it says, suspend what was running, answer with its registration status."""
    row = ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point_pk)
    before = {"firmware": row.firmware_version, "serial": row.reported_serial}
    row.vendor, row.model = said.vendor, said.model
    row.firmware_version = said.firmware_version or row.firmware_version
    row.reported_serial = said.serial_number
    row.boot_count += 1
    row.last_boot = row.last_seen = now
    fields = ["vendor", "model", "firmware_version", "reported_serial", "boot_count", "last_boot", "last_seen"]
    row.save(update_fields=fields)
    if not row.serial_number and said.serial_number:
        _take_serial(row, said.serial_number)
    if before != {"firmware": row.firmware_version, "serial": row.reported_serial}:
        audit.record("charge_point.booted", row, before=before, after={"firmware": row.firmware_version, "serial": row.reported_serial})
    sessions.suspend_live(charge_point_pk, "booted", now)
    return row.registration


def _take_serial(row: ChargePoint, serial: str) -> None:
    """The first boot's serial number, when no other charger has it: some vendors print the same on every unit."""
    try:
        with transaction.atomic():
            ChargePoint.objects.filter(pk=row.pk).update(serial_number=serial)
            row.serial_number = serial
    except IntegrityError:
        audit.record("charge_point.serial_taken", row, after={"serial": serial})


def heartbeat(charge_point_pk: int, now: datetime) -> None:
    ChargePoint.objects.filter(pk=charge_point_pk).update(last_heartbeat=now, last_seen=now)


def connector(cp_id: str, number: int) -> Connector:
    """The connector of that number; made when the charger speaks of one we did not know."""
    found, created = Connector.objects.get_or_create(charge_point_id=cp_id, connector_id=number)
    if created:
        audit.record("connector.discovered", found, after={"connector_id": number})
    return found


def status(charge_point_pk: int, cp_id: str, said: StatusReported, now: datetime) -> list[str]:
    """StatusNotification: connector 0 is the charger itself. Returns the codes of the connectors whose pages change."""
    at = said.at or now
    codes: list[str] = []
    if said.connector_no == 0:
        ChargePoint.objects.filter(pk=charge_point_pk).update(
            status=said.status, error_code=said.error_code, last_updated=now, last_seen=now
        )
    elif said.connector_no <= MAX_CONNECTORS:
        row = connector(cp_id, said.connector_no)
        # An older report than the one we hold is history; clocks that lie are not asked.
        if row.last_updated is None or at >= row.last_updated or abs((now - at).total_seconds()) > 3600:
            row.status, row.error_code, row.info = said.status, said.error_code, said.info[:200]
            row.vendor_error_code = said.vendor_error_code
            row.last_updated = at if abs((now - at).total_seconds()) <= 3600 else now
            row.save(update_fields=["status", "error_code", "info", "vendor_error_code", "last_updated"])
        codes.append(row.code)
    _remember_error(charge_point_pk, said, now)
    return codes


def _remember_error(charge_point_pk: int, said: StatusReported, now: datetime) -> None:
    still_open = ChargerError.objects.filter(charge_point_id=charge_point_pk, connector_no=said.connector_no, resolved_at__isnull=True)
    if said.error_code in ("", "NoError"):
        still_open.update(resolved_at=now)
        return
    same = {"error_code": said.error_code, "vendor_error_code": said.vendor_error_code}
    if not still_open.filter(**same).exists():
        ChargerError.objects.create(
            charge_point_id=charge_point_pk,
            connector_no=said.connector_no,
            status=said.status,
            info=said.info[:200],
            vendor_id=said.vendor_id[:255],
            reported_at=now,
            **same,
        )


# -- connections: who owns which charger ----------------------------------------------------------------------------
@transaction.atomic
def claim(charge_point_pk: int, *, process: str, channel: str, remote_address: str, subprotocol: str, now: datetime) -> tuple[int, str]:
    """A newcomer with the right key takes the charger: the new epoch, and the channel of the socket it replaces ("" for none)."""
    row = ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point_pk)
    row.epoch += 1
    row.online, row.last_seen, row.ocpp_version = True, now, subprotocol.removeprefix("ocpp")
    ChargePoint.objects.filter(pk=row.pk).update(epoch=row.epoch, online=True, last_seen=now, ocpp_version=row.ocpp_version)
    old = Connection.objects.filter(charge_point=row, closed_at__isnull=True).order_by("-epoch").values_list("channel", flat=True)
    replaced = next(iter(old), "")
    Connection.objects.filter(charge_point=row, closed_at__isnull=True).update(closed_at=now, close_reason="replaced")
    Connection.objects.create(
        charge_point=row,
        epoch=row.epoch,
        process=process,
        channel=channel,
        lease_until=now + timedelta(seconds=lease_s()),
        remote_address=remote_address[:64],
        subprotocol=subprotocol,
        opened_at=now,
    )
    return row.epoch, replaced


@transaction.atomic
def release(charge_point_pk: int, epoch: int, *, close_code: int | None, reason: str, now: datetime) -> None:
    """The socket of `epoch` is gone. Only the newest one takes the charger offline and suspends its sessions."""
    Connection.objects.filter(charge_point_id=charge_point_pk, epoch=epoch, closed_at__isnull=True).update(
        closed_at=now, close_code=close_code, close_reason=reason[:80]
    )
    if ChargePoint.objects.filter(pk=charge_point_pk, epoch=epoch).update(online=False):
        sessions.suspend_live(charge_point_pk, "disconnected", now)
        live.changed_charge_point(charge_point_pk)


def lease_s() -> int:
    """How long a process may be silent before its sockets count as gone."""
    return settings.HEARTBEAT_TIMEOUT_S


def renew_leases(process: str, now: datetime) -> int:
    """This process lives: its open connections stay its own for another lease."""
    return Connection.objects.filter(process=process, closed_at__isnull=True).update(lease_until=now + timedelta(seconds=lease_s()))


def to_mark_silent(now: datetime) -> QuerySet[ChargePoint]:
    """Chargers shown online whose process is gone (its lease ran out), or that have no open connection at all."""
    held = Connection.objects.filter(closed_at__isnull=True, lease_until__gte=now).values("charge_point_id")
    return ChargePoint.objects.filter(online=True).exclude(pk__in=held).order_by("pk")


def silent_due(now: datetime, limit: int) -> int:
    """Take offline what nobody holds: after a kill -9 no process says goodbye. Its sessions are suspended, not ended."""
    rows = list(to_mark_silent(now).values_list("pk", "epoch")[:limit])
    for pk, epoch in rows:
        release(pk, epoch, close_code=None, reason="lease ran out", now=now)
    Connection.objects.filter(closed_at__isnull=True, lease_until__lt=now).update(closed_at=now, close_reason="lease ran out")
    return len(rows)


def find(identity: str) -> ChargePoint | None:
    """The charger of this identity, matched without regard to case; None when unknown."""
    return ChargePoint.objects.filter(cp_id=identity).first() or ChargePoint.objects.filter(cp_id__iexact=identity).first()


def may_connect(charge_point: ChargePoint, basic: tuple[str, bytes] | None) -> bool:
    """Whether this socket may be that charger: profile 0 needs nothing, else its own id and key."""
    if charge_point.blocked or charge_point.registration == Registration.REJECTED:
        return False
    if charge_point.security_profile == 0:
        return True
    if basic is None or basic[0].casefold() != charge_point.cp_id.casefold():
        return False
    stored = (charge_point.credentials_hash, charge_point.pending_credentials_hash)
    return any([credentials.matches(charge_point.cp_id, one, basic[1]) for one in stored])
