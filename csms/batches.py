"""One deed asked of many chargers: each has its own command with its own life, sent in the background."""

import hashlib
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F

from accounts import actor, audit
from accounts.models import Company, User
from accounts.roles import OPERATES
from csms import askable, calls, commands, quirks
from csms.models import ChargePoint, Command, CommandBatch, CommandState
from csms.rules import secrecy
from voltaro import clock

AT_MOST = 500
# A stolen console must not command the whole network again and again.
ASKED_AT_MOST, ASKED_WITHIN_S = 10, 60
# A network that restarts or charges at one stroke is felt in the grid, and by our own door when all come back.
SPREAD_S = 30


@transaction.atomic
def ask(
    charge_points: Sequence[ChargePoint],
    action: str,
    payload: dict[str, Any],
    *,
    by: str = "",
    trigger: str,
    spread_s: int = 0,
    expires_in_s: int | None = None,
    company: Company | None = None,
    idempotency_key: str | None = None,
    secret: bool = False,
) -> CommandBatch:
    """Ask this of each charger that can be asked it; of the others the batch keeps why not.

    `spread_s`: each gets it at a moment of its own within so long. `company`: whose batch it is (whose people see it). Raises
    ValidationError when it is nothing for many chargers, or for so many; the same `idempotency_key` for the same deed is the
    same batch: a form that was sent, changed and sent again is another. `secret`: as in commands.ask.
    """
    calls.check(action, payload)
    askable.printable(payload)
    who = by or actor.current().name
    if why := calls.CALLS[action].one_by_one:
        raise ValidationError(f"{action} goes to one charger at a time: {why}", "one_by_one")
    if not 1 <= len(charge_points) <= most(action):
        raise ValidationError(f"A batch of {action} is of 1 to {most(action)} chargers, not {len(charge_points)}.", "number")
    if not 0 <= spread_s <= 3600:
        raise ValidationError("A batch is spread over an hour at most.", "spread")
    also = tuple({name for one in charge_points for name in quirks.of(one).secret_keys})
    kept = secrecy.concealed(action, payload, also, secret=secret)
    fields = {"company": company, "action": action, "payload": kept, "requested_by": who, "spread_s": spread_s}
    if idempotency_key:
        deed = f"{action}|{commands.fingerprint(payload)}|{','.join(sorted(str(one.pk) for one in charge_points))}"
        key = hashlib.sha256(f"{who}|{idempotency_key}|{deed}".encode()).hexdigest()
        batch, new = CommandBatch.objects.get_or_create(key=key, defaults=fields)
        if not new:
            return batch
    else:
        batch = CommandBatch.objects.create(**fields)
    now = clock.now()
    _not_too_often(who, now)
    for charge_point in charge_points:
        at = now + timedelta(seconds=random.uniform(0, spread_s)) if spread_s else None  # noqa: S311 - a spread, not a secret
        try:
            with transaction.atomic():
                commands.ask(
                    charge_point,
                    action,
                    payload,
                    by=who,
                    trigger=trigger,
                    batch=batch,
                    send_after=at,
                    expires_in_s=expires_in_s,
                    secret=secret,
                )
        except ValidationError as refusal:
            batch.refused[str(charge_point.pk)] = refusal.messages[0][:200]
    if batch.refused:
        batch.save(update_fields=["refused"])
    audit.record(
        "batch.asked", batch, trigger=trigger, after={"action": action, "chargers": len(charge_points), "refused": len(batch.refused)}
    )
    return batch


def _not_too_often(who: str, now: datetime) -> None:
    """Of this person's batches, this one with them."""
    mine = CommandBatch.objects.filter(requested_by=who).order_by("-id").values_list("created_at", flat=True)
    if (oldest := mine[ASKED_AT_MOST : ASKED_AT_MOST + 1].first()) is not None and oldest > now - timedelta(seconds=ASKED_WITHIN_S):
        raise ValidationError(f"That is more than {ASKED_AT_MOST} batches within a minute: wait a moment.", "too_many")


def most(action: str) -> int:
    """Of how many chargers at once this may be asked."""
    return min(AT_MOST, calls.CALLS[action].many)


@transaction.atomic
def withdraw(batch: CommandBatch, by: str) -> int:
    """Take back what has not been sent yet; how many that were."""
    waiting = Command.objects.filter(batch=batch, state=CommandState.QUEUED)
    done = 0
    for command in waiting.select_for_update(skip_locked=True, no_key=True):
        done += commands.withdraw(command.pk, by)
    return done


def company_of(user: User, charge_points: Sequence[ChargePoint]) -> Company | None:
    """Whose batch it is: of the chargers' one company, else of the person's own. None: only those who see everything see it."""
    owners = {one.company_id for one in charge_points}
    if len(owners) == 1:
        return Company.objects.get(pk=owners.pop())
    own = user.memberships.filter(role__in=OPERATES).order_by("pk").select_related("company").first()
    return own.company if own is not None else None


def targets(user: User, pks: Sequence[int]) -> list[ChargePoint]:
    """The chargers of these keys that this person may see, in the order of their names."""
    found = ChargePoint.objects.visible_to(user).filter(pk__in=list(pks)[: AT_MOST + 1]).select_related("station")
    return list(found.order_by(F("cp_id")))
