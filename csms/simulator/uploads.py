"""Diagnostics and logs on their way to the server: a small text file, by HTTP (GetDiagnostics, GetLog)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from csms.simulator.orders import Failed, Outcome, Stored, Upload
from csms.simulator.times import stamp

if TYPE_CHECKING:
    from csms.simulator.charger import Charger


@dataclass
class Sending:
    """One file on its way: GetLog's has a `request_id`, GetDiagnostics' has none. `tries` are those left."""

    url: str
    body: bytes
    at: datetime
    tries: int
    retry_s: int
    request_id: int | None = None
    order: Upload | None = None

    def step(self, charger: Charger, now: datetime) -> None:
        if self.order is None and now >= self.at:
            self.say(charger, "Uploading")
            self.order = Upload(self.url, self.body)
            charger.orders.append(self.order)

    def came(self, charger: Charger, outcome: Outcome, now: datetime) -> bool:
        """The upload ended, this way or that; whether that is the end of it."""
        self.order = None
        if isinstance(outcome, Stored):
            self.say(charger, "Uploaded")
            return True
        why, status = (outcome.why, outcome.status) if isinstance(outcome, Failed) else ("no answer", "UploadFailure")
        charger.note(f"the log was not taken: {why}")
        self.tries, self.at = self.tries - 1, now + timedelta(seconds=self.retry_s)
        if self.tries < 1:
            self.say(charger, "UploadFailed" if self.request_id is None else status)
        return self.tries < 1

    def say(self, charger: Charger, status: str) -> None:
        if self.request_id is None:
            charger.say("DiagnosticsStatusNotification", {"status": status})
        else:
            charger.say("LogStatusNotification", {"status": status, "requestId": self.request_id})


def say_where(charger: Charger, sending: Sending | None, action: str) -> None:
    """Where it stands, because the server asked."""
    if sending is None:
        charger.say(action, {"status": "Idle"})
    else:
        sending.say(charger, "Uploading")


def name(charger: Charger, kind: str, now: datetime) -> str:
    return f"{charger.cp_id}-{kind}-{now:%Y%m%dT%H%M%S}.txt"


def address(location: str, file_name: str) -> str:
    """A location that is a folder gets the file's name."""
    return location + quote(file_name) if location.endswith("/") else location


def text(charger: Charger, kind: str, lines: list[str], now: datetime) -> bytes:
    head = [
        f"{kind} of {charger.cp_id}, {stamp(now)}",
        f"{charger.habits.vendor} {charger.habits.model}, firmware {charger.firmware}",
        *(f"connector {outlet.number}: {outlet.plug.type}, {outlet.status()}, {outlet.meter_wh} Wh" for outlet in charger.outlets),
    ]
    return "\n".join([*head, "", *lines, ""]).encode()
