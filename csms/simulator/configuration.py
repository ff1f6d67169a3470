"""The charger's configuration keys (OCPP 1.6 section 9): read by GetConfiguration, written by ChangeConfiguration."""

from typing import Any

# key: (value, may be changed)
KEYS: dict[str, tuple[str, bool]] = {
    "AllowOfflineTxForUnknownId": ("false", True),
    "AuthorizationCacheEnabled": ("false", True),
    "AuthorizeRemoteTxRequests": ("false", True),
    "ChargeProfileMaxStackLevel": ("8", False),
    "ChargingScheduleAllowedChargingRateUnit": ("Current,Power", False),
    "ChargingScheduleMaxPeriods": ("24", False),
    "ClockAlignedDataInterval": ("0", False),
    "ConnectionTimeOut": ("60", True),
    "ConnectorPhaseRotation": ("NotApplicable", True),
    "GetConfigurationMaxKeys": ("50", False),
    "HeartbeatInterval": ("60", True),
    "LocalAuthorizeOffline": ("true", True),
    "LocalPreAuthorize": ("false", True),
    "MaxChargingProfilesInstalled": ("10", False),
    "MeterValueSampleInterval": ("30", True),
    "MeterValuesAlignedData": ("", False),
    "MeterValuesSampledData": (
        "Energy.Active.Import.Register,Power.Active.Import,Current.Import,Voltage,SoC,Temperature",
        True,
    ),
    "NumberOfConnectors": ("1", False),
    "ReserveConnectorZeroSupported": ("false", False),
    "ResetRetries": ("1", True),
    "StopTransactionOnEVSideDisconnect": ("true", True),
    "StopTransactionOnInvalidId": ("true", True),
    "StopTxnAlignedData": ("", False),
    "StopTxnSampledData": ("", True),
    "SupportedFeatureProfiles": ("Core,FirmwareManagement,Reservation,SmartCharging,RemoteTrigger", False),
    "TransactionMessageAttempts": ("3", True),
    "TransactionMessageRetryInterval": ("10", True),
    "UnlockConnectorOnEVSideDisconnect": ("true", True),
    "WebSocketPingInterval": ("30", True),
}
AUTHORIZATION_KEY = "AuthorizationKey"  # write-only: the Basic password
NUMBERS = {key for key, (value, _) in KEYS.items() if value.isdigit()}
SWITCHES = {key for key, (value, _) in KEYS.items() if value in ("true", "false")}


class Configuration:
    """The values now; `new_password` is there when the CSMS set one (section 2.2 of the security white paper)."""

    def __init__(self, **values: str) -> None:
        self._values = {key: value for key, (value, _) in KEYS.items()} | values
        self.new_password: str | None = None

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def number(self, key: str) -> int:
        return int(self._values[key])

    def on(self, key: str) -> bool:
        return self._values[key] == "true"

    def answer(self, wanted: list[str] | None) -> dict[str, Any]:
        """GetConfiguration.conf: the wanted keys (all when none are named), and those it does not know."""
        known = {key.lower(): key for key in self._values}
        asked = wanted or list(self._values)
        entries = []
        for one in asked[: self.number("GetConfigurationMaxKeys")]:
            if key := known.get(one.lower()):
                entries.append({"key": key, "readonly": not KEYS[key][1], "value": self._values[key]})
        unknown = [one for one in asked if one.lower() not in known]
        return {"configurationKey": entries} | ({"unknownKey": unknown} if unknown else {})

    def change(self, key: str, value: str) -> str:
        """ChangeConfiguration.conf's status."""
        if key == AUTHORIZATION_KEY:
            if not 16 <= len(value) <= 40:
                return "Rejected"
            self.new_password = value
            return "Accepted"
        if key not in KEYS:
            return "NotSupported"
        if not KEYS[key][1] or (key in NUMBERS and not value.isdigit()) or (key in SWITCHES and value.lower() not in ("true", "false")):
            return "Rejected"
        self._values[key] = value.lower() if key in SWITCHES else value
        return "Accepted"
