from django.urls import path

from franchise import views

app_name = "franchise"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("live/", views.overview_live, name="overview-live"),
    path("chargers/", views.chargers, name="chargers"),
    path("chargers/<slug:code>/", views.charger, name="charger"),
    path("chargers/<slug:code>/live/", views.charger_live, name="charger-live"),
    path("sessions/", views.sessions, name="sessions"),
    path("sessions/<int:pk>/", views.session, name="session"),
    path("earnings/", views.earnings, name="earnings"),
    path("earnings.csv", views.earnings_csv, name="earnings-csv"),
    path("payouts/", views.payouts, name="payouts"),
    path("payouts/<int:pk>/", views.payout, name="payout"),
]
