"""The REST API's addresses, its schema and its documents."""

from typing import Any

from django.urls import path
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from csms import api as chargers


class TokenScheme(OpenApiAuthenticationExtension):
    """How the schema names our tokens."""

    target_class = "accounts.api.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "vlt_..."}


class Documents(SpectacularSwaggerSplitView):
    """The API's documents, from our own address: no script of anybody else's."""

    template_name = "site/api_docs.html"


urlpatterns = [
    path("v1/charge-points/", chargers.ChargePoints.as_view(), name="api-charge-points"),
    path("v1/charge-points/<str:cp_id>/", chargers.ChargePointDetail.as_view(), name="api-charge-point"),
    path("v1/charge-points/<str:cp_id>/commands/", chargers.Commands.as_view(), name="api-commands"),
    path("v1/charge-points/<str:cp_id>/commands/<int:pk>/", chargers.CommandDetail.as_view(), name="api-command"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", Documents.as_view(), name="api-docs"),
]
