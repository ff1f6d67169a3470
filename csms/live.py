"""Live pages: "something changed here" told to browsers, and single sockets woken by name.

What is told is never the data itself: the page asks for its fragment again, so that there is one way to draw a thing and
one place that decides who may see it. At-most-once: pages also poll.
"""

import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)


def group(connector_code: str) -> str:
    return f"live.{connector_code}"


def changed(connector_code: str) -> None:
    """After commit, tell the pages that show this connector to look again."""
    transaction.on_commit(lambda: _publish(connector_code))


def changed_charge_point(charge_point_pk: int) -> None:
    """The same for every connector of a charger."""
    from csms.models import Connector

    for code in Connector.objects.filter(charge_point__pk=charge_point_pk).values_list("code", flat=True):
        changed(code)


def send(channel: str, message: dict[str, Any]) -> None:
    """Wake one socket by its channel name. Never raises: rows are the truth, this only makes them seen sooner."""
    layer = get_channel_layer()
    try:
        async_to_sync(layer.send)(channel, message)
    except Exception as error:
        log.warning("a wake was lost (%s); the poll will find the row", type(error).__name__)


def _publish(connector_code: str) -> None:
    layer = get_channel_layer()
    try:
        async_to_sync(layer.group_send)(group(connector_code), {"type": "live.changed"})
    except Exception as error:
        log.warning("live pages were not told (%s); they poll", type(error).__name__)
