"""Every address the product answers, in one place."""

from django.contrib import admin
from django.urls import include, path

from voltaro import site, trace

handler400 = "voltaro.site.bad_request"
handler403 = "voltaro.site.forbidden"
handler404 = "voltaro.site.not_found"
handler500 = "voltaro.site.failed"

urlpatterns = [
    path("", site.landing, name="landing"),
    path("sign-in/", site.SignIn.as_view(), name="sign-in"),
    path("sign-out/", site.SignOut.as_view(), name="sign-out"),
    path("healthz", site.healthz, name="healthz"),
    path("readyz", site.readyz, name="readyz"),
    path("metrics", site.metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("api/", include("voltaro.api")),
    path("console/sessions/<int:pk>/", trace.session, name="console-session"),
    path("", include("csms.urls")),
    path("", include("billing.urls")),
    path("portal/", include("franchise.urls")),
]
