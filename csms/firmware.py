"""Firmware updates: asked for, followed through what chargers say and fetch, and ended by what they boot with.

The rule is csms/rules/firmware.py. Every change of an update goes through `_step`: its row is locked (after its command, as
everywhere), the rule is asked, and what it said is written, audited and carried out in one transaction.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from accounts import audit
from csms import alerts, askable, calls, commands, files, quirks, timestamps
from csms.events import FirmwareReported
from csms.models import ChargePoint, Command, CommandState, FirmwareImage, FirmwareUpdate
from csms.numbers import next_request_id
from csms.rules import firmware as rule
from csms.rules.firmware import Event, Update, Verdict
from voltaro import clock
from voltaro.jobs import each

ALERT = "firmware"
# The address is good for so long after the charger was to begin: slow modems, and chargers that try again by themselves.
ADDRESS = timedelta(days=3)
AHEAD = timedelta(days=60)
# A charger whose clock is behind ours would wait for "now".
CLOCK_S = 60
_WRITTEN = ("state", "attempts", "error", "to_version", "next_try_at", "deadline_at", "finished_at")


# -- asked by people ------------------------------------------------------------------------------------------------
def update(
    charge_point: ChargePoint,
    image: FirmwareImage,
    *,
    by: str,
    signed: bool = False,
    retrieve_at: datetime | None = None,
    install_at: datetime | None = None,
    way: commands.Way | None = None,
) -> FirmwareUpdate:
    """Ask a charger to load and install this image: UpdateFirmware, or SignedUpdateFirmware with its manufacturer's signature.

    One is open per charger. `way`: how it is asked, when not from its page. Raises ValidationError with a sentence: nothing was asked then.
    """
    now = clock.now()
    _check(charge_point, image, signed, retrieve_at, install_at, now)
    try:
        with transaction.atomic():
            row = FirmwareUpdate.objects.create(
                charge_point=charge_point,
                image=image,
                request_id=next_request_id(),
                signed=signed,
                retrieve_at=retrieve_at or now,
                install_at=install_at,
                from_version=charge_point.firmware_version,
                requested_by=by[:150],
            )
            audit.record(
                "firmware.requested",
                row,
                after={"charge_point": charge_point.pk, "version": image.version, "sha256": image.sha256, "signed": signed},
            )
            _ask(row, now, by=by, background=False, way=way)
    except IntegrityError:
        raise ValidationError(f"An update of {charge_point} is already on its way.")
    return row


def asked(charge_point: ChargePoint, action: str, said: dict[str, Any], *, by: str, way: commands.Way) -> Command:
    """UpdateFirmware or SignedUpdateFirmware by `commands.ask` (csms/calls.py): of the image that is named by its number.

    Raises ValidationError with a sentence.
    """
    image = FirmwareImage.objects.filter(pk=said["image"]).first()
    if image is None:
        raise ValidationError(f"There is no firmware image {said['image']}: they are kept under Firmware in the console.", "image")
    signed = action == "SignedUpdateFirmware"
    row = update(
        charge_point,
        image,
        by=by,
        signed=signed,
        retrieve_at=askable.moment(said, "retrieveDateTime" if signed else "retrieveDate"),
        install_at=askable.moment(said, "installDateTime"),
        way=way,
    )
    assert row.command is not None
    return row.command


def cancel(row: FirmwareUpdate, *, by: str) -> bool:
    """Give an update up. The address is closed at once; a charger that has the file may install it all the same.

    False when it was over already.
    """
    return _step(row.pk, rule.Cancelled(by), clock.now()) is Verdict.CANCELLED


def unfit(charge_point: ChargePoint, image: FirmwareImage) -> str:
    """Why this image is not for this charger; "" when it may be."""
    for name in ("vendor", "model"):
        meant, is_so = getattr(image, name), getattr(charge_point, name)
        if meant and not rule.same_version(meant, is_so):
            return f"{image} is for {name} {meant}; {charge_point} says {is_so or 'nothing'}."
    return ""


def _check(
    charge_point: ChargePoint,
    image: FirmwareImage,
    signed: bool,
    retrieve_at: datetime | None,
    install_at: datetime | None,
    now: datetime,
) -> None:
    if why := unfit(charge_point, image):
        raise ValidationError(why)
    askable.may_be_asked(charge_point, _action(signed))
    if signed and not (image.signature.strip() and image.signing_certificate.strip()):
        raise ValidationError(f"{image} has no signature and certificate of its manufacturer.")
    if install_at and not signed:
        raise ValidationError("Only SignedUpdateFirmware can say when to install.")
    if retrieve_at and not now - timedelta(days=1) <= retrieve_at <= now + AHEAD:
        raise ValidationError(f"The download may begin within {AHEAD.days} days from now.")
    if install_at and not max(retrieve_at or now, now - timedelta(days=1)) <= install_at <= now + AHEAD:
        raise ValidationError(f"The installation may begin after the download, within {AHEAD.days} days from now.")


def _action(signed: bool) -> str:
    return "SignedUpdateFirmware" if signed else "UpdateFirmware"


def _ask(row: FirmwareUpdate, now: datetime, *, by: str, background: bool, way: commands.Way | None = None) -> None:
    """Send the request, the first time or again, and step the update for it. Inside a transaction."""
    action = _action(row.signed)
    way = way or commands.Way("firmware", calls.CALLS[action].queue_s)
    row.command = commands.request(
        row.charge_point,
        action,
        _payload(row, now),
        trigger=way.trigger,
        dedupe_key=way.dedupe_key or f"firmware:{row.pk}:{row.attempts + 1}",
        requested_by=by,
        expires_in_s=way.expires_in_s,
        background=background,
        batch=way.batch,
        send_after=way.send_after,
    )
    row.save(update_fields=["command", "request_id"])
    _step(row.pk, rule.Asked(row.command.expires_at), now)
    row.refresh_from_db()


def _payload(row: FirmwareUpdate, now: datetime) -> dict[str, object]:
    location = address(row, now)
    begins = timestamps.write(max(row.retrieve_at, now) - timedelta(seconds=CLOCK_S))
    if not row.signed:
        # `retries` means one thing to one vendor and another to the next: we try again ourselves.
        return {"location": location, "retrieveDate": begins}
    told = {
        "location": location,
        "retrieveDateTime": begins,
        "signingCertificate": row.image.signing_certificate.strip(),
        "signature": row.image.signature.strip(),
    }
    if row.install_at:
        told["installDateTime"] = timestamps.write(row.install_at)
    return {"requestId": row.request_id, "firmware": told}


# -- the download address ---------------------------------------------------------------------------------------------
def address(row: FirmwareUpdate, now: datetime) -> str:
    """Where this charger, and for this update only, fetches its image."""
    name = files.name_of(files.FIRMWARE, row.pk, max(now, row.retrieve_at) + ADDRESS)
    return files.url(files.FIRMWARE, name + _extension(row.image), quirks.of(row.charge_point).file_scheme)


def by_name(name: str, now: datetime) -> FirmwareUpdate | None:
    """The open update this name was made for; None for a name that is forged, expired, or whose update is over."""
    named = files.read_name(files.FIRMWARE, name)
    if named is None or now >= named.expires_at:
        return None
    row = FirmwareUpdate.objects.select_related("image", "charge_point").filter(pk=named.pk, finished_at__isnull=True).first()
    return row if row is not None and named.rest == _extension(row.image) else None


@transaction.atomic
def fetched(row: FirmwareUpdate, *, whole: bool, now: datetime) -> None:
    """It reads from the address; or it has read up to the last byte. The first of each is audited, every request is counted."""
    _lock_command(row.pk)
    if not whole:
        FirmwareUpdate.objects.filter(pk=row.pk).update(fetch_count=F("fetch_count") + 1)
    name = "fetched_whole_at" if whole else "fetched_at"
    first = getattr(row, name) is None and FirmwareUpdate.objects.filter(pk=row.pk, **{name: None}).update(**{name: now})
    if first:
        audit.record("firmware.fetched_whole" if whole else "firmware.fetched", row, after={"sha256": row.image.sha256})
    if first or row.state != rule.State.DOWNLOADED:
        _step(row.pk, rule.Fetched(whole), now)


def _extension(image: FirmwareImage) -> str:
    return files.extension(image.file.name) or ".bin"


# -- what the charger says ----------------------------------------------------------------------------------------------
def said(charge_point_pk: int, status: FirmwareReported, now: datetime) -> str:
    """(Signed)FirmwareStatusNotification: what it makes of the open update; a note for the log when it makes nothing."""
    if status.status == "Idle":
        return ""
    row = _spoken_of(charge_point_pk, now)
    if row is None:
        return "no update of ours is open"
    if row.signed and status.request_id is not None and status.request_id != row.request_id:
        return f"speaks of request {status.request_id}, ours is {row.request_id}"
    version = ChargePoint.objects.values_list("firmware_version", flat=True).get(pk=charge_point_pk)
    verdict = _step(row.pk, rule.Said(status.status, version), now, trigger=status.status)
    return "" if verdict in CHANGES or row.finished_at else str(verdict).replace("_", " ")


def booted(charge_point_pk: int, version: str, now: datetime) -> None:
    """BootNotification: the proof of an update that is open, or that was thought lost a moment ago."""
    recent = Q(finished_at__isnull=True) | Q(finished_at__gte=now - rule.LATE, state__in=rule.MAY_BE_LATE)
    row = FirmwareUpdate.objects.filter(charge_point_id=charge_point_pk).order_by("-id").values_list("pk", flat=True).filter(recent).first()
    if row is not None:
        _step(row, rule.Booted(version), now, trigger="BootNotification")


def answered(command: Command, now: datetime) -> None:
    """The charger's answer to UpdateFirmware or SignedUpdateFirmware (csms/calls.py)."""
    if (pk := _of(command)) is not None:
        status = str((command.response or {}).get("status", ""))[:40] if command.action == "SignedUpdateFirmware" else ""
        _step(pk, rule.Answered(status, command.error), now, trigger="answer")


