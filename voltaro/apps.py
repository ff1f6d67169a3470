from django.apps import AppConfig


class VoltaroConfig(AppConfig):
    name = "voltaro"
    verbose_name = "Voltaro"

    def ready(self) -> None:
        from voltaro import celery

        celery.configure()  # the broker's address, for ring() in every process
