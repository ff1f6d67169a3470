"""Who may see what: one table, one method.

A driver sees only their own sessions; people of a company (franchisee, operator, support, finance) see what belongs
to their companies and to the companies below them; an admin (role or superuser) sees everything. Rows are fetched
through `visible_to(user)` everywhere: admin, portal, API, exports.
"""

from typing import Any, Self

from django.db import models
from django.db.models import Q


class Role(models.TextChoices):
    FRANCHISEE = "franchisee", "Franchisee"
    OPERATOR = "operator", "Operator"
    SUPPORT = "support", "Support"
    FINANCE = "finance", "Finance"
    ADMIN = "admin", "Admin"


# Roles that work in the operator's console (/admin/). Franchisees have the portal.
CONSOLE = {Role.OPERATOR, Role.SUPPORT, Role.FINANCE, Role.ADMIN}
# Roles that may send commands to chargers and change the network.
OPERATES = {Role.OPERATOR, Role.ADMIN}


def sees_everything(user: Any) -> bool:
    """True for superusers and for members with the admin role."""
    if not user.is_authenticated or not user.is_active:
        return False
    return user.is_superuser or Role.ADMIN in roles_of(user)


def roles_of(user: Any) -> set[str]:
    """The roles of all memberships of this user, read once per user object."""
    if not hasattr(user, "_roles"):
        user._roles = set(user.memberships.values_list("role", flat=True)) if user.is_authenticated else set()
    return user._roles


def root_roles(user: Any) -> set[tuple[int, str]]:
    """(company, role) of the memberships in companies above which there is none: the networks. Read once per user object."""
    if not hasattr(user, "_root_roles"):
        usable = user.is_authenticated and user.is_active
        user._root_roles = set(user.memberships.filter(company__parent=None).values_list("company_id", "role")) if usable else set()
    return user._root_roles


def companies_of(user: Any) -> list[int]:
    """Ids of the companies this user belongs to, and of the companies directly below them; read once per user object."""
    if not hasattr(user, "_companies"):
        from accounts.models import Company

        mine = user.memberships.values("company_id")
        user._companies = (
            list(Company.objects.filter(Q(pk__in=mine) | Q(parent_id__in=mine)).values_list("pk", flat=True))
            if user.is_authenticated
            else []
        )
    return user._companies


class ScopedQuerySet(models.QuerySet):
    """The one door to rows that belong to somebody.

    The model says how its owner is found: `owner_path` leads to a company, `rider_path` to a user; either may be "".
    """

    def visible_to(self, user: Any) -> Self:
        """The rows this user may see. Nobody's rows for somebody not signed in."""
        if not user.is_authenticated or not user.is_active:
            return self.none()
        if sees_everything(user):
            return self
        allowed = Q()
        if path := self.model.owner_path:
            companies = companies_of(user)
            allowed |= Q(**{f"{path}__in": companies}) if companies else Q()
        if path := self.model.rider_path:
            allowed |= Q(**{path: user})
        return self.filter(allowed) if allowed else self.none()


ScopedManager = models.Manager.from_queryset(ScopedQuerySet)