def ended(command: Command, now: datetime) -> None:
    """No answer came, or it was never sent; nothing when it was answered and only its effect is missing."""
    if command.answered_at is None and (pk := _of(command)) is not None:
        _step(pk, rule.Unanswered(sent=command.sent_at is not None), now, trigger="no answer")


def _of(command: Command) -> int | None:
    return FirmwareUpdate.objects.filter(charge_point_id=command.charge_point_id, command=command).values_list("pk", flat=True).first()


def _spoken_of(charge_point_pk: int, now: datetime) -> FirmwareUpdate | None:
    """The open update, or the one that has just been installed: its last word comes after the boot."""
    meant = Q(finished_at__isnull=True) | Q(finished_at__gte=now - rule.LATE, state=rule.State.INSTALLED)
    return FirmwareUpdate.objects.filter(meant, charge_point_id=charge_point_pk).order_by("-id").first()


# -- time -------------------------------------------------------------------------------------------------------------
def to_time_out(now: datetime) -> QuerySet[FirmwareUpdate]:
    """Updates of which nothing was heard in time, or that are to be asked again."""
    return FirmwareUpdate.objects.filter(finished_at__isnull=True, deadline_at__lte=now).order_by("deadline_at")


def timeout_due(now: datetime, limit: int) -> int:
    """Give up, or ask again: whatever the rule says of each update whose time has come."""

    def time_out(pk: int) -> bool:
        return _step(pk, rule.TimePassed(), now, trigger="time") is not Verdict.NOT_YET

    return each(list(to_time_out(now).values_list("pk", flat=True)[:limit]), time_out, "firmware update")


