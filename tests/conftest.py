"""What every test has at hand: the cast, and nothing of the outside world."""

import pytest

from tests import factories
from tests.tables import pytest_addoption, pytest_runtest_makereport, pytest_sessionfinish  # noqa: F401 --write-table
from voltaro import clock


@pytest.fixture(autouse=True)
def _clock_put_right():
    yield
    clock.shift(0)


@pytest.fixture(autouse=True)
def _quick_passwords(settings):
    """The real hash costs 0.2 s of CPU a user, and a story has six."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def bells(monkeypatch):
    """The bells rung (after commit), in order; nothing reaches a broker."""
    rung: list[str] = []
    monkeypatch.setattr("voltaro.jobs._send", rung.append)
    return rung


@pytest.fixture
def network(db):
    """The small network of the cast: see tests/factories.py."""
    return factories.make_network()
