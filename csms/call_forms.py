"""A form for every call, built from the standard's own schema: what a person sees of `csms/calls.py`.

`form_for(action, ...)` is a Django form; `payload()` of a valid one is what is sent. Lists of objects (a charging profile, a local
list) are JSON here; where such a thing has a page of its own, the form's page leads there.
"""

import json
from typing import Any

from django import forms
from django.utils import timezone

from csms import calls, firmware, schemas, timestamps
from csms.askable import FROM_ZERO
from csms.models import ChargePoint, ChargingSession, Connector, FirmwareImage, SessionState
from csms.rules import secrecy
from csms.templatetags.console import kwh

INT32 = 2**31 - 1
LONG_TEXT = 300
IMAGES = 100
JSON_AT_MOST = 100_000
# Label and help of a field, by "Action.field" or by the field alone.
WORDS: dict[str, tuple[str, str]] = {
    "connectorId": ("Connector", ""),
    "ChangeAvailability.type": ("It should be", ""),
    "Reset.type": ("How", ""),
    "idTag": ("Tag", "As it stands under Tags: up to 20 letters and digits."),
    "parentIdTag": ("Parent tag", "Others of this group may start too."),
    "transactionId": ("Transaction", ""),
    "key": ("Key", ""),
    "GetConfiguration.key": ("Keys", "One a line. Empty: all of them, which some chargers cannot send in one piece."),
    "ChangeConfiguration.key": ("Key", "Like HeartbeatInterval or MeterValueSampleInterval."),
    "value": ("Value", "Always a text: 10, true, Energy.Active.Import.Register,SoC."),
    "vendorId": ("Vendor", "Whose message it is, like org.example.vendor."),
    "messageId": ("Message", "Which of the vendor's messages."),
    "data": ("Data", "Text; often JSON in a text."),
    "retries": ("Attempts", "How often it tries. Empty: as it likes."),
    "retryInterval": ("Between attempts, s", ""),
    "startTime": ("From", "Indian time."),
    "stopTime": ("Until", "Indian time."),
    "oldestTimestamp": ("From", "Indian time."),
    "latestTimestamp": ("Until", "Indian time."),
    "image": ("Firmware", "One of the images kept under Firmware. The charger gets an address of its own to fetch it from."),
    "retrieveDate": ("Not before", "Indian time. Empty: now."),
    "retrieveDateTime": ("Not before", "Indian time. Empty: now."),
    "installDateTime": ("Install from", "Indian time. Empty: as soon as it can."),
    "expiryDate": ("Until", "Indian time."),
    "reservationId": ("Reservation", "Its number."),
    "listVersion": ("Version", "From 1, and higher than the last."),
    "updateType": ("Kind", ""),
    "localAuthorizationList": ("Tags", "A list of {idTag, idTagInfo}; without idTagInfo a tag is deleted (Differential)."),
    "ClearChargingProfile.id": ("Profile", "Its number. Empty: every one that fits the rest."),
    "chargingProfilePurpose": ("Purpose", ""),
    "stackLevel": ("Stack level", ""),
    "duration": ("Length, s", "Of the schedule, from now."),
    "chargingRateUnit": ("Unit", ""),
    "csChargingProfiles": ("Profile", "As 1.6 §7.8 has it."),
    "chargingProfile": ("Charging profile", "A TxProfile without transactionId. Some chargers refuse a start that has one."),
    "requestedMessage": ("Message", ""),
    "certificateChain": ("Certificate chain", "PEM, the charger's own first."),
    "certificate": ("Certificate", "PEM, one."),
    "certificateType": ("Kind", ""),
    "certificateHashData": ("Certificate", "As GetInstalledCertificateIds told it."),
    "logType": ("Log", ""),
}
CHOICES: dict[str, dict[str, str]] = {
    "ChangeAvailability.type": {"Operative": "In service (Operative)", "Inoperative": "Out of service (Inoperative)"},
    "Reset.type": {"Soft": "Soft: end its sessions, then restart", "Hard": "Hard: restart at once"},
    "chargingRateUnit": {"A": "A, each phase", "W": "W, in all"},
    "updateType": {"Full": "Full: replaces the list", "Differential": "Differential: changes it"},
}
EXAMPLES: dict[str, Any] = {
    "localAuthorizationList": [{"idTag": "CARD01", "idTagInfo": {"status": "Accepted"}}],
    "csChargingProfiles": {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 11000.0}]},
    },
    "certificateHashData": {"hashAlgorithm": "SHA256", "issuerNameHash": "…", "issuerKeyHash": "…", "serialNumber": "…"},
}
SEALED = (
    "Nobody can read its value here, now or later: it is sealed until it is sent, and masked in whatever comes back. "
    "Keys whose name says so, like WifiKey or VendorPassword, are secrets without this."
)
# How long a command may wait for a charger that is away, in seconds.
WAITS = {60: "1 minute", 120: "2 minutes", 300: "5 minutes", 600: "10 minutes", 3600: "1 hour", 86400: "1 day"}


