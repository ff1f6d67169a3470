"""OCPP 1.6: what each message of a charger does. The table is at the end; each function bears its action's own name.

A deed runs inside the transaction that also keeps the frame, and answers with the payload and a note for the log.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from csms import (
    authorizer,
    boots,
    bounds,
    certificates,
    charging_profiles,
    clocks,
    entrance,
    firmware,
    local_lists,
    metering,
    ocpp16,
    permits,
    quick,
    quirks,
    resume,
    security_events,
    sessions,
    starts,
    stations,
    tags,
    uploads,
    vendors,
)
from csms.context import Changed, Context, HangUp, Route, StopPlanned
from csms.events import StatusReported
from csms.metering import Moved
from csms.models import ChargePoint, Registration
from csms.quick import Arrived

SEEN_EVERY_S = 20
# What a status of connector 0 may be (1.6 §4.9); "Unknown": a word that the standard does not have.
OF_THE_CHARGER = ("Available", "Unavailable", "Faulted", "Unknown")


def seen(context: Context, now: datetime) -> None:
    """Any frame is a sign of life; written at most every SEEN_EVERY_S."""
    if context.seen_at is None or (now - context.seen_at).total_seconds() >= SEEN_EVERY_S:
        ChargePoint.objects.filter(pk=context.charge_point_pk, epoch=context.epoch).update(last_seen=now)
        context.seen_at = now


def _boot(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    if context.serial_proven and not entrance.same_serial(context.charge_point_pk, context.serial_proven, said.serial_number, now):
        context.registration = Registration.REJECTED
        context.effects.append(HangUp("another charger's certificate", 1008))
        return ocpp16.write_boot_notification("Rejected", now, boots.retry_s("Rejected", 0)), "another charger's certificate"
    boot = stations.booted(context.charge_point_pk, context.epoch, said, now)
    if boot is None:
        return ocpp16.write_boot_notification("Accepted", now, context.heartbeat_s), stations.REPLACED
    context.learned = boot.learned
    if boot.charging:
        charging_profiles.rebooted(context.charge_point_pk)
    _has_booted(context, said, now)
    status = boots.heard(context, boot, said, now)
    if status == Registration.ACCEPTED != context.registration:  # claimed meanwhile: it has connectors now
        context.places = metering.places(context.cp_id)
    context.registration, context.unclaimed = status, boot.unclaimed
    if status == Registration.ACCEPTED:
        resume.booted(context.charge_point_pk, context.habits, now)
        bounds.tell_again(context.charge_point_pk, context.habits, now)
    return ocpp16.write_boot_notification(status, now, boots.retry_s(status, context.heartbeat_s)), ""


def _quick_boot(context: Context, arrived: Arrived, said: Any, now: datetime) -> dict[str, Any] | None:
    if context.registration != Registration.ACCEPTED or context.unclaimed:  # this line has yet to hear that it is accepted now
        return None
    if context.serial_proven or context.habits.post_boot_state or not quick.booted(arrived, said, now):
        return None
    _has_booted(context, said, now)
    return ocpp16.write_boot_notification("Accepted", now, context.heartbeat_s)


def _has_booted(context: Context, said: Any, now: datetime) -> None:
    context.booted = context.booted_here = True
    context.seen_at = now
    context.kind = (said.vendor, said.model, said.firmware_version or context.kind[2])
    context.habits = quirks.habits_of(
        *context.kind,
        profile_pk=context.quirk_profile_pk,
        own=context.quirk_settings,
        learned=context.learned,
    )
    context.heartbeat_s = quirks.heartbeat_s(context.habits)
    context.settles_at = boots.settles_at(context.habits, now)
    context.effects += [Changed(place.code) for place in context.places.values()]


def _quick_status(context: Context, arrived: Arrived, said: Any, now: datetime) -> dict[str, Any] | None:
    if clocks.news(context, said, now):
        return None
    for pk, place in context.places.items():
        if place.connector_no == said.connector_no and quick.status(arrived, pk, said, now):
            context.effects.append(Changed(place.code))
            seen(context, now)
            return ocpp16.write_empty()
    return None


def _heartbeat(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    if context.heartbeat_at is None or (now - context.heartbeat_at).total_seconds() >= SEEN_EVERY_S:
        written = ChargePoint.objects.filter(pk=context.charge_point_pk, epoch=context.epoch)
        if not written.update(last_heartbeat=now, last_seen=now):
            return ocpp16.write_heartbeat(now), stations.REPLACED
        context.seen_at = context.heartbeat_at = now
    return ocpp16.write_heartbeat(now), ""


def _of_the_only_one(context: Context, said: StatusReported) -> StatusReported:
    """A box with one connector may speak of it as 0 (Q60): what only a connector can be gives it away, and is remembered."""
    if said.connector_no or len(context.places) != 1:
        return said
    if not context.learned.get("speaks_as_zero"):
        if said.status in OF_THE_CHARGER:
            return said
        quirks.learn(context.charge_point_pk, speaks_as_zero=True)
        context.learned = {**context.learned, "speaks_as_zero": True}
    return replace(said, connector_no=next(iter(context.places.values())).connector_no)


def _status(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    said = _of_the_only_one(context, said)
    code, note = stations.status(context.charge_point_pk, context.cp_id, context.epoch, said, now)
    clocks.heard(context, said, now)
    if code:
        if not any(place.code == code for place in context.places.values()):
            context.places = metering.places(context.cp_id)
        for pk, place in context.places.items():
            if place.code == code:
                sessions.connector_said(pk, said.status, now)
        if said.status == "Preparing":
            permits.wake([pk for pk, place in context.places.items() if place.code == code], "plugged in")
        context.effects.append(Changed(code))
    if said.error_code == "LocalListConflict" and note != stations.REPLACED:
        local_lists.conflict(context.charge_point_pk, now)
    return ocpp16.write_empty(), note


def _authorize(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    if (told := _told_just_now(context, said.tag, now)) is not None:
        return ocpp16.write_authorize(told.status, told.parent), "asked a moment ago: the same answer"
    tags.wait_shortly()
    judged = tags.authorize(said.tag, context.charge_point_pk, now, context.habits)
    tags.remember(context.charge_point_pk, said.tag, judged, now)
    tags.refused(judged, said.tag, context.charge_point_pk, now)
    return ocpp16.write_authorize(judged.status, judged.parent), ""


def _told_just_now(context: Context, tag: str, now: datetime) -> tags.Remembered | None:
    told = tags.remembered(context.charge_point_pk, tag, now)
    return told if told is not None and (context.moved_at is None or told.at > context.moved_at) else None


def _before_authorize(context: Context, said: Any, now: datetime) -> None:
    if _told_just_now(context, said.tag, now) is None:
        authorizer.consult(said.tag, context.charge_point_pk, context.cp_id, None, context.habits, now)


def _authorize_away(context: Context, said: Any, now: datetime, held_s: float) -> dict[str, Any] | None:
    told = tags.while_away(context.charge_point_pk, said.tag, context.habits, now, held_s)
    return ocpp16.write_authorize(told.status, told.parent) if told else None


def _start(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    started = starts.start(context.charge_point_pk, said, now)
    context.moved_at = now
    if started.session.connector_id not in context.places:
        context.places = metering.places(context.cp_id)
    note = "" if started.new else "repeated: the same session"
    return ocpp16.write_start_transaction(started.transaction_id, started.status, started.parent), note


def _before_start(context: Context, said: Any, now: datetime) -> None:
    authorizer.consult(said.tag, context.charge_point_pk, context.cp_id, said.connector_no, context.habits, now)


def _start_fallback() -> dict[str, Any]:
    return ocpp16.write_start_transaction(starts.next_transaction_id(), "Invalid")


def _meter_values(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    as_zero = bool(context.learned.get("speaks_as_zero"))
    moved = metering.metered(context.charge_point_pk, context.places, said, now, as_zero=as_zero)
    if moved.row is not None and moved.live and said.connector_no <= stations.MAX_CONNECTORS:
        context.remembered[said.connector_no] = moved.row
    else:
        context.remembered.pop(said.connector_no, None)
    _moved(context, moved)
    return ocpp16.write_empty(), moved.note


def _quick_meter_values(context: Context, arrived: Arrived, said: Any, now: datetime) -> dict[str, Any] | None:
    """One more reading of what this connector is doing anyway."""
    remembered = context.remembered.get(said.connector_no)
    place = context.places.get(remembered.connector_id) if remembered is not None else None
    if remembered is None or place is None:
        return None
    moved = quick.metered(arrived, remembered, place, said, now)
    if moved is None:
        return None
    _moved(context, moved)
    seen(context, now)
    return ocpp16.write_empty()


def _moved(context: Context, moved: Moved) -> None:
    if moved.session_id is not None and moved.place is not None:
        context.effects.append(Changed(moved.place.code))
        if moved.live:
            context.effects.append(StopPlanned(moved.session_id, moved.stop_due_at))


def _stop(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    moved, status = metering.stopped(context.charge_point_pk, context.places, said, now, context.habits)
    context.moved_at = now
    if moved.session_id is not None:
        context.effects.append(StopPlanned(moved.session_id, None))
    return ocpp16.write_stop_transaction(status), moved.note


def _data_transfer(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    found = vendors.received(context.charge_point_pk, context.habits, said, now)
    return ocpp16.write_data_transfer(found.status, found.data), found.note


def _firmware_status(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    return ocpp16.write_empty(), firmware.said(context.charge_point_pk, said, now)


def _upload_status(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    return ocpp16.write_empty(), uploads.said(context.charge_point_pk, said, now)


def _security_event(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    security_events.received(context.charge_point_pk, said, now)
    return ocpp16.write_empty(), ""


def _sign_certificate(context: Context, said: Any, now: datetime) -> tuple[dict[str, Any], str]:
    accepted, note = certificates.asked(context.charge_point_pk, said, now)
    return ocpp16.write_sign_certificate(accepted), note


ROUTES: dict[str, Route] = {
    "Authorize": Route(ocpp16.read_authorize, _authorize, tolerant=True, anew=True, before=_before_authorize, away=_authorize_away),
    "BootNotification": Route(ocpp16.read_boot_notification, _boot, quick=_quick_boot, tolerant=True, anew=True),
    "DataTransfer": Route(ocpp16.read_data_transfer, _data_transfer, tolerant=True),
    "DiagnosticsStatusNotification": Route(ocpp16.read_diagnostics_status_notification, _upload_status, tolerant=True),
    "FirmwareStatusNotification": Route(ocpp16.read_firmware_status_notification, _firmware_status, tolerant=True),
    "Heartbeat": Route(ocpp16.read_heartbeat, _heartbeat, anew=True),
    "LogStatusNotification": Route(ocpp16.read_log_status_notification, _upload_status, tolerant=True),
    "MeterValues": Route(ocpp16.read_meter_values, _meter_values, fact=True, fallback=ocpp16.write_empty, quick=_quick_meter_values),
    "SignedFirmwareStatusNotification": Route(ocpp16.read_signed_firmware_status_notification, _firmware_status, tolerant=True),
    "SecurityEventNotification": Route(ocpp16.read_security_event_notification, _security_event, tolerant=True),
    "SignCertificate": Route(ocpp16.read_sign_certificate, _sign_certificate, tolerant=True),
    "StartTransaction": Route(ocpp16.read_start_transaction, _start, fact=True, fallback=_start_fallback, before=_before_start),
    "StatusNotification": Route(ocpp16.read_status_notification, _status, quick=_quick_status, tolerant=True),
    "StopTransaction": Route(ocpp16.read_stop_transaction, _stop, fact=True, fallback=ocpp16.write_stop_transaction),
}
