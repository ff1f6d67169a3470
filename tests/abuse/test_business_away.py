"""Our own database is away while chargers charge (C18)."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from django.conf import settings
from django.db import connection, connections

from csms.models import ChargingSession, MeterReading, OcppMessage
from tests.abuse.test_lines import _put_right  # noqa: F401 before and after every story
from tests.abuse.test_sockets import alive, chargers, client  # noqa: F401 the same cast

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]


@contextmanager
def database_away():
    """Nobody gets in, and whoever was in is thrown out, until the end of the block: as when it is restarted."""
    name = str(connection.settings_dict["NAME"])
    connections.close_all()
    connection.close_pool()  # this process's own, which would be torn too
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as other:
        other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def test_C18_no_fact_is_lost_or_refused_while_our_database_is_away(server, client, chargers):  # noqa: F811
    """Starts, readings and stops wait, unanswered, until it is back; then each is answered and stored, once."""
    kaveri, ganga = client("VLT-0001"), client("VLT-0002")
    kaveri.boot(), ganga.boot()
    running = kaveri.start(1, "CARD", meter_wh=0)["transactionId"]
    with ThreadPoolExecutor(2) as both:
        with database_away():
            stopped = both.submit(lambda: [kaveri.meter(1, running, register_wh=500), kaveri.stop(running, meter_wh=600)])
            started = both.submit(ganga.start, 1, "OTHER", meter_wh=7_000)
            time.sleep(4)
            assert not stopped.done() and not started.done()
            assert server.alive
        # Answered, not refused: `call` raises for a CALLERROR.
        assert stopped.result(40) == [{}, {}]
        transaction_id = started.result(40)["transactionId"]
    first, second = ChargingSession.objects.order_by("pk")
    assert (first.state, first.energy_wh) == ("STOPPED", 600)
    assert (second.transaction_id, second.meter_start_wh, second.state) == (str(transaction_id), 7_000, "STARTED")
    assert MeterReading.objects.filter(session=first).count() == 1
    for action in ("MeterValues", "StopTransaction"):
        assert OcppMessage.objects.filter(action=action, direction="IN").count() == 1
    assert alive(kaveri) and alive(ganga)