class CallForm(forms.Form):
    """The fields of one call. Optional ones are `folded` away where there are many."""

    action: str
    required_names: set[str]

    @property
    def secret(self) -> bool:
        """Whether somebody says that its value is a secret."""
        return bool(self.cleaned_data.get("secret"))

    def payload(self) -> dict[str, Any]:
        """What is sent: fields left empty are left out."""
        return {name: value for name in schemas.properties(self.action) if (value := self.cleaned_data.get(name)) not in (None, "", [])}

    @property
    def shown(self) -> list[forms.BoundField]:
        """The fields to see at once: what it needs, or the little there is."""
        needed = [self[name] for name in self.fields if name in self.required_names]
        optional = self._optional
        return needed + (optional if len(optional) <= 1 else []) if needed else optional[:3]

    @property
    def folded(self) -> list[forms.BoundField]:
        shown = {field.name for field in self.shown}
        return [field for field in self._optional if field.name not in shown]

    @property
    def _optional(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in self.required_names]

    @property
    def folded_errors(self) -> bool:
        return any(field.errors for field in self.folded)


class Integer(forms.IntegerField):
    """A whole number of 32 bits, as chargers hold them."""

    def __init__(self, **how: Any) -> None:
        super().__init__(min_value=-INT32 - 1, max_value=INT32, **how)


class Number(forms.TypedChoiceField):
    """One of these numbers."""

    def __init__(self, **how: Any) -> None:
        super().__init__(coerce=int, empty_value=None, **how)


