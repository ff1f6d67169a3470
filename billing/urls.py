from django.urls import URLPattern, path

from billing import webhooks

app_name = "billing"
urlpatterns: list[URLPattern] = [
    path("webhooks/razorpay/", webhooks.receive, name="razorpay-webhook"),
]
