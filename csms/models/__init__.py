"""The chargers' side of the data: what stands where, what it says, what it did."""

from csms.models.command import Command, CommandState
from csms.models.connection import Connection
from csms.models.firmware import FirmwareImage, FirmwareUpdate
from csms.models.health import ChargerError, SignalQuality
from csms.models.id_tag import IdTag, Reservation
from csms.models.message import Direction, OcppMessage
from csms.models.session import ChargingSession, MeterReading, SessionState
from csms.models.station import ChargePoint, Connector, ConnectorType, QuirkProfile, Registration, Station

__all__ = [
    "ChargePoint",
    "ChargerError",
    "ChargingSession",
    "Command",
    "CommandState",
    "Connection",
    "Connector",
    "ConnectorType",
    "Direction",
    "FirmwareImage",
    "FirmwareUpdate",
    "IdTag",
    "MeterReading",
    "OcppMessage",
    "QuirkProfile",
    "Registration",
    "Reservation",
    "SessionState",
    "SignalQuality",
    "Station",
]
