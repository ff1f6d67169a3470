"""What a charger and the people around it do by themselves; and the strange ways that real chargers have, by name."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from csms.simulator.times import read, stamp

Message = list[Any]
# A frame as it would be said, and what is said instead: frames, or raw text that is none.
Bend = Callable[[Message, Random], Iterable[Message | str]]

CALL, RESULT, ERROR = 2, 3, 4
IST = timedelta(hours=5, minutes=30)


@dataclass
class Habits:
    """Seconds; a pair is a range to choose from. `strange` are names of STRANGE."""

    sample_every_s: int = 2
    arrives_after_s: tuple[float, float] | None = (1.5, 4.0)  # a driver comes after a remote start; None: nobody does
    leaves_after_s: tuple[float, float] | None = (3.0, 8.0)  # and goes after the end, or when the car is full
    boots_in_s: tuple[float, float] = (3.0, 6.0)
    step_s: float = 2.0  # between the steps of a firmware update, of an upload
    signal_every_s: int = 0  # vendor SignalQuality by DataTransfer; 0: never
    security_events: bool = False  # also for what is no more than a boot
    transaction_data: bool = False
    vendor: str = "Voltaro"
    model: str = "Simulated"
    firmware: str = "1.4.2"
    strange: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Strange:
    """One strange way. With a `bend` it is in the frames; without, the charger (or its line) looks it up by name."""

    what: str
    bend: Bend | None = None


# -- bending frames -------------------------------------------------------------------------------------------------
def _calls(change: Callable[[str, dict[str, Any]], Any]) -> Bend:
    """A bend that changes the payload of every call."""

    def bend(message: Message, rng: Random) -> Iterable[Message]:
        if message[0] == CALL:
            message = [CALL, message[1], message[2], change(message[2], message[3])]
        yield message

    return bend


def _values(change: Callable[[str, Any], Any], *actions: str) -> Bend:
    """A bend that changes single values, wherever they stand: `change(name, value)`. Of these actions, or of all."""

    def walk(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(key, one) for key, one in value.items()}
        if isinstance(value, list):
            return [walk(name, one) for one in value]
        return change(name, value)

    return _calls(lambda action, payload: walk("", payload) if not actions or action in actions else payload)


def _string_numbers(name: str, value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _number_values(name: str, value: Any) -> Any:
    return float(value) if name == "value" else value


def _kwh_as_wh(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    payload = json.loads(json.dumps(payload))
    for sample in _samples(payload):
        if sample.get("measurand") == "Energy.Active.Import.Register":
            sample["value"] = f"{float(sample['value']) / 1000:.3f}"
    return payload


def _objects_for_lists(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    if action != "MeterValues":
        return payload
    [reading] = payload["meterValue"]
    return {**payload, "meterValue": {**reading, "sampledValue": reading["sampledValue"][0]}}


def _with(name: str, value: Any, *actions: str) -> Bend:
    """A bend that puts this value where the name stands."""
    return _calls(lambda action, payload: {**payload, name: value} if action in actions and name in payload else payload)


def _local_time(name: str, value: Any) -> Any:
    return (read(value) + IST).strftime("%Y-%m-%dT%H:%M:%S") if name == "timestamp" else value


def _unset_clock(name: str, value: Any) -> Any:
    """As if it had been 2000-01-01 when today began."""
    if name != "timestamp":
        return value
    at = read(value)
    return stamp(at.replace(year=2000, month=1, day=1))


def _unknown_words(name: str, value: Any) -> Any:
    words = {
        "errorCode": {"OtherError": "Error"},
        "unit": {"Celsius": "Celcius"},
        "measurand": {"Power.Active.Import": "Power.Active.Import.L1"},
    }
    return words.get(name, {}).get(value, value)


def _long_words(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    if action != "BootNotification":
        return payload
    return {**payload, "chargePointSerialNumber": "S" * 34, "chargePointModel": "A charger with a very long name"}


def _control_bytes(name: str, value: Any) -> Any:
    return f"{value}\x10\x0e" if name == "idTag" else value


def _samples(payload: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for reading in [*payload.get("meterValue", []), *payload.get("transactionData", [])]:
        yield from reading["sampledValue"]


def _starts_twice(message: Message, rng: Random) -> Iterable[Message]:
    yield message
    if message[0] == CALL and message[2] == "StartTransaction":
        yield [CALL, f"{rng.getrandbits(96):024x}", *message[2:]]


def _chatty_modem(message: Message, rng: Random) -> Iterable[Message | str]:
    if message[0] == CALL and rng.random() < 0.1:
        yield rng.choice(["AT+CSQ\r\n", "+CSQ: 22,99\r\n", "OK\r\n", "\r\nRING\r\n"])
    yield message


def _broken_json(message: Message, rng: Random) -> Iterable[Message | str]:
    if message[0] == CALL and message[2] == "MeterValues":
        text = json.dumps(message, separators=(",", ":"))
        yield re.sub(r'"transactionId":-?\d+', '"transactionId":', text)
    else:
        yield message


def _bare_answers(message: Message, rng: Random) -> Iterable[Message]:
    if message[0] == RESULT:
        message = [RESULT, message[1], {name: value for name, value in message[2].items() if name != "status"}]
    yield message


def _short_errors(message: Message, rng: Random) -> Iterable[Message]:
    yield message[:3] if message[0] == ERROR else message


def _null_payload(message: Message, rng: Random) -> Iterable[Message]:
    yield [*message[:3], None] if message[0] == CALL and not message[3] else message


def _never_answers(message: Message, rng: Random) -> Iterable[Message]:
    if message[0] == CALL:
        yield message


ABOUT_RUNNING = ("MeterValues", "StopTransaction")

# Frames are bent in this order: first what they say, then the form they have.
STRANGE: dict[str, Strange] = {
    # the line
    "no_subprotocol": Strange("asks for no sub-protocol"),
    "key_as_bytes": Strange("sends the bytes that its hexadecimal key spells as password"),
    "chatty_modem": Strange("its modem talks in between: AT+CSQ, OK, RING", _chatty_modem),
    "boots_always": Strange("boots whenever the line is back"),
    "never_boots": Strange("says no BootNotification at all"),
    # transactions
    "transaction_zero": Strange("transactionId 0 in every MeterValues and StopTransaction", _with("transactionId", 0, *ABOUT_RUNNING)),
    "unknown_stop": Strange("transactionId -1 in StopTransaction", _with("transactionId", -1, "StopTransaction")),
    "starts_twice": Strange("says each StartTransaction twice, with a new message id", _starts_twice),
    "never_stops": Strange("says no StopTransaction"),
    "app_stop": Strange('stops for the reason "AppStop"', _with("reason", "AppStop", "StopTransaction")),
    "ignores_remote_stop": Strange("accepts a remote stop, and goes on"),
    # meters
    "kwh_in_wh": Strange("registers in kWh that say Wh", _calls(_kwh_as_wh)),
    "session_register": Strange("a register that begins at 0 with every transaction"),
    # times
    "local_time": Strange("Indian time without a zone", _values(_local_time)),
    "unset_clock": Strange("the year 2000", _values(_unset_clock)),
    # firmware and keys
    "bad_flash": Strange("firmware is fetched, and its installation fails"),
    "rolls_back": Strange("firmware says Installed, and the old version boots"),
    "key_after_reboot": Strange("takes a new AuthorizationKey after a reboot only (RebootRequired)"),
    # vendor messages, by DataTransfer
    "last_meter_value": Strange("asks GetLastMeterValue after a reboot in the middle of a transaction"),
    "post_boot_state": Strange("waits to be told PostBootState after such a reboot"),
    "session_limit": Strange("knows SessionLimit, keeps to it, and says StopDetail"),
    # frames
    "string_numbers": Strange("numbers as strings", _values(_string_numbers)),
    "number_values": Strange("sampled values as numbers", _values(_number_values)),
    "objects_for_lists": Strange("meterValue and sampledValue as objects, not lists", _calls(_objects_for_lists)),
    "extra_fields": Strange(
        "a field of its own in every call", _calls(lambda action, payload: {**payload, "vendorSpare": [1, {"a": None}]})
    ),
    "unknown_words": Strange("Celcius, Error, Power.Active.Import.L1", _values(_unknown_words)),
    "long_words": Strange("a serial and a model longer than the standard allows", _calls(_long_words)),
    "no_vendor": Strange("an empty chargePointVendor", _with("chargePointVendor", "", "BootNotification")),
    "control_bytes": Strange("two control bytes behind every idTag", _values(_control_bytes)),
    "bare_answers": Strange("answers without their status", _bare_answers),
    "null_payload": Strange("null instead of an empty payload", _null_payload),
    "short_errors": Strange("CALLERROR of three elements", _short_errors),
    "never_answers": Strange("talks, and answers no call", _never_answers),
    # last, since it is text and no frame any more
    "broken_json": Strange('"transactionId":, in every MeterValues', _broken_json),
}


def parse(names: Iterable[str]) -> frozenset[str]:
    """The strange ways of these names (each may be a comma-separated list); ValueError names the one that does not exist."""
    wanted = frozenset(name.strip() for one in names for name in one.split(",") if name.strip())
    if unknown := sorted(wanted - set(STRANGE)):
        raise ValueError(f"no such habit: {', '.join(unknown)} (there are: {', '.join(STRANGE)})")
    return wanted


def bent(text: str, strange: frozenset[str], rng: Random) -> list[str]:
    """What a charger of these ways says instead of the frame `text`."""
    said: list[Message | str] = [json.loads(text)]
    for name, habit in STRANGE.items():
        if name in strange and habit.bend is not None:
            said = [after for before in said for after in ([before] if isinstance(before, str) else habit.bend(before, rng))]
    return [one if isinstance(one, str) else json.dumps(one, separators=(",", ":")) for one in said]
