"""What every test has at hand: the cast, and nothing of the outside world."""

import time

import pytest
from django.core.management import CommandError
from django.test import TransactionTestCase

from tests import factories
from tests.tables import pytest_addoption, pytest_runtest_makereport, pytest_sessionfinish  # noqa: F401 --write-table
from voltaro import clock


@pytest.fixture(autouse=True)
def _clock_put_right():
    yield
    clock.shift(0)


@pytest.fixture(autouse=True, scope="session")
def _tables_emptied_with_patience():
    """A server of the tests may still be writing its last rows while they are emptied: of two locks in a circle one gives way."""
    empty = TransactionTestCase._fixture_teardown

    def patiently(case):
        for left in range(4, -1, -1):
            try:
                return empty(case)
            except CommandError:
                if not left:
                    raise
                time.sleep(0.5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", patiently)
        yield


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
