"""A charging profile that ends by itself: how long a session may go on while nobody hears its charger.

For chargers whose habits say so (`session_profile`), and which know nothing of SessionLimit: each session gets a TxProfile that falls
to nothing when, at the most its outlet can deliver, its limit would be reached. While the charger is heard it is renewed before that,
reckoned from what was really taken, so that nobody who has paid is stopped. Unheard, it stops by itself.
"""

import math
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts import audit
from csms import charging_profiles, quirks
from csms.models import ChargingProfile, ChargingSession, Command, CommandState, SessionState
from csms.rules.habits import Habits
from csms.rules.profile import BEGAN_S, Step
from voltaro.jobs import each

BY = charging_profiles.BOUNDS
# Never shorter: a renewal must have the time to reach it. Renewed so long before it ends.
LEAST_S, AHEAD_S = 300, 150
# A profile is reckoned by the charger's own clock: one that is further off would stop whoever has paid.
CLOCK_S = 60
# What a charger has answered is written at the session at once; where it was not by then, whoever was to write it is gone.
WRITTEN_S = 30


def began(session: ChargingSession, habits: Habits, now: datetime) -> None:
    """A session has begun (call inside its transaction), or may have been forgotten by its charger: bound it."""
    if habits.session_profile and session.limit_wh is not None and session.connector.max_power_w > 0:
        _want(session, now)


def lasts_s(session: ChargingSession) -> int:
    """For how long what is left can be delivered at the most that the outlet has."""
    left_wh = max(0, (session.limit_wh or 0) - session.energy_wh)
    return max(LEAST_S, math.ceil(left_wh * 3600 / session.connector.max_power_w))


def to_renew(now: datetime) -> QuerySet[ChargingSession]:
    """Live sessions whose bound ends soon, of chargers that are there. (Of the others it is to end; and at its limit, one that does not
    obey our stop is stopped by it.)

    Also those that a profile of ours ends and whose row does not say when: that is written after the answer, and may be lost.
    """
    stands = ChargingProfile.objects.filter(session__isnull=False, requested_by=BY, state=ChargingProfile.State.ACTIVE)
    unwritten = stands.filter(command__settled_at__lte=now - timedelta(seconds=WRITTEN_S)).values("session")
    soon = Q(bounded_until__lte=now + timedelta(seconds=AHEAD_S)) | Q(pk__in=unwritten, bounded_until__isnull=True)
    live = ChargingSession.objects.exclude(state=SessionState.STOPPED).filter(energy_wh__lt=F("limit_wh"), charge_point__online=True)
    return live.filter(soon).order_by("bounded_until")


def renew_due(now: datetime, limit: int) -> int:
    """Tell their chargers anew."""

    @transaction.atomic
    def renew(pk: int) -> bool:
        rows = ChargingSession.objects.select_for_update(of=("self",), skip_locked=True, no_key=True)
        row = rows.select_related("connector", "charge_point").filter(pk=pk).exclude(state=SessionState.STOPPED).first()
        return row is not None and quirks.of(row.charge_point).session_profile and _want(row, now)

    return each(list(to_renew(now).values_list("pk", flat=True)[:limit]), renew, "session")


def _want(session: ChargingSession, now: datetime) -> bool:
    """False: it is being told already, or a person has set this session's profile."""
    mine = ChargingProfile.objects.filter(session=session, purpose="TxProfile", state__in=charging_profiles.STANDING)
    if mine.exclude(requested_by=BY).exists() or mine.filter(state=ChargingProfile.State.SENT).exists():
        return False
    steps = (Step(0, Decimal(session.connector.max_power_w)), Step(lasts_s(session) + BEGAN_S, Decimal(0)))
    try:
        if abs(session.charge_point.clock_offset_s or 0) > CLOCK_S:
            raise ValidationError("Its clock is wrong.")
        number = session.connector.connector_id
        charging_profiles.want(
            session.charge_point, purpose="TxProfile", connector_no=number, steps=steps, unit="W", session=session, by=BY
        )
    except ValidationError as no:
        audit.record("session.not_bounded", session, trigger=BY, after={"said": no.messages[0][:200]})
        return False
    return True


def answered(command: Command, now: datetime) -> None:
    """It keeps to the profile: until then it may go on unheard. (Told after csms/charging_profiles.py: answered.)"""
    row = ChargingProfile.objects.filter(command=command, requested_by=BY, state=ChargingProfile.State.ACTIVE).first()
    if row is not None and command.state == CommandState.EFFECTIVE and row.session_id is not None:
        until = (command.sent_at or now) + timedelta(seconds=row.schedule["steps"][1][0] - BEGAN_S)
        # After the commit: the session's lock is never taken while a command's is held.
        transaction.on_commit(partial(_bounded, row.session_id, until))


def cleared(command: Command, now: datetime) -> None:
    """ClearChargingProfile.conf: what held a session back may be gone. (Told after csms/charging_profiles.py: cleared.)"""
    if command.state == CommandState.EFFECTIVE:
        transaction.on_commit(partial(_unbounded, command.charge_point_id))


@transaction.atomic
def _unbounded(charge_point_pk: int) -> None:
    """Of this charger's live sessions those that no profile of ours ends any more: exposure counts their whole silence from now on.

    They are not renewed either: somebody took the bound away.
    """
    bounds = ChargingProfile.objects.filter(session=OuterRef("pk"), requested_by=BY, state=ChargingProfile.State.ACTIVE)
    live = ChargingSession.objects.filter(charge_point_id=charge_point_pk, bounded_until__isnull=False).exclude(state=SessionState.STOPPED)
    live.filter(~Exists(bounds)).update(bounded_until=None)


@transaction.atomic
def _bounded(session_id: int, until: datetime) -> None:
    # `updated_at` stays: it is the version of what readings write (csms/quick.py).
    ChargingSession.objects.filter(pk=session_id).exclude(state=SessionState.STOPPED).update(bounded_until=until)
