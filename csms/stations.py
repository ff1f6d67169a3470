"""Charge points as the operator knows them: set up, online or silent, what they say of themselves."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import F, QuerySet

from accounts import audit
from accounts.models import Company
from csms import credentials, faults, lines, live, sessions
from csms import firmware as updates
from csms.events import Booted, StatusReported
from csms.metering import Place
from csms.models import ChargePoint, Connection, Connector, Station
from voltaro import clock
from voltaro.jobs import each, ring

MAX_CONNECTORS = 20
REPLACED = "from a replaced socket: not believed"


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
        charge_point.pending_credentials_hash, charge_point.pending_security_profile, charge_point.pending_since = "", None, None
    elif key is not None or created:
        shown = key or credentials.new_key()
        charge_point.security_profile = max(1, charge_point.security_profile)
        charge_point.credentials_hash = credentials.hashed(cp_id, shown)
        # The last word: a key that was being changed over the wire opens nothing any more.
        charge_point.pending_credentials_hash, charge_point.credentials_at = "", clock.now()
        charge_point.pending_since = charge_point.pending_since if charge_point.pending_security_profile is not None else None
    charge_point.save()
    for number in range(1, connectors + 1):
        Connector.objects.get_or_create(charge_point=charge_point, connector_id=number, defaults={"type": type, "max_power_w": max_power_w})
    audit.record("charge_point.added" if created else "charge_point.changed", charge_point, after={"connectors": connectors, "type": type})
    return charge_point, shown, created


# -- what the charger says of itself -----------------------------------------------------------------------------
_BOOTED = """
UPDATE csms_chargepoint AS now SET vendor = %s, model = %s, firmware_version = coalesce(nullif(%s, ''), now.firmware_version),
  reported_serial = %s, boot_count = now.boot_count + 1, last_boot = %s, last_seen = %s, updated_at = %s
FROM (SELECT id, firmware_version, reported_serial, last_boot FROM csms_chargepoint WHERE id = %s AND epoch = %s FOR NO KEY UPDATE)
  AS before
WHERE now.id = before.id
RETURNING now.registration, before.firmware_version, before.reported_serial, now.firmware_version, now.serial_number,
  before.last_boot, now.boot_count, now.unclaimed, now.learned::text,
  EXISTS (SELECT 1 FROM csms_chargingsession WHERE charge_point_id = now.id AND state <> 'STOPPED'),
  EXISTS (SELECT 1 FROM csms_firmwareupdate WHERE charge_point_id = now.id AND finished_at IS NULL)"""


@dataclass(frozen=True)
class Boot:
    """A charger's row when it has booted: as it stands, and when it booted before (None: never)."""

    registration: str
    firmware: str
    serial_number: str
    last_boot: datetime | None
    boot_count: int
    unclaimed: bool
    learned: dict[str, Any]
    charging: bool


def booted(charge_point_pk: int, epoch: int, said: Booted, now: datetime) -> Boot | None:
    """BootNotification: store what it says, suspend what was running. What it is answered is decided in csms/boots.py.

    None when a newer socket owns the charger. Written out: after an outage the whole fleet comes this way within a minute.
    """
    told = [said.vendor, said.model, said.firmware_version, said.serial_number, now, now, now, charge_point_pk, epoch]
    with connection.cursor() as cursor:
        cursor.execute(_BOOTED, told)
        found = cursor.fetchone()
    if found is None:
        return None
    registration, old_firmware, old_serial, firmware, serial, last_boot, count, unclaimed, learned, charging, updating = found
    if not serial and said.serial_number and not unclaimed:
        _take_serial(ChargePoint(pk=charge_point_pk), said.serial_number)
    if (old_firmware, old_serial) != (firmware, said.serial_number):
        audit.record(
            "charge_point.booted",
            ChargePoint(pk=charge_point_pk),
            before={"firmware": old_firmware, "serial": old_serial},
            after={"firmware": firmware, "serial": said.serial_number},
        )
    if charging:
        sessions.suspend_live(charge_point_pk, "booted", now)
    if updating or (old_firmware != firmware and last_boot is not None):
        updates.booted(charge_point_pk, said.firmware_version, now)
    return Boot(registration, firmware, serial or "", last_boot, count, unclaimed, json.loads(learned), charging)


def _take_serial(row: ChargePoint, serial: str) -> None:
    """The first boot's serial number, when no other charger has it: some vendors print the same on every unit."""
    try:
        with transaction.atomic():
            ChargePoint.objects.filter(pk=row.pk).update(serial_number=serial)
            row.serial_number = serial
    except IntegrityError:
        audit.record("charge_point.serial_taken", row, after={"serial": serial})


