"""The one ASGI application: HTTP, the chargers' sockets, the live pages' sockets. Runs under daphne and under uvicorn."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voltaro.settings")
http = get_asgi_application()

import ocpp.messages  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import re_path  # noqa: E402

from csms import repair  # noqa: E402
from csms.consumers import ChargerConsumer  # noqa: E402
from csms.live_consumers import LiveConsumer, NowhereConsumer  # noqa: E402
from voltaro import bodies, wire  # noqa: E402
from voltaro.proxies import TrustedProxies  # noqa: E402

ocpp.messages.ASYNC_VALIDATION = False  # a thread hop per message costs more than the check
repair.warm()
wire.teach()
bodies.teach()

application = TrustedProxies(
    ProtocolTypeRouter(
        {
            "http": bodies.Bounded(http),
            # No origin check and no cookies on the chargers' door: they bring odd Origins, and a key of their own.
            "websocket": URLRouter(
                [
                    re_path(r"^/*ocpp(?:/.*)?$", ChargerConsumer.as_asgi()),
                    re_path(r"^live/(?P<code>[A-Z0-9]{4,12})/$", LiveConsumer.as_asgi()),
                    re_path(r"", NowhereConsumer.as_asgi()),
                ]
            ),
        }
    )
)
