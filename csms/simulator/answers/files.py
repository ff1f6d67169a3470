"""UpdateFirmware, SignedUpdateFirmware, GetDiagnostics, GetLog."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from csms.simulator import uploads
from csms.simulator.firmware import Update
from csms.simulator.times import read

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]
# Between two tries, when the server leaves it to the charger.
RETRY_S = 10


def update_firmware(charger: Charger, call: Payload, now: datetime) -> Payload:
    update = Update(call["location"], max(now, read(call["retrieveDate"])), _tries(call), _retry_s(call))
    if charger.update and charger.update.busy:
        charger.note("a firmware is being installed: the new one is not fetched")
    else:
        charger.begin_update(update)
    return {}


def signed_update_firmware(charger: Charger, call: Payload, now: datetime) -> Payload:
    """The signing certificate is looked at now, the signature when the file is there."""
    said = call["firmware"]
    update = Update(
        said["location"],
        max(now, read(said["retrieveDateTime"])),
        _tries(call),
        _retry_s(call),
        request_id=call["requestId"],
        install_at=read(said["installDateTime"]) if said.get("installDateTime") else None,
        certificate=said["signingCertificate"],
        signature=said["signature"],
    )
    if wrong := charger.keys.firmware_signer(update.certificate, now):
        charger.event("InvalidFirmwareSigningCertificate", wrong, now)
        return {"status": "InvalidCertificate"}
    if charger.update and charger.update.busy:
        return {"status": "Rejected"}
    before = charger.update
    charger.begin_update(update)
    return {"status": "AcceptedCanceled" if before else "Accepted"}


def get_diagnostics(charger: Charger, call: Payload, now: datetime) -> Payload:
    """No file name means: there is nothing of that time."""
    lines = charger.journal.diagnostics(_time(call, "startTime"), _time(call, "stopTime"))
    if not lines:
        return {}
    file_name = uploads.name(charger, "diagnostics", now)
    charger.diagnostics = uploads.Sending(
        uploads.address(call["location"], file_name),
        uploads.text(charger, "Diagnostics", lines, now),
        now + timedelta(seconds=charger.habits.step_s / 2),
        _tries(call),
        _retry_s(call),
    )
    return {"fileName": file_name}


def get_log(charger: Charger, call: Payload, now: datetime) -> Payload:
    """A second request takes the place of the one under way."""
    log, kind = call["log"], call["logType"]
    lines_of = {"DiagnosticsLog": charger.journal.diagnostics, "SecurityLog": charger.journal.security}[kind]
    file_name = uploads.name(charger, kind, now)
    before, charger.log = (
        charger.log,
        uploads.Sending(
            uploads.address(log["remoteLocation"], file_name),
            uploads.text(charger, kind, lines_of(_time(log, "oldestTimestamp"), _time(log, "latestTimestamp")), now),
            now + timedelta(seconds=charger.habits.step_s / 2),
            _tries(call),
            _retry_s(call),
            request_id=call["requestId"],
        ),
    )
    return {"status": "AcceptedCanceled" if before else "Accepted", "filename": file_name}


def _tries(call: Payload) -> int:
    """`retries` is how often it must try before giving up (OCPP 1.6 section 6.53)."""
    return max(1, call.get("retries") or 1)


def _retry_s(call: Payload) -> int:
    given = call.get("retryInterval")
    return RETRY_S if given is None else int(given)


def _time(said: Payload, name: str) -> datetime | None:
    return read(said[name]) if said.get(name) else None
