"""A real server for those who mean it ill."""

import pytest
from django.core.cache import cache

from tests.nginx import PROXY
from tests.server import HANDSHAKE, Server, basic, serving

__all__ = ["HANDSHAKE", "Server", "basic", "server"]


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker, tmp_path_factory):
    """One daphne for all tests that want one."""
    folder = tmp_path_factory.mktemp("daphne")
    # nginx (tests/nginx.py) comes from an address that is trusted; whoever means it ill does not.
    with django_db_blocker.unblock(), serving(folder, TRUSTED_PROXIES=PROXY, CHARGER_CA_DIR=str(folder / "charger-ca")) as found:
        yield found


@pytest.fixture(autouse=True)
def _nobody_refused_yet():
    """Who was refused in the story before is not remembered in this one."""
    cache.clear()
