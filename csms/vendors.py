"""DataTransfer from chargers (OCPP 1.6 §4.3): ONE table of the vendors and messages we know, and what becomes of each.

A message is data of its vendor's own making: read as far as it can be, kept in the message log as it came, never trusted
with more than its row here says.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from csms import resume, signal_quality
from csms.events import DataSent
from csms.frames import clean_json
from csms.rules.habits import Habits

MAX_DATA = 32_768


@dataclass(frozen=True)
class Answer:
    """DataTransfer.conf, and a note for the log. `data` is sent as a JSON text."""

    status: str
    data: Any = None
    note: str = ""


Deed = Callable[[int, Any, datetime], Answer]
ACCEPTED = Answer("Accepted")


def _signal(charge_point_pk: int, data: Any, now: datetime) -> Answer:
    refused = signal_quality.record(charge_point_pk, data, now)
    return Answer("Rejected", note=refused) if refused else ACCEPTED


def _last_meter_value(charge_point_pk: int, data: Any, now: datetime) -> Answer:
    told, refused = resume.last_meter_value(charge_point_pk, data, now)
    return Answer("Rejected", note=refused) if told is None else Answer("Accepted", told)


def _post_boot_state(charge_point_pk: int, data: Any, now: datetime) -> Answer:
    return Answer("Accepted", resume.asked(charge_point_pk, now))


def _kept(charge_point_pk: int, data: Any, now: datetime) -> Answer:
    """Of interest to people only: it stands in the message log."""
    return ACCEPTED


_OURS: dict[str, Deed] = {
    "signalquality": _signal,
    "getlastmetervalue": _last_meter_value,
    "postbootstate": _post_boot_state,
    "stopdetail": _kept,
}
# Vendor (lower case) -> message (lower case; "" is any) -> what becomes of it.
KNOWN: dict[str, dict[str, Deed]] = {
    "voltaro": _OURS,
    "voltlync": _OURS,
    "en+": {"": _kept},
    "rivotmotors": {"vehicleinfo": _kept, "sessionsummary": _kept},
    "com.wallbox": {"": _kept},
}


def received(charge_point_pk: int, habits: Habits, said: DataSent, now: datetime) -> Answer:
    """What a DataTransfer is answered. An unknown vendor or message gets no data (§4.3); a charger that would take that ill is thanked."""
    if habits.data_transfer == "refuse":
        return Answer("Rejected", note="DataTransfer is refused from this charger")
    if len(said.data) > MAX_DATA:
        return Answer("Rejected", note=f"data of {len(said.data)} characters")
    messages = KNOWN.get(said.vendor_id.strip().casefold())
    if messages is not None and (deed := messages.get(said.message_id.strip().casefold()) or messages.get("")):
        return deed(charge_point_pk, parsed(said.data), now)
    if habits.data_transfer == "accept":
        return ACCEPTED
    return Answer("UnknownMessageId" if messages is not None else "UnknownVendorId")


def parsed(data: str) -> Any:
    """The data as JSON when it is, without what no row can hold; a text that holds JSON text once more is read too. Anything else is
    the text itself."""
    value: Any = data
    for _ in range(2):
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return value
    try:
        return clean_json(value)
    except RecursionError:
        return data