# -- the one way an update changes ---------------------------------------------------------------------------------------
def _step(pk: int, event: Event, now: datetime, *, trigger: str = "") -> Verdict:
    with transaction.atomic():
        _lock_command(pk)
        row = FirmwareUpdate.objects.select_for_update(no_key=True, of=("self",)).select_related("image", "charge_point").get(pk=pk)
        before = _snapshot(row)
        after, verdict = rule.step(before, event, now)
        if after == before:
            if verdict is Verdict.ASK_AGAIN:
                row.request_id = next_request_id()
                _ask(row, now, by=row.requested_by, background=True)
            return verdict
        for name in _WRITTEN:
            setattr(row, name, getattr(after, name))
        if after.said != before.said:
            row.reported_status, row.reported_at = after.said[:40], now
        row.save(update_fields=[*_WRITTEN, "reported_status", "reported_at"])
        if verdict is not Verdict.DUPLICATE:
            seen = {"state": after.state, "said": after.said, "error": after.error, "attempts": after.attempts}
            audit.record(f"firmware.{verdict}", row, trigger=trigger, before={"state": before.state}, after=seen)
        if verdict in OVER:
            open_still = Command.objects.filter(pk=row.command_id, state__in=WAITING)
            open_still.update(
                state=CommandState.EXPIRED, settled_at=now, updated_at=now, note=f"{row.get_state_display()}. {row.error}"[:255]
            )
        if deed := DEEDS.get(verdict):
            deed(row, now)
        return verdict


def _lock_command(pk: int) -> None:
    """A command's row before its update's: that is how the answer to it comes, too, and a charger may fetch before we have read that."""
    command_pk = FirmwareUpdate.objects.values_list("command_id", flat=True).get(pk=pk)
    Command.objects.select_for_update(no_key=True).filter(pk=command_pk).first()


def _snapshot(row: FirmwareUpdate) -> Update:
    return Update(
        state=row.state,
        wanted=row.image.version,
        before=row.from_version,
        retrieve_at=row.retrieve_at,
        install_at=row.install_at,
        attempts=row.attempts,
        said=row.reported_status,
        error=row.error,
        to_version=row.to_version,
        next_try_at=row.next_try_at,
        deadline_at=row.deadline_at,
        finished_at=row.finished_at,
    )


def _installed(row: FirmwareUpdate, now: datetime) -> None:
    commands.effective(Command.objects.filter(pk=row.command_id), now)
    alerts.clear(row.charge_point_id, ALERT, now)


def _lost(row: FirmwareUpdate, now: datetime) -> None:
    detail = f"Update to {row.image.version}: {row.get_state_display().lower()}. {row.error}"
    alerts.raise_alert(row.charge_point_id, ALERT, detail, now)


CHANGES = {Verdict.PROGRESS, Verdict.INSTALLED, Verdict.FAILED, Verdict.RETRY, Verdict.ROLLED_BACK}
# Nothing more comes of the command then.
OVER = {Verdict.FAILED, Verdict.RETRY, Verdict.ROLLED_BACK, Verdict.CANCELLED}
WAITING = (CommandState.QUEUED, CommandState.ACCEPTED, CommandState.TIMEOUT, CommandState.UNKNOWN)
DEEDS: dict[Verdict, Callable[[FirmwareUpdate, datetime], None]] = {
    Verdict.INSTALLED: _installed,
    Verdict.FAILED: _lost,
    Verdict.ROLLED_BACK: _lost,
}
