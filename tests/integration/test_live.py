"""Live pages: told that something changed, in their own group, at most once a second, and never what."""

import asyncio

import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator

from csms import live, stations
from csms.gateway import Gateway
from tests.charger import Charger
from tests.factories import make_connector
from voltaro import clock


@pytest.fixture
async def page():
    """The pages that are open, each on the whole application as a browser would reach it."""
    from voltaro.asgi import application

    opened: list[WebsocketCommunicator] = []

    async def open_page(path: str) -> WebsocketCommunicator:
        communicator = WebsocketCommunicator(application, path)
        opened.append(communicator)
        communicator.accepted, _ = await communicator.connect()
        return communicator

    yield open_page
    for communicator in opened:
        if communicator.accepted:
            await communicator.disconnect()


async def tell(code: str) -> None:
    await get_channel_layer().group_send(live.GROUP, live.message([code]))


async def test_several_pages_of_one_connector_are_all_told(page):
    browsers = [await page("/live/K7Q2XM/") for _ in range(3)]
    await tell("K7Q2XM")
    for browser in browsers:
        assert await browser.receive_json_from(2) == {"changed": True}


async def test_a_page_is_told_that_something_changed_and_not_what(page):
    browser = await page("/live/K7Q2XM/")
    await tell("K7Q2XM")
    assert await browser.receive_json_from(2) == {"changed": True}


async def test_a_page_hears_nothing_of_another_connector(page):
    browser = await page("/live/K7Q2XM/")
    await tell("K7Q2XN")
    assert await browser.receive_nothing(0.3)


async def test_many_changes_are_told_at_most_once_a_second_and_the_last_is_not_lost(page):
    browser = await page("/live/K7Q2XM/")
    loop, heard = asyncio.get_running_loop(), []
    for _ in range(60):
        await tell("K7Q2XM")
    await browser.receive_json_from(2)
    heard.append(loop.time())
    for _ in range(60):
        await tell("K7Q2XM")
    await browser.receive_json_from(2)
    heard.append(loop.time())
    assert heard[1] - heard[0] > 0.9
    assert await browser.receive_nothing(1.2)


async def test_what_a_browser_says_is_not_listened_to(page):
    browser = await page("/live/K7Q2XM/")
    await browser.send_to("x" * 1_000)
    await browser.send_to(bytes_data=b"\x00\xff")
    await tell("K7Q2XM")
    assert await browser.receive_json_from(2) == {"changed": True}


@pytest.mark.parametrize(
    "path", ["/live/", "/live/abc/", "/live/K7Q2XM", "/live/K7Q2XM/../x/", "/live/" + "A" * 13 + "/", "/", "/elsewhere"]
)
async def test_any_other_path_is_refused(page, path):
    assert not (await page(path)).accepted


# -- who tells ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def told(monkeypatch):
    """The codes that were told."""
    found: list[str] = []
    monkeypatch.setattr(live, "_post", lambda say, to, message: found.extend(message.get("codes", ())))
    return found


@pytest.mark.django_db
def test_a_change_is_told_after_the_commit_only(network, bells, told, django_capture_on_commit_callbacks):
    charger = Charger(network.kaveri_charger)
    with django_capture_on_commit_callbacks(execute=True):
        charger.start(tag="CARD")
        assert told == []
    assert network.kaveri_connector.code in told
    assert network.ganga_connector.code not in told


@pytest.mark.django_db
def test_a_charger_nobody_holds_is_told_to_each_of_its_connectors(network, bells, told, django_capture_on_commit_callbacks):
    second = make_connector(network.kaveri_charger, 2)
    Charger(network.kaveri_charger)
    clock.shift(300)
    with django_capture_on_commit_callbacks(execute=True):
        assert stations.silent_due(clock.now(), 10) == 1
    assert {network.kaveri_connector.code, second.code} <= set(told)


async def test_a_gateway_tells_each_connector_at_most_once_a_second_and_the_last_too(monkeypatch):
    gateway, told = Gateway(), []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(gateway, "_tell_now", lambda code: told.append((code, loop.time())))
    for _ in range(40):
        gateway.tell_live("A")
    gateway.tell_live("B")
    assert [code for code, _ in told] == ["A", "B"]
    await asyncio.sleep(1.3)
    assert [code for code, _ in told] == ["A", "B", "A"]
    assert told[2][1] - told[0][1] > 0.95


async def test_a_gateway_tells_what_changes_together_in_one_message(monkeypatch):
    gateway, said = Gateway(), []

    class Layer:
        async def group_send(self, group, message):
            said.append((group, message["codes"]))

    monkeypatch.setattr("csms.gateway.get_channel_layer", Layer)
    for code in ("B", "A", "C", "A"):
        gateway.tell_live(code)
    await asyncio.sleep(0.3)
    assert said == [("live", ["A", "B", "C"])]


async def test_a_lost_wake_is_no_trouble(monkeypatch, caplog):
    """Without Redis the rows and the polls carry on."""

    class Away:
        async def send(self, channel, message):
            raise ConnectionError("nobody is there")

    monkeypatch.setattr(live, "get_channel_layer", Away)
    live.use_loop(asyncio.get_running_loop())
    live.send("specific.x!y", {"type": "command.waiting"})
    await asyncio.sleep(0.05)
    assert "a wake was lost (ConnectionError)" in caplog.text
