"""Who may enter the portal, and what is theirs once inside."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from accounts.roles import Role, roles_of, sees_everything
from csms.models import ChargePoint, ChargingSession
from franchise import gates
from franchise.models import CommissionLedgerEntry, Franchisee, Payout, ShareCorrection
from franchise.rules.gate import REASONS


def portal_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A page of the portal: sign in first; 403 for everybody but franchisees and admins."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not may_enter_portal(request.user):
            raise PermissionDenied("The portal is for franchisees.")
        return view(request, Mine(request.user), *args, **kwargs)

    return guarded


def may_enter_portal(user: Any) -> bool:
    return bool(user.is_active and (sees_everything(user) or Role.FRANCHISEE in roles_of(user)))


@dataclass
class Mine:
    """What belongs to the signed-in person's franchisees. Rides they took elsewhere are not among it."""

    user: Any

    @cached_property
    def franchisees(self) -> list[Franchisee]:
        rows = Franchisee.objects.visible_to(self.user).select_related("company", "linked_account")
        return list(rows.order_by("company__name"))

    @cached_property
    def companies(self) -> list[int]:
        return [franchisee.company_id for franchisee in self.franchisees]

    def chargers(self) -> QuerySet[ChargePoint]:
        return ChargePoint.objects.visible_to(self.user).filter(company_id__in=self.companies).select_related("station", "company")

    def sessions(self) -> QuerySet[ChargingSession]:
        rows = ChargingSession.objects.visible_to(self.user).filter(company_id__in=self.companies)
        # Who charged is nobody's business here.
        return rows.defer("id_tag", "user", "vehicle", "start_key")

    def entries(self) -> QuerySet[CommissionLedgerEntry]:
        return CommissionLedgerEntry.objects.visible_to(self.user).filter(franchisee__in=[f.pk for f in self.franchisees])

    def corrections(self) -> QuerySet[ShareCorrection]:
        return ShareCorrection.objects.visible_to(self.user).filter(franchisee__in=[f.pk for f in self.franchisees])

    def payouts(self) -> QuerySet[Payout]:
        return Payout.objects.visible_to(self.user).filter(franchisee__in=[f.pk for f in self.franchisees])

    def closed_gates(self, now: datetime) -> dict[int, str]:
        """Why each franchisee's money waits right now, in words; only those whose does."""
        closed = {franchisee.pk: gates.closed(franchisee, now) for franchisee in self.franchisees}
        return {pk: REASONS[code] for pk, code in closed.items() if code}
