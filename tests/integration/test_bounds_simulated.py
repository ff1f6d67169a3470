"""A simulated charger that keeps to what it was told, on a line that is cut: nothing beyond what is paid is delivered."""

import pytest

from csms import dispatch, permits, sessions, stations
from csms.models import ChargingSession
from csms.simulator import profiles
from csms.simulator.car import Car
from csms.simulator.charger import make
from csms.simulator.habits import Habits
from tests.charger import later
from voltaro import clock

pytestmark = pytest.mark.django_db(transaction=True)


class Wire:
    """The simulator's charger and our dispatch, without a socket between them."""

    def __init__(self, *habits: str) -> None:
        calm = Habits(arrives_after_s=None, leaves_after_s=None, sample_every_s=10, strange=frozenset(habits))
        self.charger, self.context = make("VLT-0001", [profiles.plug("ccs2", 60_000)], seed=4, habits=calm), None
        self.open()

    def open(self) -> None:
        known = stations.find("VLT-0001")
        self.context, _ = dispatch.opened(known, process="t", channel="t!1", remote_address="", subprotocol="ocpp1.6")
        self.charger.opened(clock.now())
        self.carry()

    def cut(self) -> None:
        self.charger.closed(clock.now())
        dispatch.closed(self.context, 1006, "")
        self.context = None

    def carry(self) -> None:
        while self.context is not None:
            frames, command = self.charger.take(), dispatch.next_command(self.context)
            if not frames and command is None:
                return
            for text in frames:
                if (reply := dispatch.answer(text.encode(), self.context)) is not None:
                    self.charger.heard(reply.text, clock.now())
            if command is not None:
                self.charger.heard(command.text, clock.now())

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            clock.shift(1)
            self.charger.tick(clock.now())
            self.carry()


@pytest.fixture
def wire(network, bells):
    network.kaveri_charger.quirk_settings = {"session_limit": True, "post_boot_state": True}
    network.kaveri_charger.save()
    found = Wire("session_limit", "post_boot_state")
    found.wait(3)
    found.charger.plug_in(1, clock.now(), Car(72_000, 0.1, 50_000))
    permits.grant(
        connector=network.kaveri_connector, user=network.asha, company=network.kaveri.company, limit_wh=2_000, start_until=later(300)
    )
    permits.ask_due(clock.now(), 10)
    found.wait(15)
    return found


def session() -> ChargingSession:
    return ChargingSession.objects.get()


def test_it_stops_by_itself_while_nobody_hears_it(wire):
    assert (session().bounded_wh, session().state) == (2_000, "RUNNING")
    wire.cut()
    wire.wait(170)
    assert wire.charger.outlets[0].transaction is None, "it has stopped by itself"
    wire.open()
    wire.wait(5)
    found = session()
    assert (found.state, found.stop_reason, found.overrun_wh) == ("STOPPED", "Local", 0)
    assert 1_980 <= found.energy_wh <= 2_000


def test_a_restart_in_the_middle_goes_on_when_it_is_told_so(wire):
    before_wh = session().energy_wh
    wire.charger.restart(clock.now(), keeps_transactions=True, why="restarts")
    wire.cut()
    wire.wait(10)
    wire.open()
    wire.wait(12)
    found = session()
    assert (found.state, found.resume_count, found.bounded_wh) == ("RUNNING", 1, 2_000) and found.energy_wh >= before_wh
    wire.wait(200)
    sessions.stop_due(clock.now(), 10)
    wire.wait(5)
    assert session().state == "STOPPED" and session().energy_wh <= 2_000
