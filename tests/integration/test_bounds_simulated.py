"""A simulated charger that keeps to what it was told, on a line that is cut: nothing beyond what is paid is delivered."""

from decimal import Decimal

import pytest

from csms import charging_profiles, commands, dispatch, exposure, permits, sessions, stations, time_bounds
from csms.models import ChargePoint, ChargingProfile, ChargingSession
from csms.rules.habits import Habits as OurHabits
from csms.rules.profile import Step
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
        for second in range(seconds):
            clock.shift(1)
            self.charger.tick(clock.now())
            if second % 10 == 0:
                time_bounds.renew_due(clock.now(), 10)
                charging_profiles.send_due(clock.now(), 10)
            self.carry()


def charging(network, limit_wh: int, *habits: str, **settings) -> Wire:
    """Somebody has paid for so much, and charges with 50 kW."""
    network.kaveri_charger.quirk_settings = settings
    network.kaveri_charger.save()
    found = Wire(*habits)
    found.wait(3)
    found.charger.plug_in(1, clock.now(), Car(72_000, 0.1, 50_000))
    company, connector = network.kaveri.company, network.kaveri_connector
    permits.grant(connector=connector, user=network.asha, company=company, limit_wh=limit_wh, start_until=later(300))
    permits.ask_due(clock.now(), 10)
    found.wait(15)
    return found


@pytest.fixture
def wire(network, bells):
    return charging(network, 2_000, "session_limit", "post_boot_state", session_limit=True, post_boot_state=True)


@pytest.fixture
def profiled(network, bells):
    """It knows nothing of SessionLimit, and keeps to charging profiles."""
    return charging(network, 10_000, session_profile=True)


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


def test_a_profile_ends_by_itself_while_nobody_hears_it_and_is_renewed_when_it_is_back(profiled):
    outlet = profiled.charger.outlets[0]
    left_s = (session().bounded_until - clock.now()).total_seconds()
    assert 560 <= left_s <= 600, "10 kWh at 60 kW, of which some seconds are over"
    profiled.cut()
    profiled.wait(700)
    assert outlet.transaction is not None and outlet.power_w == 0
    assert 7_000 <= outlet.register_wh - outlet.transaction.meter_start_wh <= 10_000, "nothing beyond what is paid"
    profiled.open()
    profiled.wait(30)
    assert outlet.power_w > 0 and session().bounded_until > clock.now()
    assert session().state == "RUNNING"


def test_at_the_limit_it_is_renewed_no_more(profiled):
    """The stop was refused: what ends by itself is left to end."""
    until = session().bounded_until
    ChargingSession.objects.update(limit_wh=session().energy_wh)
    clock.shift(until.timestamp() - clock.now().timestamp() - 10)
    assert time_bounds.renew_due(clock.now(), 10) == 0
    ChargingSession.objects.update(limit_wh=10_000)
    assert time_bounds.renew_due(clock.now(), 10) == 1


def test_whoever_is_heard_is_never_stopped_by_it(profiled):
    outlet, first = profiled.charger.outlets[0], session().bounded_until
    for _ in range(55):
        profiled.wait(10)
        assert outlet.power_w > 30_000
    assert session().bounded_until > first
    assert ChargingProfile.objects.filter(state="active").count() == 1 < ChargingProfile.objects.count() < 6
    assert session().energy_wh > 7_000


def test_a_bound_that_was_accepted_and_not_written_down_is_told_anew(profiled):
    """Whoever was to write it after the answer was killed: nobody renewed it, and the car fell to nothing, paid and heard."""
    outlet = profiled.charger.outlets[0]
    ChargingSession.objects.update(bounded_until=None)
    profiled.wait(60)
    assert session().bounded_until > clock.now()
    assert ChargingProfile.objects.filter(state="active").count() == 1 and ChargingProfile.objects.count() == 2
    for _ in range(52):
        profiled.wait(10)
        assert outlet.power_w > 30_000


def test_once_a_person_has_cleared_it_nothing_ends_it_and_that_is_shown(profiled):
    bound = ChargingProfile.objects.get(requested_by=time_bounds.BY, state="active")
    before = session()
    clear(profiled, {"id": bound.profile_id + 1})
    assert session().bounded_until == before.bounded_until, "another profile: ours stands"
    clear(profiled, {"id": bound.profile_id})
    assert session().bounded_until is None
    profiled.cut()
    profiled.wait(800)
    outlet = profiled.charger.outlets[0]
    assert outlet.power_w > 0, "nobody stops it"
    [row] = exposure.look(clock.now()).rows
    assert row.facts.flows_s is None and row.delivered_wh > 10_000 and row.exposed_wh > 0


def clear(wire: Wire, payload: dict) -> None:
    command = commands.ask(ChargePoint.objects.get(cp_id="VLT-0001"), "ClearChargingProfile", payload, by="om", trigger="console")
    wire.wait(5)
    command.refresh_from_db()
    assert command.state == "effective"


def own_profile(row: ChargingSession) -> None:
    step = (Step(0, Decimal(20_000)),)
    charging_profiles.want(row.charge_point, purpose="TxProfile", connector_no=1, steps=step, unit="W", session=row, by="om")


def wrong_clock(row: ChargingSession) -> None:
    ChargePoint.objects.update(clock_offset_s=600)


@pytest.mark.parametrize("harm", [own_profile, wrong_clock])
def test_it_is_not_bounded_where_that_would_harm(network, bells, harm):
    charging(network, 10_000)
    harm(ChargingSession.objects.select_related("connector", "charge_point").get())
    row = ChargingSession.objects.select_related("connector", "charge_point").get()
    time_bounds.began(row, OurHabits(session_profile=True), clock.now())
    assert not ChargingProfile.objects.filter(requested_by=time_bounds.BY).exists()
    time_bounds.began(row, OurHabits(session_profile=False), clock.now())
    assert not ChargingProfile.objects.filter(requested_by=time_bounds.BY).exists()
