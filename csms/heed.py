"""What people change in the console, heard by every server process soon: habits of its chargers, and windows for new ones.

Each process looks once in EVERY_S (csms/gateway.py), whatever its chargers say: three queries, however many there are. What a
charger's message is judged by is then changed between two of its messages (csms/consumers.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q

from csms import onboarding, quirks
from csms.context import Context
from csms.models import ChargePoint
from csms.rules.habits import Known

EVERY_S = 5.0
Own = tuple[int | None, dict[str, Any]]
NOTHING: Own = (None, {})


@dataclass(frozen=True)
class News:
    """By charger what is its own now, of those that are to think again; and whether a window was opened."""

    habits: dict[int, Own] = field(default_factory=dict)
    opened: bool = False


class Heed:
    """What one process saw last."""

    def __init__(self) -> None:
        self._profiles: dict[int, Known] | None = None
        self._own: dict[int, Own] = {}
        self._windows: set[int] = set()

    def look(self, charge_point_pks: Iterable[int], now: datetime) -> News:
        """What is new for these chargers, which are connected here."""
        pks = list(charge_point_pks)
        own = self._read_own(pks)
        quirks.read_again()
        profiles = quirks.profiles()
        if self._profiles is not None and profiles != self._profiles:
            changed = set(pks)
        else:  # one that has just come was let in by what its row said then
            changed = {pk for pk in pks if pk in self._own and own[pk] != self._own[pk]}
        windows = set(onboarding.open_windows(now).values_list("pk", flat=True))
        opened = bool(windows - self._windows)
        self._profiles, self._own, self._windows = profiles, own, windows
        return News({pk: own[pk] for pk in changed}, opened)

    @staticmethod
    def _read_own(pks: list[int]) -> dict[int, Own]:
        """Few chargers have settings of their own."""
        rows = ChargePoint.objects.filter(~Q(quirk_settings={}) | Q(quirk_profile__isnull=False), pk__in=pks)
        said = {pk: (profile, own) for pk, profile, own in rows.values_list("pk", "quirk_profile_id", "quirk_settings")}
        return {pk: said.get(pk, NOTHING) for pk in pks}


def think_again(context: Context, own: Own) -> None:
    """The habits of this charger as they are now. What was agreed when it connected (its sub-protocol) stays until it connects anew."""
    context.quirk_profile_pk, context.quirk_settings = own
    vendor, model, firmware = context.kind
    context.habits = quirks.habits_of(vendor, model, firmware, profile_pk=own[0], own=own[1], learned=context.learned)
    context.heartbeat_s = quirks.heartbeat_s(context.habits)
