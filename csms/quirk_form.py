"""The settings of a quirk profile, or of one charger, as form fields: what is left empty is not said (csms/rules/habits.py)."""

from collections.abc import Callable
from typing import Any, get_args

from django import forms

from csms.rules import habits

# What stands for "said to be empty", where empty means something else than not said.
NOTHING = "-"
Look = Callable[[str], forms.Widget]


def plain(kind: str) -> forms.Widget:
    """The widget of a kind of field, without any looks of its own."""
    return {"choice": forms.Select(), "number": forms.NumberInput(attrs={"min": 0}), "lines": forms.Textarea(attrs={"rows": 4})}.get(
        kind, forms.TextInput()
    )


def form_fields(look: Look = plain) -> dict[str, forms.Field]:
    """One field for each setting, in the order of its groups."""
    return {name: _field(name, look) for _, names in habits.GROUPS for name in names}


def groups() -> list[tuple[str, tuple[str, ...]]]:
    return list(habits.GROUPS)


def _field(name: str, look: Look) -> forms.Field:
    kind, standard = habits.kind(name), getattr(habits.STANDARD, name)
    said = {"label": label(name), "required": False, "help_text": habits.HELP[name]}
    if name == "configuration":
        said["help_text"] = "One key a line: MeterValueSampleInterval = 30"
        return forms.CharField(widget=look("lines"), max_length=20_000, **said)
    if kind is bool:
        choices = [("", f"Not said ({'yes' if standard else 'no'})"), ("yes", "Yes"), ("no", "No")]
        return forms.ChoiceField(choices=choices, widget=look("choice"), **said)
    if kind is int:
        widget = look("number")
        widget.attrs |= {"placeholder": str(standard), "min": 0}
        return forms.IntegerField(min_value=0, max_value=1_000_000, widget=widget, **said)
    if name in habits.CHOICES:
        named = [(one or NOTHING, one or "Nothing") for one in habits.CHOICES[name]]
        return forms.ChoiceField(choices=[("", f"Not said ({standard or 'nothing'})"), *named], widget=look("choice"), **said)
    widget = look("text")
    widget.attrs |= {"placeholder": ", ".join(standard) if get_args(kind) else standard}
    return forms.CharField(widget=widget, max_length=500, **said)


def label(name: str) -> str:
    words = name.removesuffix("_s").removesuffix("_a").replace("_", " ")
    unit = ", s" if name.endswith("_s") else ", A" if name.endswith("_a") else ", bytes" if name.endswith("_bytes") else ""
    return words.removesuffix(" bytes").capitalize() + unit


def initial(settings: dict[str, Any]) -> dict[str, Any]:
    """What the fields begin with."""
    return {name: _shown(name, value) for name, value in settings.items() if name in habits.HELP} if isinstance(settings, dict) else {}


def _shown(name: str, value: Any) -> Any:
    if name == "configuration":
        return "\n".join(f"{key} = {text}" for key, text in value.items()) if isinstance(value, dict) else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(one) for one in value)
    return NOTHING if value == "" and name in habits.CHOICES else value


def collect(cleaned: dict[str, Any]) -> dict[str, Any]:
    """The settings these fields say. Raises forms.ValidationError, by field."""
    settings: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for _, names in habits.GROUPS:
        for name in names:
            given = cleaned.get(name)
            if given in (None, ""):
                continue
            try:
                settings[name] = _meant(name, given)
            except ValueError as error:
                wrong[name] = str(error)
                continue
            if said := habits.check({name: settings[name]}):
                wrong[name] = " ".join(said)
    if wrong:
        raise forms.ValidationError(wrong)
    return settings


def _meant(name: str, given: Any) -> Any:
    kind = habits.kind(name)
    if name == "configuration":
        return _keys(given)
    if kind is bool:
        return given == "yes"
    if get_args(kind):
        return [part for one in given.replace(";", ",").split(",") if (part := one.strip())]
    return "" if given == NOTHING and name in habits.CHOICES else given


def _keys(text: str) -> dict[str, str]:
    """`Key = value` lines. Raises ValueError with a sentence."""
    found: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"“{line.strip()[:60]}” is not a key, an equals sign and a value.")
        found[key.strip()] = value.strip()
    return found
