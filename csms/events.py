"""What chargers tell us, in our own words: the same for every OCPP version. Pure data; energy Wh, power W."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Booted:
    vendor: str = ""
    model: str = ""
    serial_number: str = ""
    firmware_version: str = ""


@dataclass(frozen=True)
class Alive:
    """A heartbeat."""


@dataclass(frozen=True)
class StatusReported:
    """`connector_no` 0 is the charger itself. `at` is the charger's time when it gave a believable one.

    `clock_s` is how far its time is ahead of ours, believable or not. `naive`: its time names no zone, and fits just now in this
    one (local or UTC).
    """

    connector_no: int
    status: str
    error_code: str = "NoError"
    at: datetime | None = None
    info: str = ""
    vendor_id: str = ""
    vendor_error_code: str = ""
    clock_s: int | None = None
    naive: str = ""


@dataclass(frozen=True)
class AuthorizeAsked:
    tag: str


@dataclass(frozen=True)
class StartReported:
    """A transaction began. `reported_at` is the raw text: it is part of what makes a repeat recognisable."""

    connector_no: int
    tag: str
    meter_start_wh: int | None
    at: datetime | None
    reported_at: str = ""
    reservation_id: int | None = None


@dataclass(frozen=True)
class Reading:
    """One moment's samples; None where the charger did not say. `samples` keeps all of them as they came.

    `interval_wh`: it has no register, only what flowed since the last time (Q120).
    """

    at: datetime | None
    energy_wh: int | None = None
    power_w: int | None = None
    current_ma: int | None = None
    voltage_mv: int | None = None
    soc_pct: int | None = None
    context: str = ""
    samples: list[dict[str, Any]] = field(default_factory=list)
    interval_wh: int | None = None


@dataclass(frozen=True)
class Metered:
    connector_no: int
    transaction_ref: str | None
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class StopReported:
    """A transaction ended. `reason_raw` is kept when the standard has no such reason."""

    transaction_ref: str | None
    meter_stop_wh: int | None
    at: datetime | None
    reason: str = "Local"
    reason_raw: str = ""
    tag: str | None = None
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class DataSent:
    vendor_id: str
    message_id: str
    data: str


@dataclass(frozen=True)
class FirmwareReported:
    """FirmwareStatusNotification, or SignedFirmwareStatusNotification with the request's number."""

    status: str
    request_id: int | None = None
    signed: bool = False


@dataclass(frozen=True)
class UploadReported:
    """DiagnosticsStatusNotification, or LogStatusNotification (`log`) with the request's number."""

    status: str
    log: bool = False
    request_id: int | None = None


@dataclass(frozen=True)
class SecurityEventReported:
    type: str
    at: datetime | None
    tech_info: str = ""


@dataclass(frozen=True)
class CertificateAsked:
    """SignCertificate: a certificate signing request, PEM."""

    csr: str
