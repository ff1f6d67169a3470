"""Files that chargers send: diagnostics (GetDiagnostics) and logs (GetLog), asked for, awaited, kept for a while.

What arrived is the truth, whatever the charger says of it: many say nothing, some say Uploaded and send nothing, some give no file
name and send one. A row is one asking; its address is good until `expires_at`.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from csms import askable, calls, commands, files, quirks, timestamps
from csms.events import UploadReported
from csms.frames import clean
from csms.models import ChargePoint, ChargerUpload, Command, CommandState, FirmwareImage
from csms.numbers import next_request_id
from voltaro import clock
from voltaro.jobs import each

State, Kind = ChargerUpload.State, ChargerUpload.Kind
# How long its file is waited for; longer, by as much as the request itself waits for its charger longer than usual.
GOOD_FOR = timedelta(hours=6)
# Asked for once more within so long: the same asking.
AGAIN_S = 30
KEEP = 20
OPEN = (State.REQUESTED, State.UPLOADING)
# In these a file that comes all the same is taken; the charger's word is not the end of it.
MAY_COME = (*OPEN, State.NOTHING, State.FAILED, State.UPLOADED)
FAILED = {"UploadFailed", "UploadFailure", "BadMessage", "NotSupportedOperation", "PermissionDenied"}
FIELDS = ("state", "reported_status", "reported_at", "reported_name", "error")


class Empty(Exception):
    """There is no file in it."""


class Closed(Exception):
    """Nobody waits for it any more."""


# -- asked by people ------------------------------------------------------------------------------------------------
@transaction.atomic
def ask(
    charge_point: ChargePoint,
    kind: str,
    *,
    by: str,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    retries: int | None = None,
    retry_interval_s: int | None = None,
    way: commands.Way | None = None,
) -> ChargerUpload:
    """Ask a charger for a file: GetDiagnostics, or GetLog of that kind. An earlier asking of the same kind is cancelled by it.

    `from_at`, `to_at` bound what it should send. `way`: how it is asked, when not from its page. Raises ValidationError with a
    sentence: nothing was asked then.
    """
    now = clock.now()
    _check(charge_point, kind, from_at, to_at)
    ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point.pk)  # two people ask at once: one after the other
    earlier = list(ChargerUpload.objects.filter(charge_point=charge_point, kind=kind, state__in=OPEN).order_by("-id"))
    lately = bool(earlier) and earlier[0].state == State.REQUESTED and (now - earlier[0].created_at).total_seconds() < AGAIN_S
    usual = calls.CALLS[_action(kind)].queue_s
    way = way or commands.Way("files", usual)
    if way.dedupe_key:  # asked for at the same moment under the same key
        lately = bool(earlier) and earlier[0].command is not None and earlier[0].command.dedupe_key == way.dedupe_key
    if lately:
        return earlier[0]
    for one in earlier:
        _end(one.pk, State.CANCELLED, "Asked for anew.", now)
        _never_sent(one, now, "Asked for anew before it was sent.")
    row = ChargerUpload.objects.create(
        charge_point=charge_point,
        kind=kind,
        request_id=next_request_id(),
        from_at=from_at,
        to_at=to_at,
        expires_at=now + GOOD_FOR + timedelta(seconds=max(0, way.expires_in_s - usual)),
        requested_by=by[:150],
    )
    action, payload = _payload(row, retries, retry_interval_s)
    row.command = commands.request(
        charge_point,
        action,
        payload,
        trigger=way.trigger,
        dedupe_key=way.dedupe_key or f"upload:{row.pk}",
        requested_by=by,
        expires_in_s=way.expires_in_s,
        batch=way.batch,
        send_after=way.send_after,
    )
    row.save(update_fields=["command"])
    audit.record("upload.requested", row, after={"charge_point": charge_point.pk, "kind": kind})
    return row


def asked(charge_point: ChargePoint, action: str, said: dict[str, Any], *, by: str, way: commands.Way) -> Command:
    """GetDiagnostics or GetLog by `commands.ask` (csms/calls.py). Raises ValidationError with a sentence."""
    since, until = ("oldestTimestamp", "latestTimestamp") if action == "GetLog" else ("startTime", "stopTime")
    row = ask(
        charge_point,
        said["logType"] if action == "GetLog" else Kind.DIAGNOSTICS,
        by=by,
        from_at=askable.moment(said, since),
        to_at=askable.moment(said, until),
        retries=said.get("retries"),
        retry_interval_s=said.get("retryInterval"),
        way=way,
    )
    assert row.command is not None
    return row.command


def cancel(row: ChargerUpload, *, by: str) -> bool:
    """Wait no longer: the address is closed. False when it was over already."""
    now = clock.now()
    with transaction.atomic():
        done = _end(row.pk, State.CANCELLED, f"Cancelled by {by}.", now, trigger="console")
        if done:
            _never_sent(row, now, "Cancelled before it was sent.")
    return done


def _never_sent(row: ChargerUpload, now: datetime, note: str) -> None:
    """Its address is closed: a request that still waits for the charger is not sent any more."""
    waits = Command.objects.filter(pk=row.command_id, state=CommandState.QUEUED)
    waits.update(state=CommandState.EXPIRED, settled_at=now, note=note, updated_at=now)


def _check(charge_point: ChargePoint, kind: str, from_at: datetime | None, to_at: datetime | None) -> None:
    if kind not in Kind.values:
        raise ValidationError("There is no such file to ask for.")
    askable.may_be_asked(charge_point, _action(kind))
    if from_at and to_at and to_at <= from_at:
        raise ValidationError("The time window ends before it begins.")


def _action(kind: str) -> str:
    return "GetDiagnostics" if kind == Kind.DIAGNOSTICS else "GetLog"


def _payload(row: ChargerUpload, retries: int | None, retry_interval_s: int | None) -> tuple[str, dict[str, Any]]:
    told: dict[str, Any] = {}
    if retries is not None:
        told["retries"] = retries
    if retry_interval_s is not None:
        told["retryInterval"] = retry_interval_s
    since = timestamps.write(row.from_at) if row.from_at else None
    until = timestamps.write(row.to_at) if row.to_at else None
    if row.kind == Kind.DIAGNOSTICS:
        told |= {"location": address(row)}
        told |= {name: value for name, value in (("startTime", since), ("stopTime", until)) if value}
        return "GetDiagnostics", told
    log = {"remoteLocation": address(row)}
    log |= {name: value for name, value in (("oldestTimestamp", since), ("latestTimestamp", until)) if value}
    return "GetLog", {"logType": row.kind, "requestId": row.request_id, "log": log, **told}


def address(row: ChargerUpload) -> str:
    """Where the charger sends it. Some put the file's name behind it, with or without a slash: csms/files.py reads both."""
    return files.url(files.UPLOADS, files.name_of(files.UPLOADS, row.pk, row.expires_at), quirks.of(row.charge_point).file_scheme)


