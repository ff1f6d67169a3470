"""A firmware update: fetched, checked, installed at a quiet moment, and booted (OCPP 1.6 section 4.5, white paper section 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from csms.simulator import certificates
from csms.simulator.orders import Download, Failed, Fetched, Outcome

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

VERSION = re.compile(rb"\s*version:\s*([\x21-\x7e][\x20-\x7e]{0,48}[\x21-\x7e]|[\x21-\x7e])\s*(?:\n|$)", re.IGNORECASE)
LONGEST_VERSION = 50


@dataclass
class Update:
    """One update under way. `phase` is what comes next, due at `at`; a signed one has a `request_id`.

    `tries` are the downloads left before it gives up, `retry_s` the seconds between two of them.
    """

    location: str
    at: datetime
    tries: int
    retry_s: int
    request_id: int | None = None
    install_at: datetime | None = None
    certificate: str = ""
    signature: str = ""
    phase: str = "fetch"
    status: str = "Idle"
    order: Download | None = None
    file: Fetched | None = None

    @property
    def busy(self) -> bool:
        """Past the point of return."""
        return self.phase in ("install", "restart", "booted")

    def step(self, charger: Charger, now: datetime) -> None:
        """Do what is due. Only with an open line, so that every step is told."""
        if now < self.at:
            if self.request_id is not None and self.status == "Idle":
                self._say(charger, "DownloadScheduled")
            return
        match self.phase:
            case "fetch":
                self._say(charger, "Downloading")
                self.order, self.phase = Download(self.location), "fetching"
                charger.orders.append(self.order)
            case "fetched":
                self._fetched(charger, now)
            case "check":
                self._check(charger, now)
            case "ready":
                self._wait_for_quiet(charger, now)
            case "install":
                self._install(charger, now)
            case "restart":
                self.phase, self.at = "booted", now
                charger.restart(now, keeps_transactions=False, why="installs its firmware", reason="Reboot")
            case "booted":
                self._say(charger, "Installed")
                charger.event("FirmwareUpdated", f"version {charger.firmware}", now)
                charger.update = None

    def came(self, charger: Charger, outcome: Outcome, now: datetime) -> None:
        """The download ended, this way or that."""
        self.order = None
        if isinstance(outcome, Fetched):
            self.file, self.phase, self.at = outcome, "fetched", now + timedelta(seconds=charger.habits.step_s)
            return
        self.tries -= 1
        charger.note(f"the firmware did not come: {outcome.why if isinstance(outcome, Failed) else outcome}")
        self.phase, self.at = "fetch", now + timedelta(seconds=self.retry_s)
        if self.tries < 1:
            self._over(charger, "DownloadFailed")

    def _fetched(self, charger: Charger, now: datetime) -> None:
        self._say(charger, "Downloaded")
        self._next("check" if self.request_id is not None else "ready", charger, now)

    def _check(self, charger: Charger, now: datetime) -> None:
        assert self.file is not None
        if not certificates.signed(certificates.chain(self.certificate)[0], self.file.sha256, self.signature):
            self._over(charger, "InvalidSignature")
            charger.event("InvalidFirmwareSignature", "the signature does not fit the file", now)
            return
        self._say(charger, "SignatureVerified")
        self._next("ready", charger, now)

    def _wait_for_quiet(self, charger: Charger, now: datetime) -> None:
        """Installed at the time said, and never under a running transaction; free outlets take no new one meanwhile."""
        if self.install_at and now < self.install_at:
            if self.status != "InstallScheduled" and self.request_id is not None:
                self._say(charger, "InstallScheduled")
            return
        for outlet in charger.outlets:
            outlet.updating = outlet.transaction is None
        if all(outlet.updating for outlet in charger.outlets):
            self._say(charger, "Installing")
            self._next("install", charger, now)

    def _install(self, charger: Charger, now: datetime) -> None:
        assert self.file is not None
        if self.file.size == 0 or "bad_flash" in charger.habits.strange:
            self._over(charger, "InstallationFailed")
            return
        if "rolls_back" not in charger.habits.strange:
            charger.firmware = version(self.file.head, self.location) or charger.firmware
        if self.request_id is not None:
            self._say(charger, "InstallRebooting")
        self._next("restart", charger, now)

    def _next(self, phase: str, charger: Charger, now: datetime) -> None:
        self.phase, self.at = phase, now + timedelta(seconds=charger.habits.step_s)

    def _over(self, charger: Charger, status: str) -> None:
        self._say(charger, status)
        charger.update = None
        for outlet in charger.outlets:
            outlet.updating = False

    def _say(self, charger: Charger, status: str) -> None:
        self.status = status
        say_status(charger, self)


def say_status(charger: Charger, update: Update | None, *, signed: bool = False) -> None:
    """Where it stands, in the words of its kind; Idle when there is none."""
    if update is None or update.request_id is None:
        action = "SignedFirmwareStatusNotification" if signed else "FirmwareStatusNotification"
        charger.say(action, {"status": update.status if update else "Idle"})
    else:
        charger.say("SignedFirmwareStatusNotification", {"status": update.status, "requestId": update.request_id})


def version(head: bytes, location: str) -> str:
    """What the file calls itself (its first line is `version: X`), else its name."""
    if said := VERSION.match(head):
        return said[1].decode("ascii")
    return unquote(urlsplit(location).path.rsplit("/", 1)[-1])[:LONGEST_VERSION]
