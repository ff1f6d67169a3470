"""Filters of the console's lists that offer nobody else's rows."""

from typing import Any

from django.contrib.admin import RelatedFieldListFilter
from django.db.models import Field
from django.http import HttpRequest


class ScopedRelatedFilter(RelatedFieldListFilter):
    """A filter by a related row, among those the signed-in person may see; the first hundred."""

    def field_choices(self, field: Field, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        rows = field.remote_field.model._default_manager.visible_to(request.user)
        return [(row.pk, str(row)) for row in rows.order_by(*self.field_admin_ordering(field, request, model_admin))[:100]]