# -- what comes -------------------------------------------------------------------------------------------------------
def open_for(pk: int, now: datetime) -> ChargerUpload | None:
    """The asking this address was made for, if its file may still come."""
    return ChargerUpload.objects.select_related("charge_point").filter(pk=pk, state__in=MAY_COME, expires_at__gt=now).first()


def receive(pk: int, stream: Any, name: str, now: datetime) -> None:
    """Keep the file that came. One that came before for the same asking is replaced: chargers send again what was cut off.

    Raises Empty, Closed, files.TooLarge, files.NoRoom: then nothing was kept.
    """
    stored = files.store(stream, files.UPLOADS, settings.MAX_UPLOAD_BYTES)
    try:
        if not stored.size_bytes:
            raise Empty
        with transaction.atomic():
            row = _locked(pk)
            if row.state not in MAY_COME:
                raise Closed
            replaced = row.file.name
            row.file, row.size_bytes, row.sha256, row.received_at = stored.name, stored.size_bytes, stored.sha256, now
            row.reported_name = row.reported_name or clean(name)[:255]
            _move(row, State.UPLOADED, "", trigger="file", always=True)
            row.save(update_fields=["file", "size_bytes", "sha256", "received_at"])
            commands.effective(Command.objects.filter(pk=row.command_id), now)
            transaction.on_commit(lambda: files.delete(replaced))
    except BaseException:
        files.delete(stored.name)
        raise
    keep_newest(row.charge_point_id)