class Moment(forms.DateTimeField):
    """A time as people in India read it, sent as chargers do."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")

    def clean(self, value: Any) -> Any:
        at = super().clean(value)
        return timestamps.write(at) if at else None

    def prepare_value(self, value: Any) -> Any:
        at = timestamps.read(value) if isinstance(value, str) and value.endswith("Z") else None
        return timezone.localtime(at) if at else super().prepare_value(value)


class Lines(forms.CharField):
    """Texts, one a line."""

    widget = forms.Textarea(attrs={"rows": 4})

    def clean(self, value: Any) -> list[str]:
        text = super().clean(value)
        return [one for line in text.replace(",", "\n").splitlines() if (one := line.strip())]

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value


class Json(forms.CharField):
    """An object or a list, as JSON."""

    def __init__(self, *, example: Any, **how: Any) -> None:
        self.example = json.dumps(example, indent=2, ensure_ascii=False) if example is not None else ""
        widget = forms.Textarea(attrs={"rows": 10, "spellcheck": "false", "class": "mono", "placeholder": self.example})
        super().__init__(widget=widget, max_length=JSON_AT_MOST, **how)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {str(error)[:100]}.") from None

    def prepare_value(self, value: Any) -> Any:
        return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def form_for(
    action: str,
    data: Any = None,
    *,
    charge_point: ChargePoint | None = None,
    most_connectors: int = 0,
    initial: dict[str, Any] | None = None,
) -> CallForm:
    """The form of a call for this charger; without one, for several, which have `most_connectors` at most."""
    known = list(Connector.objects.filter(charge_point=charge_point.cp_id).order_by("connector_id")) if charge_point is not None else []
    needed = schemas.required(action)
    if action == "RemoteStartTransaction":
        needed = needed | {"connectorId"}  # to be seen at once: which car it is about
    fields: dict[str, Any] = {}
    for name, schema in sorted(schemas.properties(action).items(), key=lambda one: one[0] not in needed):
        label, help_text = WORDS.get(f"{action}.{name}") or WORDS.get(name, (name, ""))
        how = {"label": label, "help_text": help_text, "required": name in schemas.required(action)}
        if name == "connectorId":
            fields[name] = _connector(action, known, most_connectors, how)
        elif name == "image":
            fields[name] = _image(action, charge_point, how)
        elif name == "transactionId" and charge_point is not None:
            fields[name] = _transaction(charge_point, how)
        else:
            fields[name] = _field(action, name, schema, how)
    if action in secrecy.CARRIES:
        needed = needed | {"secret"}
        fields["secret"] = forms.BooleanField(required=False, label="It is a secret", help_text=SEALED)
    usual = calls.CALLS[action].queue_s
    waits = [("", f"{WAITS.get(usual, f'{usual} s')}, as usual"), *((str(one), words) for one, words in WAITS.items() if one != usual)]
    fields["wait"] = forms.ChoiceField(choices=waits, required=False, label="If it is away, wait", help_text="After that it is not sent.")
    made = type(f"{action}Form", (CallForm,), {**fields, "action": action, "required_names": needed})
    return made(data, initial=initial, label_suffix="")


def _field(action: str, name: str, schema: dict[str, Any], how: dict[str, Any]) -> forms.Field:
    kind = schema.get("type")
    if options := schema.get("enum"):
        words = CHOICES.get(f"{action}.{name}") or CHOICES.get(name, {})
        order = list(words) or options
        return forms.ChoiceField(choices=[*([] if how["required"] else [("", "–")]), *((one, words.get(one, one)) for one in order)], **how)
    if kind == "array" and schema.get("items", {}).get("type") == "string":
        return Lines(**how)
    if kind in ("object", "array"):
        return Json(example=EXAMPLES.get(name), **how)
    if kind == "integer":
        return Integer(**how)
    if schema.get("format") == "date-time":
        return Moment(**how)
    longest = schema.get("maxLength")
    if longest is None or longest > LONG_TEXT:
        return forms.CharField(
            max_length=longest or JSON_AT_MOST, widget=forms.Textarea(attrs={"rows": 3 if name in ("value", "data") else 10}), **how
        )
    return forms.CharField(max_length=longest, **how)


def _connector(action: str, known: list[Connector], most: int, how: dict[str, Any]) -> forms.Field:
    """The connectors there are, by their number, kind and state."""
    choices: list[tuple[str, str]] = []
    if action == "RemoteStartTransaction":
        choices.append(("", "Whichever is free, one with a car first"))
    elif not how["required"]:
        choices.append(("", "All, or as it likes" if action not in FROM_ZERO else "Any"))
    if action in FROM_ZERO:
        choices.append(("0", "Any connector" if action == "ReserveNow" else "The whole charger"))
    if known:
        choices += [(str(one.connector_id), f"{one.connector_id} · {one.get_type_display()} · {one.status}") for one in known]
    else:
        choices += [(str(number), str(number)) for number in range(1, max(most, 1) + 1)]
    return Number(choices=choices, **how)


def _image(action: str, charge_point: ChargePoint | None, how: dict[str, Any]) -> forms.Field:
    """The newest images that are for this charger (for several: all), signed ones for a signed update."""
    rows = FirmwareImage.objects.order_by("-id")
    if action == "SignedUpdateFirmware":
        rows = rows.exclude(signature="")
    fits = [row for row in rows[:IMAGES] if charge_point is None or not firmware.unfit(charge_point, row)]
    found = [(str(row.pk), f"{row} · {row.vendor or 'any maker'} {row.model}".strip()) for row in fits]
    return Number(choices=found or [("", "No image that fits is kept yet")], **how)


def _transaction(charge_point: ChargePoint, how: dict[str, Any]) -> forms.Field:
    """The sessions that run here; with none, a number is asked for."""
    running = ChargingSession.objects.filter(charge_point=charge_point).exclude(state=SessionState.STOPPED).select_related("connector")
    choices = [
        (
            row.transaction_id,
            f"Session {row.pk}, connector {row.connector.connector_id}, {kwh(row.energy_wh)} kWh (transaction {row.transaction_id})",
        )
        for row in running.order_by("connector__connector_id")[:50]
    ]
    if choices:
        return Number(choices=choices, **how)
    return Integer(**{**how, "help_text": "No session is running here. A number of the charger's own can be asked all the same."})
