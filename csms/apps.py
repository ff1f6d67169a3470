from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CsmsConfig(AppConfig):
    name = "csms"
    verbose_name = "Chargers"

    def ready(self) -> None:
        post_migrate.connect(_plant, sender=self)


def _plant(apps: Any = None, **_: Any) -> None:
    # `flush` sends the signal without the apps of a migration.
    from django.apps import apps as installed

    from csms import quirk_seeds

    quirk_seeds.plant(apps or installed)
