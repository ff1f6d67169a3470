"""The charger's configuration keys (OCPP 1.6 section 9, security white paper section 2): read and written by the server."""

from collections.abc import Callable
from typing import Any

MEASURANDS = (
    "Energy.Active.Import.Register",
    "Power.Active.Import",
    "Current.Import",
    "Voltage",
    "SoC",
    "Temperature",
    "Power.Offered",
    "Current.Offered",
)
FEATURES = "Core,FirmwareManagement,LocalAuthListManagement,Reservation,SmartCharging,RemoteTrigger"

# key: (value, may be changed)
KEYS: dict[str, tuple[str, bool]] = {
    "AdditionalRootCertificateCheck": ("false", False),
    "AllowOfflineTxForUnknownId": ("false", True),
    "AuthorizationCacheEnabled": ("true", True),
    "AuthorizeRemoteTxRequests": ("false", True),
    "BlinkRepeat": ("3", True),
    "CertificateSignedMaxChainSize": ("10000", False),
    "CertificateStoreMaxLength": ("8", False),
    "ChargeProfileMaxStackLevel": ("8", False),
    "ChargingScheduleAllowedChargingRateUnit": ("Current,Power", False),
    "ChargingScheduleMaxPeriods": ("24", False),
    "ClockAlignedDataInterval": ("0", True),
    "ConnectionTimeOut": ("60", True),
    "ConnectorPhaseRotation": ("NotApplicable", True),
    "ConnectorSwitch3to1PhaseSupported": ("false", False),
    "CpoName": ("", True),
    "GetConfigurationMaxKeys": ("80", False),
    "HeartbeatInterval": ("60", True),
    "LightIntensity": ("80", True),
    "LocalAuthListEnabled": ("true", True),
    "LocalAuthListMaxLength": ("500", False),
    "LocalAuthorizeOffline": ("true", True),
    "LocalPreAuthorize": ("false", True),
    "MaxChargingProfilesInstalled": ("10", False),
    "MaxEnergyOnInvalidId": ("0", True),
    "MeterValueSampleInterval": ("30", True),
    "MeterValuesAlignedData": ("Energy.Active.Import.Register", True),
    "MeterValuesAlignedDataMaxLength": ("8", False),
    "MeterValuesSampledData": (
        "Energy.Active.Import.Register,Power.Active.Import,Current.Import,Voltage,SoC,Temperature",
        True,
    ),
    "MeterValuesSampledDataMaxLength": ("8", False),
    "MinimumStatusDuration": ("0", True),
    "NumberOfConnectors": ("1", False),
    "ReserveConnectorZeroSupported": ("true", False),
    "ResetRetries": ("1", True),
    "SecurityProfile": ("0", True),
    "SendLocalListMaxLength": ("100", False),
    "StopTransactionOnEVSideDisconnect": ("true", True),
    "StopTransactionOnInvalidId": ("true", True),
    "StopTxnAlignedData": ("", True),
    "StopTxnAlignedDataMaxLength": ("8", False),
    "StopTxnSampledData": ("", True),
    "StopTxnSampledDataMaxLength": ("8", False),
    "SupportedFeatureProfiles": (FEATURES, False),
    "SupportedFileTransferProtocols": ("HTTP,HTTPS", False),
    "TransactionMessageAttempts": ("3", True),
    "TransactionMessageRetryInterval": ("10", True),
    "UnlockConnectorOnEVSideDisconnect": ("true", True),
    "WebSocketPingInterval": ("30", True),
}
AUTHORIZATION_KEY = "AuthorizationKey"  # write-only: the Basic password
SECURITY_PROFILE = "SecurityProfile"
NUMBERS = {key for key, (value, _) in KEYS.items() if value.isdigit()}
SWITCHES = {key for key, (value, _) in KEYS.items() if value in ("true", "false")}
# One measurand that it does not have, and the whole list is rejected (OCPP 1.6 section 5.3).
LISTS_OF_MEASURANDS = {"MeterValuesAlignedData", "MeterValuesSampledData", "StopTxnAlignedData", "StopTxnSampledData"}
LONGEST_VALUE = 500


class Configuration:
    """The values now.

    `new_password` and `new_profile` are there when the CSMS set one, for the line to use at its next dial; `kept_password`
    waits for a reboot. `changed` are the keys the CSMS has set, which outlive the power. `may_raise` says whether the
    charger is able to speak a higher security profile.
    """

    def __init__(self, **values: str) -> None:
        self._values = {key: value for key, (value, _) in KEYS.items()} | values
        self.changed: set[str] = set()
        self.key_after_reboot = False
        self.kept_password: str | None = None
        self.new_password: str | None = None
        self.new_profile: int | None = None
        self.profile_before = 0
        self.may_raise: Callable[[int], bool] = lambda profile: True

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def number(self, key: str) -> int:
        return int(self._values[key])

    def on(self, key: str) -> bool:
        return self._values[key] == "true"

    def put(self, key: str, value: str) -> None:
        """Set it from within, past all rules."""
        self._values[key] = value

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
        key = next((known for known in (*KEYS, AUTHORIZATION_KEY) if known.lower() == key.lower()), key)
        if key == AUTHORIZATION_KEY:
            return self._change_password(value)
        if key not in KEYS:
            return "NotSupported"
        if not KEYS[key][1] or not _possible(key, value):
            return "Rejected"
        if key == SECURITY_PROFILE:
            return self._change_profile(int(value))
        self._values[key] = value.lower() if key in SWITCHES else value
        self.changed.add(key)
        return "Accepted"

    def rebooted(self) -> None:
        """What waited for a reboot counts from now on."""
        self.new_password, self.kept_password = self.kept_password or self.new_password, None

    def _change_password(self, value: str) -> str:
        if not 16 <= len(value) <= 40:
            return "Rejected"
        if self.key_after_reboot:
            self.kept_password = value
            return "RebootRequired"
        self.new_password = value
        return "Accepted"

    def _change_profile(self, wanted: int) -> str:
        """Up only, and only to one the charger is able to speak (security white paper, A05)."""
        now = self.number(SECURITY_PROFILE)
        if wanted < now or wanted > 3 or (wanted > now and not self.may_raise(wanted)):
            return "Rejected"
        if wanted > now:
            self.new_profile, self.profile_before = wanted, now
            self._values[SECURITY_PROFILE] = str(wanted)
            self.changed.add(SECURITY_PROFILE)
        return "Accepted"


def _possible(key: str, value: str) -> bool:
    if key in NUMBERS:
        return value.isascii() and value.isdigit() and len(value) < 10
    if key in SWITCHES:
        return value.lower() in ("true", "false")
    if key in LISTS_OF_MEASURANDS:
        names = [name.strip() for name in value.split(",") if name.strip()]
        return all(name in MEASURANDS for name in names)
    return len(value) <= LONGEST_VALUE