def connector(cp_id: str, number: int) -> Connector:
    """The connector of that number; made when the charger speaks of one we did not know."""
    found, created = Connector.objects.get_or_create(charge_point_id=cp_id, connector_id=number)
    if created:
        audit.record("connector.discovered", found, after={"connector_id": number})
    return found


_STATUS = """
UPDATE csms_connector AS now SET status = %s, error_code = %s, info = %s, vendor_error_code = %s, last_updated = %s, updated_at = %s
FROM (SELECT id, error_code, status, last_updated FROM csms_connector
  WHERE charge_point_id = %s AND connector_id = %s FOR NO KEY UPDATE) AS before
WHERE now.id = before.id AND (before.last_updated IS NULL OR before.last_updated <= %s)
  AND EXISTS (SELECT 1 FROM csms_chargepoint WHERE id = %s AND epoch = %s)
RETURNING now.code, before.error_code NOT IN ('', 'NoError') OR before.status = 'Faulted'"""


def status(charge_point_pk: int, cp_id: str, epoch: int, said: StatusReported, now: datetime) -> tuple[str, str]:
    """StatusNotification: connector 0 is the charger itself. Answers with the code of the connector that changed, or a note.

    An older report than the one we hold is history; a clock that is an hour off is not asked. From a replaced socket
    nothing is believed.
    """
    if said.connector_no == 0:
        mine = ChargePoint.objects.filter(pk=charge_point_pk, epoch=epoch)
        if not mine.update(status=said.status, error_code=said.error_code, last_updated=now, last_seen=now):
            return "", REPLACED
        faults.remember(charge_point_pk, said, now)
        return "", ""
    if said.connector_no > MAX_CONNECTORS:
        return "", f"connector {said.connector_no} is more than a charger has"
    at = status_time(said, now)
    told = [said.status, said.error_code, said.info[:200], said.vendor_error_code, at, now]
    told += [cp_id, said.connector_no, at, charge_point_pk, epoch]
    with connection.cursor() as cursor:
        cursor.execute(_STATUS, told)
        found = cursor.fetchone()
        if found is None:
            if not ChargePoint.objects.filter(pk=charge_point_pk, epoch=epoch).exists():
                return "", REPLACED
            if connector(cp_id, said.connector_no).last_updated is not None:
                return "", "older than the status we hold"
            cursor.execute(_STATUS, told)
            found = cursor.fetchone()
    code, was_faulty = found
    if faults.told(said) or was_faulty:
        faults.remember(charge_point_pk, said, now)
    return code, ""


def status_time(said: StatusReported, now: datetime) -> datetime:
    """When it was so: the charger's word, unless its clock is an hour off."""
    return said.at if said.at and abs((now - said.at).total_seconds()) <= 3600 else now


# -- connections: who owns which charger ----------------------------------------------------------------------------
_CLAIM = """
WITH mine AS (
  UPDATE csms_chargepoint SET epoch = epoch + 1, online = true, last_seen = %(now)s, ocpp_version = %(version)s
  WHERE id = %(pk)s RETURNING epoch
), replaced AS (
  UPDATE csms_connection SET closed_at = %(now)s, close_reason = 'replaced'
  WHERE charge_point_id = %(pk)s AND closed_at IS NULL RETURNING epoch, channel
), made AS (
  INSERT INTO csms_connection (charge_point_id, epoch, process, channel, lease_until, remote_address, subprotocol, security_profile,
    opened_at, created_at, close_reason)
  SELECT %(pk)s, epoch, %(process)s, %(channel)s, %(lease)s, %(address)s, %(subprotocol)s, %(profile)s, %(now)s, %(now)s, '' FROM mine
), restarted AS (
  UPDATE csms_command SET state = 'effective', settled_at = %(now)s, updated_at = %(now)s,
    note = left(btrim(note || ' It connected again.'), 255)
  WHERE charge_point_id = %(pk)s AND action = 'Reset' AND state IN ('sent', 'accepted', 'timeout', 'unknown')
), listed AS (
  UPDATE csms_locallist SET next_try_at = %(now)s + interval '15 seconds',
    reported_at = CASE WHEN reported_at > %(now)s - interval '10 minutes' THEN reported_at END
  WHERE charge_point_id = %(pk)s AND enabled AND state IN ('due', 'sending', 'in_step')
), woken AS (
  UPDATE csms_idtag SET ask_at = %(now)s
  WHERE charge_point_id = %(pk)s AND kind = 'one_time' AND state = 'ready' AND start_until > %(now)s RETURNING 1
)
SELECT epoch, coalesce((SELECT channel FROM replaced ORDER BY epoch DESC LIMIT 1), ''), EXISTS (SELECT 1 FROM woken) FROM mine"""


