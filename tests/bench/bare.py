"""The yardstick: the ocpp library's own ChargePoint under Channels on the same daphne, with no database and no log."""

import asyncio
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voltaro.settings")
from django.core.asgi import get_asgi_application

http = get_asgi_application()

import ocpp.messages
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call_result

ocpp.messages.ASYNC_VALIDATION = False
NOW = "2026-01-01T00:00:00Z"


class Bare(ChargePoint):
    @on("BootNotification")
    def on_boot(self, **_):
        return call_result.BootNotification(current_time=NOW, interval=60, status="Accepted")

    @on("StatusNotification")
    def on_status(self, **_):
        return call_result.StatusNotification()

    @on("StartTransaction")
    def on_start(self, **_):
        return call_result.StartTransaction(transaction_id=1, id_tag_info={"status": "Accepted"})

    @on("MeterValues")
    def on_meter(self, **_):
        return call_result.MeterValues()


class Wire:
    def __init__(self, consumer):
        self.consumer, self.inbox = consumer, asyncio.Queue()

    async def recv(self):
        return await self.inbox.get()

    async def send(self, text):
        await self.consumer.send(text_data=text)


class Consumer(AsyncWebsocketConsumer):
    async def connect(self):
        self.wire = Wire(self)
        await self.accept(subprotocol="ocpp1.6")
        self.task = asyncio.create_task(Bare(self.scope["path"], self.wire).start())

    async def receive(self, text_data=None, bytes_data=None):
        self.wire.inbox.put_nowait(text_data)

    async def disconnect(self, code):
        self.task.cancel()


application = ProtocolTypeRouter({"http": http, "websocket": Consumer.as_asgi()})
