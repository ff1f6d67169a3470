"""Configuration keys: which the standard has, when two values are one, when to try again. Pure."""

from datetime import datetime, timedelta

# OCPP 1.6 §9 and the security extension, the most telling first; secrets are not asked for.
FIRST_KEYS = ("GetConfigurationMaxKeys", "SupportedFeatureProfiles", "NumberOfConnectors", "HeartbeatInterval")
STANDARD_KEYS = (
    *FIRST_KEYS,
    "MeterValueSampleInterval", "MeterValuesSampledData", "MeterValuesSampledDataMaxLength", "ClockAlignedDataInterval",
    "MeterValuesAlignedData", "MeterValuesAlignedDataMaxLength", "StopTxnSampledData", "StopTxnSampledDataMaxLength",
    "StopTxnAlignedData", "StopTxnAlignedDataMaxLength", "WebSocketPingInterval", "ConnectionTimeOut", "AuthorizeRemoteTxRequests",
    "LocalAuthorizeOffline", "LocalPreAuthorize", "AllowOfflineTxForUnknownId", "AuthorizationCacheEnabled",
    "StopTransactionOnEVSideDisconnect", "StopTransactionOnInvalidId", "MaxEnergyOnInvalidId", "UnlockConnectorOnEVSideDisconnect",
    "MinimumStatusDuration", "ResetRetries", "TransactionMessageAttempts", "TransactionMessageRetryInterval",
    "ConnectorPhaseRotation", "ConnectorPhaseRotationMaxLength", "ConnectorSwitch3to1PhaseSupported", "BlinkRepeat", "LightIntensity",
    "LocalAuthListEnabled", "LocalAuthListMaxLength", "SendLocalListMaxLength", "ReserveConnectorZeroSupported",
    "ChargeProfileMaxStackLevel", "ChargingScheduleAllowedChargingRateUnit", "ChargingScheduleMaxPeriods",
    "MaxChargingProfilesInstalled", "SupportedFeatureProfilesMaxLength", "SupportedFileTransferProtocols", "SecurityProfile", "CpoName",
    "AdditionalRootCertificateCheck", "CertificateSignedMaxChainSize", "CertificateStoreMaxLength",
)  # fmt: skip
# Lists of measurands: a charger that knows one of them not refuses the whole list (§3.16.4, Q122).
MEASURANDS = {one.lower() for one in ("MeterValuesSampledData", "MeterValuesAlignedData", "StopTxnSampledData", "StopTxnAlignedData")}
MAX_VALUE, MAX_KEY = 500, 50
BACK_OFF = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(days=1))
# Chargers lie about how many keys they take at once.
CHUNK_AT_MOST = 50
_YES, _NO = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


_BY_NAME = {one.lower(): one for one in STANDARD_KEYS}


def canonical(key: str) -> str:
    """The key as the standard spells it, when it has it: chargers get the case wrong."""
    return _BY_NAME.get(key.lower(), key)


def next_try(attempts: int, now: datetime) -> datetime:
    """When to try again after that many attempts: soon, then ever more seldom, then daily."""
    return now + BACK_OFF[min(max(attempts, 1), len(BACK_OFF)) - 1]


def same(wanted: str, value: str | None) -> bool:
    """Whether a charger that reads `value` has what is wanted: whatever its quotes, blanks and case (Q135)."""
    return value is not None and sorted(map(_word, parts(wanted))) == sorted(map(_word, parts(value)))


def parts(value: str) -> list[str]:
    """A value as the list that it may be: chargers separate by commas or semicolons."""
    return [part for one in value.replace(";", ",").split(",") if (part := one.strip(" \t\r\n\"'[]"))]


def _word(text: str) -> str:
    text = text.casefold()
    if text in _YES:
        return "1"
    if text in _NO:
        return "0"
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:g}" if abs(number) < 1e9 else text


def shorter(key: str, value: str) -> str | None:
    """What to try when this was rejected: a list of measurands without its last; None when there is nothing less."""
    found = parts(value)
    return ",".join(found[:-1]) if key.lower() in MEASURANDS and len(found) > 1 else None


def chunks(keys: list[str], size: int, reported_most: str | None = None) -> list[list[str]]:
    """The keys in portions no larger than `size`, nor than the charger says it takes (0 and nonsense are not believed: Q136)."""
    most = number(reported_most)
    size = max(1, min(size, CHUNK_AT_MOST, most if most and most > 0 else size))
    return [keys[at : at + size] for at in range(0, len(keys), size)]


def number(value: str | None) -> int | None:
    """A whole number of a charger's; None for anything else."""
    text = (value or "").strip(" \"'")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