def claim(
    charge_point_pk: int,
    *,
    process: str,
    channel: str,
    remote_address: str,
    subprotocol: str,
    now: datetime,
    security_profile: int | None = None,
) -> tuple[int, str]:
    """A newcomer with the right key takes the charger: the new epoch, and the channel of the socket it replaces ("" for none).

    Whoever has paid here and waits for the charger is asked for again; a restart that was asked has happened. One statement:
    the charger's row is locked by its own UPDATE, so that of two newcomers one is simply the later.
    """
    told = {
        "pk": charge_point_pk,
        "now": now,
        "version": subprotocol.removeprefix("ocpp"),
        "process": process,
        "channel": channel,
        "lease": now + timedelta(seconds=lease_s()),
        "address": remote_address[:64],
        "subprotocol": subprotocol,
        "profile": security_profile,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, told)
        epoch, replaced, woken = cursor.fetchone()
    if woken:
        ring("permit.ask")
    return epoch, replaced


_RELEASE = """
WITH mine AS (
  UPDATE csms_chargepoint SET online = false WHERE id = %(pk)s AND epoch = %(epoch)s RETURNING id
), closed AS (
  UPDATE csms_connection SET closed_at = %(now)s, close_code = %(code)s, close_reason = coalesce(nullif(close_reason, ''), %(reason)s)
  WHERE charge_point_id = %(pk)s AND epoch = %(epoch)s AND closed_at IS NULL
), unheard AS (
  UPDATE csms_command SET state = 'unknown', error = 'The connection was lost before the answer.', updated_at = %(now)s,
    expires_at = %(now)s + interval '180 seconds'
  WHERE charge_point_id = %(pk)s AND epoch = %(epoch)s AND state = 'sent'
)
SELECT EXISTS (SELECT 1 FROM csms_chargingsession s WHERE s.charge_point_id = mine.id AND s.state <> 'STOPPED') FROM mine"""


@transaction.atomic
def release(charge_point_pk: int, epoch: int, *, close_code: int | None, reason: str, now: datetime) -> bool:
    """The socket of `epoch` is gone. Only the newest one takes the charger offline and suspends its sessions: then True.

    A command in flight may have been obeyed: unknown, and not sent again blindly. The charger's row before its
    connection's, as `claim` has it: chargers come back while their old socket is put away.
    """
    told = {"pk": charge_point_pk, "epoch": epoch, "now": now, "code": close_code, "reason": reason[:80]}
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, told)
        newest = cursor.fetchone()
    if newest is not None and newest[0]:
        sessions.suspend_live(charge_point_pk, "disconnected", now)
    return newest is not None


_HANG_UP = """
WITH mine AS (
  UPDATE csms_chargepoint AS now SET epoch = now.epoch + 1, online = false
  FROM (SELECT id, online FROM csms_chargepoint WHERE id = %(pk)s FOR NO KEY UPDATE) AS before
  WHERE now.id = before.id RETURNING now.epoch, before.online
), told AS (
  UPDATE csms_connection SET close_reason = %(reason)s WHERE charge_point_id = %(pk)s AND closed_at IS NULL RETURNING epoch, channel
)
SELECT epoch, coalesce((SELECT channel FROM told ORDER BY epoch DESC LIMIT 1), ''), online FROM mine"""


@transaction.atomic
def hang_up(charge_point_pk: int, reason: str, now: datetime) -> bool:
    """Close this charger's line, whichever process holds it: it is fenced at once, and its process is told (or finds out within
    fifteen seconds). False: it had none."""
    with connection.cursor() as cursor:
        cursor.execute(_HANG_UP, {"pk": charge_point_pk, "reason": reason[:80]})
        epoch, channel, was_open = cursor.fetchone()
    sessions.suspend_live(charge_point_pk, reason, now)
    if channel:
        told = {"type": "socket.replaced", "charge_point": charge_point_pk, "epoch": epoch}
        transaction.on_commit(lambda: live.send(channel, told))
    return bool(was_open)


