"""Live pages: "something changed here" told to browsers, and single processes told by their channel's name.

What is told is never the data itself: the page asks for its fragment again, so that there is one way to draw a thing and
one place that decides who may see it. At-most-once: pages also poll, and sockets poll their commands.
"""

import asyncio
import logging
import threading
from typing import Any

from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)
_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()


# Every process with open pages hears it (csms/hub.py) and tells only those that show one of the codes.
GROUP = "live"


def message(codes: list[str]) -> dict[str, Any]:
    """What is told: the public codes of the connectors that changed."""
    return {"type": "live.changed", "codes": codes}


def changed(connector_code: str) -> None:
    """After commit, tell the pages that show this connector to look again."""
    transaction.on_commit(lambda: _post(get_channel_layer().group_send, GROUP, message([connector_code])))


def changed_charge_point(charge_point_pk: int) -> None:
    """The same for every connector of a charger."""
    from csms.models import Connector

    for code in Connector.objects.filter(charge_point__pk=charge_point_pk).values_list("code", flat=True):
        changed(code)


def send(channel: str, message: dict[str, Any]) -> None:
    """Tell one process something of a charger of its. Never raises, never waits: rows are the truth, this makes them seen sooner."""
    _post(get_channel_layer().send, channel, message)


def use_loop(loop: asyncio.AbstractEventLoop) -> None:
    """In a server process, post from the server's own loop (its layer's connections belong to it)."""
    global _loop
    _loop = loop


def _post(say: Any, to: str, message: dict[str, Any]) -> None:
    future = asyncio.run_coroutine_threadsafe(say(to, message), _some_loop())
    future.add_done_callback(_noticed)


def _noticed(future: Any) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.warning("a wake was lost (%s); the poll will find the row", type(error).__name__)


def _some_loop() -> asyncio.AbstractEventLoop:
    """The server's loop; elsewhere (workers, commands) one of our own, kept on a daemon thread."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="live", daemon=True).start()
        return _loop
