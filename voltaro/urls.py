"""Every address the product answers, in one place."""

from django.contrib import admin
from django.urls import include, path

from voltaro import doubt_pages, failure_pages, onboarding_pages, runbooks, site, trace

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
    path("console/sessions/<int:pk>/dispute/", doubt_pages.dispute, name="dispute"),
    path("console/sessions/<int:pk>/dispute/settle/", doubt_pages.settle_dispute, name="settle-dispute"),
    path("console/sessions/<int:pk>/end/", doubt_pages.end, name="end-session"),
    path("console/held/", doubt_pages.held, name="held"),
    path("console/held/<int:pk>/", doubt_pages.held_session, name="held-session"),
    path("console/failures/", failure_pages.overview, name="failures"),
    path("console/kept/", failure_pages.kept, name="kept"),
    path("console/kept/<int:pk>/put-away/", failure_pages.put_away, name="put-away"),
    path("console/exposure/", failure_pages.unpaid, name="exposure"),
    path("console/failures/<slug:name>/", failure_pages.failure, name="failure"),
    path("console/runbooks/<slug:name>/", runbooks.page, name="runbook"),
    path("console/onboarding/", onboarding_pages.inbox, name="onboarding"),
    path("console/onboarding/live/", onboarding_pages.inbox_live, name="onboarding-live"),
    path("console/onboarding/open/", onboarding_pages.open_window, name="onboarding-open"),
    path("console/onboarding/windows/<int:pk>/close/", onboarding_pages.close_window, name="onboarding-close"),
    path("console/onboarding/<int:pk>/claim/", onboarding_pages.claim, name="onboarding-claim"),
    path("console/onboarding/<int:pk>/block/", onboarding_pages.block, name="onboarding-block"),
    path("console/onboarding/<int:pk>/forget/", onboarding_pages.forget, name="onboarding-forget"),
    path("", include("csms.urls")),
    path("", include("billing.urls")),
    path("portal/", include("franchise.urls")),
]
