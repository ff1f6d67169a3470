"""The live pages of one server process: one subscription for all of them, each told only of its own connector."""

import asyncio
import logging
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

from channels.layers import get_channel_layer

from csms import live

if TYPE_CHECKING:
    from csms.live_consumers import LiveConsumer

log = logging.getLogger(__name__)


class Hub:
    """Who watches which connector. One per process; it begins to listen with the first page."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[LiveConsumer]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def watch(self, code: str, page: "LiveConsumer") -> None:
        """From now on `page` is told when the connector of this code changes."""
        self._watchers[code].add(page)
        loop = asyncio.get_running_loop()
        if self._listening is None or self._listening.get_loop() is not loop:
            live.use_loop(loop)
            self._ready = asyncio.Event()
            self._listening = loop.create_task(self._listen(), name="live pages")
        with suppress(TimeoutError):  # without Redis the page polls
            await asyncio.wait_for(self._ready.wait(), 1)

    def leave(self, code: str, page: "LiveConsumer") -> None:
        self._watchers[code].discard(page)
        if not self._watchers[code]:
            del self._watchers[code]

    async def _listen(self) -> None:
        layer = get_channel_layer()
        channel = ""
        while True:
            try:
                if not channel:
                    channel = await layer.new_channel("live")
                    await layer.group_add(live.GROUP, channel)
                    self._ready.set()
                message = await layer.receive(channel)
                for code in message.get("codes", ()):
                    for page in tuple(self._watchers.get(code, ())):
                        page.changed()
            except Exception as error:
                log.warning("live pages are told nothing just now (%s); they poll", type(error).__name__)
                channel = ""
                await asyncio.sleep(1)


hub = Hub()
