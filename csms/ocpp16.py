"""OCPP 1.6 payloads <-> our events, nothing else. Pure. Each function bears its action's own name.

`read_*` take a payload after repair (csms/repair.py) and the time it came in; what is missing gets the standard's
default. `write_*` build the answer. Edition 2 clauses are named where a default comes from one.
"""

import json
import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from csms import timestamps
from csms.events import (
    Alive,
    AuthorizeAsked,
    Booted,
    CertificateAsked,
    DataSent,
    FirmwareReported,
    Metered,
    Reading,
    SecurityEventReported,
    StartReported,
    StatusReported,
    StopReported,
    UploadReported,
)
from csms.rules.habits import STANDARD, Habits

# §4.7: what a sample means that says nothing of itself.
DEFAULT_MEASURAND = "Energy.Active.Import.Register"
INTERVAL = "Energy.Active.Import.Interval"
_TO_BASE = {"Wh": 1, "kWh": 1000, "W": 1, "kW": 1000}
# Where a sample is taken that says something of the supply, not of what the car gets.
_BEFORE_THE_OUTLET = ("Inlet", "Body")
_PHASES = (("L1", "L2", "L3"), ("L1-N", "L2-N", "L3-N"), ("L1-L2", "L2-L3", "L3-L1"))


# -- from the charger ------------------------------------------------------------------------------------------
def read_boot_notification(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> Booted:
    serial = payload.get("chargePointSerialNumber") or payload.get("chargeBoxSerialNumber") or ""
    return Booted(
        vendor=payload.get("chargePointVendor") or "unknown",
        model=payload.get("chargePointModel") or "unknown",
        serial_number=serial.strip(),
        firmware_version=payload.get("firmwareVersion", ""),
    )


def read_heartbeat(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> Alive:
    return Alive()


def read_status_notification(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> StatusReported:
    text = payload.get("timestamp")
    at = timestamps.read_at(text, now, habits.naive_time)
    return StatusReported(
        connector_no=_connector(payload, 0),
        status=payload.get("status") or "Unknown",
        error_code=payload.get("errorCode") or "NoError",
        at=at if timestamps.plausible(at, now) else None,
        info=payload.get("info", ""),
        vendor_id=payload.get("vendorId", ""),
        vendor_error_code=payload.get("vendorErrorCode", ""),
        clock_s=None if at is None else max(-(2**31), min(2**31 - 1, round((at - now).total_seconds()))),
        naive=timestamps.zone_of(text, now),
    )


def read_authorize(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> AuthorizeAsked:
    return AuthorizeAsked(payload.get("idTag", ""))


def read_start_transaction(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> StartReported:
    reported = payload.get("timestamp", "")
    at = timestamps.read_at(reported, now, habits.naive_time)
    return StartReported(
        connector_no=_connector(payload, 1),
        tag=payload.get("idTag", ""),
        meter_start_wh=_register(payload.get("meterStart"), habits) if habits.start_register else None,
        at=at if timestamps.plausible(at, now) else None,
        reported_at=reported,
        reservation_id=payload.get("reservationId"),
    )


def read_meter_values(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> Metered:
    return Metered(
        connector_no=_connector(payload, 0),
        transaction_ref=_ref(payload.get("transactionId")),
        readings=_readings(payload.get("meterValue", []), now, habits),
    )


def read_stop_transaction(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD, raw_reason: str = "") -> StopReported:
    at = timestamps.read_at(payload.get("timestamp"), now, habits.naive_time)
    reason = payload.get("reason", "Local")  # §4.10: none means Local
    return StopReported(
        transaction_ref=_ref(payload.get("transactionId")),
        meter_stop_wh=_register(payload.get("meterStop"), habits),
        at=at if timestamps.plausible(at, now) else None,
        reason=reason,
        reason_raw=raw_reason[:100] if raw_reason != reason else "",
        tag=payload.get("idTag"),
        readings=_readings(payload.get("transactionData", []), now, habits),
    )


def read_data_transfer(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> DataSent:
    return DataSent(payload.get("vendorId", ""), payload.get("messageId", ""), payload.get("data", ""))


def read_firmware_status_notification(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> FirmwareReported:
    return FirmwareReported(payload.get("status") or "Unknown")


def read_signed_firmware_status_notification(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> FirmwareReported:
    return FirmwareReported(payload.get("status") or "Unknown", payload.get("requestId"), signed=True)


def read_diagnostics_status_notification(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> UploadReported:
    return UploadReported(payload.get("status") or "Unknown")


def read_log_status_notification(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> UploadReported:
    return UploadReported(payload.get("status") or "Unknown", log=True, request_id=payload.get("requestId"))


def read_security_event_notification(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> SecurityEventReported:
    at = timestamps.read_at(payload.get("timestamp"), now, habits.naive_time)
    at = at if timestamps.plausible(at, now) else None
    return SecurityEventReported(payload.get("type") or "Unknown", at, payload.get("techInfo", ""))


def read_sign_certificate(payload: dict[str, Any], now: datetime, habits: Habits = STANDARD) -> CertificateAsked:
    return CertificateAsked(payload.get("csr", ""))


def _connector(payload: dict[str, Any], least: int) -> int:
    """The connector's number; whatever a charger may call one fits a database."""
    return min(max(least, payload.get("connectorId", least)), 2**31 - 1)


def _ref(value: Any) -> str | None:
    return None if value is None else str(value)


def _register(value: Any, habits: Habits) -> int | None:
    """Wh, or None for what no register shows."""
    if not isinstance(value, int) or not 0 <= value < 2**53:
        return None
    return value * 1000 if habits.register_unit == "kWh" else value


# Whatever its clock says, a transaction's first sample is its first, and its last the last.
_RANK = {"Transaction.Begin": 0, "Transaction.End": 2}


def _readings(meter_values: list[dict[str, Any]], now: datetime, habits: Habits) -> tuple[Reading, ...]:
    units = _units(habits)
    found = [reading for one in meter_values if (reading := _reading(one, now, habits.naive_time, units)) is not None]
    registers = [one.energy_wh for one in found if one.energy_wh is not None]
    if registers != sorted(registers) or not registers:
        # Out-of-order batches: the curve is the charger's, so its times decide. But not over registers that rise as they were sent:
        # then it is the clock that was set in between.
        found.sort(key=lambda one: (_RANK.get(one.context, 1), one.at or now))
    return tuple(found)


def _units(habits: Habits) -> dict[str, int]:
    """What a charger measures in, where its samples say otherwise (Q98, Q114): the factor of each measurand, if any."""
    units: dict[str, int] = {}
    if habits.energy_unit:
        units |= dict.fromkeys((DEFAULT_MEASURAND, INTERVAL), _TO_BASE[habits.energy_unit])
    if habits.power_unit:
        units["Power.Active.Import"] = _TO_BASE[habits.power_unit]
    return units


def _reading(meter_value: dict[str, Any], now: datetime, zone: str, units: dict[str, int]) -> Reading | None:
    samples = [sample for sample in meter_value.get("sampledValue", []) if sample.get("value") not in (None, "")]
    if not samples:
        return None
    at = timestamps.read_at(meter_value.get("timestamp"), now, zone)
    totals: dict[str, float] = {}
    phases: dict[str, dict[str, float]] = {}
    context = ""
    for sample in samples:
        if sample.get("format") == "SignedData":
            continue  # kept as it came, never part of the arithmetic
        number = _number(sample["value"])
        if number is None:
            continue
        measurand = sample.get("measurand", DEFAULT_MEASURAND)
        here = sample.get("context", "Sample.Periodic")
        value = number * (units.get(measurand) if measurand in units else _TO_BASE.get(sample.get("unit", ""), 1))  # type: ignore[operator]
        if (phase := sample.get("phase")) is not None:
            phases.setdefault(measurand, {})[phase] = value
        elif measurand in totals and (here == "Transaction.Begin" or sample.get("location") in _BEFORE_THE_OUTLET):
            # A Transaction.Begin of 0 beside a periodic value is a placeholder; what goes in is not what comes out (Q115).
            continue
        else:
            totals[measurand] = value
            if measurand == DEFAULT_MEASURAND:
                context = here
    energy, power = _total(totals, phases, DEFAULT_MEASURAND, sum), _total(totals, phases, "Power.Active.Import", sum)
    current, voltage = _total(totals, phases, "Current.Import", max), _total(totals, phases, "Voltage", _mean)
    interval = _total(totals, phases, INTERVAL, sum) if energy is None else None
    return Reading(
        at=at if timestamps.plausible(at, now) else None,
        energy_wh=_bounded(energy, 2**53),
        power_w=_bounded(power, 10_000_000),
        current_ma=_bounded(None if current is None else current * 1000, 2**31 - 1),
        voltage_mv=_bounded(None if voltage is None else voltage * 1000, 2**31 - 1),
        soc_pct=_bounded(_total(totals, phases, "SoC", max), 101),
        context=context[:30],
        samples=samples,
        interval_wh=_bounded(interval, 2**31),
    )


def _total(totals: dict[str, float], phases: dict[str, dict[str, float]], measurand: str, together: Callable[..., float]) -> float | None:
    """What was said without a phase, else the phases taken together: each once, whatever names it goes by; never N."""
    if (total := totals.get(measurand)) is not None:
        return total
    if (said := phases.get(measurand)) is None:
        return None
    for family in _PHASES:
        if parts := [said[phase] for phase in family if phase in said]:
            return together(parts)
    return None


def _mean(parts: list[float]) -> float:
    return sum(parts) / len(parts)


def _bounded(value: float | None, below: int) -> int | None:
    """A whole number, rounded down; the last bit of a decimal is no reason for one less."""
    return math.floor(value + 1e-6) if value is not None and 0 <= value < below else None


def _number(text: Any) -> float | None:
    try:
        number = float(str(text).strip().replace(",", "."))
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None  # NaN compares false too


# -- to the charger --------------------------------------------------------------------------------------------
def write_boot_notification(status: str, now: datetime, interval_s: int) -> dict[str, Any]:
    return {"status": status, "currentTime": timestamps.write(now), "interval": interval_s}


def write_heartbeat(now: datetime) -> dict[str, Any]:
    return {"currentTime": timestamps.write(now)}


def write_empty() -> dict[str, Any]:
    """StatusNotification, MeterValues: the answer is that there is one."""
    return {}


def write_sign_certificate(accepted: bool) -> dict[str, Any]:
    return {"status": "Accepted" if accepted else "Rejected"}


def write_authorize(status: str, parent: str = "") -> dict[str, Any]:
    return {"idTagInfo": _id_tag_info(status, parent)}


def write_start_transaction(transaction_id: int, status: str, parent: str = "") -> dict[str, Any]:
    """Exactly these fields: one that is missing or extra makes chargers send 0 as the transaction id ever after."""
    return {"transactionId": transaction_id, "idTagInfo": _id_tag_info(status, parent)}


def write_stop_transaction(status: str | None = None) -> dict[str, Any]:
    """idTagInfo only when the charger gave a tag."""
    return {"idTagInfo": {"status": status}} if status else {}


def write_data_transfer(status: str, data: Any = None) -> dict[str, Any]:
    return {"status": status} if data is None else {"status": status, "data": json.dumps(data)}


def _id_tag_info(status: str, parent: str) -> dict[str, Any]:
    # No expiryDate: chargers with a wrong clock cache it as expired.
    return {"status": status, "parentIdTag": parent} if parent else {"status": status}
