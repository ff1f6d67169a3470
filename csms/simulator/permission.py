"""Who may charge: the card at the reader, the lists, the server's word, and who has reserved the place."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from csms.simulator import tags, transactions
from csms.simulator.outlet import Outlet, Reservation, Waiting

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Profile = dict[str, Any] | None


def swipe(charger: Charger, outlet: Outlet, id_tag: str, now: datetime) -> None:
    """A card at the reader: ends the transaction it (or one of its group) began, or asks for a new one."""
    tx = outlet.transaction
    if tx is None:
        if outlet.idle:
            ask(charger, outlet, id_tag, now)
        else:
            charger.note(f"{outlet.number}: nobody can start here now")
    elif tags.same(tx.id_tag, id_tag):
        transactions.stop(charger, outlet, "Local", now)
    elif tx.parent:
        _ask_to_stop(charger, outlet, id_tag, now)


def ask(charger: Charger, outlet: Outlet, id_tag: str, now: datetime, profile: Profile = None) -> None:
    """Find out whether the tag may charge, as the configuration says, and let it (OCPP 1.6 sections 3.5, 4.1)."""
    settings, info = charger.configuration, local(charger, id_tag)
    if charger.online and charger.registered:
        if settings.on("LocalPreAuthorize") and tags.accepted(info, now):
            granted(charger, outlet, id_tag, now, parent=_parent(info), profile=profile)
            return

        def heard(answer: dict[str, Any], at: datetime) -> None:
            said = charger.learn(id_tag, answer, at)
            if tags.accepted(said, at) and outlet.transaction is None:
                granted(charger, outlet, id_tag, at, parent=_parent(said), profile=profile)
            else:
                charger.note(f"{outlet.number}: the tag was not accepted ({said.get('status')})")

        charger.say("Authorize", {"idTag": id_tag}, on_answer=heard)
        return
    known_and_good = settings.on("LocalAuthorizeOffline") and tags.accepted(info, now)
    if known_and_good or (info is None and settings.on("AllowOfflineTxForUnknownId")):
        granted(charger, outlet, id_tag, now, parent=_parent(info), profile=profile)
    else:
        charger.note(f"{outlet.number}: without a line the tag is not accepted")


def granted(charger: Charger, outlet: Outlet, id_tag: str, now: datetime, *, parent: str = "", profile: Profile = None) -> None:
    """The tag may charge: with the car there it starts, otherwise it waits for one."""
    free_for_it, reservation = place_for(charger, outlet, id_tag, parent)
    if not free_for_it:
        charger.note(f"{outlet.number}: reserved for somebody else")
        return
    if outlet.lock_broken:
        charger.trouble(outlet.number, "ConnectorLockFailure", now)
        return
    if outlet.car is not None:
        outlet.leaves_at = None
        transactions.start(charger, outlet, id_tag, now, parent=parent, reservation=reservation, profile=profile)
        return
    until = now + timedelta(seconds=charger.configuration.number("ConnectionTimeOut"))
    outlet.waiting = Waiting(id_tag, until, parent, profile)
    outlet.arrives_at = charger.soon(charger.habits.arrives_after_s, now)


def place_for(charger: Charger, outlet: Outlet, id_tag: str, parent: str) -> tuple[bool, Reservation | None]:
    """Whether reservations leave this outlet to the tag, and the one it uses by that."""
    if outlet.reserved:
        fits = _is_for(outlet.reserved, id_tag, parent)
        return fits, outlet.reserved if fits else None
    if own := next((one for one in charger.reserved_any if _is_for(one, id_tag, parent)), None):
        return True, own
    free = [one for one in charger.outlets if one.idle and not one.reserved]
    return len(free) > len(charger.reserved_any), None


def local(charger: Charger, id_tag: str) -> tags.Info | None:
    settings = charger.configuration
    return charger.tags.local(id_tag, use_list=settings.on("LocalAuthListEnabled"), use_cache=settings.on("AuthorizationCacheEnabled"))


def _ask_to_stop(charger: Charger, outlet: Outlet, id_tag: str, now: datetime) -> None:
    """Another card: the same group as the one that started may stop it."""
    tx = outlet.transaction
    if tx is None:
        return
    if _parent(local(charger, id_tag)) == tx.parent:
        transactions.stop(charger, outlet, "Local", now, id_tag=id_tag)
        return

    def heard(answer: dict[str, Any], at: datetime) -> None:
        if _parent(charger.learn(id_tag, answer, at)) == tx.parent and outlet.transaction is tx:
            transactions.stop(charger, outlet, "Local", at, id_tag=id_tag)

    charger.say("Authorize", {"idTag": id_tag}, on_answer=heard)


def _parent(info: tags.Info | None) -> str:
    return str((info or {}).get("parentIdTag", "")).upper()


def _is_for(reservation: Reservation, id_tag: str, parent: str) -> bool:
    return tags.same(reservation.id_tag, id_tag) or bool(parent and tags.same(reservation.parent, parent))
