import pytest

from tests.e2e.stack import Stack


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """The product, running as processes (started by the first test that asks)."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.start()
        account = ("--linked-account", "acc_Kaveri00000001", "--activated")
        stack.manage("add_franchisee", "Kaveri", *account, "--user", "kaveri", "--password", "correct horse battery", "--json")
        stack.manage("add_tariff", "Standard", "--rate", "15.25", "--json")
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(running):
    yield running
    running.time_put_right()
