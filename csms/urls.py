from django.urls import path

from csms import views

app_name = "csms"
urlpatterns = [
    path("console/chargers/", views.chargers, name="chargers"),
    path("console/chargers/<int:pk>/", views.charger, name="charger"),
    path("console/chargers/<int:pk>/live/", views.charger_live, name="charger-live"),
    path("console/frames/<int:pk>/", views.frame, name="frame"),
    path("console/sessions/<int:pk>/curve.json", views.curve, name="curve"),
    path("console/sessions/<int:pk>/stop/", views.stop, name="stop"),
]