def too_large(pk: int, now: datetime) -> None:
    """It sent more than may be kept."""
    with transaction.atomic():
        row = _locked(pk)
        if not row.file:
            _move(row, State.FAILED, f"More than {settings.MAX_UPLOAD_BYTES // 1024 // 1024} MiB.", trigger="file")


def keep_newest(charge_point_pk: int) -> int:
    """A charger's files beyond the newest KEEP are deleted; their rows stay."""
    kept = ChargerUpload.objects.filter(charge_point_id=charge_point_pk).exclude(file="").order_by("-received_at", "-id")
    return sum(_delete_file(pk, "newer ones came") for pk in list(kept.values_list("pk", flat=True)[KEEP : KEEP + 100]))


def _delete_file(pk: int, why: str) -> bool:
    with transaction.atomic():
        row = _locked(pk)
        if not row.file:
            return False
        gone = row.file.name
        row.file = ""
        row.save(update_fields=["file"])
        audit.record("upload.deleted", row, trigger=why, before={"size_bytes": row.size_bytes, "sha256": row.sha256})
        transaction.on_commit(lambda: files.delete(gone))
    return True


# -- what the charger says --------------------------------------------------------------------------------------------
def said(charge_point_pk: int, told: UploadReported, now: datetime) -> str:
    """DiagnosticsStatusNotification, LogStatusNotification: what it makes of its asking; a note when it makes nothing."""
    if told.status == "Idle":
        return ""
    mine = ChargerUpload.objects.filter(charge_point_id=charge_point_pk, expires_at__gt=now, state__in=MAY_COME)
    mine = mine.exclude(kind=Kind.DIAGNOSTICS) if told.log else mine.filter(kind=Kind.DIAGNOSTICS)
    if told.log and told.request_id is not None:
        mine = mine.filter(request_id=told.request_id)
    newest = mine.order_by("-id").values_list("pk", flat=True).first()
    if newest is None:
        return "no file of ours is awaited"
    if told.status not in FAILED and told.status not in ("Uploading", "Uploaded"):
        return "unknown status"
    with transaction.atomic():
        row = _locked(newest)
        if row.reported_status == told.status:
            return "duplicate"
        row.reported_status, row.reported_at = told.status, now
        if row.state == State.UPLOADED:  # the file is here
            row.save(update_fields=["reported_status", "reported_at"])
        elif told.status in FAILED:
            _move(row, State.FAILED, told.status, trigger=told.status)
        else:  # Uploaded, but nothing is here yet: it may be on its way through a proxy
            _move(row, State.UPLOADING, "", trigger=told.status)
    return ""


def answered(command: Command, now: datetime) -> None:
    """The charger's answer to GetDiagnostics or GetLog (csms/calls.py)."""
    found = ChargerUpload.objects.filter(charge_point_id=command.charge_point_id, command=command).values_list("pk", flat=True).first()
    if found is None:
        return
    response = command.response or {}
    status = str(response.get("status", "")) if command.action == "GetLog" else ""
    row = _locked(found)
    row.reported_name = row.reported_name or clean(str(response.get("fileName") or response.get("filename") or ""))[:255]
    if status == "AcceptedCanceled":
        for pk in _others(row):
            _end(pk, State.CANCELLED, "The charger cancelled it for a newer one.", now, trigger="answer")
    if row.state != State.REQUESTED:  # what it does came before what it answers
        row.save(update_fields=["reported_name"])
    elif command.error or status not in ("", "Accepted", "AcceptedCanceled"):
        _move(row, State.REFUSED, command.error or status, trigger="answer")
    elif not row.reported_name:  # 1.6 §5.9: no name, no file. Some send one all the same: the address stays good
        _move(row, State.NOTHING, "It gave no file name.", trigger="answer")
    else:
        row.save(update_fields=["reported_name"])


