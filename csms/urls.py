from django.urls import path

from csms import history_views, log_views, views

app_name = "csms"
urlpatterns = [
    path("console/chargers/", views.chargers, name="chargers"),
    path("console/chargers/<int:pk>/", views.charger, name="charger"),
    path("console/chargers/<int:pk>/live/", views.charger_live, name="charger-live"),
    path("console/chargers/<int:pk>/history/", history_views.history, name="history"),
    path("console/chargers/<int:pk>/signal.json", history_views.signal_series, name="signal"),
    path("console/frames/<int:pk>/", log_views.frame, name="frame"),
    path("console/messages/", log_views.messages, name="messages"),
    path("console/messages/<int:pk>/", log_views.message, name="message"),
    path("console/messages.csv", log_views.messages_csv, name="messages-csv"),
    path("console/sessions/<int:pk>/replay/", log_views.session_replay, name="replay"),
    path("console/sessions/<int:pk>/curve.json", views.curve, name="curve"),
    path("console/sessions/<int:pk>/stop/", views.stop, name="stop"),
]
