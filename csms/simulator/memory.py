"""What a charger keeps in its flash: the meters, the transactions under way, and what it has not yet said about them."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from csms.simulator.charger import Charger
from csms.simulator.mailbox import Letter
from csms.simulator.outlet import Outlet, Transaction, stamp


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
    }


def load(charger: Charger, kept: dict[str, Any], now: datetime) -> None:
    """Remember, after the power was away: the meters go on, and what ran ended when the power went."""
    running: dict[str, tuple[Outlet, Transaction]] = {}
    for outlet in charger.outlets:
        outlet.register_wh = kept["registers_wh"].get(str(outlet.number), outlet.register_wh)
        if plain := kept["running"].get(str(outlet.number)):
            running[str(outlet.number)] = (outlet, _transaction(plain))
    of = {key: tx for key, (_, tx) in running.items()} | {key: _transaction(plain) for key, plain in kept["past"].items()}
    for letter in kept["letters"]:
        tx = of[str(letter["of"])]
        if letter["action"] == "StartTransaction":
            charger.say_start(tx, letter["payload"])
        else:
            charger.mailbox.add(Letter(letter["action"], letter["payload"], kept=True, transaction=tx))
    for outlet, tx in running.values():
        outlet.transaction = tx
        charger.stop(outlet, "PowerLoss", now)
        outlet.served, outlet.leaves_at = False, None  # whoever stood there has gone


def _plain(tx: Transaction) -> dict[str, Any]:
    return {**asdict(tx), "started_at": stamp(tx.started_at), "sampled_at": None, "stop_at": None}


def _transaction(plain: dict[str, Any]) -> Transaction:
    return Transaction(**{**plain, "started_at": datetime.fromisoformat(plain["started_at"].replace("Z", "+00:00"))})
