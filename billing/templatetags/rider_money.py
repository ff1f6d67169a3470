"""The money of a running session, for pages that show sessions."""

from types import SimpleNamespace
from typing import Any

from django import template

from billing import budgets, rider

register = template.Library()


@register.simple_tag
def session_money(session: Any) -> SimpleNamespace | None:
    """What the rider paid and has used so far (paise), or None when no payment is behind this session."""
    budget = budgets.get(session.pk)
    if budget is None:
        return None
    rest = budget.left(session.energy_wh)
    used = budget.amount_paid - rest
    return SimpleNamespace(paid=budget.amount_paid, used=used, rest=rest, used_pct=rider.part_pct(used, budget.amount_paid))
