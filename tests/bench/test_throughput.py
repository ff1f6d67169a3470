"""Throughput of the chargers' way, against the bare ocpp library on the same daphne in the same run.

`bin/test tests/bench -m bench -s`. Starts a durable PostgreSQL of its own (fsync on), a daphne for each side in turn,
and the load in a third process. What it prints goes into docs/benchmarks.md.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psycopg
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bin"))
from embedded.services import Services, data_dir, die_with_parent  # noqa: E402

pytestmark = pytest.mark.bench
DAPHNE = ["--websocket_timeout", "-1", "--websocket_connect_timeout", "60", "--ping-interval", "30", "--ping-timeout", "30"]


@pytest.fixture(scope="module")
def world():
    """A durable cluster with 500 chargers, their keys in a file, and what a child process needs to reach it."""
    base = data_dir(f"bench-{os.getpid()}")
    outside = {name: os.environ.pop(name) for name in ("DATABASE_URL", "REDIS_URL") if name in os.environ}
    try:
        with Services(base, durable=True) as services:
            env = {**os.environ, **services.environment, "VOLTARO_ENV": "dev", "LOG_LEVEL": "WARNING"}
            subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
            with tempfile.TemporaryDirectory() as folder:
                keys = Path(folder) / "keys.json"
                subprocess.run([sys.executable, "-m", "tests.bench.seed", str(keys)], cwd=ROOT, env=env, check=True)
                yield env, keys
    finally:
        os.environ.update(outside)
        import shutil

        shutil.rmtree(base, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def daphne(application, env):
    return serving(lambda port: ["daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), *DAPHNE, application], env)


@contextlib.contextmanager
def serving(command, env):
    """One server process for as long as the context lives: `command(port)` is the module and its arguments."""
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", *command(port)], cwd=ROOT, env=env, preexec_fn=die_with_parent)
    try:
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/healthz")
                break
            time.sleep(0.1)
        yield f"ws://127.0.0.1:{port}"
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)


def load(what, url, keys, env, n, **more):
    some = keys.with_name(f"{what}-{n}.json")
    some.write_text(json.dumps(dict(list(json.loads(keys.read_text()).items())[:n])))
    options = [part for name, value in more.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "tests/bench/load.py", what, url, str(some), *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_meter_values_against_the_bare_library(world):
    env, keys = world
    ours, bare = [], []
    for _ in range(3):  # in turn, so that the machine's moods meet both
        with daphne("tests.bench.bare:application", env) as url:
            bare.append(load("meter", url, keys, env, 50, seconds=6)["per_second"])
        with daphne("voltaro.asgi:application", env) as url:
            measured = load("meter", url, keys, env, 50, seconds=6)
            ours.append(measured["per_second"])
            print("ours", measured)
    ratio = sorted(ours)[1] / sorted(bare)[1]
    print(f"MeterValues: ours {sorted(ours)[1]:.0f}/s, bare {sorted(bare)[1]:.0f}/s, ratio {ratio:.2f}")
    with psycopg.connect(env["DATABASE_URL"]) as db:
        kept = db.execute("select count(*) from csms_meterreading").fetchone()[0]
        assert kept > 1000
    assert ratio >= 1 / 3


def test_five_hundred_chargers_at_once(world):
    env, keys = world
    rates = []
    for _ in range(3):
        with daphne("voltaro.asgi:application", env) as url:
            measured = load("storm", url, keys, env, 500)
            rates.append(measured["per_second"])
            assert measured["chargers"] == 500
    with daphne("tests.bench.bare:application", env) as url:
        bare = load("storm", url, keys, env, 500)["per_second"]
    print(f"Storm: ours {sorted(rates)} chargers/s, bare {bare:.0f}/s, ratio {sorted(rates)[1] / bare:.2f}")


def test_fifty_starts_at_once(world):
    env, keys = world
    with daphne("voltaro.asgi:application", env) as url:
        measured = load("start", url, keys, env, 50)
    print("Starts:", measured)
    assert measured["starts"] == measured["different"] == 50
