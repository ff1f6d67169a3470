"""A real server for those who mean it ill."""

import pytest

from tests.server import HANDSHAKE, Server, basic, serving

__all__ = ["HANDSHAKE", "Server", "basic", "server"]


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker, tmp_path_factory):
    """One daphne for all tests that want one."""
    with django_db_blocker.unblock():
        with serving(tmp_path_factory.mktemp("daphne")) as found:
            yield found
