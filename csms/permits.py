"""One-time permits: paid, bound to a connector, asked of the charger until it starts or the money goes back.

The permit's row is the arbiter of "start or refund": a start marks it used, a refund revokes it, and both lock it first.
"""

import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts import audit
from accounts.models import Company, User
from csms import commands, live
from csms.models import ChargingSession, Command, CommandState, Connector, IdTag, SessionState
from voltaro import clock
from voltaro.jobs import each, ring

# ConnectionTimeOut is often 60 s: after that the charger has forgotten our request.
ASK_AGAIN_S = 65
# Until we look again at one that cannot be asked just now.
LOOK_AGAIN_S = 10
# How long a charger that accepted may take from plugging in to its start.
START_ITSELF_S = 10
STATUSES_THAT_MAY_START = {"Available", "Preparing", "Finishing", "SuspendedEVSE", "SuspendedEV", "Unknown", ""}


def lock_connector(connector_id: UUID) -> Connector:
    """The connector's row, locked: who decides about it does so alone. Call inside a transaction, before any other lock."""
    return Connector.objects.select_for_update(no_key=True).get(pk=connector_id)


def busy(connector: Connector) -> bool:
    """Whether somebody charges here or has already paid to. Call while holding the connector's row."""
    return (
        ChargingSession.objects.filter(connector=connector).exclude(state=SessionState.STOPPED).exists()
        or IdTag.objects.filter(connector=connector, kind=IdTag.Kind.ONE_TIME, state=IdTag.State.READY).exists()
    )


def grant(
    *,
    connector: Connector,
    user: User | None,
    company: Company,
    limit_wh: int,
    start_until: datetime,
    limit_at: datetime | None = None,
) -> IdTag:
    """Write a one-time tag for this connector and ask the charger to start with it. `limit_wh` is how far it may go.

    64 random bits as 16 upper-case hex digits: what every charger takes (some clip at 20, some take only hex).
    """
    permit = IdTag.objects.create(
        tag=secrets.token_hex(8).upper(),
        kind=IdTag.Kind.ONE_TIME,
        user=user,
        company=company,
        charge_point_id=connector.charge_point.pk,
        connector=connector,
        limit_wh=limit_wh,
        limit_at=limit_at,
        start_until=start_until,
        expires_at=start_until,
        ask_at=clock.now(),
    )
    audit.record("permit.granted", permit, after={"limit_wh": limit_wh, "connector": connector.code})
    ring("permit.ask")
    return permit


@transaction.atomic
def revoke(permit_id: int, reason: str) -> bool:
    """Take the permit back: True when no session used it (it never will now), False when one did."""
    permit = IdTag.objects.select_for_update(no_key=True).get(pk=permit_id)
    if permit.state == IdTag.State.USED:
        return False
    if permit.state != IdTag.State.REVOKED:
        permit.state, permit.ask_at = IdTag.State.REVOKED, None
        permit.save(update_fields=["state", "ask_at"])
        audit.record("permit.revoked", permit, trigger=reason)
        Command.objects.filter(permit=permit, state=CommandState.QUEUED).update(state=CommandState.EXPIRED, settled_at=clock.now())
        if permit.connector_id:
            live.changed(permit.connector.code)
    return True


def wake(connector_ids: list[UUID], why: str) -> int:
    """Somebody plugged in at these connectors: ask for their waiting permits, soon.

    A charger that has accepted our request and still holds it starts by itself in a moment; asked twice, some start twice.
    """
    now = clock.now()
    held = Command.objects.filter(
        permit=OuterRef("pk"),
        action="RemoteStartTransaction",
        state=CommandState.ACCEPTED,
        answered_at__gt=now - timedelta(seconds=ASK_AGAIN_S),
    )
    waiting = IdTag.objects.filter(connector_id__in=connector_ids, kind=IdTag.Kind.ONE_TIME, state=IdTag.State.READY, start_until__gt=now)
    asked = waiting.filter(~Exists(held)).update(ask_at=now)
    later = waiting.filter(Exists(held)).update(ask_at=now + timedelta(seconds=START_ITSELF_S))
    if asked:
        ring("permit.ask")
    return asked + later


def to_ask(now: datetime) -> QuerySet[IdTag]:
    """Permits whose charger is to be asked now."""
    return IdTag.objects.filter(kind=IdTag.Kind.ONE_TIME, state=IdTag.State.READY, ask_at__lte=now, start_until__gt=now).order_by("ask_at")


def ask_due(now: datetime, limit: int) -> int:
    """Ask the chargers of waiting permits to start: RemoteStartTransaction, one request open at a time per permit."""

    @transaction.atomic
    def ask(pk: int) -> bool:
        permit = (
            IdTag.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
            .select_related("connector", "charge_point")
            .filter(pk=pk, state=IdTag.State.READY, ask_at__lte=now)
            .first()
        )
        if permit is not None:
            _ask(permit, now)
        return permit is not None

    return each(list(to_ask(now).values_list("pk", flat=True)[:limit]), ask, "permit")


def _ask(permit: IdTag, now: datetime) -> None:
    # What expired unsent, or was lost with an older socket, is not open, though its row may not say so yet.
    open_ = Q(state=CommandState.QUEUED, expires_at__gt=now) | Q(state=CommandState.SENT, epoch=permit.charge_point.epoch)
    may_start = permit.charge_point.online and permit.connector.status in STATUSES_THAT_MAY_START
    # Offline or out of order for a moment: a reconnect or a plug wakes us. The beat looks again either way.
    permit.ask_at = now + timedelta(seconds=ASK_AGAIN_S if may_start else LOOK_AGAIN_S)
    if may_start and not permit.commands.filter(open_, action="RemoteStartTransaction").exists():
        permit.asked_count += 1
        payload: dict[str, Any] = {"connectorId": permit.connector.connector_id, "idTag": permit.tag}
        commands.request(
            permit.charge_point,
            "RemoteStartTransaction",
            payload,
            trigger="paid",
            dedupe_key=f"permit:{permit.pk}:start:{permit.asked_count}",
            permit=permit,
            expires_in_s=min(ASK_AGAIN_S, max(1, int((permit.start_until - now).total_seconds()))),
        )
    permit.save(update_fields=["ask_at", "asked_count"])