def lease_s() -> int:
    """How long a process may be silent before its sockets count as gone."""
    return settings.HEARTBEAT_TIMEOUT_S


def renew_leases(process: str, now: datetime, held: list[int] | None = None) -> int:
    """This process lives: its open connections stay its own for another lease.

    `held` names the chargers whose sockets it truly holds. A socket whose end could not be written (the database was away)
    has an open row too: its lease must run out.
    """
    mine = Connection.objects.filter(process=process, closed_at__isnull=True)
    if held is not None:
        mine = mine.filter(charge_point_id__in=held)
    return mine.update(lease_until=now + timedelta(seconds=lease_s()))


def fenced(process: str) -> list[tuple[int, int]]:
    """(charge point, epoch) of this process's sockets that were replaced and not told: the telling is at-most-once, and of
    two claims at the same moment neither sees the other's row."""
    mine = Connection.objects.filter(process=process, closed_at__isnull=True, epoch__lt=F("charge_point__epoch"))
    return list(mine.order_by("id").values_list("charge_point_id", "epoch"))


def lapsed(process: str, held: list[int]) -> list[tuple[int, int]]:
    """(charge point, epoch) of this process's sockets whose lease ran out while they lived (the database was away, or the process
    stood still): offline by their rows, and nobody else has them. `held` names the chargers whose sockets it truly holds."""
    mine = Connection.objects.filter(process=process, charge_point_id__in=held, closed_at__isnull=False, epoch=F("charge_point__epoch"))
    return list(mine.order_by("id").values_list("charge_point_id", "epoch"))


def to_mark_silent(now: datetime) -> QuerySet[ChargePoint]:
    """Chargers shown online whose process is gone (its lease ran out), or that have no open connection at all."""
    held = Connection.objects.filter(closed_at__isnull=True, lease_until__gte=now).values("charge_point_id")
    return ChargePoint.objects.filter(online=True).exclude(pk__in=held).order_by("pk")


def silent_due(now: datetime, limit: int) -> int:
    """Take offline what nobody holds: after a kill -9 no process says goodbye. Its sessions are suspended, not ended."""
    rows = dict(to_mark_silent(now).values_list("pk", "epoch")[:limit])

    def let_go(pk: int) -> bool:
        if release(pk, rows[pk], close_code=None, reason="lease ran out", now=now):
            live.changed_charge_point(pk)
        return True

    done = each(rows, let_go, "charge point")
    Connection.objects.filter(closed_at__isnull=True, lease_until__lt=now).update(closed_at=now, close_reason="lease ran out")
    lines.calm(now)
    return done


@dataclass(frozen=True)
class Known:
    """What the door knows of a charger: who it is, what it must show, and where its connectors are."""

    pk: int
    cp_id: str
    blocked: bool
    registration: str
    security_profile: int
    keys: tuple[str, str]
    booted: bool
    unclaimed: bool
    pending_security_profile: int | None
    certificate_name: str
    serial_number: str
    vendor: str
    model: str
    firmware_version: str
    quirk_profile_pk: int | None
    quirk_settings: dict[str, Any]
    places: dict[UUID, Place]
    learned: dict[str, Any] = field(default_factory=dict)
    clock_offset_s: int | None = None


_KNOWN = """
SELECT c.id, c.cp_id, c.blocked, c.registration, c.security_profile, c.credentials_hash, c.pending_credentials_hash,
  c.last_boot IS NOT NULL, c.unclaimed, c.pending_security_profile, c.certificate_name, coalesce(c.serial_number, ''), c.vendor, c.model,
  c.firmware_version, c.quirk_profile_id, c.quirk_settings, c.learned, c.clock_offset_s, n.id, n.code, n.connector_id, n.max_power_w
FROM csms_chargepoint c LEFT JOIN csms_connector n ON n.charge_point_id = c.cp_id WHERE """


def find(identity: str) -> Known | None:
    """The charger of this identity, matched without regard to case when it must be; None when unknown."""
    with connection.cursor() as cursor:
        for where in ("c.cp_id = %s", "upper(c.cp_id) = upper(%s)"):
            cursor.execute(_KNOWN + where, [identity])
            if rows := cursor.fetchall():
                places = {row[-4]: Place(*row[-3:]) for row in rows if row[-4] is not None}
                first = rows[0]
                own, learned = (json.loads(one) if isinstance(one, str) else one for one in first[16:18])
                return Known(*first[:5], (first[5], first[6]), *first[7:16], own, places, learned, first[18])
    return None
