"""OCPP 1.6 payloads <-> our events, nothing else. Pure. Each function bears its action's own name.

`read_*` take a payload after repair (csms/repair.py) and the time it came in; what is missing gets the standard's
default. `write_*` build the answer. Edition 2 clauses are named where a default comes from one.
"""

import json
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

# §4.7: what a sample means that says nothing of itself.
DEFAULT_MEASURAND = "Energy.Active.Import.Register"
_TO_BASE = {"Wh": 1, "kWh": 1000, "W": 1, "kW": 1000, "A": 1, "V": 1, "mA": 0.001, "mV": 0.001}


# -- from the charger ------------------------------------------------------------------------------------------
def read_boot_notification(payload: dict[str, Any], now: datetime) -> Booted:
    serial = payload.get("chargePointSerialNumber") or payload.get("chargeBoxSerialNumber") or ""
    return Booted(
        vendor=payload.get("chargePointVendor") or "unknown",
        model=payload.get("chargePointModel") or "unknown",
        serial_number=serial.strip(),
        firmware_version=payload.get("firmwareVersion", ""),
    )


def read_heartbeat(payload: dict[str, Any], now: datetime) -> Alive:
    return Alive()


def read_status_notification(payload: dict[str, Any], now: datetime) -> StatusReported:
    at = timestamps.read(payload.get("timestamp"))
    return StatusReported(
        connector_no=_connector(payload, 0),
        status=payload.get("status") or "Unknown",
        error_code=payload.get("errorCode") or "NoError",
        at=at if timestamps.plausible(at, now) else None,
        info=payload.get("info", ""),
        vendor_id=payload.get("vendorId", ""),
        vendor_error_code=payload.get("vendorErrorCode", ""),
    )


def read_authorize(payload: dict[str, Any], now: datetime) -> AuthorizeAsked:
    return AuthorizeAsked(payload.get("idTag", ""))


def read_start_transaction(payload: dict[str, Any], now: datetime) -> StartReported:
    reported = payload.get("timestamp", "")
    at = timestamps.read(reported)
    return StartReported(
        connector_no=_connector(payload, 1),
        tag=payload.get("idTag", ""),
        meter_start_wh=_register(payload.get("meterStart")),
        at=at if timestamps.plausible(at, now) else None,
        reported_at=reported,
        reservation_id=payload.get("reservationId"),
    )


def read_meter_values(payload: dict[str, Any], now: datetime) -> Metered:
    return Metered(
        connector_no=_connector(payload, 0),
        transaction_ref=_ref(payload.get("transactionId")),
        readings=_readings(payload.get("meterValue", []), now),
    )


def read_stop_transaction(payload: dict[str, Any], now: datetime, raw_reason: str = "") -> StopReported:
    at = timestamps.read(payload.get("timestamp"))
    reason = payload.get("reason", "Local")  # §4.10: none means Local
    return StopReported(
        transaction_ref=_ref(payload.get("transactionId")),
        meter_stop_wh=_register(payload.get("meterStop")),
        at=at if timestamps.plausible(at, now) else None,
        reason=reason,
        reason_raw=raw_reason[:100] if raw_reason != reason else "",
        tag=payload.get("idTag"),
        readings=_readings(payload.get("transactionData", []), now),
    )


def read_data_transfer(payload: dict[str, Any], now: datetime) -> DataSent:
    return DataSent(payload.get("vendorId", ""), payload.get("messageId", ""), payload.get("data", ""))


def read_firmware_status_notification(payload: dict[str, Any], now: datetime) -> FirmwareReported:
    return FirmwareReported(payload.get("status") or "Unknown")


def read_signed_firmware_status_notification(payload: dict[str, Any], now: datetime) -> FirmwareReported:
    return FirmwareReported(payload.get("status") or "Unknown", payload.get("requestId"), signed=True)


