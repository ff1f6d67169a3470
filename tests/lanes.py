"""The whole suite runs in lanes (`bin/test` without a path): processes of pytest-xdist, each with a PostgreSQL and a Valkey of its own.

A lane must not share either: what is published through Valkey reaches everybody, and tests empty their tables. Named in
pyproject.toml with `-p`, so that this is imported before Django's settings are.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LANE = os.environ.get("PYTEST_XDIST_WORKER")
_services = None

if LANE:
    sys.path.insert(0, str(ROOT / "bin"))
    from embedded.services import Services

    base = Path(os.environ["VOLTARO_TEST_DIR"]) / LANE
    base.mkdir(mode=0o711)
    for name in ("DATABASE_URL", "REDIS_URL"):  # those of the process that made the lanes
        os.environ.pop(name, None)
    _services = Services(base, durable=False).__enter__()
    os.environ.update(_services.environment, VOLTARO_TEST_DIR=str(base), MEDIA_ROOT=str(base / "files"))


# What takes longest goes first, so that no lane is left with it at the end.
LONGEST_FIRST = ("e2e", "simulation", "conformance", "abuse", "integration", "unit", "bench")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if LANE:
        items.sort(key=lambda item: LONGEST_FIRST.index(item.path.relative_to(ROOT / "tests").parts[0]))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    if _services is not None:
        _services.stop(wait_s=2)  # xdist grows impatient after five