def ended(command: Command, now: datetime) -> None:
    """It was never sent: nobody waits. Sent and not answered: a file may still come until the address expires."""
    if command.sent_at is None:
        pk = ChargerUpload.objects.filter(charge_point_id=command.charge_point_id, command=command).values_list("pk", flat=True).first()
        if pk is not None:
            _end(pk, State.EXPIRED, "The charger was not there to be asked.", now, trigger="no answer")


def _others(row: ChargerUpload) -> list[int]:
    logs = ChargerUpload.objects.filter(charge_point_id=row.charge_point_id, state__in=OPEN).exclude(kind=Kind.DIAGNOSTICS)
    return list(logs.exclude(pk=row.pk).values_list("pk", flat=True))


# -- time -------------------------------------------------------------------------------------------------------------
def to_expire(now: datetime) -> QuerySet[ChargerUpload]:
    """Files that did not come while their address was good."""
    return ChargerUpload.objects.filter(state__in=OPEN, expires_at__lt=now).order_by("expires_at")


def expire_due(now: datetime, limit: int) -> int:
    """Wait no longer for what did not come."""

    def expire(pk: int) -> bool:
        said = ChargerUpload.objects.values_list("reported_status", flat=True).get(pk=pk)
        return _end(pk, State.EXPIRED, "It said Uploaded; nothing came." if said == "Uploaded" else "Nothing came.", now, trigger="time")

    return each(list(to_expire(now).values_list("pk", flat=True)[:limit]), expire, "upload")


def old_files(now: datetime) -> QuerySet[ChargerUpload]:
    """Files past UPLOAD_RETENTION_DAYS."""
    return ChargerUpload.objects.exclude(file="").filter(received_at__lt=now - timedelta(days=settings.UPLOAD_RETENTION_DAYS))


def files_due(now: datetime, limit: int) -> int:
    """Delete files past their retention; the rows stay. And what no row speaks of, a day later."""
    for folder, rows in ((files.UPLOADS, ChargerUpload.objects.exclude(file="")), (files.FIRMWARE, FirmwareImage.objects.all())):
        for name in files.strays(folder, set(rows.values_list("file", flat=True)), now - timedelta(days=1)):
            files.delete(name)
    pks = list(old_files(now).order_by("received_at").values_list("pk", flat=True)[:limit])
    return each(pks, lambda pk: _delete_file(pk, "retention"), "upload")


# -- one row ------------------------------------------------------------------------------------------------------------
def _locked(pk: int) -> ChargerUpload:
    """The row, locked after its command: that is how the answer to it comes, too."""
    command_pk = ChargerUpload.objects.values_list("command_id", flat=True).get(pk=pk)
    Command.objects.select_for_update(no_key=True).filter(pk=command_pk).first()
    return ChargerUpload.objects.select_for_update(no_key=True, of=("self",)).select_related("charge_point").get(pk=pk)


def _move(row: ChargerUpload, state: str, error: str, *, trigger: str, always: bool = False) -> None:
    before = row.state
    row.state, row.error = state, error[:200]
    row.save(update_fields=FIELDS)
    if before != state or always:
        seen = {"state": state, "error": row.error}
        if state == State.UPLOADED:
            seen |= {"size_bytes": row.size_bytes, "sha256": row.sha256}
        audit.record(f"upload.{state}", row, trigger=trigger, before={"state": before}, after=seen)


@transaction.atomic
def _end(pk: int, state: str, error: str, now: datetime, *, trigger: str = "") -> bool:
    row = _locked(pk)
    if row.state not in OPEN:
        return False
    _move(row, state, error, trigger=trigger)
    return True
