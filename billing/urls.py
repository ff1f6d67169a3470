from django.urls import URLPattern, path

from billing import views, webhooks

app_name = "billing"
urlpatterns: list[URLPattern] = [
    path("webhooks/razorpay/", webhooks.receive, name="razorpay-webhook"),
    path("c/<str:code>/", views.connector, name="connector"),
    path("c/<str:code>/live/", views.live, name="live"),
    path("c/<str:code>/sticker/", views.sticker, name="sticker"),
    path("c/<str:code>/qr.svg", views.qr_image, {"kind": "svg"}, name="qr-svg"),
    path("c/<str:code>/qr.png", views.qr_image, {"kind": "png"}, name="qr-png"),
    path("ride/", views.ride, name="ride"),
    path("my-charges", views.my_charges, name="my-charges"),
]
