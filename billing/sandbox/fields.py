"""Checks on what a caller sent: known fields only, whole paise, small notes."""

from billing.sandbox.errors import bad_input

LARGEST = 50_00_00_000_00  # Rs 50,00,00,000
MAX_TIME = 4_765_046_400
MIN_TIME = 946_684_800


def only(body: dict, allowed: str, required: str = "") -> None:
    """Unknown fields are an error, as are missing ones. Both lists are words in a string."""
    if unknown := [name for name in body if name not in allowed.split() and name not in required.split()]:
        raise bad_input(f"{', '.join(unknown)} is/are not required and should not be sent", unknown[0])
    for name in required.split():
        if body.get(name) in (None, ""):
            raise bad_input(f"The {name} is required.", name)


def paise(body: dict, name: str = "amount", *, least: int = 100, too_small: str = "The amount must be at least INR 1.00") -> int:
    value = body[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_input(f"The {name} must be an integer.", name)
    if value < least:
        raise bad_input(too_small, name)
    if value > LARGEST:
        raise bad_input(f"The {name} exceeds the maximum amount allowed.", name)
    return value


def group(body: dict, name: str) -> dict:
    """Fields within a field; absent is empty."""
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise bad_input(f"The {name} must be an array.", name)
    return value


def flag(body: dict, name: str) -> bool:
    value = body.get(name, False)
    if value in (None, 0, 1, "0", "1"):
        value = value in (1, "1")
    if not isinstance(value, bool):
        raise bad_input(f"The {name} field must be true or false.", name)
    return value


def text(body: dict, name: str, longest: int = 255) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad_input(f"The {name} must be a string.", name)
    if len(value) > longest:
        raise bad_input(f"The {name} may not be greater than {longest} characters.", name)
    return value


def choice(body: dict, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
    value = body.get(name, default)
    if value not in allowed:
        raise bad_input(f"The selected {name} is invalid.", name)
    return value


def rupees_only(body: dict) -> None:
    if body.get("currency", "INR") != "INR":
        raise bad_input("The selected currency is invalid.", "currency")


def notes(body: dict, *, longest: int = 256) -> dict:
    """At most 15 pairs. `[]` is how an empty one is written, so it is read as such."""
    value = body.get("notes") or {}
    if not isinstance(value, dict):
        raise bad_input("The notes must be an array.", "notes")
    if len(value) > 15:
        raise bad_input("The notes may not have more than 15 items.", "notes")
    for key, item in value.items():
        if isinstance(item, dict | list) or len(key) > longest or len(str(item)) > longest:
            raise bad_input(f"The notes may not be greater than {longest} characters.", "notes")
    return value


def timestamp(body: dict, name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_input(f"The {name} must be an integer.", name)
    if not MIN_TIME <= value <= MAX_TIME:
        raise bad_input(f"{name} must be between {MIN_TIME} and {MAX_TIME}", name)
    return value


def as_notes(value: dict) -> dict | list:
    """Empty notes leave as `[]`, others as an object."""
    return value or []