def read_diagnostics_status_notification(payload: dict[str, Any], now: datetime) -> UploadReported:
    return UploadReported(payload.get("status") or "Unknown")


def read_log_status_notification(payload: dict[str, Any], now: datetime) -> UploadReported:
    return UploadReported(payload.get("status") or "Unknown", log=True, request_id=payload.get("requestId"))


def read_security_event_notification(payload: dict[str, Any], now: datetime) -> SecurityEventReported:
    at = timestamps.read(payload.get("timestamp"))
    at = at if timestamps.plausible(at, now) else None
    return SecurityEventReported(payload.get("type") or "Unknown", at, payload.get("techInfo", ""))


def read_sign_certificate(payload: dict[str, Any], now: datetime) -> CertificateAsked:
    return CertificateAsked(payload.get("csr", ""))


def _connector(payload: dict[str, Any], least: int) -> int:
    """The connector's number; whatever a charger may call one fits a database."""
    return min(max(least, payload.get("connectorId", least)), 2**31 - 1)


def _ref(value: Any) -> str | None:
    return None if value is None else str(value)


def _register(value: Any) -> int | None:
    """Wh, or None for what no register shows."""
    return value if isinstance(value, int) and 0 <= value < 2**53 else None


def _readings(meter_values: list[dict[str, Any]], now: datetime) -> tuple[Reading, ...]:
    found = [reading for one in meter_values if (reading := _reading(one, now)) is not None]
    if len(found) > 1:  # out-of-order batches: the curve is the charger's, so its times decide
        found.sort(key=lambda reading: reading.at or now)
    return tuple(found)


def _reading(meter_value: dict[str, Any], now: datetime) -> Reading | None:
    samples = [sample for sample in meter_value.get("sampledValue", []) if sample.get("value") not in (None, "")]
    if not samples:
        return None
    at = timestamps.read(meter_value.get("timestamp"))
    energy, power, current, voltage, soc, context = None, None, None, None, None, ""
    phases: dict[str, list[float]] = {}
    for sample in samples:
        if sample.get("format") == "SignedData":
            continue  # kept as it came, never part of the arithmetic
        number = _number(sample["value"])
        if number is None:
            continue
        measurand = sample.get("measurand", DEFAULT_MEASURAND)
        here = sample.get("context", "Sample.Periodic")
        phase = sample.get("phase")
        unit = sample.get("unit", "")
        value = number * _TO_BASE.get(unit, 1)
        if phase and phase not in ("N",):
            phases.setdefault(measurand, []).append(value)
            continue
        if measurand == DEFAULT_MEASURAND:
            # A Transaction.Begin of 0 beside a periodic value is a placeholder, not a reading.
            if energy is None or here != "Transaction.Begin":
                energy, context = int(value), here
        elif measurand == "Power.Active.Import":
            power = value
        elif measurand == "Current.Import":
            current = value
        elif measurand == "Voltage":
            voltage = value
        elif measurand == "SoC":
            soc = value
    if energy is None and (parts := phases.get(DEFAULT_MEASURAND)):
        energy = int(sum(parts))
    if power is None and (parts := phases.get("Power.Active.Import")):
        power = sum(parts)
    if current is None and (parts := phases.get("Current.Import")):
        current = max(parts)
    if voltage is None and (parts := phases.get("Voltage")):
        voltage = sum(parts) / len(parts)
    return Reading(
        at=at if timestamps.plausible(at, now) else None,
        energy_wh=_bounded(energy, 2**53),
        power_w=_bounded(power, 10_000_000),
        current_ma=_bounded(None if current is None else current * 1000, 2**31 - 1),
        voltage_mv=_bounded(None if voltage is None else voltage * 1000, 2**31 - 1),
        soc_pct=_bounded(soc, 101),
        context=context[:30],
        samples=samples,
    )


def _bounded(value: float | None, below: int) -> int | None:
    return int(value) if value is not None and 0 <= value < below else None


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
