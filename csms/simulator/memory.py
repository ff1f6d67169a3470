"""What a charger keeps in its flash: its meters, the transactions under way and what it has not yet said about them; and what
the server has given it: settings, lists, reservations, profiles, certificates, its firmware."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from csms.simulator import limits
from csms.simulator.charger import Charger
from csms.simulator.mailbox import Letter
from csms.simulator.outlet import Outlet, Reservation, Transaction
from csms.simulator.profiles import some_car
from csms.simulator.tags import LocalList
from csms.simulator.times import read, stamp
from csms.simulator.transactions import say_start


def dump(charger: Charger) -> dict[str, Any]:
    """All of it as plain JSON values."""
    known = {id(outlet.transaction): outlet.number for outlet in charger.outlets if outlet.transaction}
    past: dict[int, Transaction] = {}
    letters = []
    in_flight = [charger.mailbox.in_flight] if charger.mailbox.in_flight else []
    for letter in [*in_flight, *charger.mailbox.waiting]:
        tx = letter.transaction
        if not letter.kept or tx is None:
            continue
        if id(tx) not in known:
            past.setdefault(id(tx), tx)
        letters.append({"action": letter.action, "payload": letter.payload, "of": known.get(id(tx)) or f"past {id(tx)}"})
    return {
        "registers_wh": {str(outlet.number): outlet.register_wh for outlet in charger.outlets},
        "running": {str(outlet.number): _plain(outlet.transaction) for outlet in charger.outlets if outlet.transaction},
        "past": {f"past {key}": _plain(tx) for key, tx in past.items()},
        "letters": letters,
        "given": _dump_given(charger),
    }


def load(charger: Charger, kept: dict[str, Any], now: datetime) -> None:
    """Remember, after the power was away: the meters go on, and what ran ended when the power went.

    A charger whose habit it is to ask about what ran keeps it, and asks.
    """
    _load_given(charger, kept.get("given", {}), now)
    running: dict[str, tuple[Outlet, Transaction]] = {}
    for outlet in charger.outlets:
        outlet.register_wh = kept["registers_wh"].get(str(outlet.number), outlet.register_wh)
        if plain := kept["running"].get(str(outlet.number)):
            running[str(outlet.number)] = (outlet, _transaction(plain))
    of = {key: tx for key, (_, tx) in running.items()} | {key: _transaction(plain) for key, plain in kept["past"].items()}
    for letter in kept["letters"]:
        tx = of[str(letter["of"])]
        if letter["action"] == "StartTransaction":
            say_start(charger, tx, letter["payload"])
        else:
            charger.mailbox.add(Letter(letter["action"], letter["payload"], kept=True, transaction=tx))
    asks = bool(charger.habits.strange & {"last_meter_value", "post_boot_state"})
    for outlet, tx in running.values():
        outlet.transaction = tx
        if asks and tx.id is not None:
            tx.asleep, outlet.car = True, some_car(outlet.plug, charger.rng)
            continue
        charger.stop(outlet, "PowerLoss", now)
        outlet.served, outlet.leaves_at = False, None  # whoever stood there has gone


def _dump_given(charger: Charger) -> dict[str, Any]:
    held = [*charger.reserved_any, *(outlet.reserved for outlet in charger.outlets if outlet.reserved)]
    return {
        "firmware": charger.firmware,
        "configuration": {key: charger.configuration[key] for key in sorted(charger.configuration.changed)},
        "inoperative": [outlet.number for outlet in charger.outlets if not outlet.operative or outlet.inoperative_later]
        + ([] if charger.operative else [0]),
        "local_list": asdict(charger.tags.local_list),
        "cache": charger.tags.cache,
        "reservations": [{**asdict(one), "until": stamp(one.until)} for one in held],
        "profiles": [
            {"connector": one.connector, "written": one.written, "at": stamp(one.installed_at)}
            for one in charger.profiles.kept
            if one.purpose != limits.TX
        ],
        "keys": asdict(charger.keys),
        "security_events": [[stamp(at), type, info] for at, type, info in charger.journal.events],
        "unsent_events": [[stamp(at), type, info] for at, type, info in charger.journal.unsent],
    }


def _load_given(charger: Charger, given: dict[str, Any], now: datetime) -> None:
    if not given:
        return  # written down by an older charger
    charger.firmware = given["firmware"]
    for key, value in given["configuration"].items():
        charger.configuration.put(key, value)
        charger.configuration.changed.add(key)
    charger.operative = 0 not in given["inoperative"]
    for outlet in charger.outlets:
        outlet.operative = outlet.number not in given["inoperative"]
    charger.tags.local_list, charger.tags.cache = LocalList(**given["local_list"]), given["cache"]
    for plain in given["reservations"]:
        one = Reservation(**{**plain, "until": read(plain["until"])})
        outlet = charger.outlet(one.connector)
        if outlet:
            outlet.reserved = one
        else:
            charger.reserved_any.append(one)
    charger.profiles.kept = [limits.parse(one["connector"], one["written"], read(one["at"])) for one in given["profiles"]]
    for name, value in given["keys"].items():
        setattr(charger.keys, name, value)
    charger.journal.events.extend((read(at), type, info) for at, type, info in given["security_events"])
    charger.journal.unsent.extend((read(at), type, info) for at, type, info in given["unsent_events"])


def _plain(tx: Transaction) -> dict[str, Any]:
    until = stamp(tx.until) if tx.until else None
    return {**asdict(tx), "started_at": stamp(tx.started_at), "sampled_at": None, "stop_at": None, "until": until}


def _transaction(plain: dict[str, Any]) -> Transaction:
    until = read(plain["until"]) if plain.get("until") else None
    return Transaction(**{**plain, "started_at": read(plain["started_at"]), "until": until})
