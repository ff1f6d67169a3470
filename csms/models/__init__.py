"""The chargers' side of the data: what stands where, what it says, what it did."""

from csms.models.alert import Alert
from csms.models.charging_profile import ChargingProfile
from csms.models.command import Command, CommandBatch, CommandState
from csms.models.configuration import ConfigurationKey
from csms.models.connection import Connection
from csms.models.firmware import FirmwareImage, FirmwareUpdate
from csms.models.health import ChargerError, SignalQuality
from csms.models.id_tag import IdTag
from csms.models.local_list import LocalList
from csms.models.message import Direction, OcppMessage
from csms.models.onboarding import OnboardingWindow, UnknownCharger
from csms.models.reservation import Reservation
from csms.models.security import ChargerCertificate, InstalledCertificate, RootCertificate, SecurityEvent
from csms.models.session import ChargingSession, MeterReading, SessionState
from csms.models.station import Availability, ChargePoint, Connector, ConnectorType, QuirkProfile, Registration, Station
from csms.models.upload import ChargerUpload

__all__ = [
    "Alert",
    "Availability",
    "ChargePoint",
    "ChargerCertificate",
    "ChargerError",
    "ChargerUpload",
    "ChargingProfile",
    "ChargingSession",
    "Command",
    "CommandBatch",
    "CommandState",
    "ConfigurationKey",
    "Connection",
    "Connector",
    "ConnectorType",
    "Direction",
    "FirmwareImage",
    "FirmwareUpdate",
    "IdTag",
    "InstalledCertificate",
    "LocalList",
    "MeterReading",
    "OcppMessage",
    "OnboardingWindow",
    "QuirkProfile",
    "Registration",
    "Reservation",
    "RootCertificate",
    "SecurityEvent",
    "SessionState",
    "SignalQuality",
    "Station",
    "UnknownCharger",
]
