from django.urls import URLPattern

app_name = "csms"
urlpatterns: list[URLPattern] = []
