from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class VoltaroConfig(AppConfig):
    name = "voltaro"
    verbose_name = "Voltaro"
    default = True

    def ready(self) -> None:
        from voltaro import celery

        celery.configure()  # the broker's address, for ring() in every process


class ConsoleConfig(admin_apps.AdminConfig):
    """Django's admin, behind our own door (voltaro/adminsite.py)."""

    default = False
    default_site = "voltaro.adminsite.ConsoleSite"
