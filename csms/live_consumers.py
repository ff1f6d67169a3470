"""The browser's live socket."""

import asyncio

from channels.generic.websocket import AsyncWebsocketConsumer

from csms.hub import hub


class LiveConsumer(AsyncWebsocketConsumer):
    """A page that shows a connector: told that something changed, at most once a second. Carries no data."""

    channel_layer_alias = "none"  # the process listens once for all its pages (csms/hub.py)

    async def connect(self) -> None:
        self._code = self.scope["url_route"]["kwargs"]["code"]
        self._last = 0.0
        self._planned: asyncio.TimerHandle | None = None
        await hub.watch(self._code, self)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        hub.leave(self._code, self)
        if self._planned is not None:
            self._planned.cancel()

    def changed(self) -> None:
        if self._planned is None:
            loop = asyncio.get_running_loop()
            self._planned = loop.call_later(max(0.0, self._last + 1.0 - loop.time()), self._tell)

    def _tell(self) -> None:
        self._planned, self._last = None, asyncio.get_running_loop().time()
        self._telling = asyncio.ensure_future(self.send(text_data='{"changed": true}'))


class NowhereConsumer(AsyncWebsocketConsumer):
    """Any other path: refused, rather than an exception."""

    async def connect(self) -> None:
        await self.close()
